//! Answers for eyes.

use daemon::table::{Align, Table};
use daemon::text::{grouped, msat_cell, short};
use proto::hub::v1 as pb;
use proto::json::{phase, reason, txid, word};

use super::json::hex_of;

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

pub fn info(info: &pb::OperatorGetInfoResponse) -> String {
    let journal = info.journal.unwrap_or_default();
    let policy = info.policy.unwrap_or_default();
    let chain = if info.chain_ok { "bitcoind answers" } else { &info.chain_trouble };
    let mut text = format!(
        "node      {}\nwallets   {} (version {}, up {} s)\nchain     {} at height {}, {chain}\n\
         fees      {} msat + {} ppm\ninbound   {} sat + {} ppm\npeers     {}\nchannels  {}\nstreams   {}\nevents    {}\n\
         journal   {} commits, {} records, {} bytes of inputs, log {} bytes\n\n",
        hex_of(&info.node_key),
        info.listen,
        info.version,
        info.uptime_ms / 1000,
        info.network,
        info.height,
        policy.fee_base_msat,
        policy.fee_ppm,
        policy.inbound_fee_base_sat,
        policy.inbound_fee_ppm,
        info.peers,
        info.channels,
        info.streams,
        info.newest_event,
        grouped(journal.commits),
        grouped(journal.records),
        grouped(journal.input_bytes),
        grouped(journal.log_bytes),
    );
    if info.publishing_suspended {
        text.push_str(
            "A wallet proved that this hub runs from old data: commitments that no wallet confirms wait. See \
             `hubctl resume-publishing --help`.\n\n",
        );
    }
    if info.held > 0 {
        let closes = info.held;
        text.push_str(&format!("{closes} closes wait for you: see `hubctl release --help`.\n\n"));
    }
    let mut table = Table::new([
        ("shard", Align::Right),
        ("channels", Align::Right),
        ("messages", Align::Right),
        ("inputs", Align::Right),
        ("queued", Align::Right),
        ("busy ms", Align::Right),
    ]);
    for shard in &info.shards {
        table.row([
            shard.shard.to_string(),
            grouped(shard.channels.into()),
            grouped(shard.messages),
            grouped(shard.inputs),
            grouped(shard.queued.into()),
            grouped(shard.busy_us / 1000),
        ]);
    }
    text.push_str(&table.to_string());
    text
}

pub fn balances(balances: &pb::GetBalancesResponse) -> String {
    let on_chain = balances.on_chain.unwrap_or_default();
    let mut table = Table::new([("where", Align::Left), ("sat", Align::Right)]);
    table.row(["on the chain, confirmed".into(), grouped(on_chain.confirmed_sat)]);
    table.row(["on the chain, unconfirmed".into(), grouped(on_chain.unconfirmed_sat)]);
    table.row(["reserved by openings".into(), grouped(on_chain.locked_sat)]);
    table.row(["in channels, ours".into(), msat_cell(balances.channels_local_msat)]);
    table.row(["in channels, wallets'".into(), msat_cell(balances.channels_remote_msat)]);
    table.row(["in flight".into(), msat_cell(balances.channels_in_flight_msat)]);
    table.row(["fees earned".into(), msat_cell(balances.fees_earned_msat)]);
    let reserve = balances.reserve.unwrap_or_default();
    table.row(["kept to close channels, needed".into(), grouped(reserve.needed_sat)]);
    table.row(["kept to close channels, there".into(), grouped(reserve.available_sat)]);
    let mut text = table.to_string();
    if reserve.short {
        text.push_str(&format!(
            "Too few coins to close channels with: {} confirmed, {} needed. Send more to `hubctl address`.\n",
            reserve.confirmed_coins, reserve.needed_coins
        ));
    }
    text
}

/// What was sent for a commitment.
pub fn bumped(bumped: &pb::BumpResponse) -> String {
    format!("{} pays {} sat for {}\n", txid(&bumped.child_txid), grouped(bumped.fee_sat), txid(&bumped.txid))
}

pub fn peers(peers: &[pb::Peer]) -> String {
    if peers.is_empty() {
        return "no wallets yet\n".into();
    }
    let mut table = Table::new([
        ("node", Align::Left),
        ("connected", Align::Left),
        ("channels", Align::Right),
        ("ending on the chain", Align::Right),
        ("ours, sat", Align::Right),
        ("theirs, sat", Align::Right),
        ("address", Align::Left),
    ]);
    for peer in peers {
        table.row([
            hex_of(&peer.node_key),
            yes(peer.connected),
            peer.channels.to_string(),
            peer.ending_on_chain.to_string(),
            msat_cell(peer.local_msat),
            msat_cell(peer.remote_msat),
            peer.address.clone(),
        ]);
    }
    table.to_string()
}

pub fn channels(channels: &[pb::Channel]) -> String {
    if channels.is_empty() {
        return "no channels\n".into();
    }
    let mut table = Table::new([
        ("channel", Align::Left),
        ("node", Align::Left),
        ("phase", Align::Left),
        ("online", Align::Left),
        ("capacity, sat", Align::Right),
        ("ours, sat", Align::Right),
        ("theirs, sat", Align::Right),
        ("in flight, sat", Align::Right),
        ("htlcs", Align::Right),
        ("price due, sat", Align::Right),
    ]);
    for channel in channels {
        table.row([
            hex_of(&channel.channel_id),
            short(&channel.node_key),
            phase(channel.phase()),
            yes(channel.online),
            grouped(channel.capacity_sat),
            msat_cell(channel.local_msat),
            msat_cell(channel.remote_msat),
            msat_cell(channel.in_flight_msat),
            channel.htlcs.to_string(),
            price_due(channel),
        ]);
    }
    let mut text = table.to_string();
    for channel in channels.iter().filter(|channel| !channel.failure.is_empty()) {
        text.push_str(&format!("{}: {}\n", short(&channel.channel_id), channel.failure));
        for line in channel.onchain.iter().flat_map(proto::text::onchain_lines) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}

/// What a wallet still owes for a channel that this hub funded.
fn price_due(channel: &pb::Channel) -> String {
    match channel.price_unpaid_msat {
        0 => String::new(),
        unpaid => msat_cell(unpaid),
    }
}

pub fn forwards(forwards: &[pb::Forward]) -> String {
    if forwards.is_empty() {
        return "no forwards among the kept events\n".into();
    }
    let mut table = Table::new([
        ("event", Align::Right),
        ("from channel", Align::Left),
        ("htlc", Align::Right),
        ("state", Align::Left),
        ("came in, sat", Align::Right),
        ("ticks", Align::Right),
        ("why", Align::Left),
    ]);
    for forward in forwards {
        let failed = forward.state() == pb::ForwardState::Failed;
        let alone = forward.stream_id.is_empty() && forward.ticks == 0;
        table.row([
            forward.event_index.to_string(),
            short(&forward.incoming_channel_id),
            if alone { forward.htlc_id.to_string() } else { String::new() },
            word(forward.state().as_str_name(), "FORWARD_STATE_"),
            msat_cell(forward.incoming_msat),
            if alone { String::new() } else { grouped(forward.ticks) },
            if failed { reason(forward.reason()) } else { String::new() },
        ]);
    }
    table.to_string()
}
