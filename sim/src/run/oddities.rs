//! What people, machines and peers seldom do: words at the wrong time, calls at odd moments, threads that fall behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::hub::v1 as hub_pb;
use proto::hub::v1::operator_server::Operator;
use proto::request_id::RequestId;
use proto::wallet::v1 as pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::calls::WithChannels;
use super::seats::Character;
use super::strange::{self, Known};
use crate::audit::{Broken, Party};
use crate::net::Speaker;
use crate::plan::{Fault, Plan};
use crate::seed::Chance;

/// How long a thread falls behind, in milliseconds.
const LAG_MS: (u64, u64) = (200, 40_000);
/// How long everything piles up before each of some blocks is looked at, in milliseconds.
const PILED_MS: u64 = 500;
/// How long nothing arrives while somebody asks for odd things, in milliseconds.
const STALL_MS: (u64, u64) = (500, 8_000);
/// How long somebody is without bitcoind or room, in milliseconds.
const OUTAGE_MS: (u64, u64) = (2_000, 90_000);
/// Turns that an opening gets before it is interrupted.
const TURNS: u64 = 120;

/// What is kept of them.
pub struct Oddities {
    chance: Chance,
    /// Hardly anybody keeps to the rules.
    pub rude: bool,
    /// Until when one of the hub's shards, or a wallet's core, does nothing.
    lag_until_ms: Option<u64>,
    /// The channels that hostile wallets talked about.
    known: BTreeMap<usize, Known>,
    /// Who has no bitcoind, and until when: wallets by their numbers, the hub after them.
    outage: Option<(usize, u64)>,
    /// Whose bitcoind is slow, and until when.
    slow: Option<(usize, u64)>,
    /// Whose disk has hardly any room, and until when.
    crowded: Option<(usize, u64)>,
    /// Bytes free beside each journal, in the same order.
    rooms: Vec<Arc<AtomicU64>>,
    /// What the operator asked for payments before it changed that: a base in msat, and millionths.
    pub rates: Vec<(u64, u32)>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    Speak,
    Lag,
    Interrupt,
    CloseMany,
    Restore,
    Backup,
    Policy,
    Outage,
    Slow,
    Room,
    PileUp,
    Rival,
}

/// With what must be able to go wrong, and how often each happens.
const ODDITIES: [(Oddity, Option<Fault>, u32); 12] = [
    (Oddity::Speak, Some(Fault::Hostile), 10),
    (Oddity::Lag, Some(Fault::Crash), 4),
    (Oddity::Interrupt, Some(Fault::Net), 4),
    (Oddity::CloseMany, None, 1),
    (Oddity::Restore, Some(Fault::Disk), 1),
    (Oddity::Backup, Some(Fault::Disk), 1),
    (Oddity::Policy, None, 1),
    (Oddity::Outage, Some(Fault::Chain), 1),
    (Oddity::Slow, Some(Fault::Chain), 3),
    (Oddity::Room, Some(Fault::Disk), 1),
    (Oddity::PileUp, Some(Fault::Crash), 2),
    (Oddity::Rival, Some(Fault::Hostile), 1),
];

impl Oddities {
    /// Whether a thread does nothing although it has something to do.
    pub fn somebody_lags(&self) -> bool {
        self.lag_until_ms.is_some()
    }

    pub fn of(plan: &Plan) -> Self {
        Oddities {
            chance: plan.seed.stream("oddities"),
            rude: plan.faults.has(Fault::Hostile) && plan.seed.stream("rude").one_of(1, 4),
            lag_until_ms: None,
            known: BTreeMap::new(),
            outage: None,
            slow: None,
            crowded: None,
            rooms: Vec::new(),
            rates: Vec::new(),
        }
    }

    /// The next one's disk: what it sees of the room beside its journal.
    pub fn room(&mut self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        let room = Arc::new(AtomicU64::new(u64::MAX));
        self.rooms.push(Arc::clone(&room));
        Arc::new(move || room.load(Ordering::Relaxed))
    }

    /// Whether a thread or a node of somebody's is not what it should be.
    pub fn somebody_is_hindered(&self) -> bool {
        self.lag_until_ms.is_some() || self.outage.is_some() || self.slow.is_some()
    }

