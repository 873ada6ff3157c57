//! The channel: `check` decides and changes nothing, `apply` changes and cannot fail.
//!
//! ```text
//! message or command ──▶ Channel::check ──▶ Input ──▶ (journal) ──▶ Channel::apply ──▶ Effects ──▶ (fsync) ──▶ performed
//! ```
//!
//! - `check` knows every rule, every signature and every limit. A [`Rejection`] leaves no trace.
//! - `apply` reads nothing but the state and the input, and does no curve operation: replaying the journal's
//!   inputs gives the same state and the same effects.
//! - Our own signatures and secrets are in neither: effects name them and [`Channel::message`] makes them at
//!   release.
//!
//! The host's duties: one first input ([`Channel::check_open`], [`Channel::check_accept`] or
//! [`Channel::check_recovered`]), then every event through `check`; inputs applied in the order they are journaled; a [`Violation`] turned into
//! [`Channel::violated`]; after a restart `Command::Disconnected`, the chain followed to its tip, then
//! [`Channel::resume`].
//!
//! | module | what |
//! | --- | --- |
//! | `htlc` | the life of an HTLC: states, steps, limits' sums |
//! | `books` | who owns what in the four commitments that count |
//! | `price` | what a channel costs its accepter, and how much of it is paid |
//! | `state` | all that is durable |
//! | `input` | the steps a journal holds |
//! | `check` | from events to inputs |
//! | `apply` | from inputs to the next state and effects |
//! | `release` | from effects to signed messages |
//! | `onchain`, `plan` | the commitment in the chain; what is to be done there |
//! | `resume`, `snapshot`, `view`, `onchain_view` | after a restart; as bytes; for people |
//! | `forwards_view` | for an audit |

mod apply;
mod books;
mod check;
mod forwards_view;
mod htlc;
mod input;
mod names;
mod onchain;
mod onchain_view;
mod plan;
mod price;
mod release;
mod resume;
mod snapshot;
mod state;
mod view;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use bitcoin::{Amount, OutPoint};

use self::apply::Out;
use self::input::Kind;
use self::state::State;
use crate::bytes::KeyId;
use crate::effect::Effect;
use crate::error::{FailureCause, Violation};
use crate::event::Role;
use crate::forward::Router;
use crate::ids::{ChannelId, OwnerId, SessionId};
use crate::keys::Point;
use crate::parameters::{ChannelContext, ChannelParameters, PartyParameters, Side};
use crate::policy::Policy;
use crate::signer::Signer;

pub use forwards_view::{AskedFor, ForwardEnd, ForwardPlace, Forwards, GivenUp, PassedOn};
pub use input::{DecodeError, Input};
pub use onchain_view::{Awaiting, CommitmentOwner, OnchainView, OutputPart, OutputState, OutputView};
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
    /// A repeat: nothing changes, but this effect (which rests on rows already journaled) is to be performed
    /// again.
    Repeat(Effect),
    /// A harmless repeat, or nothing to do.
    Nothing,
}

/// The input does not open a channel, so there is none it could be applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the input does not open a channel")]
pub struct NotAnOpening;

/// One channel, seen from one of its ends.
#[derive(Clone, Debug)]
pub struct Channel {
    state: State,
    /// Made at the first use after a start: ten points parsed, and what rounds share.
    context: OnceLock<Box<ChannelContext>>,
}

impl Channel {
    /// The channel that a first input opens.
    pub fn from_first(input: &Input, effects: &mut Vec<Effect>) -> Result<Self, NotAnOpening> {
        let state = if let Kind::Opened(first) | Kind::Accepted(first) = &input.0 {
            State::first(first)
        } else if let Kind::Priced { first, price } = &input.0 {
            State { price: Some(price.clone()), ..State::first(first) }
        } else if let Kind::Recovered(recovered) = &input.0 {
            State::recovered(recovered)
        } else {
            return Err(NotAnOpening);
        };
        state.first_effects(&mut Out::new(effects));
        Ok(Self::from_state(state))
    }

    fn from_state(state: State) -> Self {
        Self { state, context: OnceLock::new() }
    }

    /// Takes one step. `effects` are appended in the order in which they are to be performed.
    pub fn apply(&mut self, input: &Input, effects: &mut Vec<Effect>) {
        self.state.apply(&input.0, &mut Out::new(effects));
    }

    /// The input by which a violation fails the channel.
    pub fn violated(&self, violation: Violation) -> Input {
        Input(Kind::Failed { cause: FailureCause::Violation(violation) })
    }

    /// What the transactions depend on, for an outpoint known or proposed.
    fn parameters(&self, funding_outpoint: OutPoint) -> ChannelParameters {
        let terms = &self.state.terms;
        let counterparty = self.state.counterparty_parameters();
        ChannelParameters {
            format: terms.format,
            funding_outpoint,
            funding_amount: Amount::from_sat(terms.capacity_sat),
            opener: terms.opener,
            holder: PartyParameters {
                basepoints: terms.holder.basepoints,
                to_self_delay_blocks: counterparty.to_self_delay_blocks,
            },
            counterparty: PartyParameters {
                basepoints: counterparty.basepoints,
                to_self_delay_blocks: terms.holder.to_self_delay_blocks,
            },
            dust_limit: Amount::from_sat(terms.dust_limit_sat),
        }
    }

    /// What all rounds share. Called only once the funding is known.
    fn context(&self) -> &ChannelContext {
        self.context.get_or_init(|| {
            let funding = self.state.funding.as_ref().expect("commitments exist only of a known funding");
            let parameters = self.parameters(funding.outpoint);
            Box::new(ChannelContext::new(parameters).expect("the opening parsed every point"))
        })
    }
}

/// Names that never change.
impl Channel {
    /// The machine's number.
    pub const fn owner(&self) -> OwnerId {
        self.state.names.owner
    }

    pub const fn channel_id(&self) -> ChannelId {
        self.state.names.channel_id
    }

    pub const fn key_id(&self) -> KeyId {
        self.state.names.key_id
    }

    pub const fn role(&self) -> Role {
        self.state.names.role
    }

    pub const fn counterparty_node(&self) -> Point {
        self.state.names.counterparty_node
    }

    pub const fn opener(&self) -> Side {
        self.state.terms.opener
    }

    /// The funding's place, once it is known.
    pub fn funding_outpoint(&self) -> Option<OutPoint> {
        self.state.funding.as_ref().map(|funding| funding.outpoint)
    }

    /// The session that is current, reestablished or not.
    pub fn session(&self) -> Option<SessionId> {
        self.state.session()
    }

    /// Whether updates can be exchanged now.
    pub fn is_online(&self) -> bool {
        self.state.is_operating()
    }
}
