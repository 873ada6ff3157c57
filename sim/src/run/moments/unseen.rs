//! Closes that somebody learns of too late, all at once, or in the wrong order.

use proto::hub::v1::ChannelPhase;

use super::{DEATH_BLOCKS, Held};
use crate::audit::{Broken, Party};
use crate::chain::{Keep, Mine};
use crate::run::Run;
use crate::run::pace::BLOCK_MS;
use crate::run::seats::Line;

/// Blocks with a close that the hub does not see.
const UNSEEN_BLOCKS: u32 = 2;
/// Blocks that hold nothing, where a block is undone twice: one, and one more than both.
const EMPTY_BLOCKS: u32 = 4;
/// Most rows that a hub writes at its return before it hears of them: the blocks before have theirs.
const MOST_ROWS: u64 = 48;
/// Nobody starts it in between.
const HOUR_MS: u64 = 3_600_000;
/// Turns in which a preimage goes from payee to payer.
const MOST_TURNS: u32 = 1_500;
/// As many blocks as make a close final.
const FINAL_BLOCKS: u32 = 6;
/// A lag ends by itself no sooner.
const LAG_MS: u64 = 600_000;
/// Seconds in which an agreed close is sent: a ticket waits two for company.
const CLOSE_SECONDS: u32 = 5;

/// What a channel was last asked before its hub went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    ToShutDown,
    ToFail,
}

impl Run {
    /// While the hub is down a wallet closes alone, and takes what it is paid. The hub learns of both by one block, and dies again
    /// over that one.
    pub(super) fn spend_unseen(&mut self) -> Result<(), Broken> {
        if !self.may_strike_hub(UNSEEN_BLOCKS + DEATH_BLOCKS) {
            return Ok(());
        }
        if self.moments.chance.one_of(1, 4) {
            return self.close_a_young_one();
        }
        let Some(held) = self.hold_something()? else { return Ok(()) };
        let (payee, id) = (Party::Wallet(held.payee), held.outgoing.clone());
        let befores = [Before::Nothing, Before::ToShutDown, Before::ToFail];
        match self.moments.chance.pick(&befores).copied().unwrap_or(Before::Nothing) {
            Before::Nothing => {}
            Before::ToShutDown => {
                self.closes(payee, &id, false);
                self.seconds(1)?;
            }
            // What it would send waits for a while, and it is gone by then.
            Before::ToFail => {
                self.closes(Party::Hub, &id, true);
                self.settle()?;
            }
        }
        self.hub_goes_down();
        self.closes(payee, &id, true);
        self.take_held(&held);
        for _ in 0..UNSEEN_BLOCKS {
            self.unseen_block()?;
        }
        self.undo(UNSEEN_BLOCKS, Keep::Again);
        self.hub_dies_over(&["FundingSpent"])
    }

    /// The same of a channel that waits for its funding.
    fn close_a_young_one(&mut self) -> Result<(), Broken> {
        let number = self.moments.chance.below(self.wallets.len());
        if !self.lives(Party::Wallet(number)) {
            return Ok(());
        }
        self.open_something(number);
        self.seconds(2)?;
        self.block_for_all()?;
        let channels = self.of_wallet(number)?;
        let young = channels.iter().rev().find(|one| one.phase() == ChannelPhase::AwaitingConfirmation);
        let Some(id) = young.map(|channel| channel.channel_id.clone()) else { return Ok(()) };
        if !self.may_strike_hub(UNSEEN_BLOCKS + DEATH_BLOCKS) {
            return Ok(());
        }
        self.hub_goes_down();
        self.closes(Party::Wallet(number), &id, true);
        self.unseen_block()?;
        self.hub_dies_over(&["FundingSpent"])
    }

