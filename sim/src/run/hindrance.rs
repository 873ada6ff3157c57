//! How long the world keeps somebody from the chain: a process that is gone, a node that is away, miners who leave somebody out.
//!
//! What parties keep before their deadlines (`CLAIM_MARGIN_BLOCKS`, 12) covers some blocks of that and no more: whoever is
//! kept away by one mishap after the other loses by nobody's fault. So each has a budget, whatever it is spent on.

use std::collections::{BTreeMap, VecDeque};

use super::Run;
use crate::audit::Party;

/// Blocks of any [`WINDOW_BLOCKS`] that one party may be kept from the chain: half of the margin, so that a commitment and what
/// claims its outputs find a block each.
pub(super) const MOST_BLOCKS: u32 = 6;
/// Longer than any margin of blocks.
const WINDOW_BLOCKS: u32 = 40;

/// What was spent, by the heights.
#[derive(Debug, Default)]
pub(super) struct Hindrances(BTreeMap<Party, VecDeque<u32>>);

impl Hindrances {
    /// Blocks that this party may miss from this height on.
    fn left(&self, party: Party, height: u32) -> u32 {
        let since = height.saturating_sub(WINDOW_BLOCKS);
        let spent = self.0.get(&party).map_or(0, |heights| heights.iter().filter(|at| **at > since).count());
        MOST_BLOCKS.saturating_sub(u32::try_from(spent).unwrap_or(MOST_BLOCKS))
    }

    fn spend(&mut self, party: Party, height: u32) {
        let heights = self.0.entry(party).or_default();
        heights.push_back(height);
        if heights.len() > MOST_BLOCKS as usize {
            heights.pop_front();
        }
    }

    fn spend_all(&mut self, party: Party, height: u32) {
        (0..MOST_BLOCKS).for_each(|_| self.spend(party, height));
    }
}

impl Run {
    fn parties(&self) -> Vec<Party> {
        (0..self.wallets.len()).map(Party::Wallet).chain([Party::Hub]).collect()
    }

    /// Blocks that this party may be kept from the chain now; of nobody in particular: everybody.
    pub(super) fn may_hinder(&self, party: Option<Party>) -> u32 {
        let height = self.node.height();
        let whom = party.map_or_else(|| self.parties(), |party| vec![party]);
        whom.into_iter().map(|party| self.hindrances.left(party, height)).min().unwrap_or(0)
    }

    /// A block came that this party could not use, or nobody could.
    pub(super) fn hinder(&mut self, party: Option<Party>) {
        let height = self.node.height();
        let whom = party.map_or_else(|| self.parties(), |party| vec![party]);
        whom.into_iter().for_each(|party| self.hindrances.spend(party, height));
    }

    /// Blocks came. Whoever has missed as many as it may has its node again, and its process.
    pub(super) fn blocks_came(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.pace.came(self.clock.now_ms());
            if let Some(whose) = self.spells.away.as_ref().map(|away| away.whose) {
                self.hinder(whose);
                if self.may_hinder(whose) == 0 {
                    self.give_back_node();
                }
            }
            if let Some(party) = self.without_bitcoind() {
                self.hinder(Some(party));
                if self.may_hinder(Some(party)) == 0 {
                    self.find_bitcoind();
                }
            }
            for number in 0..self.wallets.len() {
                self.miss_block(number);
            }
        }
    }

    fn miss_block(&mut self, number: usize) {
        let (height, now) = (self.node.height(), self.clock.now_ms());
        let (party, wallet) = (Party::Wallet(number), &mut self.wallets[number]);
        if wallet.process.is_some() {
            return;
        }
        match self.owners[number].back_by {
            // It chose to be away, and comes as late as it may.
            Some(back_by) if back_by <= height => {
                self.hindrances.spend_all(party, height);
                wallet.back_ms = wallet.back_ms.min(now);
            }
            Some(_) => {}
            // Whoever is owed nothing may stay away.
            None => {
                self.hindrances.spend(party, height);
                if wallet.is_honest() && self.hindrances.left(party, height) == 0 {
                    wallet.back_ms = wallet.back_ms.min(now);
                }
            }
        }
    }
}
