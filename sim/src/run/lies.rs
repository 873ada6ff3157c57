//! Lies: what somebody hostile says is well-formed, and not true.
//!
//! Every lie breaks a rule whose breach ends its channel. A lie that arrived over a connection that still is was heard, so that
//! its channel has failed at the honest end once nothing moves any more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use prost::Message;
use proto::hub::v1 as pb;
use proto::hub::v1::channel_message::Kind;
use proto::hub::v1::frame::Kind as FrameKind;
use proto::hub::v1::{ChannelPhase, Frame};

use super::Run;
use crate::audit::Broken;
use crate::net::{LinkId, Speaker, Tamper};
use crate::seed::Chance;

/// One frame in so many holds a lie.
const LIE_EVERY: u32 = 6;
/// More than any channel of a run holds, in msat.
const TOO_MUCH_MSAT: u64 = 2_000_000_000_000;
/// An HTLC that nobody offered.
const NO_HTLC: u64 = 1_000_000;
/// Bytes of a signature.
const SIGNATURE: usize = 64;

/// A lie, and the channel it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lie {
    by: Speaker,
    channel_id: Bytes,
    what: &'static str,
}

/// All lies that were told, by the frames that hold them. Clones are the same.
#[derive(Clone, Default)]
pub struct Lies(Rc<RefCell<BTreeMap<Vec<u8>, Lie>>>);

impl Lies {
    /// Makes somebody lie now and then.
    pub fn liar(&self, by: Speaker, mut chance: Chance) -> Tamper {
        let lies = self.clone();
        Box::new(move |mut frame| {
            if let Some((channel_id, what)) = lie(&mut frame, &mut chance) {
                let lie = Lie { by, channel_id, what };
                lies.0.borrow_mut().insert(frame.encode_to_vec(), lie);
            }
            vec![frame]
        })
    }

    fn of_frame(&self, frame: &[u8]) -> Option<Lie> {
        self.0.borrow().get(frame).cloned()
    }
}

impl Run {
    /// What lies arrived since this was last asked, over which connections.
    pub(super) fn lies_heard(&mut self) -> Vec<(LinkId, Lie)> {
        let overheard = self.net.overheard();
        let lies = &self.lies;
        overheard.into_iter().filter_map(|(link, frame)| Some((link, lies.of_frame(&frame)?))).collect()
    }

    /// What channels the hub and the wallets have after they heard these lies, and nothing moves.
    pub(super) fn lies_end_channels(
        &self,
        lies: &[(LinkId, Lie)],
        of_hub: Option<&[pb::Channel]>,
        of_wallets: &[(usize, Vec<pb::Channel>)],
    ) -> Result<(), Broken> {
        for (link, lie) in lies.iter().filter(|(link, _)| self.net.is_current(*link)) {
            let of_wallet = || {
                let wallet = self.net.wallet_of(*link)?;
                let (_, channels) = of_wallets.iter().find(|(number, _)| *number == wallet)?;
                Some(channels.as_slice())
            };
            let heard = match lie.by {
                Speaker::Wallet(_) => of_hub,
                Speaker::Hub => of_wallet(),
            };
            let mut about = heard.into_iter().flatten().filter(|about| about.channel_id == lie.channel_id);
            if let Some(channel) = about.find(|about| goes_on(about)) {
                let Lie { by, what, .. } = lie;
                let what = format!("{by:?}, link {}: {what}, and the channel goes on: {channel:?}", link.0);
                return Err(Broken::new("a lie ends its channel", what));
            }
        }
        Ok(())
    }
}

/// Whether it could still be used. (A frozen one hears nothing any more: what comes again is not looked at.)
fn goes_on(channel: &pb::Channel) -> bool {
    match channel.phase() {
        ChannelPhase::Open | ChannelPhase::ShuttingDown => true,
        ChannelPhase::Unspecified
        | ChannelPhase::Opening
        | ChannelPhase::AwaitingConfirmation
        | ChannelPhase::Frozen
        | ChannelPhase::Closing
        | ChannelPhase::Closed
        | ChannelPhase::Failed
        | ChannelPhase::Aborted
        | ChannelPhase::Quarantined => false,
    }
}

/// Puts a lie into the frame, or leaves it as it is. Which channel it is about, and what it is.
fn lie(frame: &mut Frame, chance: &mut Chance) -> Option<(Bytes, &'static str)> {
    let Some(FrameKind::Batch(batch)) = &mut frame.kind else { return None };
    if batch.channels.is_empty() || !chance.one_of(1, LIE_EVERY) {
        return None;
    }
    let index = chance.below(batch.channels.len());
    let about = &mut batch.channels[index];
    if about.messages.is_empty() {
        return None;
    }
    let index = chance.below(about.messages.len());
    let what = tell(about.messages[index].kind.as_mut()?, chance)?;
    Some((about.channel_id.clone(), what))
}

