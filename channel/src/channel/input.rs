//! What a journal holds of a channel: decisions already checked. Replaying them in order gives the channel again.

/// One checked step of one channel. Only `check` and the journal's decoder make one.
#[derive(Clone, Debug, PartialEq)]
pub struct Input(pub(super) Kind);

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) enum Kind {
    Disconnected,
}

/// The bytes are no input, or no snapshot, of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the bytes are malformed")]
    Malformed,
    #[error("bytes are left over")]
    TrailingBytes,
    #[error("the version {found} is not known, this program reads {expected}")]
    UnknownVersion { found: u8, expected: u8 },
    #[error("the bytes contradict themselves")]
    Inconsistent,
}

impl Input {
    /// Appends the input's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        *out = postcard::to_extend(&self.0, std::mem::take(out))
            .expect("inputs are plain data, and a vector grows");
    }

    /// Reads what [`Input::encode`] wrote: all of `bytes`. No bytes make it panic or take more memory than they are long.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, rest) = postcard::take_from_bytes(bytes).map_err(|_| DecodeError::Malformed)?;
        if rest.is_empty() { Ok(Self(kind)) } else { Err(DecodeError::TrailingBytes) }
    }
}
