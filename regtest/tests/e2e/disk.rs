//! A disk that is nearly full, full, or cannot be written.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Output, Stdio};

use proto::error::ErrorCode;
use proto::wallet::v1 as pb;
use regtest::arguments;
use regtest::lab::{Lab, LabOptions, audit};
use regtest::programs::Name;

use crate::cli;
use crate::support::{SMALL_MSAT, SOON, assert_refused, assert_settled, options, pair};

/// More than any disk has, in MiB.
const MORE_THAN_ANY_DISK: &str = "1073741824";

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_disk_is_nearly_full_refuses_new_channels_by_name() {
    let hub = vec![format!("journal.headroom_mib={MORE_THAN_ANY_DISK}")];
    let mut lab = Lab::start(LabOptions { hub, ..options() }).await.unwrap();
    let wallet = lab.add_wallet("late").await.unwrap();
    lab.fund_wallets(std::slice::from_ref(&wallet), bitcoin::Amount::from_sat(2_000_000)).await.unwrap();
    wallet.is_connected(SOON).await.unwrap();
    assert_refused(wallet.request_inbound(1_000_000).await, &[ErrorCode::DiskNearlyFull]);
    let why = "the counterparty gave up: the hub's disk is nearly full: no new channels for now";
    let folder = wallet.daemon().folder();
    let open = ["open", "--amount-sat", "1000000", "--wait-seconds", "60"];
    let failed = cli::run(&lab, Name::Hubwallet, folder, &open).await;
    assert_eq!(failed.status.code(), Some(6), "{}", failed.stderr);
    assert!(failed.stderr.contains("CHANNEL_ENDED") && failed.stderr.contains(why), "{}", failed.stderr);
    // It lasts: a later look tells the same, also of a wallet that was killed meanwhile.
    wallet.kill().unwrap();
    wallet.start_again().await.unwrap();
    let listed = cli::json(&lab, Name::Hubwallet, folder, &["channels", "--all"]).await;
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["phase"], &listed[0]["failure"]), (&"aborted".into(), &why.into()));
    // What needs no room goes on.
    lab.hub().info().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_whose_disk_is_nearly_full_refuses_new_work_by_name() {
    let mut given = options();
    given.wallet.push(format!("disk.headroom_mib={MORE_THAN_ANY_DISK}"));
    let mut lab = Lab::start(given).await.unwrap();
    let wallet = lab.add_wallet("full").await.unwrap();
    let full = [ErrorCode::DiskNearlyFull];
    assert_refused(wallet.open(1_000_000).await, &full);
    assert_refused(wallet.request_inbound(1_000_000).await, &full);
    assert_refused(wallet.invoice(SMALL_MSAT, "no room").await, &full);
    assert_refused(wallet.pay("lnbcrt1").await, &full);
    assert_refused(wallet.send(&lab.hub().info().await.unwrap().node_key, SMALL_MSAT).await, &full);
    let stream = wallet.client().unwrap().start_stream(pb::StartStreamRequest::default()).await;
    assert_refused(stream.map_err(wallet.refused("StartStream")), &full);
    wallet.info().await.unwrap();
    wallet.balance().await.unwrap();
    wallet.new_address().await.unwrap();
}

/// Below the length of any journal, above that of every other file: what is there can be read, and nothing added.
const NO_ROOM: u64 = 16 * 1024;

/// Starts a program that can make no file longer than `bytes`, as on a disk without room. (The signal that would kill it is
/// ignored, so that the write itself fails.)
fn start_without_room(name: Name, arguments: &[OsString], bytes: u64) -> tokio::process::Child {
    // POSIX counts in blocks of 512 bytes.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes / 512);
    let mut command = tokio::process::Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .arg("sh")
        .arg(env!("CARGO_BIN_EXE_regtest"))
        .arg(name.text())
        .args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

async fn end(child: tokio::process::Child) -> (Option<i32>, String) {
    let output: Output =
        tokio::time::timeout(SOON, child.wait_with_output()).await.expect("it ends by itself").unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn journal_bytes(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("journal.redb")).unwrap().len()
}

#[track_caller]
fn assert_names_the_write((code, text): (Option<i32>, String)) {
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the journal could not be written"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_at_the_start_stops_hub_and_wallet_by_name_and_leaves_their_data() {
    let (lab, payer, payee) = pair().await;
    payer.stop().await.unwrap();
    lab.hub().stop().await.unwrap();
    assert_names_the_write(end(start_without_room(Name::Hubd, &lab.hub().arguments(), NO_ROOM)).await);
    lab.hub().start_again().await.unwrap();
    let child = start_without_room(Name::Hubwallet, &payer.daemon_arguments(), NO_ROOM);
    assert_names_the_write(end(child).await);
    payer.start_again().await.unwrap();
    payer.is_usable(1, SOON).await.unwrap();
    payee.is_usable(1, SOON).await.unwrap();
    assert_settled(&payer.send(payee.node_key(), SMALL_MSAT).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_stops_a_working_hub_and_wallet_by_name_and_loses_nothing() {
    let (lab, payer, payee) = pair().await;
    for name in [Name::Hubd, Name::Hubwallet] {
        let (folder, arguments) = if name == Name::Hubd {
            lab.hub().stop().await.unwrap();
            (lab.hub().daemon().folder(), lab.hub().arguments())
        } else {
            payee.stop().await.unwrap();
            (payee.daemon().folder(), payee.daemon_arguments())
        };
        // Enough for the start and some payments.
        let child = start_without_room(name, &arguments, journal_bytes(folder) + 256 * 1024);
        let paying = async {
            let mut pace = tokio::time::interval(regtest::limits::POLL_EVERY);
            loop {
                pace.tick().await;
                // Whether each settles is no matter: there may be nobody to pay, or no hub.
                let _ = payer.send(payee.node_key(), SMALL_MSAT).await;
            }
        };
        tokio::select! {
            ended = end(child) => assert_names_the_write(ended),
            () = paying => {}
        }
        if name == Name::Hubd {
            lab.hub().start_again().await.unwrap();
        } else {
            payee.start_again().await.unwrap();
        }
        payer.is_usable(1, SOON).await.unwrap();
        payee.is_usable(1, SOON).await.unwrap();
        lab.quiet().await.unwrap();
        audit::channels(&lab).await.unwrap();
    }
    let settled = |payments: Vec<pb::Payment>| {
        let amounts = payments.into_iter().filter(|one| one.state() == pb::PaymentState::Settled);
        amounts.map(|one| one.amount_msat).collect::<Vec<_>>()
    };
    let sent = settled(payer.payments().await.unwrap());
    assert!(!sent.is_empty(), "some payments had room");
    assert_eq!(sent, settled(payee.payments().await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_cannot_be_written_is_named() {
    // Nobody, not even root, can make a folder there.
    let folder = "/proc/self/data";
    let program = options().program;
    let hub = program.output(Name::Hubd, &arguments!["--data-dir", folder]).await.unwrap();
    assert_eq!(hub.status.code(), Some(3), "{}", hub.stderr);
    assert!(hub.stderr.contains("/proc/self/data cannot be written"), "{}", hub.stderr);
    let key = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
    let arguments =
        arguments!["init", "--data-dir", folder, "--hub-address", "localhost:9735", "--hub-node-key", key];
    let wallet = program.output(Name::Hubwallet, &arguments).await.unwrap();
    assert!(!wallet.status.success(), "{}", wallet.stderr);
    assert!(wallet.stderr.contains("/proc/self/data cannot be written"), "{}", wallet.stderr);
}
