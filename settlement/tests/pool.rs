//! The verification pool gives the same results as one thread, in order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bitcoin::Witness;
use channel::commitment::HtlcDirection::Received;
use common::onchain::{HEIGHT, build, channel, claim_job, htlc, two_htlcs};
use common::{KeyCoins, Shape, batch_job, hub, hub_script, request, ticket};
use settlement::batch::{BatchTicket, merge};
use settlement::claim::group;
use settlement::flaw::Flaw;
use settlement::limits;
use settlement::pool::{PoolError, VerifyPool};
use settlement::verify::{CloseJob, UnilateralJob};

/// A batch of `count` channels whose numbers start at `first`.
fn job(first: u32, count: u32) -> CloseJob {
    let shape = Shape { funding_sat: 100_000, balance_msat: 60_000_000, fee_sat: 300 };
    let tickets: Vec<BatchTicket> = (first..first + count).map(|number| ticket(number, shape)).collect();
    let (script, none) = (hub_script(), BTreeMap::new());
    let batch = merge(&request(&tickets, &[], &none, &script)).unwrap().batch;
    batch.sign(&hub(), &KeyCoins::new()).unwrap()
}

fn spoil(job: CloseJob, input: usize) -> CloseJob {
    let mut job = batch_job(&job).clone();
    job.transaction.input[input].witness = Witness::new();
    CloseJob::Batch(job)
}

fn pool(threads: usize) -> VerifyPool {
    VerifyPool::new(NonZeroUsize::new(threads)).unwrap()
}

#[test]
fn results_come_in_order_and_are_those_of_one_thread() {
    let mut jobs = Vec::new();
    for number in 0..20u32 {
        let job = job(number * 100, 1 + number);
        jobs.push(if number % 3 == 1 { spoil(job, (number / 2) as usize) } else { job });
    }
    let alone: Vec<_> = jobs.iter().cloned().map(CloseJob::verify).collect();
    for threads in [1, 2, 4] {
        assert_eq!(pool(threads).verify_all(jobs.clone()).unwrap(), alone);
    }
    assert_eq!(VerifyPool::inline().verify_all(jobs).unwrap(), alone);
}

/// One of every kind, each valid and with an element of a witness missing.
fn mixed_jobs() -> Vec<CloseJob> {
    let channel = channel(0);
    let mut jobs = vec![job(0, 2), spoil(job(10, 2), 1)];
    let claims = channel.penalties((0..40).map(|id| htlc(Received, id, 9_000)).collect());
    for group in group(&claims, HEIGHT) {
        let valid = build(&group, HEIGHT, &[]).job;
        let mut spoiled = claim_job(&valid).clone();
        spoiled.transaction.input.last_mut().unwrap().witness.clear();
        jobs.extend([valid, CloseJob::Claim(spoiled)]);
    }
    let valid = UnilateralJob::new(&channel.publish(two_htlcs()), None);
    let mut spoiled = valid.clone();
    spoiled.transaction.input[0].witness.clear();
    jobs.extend([valid, spoiled].map(|job| CloseJob::Unilateral(Box::new(job))));
    jobs
}

#[test]
fn closes_of_every_kind_share_the_pool_and_keep_their_order() {
    let jobs = mixed_jobs();
    let alone: Vec<_> = jobs.iter().cloned().map(CloseJob::verify).collect();
    for (number, outcome) in alone.iter().enumerate() {
        assert_eq!(outcome.is_ok(), number % 2 == 0, "{outcome:?}");
    }
    assert!(alone.len() > 6);
    for threads in [1, 2, 4] {
        assert_eq!(pool(threads).verify_all(jobs.clone()).unwrap(), alone);
    }
}

#[test]
fn the_first_flaw_of_a_large_batch_is_the_one_reported() {
    let spoiled = spoil(spoil(spoil(job(0, 120), 117), 40), 41);
    let pool = pool(4);
    for _ in 0..20 {
        let outcome = pool.verify_all(vec![spoiled.clone()]).unwrap().remove(0);
        assert_eq!(outcome, Err(Flaw::WitnessForm { index: 40, found: 0 }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_the_pool() {
    let pool = Arc::new(pool(2));
    let mut tasks = Vec::new();
    for number in 0..16u32 {
        let (pool, job) = (Arc::clone(&pool), job(number * 10, 3));
        tasks.push(tokio::spawn(async move { pool.verify(vec![job]).await.unwrap().remove(0).is_ok() }));
    }
    for task in tasks {
        assert!(task.await.unwrap());
    }
}

#[test]
fn more_than_may_wait_is_refused_at_once() {
    let pool = pool(1);
    let mut large = batch_job(&job(0, 1)).clone();
    let ticket = large.tickets[0].clone();
    large.tickets = vec![ticket; limits::VERIFY_QUEUE + 1];
    let error = pool.verify_all(vec![CloseJob::Batch(large)]).unwrap_err();
    let (more, limit) = (limits::VERIFY_QUEUE + 1, limits::VERIFY_QUEUE);
    assert_eq!(error, PoolError::Full { waiting: 0, more, limit });
    assert!(pool.verify_all(vec![job(0, 1)]).unwrap()[0].is_ok(), "the refusal left nothing behind");
}
