//! Channels and what happened to them, as the operator's and the wallets' services show them.

use channel::amount::Msat;
use channel::channel::{ChannelView, CommitmentOwner, ConnectionView, OutputPart, PhaseView};
use channel::effect::Report;
use channel::ids::StreamId;
use channel::parameters::Side;

use crate::fields::{bytes, outpoint_out, txid_out};
use crate::hub::v1 as pb;
use crate::hub::v1::channel_event::{self as event, Kind};
use crate::message::reason_out;
use crate::onchain::close_out;
use crate::parameters::terms_out;

/// A channel as its holder sees it, at this height of the chain.
pub fn channel_out(view: &ChannelView, height: u32) -> pb::Channel {
    let in_flight = view.offered_msat.saturating_add(view.received_msat);
    let online = matches!(view.connection, ConnectionView::Online(_));
    let (closing_txid, closing_height) = match &view.phase {
        PhaseView::Closing { txid, height } | PhaseView::Closed { txid, height } => (txid_out(txid), *height),
        PhaseView::Opening
        | PhaseView::AwaitingConfirmation { .. }
        | PhaseView::Open
        | PhaseView::ShuttingDown { .. }
        | PhaseView::Frozen { .. }
        | PhaseView::Aborted { .. }
        | PhaseView::Failed { .. } => (::bytes::Bytes::new(), 0),
    };
    pb::Channel {
        channel_id: bytes(&view.channel_id.0),
        node_key: bytes(view.counterparty_node.as_bytes()),
        phase: phase_out(&view.phase).into(),
        online,
        usable: online && view.usable,
        capacity_sat: view.capacity.to_sat(),
        local_msat: view.holder_msat.to_u64(),
        remote_msat: view.counterparty_msat.to_u64(),
        in_flight_msat: in_flight.to_u64(),
        htlcs: u32::try_from(view.htlcs).unwrap_or(u32::MAX),
        spendable_msat: view.spendable_msat.to_u64(),
        receivable_msat: view.receivable_msat.to_u64(),
        dust_exposure_msat: view.dust_exposure_msat.to_u64(),
        funding: view.funding_outpoint.as_ref().map(outpoint_out),
        funded_locally: view.opener == Side::Holder,
        confirmations: view.funding_height.map_or(0, |at| height.saturating_sub(at).saturating_add(1)),
        minimum_depth: view.minimum_depth,
        local_to_self_delay_blocks: view.holder_to_self_delay_blocks.into(),
        remote_to_self_delay_blocks: view.counterparty_to_self_delay_blocks.into(),
        local_commitment_number: view.holder_commitment_number,
        remote_commitment_number: view.counterparty_commitment_number,
        closing_txid,
        closing_height,
        failure: failure_text(&view.phase),
        format: channel::format::CommitmentFormat::ZeroFeeCommitments.name().to_owned(),
        paid_sat: view.paid_sat,
        price_msat: view.price_msat.to_u64(),
        price_unpaid_msat: view.price_unpaid_msat.to_u64(),
        online_again_by_height: online_again_by(view, height),
        onchain: close_out(view, height),
    }
}

/// The height by which this side must be online again; 0 where being away costs nothing.
pub fn online_again_by(view: &ChannelView, height: u32) -> u32 {
    let revoked = height.saturating_add(view.counterparty_to_self_delay_blocks.into());
    let by = |other: Option<u32>| [view.next_deadline, other].into_iter().flatten().min().unwrap_or(0);
    match view.phase {
        PhaseView::AwaitingConfirmation { .. }
        | PhaseView::Open
        | PhaseView::ShuttingDown { .. }
        | PhaseView::Frozen { .. } => by(Some(revoked)),
        // Once a commitment is in the chain only a revoked one can still be lost to.
        PhaseView::Failed { .. } => match &view.onchain {
            None => by(Some(revoked)),
            Some(onchain) if onchain.whose == CommitmentOwner::Revoked => {
                by(Some(onchain.height.saturating_add(view.counterparty_to_self_delay_blocks.into())))
            }
            Some(_) => by(None),
        },
        PhaseView::Opening
        | PhaseView::Closing { .. }
        | PhaseView::Closed { .. }
        | PhaseView::Aborted { .. } => 0,
    }
}

