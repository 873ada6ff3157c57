//! What bitcoind's mempool asks of a transaction by itself: form, size, dust, and the version-3 rules. The figures are
//! the defaults of Bitcoin Core 31.

use bitcoin::consensus::encode::serialize;
use bitcoin::script::Instruction;
use bitcoin::{Amount, OutPoint, Script, Transaction, TxOut, Weight};

use super::reject::Reject;

/// Satoshi per 1000 virtual bytes below which nothing is relayed (`minrelaytxfee`).
pub(super) const MIN_RELAY_PER_KVB: u64 = 100;
/// What a replacement pays for its own size, a 1000 virtual bytes (`incrementalrelayfee`).
pub(super) const INCREMENTAL_PER_KVB: u64 = 100;
/// The feerate at which an output must be worth spending, or it is dust (`dustrelayfee`).
const DUST_PER_KVB: u64 = 3_000;
/// Dust outputs that one transaction may have (ephemeral dust).
const MAX_DUST_OUTPUTS: usize = 1;
/// The heaviest transaction relayed, in weight units.
const MAX_WEIGHT: u64 = 400_000;
/// The smallest, in bytes without the witness.
const MIN_BYTES: usize = 65;
/// The longest script of an input.
const MAX_SCRIPT_SIG: usize = 1_650;
/// The most bytes of data outputs.
const MAX_DATA: usize = 100_000;
/// The most signature operations, as their cost.
const MAX_SIGOPS: usize = 16_000;
/// Virtual bytes that a signature operation counts at least.
const BYTES_PER_SIGOP: u64 = 20;
/// Limits for the elements of a P2WSH witness: how many, how long, and the script.
const MAX_WITNESS_ITEMS: usize = 100;
const MAX_WITNESS_ITEM: usize = 80;
const MAX_WITNESS_SCRIPT: usize = 3_600;
/// Virtual bytes of a version-3 transaction (BIP 431).
pub(super) const TRUC_MAX_VSIZE: u64 = 10_000;
/// Virtual bytes of a version-3 transaction that spends unconfirmed outputs.
pub(super) const TRUC_CHILD_MAX_VSIZE: u64 = 1_000;
/// Transactions in a cluster.
pub(super) const MAX_CLUSTER_COUNT: usize = 64;
/// Weight of a cluster: 101,000 virtual bytes.
pub(super) const MAX_CLUSTER_WEIGHT: u64 = 404_000;
/// Clusters that one replacement may touch.
pub(super) const MAX_REPLACED_CLUSTERS: usize = 100;
/// Transactions in a package, and their weight.
pub(super) const MAX_PACKAGE_COUNT: usize = 25;
pub(super) const MAX_PACKAGE_WEIGHT: u64 = 404_000;
/// The feerate, in satoshi per 1000 virtual bytes, above which a call is refused as a slip of its caller.
pub(super) const MAX_FEERATE_PER_KVB: u64 = 10_000_000;
/// Blocks until the output of a coinbase may be spent.
pub(super) const COINBASE_MATURITY: u32 = 100;

/// The fee for `vsize` at a feerate per 1000 virtual bytes, rounded up.
pub(super) fn fee_at(per_kvb: u64, vsize: u64) -> Amount {
    Amount::from_sat(per_kvb.saturating_mul(vsize).div_ceil(1_000))
}

/// Rules of consensus for a transaction by itself.
pub(super) fn check_form(transaction: &Transaction) -> Result<(), Reject> {
    if transaction.input.is_empty() {
        return Err(Reject::NoInputs);
    }
    if transaction.output.is_empty() {
        return Err(Reject::NoOutputs);
    }
    if transaction.base_size() > 1_000_000 {
        return Err(Reject::Oversize);
    }
    let sum = transaction.output.iter().try_fold(Amount::ZERO, |sum, output| {
        sum.checked_add(output.value).filter(|sum| *sum <= Amount::MAX_MONEY)
    });
    if sum.is_none() {
        return Err(Reject::OutputsTooLarge);
    }
    let mut outpoints: Vec<OutPoint> = transaction.input.iter().map(|input| input.previous_output).collect();
    outpoints.sort_unstable();
    if outpoints.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Reject::DuplicateInputs);
    }
    if transaction.is_coinbase() {
        return Err(Reject::Coinbase);
    }
    if outpoints.iter().any(OutPoint::is_null) {
        return Err(Reject::NullPrevout);
    }
    Ok(())
}

