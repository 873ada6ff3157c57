//! Bytes and messages from somebody who wants us to fall over.

use proptest::prelude::*;

use super::pair::*;
use crate::amount::Msat;
use crate::channel::{Channel, DecodeError, Input};
use crate::closing::ClosingTerms;
use crate::commitment::CommitmentSignatures;
use crate::error::Rejection;
use crate::event::{Command, Event};
use crate::failure::FailureReason;
use crate::ids::StreamId;
use crate::keys::{CompactSignature, Point};
use crate::message::{
    CommitmentSigned, ForwardInstruction, FundingCreated, FundingSigned, Message, Recipient, Reestablish,
    RevokeAndAck, Shutdown, Ticket, UpdateAddHtlc,
};
use crate::shachain::CommitmentSecret;

/// Numbers near those that mean something, and the extremes.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..6, 1 => Just(u64::MAX), 1 => Just(1 << 48), 1 => any::<u64>()]
}

fn msat() -> impl Strategy<Value = Msat> {
    let amount = prop_oneof![
        0u64..400_000,
        (CAPACITY_SAT * 1_000 - 2)..(CAPACITY_SAT * 1_000 + 2),
        Just(Msat::MAX.to_u64())
    ];
    amount.prop_map(|amount| Msat::new(amount).unwrap())
}

fn signature() -> impl Strategy<Value = CompactSignature> {
    prop_oneof![Just([0; 64]), Just([1; 64]), Just([0xff; 64])].prop_map(CompactSignature::from_bytes)
}

fn point() -> impl Strategy<Value = Point> {
    prop_oneof![Just([0; 33]), Just([2; 33]), Just([3; 33]), Just([5; 33])].prop_map(Point::from_bytes)
}

fn secret() -> impl Strategy<Value = CommitmentSecret> {
    prop_oneof![Just([0; 32]), Just([1; 32]), Just([0xff; 32])].prop_map(CommitmentSecret::from_bytes)
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), Just(vec![7; 256]), Just(vec![7; 257])]
}

fn add() -> impl Strategy<Value = UpdateAddHtlc> {
    let recipient = prop_oneof![
        point().prop_map(Recipient::Node),
        number().prop_map(|index| Recipient::Stream { id: StreamId([1; 16]), index }),
    ];
    let forward = proptest::option::of(
        (msat(), any::<u32>())
            .prop_map(|(amount_msat, cltv_expiry)| ForwardInstruction { amount_msat, cltv_expiry }),
    );
    let payload = prop_oneof![Just(Vec::new()), Just(vec![0; 90])];
    let expiry = prop_oneof![HEIGHT - 2..HEIGHT + 200, Just(499_999_999u32), any::<u32>()];
    (number(), msat(), 0u64..5, expiry, recipient, forward, payload).prop_map(
        |(id, amount_msat, preimage, cltv_expiry, recipient, forward, payload)| UpdateAddHtlc {
            id,
            amount_msat,
            payment_hash: hash(preimage),
            cltv_expiry,
            recipient,
            forward,
            payload,
        },
    )
}

fn terms() -> impl Strategy<Value = ClosingTerms> {
    (prop_oneof![Just(0u64), Just(500), Just(u64::MAX)], any::<u32>()).prop_map(|(fee, publish_by_height)| {
        ClosingTerms { fee: bitcoin::Amount::from_sat(fee), publish_by_height }
    })
}

fn script() -> impl Strategy<Value = bitcoin::ScriptBuf> {
    prop_oneof![Just(Vec::new()), Just(payout_script(1).into_bytes()), Just(vec![0x51; 60])]
        .prop_map(bitcoin::ScriptBuf::from_bytes)
}

