//! Wallets' connections. One [`Session`] a connection; a newer one of the same wallet supersedes the older.
//!
//! ```text
//! connection::serve ── handshake ──▶ Sessions::begin ──▶ reader: frames ─▶ mailboxes      (window: credits)
//!                                                   └──▶ writer: outgoing ─▶ frames       (queue: bounded)
//! ```

mod connection;
mod handshake;
mod inbox;
mod outgoing;
mod registry;

pub use connection::{Serving, serve};
pub use handshake::{HandshakeSetup, shake};
pub use inbox::InboxSetup;
pub use outgoing::{Ending, Outgoing, ToWallet, Writer, channel};
pub use registry::{BeginError, Connected, Session, Sessions};
