//! Fundings that a reorganisation takes out of the chain, and whose coins another transaction takes for good: their channels
//! are void. They end by name, and nobody loses more than was in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use bytes::Bytes;
use proto::hub::v1 as pb;
use regtest::lab::{Funder, Lab, LabError, LabOptions, Opening, Wallet, audit, spend_otherwise};
use regtest::wait::{Look, until_seen};

use crate::flight::{Fate, Flight, Flights};
use crate::story::{Disturbance, Story};
use crate::support::{MOST_BLOCKS, SHORT_DELAY, SOON, Stage, options};

/// The capacity of the channels that end as void: what is paid through them fits no other.
const VOID_SAT: u64 = 3_000_000;

/// What is paid through them, there and back, and what is in flight through each when its funding goes.
const PAID_MSAT: u64 = 2_000_000_000;
const PAID_BACK_MSAT: u64 = 1_500_000_000;
const IN_FLIGHT_MSAT: u64 = 700_000_000;

/// What a transaction pays to miners that takes a funding's coins.
const FEE: Amount = Amount::from_sat(5_000);

/// Confirmations after which nothing is expected to be undone, for hub and wallets.
const FINAL_DEPTH: u32 = 6;

/// What the two ends of such a channel say of it.
const BY_NAME: &str = "another transaction took the funding's coins for good";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deaths {
    None,
    /// Hub and wallets, by SIGKILL, before the first block and after each.
    AtEveryBlock,
}

/// Channels are usable at once, so that their fundings are not final when they are used.
fn quick() -> LabOptions {
    let mut options = options(SHORT_DELAY);
    options.hub.push("policy.minimum_depth=1".to_owned());
    options
}

fn opening(wallet: &Arc<Wallet>, funder: Funder) -> Opening {
    Opening { wallet: Arc::clone(wallet), funder, capacity_sat: VOID_SAT }
}

/// What each wallet and, last, the hub own, in msat: coins of the chain, and their parts of open channels.
async fn worth(lab: &Lab) -> Vec<i64> {
    let coins = audit::coins(lab).await.unwrap();
    let mut channels = Vec::new();
    for wallet in lab.wallets() {
        channels.push(wallet.channels().await.unwrap());
    }
    channels.push(lab.hub().channels().await.unwrap());
    let open = |list: Vec<pb::Channel>| {
        let open = list.into_iter().filter(|channel| channel.phase() == pb::ChannelPhase::Open);
        open.map(|channel| channel.local_msat).sum::<u64>()
    };
    let coins = coins.wallets.into_iter().chain([coins.hub]);
    coins.zip(channels).map(|(coins, list)| (coins.to_sat() * 1_000 + open(list)).cast_signed()).collect()
}

/// The height of the block that holds a transaction, the transaction, and the transactions that it spends.
struct Mined {
    all: BTreeMap<Txid, (u32, Transaction)>,
}

impl Mined {
    async fn read(lab: &Lab) -> Mined {
        let all = lab.chain().transactions_since(0).await.unwrap();
        let by_id =
            |(height, transaction): (u32, Transaction)| (transaction.compute_txid(), (height, transaction));
        Mined { all: all.into_iter().map(by_id).collect() }
    }

    /// What the owner of a seed makes of the coins of a funding instead.
    fn conflict(&self, seed: &Path, funding: OutPoint) -> Transaction {
        let (_, transaction) = &self.all[&funding.txid];
        let spent = transaction.input.iter().map(|input| {
            let OutPoint { txid, vout } = input.previous_output;
            self.all[&txid].1.output[usize::try_from(vout).unwrap()].clone()
        });
        spend_otherwise(seed, transaction, &spent.collect::<Vec<_>>(), FEE).unwrap()
    }

    /// How many blocks hold these fundings and what came after them.
    async fn depth(&self, lab: &Lab, fundings: &[OutPoint]) -> u32 {
        let first = fundings.iter().map(|funding| self.all[&funding.txid].0).min().unwrap();
        let depth = lab.chain().height().await.unwrap() + 1 - first;
        assert!(depth < FINAL_DEPTH, "{depth} blocks are too deep to be undone");
        depth
    }
}

