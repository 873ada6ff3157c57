//! The fuzz targets in the ordinary tests: the stored corpus is replayed, then each target runs on mutated inputs under a fixed
//! seed.
//!
//! `FUZZ_CORPUS_WRITE=1 cargo test -p sim --test fuzz` writes the seeds, and some mutated inputs, into `fuzz/corpus/`. Files that are
//! there stay as they are: an input that once broke a law is worth more than a new one. `FUZZ_SEED` and `FUZZ_ROUNDS` ask for other
//! mutations, and more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use sim::fuzz::{TARGETS, Target, mutate::mutated};
use sim::seed::Seed;

/// Mutated inputs that are stored beside the seeds.
const STORED_MUTATIONS: usize = 24;

fn folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name)
}

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("the target's name")
}

fn inputs(target: &Target) -> Vec<Vec<u8>> {
    (target.seeds)().into_iter().map(|(_, data)| data).collect()
}

/// The stored files, in the order of their names.
fn stored(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder(target))
        .expect("the corpus is in the repository")
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn write_corpus(target: &Target) {
    if std::env::var_os("FUZZ_CORPUS_WRITE").is_none() {
        return;
    }
    let folder = folder(target);
    fs::create_dir_all(&folder).unwrap();
    let mut files = (target.seeds)();
    let seeds = inputs(target);
    let mut chance = Seed(1).stream(target.name);
    for number in 0..STORED_MUTATIONS {
        files.push((format!("mutated-{number:02}"), mutated(&seeds, &mut chance)));
    }
    for (name, data) in files {
        let path = folder.join(name);
        if !path.exists() {
            fs::write(path, data).unwrap();
        }
    }
}

/// A number in the environment: another seed, more inputs.
fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().unwrap())
}

/// Which input it was, if the target panics.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input: {}", self.0);
        }
    }
}

fn replay_and_mutate(name: &str) {
    let target = target(name);
    write_corpus(&target);
    let files = stored(&target);
    assert!(files.len() >= STORED_MUTATIONS, "the corpus of {name} has {} files", files.len());
    for (path, data) in &files {
        let _named = Named(path.display().to_string());
        (target.run)(data);
    }
    let mut pool = inputs(&target);
    pool.extend(files.into_iter().map(|(_, data)| data));
    let mut chance = Seed(asked("FUZZ_SEED").unwrap_or(2)).stream(name);
    let rounds = asked("FUZZ_ROUNDS").and_then(|rounds| usize::try_from(rounds).ok());
    for _ in 0..rounds.unwrap_or(target.rounds) {
        let data = mutated(&pool, &mut chance);
        let _named = Named(hex::encode(&data));
        (target.run)(&data);
    }
}

#[test]
fn no_frame_breaks_the_reader_and_what_is_read_is_written_again() {
    replay_and_mutate("frames");
}

#[test]
fn no_row_of_the_journal_breaks_its_reader() {
    replay_and_mutate("records");
}

#[test]
fn no_snapshot_breaks_its_reader_and_books_that_do_not_add_up_are_refused() {
    replay_and_mutate("snapshots");
}

#[test]
fn no_text_breaks_the_reader_of_invoices() {
    replay_and_mutate("invoices");
}

#[test]
fn nothing_a_peer_can_say_breaks_a_channel() {
    replay_and_mutate("check");
}

#[test]
fn every_target_is_wrapped_for_the_fuzzer() {
    let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
        let body = fs::read_to_string(fuzz.join(format!("fuzz_targets/{}.rs", target.name))).unwrap();
        assert!(body.contains(&format!("{}::{}", target.name, target.name)), "{body}");
    }
}
