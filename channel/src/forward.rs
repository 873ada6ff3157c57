//! The four steps of a forward between two owners inside one process (DESIGN section 7).
//!
//! The incoming owner A (a channel with an irrevocable incoming HTLC, or a wallet's ledger with a payment to
//! make) sends an [`Offer`]; the outgoing owner B (a channel, or a wallet's ledger that may know the invoice)
//! answers with exactly one durable [`ForwardResult`] a key, kept until A acknowledges it. Every message is
//! safe to repeat.

use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::failure::FailureReason;
use crate::ids::OwnerId;
use crate::message::{PaymentHash, Preimage, Recipient};

/// Names one attempt to forward one incoming HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ForwardKey {
    pub incoming: OwnerId,
    /// The HTLC's id in the incoming channel, or the ledger's payment number.
    pub htlc_id: u64,
    /// Starts at 1, rises by one with each new choice of an outgoing owner.
    pub attempt: u32,
}

/// Step 1: A asks B to pay on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub key: ForwardKey,
    pub amount_msat: Msat,
    pub payment_hash: PaymentHash,
    pub cltv_expiry: u32,
    pub recipient: Recipient,
    /// What B should ask *its* peer to pass on: set when a wallet pays through the hub, absent on the hub's
    /// last hop.
    pub forward: Option<crate::message::ForwardInstruction>,
    pub payload: Vec<u8>,
    /// The latest height at which B may sign the add; later it becomes a durable failure.
    pub sign_by_height: u32,
}

/// Step 3: what became of an offer. `Failed` is final for its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardResult {
    Fulfilled { preimage: Preimage },
    Failed { reason: FailureReason },
}

/// A message between two owners of one process. Messages of one key between two owners keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Internal {
    Offer(Offer),
    /// From the outgoing owner `from` to the incoming owner.
    Result {
        key: ForwardKey,
        from: OwnerId,
        result: ForwardResult,
    },
    /// Step 4, from the incoming owner to the outgoing owner: B may forget the result.
    Ack {
        key: ForwardKey,
    },
}

/// A's choice for an HTLC that became irrevocable, or for its next attempt. Journaled with the input that
/// makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteChoice {
    /// Offer it to this owner. `sign_by_height` goes into the offer.
    Offer { to: OwnerId, sign_by_height: u32 },
    /// Nothing was or will be asked: fail it upstream.
    Fail { reason: FailureReason },
}

/// What a router sees of an HTLC for which an outgoing owner must be chosen.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    pub incoming: OwnerId,
    pub htlc: &'a crate::message::UpdateAddHtlc,
    /// 1 for the first choice.
    pub attempt: u32,
    /// The owners whose attempts failed durably before, oldest first.
    pub tried: &'a [OwnerId],
    /// Why the last attempt failed; none on the first.
    pub last_failure: Option<FailureReason>,
}

/// Chooses where an incoming HTLC goes. Called only by `check`; the choice rides in the input.
pub trait Router {
    /// Decides by policy and the directory of connected recipients. Must return `Fail` when no attempt is left.
    fn route(&self, candidate: &Candidate<'_>) -> RouteChoice;
}
