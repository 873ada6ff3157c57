//! The chain's word. It is neither refused nor disputed: what does not fit the channel fails it.

use std::collections::BTreeSet;

use bitcoin::{OutPoint, Txid};

use super::onchain::InBlock;
use super::{Verdict, decided, refused};
use crate::bug::{self, Bug};
use crate::channel::htlc::Offered;
use crate::channel::input::{Input, Kind};
use crate::channel::state::{Funding, Phase};
use crate::channel::{Channel, Checked, Context};
use crate::commitment::HtlcSpec;
use crate::effect::OpeningFailure;
use crate::error::{FailureCause, Refusal};
use crate::event::{ChainEvent, Role};
use crate::limits::{
    CLAIM_MARGIN_BLOCKS, HANDED_OVER_GRACE_BLOCKS, OUTGOING_GRACE_BLOCKS, UNDECIDED_PATIENCE_BLOCKS,
    UNDECIDED_PAYMENT_BLOCKS,
};

impl Channel {
    pub(super) fn check_chain(&self, event: ChainEvent, context: &Context<'_>) -> Verdict {
        let Some(funding) = &self.state.funding else { return refused(Refusal::NoFunding) };
        match event {
            ChainEvent::FundingConfirmed { height, block_index, output } => {
                if !self.waits_for_funding() || funding.confirmed.is_some() {
                    return Ok(Checked::Nothing);
                }
                if !self.is_our_funding(output.as_ref()) {
                    if self.is_wrongly_funded() {
                        return Ok(Checked::Nothing);
                    }
                    return decided(Kind::Failed { cause: FailureCause::WrongFunding });
                }
                decided(Kind::FundingConfirmed { height, block_index })
            }
            ChainEvent::FundingUndone => {
                if !self.waits_for_funding() || funding.confirmed.is_none() {
                    return Ok(Checked::Nothing);
                }
                decided(Kind::FundingUndone)
            }
            // A transaction never changes its outputs: no other can come in its place, and nobody can spend what is not there.
            ChainEvent::FundingDeep { .. } if self.is_wrongly_funded() => {
                decided(Kind::OpeningEnded { cause: OpeningFailure::WrongFunding })
            }
            ChainEvent::FundingDeep { .. } => {
                if !self.waits_for_funding() || funding.deep || funding.confirmed.is_none() {
                    return Ok(Checked::Nothing);
                }
                decided(Kind::FundingDeep)
            }
            // The accepter never had the transaction.
            ChainEvent::FundingFinal if funding.transaction.is_none() => Ok(Checked::Nothing),
            ChainEvent::FundingFinal => decided(Kind::FundingFinal),
            ChainEvent::FundingNeverConfirms { .. } => self.check_never_confirms(funding),
            ChainEvent::FundingSpent { height, transaction, revoked_htlcs } => {
                let txid = transaction.compute_txid();
                let spend = InBlock { transaction: &transaction, txid, height };
                self.check_spent(funding.outpoint, &spend, revoked_htlcs, context)
            }
            ChainEvent::SpendUndone { txid } if self.closes_with(txid) => decided(Kind::SpendUndone),
            ChainEvent::SpendFinal { txid, .. } if self.closes_with(txid) => decided(Kind::SpendFinal),
            ChainEvent::SpendUndone { .. } | ChainEvent::SpendFinal { .. } => Ok(Checked::Nothing),
            ChainEvent::OutputSpent { outpoint, height, transaction } => {
                let txid = transaction.compute_txid();
                let spend = InBlock { transaction: &transaction, txid, height };
                self.check_output_spent(outpoint, &spend, context)
            }
            ChainEvent::OutputSpendUndone { outpoint, txid } => self.check_output_undone(outpoint, txid),
            ChainEvent::OutputSpendFinal { outpoint, txid, .. } => self.check_output_final(outpoint, txid),
            ChainEvent::SeenInMempool { transaction } => self.check_mempool(&transaction),
            ChainEvent::OutputGivenUp { outpoint } => self.check_given_up(outpoint),
            ChainEvent::Deadline { height } => {
                let reached = |deadline: Option<u32>| deadline.is_some_and(|deadline| deadline <= height);
                if reached(self.htlc_deadline()) {
                    Ok(self.check_htlc_deadline(height))
                } else if reached(self.closing_deadline()) {
                    decided(Kind::Failed { cause: FailureCause::CloseOverdue { height } })
                } else if reached(self.next_deadline()) {
                    decided(Kind::OffersLate { dropped: self.late_offers(height) })
                } else {
                    refused(Refusal::NoDeadline { height })
                }
            }
        }
    }

