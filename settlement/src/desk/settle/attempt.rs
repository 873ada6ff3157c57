//! What was sent, what it pays, and what to pay next.

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid, Weight};
use channel::ids::OwnerId;

use crate::broadcast::PublishError;
use crate::claim::{Bid, BuildError, BuiltChild, FeeTarget, OwnedClaim, feerate};
use crate::fees::{Unconfirmed, fee_for, feerate_within};
use crate::limits;

/// What one attempt pays, and how it fared.
#[derive(Clone, Debug)]
pub(super) struct Paid {
    pub coins: Vec<OutPoint>,
    pub fee: Amount,
    /// Of the transaction, or of the child alone.
    pub weight: Weight,
    /// The parent's.
    pub parent: Weight,
    /// What bitcoind said to the last attempt to send it, unless it took it.
    pub refused: Option<(Refused, String)>,
    /// Refusals since the last block.
    pub tries: u32,
}

/// What a refusal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A higher fee.
    TooLow,
    /// Other inputs: one is spent in a block that the desk has not seen yet, or its block is gone.
    Missing,
    /// Patience.
    ForNow,
}

impl Refused {
    pub fn by(error: &PublishError) -> Self {
        match error {
            PublishError::FeeTooLow { .. } | PublishError::Conflict { .. } => Self::TooLow,
            PublishError::MissingInputs => Self::Missing,
            PublishError::PaidByAnother { .. }
            | PublishError::MempoolLimit { .. }
            | PublishError::NotFinal { .. }
            | PublishError::Rejected { .. }
            | PublishError::TooManyPending { .. }
            | PublishError::Node(_) => Self::ForNow,
        }
    }
}

impl Paid {
    pub fn feerate(&self) -> FeeRate {
        feerate_within(self.fee, self.weight + self.parent)
    }

    pub fn as_unconfirmed(&self) -> Unconfirmed {
        Unconfirmed { fee: self.fee, weight: self.weight }
    }

    fn was_too_low(&self) -> bool {
        matches!(self.refused, Some((Refused::TooLow, _)))
    }
}

/// A transaction that takes claims.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub txid: Txid,
    pub claims: Vec<OwnedClaim>,
    pub paid: Paid,
}

/// A commitment with the child that pays for it.
#[derive(Clone, Debug)]
pub(in crate::desk) struct Package {
    pub parent: Txid,
    pub child: Txid,
    pub made_at: u32,
    pub(super) paid: Paid,
}

impl Package {
    /// What was built for anybody's commitment.
    pub fn new(parent: &Transaction, built: &BuiltChild, made_at: u32) -> Self {
        Self {
            parent: parent.compute_txid(),
            child: built.child.transaction.compute_txid(),
            made_at,
            paid: Paid {
                coins: built.coins.clone(),
                fee: built.fee,
                weight: built.weight,
                parent: parent.weight(),
                refused: None,
                tries: 0,
            },
        }
    }

    pub fn feerate(&self) -> FeeRate {
        self.paid.feerate()
    }

    pub fn fee(&self) -> Amount {
        self.paid.fee
    }

    pub fn as_unconfirmed(&self) -> Unconfirmed {
        self.paid.as_unconfirmed()
    }
}

/// Something built, before its verification.
pub(super) enum Draft {
    Claims {
        attempt: Attempt,
        /// Attempts that share an output or a coin with it, out by now.
        replaces: Vec<Txid>,
    },
    Commitment {
        owner: OwnerId,
        package: Package,
    },
}

/// What to pay now, and how much at most, with all that is known of the last attempt. A refusal and a person's word
/// raise it; a person's word raises the budget too.
pub(super) fn bid(mut target: FeeTarget, last: Option<&Paid>, word: Option<FeeRate>) -> (Bid, Amount) {
    target.last = last.map(Paid::feerate);
    if let Some(word) = word {
        let word = target.bounds.clamp(word);
        target.budget = target.budget.max(fee_for(word, target.weight));
        match target.last {
            None => return (Bid::Publish(word), target.budget),
            Some(last) if word > last => return (Bid::Replace(word), target.budget),
            Some(_) => {}
        }
    }
    let wanted = feerate(&target);
    let Some(last) = last.filter(|paid| paid.was_too_low()) else { return (wanted, target.budget) };
    let paid = last.feerate();
    let quarter = paid.to_sat_per_kwu() / 4;
    let more = quarter.max(limits::INCREMENTAL_FEERATE.to_sat_per_kwu());
    let raised = FeeRate::from_sat_per_kwu(paid.to_sat_per_kwu().saturating_add(more));
    let affordable = feerate_within(target.budget, target.weight).min(target.bounds.ceiling());
    let next = match wanted {
        Bid::Publish(wanted) | Bid::Replace(wanted) => wanted.max(raised),
        Bid::Keep | Bid::TooDear { .. } => raised,
    };
    let next = next.min(affordable);
    (if next > paid { Bid::Replace(next) } else { Bid::Keep }, target.budget)
}

/// Builds at `wanted`, or at the highest feerate below it that the coins pay for: late is better than never.
pub(super) fn at_most<T>(
    wanted: FeeRate,
    floor: FeeRate,
    mut build: impl FnMut(FeeRate) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let mut feerate = wanted;
    loop {
        let built = build(feerate);
        if !matches!(built, Err(BuildError::NotEnoughCoins { .. })) || feerate <= floor {
            return built;
        }
        let less = feerate.to_sat_per_kwu() - feerate.to_sat_per_kwu() / 4;
        feerate = FeeRate::from_sat_per_kwu(less.saturating_sub(1)).max(floor);
    }
}
