//! From the first input to a channel that is ready, and the chain's word on its funding.

use bitcoin::{Amount, OutPoint, Transaction, TxOut};

use super::super::books::Books;
use super::super::htlc::Htlcs;
use super::super::input::{First, Recovered};
use super::super::state::{
    Closing, Confirmed, Connection, CounterpartyCommitment, Funding, HolderCommitment, LastSent, Phase,
    Shutdowns, State, Updates,
};
use super::Out;
use crate::amount::Msat;
use crate::commitment::CommitmentSignatures;
use crate::effect::{Effect, OpeningFailure, Report, ToSend};
use crate::error::FailureCause;
use crate::keys::CompactSignature;
use crate::message::{Message, SideParameters};
use crate::parameters::Side;
use crate::scripts;
use crate::shachain::SecretStore;

impl State {
    /// The state of a channel that was just proposed, by us or to us.
    pub(in super::super) fn first(first: &First) -> Self {
        let First { names, terms, session } = first;
        let capacity = Msat::from_sat(Amount::from_sat(terms.capacity_sat)).unwrap_or(Msat::MAX);
        Self {
            names: *names,
            terms: terms.clone(),
            phase: match terms.opener {
                Side::Holder => Phase::Proposed,
                Side::Counterparty => Phase::Accepted,
            },
            connection: Connection::Online(*session),
            funding: None,
            holder: HolderCommitment { number: 0, signatures: None },
            counterparty: terms.counterparty.as_ref().map(their_first),
            books: Books::opened(terms.opener, capacity),
            htlcs: Htlcs::default(),
            updates: Updates {
                queued: Vec::new(),
                unsigned: Vec::new(),
                signed: Vec::new(),
                owed: 0,
                expected: 0,
                last_sent: LastSent::Commitment,
            },
            forwards: Default::default(),
            sealed: Vec::new(),
            shutdowns: Shutdowns::default(),
            closing: Closing::default(),
            onchain: None,
            price: None,
        }
    }

    /// A channel whose data this side lost: it has a funding to watch, and nothing to publish.
    pub(in super::super) fn recovered(recovered: &Recovered) -> Self {
        let Recovered { names, terms, outpoint, session } = recovered;
        let first = First { names: *names, terms: terms.clone(), session: *session };
        Self {
            phase: Phase::Failed { cause: FailureCause::DataLost },
            connection: Connection::Reestablishing(*session),
            funding: Some(new_funding(*outpoint, None)),
            ..Self::first(&first)
        }
    }

    /// What the first input asks for.
    pub(in super::super) fn first_effects(&self, out: &mut Out<'_>) {
        if let (Phase::Failed { cause }, Some(funding)) = (&self.phase, &self.funding) {
            out.push(self.watch_funding(funding.outpoint));
            out.push(Effect::Send(self.channel_error()));
            out.push(Effect::PlanChanged);
            out.report(Report::Failed { cause: cause.clone() });
            return;
        }
        match self.terms.opener {
            Side::Holder => self.send(ToSend::OpenChannel, out),
            Side::Counterparty => self.send(ToSend::AcceptChannel, out),
        }
        out.report(Report::Opening { capacity_sat: self.terms.capacity_sat });
    }

    /// Opener: both sides' keys are known, so the funding script is.
    pub(super) fn accept_received(
        &mut self,
        minimum_depth: u32,
        counterparty: &SideParameters,
        reserve_coin: Option<TxOut>,
        out: &mut Out<'_>,
    ) {
        self.terms.minimum_depth = minimum_depth;
        self.terms.counterparty = Some(counterparty.clone());
        self.counterparty = Some(their_first(counterparty));
        if reserve_coin.is_some()
            && let Some(price) = &mut self.price
        {
            price.add_coin();
        }
        self.terms.reserve_script =
            reserve_coin.as_ref().map(|coin| coin.script_pubkey.clone()).unwrap_or_default();
        self.phase = Phase::Building;
        let (script, amount) = (self.funding_script(), self.funding_amount());
        out.push(Effect::BuildFunding { script, amount, reserve_coin });
    }

    /// The funding output's script. Keys are sorted by their bytes, so none is parsed.
    pub(in super::super) fn funding_script(&self) -> bitcoin::ScriptBuf {
        let theirs = &self.counterparty_parameters().basepoints.funding;
        scripts::p2wsh(&scripts::funding_of_points(&self.terms.holder.basepoints.funding, theirs))
    }

    pub(in super::super) fn funding_amount(&self) -> Amount {
        Amount::from_sat(self.terms.capacity_sat)
    }

    /// Opener: the transaction exists, unpublished.
    pub(super) fn funding_built(&mut self, transaction: &Transaction, outpoint: OutPoint, out: &mut Out<'_>) {
        self.funding = Some(new_funding(outpoint, Some(transaction.clone())));
        self.phase = Phase::FundingSent;
        self.send(ToSend::FundingCreated, out);
    }

