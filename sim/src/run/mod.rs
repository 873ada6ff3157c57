//! One run: a world of processes, moved by chance alone, watched by the auditor.

mod act;
mod afterwards;
mod calls;
mod chain_mishap;
mod climate;
mod closing;
mod due;
mod hindrance;
mod hostile;
mod lag;
mod lies;
mod mishap;
mod moments;
mod oddities;
mod pace;
mod reckon;
mod restore;
mod rival;
mod seats;
mod statement;
mod strange;
mod traffic;
mod watching;
mod windup;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bitcoin::{Address, Amount, Network, Txid};
use proto::hub::v1 as pb;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use crate::audit::chain::Watchman;
use crate::audit::{Books, Broken, Party};
use crate::chain::SimNode;
use crate::chronicle::Chronicle;
use crate::clock::{BEGINNING_MS, Clock};
use crate::coverage;
use crate::net::Net;
use crate::plan::{Fault, Plan, WALLETS};
use crate::process::{Call, HubPart, HubProcess, HubSetup, WalletPart, WalletProcess, WalletSetup};
use crate::report::{Counts, Failure, Outcome};
use crate::seed::Chance;
use climate::Climate;
use hindrance::Hindrances;
use lies::Lies;
use mishap::Spells;
use moments::Moments;
use oddities::Oddities;
use pace::Pace;
use restore::Lost;
use seats::{Bitcoind, Character, Line, Owner, Seat};
use traffic::Traffic;
use watching::Watching;

/// Events of a failure that are shown.
const LAST_EVENTS: usize = 300;
/// Coins that the hub begins with, and what each is worth.
const HUB_COINS: (u32, Amount) = (8, Amount::from_sat(20_000_000));
/// What everybody makes everybody wait: short, so that runs see its end.
const DELAY_BLOCKS: u16 = 48;
/// What each wallet begins with.
const FIRST_PURSE: Amount = Amount::from_sat(4_000_000);
/// As often as anybody wants to open a channel.
const OPENS_PER_HOUR: u32 = 10_000;
/// Channels of a wallet, more than any has.
const MOST_CHANNELS: usize = 500;
/// As deep as everybody wants fundings to be.
const FIRST_BLOCKS: u32 = 4;
/// How long after a start that failed the next is tried.
const RETRY_MS: u64 = 5_000;
/// Most polls of tasks in one turn.
const MOST_POLLS: u64 = 8;
/// Rounds that whoever asks waits for threads that are behind.
const PATIENT_ROUNDS: u32 = 4;
/// Rounds after which a world that never rests is taken to be stuck.
const MOST_ROUNDS: u32 = 2_000;

/// Runs a plan from beginning to end.
pub fn run(plan: &Plan, chronicle: &Chronicle) -> Outcome {
    let listening = chronicle.listen();
    let mut run = Run::new(plan, chronicle);
    let lived = catch_unwind(AssertUnwindSafe(|| run.live()));
    let result = lived.unwrap_or_else(|_| Err(Broken::new("the simulator lives", "it panicked")));
    drop(listening);
    let (at_step, pairs) = (run.counts.steps, chronicle.pairs());
    let result = result.and_then(|()| coverage::check(&pairs));
    Outcome {
        plan: plan.clone(),
        counts: run.counts,
        pairs,
        hash: chronicle.hash(),
        failure: result.err().map(|broken| Failure { broken, at_step, last: chronicle.last(LAST_EVENTS) }),
    }
}

/// Chance, a stream for each who draws.
struct Chances {
    /// Whose turn it is.
    order: Chance,
    people: Chance,
    faults: Chance,
    disk: Chance,
    miner: Chance,
    cheats: Chance,
    chain: Chance,
}

