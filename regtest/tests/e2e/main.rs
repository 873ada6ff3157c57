//! The whole product against a real bitcoind: every party a process of its own, as a user runs it.
//!
//! Each test makes a lab of its own, so that none depends on another and all run at once.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod chain;
mod cli;
mod crash;
mod disk;
mod fake_node;
mod foreign;
mod foreigner;
mod health;
mod hub_closes;
mod invoices;
mod payments;
mod price;
mod processes;
mod refusals;
mod rogue;
mod steering;
mod story;
mod streams;
mod support;
mod violations;
