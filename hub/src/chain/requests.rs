//! What channels ask of the chain, passed on to the desk; closing terms are named here.

use bitcoin::{FeeRate, TxOut, Weight};
use channel::closing::ClosingTerms;
use channel::event::Command;
use channel::ids::{OwnerId, SessionId};
use channel::keys::Point;
use proto::frame::InboundRequest;
use settlement::desk::DeskRequest;
use settlement::desk::service::DeskHandle;
use settlement::fees::{FeeBounds, FeeEstimator, fee_for};
use settlement::limits::{FEE_TARGET_BLOCKS, FEERATE_FALLBACK};
use settlement::rpc::RpcClient;
use shard::{ChainRequest, Mail};
use tokio::sync::mpsc;
use tracing::error;

use crate::control::ControlMail;
use crate::limits::CLOSING_VBYTES;
use crate::mailboxes::Mailboxes;

/// What shards hand to the chain's side.
#[derive(Debug)]
pub enum ToDesk {
    Request(OwnerId, ChainRequest),
    /// The channel ended, durably.
    Forget(OwnerId),
    /// Tell the control thread what the coins allow, for this wallet's request.
    Funds {
        session: SessionId,
        node: Point,
        request: InboundRequest,
    },
}

/// How closing terms are made.
pub struct Terms {
    pub rpc: RpcClient,
    pub fees: FeeBounds,
    pub publish_within_blocks: u32,
}

/// Passes requests on until everybody who asks is gone.
pub async fn forward_requests(
    mut requests: mpsc::UnboundedReceiver<ToDesk>,
    desk: DeskHandle,
    mailboxes: Mailboxes,
    terms: Terms,
) {
    let mut estimator = FeeEstimator::new(terms.fees, FEERATE_FALLBACK);
    while let Some(asked) = requests.recv().await {
        let (owner, request) = match asked {
            ToDesk::Request(owner, request) => (owner, request),
            ToDesk::Forget(owner) => {
                desk.request(owner, DeskRequest::Forget);
                continue;
            }
            ToDesk::Funds { session, node, request } => {
                let (desk, mailboxes) = (desk.clone(), mailboxes.clone());
                tokio::spawn(async move {
                    let spendable = desk.summary().await.ok().map(|summary| summary.spendable);
                    mailboxes.control(ControlMail::Funds { session, node, request, spendable });
                });
                continue;
            }
        };
        match request {
            ChainRequest::BuildFunding { script, amount, reserve_coin } => {
                let output = TxOut { value: amount, script_pubkey: script };
                desk.request(owner, DeskRequest::BuildFunding { output, reserve_coin });
            }
            ChainRequest::WatchFunding { outpoint, script, amount, minimum_depth } => {
                let output = TxOut { value: amount, script_pubkey: script };
                desk.request(owner, DeskRequest::WatchFunding { outpoint, output, minimum_depth });
            }
            ChainRequest::BroadcastFunding { transaction } => {
                desk.request(owner, DeskRequest::BroadcastFunding { transaction });
            }
            ChainRequest::ReleaseCoins { transaction } => {
                desk.request(owner, DeskRequest::ReleaseCoins { transaction });
            }
            ChainRequest::TicketReady(ticket) => desk.request(owner, DeskRequest::TicketReady(ticket)),
            ChainRequest::ClosingTerms => {
                // While bitcoind cannot say, the batch is not published either. Nobody behind in this queue waits for it twice.
                let feerate = estimator.estimate_or_last(&terms.rpc, FEE_TARGET_BLOCKS).await;
                let command = Command::ProposeTerms(closing_terms(feerate, *desk.heights().borrow(), &terms));
                mailboxes.owner(owner, Mail::Command { owner, command, reply: None });
            }
            ChainRequest::ClosingHandedOver { .. } => {
                error!(owner = owner.0, "a hub's channel was handed a closing transaction: only wallets are");
            }
            ChainRequest::ProvenBehind => desk.suspend(owner),
            ChainRequest::Plan(plan) => desk.request(owner, DeskRequest::Plan(plan)),
        }
    }
}

fn closing_terms(feerate: FeeRate, height: u32, terms: &Terms) -> ClosingTerms {
    let weight = Weight::from_vb(CLOSING_VBYTES).unwrap_or(Weight::MAX);
    ClosingTerms {
        fee: fee_for(feerate, weight),
        publish_by_height: height.saturating_add(terms.publish_within_blocks),
    }
}
