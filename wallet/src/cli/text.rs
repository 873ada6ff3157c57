//! Values for eyes: those of every command line, and words for the enums of `wallet.v1`.

pub use daemon::text::{grouped, msat, msat_cell, plain, sat, short, when};
use proto::json::word;
pub use proto::json::{phase, reason as failure_reason, txid};
use proto::wallet::v1 as pb;

pub fn payment_state(state: pb::PaymentState) -> String {
    word(state.as_str_name(), "PAYMENT_STATE_")
}

pub fn stream_state(state: pb::StreamState) -> String {
    word(state.as_str_name(), "STREAM_STATE_")
}

pub fn direction(direction: pb::PaymentDirection) -> String {
    word(direction.as_str_name(), "PAYMENT_DIRECTION_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_become_words() {
        assert_eq!(payment_state(pb::PaymentState::InFlight), "in_flight");
        assert_eq!(direction(pb::PaymentDirection::Received), "received");
    }
}
