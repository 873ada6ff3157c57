//! Transactions of ours that a reorganisation took out of the chain, and that nothing else brings back.
//!
//! Fundings, batches, claims and commitments are on the list until they are final. The child that paid for a commitment is there
//! only as long as the commitment is in no block; yet its change is a coin from its first block on. When that block is undone
//! and nodes forget the child, its coins count as spent by something that nobody sends. So whatever a block held is sent again.

use bitcoin::Txid;

use super::{Broadcast, Desk, Outcome};
use crate::broadcast::PublishError;

impl Desk {
    /// Puts what is in no block any more on the list; takes off it what no longer counts, and what nodes have refused for so long
    /// that the spend of its coins is final.
    pub(super) fn list_returned(&mut self, outcome: &mut Outcome) {
        self.release_refused();
        let returned = self.wallet.returned();
        let counts = |txid: &Txid| returned.iter().any(|what| what.txid() == *txid);
        let gone: Vec<Txid> = self.returned.keys().filter(|txid| !counts(txid)).copied().collect();
        for txid in gone {
            self.returned.remove(&txid);
            self.unlist(txid, outcome);
        }
        for what in returned {
            let txid = what.txid();
            if !self.listed.contains_key(&txid) {
                self.returned.insert(txid, None);
                self.listed.insert(txid, None);
                outcome.broadcasts.push(Broadcast::Returned(what));
            }
        }
        self.stage_wallet(outcome);
    }

    /// What became of sending something.
    pub(super) fn note_refused(&mut self, txid: Txid, error: Option<&PublishError>) {
        let tip = self.memory.tip().height;
        if let Some(since) = self.returned.get_mut(&txid) {
            let missing = matches!(error, Some(PublishError::MissingInputs));
            *since = missing.then(|| since.unwrap_or(tip));
        }
    }

    fn release_refused(&mut self) {
        let tip = self.memory.tip().height;
        let is_final = |since: u32| tip.saturating_sub(since) >= self.config.final_depth;
        let refused = self.returned.iter().filter(|(_, since)| since.is_some_and(is_final));
        let refused = refused.map(|(txid, _)| *txid).filter(|txid| !self.is_a_channels(*txid)).collect();
        self.wallet.release_unconfirmed(&refused, self.now);
    }

    /// A channel's funding or close: only what spends its inputs for good ends it. Until then what it rests on may wait for
    /// blocks to be cheaper, however long nodes miss it.
    fn is_a_channels(&self, txid: Txid) -> bool {
        let mut fundings = self.watches.all().values().filter_map(|watch| watch.funding.as_ref());
        self.batches.records().contains_key(&txid) || fundings.any(|funding| funding.outpoint.txid == txid)
    }
}
