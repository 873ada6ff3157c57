//! Preimages that are seen in the mempool only.
//!
//! A counterparty may show a preimage in a transaction and replace it before any block holds it (replacement cycling). So
//! with each block the mempool is searched for spends of what is watched, and channels read what is found at once.

use bitcoin::{OutPoint, Transaction, Txid};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;

use crate::desk::{Desk, Outcome};
use crate::limits;

impl Desk {
    /// Outputs whose spends in the mempool concern channels: what closed channels left unspent, and the fundings of
    /// those that want to be closed.
    pub fn mempool_watches(&self) -> Vec<(OwnerId, OutPoint)> {
        let mut watches = Vec::new();
        for (owner, watch) in self.watches.all() {
            let failed = self.settling.plans.contains_key(owner);
            let funding = watch.funding.as_ref().filter(|funding| failed && funding.spend.is_none());
            watches.extend(funding.map(|funding| (*owner, funding.outpoint)));
            let unspent = watch.outputs.iter().filter(|(_, output)| output.spend.is_none());
            watches.extend(unspent.map(|(outpoint, _)| (*owner, *outpoint)));
        }
        watches
    }

    /// Whether a transaction of the mempool is news to the channel.
    pub fn is_news(&self, owner: OwnerId, txid: Txid) -> bool {
        let told = self.settling.told.get(&owner).is_some_and(|told| told.contains(&txid));
        !told && !self.listed.contains_key(&txid)
    }

    /// Tells channels what the mempool holds; each transaction once.
    pub fn seen_in_mempool(&mut self, seen: Vec<(OwnerId, Transaction)>) -> Outcome {
        let mut outcome = Outcome::default();
        for (owner, transaction) in seen {
            let txid = transaction.compute_txid();
            if self.watches.get(owner).is_none() || !self.is_news(owner, txid) {
                continue;
            }
            let told = self.settling.told.entry(owner).or_default();
            if told.len() >= limits::MEMPOOL_SIGHTINGS {
                // Whoever hears something twice takes it as nothing.
                told.clear();
            }
            told.insert(txid);
            let event = ChainEvent::SeenInMempool { transaction };
            outcome.then.push((owner, Command::Chain(event)));
        }
        outcome
    }
}
