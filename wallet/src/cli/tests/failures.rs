//! What goes wrong, said so that it can be mended.

use std::time::Duration;

use daemon::data_dir::write_secret;
use proto::error::{ErrorCode, status, status_with_advice};
use serde_json::json;
use tonic::Status;

use super::{Stage, run, samples};

#[test]
fn a_folder_without_a_wallet_is_named_with_the_command_that_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["info"], "", false);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("hubwallet init --data-dir"), "{}", ran.err);
    let ran = run(folder.path(), &["daemon"], "", false);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("hubwallet init --data-dir"), "{}", ran.err);
}

#[test]
fn a_daemon_that_stopped_or_died_is_named_with_the_command_that_starts_it() {
    let mut stage = Stage::new();
    stage.kill();
    let died = stage.run(&["balance"]);
    assert_eq!((died.code, died.out.as_str()), (3, ""));
    assert!(died.err.contains("ended without stopping cleanly"), "{}", died.err);
    std::fs::remove_file(stage.layout().address()).unwrap();
    std::fs::write(stage.layout().config(), "").unwrap();
    let stopped = stage.run(&["balance", "--json"]);
    assert_eq!((stopped.code, stopped.out.as_str()), (3, ""));
    assert_eq!(stopped.error()["code"], "DAEMON_NOT_RUNNING");
    for advice in [died.err.as_str(), stopped.error()["advice"].as_str().unwrap()] {
        assert!(advice.contains("start it: hubwallet daemon --data-dir /"), "{advice}");
    }
}

#[test]
fn a_wrong_token_has_an_exit_code_of_its_own() {
    let stage = Stage::new();
    write_secret(&stage.layout().token(), "00".repeat(32).as_bytes()).unwrap();
    let ran = stage.run(&["info"]);
    assert_eq!(ran.code, 4);
    assert!(ran.err.contains("another wallet's daemon"), "{}", ran.err);
}

#[test]
fn a_refusal_keeps_the_daemons_words() {
    let stage = Stage::new();
    stage.played.refuse(status(ErrorCode::InsufficientFunds, "5 sat are needed; 3 sat are there"));
    let ran = stage.run(&["open", "--amount-sat", "5"]);
    assert_eq!(ran.code, 5);
    assert!(ran.err.starts_with("hubwallet: 5 sat are needed; 3 sat are there\n"), "{}", ran.err);
    assert!(ran.err.contains("hubwallet balance"), "{}", ran.err);

    stage.played.refuse(status_with_advice(ErrorCode::HubOffline, "not connected", "wait a little"));
    let ran = stage.run(&["open", "--inbound-sat", "5", "--json"]);
    let error = ran.error();
    assert_eq!((ran.code, ran.out.as_str()), (7, ""));
    assert_eq!((&error["code"], &error["advice"]), (&json!("HUB_OFFLINE"), &json!("wait a little")));
    assert_eq!((&error["exit_code"], &error["field"]), (&json!(7), &json!("")));
}

#[test]
fn a_failed_payment_has_an_exit_code_of_its_own_however_the_daemon_tells_it() {
    let stage = Stage::new();
    stage.played.refuse(status(ErrorCode::PaymentFailed, "payment 13 failed: no liquidity"));
    let told = stage.run(&["pay", "lnbcrt1sample", "--json"]);
    stage.played.payment(samples::failed_payment());
    let given = stage.run(&["pay", "lnbcrt1sample", "--json"]);
    for ran in [told, given] {
        assert_eq!((ran.code, ran.out.as_str()), (6, ""));
        assert_eq!(ran.error()["code"], "PAYMENT_FAILED");
        assert!(ran.error()["text"].as_str().unwrap().contains("payment 13 failed"));
    }
}

#[test]
fn a_payment_still_in_flight_is_asked_for_again_under_the_same_id() {
    let stage = Stage::new();
    stage.played.refuse(status(ErrorCode::StillUnderWay, "payment 12 is still in flight"));
    stage.json(&["pay", "lnbcrt1sample"]);
    let ids = stage.played.request_ids();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

#[test]
fn without_patience_the_id_to_ask_again_under_is_shown() {
    let stage = Stage::new();
    stage.played.refuse(status(ErrorCode::StillUnderWay, "payment 12 is still in flight"));
    let ran = stage.run(&["pay", "lnbcrt1sample", "--wait-seconds", "0"]);
    assert_eq!(ran.code, 8);
    assert!(ran.err.contains("--request-id 0"), "{}", ran.err);
}

#[test]
fn a_call_survives_the_daemons_death_and_reaches_the_next_on_its_port() {
    let mut stage = Stage::new();
    *stage.played.hang.lock().unwrap() = true;
    let folder = stage.folder.path().to_owned();
    let call = std::thread::spawn(move || run(&folder, &["pay", "lnbcrt1sample", "--json"], "", false));
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hanging = std::sync::Arc::clone(&stage.played.hanging);
    waiting
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), hanging.notified()).await })
        .unwrap();

    stage.kill();
    *stage.played.hang.lock().unwrap() = false;
    stage.start();
    let ran = call.join().unwrap();
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ids = stage.played.request_ids();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

