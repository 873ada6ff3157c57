//! The transaction of a group of claims.
//!
//! HTLC transactions come in pairs, input and output at the same index, as the counterparty signed them; coins and change
//! follow. Other claims pay the fee themselves and share one output; only where too little would be left for that a coin is
//! added, whose change takes what they bring. A claim that costs more than it may is left out, by name.

use bitcoin::{Amount, FeeRate, OutPoint, Script, Transaction, TxOut, Weight};
use channel::keys::InvalidSignature;
use channel::signer::{Signer, SignerError};

use super::OwnedClaim;
use super::balance::{Balanced, Draft, FeePolicy};
use super::group::{Group, lock_time_of, version_of};
use crate::batch::CoinSigner;
use crate::fees::{FeeBounds, Unconfirmed, fee_for};
use crate::limits;
use crate::onchain::OnchainError;
use crate::verify::{BatchCoin, ClaimJob, CloseJob};
use crate::weigh;

/// What to build, and how.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// The claims.
    pub group: &'a Group,
    /// The chain's tip: the transaction can be in the next block.
    pub tip: u32,
    /// Confirmed coins that may be added where the claims cannot pay the fee themselves (see [`Group::may_need_coins`]) or
    /// what they leave is no output: an unconfirmed one would make a version-3 claim depend on another transaction.
    pub coins: &'a [BatchCoin],
    /// Where the claims' value, or the coins' change, goes.
    pub script: &'a Script,
    /// The feerate wanted; a replacement may pay more, the budget may allow less.
    pub feerate: FeeRate,
    /// The most to pay; never more than [`Group::budget`] of what is not left out.
    pub budget: Amount,
    /// Lowest and highest feerate.
    pub bounds: FeeBounds,
    /// The unconfirmed transactions of ours that spend any of these claims or coins now.
    pub replaces: &'a [Unconfirmed],
}

/// A transaction that still has to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// [`CloseJob::Claim`].
    pub job: CloseJob,
    /// What the transaction takes.
    pub claimed: Vec<OutPoint>,
    /// Claims of the group that are not worth this feerate. Grouped by themselves they get a bid of their own.
    pub left_out: Vec<OutPoint>,
    /// The coins that it spends.
    pub coins: Vec<OutPoint>,
    /// Its fee.
    pub fee: Amount,
    /// Its weight, at most.
    pub weight: Weight,
}

impl Built {
    /// What a replacement must outbid.
    pub fn as_unconfirmed(&self) -> Unconfirmed {
        Unconfirmed { fee: self.fee, weight: self.weight }
    }
}

