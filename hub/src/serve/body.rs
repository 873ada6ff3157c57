//! What of a running hub needs neither threads nor sockets: the chain's side, the sum of fees, the operator's calls.

use std::sync::Arc;

use settlement::follow::BlockSource;
use shard::{Mail, Shard};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::{Control, ControlMail};
use crate::earnings::{Earnings, sum_fees};
use crate::mailboxes::Mailbox;
use crate::operator::{OperatorHub, OperatorService};
use crate::outlet::HubOutlet;
use crate::recover::{Recovered, Shared};
use crate::stop::Failed;
use crate::threads::Ended;

use super::chain_side::{ChainSide, FromJournal, Node};

/// The asynchronous part of a running hub.
pub struct Body {
    pub shared: Shared,
    pub chain: ChainSide,
    pub operator: OperatorService,
    /// Told when the operator asks to stop.
    pub stopped: mpsc::Receiver<()>,
    /// To be cancelled when the hub stops.
    pub cancel: CancellationToken,
    /// Ends with the journal.
    pub summing: JoinHandle<()>,
}

/// What is to be turned: each with the mailbox it takes from.
pub struct Machines {
    pub shards: Vec<(Shard, HubOutlet, Mailbox<Mail>)>,
    pub control: (Control, Mailbox<ControlMail>),
}

impl Body {
    /// Starts the tasks on the runtime that the caller is in. `listen` is where wallets connect, for people.
    pub fn start<S: BlockSource>(
        config: &Config,
        recovered: Recovered,
        node: Node<S>,
        listen: String,
        ends: &mpsc::UnboundedSender<Ended>,
    ) -> Result<(Body, Machines), Failed> {
        let Recovered { shared, shards, control, desk, to_desk, desk_snapshots } = recovered;
        let cancel = CancellationToken::new();
        let from = FromJournal { state: desk, to_desk, desk_snapshots };
        let chain = ChainSide::start(config, &shared, node, from, ends, cancel.clone())?;
        let earnings = Arc::new(Earnings::default());
        let remembered = control.0.registry().earned();
        let (reader, next_event) = (shared.reader.clone(), shared.next_event.clone());
        let mailboxes = shared.mailboxes.clone();
        let summing = tokio::spawn(sum_fees(earnings.clone(), remembered, reader, next_event, mailboxes));
        // Shards published their channels when they were rebuilt.
        shared.mailboxes.control(ControlMail::Started);
        let (stop, stopped) = mpsc::channel(1);
        let operator = OperatorHub {
            shared: shared.clone(),
            config: config.clone(),
            desk: chain.desk.clone(),
            earnings,
            listen,
            stop,
            stopping: cancel.clone(),
        };
        let operator = OperatorService(Arc::new(operator));
        let body = Body { shared, chain, operator, stopped, cancel, summing };
        Ok((body, Machines { shards, control }))
    }
}
