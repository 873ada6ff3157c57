//! How fast blocks come.
//!
//! In the world a block takes ten minutes, and what programs wait for before they try again takes seconds. Here little time passes
//! between two steps, so blocks that come by chance could come by the dozen within those seconds, and whoever has twelve of them
//! to act in would have none. A few at once are fair: miners find blocks as they find them.

use std::collections::VecDeque;

use super::Run;
use crate::audit::Broken;

/// Least time for a block, on average. What the programs wait for before they try again is at most ten seconds, and must not add
/// up to the blocks within which they have to act.
pub(super) const BLOCK_MS: u64 = 5_000;
/// Blocks that may come at once: half of the margin (`CLAIM_MARGIN_BLOCKS`, 12).
pub(super) const BLOCKS_AT_ONCE: u64 = 6;

/// When the last blocks came.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<u64>);

impl Pace {
    pub(super) fn came(&mut self, now_ms: u64) {
        self.0.push_back(now_ms);
        if self.0.len() as u64 > BLOCKS_AT_ONCE {
            self.0.pop_front();
        }
    }

    /// How much too early another block would be.
    fn early_ms(&self, now_ms: u64) -> u64 {
        match self.0.front() {
            Some(first) if self.0.len() as u64 == BLOCKS_AT_ONCE => {
                (first + BLOCKS_AT_ONCE * BLOCK_MS).saturating_sub(now_ms)
            }
            Some(_) | None => 0,
        }
    }
}

impl Run {
    /// A block, when it is time for one.
    pub(super) fn next_block(&mut self) -> Result<(), Broken> {
        self.until_block_is_due()?;
        self.mine(1);
        Ok(())
    }

    /// Until it is time for a block.
    pub(super) fn until_block_is_due(&mut self) -> Result<(), Broken> {
        while self.pace.early_ms(self.clock.now_ms()) > 0 {
            self.pass_block_time()?;
        }
        Ok(())
    }

    /// So many blocks, and time for whoever is there to look at them.
    pub(super) fn pass_blocks(&mut self, mut left: u64) -> Result<(), Broken> {
        while left > 0 {
            let blocks = self.chance.people.within(1, BLOCKS_AT_ONCE).min(left);
            left -= blocks;
            // Somebody looks before what ended is forgotten.
            self.look_at_channels();
            self.mine(u32::try_from(blocks).unwrap_or(1));
            self.settle()?;
            self.look_at_answers()?;
            for _ in 0..blocks {
                self.pass_block_time()?;
            }
            self.let_proofs_come(0)?;
        }
        Ok(())
    }

    /// A block that everybody sees.
    pub(super) fn block_for_all(&mut self) -> Result<(), Broken> {
        self.mine(1);
        for _ in 0..2 {
            self.advance(1_000);
            self.settle()?;
        }
        Ok(())
    }

    fn pass_block_time(&mut self) -> Result<(), Broken> {
        self.advance(BLOCK_MS);
        self.end_oddities();
        self.return_those_away()?;
        self.settle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_blocks_come_at_once_and_many_no_faster_than_one_in_five_seconds() {
        let mut pace = Pace::default();
        let mut now = 1_000;
        for _ in 0..BLOCKS_AT_ONCE {
            assert_eq!(pace.early_ms(now), 0);
            pace.came(now);
        }
        assert_eq!(pace.early_ms(now), BLOCKS_AT_ONCE * BLOCK_MS);
        for _ in 0..100 {
            now += pace.early_ms(now);
            pace.came(now);
        }
        assert!(now >= 1_000 + 100 * BLOCK_MS);
    }
}
