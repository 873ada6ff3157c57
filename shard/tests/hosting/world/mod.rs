//! A small world for the tests: a hub with two shards, two wallets with a ledger each, a network and a chain, all in memory.
//! Every process journals for real and can be killed between any two steps.

pub mod disk;
pub mod ledger;
pub mod process;
pub mod random;

use std::collections::{BTreeMap, VecDeque};

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use channel::amount::Msat;
use channel::bytes::PaymentPreimage;
use channel::channel::{ChannelView, PhaseView};
use channel::closing::ClosingTerms;
use channel::event::{ChainEvent, Command, Role};
use channel::forward::{ForwardKey, ForwardResult, Offer};
use channel::ids::{ChannelId, OwnerId, SessionId, StreamId};
use channel::keys::Point;
use channel::limits::SEALED_PAYLOAD_BYTES;
use channel::message::{ForwardInstruction, Message, Recipient};
use journal::Batch;
use shard::{Answer, ChainRequest, Mail, Reply};

use self::ledger::LEDGER;
use self::process::{FEE_MSAT, Process, Running};
pub use self::random::Random;

pub const HUB: usize = 0;

/// The connection of one wallet with the hub.
#[derive(Default)]
pub struct Link {
    /// The session's name at the hub and at the wallet, while it is up.
    pub up: Option<(SessionId, SessionId)>,
    pub to_hub: VecDeque<(ChannelId, Vec<Message>)>,
    pub to_wallet: VecDeque<(ChannelId, Vec<Message>)>,
}

/// Every broadcast is in a block at once.
#[derive(Clone, Default)]
pub struct Chain {
    pub height: u32,
    pub confirmed: BTreeMap<Txid, (u32, Transaction)>,
}

pub struct World {
    pub processes: Vec<Process>,
    pub running: Vec<Option<Running>>,
    /// By wallet: link 0 is that of process 1.
    pub links: Vec<Link>,
    pub chain: Chain,
    pub streams: BTreeMap<u8, Point>,
    pub next_payment: u64,
    pub accept_in: u64,
    pub requests: Vec<(usize, OwnerId, ChainRequest)>,
    pub finished: Vec<(usize, OwnerId)>,
    /// (process, owner) that wait for a confirmation.
    watches: Vec<(usize, OwnerId, OutPoint)>,
    funded: u64,
}

impl World {
    /// A hub of two shards and wallets, running, unconnected, without channels.
    pub fn new(wallets: usize) -> World {
        let mut processes = vec![Process::new("hub", Role::Hub, 1, 2)];
        for (number, name) in ["anna", "ben", "cleo"].into_iter().take(wallets).enumerate() {
            processes.push(Process::new(name, Role::Wallet, number as u8 + 2, 1));
        }
        let streams = processes
            .iter()
            .enumerate()
            .skip(1)
            .map(|(number, wallet)| (number as u8, wallet.node()))
            .collect();
        let mut world = World {
            running: processes.iter().map(|_| None).collect(),
            links: (0..wallets).map(|_| Link::default()).collect(),
            processes,
            chain: Chain { height: 100, confirmed: BTreeMap::new() },
            streams,
            next_payment: 1,
            accept_in: 0,
            requests: Vec::new(),
            finished: Vec::new(),
            watches: Vec::new(),
            funded: 0,
        };
        world.start_all();
        world
    }

    /// The same world on copied disks, with every process freshly started from its disk. All must be quiet.
    pub fn copy(&self) -> World {
        let mut world = World {
            processes: self.processes.iter().map(Process::copy).collect(),
            running: self.running.iter().map(|_| None).collect(),
            links: self.links.iter().map(|_| Link::default()).collect(),
            chain: self.chain.clone(),
            streams: self.streams.clone(),
            next_payment: self.next_payment,
            accept_in: self.accept_in,
            requests: Vec::new(),
            finished: Vec::new(),
            watches: Vec::new(),
            funded: self.funded,
        };
        world.start_all();
        world
    }

    pub fn run(&mut self, process: usize) -> &mut Running {
        self.running[process].as_mut().expect("the process runs")
    }

    // --- Life and death -------------------------------------------------------------------------------------

    pub fn start(&mut self, process: usize) {
        if self.running[process].is_none() {
            self.watches.retain(|(of, ..)| *of != process);
            let running = self.processes[process].start(self.chain.height, &self.streams);
            self.running[process] = Some(running);
            self.carry(process);
        }
    }

