//! Commitment transactions, built step by step as BOLT 3, "Commitment Transaction Construction", says.
//!
//! "Broadcaster" is the party that owns the commitment and may publish it; "countersignatory" the one that signs it
//! for the owner. Offered and received are the broadcaster's view.

use bitcoin::absolute::LockTime;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use secp256k1::Message;
use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::bytes::PaymentHash;
use crate::format::CommitmentFormat;
use crate::htlc_tx::HtlcTransaction;
use crate::keys::{CommitmentKeys, CompactSignature, HtlcKeys, InvalidSignature};
use crate::limits::{ANCHOR, MAX_COMMITMENT_NUMBER, MAX_SHARED_ANCHOR};
use crate::parameters::{ChannelContext, Side};
use crate::scripts::{self, HtlcLock};
use crate::witness::{self, OwnedSignature};

/// Which way an HTLC pays, as the commitment's broadcaster sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HtlcDirection {
    /// The broadcaster pays; taken back by an HTLC-timeout transaction.
    Offered,
    /// The broadcaster is paid; claimed by an HTLC-success transaction.
    Received,
}

impl HtlcDirection {
    /// The same HTLC in the other party's commitment.
    pub const fn reversed(self) -> Self {
        match self {
            Self::Offered => Self::Received,
            Self::Received => Self::Offered,
        }
    }
}

/// One HTLC of a commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HtlcSpec {
    pub direction: HtlcDirection,
    /// Its offerer's id, unique within the channel and the direction.
    pub id: u64,
    pub amount: Msat,
    pub payment_hash: PaymentHash,
    /// Block height from which the offerer may take it back.
    pub cltv_expiry: u32,
}

/// What a commitment says: everything that changes from one to the next but keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentSpec {
    /// Rises from 0, to [`MAX_COMMITMENT_NUMBER`].
    pub number: u64,
    /// The broadcaster's balance before fees and anchors, without HTLCs in flight.
    pub to_broadcaster: Msat,
    /// The countersignatory's balance before fees and anchors, without HTLCs in flight.
    pub to_countersignatory: Msat,
    /// In any order.
    pub htlcs: Vec<HtlcSpec>,
    /// Satoshi per 1,000 weight units; 0 in the zero-fee format.
    pub feerate_sat_per_kw: u32,
}

/// What an output of a commitment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// The broadcaster's balance, delayed.
    ToBroadcaster,
    /// The countersignatory's balance.
    ToCountersignatory,
    /// The HTLC at this position of [`CommitmentTransaction::htlcs`].
    Htlc {
        position: usize,
    },
    /// The pay-to-anchor output of the zero-fee format.
    SharedAnchor,
    BroadcasterAnchor,
    CountersignatoryAnchor,
}

/// An HTLC that has an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtlcOutput {
    pub htlc: HtlcSpec,
    pub output_index: u32,
    /// The HTLC's amount in whole satoshi.
    pub value: Amount,
    pub witness_script: ScriptBuf,
}

/// A commitment transaction, unsigned, with all that is needed to sign, verify and spend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentTransaction {
    broadcaster: Side,
    format: CommitmentFormat,
    number: u64,
    feerate_sat_per_kw: u32,
    keys: CommitmentKeys,
    tx: Transaction,
    txid: Txid,
    outputs: Vec<OutputKind>,
    htlcs: Vec<HtlcOutput>,
    delayed_script: ScriptBuf,
}

/// Both kinds of signatures of a `commitment_signed` message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentSignatures {
    /// Of the commitment transaction.
    pub commitment: CompactSignature,
    /// Of the HTLC transactions, in the order of the commitment's outputs.
    pub htlcs: Vec<CompactSignature>,
}

/// Why no transaction can be built: the caller's state is wrong, never the peer's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("an HTLC has an output, but the keys were derived without HTLC keys")]
    HtlcKeysMissing,
    #[error("the outputs' {outputs} exceed the funding's {funding}")]
    OutputsExceedFunding { outputs: Amount, funding: Amount },
    #[error("commitment number {0} does not exist")]
    NumberTooLarge(u64),
}

/// Why signatures do not hold for a commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("{found} HTLC signatures, {expected} HTLCs with outputs")]
    WrongHtlcCount { found: usize, expected: usize },
    #[error("the signature of the commitment transaction is invalid")]
    Commitment,
    #[error("the signature of HTLC output {position} is invalid")]
    Htlc { position: usize },
}

/// An output before sorting.
struct Draft {
    value: Amount,
    script_pubkey: ScriptBuf,
    content: DraftContent,
}

enum DraftContent {
    Plain(OutputKind),
    Htlc(HtlcSpec, ScriptBuf),
}

