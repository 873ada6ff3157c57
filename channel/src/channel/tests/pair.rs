//! Two ends of one channel that talk through queues: real signatures, real journals, no network.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};

use crate::amount::Msat;
use crate::bytes::KeyId;
use crate::channel::{Channel, Checked, Context, Input};
use crate::commitment::HtlcSpec;
use crate::effect::{Effect, Report};
use crate::error::{Rejection, Violation};
use crate::event::{AcceptRequest, ChainEvent, Command, Event, OpenRequest, Role};
use crate::failure::FailureReason;
use crate::forward::{Candidate, ForwardKey, ForwardResult, Internal, Offer, RouteChoice, Router};
use crate::ids::{ChannelId, OwnerId, SessionId, StreamId};
use crate::message::{Message, PaymentHash, Preimage, Recipient};
use crate::policy::Policy;
use crate::seed_signer::SeedSigner;
use crate::signer::Signer;

/// Whoever pays or is paid at an end: the other owner of every forward.
pub(super) const LEDGER: OwnerId = OwnerId(1);
pub(super) const CHANNEL: OwnerId = OwnerId(2_000);
pub(super) const CAPACITY_SAT: u64 = 1_000_000;
pub(super) const HEIGHT: u32 = 100;

pub(super) fn policy() -> Policy {
    Policy {
        fee_base_msat: 0,
        fee_ppm: 0,
        cltv_expiry_delta: 40,
        max_cltv_expiry_delta: 1_000,
        min_cltv_expiry_ahead: 10,
        htlc_minimum_msat: Msat::from_u32(1),
        max_in_flight_percent: 80,
        max_accepted_htlcs: 20,
        max_accepted_dust_htlcs: 50,
        max_dust_htlc_exposure_msat: Msat::from_sat_u32(5_000),
        dust_limit_sat: 354,
        to_self_delay_blocks: 144,
        max_to_self_delay_blocks: 2_016,
        minimum_depth: 3,
        min_capacity_sat: 20_000,
        max_capacity_sat: 100_000_000,
        max_closing_fee_sat: 2_000,
    }
}

/// Sends every HTLC to the ledger, once, unless told otherwise.
#[derive(Debug, Default)]
pub(super) struct TestRouter {
    pub(super) choices: RefCell<VecDeque<RouteChoice>>,
}

impl Router for TestRouter {
    fn route(&self, candidate: &Candidate<'_>) -> RouteChoice {
        let told = self.choices.borrow_mut().pop_front();
        told.unwrap_or(match candidate.last_failure {
            None => RouteChoice::Offer { to: LEDGER, sign_by_height: u32::MAX },
            Some(reason) => RouteChoice::Fail { reason },
        })
    }
}

/// One end, with its journal and all that left it.
pub(super) struct End {
    pub(super) channel: Option<Channel>,
    pub(super) signer: SeedSigner,
    pub(super) policy: Policy,
    pub(super) router: TestRouter,
    pub(super) height: u32,
    pub(super) role: Role,
    /// Encoded inputs since the last snapshot; the first of all makes the channel.
    journal: Vec<Vec<u8>>,
    snapshot: Option<Vec<u8>>,
    pub(super) outbox: VecDeque<Message>,
    pub(super) internals: Vec<Internal>,
    pub(super) effects: Vec<Effect>,
    pub(super) reports: Vec<Report>,
    /// HTLC outputs of revoked commitments, by number.
    pub(super) revoked: BTreeMap<u64, Vec<HtlcSpec>>,
}

impl End {
    pub(super) fn new(seed: u8, role: Role) -> Self {
        Self {
            channel: None,
            signer: SeedSigner::new(&[seed; 64]),
            policy: policy(),
            router: TestRouter::default(),
            height: HEIGHT,
            role,
            journal: Vec::new(),
            snapshot: None,
            outbox: VecDeque::new(),
            internals: Vec::new(),
            effects: Vec::new(),
            reports: Vec::new(),
            revoked: BTreeMap::new(),
        }
    }

    /// The same channel with the same keys, and nothing else.
    pub(super) fn copy_of(other: &Self) -> Self {
        let channel = other.channel().clone();
        let copy = Self::new(if other.role == Role::Hub { 1 } else { 2 }, other.role);
        let snapshot = Some(channel.encode_snapshot());
        Self { channel: Some(channel), snapshot, ..copy }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context { policy: &self.policy, height: self.height, signer: &self.signer, router: &self.router }
    }

    pub(super) fn channel(&self) -> &Channel {
        self.channel.as_ref().expect("the channel was opened")
    }

