//! `hubd checkpoint`, as an operator runs it before an upgrade: the journal becomes snapshots, and nobody hears of it.

use hub::checkpoint::snapshot_desk;
use hub::control::ControlMail;
use hub::recover::Recovered;
use shard::Mail;

use super::{Begun, HubProcess, HubSetup, MOST_ROUNDS, NAME, died, seats_of};
use crate::disk::SimDisk;
use crate::process::{Died, Tasks, guarded};
use daemon::world::World;

impl HubProcess {
    /// Turns the journal on this disk into snapshots. The hub must not run.
    pub fn checkpoint(setup: &HubSetup, disk: &SimDisk, world: World) -> Result<(), Died> {
        guarded(NAME, || {
            let tasks = Tasks::new();
            let _entered = tasks.enter();
            write_down(super::recovered(setup, disk, world)?)
        })
    }
}

fn write_down(begun: Begun) -> Result<(), Died> {
    let Begun { recovered, mut committer, news } = begun;
    let Recovered { shared, shards, control: (mut control, control_mailbox), desk, .. } = recovered;
    snapshot_desk(&shared, desk).map_err(died)?;
    let mut seats = seats_of(shards, &shared);
    shared.mailboxes.every_shard(|| Mail::Stop);
    for _ in 0..MOST_ROUNDS {
        if seats.iter().all(|seat| seat.machine.stopped()) {
            shared.mailboxes.control(ControlMail::Stop);
        }
        for seat in &mut seats {
            seat.turn().map_err(died)?;
        }
        if control.stopped() {
            shared.log.close();
            return match committer.finish().map_err(died)?.log_rows {
                0 => Ok(()),
                rows => Err(died(format_args!("{rows} rows of inputs are left after a checkpoint"))),
            };
        }
        control.turn_over(None, &control_mailbox).map_err(died)?;
        if let Some(commit) = committer.turn().map_err(died)? {
            news.tell(&commit);
        }
    }
    Err(died("its checkpoint does not end"))
}