    /// Accepter: our commitment 0 is signed.
    pub(super) fn funding_created(
        &mut self,
        outpoint: OutPoint,
        signature: CompactSignature,
        sealed: &[u8],
        out: &mut Out<'_>,
    ) {
        self.funding = Some(new_funding(outpoint, None));
        self.commitment_0_signed(signature, sealed);
        self.send(ToSend::FundingSigned, out);
        out.push(self.watch_funding(outpoint));
    }

    /// Opener: our commitment 0 is signed, so the funding may be broadcast.
    pub(super) fn funding_signed(&mut self, signature: CompactSignature, sealed: &[u8], out: &mut Out<'_>) {
        self.commitment_0_signed(signature, sealed);
        let Some(Funding { outpoint, transaction: Some(transaction), .. }) = &self.funding else { return };
        out.push(self.watch_funding(*outpoint));
        out.push(Effect::BroadcastFunding { transaction: transaction.clone() });
        out.report(Report::FundingBroadcast { outpoint: *outpoint });
    }

    fn commitment_0_signed(&mut self, signature: CompactSignature, sealed: &[u8]) {
        self.holder.signatures = Some(CommitmentSignatures { commitment: signature, htlcs: Vec::new() });
        self.sealed = sealed.to_vec();
        self.phase = Phase::AwaitingConfirmation;
    }

    pub(in super::super) fn watch_funding(&self, outpoint: OutPoint) -> Effect {
        Effect::WatchFunding {
            outpoint,
            script: self.funding_script(),
            amount: self.funding_amount(),
            minimum_depth: self.terms.minimum_depth,
        }
    }

    /// The channel never comes to be. Nothing of ours is on the chain, so nothing is published.
    pub(super) fn opening_ended(&mut self, cause: OpeningFailure, out: &mut Out<'_>) {
        self.phase = Phase::Aborted { cause: cause.clone() };
        match cause {
            OpeningFailure::Aborted(_) | OpeningFailure::Violation(_) => {
                let text = cause.to_string();
                self.send_message(Message::ChannelError { text, cannot_publish: false }, out);
            }
            OpeningFailure::Disconnected
            | OpeningFailure::Counterparty { .. }
            | OpeningFailure::NeverConfirmed
            | OpeningFailure::FundingReplaced
            | OpeningFailure::WrongFunding => {}
        }
        if self.terms.opener == Side::Holder {
            let transaction = self.funding.as_mut().and_then(|funding| funding.transaction.take());
            out.push(Effect::ReleaseCoins { transaction });
        }
        out.report(Report::OpeningFailed { cause });
        self.finish_if_done(out);
    }

    /// `channel_ready` of theirs.
    pub(super) fn ready_received(&mut self, out: &mut Out<'_>) {
        if let Some(funding) = &mut self.funding {
            funding.counterparty_ready = true;
        }
        self.open_if_ready(out);
    }

    pub(super) fn funding_confirmed(&mut self, height: u32, block_index: u32, out: &mut Out<'_>) {
        let Some(funding) = &mut self.funding else { return };
        funding.confirmed = Some(Confirmed { height, block_index });
        out.report(Report::FundingConfirmed { outpoint: funding.outpoint, height });
    }

    /// The funding's block is gone: the channel is worth nothing until another holds it.
    pub(super) fn funding_undone(&mut self, out: &mut Out<'_>) {
        let Some(funding) = &mut self.funding else { return };
        funding.confirmed = None;
        funding.deep = false;
        self.withdraw_all(crate::failure::FailureReason::ChannelUnavailable, out);
        out.report(Report::FundingUndone);
    }

    pub(super) fn funding_deep(&mut self, out: &mut Out<'_>) {
        let Some(funding) = &mut self.funding else { return };
        funding.deep = true;
        if matches!(self.phase, Phase::Failed { .. }) {
            return;
        }
        if !std::mem::replace(&mut funding.holder_ready, true) {
            self.send_message(Message::ChannelReady, out);
        }
        self.open_if_ready(out);
    }

    /// The chain keeps it from now on. Until then a reorganisation may take it out of the chain and of every mempool, and
    /// only its opener has it.
    pub(super) fn funding_final(&mut self) {
        if let Some(funding) = &mut self.funding {
            funding.transaction = None;
        }
    }

    fn open_if_ready(&mut self, out: &mut Out<'_>) {
        let both =
            self.funding.as_ref().is_some_and(|funding| funding.holder_ready && funding.counterparty_ready);
        if both && self.phase == Phase::AwaitingConfirmation {
            self.phase = Phase::Open;
            out.report(Report::Ready);
        }
    }
}

fn new_funding(outpoint: OutPoint, transaction: Option<Transaction>) -> Funding {
    Funding {
        outpoint,
        transaction,
        confirmed: None,
        deep: false,
        holder_ready: false,
        counterparty_ready: false,
    }
}

/// The counterparty's commitment 0, which the opening signs.
fn their_first(parameters: &SideParameters) -> CounterpartyCommitment {
    CounterpartyCommitment {
        number: 0,
        awaiting_revocation: false,
        unrevoked_point: parameters.first_point,
        next_point: parameters.second_point,
        secrets: SecretStore::new(),
        to_be_revoked: Vec::new(),
    }
}
