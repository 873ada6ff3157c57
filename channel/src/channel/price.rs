//! The price of a channel that the counterparty funded at this side's wish: what its opener keeps of the first HTLCs
//! that it offers in it.
//!
//! Invariants: `left` and all that is held make what is not paid yet, and never more than was agreed at the opening. A
//! part is held with the HTLC that it was kept of, is paid when that HTLC was fulfilled and no commitment holds it any
//! more, and is owed again when it failed. The offerer learns of an HTLC's end after its receiver, so that what it
//! believes to be left is never more than what its receiver grants.

use std::collections::BTreeMap;

use bitcoin::Amount;
use serde::{Deserialize, Serialize};

use super::Channel;
use super::htlc::Removal;
use super::state::State;
use crate::amount::Msat;
use crate::forward::Offer;
use crate::message::UpdateAddHtlc;
use crate::parameters::Side;

/// What one opening costs its accepter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Price {
    /// Agreed in all.
    pub(super) total: Msat,
    /// Opener, until the accepter answered: what a coin in the funding transaction adds.
    pub(super) coin: Msat,
    /// Neither paid nor held.
    left: Msat,
    /// Kept of HTLCs that are not gone yet, by their ids.
    held: BTreeMap<u64, Msat>,
}

/// How an HTLC ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HtlcEnd {
    Fulfilled,
    /// Or was never signed.
    Failed,
}

impl Price {
    /// None where nothing is to be paid.
    pub(super) fn agreed(total: Msat, coin: Msat) -> Option<Self> {
        let free = total.is_zero() && coin.is_zero();
        (!free).then(|| Self { total, coin, left: total, held: BTreeMap::new() })
    }

    /// The accepter takes the coin.
    pub(super) fn add_coin(&mut self) {
        let coin = std::mem::replace(&mut self.coin, Msat::ZERO);
        self.total = self.total.saturating_add(coin);
        self.left = self.left.saturating_add(coin);
    }

    fn hold(&mut self, id: u64, part: Msat) {
        self.left = self.left.saturating_sub(part);
        self.held.insert(id, part);
    }

    /// The HTLC is gone: answers what was paid with it.
    fn end(&mut self, id: u64, end: HtlcEnd) -> Msat {
        let Some(part) = self.held.remove(&id) else { return Msat::ZERO };
        match end {
            HtlcEnd::Fulfilled => part,
            HtlcEnd::Failed => {
                self.left = self.left.saturating_add(part);
                Msat::ZERO
            }
        }
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> Msat {
        self.left
    }

    /// What is still to be paid, what is held included, but not of HTLCs that were taken.
    pub(super) fn unpaid(&self, taken: impl Fn(u64) -> bool) -> Msat {
        let held = self.held.iter().filter(|(id, _)| !taken(**id));
        held.fold(self.left, |sum, (_, part)| sum.saturating_add(*part))
    }

    /// Whether the parts make no more than the whole.
    pub(super) fn adds_up(&self) -> bool {
        let parts = Msat::checked_sum(self.held.values().copied().chain([self.left]));
        parts.is_some_and(|parts| parts <= self.total)
    }
}

impl Channel {
    /// Accepter, for an audit: what was paid of the price so far. An ended channel knows it until it is forgotten.
    pub fn price_paid(&self) -> Msat {
        match &self.state.price {
            Some(price) if self.state.terms.opener == Side::Counterparty => {
                price.total.saturating_sub(self.state.price_unpaid())
            }
            Some(_) | None => Msat::ZERO,
        }
    }
}

impl State {
    /// Opener: what is kept of an offer that is about to be signed. Never more than half of it; what remains is neither
    /// below the receiver's minimum, nor trimmed where the whole was not.
    pub(super) fn part_to_keep(&self, offer: &Offer) -> Msat {
        let (Some(price), Side::Holder, None) = (&self.price, self.terms.opener, offer.forward) else {
            return Msat::ZERO;
        };
        let whole = offer.amount_msat;
        let mut rest = whole.half_rounded_up().max(self.counterparty_parameters().htlc_minimum_msat);
        if !self.is_trimmed(whole) {
            let dust_limit = Msat::from_sat(Amount::from_sat(self.terms.dust_limit_sat));
            rest = rest.max(dust_limit.unwrap_or(Msat::MAX));
        }
        price.left.min(whole.saturating_sub(rest))
    }

    /// Accepter: the most that may have been kept of an HTLC that arrives with this amount.
    pub(super) fn most_kept_of(&self, add: &UpdateAddHtlc) -> Msat {
        match (&self.price, self.terms.opener) {
            (Some(price), Side::Counterparty) => price.left.min(add.amount_msat),
            (Some(_), Side::Holder) | (None, _) => Msat::ZERO,
        }
    }

    /// A part was kept of the HTLC with this id.
    pub(super) fn hold_part(&mut self, id: u64, part: Msat) {
        if let Some(price) = &mut self.price
            && !part.is_zero()
        {
            price.hold(id, part);
        }
    }

    /// What was kept of a live HTLC that `offerer` offered: nothing unless that is the opener.
    pub(super) fn part_of(&self, offerer: Side, id: u64) -> Msat {
        let price = self.price.as_ref().filter(|_| self.terms.opener == offerer);
        price.and_then(|price| price.held.get(&id)).copied().unwrap_or(Msat::ZERO)
    }

    /// What of the price is still to be paid. Who took an HTLC has paid with it, whether the other side or the chain gives it.
    pub(super) fn price_unpaid(&self) -> Msat {
        let taken = |id: u64| {
            let received = self.htlcs.received.get(&id).filter(|_| self.terms.opener == Side::Counterparty);
            received.is_some_and(|htlc| matches!(htlc.removal, Some(Removal::Fulfilled(_))))
        };
        self.price.as_ref().map_or(Msat::ZERO, |price| price.unpaid(taken))
    }

    /// An HTLC that `offerer` offered is gone. Answers what of the price was paid with it.
    pub(super) fn end_part(&mut self, offerer: Side, id: u64, end: HtlcEnd) -> Msat {
        match &mut self.price {
            Some(price) if self.terms.opener == offerer => price.end(id, end),
            Some(_) | None => Msat::ZERO,
        }
    }
}