fn message() -> impl Strategy<Value = Message> {
    let commitment = (number(), signature(), prop::collection::vec(signature(), 0..3), blob()).prop_map(
        |(number, commitment, htlcs, sealed)| {
            let signatures = CommitmentSignatures { commitment, htlcs };
            Message::CommitmentSigned(CommitmentSigned { number, signatures, sealed })
        },
    );
    let revocation = (number(), secret(), point()).prop_map(|(number, secret, next_point)| {
        Message::RevokeAndAck(RevokeAndAck { number, secret, next_point })
    });
    let reestablish = (number(), number(), secret(), proptest::option::of(terms())).prop_map(
        |(next_commitment_number, next_revocation_number, last_secret, frozen)| {
            Message::Reestablish(Box::new(Reestablish {
                next_commitment_number,
                next_revocation_number,
                last_secret,
                frozen,
                essentials: None,
            }))
        },
    );
    let funding = (signature(), blob()).prop_map(|(signature, sealed)| {
        let outpoint = bitcoin::OutPoint::null();
        Message::FundingCreated(FundingCreated { outpoint, signature, transaction: None, sealed })
    });
    let signed = (signature(), blob())
        .prop_map(|(signature, sealed)| Message::FundingSigned(FundingSigned { signature, sealed }));
    let ticket = (terms(), signature())
        .prop_map(|(terms, signature)| Message::ClosingTicket(Ticket { terms, signature }));
    prop_oneof![
        8 => add().prop_map(Message::UpdateAddHtlc),
        2 => (add(), msat()).prop_map(|(add, deducted_msat)| Message::PricedAddHtlc { add, deducted_msat }),
        4 => (number(), 0u64..5).prop_map(|(id, number)| {
            Message::UpdateFulfillHtlc { id, preimage: preimage(number) }
        }),
        4 => number().prop_map(|id| Message::UpdateFailHtlc { id, reason: FailureReason::NoLiquidity }),
        2 => commitment,
        2 => revocation,
        2 => reestablish,
        1 => funding,
        1 => signed,
        1 => Just(Message::ChannelReady),
        2 => script().prop_map(|script| Message::Shutdown(Shutdown { script })),
        1 => terms().prop_map(Message::ClosingTerms),
        1 => ticket,
        1 => blob().prop_map(|transaction| Message::ClosingTransaction { transaction }),
    ]
}

/// Where the hostile messages strike: an opening, an idle channel, one with HTLCs both ways in every state.
fn scene(which: u8) -> Pair {
    match which {
        0 => Pair::proposed(Who::Hub),
        1 => Pair::funded(Who::Hub),
        2 => Pair::open(Who::Hub),
        3 => {
            let mut pair = Pair::open(Who::Hub);
            pair.disconnect();
            pair.connect();
            pair
        }
        4 => {
            let mut pair = Pair::open(Who::Hub);
            pair.wallet.command(Command::Shutdown { script: payout_script(1) }).unwrap();
            pair.run();
            pair
        }
        _ => {
            let mut pair = Pair::open(Who::Hub);
            pair.offer(Who::Hub, 1, 400_000_000);
            pair.run();
            pair.resolve(Who::Wallet, 0, fulfilled(1));
            pair.run();
            for number in 2..5 {
                pair.offer(Who::Hub, number, number * 200_000);
                pair.offer(Who::Wallet, 10 + number, number * 200_000);
            }
            pair.run();
            pair.resolve(Who::Wallet, 1, fulfilled(2));
            pair.offer(Who::Hub, 6, 1_000);
            pair.deliver(Who::Hub);
            pair.hub.command(Command::SignNow).unwrap();
            pair
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_messages_are_refused_by_name_and_never_break_the_books(
        which in 0u8..6,
        victim in prop_oneof![Just(Who::Hub), Just(Who::Wallet)],
        messages in prop::collection::vec(message(), 1..40),
    ) {
        let mut pair = scene(which);
        let end = pair.end(victim);
        for message in messages {
            let before = end.channel().state_hash();
            let event = Event::Message(message);
            match end.channel().check(event.clone(), &end.context()) {
                Err(Rejection::Refusal(_)) => {
                    prop_assert!(end.handle(event).is_err());
                    prop_assert_eq!(end.channel().state_hash(), before);
                }
                // The audit of the books is part of each step.
                Ok(_) | Err(Rejection::Violation(_)) => {
                    let _ = end.host(event);
                }
            }
        }
        end.restart();
    }

    #[test]
    fn any_bytes_are_an_input_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(input) = Input::decode(&bytes) {
            let mut again = Vec::new();
            input.encode(&mut again);
            prop_assert_eq!(Input::decode(&again), Ok(input));
        }
    }

    #[test]
    fn any_bytes_are_a_snapshot_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = Channel::decode_snapshot(&bytes);
        let mut versioned = vec![1];
        versioned.extend(bytes);
        let _ = Channel::decode_snapshot(&versioned);
    }

    #[test]
    fn a_damaged_snapshot_is_an_error_or_keeps_the_books(
        which in 0u8..6,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let pair = scene(which);
        let mut bytes = pair.hub.channel().encode_snapshot();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(channel) = Channel::decode_snapshot(&bytes) {
            prop_assert!(channel.state.is_conserved());
            let _ = (channel.view(), channel.next_deadline(), channel.state_hash());
        }
    }
}

