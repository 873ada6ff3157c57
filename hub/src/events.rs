//! Events as the journal keeps them: the channels' (made by the shards) and the hub's own, told apart by their first byte.

use bitcoin::Txid;
use channel::ids::StreamId;
use channel::keys::Point;
use serde::{Deserialize, Serialize};
use shard::EventRecord;

/// First byte of the hub's own events; the shards' begin with their version, a small number.
const HUB_EVENT: u8 = 0x80;

/// One event of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Channel(EventRecord),
    Hub(HubEvent),
}

/// Something that happened to the hub rather than to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubEvent {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub what: HubHappening,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HubHappening {
    PeerConnected { node: Point },
    PeerDisconnected { node: Point },
    StreamAgreed { stream: StreamId, payer: Point, payee: Point },
    StreamEnded { stream: StreamId, payer: Point, payee: Point },
    BatchMade { txid: Txid, channels: u32, fee_sat: u64 },
}

/// The bytes are no event this program understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error(transparent)]
    Channel(#[from] shard::events::EventDecodeError),
    #[error("the event is broken")]
    Broken,
}

impl HubEvent {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![HUB_EVENT]).expect("plain data encodes into memory")
    }
}

impl Event {
    pub fn decode(bytes: &[u8]) -> Result<Self, EventError> {
        match bytes.split_first() {
            Some((&HUB_EVENT, rest)) => {
                postcard::from_bytes(rest).map(Event::Hub).map_err(|_| EventError::Broken)
            }
            Some(_) => Ok(Event::Channel(EventRecord::decode(bytes)?)),
            None => Err(EventError::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_told_apart() {
        let event =
            HubEvent { time_ms: 5, what: HubHappening::PeerConnected { node: Point::from_bytes([2; 33]) } };
        assert_eq!(Event::decode(&event.encode()), Ok(Event::Hub(event)));
        assert_eq!(Event::decode(&[]), Err(EventError::Broken));
        assert_eq!(Event::decode(&[HUB_EVENT]), Err(EventError::Broken));
        assert!(matches!(Event::decode(&[9, 9]), Err(EventError::Channel(_))));
    }
}
