//! The steps of the story, in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bitcoin::Amount;
use futures_util::future::{join_all, try_join_all};
use proto::error::ErrorCode;
use proto::hub::v1::FailureReason;
use proto::wallet::v1 as pb;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;

use super::books::Books;
use super::progress::{Counter, Progress};
use super::table::{Party, Summary};
use crate::lab::{Funder, Lab, LabError, LabOptions, Opening, audit, pay_until_settled, stream_to_its_end};
use crate::wait::{Look, until_seen};

/// How large the story is.
#[derive(Debug, Clone)]
pub struct Story {
    /// Wallets, each with a channel it funds and one the hub funds.
    pub wallets: usize,
    /// Invoice payments between random wallets.
    pub payments: u64,
    /// Payments in flight at once.
    pub in_flight: usize,
    /// Wallets that stream to the first merchant; at most as many as there are wallets.
    pub streams: usize,
    /// Ticks of each stream.
    pub ticks: u64,
    /// Pace of each stream, so that the hub is killed while they run.
    pub ticks_per_second: u32,
    /// Chooses payers and payees.
    pub seed: u64,
}

impl Default for Story {
    fn default() -> Story {
        Story {
            wallets: 20,
            payments: 1_000,
            in_flight: 16,
            streams: 10,
            ticks: 1_000,
            ticks_per_second: 125,
            seed: 1,
        }
    }
}

/// Merchants: the first is streamed to, the second has too little liquidity for one payment.
const MERCHANTS: usize = 2;
const CAPACITY_SAT: u64 = 1_000_000;
const POOR_CAPACITY_SAT: u64 = 100_000;
/// Fits the payer's channel, not the second merchant's.
const TOO_MUCH_MSAT: u64 = 300_000_000;
/// With HTLC outputs, and without.
const AMOUNTS_MSAT: [u64; 2] = [10_000_000, 100_000];
const TICK_MSAT: u64 = 10_000;
/// All streams end in one channel, whose dust exposure they share.
const TICKS_IN_FLIGHT: u32 = 16;

/// Runs the whole story and gives what it came to.
///
/// # Errors
/// [`LabError::Broken`] names the promise that was broken; the others, what could not be done.
pub async fn tell(options: LabOptions, story: &Story, progress: &Progress) -> Result<Summary, LabError> {
    let started = Instant::now();
    progress.step("starting bitcoind and the hub");
    let coins = u32::try_from(story.wallets + MERCHANTS + 2).unwrap_or(u32::MAX);
    let hub_coins = (coins, Amount::from_sat(2 * CAPACITY_SAT));
    let mut lab = Lab::start(LabOptions { hub_coins, ..options }).await?;
    let mut told = Telling { story, progress, retries: AtomicU64::new(0) };
    let (mut summary, parties) = told.in_lab(&mut lab).await?;
    progress.step("stopping everything cleanly");
    try_join_all(lab.wallets().iter().map(|wallet| wallet.stop())).await?;
    lab.hub().stop().await?;
    progress.end_step();
    summary.parties = parties;
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

struct Telling<'a> {
    story: &'a Story,
    progress: &'a Progress,
    retries: AtomicU64,
}

