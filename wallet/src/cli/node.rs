//! `info`, `address`, `balance`, `stop`.

use std::time::Duration;

use daemon::data_dir::FolderError;
use daemon::table::facts;
use proto::hub::v1 as hub;
use proto::wallet::v1 as pb;
use serde_json::json;

use super::failure::{Exit, Failure};
use super::session::{Session, Under};
use super::{json, text};
use crate::client::Api;
use crate::data_dir::DataDir;
use crate::limits::{CLIENT_RETRY_MS, CLIENT_STOP_PATIENCE_MS};

pub async fn info(session: &mut Session<'_, '_>) -> Result<(), Failure> {
    let info = session.info().await?;
    session.terminal.show(json::info(&info), || info_text(&info))
}

fn info_text(info: &pb::GetInfoResponse) -> String {
    let yes = |yes: bool, trouble: &str| if yes { "yes".to_owned() } else { trouble.to_owned() };
    let mut all = vec![
        ("node key", hex::encode(&info.node_key)),
        ("network", info.network.clone()),
        ("height", text::grouped(info.height.into())),
        ("bitcoind answers", yes(info.chain_ok, "no")),
        ("hub", format!("{} at {}", hex::encode(&info.hub_node_key), info.hub_address)),
        ("hub connected", yes(info.hub_connected, "no")),
        ("trouble", info.trouble.clone()),
        ("channels", info.channels.to_string()),
    ];
    if info.online_again_by_height > 0 {
        let by = format!("height {}", text::grouped(info.online_again_by_height.into()));
        all.push(("be online again by", by));
    }
    if let Some(policy) = &info.hub_policy {
        let fee = format!("{} + {} ppm", text::msat(policy.fee_base_msat), policy.fee_ppm);
        let capacity =
            format!("{} to {}", text::grouped(policy.min_capacity_sat), text::sat(policy.max_capacity_sat));
        all.push(("hub's fee", fee));
        all.push(("capacity allowed", capacity));
        all.push(("inbound on request", format!("up to {}", text::sat(policy.max_inbound_sat))));
        all.push(("inbound's price", inbound_price(policy)));
    }
    all.push(("version", info.version.clone()));
    facts(all)
}

/// What a channel costs that the hub funds.
fn inbound_price(policy: &hub::HubPolicy) -> String {
    let (base, ppm, coin) = (policy.inbound_fee_base_sat, policy.inbound_fee_ppm, policy.inbound_reserve_sat);
    match (base, ppm, coin) {
        (0, 0, _) => "nothing".to_owned(),
        (_, _, 0) => format!("{} + {ppm} ppm", text::sat(base)),
        (_, _, coin) => format!("{} + {ppm} ppm, and {} for a first coin", text::sat(base), text::sat(coin)),
    }
}

pub async fn address(session: &mut Session<'_, '_>) -> Result<(), Failure> {
    let call = |mut api: Api, request| async move { api.new_address(request).await };
    let made: pb::NewAddressResponse =
        session.call("asking the daemon", Under::nothing(), pb::NewAddressRequest {}, call).await?;
    session.terminal.show(json!({ "address": made.address }), || format!("{}\n", made.address))
}

pub async fn balance(session: &mut Session<'_, '_>) -> Result<(), Failure> {
    let call = |mut api: Api, request| async move { api.get_balance(request).await };
    let balance: pb::GetBalanceResponse =
        session.call("asking the daemon", Under::nothing(), pb::GetBalanceRequest {}, call).await?;
    session.terminal.show(json::balance(&balance), || balance_text(&balance))
}

fn balance_text(balance: &pb::GetBalanceResponse) -> String {
    let mut text = funds_text(balance);
    let reserve = balance.reserve.unwrap_or_default();
    if reserve.short {
        text.push_str(&format!(
            "Too few coins to close channels without the hub: {} confirmed of {} needed, {} of {}. Send some to `hubwallet \
             address`.\n",
            reserve.confirmed_coins,
            reserve.needed_coins,
            text::sat(reserve.available_sat),
            text::sat(reserve.needed_sat)
        ));
    }
    if balance.publishing_suspended {
        text.push_str(
            "The hub proved that this wallet runs from old data: closes that the hub did not confirm wait. See `hubwallet \
             resume-publishing --help`.\n",
        );
    }
    if balance.held > 0 {
        text.push_str(&format!("{} closes wait for you: see `hubwallet release --help`.\n", balance.held));
    }
    text
}

fn funds_text(balance: &pb::GetBalanceResponse) -> String {
    let on_chain = balance.on_chain.unwrap_or_default();
    let kept = balance.reserve.unwrap_or_default().needed_sat;
    let some = |amount: u64, text: String| if amount == 0 { String::new() } else { text };
    facts([
        ("on the chain, confirmed", text::sat(on_chain.confirmed_sat)),
        ("  not yet in a block", some(on_chain.unconfirmed_sat, text::sat(on_chain.unconfirmed_sat))),
        ("  reserved by openings", some(on_chain.locked_sat, text::sat(on_chain.locked_sat))),
        ("  kept to close channels", some(kept, text::sat(kept))),
        ("in channels", text::msat(balance.channels_msat)),
        ("  can be sent now", text::msat(balance.spendable_msat)),
        ("  can be received now", text::msat(balance.receivable_msat)),
        ("  in flight", some(balance.in_flight_msat, text::msat(balance.in_flight_msat))),
        (
            "  at risk while in flight",
            some(balance.dust_exposure_msat, text::msat(balance.dust_exposure_msat)),
        ),
    ])
}

/// The folder's lock tells when the daemon has really ended: its last snapshot is on the disk then.
pub async fn stop(session: &mut Session<'_, '_>) -> Result<(), Failure> {
    match session.client.api().stop(pb::StopRequest {}).await {
        Ok(_) => {}
        // The daemon may end before its answer is out.
        Err(status) if crate::client::may_have_happened(&status) => {}
        Err(status) => {
            let error = crate::client::CallError::Refused(Box::new(status));
            return Err(Failure::of_call(error, session.data_dir(), None));
        }
    }
    let mut waiting = session.terminal.waiting();
    let until = tokio::time::Instant::now() + Duration::from_millis(CLIENT_STOP_PATIENCE_MS);
    loop {
        match DataDir::open(session.data_dir()) {
            Ok(free) => {
                drop(free);
                drop(waiting);
                return session.terminal.show(json!({ "stopped": true }), || "stopped\n".to_owned());
            }
            Err(FolderError::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if tokio::time::Instant::now() >= until {
            let text = "the daemon was asked to stop and is still at it";
            return Err(Failure::new(Exit::Unknown, "STILL_STOPPING", text).advise("see the daemon's log"));
        }
        waiting.say("waiting until the daemon wrote its last snapshot");
        tokio::time::sleep(Duration::from_millis(CLIENT_RETRY_MS)).await;
    }
}
