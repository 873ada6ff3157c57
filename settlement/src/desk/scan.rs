//! Balances that pay to the seed's payment keys, found without anybody's help: for a party that lost all else.
//!
//! The payment keys are few and follow from the seed alone, so what a counterparty's commitment pays to one of them is
//! found by its script, whichever channel it was of (DESIGN section 5, "Data loss").

use bitcoin::{OutPoint, ScriptBuf, TxOut};
use channel::bytes::KeyId;
use channel::claim::{Claim, Found, OnchainPlan, to_remote};
use channel::format::CommitmentFormat;
use channel::ids::{ChannelId, OwnerId};
use channel::scripts::to_countersignatory;
use secp256k1::PublicKey;

use super::record::Record;
use super::{Desk, Outcome};
use crate::rpc::{RpcError, UtxoScan};

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Height of the set that was scanned.
    pub height: u32,
    /// In the order of their outpoints.
    pub found: Vec<FoundCoin>,
}

/// An unspent balance of ours in a commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCoin {
    pub outpoint: OutPoint,
    pub output: TxOut,
    /// Of the block with the commitment.
    pub height: u32,
    /// The lowest height of a block that may hold what takes it.
    pub earliest_height: u32,
    /// A channel that is known here takes it; nothing is left for the scan to do.
    pub of_channel: bool,
}

/// Why a scan found nothing out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("bitcoind could not scan its unspent outputs: {0}")]
    Rpc(#[from] RpcError),
    #[error("bitcoind was told to abort the scan")]
    Aborted,
    #[error("the process is stopping")]
    Stopping,
}

impl Desk {
    /// Every script by which a commitment may pay a balance of ours.
    pub(super) fn payment_scripts(&self) -> Vec<ScriptBuf> {
        self.payments().into_iter().map(|(script, ..)| script).collect()
    }

    fn payments(&self) -> Vec<(ScriptBuf, CommitmentFormat, PublicKey)> {
        let keys: Vec<PublicKey> =
            self.settling.payment_keys().iter().filter_map(|point| point.parse().ok()).collect();
        let of_key = |key: &PublicKey| {
            let key = *key;
            CommitmentFormat::NEGOTIABLE.map(|format| (to_countersignatory(format, &key).0, format, key))
        };
        keys.iter().flat_map(of_key).collect()
    }

    /// What the node's unspent outputs hold for us. What no channel wants taken becomes `owner`'s plan.
    pub(super) fn scanned(&mut self, owner: OwnerId, scan: &UtxoScan) -> (Scan, Outcome) {
        let mut outcome = Outcome::default();
        self.forget_plan(owner, &mut outcome);
        if self.watches.forget(owner) {
            outcome.records.push(Record::Forget { owner }.encode());
        }
        let (mut found, mut claims) = (Vec::new(), Vec::new());
        for (claim, height) in self.balances(scan) {
            let of_channel = self.settling.is_planned(claim.outpoint);
            found.push(FoundCoin {
                outpoint: claim.outpoint,
                output: claim.output.clone(),
                height,
                earliest_height: claim.earliest_height,
                of_channel,
            });
            if !of_channel {
                claims.push(claim);
            }
        }
        found.sort_unstable_by_key(|coin| coin.outpoint);
        let (channel_id, key_id) = (ChannelId([0; 32]), KeyId::from_bytes([0; 32]));
        let plan = OnchainPlan { owner, channel_id, key_id, publish: None, claims };
        self.take_plan(owner, plan, &mut outcome);
        (Scan { height: scan.height, found }, outcome)
    }

    fn balances(&self, scan: &UtxoScan) -> Vec<(Claim, u32)> {
        let payments = self.payments();
        let claim = |coin: &crate::rpc::ScannedCoin| {
            let (_, format, key) = payments.iter().find(|(script, ..)| *script == coin.script_pubkey)?;
            let outpoint = OutPoint { txid: coin.txid, vout: coin.vout };
            let output = TxOut { value: coin.amount, script_pubkey: coin.script_pubkey.clone() };
            let found = Found { outpoint, output, height: coin.height };
            Some((to_remote(*format, key, found), coin.height))
        };
        scan.unspents.iter().filter_map(claim).collect()
    }
}