#[test]
fn a_broken_connection_is_no_answer_but_a_refusal_is() {
    for (status, again) in [
        (Status::unavailable("connection reset"), true),
        (Status::unknown("transport error"), true),
        (status(ErrorCode::Stopping, "stopping"), true),
        (status(ErrorCode::StillUnderWay, "not yet"), true),
        (status(ErrorCode::HubOffline, "not connected"), false),
        (status(ErrorCode::Fault, "disk"), false),
        (Status::unimplemented("older daemon"), false),
    ] {
        assert_eq!(crate::client::may_have_happened(&status), again, "{status:?}");
    }
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
fn a_stream_that_did_not_pay_everything_failed_and_its_receipt_is_shown_all_the_same() {
    let stage = Stage::new();
    let mut short = samples::stream();
    (short.settled, short.text) = (400, "the payee is gone".into());
    stage.played.stream(vec![Ok(short)]);
    let ran = stage.run(&STREAM);
    assert_eq!(ran.code, 6);
    assert!(ran.out.contains("signature"), "{}", ran.out);
    assert!(ran.err.contains("after 400 of 1000 ticks: the payee is gone"), "{}", ran.err);

    let mut refused = samples::running(0);
    refused.state = proto::wallet::v1::StreamState::Refused.into();
    refused.text = "too many streams".into();
    stage.played.stream(vec![Ok(refused)]);
    let ran = stage.run(&STREAM);
    assert_eq!(ran.code, 6);
    assert!(ran.err.contains("refused the stream: too many streams"), "{}", ran.err);
}

#[test]
fn events_no_longer_kept_are_an_error_never_a_gap() {
    let stage = Stage::new();
    stage.played.refuse(status(ErrorCode::Unspecified, "skipped"));
    assert_eq!(stage.run(&["events"]).code, 1);
    let ran = {
        stage.played.events(vec![Err(status(ErrorCode::EventsTooOld, "the oldest event kept is 9"))]);
        stage.run(&["events", "--from", "3"])
    };
    assert_eq!((ran.code, ran.out.as_str()), (5, ""));
    assert!(ran.err.contains("the oldest event kept is 9"), "{}", ran.err);
    assert!(ran.err.contains("events --follow"), "{}", ran.err);
}

#[test]
fn a_channel_that_is_not_clear_is_not_closed() {
    let stage = Stage::new();
    let mut other = samples::channel();
    other.channel_id = [vec![0x5f], vec![0; 31]].concat().into();
    stage.played.channels(vec![samples::channel(), other]);
    for (wanted, code, part) in [
        ("5f", 2, "more than one"),
        ("60", 5, "no channel begins with 60"),
        ("xyz", 2, "hexadecimal"),
        ("", 2, "hexadecimal"),
    ] {
        let ran = stage.run(&["close", wanted]);
        assert_eq!(ran.code, code, "{wanted}");
        assert!(ran.err.contains(part), "{}", ran.err);
    }
    assert_eq!(stage.played.times_asked("CloseChannel"), 0);
}

#[test]
fn a_channel_that_ended_is_not_waited_for() {
    let stage = Stage::new();
    stage.played.channels(vec![samples::closed(samples::id(0x5f))]);
    let ran = stage.run(&["open", "--amount-sat", "1000000", "--wait-seconds", "60"]);
    assert_eq!(ran.code, 6);
    assert!(ran.err.contains("channel 5f5f5f5f5f5f is closed"), "{}", ran.err);
}

#[test]
fn an_amount_above_all_bitcoin_is_refused_before_anybody_is_asked() {
    let stage = Stage::new();
    let ran = stage.run(&["invoice", "--amount-sat", "2100000000000001"]);
    assert_eq!(ran.code, 2);
    assert_eq!(stage.played.times_asked("CreateInvoice"), 0);
}
