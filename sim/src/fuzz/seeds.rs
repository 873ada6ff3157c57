//! Real encodings: what the corpus began with, and what is mutated.

use std::time::Duration;

use bitcoin::hashes::Hash;
use channel::amount::Msat;
use channel::bytes::PaymentPreimage;
use channel::channel::{Channel, Checked};
use channel::effect::Report;
use channel::event::{Command, Event};
use channel::failure::FailureReason;
use channel::forward::ForwardKey;
use channel::ids::{ChannelId, OwnerId, StreamId};
use channel::keys::Point;
use channel::message::Message;
use hub::control::{Input as RegistryInput, Registry};
use hub::events::{HubEvent, HubHappening};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use prost::Message as _;
use proto::frame::{FrameBuilder, InboundRequest};
use proto::hub::v1 as pb;
use secp256k1::SecretKey;
use settlement::desk;
use shard::{EventRecord, Happening};
use wallet::ledger::entry::{Entry, KeyRun, TickRun};
use wallet::ledger::state::State as LedgerState;

use super::check::scenes;
use super::duo::Duo;

type Seeds = Vec<(String, Vec<u8>)>;

/// Messages that the ends of a scene exchange when they go on.
fn exchanged(scene: &Duo) -> Vec<Message> {
    let mut duo = scene.clone();
    duo.disconnect();
    duo.connect();
    let mut messages = Vec::new();
    for _ in 0..12 {
        for end in 0..2 {
            messages.extend(duo.ends[end].outbox.front().cloned());
            duo.deliver(1 - end);
            duo.command(end, Command::SignNow);
        }
    }
    messages
}

/// Frames with every kind of message, and with the rest.
pub fn frames() -> Seeds {
    let mut seeds = Seeds::new();
    for (number, scene) in scenes().into_iter().enumerate() {
        let mut builder = FrameBuilder::default();
        builder.channel(ChannelId([7; 32]), &exchanged(scene));
        builder.ping(5);
        for (part, frame) in builder.take().into_iter().enumerate() {
            seeds.push((format!("scene-{number}-{part}"), frame.encode_to_vec()));
        }
    }
    let mut builder = FrameBuilder::default();
    builder.inbound_request(&InboundRequest { request_id: [3; 16], amount_sat: 100_000, max_fee_sat: 5_000 });
    builder.pong(6);
    seeds.extend(builder.take().iter().map(|frame| ("inbound".to_owned(), frame.encode_to_vec())));
    let goodbye = proto::frame::goodbye(pb::ErrorCode::Unspecified, "enough");
    seeds.push(("goodbye".to_owned(), goodbye.encode_to_vec()));
    seeds
}

/// Rows of every machine, with the kind's byte in front.
pub fn records() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |kind: u8, name: String, row: Vec<u8>| seeds.push((name, [vec![kind], row].concat()));
    for (number, row) in channel_rows().into_iter().enumerate() {
        add(0, format!("channel-{number}"), row);
    }
    for (number, input) in registry_inputs().iter().enumerate() {
        let mut row = Vec::new();
        input.encode(&mut row);
        add(1, format!("registry-{number}"), row);
    }
    for (number, entry) in entries().iter().enumerate() {
        let mut row = Vec::new();
        entry.encode(&mut row);
        add(2, format!("ledger-{number}"), row);
    }
    add(3, "event".to_owned(), event().encode());
    add(4, "hub-event".to_owned(), hub_event().encode());
    add(4, "hub-channel-event".to_owned(), event().encode());
    add(5, "wallet-event".to_owned(), event().encode());
    for (number, row) in desk_rows().into_iter().enumerate() {
        add(7, format!("desk-{number}"), row);
    }
    seeds
}

/// The rows that the scenes' next steps write.
fn channel_rows() -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    for scene in scenes() {
        let ends = &scene.ends;
        for (end, other) in [(0, 1), (1, 0)] {
            let context = ends[end].party.context(scene.height, &super::duo::ToLedger);
            let events = [
                ends[other].outbox.front().cloned().map(Event::Message),
                Some(Event::Command(Command::SignNow)),
                Some(Event::Command(Command::Disconnected)),
                Some(Event::Message(Message::ChannelReady)),
            ];
            for event in events.into_iter().flatten() {
                if let Ok(Checked::Input(input)) = ends[end].channel.check(event, &context) {
                    let mut row = Vec::new();
                    input.encode(&mut row);
                    rows.push(row);
                }
            }
        }
    }
    rows.sort();
    rows.dedup();
    rows
}

