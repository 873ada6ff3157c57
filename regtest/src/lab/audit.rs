//! The auditor: compares what both ends of each channel say with each other and with the chain, and after the closes, who
//! owns which coins, by bitcoind's set of unspent outputs and scripts derived from the seeds. It asks no wallet about coins.

use std::collections::{BTreeMap, HashMap};

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};
use bytes::Bytes;
use proto::hub::v1 as pb;

use super::error::LabError;
use super::{Lab, keys, outpoint};

/// Scripts derived a seed, kind and chain. Far more than a run of the lab hands out.
const SCRIPTS: u32 = 100;

/// What one channel is worth to whom, agreed by both ends and found on the chain.
#[derive(Debug, Clone)]
pub struct ChannelBook {
    /// Whose channel, by its place in [`Lab::wallets`].
    pub wallet: usize,
    /// Its id.
    pub channel_id: Bytes,
    /// Where its coins lie.
    pub funding: OutPoint,
    /// What they are worth.
    pub capacity: Amount,
    /// The wallet's part.
    pub wallet_msat: u64,
    /// The hub's part.
    pub hub_msat: u64,
}

/// Confirmed coins by owner: the hub's and each wallet's, by place in [`Lab::wallets`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coins {
    /// The hub's.
    pub hub: Amount,
    /// The wallets'.
    pub wallets: Vec<Amount>,
}

/// How one channel ended on the chain.
#[derive(Debug, Clone)]
pub struct Close {
    /// The transaction that spent the funding.
    pub txid: Txid,
    /// Its block.
    pub height: u32,
    /// What the wallet was paid.
    pub paid: Amount,
    /// What the wallet gave for the fee, as both agreed.
    pub fee: Amount,
}

/// The closes of all channels, checked.
#[derive(Debug, Clone)]
pub struct Closes {
    /// One a book, in the same order.
    pub channels: Vec<Close>,
    /// The transactions, each once, in the order of the chain.
    pub txids: Vec<Txid>,
    /// Blocks on top of and including the one of the latest close.
    pub confirmations: u32,
    /// Coins by owner afterwards.
    pub coins: Coins,
    /// What the closing transactions paid to miners.
    pub fees: Amount,
}

/// Reads every open channel. No HTLC may be in flight.
///
/// # Errors
/// [`LabError::Broken`] when the two ends disagree, a balance is lost or made, or the chain does not hold the coins.
pub async fn channels(lab: &Lab) -> Result<Vec<ChannelBook>, LabError> {
    let hub: HashMap<Bytes, pb::Channel> = lab
        .hub()
        .channels()
        .await?
        .into_iter()
        .map(|channel| (channel.channel_id.clone(), channel))
        .collect();
    let mut books = Vec::new();
    for (place, wallet) in lab.wallets().iter().enumerate() {
        for channel in wallet.channels().await? {
            if channel.phase() != pb::ChannelPhase::Open {
                continue;
            }
            let name = format!("channel {} of {}", hex::encode(&channel.channel_id), wallet.name());
            let theirs = hub.get(&channel.channel_id);
            let theirs = theirs.ok_or_else(|| LabError::Broken(format!("the hub does not know {name}")))?;
            let book = compare(&name, place, &channel, theirs)?;
            on_chain(lab, &name, &book).await?;
            books.push(book);
        }
    }
    Ok(books)
}

/// Adds up every channel in the view of each end, HTLCs in flight included; good at any moment.
///
/// # Errors
/// [`LabError::Broken`] when a channel's parts are not its capacity.
pub async fn sums(lab: &Lab) -> Result<(), LabError> {
    let mut views = vec![("hub", lab.hub().channels().await?)];
    for wallet in lab.wallets() {
        views.push((wallet.name(), wallet.channels().await?));
    }
    for (name, channels) in views {
        for channel in channels {
            let sum = channel.local_msat.checked_add(channel.remote_msat);
            let sum = sum.and_then(|sum| sum.checked_add(channel.in_flight_msat));
            if sum != channel.capacity_sat.checked_mul(1_000) {
                return Err(LabError::Broken(format!(
                    "conservation: {name} says of channel {}: {} + {} + {} in flight, of {} sat",
                    hex::encode(&channel.channel_id),
                    channel.local_msat,
                    channel.remote_msat,
                    channel.in_flight_msat,
                    channel.capacity_sat
                )));
            }
        }
    }
    Ok(())
}

