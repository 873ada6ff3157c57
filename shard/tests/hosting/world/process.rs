//! One process: shards over one journal, and in a wallet the ledger. Killing it drops everything but the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use channel::amount::Msat;
use channel::bytes::KeyId;
use channel::channel::ChannelView;
use channel::event::{AcceptRequest, OpenRequest, Role};
use channel::failure::FailureReason;
use channel::forward::{Candidate, Internal, RouteChoice, Router};
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use channel::message::{Message, Recipient};
use channel::policy::Policy;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use journal::{Batch, Committer, Header, Journal, Log, Opened, Options, Position, Reader, Retained};
use shard::{
    ChainRequest, Credit, DirectoryEntry, Mail, Outlet, PeerRefusal, Query, Reply, ReplyTo, Setup, Shard,
};

use super::disk::Disk;
use super::ledger::{LEDGER, Ledger};

/// What survives the process: its keys, its disk, and numbers that are never used again.
#[derive(Clone)]
pub struct Process {
    pub name: &'static str,
    pub role: Role,
    pub signer: Arc<SeedSigner>,
    pub disk: Disk,
    pub shards: u64,
    pub next_owner: u64,
    pub next_session: u64,
    pub next_key: u64,
}

/// What dies with it.
pub struct Running {
    pub log: Log,
    pub committer: Committer,
    pub reader: Reader,
    pub shards: Vec<Shard>,
    pub mail: Vec<VecDeque<Mail>>,
    pub ledger: Option<Ledger>,
    pub ledger_mail: VecDeque<Internal>,
    pub directory: Arc<Mutex<Directory>>,
    pub outputs: Outputs,
    /// Batches of the ledger's host that rest on the disk's progress.
    pub appended: Position,
}

/// What left the process and is for the world to carry on.
#[derive(Debug, Default)]
pub struct Outputs {
    pub sends: Vec<(SessionId, ChannelId, Vec<Message>)>,
    pub chain: Vec<(OwnerId, ChainRequest)>,
    pub refused: Vec<(SessionId, ChannelId, PeerRefusal)>,
    pub finished: Vec<OwnerId>,
}

impl Outputs {
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.chain.is_empty()
    }
}

#[derive(Debug, Default)]
pub struct Directory {
    pub entries: BTreeMap<OwnerId, DirectoryEntry>,
    /// Streams by the first byte of their id: the payee.
    pub streams: BTreeMap<u8, Point>,
}

/// Routes by the directory: the hub to the recipient's channels, the wallet to its ledger.
struct DirectoryRouter {
    role: Role,
    policy: Policy,
    height: u32,
    directory: Arc<Mutex<Directory>>,
}

impl Router for DirectoryRouter {
    fn route(&self, candidate: &Candidate<'_>) -> RouteChoice {
        match self.role {
            Role::Wallet => RouteChoice::Offer { to: LEDGER, sign_by_height: u32::MAX },
            Role::Hub => self.to_recipient(candidate).unwrap_or_else(|reason| RouteChoice::Fail { reason }),
        }
    }
}

impl DirectoryRouter {
    fn to_recipient(&self, candidate: &Candidate<'_>) -> Result<RouteChoice, FailureReason> {
        let instruction = candidate.htlc.forward.as_ref().ok_or(FailureReason::UnknownRecipient)?;
        self.policy.check_forward(candidate.htlc, instruction, self.height)?;
        let directory = self.directory.lock().unwrap();
        let node = match &candidate.htlc.recipient {
            Recipient::Node(node) => *node,
            Recipient::Stream { id, .. } => {
                *directory.streams.get(&id.0[0]).ok_or(FailureReason::StreamRefused)?
            }
        };
        let to = directory.entries.values().find(|entry| {
            entry.node == node
                && entry.usable
                && entry.owner != candidate.incoming
                && entry.spendable_msat >= instruction.amount_msat
                && !candidate.tried.contains(&entry.owner)
        });
        let to = to.ok_or(candidate.last_failure.unwrap_or(FailureReason::NoLiquidity))?;
        let sign_by_height = self.policy.sign_by_height(instruction.cltv_expiry);
        Ok(RouteChoice::Offer { to: to.owner, sign_by_height })
    }
}