fn registry_inputs() -> Vec<RegistryInput> {
    let (id, node, request) = (StreamId([1; 16]), Point::from_bytes([2; 33]), [3; 16]);
    vec![
        RegistryInput::StreamAccepted { id },
        RegistryInput::StreamEnded { id },
        RegistryInput::InboundOpened { node, request },
        RegistryInput::CallRemembered { request, body: [4; 32] },
        RegistryInput::RequestsForgotten { before_ms: 1_767_225_600_000 },
    ]
}

fn entries() -> Vec<Entry> {
    let (id, incoming) = (StreamId([1; 16]), OwnerId(2_000));
    let run = TickRun { incoming, attempt: 1, htlc_id: 7, index: 3, count: 250 };
    vec![
        Entry::PaymentRetried { number: 4, to: OwnerId(5) },
        Entry::PaymentSettled { number: 4, preimage: PaymentPreimage::from_bytes([6; 32]), now_ms: 1_000 },
        Entry::PaymentFailed { number: 4, reason: FailureReason::NoLiquidity, now_ms: 1_000 },
        Entry::TicksReceived { id, runs: vec![run], now_ms: 2_000 },
        Entry::StreamRefused { id, text: "no".to_owned(), now_ms: 2_000 },
        Entry::Acknowledged { runs: vec![KeyRun { incoming, attempt: 1, htlc_id: 7, count: 250 }] },
    ]
}

fn event() -> EventRecord {
    EventRecord {
        time_ms: 1_767_225_600_000,
        owner: OwnerId(7),
        channel_id: ChannelId([8; 32]),
        node: Point::from_bytes([2; 33]),
        what: Happening::Report(Report::ForwardFailed {
            key: ForwardKey { incoming: OwnerId(7), htlc_id: 1, attempt: 2 },
            payment_hash: PaymentPreimage::from_bytes([6; 32]).payment_hash(),
            amount_msat: Msat::from_u32(5_000),
            reason: FailureReason::TimedOut,
            stream: None,
        }),
    }
}

fn hub_event() -> HubEvent {
    HubEvent { time_ms: 5, what: HubHappening::PeerConnected { node: Point::from_bytes([2; 33]) } }
}

/// Rows of the desk as bytes, since their type is its own: the version, the variant's position, its fields.
fn desk_rows() -> Vec<Vec<u8>> {
    let hash = |tag: u8| [vec![32], vec![tag; 32]].concat();
    // Started at height 100 with one hash and a final depth of 6; connected to 101; suspended by 9; resumed; forgotten.
    let started = [vec![2, 0, 100, 1], hash(1), vec![6]].concat();
    let connected = [vec![2, 2, 101], hash(2), vec![0]].concat();
    let disconnected = [vec![2, 3, 101], hash(2), vec![0]].concat();
    let small = [vec![2, 12, 9], vec![2, 13], vec![2, 5, 9]];
    let mut rows = vec![started.clone(), connected.clone(), disconnected.clone()];
    rows.extend(small.iter().cloned());
    // Several rows, each with its length in front.
    let framed = |row: &Vec<u8>| [vec![u8::try_from(row.len()).unwrap_or(u8::MAX)], row.clone()].concat();
    rows.push([&started, &connected, &disconnected, &small[0], &small[1]].map(framed).concat());
    rows
}

/// Snapshots of every machine, with the kind's byte in front.
pub fn snapshots() -> Seeds {
    let mut seeds = Seeds::new();
    for (number, scene) in scenes().into_iter().enumerate() {
        for (end, name) in scene.ends.iter().zip(["hub", "wallet"]) {
            let channel: &Channel = &end.channel;
            seeds.push((format!("channel-{number}-{name}"), [vec![0], channel.encode_snapshot()].concat()));
        }
    }
    let mut registry = Registry::default();
    for input in registry_inputs() {
        registry.apply(&input);
    }
    seeds.push(("registry".to_owned(), [vec![1], registry.encode()].concat()));
    seeds.push(("ledger-empty".to_owned(), [vec![2], LedgerState::default().encode()].concat()));
    let rows = desk_rows();
    let rows: Vec<&[u8]> = [0, 1, 3].iter().map(|row| rows[*row].as_slice()).collect();
    if let Ok(state) = desk::replay(&[], &rows) {
        seeds.push(("desk".to_owned(), [vec![3], state].concat()));
    }
    seeds
}

