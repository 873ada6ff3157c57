//! Fixed-size byte strings with names: a hash is never taken for a key, and a secret never reaches a log.
//!
//! In binary formats they are written as their bytes and nothing else, in readable ones as hexadecimal digits.

use std::fmt;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::{DisplayHex, FromHex};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserializer, Serializer};

/// Reads a value of the journal's encoding (postcard) that takes all of `bytes`. None if they are no such value, or if any are
/// left over: what is not what was written is damaged.
pub fn read_all<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

pub(crate) fn serialize_array<S: Serializer, const N: usize>(
    bytes: &[u8; N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return serializer.collect_str(&bytes.as_hex());
    }
    let mut tuple = serializer.serialize_tuple(N)?;
    for byte in bytes {
        tuple.serialize_element(byte)?;
    }
    tuple.end()
}

struct ArrayVisitor<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for ArrayVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{N} bytes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; N], E> {
        <[u8; N]>::from_hex(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<[u8; N], A::Error> {
        let mut bytes = [0; N];
        for (position, byte) in bytes.iter_mut().enumerate() {
            *byte = sequence.next_element()?.ok_or_else(|| A::Error::invalid_length(position, &self))?;
        }
        Ok(bytes)
    }
}

pub(crate) fn deserialize_array<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    if deserializer.is_human_readable() {
        return deserializer.deserialize_str(ArrayVisitor);
    }
    deserializer.deserialize_tuple(N, ArrayVisitor)
}

/// Declares a named byte string; `shown` ones print as hexadecimal digits, `secret` ones print no digit.
macro_rules! named_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal, $visibility:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The number of bytes.
            pub const LENGTH: usize = $length;

            /// Wraps the bytes without judging them.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// Copies a slice of exactly the right length; `None` for another length.
            pub fn from_slice(slice: &[u8]) -> Option<Self> {
                slice.try_into().ok().map(Self)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// A copy of the bytes.
            pub const fn to_bytes(self) -> [u8; $length] {
                self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::bytes::serialize_array(&self.0, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::bytes::deserialize_array(deserializer).map(Self)
            }
        }

        named_bytes!(@$visibility $name);
    };
    (@shown $name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&bitcoin::hex::DisplayHex::as_hex(&self.0), formatter)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = bitcoin::hex::HexToArrayError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                bitcoin::hex::FromHex::from_hex(text).map(Self)
            }
        }
    };
    (@secret $name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{}(hidden)", stringify!($name))
            }
        }
    };
}
pub(crate) use named_bytes;

named_bytes!(
    /// SHA-256 of a payment preimage: what locks an HTLC.
    PaymentHash,
    32,
    shown
);

named_bytes!(
    /// Opens every HTLC locked by its SHA-256. A secret until it is used.
    PaymentPreimage,
    32,
    secret
);

impl PaymentPreimage {
    /// The hash that this preimage opens.
    pub fn payment_hash(&self) -> PaymentHash {
        PaymentHash(sha256::Hash::hash(&self.0).to_byte_array())
    }
}

named_bytes!(
    /// Names one channel's keys: 32 random bytes, never used for a second channel.
    KeyId,
    32,
    shown
);
