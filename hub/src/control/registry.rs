//! The registry: who agreed on which stream, which requests were executed. A journaled machine like a channel: `check_*`
//! decides and changes nothing, `apply` changes and cannot fail.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use channel::ids::{ChannelId, OwnerId, StreamId};
use channel::keys::Point;
use proto::request_id::RequestId;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_INBOUND, MAX_REQUESTS, MAX_STREAMS};

use super::mail::{RememberError, Remembered};

/// The encoding's version, in front of every record and snapshot.
const VERSION: u8 = 1;

/// One step of the registry, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    StreamOpened {
        id: StreamId,
        stream: Stream,
    },
    StreamAccepted {
        id: StreamId,
    },
    StreamEnded {
        id: StreamId,
    },
    InboundRequested {
        node: Point,
        request: [u8; 16],
        inbound: Inbound,
    },
    InboundOpened {
        node: Point,
        request: [u8; 16],
    },
    /// The channel came to be and ended.
    InboundEnded {
        node: Point,
        request: [u8; 16],
    },
    /// Nothing came of it: a repeat may try again.
    InboundDropped {
        node: Point,
        request: [u8; 16],
    },
    CallRemembered {
        request: [u8; 16],
        body: [u8; 32],
    },
    /// Requests made before this time are too old to be executed again.
    RequestsForgotten {
        before_ms: u64,
    },
    Earned {
        next_event: u64,
        total_msat: u64,
    },
}

/// A stream that a payer proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub payer: Point,
    pub payee: Point,
    pub accepted: bool,
    /// Milliseconds since 1970.
    pub opened_ms: u64,
}

/// A channel that the hub opens on a wallet's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    pub amount_sat: u64,
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub state: InboundState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InboundState {
    Requested,
    Opened,
    Ended,
}

/// Everything that the inputs so far amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    streams: BTreeMap<StreamId, Stream>,
    inbound: BTreeMap<(Point, [u8; 16]), Inbound>,
    calls: BTreeMap<[u8; 16], [u8; 32]>,
    earned_msat: u64,
    earned_next_event: u64,
    /// Streams by their payer; follows from `streams`, so that an opening costs no pass over all of them.
    #[serde(skip)]
    payers: BTreeMap<Point, usize>,
}

/// Why something is not registered. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    #[error("another stream has this id")]
    StreamExists,
    #[error("the wallet has {maximum} streams, which is the most allowed (streams.max_per_wallet)")]
    TooManyStreams { maximum: usize },
    #[error("the hub has {maximum} streams, which is the most")]
    HubFull { maximum: usize },
    #[error("no stream between these wallets has this id")]
    NoSuchStream,
    #[error("{maximum} requests for channels are remembered, which is the most")]
    TooManyRequests { maximum: usize },
    #[error(
        "the hub funds {maximum} channels of the wallet, which is the most (inbound.max_channels_per_wallet)"
    )]
    TooManyInbound { maximum: usize },
    #[error(
        "the hub has {total} sat in channels it funded for the wallet, {maximum} is the most (inbound.max_sat_per_wallet)"
    )]
    TooMuchInbound { total: u64, maximum: u64 },
}

/// A record or snapshot that this program did not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("the registry's row has version {found}, expected {VERSION}")]
    Version { found: u8 },
    #[error("the registry's row does not decode")]
    Broken,
}

impl Input {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        let bytes = postcard::to_stdvec(self).expect("plain data encodes into memory");
        out.extend_from_slice(&bytes);
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        decode(bytes)
    }
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StateError> {
    let (version, rest) = bytes.split_first().ok_or(StateError::Broken)?;
    if *version != VERSION {
        return Err(StateError::Version { found: *version });
    }
    channel::bytes::read_all(rest).ok_or(StateError::Broken)
}

