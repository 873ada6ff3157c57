//! How long the world keeps somebody from the chain: a process that is gone, a node that is away, miners who leave somebody out,
//! a start after which a minute is kept for peers who may prove that this one is behind.
//!
//! What parties keep before their deadlines (`CLAIM_MARGIN_BLOCKS`, 12) covers some blocks of that and no more: whoever is
//! kept away by one mishap after the other loses by nobody's fault. So each has a budget, whatever it is spent on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use settlement::limits::{PROOF_WAIT, SETTLE_WAIT};

use super::Run;
use super::seats::Bitcoind;
use crate::audit::{Broken, Party};

/// Blocks of any [`WINDOW_BLOCKS`] that one party may be kept from the chain: half of the margin, so that a commitment and what
/// claims its outputs find a block each.
pub(super) const MOST_BLOCKS: u32 = 6;
/// Longer than any margin of blocks.
const WINDOW_BLOCKS: u32 = 40;

/// What a party counts in whole seconds ends up to one of them later, and it looks again a second after.
const PROOF_SLACK: Duration = Duration::from_secs(2);
/// Time that passes at once while somebody waits for proofs, in milliseconds.
const WAIT_STEP_MS: u64 = 5_000;
/// Most such steps: a start, the wait itself, and as much again.
const MOST_WAIT_STEPS: u32 = 30;

/// What was spent, by the heights; and who waits for proofs.
#[derive(Debug, Default)]
pub(super) struct Hindrances {
    spent: BTreeMap<Party, VecDeque<u32>>,
    started: BTreeMap<Party, Started>,
}

/// A process's start, in milliseconds since 1970. What no peer has confirmed since then is not published before a peer had
/// [`PROOF_WAIT`] to prove it old: a tenth of what a block takes in the world, and many blocks here.
#[derive(Clone, Copy, Debug)]
struct Started {
    at_ms: u64,
    /// When it could first look at what is to be published: its wait begins.
    looked_ms: Option<u64>,
}

impl Started {
    fn waits(&self, now_ms: u64) -> bool {
        let wait = u64::try_from((PROOF_WAIT + PROOF_SLACK).as_millis()).unwrap_or(u64::MAX);
        self.looked_ms.is_none_or(|looked| now_ms < looked.saturating_add(wait))
    }
}

impl Hindrances {
    /// Blocks that this party may miss from this height on.
    fn left(&self, party: Party, height: u32) -> u32 {
        let since = height.saturating_sub(WINDOW_BLOCKS);
        let spent =
            self.spent.get(&party).map_or(0, |heights| heights.iter().filter(|at| **at > since).count());
        MOST_BLOCKS.saturating_sub(u32::try_from(spent).unwrap_or(MOST_BLOCKS))
    }

    fn spend(&mut self, party: Party, height: u32) {
        let heights = self.spent.entry(party).or_default();
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

    /// A process started. At the first of its starts it has nothing to publish.
    pub(super) fn note_start(&mut self, party: Party) {
        if self.counts.steps == 0 {
            return;
        }
        let started = Started { at_ms: self.clock.now_ms(), looked_ms: None };
        self.hindrances.started.insert(party, started);
    }

    /// Time passed. Whoever follows its node to the tip looks at its plans a moment after its start.
    pub(super) fn note_time(&mut self) {
        let now = self.clock.now_ms();
        let moment = u64::try_from(SETTLE_WAIT.as_millis()).unwrap_or(u64::MAX);
        let hub_ready = self.hub.process.as_ref().is_some_and(|hub| hub.ready());
        for (party, started) in &mut self.hindrances.started {
            let ready = *party != Party::Hub || hub_ready;
            if ready && started.looked_ms.is_none() && now >= started.at_ms.saturating_add(moment) {
                started.looked_ms = Some(now);
            }
        }
    }

    /// Whether this party would publish, and waits for peers' proofs instead. Without a node it is kept away by that.
    fn waits_for_proofs(&self, party: Party) -> bool {
        let works = match party {
            Party::Hub => self.hub.is_at_work(),
            // Of one that is connected the hub has confirmed every channel.
            Party::Wallet(number) => self.wallets.get(number).is_some_and(|wallet| {
                let connected = wallet.process.as_ref().is_some_and(|process| process.connection().connected);
                wallet.is_at_work() && !connected
            }),
        };
        let now = self.clock.now_ms();
        let waits = self.hindrances.started.get(&party).is_some_and(|started| started.waits(now));
        works && waits && self.bitcoind(party) == Bitcoind::There
    }

    /// Lets those who wait for peers' proofs wait to the end before more blocks come, if they may miss no more blocks than this.
    pub(super) fn let_proofs_come(&mut self, blocks_left: u32) -> Result<(), Broken> {
        let height = self.node.height();
        let is_short = |party: &Party| self.hindrances.left(*party, height) <= blocks_left;
        let short: Vec<Party> = self.parties().into_iter().filter(is_short).collect();
        for _ in 0..MOST_WAIT_STEPS {
            if !short.iter().any(|party| self.waits_for_proofs(*party)) {
                break;
            }
            self.settle()?;
            self.advance(WAIT_STEP_MS);
            self.settle()?;
        }
        Ok(())
    }

    /// Blocks came. Whoever has missed as many as it may has its node again, and its process.
    pub(super) fn blocks_came(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.pace.came(self.clock.now_ms());
            for party in self.parties() {
                if self.waits_for_proofs(party) {
                    self.hinder(Some(party));
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_keeps_its_party_waiting_until_a_minute_after_its_first_look() {
        let wait = u64::try_from(PROOF_WAIT.as_millis()).unwrap();
        let unseen = Started { at_ms: 1_000, looked_ms: None };
        assert!(unseen.waits(1_000) && unseen.waits(1_000 + 10 * wait));
        let seen = Started { at_ms: 1_000, looked_ms: Some(9_000) };
        assert!(seen.waits(9_000 + wait));
        assert!(!seen.waits(9_000 + 2 * wait));
    }

    #[test]
    fn a_party_misses_no_more_blocks_in_a_window_than_its_budget() {
        let mut hindrances = Hindrances::default();
        (0..4).for_each(|at| hindrances.spend(Party::Hub, 100 + at));
        assert_eq!(hindrances.left(Party::Hub, 104), MOST_BLOCKS - 4);
        assert_eq!(hindrances.left(Party::Wallet(0), 104), MOST_BLOCKS);
        hindrances.spend_all(Party::Hub, 110);
        assert_eq!(hindrances.left(Party::Hub, 110), 0);
        assert_eq!(hindrances.left(Party::Hub, 110 + WINDOW_BLOCKS), MOST_BLOCKS);
    }
}
