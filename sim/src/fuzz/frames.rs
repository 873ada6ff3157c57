//! Frames: whatever a peer sends is taken apart within the bounds or refused; what was taken apart and is put together
//! again says the same.

use channel::ids::ChannelId;
use channel::message::Message;
use prost::Message as _;
use proto::frame::{Contents, FrameBuilder, Incoming, open};
use proto::hub::v1 as pb;
use proto::limits::MAX_FRAME_BYTES;

/// `data` is a frame's encoding.
pub fn frames(data: &[u8]) {
    let Ok(frame) = pb::Frame::decode(data) else { return };
    let Ok(Incoming::Contents(contents)) = open(frame) else { return };
    let mut builder = FrameBuilder::default();
    for (id, messages) in &contents.channels {
        builder.channel(*id, messages);
    }
    for relay in &contents.relays {
        builder.relay(relay);
    }
    for request in &contents.inbound_requests {
        builder.inbound_request(request);
    }
    for reply in &contents.inbound_replies {
        builder.inbound_reply(reply.clone());
    }
    contents.ping.into_iter().for_each(|nonce| builder.ping(nonce));
    contents.pong.into_iter().for_each(|nonce| builder.pong(nonce));
    let mut again = Contents::default();
    for frame in builder.take() {
        assert!(frame.encoded_len() <= MAX_FRAME_BYTES, "a frame of {} bytes", frame.encoded_len());
        let read = pb::Frame::decode(frame.encode_to_vec().as_slice()).expect("what was written is read");
        let Ok(Incoming::Contents(part)) = open(read) else {
            panic!("a frame that was put together is refused: {frame:?}")
        };
        again.channels.extend(part.channels);
        again.relays.extend(part.relays);
        again.inbound_requests.extend(part.inbound_requests);
        again.inbound_replies.extend(part.inbound_replies);
        again.ping = again.ping.or(part.ping);
        again.pong = again.pong.or(part.pong);
    }
    assert_eq!(one_by_one(&again), one_by_one(&contents));
    assert_eq!(again.relays, contents.relays);
    assert_eq!(again.inbound_requests, contents.inbound_requests);
    assert_eq!(again.inbound_replies, contents.inbound_replies);
    assert_eq!((again.ping, again.pong), (contents.ping, contents.pong));
}

/// Messages in order. A channel named without messages says nothing.
fn one_by_one(contents: &Contents) -> Vec<(ChannelId, &Message)> {
    contents.channels.iter().flat_map(|(id, messages)| messages.iter().map(|m| (*id, m))).collect()
}