    pub fn start_all(&mut self) {
        for process in 0..self.processes.len() {
            self.start(process);
        }
    }

    /// `kill -9`, with the power: what is not synced is gone, and so are all connections.
    pub fn kill(&mut self, process: usize) {
        if self.running[process].is_none() {
            return;
        }
        // Taken before the process is dropped: what a dying process would still write, it never wrote.
        let disk = self.processes[process].disk.after_power_failure();
        self.running[process] = None;
        self.processes[process].disk = disk;
        for link in 0..self.links.len() {
            if process == HUB || process == link + 1 {
                self.disconnect(link);
            }
        }
    }

    /// A clean stop: afterwards the journal holds snapshots only.
    pub fn stop(&mut self, process: usize) {
        let Some(running) = &mut self.running[process] else { return };
        running.tell_all(|| Mail::Stop);
        for _ in 0..1_000 {
            for shard in 0..running.shards.len() {
                running.turn(shard, usize::MAX);
            }
            running.commit();
            if running.shards.iter().all(shard::Shard::stopped) {
                break;
            }
        }
        assert!(running.shards.iter().all(shard::Shard::stopped));
        self.carry(process);
        let mut running = self.running[process].take().expect("it ran");
        if let Some(ledger) = &running.ledger {
            let mut batch = Batch::default();
            ledger.snapshot(&mut batch);
            running.log.append(batch).unwrap();
        }
        running.commit();
        let finished = running.committer.finish().unwrap();
        assert_eq!(finished.log_rows, 0, "pinned by {:?}", finished.pinned);
        for link in 0..self.links.len() {
            if process == HUB || process == link + 1 {
                self.disconnect(link);
            }
        }
    }

    pub fn connect(&mut self, link: usize) {
        let wallet = link + 1;
        if self.links[link].up.is_some() || self.running[HUB].is_none() || self.running[wallet].is_none() {
            return;
        }
        let (at_hub, at_wallet) = (self.processes[HUB].session(), self.processes[wallet].session());
        let (hub_node, wallet_node) = (self.processes[HUB].node(), self.processes[wallet].node());
        self.links[link].up = Some((at_hub, at_wallet));
        self.run(HUB).tell_all(|| Mail::SessionUp { node: wallet_node, session: at_hub });
        self.run(wallet).tell_all(|| Mail::SessionUp { node: hub_node, session: at_wallet });
    }

    /// The connection breaks; both ends learn of it, if they run.
    pub fn disconnect(&mut self, link: usize) {
        let Some((at_hub, at_wallet)) = self.break_link(link) else { return };
        if let Some(hub) = &mut self.running[HUB] {
            hub.tell_all(|| Mail::SessionDown { session: at_hub });
        }
        if let Some(wallet) = &mut self.running[link + 1] {
            wallet.tell_all(|| Mail::SessionDown { session: at_wallet });
        }
    }

    /// The connection breaks and a new one begins before either end learned that the old one is gone. What the old one still
    /// carried to the hub arrives late.
    pub fn supersede(&mut self, link: usize) {
        let late = std::mem::take(&mut self.links[link].to_hub);
        let Some((at_hub, _)) = self.break_link(link) else { return };
        self.connect(link);
        for (channel, messages) in late {
            self.hand_over(HUB, at_hub, link + 1, channel, messages);
        }
    }

    fn break_link(&mut self, link: usize) -> Option<(SessionId, SessionId)> {
        let link = &mut self.links[link];
        link.to_hub.clear();
        link.to_wallet.clear();
        link.up.take()
    }

    // --- Steps ----------------------------------------------------------------------------------------------

    /// One turn of a shard. True when there was something to do.
    pub fn turn(&mut self, process: usize, shard: usize, most: usize) -> bool {
        let Some(running) = &mut self.running[process] else { return false };
        let did = running.turn(shard, most);
        self.carry(process);
        did
    }

    pub fn ledger_turn(&mut self, process: usize, most: usize) -> bool {
        self.running[process].as_mut().is_some_and(|running| running.ledger_turn(most))
    }

    pub fn commit(&mut self, process: usize) -> bool {
        self.running[process].as_mut().is_some_and(Running::commit)
    }