    /// HTLCs are overdue. What has an output is taken to the chain; what is trimmed would be lost there, and
    /// is given up.
    fn check_htlc_deadline(&self, height: u32) -> Checked {
        if matches!(self.state.phase, Phase::Failed { .. }) {
            let late = self.giving_up().filter(|(_, deadline)| *deadline <= height);
            let ids = late.map(|(id, _)| id).collect();
            return Checked::Input(Input(Kind::GivenUp { ids }));
        }
        let failed = Kind::Failed { cause: FailureCause::HtlcDeadline { height } };
        if self.claim_deadline().is_some_and(|deadline| deadline <= height) {
            return Checked::Input(Input(failed));
        }
        let overdue = || {
            self.state.htlcs.offered.iter().filter(move |(_, htlc)| {
                !htlc.given_up && htlc.add.cltv_expiry.saturating_add(OUTGOING_GRACE_BLOCKS) <= height
            })
        };
        if overdue().any(|(_, htlc)| !htlc.trimmed) {
            return Checked::Input(Input(failed));
        }
        Checked::Input(Input(Kind::GivenUp { ids: overdue().map(|(id, _)| *id).collect() }))
    }

    /// HTLCs of ours in a channel that failed which the chain may decide too late for what pays for them, or never: until when
    /// each is waited for. Trimmed ones end with the final depth of a commitment; those that may be outputs of a
    /// commitment that we do not know, only by their receiver's hand.
    fn giving_up(&self) -> impl Iterator<Item = (u64, u32)> {
        let offered = &self.state.htlcs.offered;
        let (is_decided, undecided) = match &self.state.onchain {
            Some(onchain) if onchain.is_final => (true, onchain.undecidable(offered.iter())),
            Some(_) | None => (false, BTreeSet::new()),
        };
        let patience = match self.state.names.role {
            Role::Hub => UNDECIDED_PATIENCE_BLOCKS,
            Role::Wallet => UNDECIDED_PAYMENT_BLOCKS,
        };
        let deadline = move |id: &u64, htlc: &Offered| {
            let patience = match htlc.trimmed {
                true if !is_decided => OUTGOING_GRACE_BLOCKS,
                false if undecided.contains(id) => patience,
                true | false => return None,
            };
            (!htlc.given_up).then(|| htlc.add.cltv_expiry.saturating_add(patience))
        };
        offered.iter().filter_map(move |(id, htlc)| Some((*id, deadline(id, htlc)?)))
    }

    fn closes_with(&self, txid: Txid) -> bool {
        match &self.state.phase {
            Phase::Closing { txid: known, .. } => *known == txid,
            Phase::Failed { .. } => {
                self.state.onchain.as_ref().is_some_and(|known| known.txid == txid && !known.is_final)
            }
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closed { .. }
            | Phase::Aborted { .. } => false,
        }
    }

    /// The phases in which the funding's place in the chain matters; later only its spend does.
    fn waits_for_funding(&self) -> bool {
        match self.state.phase {
            Phase::AwaitingConfirmation | Phase::Open | Phase::Frozen | Phase::Failed { .. } => true,
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::Closing { .. }
            | Phase::Closed { .. }
            | Phase::Aborted { .. } => false,
        }
    }

    fn is_wrongly_funded(&self) -> bool {
        self.state.phase == (Phase::Failed { cause: FailureCause::WrongFunding })
    }

    fn check_never_confirms(&self, funding: &Funding) -> Verdict {
        if !self.waits_for_funding() || funding.confirmed.is_some() || self.state.onchain.is_some() {
            return Ok(Checked::Nothing);
        }
        match self.state.phase {
            Phase::AwaitingConfirmation => {
                decided(Kind::OpeningEnded { cause: OpeningFailure::NeverConfirmed })
            }
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Closed { .. }
            | Phase::Aborted { .. }
            | Phase::Failed { .. } => decided(Kind::FundingReplaced),
        }
    }

