//! What the README's map and the house's rules promise, checked on the sources themselves.
//!
//! Cargo enforces the arrows between crates once they are in the manifests; these tests say which may be there at all.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file is read in one sitting.
const MAX_LINES: usize = 600;

/// Crates that do input and output over the network, or run tasks.
const NETWORK: &[&str] =
    &["tokio", "tokio-stream", "tokio-util", "tonic", "tonic-prost", "hyper", "rustls", "tokio-rustls"];

/// What makes a result depend on more than its input.
const IMPURE: &[&str] = &["rand", "crossbeam-channel", "rayon", "tempfile", "tracing-subscriber"];

/// A crate of the workspace: which of the others it may know, and what else it must not.
struct Crate {
    name: &'static str,
    may_know: &'static [&'static str],
    must_not: &'static [&'static [&'static str]],
}

const MAP: &[Crate] = &[
    Crate {
        name: "channel",
        may_know: &[],
        must_not: &[NETWORK, IMPURE, &["redb", "tracing", "lightning-invoice"]],
    },
    Crate {
        name: "journal",
        may_know: &[],
        must_not: &[NETWORK, IMPURE, &["bitcoin", "secp256k1", "serde", "postcard"]],
    },
    Crate { name: "shard", may_know: &["channel", "journal"], must_not: &[NETWORK, IMPURE, &["redb"]] },
    Crate {
        name: "settlement",
        may_know: &["channel"],
        must_not: &[&["tonic", "tonic-prost", "prost", "redb"]],
    },
    Crate {
        name: "proto",
        may_know: &["channel"],
        must_not: &[IMPURE, &["tokio", "hyper", "redb", "rustls"]],
    },
    // It makes seeds and tokens, so it may draw randomness.
    Crate { name: "daemon", may_know: &[], must_not: &[NETWORK, &["redb", "bitcoin", "prost"]] },
    Crate {
        name: "hub",
        may_know: &["channel", "journal", "shard", "settlement", "proto", "daemon"],
        must_not: &[&["redb"]],
    },
    Crate {
        name: "wallet",
        may_know: &["channel", "journal", "shard", "settlement", "proto", "daemon"],
        must_not: &[&["redb"]],
    },
    Crate {
        name: "sim",
        may_know: &["channel", "journal", "shard", "settlement", "proto", "daemon", "hub", "wallet"],
        must_not: &[&["rayon", "tempfile", "hyper", "rustls", "tokio-rustls"]],
    },
    Crate {
        name: "regtest",
        may_know: &["channel", "journal", "shard", "settlement", "proto", "daemon", "hub", "wallet", "sim"],
        must_not: &[],
    },
];

