//! One row a rule: a well-formed frame or message with one thing changed, and the exact error.

use bytes::Bytes;
use proto::WireError;
use proto::frame;
use proto::hub::v1 as pb;
use proto::hub::v1::channel_message::Kind;
use proto::hub::v1::update_add_htlc::Recipient;
use proto::{limits, message};

fn add() -> pb::UpdateAddHtlc {
    pb::UpdateAddHtlc {
        id: 1,
        amount_msat: 1_000,
        payment_hash: Bytes::from_static(&[1; 32]),
        cltv_expiry: 200,
        recipient: Some(Recipient::Tick(pb::StreamTick {
            stream_id: Bytes::from_static(&[2; 16]),
            index: 3,
        })),
        forward: None,
        payload: Bytes::new(),
        deducted_msat: 0,
    }
}

fn refusal(kind: Kind) -> WireError {
    message::from_wire(pb::ChannelMessage { kind: Some(kind) }).expect_err("one thing is wrong")
}

fn changed_add(change: impl FnOnce(&mut pb::UpdateAddHtlc)) -> WireError {
    let mut add = add();
    change(&mut add);
    refusal(Kind::UpdateAddHtlc(add))
}

#[test]
fn the_unchanged_add_is_taken() {
    assert!(message::from_wire(pb::ChannelMessage { kind: Some(Kind::UpdateAddHtlc(add())) }).is_ok());
}

#[test]
fn wrong_fields_of_an_add_are_named() {
    use WireError::*;
    assert_eq!(
        changed_add(|add| add.payment_hash = Bytes::from_static(&[1; 31])),
        WrongLength { field: "payment_hash", got: 31, expected: 32 }
    );
    assert_eq!(changed_add(|add| add.recipient = None), Missing { field: "recipient" });
    assert_eq!(
        changed_add(|add| add.recipient = Some(Recipient::NodeKey(Bytes::from_static(&[5; 33])))),
        NotAPoint { field: "recipient.node_key" }
    );
    let most = channel::amount::Msat::MAX.to_u64();
    assert_eq!(
        changed_add(|add| add.amount_msat = most + 1),
        OutOfRange { field: "amount_msat", got: most + 1, least: 0, most }
    );
    let limit = limits::MAX_PAYLOAD_BYTES;
    assert_eq!(
        changed_add(|add| add.payload = vec![0; limit + 1].into()),
        TooLong { field: "payload", got: limit + 1, limit }
    );
}

#[test]
fn wrong_fields_of_other_messages_are_named() {
    use WireError::*;
    let fail = |reason| refusal(Kind::UpdateFailHtlc(pb::UpdateFailHtlc { id: 0, reason }));
    assert_eq!(fail(0), UnknownValue { field: "reason", got: 0 });
    assert_eq!(fail(16), UnknownValue { field: "reason", got: 16 });
    assert_eq!(fail(-1), UnknownValue { field: "reason", got: -1 });

    let signed = |number, signature: &'static [u8], htlc_signatures: Vec<u8>| {
        refusal(Kind::CommitmentSigned(pb::CommitmentSigned {
            number,
            signature: Bytes::from_static(signature),
            htlc_signatures: htlc_signatures.into(),
            sealed: Bytes::new(),
        }))
    };
    let most = (1 << 48) - 1;
    assert_eq!(
        signed(1 << 48, &[1; 64], vec![]),
        OutOfRange { field: "number", got: 1 << 48, least: 0, most }
    );
    assert_eq!(signed(1, &[0xff; 64], vec![]), NotASignature { field: "signature" });
    assert_eq!(signed(1, &[1; 63], vec![]), WrongLength { field: "signature", got: 63, expected: 64 });
    assert_eq!(
        signed(1, &[1; 64], vec![1; 65]),
        WrongLength { field: "htlc_signatures", got: 65, expected: 128 }
    );
    assert_eq!(
        signed(1, &[1; 64], vec![1; 229 * 64]),
        TooMany { what: "HTLC signatures", got: 229, limit: 228 }
    );
    let closing = pb::ClosingTransaction { transaction: Bytes::from_static(&[1, 2, 3]) };
    assert_eq!(refusal(Kind::ClosingTransaction(closing)), NotATransaction { field: "transaction" });
    assert_eq!(
        refusal(Kind::Shutdown(pb::Shutdown { script: vec![0; 43].into() })),
        TooLong { field: "script", got: 43, limit: 42 }
    );
    let nothing = message::from_wire(pb::ChannelMessage { kind: None });
    assert_eq!(nothing, Err(UnknownKind { what: "a channel message" }));
}

#[test]
fn frames_of_wrong_kind_or_size_are_named() {
    use WireError::*;
    assert_eq!(frame::open(pb::Frame { kind: None }), Err(UnknownKind { what: "the frame" }));
    let hello = pb::Frame { kind: Some(pb::frame::Kind::ClientHello(pb::ClientHello::default())) };
    assert_eq!(frame::open(hello), Err(UnknownKind { what: "a handshake frame after the handshake" }));

    let batch = |batch| frame::open(pb::Frame { kind: Some(pb::frame::Kind::Batch(batch)) });
    let many = vec![pb::Relay::default(); limits::MAX_RELAYS_PER_FRAME + 1];
    assert_eq!(
        batch(pb::Batch { relays: many, ..pb::Batch::default() }),
        Err(TooMany { what: "relays in a frame", got: 1_025, limit: 1_024 })
    );
    let empty = pb::ChannelMessages { channel_id: Bytes::new(), messages: vec![] };
    assert_eq!(
        batch(pb::Batch { channels: vec![empty; 16_385], ..pb::Batch::default() }),
        Err(TooMany { what: "messages in a frame", got: 16_385, limit: 16_384 })
    );
    let large = pb::ChannelMessages { channel_id: vec![0; limits::MAX_FRAME_BYTES].into(), messages: vec![] };
    assert!(matches!(
        batch(pb::Batch { channels: vec![large], ..pb::Batch::default() }),
        Err(FrameTooLarge { limit: limits::MAX_FRAME_BYTES, .. })
    ));
}
