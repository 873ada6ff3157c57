//! Two ends of one real channel, opened by their own messages: what walks and fuzz targets begin with.

use std::collections::VecDeque;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use channel::amount::Msat;
use channel::bytes::KeyId;
use channel::channel::{Channel, Checked, Context};
use channel::effect::Effect;
use channel::event::{AcceptRequest, ChainEvent, Command, Event, OpenRequest, Role};
use channel::forward::Router;
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::message::Message;
use channel::policy::Policy;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;

/// The height at which channels are opened.
pub const HEIGHT: u32 = 100;
/// The capacity of every channel.
pub const CAPACITY_SAT: u64 = 1_000_000;
/// The session in which they are opened.
pub const FIRST_SESSION: SessionId = SessionId(1);

/// What both ends ask for: short delays, so that little time has to pass.
pub fn policy() -> Policy {
    let msat = |amount: u64| Msat::new(amount).expect("far below all bitcoin");
    Policy {
        fee_base_msat: 0,
        fee_ppm: 0,
        cltv_expiry_delta: 40,
        max_cltv_expiry_delta: 1_000,
        min_cltv_expiry_ahead: 10,
        htlc_minimum_msat: msat(1),
        max_in_flight_percent: 80,
        max_accepted_htlcs: 20,
        max_accepted_dust_htlcs: 50,
        max_dust_htlc_exposure_msat: msat(5_000_000),
        dust_limit_sat: 354,
        to_self_delay_blocks: 6,
        max_to_self_delay_blocks: 2_016,
        minimum_depth: 3,
        min_capacity_sat: 20_000,
        max_capacity_sat: 100_000_000,
        max_closing_fee_sat: 2_000,
    }
}

/// One end's keys and part.
#[derive(Clone, Debug)]
pub struct Party {
    pub signer: SeedSigner,
    pub policy: Policy,
    pub role: Role,
    pub owner: OwnerId,
    pub key_id: KeyId,
}

impl Party {
    /// `tag` makes the seed and the channel's keys.
    pub fn new(tag: u8, role: Role, owner: OwnerId) -> Self {
        let key_id = KeyId::from_bytes([tag; 32]);
        Party { signer: SeedSigner::new(&[tag; 64]), policy: policy(), role, owner, key_id }
    }

    pub fn context<'a>(&'a self, height: u32, router: &'a dyn Router) -> Context<'a> {
        Context { policy: &self.policy, height, signer: &self.signer, router }
    }
}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Opener,
    Accepter,
}

impl Side {
    pub const fn other(self) -> Self {
        match self {
            Self::Opener => Self::Accepter,
            Self::Accepter => Self::Opener,
        }
    }
}

/// Both ends of a channel that is open and idle; all of the capacity is the opener's.
#[derive(Clone, Debug)]
pub struct Pair {
    pub opener: (Party, Channel),
    pub accepter: (Party, Channel),
}

impl Pair {
    /// Opens a channel. `router` is asked nothing, because no HTLC is in flight yet.
    pub fn open(opener: Party, accepter: Party, router: &dyn Router) -> Self {
        let channel_id = ChannelId(opener.key_id.to_bytes());
        let mut pair = Opening::propose(opener, accepter, channel_id, router);
        let funding = pair.build();
        pair.command(Side::Opener, Command::FundingBuilt { transaction: funding.clone(), output_index: 1 });
        pair.settle();
        for side in [Side::Opener, Side::Accepter] {
            let output = funding.output.get(1).cloned();
            let confirmed = ChainEvent::FundingConfirmed { height: HEIGHT, block_index: 1, output };
            pair.command(side, Command::Chain(confirmed));
            pair.command(side, Command::Chain(ChainEvent::FundingDeep { height: HEIGHT }));
        }
        pair.settle();
        let Opening { opener, accepter, .. } = pair;
        Pair { opener: (opener.party, opener.channel), accepter: (accepter.party, accepter.channel) }
    }
}

