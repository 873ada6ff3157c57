//! What goes wrong at the very moment that matters: somebody dies while it looks at a block, falls behind while channels are
//! closed, answers late, or is closed upon while it is not there.
//!
//! Chance alone seldom strikes just then, so each act makes its moment: it looks for the state that it needs, or brings it
//! about, and then strikes. A death or a lag spends of what one party may miss ([`super::hindrance`]), and after it there is
//! a rest in which all that waits for proofs and blocks is done.

mod heckle;
mod late;
mod lost;
mod unseen;

use std::time::Duration;

use bytes::Bytes;
use channel::ids::ChannelId;
use proto::hub::v1 as hub_pb;
use proto::hub::v1::operator_server::Operator;
use proto::request_id::RequestId;
use proto::wallet::v1 as pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::act::Invoice;
use super::calls::Hold;
use super::chain_mishap::closes;
use super::pace::BLOCK_MS;
use super::seats::{Character, Line};
use crate::audit::{Broken, Party};
use crate::chain::{Keep, Mine};
use crate::disk::Cut;
use crate::plan::{Faults, Plan};
use crate::process::{HubPart, HubSetup, WalletPart};
use crate::seed::Chance;

/// Blocks of rest after a death: what no peer has proven current is published a minute after a start.
const REST_AFTER_DEATH: u32 = 12;
/// What a death costs whoever dies of the blocks that it may miss: the one it died over, and that of its return.
pub(super) const DEATH_BLOCKS: u32 = 2;
/// Most rows written between a block and a death: the last comes after all that the block means.
const MOST_ROWS: u64 = 6;
/// What blocks mean for channels that close.
const OF_BLOCKS: [&str; 5] = ["FundingSpent", "SpendUndone", "SpendFinal", "OutputSpent", "OutputSpendFinal"];
/// How long before a dead party is back, in milliseconds.
const DEAD_MS: u64 = 3_000;
/// How slow a node is whose answer is waited for meanwhile.
pub(super) const SLOW: Duration = Duration::from_secs(8);
/// After so long, in milliseconds, nobody trusts an estimate of fees any more.
const STALE_MS: u64 = 31_000;
/// Payments that are put under way: enough that the chain decides about them.
const IN_FLIGHT_MSAT: (u64, u64) = (2_000_000, 20_000_000);

/// What is kept of them.
pub struct Moments {
    pub(super) chance: Chance,
    /// One in so many steps; `None`: never.
    every: Option<u32>,
    /// Height before which nobody dies or falls behind again.
    pub(super) rest_until: u32,
    /// The run ends only when nobody has crumbs any more.
    pub waits_for_crumbs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    DieAmidBlock,
    SpendUnseen,
    CloseBehind,
    LateTerms,
    Heckle,
    Opening,
    Rob,
    Restore,
    UndoClose,
}

/// One moment in so many steps, where the seed makes much or little of it. They are long, so most runs have none.
const MOMENTS_EVERY: [Option<u32>; 8] = [None, None, None, None, None, None, Some(10), Some(5)];

/// How often each happens.
const MOMENTS: [(Moment, u32); 9] = [
    (Moment::DieAmidBlock, 2),
    (Moment::SpendUnseen, 6),
    (Moment::CloseBehind, 8),
    (Moment::LateTerms, 4),
    (Moment::Heckle, 8),
    (Moment::Opening, 3),
    (Moment::Rob, 3),
    (Moment::Restore, 3),
    (Moment::UndoClose, 4),
];

/// A payment that waits for its payee, and the channels that it goes through.
pub(super) struct Held {
    pub payer: usize,
    pub payee: usize,
    pub incoming: Bytes,
    pub outgoing: Bytes,
    hash: Vec<u8>,
}

