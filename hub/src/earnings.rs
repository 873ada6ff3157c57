//! Fees earned, prices of channels included: a running sum over the events, remembered by the registry so that trimmed events stay counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use channel::effect::Report;
use daemon::rising::Rising;
use journal::{EventsError, Reader};
use shard::Happening;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::blocking::blocking;
use crate::control::ControlMail;
use crate::events::Event;
use crate::limits::EVENTS_A_READ;
use crate::mailboxes::Mailboxes;

/// How often the sum is journaled; what lies between is counted again after a crash.
const REMEMBER_INTERVAL: Duration = Duration::from_secs(10);

/// The sum.
#[derive(Debug, Default)]
pub struct Earnings {
    total_msat: AtomicU64,
}

impl Earnings {
    /// Fees of all forwards that were paid for good since the journal was made, and what wallets paid for channels, in msat.
    pub fn total_msat(&self) -> u64 {
        self.total_msat.load(Ordering::Relaxed)
    }
}

/// Sums from `(total, next_event)` on, for as long as the journal works.
pub async fn sum_fees(
    earnings: Arc<Earnings>,
    remembered: (u64, u64),
    reader: Reader,
    next_event: Rising<u64>,
    mailboxes: Mailboxes,
) {
    let (mut total, next) = remembered;
    let mut index = next.max(1);
    let (mut told, mut told_at) = (total, Instant::now());
    earnings.total_msat.store(total, Ordering::Relaxed);
    loop {
        if next_event.above(index).await.is_err() {
            return;
        }
        let events = {
            let reader = reader.clone();
            blocking(move || reader.events_from(index, EVENTS_A_READ)).await
        };
        match events {
            Ok(Ok(events)) => {
                for (at, bytes) in events {
                    total = total.saturating_add(Event::decode(&bytes).map_or(0, |event| fee_of(&event)));
                    index = at + 1;
                }
            }
            Ok(Err(EventsError::TooOld { oldest })) => {
                warn!(index, oldest, "events were removed before their fees were summed");
                index = oldest;
            }
            Ok(Err(EventsError::Ahead { next })) => index = next,
            Ok(Err(EventsError::Read(error))) => {
                error!(%error, "fees are not summed any more");
                return;
            }
            Err(_) => return,
        }
        earnings.total_msat.store(total, Ordering::Relaxed);
        if total != told && told_at.elapsed() >= REMEMBER_INTERVAL {
            mailboxes.control(ControlMail::Earned { next_event: index, total_msat: total });
            (told, told_at) = (total, Instant::now());
        }
    }
}

fn fee_of(event: &Event) -> u64 {
    let Event::Channel(record) = event else { return 0 };
    match &record.what {
        Happening::Report(Report::ForwardSettled { fee_msat, .. })
        | Happening::StreamSettled { fee_msat, .. } => fee_msat.to_u64(),
        // Nobody pays this hub but wallets for whose channels it paid.
        Happening::Report(Report::PricePaid { amount_msat, .. }) => amount_msat.to_u64(),
        Happening::Report(_)
        | Happening::StreamReceived { .. }
        | Happening::StreamFailed { .. }
        | Happening::ForwardsFailed { .. } => 0,
    }
}
