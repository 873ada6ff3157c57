//! Two parties with signers of their own build, sign and spend each other's transactions; Bitcoin's own script
//! interpreter is the judge.

// All of this is a test, its helpers too: a value that is not there fails it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod transactions {
    pub mod builder;
    pub mod claim_cases;
    pub mod claim_flaws;
    pub mod claims;
    pub mod pair;
    pub mod secrets;
    pub mod spends;
    pub mod tickets;
}