/// The world.
struct Run {
    plan: Plan,
    chronicle: Chronicle,
    clock: Clock,
    node: SimNode,
    net: Net,
    hub: Seat<HubProcess>,
    wallets: Vec<Seat<WalletProcess>>,
    /// By the wallets' numbers.
    owners: Vec<Owner>,
    books: Books,
    counts: Counts,
    chance: Chances,
    /// Mishaps happen. Not any more when the books are closed.
    stormy: bool,
    climate: Climate,
    spells: Spells,
    hindrances: Hindrances,
    pace: Pace,
    odd: Oddities,
    moments: Moments,
    lost: Lost,
    traffic: Traffic,
    /// Channels in which an old state was found on the chain.
    punished: BTreeSet<Vec<u8>>,
    watching: Watching,
    lies: Lies,
    /// Commitments that were revoked and published all the same.
    revoked: BTreeSet<Txid>,
    watchman: Watchman,
    /// Channels that were frozen at the beginning of the end.
    frozen: BTreeSet<Vec<u8>>,
    /// Every channel, with its wallet, as that saw it last.
    seen: BTreeMap<Vec<u8>, (usize, proto::hub::v1::Channel)>,
    /// Height at which a close was last undone, or might have been.
    undone_at: Option<u32>,
}

impl Run {
    fn new(plan: &Plan, chronicle: &Chronicle) -> Self {
        let (seed, clock) = (plan.seed, Clock::default());
        let node = SimNode::new(seed, clock.clone());
        let mut hub_setup = HubSetup::new(seed.stream("hub seed").bytes());
        hub_setup.config.policy.to_self_delay_blocks = DELAY_BLOCKS;
        (hub_setup.config.inbound.fee_base_sat, hub_setup.config.inbound.fee_ppm) = (0, 0);
        hub_setup.config.wallets.opens_per_hour = OPENS_PER_HOUR;
        hub_setup.config.inbound.max_channels_per_wallet = MOST_CHANNELS;
        hub_setup.config.wallets.max_channels_per_wallet = MOST_CHANNELS;
        hub_setup.config.inbound.max_sat_per_wallet = hub_setup.config.inbound.max_channel_sat * 20;
        let moments = Moments::of(plan, &mut hub_setup);
        let mut nature = seed.stream("nature");
        let count = plan.wallets.unwrap_or_else(|| {
            let (least, most) = (*WALLETS.start(), *WALLETS.end());
            least + nature.below(most - least + 1)
        });
        let hostile = plan.faults.has(Fault::Hostile);
        let mut odd = Oddities::of(plan);
        let rude = odd.rude;
        let hub_cheats = hostile && !rude && nature.one_of(1, 8);
        let hub_lies = hostile && !rude && !hub_cheats && seed.stream("hub nature").one_of(1, 8);
        let wallets = (0..count).map(|number| {
            let name = format!("wallet {number}");
            let secret = seed.stream(&format!("{name} seed")).bytes();
            let mut setup = WalletSetup::new(&name, secret, hub_setup.node_id());
            setup.checked.policy.to_self_delay_blocks = DELAY_BLOCKS;
            setup.free = odd.room();
            let draw = nature.below(8);
            // Whoever is first is honest: somebody must be wronged.
            let may = hostile && number > 0 && !hub_cheats && !hub_lies;
            let character = match draw {
                0 | 3 if may => Character::Hostile,
                4 | 5 if rude && may => Character::Hostile,
                1 | 2 if may => Character::Cheat,
                _ => Character::Honest,
            };
            Seat::new(setup, clock.world(seed, &name), character)
        });
        let mut wallets: Vec<Seat<WalletProcess>> = wallets.collect();
        let climate = Climate::of(plan, act::ACTS_COUNT);
        if climate.cheats && !hub_cheats && wallets.iter().all(Seat::is_honest) {
            let vanishes = nature.one_of(1, 4);
            let character = if vanishes { Character::Hostile } else { Character::Cheat };
            wallets.iter_mut().skip(1).for_each(|wallet| wallet.character = character);
        }
        hub_setup.free = odd.room();
        let keys = wallets.iter().map(|wallet| wallet.setup.node_id()).collect();
        let character = match (hub_cheats, hub_lies) {
            (true, _) => Character::Cheat,
            (false, true) => Character::Hostile,
            (false, false) => Character::Honest,
        };
        let hub = Seat::new(hub_setup, clock.world(seed, "hub"), character);
        Run {
            plan: plan.clone(),
            chronicle: chronicle.clone(),
            net: Net::new(seed.stream("net"), chronicle.clone()),
            node,
            hub,
            wallets,
            owners: (0..count).map(|_| Owner::default()).collect(),
            books: Books::default(),
            counts: Counts::default(),
            chance: Chances {
                order: seed.stream("order"),
                people: seed.stream("people"),
                faults: seed.stream("faults"),
                disk: seed.stream("disk"),
                miner: seed.stream("miner"),
                cheats: seed.stream("cheats"),
                chain: seed.stream("chain"),
            },
            stormy: true,
            climate,
            spells: Spells::default(),
            hindrances: Hindrances::default(),
            pace: Pace::default(),
            odd,
            moments,
            lost: Lost::default(),
            traffic: Traffic::of(plan),
            punished: BTreeSet::new(),
            watching: Watching::new(seed, keys),
            lies: Lies::default(),
            revoked: BTreeSet::new(),
            watchman: Watchman::default(),
            frozen: BTreeSet::new(),
            seen: BTreeMap::new(),
            undone_at: None,
            clock,
        }
    }

