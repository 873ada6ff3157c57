//! Reads of retained rows and events. Everything seen here is durable.
#![allow(clippy::unimplemented)]

use crate::error::{EventsError, ReadError};

/// Reads retained rows and events. Cheap to clone; used from many threads at once, and never waits for a commit.
/// The file stays locked until the last reader is dropped.
#[derive(Debug, Clone)]
pub struct Reader {}

impl Reader {
    /// The value of a retained row.
    pub fn get(&self, _table: u8, _key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        unimplemented!()
    }

    /// Up to `max` retained rows of a table whose keys begin with `prefix`, in the order of keys, after the key
    /// `after` if one is given: the last key of one page is the `after` of the next. Fewer may come when they
    /// are large ([`MAX_RANGE_READ_BYTES`](crate::limits::MAX_RANGE_READ_BYTES)), but none only at the end.
    pub fn range(
        &self,
        _table: u8,
        _prefix: &[u8],
        _after: Option<&[u8]>,
        _max: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
        unimplemented!()
    }

    /// Up to `max` events from `index` on, with their indices. Fewer may come when they are large
    /// ([`MAX_EVENTS_READ_BYTES`](crate::limits::MAX_EVENTS_READ_BYTES)); none when `index` is the next to be written.
    pub fn events_from(&self, _index: u64, _max: usize) -> Result<Vec<(u64, Vec<u8>)>, EventsError> {
        unimplemented!()
    }

    /// The index of the oldest event kept; equal to [`next_event`](Reader::next_event) when none is.
    pub fn oldest_event(&self) -> u64 {
        unimplemented!()
    }

    /// The index that the next event will get; the first of all has index 1.
    pub fn next_event(&self) -> u64 {
        unimplemented!()
    }
}
