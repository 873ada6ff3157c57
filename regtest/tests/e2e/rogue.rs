//! A wallet written by hand, on the real state machine, that lies when it is told to: what it sends is honest but for one
//! thing.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};
use channel::amount::Msat;
use channel::bytes::KeyId;
use channel::channel::{Channel, Checked, Context, Input, PhaseView};
use channel::effect::Effect;
use channel::event::{ChainEvent, Command, Event, OpenRequest, Role};
use channel::failure::FailureReason;
use channel::forward::{Candidate, ForwardKey, Offer, RouteChoice, Router};
use channel::ids::{ChannelId, OwnerId, SessionId, StreamId};
use channel::message::{ForwardInstruction, Message, Preimage, Recipient};
use channel::policy::Policy;
use channel::seed_signer::SeedSigner;
use proto::frame::{FrameBuilder, Incoming};
use proto::hub::v1 as pb;
use regtest::lab::Lab;

use crate::foreigner::Foreigner;
use crate::support::{CAPACITY_SAT, LARGE_MSAT, SOON};

/// What is sent instead of a message.
pub type Lie = fn(Message) -> Vec<Message>;

/// No lie.
pub fn honest(message: Message) -> Vec<Message> {
    vec![message]
}

/// Nobody pays a rogue.
struct NobodyBehind;

impl Router for NobodyBehind {
    fn route(&self, _: &Candidate<'_>) -> RouteChoice {
        RouteChoice::Fail { reason: FailureReason::UnknownRecipient }
    }
}

/// One node with one channel of its own.
pub struct Rogue {
    pub lie: Lie,
    pub id: ChannelId,
    seed: u8,
    line: Foreigner,
    signer: SeedSigner,
    channel: Channel,
    height: u32,
    unsent: Vec<Message>,
    /// What the funding must pay, once the hub accepted.
    wanted: Option<TxOut>,
    /// The hub signed: the funding may be broadcast.
    signed: bool,
    hub_is_ready: bool,
    /// What the hub said when it gave the channel up.
    told: Option<String>,
}

impl Rogue {
    /// A node of this seed proposes a channel, and the hub accepts it.
    pub async fn propose(lab: &Lab, seed: u8) -> Rogue {
        let line = connected(lab, seed).await;
        let (signer, height) = (SeedSigner::new(&[seed; 64]), lab.chain().height().await.unwrap());
        let id = ChannelId([seed; 32]);
        let request = OpenRequest {
            owner: OwnerId(2_000),
            channel_id: id,
            role: Role::Wallet,
            counterparty_node: line.hub_key,
            key_id: KeyId::from_bytes([seed; 32]),
            capacity_sat: CAPACITY_SAT,
            reserve_sat: 0,
            price_msat: Msat::ZERO,
            reserve_price_msat: Msat::ZERO,
            session: SessionId(1),
        };
        let context = Context { policy: &policy(), height, signer: &signer, router: &NobodyBehind };
        let first = Channel::check_open(request, &context).unwrap();
        let mut effects = Vec::new();
        let channel = Channel::from_first(&first, &mut effects).unwrap();
        let mut rogue = Rogue {
            lie: honest,
            id,
            seed,
            line,
            signer,
            channel,
            height,
            unsent: Vec::new(),
            wanted: None,
            signed: false,
            hub_is_ready: false,
            told: None,
        };
        rogue.perform(effects);
        rogue.until("the hub accepts", |rogue| rogue.wanted.is_some()).await;
        rogue
    }

    /// The output that the funding must have.
    pub fn wanted(&self) -> TxOut {
        self.wanted.clone().expect("the hub accepted")
    }

    /// Proposes a channel and funds it as agreed; it waits for its blocks.
    pub async fn open(lab: &Lab, seed: u8) -> Rogue {
        let mut rogue = Rogue::propose(lab, seed).await;
        let transaction = built(lab, rogue.wanted()).await;
        rogue.command(Command::FundingBuilt { transaction: transaction.clone(), output_index: 0 });
        rogue.until("the hub signs", |rogue| rogue.signed).await;
        broadcast(lab, transaction).await;
        rogue
    }

    /// Has the hub sign for one transaction's first output as if it were another's: its own state machine takes the other's
    /// id for that of an honest funding. Broadcasts it.
    pub async fn fund_with(&mut self, lab: &Lab, output: TxOut) {
        let (honest, other) = (built(lab, self.wanted()).await, built(lab, output).await);
        let (honest_id, other_id) = (honest.compute_txid(), other.compute_txid());
        let command = Command::FundingBuilt { transaction: honest, output_index: 0 };
        let Checked::Input(input) = self.check(Event::Command(command)) else { panic!("it is asked for") };
        let mut bytes = Vec::new();
        input.encode(&mut bytes);
        let length = honest_id.as_byte_array().len();
        let at = bytes.windows(length).position(|window| window == honest_id.as_byte_array());
        let at = at.expect("the input names the outpoint");
        bytes[at..at + length].copy_from_slice(other_id.as_byte_array());
        self.apply(&Input::decode(&bytes).unwrap());
        self.until("the hub signs", |rogue| rogue.signed).await;
        broadcast(lab, other).await;
    }