    fn live(&mut self) -> Result<(), Broken> {
        self.found()?;
        self.first_lies();
        while self.counts.steps < self.plan.steps {
            self.counts.steps += 1;
            self.step()?;
        }
        self.wind_up()
    }

    /// The hub and everybody's first coins.
    fn found(&mut self) -> Result<(), Broken> {
        self.node.mine_blocks(1);
        self.start_hub()?;
        self.settle()?;
        for _ in 0..HUB_COINS.0 {
            let address = self.ask_operator(|operator| async move {
                operator.new_address(Request::new(pb::NewAddressRequest {})).await
            })?;
            let Some(answer) = address else { continue };
            self.fund(Party::Hub, &answer.address, HUB_COINS.1)?;
        }
        self.mine(1);
        for number in 0..self.wallets.len() {
            self.start_wallet(number)?;
        }
        self.settle()?;
        self.first_channels()
    }

    /// Everybody begins with coins, a channel to pay with, and one to be paid by.
    fn first_channels(&mut self) -> Result<(), Broken> {
        for number in 0..self.wallets.len() {
            let address = self.ask_wallet(number, |service| async move {
                service.new_address(Request::new(wallet_pb::NewAddressRequest {})).await
            })?;
            if let Some(answer) = address {
                self.fund(Party::Wallet(number), &answer.address, FIRST_PURSE)?;
            }
        }
        self.block_for_all()?;
        for number in 0..self.wallets.len() {
            for _ in 0..self.climate.first_channels {
                let amount_sat = self.capacity_sat();
                let request = wallet_pb::OpenChannelRequest { amount_sat, ..Default::default() };
                self.ask_wallet(number, |service| async move {
                    service.open_channel(Request::new(request)).await
                })?;
                let amount_sat = self.capacity_sat();
                let request = wallet_pb::RequestInboundRequest { amount_sat, ..Default::default() };
                self.ask_wallet(number, |service| async move {
                    service.request_inbound(Request::new(request)).await
                })?;
            }
            for _ in 0..self.traffic.more_inbound {
                let amount_sat = self.capacity_sat();
                let request = wallet_pb::RequestInboundRequest { amount_sat, ..Default::default() };
                self.ask_wallet(number, |service| async move {
                    service.request_inbound(Request::new(request)).await
                })?;
            }
        }
        for _ in 0..FIRST_BLOCKS {
            self.block_for_all()?;
        }
        Ok(())
    }

    /// One thing that somebody does, or that happens, and a while of work for everybody.
    fn step(&mut self) -> Result<(), Broken> {
        for _ in 0..self.chance.people.within(1, self.climate.haste) {
            self.act()?;
        }
        self.traffic()?;
        self.be_rude()?;
        self.moment()?;
        self.end_oddities();
        self.look_at_answers()?;
        let turns = self.chance.order.within(4, 60);
        // What goes wrong does so in the midst of work.
        let mishap_at = self.chance.faults.within(0, turns);
        for turn in 0..turns {
            if self.stormy && turn == mishap_at {
                self.mishap()?;
            }
            self.turn()?;
        }
        let rests = self.chance.order.one_of(1, 2);
        if rests {
            self.settle()?;
        }
        self.watch(rests && !self.odd.somebody_lags())?;
        let slow = self.chance.order.one_of(1, self.climate.slow_every);
        let ms = match self.chance.order.below(3) {
            _ if slow => self.chance.order.within(1_000, 60_000),
            0 => self.chance.order.within(100, 1_000),
            _ => self.chance.order.within(0, 100),
        };
        self.advance(ms);
        self.let_proofs_come(0)?;
        self.return_those_away()?;
        self.look_at_forwards()?;
        self.look_at_submissions()?;
        self.look_at_channels();
        self.look_at_answers()
    }