impl Telling<'_> {
    async fn in_lab(&mut self, lab: &mut Lab) -> Result<(Summary, Vec<Party>), LabError> {
        let channels_opened = self.open_channels(lab).await?;
        let names: Vec<String> = lab.wallets().iter().map(|wallet| wallet.name().to_owned()).collect();
        let first = audit::channels(lab).await?;
        let before = Books::open(names.len(), &first);
        let books = Books::open(names.len(), &first);

        self.progress.step("a payment without liquidity, and an invoice paid twice");
        self.payment_without_liquidity(lab).await?;
        self.invoice_paid_twice(lab, &books).await?;
        let stream_ticks = self.payments_and_streams(lab, &books).await?;

        self.progress.step("comparing both ends of every channel, the books, and the chain");
        lab.quiet().await?;
        let channels = audit::channels(lab).await?;
        books.compare(&names, &channels)?;
        let lists = try_join_all(lab.wallets().iter().map(|wallet| wallet.payments())).await?;
        books.compare_lists(&names, &lists)?;
        let payments_failed = failed_for_good(&lists);
        if payments_failed != 1 {
            let text = format!("{payments_failed} payments failed for good");
            return Err(LabError::Broken(format!("only the payment without liquidity fails: {text}")));
        }

        self.progress.step(format!("closing {} channels by tickets", channels.len()));
        let (coins, height) = (audit::coins(lab).await?, lab.chain().height().await?);
        lab.close_all().await?;
        self.progress.step("looking for everybody's coins on the chain");
        let closes = audit::closes(lab, &channels, &coins, height).await?;
        if closes.txids.len() * 4 > channels.len() {
            let text =
                format!("{} channels were closed by {} transactions", channels.len(), closes.txids.len());
            return Err(LabError::Broken(format!("closes are batched: {text}")));
        }
        let mut parties: Vec<Party> = (0..names.len())
            .map(|place| Party {
                name: names[place].clone(),
                channels_before_msat: before.wallet_msat(place),
                channels_after_msat: books.wallet_msat(place),
                chain_before: coins.wallets[place],
                chain_after: closes.coins.wallets[place],
            })
            .collect();
        parties.push(Party {
            name: "hub".to_owned(),
            channels_before_msat: before.hub_msat(),
            channels_after_msat: books.hub_msat(),
            chain_before: coins.hub,
            chain_after: closes.coins.hub,
        });
        let summary = Summary {
            channels_opened,
            payments_settled: self.story.payments,
            payments_failed,
            stream_ticks,
            closes_confirmed: closes.channels.len(),
            closing_txids: closes.txids,
            conserved: true,
            parties: Vec::new(),
            confirmations: closes.confirmations,
            miner_fees: closes.fees,
            earned_msat: books.fees_msat(),
            retries: self.retries.load(Ordering::Relaxed),
            seconds: 0.0,
        };
        Ok((summary, parties))
    }

    async fn open_channels(&self, lab: &mut Lab) -> Result<usize, LabError> {
        let wallets = self.story.wallets;
        self.progress.step(format!("starting {wallets} wallets and {MERCHANTS} merchants"));
        let names = (1..=wallets).map(|number| format!("wallet-{number:02}"));
        let names = names.chain((1..=MERCHANTS).map(|number| format!("merchant-{number}")));
        let all = lab.add_wallets(names).await?;
        self.progress.step("sending every wallet a coin");
        lab.fund_wallets(&all[..wallets], Amount::from_sat(CAPACITY_SAT + CAPACITY_SAT / 10)).await?;
        let mut openings = Vec::new();
        for (place, wallet) in all.iter().enumerate() {
            let opening = |funder, capacity_sat| Opening { wallet: Arc::clone(wallet), funder, capacity_sat };
            if place < wallets {
                openings.push(opening(Funder::Wallet, CAPACITY_SAT));
            }
            let poor = place == wallets + 1;
            openings.push(opening(Funder::Hub, if poor { POOR_CAPACITY_SAT } else { CAPACITY_SAT }));
        }
        self.progress.step(format!("opening {} channels on the chain", openings.len()));
        Ok(lab.open(&openings).await?.len())
    }

    /// The payer has the coins; the hub has not enough in its channel to the payee.
    async fn payment_without_liquidity(&self, lab: &Lab) -> Result<(), LabError> {
        let (payer, payee) = (&lab.wallets()[0], &lab.wallets()[self.story.wallets + 1]);
        let invoice = payee.invoice(TOO_MUCH_MSAT, "more than the hub can pass on").await?;
        match payer.pay(&invoice).await {
            Err(error) if error.failure() == Some(FailureReason::NoLiquidity) => Ok(()),
            Err(error) => {
                Err(LabError::Broken(format!("a payment without liquidity fails for that reason: {error}")))
            }
            Ok(_) => Err(LabError::Broken("a payment without liquidity settled".to_owned())),
        }
    }

    /// The first payment is one of those the story counts.
    async fn invoice_paid_twice(&self, lab: &Lab, books: &Books) -> Result<(), LabError> {
        let (payer, payee) = (&lab.wallets()[0], &lab.wallets()[1]);
        let invoice = payee.invoice(AMOUNTS_MSAT[0], "paid twice").await?;
        let settled = pay_until_settled(payer, &invoice).await?;
        books.paid(0, 1, &settled.payment);
        match payer.pay(&invoice).await {
            Err(error) if error.code() == Some(ErrorCode::AlreadyPaid) => Ok(()),
            Err(error) => Err(LabError::Broken(format!("an invoice is paid once: {error}"))),
            Ok(_) => Err(LabError::Broken("an invoice was paid twice".to_owned())),
        }
    }

    /// Payments and streams at once, and in their midst the hub's death and return. Gives the ticks settled.
    async fn payments_and_streams(&self, lab: &Lab, books: &Books) -> Result<u64, LabError> {
        let story = self.story;
        self.progress.step("payments and streams; the hub is killed in their midst");
        let wanted_ticks = story.ticks * u64::try_from(story.streams).unwrap_or(0);
        let payments = self.progress.counter("payments", story.payments);
        // The invoice that was paid twice.
        payments.add(1);
        let ticks = self.progress.counter("ticks", wanted_ticks);
        let policy = lab.hub().info().await?.policy.unwrap_or_default();
        let fee = policy.fee_base_msat + TICK_MSAT * u64::from(policy.fee_ppm) / 1_000_000;
        let streaming = join_all((0..story.streams).map(|place| self.stream(lab, books, place, fee, &ticks)));
        let (paid, streamed, killed) = tokio::join!(
            self.payments(lab, books, &payments),
            streaming,
            self.kill_in_the_midst(lab, &payments, &ticks, wanted_ticks),
        );
        killed?;
        paid?;
        let streamed: u64 = streamed.into_iter().sum::<Result<u64, LabError>>()?;
        payments.finish();
        ticks.finish();
        if streamed != wanted_ticks {
            return Err(LabError::Broken(format!("{streamed} of {wanted_ticks} ticks settled")));
        }
        Ok(streamed)
    }

    async fn payments(&self, lab: &Lab, books: &Books, counter: &Counter) -> Result<(), LabError> {
        let mut random = StdRng::seed_from_u64(self.story.seed);
        let room = Semaphore::new(self.story.in_flight);
        let plan = (1..self.story.payments).map(|number| {
            let payer = random.gen_range(0..self.story.wallets);
            // Anybody else.
            let payee = (payer + random.gen_range(1..self.story.wallets)) % self.story.wallets;
            let amount = AMOUNTS_MSAT[usize::from(number % 2 == 0)];
            (payer, payee, amount)
        });
        let plan: Vec<_> = plan.collect();
        let paying = plan.into_iter().map(|(payer, payee, amount)| {
            let room = &room;
            async move {
                let _place = room.acquire().await.expect("the semaphore is never closed");
                let wallets = lab.wallets();
                let invoice = wallets[payee].invoice(amount, "a thing").await?;
                let settled = pay_until_settled(&wallets[payer], &invoice).await?;
                books.paid(payer, payee, &settled.payment);
                self.retries.fetch_add(u64::from(settled.retries), Ordering::Relaxed);
                counter.add(1);
                Ok::<(), LabError>(())
            }
        });
        try_join_all(paying).await?;
        Ok(())
    }

    async fn stream(
        &self,
        lab: &Lab,
        books: &Books,
        payer: usize,
        fee_msat: u64,
        counter: &Counter,
    ) -> Result<u64, LabError> {
        let payee = self.story.wallets;
        let (from, to) = (&lab.wallets()[payer], &lab.wallets()[payee]);
        let terms = pb::StartStreamRequest {
            payee: to.node_key().clone(),
            amount_msat: TICK_MSAT,
            ticks: self.story.ticks,
            ticks_per_second: self.story.ticks_per_second,
            max_in_flight: TICKS_IN_FLIGHT,
            request_id: String::new(),
        };
        let mut counted = 0;
        let end = stream_to_its_end(from, terms, |step| {
            counter.add(step.settled.saturating_sub(counted));
            counted = counted.max(step.settled);
        })
        .await?;
        if end.state() != pb::StreamState::Ended || end.settled != self.story.ticks {
            return Err(LabError::Broken(format!(
                "the stream of {} ended {:?} with {} of {} ticks: {}",
                from.name(),
                end.state(),
                end.settled,
                self.story.ticks,
                end.text
            )));
        }
        books.streamed(payer, payee, &end, fee_msat);
        Ok(end.settled)
    }

    /// When a third of the payments settled and streams run, SIGKILL; and at once the next life on the same data.
    async fn kill_in_the_midst(
        &self,
        lab: &Lab,
        payments: &Counter,
        ticks: &Counter,
        wanted_ticks: u64,
    ) -> Result<(), LabError> {
        until_seen("the midst of the payments", crate::limits::SETTLE_WITHIN, async || {
            let (paid, ticked) = (payments.value(), ticks.value());
            Ok(match paid * 3 >= self.story.payments && ticked > 0 {
                true => Look::Seen(()),
                false => Look::NotYet(format!("{paid} payments, {ticked} ticks")),
            })
        })
        .await?;
        if payments.value() >= self.story.payments || ticks.value() >= wanted_ticks {
            return Err(LabError::Broken(
                "the payments or streams were over before the hub was killed".to_owned(),
            ));
        }
        lab.hub().kill()?;
        let text =
            format!("hub killed (SIGKILL) after {} payments and {} ticks", payments.value(), ticks.value());
        self.progress.say(&text);
        lab.hub().start_again().await?;
        self.progress.say("hub serves again, on the same data");
        Ok(())
    }
}

/// Payments that failed and were not made again with success, by the payers' own lists. What was refused is no payment.
fn failed_for_good(lists: &[Vec<pb::Payment>]) -> u64 {
    let sent = || lists.iter().flatten().filter(|payment| payment.direction() == pb::PaymentDirection::Sent);
    let of = |state: pb::PaymentState| -> BTreeSet<&[u8]> {
        sent().filter(|payment| payment.state() == state).map(|payment| &payment.payment_hash[..]).collect()
    };
    let (failed, settled) = (of(pb::PaymentState::Failed), of(pb::PaymentState::Settled));
    u64::try_from(failed.difference(&settled).count()).unwrap_or(u64::MAX)
}
