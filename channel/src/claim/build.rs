//! Claims made from what a channel knows of a commitment and what a block shows of its outputs.
//!
//! The maker says which output is which; [`Claim::check`] tells whether that is so. For the negotiable formats only:
//! the others' HTLC transactions cannot have a fee added.

use bitcoin::absolute::LockTime;
use bitcoin::{OutPoint, ScriptBuf, Sequence, TxOut, Witness};
use secp256k1::PublicKey;

use super::{Claim, ClaimKind, Contest, SpendKey, SpendPath, Unlock};
use crate::bytes::PaymentPreimage;
use crate::commitment::{HtlcDirection, HtlcSpec};
use crate::format::CommitmentFormat;
use crate::keys::{CommitmentKeys, CompactSignature, HtlcKeys, Point};
use crate::limits::TIMEOUT_CLAIM_BLOCKS;
use crate::parameters::{ChannelContext, Side};
use crate::scripts;
use crate::shachain::CommitmentSecret;

/// An output of a transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub outpoint: OutPoint,
    pub output: TxOut,
    /// The block's height.
    pub height: u32,
}

/// Why an HTLC output cannot be claimed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclaimable {
    #[error("the HTLC was received and its preimage is not known")]
    PreimageUnknown,
    #[error("the preimage is not that of the HTLC")]
    WrongPreimage,
    #[error("the commitment's keys were derived without HTLC keys")]
    HtlcKeysMissing,
}

/// The scripts of a commitment, to find its outputs by.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    pub context: &'a ChannelContext,
    pub keys: &'a CommitmentKeys,
    /// Whose commitment it is.
    pub broadcaster: Side,
}

impl Published<'_> {
    /// The witness script of the broadcaster's balance and of the outputs of its HTLC transactions.
    pub fn delayed_script(&self) -> ScriptBuf {
        scripts::delayed(&self.keys.revocation, self.delay_blocks(), &self.keys.broadcaster_delayed)
    }

    /// The witness script of an HTLC (direction as the broadcaster sees it).
    pub fn htlc_script(&self, htlc: &HtlcSpec) -> Result<ScriptBuf, Unclaimable> {
        Ok(self.htlc_script_of(self.htlc_keys()?, htlc))
    }

    /// The output script of the other party's balance, and its witness script where it has one.
    pub fn to_countersignatory(&self) -> (ScriptBuf, Option<ScriptBuf>) {
        let payment = &self.context.basepoints(self.broadcaster.other()).payment;
        scripts::to_countersignatory(self.context.format(), payment)
    }

    fn delay_blocks(&self) -> u16 {
        self.context.parameters().party(self.broadcaster).to_self_delay_blocks
    }

    fn htlc_keys(&self) -> Result<&HtlcKeys, Unclaimable> {
        self.keys.htlc.as_ref().ok_or(Unclaimable::HtlcKeysMissing)
    }

    fn htlc_script_of(&self, keys: &HtlcKeys, htlc: &HtlcSpec) -> ScriptBuf {
        let lock = scripts::HtlcLock {
            direction: htlc.direction,
            payment_hash: &htlc.payment_hash,
            cltv_expiry: htlc.cltv_expiry,
        };
        scripts::htlc(self.context.format(), &self.keys.revocation, keys, lock)
    }
}

/// Our own latest commitment in a block.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    pub context: &'a ChannelContext,
    pub keys: &'a CommitmentKeys,
    pub number: u64,
}

/// An HTLC of our own commitment, with what its HTLC transaction needs.
#[derive(Clone, Copy, Debug)]
pub struct OwnHtlc<'a> {
    /// Direction as we see it.
    pub htlc: &'a HtlcSpec,
    /// The counterparty's signature of its HTLC transaction.
    pub countersignature: &'a CompactSignature,
    /// Of no matter for an HTLC that we offered.
    pub preimage: Option<&'a PaymentPreimage>,
}

