//! What is appended: records, snapshots, retained rows and events, in one [`Batch`] that becomes durable
//! whole or not at all.

/// A state machine whose inputs the journal keeps: a channel, or another one such as the on-chain wallet or
/// the chain's tip. Small numbers are stored in fewer bytes. A number is never used again after its
/// [tombstone](Content::Tombstone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub u64);

impl std::fmt::Display for MachineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "machine {}", self.0)
    }
}

/// The number of an appended batch: 1 for the first after opening, then rising by one. Positions order the
/// batches of one run; they are not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// One input of one machine, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub machine: MachineId,
    /// 1 for the machine's first input, then rising by one without a gap.
    pub sequence: u64,
    /// At most [`MAX_RECORD_BYTES`](crate::limits::MAX_RECORD_BYTES).
    pub payload: Vec<u8>,
}

/// One input of one machine, borrowed from a batch or from a row that is being replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    pub machine: MachineId,
    pub sequence: u64,
    pub payload: &'a [u8],
}

impl RecordRef<'_> {
    /// Copies the payload.
    pub fn to_record(&self) -> Record {
        Record { machine: self.machine, sequence: self.sequence, payload: self.payload.to_vec() }
    }
}

/// The records of a batch, in order, with their payloads in one buffer: a record costs no allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    heads: Vec<Head>,
    payloads: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    machine: MachineId,
    sequence: u64,
    /// Where the payload ends in the buffer; it starts where the one before ends.
    end: usize,
}

impl Records {
    /// Adds a record at the end.
    pub fn push(&mut self, machine: MachineId, sequence: u64, payload: &[u8]) {
        self.push_with(machine, sequence, |buffer| buffer.extend_from_slice(payload));
    }

    /// Adds a record whose payload `encode` appends to the buffer it is given. It must only append.
    pub fn push_with(&mut self, machine: MachineId, sequence: u64, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.payloads);
        self.heads.push(Head { machine, sequence, end: self.payloads.len() });
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        let mut start = 0;
        self.heads.iter().map(move |head| {
            let payload = &self.payloads[start..head.end];
            start = head.end;
            RecordRef { machine: head.machine, sequence: head.sequence, payload }
        })
    }

    pub fn len(&self) -> usize {
        self.heads.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The sum of the payloads' lengths.
    pub fn payload_bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Moves all records of `other` behind the ones here.
    pub fn append(&mut self, other: &mut Records) {
        let shift = self.payloads.len();
        self.payloads.append(&mut other.payloads);
        self.heads.extend(other.heads.drain(..).map(|head| Head { end: head.end + shift, ..head }));
    }
}

impl From<&[Record]> for Records {
    fn from(records: &[Record]) -> Self {
        let mut all = Records::default();
        for record in records {
            all.push(record.machine, record.sequence, &record.payload);
        }
        all
    }
}

/// A machine's state after its input number `sequence` (0: before its first).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub machine: MachineId,
    /// At most the machine's latest sequence, the records of the same batch included. A snapshot older than
    /// the one already kept is ignored; an equal one replaces it.
    pub sequence: u64,
    pub content: Content,
}

/// What a snapshot says about its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The state: the payload carries its own version (at most
    /// [`MAX_SNAPSHOT_BYTES`](crate::limits::MAX_SNAPSHOT_BYTES)); the hash is kept and not interpreted.
    State { payload: Vec<u8>, hash: [u8; 32] },
    /// The machine is gone: forget it. The sequence must be the machine's latest, and no record of it follows.
    Tombstone,
}

/// A change to a row that is kept until it is deleted: revocation log, request ids, publish jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// The caller's name for a family of rows.
    pub table: u8,
    /// At most [`MAX_RETAINED_KEY_BYTES`](crate::limits::MAX_RETAINED_KEY_BYTES).
    pub key: Vec<u8>,
    /// `Some` puts the value (at most [`MAX_RETAINED_VALUE_BYTES`](crate::limits::MAX_RETAINED_VALUE_BYTES)),
    /// `None` deletes the row if there is one.
    pub value: Option<Vec<u8>>,
}

/// What is appended at once. It becomes durable whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub records: Records,
    /// Taken after this batch's records.
    pub snapshots: Vec<Snapshot>,
    /// Applied in order.
    pub retained: Vec<Retained>,
    /// Each gets the next index when it is committed. At most
    /// [`MAX_EVENT_BYTES`](crate::limits::MAX_EVENT_BYTES) each.
    pub events: Vec<Vec<u8>>,
}

impl Batch {
    /// True when it holds nothing. Appending it is allowed: its position is durable with all before it.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.snapshots.is_empty()
            && self.retained.is_empty()
            && self.events.is_empty()
    }

    /// The memory it holds while it is queued, in bytes (an estimate for the many small parts).
    pub fn queued_bytes(&self) -> usize {
        const PART: usize = 64;
        let snapshots: usize = self
            .snapshots
            .iter()
            .map(|snapshot| match &snapshot.content {
                Content::State { payload, .. } => PART + payload.len(),
                Content::Tombstone => PART,
            })
            .sum();
        let retained: usize = self
            .retained
            .iter()
            .map(|row| PART + row.key.len() + row.value.as_ref().map_or(0, Vec::len))
            .sum();
        let events: usize = self.events.iter().map(|event| PART + event.len()).sum();
        let heads = self.records.len() * size_of::<Head>();
        PART + self.records.payload_bytes() + heads + snapshots + retained + events
    }
}
