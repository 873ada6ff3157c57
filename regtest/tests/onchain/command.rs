//! The command lines, as a person uses them on the processes of a stage, with `--json`.

use std::ffi::OsString;
use std::path::Path;

use regtest::arguments;
use regtest::lab::{LabError, Wallet};
use regtest::programs::Name;
use regtest::wait::{Look, until_seen};
use serde_json::Value;

use crate::support::{SOON, Stage};

/// What `hubctl` prints.
pub async fn hubctl(stage: &Stage, words: &[&str]) -> Value {
    succeeds(stage, Name::Hubctl, stage.lab.hub().daemon().folder(), words).await
}

/// What `hubwallet` prints on a wallet's daemon.
pub async fn hubwallet(stage: &Stage, wallet: &Wallet, words: &[&str]) -> Value {
    succeeds(stage, Name::Hubwallet, wallet.daemon().folder(), words).await
}

/// What `hubctl` says while it fails.
pub async fn hubctl_refuses(stage: &Stage, words: &[&str]) -> String {
    refused(stage, Name::Hubctl, stage.lab.hub().daemon().folder(), words).await
}

/// What `hubwallet` says while it fails.
pub async fn hubwallet_refuses(stage: &Stage, wallet: &Wallet, words: &[&str]) -> String {
    refused(stage, Name::Hubwallet, wallet.daemon().folder(), words).await
}

async fn succeeds(stage: &Stage, name: Name, folder: &Path, words: &[&str]) -> Value {
    let printed = stage.lab.program().run(name, &arguments_of(folder, words)).await.unwrap();
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{words:?}: {error}: {printed}"))
}

async fn refused(stage: &Stage, name: Name, folder: &Path, words: &[&str]) -> String {
    let output = stage.lab.program().output(name, &arguments_of(folder, words)).await.unwrap();
    assert!(!output.status.success(), "{name} {words:?} should fail: {}", output.stdout);
    format!("{}{}", output.stdout, output.stderr)
}

fn arguments_of(folder: &Path, words: &[&str]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    arguments.extend(arguments!["--json", "--data-dir", folder]);
    arguments
}

/// The rows that `channels` prints: an array of the wallet's, a field of the hub's.
pub fn rows(printed: &Value) -> &[Value] {
    printed.as_array().or(printed["channels"].as_array()).expect("a list of channels")
}

/// The field `onchain.own` of a channel: what its owner does to publish its commitment.
pub fn own(printed: &Value, channel_id: &[u8]) -> Value {
    let id = hex::encode(channel_id);
    let row = rows(printed).iter().find(|row| row["channel_id"] == id.as_str());
    row.expect("the channel is listed")["onchain"]["own"].clone()
}

/// Waits until the commitments of these channels, as the hub's operator sees them, are at a stage.
pub async fn hub_shows(stage: &Stage, channels: &[bytes::Bytes], wanted: &str) -> Vec<Value> {
    until_seen(&format!("commitments that are {wanted}"), SOON, async || {
        let printed = hubctl(stage, &["channels"]).await;
        let own: Vec<Value> = channels.iter().map(|id| own(&printed, id)).collect();
        let all = own.iter().all(|own| own["stage"] == wanted);
        Ok::<_, LabError>(if all { Look::Seen(own) } else { Look::NotYet(format!("{own:?}")) })
    })
    .await
    .unwrap()
}