impl<'a> Own<'a> {
    /// The commitment's scripts.
    pub const fn scripts(&self) -> Published<'a> {
        Published { context: self.context, keys: self.keys, broadcaster: Side::Holder }
    }

    /// Our delayed balance.
    pub fn to_local(&self, found: Found) -> Claim {
        self.delayed(ClaimKind::ToLocal, found)
    }

    /// The delayed output of an HTLC transaction of this commitment, which the block of `found` holds.
    pub fn second_stage(&self, id: u64, found: Found) -> Claim {
        self.delayed(ClaimKind::SecondStage { id }, found)
    }

    fn delayed(&self, kind: ClaimKind, found: Found) -> Claim {
        let delay = self.scripts().delay_blocks();
        Claim {
            kind,
            key: SpendKey::Delayed { number: self.number },
            public_key: self.keys.broadcaster_delayed.into(),
            path: SpendPath::Direct {
                witness_script: Some(self.scripts().delayed_script()),
                unlock: Unlock::Delayed,
                sequence: Sequence::from_height(delay),
                lock_time: LockTime::ZERO,
            },
            earliest_height: found.height.saturating_add(u32::from(delay)),
            contest: Contest::Never,
            deadline: None,
            outpoint: found.outpoint,
            output: found.output,
        }
    }

    /// An HTLC, by the HTLC transaction that the counterparty signed.
    pub fn htlc(&self, own: OwnHtlc<'_>, found: Found) -> Result<Claim, Unclaimable> {
        let scripts = self.scripts();
        let keys = scripts.htlc_keys()?;
        let format = self.context.format();
        let OwnHtlc { htlc, .. } = own;
        let preimage = match htlc.direction {
            HtlcDirection::Offered => None,
            HtlcDirection::Received => Some(opening(htlc, own.preimage)?),
        };
        let times = match htlc.direction {
            HtlcDirection::Offered => Times::timeout(htlc, format, found.height),
            HtlcDirection::Received => Times::success(htlc, format, found.height),
        };
        Ok(Claim {
            kind: times.kind,
            key: SpendKey::HolderHtlc { number: self.number },
            public_key: keys.broadcaster.into(),
            path: SpendPath::HtlcTransaction {
                witness_script: scripts.htlc_script_of(keys, htlc),
                output: TxOut {
                    value: found.output.value,
                    script_pubkey: scripts::p2wsh(&scripts.delayed_script()),
                },
                sequence: format.htlc_sequence(),
                lock_time: times.lock_time,
                version: format.transaction_version(),
                countersignature: *own.countersignature,
                countersignatory_key: keys.countersignatory.into(),
                preimage,
            },
            earliest_height: times.earliest_height,
            contest: times.contest,
            deadline: Some(times.deadline),
            outpoint: found.outpoint,
            output: found.output,
        })
    }
}

/// A commitment of the counterparty's in a block, not revoked.
#[derive(Clone, Copy, Debug)]
pub struct Theirs<'a> {
    pub context: &'a ChannelContext,
    pub keys: &'a CommitmentKeys,
}

impl<'a> Theirs<'a> {
    /// The commitment's scripts.
    pub const fn scripts(&self) -> Published<'a> {
        Published { context: self.context, keys: self.keys, broadcaster: Side::Counterparty }
    }

    /// Our balance.
    pub fn to_remote(&self, found: Found) -> Claim {
        to_remote(self.context.format(), &self.context.basepoints(Side::Holder).payment, found)
    }

    /// An HTLC (direction as the counterparty, the broadcaster, sees it): with the preimage where it is paid to us,
    /// after its expiry where we offered it.
    pub fn htlc(
        &self,
        htlc: &HtlcSpec,
        preimage: Option<&PaymentPreimage>,
        found: Found,
    ) -> Result<Claim, Unclaimable> {
        let scripts = self.scripts();
        let keys = scripts.htlc_keys()?;
        let format = self.context.format();
        let (unlock, times) = match htlc.direction {
            HtlcDirection::Offered => {
                (Unlock::Preimage(opening(htlc, preimage)?), Times::success(htlc, format, found.height))
            }
            HtlcDirection::Received => (Unlock::Expired, Times::timeout(htlc, format, found.height)),
        };
        Ok(Claim {
            kind: times.kind,
            key: SpendKey::CounterpartyHtlc { per_commitment_point: self.keys.per_commitment_point.into() },
            public_key: keys.countersignatory.into(),
            path: SpendPath::Direct {
                witness_script: Some(scripts.htlc_script_of(keys, htlc)),
                unlock,
                sequence: undelayed_sequence(format),
                lock_time: times.lock_time,
            },
            earliest_height: times.earliest_height,
            contest: times.contest,
            deadline: Some(times.deadline),
            outpoint: found.outpoint,
            output: found.output,
        })
    }
}

