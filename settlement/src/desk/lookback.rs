//! Fundings that blocks held before anybody asked for them: of channels that a wallet lost and made again.
//!
//! The desk sees only blocks that come after a watch was asked for. Here the blocks before are read again, for one owner
//! alone, by watches of its own; when these stand where the desk stands, they become the desk's. The channel hears all of
//! it in the order of the blocks, and only then does the watch become durable: a crash in between looks again, and
//! channels take repeats as nothing.

use bitcoin::{Block, BlockHash, OutPoint, TxOut};
use channel::event::Command;
use channel::ids::OwnerId;

use super::watches::{FundingWatch, Watches};
use super::{Desk, Outcome};
use crate::follow::BlockRef;

/// One owner's funding, looked for in blocks of the past.
pub(super) struct LookBack {
    owner: OwnerId,
    funding: FundingWatch,
    final_depth: u32,
    from: u32,
    watches: Watches,
    at: Option<BlockRef>,
    found: Vec<(OwnerId, Command)>,
}

/// Where a search begins.
#[derive(Clone, Debug)]
pub(super) struct Sought {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub minimum_depth: u32,
    /// No block below this height holds the funding transaction.
    pub from_height: u32,
}

impl LookBack {
    /// The height of the block to read next.
    pub fn next_height(&self) -> u32 {
        self.at.map_or(self.from, |at| at.height.saturating_add(1))
    }

    /// The last block read.
    pub fn at(&self) -> Option<BlockRef> {
        self.at
    }

    pub fn outpoint(&self) -> OutPoint {
        self.funding.outpoint
    }

    /// The funding transaction is known to be in no block below this height. Only before the first block.
    pub fn skip_to(&mut self, height: u32) {
        if self.at.is_none() {
            self.from = self.from.max(height);
        }
    }

    /// Takes in the next block. False if it does not follow from the last: the chain is another by now.
    pub fn connect(&mut self, hash: BlockHash, block: &Block) -> bool {
        if self.at.is_some_and(|at| at.hash != block.header.prev_blockhash) {
            return false;
        }
        let height = self.next_height();
        self.found.extend(self.watches.connect(height, block).commands);
        self.at = Some(BlockRef { height, hash });
        true
    }

    /// Begins anew, because what was read left the chain.
    pub fn restart(&mut self) {
        self.watches = fresh(self.owner, &self.funding, self.final_depth);
        self.at = None;
        self.found.clear();
    }
}

fn fresh(owner: OwnerId, funding: &FundingWatch, final_depth: u32) -> Watches {
    let mut watches = Watches::resume(Default::default(), final_depth);
    watches.add(owner, funding.clone());
    watches
}

impl Desk {
    /// What a channel whose funding is watched already is told again; `None` if it is not watched.
    pub(super) fn repeat_watch(&self, owner: OwnerId) -> Option<Outcome> {
        self.watches.funding(owner)?;
        let then = self.watches.repeat(owner, self.memory.tip().height);
        Some(Outcome { then, ..Outcome::default() })
    }

    /// Begins to look for a funding.
    pub(super) fn look_back(&self, owner: OwnerId, sought: Sought) -> LookBack {
        let tip = self.memory.tip().height;
        let Sought { outpoint, output, minimum_depth, from_height } = sought;
        let funding = FundingWatch {
            outpoint,
            output,
            minimum_depth,
            // Blocks of the past are no reason to give it up.
            since: tip,
            confirmed: None,
            spend: None,
            inputs: Vec::new(),
            conflict: None,
        };
        let final_depth = self.config.final_depth;
        let watches = fresh(owner, &funding, final_depth);
        LookBack { owner, funding, final_depth, from: from_height, watches, at: None, found: Vec::new() }
    }

    /// What a search found becomes the desk's, if it stands at the desk's tip; otherwise it must read on.
    pub(super) fn looked_back(&mut self, look: Box<LookBack>) -> Result<Outcome, Box<LookBack>> {
        let tip = self.memory.tip();
        // A desk that began at the tip itself has read no block yet, and neither has the search.
        let level = look.at == Some(tip) || (look.at.is_none() && look.from > tip.height);
        if !level {
            return Err(look);
        }
        let LookBack { owner, watches, found, .. } = *look;
        if let Some(outcome) = self.repeat_watch(owner) {
            return Ok(outcome);
        }
        let mut outcome = Outcome::default();
        for (owner, watch) in watches.all() {
            self.watches.adopt(*owner, watch.clone());
        }
        outcome.first = found;
        self.record_watch(owner, &mut outcome);
        Ok(outcome)
    }
}
