//! `hubd checkpoint`: turns a journal that was not stopped cleanly into snapshots, with the version that wrote it.

use std::time::Duration;

use journal::Batch;
use shard::Mail;
use tokio::sync::mpsc;

use bitcoin::hashes::{Hash, sha256};

use crate::chain::DeskState;
use crate::control::ControlMail;
use crate::limits::STOP_TIMEOUT;
use crate::recover::{Recovered, Shared};
use crate::serve::spawn_shards;
use crate::stop::{Exit, Failed};
use crate::threads::{Ended, Who, spawn_control};

/// Snapshots every machine and closes the journal. Nothing is sent, published or signed. Answers the rows left, which
/// are 0 when all went well.
pub fn checkpoint(
    recovered: Recovered,
    journal: std::thread::JoinHandle<()>,
    ends_sender: &mpsc::UnboundedSender<Ended>,
    ends: &mut mpsc::UnboundedReceiver<Ended>,
) -> Result<u64, Failed> {
    let Recovered { shared, shards, control, desk, to_desk: _, desk_snapshots: _ } = recovered;
    snapshot_desk(&shared, desk)?;
    let count = shards.len();
    // Kept: a shard whose resume channel is gone would end at once.
    let _resumes = spawn_shards(shards, &shared, ends_sender)?;
    spawn_control(control.0, control.1, ends_sender.clone()).map_err(Failed::with(Exit::CannotStart))?;
    shared.mailboxes.every_shard(|| Mail::Stop);
    wait(ends, |who| matches!(who, Who::Shard(_)), count)?;
    shared.mailboxes.control(ControlMail::Stop);
    wait(ends, |who| who == Who::Control, 1)?;
    shared.log.close();
    let rows = wait(ends, |who| who == Who::Journal, 1)?;
    let _ = journal.join();
    Ok(rows.unwrap_or(0))
}

/// The desk has nothing to do offline but to write down what it knows, and what it was telling channels when it died.
pub fn snapshot_desk(shared: &Shared, state: DeskState) -> Result<(), Failed> {
    let DeskState { replay, machine } = state;
    let Some(payload) = replay.snapshot() else { return Ok(()) };
    let mut batch = Batch::default();
    let hash = sha256::Hash::hash(&payload).to_byte_array();
    batch.snapshots.push(machine.snapshot(payload, hash));
    shared.log.append(batch).map_err(Failed::with(Exit::Fault))?;
    Ok(())
}

fn wait(
    ends: &mut mpsc::UnboundedReceiver<Ended>,
    who: impl Fn(Who) -> bool,
    count: usize,
) -> Result<Option<u64>, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(Failed::with(Exit::CannotStart))?;
    let timeout: Duration = STOP_TIMEOUT;
    runtime.block_on(crate::serve::wait_end(ends, who, count, timeout))
}