    // --- The order in which things happen ----------------------------------------------------------------------------

    /// One part of somebody, or one link, has a turn.
    fn turn(&mut self) -> Result<bool, Broken> {
        let links = self.net.links();
        let hub_parts = 4 + self.hub.setup.shards();
        let all = hub_parts + 3 * self.wallets.len() + 1 + 2 * links.len();
        let drawn = self.chance.order.below(all);
        if drawn < hub_parts {
            return self.turn_hub(drawn);
        }
        let drawn = drawn - hub_parts;
        if drawn < 3 * self.wallets.len() {
            return self.turn_wallet(drawn / 3, drawn % 3);
        }
        let drawn = drawn - 3 * self.wallets.len();
        if drawn == 0 {
            return self.connect_dialers();
        }
        let link = links[(drawn - 1) / 2];
        self.say("net");
        Ok(self.net.carry(link, self.clock.now_ms()))
    }

    fn turn_hub(&mut self, drawn: usize) -> Result<bool, Broken> {
        self.say("hub");
        let polls = u32::try_from(self.chance.order.within(1, MOST_POLLS)).unwrap_or(1);
        let part = match drawn {
            0 => HubPart::Journal,
            1 => HubPart::Control,
            2 | 3 => HubPart::Tasks { polls },
            shard => HubPart::Shard(shard - 4),
        };
        self.hub.turn(part, &mut self.chance.disk)
    }

    fn turn_wallet(&mut self, number: usize, drawn: usize) -> Result<bool, Broken> {
        self.say_wallet(number);
        let polls = u32::try_from(self.chance.order.within(1, MOST_POLLS)).unwrap_or(1);
        let part = match drawn {
            0 => WalletPart::Core,
            1 => WalletPart::Journal,
            _ => WalletPart::Tasks { polls },
        };
        self.wallets[number].turn(part, &mut self.chance.disk)
    }

    /// Connects wallets that dial, if the hub serves. True if there was one.
    fn connect_dialers(&mut self) -> Result<bool, Broken> {
        let mut connected = false;
        for (number, wallet) in self.wallets.iter().enumerate() {
            let Some(dial) = wallet.process.as_ref().and_then(|process| process.dialed()) else { continue };
            let serving = self.hub.process.as_mut().filter(|hub| hub.ready());
            let Some(hub) = serving else { continue };
            if wallet.line == Line::Cut || self.hub.line == Line::Cut {
                continue;
            }
            let (_, line) = self.net.connect(number, dial, hub.height());
            hub.connect(line);
            connected = true;
        }
        Ok(connected)
    }

    /// Lets everybody work until nobody has anything to do before time passes.
    fn settle(&mut self) -> Result<(), Broken> {
        for _ in 0..MOST_ROUNDS {
            self.say("hub");
            self.hub.settle(&mut self.chance.disk)?;
            self.look_at_forwards()?;
            for number in 0..self.wallets.len() {
                self.say_wallet(number);
                self.wallets[number].settle(&mut self.chance.disk)?;
            }
            self.say("net");
            let mut moved = self.connect_dialers()?;
            for link in self.net.links() {
                moved |= self.net.carry(link, self.clock.now_ms());
            }
            if !moved {
                return self.look_at_rest();
            }
        }
        Err(Broken::new("the world comes to rest", "messages go to and fro for ever"))
    }

    fn advance(&mut self, ms: u64) {
        self.clock.advance_ms(ms);
        self.hub.advance_ms(ms);
        self.wallets.iter_mut().for_each(|wallet| wallet.advance_ms(ms));
        self.note_time();
    }

    fn say(&self, who: &str) {
        self.chronicle.turn_of(who, self.clock.now_ms() - BEGINNING_MS);
    }

    fn say_wallet(&self, number: usize) {
        self.chronicle.turn_of(&self.wallets[number].setup.name, self.clock.now_ms() - BEGINNING_MS);
    }

    fn note(&self, who: &str, what: std::fmt::Arguments<'_>) {
        self.say(who);
        self.chronicle.note(what);
    }

    // --- Coming and going --------------------------------------------------------------------------------------------