/// Rules of the mempool for a transaction by itself.
pub(super) fn check_standard(transaction: &Transaction) -> Result<(), Reject> {
    if !(1..=3).contains(&transaction.version.0) {
        return Err(Reject::Version);
    }
    if transaction.weight() > Weight::from_wu(MAX_WEIGHT) {
        return Err(Reject::Weight);
    }
    for input in &transaction.input {
        if input.script_sig.len() > MAX_SCRIPT_SIG {
            return Err(Reject::ScriptSigSize);
        }
        if !input.script_sig.is_push_only() {
            return Err(Reject::ScriptSigNotPushOnly);
        }
    }
    let mut data = 0_usize;
    for output in &transaction.output {
        if output.script_pubkey.is_op_return() {
            data = data.saturating_add(output.script_pubkey.len());
        }
        if !is_standard_output(&output.script_pubkey) {
            return Err(Reject::OutputScript);
        }
    }
    if data > MAX_DATA {
        return Err(Reject::DataCarrier);
    }
    if transaction.output.iter().filter(|output| is_dust(output)).count() > MAX_DUST_OUTPUTS {
        return Err(Reject::Dust);
    }
    if transaction.base_size() < MIN_BYTES {
        return Err(Reject::TooSmall);
    }
    Ok(())
}

fn is_standard_output(script: &Script) -> bool {
    if script.is_op_return() {
        let mut instructions = script.instructions().skip(1);
        return instructions.all(|one| one.is_ok_and(|one| is_push(&one)));
    }
    script.is_p2pk()
        || script.is_p2pkh()
        || script.is_p2sh()
        || script.is_witness_program()
        || is_standard_multisig(script)
}

fn is_push(instruction: &Instruction<'_>) -> bool {
    match instruction {
        Instruction::PushBytes(_) => true,
        Instruction::Op(opcode) => opcode.to_u8() <= bitcoin::opcodes::all::OP_PUSHNUM_16.to_u8(),
    }
}

/// The longest standard one: three keys of 65 bytes.
const MAX_MULTISIG_SCRIPT: usize = 201;

fn is_standard_multisig(script: &Script) -> bool {
    if script.len() > MAX_MULTISIG_SCRIPT {
        return false;
    }
    let keys = script
        .instructions()
        .filter(|one| matches!(one, Ok(Instruction::PushBytes(bytes)) if [33, 65].contains(&bytes.len())))
        .count();
    script.is_multisig() && (1..=3).contains(&keys)
}

/// True for an output worth less than spending it would cost.
pub(super) fn is_dust(output: &TxOut) -> bool {
    if output.script_pubkey.is_op_return() {
        return false;
    }
    // An input with a signature, whose script weighs a quarter in a witness.
    let spending = if output.script_pubkey.is_witness_program() { 67 } else { 148 };
    let bytes = u64::try_from(serialize(output).len()).unwrap_or(u64::MAX).saturating_add(spending);
    output.value < fee_at(DUST_PER_KVB, bytes)
}

pub(super) fn has_dust(transaction: &Transaction) -> bool {
    transaction.output.iter().any(is_dust)
}

/// Whether the outputs spent, one an input, may be spent by standard transactions, and the witnesses fit them.
pub(super) fn check_inputs_standard(transaction: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    for output in spent {
        let script = &output.script_pubkey;
        let known = script.is_p2pk()
            || script.is_p2pkh()
            || script.is_p2sh()
            || script.is_p2wpkh()
            || script.is_p2wsh()
            || script.is_p2tr()
            || is_anchor(script)
            || is_standard_multisig(script);
        if !known {
            return Err(Reject::NonstandardInputs);
        }
    }
    for (input, output) in transaction.input.iter().zip(spent) {
        let (script, witness) = (&output.script_pubkey, &input.witness);
        if witness.is_empty() {
            continue;
        }
        if is_anchor(script) || !(script.is_witness_program() || script.is_p2sh()) {
            return Err(Reject::WitnessNonstandard);
        }
        if script.is_p2wsh() {
            let items = witness.len().saturating_sub(1);
            let too_long = witness.iter().take(items).any(|item| item.len() > MAX_WITNESS_ITEM);
            let long_script = witness.last().is_some_and(|script| script.len() > MAX_WITNESS_SCRIPT);
            if items > MAX_WITNESS_ITEMS || too_long || long_script {
                return Err(Reject::WitnessNonstandard);
            }
        }
    }
    Ok(())
}

/// The shared anchor that anybody may spend.
fn is_anchor(script: &Script) -> bool {
    script.as_bytes() == [0x51, 0x02, 0x4e, 0x73]
}

/// Weight that counts for fees and limits: more than its own if it has many signature operations.
pub(super) fn counted_weight(transaction: &Transaction, sigops: usize) -> Result<u64, Reject> {
    if sigops > MAX_SIGOPS {
        return Err(Reject::TooManySigops);
    }
    let sigops = u64::try_from(sigops).unwrap_or(u64::MAX).saturating_mul(BYTES_PER_SIGOP);
    Ok(transaction.weight().to_wu().max(sigops))
}
