//! Channels: opening, listing, closing; balances.

use std::collections::BTreeSet;

use bitcoin::Amount;
use bytes::Bytes;
use channel::amount::Msat;
use channel::channel::{ChannelView, PhaseView};
use channel::event::{Command, FailRequest};
use channel::ids::{ChannelId, OwnerId};
use proto::error::{ErrorCode, ErrorDetail, detail, from_detail, status, status_with_advice};
use proto::fields::{bytes, channel_id, outpoint_out, txid_out};
use proto::frame::InboundRequest;
use proto::hub::v1 as hub;
use proto::view::online_again_by;
use proto::wallet::v1 as pb;
use settlement::desk::DeskRequest;
use settlement::follow::FollowStatus;
use shard::{Answer, Query, Refused};
use tonic::Status;

use super::onchain::reserve_out;
use super::{HUB_PATIENCE, Service, refused, stopping, wrong_field};
use crate::core::Stopped;
use crate::history::{self, ChannelEnd, ClosedChannel};
use crate::ledger::state::Made;
use crate::limits::MAX_UNASKED_INBOUND_SHARE;

/// Rows of ended channels read at once; a wallet has few.
const ENDED_CHANNELS: usize = 1_000;

fn offline() -> Status {
    status_with_advice(
        ErrorCode::HubOffline,
        "not connected to the hub",
        "see `hubwallet info` for the reason; the daemon keeps trying",
    )
}

fn shard_refused(refusal: &Refused) -> Status {
    let code = match refusal {
        Refused::NotConnected(_) => return offline(),
        Refused::UnknownOwner(_) => ErrorCode::NotFound,
        Refused::TooManyChannelsOfNode { .. }
        | Refused::TooManyChannels { .. }
        | Refused::TooManySessions { .. } => ErrorCode::LimitReached,
        Refused::Stopping => ErrorCode::Stopping,
        Refused::Rejected(_)
        | Refused::Unrecoverable(_)
        | Refused::ChannelExists(_)
        | Refused::OwnerExists(_)
        | Refused::Quarantined { .. }
        | Refused::NotForHosts => ErrorCode::ChannelRefused,
    };
    status(code, refusal.to_string())
}

impl Service {
    /// Every channel that has not ended.
    pub(super) async fn views(&self) -> Result<Vec<ChannelView>, Status> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let query = Query::Channels { node: None, after, max: 256 };
            match self.core.read(query).await.map_err(stopping)? {
                Answer::Channels { channels, more } => {
                    all.extend(channels);
                    after = more;
                }
                Answer::Channel(_) | Answer::PublishJob(_) => return Err(stopping(Stopped)),
            }
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// The channels that end on the chain without an agreement: their payments are decided there.
    pub(super) async fn owners_on_chain(&self) -> Result<BTreeSet<OwnerId>, Status> {
        let views = self.views().await?;
        let failed = views.iter().filter(|view| matches!(view.phase, PhaseView::Failed { .. }));
        Ok(failed.map(|view| view.owner).collect())
    }

    async fn view(&self, id: ChannelId) -> Result<Option<ChannelView>, Status> {
        match self.core.read(Query::ChannelById(id)).await.map_err(stopping)? {
            Answer::Channel(view) => Ok(view.map(|view| *view)),
            Answer::Channels { .. } | Answer::PublishJob(_) => Err(stopping(Stopped)),
        }
    }

    pub(super) async fn open(
        &self,
        request: pb::OpenChannelRequest,
    ) -> Result<pb::OpenChannelResponse, Status> {
        let amount_sat =
            proto::fields::number("amount_sat", request.amount_sat, 1, Amount::MAX_MONEY.to_sat())
                .map_err(wrong_field)?;
        let asked = self.asked("OpenChannel", &request.request_id, &request)?;
        // A repeat is answered before anything else is looked at: its coins are locked already.
        if let Some(Made::Opening(id)) = self.made_before(asked).await?
            && self.was_opened(id).await?
        {
            return Ok(pb::OpenChannelResponse { channel_id: bytes(&id.0) });
        }
        self.check_room(None).await?;
        self.check_chain()?;
        let summary = self.desk.summary().await.map_err(|_| stopping(Stopped))?;
        if summary.spendable < Amount::from_sat(amount_sat) {
            let (free, confirmed) = (summary.spendable, summary.balance.confirmed);
            let text = format!(
                "{amount_sat} sat are needed; of {confirmed} confirmed, {free} are free: the rest is kept to close channels with"
            );
            let advice = "send coins to `hubwallet address`, and wait for a confirmation";
            return Err(status_with_advice(ErrorCode::InsufficientFunds, text, advice));
        }
        let chosen = ChannelId(self.world.random());
        let noted = self.core.ask(move |core| {
            core.with_ledger(|ledger, _| match ledger.repeated(asked.as_ref())? {
                Some(Made::Opening(id)) => Ok(id),
                Some(_) | None => {
                    ledger.note(asked.as_ref(), Made::Opening(chosen));
                    Ok(chosen)
                }
            })
        });
        let id = noted.await.map_err(stopping)?.map_err(refused)?;
        let answer = pb::OpenChannelResponse { channel_id: bytes(&id.0) };
        // A noted opening without a channel: the process ended between the two, or the same call is at it right now.
        match self.core.open(id, amount_sat).await.map_err(stopping)? {
            Ok(()) => Ok(answer),
            Err(_) if self.was_opened(id).await? => Ok(answer),
            Err(refusal) => {
                let forget = self.core.ask(move |core| {
                    core.with_ledger(|ledger, _| ledger.forget(asked.as_ref()));
                });
                forget.await.map_err(stopping)?;
                Err(refusal.map_or_else(offline, |refusal| shard_refused(&refusal)))
            }
        }
    }

