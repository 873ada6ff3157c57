//! What subscribers are told: the channels' reports as records of the journal's event log.
//!
//! Micropayments in a stream are many and alike, so one turn's are told as one event a stream, and what they pay of a channel's
//! price as one event a channel.

use channel::amount::Msat;
use channel::effect::Report;
use channel::failure::FailureReason;
use channel::ids::{ChannelId, OwnerId, StreamId};
use channel::keys::Point;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::map::{FastMap, Seeded};

/// The encoding's version: the first byte of every event.
const VERSION: u8 = 1;

/// One event, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Milliseconds since 1970, by the host's clock at the turn.
    pub time_ms: u64,
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub node: Point,
    pub what: Happening,
}

/// What happened to the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    Report(Report),
    /// Ticks of one stream that came in through this channel and became irrevocable, in one turn.
    StreamReceived {
        stream: StreamId,
        ticks: u64,
        amount_msat: Msat,
    },
    /// Ticks of one stream that came in through this channel and were paid for good, in one turn. `fee_msat` is what this
    /// side kept of them.
    StreamSettled {
        stream: StreamId,
        ticks: u64,
        amount_msat: Msat,
        fee_msat: Msat,
    },
    /// Ticks of one stream that came in through this channel and failed for good, in one turn.
    StreamFailed {
        stream: StreamId,
        reason: FailureReason,
        ticks: u64,
        amount_msat: Msat,
    },
    /// Forwards of this channel that failed for one reason in one turn, when there were too many to list.
    ForwardsFailed {
        reason: FailureReason,
        count: u64,
    },
}

/// The bytes are no event this program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventDecodeError {
    #[error("the event has version {found}, this program reads version {expected}")]
    Version { found: u8, expected: u8 },
    #[error("the event is broken")]
    Broken,
}

impl EventRecord {
    /// A version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("a vector takes any number of bytes")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, EventDecodeError> {
        let (version, rest) = bytes.split_first().ok_or(EventDecodeError::Broken)?;
        if *version != VERSION {
            return Err(EventDecodeError::Version { found: *version, expected: VERSION });
        }
        channel::bytes::read_all(rest).ok_or(EventDecodeError::Broken)
    }
}

/// The channel an event is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub node: Point,
}

/// Collects one turn's events.
#[derive(Debug)]
pub(crate) struct Collector {
    /// In the order in which they began.
    collected: Vec<EventRecord>,
    sums: FastMap<SumKey, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum SumKey {
    Received(OwnerId, StreamId),
    Settled(OwnerId, StreamId),
    StreamFailed(OwnerId, StreamId, FailureReason),
    Failed(OwnerId, FailureReason),
    PricePaid(OwnerId),
}

impl Collector {
    pub fn new(seed: u64) -> Self {
        Collector { collected: Vec::new(), sums: FastMap::with_hasher(Seeded(seed)) }
    }

    pub fn add(&mut self, time_ms: u64, about: About, report: Report) {
        let sum = match &report {
            Report::HtlcReceived { stream: Some(stream), amount_msat, .. } => Some((
                SumKey::Received(about.owner, *stream),
                Happening::StreamReceived { stream: *stream, ticks: 1, amount_msat: *amount_msat },
            )),
            Report::ForwardSettled { stream: Some(stream), amount_msat, fee_msat, .. } => Some((
                SumKey::Settled(about.owner, *stream),
                Happening::StreamSettled {
                    stream: *stream,
                    ticks: 1,
                    amount_msat: *amount_msat,
                    fee_msat: *fee_msat,
                },
            )),
            Report::ForwardFailed { stream: Some(stream), reason, amount_msat, .. } => Some((
                SumKey::StreamFailed(about.owner, *stream, *reason),
                Happening::StreamFailed {
                    stream: *stream,
                    reason: *reason,
                    ticks: 1,
                    amount_msat: *amount_msat,
                },
            )),
            Report::ForwardFailed { reason, .. }
                if self.collected.len() >= limits::MAX_SINGLE_EVENTS_A_TURN =>
            {
                Some((
                    SumKey::Failed(about.owner, *reason),
                    Happening::ForwardsFailed { reason: *reason, count: 1 },
                ))
            }
            Report::PricePaid { .. } => {
                Some((SumKey::PricePaid(about.owner), Happening::Report(report.clone())))
            }
            _ => None,
        };
        let Some((key, what)) = sum else {
            self.push(time_ms, about, Happening::Report(report));
            return;
        };
        match self.sums.get(&key) {
            Some(at) => self.collected[*at].what.absorb(&what),
            None => {
                self.sums.insert(key, self.collected.len());
                self.push(time_ms, about, what);
            }
        }
    }

    fn push(&mut self, time_ms: u64, about: About, what: Happening) {
        let About { owner, channel_id, node } = about;
        self.collected.push(EventRecord { time_ms, owner, channel_id, node, what });
    }