/// Our balance in any commitment of the counterparty's, however old or new: the payment key never changes, so nothing
/// else need be known (BOLT 5).
pub fn to_remote(format: CommitmentFormat, payment: &PublicKey, found: Found) -> Claim {
    let (_, witness_script) = scripts::to_countersignatory(format, payment);
    let key = Point::from(payment);
    Claim {
        kind: ClaimKind::ToRemote,
        key: SpendKey::Payment { key },
        public_key: key,
        path: SpendPath::Direct {
            unlock: if witness_script.is_some() { Unlock::Signature } else { Unlock::Key },
            witness_script,
            sequence: undelayed_sequence(format),
            lock_time: LockTime::ZERO,
        },
        earliest_height: found.height.saturating_add(wait_blocks(format)),
        contest: Contest::Never,
        deadline: None,
        outpoint: found.outpoint,
        output: found.output,
    }
}

/// A revoked commitment of the counterparty's in a block: every output is ours.
#[derive(Clone, Copy, Debug)]
pub struct Revoked<'a> {
    pub context: &'a ChannelContext,
    pub keys: &'a CommitmentKeys,
    /// What the counterparty revealed for this commitment.
    pub secret: &'a CommitmentSecret,
}

impl<'a> Revoked<'a> {
    /// The commitment's scripts.
    pub const fn scripts(&self) -> Published<'a> {
        Published { context: self.context, keys: self.keys, broadcaster: Side::Counterparty }
    }

    /// Our own balance, which the cheater could not take away.
    pub fn to_remote(&self, found: Found) -> Claim {
        Theirs { context: self.context, keys: self.keys }.to_remote(found)
    }

    /// The cheater's balance, before its delay is over.
    pub fn to_local(&self, found: Found) -> Claim {
        self.delayed(ClaimKind::PenaltyToLocal, found)
    }

    /// The output of an HTLC transaction of the cheater's, which the block of `found` holds, before its delay is over.
    pub fn second_stage(&self, found: Found) -> Claim {
        self.delayed(ClaimKind::PenaltySecondStage, found)
    }

    fn delayed(&self, kind: ClaimKind, found: Found) -> Claim {
        let script = self.scripts().delayed_script();
        let theirs_from = self.theirs_from(found.height);
        let contest = contested_from(theirs_from, found.height);
        self.penalty(kind, Unlock::RevokedDelayed, script, contest, found)
    }

    /// An HTLC (direction as the cheater, the broadcaster, sees it). One that the cheater offered is its own again after
    /// the expiry; for one that it received it may hold the preimage.
    pub fn htlc(&self, htlc: &HtlcSpec, found: Found) -> Result<Claim, Unclaimable> {
        let script = self.scripts().htlc_script(htlc)?;
        let contest = match htlc.direction {
            HtlcDirection::Offered => contested_from(after_expiry(htlc), found.height),
            HtlcDirection::Received => Contest::Now,
        };
        Ok(self.penalty(ClaimKind::PenaltyHtlc, Unlock::RevokedHtlc, script, contest, found))
    }

    /// The first block in which the cheater may have a delayed output that a block at `height` holds.
    fn theirs_from(&self, height: u32) -> u32 {
        height.saturating_add(u32::from(self.scripts().delay_blocks()))
    }

    fn penalty(
        &self,
        kind: ClaimKind,
        unlock: Unlock,
        witness_script: ScriptBuf,
        contest: Contest,
        found: Found,
    ) -> Claim {
        Claim {
            kind,
            key: SpendKey::Revocation { secret: *self.secret },
            public_key: self.keys.revocation.into(),
            path: SpendPath::Direct {
                witness_script: Some(witness_script),
                unlock,
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                lock_time: LockTime::ZERO,
            },
            // The revocation branches wait for nothing, with anchors too.
            earliest_height: found.height,
            contest,
            // An HTLC that the cheater moves on is punished in the second stage, which gives the same time again.
            deadline: Some(self.theirs_from(found.height).saturating_sub(1)),
            outpoint: found.outpoint,
            output: found.output,
        }
    }
}