/// The phase's name on the wire.
pub fn phase_out(phase: &PhaseView) -> pb::ChannelPhase {
    match phase {
        PhaseView::Opening => pb::ChannelPhase::Opening,
        PhaseView::AwaitingConfirmation { .. } => pb::ChannelPhase::AwaitingConfirmation,
        PhaseView::Open => pb::ChannelPhase::Open,
        PhaseView::ShuttingDown { .. } => pb::ChannelPhase::ShuttingDown,
        PhaseView::Frozen { .. } => pb::ChannelPhase::Frozen,
        PhaseView::Closing { .. } => pb::ChannelPhase::Closing,
        PhaseView::Closed { .. } => pb::ChannelPhase::Closed,
        PhaseView::Aborted { .. } => pb::ChannelPhase::Aborted,
        PhaseView::Failed { .. } => pb::ChannelPhase::Failed,
    }
}

/// Why a channel in this phase failed or was given up; empty for the others.
pub fn failure_text(phase: &PhaseView) -> String {
    match phase {
        PhaseView::Failed { cause } => cause.to_string(),
        PhaseView::Aborted { cause } => cause.to_string(),
        PhaseView::Opening
        | PhaseView::AwaitingConfirmation { .. }
        | PhaseView::Open
        | PhaseView::ShuttingDown { .. }
        | PhaseView::Frozen { .. }
        | PhaseView::Closing { .. }
        | PhaseView::Closed { .. } => String::new(),
    }
}

/// What happened to a channel.
pub fn report_out(report: &Report) -> Kind {
    match report {
        Report::Opening { capacity_sat } => Kind::Opening(event::Opening { capacity_sat: *capacity_sat }),
        Report::OpeningFailed { cause } => {
            Kind::OpeningFailed(event::OpeningFailed { why: cause.to_string() })
        }
        Report::FundingBroadcast { outpoint } => {
            Kind::FundingBroadcast(event::FundingBroadcast { outpoint: Some(outpoint_out(outpoint)) })
        }
        Report::FundingConfirmed { outpoint, height } => Kind::FundingConfirmed(event::FundingConfirmed {
            outpoint: Some(outpoint_out(outpoint)),
            height: *height,
        }),
        Report::FundingUndone => Kind::FundingUndone(event::FundingUndone {}),
        Report::Ready => Kind::Ready(event::Ready {}),
        Report::Reestablished => Kind::Reestablished(event::Reestablished {}),
        Report::CounterpartyBehind => Kind::CounterpartyBehind(event::CounterpartyBehind {}),
        Report::ShutdownStarted { by_us } => Kind::ShutdownStarted(event::ShutdownStarted { by_us: *by_us }),
        Report::Frozen { terms } => {
            let pb::ClosingTerms { fee_sat, publish_by_height } = terms_out(terms);
            Kind::Frozen(event::Frozen { fee_sat, publish_by_height })
        }
        Report::TermsRefused { terms, why } => {
            let pb::ClosingTerms { fee_sat, publish_by_height } = terms_out(terms);
            Kind::TermsRefused(event::TermsRefused { fee_sat, publish_by_height, why: why.to_string() })
        }
        Report::Closing { txid, height } => {
            Kind::Closing(event::Closing { txid: txid_out(txid), height: *height })
        }
        Report::ClosingUndone { txid } => Kind::ClosingUndone(event::ClosingUndone { txid: txid_out(txid) }),
        Report::Closed { txid, height, paid_sat } => {
            Kind::Closed(event::Closed { txid: txid_out(txid), height: *height, paid_sat: *paid_sat })
        }
        Report::PricePaid { amount_msat, unpaid_msat } => Kind::PricePaid(event::PricePaid {
            amount_msat: amount_msat.to_u64(),
            unpaid_msat: unpaid_msat.to_u64(),
        }),
        Report::Failed { cause } => Kind::Failed(event::Failed { why: cause.to_string() }),
        Report::CommitmentConfirmed { .. }
        | Report::CommitmentUndone { .. }
        | Report::OutputSpent { .. }
        | Report::OutputSpendUndone { .. }
        | Report::OutputGivenUp { .. }
        | Report::PreimageFound { .. } => Kind::ChainStep(chain_step(report)),
        Report::HtlcReceived { htlc_id, payment_hash, amount_msat, stream } => match stream {
            Some(stream) => Kind::StreamTicks(tick(stream, pb::TickStage::Received, amount_msat)),
            None => Kind::HtlcReceived(event::HtlcReceived {
                payment_hash: bytes(payment_hash.as_bytes()),
                amount_msat: amount_msat.to_u64(),
                htlc_id: *htlc_id,
            }),
        },
        Report::ForwardSettled { key, to: _, payment_hash, amount_msat, fee_msat, stream } => match stream {
            Some(stream) => Kind::StreamTicks(event::StreamTicks {
                fee_msat: fee_msat.to_u64(),
                ..tick(stream, pb::TickStage::Settled, amount_msat)
            }),
            None => Kind::ForwardSettled(event::ForwardSettled {
                htlc_id: key.htlc_id,
                attempt: key.attempt,
                incoming_msat: amount_msat.to_u64(),
                payment_hash: bytes(payment_hash.as_bytes()),
                fee_msat: fee_msat.to_u64(),
            }),
        },
        Report::ForwardFailed { key, payment_hash, amount_msat, reason, stream } => match stream {
            Some(stream) => Kind::StreamTicks(event::StreamTicks {
                reason: reason_out(*reason).into(),
                ..tick(stream, pb::TickStage::Failed, amount_msat)
            }),
            None => Kind::ForwardFailed(event::ForwardFailed {
                htlc_id: key.htlc_id,
                attempt: key.attempt,
                reason: reason_out(*reason).into(),
                payment_hash: bytes(payment_hash.as_bytes()),
                incoming_msat: amount_msat.to_u64(),
            }),
        },
    }
}