    /// The network delivers one group of messages.
    pub fn deliver(&mut self, link: usize, to_hub: bool) -> bool {
        let Some((at_hub, at_wallet)) = self.links[link].up else { return false };
        let wallet = link + 1;
        let (queue, to, session, from) = if to_hub {
            (&mut self.links[link].to_hub, HUB, at_hub, wallet)
        } else {
            (&mut self.links[link].to_wallet, wallet, at_wallet, HUB)
        };
        let Some((channel, messages)) = queue.pop_front() else { return false };
        self.hand_over(to, session, from, channel, messages);
        true
    }

    fn hand_over(
        &mut self,
        to: usize,
        session: SessionId,
        from: usize,
        channel: ChannelId,
        messages: Vec<Message>,
    ) {
        let node = self.processes[from].node();
        let accept_in = if to == HUB { self.accept_in } else { 0 };
        if let Some(running) = &mut self.running[to] {
            running.receive(&mut self.processes[to], session, node, channel, messages, accept_in);
        }
    }

    /// One block on everybody's chain.
    pub fn block(&mut self) {
        self.chain.height += 1;
        let height = self.chain.height;
        for running in self.running.iter_mut().flatten() {
            running.tell_all(|| Mail::Height(height));
        }
    }

    /// Carries what a process handed out to the network and the chain.
    fn carry(&mut self, process: usize) {
        let outputs = std::mem::take(&mut self.run(process).outputs);
        for (session, channel, messages) in outputs.sends {
            for (number, link) in self.links.iter_mut().enumerate() {
                match link.up {
                    Some((at_hub, _)) if process == HUB && at_hub == session => {
                        link.to_wallet.push_back((channel, messages.clone()));
                    }
                    Some((_, at_wallet)) if process == number + 1 && at_wallet == session => {
                        link.to_hub.push_back((channel, messages.clone()));
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(outputs.refused, [], "no honest peer is refused");
        self.finished.extend(outputs.finished.into_iter().map(|owner| (process, owner)));
        for (owner, request) in outputs.chain {
            self.on_chain(process, owner, &request);
            self.requests.push((process, owner, request));
        }
    }

    pub fn command(&mut self, process: usize, owner: OwnerId, command: Command) {
        let running = self.run(process);
        let shard = running.shard_of(owner);
        running.mail[shard].push_back(Mail::Command { owner, command, reply: None });
    }

    fn on_chain(&mut self, process: usize, owner: OwnerId, request: &ChainRequest) {
        match request {
            ChainRequest::BuildFunding { script, amount, reserve_coin: _ } => {
                self.funded += 1;
                let transaction =
                    funding(self.funded, TxOut { value: *amount, script_pubkey: script.clone() });
                self.command(process, owner, Command::FundingBuilt { transaction, output_index: 0 });
            }
            ChainRequest::WatchFunding { outpoint, .. } => {
                self.watches.push((process, owner, *outpoint));
                self.confirm(process, owner, *outpoint);
            }
            ChainRequest::BroadcastFunding { transaction } => {
                let txid = transaction.compute_txid();
                if self.chain.confirmed.contains_key(&txid) {
                    return;
                }
                self.chain.height += 1;
                self.chain.confirmed.insert(txid, (self.chain.height, transaction.clone()));
                for (process, owner, outpoint) in self.watches.clone() {
                    if outpoint.txid == txid && self.running[process].is_some() {
                        self.confirm(process, owner, outpoint);
                    }
                }
            }
            ChainRequest::ClosingTerms => {
                let terms =
                    ClosingTerms { fee: Amount::from_sat(200), publish_by_height: self.chain.height + 100 };
                self.command(process, owner, Command::ProposeTerms(terms));
            }
            ChainRequest::ReleaseCoins { .. }
            | ChainRequest::ProvenBehind
            | ChainRequest::TicketReady(_)
            | ChainRequest::ClosingHandedOver { .. }
            | ChainRequest::Plan(_) => {}
        }
    }

    /// Tells a channel that its funding is in a block, deep enough.
    fn confirm(&mut self, process: usize, owner: OwnerId, outpoint: OutPoint) {
        let Some((height, transaction)) = self.chain.confirmed.get(&outpoint.txid) else { return };
        let output = transaction.output.get(outpoint.vout as usize).cloned();
        let confirmed = ChainEvent::FundingConfirmed { height: *height, block_index: 1, output };
        let events = vec![(owner, confirmed), (owner, ChainEvent::FundingDeep { height: *height })];
        let running = self.run(process);
        let shard = running.shard_of(owner);
        running.mail[shard].push_back(Mail::Chain { events });
    }

    // --- Users ----------------------------------------------------------------------------------------------

    /// The process opens a channel over the link, hosted by the given shards at its two ends.
    pub fn open(&mut self, opener: usize, link: usize, hub_shard: u64, capacity_sat: u64) {
        let (at_hub, at_wallet) = self.links[link].up.expect("connected");
        let (peer, session, shard) =
            if opener == HUB { (link + 1, at_hub, hub_shard) } else { (HUB, at_wallet, 0) };
        self.accept_in = hub_shard;
        let node = self.processes[peer].node();
        let request = self.processes[opener].open_request(node, session, shard, capacity_sat);
        self.run(opener).mail[shard as usize].push_back(Mail::Open { request, reply: None });
        self.settle();
    }

    /// The payee makes an invoice, if `honest`, and the payer pays it through its first channel that can. False when
    /// no channel can.
    pub fn pay(&mut self, payer: usize, payee: usize, amount_msat: u64, kind: Kind) -> bool {
        let directory = self.run(payer).directory.clone();
        let asked = Msat::new(amount_msat + FEE_MSAT).unwrap();
        let via = directory
            .lock()
            .unwrap()
            .entries
            .values()
            .find(|e| e.usable && e.spendable_msat >= asked)
            .cloned();
        let Some(via) = via else { return false };
        let number = self.next_payment;
        self.next_payment += 1;
        let preimage = preimage(number);
        if kind != Kind::Unknown {
            self.run(payee).with_ledger(|ledger, batch| {
                ledger.invoice(batch, preimage, amount_msat);
                None
            });
        }
        let height = self.chain.height;
        let recipient = match kind {
            Kind::Tick => Recipient::Stream { id: StreamId([payee as u8; 16]), index: number },
            Kind::Invoice | Kind::Unknown => Recipient::Node(self.processes[payee].node()),
        };
        let payload = if kind == Kind::Tick { Vec::new() } else { vec![7; SEALED_PAYLOAD_BYTES] };
        let offer = Offer {
            key: ForwardKey { incoming: LEDGER, htlc_id: number, attempt: 1 },
            amount_msat: asked,
            payment_hash: preimage.payment_hash(),
            cltv_expiry: height + 1_000,
            recipient,
            forward: Some(ForwardInstruction {
                amount_msat: Msat::new(amount_msat).unwrap(),
                cltv_expiry: height + 900,
            }),
            payload,
            sign_by_height: height + 500,
        };
        self.run(payer).with_ledger(|ledger, batch| Some(ledger.pay(batch, via.owner, offer)));
        true
    }

    // --- Quiet ----------------------------------------------------------------------------------------------

    /// Steps until nothing moves any more, with everybody's disk keeping up.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.step_all() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// One round of everything that can happen by itself.
    pub fn step_all(&mut self) -> bool {
        let mut did = false;
        for process in 0..self.processes.len() {
            for shard in 0..self.processes[process].shards as usize {
                let waiting = self.running[process].as_ref().is_some_and(|r| !r.mail[shard].is_empty());
                did |= waiting && self.turn(process, shard, usize::MAX);
                did |= self.running[process].as_ref().is_some_and(|r| r.shards[shard].load().backlog > 0)
                    && self.turn(process, shard, usize::MAX);
            }
            did |= self.ledger_turn(process, usize::MAX);
            did |= self.commit(process);
        }
        for link in 0..self.links.len() {
            did |= self.deliver(link, true);
            did |= self.deliver(link, false);
        }
        did
    }

    /// Everybody runs, is connected, and everything that was begun ends.
    pub fn recover_all(&mut self) {
        self.start_all();
        for link in 0..self.links.len() {
            self.connect(link);
        }
        self.settle();
    }

    /// All channels of a process, as read through its outboxes.
    pub fn channels(&mut self, process: usize) -> Vec<ChannelView> {
        let mut all = Vec::new();
        for shard in 0..self.processes[process].shards as usize {
            let answer = self.run(process).ask_channels(shard);
            self.settle();
            let answer = answer.lock().unwrap().take();
            match answer {
                Some(Reply::Answer(Answer::Channels { channels, more: None })) => all.extend(channels),
                other => panic!("not a page of channels: {other:?}"),
            }
        }
        all
    }

    /// The laws that hold when all is quiet.
    pub fn audit(&mut self) -> Tally {
        let views: Vec<Vec<ChannelView>> = (0..self.processes.len()).map(|p| self.channels(p)).collect();
        for view in views.iter().flatten() {
            assert_eq!(view.phase, PhaseView::Open, "no channel fails");
            assert_eq!(view.htlcs, 0, "no HTLC is left");
            let sum = view.holder_msat.to_u64() + view.counterparty_msat.to_u64();
            assert_eq!(sum, view.capacity.to_sat() * 1_000, "nothing is lost within a channel");
            assert_eq!(view.dust_exposure_msat, Msat::ZERO);
        }
        for view in views[1..].iter().flatten() {
            let other =
                views[HUB].iter().find(|hub| hub.channel_id == view.channel_id).expect("both know it");
            assert_eq!(other.counterparty_msat, view.holder_msat, "both ends agree");
            assert_eq!(other.holder_msat, view.counterparty_msat, "both ends agree");
        }
        for running in self.running.iter().flatten() {
            for shard in &running.shards {
                assert_eq!(shard.load().violations, 0, "nobody broke the protocol");
                assert_eq!(shard.quarantined().count(), 0, "every channel folds");
                assert_eq!((shard.load().backlog, shard.load().waiting), (0, 0));
            }
        }
        self.audit_payments(&views)
    }

    fn audit_payments(&mut self, views: &[Vec<ChannelView>]) -> Tally {
        let mut tally = Tally { settled: 0, failed: 0, holdings: Vec::new() };
        let books: Vec<_> = (1..self.processes.len())
            .map(|process| self.run(process).ledger.as_ref().unwrap().books.clone())
            .collect();
        let mut moved: Vec<i128> = vec![0; self.processes.len()];
        for (at, payer) in books.iter().enumerate() {
            assert!(payer.results.is_empty(), "every result was acknowledged");
            for payment in payer.payments.values() {
                let hash = payment.offer.payment_hash;
                let payee = books.iter().position(|books| books.invoices.contains_key(&hash));
                let paid = payee.map_or(0, |payee| books[payee].invoices[&hash].paid_by.len());
                match payment.result.expect("every payment has an outcome") {
                    ForwardResult::Fulfilled { preimage } => {
                        assert_eq!(preimage.payment_hash(), hash);
                        assert_eq!(paid, 1, "a payer pays exactly when the payee is paid, and once");
                        tally.settled += 1;
                        let amount = i128::from(payment.offer.amount_msat.to_u64());
                        moved[at + 1] -= amount;
                        moved[payee.unwrap() + 1] += amount - i128::from(FEE_MSAT);
                        moved[HUB] += i128::from(FEE_MSAT);
                    }
                    ForwardResult::Failed { .. } => {
                        assert_eq!(paid, 0, "a payee is never paid by a payment that failed");
                        tally.failed += 1;
                    }
                }
            }
        }
        for (process, views) in views.iter().enumerate() {
            let holds: i128 = views.iter().map(|view| i128::from(view.holder_msat.to_u64())).sum();
            tally.holdings.push(holds - moved[process]);
        }
        tally
    }

    /// After all is quiet a restart has nothing to say again: no offer, no result, no acknowledgement.
    pub fn audit_silence(&mut self) {
        for process in 0..self.processes.len() {
            self.kill(process);
        }
        self.recover_all();
        for running in self.running.iter().flatten() {
            for shard in &running.shards {
                assert_eq!(shard.load().internals, 0, "nothing is left to say between owners");
            }
        }
    }
}

/// How a payment is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invoice,
    /// A tick of the payee's stream.
    Tick,
    /// The payee does not know it.
    Unknown,
}

/// What an audit counted. `holdings` are each process's msat with all payments undone: they never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub settled: usize,
    pub failed: usize,
    pub holdings: Vec<i128>,
}

pub fn preimage(number: u64) -> PaymentPreimage {
    PaymentPreimage::from_bytes(sha256::Hash::hash(&number.to_be_bytes()).to_byte_array())
}

fn funding(number: u64, output: TxOut) -> Transaction {
    let mut txid = [0; 32];
    txid[..8].copy_from_slice(&number.to_be_bytes());
    let previous_output = OutPoint { txid: Txid::from_byte_array(txid), vout: 0 };
    let input = TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[vec![1; 64]]),
    };
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output: vec![output] }
}