pub fn policy(role: Role) -> Policy {
    Policy {
        fee_base_msat: if role == Role::Hub { FEE_MSAT } else { 0 },
        fee_ppm: 0,
        cltv_expiry_delta: 40,
        max_cltv_expiry_delta: 2_016,
        min_cltv_expiry_ahead: 20,
        htlc_minimum_msat: Msat::from_u32(1),
        max_in_flight_percent: 90,
        max_accepted_htlcs: 30,
        max_accepted_dust_htlcs: 300,
        max_dust_htlc_exposure_msat: Msat::from_sat_u32(5_000),
        dust_limit_sat: 354,
        to_self_delay_blocks: 144,
        max_to_self_delay_blocks: 2_016,
        minimum_depth: 1,
        min_capacity_sat: 10_000,
        max_capacity_sat: 10_000_000,
        max_closing_fee_sat: 1_000,
    }
}

/// What the hub asks for forwarding one payment.
pub const FEE_MSAT: u64 = 7;

impl Process {
    pub fn new(name: &'static str, role: Role, number: u8, shards: u64) -> Process {
        Process {
            name,
            role,
            signer: Arc::new(SeedSigner::new(&[number; 64])),
            disk: Disk::default(),
            shards,
            next_owner: 1 << 24,
            next_session: 1,
            next_key: 1,
        }
    }

    /// The same process on a copy of its disk.
    pub fn copy(&self) -> Process {
        Process { disk: self.disk.copy(), ..self.clone() }
    }

    pub fn node(&self) -> Point {
        self.signer.node_id()
    }

    pub fn header(&self) -> Header {
        Header { logic_version: 1, network: "regtest".to_owned(), owner: self.node().as_bytes().to_vec() }
    }

    pub fn open_journal(&self) -> Opened {
        let options = Options { cache_bytes: 1 << 20, ..Options::small() };
        Journal::open_with_backend(self.disk.clone(), &self.header(), options).unwrap()
    }

    /// A number whose channel lives in the given shard.
    pub fn owner_in(&mut self, shard: u64) -> OwnerId {
        self.next_owner += 1;
        while self.next_owner % self.shards != shard {
            self.next_owner += 1;
        }
        OwnerId(self.next_owner)
    }

    pub fn fresh_key(&mut self) -> KeyId {
        self.next_key += 1;
        let mut bytes = [self.name.as_bytes()[0]; 32];
        bytes[..8].copy_from_slice(&self.next_key.to_be_bytes());
        KeyId::from_bytes(bytes)
    }

    pub fn session(&mut self) -> SessionId {
        self.next_session += 1;
        SessionId(self.next_session)
    }

    /// Opens the journal, rebuilds shards and ledger, and takes their first turns.
    pub fn start(&self, height: u32, streams: &BTreeMap<u8, Point>) -> Running {
        let opened = self.open_journal();
        let directory = Directory { streams: streams.clone(), ..Directory::default() };
        let directory = Arc::new(Mutex::new(directory));
        let router = Arc::new(DirectoryRouter {
            role: self.role,
            policy: policy(self.role),
            height,
            directory: directory.clone(),
        });
        let setup = Setup {
            log: opened.log.clone(),
            reader: opened.reader.clone(),
            signer: self.signer.clone(),
            router,
            policy: policy(self.role),
            height,
            hash_seed: 1,
        };
        let shards = (0..self.shards).map(|number| {
            let mine = |owner: OwnerId| owner != LEDGER && owner.0 % self.shards == number;
            Shard::recover(setup.clone(), &opened.recovery, mine).unwrap()
        });
        let shards: Vec<Shard> = shards.collect();
        let ledger = (self.role == Role::Wallet).then(|| Ledger::recover(&opened.recovery));
        drop(opened.recovery);
        let mut running = Running {
            log: opened.log,
            committer: opened.committer,
            reader: opened.reader,
            mail: shards.iter().map(|_| VecDeque::new()).collect(),
            shards,
            ledger,
            ledger_mail: VecDeque::new(),
            directory,
            outputs: Outputs::default(),
            appended: Position::default(),
        };
        running.first_turns();
        running
    }

