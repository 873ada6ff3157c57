//! A transaction of ours that a block held until a reorganisation undid it.

use std::sync::Arc;

use bitcoin::{Transaction, Txid};

/// Such a transaction, as the on-chain wallet took it from the block: nodes checked all of it then. Only
/// [`OnchainWallet::returned`](crate::onchain::OnchainWallet::returned) makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    transaction: Arc<Transaction>,
    txid: Txid,
}

impl Returned {
    pub(crate) fn new(transaction: Arc<Transaction>) -> Self {
        let txid = transaction.compute_txid();
        Returned { transaction, txid }
    }

    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    pub fn txid(&self) -> Txid {
        self.txid
    }
}
