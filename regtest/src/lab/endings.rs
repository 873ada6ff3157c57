//! Books over channels that end on the chain: what every party is worth before and after, what it paid to miners on the
//! way, and what nobody has taken. Everything comes from blocks and from scripts derived from the seeds; channels that are
//! still open count with what their two ends agree on.

use std::collections::{BTreeMap, HashMap};

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use proto::hub::v1 as pb;

use super::audit::{Coins, coins};
use super::error::LabError;
use super::{Lab, keys, outpoint};

/// Scripts derived a seed, kind and chain: claims of one party take a new one each.
const SCRIPTS: u32 = 300;

/// How things stood when nothing was in flight and nothing unconfirmed.
#[derive(Debug, Clone)]
pub struct Books {
    coins: Coins,
    /// By party: the wallets in the order of [`Lab::wallets`], then the hub.
    worth_msat: Vec<u64>,
    since: u32,
    fundings: BTreeMap<OutPoint, Amount>,
}

/// What became of them.
#[derive(Debug, Clone)]
pub struct Ended {
    /// By party: what it is worth now minus what it was worth, fees and losses included, in msat.
    pub gain_msat: Vec<i64>,
    /// By party: what the transactions paid to miners that gave it outputs.
    pub fees: Vec<Amount>,
    /// What the commitments themselves left to miners: trimmed HTLCs and parts of a satoshi.
    pub commitment_fees: Amount,
    /// Outputs of commitments and HTLC transactions that nobody has spent.
    pub left: BTreeMap<OutPoint, TxOut>,
    /// The transaction that spent each funding, by the funding.
    pub commitments: BTreeMap<OutPoint, Txid>,
}

impl Ended {
    /// What a party gained before fees, in msat.
    pub fn gain_before_fees(&self, party: usize) -> i64 {
        let fees = i64::try_from(self.fees[party].to_sat()).unwrap_or(i64::MAX);
        self.gain_msat[party].saturating_add(fees.saturating_mul(1_000))
    }
}

/// What each party's open channels are worth to it, in msat.
async fn in_channels(lab: &Lab) -> Result<Vec<u64>, LabError> {
    let sum = |channels: Vec<pb::Channel>| {
        let open = channels.iter().filter(|channel| channel.phase() == pb::ChannelPhase::Open);
        open.map(|channel| channel.local_msat).sum::<u64>()
    };
    let mut sums = Vec::new();
    for wallet in lab.wallets() {
        sums.push(sum(wallet.channels().await?));
    }
    sums.push(sum(lab.hub().channels().await?));
    Ok(sums)
}

fn by_party(coins: &Coins) -> impl Iterator<Item = Amount> {
    coins.wallets.iter().copied().chain([coins.hub])
}

async fn worth(lab: &Lab, coins: &Coins) -> Result<Vec<u64>, LabError> {
    let channels = in_channels(lab).await?;
    Ok(by_party(coins).zip(channels).map(|(coins, msat)| coins.to_sat() * 1_000 + msat).collect())
}

/// Opens the books. Nothing may be in flight, and every process runs.
///
/// # Errors
/// [`LabError`].
pub async fn open(lab: &Lab) -> Result<Books, LabError> {
    let coins = coins(lab).await?;
    let worth_msat = worth(lab, &coins).await?;
    let mut fundings = BTreeMap::new();
    for channel in lab.hub().channels().await? {
        if channel.phase() == pb::ChannelPhase::Open {
            let funding = outpoint("hub", channel.funding.as_ref())?;
            fundings.insert(funding, Amount::from_sat(channel.capacity_sat));
        }
    }
    let since = lab.chain().height().await?.saturating_add(1);
    Ok(Books { coins, worth_msat, since, fundings })
}

