//! Making and restoring a wallet.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::{Ran, run};
use crate::config;
use crate::data_dir::Layout;

const HUB: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

fn init(folder: &Path, more: &[&str]) -> Ran {
    run(folder, &[&["init", "--json", "--hub-node-key", HUB], more].concat(), "", false)
}

fn made(ran: &Ran) -> Value {
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn what_was_answered_stands_in_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/wallet");
    let answers = ["--hub-address", "hub.test:1", "--bitcoind-url", "http://b:1", "--bitcoind-cookie", "/c"];
    let made = made(&init(&root, &answers));
    let layout = Layout::new(&root);
    let checked = config::load(&layout.config()).unwrap();
    assert_eq!(checked.config.hub.address, "hub.test:1");
    assert_eq!(checked.config.hub.node_key, HUB);
    assert_eq!(checked.config.bitcoind.cookie, "/c");
    assert_eq!(checked.listen.port(), 0);
    for (file, mode) in [(root, 0o700), (layout.seed(), 0o600), (layout.config(), 0o600)] {
        let found = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", file.display());
    }
    assert_eq!(made["words"].as_str().unwrap().split(' ').count(), 24);
    assert_eq!(made["node_key"].as_str().unwrap().len(), 66);
}

#[test]
fn the_words_restore_the_same_wallet_from_the_flag_or_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let first = made(&init(&folder.path().join("1"), &[]));
    let words = first["words"].as_str().unwrap();
    let second = made(&init(&folder.path().join("2"), &["--words", words]));
    let args = ["init", "--json", "--hub-node-key", HUB, "--words"];
    let third = made(&run(&folder.path().join("3"), &args, &format!("{}\n", words.to_uppercase()), false));
    for restored in [second, third] {
        assert_eq!(restored["node_key"], first["node_key"]);
        assert_eq!((&restored["restored"], &restored["words"]), (&Value::Bool(true), &Value::Null));
    }
}

#[test]
fn a_wallet_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("w");
    made(&init(&root, &[]));
    let seed = std::fs::read(Layout::new(&root).seed()).unwrap();
    let again = init(&root, &[]);
    assert_eq!(again.code, 5);
    assert_eq!(again.error()["code"], "HAS_WALLET");
    assert_eq!(std::fs::read(Layout::new(&root).seed()).unwrap(), seed);
}

#[test]
fn a_restored_wallet_looks_through_the_chain_from_its_birthday_on_and_a_new_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = made(&init(&folder.path().join("1"), &[]));
    let words = first["words"].as_str().unwrap();
    let birthday = |name: &str| {
        let checked = config::load(&Layout::new(folder.path().join(name)).config()).unwrap();
        checked.config.restore.birthday_height
    };
    assert_eq!(birthday("1"), None);
    let args = ["restore", "--json", "--hub-node-key", HUB];
    let second = made(&run(&folder.path().join("2"), &args, words, false));
    assert_eq!((&second["node_key"], &second["birthday_height"]), (&first["node_key"], &Value::from(0)));
    assert_eq!(birthday("2"), Some(0));
    let args = ["restore", "--hub-node-key", HUB, "--words", words, "--birthday-height", "700"];
    let third = run(&folder.path().join("3"), &args, "", false);
    assert_eq!(third.code, 0, "{}", third.err);
    assert!(third.out.contains("hubwallet scan"), "{}", third.out);
    assert_eq!(birthday("3"), Some(700));
}

#[test]
fn a_restore_that_was_killed_at_any_step_is_made_good_by_the_same_command() {
    let folder = tempfile::tempdir().unwrap();
    let first = made(&init(&folder.path().join("first"), &[]));
    let words = first["words"].as_str().unwrap();
    let restore =
        |root: &Path| run(root, &["restore", "--json", "--hub-node-key", HUB, "--words", words], "", false);
    let whole = Layout::new(folder.path().join("whole"));
    made(&restore(&folder.path().join("whole")));
    let (config_file, seed_file) = (whole.config(), whole.seed());
    let (config, seed) = (std::fs::read(&config_file).unwrap(), std::fs::read(&seed_file).unwrap());
    let halves = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    // Each step leaves what those before it left, and what it was about to write beside the file itself.
    let steps: [Vec<(&Path, &str, Vec<u8>)>; 5] = [
        vec![],
        vec![(&config_file, ".new", halves(&config))],
        vec![(&config_file, "", config.clone())],
        vec![(&config_file, "", config.clone()), (&seed_file, ".new", halves(&seed))],
        vec![(&config_file, "", config.clone()), (&seed_file, ".new", seed.clone())],
    ];
    for (step, left) in steps.iter().enumerate() {
        let root = folder.path().join(step.to_string());
        std::fs::DirBuilder::new().create(&root).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();
        for (file, ending, bytes) in left {
            let name = format!("{}{ending}", file.file_name().unwrap().to_str().unwrap());
            std::fs::write(root.join(name), bytes).unwrap();
        }
        assert_eq!(made(&restore(&root))["node_key"], first["node_key"], "step {step}");
        assert_eq!(std::fs::read(Layout::new(&root).seed()).unwrap(), seed, "step {step}");
    }
}

#[test]
fn a_configuration_that_somebody_prepared_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("w");
    std::fs::DirBuilder::new().create(&root).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(Layout::new(&root).config(), "# mine\n").unwrap();
    let ran = init(&root, &[]);
    assert_eq!((ran.code, ran.error()["code"].as_str()), (5, Some("HAS_CONFIGURATION")));
    assert!(!Layout::new(&root).seed().exists());
}

#[test]
fn what_is_wrong_is_named_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (args, part) in [
        (&["init"][..], "--hub-node-key is missing"),
        (&["init", "--hub-node-key", "02ab"], "hub.node_key in"),
        (&["init", "--hub-node-key", HUB, "--hub-address", "hub"], "hub.address in"),
        (&["init", "--hub-node-key", HUB, "--listen", "0.0.0.0:1"], "listen in"),
        (&["init", "--hub-node-key", HUB, "--network", "bitcoin"], "regtest only"),
        (&["init", "--hub-node-key", HUB, "--words", "abandon ability"], "BIP 39"),
        (&["init", "--hub-node-key", HUB, "--words"], "BIP 39"),
    ] {
        let root = folder.path().join("w");
        let ran = run(&root, args, "", false);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(ran.err.contains(part), "{args:?}: {}", ran.err);
        assert!(!root.exists(), "{args:?}");
    }
}

#[test]
fn on_a_terminal_what_is_missing_is_asked_for_and_an_empty_answer_takes_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("w");
    let typed = format!("hub.test:1\n\n/c\n\n{HUB}\n");
    let ran = run(&root, &["init"], &typed, true);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("[http://127.0.0.1:18443]"), "{}", ran.err);
    assert!(ran.out.contains("shown this once"), "{}", ran.out);
    assert!(ran.out.contains("next           hubwallet daemon --data-dir"), "{}", ran.out);
    let checked = config::load(&Layout::new(&root).config()).unwrap();
    assert_eq!(checked.config.hub.address, "hub.test:1");
    assert_eq!(checked.config.bitcoind.url, "http://127.0.0.1:18443");
    assert_eq!(checked.config.bitcoind.cookie, "/c");

    let ran = run(&folder.path().join("x"), &["init"], "hub.test:1\n", true);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("ended before all was answered"), "{}", ran.err);
}
