//! What goes wrong with the chain: blocks that are undone right after a close, a rival transaction in their place, mempools
//! that forget, miners who leave somebody out, nodes that are away.
//!
//! Nobody is kept from the chain for longer than the margins that parties keep before their deadlines ([`super::hindrance`]):
//! what they lose beyond that is nobody's fault but the chain's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Block, FeeRate, OutPoint, Transaction, Txid, Weight};

use super::Run;
use super::hindrance::MOST_BLOCKS;
use crate::audit::Party;
use crate::chain::{Keep, Mine, Pressure, Submission};

/// Reorganisations stay below the final depth of hub and wallets.
const DEEPEST: u32 = 5;
/// One block with a close in so many is undone.
const UNDONE_CLOSES: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChainMishap {
    Reorganise,
    Rival,
    Forget,
    Pressure,
    AllAway,
    OneAway,
    HardlyRoom,
    Censor,
}

const MISHAPS: [(ChainMishap, u32); 8] = [
    (ChainMishap::Reorganise, 4),
    (ChainMishap::Rival, 3),
    (ChainMishap::Forget, 3),
    (ChainMishap::Pressure, 3),
    (ChainMishap::AllAway, 1),
    (ChainMishap::OneAway, 2),
    (ChainMishap::HardlyRoom, 1),
    (ChainMishap::Censor, 2),
];

/// Nodes that are away, and for how long yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Away {
    /// `None`: everybody's.
    pub(super) whose: Option<Party>,
    before_step: u64,
}

impl Away {
    pub(super) fn is(&self, party: Party) -> bool {
        self.whose.is_none_or(|whose| whose == party)
    }
}

impl Run {
    pub(super) fn chain_trouble(&mut self) {
        let weights = MISHAPS.map(|(_, weight)| weight);
        let index = self.chance.faults.weighted(&weights).unwrap_or(0);
        match MISHAPS[index].0 {
            ChainMishap::Reorganise => {
                let depth = self.chance.faults.within(1, DEEPEST.into());
                self.reorganise(u32::try_from(depth).unwrap_or(1), None);
            }
            ChainMishap::Rival => self.prefer_rival(),
            ChainMishap::Forget => {
                self.note("faults", format_args!("bitcoind forgets what waits"));
                self.node.forget_mempool();
            }
            ChainMishap::Pressure => {
                let rate = FeeRate::from_sat_per_vb(self.chance.faults.within(1, 40))
                    .unwrap_or(FeeRate::BROADCAST_MIN);
                self.note("faults", format_args!("feerates rise to {rate}"));
                let minimum = if self.chance.faults.one_of(1, 2) { rate } else { FeeRate::BROADCAST_MIN };
                self.node.set_pressure(Pressure { minimum, estimates: BTreeMap::from([(1, rate)]) });
                self.spells.pressure = self.spell();
            }
            ChainMishap::AllAway => self.take_away(None),
            ChainMishap::OneAway => {
                let party = self.somebody();
                self.take_away(Some(party));
            }
            ChainMishap::HardlyRoom => {
                // A miner who wants nobody's transactions, or hardly any.
                let blocks =
                    self.chance.faults.within(1, MOST_BLOCKS.into()).min(self.may_hinder(None).into());
                let weight = Weight::from_wu(self.chance.faults.within(0, 4_000));
                self.note("faults", format_args!("{blocks} blocks with hardly any room"));
                for _ in 0..blocks {
                    self.node.mine(&Mine { weight_limit: weight, ..Mine::default() });
                    self.counts.blocks += 1;
                    self.hinder(None);
                    self.blocks_came(1);
                }
            }
            ChainMishap::Censor => self.censor(),
        }
    }

    fn somebody(&mut self) -> Party {
        let drawn = self.chance.faults.below(self.wallets.len() + 2);
        if drawn < self.wallets.len() { Party::Wallet(drawn) } else { Party::Hub }
    }

    // --- Nodes that are away -----------------------------------------------------------------------------------------

    fn take_away(&mut self, whose: Option<Party>) {
        self.give_back_node();
        if self.may_hinder(whose) == 0 {
            return;
        }
        match whose {
            None => {
                self.note("faults", format_args!("bitcoind is away"));
                self.node.set_all_down(true);
            }
            Some(party) => {
                self.note("faults", format_args!("bitcoind is away for {party}"));
                self.node.set_down(self.label(party), true);
            }
        }
        let before_step = self.spell().unwrap_or(0);
        self.spells.away = Some(Away { whose, before_step });
    }