fn compare(
    name: &str,
    wallet: usize,
    ours: &pb::Channel,
    theirs: &pb::Channel,
) -> Result<ChannelBook, LabError> {
    let broken = |what: String| Err(LabError::Broken(format!("{name}: {what}")));
    let capacity_msat = ours.capacity_sat.saturating_mul(1_000);
    if ours.in_flight_msat > 0 || theirs.in_flight_msat > 0 {
        return broken("an HTLC is in flight where none should be".to_owned());
    }
    if ours.local_msat.checked_add(ours.remote_msat) != Some(capacity_msat) {
        return broken(format!(
            "conservation: {} + {} is not the capacity, {capacity_msat} msat",
            ours.local_msat, ours.remote_msat
        ));
    }
    if (ours.local_msat, ours.remote_msat) != (theirs.remote_msat, theirs.local_msat) {
        return broken(format!(
            "the wallet says {} for itself and {} for the hub, the hub says {} and {}",
            ours.local_msat, ours.remote_msat, theirs.remote_msat, theirs.local_msat
        ));
    }
    let funding = outpoint(name, ours.funding.as_ref())?;
    if funding != outpoint(name, theirs.funding.as_ref())? || ours.capacity_sat != theirs.capacity_sat {
        return broken("wallet and hub name different fundings".to_owned());
    }
    Ok(ChannelBook {
        wallet,
        channel_id: ours.channel_id.clone(),
        funding,
        capacity: Amount::from_sat(ours.capacity_sat),
        wallet_msat: ours.local_msat,
        hub_msat: ours.remote_msat,
    })
}

async fn on_chain(lab: &Lab, name: &str, book: &ChannelBook) -> Result<(), LabError> {
    match lab.chain().unspent(book.funding).await? {
        Some(output) if output.value == book.capacity => Ok(()),
        Some(output) => Err(LabError::Broken(format!(
            "{name}: the chain holds {} at {}, the channel says {}",
            output.value, book.funding, book.capacity
        ))),
        None => Err(LabError::Broken(format!("{name}: {} is not unspent on the chain", book.funding))),
    }
}

/// Everybody's confirmed coins, by the chain's set of unspent outputs.
///
/// # Errors
/// [`LabError`].
pub async fn coins(lab: &Lab) -> Result<Coins, LabError> {
    let mut owners: HashMap<ScriptBuf, usize> = HashMap::new();
    let seeds = lab.wallets().iter().map(|wallet| wallet.seed_file()).chain([lab.hub().seed_file()]);
    for (owner, seed) in seeds.enumerate() {
        owners.extend(keys::scripts_of(&seed, SCRIPTS)?.into_iter().map(|script| (script, owner)));
    }
    let found = lab.chain().coins_of(owners.keys().cloned().collect()).await?;
    let mut sums = vec![Amount::ZERO; lab.wallets().len() + 1];
    for coin in found {
        if let Some(owner) = owners.get(&coin.output.script_pubkey) {
            sums[*owner] += coin.output.value;
        }
    }
    let hub = sums.pop().unwrap_or(Amount::ZERO);
    Ok(Coins { hub, wallets: sums })
}

/// The fee that wallet and hub agreed on for each channel that was frozen, from the hub's events.
async fn agreed_fees(lab: &Lab) -> Result<BTreeMap<Bytes, Amount>, LabError> {
    let newest = lab.hub().info().await?.newest_event;
    let refused = |status| LabError::Refused {
        name: "hub".to_owned(),
        call: "SubscribeEvents",
        status: Box::new(status),
    };
    let request = pb::SubscribeEventsRequest { from_index: 1 };
    let mut events = lab.hub().client()?.subscribe_events(request).await.map_err(refused)?.into_inner();
    let mut fees = BTreeMap::new();
    let mut last = 0;
    while last < newest {
        let Some(event) = events.message().await.map_err(refused)? else { break };
        if event.index <= last {
            return Err(LabError::Broken(format!("event {} came after event {last}", event.index)));
        }
        last = event.index;
        if let Some(pb::event::Kind::Channel(channel)) = event.kind
            && let Some(pb::channel_event::Kind::Frozen(frozen)) = channel.kind
        {
            fees.insert(channel.channel_id, Amount::from_sat(frozen.fee_sat));
        }
    }
    Ok(fees)
}