/// Takes back that many blocks, and mines these transactions instead, until they are final.
async fn replace(story: &Story, deaths: Deaths, depth: u32, conflicts: Vec<Transaction>) {
    let lab = &story.stage.lab;
    let die = async || match deaths {
        Deaths::None => lab.all_follow().await.unwrap(),
        Deaths::AtEveryBlock => story.kill_all().await.unwrap(),
    };
    die().await;
    if deaths == Deaths::AtEveryBlock {
        // A chain in which nothing has happened yet, and everything could.
        lab.chain().reorganise(depth).await.unwrap();
        lab.all_follow().await.unwrap();
        die().await;
    }
    let again = depth;
    let with_conflicts = lab.chain().with(move |inner| {
        if deaths == Deaths::None {
            let rpc = inner.miner.rpc().clone();
            let first = rpc.height()? + 1 - again;
            rpc.invalidate_block(rpc.block_hash(first)?)?;
        }
        inner.miner.rpc().mine_exactly(inner.miner.address(), &conflicts)?;
        Ok(inner.miner.rescan()?)
    });
    with_conflicts.await.unwrap();
    let mined = match deaths {
        Deaths::None => {
            lab.mine(depth).await.unwrap();
            depth
        }
        Deaths::AtEveryBlock => 0,
    };
    for _ in mined + 1..FINAL_DEPTH {
        die().await;
        lab.mine(1).await.unwrap();
    }
    die().await;
}

/// The channels whose opening failed, by the hub's events, and why.
async fn failed_by_events(lab: &Lab) -> BTreeMap<Bytes, String> {
    let newest = lab.hub().info().await.unwrap().newest_event;
    let request = pb::SubscribeEventsRequest { from_index: 1 };
    let mut events = lab.hub().client().unwrap().subscribe_events(request).await.unwrap().into_inner();
    let mut failed = BTreeMap::new();
    while let Some(event) = events.message().await.unwrap() {
        if let Some(pb::event::Kind::Channel(channel)) = event.kind
            && let Some(pb::channel_event::Kind::OpeningFailed(opening)) = channel.kind
        {
            failed.insert(channel.channel_id, opening.why);
        }
        if event.index >= newest {
            break;
        }
    }
    failed
}

/// Waits until both ends have ended these channels and say that their fundings were replaced. The hub lists no channel that
/// has ended; its events tell.
async fn end_by_name(stage: &Stage, wallet: &Wallet, channels: &[Bytes]) {
    until_seen("the end of the void channels", SOON, async || {
        let listed = wallet.channels().await?;
        let listed: Vec<_> = listed.iter().filter(|one| channels.contains(&one.channel_id)).collect();
        let ended = |one: &&pb::Channel| one.phase() == pb::ChannelPhase::Aborted && one.failure == BY_NAME;
        if listed.len() != channels.len() || !listed.iter().all(ended) {
            return Ok(Look::NotYet(format!("the wallet's {listed:?}")));
        }
        let at_hub = stage.lab.hub().channels().await?;
        let told = failed_by_events(&stage.lab).await;
        let ended = |id: &Bytes| {
            at_hub.iter().all(|one| one.channel_id != *id) && told.get(id).is_some_and(|why| why == BY_NAME)
        };
        Ok(match channels.iter().all(ended) {
            true => Look::Seen(()),
            false => Look::NotYet(format!("the hub's {told:?}, {at_hub:?}")),
        })
    })
    .await
    .unwrap();
}

/// That the coins which software and chain know are the same, and all of them free.
async fn assert_coins_are_free(lab: &Lab) {
    let coins = audit::coins(lab).await.unwrap();
    until_seen("the coins of the chain, none of them locked", SOON, async || {
        let mut funds = Vec::new();
        for wallet in lab.wallets() {
            funds.push(regtest::lab::on_chain(wallet.balance().await?.on_chain));
        }
        funds.push(regtest::lab::on_chain(lab.hub().balances().await?.on_chain));
        let confirmed = funds.iter().map(|funds| Amount::from_sat(funds.confirmed_sat));
        let expected = coins.wallets.iter().copied().chain([coins.hub]);
        Ok(match confirmed.eq(expected) {
            true => Look::Seen(()),
            false => Look::NotYet(format!("{funds:?} instead of {coins:?}")),
        })
    })
    .await
    .unwrap();
}

/// Mines until all that run have come to rest: nothing in flight, every channel open, closed or void.
async fn at_rest(stage: &Stage) {
    let rest = stage.pass_until("rest", MOST_BLOCKS, async || {
        let mut listed = stage.lab.hub().channels().await?;
        for wallet in stage.lab.wallets() {
            listed.extend(wallet.channels().await?);
        }
        let ends = |one: &pb::Channel| match one.phase() {
            pb::ChannelPhase::Open => one.htlcs == 0,
            phase => matches!(phase, pb::ChannelPhase::Closed | pb::ChannelPhase::Aborted),
        };
        Ok(match listed.iter().all(ends) {
            true => Look::Seen(()),
            false => Look::NotYet(regtest::lab::describe(&listed)),
        })
    });
    rest.await.unwrap();
}

