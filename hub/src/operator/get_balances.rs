//! `GetBalances`: funds on the chain and in channels.

use channel::channel::{ChannelView, PhaseView};
use proto::hub::v1::{GetBalancesResponse, OnChainBalance};
use tonic::Status;

use super::ask::every_channel;
use super::event_out::reserve_out;
use super::{OperatorHub, new_address};

pub async fn handle(hub: &OperatorHub) -> Result<GetBalancesResponse, Status> {
    let summary = new_address::from_desk(hub, hub.desk.clone().summary()).await?;
    let mut balances = GetBalancesResponse {
        on_chain: Some(OnChainBalance {
            confirmed_sat: summary.balance.confirmed.to_sat(),
            unconfirmed_sat: summary
                .balance
                .unconfirmed
                .to_sat()
                .saturating_add(summary.balance.immature.to_sat()),
            locked_sat: summary.balance.locked.to_sat(),
        }),
        fees_earned_msat: hub.earnings.total_msat(),
        reserve: Some(reserve_out(&summary.reserve.into())),
        ..GetBalancesResponse::default()
    };
    every_channel(&hub.shared.mailboxes, None, |view| {
        if is_live(view) {
            let in_flight = view.offered_msat.saturating_add(view.received_msat).to_u64();
            balances.channels_local_msat =
                balances.channels_local_msat.saturating_add(view.holder_msat.to_u64());
            balances.channels_remote_msat =
                balances.channels_remote_msat.saturating_add(view.counterparty_msat.to_u64());
            balances.channels_in_flight_msat = balances.channels_in_flight_msat.saturating_add(in_flight);
        }
    })
    .await?;
    Ok(balances)
}

/// Whether the channel's balances are (or will be) coins in its funding output.
pub fn is_live(view: &ChannelView) -> bool {
    match view.phase {
        PhaseView::AwaitingConfirmation { .. }
        | PhaseView::Open
        | PhaseView::ShuttingDown { .. }
        | PhaseView::Frozen { .. }
        | PhaseView::Failed { .. } => true,
        PhaseView::Opening
        | PhaseView::Closing { .. }
        | PhaseView::Closed { .. }
        | PhaseView::Aborted { .. } => false,
    }
}