    pub fn accept_request(
        &mut self,
        channel_id: ChannelId,
        node: Point,
        session: SessionId,
        shard: u64,
    ) -> AcceptRequest {
        AcceptRequest {
            owner: self.owner_in(shard),
            channel_id,
            role: self.role,
            counterparty_node: node,
            key_id: self.fresh_key(),
            reserve_script: bitcoin::ScriptBuf::new(),
            max_price_msat: Msat::ZERO,
            session,
        }
    }

    pub fn open_request(
        &mut self,
        node: Point,
        session: SessionId,
        shard: u64,
        capacity_sat: u64,
    ) -> OpenRequest {
        let owner = self.owner_in(shard);
        let mut id = [self.name.as_bytes()[0]; 32];
        id[..8].copy_from_slice(&owner.0.to_be_bytes());
        OpenRequest {
            owner,
            channel_id: ChannelId(id),
            role: self.role,
            counterparty_node: node,
            key_id: self.fresh_key(),
            capacity_sat,
            reserve_sat: 0,
            price_msat: Msat::ZERO,
            reserve_price_msat: Msat::ZERO,
            session,
        }
    }
}

/// Retained rows of channels that ended: what the close paid the wallet, by owner.
pub const ENDED: u8 = 40;

/// Collects what one turn hands out.
struct Collect<'a> {
    outputs: &'a mut Outputs,
    internals: Vec<(OwnerId, Internal)>,
    directory: &'a Mutex<Directory>,
}

impl Outlet for Collect<'_> {
    fn send(&mut self, session: SessionId, channel: ChannelId, messages: Vec<Message>) {
        assert!(!messages.is_empty(), "no empty group is sent");
        self.outputs.sends.push((session, channel, messages));
    }

    fn internal(&mut self, to: OwnerId, message: Internal) {
        self.internals.push((to, message));
    }

    fn chain(&mut self, owner: OwnerId, request: ChainRequest) {
        self.outputs.chain.push((owner, request));
    }

    fn publish(&mut self, entry: DirectoryEntry) {
        self.directory.lock().unwrap().entries.insert(entry.owner, entry);
    }

    fn peer_refused(&mut self, session: SessionId, channel: ChannelId, why: PeerRefusal) {
        self.outputs.refused.push((session, channel, why));
    }

    fn ending(&mut self, view: &ChannelView) -> Option<Retained> {
        let value = Some(view.paid_sat.to_be_bytes().to_vec());
        Some(Retained { table: ENDED, key: view.owner.0.to_be_bytes().to_vec(), value })
    }

    fn finished(&mut self, owner: OwnerId, _channel: ChannelId) {
        self.directory.lock().unwrap().entries.remove(&owner);
        self.outputs.finished.push(owner);
    }
}

impl Running {
    pub fn shard_of(&self, owner: OwnerId) -> usize {
        (owner.0 % self.shards.len() as u64) as usize
    }

    fn first_turns(&mut self) {
        for number in 0..self.shards.len() {
            self.with_outlet(number, |shard, outlet| shard.start(0, outlet).unwrap());
        }
        for number in 0..self.shards.len() {
            self.with_outlet(number, |shard, outlet| shard.resume(0, outlet).unwrap());
        }
        let messages = self.ledger.as_ref().map(Ledger::resume).unwrap_or_default();
        self.deliver(messages);
    }

