//! Names of things: channels on the wire, key sets, and the owners of forwards inside one process.

use bitcoin::hashes::{Hash, sha256};
use serde::{Deserialize, Serialize};

use crate::keys::Point;

/// A channel's name on the wire: 32 bytes chosen by the opener when it proposes the channel, at random or by
/// [`ChannelId::of_request`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelId(pub [u8; 32]);

impl ChannelId {
    /// The name of the channel that a hub opens because a wallet's node asked for it in this request. It follows from both, so
    /// that the wallet knows what it agreed to before the hub's answer comes, and one request opens one channel.
    pub fn of_request(node: &Point, request_id: &[u8; 16]) -> Self {
        let parts = [b"hub inbound channel".as_slice(), node.as_bytes(), request_id];
        Self(sha256::Hash::hash(&parts.concat()).to_byte_array())
    }
}

/// The name of an agreed micropayment stream: 16 random bytes chosen by the payer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub [u8; 16]);

/// A machine inside one process that can own an end of a forward: a channel, or the wallet's ledger.
///
/// The number is the machine's number in the journal. It never leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OwnerId(pub u64);

/// One connection of one peer. A newer connection has a higher number; late messages of older ones are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

macro_rules! hex_text {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}
hex_text!(ChannelId);
hex_text!(StreamId);