    pub(super) fn open_request(&self, session: u64, peer: &Self) -> OpenRequest {
        OpenRequest {
            owner: CHANNEL,
            channel_id: ChannelId([7; 32]),
            role: self.role,
            counterparty_node: peer.signer.node_id(),
            key_id: KeyId::from_bytes([1; 32]),
            capacity_sat: CAPACITY_SAT,
            reserve_sat: 0,
            price_msat: Msat::ZERO,
            reserve_price_msat: Msat::ZERO,
            session: SessionId(session),
        }
    }

    pub(super) fn accept_request(&self, session: u64, peer: &Self) -> AcceptRequest {
        AcceptRequest {
            owner: CHANNEL,
            channel_id: ChannelId([7; 32]),
            role: self.role,
            counterparty_node: peer.signer.node_id(),
            key_id: KeyId::from_bytes([2; 32]),
            reserve_script: bitcoin::ScriptBuf::new(),
            max_price_msat: Msat::ZERO,
            session: SessionId(session),
        }
    }

    /// Begins the channel with its first input.
    pub(super) fn begin(&mut self, input: &Input) {
        let input = self.journaled(input);
        let mut effects = Vec::new();
        self.channel = Some(Channel::from_first(&input, &mut effects).unwrap());
        self.perform(effects);
    }

    /// Writes an input to the journal and reads it back.
    fn journaled(&mut self, input: &Input) -> Input {
        let mut bytes = Vec::new();
        input.encode(&mut bytes);
        let decoded = Input::decode(&bytes).unwrap();
        assert_eq!(&decoded, input);
        self.journal.push(bytes);
        decoded
    }

    /// Checks an event, and takes the step that it gives.
    pub(super) fn handle(&mut self, event: Event) -> Result<(), Rejection> {
        match self.channel().check(event, &self.context())? {
            Checked::Input(input) => self.take(&input),
            Checked::Repeat(effect) => self.perform(vec![effect]),
            Checked::Nothing => {}
        }
        Ok(())
    }

    /// What a host does: a violation fails the channel.
    pub(super) fn host(&mut self, event: Event) -> Result<(), Rejection> {
        let result = self.handle(event);
        if let Err(Rejection::Violation(violation)) = &result {
            self.violate(violation.clone());
        }
        result
    }

    pub(super) fn violate(&mut self, violation: Violation) {
        let input = self.channel().violated(violation);
        self.take(&input);
    }

    pub(super) fn take(&mut self, input: &Input) {
        let input = self.journaled(input);
        let mut effects = Vec::new();
        let channel = self.channel.as_mut().expect("the channel was opened");
        channel.apply(&input, &mut effects);
        audit(channel);
        self.perform(effects);
    }

    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to_send) => {
                    let message = self.channel().message(&to_send, &self.signer);
                    self.outbox.push_back(message.unwrap_or_else(|| panic!("{to_send:?} is due")));
                }
                Effect::Internal { message, .. } => self.internals.push(message),
                Effect::Report(report) => self.reports.push(report),
                Effect::LogRevoked { number, htlcs } => {
                    assert!(self.revoked.insert(number, htlcs).is_none());
                }
                other => self.effects.push(other),
            }
        }
    }

    pub(super) fn command(&mut self, command: Command) -> Result<(), Rejection> {
        self.handle(Event::Command(command))
    }

    pub(super) fn chain(&mut self, event: ChainEvent) -> Result<(), Rejection> {
        self.command(Command::Chain(event))
    }

    /// A snapshot at this point; the journal starts anew.
    pub(super) fn take_snapshot(&mut self) {
        self.snapshot = Some(self.channel().encode_snapshot());
        self.journal.clear();
    }

    /// Stops and starts again: the state is the fold of the journal from the last snapshot.
    pub(super) fn restart(&mut self) {
        let replayed = self.replayed();
        assert_eq!(replayed.state_hash(), self.channel().state_hash(), "replay equals the run");
        assert_eq!(replayed.state.htlcs, self.channel().state.htlcs, "the index too");
        self.channel = Some(replayed);
        self.outbox.clear();
        self.command(Command::Disconnected).unwrap();
        let mut effects = Vec::new();
        self.channel().resume(&mut effects);
        self.perform(effects);
    }

    pub(super) fn replayed(&self) -> Channel {
        let mut inputs = self.journal.iter().map(|bytes| Input::decode(bytes).unwrap());
        let mut unused = Vec::new();
        let mut channel = match &self.snapshot {
            Some(bytes) => Channel::decode_snapshot(bytes).unwrap(),
            None => Channel::from_first(&inputs.next().unwrap(), &mut unused).unwrap(),
        };
        for input in inputs {
            channel.apply(&input, &mut unused);
        }
        channel
    }
}

