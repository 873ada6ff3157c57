//! Millisatoshi: the unit of everything off the chain.
//!
//! An [`Msat`] never exceeds all the bitcoin there will ever be, and no arithmetic on it wraps or truncates unseen.
//! Money leaves this unit in one place only, [`Msat::to_sat_floor`], named for its rounding.

use std::fmt;

use bitcoin::Amount;
use serde::{Deserialize, Serialize};

/// Millisatoshi in a satoshi.
const MSAT_PER_SAT: u64 = 1_000;

/// An amount in millisatoshi, from 0 to 21 million bitcoin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Msat(u64);

/// More millisatoshi than there can ever be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} msat is more than 21 million bitcoin")]
pub struct AmountTooLarge(pub u64);

impl Msat {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All the bitcoin there will ever be: 21 million times 100 million satoshi, in millisatoshi.
    pub const MAX: Self = Self(2_100_000_000_000_000 * MSAT_PER_SAT);

    /// An amount in millisatoshi; `None` above [`Msat::MAX`].
    pub const fn new(msat: u64) -> Option<Self> {
        if msat <= Self::MAX.0 { Some(Self(msat)) } else { None }
    }

    /// A small amount in millisatoshi: every `u32` is within bounds, so constants need no check.
    pub const fn from_u32(msat: u32) -> Self {
        Self(msat as u64)
    }

    /// A small amount in whole satoshi: every `u32` is within bounds, so constants need no check.
    pub const fn from_sat_u32(sat: u32) -> Self {
        Self(sat as u64 * MSAT_PER_SAT)
    }

    /// Whole satoshi as millisatoshi; `None` above 21 million bitcoin.
    pub fn from_sat(amount: Amount) -> Option<Self> {
        amount.to_sat().checked_mul(MSAT_PER_SAT).and_then(Self::new)
    }

    /// The number of millisatoshi.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// Whole satoshi, rounded down, as outputs on the chain are (BOLT 3, "Commitment Transaction Outputs").
    /// The one conversion that loses money: the remainder, below a satoshi, goes to miners.
    pub const fn to_sat_floor(self) -> Amount {
        Amount::from_sat(self.0 / MSAT_PER_SAT)
    }

    /// Whether nothing is left.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum; `None` above [`Msat::MAX`].
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        // Two values of at most 2.1e18 sum to less than 2^64.
        Self::new(self.0 + other.0)
    }

    /// The difference; `None` below zero.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(msat) => Some(Self(msat)),
            None => None,
        }
    }

    /// The product; `None` above [`Msat::MAX`].
    pub const fn checked_mul(self, factor: u64) -> Option<Self> {
        match self.0.checked_mul(factor) {
            Some(msat) => Self::new(msat),
            None => None,
        }
    }

    /// The difference, or zero where there would be less than nothing. For limits and headroom, never for balances.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum, or [`Msat::MAX`]. For limits and exposure, never for balances.
    pub const fn saturating_add(self, other: Self) -> Self {
        match self.checked_add(other) {
            Some(sum) => sum,
            None => Self::MAX,
        }
    }

    /// Half of it, the odd millisatoshi included.
    pub const fn half_rounded_up(self) -> Self {
        Self(self.0.div_ceil(2))
    }

    /// The sum of many; `None` above [`Msat::MAX`].
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }
}

impl TryFrom<u64> for Msat {
    type Error = AmountTooLarge;

    fn try_from(msat: u64) -> Result<Self, AmountTooLarge> {
        Self::new(msat).ok_or(AmountTooLarge(msat))
    }
}

impl From<Msat> for u64 {
    fn from(amount: Msat) -> u64 {
        amount.0
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} msat", self.0)
    }
}

impl fmt::Debug for Msat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_all_the_bitcoin_there_will_be() {
        assert_eq!(Msat::from_sat(Amount::MAX_MONEY), Some(Msat::MAX));
        assert_eq!(Msat::from_sat(Amount::MAX_MONEY + Amount::ONE_SAT), None);
        assert_eq!(Msat::from_sat(Amount::from_sat(u64::MAX)), None);
        assert_eq!(Msat::new(Msat::MAX.to_u64() + 1), None);
    }

    #[test]
    fn arithmetic_never_leaves_the_bounds() {
        let one = Msat::from_u32(1);
        assert_eq!(Msat::MAX.checked_add(Msat::MAX), None);
        assert_eq!(Msat::MAX.checked_add(one), None);
        assert_eq!(Msat::ZERO.checked_sub(one), None);
        assert_eq!(Msat::MAX.checked_mul(2), None);
        assert_eq!(Msat::MAX.checked_mul(u64::MAX), None);
        assert_eq!(Msat::MAX.saturating_add(one), Msat::MAX);
        assert_eq!(Msat::checked_sum([Msat::MAX, Msat::ZERO]), Some(Msat::MAX));
        assert_eq!(Msat::checked_sum([Msat::MAX, one]), None);
    }

    #[test]
    fn satoshi_are_rounded_down() {
        assert_eq!(Msat::from_u32(999).to_sat_floor(), Amount::ZERO);
        assert_eq!(Msat::from_u32(1_999).to_sat_floor(), Amount::ONE_SAT);
    }

    #[test]
    fn decoding_refuses_what_cannot_exist() {
        let encoded = postcard::to_stdvec(&(Msat::MAX.to_u64() + 1)).unwrap();
        assert!(postcard::from_bytes::<Msat>(&encoded).is_err());
        let encoded = postcard::to_stdvec(&Msat::MAX).unwrap();
        assert_eq!(postcard::from_bytes::<Msat>(&encoded), Ok(Msat::MAX));
    }
}
