//! `channels`, `open`, `close`.

use std::time::Duration;

use bytes::Bytes;
use daemon::table::{Align, Table};
use proto::hub::v1 as hub;
use proto::hub::v1::ChannelPhase;
use proto::wallet::v1 as pb;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::args::{CloseArgs, OpenArgs, Repeatable};
use super::failure::{Exit, Failure};
use super::session::{Session, Under};
use super::{json, text};
use crate::client::Api;
use crate::limits::CLIENT_RETRY_MS;

pub async fn list(session: &mut Session<'_, '_>, all: bool) -> Result<(), Failure> {
    let channels = session.channels(all).await?;
    let json = channels.iter().map(json::channel).collect();
    session.terminal.show(json, || {
        let nothing =
            "no channels; open one: hubwallet open --amount-sat N (to pay), --inbound-sat N (to be paid); \
             those that ended: hubwallet channels --all";
        let mut text = table(&channels).text(nothing);
        for channel in &channels {
            text.push_str(&onchain_text(channel));
        }
        text
    })
}

fn table(channels: &[hub::Channel]) -> Table {
    let mut table = Table::new([
        ("channel", Align::Left),
        ("phase", Align::Left),
        ("usable", Align::Left),
        ("capacity, sat", Align::Right),
        ("ours, sat", Align::Right),
        ("hub's, sat", Align::Right),
        ("htlcs", Align::Right),
        ("can send, sat", Align::Right),
        ("can receive, sat", Align::Right),
        ("online by", Align::Right),
        ("note", Align::Left),
    ]);
    for channel in channels {
        table.row([
            text::short(&channel.channel_id),
            text::phase(channel.phase()),
            usable(channel).to_owned(),
            text::grouped(channel.capacity_sat),
            text::msat_cell(channel.local_msat),
            text::msat_cell(channel.remote_msat),
            channel.htlcs.to_string(),
            text::msat_cell(channel.spendable_msat),
            text::msat_cell(channel.receivable_msat),
            online_by(channel),
            note(channel),
        ]);
    }
    table
}

/// How far a close is that nobody agreed on: a line for each transaction that matters.
fn onchain_text(channel: &hub::Channel) -> String {
    let lines = channel.onchain.iter().flat_map(proto::text::onchain_lines);
    let lines: String = lines.map(|line| format!("  {line}\n")).collect();
    match lines.is_empty() {
        true => lines,
        false => format!("{} on the chain:\n{lines}", text::short(&channel.channel_id)),
    }
}

/// The height by which this wallet must be online again for the channel's sake.
fn online_by(channel: &hub::Channel) -> String {
    match channel.online_again_by_height {
        0 => String::new(),
        height => text::grouped(height.into()),
    }
}

fn usable(channel: &hub::Channel) -> &'static str {
    match (channel.usable, channel.online) {
        (true, _) => "yes",
        (false, true) => "no",
        (false, false) => "offline",
    }
}

/// What is worth saying about a channel in its phase.
fn note(channel: &hub::Channel) -> String {
    match channel.phase() {
        ChannelPhase::AwaitingConfirmation => {
            format!("{} of {} confirmations", channel.confirmations, channel.minimum_depth)
        }
        ChannelPhase::Closing | ChannelPhase::Closed => {
            format!("{} paid by {}", text::sat(channel.paid_sat), text::txid(&channel.closing_txid))
        }
        ChannelPhase::Failed | ChannelPhase::Aborted | ChannelPhase::Quarantined => channel.failure.clone(),
        ChannelPhase::Open if channel.price_unpaid_msat > 0 => {
            let (unpaid, price) = (channel.price_unpaid_msat, channel.price_msat);
            format!(
                "{} of its price of {} to be kept of what comes in",
                text::msat(unpaid),
                text::msat(price)
            )
        }
        ChannelPhase::Unspecified
        | ChannelPhase::Opening
        | ChannelPhase::Open
        | ChannelPhase::ShuttingDown
        | ChannelPhase::Frozen => String::new(),
    }
}