impl Moments {
    pub fn of(plan: &Plan, hub: &mut HubSetup) -> Self {
        let mut chance = plan.seed.stream("moments");
        let drawn = chance.pick(&MOMENTS_EVERY).copied().flatten();
        // Each needs faults of more than one kind.
        let every = drawn.filter(|_| plan.faults == Faults::all());
        let waits_for_crumbs = every.is_some() && chance.one_of(1, 5);
        let mut moments = Moments { chance, every, rest_until: 0, waits_for_crumbs };
        moments.set_up(hub);
        moments
    }

    /// A hub whose tickets wait for no others, or one that trusts the first block, now and then.
    fn set_up(&mut self, hub: &mut HubSetup) {
        if self.every.is_some() && self.chance.one_of(1, 3) {
            hub.config.settlement.batch_wait_ms = 0;
        }
        if self.every.is_some() && self.chance.one_of(1, 4) {
            hub.config.policy.minimum_depth = 1;
        }
    }
}

impl Run {
    pub(super) fn moment(&mut self) -> Result<(), Broken> {
        let Some(every) = self.moments.every else { return Ok(()) };
        if !self.stormy || self.spells.any_away() || self.odd.somebody_is_hindered() {
            return Ok(());
        }
        let waits = self.a_close_waits();
        if !self.moments.chance.one_of(1, if waits { every.div_ceil(3) } else { every }) {
            return Ok(());
        }
        let weights = MOMENTS.map(|(moment, weight)| match moment {
            Moment::DieAmidBlock if waits => weight * 8,
            Moment::DieAmidBlock
            | Moment::SpendUnseen
            | Moment::CloseBehind
            | Moment::LateTerms
            | Moment::Heckle
            | Moment::Opening
            | Moment::Rob
            | Moment::Restore
            | Moment::UndoClose => weight,
        });
        let Some(index) = self.moments.chance.weighted(&weights) else { return Ok(()) };
        match MOMENTS[index].0 {
            Moment::DieAmidBlock => {
                let victim = self.somebody_to_strike();
                self.die_amid_a_block(victim)
            }
            Moment::SpendUnseen => self.spend_unseen(),
            Moment::CloseBehind => self.close_behind(),
            Moment::LateTerms => self.terms_come_late(),
            Moment::Heckle => self.heckle(),
            Moment::Opening => self.open_amiss(),
            Moment::Rob => self.rob(),
            Moment::Restore => self.restore_amid_closes(),
            Moment::UndoClose => self.undo_a_close(),
        }
    }

    /// The hub half of the time.
    fn somebody_to_strike(&mut self) -> Party {
        let drawn = self.moments.chance.below(2 * self.wallets.len());
        if drawn < self.wallets.len() { Party::Wallet(drawn) } else { Party::Hub }
    }

    /// Whether the next block may close a channel.
    fn a_close_waits(&self) -> bool {
        !self.rests() && self.node.mempool().iter().any(|sent| closes(sent))
    }

    pub(super) fn rests(&self) -> bool {
        self.node.height() < self.moments.rest_until
    }

    pub(super) fn lives(&self, party: Party) -> bool {
        match party {
            Party::Hub => self.hub.process.as_ref().is_some_and(|hub| hub.ready()),
            Party::Wallet(number) => self.wallets[number].process.is_some(),
        }
    }

    /// Somebody cheats and meets nobody: its victims have no blocks to spare.
    pub(super) fn somebody_cheated(&self) -> bool {
        let wallets = self.wallets.iter().map(|wallet| wallet.line);
        wallets.chain([self.hub.line]).any(|line| line == Line::Cut)
    }

    /// Whether the hub may be struck down, and miss so many blocks.
    pub(super) fn may_strike_hub(&self, blocks: u32) -> bool {
        !self.rests()
            && !self.somebody_cheated()
            && self.hub.character == Character::Honest
            && self.lives(Party::Hub)
            && self.may_hinder(Some(Party::Hub)) >= blocks
    }

    // --- Death -------------------------------------------------------------------------------------------------------