    pub(super) fn give_back_node(&mut self) {
        let Some(away) = self.spells.away.take() else { return };
        self.note("faults", format_args!("bitcoind is back"));
        match away.whose {
            None => self.node.set_all_down(false),
            Some(party) => self.node.set_down(self.label(party), false),
        }
    }

    pub(super) fn end_away(&mut self) {
        if self.spells.away.as_ref().is_some_and(|away| away.before_step <= self.counts.steps) {
            self.give_back_node();
        }
    }

    // --- Blocks that are undone --------------------------------------------------------------------------------------

    fn reorganise(&mut self, depth: u32, instead: Option<Transaction>) {
        let keeps = [Keep::Return, Keep::Again, Keep::Drop];
        let mut keep = *self.chance.faults.pick(&keeps).unwrap_or(&Keep::Return);
        if instead.is_some() && keep == Keep::Again {
            keep = Keep::Return;
        }
        self.note("faults", format_args!("{depth} blocks are reorganised, {keep:?}"));
        if let Some(rival) = &instead {
            self.note("faults", format_args!("{} is in their place", rival.compute_txid()));
        }
        let how = Mine { include: instead.into_iter().collect(), ..Mine::nothing() };
        self.node.reorganise_with(depth, keep, &how);
        self.counts.reorgs += 1;
    }

    /// Now and then the block with a close is undone at once.
    pub(super) fn undo_close(&mut self) {
        let height = self.node.height();
        if self.undone_at == Some(height) {
            return;
        }
        let Some(block) = self.node.block(height) else { return };
        if !block.txdata.iter().any(closes) {
            return;
        }
        self.undone_at = Some(height);
        if !self.chance.chain.one_of(1, UNDONE_CLOSES) {
            return;
        }
        if self.chance.chain.one_of(1, 2) {
            self.prefer_rival();
        } else {
            self.reorganise(1, None);
        }
    }

    /// Undoes the last block with a close for which there is another, and has that confirm instead.
    fn prefer_rival(&mut self) {
        let submissions = self.node.submissions(0);
        let height = self.node.height();
        for depth in 1..=DEEPEST {
            let block = height.checked_sub(depth - 1).and_then(|height| self.node.block(height));
            if let Some(rival) = block.and_then(|block| rival(&block, &submissions)) {
                self.reorganise(depth, Some(rival.as_ref().clone()));
                return;
            }
        }
    }

    // --- Miners ------------------------------------------------------------------------------------------------------

    /// All that a party ever gave its node.
    pub(super) fn sent_by(&self, party: Party) -> BTreeSet<Txid> {
        let label = self.label(party);
        let sent = self.node.submissions(0);
        sent.iter().filter(|sent| *sent.label == *label).map(|sent| sent.txid).collect()
    }

    /// Somebody's transactions wait for some blocks, whatever they pay.
    fn censor(&mut self) {
        let party = self.somebody();
        let blocks =
            self.chance.faults.within(1, MOST_BLOCKS.into()).min(self.may_hinder(Some(party)).into());
        self.note("faults", format_args!("{blocks} blocks without anything of {party}'s"));
        let of_party = self.sent_by(party);
        let left_out = |transaction: &Transaction| of_party.contains(&transaction.compute_txid());
        for _ in 0..blocks {
            self.node.mine(&Mine { censor: Some(&left_out), ..Mine::default() });
            self.counts.blocks += 1;
            self.hinder(Some(party));
            self.blocks_came(1);
        }
    }
}

/// Whether it spends what two keys must sign for: it closes a channel, or more than one.
pub(super) fn closes(transaction: &Transaction) -> bool {
    transaction.input.iter().any(|input| {
        let witness = &input.witness;
        witness.len() == 4
            && witness.nth(0).is_some_and(<[u8]>::is_empty)
            && witness.last().is_some_and(|script| script.len() == 71)
    })
}

/// Something that was sent and spends the same funding as a close in this block.
fn rival(block: &Block, submissions: &[Submission]) -> Option<Arc<Transaction>> {
    let closing = block.txdata.iter().filter(|transaction| closes(transaction));
    let spent: BTreeSet<OutPoint> =
        closing.flat_map(|transaction| &transaction.input).map(|input| input.previous_output).collect();
    let held: BTreeSet<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
    let rivals = submissions.iter().filter(|sent| {
        let mut inputs = sent.transaction.input.iter();
        !held.contains(&sent.txid)
            && closes(&sent.transaction)
            && inputs.any(|input| spent.contains(&input.previous_output))
    });
    rivals.map(|sent| Arc::clone(&sent.transaction)).next_back()
}
