//! The command lines, as a script uses them: one JSON object for each call, and an exit status that tells.

use std::ffi::OsString;

use regtest::arguments;
use regtest::lab::{Lab, Wallet};
use regtest::programs::Name;
use serde_json::Value;

use crate::support::{CAPACITY_SAT, LARGE_MSAT, SMALL_MSAT, SOON, hub_earned, lab_of, pair};

/// Runs `hubctl` or `hubwallet` on a data folder, with `--json`, and reads the object it prints.
pub async fn json(lab: &Lab, name: Name, folder: &std::path::Path, words: &[&str]) -> Value {
    let output = run(lab, name, folder, words).await;
    assert!(output.status.success(), "{name} {words:?}: {}", output.stderr);
    serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{words:?}: {error}: {}", output.stdout))
}

/// Runs one with `--json`, whatever comes of it.
pub async fn run(lab: &Lab, name: Name, folder: &std::path::Path, words: &[&str]) -> regtest::lab::Output {
    let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    arguments.extend(arguments!["--json", "--data-dir", folder]);
    lab.program().output(name, &arguments).await.unwrap()
}

async fn hubctl(lab: &Lab, words: &[&str]) -> Value {
    json(lab, Name::Hubctl, lab.hub().daemon().folder(), words).await
}

async fn hubwallet(lab: &Lab, wallet: &Wallet, words: &[&str]) -> Value {
    json(lab, Name::Hubwallet, wallet.daemon().folder(), words).await
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn hubctl_has_every_call_of_the_operator_as_json() {
    let (lab, payer, payee) = pair().await;
    let invoice = payee.invoice(LARGE_MSAT, "to be seen").await.unwrap();
    payer.pay(&invoice).await.unwrap();
    lab.quiet().await.unwrap();
    hub_earned(&lab, LARGE_MSAT / 10_000).await;

    let info = hubctl(&lab, &["info"]).await;
    assert_eq!(info["network"], "regtest");
    assert_eq!(info["chain_ok"], true);
    assert_eq!(info["peers"], 2);
    assert_eq!(info["channels"], 2);
    assert!(info["journal"]["commits"].as_u64() > Some(0));
    assert_eq!(text(&info["node_key"]).len(), 66);

    let balances = hubctl(&lab, &["balances"]).await;
    assert!(balances["on_chain"]["confirmed_sat"].as_u64() > Some(0));
    let sum = ["channels_local_msat", "channels_remote_msat", "channels_in_flight_msat"];
    let sum: u64 = sum.iter().map(|name| balances[name].as_u64().unwrap()).sum();
    assert_eq!(sum, 2 * CAPACITY_SAT * 1_000);
    assert_eq!(balances["fees_earned_msat"], LARGE_MSAT / 10_000);

    assert!(text(&hubctl(&lab, &["address"]).await["address"]).starts_with("bcrt1"));
    assert_eq!(hubctl(&lab, &["peers"]).await["peers"].as_array().unwrap().len(), 2);
    let channels = hubctl(&lab, &["channels"]).await;
    let channels = channels["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 2);
    assert!(channels.iter().all(|channel| channel["phase"] == "open" && channel["usable"] == true));
    let key = hex::encode(payer.node_key());
    let own = hubctl(&lab, &["channels", "--node", &key]).await;
    assert_eq!(own["channels"].as_array().unwrap().len(), 1);
    let forwards = hubctl(&lab, &["forwards"]).await;
    assert_eq!(forwards["forwards"][0]["state"], "settled");

    let folder = lab.hub().daemon().folder().to_owned();
    let events = run(&lab, Name::Hubctl, &folder, &["events"]).await;
    assert!(events.status.success(), "{}", events.stderr);
    let events: Vec<Value> =
        events.stdout.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let indices: Vec<u64> = events.iter().map(|event| event["index"].as_u64().unwrap()).collect();
    assert!(indices.is_sorted_by(|one, next| one < next), "{indices:?}");
    assert!(events.iter().any(|event| event["event"] == "forward_settled"));

    let id = text(&channels[0]["channel_id"]);
    let closing = hubctl(&lab, &["close", id]).await;
    assert_eq!(closing["closing"].as_array().unwrap().len(), 1);
    let unknown = run(&lab, Name::Hubctl, &folder, &["close", &"07".repeat(32)]).await;
    assert_eq!(unknown.status.code(), Some(1), "{}", unknown.stdout);
    assert!(!unknown.stderr.is_empty());
    let wrong = run(&lab, Name::Hubctl, &folder, &["close", "nonsense"]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stdout);

    hubctl(&lab, &["stop"]).await;
    assert!(lab.hub().daemon().ended(SOON).await.unwrap().success());
    let gone = run(&lab, Name::Hubctl, &folder, &["info"]).await;
    assert_eq!(gone.status.code(), Some(3), "{}", gone.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn hubwallet_has_every_call_of_a_wallet_as_json() {
    let (lab, wallets) = lab_of(&["alice", "bob"]).await;
    let (alice, bob) = (&wallets[0], &wallets[1]);

    let info = hubwallet(&lab, alice, &["info"]).await;
    assert_eq!(info["network"], "regtest");
    assert_eq!(info["hub_connected"], true);
    assert_eq!(text(&info["node_key"]), hex::encode(alice.node_key()));
    assert!(text(&hubwallet(&lab, alice, &["address"]).await["address"]).starts_with("bcrt1"));

    let invoice = hubwallet(&lab, bob, &["invoice", "--amount-msat", "100000", "--description", "tea"]).await;
    let invoice = text(&invoice["invoice"]).to_owned();
    let decoded = hubwallet(&lab, alice, &["decode", &invoice]).await;
    assert_eq!(decoded["amount_msat"], SMALL_MSAT);
    assert_eq!(decoded["description"], "tea");
    let paid = hubwallet(&lab, alice, &["pay", &invoice]).await;
    assert_eq!(paid["state"], "settled");
    let payee = hex::encode(bob.node_key());
    let sent = hubwallet(&lab, alice, &["send", &payee, "--amount-sat", "10"]).await;
    assert_eq!(sent["state"], "settled");
    let payments = hubwallet(&lab, bob, &["payments", "--direction", "received"]).await;
    assert_eq!(payments.as_array().unwrap().len(), 2);

    let folder = alice.daemon().folder().to_owned();
    let stream = ["stream", payee.as_str(), "--amount-msat", "1000", "--ticks", "50"];
    let lines = run(&lab, Name::Hubwallet, &folder, &stream).await;
    assert!(lines.status.success(), "{}", lines.stderr);
    let last = lines.stdout.lines().last().expect("progress is printed");
    let last: Value = serde_json::from_str(last).expect("one object a line");
    assert_eq!(last["kind"], "receipt", "{last}");
    assert_eq!(hubwallet(&lab, alice, &["streams"]).await.as_array().unwrap().len(), 1);

    lab.quiet().await.unwrap();
    let channels = hubwallet(&lab, alice, &["channels"]).await;
    assert_eq!(channels.as_array().unwrap().len(), 2);
    let balance = hubwallet(&lab, alice, &["balance"]).await;
    assert!(balance["channels_msat"].as_u64().unwrap() < CAPACITY_SAT * 1_000);

    let opened = hubwallet(&lab, alice, &["open", "--inbound-sat", "100000"]).await;
    assert_eq!(text(&opened["channel_id"]).len(), 64);
    let events = run(&lab, Name::Hubwallet, &folder, &["events", "--from", "1"]).await;
    assert!(events.status.success(), "{}", events.stderr);
    for line in events.stdout.lines() {
        serde_json::from_str::<Value>(line).expect("one object a line");
    }

    // Refusals are told apart by their exit status, and are JSON too.
    let again = run(&lab, Name::Hubwallet, &folder, &["pay", &invoice]).await;
    assert_eq!(again.status.code(), Some(5), "{}", again.stderr);
    let error: Value = serde_json::from_str(&again.stderr).expect("an error is one object");
    assert_eq!(error["error"]["code"], "ALREADY_PAID");
    let wrong = run(&lab, Name::Hubwallet, &folder, &["send", "nonsense", "--amount-sat", "1"]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stderr);
    let twice = ["init", "--hub-address", "127.0.0.1:1", "--hub-node-key", payee.as_str()];
    let twice = run(&lab, Name::Hubwallet, &folder, &twice).await;
    assert!(!twice.status.success(), "a wallet is never overwritten");

    let id = channels[0]["channel_id"].as_str().unwrap();
    hubwallet(&lab, alice, &["close", id]).await;
    hubwallet(&lab, alice, &["stop"]).await;
    assert!(alice.daemon().ended(SOON).await.unwrap().success());
    let gone = run(&lab, Name::Hubwallet, &folder, &["info"]).await;
    assert_eq!(gone.status.code(), Some(3), "{}", gone.stderr);
}