impl Draft {
    fn plain(kind: OutputKind, value: Amount, script_pubkey: ScriptBuf) -> Self {
        Self { value, script_pubkey, content: DraftContent::Plain(kind) }
    }

    /// The order of outputs: value, script bytes, expiry (BOLT 3, "Transaction Output Ordering"). HTLCs equal in all
    /// of these are interchangeable; their ids settle the order so that both runs of a replay agree.
    fn order(&self) -> (Amount, &[u8], u32, u64) {
        let (expiry, id) = match &self.content {
            DraftContent::Plain(_) => (0, 0),
            DraftContent::Htlc(htlc, _) => (htlc.cltv_expiry, htlc.id),
        };
        (self.value, self.script_pubkey.as_bytes(), expiry, id)
    }
}

impl CommitmentTransaction {
    /// Builds the commitment that `broadcaster` may publish.
    pub fn build(
        context: &ChannelContext,
        broadcaster: Side,
        keys: &CommitmentKeys,
        spec: &CommitmentSpec,
    ) -> Result<Self, BuildError> {
        if spec.number > MAX_COMMITMENT_NUMBER {
            return Err(BuildError::NumberTooLarge(spec.number));
        }
        let parameters = context.parameters();
        let delayed_script = scripts::delayed(
            &keys.revocation,
            parameters.party(broadcaster).to_self_delay_blocks,
            &keys.broadcaster_delayed,
        );
        // 2 and 8 of BOLT 3: HTLCs that are not trimmed.
        let mut drafts = draft_htlcs(context, keys.htlc.as_ref(), &keys.revocation, spec)?;
        // 3 to 7: balances less the opener's fee, and anchors.
        draft_balances(context, broadcaster, spec, &delayed_script, &mut drafts);
        draft_shared_anchor(parameters.format, parameters.funding_amount, &mut drafts)?;
        // 9: sort.
        drafts.sort_by(|one, other| one.order().cmp(&other.order()));

        let (tx, outputs, htlcs) = assemble(context, spec.number, drafts);
        Ok(Self {
            broadcaster,
            format: parameters.format,
            number: spec.number,
            feerate_sat_per_kw: spec.feerate_sat_per_kw,
            keys: *keys,
            txid: tx.compute_txid(),
            tx,
            outputs,
            htlcs,
            delayed_script,
        })
    }

    /// Who owns the commitment.
    pub const fn broadcaster(&self) -> Side {
        self.broadcaster
    }

    /// The format it was built in.
    pub const fn format(&self) -> CommitmentFormat {
        self.format
    }

    /// The commitment's number.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Its feerate in satoshi per 1,000 weight units; 0 in the zero-fee format.
    pub const fn feerate_sat_per_kw(&self) -> u32 {
        self.feerate_sat_per_kw
    }

    /// The keys it was built with.
    pub const fn keys(&self) -> &CommitmentKeys {
        &self.keys
    }

    /// The transaction without its witness.
    pub const fn transaction(&self) -> &Transaction {
        &self.tx
    }

    /// The transaction's id; signing does not change it.
    pub const fn txid(&self) -> Txid {
        self.txid
    }

    /// What each output is, in output order.
    pub fn outputs(&self) -> &[OutputKind] {
        &self.outputs
    }

    /// The HTLCs with outputs, in output order: the order of `htlc_signature`s.
    pub fn htlcs(&self) -> &[HtlcOutput] {
        &self.htlcs
    }

    /// The witness script of the broadcaster's delayed balance and of every HTLC transaction's output.
    pub const fn delayed_script(&self) -> &ScriptBuf {
        &self.delayed_script
    }

    /// The position of an output kind; `None` when that output was trimmed or does not exist.
    pub fn output_index(&self, kind: OutputKind) -> Option<u32> {
        self.outputs.iter().position(|output| *output == kind).and_then(|index| u32::try_from(index).ok())
    }

    /// What both parties sign: `SIGHASH_ALL` of the funding input.
    pub fn sighash(&self, context: &ChannelContext) -> Message {
        let sighash = SighashCache::new(&self.tx)
            .p2wsh_signature_hash(
                0,
                context.funding_script(),
                context.parameters().funding_amount,
                EcdsaSighashType::All,
            )
            .expect("a commitment has one input");
        Message::from(sighash)
    }

