//! Micropayments, settled end to end: from wallets, through the hub, to other wallets, over gRPC and TLS, every one durable at
//! all three, with the default limits. Each paying wallet streams to one paid wallet, as fast as its window allows.
//!
//! Everything is counted between two looks at the counters of all processes, after a warm-up. A payment counts when its payer
//! has the preimage; how long it took is measured there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Amount;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use proto::hub::v1 as hub_pb;
use proto::tick_times::longest_us;
use proto::wallet::v1 as pb;
use serde::Serialize;

use super::process::Used;
use super::raw::RawCosts;
use crate::demo::Progress;
use crate::lab::{Funder, Lab, LabError, LabOptions, Opening, Wallet, audit};
use crate::limits::SETTLE_WITHIN;
use crate::wait::{Look, until_seen};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Load {
    /// Channels at the hub; half of them pay, half are paid. An even number.
    pub channels: usize,
    /// Payments in flight in each channel that pays.
    pub in_flight: u32,
    /// What each payment is worth to its payee.
    pub amount_msat: u64,
    /// How long is measured, after the warm-up.
    pub seconds: u64,
}

/// The figures; serialises to the object that scripts read.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Settled in a second, all wallets together.
    pub payments_per_s: f64,
    /// From the moment the payer sent a payment until it had the preimage, in milliseconds.
    pub latency_ms: Latency,
    /// Processor time of the hub for each payment, in microseconds.
    pub hub_cpu_us_per_payment: f64,
    /// Processor time of both wallets for each payment, in microseconds.
    pub wallet_cpu_us_per_payment: f64,
    /// Bytes of the hub's inputs for each payment.
    pub journal_bytes_per_payment: f64,
    /// Bytes the hub caused to be written to the disk for each payment.
    pub disk_bytes_per_payment: f64,
    /// The hub's fsyncs for each payment.
    pub fsyncs_per_payment: f64,
    /// The machine's raw costs in microseconds, timed in the same run.
    pub raw_us: RawCosts,
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Half of all payments were at least as fast.
    pub p50: f64,
    /// All but one in a hundred were.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// Streams reach their full speed, and caches fill.
const WARM_UP: Duration = Duration::from_secs(3);

/// More than any machine settles in a second; channels get the coins for as many.
const MOST_PER_SECOND: u64 = 400_000;

/// The default policy's largest channel.
const MOST_CAPACITY_SAT: u64 = 1_000_000_000;

/// Runs hub and wallets, and measures.
///
/// # Errors
/// [`LabError`]; [`LabError::Broken`] when balances do not add up afterwards.
pub async fn measure(options: LabOptions, load: &Load, progress: &Progress) -> Result<Figures, LabError> {
    let pairs = load.channels / 2;
    let capacity_sat = capacity_sat(load, pairs);
    progress.step("starting bitcoind and the hub");
    let coin = Amount::from_sat(capacity_sat + 100_000);
    let pairs_u32 = u32::try_from(pairs).unwrap_or(u32::MAX);
    let options = LabOptions {
        hub: vec![
            // How much of its coins the hub lends is no limit of payments.
            format!("inbound.max_channel_sat={MOST_CAPACITY_SAT}"),
            format!("inbound.max_sat_per_wallet={MOST_CAPACITY_SAT}"),
        ],
        hub_coins: (pairs_u32 + 1, coin),
        miner_coins: coinbases(pairs_u32, coin),
        ..options
    };
    let mut lab = Lab::start(options).await?;
    progress.step("timing the machine's raw costs");
    let raw_us = raw_costs(&lab).await?;
    progress.step(format!("opening {} channels of {pairs} payers and {pairs} payees", pairs * 2));
    let pairs = open(&mut lab, pairs, coin, capacity_sat).await?;
    progress.step("warming up");
    let mut streams = Vec::new();
    for (payer, payee) in &pairs {
        streams.push(start_stream(payer, payee, load, capacity_sat).await?);
    }
    breathe(WARM_UP, &lab).await?;
    progress.step(format!("measuring for {} s", load.seconds));
    let first = Reading::take(&lab, &pairs).await?;
    breathe(Duration::from_secs(load.seconds), &lab).await?;
    let second = Reading::take(&lab, &pairs).await?;
    progress.step("adding up every channel");
    audit::sums(&lab).await?;
    drop(streams);
    progress.end_step();
    figures(&first, &second, raw_us)
}

