//! Funding transactions of openings: built and locked, published, or let go of.

use bitcoin::{Transaction, TxOut};
use channel::event::{AbortReason, Command};
use channel::ids::OwnerId;

use super::record::Record;
use super::reserve::ReserveBroken;
use super::{Broadcast, Desk, DeskReport, FUNDING_COINS, Moment, Outcome};
use crate::onchain::{FundingRequest, OnchainError};
use crate::verify::FundingTransaction;

/// Why a funding transaction was not built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum FundError {
    #[error(transparent)]
    Onchain(#[from] OnchainError),
    #[error(transparent)]
    Reserve(#[from] ReserveBroken),
}

impl Desk {
    pub(super) fn build_funding(
        &mut self,
        owner: OwnerId,
        output: TxOut,
        reserve_coin: Option<TxOut>,
        now: &Moment,
        outcome: &mut Outcome,
    ) {
        match self.fund(&output, reserve_coin.as_ref(), now) {
            Ok(funding) => {
                let transaction = funding.transaction().clone();
                let output_index = funding.position_of(&output).expect("the verifier found the output");
                self.stage_wallet(outcome);
                if let Some(output) = reserve_coin {
                    self.reserve_coins.insert(owner, output.clone());
                    outcome.records.push(Record::ReserveCoin { owner, output }.encode());
                }
                outcome.records.push(Record::Building { owner, transaction: transaction.clone() }.encode());
                self.building.insert(owner, transaction.clone());
                outcome.then.push((owner, Command::FundingBuilt { transaction, output_index }));
                let (txid, fee) = (funding.txid(), funding.fee());
                outcome.reports.push(DeskReport::FundingBuilt { owner, txid, fee });
            }
            Err(error) => {
                self.stage_wallet(outcome);
                let why = match error {
                    FundError::Onchain(_) => AbortReason::NotEnoughFunds,
                    FundError::Reserve(_) => AbortReason::KeepsReserve,
                };
                outcome.then.push((owner, Command::AbortOpening { why }));
                outcome.reports.push(DeskReport::FundingRefused { owner, why: error.to_string() });
            }
        }
    }

    /// Builds and locks; changes nothing if it fails.
    fn fund(
        &mut self,
        output: &TxOut,
        reserve_coin: Option<&TxOut>,
        now: &Moment,
    ) -> Result<FundingTransaction, FundError> {
        let outputs: Vec<TxOut> = std::iter::once(output).chain(reserve_coin).cloned().collect();
        let request = FundingRequest {
            outputs: &outputs,
            feerate: now.feerate,
            coins: FUNDING_COINS,
            fees: self.config.fees,
            randomness: now.randomness,
        };
        let built = self.wallet.build_funding(&request)?;
        if let Err(broken) = self.check_reserve(built.funding.transaction()) {
            self.wallet.unlock(&built.locked);
            return Err(broken.into());
        }
        Ok(built.funding)
    }

    /// Its channel keeps the transaction and has both signatures of commitment 0: from here on only a conflicting
    /// spend could end it.
    pub(super) fn broadcast_funding(
        &mut self,
        owner: OwnerId,
        transaction: Transaction,
        outcome: &mut Outcome,
    ) {
        let Some(watch) = self.watches.funding(owner) else {
            let what = format!("channel {} asks to broadcast a funding that is not watched", owner.0);
            outcome.reports.push(DeskReport::Trouble { what });
            return;
        };
        let confirmed = watch.confirmed.map(|(height, _)| height);
        let required: Vec<TxOut> =
            std::iter::once(&watch.output).chain(self.reserve_coins.get(&owner)).cloned().collect();
        match self.wallet.verify_funding(transaction.clone(), &required, self.config.fees) {
            Ok(funding) => {
                let txid = funding.txid();
                if self.watches.add_funding_transaction(owner, &transaction) {
                    self.record_watch(owner, outcome);
                }
                if confirmed.is_none() {
                    self.wallet.record_unconfirmed(&transaction, self.now);
                    self.stage_wallet(outcome);
                }
                self.note_built(owner, outcome);
                // Also when a block holds it: that block may be undone.
                self.listed.entry(txid).or_insert(confirmed);
                outcome.broadcasts.push(Broadcast::Funding(funding));
                outcome.broadcasts.extend(confirmed.map(|_| Broadcast::Confirmed(txid)));
            }
            Err(flaw) => outcome.reports.push(DeskReport::Trouble {
                what: format!("the funding transaction of channel {} must not be published: {flaw}", owner.0),
            }),
        }
    }

    /// Lets go of the coins of a funding transaction that was never published. Nothing if there is none, or none any more:
    /// its coins may be another opening's by now.
    pub(super) fn release_building(&mut self, owner: OwnerId, outcome: &mut Outcome) {
        if let Some(transaction) = self.building.get(&owner) {
            self.wallet.release(transaction, self.now);
            self.stage_wallet(outcome);
            self.note_built(owner, outcome);
        }
    }

    fn note_built(&mut self, owner: OwnerId, outcome: &mut Outcome) {
        if self.building.remove(&owner).is_some() {
            outcome.records.push(Record::Built { owner }.encode());
        }
    }
}