/// Why nothing was built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Every claim costs more than it may at this feerate. They wait until fees fall or others share the cost.
    #[error("at this feerate none of the claims is worth its fee")]
    Uneconomic,
    /// The coins do not cover the fee.
    #[error("{missing} is missing for the fee")]
    NotEnoughCoins {
        /// What would be needed besides all coins.
        missing: Amount,
    },
    /// The lowest feerate, or what a replacement must pay, is above the budget or the ceiling.
    #[error("a fee of {needed} is needed, at most {allowed} is allowed")]
    OverBudget {
        /// The least fee that nodes would take, perhaps before a coin is added.
        needed: Amount,
        /// The lower one of budget and ceiling.
        allowed: Amount,
    },
    /// The parent is no version-3 transaction with one pay-to-anchor output.
    #[error("the transaction has no anchor to pay its fee at")]
    NoAnchor,
    /// An amount beyond all that exists.
    #[error("the amounts sum up to more than 21 million bitcoin")]
    ImpossibleSum,
    /// The claims could not be signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A signature is out of range.
    #[error(transparent)]
    Signature(#[from] InvalidSignature),
    /// The coins could not be signed.
    #[error(transparent)]
    Coin(#[from] OnchainError),
}

/// Builds and signs the transaction of a group.
///
/// # Errors
///
/// [`BuildError`]; nothing is changed, and the group can be tried again.
pub fn build(
    request: &ClaimRequest<'_>,
    signer: &dyn Signer,
    coin_signer: &dyn CoinSigner,
) -> Result<Built, BuildError> {
    let (kept, left_out): (Vec<&OwnedClaim>, Vec<&OwnedClaim>) =
        request.group.claims().iter().partition(|owned| is_economic(owned, request));
    if kept.is_empty() {
        return Err(BuildError::Uneconomic);
    }
    let claims = || kept.iter().map(|owned| &owned.claim);
    let brought = claims()
        .try_fold(Amount::ZERO, |sum, claim| sum.checked_add(claim.output.value))
        .ok_or(BuildError::ImpossibleSum)?;
    let paired: Vec<TxOut> = claims().filter_map(|claim| claim.paired_output().cloned()).collect();
    let pays_itself = paired.is_empty();
    let budget = request.budget.min(request.group.budget_of(claims()));
    let version = version_of(claims());
    let draft = Draft {
        version,
        lock_time: lock_time_of(claims()),
        inputs: claims().map(|claim| claim.unsigned_input()).collect(),
        brought,
        witnesses: claims()
            .map(|claim| claim.input_weight().checked_sub(weigh::BARE_INPUT).unwrap_or(Weight::ZERO))
            .sum(),
        signatures: if pays_itself { kept.len() } else { 2 * kept.len() },
        outputs: paired,
        change: request.script,
        maximum_weight: limits::maximum_weight(version),
    };
    let policy = FeePolicy {
        feerate: request.feerate,
        budget,
        bounds: request.bounds,
        replaces: request.replaces,
        parent: Weight::ZERO,
    };
    let balanced = if pays_itself {
        match balance_alone(&draft, &policy) {
            Err(_) if !request.coins.is_empty() && request.group.may_need_coins() => {
                draft.balance(request.coins, &policy)
            }
            // Why it does not pay for itself says more than why coins do not help.
            Err(error) if !request.coins.is_empty() => {
                draft.balance(request.coins, &policy).map_err(|_| error)
            }
            alone => alone,
        }
    } else {
        draft.balance(request.coins, &policy)
    }?;
    let transaction = sign(balanced.transaction, &kept, &balanced.coins, signer, coin_signer)?;
    Ok(Built {
        claimed: claims().map(|claim| claim.outpoint).collect(),
        left_out: left_out.iter().map(|owned| owned.claim.outpoint).collect(),
        coins: balanced.coins.iter().map(|coin| coin.outpoint).collect(),
        fee: balanced.fee,
        weight: balanced.weight,
        job: CloseJob::Claim(ClaimJob {
            transaction,
            claims: claims().cloned().collect(),
            coins: balanced.coins,
            own_scripts: vec![request.script.to_owned()],
            budget,
            fees: request.bounds,
            tip: request.tip,
        }),
    })
}

/// Out of the claims' own value, of which something must be left: a transaction has an output, whatever the fee.
fn balance_alone(draft: &Draft<'_>, policy: &FeePolicy<'_>) -> Result<Balanced, BuildError> {
    let least = draft.change.minimal_non_dust();
    let most = draft.brought.checked_sub(least).ok_or(BuildError::Uneconomic)?;
    let policy = FeePolicy { budget: policy.budget.min(most), ..*policy };
    draft.balance(&[], &policy).map_err(|error| match error {
        BuildError::NotEnoughCoins { .. } => BuildError::Uneconomic,
        other => other,
    })
}

/// Whether what the claim adds to the fee is within what the claim adds to the budget.
fn is_economic(owned: &OwnedClaim, request: &ClaimRequest<'_>) -> bool {
    let feerate = request.bounds.clamp(request.feerate);
    let cost = fee_for(feerate, weigh::claim(&owned.claim));
    cost <= request.group.budget_of(std::iter::once(&owned.claim))
}

fn sign(
    mut transaction: Transaction,
    claims: &[&OwnedClaim],
    coins: &[BatchCoin],
    signer: &dyn Signer,
    coin_signer: &dyn CoinSigner,
) -> Result<Transaction, BuildError> {
    let mut witnesses = Vec::with_capacity(claims.len());
    for (index, owned) in claims.iter().enumerate() {
        let signature = signer.sign_claim(&owned.key_id, &owned.claim, &transaction, index)?;
        witnesses.push((index, owned.claim.witness(&signature)?));
    }
    if !coins.is_empty() {
        let claimed = claims.iter().map(|owned| owned.claim.output.clone());
        let prevouts: Vec<TxOut> = claimed.chain(coins.iter().map(|coin| coin.output.clone())).collect();
        let signed = coin_signer.sign_coins(&transaction, &prevouts)?;
        // Claims are the channel's to sign, whatever their scripts look like to whoever holds the coins.
        witnesses.extend(signed.into_iter().filter(|(index, _)| *index >= claims.len()));
    }
    for (index, witness) in witnesses {
        if let Some(input) = transaction.input.get_mut(index) {
            input.witness = witness;
        }
    }
    Ok(transaction)
}