/// Room for all that could be paid in the time.
fn capacity_sat(load: &Load, pairs: usize) -> u64 {
    let seconds = load.seconds.saturating_add(WARM_UP.as_secs() + 5);
    let payments = MOST_PER_SECOND.saturating_mul(seconds) / u64::try_from(pairs.max(1)).unwrap_or(1);
    let sat = payments.saturating_mul(load.amount_msat) / 1_000;
    sat.clamp(1_000_000, MOST_CAPACITY_SAT)
}

/// Coinbases of 50 bitcoins that pay one coin for each payer and each payee.
fn coinbases(pairs: u32, coin: Amount) -> u32 {
    let sat = coin.to_sat().saturating_mul(u64::from(pairs) * 2 + 2);
    u32::try_from(sat / 5_000_000_000).unwrap_or(u32::MAX).saturating_add(3)
}

async fn raw_costs(lab: &Lab) -> Result<RawCosts, LabError> {
    let folder = lab.folder().to_owned();
    let costs = tokio::task::spawn_blocking(move || RawCosts::measure(&folder)).await;
    costs.expect("timing does not panic").map_err(LabError::system("time an fsync"))
}

type Pair = (Arc<Wallet>, Arc<Wallet>);

async fn open(lab: &mut Lab, pairs: usize, coin: Amount, capacity_sat: u64) -> Result<Vec<Pair>, LabError> {
    let payers = lab.add_wallets((1..=pairs).map(|number| format!("payer-{number}"))).await?;
    let payees = lab.add_wallets((1..=pairs).map(|number| format!("payee-{number}"))).await?;
    lab.fund_wallets(&payers, coin).await?;
    let opening = |wallet: &Arc<Wallet>, funder| Opening { wallet: Arc::clone(wallet), funder, capacity_sat };
    let openings = payers.iter().map(|wallet| opening(wallet, Funder::Wallet));
    let openings: Vec<_> = openings.chain(payees.iter().map(|wallet| opening(wallet, Funder::Hub))).collect();
    lab.open(&openings).await?;
    Ok(payers.into_iter().zip(payees).collect())
}

/// The stream ends when the channel is used up, which is after the measurement.
async fn start_stream(
    payer: &Wallet,
    payee: &Wallet,
    load: &Load,
    capacity_sat: u64,
) -> Result<tonic::Streaming<pb::StreamProgress>, LabError> {
    // A fiftieth stays for reserves and fees.
    let ticks = capacity_sat.saturating_mul(980) / load.amount_msat.max(1);
    let terms = pb::StartStreamRequest {
        payee: payee.node_key().clone(),
        amount_msat: load.amount_msat,
        ticks: ticks.clamp(1, 1_000_000_000),
        ticks_per_second: 0,
        max_in_flight: load.in_flight,
        request_id: crate::lab::request_id().to_string(),
    };
    let mut stream = payer.stream(terms).await?;
    until_seen(&format!("the stream of {}", payer.name()), SETTLE_WITHIN, async || {
        let step = stream.message().await.map_err(payer.refused("StartStream"))?;
        let step = step.ok_or_else(|| LabError::Broken(format!("the stream of {} ended", payer.name())))?;
        Ok(match step.state() {
            pb::StreamState::Running => Look::Seen(()),
            state => Look::NotYet(format!("{state:?}: {}", step.text)),
        })
    })
    .await?;
    Ok(stream)
}

/// Lets time pass, and gives an error at once when a process ends.
async fn breathe(time: Duration, lab: &Lab) -> Result<(), LabError> {
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        lab.hub().daemon().expect_running()?;
        for wallet in lab.wallets() {
            wallet.daemon().expect_running()?;
        }
        let next = tokio::time::Instant::now() + Duration::from_millis(100);
        tokio::time::sleep_until(next.min(end)).await;
    }
    Ok(())
}

/// All counters at about one moment.
struct Reading {
    payers: Vec<(Instant, pb::StreamProgress)>,
    journal: hub_pb::JournalStats,
    hub: Used,
    wallets: Used,
}

impl Reading {
    async fn take(lab: &Lab, pairs: &[Pair]) -> Result<Reading, LabError> {
        let payers = try_join_all(pairs.iter().map(|(payer, _)| read_stream(payer))).await?;
        let journal = lab.hub().info().await?.journal.unwrap_or_default();
        let hub = used(lab.hub().daemon().id())?;
        let mut wallets = Used::default();
        for wallet in lab.wallets() {
            let one = used(wallet.daemon().id())?;
            wallets.cpu_us += one.cpu_us;
            wallets.written_bytes += one.written_bytes;
        }
        Ok(Reading { payers, journal, hub, wallets })
    }
}

