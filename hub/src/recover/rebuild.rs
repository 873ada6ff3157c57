//! Machines from the journal's rows, once this run's number is durable.

use std::sync::{Arc, PoisonError};

use journal::{Recovery, Room};
use shard::{Setup, Shard};
use tokio::sync::mpsc;

use crate::chain::{ToDesk, recover_desk};
use crate::config::Config;
use crate::control::{Control, ControlSetup};
use crate::outlet::HubOutlet;
use crate::router::HubRouter;
use crate::stop::{Exit, Failed};

use super::{Begun, Recovered, Shared};

/// How shards are rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuild {
    /// All at once, each on a thread of its own.
    Together,
    /// One after the other, on the caller's thread.
    InTurn,
}

impl Begun {
    /// Rebuilds everything, and takes each shard's first turn. `room` tells whether there is room for new work where the
    /// journal is kept.
    pub fn rebuild(self, config: &Config, room: Room, how: Rebuild) -> Result<Recovered, Failed> {
        let Begun {
            shared,
            epoch_at: _,
            recovery,
            shards: mailboxes,
            control: control_mailbox,
            desk_snapshots,
        } = self;
        let cannot_start = Failed::with::<String>(Exit::CannotStart);
        let desk = recover_desk(&recovery).map_err(|error| cannot_start(error.to_string()))?;
        let height = desk.replay.memory().map_or(0, |memory| memory.tip().height);
        shared.tip.set(height);
        let (chain, to_desk) = mpsc::unbounded_channel();
        let control = Control::recover(control_setup(config, room, &shared, chain.clone()), &recovery)
            .map_err(|error| cannot_start(format!("the registry cannot be rebuilt: {error}")))?;
        let shards = recover_shards(&shared, height, &recovery, &chain, how)?;
        let shards = shards.into_iter().zip(mailboxes);
        Ok(Recovered {
            shared,
            shards: shards.map(|((shard, outlet), mailbox)| (shard, outlet, mailbox)).collect(),
            control: (control, control_mailbox),
            desk,
            to_desk,
            desk_snapshots,
        })
    }
}

fn control_setup(
    config: &Config,
    room: Room,
    shared: &Shared,
    chain: mpsc::UnboundedSender<ToDesk>,
) -> ControlSetup {
    ControlSetup {
        log: shared.log.clone(),
        mailboxes: shared.mailboxes.clone(),
        sessions: shared.sessions.clone(),
        directory: shared.directory.clone(),
        gate: shared.gate.clone(),
        chain,
        inbound: config.inbound.clone(),
        streams: config.streams.clone(),
        max_channels_per_wallet: config.wallets.max_channels_per_wallet,
        min_capacity_sat: config.policy.min_capacity_sat,
        room,
        world: shared.world.clone(),
    }
}

/// Rebuilds all shards and takes each one's first turn.
fn recover_shards(
    shared: &Shared,
    height: u32,
    recovery: &Recovery,
    chain: &mpsc::UnboundedSender<ToDesk>,
    how: Rebuild,
) -> Result<Vec<(Shard, HubOutlet)>, Failed> {
    let placement = shared.mailboxes.placement();
    let recover_one = |index: usize| -> Result<(Shard, HubOutlet), Failed> {
        let mut shard = Shard::recover(setup(shared, height), recovery, |owner| {
            owner.0 >= crate::placement::FIRST_CHANNEL && placement.shard_of(owner) == index
        })
        .map_err(Failed::with(Exit::CannotStart))?;
        let mut outlet = HubOutlet::new(
            index,
            shared.mailboxes.clone(),
            shared.directory.clone(),
            shared.sessions.clone(),
            chain.clone(),
        );
        shard.start(shared.world.now_ms(), &mut outlet).map_err(Failed::with(Exit::Fault))?;
        Ok((shard, outlet))
    };
    match how {
        Rebuild::InTurn => (0..placement.shards()).map(recover_one).collect(),
        Rebuild::Together => std::thread::scope(|scope| {
            let recover_one = &recover_one;
            let running: Vec<_> =
                (0..placement.shards()).map(|index| scope.spawn(move || recover_one(index))).collect();
            let panicked = |_| Failed::new(Exit::Fault, "a shard panicked while it was rebuilt");
            running.into_iter().map(|thread| thread.join().map_err(panicked)?).collect()
        }),
    }
}

fn setup(shared: &Shared, height: u32) -> Setup {
    let router = HubRouter {
        directory: shared.directory.clone(),
        policy: shared.policy.clone(),
        tip: shared.tip.clone(),
        gate: shared.gate.clone(),
    };
    Setup {
        log: shared.log.clone(),
        reader: shared.reader.clone(),
        signer: shared.signer.clone(),
        router: Arc::new(router),
        policy: shared.policy.read().unwrap_or_else(PoisonError::into_inner).clone(),
        height,
        hash_seed: u64::from_be_bytes(shared.world.random()),
    }
}