    /// Learns that its funding, as agreed, is deep in the chain; both ends are ready then.
    pub async fn ready(&mut self, height: u32) {
        let output = Some(self.wanted());
        let confirmed = ChainEvent::FundingConfirmed { height, block_index: 1, output };
        self.command(Command::Chain(confirmed));
        self.command(Command::Chain(ChainEvent::FundingDeep { height }));
        self.height = height;
        self.until("the channel opens", |rogue| rogue.channel.phase() == PhaseView::Open).await;
        assert!(self.hub_is_ready);
    }

    pub fn hub_is_ready(&self) -> bool {
        self.hub_is_ready
    }

    /// Offers a payment with an HTLC output, and signs it.
    pub fn pay(&mut self) {
        let incoming = OwnerId(1);
        let cltv_expiry = self.height + 200;
        let offer = Offer {
            key: ForwardKey { incoming, htlc_id: 0, attempt: 1 },
            amount_msat: Msat::new(2 * LARGE_MSAT).unwrap(),
            payment_hash: Preimage::from_bytes([5; 32]).payment_hash(),
            cltv_expiry,
            recipient: Recipient::Stream { id: StreamId([4; 16]), index: 0 },
            forward: Some(ForwardInstruction {
                amount_msat: Msat::new(LARGE_MSAT).unwrap(),
                cltv_expiry: cltv_expiry - 100,
            }),
            payload: Vec::new(),
            sign_by_height: cltv_expiry - 1,
        };
        self.command(Command::Offer(offer));
        self.command(Command::SignNow);
    }

    /// Starts a cooperative close.
    pub fn close(&mut self) {
        let script = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([self.seed; 20]));
        self.command(Command::Shutdown { script });
    }

    /// What the hub says when it gives the channel up.
    pub async fn told(&mut self) -> String {
        self.until("the hub's words", |rogue| rogue.told.is_some()).await;
        self.told.take().expect("it was just seen")
    }

    /// What the hub says of the channel to the same node over a new connection.
    pub async fn told_again(&mut self, lab: &Lab) -> String {
        self.line = connected(lab, self.seed).await;
        self.told().await
    }

    async fn until(&mut self, what: &str, seen: impl Fn(&Rogue) -> bool) {
        let exchange = async {
            loop {
                self.speak().await;
                if seen(self) {
                    return;
                }
                self.listen().await;
            }
        };
        tokio::time::timeout(SOON, exchange).await.unwrap_or_else(|_| panic!("waited too long: {what}"));
    }

    async fn speak(&mut self) {
        let lie = self.lie;
        let messages: Vec<Message> = self.unsent.drain(..).flat_map(lie).collect();
        let mut frames = FrameBuilder::default();
        frames.channel(self.id, &messages);
        for frame in frames.take() {
            self.line.say_frame(frame).await;
        }
    }

    async fn listen(&mut self) {
        let frame = pb::Frame { kind: Some(self.line.hear().await) };
        let Incoming::Contents(contents) = proto::frame::open(frame).unwrap() else {
            panic!("the hub ended the connection");
        };
        for message in contents.channels.into_iter().flat_map(|(_, messages)| messages) {
            match message {
                // Whoever lies does not mind.
                Message::ChannelError { text, .. } => self.told = Some(text),
                Message::Reestablish(_) => {}
                honest => {
                    self.hub_is_ready |= honest == Message::ChannelReady;
                    self.event(Event::Message(honest));
                }
            }
        }
        if self.channel.wants_to_sign() {
            self.command(Command::SignNow);
        }
    }

    fn command(&mut self, command: Command) {
        self.event(Event::Command(command));
    }

    fn event(&mut self, event: Event) {
        match self.check(event) {
            Checked::Input(input) => self.apply(&input),
            Checked::Repeat(effect) => self.perform(vec![effect]),
            Checked::Nothing => {}
        }
    }

    fn check(&self, event: Event) -> Checked {
        let policy = policy();
        let context =
            Context { policy: &policy, height: self.height, signer: &self.signer, router: &NobodyBehind };
        self.channel.check(event, &context).expect("the hub is honest, and so is this state machine")
    }

    fn apply(&mut self, input: &Input) {
        let mut effects = Vec::new();
        self.channel.apply(input, &mut effects);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to_send) => self.unsent.extend(self.channel.message(&to_send, &self.signer)),
                Effect::BuildFunding { script, amount, reserve_coin: _ } => {
                    self.wanted = Some(TxOut { value: amount, script_pubkey: script });
                }
                Effect::BroadcastFunding { .. } => self.signed = true,
                _ => {}
            }
        }
    }
}

async fn connected(lab: &Lab, seed: u8) -> Foreigner {
    let hub_key = lab.hub().info().await.unwrap().node_key;
    let mut line = Foreigner::connect(lab.hub().address(), &hub_key, seed).await;
    line.shake().await;
    line
}

async fn built(lab: &Lab, output: TxOut) -> Transaction {
    lab.chain().with(move |inner| Ok(inner.miner.build(vec![output])?)).await.unwrap()
}

async fn broadcast(lab: &Lab, transaction: Transaction) {
    lab.chain().call(move |rpc| rpc.send_raw(&transaction)).await.unwrap();
}

fn policy() -> Policy {
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
        minimum_depth: 1,
        min_capacity_sat: 20_000,
        max_capacity_sat: Amount::ONE_BTC.to_sat(),
        max_closing_fee_sat: 10_000,
    }
}
