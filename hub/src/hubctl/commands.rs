//! What each subcommand asks and prints.

use std::io::Write;

use daemon::world::World;
use proto::hub::v1 as pb;
use proto::request_id::RequestId;
use serde_json::{Value, json};

use super::cli::{Bump, Channels, Cli, Close, Command, Events, Forwards};
use super::client::{Client, CtlError, connect};
use super::{events, json, show};

/// Rows asked for at once.
const PAGE: u32 = 250;

pub async fn run(cli: &Cli) -> Result<(), CtlError> {
    let mut client = connect(cli).await?;
    let out = Output { json: cli.json };
    match &cli.command {
        Command::Info => {
            let info = client.get_info(pb::OperatorGetInfoRequest {}).await?.into_inner();
            out.print(|| json::info(&info), || show::info(&info))
        }
        Command::Balances => {
            let balances = client.get_balances(pb::GetBalancesRequest {}).await?.into_inner();
            out.print(|| json::balances(&balances), || show::balances(&balances))
        }
        Command::Address => {
            let address = client.new_address(pb::NewAddressRequest {}).await?.into_inner().address;
            out.print(|| json!({ "address": address }), || format!("{address}\n"))
        }
        Command::Peers => {
            let peers = all_peers(&mut client).await?;
            let json = || json!({ "peers": peers.iter().map(json::peer).collect::<Vec<_>>() });
            out.print(json, || show::peers(&peers))
        }
        Command::Channels(asked) => {
            let channels = all_channels(&mut client, asked).await?;
            let json = || json!({ "channels": channels.iter().map(json::channel).collect::<Vec<_>>() });
            out.print(json, || show::channels(&channels))
        }
        Command::Close(asked) => close(&mut client, asked, out).await,
        Command::Bump(asked) => {
            let bumped = client.bump(bump_request(asked)?).await?.into_inner();
            out.print(|| proto::json::bumped(&bumped), || show::bumped(&bumped))
        }
        Command::Release => {
            let released = client.release_held(pb::ReleaseHeldRequest {}).await?.into_inner().channel_ids;
            let ids: Vec<String> = released.iter().map(|id| json::hex_of(id)).collect();
            let text = || match ids.is_empty() {
                true => "nothing was held\n".to_owned(),
                false => ids.iter().map(|id| format!("released {id}\n")).collect(),
            };
            out.print(|| json!({ "released": ids }), text)
        }
        Command::ResumePublishing(_) => {
            let answer = client.resume_publishing(pb::ResumePublishingRequest {}).await?.into_inner();
            let text = || match answer.was_suspended {
                true => "publishing again\n".to_owned(),
                false => "publishing was not suspended\n".to_owned(),
            };
            out.print(|| json!({ "was_suspended": answer.was_suspended }), text)
        }
        Command::Forwards(asked) => {
            let forwards = newest_forwards(&mut client, asked).await?;
            let json = || json!({ "forwards": forwards.iter().map(json::forward).collect::<Vec<_>>() });
            out.print(json, || show::forwards(&forwards))
        }
        Command::Events(asked) => follow(&mut client, asked, out).await,
        Command::Stop => {
            client.stop(pb::StopRequest {}).await?;
            out.print(|| json!({ "stopping": true }), || "hubd is stopping\n".into())
        }
    }
}

/// Where answers go.
#[derive(Clone, Copy)]
struct Output {
    json: bool,
}

impl Output {
    fn print(self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<(), CtlError> {
        let mut stdout = std::io::stdout().lock();
        if self.json {
            writeln!(stdout, "{}", json())?
        } else {
            write!(stdout, "{}", text())?
        }
        Ok(stdout.flush()?)
    }
}

async fn all_peers(client: &mut Client) -> Result<Vec<pb::Peer>, CtlError> {
    let mut peers = Vec::new();
    let mut page_token = String::new();
    loop {
        let page =
            client.list_peers(pb::ListPeersRequest { page_size: PAGE, page_token }).await?.into_inner();
        peers.extend(page.peers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(peers);
        }
    }
}

async fn all_channels(client: &mut Client, asked: &Channels) -> Result<Vec<pb::Channel>, CtlError> {
    let node_key = match &asked.node {
        None => Vec::new(),
        Some(text) => bytes_of("--node", text, 33, "a node key: 66 hexadecimal digits")?,
    };
    let mut channels = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListChannelsRequest {
            page_size: PAGE,
            page_token,
            node_key: node_key.clone().into(),
            include_closed: asked.closed,
        };
        let page = client.list_channels(request).await?.into_inner();
        channels.extend(page.channels);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(channels);
        }
    }
}

