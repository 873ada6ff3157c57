//! Snapshots: all of a channel as bytes, with a version in front.

use bitcoin::hashes::{Hash, sha256};

use super::books::Balances;
use super::htlc::Which;
use super::price::Price;
use super::state::{Phase, State};
use super::{Channel, DecodeError};
use crate::amount::Msat;
use crate::parameters::Side;

/// Raised with each change of what a snapshot holds; an older one is then migrated here.
const VERSION: u8 = 3;
/// It knew no prices: `State::price`, its last field, was missing.
const WITHOUT_PRICE: u8 = 2;
/// It knew nothing of the chain: `State::onchain`, the field before, was missing too.
const WITHOUT_ONCHAIN: u8 = 1;
/// How an absent value is written.
const ABSENT: u8 = 0;

impl Channel {
    /// Everything, as bytes with a version in front.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        postcard::to_extend(&self.state, vec![VERSION]).expect("a state is plain data, and a vector grows")
    }

    /// Reads what [`Channel::encode_snapshot`] wrote: all of `bytes`. No bytes make it panic; books that do
    /// not add up are refused.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (version, rest) = bytes.split_first().ok_or(DecodeError::Malformed)?;
        let migrated;
        let content = match *version {
            VERSION => rest,
            WITHOUT_PRICE => {
                migrated = [rest, &[ABSENT]].concat();
                &migrated
            }
            WITHOUT_ONCHAIN => {
                migrated = [rest, &[ABSENT, ABSENT]].concat();
                &migrated
            }
            found => return Err(DecodeError::UnknownVersion { found, expected: VERSION }),
        };
        let (mut state, rest): (State, _) =
            postcard::take_from_bytes(content).map_err(|_| DecodeError::Malformed)?;
        if !rest.is_empty() {
            return Err(DecodeError::TrailingBytes);
        }
        if !state.is_consistent() {
            return Err(DecodeError::Inconsistent);
        }
        state.reindex();
        Ok(Self::from_state(state))
    }

    /// SHA-256 of the snapshot: equal states have equal hashes.
    pub fn state_hash(&self) -> [u8; 32] {
        Self::snapshot_hash(&self.encode_snapshot())
    }

    /// The same of a snapshot as it was written, also by an older version: what it is migrated to has another hash.
    pub fn snapshot_hash(bytes: &[u8]) -> [u8; 32] {
        sha256::Hash::hash(bytes).to_byte_array()
    }
}

impl State {
    pub(super) fn reindex(&mut self) {
        let Self { updates, htlcs, terms, .. } = self;
        let queued = updates.queued.iter().map(|offer| (offer, terms.is_trimmed(offer.amount_msat)));
        htlcs.reindex(queued);
    }

    /// What every state of a channel keeps; a snapshot that does not was damaged.
    pub(super) fn is_consistent(&self) -> bool {
        let parties = self.terms.counterparty.is_some() == self.counterparty.is_some()
            && (self.funding.is_none() || self.counterparty.is_some())
            && (self.onchain.is_none() || self.funding.is_some());
        let funded = match self.phase {
            Phase::Proposed | Phase::Building | Phase::Accepted | Phase::Aborted { .. } => true,
            Phase::FundingSent
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Closed { .. }
            | Phase::Failed { .. } => self.funding.is_some(),
        };
        let ids = self.htlcs.offered.keys().all(|id| *id < self.htlcs.next_offered_id)
            && self.htlcs.received.keys().all(|id| *id < self.htlcs.next_received_id);
        let priced = self.price.as_ref().is_none_or(Price::adds_up);
        parties && funded && ids && priced && self.is_conserved()
    }

    /// In each of the four commitments: both balances and the HTLCs in it are the capacity.
    pub(super) fn is_conserved(&self) -> bool {
        let sides = [(Side::Holder, self.books.holder), (Side::Counterparty, self.books.counterparty)];
        sides.into_iter().all(|(owner, books)| {
            self.adds_up(books.latest, |offerer| Which::latest(owner, offerer), Msat::ZERO)
                && self.adds_up(books.next, |offerer| Which::next(owner, offerer), self.queued_for(owner))
        })
    }

    /// Offers not signed yet are in the counterparty's next commitment.
    fn queued_for(&self, owner: Side) -> Msat {
        match owner {
            Side::Holder => Msat::ZERO,
            Side::Counterparty => {
                let queued = self.updates.queued.iter().map(|offer| offer.amount_msat);
                Msat::checked_sum(queued).unwrap_or(Msat::MAX)
            }
        }
    }

    fn adds_up(&self, balances: Balances, which: impl Fn(Side) -> Which, queued: Msat) -> bool {
        let offered =
            self.htlcs.offered.values().map(|htlc| (Side::Holder, htlc.state, htlc.add.amount_msat));
        let received =
            self.htlcs.received.values().map(|htlc| (Side::Counterparty, htlc.state, htlc.add.amount_msat));
        let in_flight = offered.chain(received).filter(|(offerer, state, _)| state.is_in(which(*offerer)));
        let amounts = in_flight.map(|(_, _, amount)| amount);
        Msat::checked_sum(amounts.chain([balances.holder, balances.counterparty, queued]))
            == Some(self.capacity())
    }
}
