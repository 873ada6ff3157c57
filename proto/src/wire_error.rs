//! What can be wrong with bytes from the wire: one variant a rule, with what was found and what was expected.

use crate::hub::v1::ErrorCode;

/// A frame, or a message in it, that cannot be taken. The sender's fault; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the frame has {got} bytes; at most {limit} are allowed")]
    FrameTooLarge { got: usize, limit: usize },
    #[error("{what} is of no known kind")]
    UnknownKind { what: &'static str },
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field} has {got} bytes, not {expected}")]
    WrongLength { field: &'static str, got: usize, expected: usize },
    #[error("{field} has {got} bytes; at most {limit} are allowed")]
    TooLong { field: &'static str, got: usize, limit: usize },
    #[error("there are {got} {what}; at most {limit} are allowed")]
    TooMany { what: &'static str, got: usize, limit: usize },
    #[error("{field} is {got}, not within {least} to {most}")]
    OutOfRange { field: &'static str, got: u64, least: u64, most: u64 },
    #[error("{field} has the unknown value {got}")]
    UnknownValue { field: &'static str, got: i64 },
    #[error("{field} is not a compressed point of the curve")]
    NotAPoint { field: &'static str },
    #[error("{field} is not a signature: a half is zero or out of range")]
    NotASignature { field: &'static str },
    #[error("{field} is not a bitcoin transaction in consensus encoding")]
    NotATransaction { field: &'static str },
}

impl WireError {
    /// The code that a goodbye or a gRPC status carries.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::FrameTooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::Missing { .. } => ErrorCode::MissingField,
            Self::TooMany { .. } => ErrorCode::LimitReached,
            Self::UnknownKind { .. } | Self::UnknownValue { .. } => ErrorCode::FrameMalformed,
            Self::WrongLength { .. }
            | Self::TooLong { .. }
            | Self::OutOfRange { .. }
            | Self::NotAPoint { .. }
            | Self::NotASignature { .. }
            | Self::NotATransaction { .. } => ErrorCode::BadField,
        }
    }

    /// The field that was wrong, by its name in the .proto file; empty when no single one was.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Missing { field }
            | Self::WrongLength { field, .. }
            | Self::TooLong { field, .. }
            | Self::OutOfRange { field, .. }
            | Self::UnknownValue { field, .. }
            | Self::NotAPoint { field }
            | Self::NotASignature { field }
            | Self::NotATransaction { field } => field,
            Self::FrameTooLarge { .. } | Self::UnknownKind { .. } | Self::TooMany { .. } => "",
        }
    }
}