/// Checks that each channel was closed by one transaction that pays its wallet what the channel said, minus the fee that both
/// agreed on and the part of a satoshi, to a script of the wallet's own seed, still unspent; and that hub and wallets own
/// exactly the coins that follow. `before` is what they owned when the books were made, `since` a height before the closes.
///
/// # Errors
/// [`LabError::Broken`], naming the channel or the owner.
pub async fn closes(
    lab: &Lab,
    books: &[ChannelBook],
    before: &Coins,
    since: u32,
) -> Result<Closes, LabError> {
    let fees = agreed_fees(lab).await?;
    let transactions = lab.chain().transactions_since(since).await?;
    let mut spends: HashMap<OutPoint, (u32, &Transaction, usize)> = HashMap::new();
    for (height, transaction) in &transactions {
        for (index, input) in transaction.input.iter().enumerate() {
            spends.insert(input.previous_output, (*height, transaction, index));
        }
    }
    let mut closed = Vec::new();
    let mut expected = before.clone();
    let mut burnt: HashMap<Txid, Amount> = HashMap::new();
    for book in books {
        let name =
            format!("channel {} of {}", hex::encode(&book.channel_id), lab.wallets()[book.wallet].name());
        let (height, transaction, index) = spends
            .get(&book.funding)
            .ok_or_else(|| LabError::Broken(format!("{name}: no block spends its funding")))?;
        let fee = fees.get(&book.channel_id).copied();
        let fee = fee.ok_or_else(|| LabError::Broken(format!("{name}: no event tells the agreed fee")))?;
        let close = check_close(lab, &name, book, fee, transaction, *index).await?;
        expected.wallets[book.wallet] += close.paid;
        // All that the wallet is not paid is the hub's, which pays the miners from it.
        expected.hub += book.capacity - close.paid;
        *burnt.entry(close.txid).or_default() += book.capacity;
        closed.push(Close { height: *height, ..close });
    }
    let mut txids = Vec::new();
    let mut paid_to_miners = Amount::ZERO;
    for (_, transaction) in &transactions {
        let txid = transaction.compute_txid();
        if let Some(in_sum) = burnt.get(&txid) {
            txids.push(txid);
            let fee = fee_of(lab, transaction, books, *in_sum).await?;
            paid_to_miners += fee;
        }
    }
    expected.hub -= paid_to_miners;
    let coins = coins(lab).await?;
    compare_coins(lab, &expected, &coins)?;
    let tip = lab.chain().height().await?;
    let latest = closed.iter().map(|close| close.height).max().unwrap_or(tip);
    Ok(Closes { channels: closed, txids, confirmations: tip - latest + 1, coins, fees: paid_to_miners })
}

async fn check_close(
    lab: &Lab,
    name: &str,
    book: &ChannelBook,
    fee: Amount,
    transaction: &Transaction,
    index: usize,
) -> Result<Close, LabError> {
    let txid = transaction.compute_txid();
    let whole = Amount::from_sat(book.wallet_msat / 1_000);
    let due = whole.checked_sub(fee).filter(|due| *due >= channel::limits::MIN_DUST_LIMIT);
    let Some(due) = due else {
        // Below dust: the wallet is paid nothing.
        return Ok(Close { txid, height: 0, paid: Amount::ZERO, fee: whole });
    };
    // A ticket binds the wallet's output to the index of its input.
    let output = transaction.output.get(index);
    let output = output.ok_or_else(|| LabError::Broken(format!("{name}: {txid} has no output {index}")))?;
    if output.value != due {
        return Err(LabError::Broken(format!(
            "{name}: {txid} pays the wallet {}, it is due {due} ({} msat minus the fee of {fee})",
            output.value, book.wallet_msat
        )));
    }
    let own = keys::scripts_of(&lab.wallets()[book.wallet].seed_file(), SCRIPTS)?;
    if !own.contains(&output.script_pubkey) {
        return Err(LabError::Broken(format!(
            "{name}: output {index} of {txid} is not to a key of the wallet"
        )));
    }
    let vout = u32::try_from(index).unwrap_or(u32::MAX);
    match lab.chain().unspent(OutPoint { txid, vout }).await? {
        Some(_) => Ok(Close { txid, height: 0, paid: due, fee }),
        None => Err(LabError::Broken(format!("{name}: the chain does not hold output {index} of {txid}"))),
    }
}

/// What a closing transaction paid to miners: the channels it closed and any coin the hub added, minus its outputs.
async fn fee_of(
    lab: &Lab,
    transaction: &Transaction,
    books: &[ChannelBook],
    channels: Amount,
) -> Result<Amount, LabError> {
    let mut inputs = channels;
    for input in &transaction.input {
        let outpoint = input.previous_output;
        if books.iter().any(|book| book.funding == outpoint) {
            continue;
        }
        let spent = lab.chain().transaction(outpoint.txid).await?;
        let index = usize::try_from(outpoint.vout).unwrap_or(usize::MAX);
        inputs += spent.output.get(index).map_or(Amount::ZERO, |output| output.value);
    }
    let outputs: Amount = transaction.output.iter().map(|output| output.value).sum();
    Ok(inputs - outputs)
}

fn compare_coins(lab: &Lab, expected: &Coins, found: &Coins) -> Result<(), LabError> {
    for (place, wallet) in lab.wallets().iter().enumerate() {
        let (due, has) = (expected.wallets[place], found.wallets[place]);
        if due != has {
            let text =
                format!("{} owns {has} on the chain; what it had and its channels make {due}", wallet.name());
            return Err(LabError::Broken(text));
        }
    }
    if expected.hub != found.hub {
        return Err(LabError::Broken(format!(
            "the hub owns {} on the chain; what it had and its channels make {}",
            found.hub, expected.hub
        )));
    }
    Ok(())
}

/// A transaction id from its bytes in hashing order.
pub fn txid(bytes: &[u8]) -> Option<Txid> {
    Txid::from_slice(bytes).ok()
}
