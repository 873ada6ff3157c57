//! The payment channel: amounts, keys, transactions and the state machine.
//!
//! Everything here is pure: no input or output, no clock, no randomness, no threads, no iteration over hash maps, no
//! floating point. The same inputs give the same bytes on any machine, which replay and the specification's vectors rely on.
//!
//! | layer | modules |
//! | --- | --- |
//! | values | [`amount`], [`bytes`], [`keys`], [`limits`] |
//! | BOLT 3 | [`format`], [`scripts`], [`shachain`], [`parameters`], [`commitment`], [`htlc_tx`], [`witness`], [`funding`], [`closing`] |
//! | secrets | [`signer`], [`seed_signer`] |
//! | vocabulary | [`ids`], [`message`], [`failure`], [`forward`], [`event`], [`effect`], [`policy`], [`error`], [`violation`] |
//! | the state machine | [`channel`] |

pub mod amount;
pub mod bytes;
pub mod keys;
pub mod limits;

pub mod claim;
pub mod closing;
pub mod commitment;
pub mod format;
pub mod funding;
pub mod htlc_tx;
pub mod parameters;
pub mod scripts;
pub mod shachain;
pub mod witness;

mod kdf;
pub mod seed_signer;
pub mod signer;

pub mod effect;
pub mod error;
pub mod event;
pub mod failure;
pub mod forward;
pub mod ids;
pub mod message;
pub mod peer_text;
pub mod policy;
pub mod seal;
pub mod stream;
pub mod violation;

pub mod bug;
pub mod channel;
