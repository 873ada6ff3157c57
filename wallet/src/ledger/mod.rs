//! The ledger: invoices, payments, and streams of both directions. An owner in the forward protocol (DESIGN section 7),
//! with the channels at its other end.
//!
//! - As the paying end (A) it gives each HTLC a number, offers it to a channel, and keeps it until the channel's result is
//!   recorded; then it acknowledges. Another channel is tried only after a durable failure.
//! - As the paid end (B) it decides once about each key, records the decision, and gives the same answer until it is
//!   acknowledged. **A preimage leaves only for an HTLC with the right hash, amount, expiry and secret.**
//!
//! Invariants: a payment hash is never in flight twice, and never paid again once settled; a stream's index is recorded before
//! it is used and never used twice; the state is the fold of [`apply`] over the records.
//!
//! Pure: time, height and randomness are handed in. In use: [`Ledger::restore`], [`Ledger::resume`] once the chain is at its tip, then
//! commands and [`Ledger::internal`]; after each round [`Ledger::close`], whose batch goes into the log before its messages
//! go to channels, and whose other effects wait until it is durable.

pub mod apply;
pub mod entry;
pub mod refusal;
pub mod runs;
pub mod secrets;
pub mod state;

mod incoming;
mod invoices;
mod payees;
mod payers;
mod payments;
mod prune;
pub mod requests;
mod restore;
mod times;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use channel::amount::Msat;
use channel::failure::FailureReason;
use channel::forward::{ForwardKey, Internal, Offer};
use channel::ids::{OwnerId, StreamId};
use channel::keys::Point;
use channel::signer::Signer;
use channel::stream::StreamKey;
use journal::{Batch, MachineId};
use prost::Message;
use proto::hub::v1::HubPolicy;
use proto::relay::Relay;
use shard::MachineLog;

use crate::directory::Directory;
use apply::{Done, apply};
use entry::{Entry, KeyRun, TickRun};
use runs::Run;
use state::{State, ToldPolicy};
use times::TickTimes;

pub use invoices::{InvoiceRequest, Read as ReadInvoice, read as read_invoice};
pub use payers::{Pace, StreamRequest};
pub use payments::{PayRequest, SendRequest};
pub use refusal::LedgerRefusal;
pub use restore::RestoreError;

/// The ledger's number among the machines of the process (ARCH: control).
pub const LEDGER: OwnerId = OwnerId(1);

/// The same as the journal knows it.
pub const MACHINE: MachineId = MachineId(1);

/// What decisions may look at besides the state.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    pub now_ms: u64,
    /// Microseconds of a clock that never goes back, from any beginning: for measuring only.
    pub now_us: u64,
    pub height: u32,
    pub settings: &'a Settings,
    pub hub: Point,
    /// None before the first connection.
    pub prices: Option<Prices>,
    pub directory: &'a Directory,
}

/// What the configuration decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// "regtest".
    pub network: bitcoin::Network,
    /// Blocks the last HTLC of a payment to this wallet must have left (BOLT 11 `min_final_cltv_expiry_delta`).
    pub min_final_expiry_blocks: u32,
    /// Highest fee without being asked: the greater of these two.
    pub max_fee_msat: Msat,
    pub max_fee_percent: u32,
    /// Payments without an invoice are taken.
    pub accept_spontaneous: bool,
    /// Ticks in flight when the caller does not say, and the most that are allowed.
    pub stream_window: u32,
}

/// What the hub charges, as it told at the last connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    pub fee_base_msat: u64,
    pub fee_ppm: u32,
    pub cltv_expiry_delta: u32,
    pub max_cltv_expiry_delta: u32,
    pub htlc_minimum_msat: Msat,
}

impl From<&HubPolicy> for Prices {
    /// Prices above every amount stay at the most there can be.
    fn from(policy: &HubPolicy) -> Self {
        Prices {
            fee_base_msat: policy.fee_base_msat,
            fee_ppm: policy.fee_ppm,
            cltv_expiry_delta: policy.cltv_expiry_delta,
            max_cltv_expiry_delta: policy.max_cltv_expiry_delta,
            htlc_minimum_msat: Msat::new(policy.htlc_minimum_msat).unwrap_or(Msat::MAX),
        }
    }
}

impl Prices {
    /// What the hub takes for passing on `amount`.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        let proportional = u128::from(amount.to_u64()) * u128::from(self.fee_ppm) / 1_000_000;
        Msat::new(u64::try_from(u128::from(self.fee_base_msat) + proportional).ok()?)
    }
}

/// What one round did. The batch goes into the log first; then `internals` may leave; the rest waits for the disk.
#[derive(Debug, Default)]
pub struct Outputs {
    pub batch: Batch,
    pub internals: Vec<(OwnerId, Internal)>,
    pub relays: Vec<Relay>,
    pub done: Vec<Done>,
}

/// Entries of the same kind in a round become one record. What is here has been applied already.
#[derive(Debug, Default)]
struct Pending {
    received: BTreeMap<StreamId, Vec<TickRun>>,
    acknowledged: Vec<KeyRun>,
    settled: BTreeMap<StreamId, Vec<Run>>,
    failed: BTreeMap<(StreamId, u32), Vec<Run>>,
}

