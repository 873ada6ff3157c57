//! What lasts of finished payments and streams: retained rows for the history, and events for subscribers.
//!
//! Events share the journal's index with the channels' (shard's [`shard::EventRecord`]); the first byte tells them apart.

use bitcoin::{OutPoint, Txid};
use channel::channel::{ChannelView, PhaseView};
use channel::ids::{ChannelId, StreamId};
use channel::parameters::Side;
use journal::Retained;
use serde::{Deserialize, Serialize};

use crate::ledger::apply::Done;
use crate::ledger::state::{Ended, PayeeStream, PayerStream, State};

/// Retained rows of finished payments: the key is 0 (sent) or 1 (received), then the complement of the number, so that the newest
/// come first.
pub const PAYMENTS: u8 = 32;

/// Retained rows of channels that ended: the key is the channel's id.
pub const CLOSED: u8 = 34;

/// Retained row of this process's starts (see [`crate::core`]).
pub const EPOCH: u8 = 33;

/// First byte of the ledger's events. Shard's versions count up from 1.
const LEDGER_EVENT: u8 = 0x80;

/// An event of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerEvent {
    pub time_ms: u64,
    pub what: LedgerHappening,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LedgerHappening {
    Payment(Ended),
    Paid { id: StreamId, stream: Box<PayerStream> },
    Received { id: StreamId, stream: Box<PayeeStream> },
}

/// An event of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyEvent {
    Channel(shard::EventRecord),
    Ledger(LedgerEvent),
}

/// The bytes are no event this program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event was written by a version this program does not know")]
pub struct UnknownEvent;

impl AnyEvent {
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownEvent> {
        match bytes.split_first() {
            Some((&LEDGER_EVENT, rest)) => {
                channel::bytes::read_all(rest).map(AnyEvent::Ledger).ok_or(UnknownEvent)
            }
            Some(_) => shard::EventRecord::decode(bytes).map(AnyEvent::Channel).map_err(|_| UnknownEvent),
            None => Err(UnknownEvent),
        }
    }
}

/// The event that tells of it. Open ticks and indices seen are left out: they are many and of no use to a subscriber.
pub(crate) fn event(state: &State, done: &Done, time_ms: u64) -> Option<Vec<u8>> {
    let what = match done {
        Done::Payment(ended) => LedgerHappening::Payment(ended.as_ref().clone()),
        Done::Stream(id) => {
            if let Some(stream) = state.payers.get(id) {
                let mut stream = Box::new(stream.clone());
                stream.open.clear();
                LedgerHappening::Paid { id: *id, stream }
            } else {
                let mut stream = Box::new(state.payees.get(id)?.clone());
                stream.seen = crate::ledger::runs::IndexSet::default();
                LedgerHappening::Received { id: *id, stream }
            }
        }
    };
    let event = LedgerEvent { time_ms, what };
    Some(postcard::to_extend(&event, vec![LEDGER_EVENT]).expect("a vector takes any number of bytes"))
}

/// The row that keeps a finished payment.
pub(crate) fn row(done: &Done) -> Option<Retained> {
    match done {
        Done::Payment(ended) => Some(Retained {
            table: PAYMENTS,
            key: payment_key(ended.sent, ended.number).to_vec(),
            value: Some(postcard::to_stdvec(ended.as_ref()).expect("plain data can always be written")),
        }),
        Done::Stream(_) => None,
    }
}

/// The key of a finished payment's row.
pub fn payment_key(sent: bool, number: u64) -> [u8; 9] {
    let mut key = [u8::from(!sent); 9];
    key[1..].copy_from_slice(&(!number).to_be_bytes());
    key
}

/// Reads a finished payment's row.
pub fn read_payment(value: &[u8]) -> Result<Ended, UnknownEvent> {
    channel::bytes::read_all(value).ok_or(UnknownEvent)
}

/// A channel that ended: what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedChannel {
    pub channel_id: ChannelId,
    pub capacity_sat: u64,
    /// This wallet funded it.
    pub funded_locally: bool,
    pub funding: Option<OutPoint>,
    pub end: ChannelEnd,
}

/// How a channel ended. Positions are what is stored: new ones are added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelEnd {
    /// The opening was given up, and the row does not tell why.
    GivenUp,
    /// By the agreed close.
    Closed(Closing),
    /// The opening was given up, for this reason.
    Aborted { why: String },
}