    /// A party learns of a block, and dies before all that this means is written.
    fn die_amid_a_block(&mut self, victim: Party) -> Result<(), Broken> {
        if !self.lives(victim) || self.rests() || self.may_hinder(Some(victim)) < DEATH_BLOCKS {
            return Ok(());
        }
        self.next_block()?;
        self.advance(1_000);
        self.die_over(victim, &OF_BLOCKS, MOST_ROWS)?;
        if self.moments.chance.one_of(1, 3) {
            let keep = self.moments.chance.pick(&[Keep::Return, Keep::Drop]).copied().unwrap_or(Keep::Return);
            self.undo(1, keep);
        }
        Ok(())
    }

    /// A party works until its channels meet one of these events, or has written so many rows, and dies.
    pub(super) fn die_over(&mut self, victim: Party, events: &[&str], rows: u64) -> Result<(), Broken> {
        let before = self.met(events);
        for _ in 0..rows {
            match victim {
                Party::Hub => self.hub_works(true)?,
                Party::Wallet(number) => self.wallet_works(number, true)?,
            }
            if self.met(events) > before {
                break;
            }
            self.writes(victim)?;
        }
        // What channels made of it is written, or is not.
        if self.moments.chance.one_of(1, 4) {
            self.writes(victim)?;
        }
        self.dies(victim);
        Ok(())
    }

    fn writes(&mut self, party: Party) -> Result<(), Broken> {
        match party {
            Party::Hub => self.hub.turn(HubPart::Journal, &mut self.chance.disk),
            Party::Wallet(number) => self.wallets[number].turn(WalletPart::Journal, &mut self.chance.disk),
        }
        .map(|_| ())
    }

    /// How often channels met these events so far.
    pub(super) fn met(&self, events: &[&str]) -> u64 {
        let pairs = self.chronicle.pairs();
        pairs.iter().filter(|((_, event), _)| events.contains(event)).map(|(_, count)| count).sum()
    }

    /// Its return is due within [`DEAD_MS`].
    pub(super) fn dies(&mut self, victim: Party) {
        let cut = if self.moments.chance.one_of(1, 2) { Cut::Kill } else { Cut::Power };
        let back_ms = self.clock.now_ms() + self.moments.chance.within(0, DEAD_MS);
        self.note("faults", format_args!("{victim}'s end at this moment: {cut:?}"));
        match victim {
            Party::Hub => {
                self.hub.kill(cut, &mut self.chance.disk);
                self.hub.back_ms = back_ms;
                self.net.hub_died();
            }
            Party::Wallet(number) => {
                self.wallets[number].kill(cut, &mut self.chance.disk);
                self.wallets[number].back_ms = back_ms;
                self.net.wallet_died(number);
            }
        }
        self.counts.crashes += 1;
        (0..DEATH_BLOCKS).for_each(|_| self.hinder(Some(victim)));
        self.moments.rest_until = self.node.height() + REST_AFTER_DEATH;
    }

    /// Whoever died is back, and has done what there was to do.
    pub(super) fn until_back(&mut self) -> Result<(), Broken> {
        self.advance(DEAD_MS);
        self.return_those_away()?;
        self.settle()
    }

    pub(super) fn undo(&mut self, depth: u32, keep: Keep) {
        self.note("faults", format_args!("{depth} blocks are undone, {keep:?}"));
        self.node.reorganise_with(depth, keep, &Mine::nothing());
        self.counts.reorgs += 1;
    }

    // --- What is needed before ---------------------------------------------------------------------------------------

    /// A wallet's channels that are not over, as the hub lists them.
    pub(super) fn of_wallet(&mut self, number: usize) -> Result<Vec<hub_pb::Channel>, Broken> {
        let listed = self.ask_operator(|operator| async move {
            operator.list_channels(Request::new(hub_pb::ListChannelsRequest::default())).await
        })?;
        let key = self.wallets[number].setup.node_id();
        let mut channels = listed.map(|listed| listed.channels).unwrap_or_default();
        channels.retain(|channel| channel.node_key[..] == key.as_bytes()[..]);
        Ok(channels)
    }

