//! Frames: taken apart with every bound checked, put together so that none is ever too large.

use channel::ids::ChannelId;
use channel::message::Message;
use prost::Message as _;

use crate::fields::{bytes, channel_id, cut_text, fixed, sat};
use crate::hub::v1 as pb;
use crate::hub::v1::frame::Kind;
use crate::limits;
use crate::message;
use crate::relay::{self, Relay};
use crate::wire_error::WireError;

/// A frame after the handshake, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    Contents(Contents),
    Goodbye { code: pb::ErrorCode, text: String },
}

/// What a batch holds. Each part is to be handled in order, channels first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    pub channels: Vec<(ChannelId, Vec<Message>)>,
    pub relays: Vec<Relay>,
    pub inbound_requests: Vec<InboundRequest>,
    pub inbound_replies: Vec<InboundReply>,
    /// A ping's number, to be answered.
    pub ping: Option<u64>,
    pub pong: Option<u64>,
}

/// A wallet asks the hub for a channel that the hub funds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundRequest {
    pub request_id: [u8; 16],
    pub amount_sat: u64,
    /// The most that the wallet pays for it, a coin included.
    pub max_fee_sat: u64,
}

/// The hub's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundReply {
    pub request_id: [u8; 16],
    pub result: Result<ChannelId, pb::ErrorDetail>,
}

impl Contents {
    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Takes a frame apart. Handshake frames are of no known kind here: they come first or not at all.
pub fn open(frame: pb::Frame) -> Result<Incoming, WireError> {
    let got = frame.encoded_len();
    if got > limits::MAX_FRAME_BYTES {
        return Err(WireError::FrameTooLarge { got, limit: limits::MAX_FRAME_BYTES });
    }
    match frame.kind.ok_or(WireError::UnknownKind { what: "the frame" })? {
        Kind::Batch(batch) => contents_in(batch).map(Incoming::Contents),
        Kind::Goodbye(goodbye) => Ok(Incoming::Goodbye {
            code: pb::ErrorCode::try_from(goodbye.code).unwrap_or(pb::ErrorCode::Unspecified),
            text: cut_text(&goodbye.text),
        }),
        Kind::ClientHello(_) | Kind::HubHello(_) | Kind::ClientProof(_) | Kind::Welcome(_) => {
            Err(WireError::UnknownKind { what: "a handshake frame after the handshake" })
        }
    }
}

fn bounded(what: &'static str, got: usize, limit: usize) -> Result<(), WireError> {
    if got > limit { Err(WireError::TooMany { what, got, limit }) } else { Ok(()) }
}

fn contents_in(batch: pb::Batch) -> Result<Contents, WireError> {
    let messages: usize = batch.channels.iter().map(|one| one.messages.len().max(1)).sum();
    bounded("messages in a frame", messages, limits::MAX_MESSAGES_PER_FRAME)?;
    bounded("relays in a frame", batch.relays.len(), limits::MAX_RELAYS_PER_FRAME)?;
    bounded("inbound requests in a frame", batch.inbound_requests.len(), limits::MAX_INBOUND_PER_FRAME)?;
    bounded("inbound replies in a frame", batch.inbound_replies.len(), limits::MAX_INBOUND_PER_FRAME)?;
    Ok(Contents {
        channels: batch.channels.into_iter().map(channel_in).collect::<Result<_, _>>()?,
        relays: batch.relays.into_iter().map(relay::from_wire).collect::<Result<_, _>>()?,
        inbound_requests: batch.inbound_requests.iter().map(request_in).collect::<Result<_, _>>()?,
        inbound_replies: batch.inbound_replies.into_iter().map(reply_in).collect::<Result<_, _>>()?,
        ping: batch.ping.map(|ping| ping.nonce),
        pong: batch.pong.map(|pong| pong.nonce),
    })
}

fn channel_in(one: pb::ChannelMessages) -> Result<(ChannelId, Vec<Message>), WireError> {
    let id = channel_id("channel_id", &one.channel_id)?;
    let messages = one.messages.into_iter().map(message::from_wire).collect::<Result<_, _>>()?;
    Ok((id, messages))
}

fn request_in(request: &pb::InboundRequest) -> Result<InboundRequest, WireError> {
    Ok(InboundRequest {
        request_id: fixed("request_id", &request.request_id)?,
        amount_sat: sat("amount_sat", request.amount_sat)?,
        max_fee_sat: sat("max_fee_sat", request.max_fee_sat)?,
    })
}

fn reply_in(reply: pb::InboundReply) -> Result<InboundReply, WireError> {
    use pb::inbound_reply::Result as Wire;
    let result = match reply.result.ok_or(WireError::Missing { field: "result" })? {
        Wire::ChannelId(id) => Ok(channel_id("channel_id", &id)?),
        Wire::Error(error) => Err(error),
    };
    Ok(InboundReply { request_id: fixed("request_id", &reply.request_id)?, result })
}

/// Collects what goes to one peer into as few frames as the limits allow, keeping the order.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    done: Vec<pb::Frame>,
    batch: pb::Batch,
    bytes: usize,
    messages: usize,
}