/// A step of a close by a commitment; of other reports nothing but an empty step.
fn chain_step(report: &Report) -> event::ChainStep {
    let empty = event::ChainStep::default();
    if let Report::CommitmentConfirmed { txid, height, whose, number: _ } = report {
        let (what, kind) = ("commitment_confirmed".to_owned(), owner_word(*whose).to_owned());
        return event::ChainStep { what, kind, txid: txid_out(txid), height: *height, ..empty };
    }
    if let Report::CommitmentUndone { txid } = report {
        return event::ChainStep { what: "commitment_undone".to_owned(), txid: txid_out(txid), ..empty };
    }
    if let Report::OutputSpent { outpoint, kind, value_sat, by_us, txid, height } = report {
        return event::ChainStep {
            what: "output_spent".to_owned(),
            txid: txid_out(txid),
            height: *height,
            outpoint: Some(outpoint_out(outpoint)),
            value_sat: *value_sat,
            kind: part_word(*kind).to_owned(),
            by_us: *by_us,
            ..empty
        };
    }
    if let Report::OutputSpendUndone { outpoint, txid } = report {
        return event::ChainStep {
            what: "output_spend_undone".to_owned(),
            txid: txid_out(txid),
            outpoint: Some(outpoint_out(outpoint)),
            ..empty
        };
    }
    if let Report::OutputGivenUp { outpoint, kind, value_sat } = report {
        return event::ChainStep {
            what: "output_given_up".to_owned(),
            outpoint: Some(outpoint_out(outpoint)),
            value_sat: *value_sat,
            kind: part_word(*kind).to_owned(),
            ..empty
        };
    }
    if let Report::PreimageFound { htlc_id: _, payment_hash } = report {
        let payment_hash = bytes(payment_hash.as_bytes());
        return event::ChainStep { what: "preimage_found".to_owned(), payment_hash, ..empty };
    }
    empty
}

/// Whose a commitment is, as a word.
pub fn owner_word(whose: CommitmentOwner) -> &'static str {
    match whose {
        CommitmentOwner::Ours => "ours",
        CommitmentOwner::Theirs => "theirs",
        CommitmentOwner::Revoked => "revoked",
        CommitmentOwner::Newer => "newer",
        CommitmentOwner::Unknown => "unknown",
    }
}

/// What an output of a commitment is, as a word.
pub fn part_word(part: OutputPart) -> &'static str {
    match part {
        OutputPart::ToLocal => "to_local",
        OutputPart::ToRemote => "to_remote",
        OutputPart::HtlcOffered { .. } => "htlc_offered",
        OutputPart::HtlcReceived { .. } => "htlc_received",
        OutputPart::SecondStage { .. } => "second_stage",
        OutputPart::PenaltyToLocal => "penalty_to_local",
        OutputPart::PenaltyHtlc { .. } => "penalty_htlc",
        OutputPart::PenaltySecondStage { .. } => "penalty_second_stage",
    }
}

/// A tick that is told alone is one of its stream.
fn tick(stream: &StreamId, stage: pb::TickStage, amount: &Msat) -> event::StreamTicks {
    event::StreamTicks {
        stream_id: bytes(&stream.0),
        stage: stage.into(),
        ticks: 1,
        incoming_msat: amount.to_u64(),
        fee_msat: 0,
        reason: pb::FailureReason::Unspecified.into(),
    }
}