pub async fn open(session: &mut Session<'_, '_>, args: &OpenArgs) -> Result<(), Failure> {
    let under = Under::id(&args.repeatable);
    let (amount_sat, by, channel_id, max_fee_sat) = match (args.amount_sat, args.inbound_sat) {
        (Some(amount_sat), _) => {
            let request = pb::OpenChannelRequest { amount_sat, request_id: under.text() };
            let call = |mut api: Api, request| async move { api.open_channel(request).await };
            let opened: pb::OpenChannelResponse =
                session.call("opening the channel", under, request, call).await?;
            (amount_sat, "this wallet", opened.channel_id, 0)
        }
        (None, Some(amount_sat)) => {
            let max_fee_sat = args.max_fee_sat;
            let request = pb::RequestInboundRequest { amount_sat, request_id: under.text(), max_fee_sat };
            let call = |mut api: Api, request| async move { api.request_inbound(request).await };
            let opened: pb::RequestInboundResponse =
                session.call("asking the hub for a channel", under, request, call).await?;
            (amount_sat, "the hub", opened.channel_id, opened.max_fee_sat)
        }
        (None, None) => return Err(Failure::usage("give --amount-sat or --inbound-sat")),
    };
    let opened = json!({
        "channel_id": hex::encode(&channel_id),
        "amount_sat": amount_sat,
        "max_fee_sat": max_fee_sat,
        "request_id": under.text(),
    });
    if args.wait_seconds == 0 {
        return session.terminal.show(opened, || {
            let id = hex::encode(&channel_id);
            let price = match max_fee_sat {
                0 => String::new(),
                most => format!(", for {} at most, kept of what comes in", text::sat(most)),
            };
            format!("channel {id} of {} is being opened, funded by {by}{price}\n", text::sat(amount_sat))
        });
    }
    let channel = wait_for(session, &channel_id, args.wait_seconds, under, is_usable).await?;
    let json = json::merged([opened, json!({ "channel": json::channel(&channel) })]);
    session.terminal.show(json, || {
        let (id, amount) = (hex::encode(&channel_id), text::sat(amount_sat));
        format!("channel {id} of {amount}, funded by {by}, can be used\n")
    })
}

/// How a channel that is waited for stands.
enum Seen {
    Reached,
    NotYet,
    Never,
}

fn is_usable(channel: &hub::Channel) -> Seen {
    match channel.phase() {
        ChannelPhase::Unspecified
        | ChannelPhase::Opening
        | ChannelPhase::AwaitingConfirmation
        | ChannelPhase::Open => {
            if channel.usable {
                Seen::Reached
            } else {
                Seen::NotYet
            }
        }
        ChannelPhase::ShuttingDown
        | ChannelPhase::Frozen
        | ChannelPhase::Closing
        | ChannelPhase::Closed
        | ChannelPhase::Failed
        | ChannelPhase::Aborted
        | ChannelPhase::Quarantined => Seen::Never,
    }
}

fn is_closed(channel: &hub::Channel) -> Seen {
    match channel.phase() {
        ChannelPhase::Closed => Seen::Reached,
        ChannelPhase::Unspecified
        | ChannelPhase::Opening
        | ChannelPhase::AwaitingConfirmation
        | ChannelPhase::Open
        | ChannelPhase::ShuttingDown
        | ChannelPhase::Frozen
        | ChannelPhase::Closing
        // It ends on the chain too, only later.
        | ChannelPhase::Failed => Seen::NotYet,
        ChannelPhase::Aborted | ChannelPhase::Quarantined => Seen::Never,
    }
}

/// Looks until the channel is where it should be.
async fn wait_for(
    session: &mut Session<'_, '_>,
    channel_id: &Bytes,
    seconds: u64,
    under: Under,
    look: impl Fn(&hub::Channel) -> Seen,
) -> Result<hub::Channel, Failure> {
    let mut waiting = session.terminal.waiting();
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let channels = session.channels(true).await?;
        let channel = channels.into_iter().find(|channel| channel.channel_id == *channel_id);
        let mut stands = "is not listed yet".to_owned();
        if let Some(channel) = channel {
            stands = [text::phase(channel.phase()), note(&channel)].join(" ").trim_end().to_owned();
            match look(&channel) {
                Seen::Reached => return Ok(channel),
                Seen::NotYet => {}
                Seen::Never => {
                    let text = format!("channel {} is {stands}", text::short(channel_id));
                    return Err(Failure::new(Exit::Failed, "CHANNEL_ENDED", text));
                }
            }
        }
        if Instant::now() >= until {
            let text = format!("after {seconds} seconds channel {} is {stands}", text::short(channel_id));
            return Err(Failure::new(Exit::Unknown, "STILL_UNDER_WAY", text)
                .advise("it goes on; `hubwallet channels` shows how far it is")
                .with_request_id(under.request_id));
        }
        waiting.say(&format!("channel {} is {stands}", text::short(channel_id)));
        sleep(Duration::from_millis(CLIENT_RETRY_MS)).await;
    }
}