    /// The funding output is spent: by the agreed close, by a commitment, or by something nobody agreed on.
    fn check_spent(
        &self,
        funding: OutPoint,
        spend: &InBlock<'_>,
        revoked_htlcs: Option<Vec<HtlcSpec>>,
        context: &Context<'_>,
    ) -> Verdict {
        if !spend.transaction.input.iter().any(|input| input.previous_output == funding) {
            return refused(Refusal::NotOurSpend);
        }
        match self.state.phase {
            Phase::Closed { .. } | Phase::Aborted { .. } => return Ok(Checked::Nothing),
            // Nothing is signed that could spend it.
            Phase::Proposed | Phase::Building | Phase::FundingSent | Phase::Accepted => {
                return refused(Refusal::NoFunding);
            }
            Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Failed { .. } => {}
        }
        match self.agreed_spend(spend.transaction) {
            Some((txid, paid)) => {
                let (height, paid_sat) = (spend.height, paid.to_sat());
                decided(Kind::AgreedSpend { txid, height, paid_sat })
            }
            None => self.check_commitment(spend, revoked_htlcs, context),
        }
    }

    /// The next height at which `ChainEvent::Deadline` is due; cheap enough to ask after every input.
    pub fn next_deadline(&self) -> Option<u32> {
        if bug::is(Bug::DeadlinesIgnored) {
            return None;
        }
        // A counterparty that stays connected and never revokes must not hold what waits for the next
        // signature.
        let queued = self.state.htlcs.index.earliest_queued_deadline();
        let queued = queued.map(|sign_by_height| sign_by_height.saturating_add(1));
        [self.htlc_deadline(), queued, self.closing_deadline()].into_iter().flatten().min()
    }

    /// Wallet: the height at which it closes alone, because the hub did not close as agreed. A wallet that is
    /// paid nothing waits.
    fn closing_deadline(&self) -> Option<u32> {
        let (Phase::Frozen, Role::Wallet) = (&self.state.phase, self.state.names.role) else { return None };
        let terms = &self.state.closing.frozen.as_ref()?.terms;
        self.ticket_spec(terms).payout()?;
        let overdue = terms.publish_by_height.saturating_add(1);
        Some(match self.state.closing.handed_over {
            Some(_) => overdue.saturating_add(HANDED_OVER_GRACE_BLOCKS),
            None => overdue,
        })
    }

    /// The height at which an HTLC that is not resolved yet fails the channel, or is given up if it is trimmed.
    pub(in super::super) fn htlc_deadline(&self) -> Option<u32> {
        match self.state.phase {
            Phase::Open => {}
            // What has an output is the chain's to decide, if it can.
            Phase::Failed { .. } => return self.giving_up().map(|(_, deadline)| deadline).min(),
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Closed { .. }
            | Phase::Aborted { .. } => return None,
        }
        let offered = self.state.htlcs.index.earliest_offered_expiry();
        let offered = offered.map(|expiry| expiry.saturating_add(OUTGOING_GRACE_BLOCKS));
        [offered, self.claim_deadline()].into_iter().flatten().min()
    }

    /// The height by which this side must be there for an HTLC: in a channel that failed, for those that it can claim.
    pub(in super::super) fn act_by(&self) -> Option<u32> {
        let has_failed = matches!(self.state.phase, Phase::Failed { .. });
        let claim = || match &self.state.onchain {
            None => self.claim_deadline(),
            Some(onchain) => {
                let expiry = onchain.earliest_claimable_expiry(&self.state.htlcs);
                expiry.map(|expiry| expiry.saturating_sub(CLAIM_MARGIN_BLOCKS))
            }
        };
        [self.htlc_deadline(), has_failed.then(claim).flatten()].into_iter().flatten().min()
    }

    /// The last height at which a received HTLC whose preimage is known can still be claimed on the chain in
    /// time.
    fn claim_deadline(&self) -> Option<u32> {
        let expiry = self.state.htlcs.index.earliest_claimable_expiry()?;
        Some(expiry.saturating_sub(CLAIM_MARGIN_BLOCKS))
    }
}