    /// Whether this one's bitcoind is away.
    pub fn has_outage(&self, who: usize) -> bool {
        self.outage.is_some_and(|(away, _)| away == who)
    }
}

impl Run {
    pub(super) fn oddity(&mut self) -> Result<(), Broken> {
        let may = |fault: Option<Fault>| fault.is_none_or(|fault| self.plan.faults.has(fault));
        let weights: Vec<u32> =
            ODDITIES.iter().map(|(_, fault, weight)| if may(*fault) { *weight } else { 0 }).collect();
        let Some(index) = self.odd.chance.weighted(&weights) else { return Ok(()) };
        match ODDITIES[index].0 {
            Oddity::Speak => self.speak_strangely(),
            Oddity::Lag => self.fall_behind(),
            Oddity::Interrupt => self.interrupt_an_opening()?,
            Oddity::CloseMany => self.close_without_waiting()?,
            Oddity::Restore => {
                let number = self.odd.chance.below(self.wallets.len());
                self.restore_from_words(number)?;
            }
            Oddity::Backup => self.go_back_to_a_backup()?,
            Oddity::Policy => self.change_policy()?,
            Oddity::Outage => self.lose_bitcoind(),
            Oddity::Slow => self.slow_bitcoind(),
            Oddity::Room => self.run_out_of_room(),
            Oddity::PileUp => self.pile_up()?,
            Oddity::Rival => self.spend_a_funding_twice()?,
        }
        Ok(())
    }

    pub(super) fn odd_chance(&mut self) -> &mut Chance {
        &mut self.odd.chance
    }

    /// In a rude run somebody hostile does something at every step.
    pub(super) fn be_rude(&mut self) -> Result<(), Broken> {
        if !self.odd.rude || !self.stormy {
            return Ok(());
        }
        let Some(number) = self.somebody_hostile() else { return Ok(()) };
        if !self.odd.known.contains_key(&number) || self.odd.chance.one_of(1, 8) {
            self.speak_from_now_on(number);
        }
        match self.odd.chance.below(10) {
            0..=3 => self.open_something(number),
            4 | 5 => self.say_strange_things(number),
            6 if self.odd.chance.one_of(1, 2) => self.pile_up()?,
            7 => self.channels_of(number, WithChannels::Close),
            8 if self.odd.chance.one_of(1, 2) => self.channels_of(number, WithChannels::Force),
            _ => {}
        }
        Ok(())
    }

    /// The operator closes channels that a hostile wallet talks about, whatever became of them, and waits for no answer.
    fn close_known(&mut self, number: usize) {
        let Some(known) = self.odd.known.get(&number).cloned() else { return };
        if self.hub.character != Character::Honest {
            return;
        }
        for _ in 0..self.odd.chance.within(0, 3) {
            let Some(channel_id) = known.pick(&mut self.odd.chance) else { return };
            let force = self.odd.chance.one_of(1, 2);
            let request_id = RequestId::new(self.clock.now_ms(), self.odd.chance.bytes()).to_string();
            let request = hub_pb::CloseChannelRequest { channel_id, request_id, force };
            let Some(hub) = &self.hub.process else { return };
            drop(hub.call(|operator| async move { operator.close_channel(Request::new(request)).await }));
        }
    }

    fn speak_from_now_on(&mut self, number: usize) {
        self.note("cheats", format_args!("wallet {number} speaks strangely from now on"));
        let known = self.odd.known.entry(number).or_default().clone();
        let name = format!("strange {number} {}", self.counts.steps);
        self.net
            .set_tamper(Speaker::Wallet(number), Some(strange::tamper(known, self.plan.seed.stream(&name))));
    }

    /// One of the wallets that keep to no rule.
    pub(super) fn somebody_hostile(&mut self) -> Option<usize> {
        let hostile: Vec<usize> = (0..self.wallets.len())
            .filter(|number| self.wallets[*number].character == Character::Hostile)
            .collect();
        self.odd.chance.pick(&hostile).copied()
    }