    /// A close and what takes its outputs come into one block, which is undone. Who dies over that tells its channel again that nobody
    /// took anything, when the channel is what it was before.
    pub(super) fn undo_a_close(&mut self) -> Result<(), Broken> {
        let number = self.moments.chance.below(self.wallets.len());
        let wallet = Party::Wallet(number);
        let there = self.may_strike_hub(0) && self.lives(wallet);
        if !there || self.may_hinder(None) < UNSEEN_BLOCKS {
            return Ok(());
        }
        let is_young = self.moments.chance.one_of(1, 2);
        let phase = if is_young { ChannelPhase::AwaitingConfirmation } else { ChannelPhase::Open };
        if is_young {
            self.open_something(number);
            self.seconds(2)?;
            self.block_for_all()?;
        }
        let channels = self.of_wallet(number)?;
        let found = channels.iter().rev().find(|one| one.phase() == phase);
        let Some((id, of_hub)) = found.map(|channel| (channel.channel_id.clone(), channel.funded_locally))
        else {
            return Ok(());
        };
        if !is_young {
            self.closes(wallet, &id, false);
            self.settle()?;
        }
        // Who has the most does not wait for its own delay.
        let by = if of_hub { wallet } else { Party::Hub };
        self.closes(by, &id, true);
        self.seconds(CLOSE_SECONDS)?;
        self.mine(1);
        self.seconds(CLOSE_SECONDS)?;
        self.note("faults", format_args!("a block is undone, and the next one holds what rested on it too"));
        self.node.reorganise_with(1, Keep::Again, &Mine::default());
        self.counts.reorgs += 1;
        self.seconds(1)?;
        self.undo(EMPTY_BLOCKS - UNSEEN_BLOCKS, Keep::Return);
        (0..EMPTY_BLOCKS).for_each(|_| self.hinder(None));
        let victim = if self.moments.chance.one_of(1, 2) { Party::Hub } else { wallet };
        self.die_over(victim, &["SpendUndone"], MOST_ROWS)?;
        self.until_back()
    }

    fn hub_goes_down(&mut self) {
        self.dies(Party::Hub);
        self.hub.back_ms = self.clock.now_ms() + HOUR_MS;
    }

    /// A block that everybody sees but the hub.
    fn unseen_block(&mut self) -> Result<(), Broken> {
        for _ in 0..2 {
            self.settle()?;
            self.advance(1_000);
        }
        self.mine(1);
        self.hinder(Some(Party::Hub));
        self.settle()?;
        self.advance(BLOCK_MS);
        self.settle()
    }

    /// The hub is back, hears of what it missed, and dies over it.
    fn hub_dies_over(&mut self, events: &[&str]) -> Result<(), Broken> {
        self.hub.back_ms = self.clock.now_ms();
        self.return_those_away()?;
        if self.hub.process.is_some() {
            self.die_over(Party::Hub, events, MOST_ROWS)?;
        }
        self.until_back()
    }

    /// A payment is taken, and one end of it is closed, while the thread that owns the other end is behind: the two hear of
    /// each other only afterwards, or after the hub's next start.
    pub(super) fn close_behind(&mut self) -> Result<(), Broken> {
        if !self.may_strike_hub(DEATH_BLOCKS) {
            return Ok(());
        }
        let Some(held) = self.hold_something()? else { return Ok(()) };
        let ends = (self.shard_of(&held.incoming), self.shard_of(&held.outgoing));
        let (Some(incoming), Some(outgoing)) = ends else { return Ok(()) };
        if incoming == outgoing || self.wallets[held.payer].line == Line::Cut {
            return Ok(());
        }
        if self.moments.chance.one_of(1, 2) {
            self.note("faults", format_args!("the payer's shard {incoming} falls behind"));
            self.shard_falls_behind(incoming, LAG_MS);
            self.take_held(&held);
            self.rounds()?;
            self.closes(Party::Wallet(held.payee), &held.outgoing, false);
        } else {
            self.until_result(&held)?;
            self.note("faults", format_args!("the payee's shard {outgoing} falls behind"));
            self.shard_falls_behind(outgoing, LAG_MS);
            self.rounds()?;
            self.closes(Party::Wallet(held.payer), &held.incoming, false);
        }
        self.blocks_while_behind()
    }

    /// The payer's side of the hub hears that the payment was taken.
    fn until_result(&mut self, held: &Held) -> Result<(), Broken> {
        let before = self.met(&["Result"]);
        self.take_held(held);
        for _ in 0..MOST_TURNS {
            self.turn()?;
            if self.met(&["Result"]) > before {
                break;
            }
        }
        Ok(())
    }

    fn blocks_while_behind(&mut self) -> Result<(), Broken> {
        let until_sent = if self.moments.chance.one_of(1, 4) { 1 } else { CLOSE_SECONDS };
        self.seconds(until_sent)?;
        let most = FINAL_BLOCKS.min(self.may_hinder(Some(Party::Hub)));
        let blocks = self.moments.chance.pick(&[0, 1, most, most]).copied().unwrap_or(0).min(most);
        for _ in 0..blocks {
            self.mine(1);
            self.hinder(Some(Party::Hub));
            self.settle()?;
            self.advance(BLOCK_MS);
            self.settle()?;
        }
        if self.moments.chance.one_of(2, 3) && self.lives(Party::Hub) {
            self.dies(Party::Hub);
            self.until_back()?;
        }
        self.catch_up();
        self.settle()
    }
}
