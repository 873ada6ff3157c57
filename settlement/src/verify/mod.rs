//! Checking transactions before they are published.

mod coin;
mod funding;

pub use coin::CoinFlaw;
pub use funding::{FundingFlaw, FundingRules, FundingTransaction};