/// An end while the channel is being opened.
struct Half {
    party: Party,
    channel: Channel,
    outbox: VecDeque<Message>,
    build: Option<TxOut>,
}

impl Half {
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to_send) => {
                    let message = self.channel.message(&to_send, &self.party.signer);
                    self.outbox.extend(message);
                }
                Effect::BuildFunding { script, amount, .. } => {
                    self.build = Some(TxOut { value: amount, script_pubkey: script });
                }
                Effect::Internal { .. }
                | Effect::LogRevoked { .. }
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
}

struct Opening<'a> {
    opener: Half,
    accepter: Half,
    router: &'a dyn Router,
}

const HONEST: &str = "honest ends take each other's messages";

impl<'a> Opening<'a> {
    fn propose(opener: Party, accepter: Party, channel_id: ChannelId, router: &'a dyn Router) -> Self {
        let request = OpenRequest {
            owner: opener.owner,
            channel_id,
            role: opener.role,
            counterparty_node: accepter.signer.node_id(),
            key_id: opener.key_id,
            capacity_sat: CAPACITY_SAT,
            reserve_sat: 0,
            price_msat: Msat::ZERO,
            reserve_price_msat: Msat::ZERO,
            session: FIRST_SESSION,
        };
        let input = Channel::check_open(request, &opener.context(HEIGHT, router)).expect(HONEST);
        let mut opener = begin(opener, &input);
        let Some(Message::OpenChannel(proposal)) = opener.outbox.pop_front() else {
            unreachable!("an opener's first message proposes the channel")
        };
        let request = AcceptRequest {
            owner: accepter.owner,
            channel_id,
            role: accepter.role,
            counterparty_node: opener.party.signer.node_id(),
            key_id: accepter.key_id,
            reserve_script: ScriptBuf::new(),
            max_price_msat: Msat::ZERO,
            session: FIRST_SESSION,
        };
        let context = accepter.context(HEIGHT, router);
        let input = Channel::check_accept(request, &proposal, &context).expect(HONEST);
        let accepter = begin(accepter, &input);
        let mut opening = Opening { opener, accepter, router };
        opening.settle();
        opening
    }

    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Opener => &mut self.opener,
            Side::Accepter => &mut self.accepter,
        }
    }

    fn handle(&mut self, side: Side, event: Event) {
        let router = self.router;
        let half = self.half(side);
        match half.channel.check(event, &half.party.context(HEIGHT, router)).expect(HONEST) {
            Checked::Input(input) => {
                let mut effects = Vec::new();
                half.channel.apply(&input, &mut effects);
                half.perform(effects);
            }
            Checked::Repeat(effect) => half.perform(vec![effect]),
            Checked::Nothing => {}
        }
    }

    fn command(&mut self, side: Side, command: Command) {
        self.handle(side, Event::Command(command));
    }

    fn settle(&mut self) {
        for side in [Side::Opener, Side::Accepter].into_iter().cycle() {
            match self.half(side.other()).outbox.pop_front() {
                Some(message) => self.handle(side, Event::Message(message)),
                None if self.half(side).outbox.is_empty() => return,
                None => {}
            }
        }
    }

    fn build(&mut self) -> Transaction {
        let output = self.opener.build.take().expect("the opener is asked to build the funding");
        let change = TxOut { value: Amount::from_sat(5_000), script_pubkey: payout_script(9) };
        let mut witness = Witness::new();
        witness.push([1; 64]);
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint {
                    txid: Txid::from_byte_array(self.opener.party.key_id.to_bytes()),
                    vout: 0,
                },
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness,
            }],
            output: vec![change, output],
        }
    }
}

fn begin(party: Party, input: &channel::channel::Input) -> Half {
    let mut effects = Vec::new();
    let channel = Channel::from_first(input, &mut effects).expect("it is a first input");
    let mut half = Half { party, channel, outbox: VecDeque::new(), build: None };
    half.perform(effects);
    half
}

/// Where somebody is paid.
pub fn payout_script(tag: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([tag; 20]))
}
