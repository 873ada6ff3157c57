//! A hub at work: from recovered machines to a clean stop.
//!
//! Start: operator first (the state of the start is visible), then the desk follows the chain to its tip, then forwards are
//! resumed, then wallets are served. Stop: sessions, desk, shards, control, journal, in that order, so that each finds those
//! it depends on still working, and snapshots alone are left.

mod body;
mod chain_side;
mod listeners;
mod stopping;

use std::time::Duration;

use channel::signer::Signer;
use crossbeam_channel::{Receiver, Sender};
use daemon::data_dir::write_public;
use daemon::token::Token;
use settlement::desk::service::DeskHandle;
use shard::{Mail, Shard};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::data_dir::{DataDir, PROGRAM};
use crate::machines::ShardMachine;
use crate::outlet::HubOutlet;
use crate::recover::{Recovered, Shared};
use crate::stop::{Exit, Failed};
use crate::threads::{Ended, Who, journal_fault, spawn_control, spawn_shard};

pub use body::{Body, Machines};
pub use chain_side::{ChainSide, Node};
use listeners::Listeners;

/// A running hub.
struct Hub {
    shared: Shared,
    desk: DeskHandle,
    ends: mpsc::UnboundedReceiver<Ended>,
    resumes: Vec<Sender<()>>,
    listeners: Listeners,
    cancel: CancellationToken,
    /// Ends with the journal.
    summing: JoinHandle<()>,
}

/// Runs the hub until it is asked to stop (`Ok`), or something fails.
pub async fn serve(
    config: Config,
    data_dir: DataDir,
    recovered: Recovered,
    ends_sender: mpsc::UnboundedSender<Ended>,
    ends: mpsc::UnboundedReceiver<Ended>,
) -> Result<(), Failed> {
    let (mut hub, chain, mut stopped) = Hub::start(&config, &data_dir, recovered, ends_sender, ends).await?;
    match hub.run(&config, chain, &mut stopped).await {
        Ok(()) => hub.stop().await,
        Err(failed) => {
            error!(reason = %failed, "stopping at once: nothing that is not durable leaves");
            hub.cancel.cancel();
            Err(failed)
        }
    }
}

impl Hub {
    /// Starts every part and serves the operator; wallets wait until the chain was followed to its tip.
    async fn start(
        config: &Config,
        data_dir: &DataDir,
        recovered: Recovered,
        ends_sender: mpsc::UnboundedSender<Ended>,
        ends: mpsc::UnboundedReceiver<Ended>,
    ) -> Result<(Hub, ChainSide, mpsc::Receiver<()>), Failed> {
        let layout = data_dir.layout();
        let mut listeners = Listeners::bind(config, layout).await?;
        let token = Token::load_or_create(&layout.operator_token(), &PROGRAM)
            .map_err(Failed::with(Exit::CannotStart))?;
        let (node, listen) = (Node::bitcoind(config)?, listeners.wallets_address().to_string());
        let (body, machines) = Body::start(config, recovered, node, listen, &ends_sender)?;
        let Body { shared, chain, operator, stopped, cancel, summing } = body;
        let Machines { shards, control } = machines;
        let resumes = spawn_shards(shards, &shared, &ends_sender)?;
        spawn_control(control.0, control.1, ends_sender).map_err(Failed::with(Exit::CannotStart))?;
        listeners.serve_operator(operator, token, cancel.clone())?;
        let hub = Hub { shared, desk: chain.desk.clone(), ends, resumes, listeners, cancel, summing };
        Ok((hub, chain, stopped))
    }

    /// Until the first request to stop, or the first failure.
    async fn run(
        &mut self,
        config: &Config,
        mut chain: ChainSide,
        stopped: &mut mpsc::Receiver<()>,
    ) -> Result<(), Failed> {
        let mut signals = Signals::new()?;
        let node = self.shared.signer.node_id();
        info!(%node, operator = %self.listeners.operator_address(), "waiting for the chain's tip");
        let mut resumed = false;
        loop {
            tokio::select! {
                biased;
                ended = self.ends.recv() => return Err(unexpected_end(ended, &mut self.ends)),
                Some(failed) = chain.wrong.recv() => return Err(failed),
                () = signals.any() => {
                    info!("a signal asks to stop");
                    return Ok(());
                }
                _ = stopped.recv() => {
                    info!("the operator asks to stop");
                    return Ok(());
                }
                synced = self.desk.synced(), if !resumed => {
                    if synced.is_ok() {
                        resumed = true;
                        self.open_for_wallets(config)?;
                    }
                }
            }
        }
    }

