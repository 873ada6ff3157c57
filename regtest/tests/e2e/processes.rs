//! Processes: one at a time on the same data, clean stops, and configurations that cannot work.

use regtest::arguments;
use regtest::lab::{Lab, audit, init_arguments};
use regtest::programs::Name;

use crate::fake_node::unusable_nodes;
use crate::support::{LARGE_MSAT, SOON, assert_settled, balance_msat, options, pair};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_is_refused_by_name() {
    let mut lab = Lab::start(options()).await.unwrap();
    let wallet = lab.add_wallet("only").await.unwrap();
    let hub = lab.program().output(Name::Hubd, &lab.hub().arguments()).await.unwrap();
    assert_eq!(hub.status.code(), Some(3), "{}", hub.stderr);
    assert!(hub.stderr.contains("another process uses"), "{}", hub.stderr);
    let second = lab.program().output(Name::Hubwallet, &wallet.daemon_arguments()).await.unwrap();
    assert!(!second.status.success());
    assert!(second.stderr.contains("another process uses"), "{}", second.stderr);
    // The first ones go on.
    lab.hub().info().await.unwrap();
    wallet.info().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_and_start_keeps_everything() {
    let (lab, payer, payee) = pair().await;
    let invoice = payee.invoice(LARGE_MSAT, "before").await.unwrap();
    assert_settled(&payer.pay(&invoice).await.unwrap());
    lab.quiet().await.unwrap();
    let before = (balance_msat(&payer).await, balance_msat(&payee).await);
    lab.hub().stop().await.unwrap();
    payer.stop().await.unwrap();
    payee.stop().await.unwrap();
    lab.hub().start_again().await.unwrap();
    payer.start_again().await.unwrap();
    payee.start_again().await.unwrap();
    payer.is_usable(1, SOON).await.unwrap();
    payee.is_usable(1, SOON).await.unwrap();
    assert_eq!((balance_msat(&payer).await, balance_msat(&payee).await), before);
    audit::channels(&lab).await.unwrap();
    assert_eq!(payee.payments().await.unwrap().len(), 1);
    let invoice = payee.invoice(LARGE_MSAT, "after").await.unwrap();
    assert_settled(&payer.pay(&invoice).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn hubd_refuses_what_it_cannot_run_with_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let program = options().program;
    let rows: [(&[&str], i32, &str); 5] = [
        (&["--network", "bitcoin"], 2, "regtest"),
        (&["--set", "policy.fee_ppm=-1"], 2, "policy.fee_ppm"),
        (&["--set", "policy.nonsense=1"], 2, "policy.nonsense"),
        (&["--operator-listen", "0.0.0.0:0"], 2, "loopback"),
        (&["--nonsense"], 2, "--nonsense"),
    ];
    for (flags, code, word) in rows {
        let mut arguments = Vec::from(arguments!["--data-dir", folder.path().join("hub")]);
        arguments.extend(flags.iter().map(std::ffi::OsString::from));
        let output = program.output(Name::Hubd, &arguments).await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {}", output.stderr);
        assert!(output.stderr.contains(word), "{flags:?}: {}", output.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bitcoind_of_another_network_or_pruned_is_refused_by_hubd_by_name() {
    for (node, words) in unusable_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let cookie = folder.path().join("cookie");
        std::fs::write(&cookie, "user:password").unwrap();
        let arguments = arguments![
            "--data-dir",
            folder.path().join("hub"),
            "--wallets-listen",
            "127.0.0.1:0",
            "--operator-listen",
            "127.0.0.1:0",
            "--bitcoind-url",
            node.url(),
            "--bitcoind-cookie-file",
            &cookie,
        ];
        let program = options().program;
        let output = program.output(Name::Hubd, &arguments);
        let output = tokio::time::timeout(SOON, output).await.expect("hubd ends by itself").unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", output.stderr);
        for word in words {
            assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bitcoind_of_another_network_or_pruned_is_refused_by_hubwallet_by_name_new_or_not() {
    let mut lab = Lab::start(options()).await.unwrap();
    // One that has followed a good chain already, and one that never started.
    let old = lab.add_wallet("old").await.unwrap();
    old.reaches(lab.hub().info().await.unwrap().height, SOON).await.unwrap();
    old.stop().await.unwrap();
    let hub_key = hex::encode(lab.hub().info().await.unwrap().node_key);
    let new = lab.folder().join("new");
    let init = init_arguments(&new, lab.chain(), &lab.hub().address().to_string(), &hub_key);
    lab.program().run(Name::Hubwallet, &init).await.unwrap();
    for (node, words) in unusable_nodes() {
        for folder in [old.daemon().folder(), &new] {
            let arguments = arguments!["daemon", "--data-dir", folder, "--bitcoind-url", node.url()];
            let output = lab.program().output(Name::Hubwallet, &arguments);
            let output = tokio::time::timeout(SOON, output).await.expect("hubwallet ends by itself").unwrap();
            assert_eq!(output.status.code(), Some(3), "{}", output.stderr);
            for word in words {
                assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
            }
        }
    }
    // Nothing of the good chain was forgotten over it.
    old.start_again().await.unwrap();
    old.is_connected(SOON).await.unwrap();
}
