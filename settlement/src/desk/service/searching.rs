//! What is looked for in the past: fundings in blocks, and balances in the node's set of unspent outputs. Both in the
//! background: bitcoind may take its time, and the desk has other things to do.

use bitcoin::Script;
use channel::ids::OwnerId;
use tokio::sync::oneshot;

use super::handle::Ask;
use super::{DeskHost, DeskService};
use crate::desk::lookback::LookBack;
use crate::desk::{Scan, ScanError};
use crate::follow::BlockSource;
use crate::limits;
use crate::rpc::{MempoolCounts, RpcClient, RpcError};

impl<H: DeskHost, S: BlockSource> DeskService<H, S> {
    /// Reads blocks up to the node's tip, and says so to the desk.
    pub(super) fn search(&self, mut look: Box<LookBack>) {
        let Some(asks) = self.own_asks.upgrade() else { return };
        let rpc = self.rpc.clone();
        tokio::spawn(async move {
            loop {
                match read_on(&rpc, &mut look).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!(%error, "bitcoind cannot be used, a funding is looked for later");
                        tokio::time::sleep(limits::RETRY_MAX).await;
                    }
                }
            }
            // The desk may need a moment for the same block.
            tokio::time::sleep(limits::SETTLE_WAIT).await;
            // A desk that ended is a process that is stopping: the next start looks again.
            let _ = asks.send(Ask::LookedBack(look));
        });
    }

    pub(super) fn scan(&self, owner: OwnerId, answer: oneshot::Sender<Result<Scan, ScanError>>) {
        let Some(asks) = self.own_asks.upgrade() else { return };
        let (rpc, scripts) = (self.rpc.clone(), self.desk.payment_scripts());
        tokio::spawn(async move {
            let scripts: Vec<&Script> = scripts.iter().map(|script| script.as_script()).collect();
            match rpc.scan_tx_out_set(&scripts).await {
                Ok(found) if found.success => {
                    let _ = asks.send(Ask::Scanned { owner, found: Box::new(found), answer });
                }
                Ok(_) => drop(answer.send(Err(ScanError::Aborted))),
                Err(error) => drop(answer.send(Err(error.into()))),
            }
        });
    }
}

/// Reads from where the search stands to the node's tip.
async fn read_on(rpc: &RpcClient, look: &mut LookBack) -> Result<(), RpcError> {
    if look.at().is_none()
        && let Some(unspent) = rpc.get_tx_out(look.outpoint(), MempoolCounts::No).await?
    {
        // The node knows how deep it is. Some blocks more, should the chain change meanwhile.
        let tip = rpc.get_blockchain_info().await?.blocks;
        look.skip_to(tip.saturating_sub(unspent.confirmations).saturating_sub(limits::LOOK_BACK_MARGIN));
    }
    let ahead = u32::try_from(limits::BLOCKS_AHEAD).unwrap_or(1);
    loop {
        let start = look.at().map_or(look.next_height(), |at| at.height);
        let end = look.next_height().saturating_add(ahead);
        let mut hashes = rpc.get_block_hashes(start..end).await?;
        if let Some(at) = look.at() {
            if hashes.first() != Some(&at.hash) {
                look.restart();
                continue;
            }
            hashes.remove(0);
        }
        if hashes.is_empty() {
            return Ok(());
        }
        for hash in hashes {
            let block = rpc.get_block(hash).await?;
            if !look.connect(hash, &block) {
                look.restart();
                break;
            }
        }
    }
}