    /// Encodes and forgets what was collected.
    pub fn drain_into(&mut self, events: &mut Vec<Vec<u8>>) {
        events.extend(self.collected.drain(..).map(|event| event.encode()));
        self.sums.clear();
    }
}

impl Happening {
    /// Adds another of the same key; sums that could overflow stay at their maximum, for they only inform.
    fn absorb(&mut self, other: &Happening) {
        match (self, other) {
            (
                Happening::StreamReceived { ticks, amount_msat, .. },
                Happening::StreamReceived { ticks: more, amount_msat: amount, .. },
            )
            | (
                Happening::StreamFailed { ticks, amount_msat, .. },
                Happening::StreamFailed { ticks: more, amount_msat: amount, .. },
            ) => {
                *ticks = ticks.saturating_add(*more);
                *amount_msat = amount_msat.saturating_add(*amount);
            }
            (
                Happening::StreamSettled { ticks, amount_msat, fee_msat, .. },
                Happening::StreamSettled { ticks: more, amount_msat: amount, fee_msat: fee, .. },
            ) => {
                *ticks = ticks.saturating_add(*more);
                *amount_msat = amount_msat.saturating_add(*amount);
                *fee_msat = fee_msat.saturating_add(*fee);
            }
            (Happening::ForwardsFailed { count, .. }, Happening::ForwardsFailed { count: more, .. }) => {
                *count = count.saturating_add(*more);
            }
            (
                Happening::Report(Report::PricePaid { amount_msat, unpaid_msat }),
                Happening::Report(Report::PricePaid { amount_msat: amount, unpaid_msat: unpaid }),
            ) => {
                *amount_msat = amount_msat.saturating_add(*amount);
                *unpaid_msat = *unpaid;
            }
            (_, _) => debug_assert!(false, "a sum's key names its kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use channel::bytes::PaymentHash;
    use channel::forward::ForwardKey;

    use super::*;

    const STREAM: StreamId = StreamId([4; 16]);

    fn about(owner: u64) -> About {
        About {
            owner: OwnerId(owner),
            channel_id: ChannelId([owner as u8; 32]),
            node: Point::from_bytes([2; 33]),
        }
    }

    fn received(htlc_id: u64, stream: Option<StreamId>) -> Report {
        let payment_hash = PaymentHash::from_bytes([1; 32]);
        Report::HtlcReceived { htlc_id, payment_hash, amount_msat: Msat::from_u32(5), stream }
    }

    fn failed(htlc_id: u64) -> Report {
        Report::ForwardFailed {
            key: ForwardKey { incoming: OwnerId(1), htlc_id, attempt: 1 },
            payment_hash: PaymentHash::from_bytes([1; 32]),
            amount_msat: Msat::from_u32(5),
            reason: FailureReason::NoLiquidity,
            stream: None,
        }
    }

    fn drained(collector: &mut Collector) -> Vec<EventRecord> {
        let mut bytes = Vec::new();
        collector.drain_into(&mut bytes);
        bytes.iter().map(|event| EventRecord::decode(event).unwrap()).collect()
    }

    #[test]
    fn ticks_are_summed_by_channel_and_stream_and_single_payments_are_not() {
        let mut collector = Collector::new(1);
        for tick in 0..10 {
            collector.add(7, about(1), received(tick, Some(STREAM)));
        }
        collector.add(7, about(2), received(0, Some(STREAM)));
        collector.add(7, about(1), received(10, None));
        let what: Vec<_> =
            drained(&mut collector).into_iter().map(|event| (event.owner.0, event.what)).collect();
        let sum = |ticks, amount| Happening::StreamReceived {
            stream: STREAM,
            ticks,
            amount_msat: Msat::from_u32(amount),
        };
        assert_eq!(what, [(1, sum(10, 50)), (2, sum(1, 5)), (1, Happening::Report(received(10, None)))]);
        assert!(drained(&mut collector).is_empty());
    }

    #[test]
    fn what_is_paid_of_a_price_is_summed_by_channel() {
        let mut collector = Collector::new(1);
        let paid = |amount, unpaid| Report::PricePaid {
            amount_msat: Msat::from_u32(amount),
            unpaid_msat: Msat::from_u32(unpaid),
        };
        for (amount, unpaid) in [(5, 95), (7, 88), (1, 87)] {
            collector.add(7, about(1), paid(amount, unpaid));
        }
        collector.add(7, about(2), paid(3, 0));
        let what: Vec<_> =
            drained(&mut collector).into_iter().map(|event| (event.owner.0, event.what)).collect();
        assert_eq!(what, [(1, Happening::Report(paid(13, 87))), (2, Happening::Report(paid(3, 0)))]);
    }

    #[test]
    fn a_storm_of_failures_is_counted_and_not_listed() {
        let mut collector = Collector::new(1);
        for htlc in 0..limits::MAX_SINGLE_EVENTS_A_TURN as u64 + 100 {
            collector.add(7, about(1), failed(htlc));
        }
        let events = drained(&mut collector);
        assert_eq!(events.len(), limits::MAX_SINGLE_EVENTS_A_TURN + 1);
        let last = Happening::ForwardsFailed { reason: FailureReason::NoLiquidity, count: 100 };
        assert_eq!(events.last().unwrap().what, last);
    }

    #[test]
    fn an_event_of_another_version_is_named() {
        let what = Happening::Report(received(1, None));
        let (owner, channel_id, node) = (OwnerId(1), ChannelId([1; 32]), Point::from_bytes([2; 33]));
        let event = EventRecord { time_ms: 3, owner, channel_id, node, what };
        let mut bytes = event.encode();
        assert_eq!(EventRecord::decode(&bytes), Ok(event));
        bytes[0] = 9;
        let version = EventDecodeError::Version { found: 9, expected: VERSION };
        assert_eq!(EventRecord::decode(&bytes), Err(version));
        assert_eq!(EventRecord::decode(&[]), Err(EventDecodeError::Broken));
        assert_eq!(EventRecord::decode(&[VERSION, 1]), Err(EventDecodeError::Broken));
    }
}