/// The laws that every state keeps.
pub(super) fn audit(channel: &Channel) {
    let state = &channel.state;
    assert!(state.is_consistent(), "conservation: {state:?}");
    let mut again = state.clone();
    again.reindex();
    assert_eq!(again.htlcs.index, state.htlcs.index, "the index follows from the rest");
    let awaiting = state.counterparty.as_ref().is_some_and(|their| their.awaiting_revocation);
    assert!(awaiting || state.updates.signed.is_empty(), "nothing signed is left over");
    for (id, htlc) in &state.htlcs.offered {
        let moves = htlc.state != crate::channel::htlc::HtlcState::Irrevocable;
        assert_eq!(moves, state.htlcs.moving_offered.contains(id));
    }
    for (id, htlc) in &state.htlcs.received {
        let moves = htlc.state != crate::channel::htlc::HtlcState::Irrevocable;
        assert_eq!(moves, state.htlcs.moving_received.contains(id));
    }
}

/// Both ends. The wallet is one of them; either may have opened.
pub(super) struct Pair {
    pub(super) hub: End,
    pub(super) wallet: End,
    session: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Hub,
    Wallet,
}

impl Who {
    pub(super) const BOTH: [Self; 2] = [Self::Hub, Self::Wallet];

    pub(super) fn other(self) -> Self {
        match self {
            Self::Hub => Self::Wallet,
            Self::Wallet => Self::Hub,
        }
    }
}

impl Pair {
    pub(super) fn new() -> Self {
        Self { hub: End::new(1, Role::Hub), wallet: End::new(2, Role::Wallet), session: 1 }
    }

    pub(super) fn end(&mut self, who: Who) -> &mut End {
        match who {
            Who::Hub => &mut self.hub,
            Who::Wallet => &mut self.wallet,
        }
    }

    pub(super) fn ends(&mut self, who: Who) -> (&mut End, &mut End) {
        match who {
            Who::Hub => (&mut self.hub, &mut self.wallet),
            Who::Wallet => (&mut self.wallet, &mut self.hub),
        }
    }

    /// Both ends have proposed and accepted; the opener is asked to build the funding.
    pub(super) fn proposed(opener: Who) -> Self {
        Self::new().propose(opener, Msat::ZERO)
    }

    /// The accepter agrees to pay so much for it.
    fn propose(mut self, opener: Who, price_msat: Msat) -> Self {
        let pair = &mut self;
        let (open, accept) = pair.ends(opener);
        let request = OpenRequest { price_msat, ..open.open_request(1, accept) };
        let input = Channel::check_open(request, &open.context()).unwrap();
        open.begin(&input);
        let Some(Message::OpenChannel(proposal)) = open.outbox.pop_front() else { panic!("no proposal") };
        let request = AcceptRequest { max_price_msat: price_msat, ..accept.accept_request(1, open) };
        let input = Channel::check_accept(request, &proposal, &accept.context()).unwrap();
        accept.begin(&input);
        pair.settle();
        self
    }

    /// The funding is built and signed by both, not yet in a block.
    pub(super) fn funded(opener: Who) -> Self {
        Self::proposed(opener).fund(opener)
    }

    fn fund(mut self, opener: Who) -> Self {
        let pair = &mut self;
        let transaction = pair.end(opener).funding_transaction();
        let command = Command::FundingBuilt { transaction, output_index: 1 };
        pair.end(opener).command(command).unwrap();
        pair.settle();
        self
    }

    /// Open at both ends, all messages delivered, nothing left over from the opening.
    pub(super) fn open(opener: Who) -> Self {
        Self::funded(opener).confirm()
    }

    /// Opened by the hub, at a price that the wallet agreed to.
    pub(super) fn open_at(price_msat: Msat) -> Self {
        Self::new().opened_at(price_msat)
    }

    pub(super) fn opened_at(self, price_msat: Msat) -> Self {
        self.propose(Who::Hub, price_msat).fund(Who::Hub).confirm()
    }

    fn confirm(mut self) -> Self {
        let pair = &mut self;
        for who in Who::BOTH {
            pair.end(who).confirm();
        }
        pair.settle();
        for who in Who::BOTH {
            let end = pair.end(who);
            assert!(end.reports.contains(&Report::Ready));
            end.reports.clear();
            end.effects.clear();
        }
        self
    }

    /// Delivers one message to `to`, if one waits.
    pub(super) fn deliver(&mut self, to: Who) -> bool {
        let (receiver, sender) = self.ends(to);
        let Some(message) = sender.outbox.pop_front() else { return false };
        receiver.handle(Event::Message(message)).unwrap();
        true
    }

    /// Delivers all messages, with what they cause, without new commitments.
    pub(super) fn settle(&mut self) {
        while self.deliver(Who::Hub) || self.deliver(Who::Wallet) {}
    }