/// A close that is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    pub txid: Txid,
    pub height: u32,
    /// What this wallet's output holds.
    pub paid_sat: u64,
}

/// The row that remembers a channel's end.
pub(crate) fn closed_row(view: &ChannelView) -> Retained {
    let end = match &view.phase {
        PhaseView::Closed { txid, height } => {
            ChannelEnd::Closed(Closing { txid: *txid, height: *height, paid_sat: view.paid_sat })
        }
        PhaseView::Aborted { cause } => ChannelEnd::Aborted { why: cause.to_string() },
        PhaseView::Opening
        | PhaseView::AwaitingConfirmation { .. }
        | PhaseView::Open
        | PhaseView::ShuttingDown { .. }
        | PhaseView::Frozen { .. }
        | PhaseView::Closing { .. }
        | PhaseView::Failed { .. } => ChannelEnd::GivenUp,
    };
    let closed = ClosedChannel {
        channel_id: view.channel_id,
        capacity_sat: view.capacity.to_sat(),
        funded_locally: view.opener == Side::Holder,
        funding: view.funding_outpoint,
        end,
    };
    let value = postcard::to_stdvec(&closed).expect("plain data can always be written");
    Retained { table: CLOSED, key: view.channel_id.0.to_vec(), value: Some(value) }
}

/// Reads such a row.
pub fn read_closed(value: &[u8]) -> Result<ClosedChannel, UnknownEvent> {
    channel::bytes::read_all(value).ok_or(UnknownEvent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Amount;
    use bitcoin::hashes::Hash;
    use channel::amount::Msat;
    use channel::channel::ConnectionView;
    use channel::effect::OpeningFailure;
    use channel::event::Role;
    use channel::ids::OwnerId;
    use channel::keys::Point;
    use channel::peer_text::PeerText;

    fn view(phase: PhaseView) -> ChannelView {
        ChannelView {
            owner: OwnerId(1 << 24),
            channel_id: ChannelId([3; 32]),
            role: Role::Wallet,
            counterparty_node: Point::from_bytes([2; 33]),
            opener: Side::Holder,
            phase,
            connection: ConnectionView::Offline,
            capacity: Amount::from_sat(1_000_000),
            funding_outpoint: Some(OutPoint { txid: Txid::from_byte_array([5; 32]), vout: 1 }),
            funding_height: Some(100),
            minimum_depth: 3,
            usable: false,
            holder_msat: Msat::from_u32(600_000_000),
            counterparty_msat: Msat::from_u32(400_000_000),
            offered_msat: Msat::ZERO,
            received_msat: Msat::ZERO,
            htlcs: 0,
            spendable_msat: Msat::ZERO,
            receivable_msat: Msat::ZERO,
            reserve_msat: Msat::ZERO,
            dust_exposure_msat: Msat::ZERO,
            holder_commitment_number: 7,
            counterparty_commitment_number: 7,
            holder_to_self_delay_blocks: 144,
            counterparty_to_self_delay_blocks: 2_016,
            next_deadline: None,
            onchain: None,
            awaiting: None,
            paid_sat: 599_800,
            price_msat: Msat::ZERO,
            price_unpaid_msat: Msat::ZERO,
        }
    }

    fn kept(view: &ChannelView) -> ClosedChannel {
        let row = closed_row(view);
        assert_eq!((row.table, row.key), (CLOSED, view.channel_id.0.to_vec()));
        read_closed(&row.value.unwrap()).unwrap()
    }

    #[test]
    fn a_closed_channels_row_says_how_large_it_was_who_funded_it_and_what_its_close_paid() {
        let txid = Txid::from_byte_array([6; 32]);
        let row = kept(&view(PhaseView::Closed { txid, height: 200 }));
        let end = ChannelEnd::Closed(Closing { txid, height: 200, paid_sat: 599_800 });
        assert_eq!((row.capacity_sat, row.funded_locally, row.end), (1_000_000, true, end));
        assert_eq!(row.funding.map(|funding| funding.vout), Some(1));
        let text = PeerText::new("no room");
        let aborted = PhaseView::Aborted { cause: OpeningFailure::Counterparty { text } };
        let hubs = kept(&ChannelView { opener: Side::Counterparty, ..view(aborted) });
        let end = ChannelEnd::Aborted { why: "the counterparty gave up: no room".to_owned() };
        assert_eq!((hubs.funded_locally, hubs.end), (false, end));
    }
}