/// Closes the books, and checks that what was in channels that ended is now in coins, paid to miners, or left where it
/// is, to the satoshi.
///
/// # Errors
/// [`LabError::Broken`] when something was made or lost.
pub async fn close(lab: &Lab, books: &Books) -> Result<Ended, LabError> {
    let mut trace = Trace::new(lab)?;
    for (height, transaction) in lab.chain().transactions_since(0).await? {
        if height >= books.since {
            trace.follow(books, &transaction)?;
        }
        trace.remember(&transaction);
    }
    let coins = coins(lab).await?;
    let ended: Amount = trace.commitments.keys().map(|funding| books.fundings[funding]).sum();
    let given: Amount = trace.given.iter().copied().sum();
    let before = by_party(&books.coins).sum::<Amount>() + ended + given;
    let left: Amount = trace.left.values().map(|output| output.value).sum();
    let paid = trace.fees.iter().copied().sum::<Amount>() + trace.commitment_fees;
    let after = by_party(&coins).sum::<Amount>() + left + paid;
    if before != after {
        return Err(LabError::Broken(format!(
            "conservation: {before} in coins and channels that ended, {after} afterwards: {coins:?}, fees {:?} and {}, \
             left {:?}",
            trace.fees, trace.commitment_fees, trace.left
        )));
    }
    let now = worth(lab, &coins).await?;
    let gains = now.iter().zip(&books.worth_msat).zip(&trace.given).map(|((now, then), given)| {
        let difference = i128::from(*now) - i128::from(*then) - i128::from(given.to_sat()) * 1_000;
        i64::try_from(difference).map_err(|_| LabError::Broken("a gain beyond all coins".to_owned()))
    });
    Ok(Ended {
        gain_msat: gains.collect::<Result<_, _>>()?,
        fees: trace.fees,
        commitment_fees: trace.commitment_fees,
        left: trace.left,
        commitments: trace.commitments,
    })
}

/// Follows the coins of fundings through the chain until they are somebody's.
#[derive(Debug)]
struct Trace {
    owners: HashMap<ScriptBuf, usize>,
    /// Every output that was ever in the chain so far.
    known: HashMap<OutPoint, Amount>,
    fees: Vec<Amount>,
    commitment_fees: Amount,
    /// By party: what came from outside.
    given: Vec<Amount>,
    left: BTreeMap<OutPoint, TxOut>,
    commitments: BTreeMap<OutPoint, Txid>,
}

impl Trace {
    fn new(lab: &Lab) -> Result<Trace, LabError> {
        let mut owners = HashMap::new();
        let seeds = lab.wallets().iter().map(|wallet| wallet.seed_file()).chain([lab.hub().seed_file()]);
        for (owner, seed) in seeds.enumerate() {
            owners.extend(keys::scripts_of(&seed, SCRIPTS)?.into_iter().map(|script| (script, owner)));
        }
        Ok(Trace {
            owners,
            known: HashMap::new(),
            fees: vec![Amount::ZERO; lab.wallets().len() + 1],
            commitment_fees: Amount::ZERO,
            given: vec![Amount::ZERO; lab.wallets().len() + 1],
            left: BTreeMap::new(),
            commitments: BTreeMap::new(),
        })
    }

    fn remember(&mut self, transaction: &Transaction) {
        let txid = transaction.compute_txid();
        let outputs = (0..).zip(&transaction.output);
        self.known.extend(outputs.map(|(vout, output)| (OutPoint { txid, vout }, output.value)));
    }

    fn follow(&mut self, books: &Books, transaction: &Transaction) -> Result<(), LabError> {
        let spent = || transaction.input.iter().map(|input| input.previous_output);
        let fundings: Vec<_> = spent().filter(|spent| books.fundings.contains_key(spent)).collect();
        let is_ours = !fundings.is_empty() || spent().any(|spent| self.left.contains_key(&spent));
        if !is_ours {
            // The miner's gifts are nobody's gain.
            for output in &transaction.output {
                if let Some(owner) = self.owners.get(&output.script_pubkey) {
                    self.given[*owner] += output.value;
                }
            }
            return Ok(());
        }
        let txid = transaction.compute_txid();
        let mut inputs = Amount::ZERO;
        for outpoint in spent() {
            self.left.remove(&outpoint);
            let value = self.known.get(&outpoint);
            inputs += *value.ok_or_else(|| LabError::Broken(format!("{txid} spends an unknown output")))?;
        }
        let mut payees: Vec<usize> = Vec::new();
        for (vout, output) in (0..).zip(&transaction.output) {
            match self.owners.get(&output.script_pubkey) {
                Some(owner) => payees.push(*owner),
                None => {
                    self.left.insert(OutPoint { txid, vout }, output.clone());
                }
            }
        }
        let outputs: Amount = transaction.output.iter().map(|output| output.value).sum();
        let fee =
            inputs.checked_sub(outputs).ok_or_else(|| LabError::Broken(format!("{txid} makes coins")))?;
        payees.dedup();
        match (fundings.is_empty(), payees.as_slice()) {
            (false, _) => self.commitment_fees += fee,
            (true, [payee]) => self.fees[*payee] += fee,
            (true, _) => {
                return Err(LabError::Broken(format!("{txid} pays the parties {payees:?}, not one")));
            }
        }
        self.commitments.extend(fundings.into_iter().map(|funding| (funding, txid)));
        Ok(())
    }
}
