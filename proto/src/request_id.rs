//! Request ids: UUIDs of version 7 (RFC 9562), which carry the time they were made, so that one too old to be remembered is
//! refused instead of being executed a second time.

use crate::error::{ErrorCode, ErrorDetail, detail};
use crate::limits::{REQUEST_ID_AHEAD_MS, REQUEST_ID_MEMORY_MS};

/// A request id, checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

/// What was wrong with a request id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestIdError {
    #[error("the request_id is not a UUID of version 7, such as 018f3b6e-8f4a-7c3d-9b1a-0242ac120002")]
    Malformed,
    #[error(
        "the request_id was made {age_ms} ms ago; ids are remembered for {limit_ms} ms, so it may have been executed already"
    )]
    TooOld { age_ms: u64, limit_ms: u64 },
    #[error("the request_id was made {ahead_ms} ms in the future; check the clocks")]
    InFuture { ahead_ms: u64 },
}

impl RequestId {
    /// Makes one from the time (milliseconds since 1970, 48 bits of it are kept) and 10 random bytes.
    pub fn new(now_ms: u64, random: [u8; 10]) -> Self {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&random);
        id[6] = 0x70 | (id[6] & 0x0f);
        id[8] = 0x80 | (id[8] & 0x3f);
        Self(id)
    }

    /// Reads the text form, with or without hyphens.
    pub fn parse(text: &str) -> Result<Self, RequestIdError> {
        let mut id = [0u8; 16];
        let mut digits = 0;
        for (at, character) in text.bytes().enumerate() {
            if character == b'-' && text.len() == 36 && matches!(at, 8 | 13 | 18 | 23) {
                continue;
            }
            let digit = char::from(character).to_digit(16).ok_or(RequestIdError::Malformed)?;
            let byte = id.get_mut(digits / 2).ok_or(RequestIdError::Malformed)?;
            *byte = (*byte << 4) | u8::try_from(digit).map_err(|_| RequestIdError::Malformed)?;
            digits += 1;
        }
        if digits != 32 || (text.len() != 32 && text.len() != 36) {
            return Err(RequestIdError::Malformed);
        }
        Self::from_bytes(id)
    }

    /// Checks version and variant.
    pub fn from_bytes(id: [u8; 16]) -> Result<Self, RequestIdError> {
        if id[6] >> 4 == 7 && id[8] >> 6 == 2 { Ok(Self(id)) } else { Err(RequestIdError::Malformed) }
    }

    /// When it was made, in milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.0[..6].iter().fold(0, |time, byte| (time << 8) | u64::from(*byte))
    }

    /// Refuses ids that may have been forgotten, and ids from the future (which would be remembered too long).
    pub fn check_age(&self, now_ms: u64) -> Result<(), RequestIdError> {
        let made = self.time_ms();
        if made > now_ms.saturating_add(REQUEST_ID_AHEAD_MS) {
            return Err(RequestIdError::InFuture { ahead_ms: made - now_ms });
        }
        let age_ms = now_ms.saturating_sub(made);
        if age_ms > REQUEST_ID_MEMORY_MS {
            return Err(RequestIdError::TooOld { age_ms, limit_ms: REQUEST_ID_MEMORY_MS });
        }
        Ok(())
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RequestId({self})")
    }
}

impl From<RequestIdError> for ErrorDetail {
    fn from(error: RequestIdError) -> Self {
        let code = match error {
            RequestIdError::Malformed | RequestIdError::InFuture { .. } => ErrorCode::RequestIdMalformed,
            RequestIdError::TooOld { .. } => ErrorCode::RequestIdTooOld,
        };
        ErrorDetail { field: "request_id".to_owned(), ..detail(code, error.to_string()) }
    }
}