/// Invoices of every shape that wallets make, and texts that are none.
pub fn invoices() -> Seeds {
    let key = SecretKey::from_slice(&[9; 32]).expect("within the curve's order");
    let hash = bitcoin::hashes::sha256::Hash::hash(&[5; 32]);
    let build = |amount: Option<u64>, text: &str| {
        let builder = InvoiceBuilder::new(Currency::Regtest)
            .description(text.to_owned())
            .payment_hash(hash)
            .payment_secret(PaymentSecret([7; 32]))
            .duration_since_epoch(Duration::from_secs(1_767_225_600))
            .expiry_time(Duration::from_secs(3_600))
            .min_final_cltv_expiry_delta(40);
        let builder = match amount {
            Some(amount) => builder.amount_milli_satoshis(amount),
            None => builder,
        };
        builder
            .build_signed(|hash| secp256k1::SECP256K1.sign_ecdsa_recoverable(hash, &key))
            .map(|invoice| invoice.to_string())
            .expect("all that an invoice needs is given")
    };
    let text = |name: &str, text: String| (name.to_owned(), text.into_bytes());
    vec![
        text("with-amount", build(Some(250_000_000), "coffee")),
        text("without-amount", build(None, "")),
        text("upper-case", build(Some(1), "x").to_uppercase()),
        text("with-scheme", format!("lightning:{}", build(Some(10), "x"))),
        text("not-one", "lnbcrt1".to_owned()),
    ]
}

/// Scenes, and steps that go somewhere.
pub fn check() -> Seeds {
    let mut seeds = Seeds::new();
    for scene in 0..6u8 {
        // Both sign, deliver, offer, resolve, connect again, restart.
        let mut data = vec![scene];
        for turn in 0..6u8 {
            data.extend([4, turn & 1, 200, turn + 20, 3]);
            data.extend([3, turn & 1, 0, 1, 0, 0, 1, 1, 0, 0]);
            data.extend([5, turn & 1, 0, (turn + 20) << 1, 3, 0, 0, 1, 3, 1, 0, 0]);
        }
        data.extend([8, 0, 0, 0, 0, 1, 9, 0, 8, 0, 0, 0, 0, 1]);
        seeds.push((format!("honest-{scene}"), data.clone()));
        // The same with hostile messages between.
        let mut hostile = vec![scene];
        for (position, pair) in data[1..].chunks(2).enumerate() {
            hostile.extend(pair);
            if position % 5 == 0 {
                hostile.extend([16, 0, u8::try_from(position % 13).unwrap_or(0), 1, 2, 3, 4]);
            }
        }
        seeds.push((format!("hostile-{scene}"), hostile));
        // Given up, on the chain, cheated.
        seeds
            .push((format!("chain-{scene}"), vec![scene, 11, 0, 2, 12, 0, 0, 12, 0, 1, 12, 1, 1, 10, 0, 63]));
        let mut cheat = vec![scene, 4, 0, 200, 30, 3, 3, 0, 0, 1, 0, 1, 0, 0, 3, 1, 0, 0, 0, 1];
        cheat.extend([12, 0, 2, 12, 1, 1]);
        seeds.push((format!("cheat-{scene}"), cheat));
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{records::is_record, snapshots::is_snapshot};

    #[test]
    fn every_seed_is_what_it_says() {
        for (name, data) in records() {
            assert!(is_record(&data), "{name} is no row");
        }
        for (name, data) in snapshots() {
            assert!(is_snapshot(&data), "{name} is no snapshot");
        }
        for (name, data) in frames() {
            let frame = pb::Frame::decode(data.as_slice()).unwrap();
            assert!(proto::frame::open(frame).is_ok(), "{name} is refused");
        }
        let read = |data: &[u8]| wallet::ledger::read_invoice(&String::from_utf8_lossy(data)).is_ok();
        assert_eq!(invoices().iter().filter(|(_, data)| read(data)).count(), 4);
    }
}
