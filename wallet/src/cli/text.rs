//! Values for eyes: those of every command line, and words for the enums of `wallet.v1`.

use daemon::text::word;
pub use daemon::text::{grouped, msat, msat_cell, plain, sat, short, txid, when};
use proto::hub::v1 as hub;
use proto::wallet::v1 as pb;

/// An outpoint as explorers show it.
pub fn outpoint(outpoint: &hub::OutPoint) -> String {
    format!("{}:{}", txid(&outpoint.txid), outpoint.index)
}

pub fn phase(phase: hub::ChannelPhase) -> String {
    word(phase.as_str_name(), "CHANNEL_PHASE_")
}

pub fn payment_state(state: pb::PaymentState) -> String {
    word(state.as_str_name(), "PAYMENT_STATE_")
}

pub fn stream_state(state: pb::StreamState) -> String {
    word(state.as_str_name(), "STREAM_STATE_")
}

pub fn direction(direction: pb::PaymentDirection) -> String {
    word(direction.as_str_name(), "PAYMENT_DIRECTION_")
}

pub fn failure_reason(reason: hub::FailureReason) -> String {
    word(reason.as_str_name(), "FAILURE_REASON_")
}

pub fn tick_stage(stage: hub::TickStage) -> String {
    word(stage.as_str_name(), "TICK_STAGE_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_become_words() {
        assert_eq!(phase(hub::ChannelPhase::ShuttingDown), "shutting_down");
        assert_eq!(payment_state(pb::PaymentState::InFlight), "in_flight");
        assert_eq!(failure_reason(hub::FailureReason::NoLiquidity), "no_liquidity");
    }
}
