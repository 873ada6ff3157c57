//! The auditor. It believes nobody: its books hold what parties were promised and what the chain holds.

pub mod accounts;
pub mod books;
pub mod chain;
pub mod coins;
pub mod forwards;
pub mod watch;

pub use books::{Books, Broken, Party, Word};
pub use watch::Watch;