impl FrameBuilder {
    /// Adds messages of one channel, behind all added before.
    pub fn channel(&mut self, id: ChannelId, messages: &[Message]) {
        for message in messages {
            let wire = message::to_wire(message);
            let bytes_more = wire.encoded_len() + ENVELOPE_BYTES;
            self.make_room(bytes_more, 1);
            match self.batch.channels.last_mut() {
                Some(last) if last.channel_id == id.0[..] => last.messages.push(wire),
                _ => self
                    .batch
                    .channels
                    .push(pb::ChannelMessages { channel_id: bytes(&id.0), messages: vec![wire] }),
            }
            self.messages += 1;
            self.bytes += bytes_more;
        }
    }

    /// Adds a relay. Channel messages added later go into a later frame, because a frame's channels are handled first.
    pub fn relay(&mut self, relay: &Relay) {
        let wire = relay::to_wire(relay);
        let bytes_more = wire.encoded_len() + ENVELOPE_BYTES;
        self.make_room(bytes_more, 0);
        if self.batch.relays.len() >= limits::MAX_RELAYS_PER_FRAME {
            self.finish_frame();
        }
        self.bytes += bytes_more;
        self.batch.relays.push(wire);
    }

    /// Adds a request for an inbound channel.
    pub fn inbound_request(&mut self, request: &InboundRequest) {
        if self.batch.inbound_requests.len() >= limits::MAX_INBOUND_PER_FRAME {
            self.finish_frame();
        }
        self.bytes += ENVELOPE_BYTES;
        self.batch.inbound_requests.push(pb::InboundRequest {
            request_id: bytes(&request.request_id),
            amount_sat: request.amount_sat,
            max_fee_sat: request.max_fee_sat,
        });
    }

    /// Adds an answer to such a request.
    pub fn inbound_reply(&mut self, reply: InboundReply) {
        use pb::inbound_reply::Result as Wire;
        if self.batch.inbound_replies.len() >= limits::MAX_INBOUND_PER_FRAME {
            self.finish_frame();
        }
        let result = match reply.result {
            Ok(id) => Wire::ChannelId(bytes(&id.0)),
            Err(error) => Wire::Error(error),
        };
        let wire = pb::InboundReply { request_id: bytes(&reply.request_id), result: Some(result) };
        self.bytes += wire.encoded_len() + ENVELOPE_BYTES;
        self.batch.inbound_replies.push(wire);
    }

    /// Adds a ping; an earlier one of the same frame is replaced.
    pub fn ping(&mut self, nonce: u64) {
        self.batch.ping = Some(pb::Ping { nonce });
    }

    /// Adds the answer to a ping.
    pub fn pong(&mut self, nonce: u64) {
        self.batch.pong = Some(pb::Pong { nonce });
    }

    /// The frames, in the order in which they must be sent; the builder is empty then.
    pub fn take(&mut self) -> Vec<pb::Frame> {
        self.finish_frame();
        std::mem::take(&mut self.done)
    }

    fn make_room(&mut self, bytes: usize, messages: usize) {
        let full = self.bytes + bytes > limits::FRAME_TARGET_BYTES && self.bytes > 0;
        let later_than_relay = messages > 0 && !self.batch.relays.is_empty();
        if full || later_than_relay || self.messages + messages > limits::MAX_MESSAGES_PER_FRAME {
            self.finish_frame();
        }
    }

    fn finish_frame(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        self.messages = 0;
        if batch != pb::Batch::default() {
            self.done.push(pb::Frame { kind: Some(Kind::Batch(batch)) });
        }
    }
}

/// What a message may cost around itself: tags, lengths, and the channel's id.
const ENVELOPE_BYTES: usize = 48;

/// The frame that ends a connection.
pub fn goodbye(code: pb::ErrorCode, text: &str) -> pb::Frame {
    pb::Frame { kind: Some(Kind::Goodbye(pb::Goodbye { code: code.into(), text: cut_text(text) })) }
}
