//! Measurements of the real processes, with the machine's raw costs timed in the same run, so that figures of different
//! machines and days can be compared.

pub mod payments;
pub mod process;
pub mod raw;
