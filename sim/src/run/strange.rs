//! Messages at wrong times: well formed, and out of place.
//!
//! A hostile wallet puts them between what it has to say, about channels of its own in whatever phase, those that it should
//! have forgotten too.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use proto::hub::v1 as pb;
use proto::hub::v1::channel_message::Kind;
use proto::hub::v1::frame::Kind as FrameKind;
use proto::hub::v1::{Batch, ChannelMessage, ChannelMessages, Frame};

use crate::net::Tamper;
use crate::seed::Chance;

/// As many kinds of messages are there.
const KINDS: usize = 16;
/// Channels of which a wallet says strange things: the last that it talked about.
const MOST_CHANNELS: usize = 24;
/// The generator of the curve: a point that everybody knows.
const POINT: [u8; 33] = [
    2, 0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07, 0x02,
    0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98,
];
/// An `OP_0 <20 bytes>` of nobody's.
const SCRIPT: [u8; 22] = [0, 20, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];

/// The channels that a wallet has talked about, the last ones, by their ids. Clones are the same list.
#[derive(Clone, Default)]
pub struct Known(Rc<RefCell<Vec<Bytes>>>);

impl Known {
    fn note(&self, id: &Bytes) {
        let mut known = self.0.borrow_mut();
        if known.contains(id) {
            return;
        }
        if known.len() == MOST_CHANNELS {
            known.remove(0);
        }
        known.push(id.clone());
    }

    /// One of them, the later ones sooner.
    pub fn pick(&self, chance: &mut Chance) -> Option<Bytes> {
        let known = self.0.borrow();
        let some = if chance.one_of(1, 2) { &known[known.len().saturating_sub(3)..] } else { &known[..] };
        chance.pick(some).cloned()
    }
}

/// As many messages as are every kind once.
pub const EVERYTHING: usize = KINDS;

/// A frame with nothing but strange messages about one channel; `None` if none is known.
pub fn frame(known: &Known, chance: &mut Chance) -> Option<Frame> {
    let channel_id = known.pick(chance)?;
    let messages = several(chance);
    Some(of_messages(channel_id, messages))
}

/// So many strange messages about a channel, each of another kind.
pub fn about(channel_id: &Bytes, count: usize, chance: &mut Chance) -> Frame {
    let first = chance.below(KINDS);
    let kinds = (0..count.min(KINDS)).map(|index| of_kind((first + index) % KINDS, chance));
    let messages = kinds.map(|kind| ChannelMessage { kind: Some(kind) }).collect();
    of_messages(channel_id.clone(), messages)
}

/// Gives a channel up.
pub fn given_up(channel_id: &Bytes) -> Frame {
    let error = pb::ChannelError { text: "no longer wanted".to_owned(), ..Default::default() };
    let messages = vec![ChannelMessage { kind: Some(Kind::ChannelError(error)) }];
    of_messages(channel_id.clone(), messages)
}

fn of_messages(channel_id: Bytes, messages: Vec<ChannelMessage>) -> Frame {
    let channels = vec![ChannelMessages { channel_id, messages }];
    Frame { kind: Some(FrameKind::Batch(Batch { channels, ..Batch::default() })) }
}

/// Puts strange messages between what a wallet says.
pub fn tamper(known: Known, mut chance: Chance) -> Tamper {
    // Now and then more, so that some things are said before it is found out.
    let every = u32::try_from(chance.within(2, 24)).unwrap_or(2);
    Box::new(move |mut frame| {
        let Some(FrameKind::Batch(batch)) = &mut frame.kind else { return vec![frame] };
        for channel in &mut batch.channels {
            known.note(&channel.channel_id);
            let every = if channel.messages.iter().any(is_step) { 2 } else { every };
            if chance.one_of(1, every) {
                let at = chance.below(channel.messages.len() + 1);
                let strange = several(&mut chance);
                channel.messages.splice(at..at, strange);
            }
        }
        if chance.one_of(1, every)
            && let Some(channel_id) = known.pick(&mut chance)
        {
            batch.channels.push(ChannelMessages { channel_id, messages: several(&mut chance) });
        }
        vec![frame]
    })
}

/// Whether it is a step of an opening or of an agreed close, which last a moment.
fn is_step(message: &ChannelMessage) -> bool {
    matches!(
        message.kind,
        Some(
            Kind::OpenChannel(_)
                | Kind::AcceptChannel(_)
                | Kind::FundingCreated(_)
                | Kind::FundingSigned(_)
                | Kind::ClosingTerms(_)
                | Kind::ClosingTicket(_)
        )
    )
}

/// Only remembers which channels a wallet talks about.
pub fn listen(known: Known) -> Tamper {
    Box::new(move |frame| {
        if let Some(FrameKind::Batch(batch)) = &frame.kind {
            batch.channels.iter().for_each(|channel| known.note(&channel.channel_id));
        }
        vec![frame]
    })
}

