//! Where a wallet's incoming HTLCs go: to its own ledger, or back.

use channel::failure::FailureReason;
use channel::forward::{Candidate, RouteChoice, Router};

use crate::ledger::LEDGER;

/// A wallet forwards nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct WalletRouter;

impl Router for WalletRouter {
    fn route(&self, candidate: &Candidate<'_>) -> RouteChoice {
        if candidate.htlc.forward.is_some() {
            return RouteChoice::Fail { reason: FailureReason::UnknownRecipient };
        }
        match candidate.last_failure {
            // The ledger decided; nobody else will decide otherwise.
            Some(reason) => RouteChoice::Fail { reason },
            None => RouteChoice::Offer { to: LEDGER, sign_by_height: candidate.htlc.cltv_expiry },
        }
    }
}