    /// The second-stage transactions, in output order.
    pub fn htlc_transactions(&self) -> impl ExactSizeIterator<Item = HtlcTransaction<'_>> {
        let script_pubkey = scripts::p2wsh(&self.delayed_script);
        self.htlcs.iter().map(move |output| HtlcTransaction::new(self, output, script_pubkey.clone()))
    }

    /// Verifies what the countersignatory sent: one signature check, and one for each HTLC with an output.
    pub fn verify(
        &self,
        context: &ChannelContext,
        signatures: &CommitmentSignatures,
    ) -> Result<(), SignatureError> {
        if signatures.htlcs.len() != self.htlcs.len() {
            return Err(SignatureError::WrongHtlcCount {
                found: signatures.htlcs.len(),
                expected: self.htlcs.len(),
            });
        }
        let key = &context.basepoints(self.broadcaster.other()).funding;
        if signatures.commitment.verify(&self.sighash(context), key).is_err() {
            return Err(SignatureError::Commitment);
        }
        let Some(keys) = &self.keys.htlc else { return Ok(()) };
        for (position, (transaction, signature)) in
            self.htlc_transactions().zip(&signatures.htlcs).enumerate()
        {
            let message = transaction.sighash(self.format.htlc_sighash_type());
            if signature.verify(&message, &keys.countersignatory).is_err() {
                return Err(SignatureError::Htlc { position });
            }
        }
        Ok(())
    }

    /// The transaction ready to publish, from both parties' signatures.
    pub fn signed(
        &self,
        context: &ChannelContext,
        broadcaster_signature: &CompactSignature,
        countersignature: &CompactSignature,
    ) -> Result<Transaction, InvalidSignature> {
        let funding = |side| context.parameters().party(side).basepoints.funding;
        let mut tx = self.tx.clone();
        tx.input[0].witness = witness::funding(
            context.funding_script(),
            OwnedSignature::new(funding(self.broadcaster), broadcaster_signature, EcdsaSighashType::All)?,
            OwnedSignature::new(funding(self.broadcaster.other()), countersignature, EcdsaSighashType::All)?,
        );
        Ok(tx)
    }
}

fn draft_htlcs(
    context: &ChannelContext,
    keys: Option<&HtlcKeys>,
    revocation: &secp256k1::PublicKey,
    spec: &CommitmentSpec,
) -> Result<Vec<Draft>, BuildError> {
    // Room for both balances and two anchors too.
    let mut drafts = Vec::with_capacity(if keys.is_some() { spec.htlcs.len() + 4 } else { 4 });
    for htlc in &spec.htlcs {
        if !context.has_output(htlc, spec.feerate_sat_per_kw) {
            continue;
        }
        let keys = keys.ok_or(BuildError::HtlcKeysMissing)?;
        let lock = HtlcLock {
            direction: htlc.direction,
            payment_hash: &htlc.payment_hash,
            cltv_expiry: htlc.cltv_expiry,
        };
        let witness_script = scripts::htlc(context.format(), revocation, keys, lock);
        drafts.push(Draft {
            value: htlc.amount.to_sat_floor(),
            script_pubkey: scripts::p2wsh(&witness_script),
            content: DraftContent::Htlc(*htlc, witness_script),
        });
    }
    Ok(drafts)
}

/// Adds both balances and, in the format that has them, each party's anchor. Expects the HTLCs in `drafts`.
fn draft_balances(
    context: &ChannelContext,
    broadcaster: Side,
    spec: &CommitmentSpec,
    delayed_script: &ScriptBuf,
    drafts: &mut Vec<Draft>,
) {
    let parameters = context.parameters();
    let format = parameters.format;
    let htlc_outputs = drafts.len();
    let cost =
        format.commitment_fee(spec.feerate_sat_per_kw, htlc_outputs).checked_add(format.anchors_cost());
    // A fee beyond the opener's balance takes all of it (BOLT 3: "if this amount is less than the fee").
    let pay = |side: Side, balance: Msat| {
        let value = balance.to_sat_floor();
        if side == parameters.opener {
            cost.and_then(|cost| value.checked_sub(cost)).unwrap_or(Amount::ZERO)
        } else {
            value
        }
    };
    let to_broadcaster = pay(broadcaster, spec.to_broadcaster);
    let to_countersignatory = pay(broadcaster.other(), spec.to_countersignatory);
    let broadcaster_has_output = to_broadcaster >= parameters.dust_limit;
    let countersignatory_has_output = to_countersignatory >= parameters.dust_limit;

    if broadcaster_has_output {
        let script = scripts::p2wsh(delayed_script);
        drafts.push(Draft::plain(OutputKind::ToBroadcaster, to_broadcaster, script));
    }
    if countersignatory_has_output {
        let payment = &context.basepoints(broadcaster.other()).payment;
        let (script, _) = scripts::to_countersignatory(format, payment);
        drafts.push(Draft::plain(OutputKind::ToCountersignatory, to_countersignatory, script));
    }
    match format {
        CommitmentFormat::StaticRemoteKey | CommitmentFormat::ZeroFeeCommitments => {}
        CommitmentFormat::AnchorsZeroFeeHtlc => {
            // An anchor only for whom the commitment has something to lose.
            if broadcaster_has_output || htlc_outputs > 0 {
                let script = scripts::p2wsh(&scripts::anchor(&context.basepoints(broadcaster).funding));
                drafts.push(Draft::plain(OutputKind::BroadcasterAnchor, ANCHOR, script));
            }
            if countersignatory_has_output || htlc_outputs > 0 {
                let script =
                    scripts::p2wsh(&scripts::anchor(&context.basepoints(broadcaster.other()).funding));
                drafts.push(Draft::plain(OutputKind::CountersignatoryAnchor, ANCHOR, script));
            }
        }
    }
}

