//! What scripts get, and what the daemon is asked for it.

use serde_json::{Value, json};

use super::{Stage, samples};

fn repeated(pair: &str) -> String {
    pair.repeat(32)
}

fn key(pair: &str) -> String {
    format!("02{}", pair.repeat(32))
}

/// A transaction id whose first byte in hashing order is this one: explorers show it last.
fn txid(pair: &str) -> String {
    format!("{}{pair}", "00".repeat(31))
}

#[test]
fn info_has_the_wallet_its_hub_and_its_chain() {
    let info = Stage::new().json(&["info"]);
    assert_eq!(info["node_key"], key("01"));
    assert_eq!(info["block_hash"], txid("09"));
    assert_eq!(info["hub_connected"], false);
    assert_eq!(info["hub_policy"]["max_inbound_sat"], 5_000_000);
    assert_eq!(info["hub_policy"]["inbound_fee_base_sat"], 1_000);
    assert_eq!(info["hub_policy"]["inbound_fee_ppm"], 500);
    assert_eq!(info["hub_policy"]["inbound_reserve_sat"], 10_000);
    assert_eq!(info["newest_event"], 30);
    assert_eq!(info["trouble"], "the hub does not answer");
}

#[test]
fn address_and_balance_are_objects() {
    let stage = Stage::new();
    assert_eq!(stage.json(&["address"]), json!({ "address": "bcrt1qsample" }));
    let expected = json!({
        "on_chain": { "confirmed_sat": 50_000, "unconfirmed_sat": 7, "locked_sat": 0 },
        "channels_msat": 600_000_500_u64,
        "in_flight_msat": 0,
        "spendable_msat": 590_000_500_u64,
        "receivable_msat": 389_999_500_u64,
        "dust_exposure_msat": 0,
        "reserve": {
            "needed_coins": 1,
            "confirmed_coins": 2,
            "needed_sat": 10_000,
            "available_sat": 50_000,
            "short": false,
        },
        "publishing_suspended": false,
        "held": 0,
    });
    assert_eq!(stage.json(&["balance"]), expected);
}

#[test]
fn closes_on_the_chain_are_paid_for_released_and_resumed() {
    let stage = Stage::new();
    let id = txid("08");
    let bumped = json!({ "txid": id, "child_txid": txid("09"), "fee_sat": 14_000 });
    assert_eq!(stage.json(&["bump", &id, "--feerate", "40"]), bumped);
    assert_eq!(stage.json(&["bump", "--transaction", "0300", "--feerate", "40"]), bumped);
    assert_eq!(stage.json(&["release"]), json!({ "released": [repeated("5f")] }));
    let resumed = stage.json(&["resume-publishing", "--data-is-the-latest"]);
    assert_eq!(resumed, json!({ "was_suspended": true }));
}

#[test]
fn what_a_scan_finds_is_shown_with_its_sum() {
    let stage = Stage::new();
    let found = |value_sat: u64, of_channel: bool| {
        json!({
            "txid": txid("07"),
            "output_index": 1,
            "value_sat": value_sat,
            "height": 50,
            "earliest_height": 51,
            "of_channel": of_channel,
        })
    };
    let expected =
        json!({ "height": 60, "found": [found(9_000, false), found(500, true)], "total_sat": 9_500 });
    assert_eq!(stage.json(&["scan"]), expected);
}

fn channel_as_json() -> Value {
    json!({
        "channel_id": repeated("5f"),
        "node_key": key("02"),
        "phase": "open",
        "online": true,
        "usable": true,
        "capacity_sat": 1_000_000,
        "local_msat": 600_000_500_u64,
        "remote_msat": 399_999_500_u64,
        "in_flight_msat": 0,
        "htlcs": 0,
        "spendable_msat": 590_000_500_u64,
        "receivable_msat": 389_999_500_u64,
        "dust_exposure_msat": 0,
        "funding": { "txid": txid("07"), "index": 1 },
        "funded_locally": true,
        "confirmations": 6,
        "minimum_depth": 3,
        "local_to_self_delay_blocks": 144,
        "remote_to_self_delay_blocks": 2_016,
        "local_commitment_number": 8,
        "remote_commitment_number": 9,
        "closing_txid": "",
        "closing_height": 0,
        "paid_sat": 0,
        "price_msat": 0,
        "price_unpaid_msat": 0,
        "online_again_by_height": 3_250,
        "failure": "",
        "format": "zero_fee_commitments",
        "onchain": null,
    })
}

#[test]
fn channels_is_an_array_and_closed_ones_come_when_asked_for() {
    let stage = Stage::new();
    assert_eq!(stage.json(&["channels"]), json!([channel_as_json()]));
    assert!(stage.played.last("ListChannels").contains("include_closed: false"));
    stage.json(&["channels", "--closed"]);
    assert!(stage.played.last("ListChannels").contains("include_closed: true"));
    stage.played.channels(Vec::new());
    assert_eq!(stage.json(&["channels"]), json!([]));
}

