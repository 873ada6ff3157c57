//! Reads of retained rows and events. Everything seen here is durable.

use std::ops::Bound;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable};

use crate::encoding::{self, EVENTS, EventsRow, Flaw, RETAINED};
use crate::error::{EventsError, ReadError, RowName};
use crate::limits::{MAX_EVENTS_READ_BYTES, MAX_RANGE_READ_BYTES};
use crate::store::{Store, read_error};
use crate::write::EventLog;

/// Reads retained rows and events. Cheap to clone; used from many threads at once, and never waits for a commit.
/// The file stays locked until the last reader is dropped.
#[derive(Debug, Clone)]
pub struct Reader {
    store: Arc<Store>,
}

/// The key and the value of a retained row.
pub type KeyValue = (Vec<u8>, Vec<u8>);

impl Reader {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Reader { store }
    }

    fn begin(&self) -> Result<ReadTransaction, ReadError> {
        self.store.db.begin_read().map_err(read_error)
    }

    /// The value of a retained row.
    pub fn get(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let mut full = Vec::with_capacity(1 + key.len());
        encoding::retained_key(table, key, &mut full);
        let rows = self.begin()?.open_table(RETAINED).map_err(read_error)?;
        let Some(value) = rows.get(full.as_slice()).map_err(read_error)? else { return Ok(None) };
        unseal_retained(&full, value.value()).map(|value| Some(value.to_vec()))
    }

    /// Up to `max` retained rows of a table whose keys begin with `prefix`, in the order of keys, after the key
    /// `after` if one is given: the last key of one page is the `after` of the next. Fewer may come when they
    /// are large ([`MAX_RANGE_READ_BYTES`]), but none only at the end.
    pub fn range(
        &self,
        table: u8,
        prefix: &[u8],
        after: Option<&[u8]>,
        max: usize,
    ) -> Result<Vec<KeyValue>, ReadError> {
        let mut begin = Vec::with_capacity(1 + prefix.len());
        encoding::retained_key(table, prefix, &mut begin);
        let mut from = begin.clone();
        let after = after.filter(|after| *after >= prefix);
        if let Some(after) = after {
            encoding::retained_key(table, after, &mut from);
        }
        let from = match after {
            Some(_) => Bound::Excluded(from.as_slice()),
            None => Bound::Included(from.as_slice()),
        };
        let rows = self.begin()?.open_table(RETAINED).map_err(read_error)?;
        let mut found = Vec::new();
        let mut bytes = 0;
        for row in rows.range::<&[u8]>((from, Bound::Unbounded)).map_err(read_error)? {
            let (key, value) = row.map_err(read_error)?;
            if found.len() >= max || bytes >= MAX_RANGE_READ_BYTES || !key.value().starts_with(&begin) {
                break;
            }
            let value = unseal_retained(key.value(), value.value())?;
            bytes += key.value().len() + value.len();
            found.push((key.value()[1..].to_vec(), value.to_vec()));
        }
        Ok(found)
    }

    /// Up to `max` events from `index` on, with their indices. Fewer may come when they are large
    /// ([`MAX_EVENTS_READ_BYTES`]); none when `index` is the next to be written.
    pub fn events_from(&self, index: u64, max: usize) -> Result<Vec<(u64, Vec<u8>)>, EventsError> {
        let rows = self.begin()?.open_table(EVENTS).map_err(read_error)?;
        // The bounds come from the rows of one view, so that no trim in between can make a gap.
        let EventLog { oldest, next, .. } = bounds(&rows)?;
        if index < oldest {
            return Err(EventsError::TooOld { oldest });
        }
        if index > next {
            return Err(EventsError::Ahead { next });
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut row_first = rows
            .range(..=index)
            .and_then(|mut before| before.next_back().transpose())
            .map_err(read_error)?
            .map_or(oldest, |(first, _)| first.value());
        for row in rows.range(row_first..).map_err(read_error)? {
            let (first, value) = row.map_err(read_error)?;
            row_first = first.value();
            let broken = |reason| broken_events(row_first, reason);
            let mut events = encoding::decode_events(row_first, value.value()).map_err(broken)?;
            let mut number = row_first;
            while let Some(event) = events.next().map_err(broken)? {
                if found.len() >= max || bytes >= MAX_EVENTS_READ_BYTES {
                    return Ok(found);
                }
                if number >= index {
                    bytes += event.len();
                    found.push((number, event.to_vec()));
                }
                number += 1;
            }
        }
        Ok(found)
    }

    /// The index of the oldest event kept; equal to [`next_event`](Reader::next_event) when none is.
    pub fn oldest_event(&self) -> u64 {
        self.store.events.oldest()
    }

    /// The index that the next event will get; the first of all has index 1.
    pub fn next_event(&self) -> u64 {
        self.store.events.next()
    }
}

/// What the oldest and the newest row of events tell of all kept. Without a row none was ever written, because the
/// newest always stays.
pub(crate) fn bounds(rows: &impl ReadableTable<u64, &'static [u8]>) -> Result<EventLog, ReadError> {
    let (Some((oldest, oldest_value)), Some((last, last_value))) =
        (rows.first().map_err(read_error)?, rows.last().map_err(read_error)?)
    else {
        return Ok(EventLog::default());
    };
    let (oldest, last) = (oldest.value(), last.value());
    let broken_oldest = |reason| broken_events(oldest, reason);
    let broken_last = |reason| broken_events(last, reason);
    let removed = encoding::decode_events(oldest, oldest_value.value()).map_err(broken_oldest)?.before;
    let newest = encoding::decode_events(last, last_value.value()).map_err(broken_last)?;
    let written = newest.before + last_value.value().len() as u64;
    let next = last + count_events(newest).map_err(broken_last)?;
    Ok(EventLog { oldest, next, written, removed })
}

fn count_events(mut events: EventsRow<'_>) -> Result<u64, Flaw> {
    let mut count = 0;
    while events.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn unseal_retained<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], ReadError> {
    encoding::unseal(key, value)
        .map_err(|reason| ReadError::BrokenRow { row: RowName::retained(key), reason })
}

fn broken_events(first: u64, reason: Flaw) -> ReadError {
    ReadError::BrokenRow { row: RowName::Events(first), reason }
}