impl Registry {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("plain data encodes into memory")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut registry: Registry = decode(bytes)?;
        for stream in registry.streams.values() {
            *registry.payers.entry(stream.payer).or_default() += 1;
        }
        Ok(registry)
    }

    /// Takes one step.
    pub fn apply(&mut self, input: &Input) {
        match *input {
            Input::StreamOpened { id, stream } => {
                self.forget_stream(&id);
                self.streams.insert(id, stream);
                *self.payers.entry(stream.payer).or_default() += 1;
            }
            Input::StreamAccepted { id } => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.accepted = true;
                }
            }
            Input::StreamEnded { id } => self.forget_stream(&id),
            Input::InboundRequested { node, request, inbound } => {
                self.inbound.insert((node, request), inbound);
            }
            Input::InboundOpened { node, request } => self.set_inbound(node, request, InboundState::Opened),
            Input::InboundEnded { node, request } => self.set_inbound(node, request, InboundState::Ended),
            Input::InboundDropped { node, request } => {
                self.inbound.remove(&(node, request));
            }
            Input::CallRemembered { request, body } => {
                self.calls.insert(request, body);
            }
            Input::RequestsForgotten { before_ms } => {
                self.calls.retain(|request, _| RequestId(*request).time_ms() >= before_ms);
                self.inbound.retain(|(_, request), inbound| {
                    inbound.state != InboundState::Ended || RequestId(*request).time_ms() >= before_ms
                });
            }
            Input::Earned { next_event, total_msat } => {
                self.earned_next_event = next_event;
                self.earned_msat = total_msat;
            }
        }
    }

    fn forget_stream(&mut self, id: &StreamId) {
        if let Some(stream) = self.streams.remove(id)
            && let Entry::Occupied(mut of_payer) = self.payers.entry(stream.payer)
        {
            *of_payer.get_mut() -= 1;
            if *of_payer.get() == 0 {
                of_payer.remove();
            }
        }
    }

    fn set_inbound(&mut self, node: Point, request: [u8; 16], state: InboundState) {
        if let Some(inbound) = self.inbound.get_mut(&(node, request)) {
            inbound.state = state;
        }
    }

    pub fn streams(&self) -> &BTreeMap<StreamId, Stream> {
        &self.streams
    }

    pub fn inbound(&self) -> &BTreeMap<(Point, [u8; 16]), Inbound> {
        &self.inbound
    }

    /// Fees earned in msat, of all events before the index.
    pub fn earned(&self) -> (u64, u64) {
        (self.earned_msat, self.earned_next_event)
    }

    pub fn check_stream(&self, id: StreamId, stream: Stream, maximum: usize) -> Result<Input, RegistryError> {
        if self.streams.contains_key(&id) {
            return Err(RegistryError::StreamExists);
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(RegistryError::HubFull { maximum: MAX_STREAMS });
        }
        if self.payers.get(&stream.payer).is_some_and(|count| *count >= maximum) {
            return Err(RegistryError::TooManyStreams { maximum });
        }
        Ok(Input::StreamOpened { id, stream })
    }

    /// The stream, if the node is one of its two ends.
    pub fn stream_of(&self, id: StreamId, node: &Point) -> Result<Stream, RegistryError> {
        let stream = self.streams.get(&id).copied().ok_or(RegistryError::NoSuchStream)?;
        if stream.payer == *node || stream.payee == *node {
            Ok(stream)
        } else {
            Err(RegistryError::NoSuchStream)
        }
    }

    /// Whether the wallet's policy leaves room for one more channel of this amount that the hub funds.
    pub fn check_inbound(
        &self,
        node: &Point,
        amount_sat: u64,
        max_channels: usize,
        max_sat: u64,
    ) -> Result<(), RegistryError> {
        if self.inbound.len() >= MAX_INBOUND {
            return Err(RegistryError::TooManyRequests { maximum: MAX_INBOUND });
        }
        let live = self.inbound_of(node).filter(|inbound| inbound.state != InboundState::Ended);
        let (count, total) = live.fold((0usize, amount_sat), |(count, total), one| {
            (count + 1, total.saturating_add(one.amount_sat))
        });
        if count >= max_channels {
            return Err(RegistryError::TooManyInbound { maximum: max_channels });
        }
        if total > max_sat {
            return Err(RegistryError::TooMuchInbound { total, maximum: max_sat });
        }
        Ok(())
    }

    /// The inbound channels of a node that are remembered.
    pub fn inbound_of(&self, node: &Point) -> impl Iterator<Item = &Inbound> {
        self.inbound.range((*node, [0; 16])..=(*node, [0xff; 16])).map(|(_, inbound)| inbound)
    }

    /// Whether the operator's call is new; `Ok(None)` for a repeat.
    pub fn check_call(
        &self,
        request: RequestId,
        body: [u8; 32],
        now_ms: u64,
    ) -> Result<(Remembered, Option<Input>), RememberError> {
        if let Some(known) = self.calls.get(&request.0) {
            return if *known == body { Ok((Remembered::Repeat, None)) } else { Err(RememberError::Reused) };
        }
        request.check_age(now_ms)?;
        if self.calls.len() >= MAX_REQUESTS {
            return Err(RememberError::Full { maximum: MAX_REQUESTS });
        }
        Ok((Remembered::Fresh, Some(Input::CallRemembered { request: request.0, body })))
    }

    /// The input that forgets what is too old, if there is anything.
    pub fn check_forget(&self, now_ms: u64) -> Option<Input> {
        let before_ms = now_ms.saturating_sub(proto::limits::REQUEST_ID_MEMORY_MS);
        let old = |request: &[u8; 16]| RequestId(*request).time_ms() < before_ms;
        // Ids begin with their time, so the first call is the oldest.
        let calls = self.calls.keys().next().is_some_and(old);
        let inbound = self
            .inbound
            .iter()
            .any(|((_, request), inbound)| inbound.state == InboundState::Ended && old(request));
        (calls || inbound).then_some(Input::RequestsForgotten { before_ms })
    }
}

#[cfg(test)]
mod tests;
