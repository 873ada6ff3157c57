//! The demo in small, and what it promises to scripts.

use regtest::demo::{Progress, Story, tell};

use crate::support::options;

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_in_small_keeps_every_promise() {
    let story = Story {
        wallets: 4,
        payments: 60,
        in_flight: 6,
        streams: 2,
        ticks: 150,
        ticks_per_second: 20,
        seed: 7,
    };
    let summary = tell(options(), &story, &Progress::hidden()).await.unwrap();
    assert_eq!(summary.channels_opened, 10);
    assert_eq!(summary.payments_settled, 60);
    assert_eq!(summary.payments_failed, 1);
    assert_eq!(summary.stream_ticks, 300);
    assert_eq!(summary.closes_confirmed, 10);
    assert!((1..=2).contains(&summary.closing_txids.len()), "{:?}", summary.closing_txids);
    assert!(summary.conserved);
}
