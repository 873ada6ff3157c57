//! Two real channel ends that are fed whatever comes, each with the host's part: a journal, messages made at release, and the laws
//! that hold whoever talks.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::Transaction;
use channel::channel::{Channel, Checked, Context, Input, PhaseView};
use channel::commitment::HtlcSpec;
use channel::effect::Effect;
use channel::error::Rejection;
use channel::event::{ChainEvent, Command, Event, FailRequest, Role};
use channel::forward::{Candidate, ForwardKey, Internal, RouteChoice, Router};
use channel::ids::{OwnerId, SessionId};
use channel::message::Message;

use crate::model::pair::{HEIGHT, Pair, Party};

/// The other owner of every forward, at both ends.
pub(super) const LEDGER: OwnerId = OwnerId(1);
const CHANNEL: OwnerId = OwnerId(2);

/// Old states that a cheater could publish.
const OLDER_KEPT: usize = 4;

/// Everything goes to the ledger, once.
pub(super) struct ToLedger;

impl Router for ToLedger {
    fn route(&self, candidate: &Candidate<'_>) -> RouteChoice {
        match candidate.last_failure {
            None => RouteChoice::Offer { to: LEDGER, sign_by_height: u32::MAX },
            Some(reason) => RouteChoice::Fail { reason },
        }
    }
}

/// One end and what a host keeps of it.
#[derive(Clone)]
pub(super) struct End {
    pub(super) party: Party,
    pub(super) channel: Channel,
    pub(super) outbox: VecDeque<Message>,
    /// Offers that the ledger has not answered.
    pub(super) asked: Vec<ForwardKey>,
    /// Results that the ledger has not acknowledged.
    pub(super) told: Vec<ForwardKey>,
    revoked: BTreeMap<u64, Vec<HtlcSpec>>,
    older: VecDeque<Channel>,
    snapshot: Vec<u8>,
    journal: Vec<Vec<u8>>,
}

impl End {
    fn new((party, channel): (Party, Channel)) -> Self {
        let snapshot = channel.encode_snapshot();
        End {
            party,
            channel,
            outbox: VecDeque::new(),
            asked: Vec::new(),
            told: Vec::new(),
            revoked: BTreeMap::new(),
            older: VecDeque::new(),
            snapshot,
            journal: Vec::new(),
        }
    }

    /// What the host does with an event. True if it changed the channel.
    pub(super) fn feed(&mut self, event: Event, height: u32) -> bool {
        let before = self.channel.encode_snapshot();
        let context: Context<'_> = self.party.context(height, &ToLedger);
        match self.channel.check(event, &context) {
            Ok(Checked::Input(input)) => self.take(&input),
            Ok(Checked::Repeat(effect)) => self.perform(vec![effect]),
            Ok(Checked::Nothing) => {}
            Err(Rejection::Refusal(_)) => {
                assert_eq!(self.channel.encode_snapshot(), before, "a refusal changes nothing");
            }
            Err(Rejection::Violation(violation)) => {
                let input = self.channel.violated(violation);
                self.take(&input);
            }
        }
        self.channel.encode_snapshot() != before
    }

    pub(super) fn command(&mut self, command: Command, height: u32) -> bool {
        self.feed(Event::Command(command), height)
    }