    /// The chain was followed to its tip: forwards go on, wallets may come.
    fn open_for_wallets(&mut self, config: &Config) -> Result<(), Failed> {
        for resume in &self.resumes {
            let _ = resume.send(());
        }
        self.listeners.serve_wallets(&self.shared, config, self.desk.clone(), self.cancel.clone())?;
        let (address, height) = (self.listeners.wallets_address(), self.shared.tip.height());
        info!(%address, height, "serving wallets");
        Ok(())
    }
}

/// Starts the shards' threads. They resume forwards when the senders returned say so.
pub(crate) fn spawn_shards(
    shards: Vec<(Shard, HubOutlet, Receiver<Mail>)>,
    shared: &Shared,
    ends: &mpsc::UnboundedSender<Ended>,
) -> Result<Vec<Sender<()>>, Failed> {
    let mut resumes = Vec::with_capacity(shards.len());
    for (index, (shard, outlet, mailbox)) in shards.into_iter().enumerate() {
        let (resume, resumed) = crossbeam_channel::bounded(1);
        resumes.push(resume);
        let placement = shared.mailboxes.placement().clone();
        let world = shared.world.clone();
        let machine = ShardMachine::new(index, shard, outlet, placement, world);
        spawn_shard(index, machine, mailbox, resumed, ends.clone())
            .map_err(Failed::with(Exit::CannotStart))?;
    }
    Ok(resumes)
}

/// A part that ended although nobody asked it to. When the journal failed, that is named and not what others saw of it.
pub(crate) fn unexpected_end(ended: Option<Ended>, ends: &mut mpsc::UnboundedReceiver<Ended>) -> Failed {
    let ended = match ended {
        Some(ended) if ended.who != Who::Journal => Some(journal_fault(ends).unwrap_or(ended)),
        ended => ended,
    };
    match ended {
        Some(Ended { who, fault, .. }) => {
            let why = fault.unwrap_or_else(|| "it ended without being asked to".to_owned());
            Failed::new(Exit::Fault, format!("{who} failed: {why}"))
        }
        None => Failed::new(Exit::Fault, "every part ended without being asked to"),
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failed> {
        use tokio::signal::unix::{SignalKind, signal};
        let cannot = Failed::with::<std::io::Error>(Exit::CannotStart);
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).map_err(&cannot)?,
            interrupt: signal(SignalKind::interrupt()).map_err(&cannot)?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Writes where a listener really is, for scripts and tests that asked for a free port.
fn write_address(path: &std::path::Path, address: std::net::SocketAddr) -> Result<(), Failed> {
    write_public(path, format!("{address}\n").as_bytes()).map_err(Failed::with(Exit::CannotStart))
}

/// Waits for one part to end; its fault, or silence for too long, is a failure.
pub(crate) async fn wait_end(
    ends: &mut mpsc::UnboundedReceiver<Ended>,
    who: impl Fn(Who) -> bool,
    mut count: usize,
    timeout: Duration,
) -> Result<Option<u64>, Failed> {
    let mut rows_left = None;
    let all = async {
        while count > 0 {
            let Some(ended) = ends.recv().await else { return Err(unexpected_end(None, ends)) };
            if ended.fault.is_some() {
                return Err(unexpected_end(Some(ended), ends));
            }
            if who(ended.who) {
                rows_left = ended.rows_left;
                count -= 1;
            } else {
                warn!(who = %ended.who, "ended earlier than expected");
            }
        }
        Ok(())
    };
    match tokio::time::timeout(timeout, all).await {
        Ok(result) => result.map(|()| rows_left),
        Err(_) => {
            Err(Failed::new(Exit::Fault, format!("a part did not stop within {} s", timeout.as_secs())))
        }
    }
}

#[cfg(test)]
mod tests;