/// The ledger with what it needs to act. See the module's page.
pub struct Ledger {
    state: State,
    log: MachineLog,
    signer: Arc<dyn Signer>,
    /// Of live streams; follows from state and seed.
    keys: BTreeMap<StreamId, StreamKey>,
    /// Not recorded: when paid streams may send again, and when receipts were given.
    pace: BTreeMap<StreamId, Pace>,
    receipts_given_ms: BTreeMap<StreamId, u64>,
    times: BTreeMap<StreamId, TickTimes>,
    /// HTLCs that pay hold invoices; the channels offer them again after a restart.
    waiting: BTreeMap<ForwardKey, Offer>,
    out: Outputs,
    pending: Pending,
    now_ms: u64,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Ledger {
    /// A ledger without history.
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Ledger::with_state(State::default(), MachineLog::new(MACHINE), signer)
    }

    fn with_state(state: State, log: MachineLog, signer: Arc<dyn Signer>) -> Self {
        Ledger {
            state,
            log,
            signer,
            keys: BTreeMap::new(),
            pace: BTreeMap::new(),
            receipts_given_ms: BTreeMap::new(),
            times: BTreeMap::new(),
            waiting: BTreeMap::new(),
            out: Outputs::default(),
            pending: Pending::default(),
            now_ms: 0,
        }
    }

    /// What it knows, ahead of the disk: answers made from it wait for the position of the latest append.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Ends a round. Everything since the last call is in the batch.
    pub fn close(&mut self) -> Outputs {
        self.flush();
        let mut told = BTreeSet::new();
        // A stream that took several steps in a round is told of once, as it is now.
        self.out.done.retain(|done| match done {
            Done::Stream(id) => told.insert(*id),
            Done::Payment(_) => true,
        });
        for done in &self.out.done {
            if let Some(event) = crate::history::event(&self.state, done, self.now_ms) {
                self.out.batch.events.push(event);
            }
            self.out.batch.retained.extend(crate::history::row(done));
        }
        std::mem::take(&mut self.out)
    }

    /// A message from a channel.
    pub fn internal(&mut self, message: Internal, env: &Env<'_>) {
        self.now_ms = env.now_ms;
        match message {
            Internal::Offer(offer) => self.offered(&offer, env),
            Internal::Result { key, from, result } => self.resulted(key, from, result, env),
            Internal::Ack { key } => self.acknowledged(&key),
        }
    }

    /// Records an entry and takes its step.
    fn record(&mut self, entry: &Entry) {
        self.flush();
        self.log.record(&mut self.out.batch, |out| entry.encode(out));
        apply(&mut self.state, entry, &mut self.out.done);
    }

    /// Takes a step whose record is written with others like it at the end of the round.
    fn step(&mut self, entry: &Entry) {
        apply(&mut self.state, entry, &mut self.out.done);
    }

    fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let now_ms = self.now_ms;
        let settled = pending.settled.into_iter().map(|(id, runs)| Entry::TicksSettled { id, runs });
        let failed = pending.failed.into_iter().filter_map(|((id, code), runs)| {
            let reason = FailureReason::from_code(code)?;
            Some(Entry::TicksFailed { id, runs, reason })
        });
        let received =
            pending.received.into_iter().map(|(id, runs)| Entry::TicksReceived { id, runs, now_ms });
        let runs = pending.acknowledged;
        let acknowledged = (!runs.is_empty()).then_some(Entry::Acknowledged { runs });
        for entry in settled.chain(failed).chain(received).chain(acknowledged) {
            self.log.record(&mut self.out.batch, |out| entry.encode(out));
        }
    }

    fn send(&mut self, to: OwnerId, message: Internal) {
        self.out.internals.push((to, message));
    }

    /// Step 4 of the forward protocol, as its paid end: the result may be forgotten.
    fn acknowledged(&mut self, key: &ForwardKey) {
        if !self.state.held.contains_key(key) {
            return;
        }
        let run = KeyRun { incoming: key.incoming, attempt: key.attempt, htlc_id: key.htlc_id, count: 1 };
        self.step(&Entry::Acknowledged { runs: vec![run] });
        if !self.pending.acknowledged.last_mut().is_some_and(|last| last.extend(key)) {
            self.pending.acknowledged.push(run);
        }
    }

    /// Forgets what is too old to matter. For the host to call now and then.
    pub fn prune(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if prune::is_due(&self.state, now_ms) {
            self.record(&Entry::Pruned { now_ms });
        }
        self.times.retain(|id, _| self.state.payers.contains_key(id));
        self.keys.retain(|id, _| self.state.payers.contains_key(id) || self.state.payees.contains_key(id));
        self.receipts_given_ms.retain(|id, _| self.state.payees.contains_key(id));
    }

    /// What the hub told of its policy at a connection: kept, so that invoices can be made before the next.
    pub fn policy_told(&mut self, hub: Point, policy: &HubPolicy, now_ms: u64) {
        self.now_ms = now_ms;
        let policy = ToldPolicy { hub, encoded: policy.encode_to_vec() };
        if self.state.policy.as_ref() != Some(&policy) {
            self.record(&Entry::PolicyTold { policy });
        }
    }

    /// This wallet's node key.
    pub fn node_id(&self) -> Point {
        self.signer.node_id()
    }

    /// This hub's policy as it was told last, in this process or an earlier one.
    pub fn policy(&self, hub: &Point) -> Option<HubPolicy> {
        let told = self.state.policy.as_ref().filter(|told| told.hub == *hub)?;
        HubPolicy::decode(told.encoded.as_slice()).ok()
    }
}