    fn take(&mut self, input: &Input) {
        let mut row = Vec::new();
        input.encode(&mut row);
        assert_eq!(Input::decode(&row).as_ref(), Ok(input), "the journal gives the input again");
        self.journal.push(row);
        self.older.push_back(self.channel.clone());
        if self.older.len() > OLDER_KEPT {
            self.older.pop_front();
        }
        let mut effects = Vec::new();
        self.channel.apply(input, &mut effects);
        self.audit();
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to_send) => {
                    if self.channel.session().is_some() {
                        self.outbox.extend(self.channel.message(&to_send, &self.party.signer));
                    }
                }
                Effect::Internal { message: Internal::Offer(offer), .. } => self.asked.push(offer.key),
                Effect::Internal { message: Internal::Result { key, .. }, .. } => self.told.push(key),
                Effect::LogRevoked { number, htlcs } => {
                    self.revoked.insert(number, htlcs);
                }
                Effect::Internal { message: Internal::Ack { .. }, .. }
                | Effect::BuildFunding { .. }
                | Effect::WatchFunding { .. }
                | Effect::BroadcastFunding { .. }
                | Effect::ReleaseCoins { .. }
                | Effect::TicketReady
                | Effect::ClosingHandedOver { .. }
                | Effect::PlanChanged
                | Effect::Report(_)
                | Effect::Finished => {}
            }
        }
    }

    /// What holds in every state. Reading it must not fail either.
    fn audit(&self) {
        let bytes = self.channel.encode_snapshot();
        let again = Channel::decode_snapshot(&bytes).expect("conservation, in all four commitments");
        assert_eq!(again.encode_snapshot(), bytes, "the snapshot gives the state again");
        let view = self.channel.view();
        let parts = [view.holder_msat, view.counterparty_msat, view.offered_msat, view.received_msat];
        let sum: u64 = parts.iter().map(|part| part.to_u64()).sum();
        assert_eq!(sum, view.capacity.to_sat() * 1_000, "conservation: {parts:?}");
        let _ = (self.channel.ticket(), self.channel.wants_terms(), self.channel.next_deadline());
        if matches!(view.phase, PhaseView::Failed { .. }) {
            let _ = self.channel.onchain_plan(&self.party.signer);
        }
        let mut resumed = Vec::new();
        self.channel.resume(&mut resumed);
    }

    /// The journal, replayed, gives the state of the run.
    pub(super) fn check_replay(&self) {
        let mut replayed = Channel::decode_snapshot(&self.snapshot).expect("it was taken of this channel");
        let mut effects = Vec::new();
        for row in &self.journal {
            replayed.apply(&Input::decode(row).expect("it was written so"), &mut effects);
        }
        assert_eq!(replayed.encode_snapshot(), self.channel.encode_snapshot(), "replay equals the run");
    }

    /// A restart: the state is the journal's, and a disconnect.
    pub(super) fn restart(&mut self, height: u32) {
        self.check_replay();
        self.snapshot = self.channel.encode_snapshot();
        self.channel = Channel::decode_snapshot(&self.snapshot).expect("it was just written");
        self.journal.clear();
        self.command(Command::Disconnected, height);
        let mut effects = Vec::new();
        self.channel.resume(&mut effects);
        self.perform(effects);
    }

    /// The commitment that this end, or a copy of it from some steps ago, would publish.
    pub(super) fn commitment(&self, steps_ago: usize, height: u32) -> Option<Transaction> {
        let from = match steps_ago {
            0 => &self.channel,
            steps => self.older.get(self.older.len().checked_sub(steps)?)?,
        };
        let mut given_up = End::new((self.party.clone(), from.clone()));
        given_up.command(Command::Fail { reason: FailRequest::Operator }, height);
        Some(given_up.channel.publish_job(&self.party.signer)?.transaction)
    }

    /// The chain holds a spend of the funding.
    pub(super) fn funding_spent(&mut self, transaction: &Transaction, height: u32) {
        let number = self.channel.revoked_number(transaction);
        let revoked_htlcs = number.and_then(|number| self.revoked.get(&number).cloned());
        let transaction = transaction.clone();
        let spent = ChainEvent::FundingSpent { height, transaction, revoked_htlcs };
        self.command(Command::Chain(spent), height);
    }
}

/// Both ends.
#[derive(Clone)]
pub(super) struct Duo {
    /// The hub, which opened the channel, and the wallet.
    pub(super) ends: [End; 2],
    pub(super) session: u64,
    pub(super) height: u32,
}

impl Duo {
    pub(super) fn open() -> Self {
        let hub = Party::new(1, Role::Hub, CHANNEL);
        let wallet = Party::new(2, Role::Wallet, CHANNEL);
        let Pair { opener, accepter } = Pair::open(hub, wallet, &ToLedger);
        Duo { ends: [End::new(opener), End::new(accepter)], session: 1, height: HEIGHT }
    }

    /// Delivers the next message to this end.
    pub(super) fn deliver(&mut self, to: usize) -> bool {
        let Some(message) = self.ends[1 - to].outbox.pop_front() else { return false };
        self.ends[to].feed(Event::Message(message), self.height);
        true
    }

    pub(super) fn command(&mut self, end: usize, command: Command) -> bool {
        self.ends[end].command(command, self.height)
    }

    /// Delivers and signs until nothing is pending, or for so long that it never will be.
    pub(super) fn run(&mut self) {
        for _ in 0..64 {
            let mut moved = false;
            while self.deliver(0) || self.deliver(1) {
                moved = true;
            }
            for end in 0..2 {
                if self.ends[end].channel.wants_to_sign() {
                    moved |= self.command(end, Command::SignNow);
                }
            }
            if !moved {
                return;
            }
        }
    }

    pub(super) fn disconnect(&mut self) {
        for end in 0..2 {
            self.ends[end].outbox.clear();
            self.command(end, Command::Disconnected);
        }
    }

    pub(super) fn connect(&mut self) {
        self.session += 1;
        for end in 0..2 {
            self.command(end, Command::Connected { session: SessionId(self.session) });
        }
    }
}