/// Makes a lie of a message. `None`: of this one nothing can be made that is known to be a lie at once.
fn tell(kind: &mut Kind, chance: &mut Chance) -> Option<&'static str> {
    Some(match kind {
        Kind::CommitmentSigned(signed) => about_commitment(signed, chance),
        Kind::RevokeAndAck(revoked) => match chance.below(4) {
            0 => {
                revoked.number += 1;
                "a revocation from the future"
            }
            _ => {
                flip(&mut revoked.secret);
                "a wrong secret"
            }
        },
        Kind::UpdateFulfillHtlc(fulfill) => match chance.below(4) {
            0 => {
                fulfill.id += NO_HTLC;
                "a preimage for nothing"
            }
            _ => {
                flip(&mut fulfill.preimage);
                "a wrong preimage"
            }
        },
        Kind::UpdateFailHtlc(fail) => {
            fail.id += NO_HTLC;
            "a failure of nothing"
        }
        Kind::UpdateAddHtlc(add) => match chance.below(2) {
            0 => {
                add.id += 1;
                "an id that skips another"
            }
            _ => {
                add.amount_msat = TOO_MUCH_MSAT;
                "more than the channel holds"
            }
        },
        Kind::Reestablish(stands) => match chance.below(3) {
            0 => {
                stands.next_commitment_number += 2;
                "a commitment that was never signed"
            }
            1 => {
                stands.next_revocation_number += 1;
                "a secret that was never told"
            }
            _ if stands.next_revocation_number > 0 => {
                flip(&mut stands.last_secret);
                "another secret than was told"
            }
            _ => return None,
        },
        Kind::ClosingTicket(ticket) => {
            flip(&mut ticket.signature);
            "a wrong ticket"
        }
        Kind::OpenChannel(_)
        | Kind::AcceptChannel(_)
        | Kind::FundingCreated(_)
        | Kind::FundingSigned(_)
        | Kind::ChannelReady(_)
        | Kind::Shutdown(_)
        | Kind::ClosingTerms(_)
        | Kind::ClosingTransaction(_)
        | Kind::ChannelError(_) => return None,
    })
}

fn about_commitment(signed: &mut pb::CommitmentSigned, chance: &mut Chance) -> &'static str {
    let htlcs = signed.htlc_signatures.len() / SIGNATURE;
    match chance.below(6) {
        0 => {
            signed.number += 1;
            "a commitment from the future"
        }
        1 if signed.number > 1 => {
            signed.number -= 1;
            "a commitment of the past"
        }
        2 => {
            let more = [signed.htlc_signatures.as_ref(), signed.signature.as_ref()].concat();
            signed.htlc_signatures = more.into();
            "a signature for nothing"
        }
        3 | 4 if htlcs > 0 => {
            let mut signatures = signed.htlc_signatures.to_vec();
            let last_byte = (chance.below(htlcs) + 1) * SIGNATURE - 1;
            signatures[last_byte] ^= 1;
            signed.htlc_signatures = signatures.into();
            "a wrong signature of an HTLC"
        }
        _ => {
            flip(&mut signed.signature);
            "a wrong signature"
        }
    }
}

/// The last bit is another: of a signature this leaves a well-formed one.
fn flip(bytes: &mut Bytes) {
    let mut flipped = bytes.to_vec();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    *bytes = flipped.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn frame() -> Frame {
        let signed = pb::CommitmentSigned { number: 7, signature: vec![2; 64].into(), ..Default::default() };
        let message = pb::ChannelMessage { kind: Some(Kind::CommitmentSigned(signed)) };
        let about = pb::ChannelMessages { channel_id: vec![1; 32].into(), messages: vec![message] };
        let batch = pb::Batch { channels: vec![about], ..Default::default() };
        Frame { kind: Some(FrameKind::Batch(batch)) }
    }

    #[test]
    fn a_lie_is_known_by_the_frame_that_holds_it() {
        let lies = Lies::default();
        let mut liar = lies.liar(Speaker::Hub, Seed(1).stream("liar"));
        let said: Vec<Frame> = (0..100).flat_map(|_| liar(frame())).collect();
        let honest = frame().encode_to_vec();
        let lied = |frame: &&Frame| frame.encode_to_vec() != honest;
        let told = said.iter().filter(lied).count();
        assert!((5..40).contains(&told), "{told}");
        assert!(said.iter().filter(lied).all(|frame| lies.of_frame(&frame.encode_to_vec()).is_some()));
        assert_eq!(lies.of_frame(&honest), None);
    }
}