    /// Whether a channel of this id is or was here. What ends is in its row before it leaves the list.
    async fn was_opened(&self, id: ChannelId) -> Result<bool, Status> {
        Ok(self.view(id).await?.is_some() || self.ended_channel(id)?.is_some())
    }

    fn ended_channel(&self, id: ChannelId) -> Result<Option<history::ClosedChannel>, Status> {
        let row = self.reader.get(history::CLOSED, &id.0).map_err(unreadable)?;
        row.map(|value| history::read_closed(&value).map_err(unreadable)).transpose()
    }

    /// New work needs a chain that is followed.
    fn check_chain(&self) -> Result<(), Status> {
        match self.desk.status() {
            FollowStatus::Synced { .. } | FollowStatus::CatchingUp { .. } => Ok(()),
            other => Err(status_with_advice(
                ErrorCode::ChainUnavailable,
                other.trouble().unwrap_or_default(),
                "check bitcoind and the section [bitcoind] of wallet.toml",
            )),
        }
    }

    pub(super) async fn inbound(
        &self,
        request: pb::RequestInboundRequest,
    ) -> Result<pb::RequestInboundResponse, Status> {
        let amount_sat =
            proto::fields::number("amount_sat", request.amount_sat, 1, Amount::MAX_MONEY.to_sat())
                .map_err(wrong_field)?;
        // The hub remembers what it answered to an id; a caller without one gets a fresh one.
        let asked = self.asked("RequestInbound", &request.request_id, &request)?;
        self.check_room(asked).await?;
        let request_id = asked.map_or_else(
            || proto::request_id::RequestId::new(self.world.now_ms(), self.world.random()).0,
            |asked| asked.id.0,
        );
        let noted = self.core.ask(move |core| {
            core.with_ledger(|ledger, _| {
                if ledger.repeated(asked.as_ref())?.is_none() {
                    ledger.note(asked.as_ref(), Made::Inbound);
                }
                Ok(())
            })
        });
        noted.await.map_err(stopping)?.map_err(refused)?;
        let max_fee_sat = match request.max_fee_sat {
            Some(sat) => proto::fields::number("max_fee_sat", sat, 0, Amount::MAX_MONEY.to_sat())
                .map_err(wrong_field)?,
            None => {
                let policy = self.core.ask(|core| core.hub_policy()).await.map_err(stopping)?;
                policy.map_or(0, |policy| unasked_fee_sat(&policy, amount_sat))
            }
        };
        let asking = self.core.request_inbound(InboundRequest { request_id, amount_sat, max_fee_sat });
        let answered = asking.await.map_err(stopping)?.ok_or_else(offline)?;
        match tokio::time::timeout(HUB_PATIENCE, answered).await {
            Ok(Ok(Ok(id))) => Ok(pb::RequestInboundResponse { channel_id: bytes(&id.0), max_fee_sat }),
            Ok(Ok(Err(refusal))) => Err(from_detail(refusal)),
            Ok(Err(_)) => Err(offline()),
            Err(_) => Err(status_with_advice(
                ErrorCode::StillUnderWay,
                format!("the hub did not answer within {} seconds", HUB_PATIENCE.as_secs()),
                "ask again with the same request_id",
            )),
        }
    }

    pub(super) async fn all_channels(
        &self,
        request: pb::ListChannelsRequest,
    ) -> Result<pb::ListChannelsResponse, Status> {
        let views = self.views().await?;
        let asked: Vec<&ChannelView> =
            views.iter().filter(|view| request.include_closed || !is_over(&view.phase)).collect();
        let mut channels = self.shown(&asked).await?;
        if request.include_closed {
            let known: BTreeSet<ChannelId> = views.iter().map(|view| view.channel_id).collect();
            let rows = self.reader.range(history::CLOSED, &[], None, ENDED_CHANNELS);
            for (_, value) in rows.map_err(unreadable)? {
                let ended = history::read_closed(&value).map_err(unreadable)?;
                if !known.contains(&ended.channel_id) {
                    channels.push(closed_channel(&ended, &self.hub));
                }
            }
        }
        Ok(pb::ListChannelsResponse { channels })
    }