/// One message, or many: after the first error none is refused any more.
fn several(chance: &mut Chance) -> Vec<ChannelMessage> {
    let mut messages = Vec::new();
    match chance.below(6) {
        0 => {
            messages.push(Kind::ChannelError(pb::ChannelError {
                text: "strange".to_owned(),
                ..Default::default()
            }));
            messages.extend((0..12).map(|_| strange(chance)));
        }
        1 => messages.extend((0..4).map(|_| strange(chance))),
        _ => messages.push(strange(chance)),
    }
    messages.into_iter().map(|kind| ChannelMessage { kind: Some(kind) }).collect()
}

fn strange(chance: &mut Chance) -> Kind {
    let drawn = chance.below(KINDS);
    of_kind(drawn, chance)
}

fn of_kind(drawn: usize, chance: &mut Chance) -> Kind {
    let number = chance.within(0, 3);
    let bytes32 = |chance: &mut Chance| Bytes::from(chance.bytes::<32>().to_vec());
    let point = || Bytes::from_static(&POINT);
    // Both halves are in range.
    let signature = || Bytes::from_static(&[1; 64]);
    let terms = || pb::ClosingTerms { fee_sat: 500, publish_by_height: 100_000 };
    match drawn {
        0 => Kind::UpdateAddHtlc(pb::UpdateAddHtlc {
            id: number,
            amount_msat: chance.within(1, 1_000_000),
            payment_hash: bytes32(chance),
            cltv_expiry: 500,
            recipient: Some(pb::update_add_htlc::Recipient::NodeKey(point())),
            forward: Some(pb::ForwardInstruction { amount_msat: 1_000, cltv_expiry: 400 }),
            ..Default::default()
        }),
        1 => Kind::UpdateFulfillHtlc(pb::UpdateFulfillHtlc { id: number, preimage: bytes32(chance) }),
        2 => Kind::UpdateFailHtlc(pb::UpdateFailHtlc {
            id: number,
            reason: pb::FailureReason::NoLiquidity.into(),
        }),
        3 => Kind::CommitmentSigned(pb::CommitmentSigned {
            number,
            signature: signature(),
            ..Default::default()
        }),
        4 => Kind::RevokeAndAck(pb::RevokeAndAck { number, secret: bytes32(chance), next_point: point() }),
        5 => Kind::Reestablish(pb::Reestablish {
            next_commitment_number: number + 1,
            next_revocation_number: number,
            last_secret: bytes32(chance),
            ..Default::default()
        }),
        6 => Kind::OpenChannel(pb::OpenChannel {
            format: "option_zero_fee_commitments".to_owned(),
            capacity_sat: 300_000,
            dust_limit_sat: 354,
            minimum_depth: 3,
            opener: Some(side()),
            ..Default::default()
        }),
        7 => Kind::AcceptChannel(pb::AcceptChannel {
            minimum_depth: 3,
            accepter: Some(side()),
            ..Default::default()
        }),
        8 => Kind::FundingCreated(pb::FundingCreated {
            outpoint: Some(pb::OutPoint { txid: bytes32(chance), index: 0 }),
            signature: signature(),
            ..Default::default()
        }),
        9 => Kind::FundingSigned(pb::FundingSigned { signature: signature(), ..Default::default() }),
        10 => Kind::ChannelReady(pb::ChannelReady {}),
        11 => Kind::Shutdown(pb::Shutdown { script: Bytes::from_static(&SCRIPT) }),
        12 => Kind::ClosingTerms(terms()),
        13 => Kind::ClosingTicket(pb::ClosingTicket { signature: signature(), terms: Some(terms()) }),
        14 => Kind::ClosingTransaction(pb::ClosingTransaction { transaction: no_close() }),
        _ => Kind::ChannelError(pb::ChannelError { text: "strange".to_owned(), ..Default::default() }),
    }
}

/// A transaction that closes nobody's channel.
fn no_close() -> Bytes {
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    bitcoin::consensus::serialize(&genesis.txdata[0]).into()
}

fn side() -> pb::SideParameters {
    let point = || Bytes::from_static(&POINT);
    pb::SideParameters {
        basepoints: Some(pb::Basepoints {
            funding: point(),
            revocation: point(),
            payment: point(),
            delayed_payment: point(),
            htlc: point(),
        }),
        first_point: point(),
        second_point: point(),
        to_self_delay_blocks: 48,
        htlc_minimum_msat: 1,
        max_htlc_value_in_flight_msat: 100_000_000,
        max_accepted_htlcs: 20,
        max_accepted_dust_htlcs: 20,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proto::frame::{Incoming, open};

    use super::*;
    use crate::seed::Seed;

    #[test]
    fn strange_messages_of_every_kind_are_well_formed() {
        let known = Known::default();
        let mut chance = Seed(1).stream("strange");
        assert!(frame(&known, &mut chance).is_none(), "nothing is known yet");
        known.note(&Bytes::from_static(&[7; 32]));
        let mut kinds = BTreeSet::new();
        for _ in 0..200 {
            let Ok(Incoming::Contents(contents)) = open(frame(&known, &mut chance).unwrap()) else {
                panic!("it is no batch");
            };
            for (id, messages) in contents.channels {
                assert_eq!(id.0, [7; 32]);
                kinds.extend(
                    messages.into_iter().map(|message| channel::event::Event::Message(message).name()),
                );
            }
        }
        assert_eq!(kinds.len(), KINDS, "{kinds:?}");
    }
}