fn used(id: Option<u32>) -> Result<Used, LabError> {
    let id = id.ok_or_else(|| LabError::NotRunning { name: "a process".to_owned() })?;
    Used::read(id).map_err(LabError::system(format!("read /proc/{id}")))
}

async fn read_stream(payer: &Wallet) -> Result<(Instant, pb::StreamProgress), LabError> {
    let request = pb::ListStreamsRequest { page_size: 1, page_token: String::new() };
    let answer = payer.client()?.list_streams(request).await.map_err(payer.refused("ListStreams"))?;
    let stream = answer.into_inner().streams.into_iter().next();
    let stream = stream.ok_or_else(|| LabError::Broken(format!("{} lists no stream", payer.name())))?;
    if stream.state() != pb::StreamState::Running {
        let text = format!("the stream of {} is {:?}: {}", payer.name(), stream.state(), stream.text);
        return Err(LabError::Broken(text));
    }
    Ok((Instant::now(), stream))
}

fn figures(first: &Reading, second: &Reading, raw_us: RawCosts) -> Result<Figures, LabError> {
    let mut payments = 0_u64;
    let mut payments_per_s = 0.0;
    let mut times = Histogram::<u64>::new_with_max(1 << 40, 3).expect("these bounds are valid");
    for ((from, before), (to, after)) in first.payers.iter().zip(&second.payers) {
        let settled = after.settled.saturating_sub(before.settled);
        payments += settled;
        payments_per_s += as_f64(settled) / to.duration_since(*from).as_secs_f64();
        let earlier = before.times.clone().unwrap_or_default().counts;
        for (bucket, count) in after.times.clone().unwrap_or_default().counts.into_iter().enumerate() {
            let count = count.saturating_sub(earlier.get(bucket).copied().unwrap_or(0));
            times.saturating_record_n(longest_us(bucket), count);
        }
    }
    if payments == 0 {
        return Err(LabError::Broken("no payment settled while it was measured".to_owned()));
    }
    let per_payment = |sum: u64| as_f64(sum) / as_f64(payments);
    let (hub, wallets) = (second.hub.since(first.hub), second.wallets.since(first.wallets));
    let journal = |read: fn(&hub_pb::JournalStats) -> u64| {
        per_payment(read(&second.journal).saturating_sub(read(&first.journal)))
    };
    let ms = |us: u64| as_f64(us) / 1_000.0;
    Ok(Figures {
        payments_per_s,
        latency_ms: Latency {
            p50: ms(times.value_at_quantile(0.5)),
            p99: ms(times.value_at_quantile(0.99)),
            max: ms(times.max()),
        },
        hub_cpu_us_per_payment: per_payment(hub.cpu_us),
        wallet_cpu_us_per_payment: per_payment(wallets.cpu_us),
        journal_bytes_per_payment: journal(|stats| stats.input_bytes),
        disk_bytes_per_payment: per_payment(hub.written_bytes),
        fsyncs_per_payment: journal(|stats| stats.commits),
        raw_us,
    })
}

/// Counts here are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

impl Figures {
    /// For people.
    pub fn table(&self) -> String {
        let raw = &self.raw_us;
        let rows = [
            ("payments settled a second", self.payments_per_s, ""),
            ("latency, half", self.latency_ms.p50, "ms"),
            ("latency, 99 of 100", self.latency_ms.p99, "ms"),
            ("latency, slowest", self.latency_ms.max, "ms"),
            ("hub's CPU a payment", self.hub_cpu_us_per_payment, "us"),
            ("wallets' CPU a payment, both ends", self.wallet_cpu_us_per_payment, "us"),
            ("hub's inputs a payment", self.journal_bytes_per_payment, "bytes"),
            ("hub's disk writes a payment", self.disk_bytes_per_payment, "bytes"),
            ("hub's fsyncs a payment", self.fsyncs_per_payment, ""),
            ("raw: ECDSA verify", raw.verify, "us"),
            ("raw: ECDSA sign", raw.sign, "us"),
            ("raw: base-point multiplication", raw.base_mult, "us"),
            ("raw: point tweak-multiply", raw.tweak_mul, "us"),
            ("raw: point tweak-add", raw.tweak_add, "us"),
            ("raw: SHA-256 of 32 bytes", raw.sha256, "us"),
            ("raw: append and fsync", raw.fsync, "us"),
        ];
        rows.iter().map(|(what, value, unit)| format!("{what:<36} {:>14} {unit}\n", short(*value))).collect()
    }
}

/// As many digits as mean something.
fn short(value: f64) -> String {
    match value {
        value if value >= 1_000.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.4}"),
    }
}