pub async fn close(session: &mut Session<'_, '_>, args: &CloseArgs) -> Result<(), Failure> {
    if args.all {
        return close_all(session, args).await;
    }
    let wanted = args.channel.as_deref().unwrap_or_default();
    let channel_id = find(session, wanted).await?;
    let closing = close_one(session, &channel_id, args, &args.repeatable, args.wait_seconds).await?;
    session.terminal.show(json::channel(&closing), || closing_text(&closing))
}

async fn close_all(session: &mut Session<'_, '_>, args: &CloseArgs) -> Result<(), Failure> {
    let wait_seconds = args.wait_seconds;
    let open: Vec<hub::Channel> = session.channels(false).await?;
    let (mut begun, mut closing, mut first_failure) = (Vec::new(), Vec::new(), None);
    for channel in open.into_iter().filter(|channel| can_be_closed(channel, args.force)) {
        match close_one(session, &channel.channel_id, args, &Repeatable::default(), 0).await {
            Ok(channel) => begun.push(channel),
            Err(failure) => first_failure = first_failure.or(Some(failure)),
        }
    }
    let until = Instant::now() + Duration::from_secs(wait_seconds);
    for channel in begun {
        if wait_seconds == 0 {
            closing.push(channel);
            continue;
        }
        let left = until.saturating_duration_since(Instant::now()).as_secs();
        match wait_for(session, &channel.channel_id, left, Under::nothing(), is_closed).await {
            Ok(channel) => closing.push(channel),
            Err(failure) => first_failure = first_failure.or(Some(failure)),
        }
    }
    let json: Value = closing.iter().map(json::channel).collect();
    session.terminal.show(json, || match closing.is_empty() {
        true => "no channel was closed\n".to_owned(),
        false => closing.iter().map(closing_text).collect(),
    })?;
    first_failure.map_or(Ok(()), Err)
}

/// Whether a close has a meaning for the channel: a frozen one is closed already, but may be given up.
fn can_be_closed(channel: &hub::Channel, force: bool) -> bool {
    match channel.phase() {
        ChannelPhase::Open | ChannelPhase::AwaitingConfirmation | ChannelPhase::ShuttingDown => true,
        ChannelPhase::Frozen => force,
        ChannelPhase::Unspecified
        | ChannelPhase::Opening
        | ChannelPhase::Closing
        | ChannelPhase::Closed
        | ChannelPhase::Failed
        | ChannelPhase::Aborted
        | ChannelPhase::Quarantined => false,
    }
}

async fn close_one(
    session: &mut Session<'_, '_>,
    channel_id: &Bytes,
    args: &CloseArgs,
    repeatable: &Repeatable,
    wait_seconds: u64,
) -> Result<hub::Channel, Failure> {
    let under = Under::id(repeatable);
    let request = pb::CloseChannelRequest {
        channel_id: channel_id.clone(),
        request_id: under.text(),
        force: args.force,
    };
    let call = |mut api: Api, request| async move { api.close_channel(request).await };
    let answer: pb::CloseChannelResponse = session.call("closing the channel", under, request, call).await?;
    if wait_seconds > 0 {
        return wait_for(session, channel_id, wait_seconds, under, is_closed).await;
    }
    answer
        .channel
        .ok_or_else(|| Failure::new(Exit::Fault, "UNEXPECTED_ANSWER", "the daemon's answer has no channel"))
}

fn closing_text(channel: &hub::Channel) -> String {
    let stands = [text::phase(channel.phase()), note(channel)].join(" ");
    format!("channel {} is {}\n", text::short(&channel.channel_id), stands.trim_end())
}

/// The channel that this id or beginning of an id names.
async fn find(session: &mut Session<'_, '_>, wanted: &str) -> Result<Bytes, Failure> {
    let wanted = wanted.trim().to_ascii_lowercase();
    let digits = wanted.bytes().all(|digit| digit.is_ascii_hexdigit());
    if wanted.is_empty() || wanted.len() > 64 || !digits {
        let text = format!("{wanted:?} is no channel; expected up to 64 hexadecimal digits");
        return Err(Failure::usage(text).advise("`hubwallet channels` lists them"));
    }
    if let Some(whole) = hex::decode(&wanted).ok().filter(|id| id.len() == 32) {
        return Ok(whole.into());
    }
    let channels = session.channels(true).await?;
    let ids = channels.into_iter().map(|channel| channel.channel_id);
    let mut found = ids.filter(|id| hex::encode(id).starts_with(&wanted));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("more than one channel begins with {wanted}; give more digits")))
        }
        (None, _) => {
            Err(Failure::new(Exit::Refused, "NOT_FOUND", format!("no channel begins with {wanted}"))
                .advise("`hubwallet channels` lists them"))
        }
    }
}
