//! Who owns what: the balances of the four commitments that count.
//!
//! Each side has its latest commitment and the next, which the following signature would make the latest. A
//! balance holds no HTLC in flight: an HTLC's amount is the offerer's before it enters a commitment, in an
//! output (or trimmed) while it is in, and after its removal the receiver's if it was fulfilled, the
//! offerer's if it failed. So for each of the four *holder + counterparty + HTLCs in it = capacity*, at every
//! step.

use serde::{Deserialize, Serialize};

use super::htlc::Removal;
use crate::amount::Msat;
use crate::parameters::Side;

/// Both balances of one commitment, without HTLCs in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Balances {
    pub(super) holder: Msat,
    pub(super) counterparty: Msat,
}

const AFFORDED: &str = "check has seen that the offerer can pay";
const WITHIN_CAPACITY: &str = "balances are parts of the capacity";

impl Balances {
    /// All of it belongs to one side.
    pub(super) const fn all_to(side: Side, amount: Msat) -> Self {
        match side {
            Side::Holder => Self { holder: amount, counterparty: Msat::ZERO },
            Side::Counterparty => Self { holder: Msat::ZERO, counterparty: amount },
        }
    }

    pub(super) const fn of(&self, side: Side) -> Msat {
        match side {
            Side::Holder => self.holder,
            Side::Counterparty => self.counterparty,
        }
    }

    fn of_mut(&mut self, side: Side) -> &mut Msat {
        match side {
            Side::Holder => &mut self.holder,
            Side::Counterparty => &mut self.counterparty,
        }
    }

    fn take(&mut self, side: Side, amount: Msat) {
        let balance = self.of_mut(side);
        *balance = balance.checked_sub(amount).expect(AFFORDED);
    }

    fn give(&mut self, side: Side, amount: Msat) {
        let balance = self.of_mut(side);
        *balance = balance.checked_add(amount).expect(WITHIN_CAPACITY);
    }
}

/// An HTLC, as far as balances go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) offerer: Side,
    pub(super) amount: Msat,
}

/// The latest and the next commitment of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SideBooks {
    pub(super) latest: Balances,
    pub(super) next: Balances,
}

impl SideBooks {
    /// An HTLC enters the next commitment.
    pub(super) fn enter(&mut self, htlc: Entry) {
        self.next.take(htlc.offerer, htlc.amount);
    }

    /// An offer that was in the next commitment only is dropped: as if it had never been.
    pub(super) fn withdraw(&mut self, htlc: Entry) {
        self.next.give(htlc.offerer, htlc.amount);
    }

    /// An HTLC leaves the next commitment.
    pub(super) fn leave(&mut self, htlc: Entry, removal: &Removal) {
        self.next.give(heir(htlc, removal), htlc.amount);
    }

    /// A removal that was in the next commitment only is forgotten.
    pub(super) fn restore(&mut self, htlc: Entry, removal: &Removal) {
        self.next.take(heir(htlc, removal), htlc.amount);
    }

    /// The next commitment was signed.
    pub(super) fn sign(&mut self) {
        self.latest = self.next;
    }
}

/// Who gets the amount of a removed HTLC.
fn heir(htlc: Entry, removal: &Removal) -> Side {
    match removal {
        Removal::Fulfilled(_) => htlc.offerer.other(),
        Removal::Failed(_) => htlc.offerer,
    }
}

/// The books of both sides' commitments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Books {
    pub(super) holder: SideBooks,
    pub(super) counterparty: SideBooks,
}

impl Books {
    /// At the opening all belongs to the opener.
    pub(super) const fn opened(opener: Side, capacity: Msat) -> Self {
        let balances = Balances::all_to(opener, capacity);
        let side = SideBooks { latest: balances, next: balances };
        Self { holder: side, counterparty: side }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureReason;
    use crate::message::Preimage;

    const FULFILLED: Removal = Removal::Fulfilled(Preimage::from_bytes([1; 32]));
    const FAILED: Removal = Removal::Failed(FailureReason::NoLiquidity);

    fn opened() -> SideBooks {
        Books::opened(Side::Holder, Msat::from_u32(1_000)).holder
    }

    fn entry(amount: u32) -> Entry {
        Entry { offerer: Side::Holder, amount: Msat::from_u32(amount) }
    }

    #[test]
    fn a_fulfilled_htlc_is_the_receivers_a_failed_one_the_offerers() {
        for (removal, holder, counterparty) in [(FULFILLED, 700, 300), (FAILED, 1_000, 0)] {
            let mut books = opened();
            books.enter(entry(300));
            assert_eq!(books.next, Balances { holder: Msat::from_u32(700), counterparty: Msat::ZERO });
            books.leave(entry(300), &removal);
            let expected =
                Balances { holder: Msat::from_u32(holder), counterparty: Msat::from_u32(counterparty) };
            assert_eq!(books.next, expected);
            assert_eq!(books.latest, opened().latest);
            books.sign();
            assert_eq!(books.latest, expected);
        }
    }

    #[test]
    fn what_was_never_signed_can_be_undone() {
        let mut books = opened();
        books.enter(entry(300));
        let entered = books;
        for removal in [FULFILLED, FAILED] {
            books.leave(entry(300), &removal);
            books.restore(entry(300), &removal);
            assert_eq!(books, entered);
        }
        books.withdraw(entry(300));
        assert_eq!(books, opened());
    }
}