/// Tests that do not run by themselves: the file, and how many.
const IGNORED: &[(&str, usize)] = &[
    // Measurements of the storage engine, which only a release build makes honest.
    ("journal/tests/journal/speed.rs", 3),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn table(path: &Path) -> toml::Table {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn workspace() -> toml::Table {
    table(&root().join("Cargo.toml"))
}

fn manifest(name: &str) -> toml::Table {
    table(&root().join(name).join("Cargo.toml"))
}

/// The names in a section of dependencies; a dependency under another name counts as what it really is.
fn dependencies(manifest: &toml::Table, section: &str) -> BTreeSet<String> {
    let Some(section) = manifest.get(section).and_then(toml::Value::as_table) else { return BTreeSet::new() };
    let real = |(name, value): (&String, &toml::Value)| {
        value.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned()
    };
    section.iter().map(real).collect()
}

/// Every source file of the workspace's crates, by its path from the root.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = MAP.iter().map(|one| root().join(one.name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let short = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.insert(short, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > MAP.len(), "no sources under {}", root().display());
    found
}

#[test]
fn the_map_names_every_crate_of_the_workspace() {
    let workspace = workspace();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let members: BTreeSet<_> = members.iter().map(|member| member.as_str().unwrap()).collect();
    let mapped: BTreeSet<_> = MAP.iter().map(|one| one.name).collect();
    assert_eq!(members, mapped);
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for name in mapped {
        assert!(readme.contains(&format!("| `{name}/` |")), "the README's map lacks {name}/");
    }
}

#[test]
fn no_crate_knows_what_the_map_forbids() {
    let ours: BTreeSet<_> = MAP.iter().map(|one| one.name.to_owned()).collect();
    for Crate { name, may_know, must_not } in MAP {
        let manifest = manifest(name);
        assert!(!manifest.contains_key("target"), "{name}: dependencies of one platform escape this test");
        let mut known = dependencies(&manifest, "dependencies");
        known.extend(dependencies(&manifest, "build-dependencies"));
        for other in known.intersection(&ours) {
            assert!(may_know.contains(&other.as_str()), "{name} must not know {other}");
        }
        for forbidden in must_not.iter().flat_map(|group| group.iter()) {
            assert!(!known.contains(*forbidden), "{name} must not depend on {forbidden}");
        }
        // Not even in tests, which could otherwise prove what a build of the crate alone does not hold.
        let tested = dependencies(&manifest, "dev-dependencies");
        for other in tested.intersection(&ours) {
            assert!(may_know.contains(&other.as_str()), "the tests of {name} must not know {other}");
        }
    }
}

#[test]
fn the_channel_has_no_clock_thread_file_float_or_map_in_random_order() {
    let forbidden = [
        "std::time",
        "std::thread",
        "std::fs",
        "std::net",
        "std::env",
        "HashMap",
        "HashSet",
        "Mutex",
        "async fn",
        "OsRng",
        "thread_rng",
        "f32",
        "f64",
        "cfg(feature",
    ];
    for (path, text) in sources() {
        // Faults made on purpose are the one exception, and a test of their own holds who may ask for them.
        let excepted = path == "channel/src/bug.rs";
        if !path.starts_with("channel/src/") || path.contains("/tests/") || excepted {
            continue;
        }
        // What stands below this line is compiled for tests only.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for word in forbidden {
                assert!(!code.contains(word), "{path}:{}: {word}", number + 1);
            }
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate() {
    let workspace = workspace();
    let lints = &workspace["workspace"]["lints"];
    assert_eq!(lints["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for lint in ["unwrap_used", "todo", "unimplemented", "dbg_macro"] {
        assert_eq!(lints["clippy"][lint].as_str(), Some("deny"), "{lint}");
    }
    for Crate { name, .. } in MAP {
        let manifest = manifest(name);
        let inherited = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(inherited.and_then(toml::Value::as_bool), Some(true), "{name}");
    }
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (text.lines().count(), path))
        .filter(|(lines, _)| *lines >= MAX_LINES)
        .collect();
    assert!(long.is_empty(), "{MAX_LINES} lines or more: {long:?}");
}

#[test]
fn nothing_is_left_undone_and_no_test_is_left_out() {
    let this = "regtest/tests/tidy.rs";
    let mut ignored = BTreeMap::new();
    for (path, text) in sources() {
        if path == this {
            continue;
        }
        for word in ["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX"] {
            assert!(!text.contains(word), "{path}: {word}");
        }
        let count = text.matches("#[ignore").count();
        if count > 0 {
            ignored.insert(path, count);
        }
    }
    let allowed: BTreeMap<_, _> = IGNORED.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect();
    assert_eq!(ignored, allowed);
}

#[test]
fn faults_made_on_purpose_are_for_the_simulator_alone() {
    for Crate { name, .. } in MAP {
        let text = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let asks = text.contains("deliberate-bugs");
        assert_eq!(asks, ["channel", "sim"].contains(name), "{name}");
        let features = manifest(name);
        let default = features.get("features").and_then(|features| features.get("default"));
        assert!(default.is_none(), "{name}: nothing of it is on by default");
    }
}
