//! Events as the journal keeps them: the channels' (made by the shards) and the hub's own, told apart by their first byte.

use bitcoin::Txid;
use channel::ids::{ChannelId, StreamId};
use channel::keys::Point;
use serde::{Deserialize, Serialize};
use settlement::desk::Reserve;
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
    PeerConnected {
        node: Point,
    },
    PeerDisconnected {
        node: Point,
    },
    StreamAgreed {
        stream: StreamId,
        payer: Point,
        payee: Point,
    },
    StreamEnded {
        stream: StreamId,
        payer: Point,
        payee: Point,
    },
    BatchMade {
        txid: Txid,
        channels: u32,
        fee_sat: u64,
    },
    /// A commitment of the hub's was sent with the child that pays for it; or another child.
    CommitmentSent {
        channel: ChannelId,
        txid: Txid,
        child: Txid,
        fee_sat: u64,
        replaces: Option<Txid>,
    },
    /// Outputs of closed channels are being taken.
    ClaimSent {
        txid: Txid,
        outputs: u32,
        fee_sat: u64,
        replaces: Option<Txid>,
    },
    /// This channel's wallet proved that the hub runs from old data.
    PublishingSuspended {
        by: ChannelId,
    },
    /// Too many closes at once: this channel's waits for a person.
    PublishingHeld {
        channel: ChannelId,
    },
    /// Coins to close channels with have become too few, or enough again.
    Reserve(ReserveRecord),
}

/// The coins kept to close channels with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveRecord {
    pub needed_coins: u32,
    pub confirmed_coins: u32,
    pub needed_sat: u64,
    pub available_sat: u64,
    pub short: bool,
}

impl From<Reserve> for ReserveRecord {
    fn from(reserve: Reserve) -> Self {
        ReserveRecord {
            needed_coins: reserve.needed_coins,
            confirmed_coins: reserve.confirmed_coins,
            needed_sat: reserve.needed.to_sat(),
            available_sat: reserve.available.to_sat(),
            short: reserve.short,
        }
    }
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
                channel::bytes::read_all(rest).map(Event::Hub).ok_or(EventError::Broken)
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
