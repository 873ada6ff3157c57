//! Encoding and decoding is the identity, and hostile bytes end in a named error, never in a panic.

mod strategies;

use channel::ids::{ChannelId, StreamId};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use proto::frame::{self, Contents, FrameBuilder, InboundReply, InboundRequest, Incoming};
use proto::hub::v1 as pb;
use proto::relay::{Receipt, Relay, RelayKind, StreamTerms};
use proto::{limits, message, relay};

fn relays() -> impl Strategy<Value = Relay> {
    let kind = prop_oneof![
        (
            strategies::point(),
            strategies::point(),
            strategies::point(),
            1u64..1_000_000,
            1u64..,
            any::<u32>(),
            1u32..
        )
            .prop_map(|(payee, payer, fresh_key, amount, ticks, ticks_per_second, max_in_flight)| {
                RelayKind::Open(StreamTerms {
                    payee,
                    payer,
                    fresh_key,
                    amount_msat: channel::amount::Msat::new(amount).expect("small"),
                    ticks,
                    ticks_per_second,
                    max_in_flight,
                    authenticator: [7; 32],
                })
            }),
        Just(RelayKind::Accept),
        "\\PC{0,100}"
            .prop_map(|text| RelayKind::Refuse { reason: pb::StreamRefusal::RecipientOffline, text }),
        (any::<u64>(), strategies::msat(), strategies::signature()).prop_map(
            |(highest_tick, total_msat, signature)| {
                RelayKind::Receipt(Receipt { highest_tick, total_msat, signature })
            }
        ),
        "\\PC{0,100}".prop_map(|text| RelayKind::End { text }),
    ];
    (any::<[u8; 16]>(), kind).prop_map(|(id, kind)| Relay { stream: StreamId(id), kind })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_message_comes_back_as_it_was_sent(sent in strategies::message()) {
        let bytes = message::to_wire(&sent).encode_to_vec();
        let read = pb::ChannelMessage::decode(bytes.as_slice()).expect("just encoded");
        prop_assert_eq!(message::from_wire(read), Ok(sent));
    }

    #[test]
    fn a_relay_comes_back_as_it_was_sent(sent in relays()) {
        let bytes = relay::to_wire(&sent).encode_to_vec();
        let read = pb::Relay::decode(bytes.as_slice()).expect("just encoded");
        prop_assert_eq!(relay::from_wire(read), Ok(sent));
    }

    #[test]
    fn frames_keep_the_order_of_each_channel(sent in vec((0u8..4, vec(strategies::message(), 0..8)), 0..12)) {
        let mut builder = FrameBuilder::default();
        for (id, messages) in &sent {
            builder.channel(ChannelId([*id; 32]), messages);
        }
        let mut read: Vec<(ChannelId, channel::message::Message)> = Vec::new();
        for frame in builder.take() {
            prop_assert!(frame.encoded_len() <= limits::MAX_FRAME_BYTES);
            match frame::open(frame) {
                Ok(Incoming::Contents(contents)) => {
                    for (id, messages) in contents.channels {
                        read.extend(messages.into_iter().map(|message| (id, message)));
                    }
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        let sent: Vec<_> = sent
            .into_iter()
            .flat_map(|(id, messages)| messages.into_iter().map(move |message| (ChannelId([id; 32]), message)))
            .collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        if let Ok(read) = pb::Frame::decode(bytes.as_slice()) {
            let _ = frame::open(read);
        }
        if let Ok(read) = pb::ChannelMessage::decode(bytes.as_slice()) {
            let _ = message::from_wire(read);
        }
    }

    #[test]
    fn a_damaged_message_never_panics(sent in strategies::message(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = message::to_wire(&sent).encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Ok(read) = pb::ChannelMessage::decode(bytes.as_slice()) {
            let _ = message::from_wire(read);
        }
    }
}

#[test]
fn everything_a_batch_can_hold_comes_back() {
    let mut builder = FrameBuilder::default();
    let request = InboundRequest { request_id: [1; 16], amount_sat: 50_000, max_fee_sat: 600 };
    let detail = proto::error::detail(pb::ErrorCode::AgainstPolicy, "too much");
    let refused = InboundReply { request_id: [2; 16], result: Err(detail) };
    let opened = InboundReply { request_id: [3; 16], result: Ok(ChannelId([4; 32])) };
    builder.inbound_request(&request);
    builder.inbound_reply(refused.clone());
    builder.inbound_reply(opened.clone());
    builder.ping(5);
    builder.pong(6);
    let frames = builder.take();
    assert_eq!(frames.len(), 1);
    let expected = Contents {
        inbound_requests: vec![request],
        inbound_replies: vec![refused, opened],
        ping: Some(5),
        pong: Some(6),
        ..Contents::default()
    };
    assert_eq!(frame::open(frames[0].clone()), Ok(Incoming::Contents(expected)));
    assert!(builder.take().is_empty(), "the builder is empty afterwards");
}

#[test]
fn many_messages_are_split_into_frames_within_the_limits() {
    let mut builder = FrameBuilder::default();
    let messages = vec![channel::message::Message::ChannelReady; limits::MAX_MESSAGES_PER_FRAME + 10];
    builder.channel(ChannelId([1; 32]), &messages);
    let frames = builder.take();
    assert!(frames.len() > 1);
    let mut read = 0;
    for frame in frames {
        match frame::open(frame) {
            Ok(Incoming::Contents(contents)) => read += contents.channels[0].1.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read, messages.len());
}