/// Two open channels of a wallet, funded by either side and paid through, are void.
async fn open_channels_end(deaths: Deaths) {
    let stage = Stage::set_with(quick(), &["opener"]).await;
    // What was there before stays.
    stage.lab.mine(FINAL_DEPTH).await.unwrap();
    let before = worth(&stage.lab).await;
    let (opener, peer) = (Arc::clone(&stage.wallets[0]), Arc::clone(&stage.peer));
    let openings = [opening(&opener, Funder::Wallet), opening(&opener, Funder::Hub)];
    let channels = stage.lab.open(&openings).await.unwrap();
    let fundings = [stage.funding(&channels[0]).await, stage.funding(&channels[1]).await];
    opener.send(peer.node_key(), PAID_MSAT).await.unwrap();
    let back = peer.send(opener.node_key(), PAID_BACK_MSAT).await.unwrap();
    let flights = Flights {
        with_output: vec![
            Flight::start(&opener, &peer, IN_FLIGHT_MSAT, Fate::Refused).await,
            Flight::start(&peer, &opener, IN_FLIGHT_MSAT, Fate::Refused).await,
        ],
        trimmed: Vec::new(),
    };
    let mined = Mined::read(&stage.lab).await;
    let depth = mined.depth(&stage.lab, &fundings).await;
    let conflicts = vec![
        mined.conflict(&opener.seed_file(), fundings[0]),
        mined.conflict(&stage.lab.hub().seed_file(), fundings[1]),
    ];

    let story = Story::new(stage, Disturbance::Kill, &[]);
    replace(&story, deaths, depth, conflicts).await;
    let stage = story.stage;
    end_by_name(&stage, &opener, &channels).await;
    // What was offered to a void channel is back with its payer; what was offered by one, its payee gives up.
    flights.with_output[0].decide().await;
    until_seen("the end of both payments", SOON, async || flights.look_decided().await).await.unwrap();
    until_seen("nothing held", SOON, async || {
        let held = opener.held().await?;
        Ok(if held.is_empty() { Look::Seen(()) } else { Look::NotYet(format!("{held:?}")) })
    })
    .await
    .unwrap();
    at_rest(&stage).await;
    assert_coins_are_free(&stage.lab).await;

    let gained = PAID_MSAT.cast_signed() - (back.amount_msat + back.fee_msat).cast_signed();
    let fee = FEE.to_sat().cast_signed() * 1_000;
    let mut due = before;
    due[stage.party(&opener)] -= fee;
    due[stage.party(&peer)] += gained;
    // It paid on what the void channels owed it.
    due[stage.hub_party()] -= gained + fee;
    assert_eq!(worth(&stage.lab).await, due);

    // Everybody goes on.
    stage.lab.open(&openings).await.unwrap();
    opener.send(peer.node_key(), PAID_MSAT).await.unwrap();
    peer.send(opener.node_key(), PAID_BACK_MSAT).await.unwrap();
    stage.lab.quiet().await.unwrap();
    audit::channels(&stage.lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn open_channels_whose_fundings_are_double_spent_after_a_reorganisation_end_by_name_and_cost_what_was_in_them()
 {
    open_channels_end(Deaths::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_channels_whose_fundings_are_double_spent_end_the_same_when_everybody_is_killed_at_every_block()
{
    open_channels_end(Deaths::AtEveryBlock).await;
}

/// Waits until transactions that wait for a block spend all of these; gives them.
async fn spenders(stage: &Stage, outpoints: &[OutPoint]) -> BTreeSet<Txid> {
    stage.spent_in_mempool("the closes", outpoints).await.unwrap();
    let mut found = BTreeSet::new();
    for txid in stage.lab.chain().mempool().await.unwrap() {
        let transaction = stage.lab.chain().waiting(txid).await.unwrap();
        if transaction.input.iter().any(|input| outpoints.contains(&input.previous_output)) {
            found.insert(txid);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_whose_fundings_are_double_spent_end_by_name_and_what_shared_a_batch_with_them_closes() {
    let mut options = quick();
    options.hub.push("settlement.batch_wait_ms=3000".to_owned());
    let stage = Stage::set_with(options, &["forced", "shut", "survivor"]).await;
    stage.lab.mine(FINAL_DEPTH).await.unwrap();
    let before = worth(&stage.lab).await;
    let [forced, shut, survivor] = stage.wallets.clone().try_into().unwrap();
    let openings = [opening(&forced, Funder::Wallet), opening(&shut, Funder::Wallet)];
    let channels = stage.lab.open(&openings).await.unwrap();
    let fundings = [stage.funding(&channels[0]).await, stage.funding(&channels[1]).await];
    let survives = stage.funding(&stage.channels[2]).await;
    forced.send(stage.peer.node_key(), PAID_MSAT).await.unwrap();
    forced.force_close(&channels[0]).await.unwrap();
    shut.close(&channels[1]).await.unwrap();
    survivor.close(&stage.channels[2]).await.unwrap();
    let closes = spenders(&stage, &[fundings[1], survives]).await;
    assert_eq!(closes.len(), 1, "one batch");
    stage.spent_in_mempool("the commitment", &fundings[..1]).await.unwrap();
    stage.lab.mine(1).await.unwrap();
    let mined = Mined::read(&stage.lab).await;
    let depth = mined.depth(&stage.lab, &fundings).await;
    let conflicts = vec![
        mined.conflict(&forced.seed_file(), fundings[0]),
        mined.conflict(&shut.seed_file(), fundings[1]),
    ];

    let story = Story::new(stage, Disturbance::Kill, &[]);
    replace(&story, Deaths::None, depth, conflicts).await;
    let stage = story.stage;
    end_by_name(&stage, &forced, &channels[..1]).await;
    end_by_name(&stage, &shut, &channels[1..]).await;
    stage
        .pass_until("the end of what shared the batch", MOST_BLOCKS, async || {
            stage.look_closed(&stage.channels[2..]).await
        })
        .await
        .unwrap();
    at_rest(&stage).await;
    assert_coins_are_free(&stage.lab).await;
    let fee = FEE.to_sat().cast_signed() * 1_000;
    let after = worth(&stage.lab).await;
    for wallet in [&forced, &shut] {
        let party = stage.party(wallet);
        assert_eq!(after[party], before[party] - fee, "{}", wallet.name());
    }
    assert_eq!(after[stage.party(&stage.peer)], before[stage.party(&stage.peer)] + PAID_MSAT.cast_signed());
    // The survivor pays its agreed fee, the hub the batch.
    let lost = |party: usize| before[party] - after[party];
    assert!((0..2_000_000).contains(&lost(stage.party(&survivor))), "{before:?} {after:?}");
    let owed = PAID_MSAT.cast_signed();
    assert!((owed - 2_000_000..owed + 10_000_000).contains(&lost(stage.hub_party())), "{before:?} {after:?}");
    stage.lab.open(&openings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_funded_by_the_change_of_a_void_funding_ends_by_name_too() -> Result<(), LabError>
{
    let mut lab = Lab::start(quick()).await?;
    let opener = lab.add_wallet("opener").await?;
    let wallets = vec![Arc::clone(&opener)];
    lab.fund_wallets(&wallets, Amount::from_sat(3 * VOID_SAT)).await?;
    lab.mine(FINAL_DEPTH).await?;
    let before = worth(&lab).await;
    // There is one coin: the second channel is funded by what the first leaves.
    let mut channels = Vec::new();
    for _ in 0..2 {
        channels.push(opener.open(VOID_SAT).await?);
        until_seen("the funding in the mempool", SOON, async || {
            let waiting = lab.chain().mempool().await?;
            let all = waiting.len() == channels.len();
            Ok(if all { Look::Seen(()) } else { Look::NotYet(format!("{waiting:?}")) })
        })
        .await?;
    }
    lab.mine_until("both channels' readiness", async || {
        let listed = opener.channels().await?;
        let usable = listed.iter().filter(|channel| channel.usable).count();
        Ok(if usable == 2 { Look::Seen(()) } else { Look::NotYet(format!("{listed:?}")) })
    })
    .await?;
    let stage = Stage { lab, peer: Arc::clone(&opener), wallets, channels };
    let fundings = [stage.funding(&stage.channels[0]).await, stage.funding(&stage.channels[1]).await];
    let mined = Mined::read(&stage.lab).await;
    let depth = mined.depth(&stage.lab, &fundings).await;
    let conflict = mined.conflict(&opener.seed_file(), fundings[0]);

    let story = Story::new(stage, Disturbance::Kill, &[]);
    replace(&story, Deaths::AtEveryBlock, depth, vec![conflict]).await;
    let stage = story.stage;
    end_by_name(&stage, &opener, &stage.channels).await;
    assert_coins_are_free(&stage.lab).await;
    let fee = FEE.to_sat().cast_signed() * 1_000;
    let after = worth(&stage.lab).await;
    assert_eq!(after, [before[0] - fee, before[1]]);
    stage.lab.open(&[opening(&opener, Funder::Wallet), opening(&opener, Funder::Hub)]).await?;
    Ok(())
}