    fn with_outlet<T>(&mut self, number: usize, act: impl FnOnce(&mut Shard, &mut Collect<'_>) -> T) -> T {
        let mut outlet =
            Collect { outputs: &mut self.outputs, internals: Vec::new(), directory: &self.directory };
        let result = act(&mut self.shards[number], &mut outlet);
        let internals = outlet.internals;
        self.deliver(internals);
        result
    }

    /// Carries messages between owners of this process.
    fn deliver(&mut self, messages: Vec<(OwnerId, Internal)>) {
        for (to, message) in messages {
            if to == LEDGER {
                self.ledger_mail.push_back(message);
            } else {
                let shard = self.shard_of(to);
                self.mail[shard].push_back(Mail::Internal { to, message });
            }
        }
    }

    /// One turn of one shard, with at most `most` mails. True when there was something to do.
    pub fn turn(&mut self, number: usize, most: usize) -> bool {
        let mut mailbox = std::mem::take(&mut self.mail[number]);
        let mut left = most;
        let had = mailbox.len();
        let turned = self.with_outlet(number, |shard, outlet| {
            let mut mail = std::iter::from_fn(|| {
                left = left.checked_sub(1)?;
                mailbox.pop_front()
            });
            shard.turn(0, &mut mail, outlet).unwrap()
        });
        if let Some(position) = turned.appended {
            self.appended = position;
        }
        // What the turn sent to its own process lies in the mailbox by now: older mail goes first.
        mailbox.append(&mut self.mail[number]);
        self.mail[number] = mailbox;
        had > 0 || turned.again || turned.appended.is_some()
    }

    /// One turn of the ledger. True when there was something to do.
    pub fn ledger_turn(&mut self, most: usize) -> bool {
        let Some(ledger) = &mut self.ledger else { return false };
        let mut batch = Batch::default();
        let mut messages = Vec::new();
        let mut had = false;
        for _ in 0..most {
            let Some(message) = self.ledger_mail.pop_front() else { break };
            had = true;
            messages.extend(ledger.handle(&mut batch, message));
        }
        if had {
            self.appended = self.log.append(batch).unwrap();
        }
        self.deliver(messages);
        had
    }

    /// Journals what the ledger's user asked for, and delivers what it causes.
    pub fn with_ledger(&mut self, act: impl FnOnce(&mut Ledger, &mut Batch) -> Option<(OwnerId, Internal)>) {
        let mut batch = Batch::default();
        let message = act(self.ledger.as_mut().unwrap(), &mut batch);
        self.appended = self.log.append(batch).unwrap();
        self.deliver(message.into_iter().collect());
    }

    /// The disk catches up; the shards are told. True when something was written.
    pub fn commit(&mut self) -> bool {
        let Some(commit) = self.committer.turn().unwrap() else { return false };
        for mailbox in &mut self.mail {
            mailbox.push_back(Mail::Durable(commit.durable));
        }
        true
    }

    /// A peer's messages for a channel: to its shard, or as a proposal to open one.
    pub fn receive(
        &mut self,
        process: &mut Process,
        session: SessionId,
        node: Point,
        channel: ChannelId,
        mut messages: Vec<Message>,
        accept_in: u64,
    ) {
        let known = self.directory.lock().unwrap();
        let known = known.entries.values().find(|entry| entry.channel_id == channel).map(|e| e.owner);
        let shard = match known {
            Some(owner) => self.shard_of(owner),
            None => accept_in as usize,
        };
        if known.is_none() && matches!(messages.first(), Some(Message::OpenChannel(_))) {
            let Message::OpenChannel(message) = messages.remove(0) else { unreachable!() };
            let request = process.accept_request(channel, node, session, accept_in);
            self.mail[shard].push_back(Mail::Accept { request, message });
        }
        if !messages.is_empty() {
            let credit = Credit::none();
            self.mail[shard].push_back(Mail::Peer { session, node, channel, messages, credit });
        }
    }

    pub fn tell_all(&mut self, mail: impl Fn() -> Mail) {
        for mailbox in &mut self.mail {
            mailbox.push_back(mail());
        }
    }

    /// Puts a request into a shard's mailbox; the answer appears in the returned cell.
    pub fn ask(&mut self, shard: usize, mail: impl FnOnce(ReplyTo) -> Mail) -> Arc<Mutex<Option<Reply>>> {
        let cell = Arc::new(Mutex::new(None));
        let answer = cell.clone();
        let reply = ReplyTo::new(move |reply| *answer.lock().unwrap() = Some(reply));
        self.mail[shard].push_back(mail(reply));
        cell
    }

    pub fn ask_channels(&mut self, shard: usize) -> Arc<Mutex<Option<Reply>>> {
        let query = Query::Channels { node: None, after: None, max: 100 };
        self.ask(shard, |reply| Mail::Read { query, reply })
    }
}
