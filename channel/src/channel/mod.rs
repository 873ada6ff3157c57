//! The channel: `check` decides and changes nothing, `apply` changes and cannot fail.
//!
//! ```text
//! message or command ──▶ Channel::check ──▶ Input ──▶ (journal) ──▶ Channel::apply ──▶ Effects ──▶ (fsync) ──▶ performed
//! ```
//!
//! - `check` knows every rule, every signature and every limit. A [`Rejection`] leaves no trace.
//! - `apply` reads nothing but the state and the input, and does no curve operation: replaying the journal's inputs gives
//!   the same state and the same effects.
//! - Our own signatures and secrets are in neither: effects name them and [`Channel::message`] makes them at release.

mod input;
mod view;

use crate::bytes::KeyId;
use crate::effect::{Effect, ToSend};
use crate::error::{Refusal, Rejection, Violation};
use crate::event::{AcceptRequest, Event, OpenRequest, Role};
use crate::forward::{Offer, Router};
use crate::ids::{ChannelId, OwnerId, SessionId};
use crate::keys::Point;
use crate::message::{Message, OpenChannel};
use crate::policy::Policy;
use crate::signer::Signer;

pub use input::{DecodeError, Input};
pub use view::{ChannelView, ConnectionView, PhaseView, PublishJob, ReadyTicket};

/// What `check` may look at besides the channel.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub policy: &'a Policy,
    /// The chain's height as this host knows it.
    pub height: u32,
    pub signer: &'a dyn Signer,
    pub router: &'a dyn Router,
}

/// What `check` decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// Journal it, then apply it.
    Input(Input),
    /// A repeat: nothing changes, but this effect (which rests on rows already journaled) is to be performed again.
    Repeat(Effect),
    /// A harmless repeat, or nothing to do.
    Nothing,
}

/// The input does not open a channel, so there is none it could be applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the input does not open a channel")]
pub struct NotAnOpening;

/// One channel, seen from one of its ends.
#[derive(Debug)]
pub struct Channel {
    owner: OwnerId,
    /// No channel exists yet: the bodies below follow at once.
    never: std::convert::Infallible,
}

impl Channel {
    /// Checks a request to open a channel that this side funds. The input is its first.
    pub fn check_open(request: OpenRequest, context: &Context<'_>) -> Result<Input, Rejection> {
        let _ = (request, context);
        Err(Refusal::NotOpenYet.into())
    }

    /// Checks the counterparty's proposal of a channel. The input is its first.
    pub fn check_accept(
        request: AcceptRequest,
        message: &OpenChannel,
        context: &Context<'_>,
    ) -> Result<Input, Rejection> {
        let _ = (request, message, context);
        Err(Refusal::NotOpenYet.into())
    }

    /// The channel that a first input opens.
    pub fn from_first(input: &Input, effects: &mut Vec<Effect>) -> Result<Self, NotAnOpening> {
        let _ = (input, effects);
        Err(NotAnOpening)
    }

    /// Decides about an event. Changes nothing.
    pub fn check(&self, event: Event, context: &Context<'_>) -> Result<Checked, Rejection> {
        let _ = (event, context);
        Ok(Checked::Nothing)
    }

    /// Takes one step. `effects` are appended in the order in which they are to be performed.
    pub fn apply(&mut self, input: &Input, effects: &mut Vec<Effect>) {
        let _ = (input, effects);
    }

    /// The input by which a violation fails the channel.
    pub fn violated(&self, violation: Violation) -> Input {
        let _ = violation;
        Input(input::Kind::Disconnected)
    }

    /// At release: turns what an effect named into the message, signing with the signer. `None` if the state moved past it.
    pub fn message(&self, to_send: &ToSend, signer: &dyn Signer) -> Option<Message> {
        let _ = (to_send, signer);
        None
    }

    /// After replay and `Disconnected`: everything that must be (harmlessly) repeated. `Offer`s of unresolved incoming HTLCs,
    /// results not acknowledged, watches, broadcasts, tickets, publish jobs.
    pub fn resume(&self, effects: &mut Vec<Effect>) {
        let _ = effects;
    }

    /// Whether `SignNow` would sign: updates pending, no round under way, counterparty online.
    pub fn wants_to_sign(&self) -> bool {
        false
    }

    /// Hub: whether `ProposeTerms` is due: both sides have shut down, nothing is in flight, no terms were proposed since the
    /// counterparty came online.
    pub fn wants_terms(&self) -> bool {
        false
    }

    /// Whether an offer could be taken now, by the rules of `check`. For a choice among channels before anything is asked.
    pub fn can_offer(&self, offer: &Offer, context: &Context<'_>) -> Result<(), Refusal> {
        let _ = (offer, context);
        Err(Refusal::NotOpenYet)
    }

    /// Everything, as bytes with a version in front.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Reads what [`Channel::encode_snapshot`] wrote. No bytes make it panic.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, DecodeError> {
        let _ = bytes;
        Err(DecodeError::Malformed)
    }

    /// SHA-256 of the snapshot: equal states have equal hashes.
    pub fn state_hash(&self) -> [u8; 32] {
        [0; 32]
    }

    /// Everything tables and RPCs show. Costs a pass over nothing: sums are kept.
    pub fn view(&self) -> ChannelView {
        match self.never {}
    }

    /// The next height at which `ChainEvent::Deadline` is due; cheap enough to ask after every input.
    pub fn next_deadline(&self) -> Option<u32> {
        None
    }

    /// Hub, frozen: the ticket. None before.
    pub fn ticket(&self) -> Option<ReadyTicket> {
        None
    }

    /// Failed: our latest commitment, fully signed. None where publishing it would be wrong.
    pub fn publish_job(&self, signer: &dyn Signer) -> Option<PublishJob> {
        let _ = signer;
        None
    }

    /// The machine's number.
    pub const fn owner(&self) -> OwnerId {
        self.owner
    }
}

/// Names that never change, and what the directory of recipients needs after every input.
impl Channel {
    pub fn channel_id(&self) -> ChannelId {
        ChannelId([0; 32])
    }
    pub fn key_id(&self) -> KeyId {
        KeyId::from_bytes([0; 32])
    }
    pub fn role(&self) -> Role {
        Role::Hub
    }
    pub fn counterparty_node(&self) -> Point {
        Point::from_bytes([0; 33])
    }
    /// The session that is current, reestablished or not.
    pub fn session(&self) -> Option<SessionId> {
        None
    }
}