    /// The shard that owns a channel of the hub's.
    pub(super) fn shard_of(&self, channel_id: &Bytes) -> Option<usize> {
        let id = <[u8; 32]>::try_from(channel_id.as_ref()).ok()?;
        self.hub.process.as_ref()?.shard_of(&ChannelId(id))
    }

    /// Two that are there pay each other, and the payee does not decide yet; `None` if that comes to nothing.
    pub(super) fn hold_something(&mut self) -> Result<Option<Held>, Broken> {
        let count = self.wallets.len();
        let payer = self.moments.chance.below(count);
        let payee = (payer + 1 + self.moments.chance.below(count - 1)) % count;
        if !self.lives(Party::Wallet(payer)) || !self.lives(Party::Wallet(payee)) {
            return Ok(None);
        }
        let before = self.owners[payee].held.len();
        let amount_msat = self.moments.chance.within(IN_FLIGHT_MSAT.0, IN_FLIGHT_MSAT.1);
        self.invoice(Invoice { payer, payee, amount_msat, hold: Hold::Yes });
        self.rounds()?;
        self.rounds()?;
        if self.owners[payee].held.len() == before {
            return Ok(None);
        }
        let Some(hash) = self.owners[payee].held.pop() else { return Ok(None) };
        let busy = |channels: Vec<hub_pb::Channel>| {
            let busy = channels.into_iter().filter(|channel| {
                channel.phase() == hub_pb::ChannelPhase::Open && channel.in_flight_msat >= amount_msat
            });
            busy.map(|channel| channel.channel_id).next()
        };
        let (incoming, outgoing) = (busy(self.of_wallet(payer)?), busy(self.of_wallet(payee)?));
        let (Some(incoming), Some(outgoing)) = (incoming, outgoing) else { return Ok(None) };
        Ok(Some(Held { payer, payee, incoming, outgoing, hash }))
    }

    /// The payee takes it.
    pub(super) fn take_held(&mut self, held: &Held) {
        self.decide_about(held.payee, held.hash.clone(), true);
    }

    /// Somebody asks for a close, and does not wait for the answer. A hub that is not honest asks for nothing.
    pub(super) fn closes(&mut self, by: Party, channel_id: &Bytes, force: bool) {
        let channel_id = channel_id.clone();
        self.note("people", format_args!("{by} closes {}, force {force}", hex::encode(&channel_id)));
        match by {
            Party::Hub if self.hub.character == Character::Honest => {
                let request_id = RequestId::new(self.clock.now_ms(), self.moments.chance.bytes()).to_string();
                let request = hub_pb::CloseChannelRequest { channel_id, request_id, force };
                let Some(hub) = &self.hub.process else { return };
                drop(hub.call(|operator| async move { operator.close_channel(Request::new(request)).await }));
            }
            Party::Hub => {}
            Party::Wallet(number) => {
                let request = pb::CloseChannelRequest { channel_id, force, ..Default::default() };
                let Some(wallet) = &self.wallets[number].process else { return };
                drop(
                    wallet.call(|service| async move { service.close_channel(Request::new(request)).await }),
                );
            }
        }
    }

    /// So many seconds, without blocks.
    pub(super) fn seconds(&mut self, seconds: u32) -> Result<(), Broken> {
        for _ in 0..seconds {
            self.settle()?;
            self.advance(1_000);
        }
        self.settle()
    }

    /// Nobody asked for fees for so long that all who need them ask anew; and their node is slow.
    pub(super) fn let_fees_be_unknown(&mut self, nodes: &[&str]) -> Result<(), Broken> {
        for _ in 0..STALE_MS.div_ceil(BLOCK_MS) {
            self.advance(BLOCK_MS);
            self.settle()?;
        }
        nodes.iter().for_each(|name| self.node.set_slow(name, Some(SLOW)));
        Ok(())
    }
}
