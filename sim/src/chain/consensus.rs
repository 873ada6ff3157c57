//! Rules that no miner may break: lock times, maturity, values. Scripts are in `scripts`.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, Sequence, Transaction, TxOut};

use super::blocks::Chain;
use super::policy::COINBASE_MATURITY;
use super::reject::Reject;

/// Bit of a sequence that makes its lock one of time.
const TIME_FLAG: u32 = 1 << 22;
/// Bit of a sequence that says it is no lock.
const DISABLE_FLAG: u32 = 1 << 31;
/// Seconds that a unit of a lock by time stands for, as a power of two.
const TIME_GRANULARITY: u32 = 9;

/// An output that a transaction spends.
#[derive(Clone, Debug)]
pub(super) struct Spent {
    pub output: TxOut,
    /// Height of its block; of what is in no block, that of the next.
    pub height: u32,
    pub coinbase: bool,
}

impl Spent {
    /// One that is in no block yet.
    pub(super) fn unconfirmed(chain: &Chain, output: TxOut) -> Spent {
        Spent { output, height: chain.height().saturating_add(1), coinbase: false }
    }
}

/// The outputs alone.
pub(super) fn outputs(spent: &[Spent]) -> Vec<TxOut> {
    spent.iter().map(|one| one.output.clone()).collect()
}

/// Whether a transaction's own lock time lets it into the next block.
pub(super) fn check_final(chain: &Chain, transaction: &Transaction) -> Result<(), Reject> {
    let next = chain.height().saturating_add(1);
    let reached = match transaction.lock_time {
        LockTime::Blocks(height) => height.to_consensus_u32() < next,
        LockTime::Seconds(time) => time.to_consensus_u32() < chain.median_time_past(chain.height()),
    };
    let ignored = transaction.input.iter().all(|input| input.sequence == Sequence::MAX);
    if reached || ignored || transaction.lock_time == LockTime::ZERO { Ok(()) } else { Err(Reject::NotFinal) }
}

/// Whether the relative locks of its inputs let it into the next block (BIP 68).
pub(super) fn check_sequences(
    chain: &Chain,
    transaction: &Transaction,
    spent: &[Spent],
) -> Result<(), Reject> {
    if transaction.version.0 < 2 {
        return Ok(());
    }
    let next = chain.height().saturating_add(1);
    for (input, spent) in transaction.input.iter().zip(spent) {
        let sequence = input.sequence.to_consensus_u32();
        if sequence & DISABLE_FLAG != 0 {
            continue;
        }
        let value = sequence & 0xffff;
        let reached = if sequence & TIME_FLAG == 0 {
            spent.height.saturating_add(value) <= next
        } else {
            let begin = chain.median_time_past(spent.height.saturating_sub(1));
            begin.saturating_add(value << TIME_GRANULARITY) <= chain.median_time_past(chain.height())
        };
        if !reached {
            return Err(Reject::SequenceLock);
        }
    }
    Ok(())
}

/// Maturity and values; the fee.
pub(super) fn check_values(
    chain: &Chain,
    transaction: &Transaction,
    spent: &[Spent],
) -> Result<Amount, Reject> {
    let next = chain.height().saturating_add(1);
    let immature = |one: &&Spent| one.coinbase && next.saturating_sub(one.height) < COINBASE_MATURITY;
    if spent.iter().any(|one| immature(&one)) {
        return Err(Reject::ImmatureCoinbase);
    }
    let comes_in = sum(spent.iter().map(|one| one.output.value))?;
    let goes_out = sum(transaction.output.iter().map(|output| output.value))?;
    comes_in.checked_sub(goes_out).ok_or(Reject::BelowOut)
}

fn sum(mut amounts: impl Iterator<Item = Amount>) -> Result<Amount, Reject> {
    amounts.try_fold(Amount::ZERO, Amount::checked_add).ok_or(Reject::OutputsTooLarge)
}