#[test]
fn open_names_the_channel_and_the_id_to_repeat_under() {
    let stage = Stage::new();
    let opened = stage.json(&["open", "--amount-sat", "1000000"]);
    assert_eq!(opened["channel_id"], repeated("5f"));
    assert_eq!(opened["amount_sat"], 1_000_000);
    assert_eq!(opened["request_id"], stage.played.request_ids()[0]);
    assert!(opened.get("channel").is_none());

    stage.json(&["open", "--inbound-sat", "70000"]);
    let asked = stage.played.last("RequestInbound");
    assert!(asked.contains("amount_sat: 70000") && asked.contains("max_fee_sat: None"), "{asked}");
    let opened = stage.json(&["open", "--inbound-sat", "70000", "--max-fee-sat", "0"]);
    assert_eq!(opened["max_fee_sat"], 0);
    assert!(stage.played.last("RequestInbound").contains("max_fee_sat: Some(0)"));
}

#[test]
fn open_that_waits_has_the_usable_channel() {
    let opened = Stage::new().json(&["open", "--amount-sat", "1000000", "--wait-seconds", "60"]);
    assert_eq!(opened["channel"], channel_as_json());
}

#[test]
fn amounts_in_satoshi_are_asked_for_in_millisatoshi() {
    let stage = Stage::new();
    let made = stage.json(&["invoice", "--amount-sat", "100", "--description", "two coffees"]);
    let expected = json!({
        "invoice": "lnbcrt1sample",
        "payment_hash": repeated("04"),
        "expires_at_ms": 1_700_003_600_000_u64,
    });
    assert_eq!(made, expected);
    let asked = stage.played.last("CreateInvoice");
    assert!(asked.contains("amount_msat: Some(100000)") && asked.contains("expiry_seconds: 3600"), "{asked}");
    stage.json(&["invoice"]);
    assert!(stage.played.last("CreateInvoice").contains("amount_msat: None"));
}

#[test]
fn decode_explains_an_invoice() {
    let expected = json!({
        "payee": key("03"),
        "network": "regtest",
        "amount_msat": 100_000,
        "payment_hash": repeated("04"),
        "description": "two coffees",
        "description_hash": "",
        "created_at_ms": 1_700_000_000_000_u64,
        "expires_at_ms": 1_700_003_600_000_u64,
        "min_final_cltv_expiry_delta": 18,
        "expired": true,
        "via_our_hub": true,
        "ours": false,
    });
    assert_eq!(Stage::new().json(&["decode", "lnbcrt1sample"]), expected);
}

fn payment_as_json() -> Value {
    json!({
        "number": 12,
        "direction": "sent",
        "state": "settled",
        "payment_hash": repeated("04"),
        "amount_msat": 100_000,
        "fee_msat": 1_010,
        "preimage": repeated("05"),
        "failure": "",
        "attempts": 1,
        "created_at_ms": 1_700_000_000_000_u64,
        "ended_at_ms": 1_700_000_001_000_u64,
        "payee": key("03"),
        "description": "two coffees",
        "spontaneous": false,
        "on_chain": false,
        "expiry_height": 0,
    })
}

#[test]
fn pay_and_send_have_the_payment_with_its_proof() {
    let stage = Stage::new();
    assert_eq!(stage.json(&["pay", "lnbcrt1sample", "--max-fee-msat", "0"]), payment_as_json());
    let asked = stage.played.last("PayRequest");
    assert!(asked.contains("max_fee_msat: Some(0)") && asked.contains("amount_msat: None"), "{asked}");

    let payee = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    assert_eq!(stage.json(&["send", payee, "--amount-msat", "1"]), payment_as_json());
    assert!(stage.played.last("SendRequest").contains("amount_msat: 1,"));
}

#[test]
fn payments_come_in_pages_until_the_limit() {
    let stage = Stage::new();
    let all = stage.json(&["payments"]);
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(all[0]["direction"], "received");
    assert_eq!(all[1]["failure"], "no_liquidity");
    assert_eq!(all[2], payment_as_json());
    assert_eq!(stage.played.times_asked("ListPayments"), 2);
    assert_eq!(stage.json(&["payments", "--limit", "2"]).as_array().unwrap().len(), 2);
    stage.json(&["payments", "--direction", "received"]);
    assert!(stage.played.last("ListPayments").contains("direction: Received"));
}

const STREAM: [&str; 6] = [
    "stream",
    "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "--amount-msat",
    "100",
    "--ticks",
    "1000",
];