    /// A hostile wallet says things out of place: between its words from now on, or just so.
    fn speak_strangely(&mut self) {
        let Some(number) = self.somebody_hostile() else { return };
        let known = self.odd.known.entry(number).or_default().clone();
        match self.odd.chance.below(5) {
            0 => self.speak_from_now_on(number),
            1 => self.net.set_tamper(Speaker::Wallet(number), Some(strange::listen(known))),
            2 => self.open_something(number),
            _ => {
                self.note("cheats", format_args!("wallet {number} says strange things"));
                self.say_strange_things(number);
            }
        }
    }

    fn say_strange_things(&mut self, number: usize) {
        let Some(known) = self.odd.known.get(&number).cloned() else { return };
        for _ in 0..self.odd.chance.within(1, 4) {
            if let Some(frame) = strange::frame(&known, &mut self.odd.chance) {
                self.net.say(number, &frame, self.clock.now_ms());
            }
        }
    }

    /// For some blocks every thread that owns channels is behind: what the chain, peers, people and each other tell them comes
    /// at once.
    fn pile_up(&mut self) -> Result<(), Broken> {
        if self.odd.lag_until_ms.is_some() {
            return Ok(());
        }
        self.note("faults", format_args!("for some blocks everything comes at once"));
        for _ in 0..self.odd.chance.within(2, 12) {
            self.odd.lag_until_ms = Some(self.clock.now_ms() + LAG_MS.1);
            // One may keep up.
            let spared = self.odd.chance.below(2 * self.hub.setup.shards());
            for shard in (0..self.hub.setup.shards()).filter(|shard| *shard != spared) {
                if let Some(hub) = &mut self.hub.process {
                    hub.fall_behind(shard);
                }
            }
            for number in 0..self.wallets.len() {
                if self.odd.chance.one_of(1, 3)
                    && let Some(wallet) = &mut self.wallets[number].process
                {
                    wallet.fall_behind();
                }
            }
            self.mine(1);
            self.settle()?;
            if let Some(number) = self.somebody_hostile() {
                self.say_strange_things(number);
                self.say_strange_things(number);
                self.open_something(number);
                self.close_known(number);
            }
            let links = self.net.links();
            if self.odd.chance.one_of(1, 4)
                && let Some(link) = self.odd.chance.pick(&links)
            {
                self.net.cut(*link);
            }
            self.advance(PILED_MS);
            self.settle()?;
            self.catch_up();
            self.settle()?;
            self.let_proofs_come(0)?;
        }
        Ok(())
    }

    /// Somebody's bitcoind takes its time.
    fn slow_bitcoind(&mut self) {
        if self.odd.slow.is_some() {
            return;
        }
        let who = self.odd.chance.below(self.wallets.len() + 1);
        let until = self.clock.now_ms() + self.odd.chance.within(OUTAGE_MS.0, OUTAGE_MS.1);
        self.odd.slow = Some((who, until));
        let name = self.name_of(who);
        let delay = Duration::from_millis(self.odd.chance.within(50, 5_000));
        self.note("faults", format_args!("bitcoind of {name} takes {delay:?}"));
        self.node.set_slow(&name, Some(delay));
        // Whoever opens a channel now waits for it.
        let number = if who < self.wallets.len() { who } else { self.odd.chance.below(self.wallets.len()) };
        self.open_something(number);
    }

    fn hurry_bitcoind(&mut self) {
        let Some((who, _)) = self.odd.slow.take() else { return };
        let name = self.name_of(who);
        self.note("faults", format_args!("bitcoind of {name} answers at once"));
        self.node.set_slow(&name, None);
    }

    pub(super) fn open_something(&mut self, number: usize) {
        let amount_sat = self.capacity_sat();
        let Some(process) = &self.wallets[number].process else { return };
        if self.odd.chance.one_of(1, 2) {
            let request = pb::OpenChannelRequest { amount_sat, ..Default::default() };
            drop(process.call(|service| async move { service.open_channel(Request::new(request)).await }));
        } else {
            let request = pb::RequestInboundRequest { amount_sat, ..Default::default() };
            drop(process.call(|service| async move { service.request_inbound(Request::new(request)).await }));
        }
    }

    /// One of the hub's threads gets no time for so long, or until somebody ends it.
    pub(super) fn shard_falls_behind(&mut self, shard: usize, ms: u64) {
        self.odd.lag_until_ms = Some(self.clock.now_ms() + ms);
        if let Some(hub) = &mut self.hub.process {
            hub.fall_behind(shard);
        }
    }

