//! The child that pays for a commitment: it spends the shared anchor, which anybody may, and coins of ours.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, FeeRate, OutPoint, Script, Transaction, TxOut, Weight};
use channel::scripts;

use super::BuildError;
use super::balance::{Draft, FeePolicy, coin_input};
use crate::batch::CoinSigner;
use crate::fees::{FeeBounds, Unconfirmed};
use crate::limits;
use crate::verify::{BatchCoin, ChildJob};
use crate::weigh;

/// What to build, and how.
#[derive(Debug, Clone, Copy)]
pub struct ChildRequest<'a> {
    /// The commitment, ours or anybody's. It pays no fee itself.
    pub parent: &'a Transaction,
    /// Confirmed coins that may be added: a version-3 child has no second unconfirmed parent.
    pub coins: &'a [BatchCoin],
    /// Where the change goes.
    pub script: &'a Script,
    /// The feerate wanted for parent and child together; a replacement may pay more, the budget may allow less.
    pub feerate: FeeRate,
    /// The most to pay.
    pub budget: Amount,
    /// Lowest and highest feerate of parent and child together.
    pub bounds: FeeBounds,
    /// The child of ours that it replaces.
    pub replaces: &'a [Unconfirmed],
}

/// A child that still has to be verified, in [`crate::verify::UnilateralJob`] or [`crate::verify::BumpJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltChild {
    /// The signed child with all that it must agree with.
    pub child: ChildJob,
    /// The coins that it spends.
    pub coins: Vec<OutPoint>,
    /// Its fee, which is the package's.
    pub fee: Amount,
    /// Its weight, at most, without the parent's.
    pub weight: Weight,
}

impl BuiltChild {
    /// What a replacement must outbid.
    pub fn as_unconfirmed(&self) -> Unconfirmed {
        Unconfirmed { fee: self.fee, weight: self.weight }
    }
}

/// The shared anchor of a version-3 transaction: the only pay-to-anchor output, or `None`.
pub fn anchor_of(parent: &Transaction) -> Option<(OutPoint, TxOut)> {
    let shared_anchor = scripts::shared_anchor();
    let mut anchors =
        (0u32..).zip(&parent.output).filter(|(_, output)| output.script_pubkey == shared_anchor);
    let (vout, output) = anchors.next()?;
    if parent.version != limits::TRUC_VERSION || anchors.next().is_some() {
        return None;
    }
    Some((OutPoint { txid: parent.compute_txid(), vout }, output.clone()))
}

/// What parent and child weigh together, with one coin: what a bid for the package is made for.
pub fn package_weight(parent: &Transaction, script: &Script) -> Weight {
    parent.weight() + weigh::FIXED + weigh::ANCHOR_INPUT + weigh::coin_input() + weigh::output(script)
}

/// Builds and signs the child of `request.parent`.
///
/// # Errors
///
/// [`BuildError`]; nothing is changed.
pub fn build_child(
    request: &ChildRequest<'_>,
    coin_signer: &dyn CoinSigner,
) -> Result<BuiltChild, BuildError> {
    let (outpoint, anchor) = anchor_of(request.parent).ok_or(BuildError::NoAnchor)?;
    let draft = Draft {
        version: limits::TRUC_VERSION,
        lock_time: LockTime::ZERO,
        inputs: vec![coin_input(outpoint)],
        brought: anchor.value,
        witnesses: weigh::EMPTY_WITNESS,
        signatures: 0,
        outputs: Vec::new(),
        change: request.script,
        maximum_weight: limits::MAX_TRUC_CHILD_WEIGHT,
    };
    let policy = FeePolicy {
        feerate: request.feerate,
        budget: request.budget,
        bounds: request.bounds,
        replaces: request.replaces,
        parent: request.parent.weight(),
    };
    let balanced = draft.balance(request.coins, &policy)?;
    let mut transaction = balanced.transaction;
    let coins = balanced.coins.iter().map(|coin| coin.output.clone());
    let prevouts: Vec<TxOut> = std::iter::once(anchor).chain(coins).collect();
    for (index, witness) in coin_signer.sign_coins(&transaction, &prevouts)? {
        if let Some(input) = transaction.input.get_mut(index) {
            input.witness = witness;
        }
    }
    Ok(BuiltChild {
        coins: balanced.coins.iter().map(|coin| coin.outpoint).collect(),
        fee: balanced.fee,
        weight: balanced.weight,
        child: ChildJob {
            transaction,
            coins: balanced.coins,
            own_scripts: vec![request.script.to_owned()],
            budget: request.budget,
            fees: request.bounds,
        },
    })
}