    pub(super) async fn balance(&self) -> Result<pb::GetBalanceResponse, Status> {
        let views = self.views().await?;
        let summary = self.desk.summary().await.map_err(|_| stopping(Stopped))?;
        let funds = summary.balance;
        let live = || views.iter().filter(|view| !is_over(&view.phase));
        let sum =
            |amounts: &mut dyn Iterator<Item = Msat>| amounts.fold(Msat::ZERO, Msat::saturating_add).to_u64();
        let usable = || live().filter(|view| view.phase == PhaseView::Open);
        Ok(pb::GetBalanceResponse {
            on_chain: Some(hub::OnChainBalance {
                confirmed_sat: funds.confirmed.to_sat(),
                unconfirmed_sat: funds.unconfirmed.to_sat(),
                locked_sat: funds.locked.to_sat(),
            }),
            channels_msat: sum(&mut live().map(|view| view.holder_msat)),
            in_flight_msat: sum(&mut live().map(|view| view.offered_msat.saturating_add(view.received_msat))),
            spendable_msat: sum(&mut usable().map(|view| view.spendable_msat)),
            receivable_msat: sum(&mut usable().map(|view| view.receivable_msat)),
            dust_exposure_msat: sum(&mut live().map(|view| view.dust_exposure_msat)),
            reserve: Some(reserve_out(&summary.reserve)),
            publishing_suspended: summary.suspended,
            held: u32::try_from(summary.held.len()).unwrap_or(u32::MAX),
        })
    }

    pub(super) async fn close(
        &self,
        request: pb::CloseChannelRequest,
    ) -> Result<pb::CloseChannelResponse, Status> {
        let id = channel_id("channel_id", &request.channel_id).map_err(wrong_field)?;
        let asked = self.asked("CloseChannel", &request.request_id, &request)?;
        let unknown = || {
            let text = format!("no channel has the id {id}");
            from_detail(ErrorDetail {
                channel_id: bytes(&id.0),
                advice: "see `hubwallet channels`".into(),
                ..detail(ErrorCode::NotFound, text)
            })
        };
        let Some(view) = self.view(id).await? else {
            let ended = self.ended_channel(id)?.ok_or_else(unknown)?;
            return Ok(pb::CloseChannelResponse { channel: Some(closed_channel(&ended, &self.hub)) });
        };
        let repeated = self.core.ask(move |core| {
            core.with_ledger(|ledger, _| {
                let made = ledger.repeated(asked.as_ref())?;
                if made.is_none() {
                    ledger.note(asked.as_ref(), Made::Closing(id));
                }
                Ok(())
            })
        });
        repeated.await.map_err(stopping)?.map_err(refused)?;
        if let Some(command) = self.closing_command(view.owner, &view.phase, request.force).await?
            && let Err(refusal) = self.core.command(view.owner, command).await.map_err(stopping)?
        {
            let forget = self.core.ask(move |core| {
                core.with_ledger(|ledger, _| ledger.forget(asked.as_ref()));
            });
            forget.await.map_err(stopping)?;
            return Err(shard_refused(&refusal));
        }
        let view = self.view(id).await?.unwrap_or(view);
        Ok(pb::CloseChannelResponse { channel: self.shown(&[&view]).await?.pop() })
    }

    /// What the channel is told, unless it ends already in the way that is asked for.
    async fn closing_command(
        &self,
        owner: OwnerId,
        phase: &PhaseView,
        force: bool,
    ) -> Result<Option<Command>, Status> {
        if force {
            // Whoever asks for it is not asked again, however many it asks for.
            self.desk.request(owner, DeskRequest::Allow);
            // A channel that is over takes no notice.
            return Ok(Some(Command::Fail { reason: FailRequest::Operator }));
        }
        match phase {
            // A shutdown of the hub's is answered by this wallet itself.
            PhaseView::ShuttingDown { .. }
            | PhaseView::Frozen { .. }
            | PhaseView::Closing { .. }
            | PhaseView::Closed { .. } => Ok(None),
            PhaseView::Opening
            | PhaseView::AwaitingConfirmation { .. }
            | PhaseView::Open
            | PhaseView::Aborted { .. }
            | PhaseView::Failed { .. } => {
                let address = self.desk.new_address().await.map_err(|_| stopping(Stopped))?;
                Ok(Some(Command::Shutdown { script: address.script_pubkey() }))
            }
        }
    }