    /// A thread gets no time for a while. What it has to do waits, and is then done at once.
    fn fall_behind(&mut self) {
        let now = self.clock.now_ms();
        if self.odd.lag_until_ms.is_some() {
            return;
        }
        self.odd.lag_until_ms = Some(now + self.odd.chance.within(LAG_MS.0, LAG_MS.1));
        let drawn = self.odd.chance.below(self.hub.setup.shards() + 1);
        if drawn < self.hub.setup.shards() {
            self.note("faults", format_args!("the hub's shard {drawn} falls behind"));
            if let Some(hub) = &mut self.hub.process {
                hub.fall_behind(drawn);
            }
            return;
        }
        let number = self.odd.chance.below(self.wallets.len());
        self.note("faults", format_args!("wallet {number}'s core falls behind"));
        if let Some(wallet) = &mut self.wallets[number].process {
            wallet.fall_behind();
        }
    }

    /// Ends what lasts for a while.
    pub(super) fn end_oddities(&mut self) {
        let now = self.clock.now_ms();
        if self.odd.lag_until_ms.is_some_and(|until| until <= now) {
            self.catch_up();
        }
        if self.odd.outage.is_some_and(|(_, until)| until <= now) {
            self.find_bitcoind();
        }
        if self.odd.slow.is_some_and(|(_, until)| until <= now) {
            self.hurry_bitcoind();
        }
        if self.odd.crowded.is_some_and(|(_, until)| until <= now) {
            self.make_room();
        }
    }

    /// Nothing is odd any more.
    pub(super) fn end_all_oddities(&mut self) {
        self.catch_up();
        self.find_bitcoind();
        self.hurry_bitcoind();
        self.make_room();
    }

    /// The operator asks other prices, and more or fewer blocks, from the next start on.
    fn change_policy(&mut self) -> Result<(), Broken> {
        if self.hub.character != Character::Honest {
            return Ok(());
        }
        let config = &mut self.hub.setup.config;
        self.odd.rates.push((config.policy.fee_base_msat, config.policy.fee_ppm));
        let chance = &mut self.odd.chance;
        config.policy.fee_base_msat = chance.within(0, 2_000);
        config.policy.fee_ppm = u32::try_from(chance.within(0, 5_000)).unwrap_or(0);
        config.policy.minimum_depth = u32::try_from(chance.within(1, 4)).unwrap_or(1);
        config.inbound.fee_base_sat = chance.pick(&[0, 50, 1_000]).copied().unwrap_or(0);
        config.inbound.fee_ppm = chance.pick(&[0, 500, 5_000]).copied().unwrap_or(0);
        let (policy, inbound) = (&self.hub.setup.config.policy, &self.hub.setup.config.inbound);
        self.note(
            "people",
            format_args!(
                "the operator asks {} msat + {} ppm, {} sat + {} ppm for a channel, {} blocks",
                policy.fee_base_msat,
                policy.fee_ppm,
                inbound.fee_base_sat,
                inbound.fee_ppm,
                policy.minimum_depth
            ),
        );
        self.restart_hub()
    }

    /// One party's bitcoind is away, and everybody else's is there.
    fn lose_bitcoind(&mut self) {
        if self.odd.outage.is_some() || self.spells.any_away() {
            return;
        }
        let who = self.odd.chance.below(self.wallets.len() + 1);
        let until = self.clock.now_ms() + self.odd.chance.within(OUTAGE_MS.0, OUTAGE_MS.1);
        if self.may_hinder(Some(self.party_of(who))) == 0 {
            return;
        }
        self.odd.outage = Some((who, until));
        let name = self.name_of(who);
        self.note("faults", format_args!("bitcoind of {name} is away"));
        self.node.set_down(&name, true);
    }

    /// The one party whose bitcoind is away, if any is.
    pub(super) fn without_bitcoind(&self) -> Option<Party> {
        self.odd.outage.map(|(who, _)| self.party_of(who))
    }

    fn party_of(&self, who: usize) -> Party {
        if who < self.wallets.len() { Party::Wallet(who) } else { Party::Hub }
    }

