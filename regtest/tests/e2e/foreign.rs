//! Clients that break the protocol of the connection. Each breach ends its own connection, by name, and touches nothing else.

use channel::ids::ChannelId;
use proto::error::ErrorCode;
use proto::frame::{FrameBuilder, InboundRequest};
use proto::handshake::{ClientHandshake, EXPORTER_BYTES};
use proto::hub::v1 as pb;
use proto::hub::v1::frame::Kind;

use crate::foreigner::Foreigner;

/// What a foreigner does wrong, as one row.
async fn breach(lab: &regtest::lab::Lab, expected: ErrorCode, act: impl AsyncFnOnce(&mut Foreigner)) {
    let hub_key = lab.hub().info().await.unwrap().node_key;
    let mut foreigner = Foreigner::connect(lab.hub().address(), &hub_key, 9).await;
    act(&mut foreigner).await;
    let end = tokio::time::timeout(crate::support::SOON, foreigner.end()).await.expect("the hub ends it");
    assert_eq!(end.code, expected, "{}", end.text);
    assert!(!end.text.is_empty());
}

fn batch_about(channel_id: ChannelId) -> Kind {
    let mut frames = FrameBuilder::default();
    let message = channel::message::Message::ChannelReady;
    frames.channel(channel_id, &[message]);
    frames.take().remove(0).kind.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breach_of_the_protocol_ends_that_connection_by_name_and_nothing_else() {
    let (lab, payer, payee) = crate::support::pair().await;
    let theirs = payer.channels().await.unwrap()[0].channel_id.clone();
    let theirs = ChannelId(theirs.as_ref().try_into().unwrap());
    let too_large = || {
        // Larger than the limit of a frame, smaller than gRPC's own.
        let text = "x".repeat(proto::limits::MAX_FRAME_BYTES + 1_000);
        Kind::Goodbye(pb::Goodbye { code: 0, text })
    };

    breach(&lab, ErrorCode::HandshakeFailed, async |one| one.say(batch_about(theirs)).await).await;
    breach(&lab, ErrorCode::HandshakeFailed, async |one| one.say_frame(pb::Frame { kind: None }).await).await;
    breach(&lab, ErrorCode::UnsupportedVersion, async |one| {
        let (_, hello) = ClientHandshake::start(&one.signer, one.hub_key, [7; 32], one.exporter);
        one.say(Kind::ClientHello(pb::ClientHello { version: 99, ..hello })).await;
    })
    .await;
    breach(&lab, ErrorCode::HandshakeFailed, async |one| {
        // The exporter of another session: a handshake passed on by somebody in the middle.
        one.exporter = [1; EXPORTER_BYTES];
        let (_, hello) = ClientHandshake::start(&one.signer, one.hub_key, [7; 32], one.exporter);
        one.say(Kind::ClientHello(hello)).await;
        let signature = vec![1; 64].into();
        one.say(Kind::ClientProof(pb::ClientProof { signature })).await;
    })
    .await;
    breach(&lab, ErrorCode::HandshakeFailed, async |one| {
        let (_, hello) = ClientHandshake::start(&one.signer, one.hub_key, [7; 32], one.exporter);
        one.say(Kind::ClientHello(pb::ClientHello { node_key: vec![2; 32].into(), ..hello })).await;
    })
    .await;
    breach(&lab, ErrorCode::FrameMalformed, async |one| {
        one.shake().await;
        one.say_frame(pb::Frame { kind: None }).await;
    })
    .await;
    breach(&lab, ErrorCode::FrameTooLarge, async |one| {
        one.shake().await;
        one.say(too_large()).await;
    })
    .await;
    breach(&lab, ErrorCode::NotYourChannel, async |one| {
        one.shake().await;
        one.say(batch_about(theirs)).await;
    })
    .await;
    breach(&lab, ErrorCode::FrameMalformed, async |one| {
        one.shake().await;
        let (_, hello) = ClientHandshake::start(&one.signer, one.hub_key, [7; 32], one.exporter);
        // The handshake is over.
        one.say(Kind::ClientHello(hello)).await;
    })
    .await;

    // Nobody else noticed.
    let invoice = payee.invoice(crate::support::LARGE_MSAT, "as before").await.unwrap();
    crate::support::assert_settled(&payer.pay(&invoice).await.unwrap());
    lab.quiet().await.unwrap();
    regtest::lab::audit::channels(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_of_a_node_supersedes_the_older() {
    let lab = regtest::lab::Lab::start(crate::support::options()).await.unwrap();
    let hub_key = lab.hub().info().await.unwrap().node_key;
    let mut older = Foreigner::connect(lab.hub().address(), &hub_key, 9).await;
    older.shake().await;
    let mut newer = Foreigner::connect(lab.hub().address(), &hub_key, 9).await;
    newer.shake().await;
    assert_eq!(older.end().await.code, ErrorCode::Superseded);
    newer.say(Kind::Batch(pb::Batch { ping: Some(pb::Ping { nonce: 5 }), ..Default::default() })).await;
    let Kind::Batch(answer) = newer.hear().await else { panic!("the newer connection lives") };
    assert_eq!(answer.pong, Some(pb::Pong { nonce: 5 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_liquidity_beyond_the_policy_is_refused_by_name() {
    let lab = regtest::lab::Lab::start(crate::support::options()).await.unwrap();
    let hub_key = lab.hub().info().await.unwrap().node_key;
    let mut one = Foreigner::connect(lab.hub().address(), &hub_key, 9).await;
    one.shake().await;
    for amount_sat in [1, 1_000_000_000_000] {
        let mut frames = FrameBuilder::default();
        frames.inbound_request(&InboundRequest {
            request_id: regtest::lab::request_id().0,
            amount_sat,
            max_fee_sat: 0,
        });
        one.say_frame(frames.take().remove(0)).await;
        let Kind::Batch(answer) = one.hear().await else { panic!("an answer") };
        let reply = answer.inbound_replies.into_iter().next().expect("an answer to the request");
        let Some(pb::inbound_reply::Result::Error(error)) = reply.result else { panic!("{reply:?}") };
        assert!(!error.text.is_empty(), "{error:?}");
        assert_eq!(error.code(), ErrorCode::AgainstPolicy, "{error:?}");
    }
}