    pub(super) async fn info(&self) -> Result<pb::GetInfoResponse, Status> {
        let views = self.views().await?;
        let height = *self.desk.heights().borrow();
        let policy = self.core.ask(|core| core.hub_policy()).await.map_err(stopping)?;
        let connection = self.connection.borrow().clone();
        let status = self.desk.status();
        let (chain_ok, at) = match &status {
            FollowStatus::Synced { at } | FollowStatus::CatchingUp { at } => (true, Some(*at)),
            FollowStatus::NodeBehind { at, .. } | FollowStatus::Unavailable { at, .. } => (false, Some(*at)),
            FollowStatus::Starting => (false, None),
        };
        let live = views.iter().filter(|view| !is_over(&view.phase)).count();
        let trouble = status.trouble().unwrap_or(connection.trouble);
        Ok(pb::GetInfoResponse {
            node_key: bytes(self.node.as_bytes()),
            network: self.network.clone(),
            height,
            block_hash: at
                .map_or_else(Bytes::new, |at| bytes(bitcoin::hashes::Hash::as_byte_array(&at.hash))),
            hub_node_key: bytes(self.hub.as_bytes()),
            hub_address: self.hub_address.clone(),
            hub_connected: connection.connected,
            hub_policy: policy,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            channels: u32::try_from(live).unwrap_or(u32::MAX),
            newest_event: self.reader.next_event().saturating_sub(1),
            chain_ok,
            trouble,
            online_again_by_height: views
                .iter()
                .map(|view| online_again_by(view, height))
                .filter(|by| *by > 0)
                .min()
                .unwrap_or(0),
        })
    }
}

/// What is paid for a channel of the hub's where the caller names no limit: what the hub says that it costs, unless that is
/// out of proportion, and the coin, which is worth what it costs.
fn unasked_fee_sat(policy: &hub::HubPolicy, capacity_sat: u64) -> u64 {
    let proportional = u128::from(capacity_sat) * u128::from(policy.inbound_fee_ppm) / 1_000_000;
    let fee_sat = policy.inbound_fee_base_sat.saturating_add(u64::try_from(proportional).unwrap_or(u64::MAX));
    let most_sat = capacity_sat / MAX_UNASKED_INBOUND_SHARE;
    fee_sat.min(most_sat).saturating_add(policy.inbound_reserve_sat).min(Amount::MAX_MONEY.to_sat())
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> Status {
    status(ErrorCode::Fault, error.to_string())
}

fn is_over(phase: &PhaseView) -> bool {
    match phase {
        PhaseView::Closed { .. } | PhaseView::Aborted { .. } => true,
        PhaseView::Opening
        | PhaseView::AwaitingConfirmation { .. }
        | PhaseView::Open
        | PhaseView::ShuttingDown { .. }
        | PhaseView::Frozen { .. }
        | PhaseView::Closing { .. }
        | PhaseView::Failed { .. } => false,
    }
}

/// An ended channel as its row tells it.
fn closed_channel(ended: &ClosedChannel, hub_key: &channel::keys::Point) -> hub::Channel {
    let channel = hub::Channel {
        channel_id: bytes(&ended.channel_id.0),
        node_key: bytes(hub_key.as_bytes()),
        capacity_sat: ended.capacity_sat,
        funded_locally: ended.funded_locally,
        funding: ended.funding.as_ref().map(outpoint_out),
        format: channel::format::CommitmentFormat::ZeroFeeCommitments.name().to_owned(),
        ..hub::Channel::default()
    };
    let aborted = |why: &str, channel: hub::Channel| hub::Channel {
        phase: hub::ChannelPhase::Aborted.into(),
        failure: why.to_owned(),
        ..channel
    };
    match &ended.end {
        ChannelEnd::Closed(closing) => hub::Channel {
            phase: hub::ChannelPhase::Closed.into(),
            closing_txid: txid_out(&closing.txid),
            closing_height: closing.height,
            paid_sat: closing.paid_sat,
            ..channel
        },
        ChannelEnd::Aborted { why } => aborted(why, channel),
        ChannelEnd::GivenUp => aborted("the opening ended before anything reached the chain", channel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_a_channel_costs_what_the_hub_says_and_never_more_than_a_tenth_of_it() {
        let policy = |base, ppm, coin| hub::HubPolicy {
            inbound_fee_base_sat: base,
            inbound_fee_ppm: ppm,
            inbound_reserve_sat: coin,
            ..hub::HubPolicy::default()
        };
        for (prices, capacity_sat, expected) in [
            (policy(1_000, 1_000, 10_000), 1_000_999, 12_000),
            (policy(0, 0, 10_000), 1_000_000, 10_000),
            (policy(50_000, 100_000, 0), 1_000_000, 100_000),
            (policy(u64::MAX, u32::MAX, u64::MAX), 1_000_000, Amount::MAX_MONEY.to_sat()),
        ] {
            assert_eq!(unasked_fee_sat(&prices, capacity_sat), expected);
        }
    }
}
