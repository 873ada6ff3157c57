//! A wallet's machine is lost, its channels are closed before its owner is back, and the new machine dies over what it finds.

use super::DEATH_BLOCKS;
use crate::audit::{Broken, Party};
use crate::run::Run;

/// Blocks until the owner is back: the closes wait, are in a block, or are final.
const BLOCKS: [u32; 4] = [0, 1, 2, 8];
/// Nobody starts it in between.
const HOUR_MS: u64 = 3_600_000;
/// Turns in which it hears of its channels and finds their closes.
const MOST_TURNS: u32 = 3_000;
/// What it learns of closes that were before it was.
const FOUND: [&str; 4] = ["FundingSpent", "SpendFinal", "OutputSpent", "OutputSpendFinal"];

impl Run {
    pub(super) fn restore_amid_closes(&mut self) -> Result<(), Broken> {
        let number = self.moments.chance.below(self.wallets.len());
        let party = Party::Wallet(number);
        if !self.may_strike_hub(0) || !self.lives(party) || self.may_hinder(Some(party)) < DEATH_BLOCKS {
            return Ok(());
        }
        let channels = self.of_wallet(number)?;
        if !self.lose_machine(number)? {
            return Ok(());
        }
        self.wallets[number].back_ms = self.clock.now_ms() + HOUR_MS;
        self.owners[number].back_by = Some(u32::MAX);
        self.settle()?;
        channels.iter().for_each(|channel| self.closes(Party::Hub, &channel.channel_id, true));
        self.seconds(3)?;
        for _ in 0..self.moments.chance.pick(&BLOCKS).copied().unwrap_or(1) {
            self.block_for_all()?;
        }
        self.wallets[number].back_ms = self.clock.now_ms();
        self.return_those_away()?;
        self.die_over_what_it_finds(number)
    }

    fn die_over_what_it_finds(&mut self, number: usize) -> Result<(), Broken> {
        let event = self.moments.chance.pick(&FOUND).copied().unwrap_or(FOUND[0]);
        let before = self.met(&[event]);
        for turn in 0..MOST_TURNS {
            if !self.turn()? && turn.is_multiple_of(64) {
                self.advance(500);
            }
            if self.met(&[event]) > before {
                break;
            }
        }
        let party = Party::Wallet(number);
        if !self.lives(party) {
            return Ok(());
        }
        if self.moments.chance.one_of(1, 2) {
            self.writes(party)?;
        }
        self.dies(party);
        self.until_back()
    }
}