    /// Delivers and signs until nothing is pending at either end.
    pub(super) fn run(&mut self) {
        loop {
            self.settle();
            let mut signed = false;
            for who in Who::BOTH {
                let end = self.end(who);
                if end.channel().wants_to_sign() {
                    end.command(Command::SignNow).unwrap();
                    signed = true;
                }
            }
            if !signed {
                return;
            }
        }
    }

    /// The connection breaks; what was on its way is lost.
    pub(super) fn disconnect(&mut self) {
        for who in Who::BOTH {
            let end = self.end(who);
            end.outbox.clear();
            end.command(Command::Disconnected).unwrap();
        }
    }

    pub(super) fn connect(&mut self) {
        self.session += 1;
        let session = SessionId(self.session);
        for who in Who::BOTH {
            self.end(who).command(Command::Connected { session }).unwrap();
        }
    }

    /// The ledger of an end offers a payment to the other.
    pub(super) fn offer(&mut self, from: Who, number: u64, amount_msat: u64) {
        let offer = offer(number, amount_msat);
        self.end(from).command(Command::Offer(offer)).unwrap();
    }

    /// The ledger at `to` resolves the HTLC with this id.
    pub(super) fn resolve(&mut self, to: Who, htlc_id: u64, result: ForwardResult) {
        let key = ForwardKey { incoming: CHANNEL, htlc_id, attempt: 1 };
        self.end(to).command(Command::Result { key, from: LEDGER, result }).unwrap();
    }
}

impl End {
    pub(super) fn funding_transaction(&self) -> Transaction {
        let build = self.effects.iter().find_map(|effect| match effect {
            Effect::BuildFunding { script, amount, reserve_coin: _ } => Some((script.clone(), *amount)),
            _ => None,
        });
        let (script_pubkey, value) = build.expect("the opener is asked to build");
        let change = TxOut { value: Amount::from_sat(5_000), script_pubkey: payout_script(9) };
        transaction(vec![change, TxOut { value, script_pubkey }])
    }

    /// The chain holds the funding deep enough.
    pub(super) fn confirm(&mut self) {
        let output = self.funding_output();
        let height = self.height;
        self.chain(ChainEvent::FundingConfirmed { height, block_index: 1, output: Some(output) }).unwrap();
        self.chain(ChainEvent::FundingDeep { height }).unwrap();
    }

    pub(super) fn funding_output(&self) -> TxOut {
        let watch = self.effects.iter().find_map(|effect| match effect {
            Effect::WatchFunding { script, amount, .. } => Some((script.clone(), *amount)),
            _ => None,
        });
        let (script_pubkey, value) = watch.expect("the funding is watched");
        TxOut { value, script_pubkey }
    }

    pub(super) fn results(&self) -> Vec<(ForwardKey, ForwardResult)> {
        let result = |internal: &Internal| match internal {
            Internal::Result { key, result, .. } => Some((*key, *result)),
            Internal::Offer(_) | Internal::Ack { .. } => None,
        };
        self.internals.iter().filter_map(result).collect()
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
        let offer = |internal: &Internal| match internal {
            Internal::Offer(offer) => Some(offer.clone()),
            Internal::Result { .. } | Internal::Ack { .. } => None,
        };
        self.internals.iter().filter_map(offer).collect()
    }
}

/// A transaction of one segwit input.
pub(super) fn transaction(output: Vec<TxOut>) -> Transaction {
    let mut witness = Witness::new();
    witness.push([1; 64]);
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness,
        }],
        output,
    }
}

pub(super) fn payout_script(tag: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([tag; 20]))
}

pub(super) fn preimage(number: u64) -> Preimage {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Preimage::from_bytes(bytes)
}

pub(super) fn hash(number: u64) -> PaymentHash {
    preimage(number).payment_hash()
}

pub(super) fn fulfilled(number: u64) -> ForwardResult {
    ForwardResult::Fulfilled { preimage: preimage(number) }
}

pub(super) const REFUSED: ForwardResult =
    ForwardResult::Failed { reason: FailureReason::IncorrectPaymentDetails };

pub(super) fn key(number: u64) -> ForwardKey {
    ForwardKey { incoming: LEDGER, htlc_id: number, attempt: 1 }
}

/// Payment `number` of the ledger: a tick of a stream, so that it needs no payload.
pub(super) fn offer(number: u64, amount_msat: u64) -> Offer {
    Offer {
        key: key(number),
        amount_msat: Msat::new(amount_msat).unwrap(),
        payment_hash: hash(number),
        cltv_expiry: HEIGHT + 100,
        recipient: Recipient::Stream { id: StreamId([4; 16]), index: number },
        forward: None,
        payload: Vec::new(),
        sign_by_height: HEIGHT + 50,
    }
}