#[test]
fn a_stream_prints_its_progress_line_by_line_and_the_receipt_last() {
    let stage = Stage::new();
    stage.played.stream(vec![Ok(samples::running(10)), Ok(samples::running(600)), Ok(samples::stream())]);
    let lines = stage.lines(&STREAM);
    let settled: Vec<&Value> = lines.iter().map(|line| &line["settled"]).collect();
    assert_eq!(settled, [10, 600, 1_000]);
    assert_eq!((&lines[0]["kind"], &lines[0]["receipt"]), (&json!("progress"), &Value::Null));
    let last = &lines[2];
    assert_eq!((&last["kind"], &last["state"]), (&json!("receipt"), &json!("ended")));
    let receipt = json!({ "highest_tick": 1_001, "total_msat": 100_000, "signature": "08".repeat(64) });
    assert_eq!(last["receipt"], receipt);
    assert_eq!(last["request_id"], stage.played.request_ids()[0]);
    assert!(stage.played.last("StartStream").contains("ticks: 1000"));
}

#[test]
fn a_stream_goes_on_under_the_same_id_when_the_connection_breaks() {
    let stage = Stage::new();
    let broken = tonic::Status::unknown("transport error");
    stage.played.stream(vec![Ok(samples::running(10)), Err(broken)]);
    stage.played.stream(vec![Ok(samples::running(600))]);
    let lines = stage.lines(&STREAM);
    assert_eq!(lines.len(), 3);
    let ids = stage.played.request_ids();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn streams_is_an_array() {
    let streams = Stage::new().json(&["streams"]);
    assert_eq!(streams[0]["stream_id"], "06".repeat(16));
    assert_eq!(streams[0]["last_failure"], "channel_unavailable");
}

#[test]
fn events_are_one_object_a_line_up_to_the_newest() {
    let stage = Stage::new();
    stage.played.events((28..=31).map(|index| Ok(samples::event(index))).collect());
    let lines = stage.lines(&["events", "--from", "28"]);
    let indices: Vec<&Value> = lines.iter().map(|line| &line["index"]).collect();
    assert_eq!(indices, [28, 29, 30], "the newest was 30 when the command began");
    assert_eq!(lines[0]["event"], "stream");
    let expected = json!({
        "index": 29,
        "time_ms": 1_700_000_000_000_u64,
        "event": "closed",
        "channel_id": repeated("5f"),
        "node_key": key("02"),
        "txid": txid("03"),
        "height": 1_200,
        "paid_sat": 599_000,
    });
    assert_eq!(lines[1], expected);
    assert_eq!(lines[2]["payment_hash"], repeated("04"));
}

#[test]
fn events_go_on_from_the_next_when_the_connection_breaks() {
    let stage = Stage::new();
    stage.played.events(vec![Ok(samples::event(28)), Err(tonic::Status::unavailable("broken"))]);
    stage.played.events(vec![Ok(samples::event(29)), Ok(samples::event(30))]);
    let lines = stage.lines(&["events", "--from", "28"]);
    assert_eq!(lines.len(), 3);
    assert!(stage.played.last("SubscribeEvents").contains("from_index: 29"));
}

#[test]
fn close_takes_the_first_digits_of_a_channel() {
    let stage = Stage::new();
    let closing = stage.json(&["close", "5F5f"]);
    assert_eq!(
        (&closing["channel_id"], &closing["phase"]),
        (&json!(repeated("5f")), &json!("shutting_down"))
    );
    // A whole id is not looked up: the daemon decides.
    let asked = stage.played.times_asked("ListChannels");
    stage.json(&["close", &repeated("5f")]);
    assert_eq!(stage.played.times_asked("ListChannels"), asked);
}

#[test]
fn close_waits_until_the_close_is_final() {
    let stage = Stage::new();
    stage.played.channels(vec![samples::closed(samples::id(0x5f))]);
    let closed = stage.json(&["close", &repeated("5f"), "--wait-seconds", "60"]);
    assert_eq!((&closed["phase"], &closed["closing_txid"]), (&json!("closed"), &json!(txid("03"))));
}

#[test]
fn close_all_closes_what_can_be_closed_each_under_its_own_id() {
    let stage = Stage::new();
    let channels =
        [samples::channel(), samples::awaiting(samples::id(0x60)), samples::closed(samples::id(0x61))];
    stage.played.channels(channels.into());
    let closing = stage.json(&["close", "--all"]);
    assert_eq!(closing.as_array().unwrap().len(), 2);
    let ids = stage.played.request_ids();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn stop_waits_until_the_daemon_let_go_of_its_folder() {
    let stage = Stage::new();
    let lock = crate::data_dir::DataDir::open(stage.folder.path()).unwrap();
    *stage.played.lock.lock().unwrap() = Some(lock);
    assert_eq!(stage.json(&["stop"]), json!({ "stopped": true }));
}

#[test]
fn an_id_given_is_the_id_sent() {
    let stage = Stage::new();
    let id = crate::client::new_request_id().to_string();
    stage.json(&["invoice", "--request-id", &id]);
    assert_eq!(stage.played.request_ids(), [id]);
}