/// Adds the shared anchor where the format has one, with what the other outputs leave, at most [`MAX_SHARED_ANCHOR`];
/// in all formats, refuses outputs worth more than the funding.
fn draft_shared_anchor(
    format: CommitmentFormat,
    funding: Amount,
    drafts: &mut Vec<Draft>,
) -> Result<(), BuildError> {
    let outputs = drafts
        .iter()
        .try_fold(Amount::ZERO, |sum, draft| sum.checked_add(draft.value))
        .unwrap_or(Amount::MAX);
    let left = funding.checked_sub(outputs).ok_or(BuildError::OutputsExceedFunding { outputs, funding })?;
    match format {
        CommitmentFormat::StaticRemoteKey | CommitmentFormat::AnchorsZeroFeeHtlc => {}
        CommitmentFormat::ZeroFeeCommitments => drafts.push(Draft::plain(
            OutputKind::SharedAnchor,
            left.min(MAX_SHARED_ANCHOR),
            scripts::shared_anchor(),
        )),
    }
    Ok(())
}

fn assemble(
    context: &ChannelContext,
    number: u64,
    drafts: Vec<Draft>,
) -> (Transaction, Vec<OutputKind>, Vec<HtlcOutput>) {
    let mut outputs = Vec::with_capacity(drafts.len());
    let mut kinds = Vec::with_capacity(drafts.len());
    let mut htlcs = Vec::new();
    for (output_index, draft) in (0..).zip(drafts) {
        outputs.push(TxOut { value: draft.value, script_pubkey: draft.script_pubkey });
        kinds.push(match draft.content {
            DraftContent::Plain(kind) => kind,
            DraftContent::Htlc(htlc, witness_script) => {
                htlcs.push(HtlcOutput { htlc, output_index, value: draft.value, witness_script });
                OutputKind::Htlc { position: htlcs.len() - 1 }
            }
        });
    }
    // 1: the one input and the lock time, which carry the obscured number.
    let (lock_time, sequence) = hide_number(number, context.obscuring_factor());
    let tx = Transaction {
        version: context.format().transaction_version(),
        lock_time,
        input: vec![TxIn {
            previous_output: context.parameters().funding_outpoint,
            script_sig: ScriptBuf::new(),
            sequence,
            witness: Witness::new(),
        }],
        output: outputs,
    };
    (tx, kinds, htlcs)
}

const LOCK_TIME_MARK: u32 = 0x20 << 24;
const SEQUENCE_MARK: u32 = 0x80 << 24;
const LOW_24_BITS: u32 = 0x00ff_ffff;

/// The lower half of the obscured number goes to the lock time, the upper half to the sequence.
fn hide_number(number: u64, obscuring_factor: u64) -> (LockTime, Sequence) {
    let obscured = (number ^ obscuring_factor) & MAX_COMMITMENT_NUMBER;
    // Both halves have 24 bits.
    let lower = (obscured & u64::from(LOW_24_BITS)) as u32;
    let upper = (obscured >> 24) as u32;
    (LockTime::from_consensus(LOCK_TIME_MARK | lower), Sequence(SEQUENCE_MARK | upper))
}

/// The number of a commitment found on the chain; `None` when the transaction has not the marks of a commitment.
/// Another transaction may have them by chance: compare its id with that of the commitment of this number.
pub fn commitment_number(transaction: &Transaction, obscuring_factor: u64) -> Option<u64> {
    let [input] = transaction.input.as_slice() else { return None };
    let lock_time = transaction.lock_time.to_consensus_u32();
    let sequence = input.sequence.to_consensus_u32();
    if lock_time & !LOW_24_BITS != LOCK_TIME_MARK || sequence & !LOW_24_BITS != SEQUENCE_MARK {
        return None;
    }
    let obscured = u64::from(sequence & LOW_24_BITS) << 24 | u64::from(lock_time & LOW_24_BITS);
    Some(obscured ^ obscuring_factor)
}