async fn newest_forwards(client: &mut Client, asked: &Forwards) -> Result<Vec<pb::Forward>, CtlError> {
    let mut forwards = Vec::new();
    let mut page_token = String::new();
    while forwards.len() < asked.limit {
        let left = u32::try_from(asked.limit - forwards.len()).unwrap_or(PAGE).min(PAGE);
        let request = pb::ListForwardsRequest { page_size: left, page_token };
        let page = client.list_forwards(request).await?.into_inner();
        forwards.extend(page.forwards);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(forwards)
}

async fn close(client: &mut Client, asked: &Close, out: Output) -> Result<(), CtlError> {
    let ids: Vec<Vec<u8>> = match &asked.channel {
        Some(text) => vec![bytes_of("the channel", text, 32, "a channel id: 64 hexadecimal digits")?],
        None => all_channels(client, &Channels { closed: false, node: None })
            .await?
            .into_iter()
            .filter(|channel| can_close(channel, asked.force))
            .map(|channel| channel.channel_id.to_vec())
            .collect(),
    };
    let all = ids.len();
    let (mut closed, mut refused) = (Vec::new(), Vec::new());
    for id in ids {
        match client.close_channel(close_request(&id, asked.force)).await {
            Ok(response) => closed.extend(response.into_inner().channel),
            Err(status) if asked.all => refused.push((id, status.message().to_owned())),
            Err(status) => return Err(status.into()),
        }
    }
    let json = || {
        let refused: Vec<Value> =
            refused.iter().map(|(id, why)| json!({ "channel_id": json::hex_of(id), "why": why })).collect();
        json!({ "closing": closed.iter().map(json::channel).collect::<Vec<_>>(), "refused": refused })
    };
    let text = || {
        let mut text = show::channels(&closed);
        for (id, why) in &refused {
            text.push_str(&format!("{}: {why}\n", json::hex_of(id)));
        }
        text
    };
    out.print(json, text)?;
    if refused.is_empty() { Ok(()) } else { Err(CtlError::SomeNotClosed { failed: refused.len(), all }) }
}

/// Whether a close has a meaning for the channel: a frozen one is closed already, but may be given up.
fn can_close(channel: &pb::Channel, force: bool) -> bool {
    match channel.phase() {
        pb::ChannelPhase::AwaitingConfirmation | pb::ChannelPhase::Open | pb::ChannelPhase::ShuttingDown => {
            true
        }
        pb::ChannelPhase::Frozen => force,
        pb::ChannelPhase::Unspecified
        | pb::ChannelPhase::Opening
        | pb::ChannelPhase::Closing
        | pb::ChannelPhase::Closed
        | pb::ChannelPhase::Failed
        | pb::ChannelPhase::Aborted
        | pb::ChannelPhase::Quarantined => false,
    }
}

fn close_request(id: &[u8], force: bool) -> pb::CloseChannelRequest {
    let world = World::real();
    let request_id = RequestId::new(world.now_ms(), world.random()).to_string();
    pb::CloseChannelRequest { channel_id: id.to_vec().into(), request_id, force }
}

fn bump_request(asked: &Bump) -> Result<pb::BumpRequest, CtlError> {
    let mut txid = match &asked.txid {
        Some(text) => bytes_of("the transaction id", text, 32, "64 hexadecimal digits")?,
        None => Vec::new(),
    };
    // Explorers show it the other way round.
    txid.reverse();
    let transaction = match &asked.transaction {
        Some(text) => hex::decode(text).map_err(|_| CtlError::BadArgument {
            field: "--transaction",
            found: text.clone(),
            expected: "a transaction in hexadecimal digits",
        })?,
        None => Vec::new(),
    };
    let feerate_sat_per_vb = asked.feerate;
    Ok(pb::BumpRequest { txid: txid.into(), transaction: transaction.into(), feerate_sat_per_vb })
}

/// Prints events from an index up to the newest, and on if asked.
async fn follow(client: &mut Client, asked: &Events, out: Output) -> Result<(), CtlError> {
    let newest = client.get_info(pb::OperatorGetInfoRequest {}).await?.into_inner().newest_event;
    if !asked.follow && asked.from > newest {
        return Ok(());
    }
    let request = pb::SubscribeEventsRequest { from_index: asked.from };
    let mut stream = client.subscribe_events(request).await?.into_inner();
    while let Some(event) = stream.message().await? {
        let index = event.index;
        out.print(|| json::event(&event), || format!("{}\n", events::line(&event)))?;
        if !asked.follow && index >= newest {
            return Ok(());
        }
    }
    Ok(())
}

fn bytes_of(
    field: &'static str,
    text: &str,
    length: usize,
    expected: &'static str,
) -> Result<Vec<u8>, CtlError> {
    match hex::decode(text) {
        Ok(bytes) if bytes.len() == length => Ok(bytes),
        Ok(_) | Err(_) => Err(CtlError::BadArgument { field, found: text.to_owned(), expected }),
    }
}