    fn start_wallet(&mut self, number: usize) -> Result<(), Broken> {
        self.note("people", format_args!("wallet {number} starts"));
        self.say_wallet(number);
        self.owners[number].is_back();
        let bitcoind = self.bitcoind(Party::Wallet(number));
        let wallet = &mut self.wallets[number];
        wallet.start(&self.node, bitcoind, &mut self.chance.disk)?;
        if wallet.process.is_none() {
            wallet.back_ms = self.clock.now_ms() + RETRY_MS;
        }
        self.note_start(Party::Wallet(number));
        self.watching.woken.push(number);
        Ok(())
    }

    fn bitcoind(&self, party: Party) -> Bitcoind {
        let who = match party {
            Party::Hub => self.wallets.len(),
            Party::Wallet(number) => number,
        };
        let away = self.spells.is_away(party) || self.odd.has_outage(who);
        if away { Bitcoind::Away } else { Bitcoind::There }
    }

    fn start_hub(&mut self) -> Result<(), Broken> {
        self.note("people", format_args!("the hub starts"));
        self.say("hub");
        let bitcoind = self.bitcoind(Party::Hub);
        self.hub.start(&self.node, bitcoind, &mut self.chance.disk)?;
        if self.hub.process.is_none() {
            self.hub.back_ms = self.clock.now_ms() + RETRY_MS;
        }
        self.note_start(Party::Hub);
        Ok(())
    }

    fn return_those_away(&mut self) -> Result<(), Broken> {
        let now = self.clock.now_ms();
        if self.hub.process.is_none() && now >= self.hub.back_ms {
            self.net.hub_died();
            self.start_hub()?;
        }
        for number in 0..self.wallets.len() {
            if self.wallets[number].process.is_none() && now >= self.wallets[number].back_ms {
                self.net.wallet_died(number);
                self.start_wallet(number)?;
            }
        }
        Ok(())
    }

    // --- The chain ---------------------------------------------------------------------------------------------------

    /// Mines; but no further than a hub that is away may be behind: of whoever misses more, nothing was promised.
    fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            if self.hub_is_far_behind() {
                return;
            }
            let hash = self.node.mine(&crate::chain::Mine::default());
            self.counts.blocks += 1;
            self.note("miner", format_args!("block {} {hash}", self.node.height()));
        }
        self.blocks_came(blocks);
    }

    /// Somebody outside pays a party, in the next block.
    fn fund(&mut self, to: Party, address: &str, amount: Amount) -> Result<(), Broken> {
        let parsed: Result<Address<_>, _> = address.parse();
        let address = parsed.ok().and_then(|address| address.require_network(Network::Regtest).ok());
        let Some(address) = address else {
            return Err(Broken::new("answers are well formed", format!("no address: {address:?}")));
        };
        self.node.fund(&address.script_pubkey(), amount);
        self.books.give(to, amount);
        self.note("people", format_args!("{to} gets {amount}"));
        Ok(())
    }

    // --- Asking ------------------------------------------------------------------------------------------------------

    /// Asks the operator's service, and waits for the answer. None: refused, or the hub is away.
    fn ask_operator<T, F>(
        &mut self,
        ask: impl FnOnce(::hub::operator::OperatorService) -> F,
    ) -> Result<Option<T>, Broken>
    where
        T: Send + 'static,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send + 'static,
    {
        let Some(hub) = &self.hub.process else { return Ok(None) };
        let call = hub.call(ask);
        self.wait_for(call)
    }

    /// The same for a wallet's.
    fn ask_wallet<T, F>(
        &mut self,
        number: usize,
        ask: impl FnOnce(::wallet::service::Service) -> F,
    ) -> Result<Option<T>, Broken>
    where
        T: Send + 'static,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send + 'static,
    {
        let Some(wallet) = &self.wallets[number].process else { return Ok(None) };
        let call = wallet.call(ask);
        self.wait_for(call)
    }

    fn wait_for<T>(
        &mut self,
        mut call: Call<Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<Option<T>, Broken> {
        for round in 0..MOST_ROUNDS {
            if round == PATIENT_ROUNDS {
                self.catch_up();
            }
            self.settle()?;
            match call.answer() {
                Some(answer) => {
                    return Ok(answer.ok().and_then(Result::ok).map(tonic::Response::into_inner));
                }
                None => self.advance(250),
            }
        }
        Err(Broken::new("calls are answered", "a call is never answered"))
    }
}
