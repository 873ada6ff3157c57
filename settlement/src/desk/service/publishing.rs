//! What leaves for bitcoind, and what is looked for there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid};
use channel::ids::OwnerId;
use tokio::sync::mpsc;

use super::{DeskHost, DeskService};
use crate::broadcast::{Broadcaster, PublishError, Publishable, Published};
use crate::desk::{Broadcast, DeskReport};
use crate::follow::BlockSource;
use crate::rpc::{RpcClient, RpcError};

/// Transactions of the mempool, and whom they concern.
pub(super) type Sightings = Vec<(OwnerId, Transaction)>;

/// What an outcome leaves to be broadcast once it is durable. The desk lists it as on its way from then on: dropped, it would never
/// be sent.
#[must_use = "the desk counts on its being broadcast"]
#[derive(Default)]
pub(super) struct ToBroadcast(pub(super) Vec<Broadcast>);

impl ToBroadcast {
    /// Both, in this order.
    pub(super) fn and(mut self, mut after: Self) -> Self {
        self.0.append(&mut after.0);
        self
    }
}

impl<H: DeskHost, S: BlockSource> DeskService<H, S> {
    /// Broadcasts in the background: bitcoind may be slow or away, and the desk has other things to do.
    pub(super) fn broadcast(&self, broadcasts: ToBroadcast, results: &Results) {
        for broadcast in broadcasts.0 {
            let (broadcaster, results) = (Arc::clone(&self.broadcaster), results.clone());
            match broadcast {
                Broadcast::Confirmed(txid) => broadcaster.confirmed(txid),
                Broadcast::Undone(txid) => broadcaster.undone(txid),
                Broadcast::Forget(txid) => broadcaster.forget(txid),
                Broadcast::Funding(what) => publish(broadcaster, what, results),
                Broadcast::Close(what) => publish(broadcaster, what, results),
                Broadcast::Package(what) => publish(broadcaster, what, results),
                Broadcast::HandedOver(what) => publish(broadcaster, what, results),
                Broadcast::Returned(what) => publish(broadcaster, what, results),
            }
        }
    }

    /// Sends again what is in no block yet: nodes forget.
    pub(super) fn resubmit(&self, results: &Results) {
        if self.broadcaster.pending().is_empty() {
            return;
        }
        let (broadcaster, results) = (Arc::clone(&self.broadcaster), results.clone());
        tokio::spawn(async move {
            // bitcoind being away is shown by the follower's status; the next block brings the next attempt.
            for (txid, result) in broadcaster.resubmit().await.unwrap_or_default() {
                if result.is_err() {
                    let _ = results.send((txid, result));
                }
            }
        });
    }

    pub(super) fn note(&mut self, txid: Txid, result: &Result<Published, PublishError>) {
        self.desk.note_published(txid, result);
        self.host.report(match result {
            Ok(_) => DeskReport::Published { txid },
            Err(error) => DeskReport::PublishRefused { txid, why: error.to_string() },
        });
    }

    /// Looks through the mempool for spends of what is watched, in the background; what is found comes to `found`.
    pub(super) fn search_mempool(&self, found: &mpsc::UnboundedSender<Sightings>) {
        let watches = self.desk.mempool_watches();
        if watches.is_empty() {
            return;
        }
        let (rpc, found) = (self.rpc.clone(), found.clone());
        tokio::spawn(async move {
            // bitcoind being away is shown by the follower's status; the next block brings the next search.
            if let Ok(seen) = search(&rpc, watches).await
                && !seen.is_empty()
            {
                let _ = found.send(seen);
            }
        });
    }
}

async fn search(rpc: &RpcClient, watches: Vec<(OwnerId, OutPoint)>) -> Result<Sightings, RpcError> {
    let outpoints: Vec<OutPoint> = watches.iter().map(|(_, outpoint)| *outpoint).collect();
    let spenders = rpc.get_mempool_spenders(&outpoints).await?;
    let mut concerned: BTreeMap<Txid, BTreeSet<OwnerId>> = BTreeMap::new();
    for ((owner, _), spender) in watches.into_iter().zip(spenders) {
        if let Some(txid) = spender {
            concerned.entry(txid).or_default().insert(owner);
        }
    }
    let txids: Vec<Txid> = concerned.keys().copied().collect();
    let mut seen = Vec::new();
    for transaction in rpc.get_mempool_transactions(&txids).await? {
        let owners = concerned.remove(&transaction.compute_txid()).unwrap_or_default();
        seen.extend(owners.into_iter().map(|owner| (owner, transaction.clone())));
    }
    Ok(seen)
}

/// What became of what was sent.
pub(super) type Results = mpsc::UnboundedSender<(Txid, Result<Published, PublishError>)>;

fn publish<P: Publishable + Send + Sync + 'static>(
    broadcaster: Arc<Broadcaster<RpcClient>>,
    what: P,
    results: Results,
) {
    // Now, and not when the task comes to it: it may be confirmed or forgotten by then.
    let kept = broadcaster.keep(&what);
    tokio::spawn(async move {
        let result = match kept {
            Ok(()) => broadcaster.send(&what).await,
            Err(error) => Err(error),
        };
        let _ = results.send((what.txid(), result));
    });
}