/// Since when and until when an HTLC output is ours to take.
struct Times {
    kind: ClaimKind,
    lock_time: LockTime,
    earliest_height: u32,
    contest: Contest,
    deadline: u32,
}

impl Times {
    /// One paid to us: from now on, alone until the expiry.
    fn success(htlc: &HtlcSpec, format: CommitmentFormat, height: u32) -> Self {
        Self {
            kind: ClaimKind::HtlcSuccess { id: htlc.id },
            lock_time: LockTime::ZERO,
            earliest_height: height.saturating_add(wait_blocks(format)),
            contest: contested_from(after_expiry(htlc), height),
            deadline: htlc.cltv_expiry,
        }
    }

    /// One that we offered: after the expiry, and never alone.
    fn timeout(htlc: &HtlcSpec, format: CommitmentFormat, height: u32) -> Self {
        let earliest_height = after_expiry(htlc).max(height.saturating_add(wait_blocks(format)));
        Self {
            kind: ClaimKind::HtlcTimeout { id: htlc.id },
            lock_time: LockTime::from_consensus(htlc.cltv_expiry),
            earliest_height,
            contest: Contest::Now,
            deadline: earliest_height.saturating_add(TIMEOUT_CLAIM_BLOCKS),
        }
    }
}

/// The first block that may hold a transaction whose lock time is the expiry.
const fn after_expiry(htlc: &HtlcSpec) -> u32 {
    htlc.cltv_expiry.saturating_add(1)
}

/// Who may come in the very next block may as well come now.
const fn contested_from(height: u32, found_at: u32) -> Contest {
    if height <= found_at.saturating_add(1) { Contest::Now } else { Contest::From { height } }
}

/// Blocks after the commitment's that outputs without a delay wait.
const fn wait_blocks(format: CommitmentFormat) -> u32 {
    if format.waits_one_block() { 1 } else { 0 }
}

const fn undelayed_sequence(format: CommitmentFormat) -> Sequence {
    if format.waits_one_block() { Sequence(1) } else { Sequence::ENABLE_RBF_NO_LOCKTIME }
}

fn opening(htlc: &HtlcSpec, preimage: Option<&PaymentPreimage>) -> Result<PaymentPreimage, Unclaimable> {
    let preimage = preimage.ok_or(Unclaimable::PreimageUnknown)?;
    if preimage.payment_hash() == htlc.payment_hash { Ok(*preimage) } else { Err(Unclaimable::WrongPreimage) }
}

/// What may be the preimage of an HTLC in the witness of an input that spends its output (BOLT 5): in an HTLC-success
/// transaction `0 <signature> <signature> <preimage> <script>`, in a claim from the other party's commitment
/// `<signature> <preimage> <script>`. Whether it opens anything is for the caller to check.
pub fn preimage_in(witness: &Witness) -> Option<PaymentPreimage> {
    let position = match witness.len() {
        3 => 1,
        5 => 3,
        _ => return None,
    };
    witness.nth(position).and_then(PaymentPreimage::from_slice)
}