#[test]
fn snapshots_and_inputs_name_what_is_wrong_with_their_bytes() {
    let pair = scene(5);
    let good = pair.hub.channel().encode_snapshot();
    let decode = |bytes: &[u8]| Channel::decode_snapshot(bytes).map(|_| ());
    assert_eq!(decode(&good), Ok(()));
    assert_eq!(decode(&[]), Err(DecodeError::Malformed));
    assert_eq!(decode(&good[..good.len() - 1]), Err(DecodeError::Malformed));
    let longer: Vec<u8> = good.iter().copied().chain([0]).collect();
    assert_eq!(decode(&longer), Err(DecodeError::TrailingBytes));
    let mut other = good.clone();
    other[0] = 9;
    assert_eq!(decode(&other), Err(DecodeError::UnknownVersion { found: 9, expected: 3 }));
    let mut richer = pair.hub.channel().clone();
    richer.state.books.holder.latest.holder = Msat::from_u32(1);
    assert_eq!(decode(&richer.encode_snapshot()), Err(DecodeError::Inconsistent));

    let mut bytes = Vec::new();
    let input = pair.hub.channel().violated(crate::error::Violation::EmptyCommitment);
    input.encode(&mut bytes);
    assert_eq!(Input::decode(&bytes), Ok(input));
    assert_eq!(Input::decode(&[250]), Err(DecodeError::Malformed));
    bytes.push(0);
    assert_eq!(Input::decode(&bytes), Err(DecodeError::TrailingBytes));
}

#[test]
fn snapshots_from_before_channels_knew_prices_or_the_chain_are_migrated() {
    let pair = scene(5);
    let mut before = pair.hub.channel().encode_snapshot();
    for version in [2, 1] {
        assert_eq!(before.pop(), Some(0), "the last field is absent");
        before[0] = version;
        let hash = pair.hub.channel().state_hash();
        assert_eq!(Channel::decode_snapshot(&before).unwrap().state_hash(), hash);
    }
}

#[test]
fn an_input_that_opens_nothing_makes_no_channel() {
    let pair = scene(2);
    let input = pair.hub.channel().violated(crate::error::Violation::EmptyCommitment);
    assert!(Channel::from_first(&input, &mut Vec::new()).is_err());
}

#[test]
fn late_messages_of_an_older_session_find_nobody() {
    let mut pair = scene(5);
    let late: Vec<Message> = pair.hub.outbox.iter().cloned().collect();
    assert!(late.len() > 1);
    pair.disconnect();
    for message in late {
        let result = pair.wallet.handle(Event::Message(message));
        assert_eq!(result, Err(Rejection::Refusal(crate::error::Refusal::NotConnected)));
    }
}
