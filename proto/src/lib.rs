//! What crosses process borders: the generated types of `proto/`, and their strict translation to the domain's types.
//!
//! It promises: nothing that came over the wire reaches a channel unless every length, range and kind in it was checked
//! ([`WireError`] names what was wrong and what was expected), and encoding then decoding is the identity. It never
//! does I/O, reads no clock and keeps no state.
//!
//! In use: [`handshake`] opens a connection, [`frame`] takes frames apart and puts them together, [`message`] and [`relay`]
//! translate what is in them, [`view`] shows channels and what happened to them, [`json`] does so for scripts, [`page`] bounds the pages of lists, [`error`] gives every gRPC error its
//! machine-readable half, [`request_id`] makes repeats harmless, [`tick_times`] counts how long things took.

pub mod error;
pub mod fields;
pub mod frame;
pub mod handshake;
pub mod json;
pub mod limits;
pub mod message;
pub mod onchain;
pub mod page;
pub mod parameters;
pub mod relay;
pub mod request_id;
pub mod text;
pub mod tick_times;
pub mod view;
pub mod wire_error;

pub use wire_error::WireError;

/// The wallet-facing and the operator's services, and what they share.
pub mod hub {
    /// Package `hub.v1`, generated.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        tonic::include_proto!("hub.v1");
    }
}

/// The service of a wallet's daemon.
pub mod wallet {
    /// Package `wallet.v1`, generated.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        tonic::include_proto!("wallet.v1");
    }
}

/// The encoded `FileDescriptorSet` of all packages, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