    pub(super) fn find_bitcoind(&mut self) {
        let Some((who, _)) = self.odd.outage.take() else { return };
        let name = self.name_of(who);
        self.note("faults", format_args!("bitcoind of {name} is back"));
        self.node.set_down(&name, false);
    }

    fn name_of(&self, who: usize) -> String {
        self.wallets.get(who).map_or_else(|| "hub".to_owned(), |wallet| wallet.setup.name.clone())
    }

    /// Somebody's disk has hardly any room left: nothing new is begun.
    fn run_out_of_room(&mut self) {
        if self.odd.crowded.is_some() {
            return;
        }
        let who = self.odd.chance.below(self.odd.rooms.len());
        let until = self.clock.now_ms() + self.odd.chance.within(OUTAGE_MS.0, OUTAGE_MS.1);
        self.odd.crowded = Some((who, until));
        self.note("faults", format_args!("{} has no room left", self.name_of(who)));
        self.odd.rooms[who].store(1_000, Ordering::Relaxed);
    }

    fn make_room(&mut self) {
        let Some((who, _)) = self.odd.crowded.take() else { return };
        self.odd.rooms[who].store(u64::MAX, Ordering::Relaxed);
    }

    /// Nobody is behind any more.
    pub(super) fn catch_up(&mut self) {
        if self.odd.lag_until_ms.take().is_none() {
            return;
        }
        if let Some(hub) = &mut self.hub.process {
            hub.catch_up();
        }
        self.wallets
            .iter_mut()
            .filter_map(|wallet| wallet.process.as_mut())
            .for_each(|wallet| wallet.catch_up());
    }

    /// An opening begins, the connection stalls in the middle of it, and the channel is closed meanwhile.
    fn interrupt_an_opening(&mut self) -> Result<(), Broken> {
        let number = self.odd.chance.below(self.wallets.len());
        self.note("people", format_args!("wallet {number} opens a channel and thinks better of it"));
        self.open_something(number);
        for _ in 0..self.odd.chance.within(0, TURNS) {
            self.turn()?;
        }
        let until = self.clock.now_ms() + self.odd.chance.within(STALL_MS.0, STALL_MS.1);
        for link in self.net.links() {
            self.net.stall(link, until);
        }
        if self.odd.chance.one_of(1, 2) {
            return self.close_without_waiting();
        }
        let listed = self.ask_wallet(number, |service| async move {
            let request = pb::ListChannelsRequest { include_closed: false };
            service.list_channels(Request::new(request)).await
        })?;
        let channels = listed.map(|listed| listed.channels).unwrap_or_default();
        let force = self.odd.chance.one_of(1, 2);
        // The last is the newest, as its number is.
        for channel in channels.into_iter().rev().take(2) {
            let Some(process) = &self.wallets[number].process else { break };
            let request =
                pb::CloseChannelRequest { channel_id: channel.channel_id, force, ..Default::default() };
            drop(process.call(|service| async move { service.close_channel(Request::new(request)).await }));
        }
        Ok(())
    }

    /// The operator closes some channels, in whatever phase they are, and does not wait for the answers.
    fn close_without_waiting(&mut self) -> Result<(), Broken> {
        if self.hub.character != Character::Honest {
            return Ok(());
        }
        let listed = self.ask_operator(|operator| async move {
            operator.list_channels(Request::new(hub_pb::ListChannelsRequest::default())).await
        })?;
        let channels = listed.map(|listed| listed.channels).unwrap_or_default();
        let opening = self.odd.chance.one_of(3, 4);
        for channel in channels {
            let is_open = channel.phase() == hub_pb::ChannelPhase::Open;
            if is_open && (opening || self.odd.chance.one_of(7, 8)) {
                continue;
            }
            let force = self.odd.chance.one_of(1, 2);
            let request_id = RequestId::new(self.clock.now_ms(), self.odd.chance.bytes()).to_string();
            let request = hub_pb::CloseChannelRequest { channel_id: channel.channel_id, request_id, force };
            let Some(hub) = &self.hub.process else { break };
            drop(hub.call(|operator| async move { operator.close_channel(Request::new(request)).await }));
        }
        Ok(())
    }
}
