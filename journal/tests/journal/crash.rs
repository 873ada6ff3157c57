//! Power cuts, kills, failed syncs and full disks at any instant.

use journal::{Closed, Fault, Journal, OpenError};
use proptest::prelude::*;

use crate::common::*;
use crate::disk::{Disk, Plan};
use crate::model::{Driver, Op, op, options};

/// How the machine goes down.
#[derive(Debug, Clone, Copy)]
enum Crash {
    PowerCut { lottery: u64 },
    Kill,
}

impl Crash {
    fn image(self, disk: &Disk) -> Disk {
        match self {
            Crash::PowerCut { lottery } => disk.after_power_cut(lottery),
            Crash::Kill => disk.after_kill(),
        }
    }
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![3 => any::<u64>().prop_map(|lottery| Crash::PowerCut { lottery }), 1 => Just(Crash::Kill)]
}

/// Runs until the plan strikes, then reopens what is left: everything reported durable is there, and either all
/// or nothing of what was under way.
fn strike(ops: &[Op], plan: Plan, crash: Crash) {
    let mut driver = Driver::new();
    driver.disk.plan(plan);
    let mut fault = None;
    for op in ops.iter().filter(|op| !matches!(op, Op::Reopen)) {
        if let Err(found) = driver.step(op) {
            fault = Some(found);
            break;
        }
    }
    if fault.is_some() {
        let opened = driver.opened.as_mut().unwrap();
        assert!(matches!(opened.committer.turn(), Err(Fault::Earlier)));
        assert_eq!(opened.log.append(events(&["late"])), Err(Closed));
    }
    let disk = crash.image(&driver.disk);
    // A process that stops after a fault still closes the file: that must do no harm either.
    driver.opened = None;
    let closed = crash.image(&driver.disk);
    for disk in [disk, closed] {
        let opened = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap();
        let without = driver.durable.difference(&opened);
        let with = driver.appended.difference(&opened);
        assert!(without.is_none() || with.is_none(), "after {fault:?}: {without:?}; {with:?}");
        let mut opened = opened;
        opened.log.append(events(&["after"])).unwrap();
        opened.committer.turn().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_durable_survives_a_crash_at_any_instant(
        ops in prop::collection::vec(op(), 10..80),
        after in 0u32..400,
        crash in crash(),
    ) {
        strike(&ops, Plan::PowerCutAfter(after), crash);
    }

    #[test]
    fn what_was_durable_survives_a_failed_sync(
        ops in prop::collection::vec(op(), 10..80),
        after in 0u32..20,
        crash in crash(),
    ) {
        strike(&ops, Plan::FailSyncAfter(after), crash);
    }

    #[test]
    fn what_was_durable_survives_a_full_disk(
        ops in prop::collection::vec(op(), 10..80),
        more in 0u64..2_000_000,
        crash in crash(),
    ) {
        strike(&ops, Plan::Capacity(1_060_000 + more), crash);
    }
}

#[test]
fn a_failed_sync_is_a_fault_and_nothing_is_released_after_it() {
    let disk = Disk::new();
    let mut opened = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap();
    let first = opened.log.append(records(&[(1, 1)])).unwrap();
    opened.committer.turn().unwrap();
    disk.plan(Plan::FailSyncAfter(0));
    let second = opened.log.append(records(&[(1, 2)])).unwrap();
    assert!(matches!(opened.committer.turn(), Err(Fault::Storage { .. })));
    assert_eq!(opened.log.durable(), first);
    assert_eq!(opened.log.wait_durable(second), Err(Closed));
    assert_eq!(opened.log.append(records(&[(1, 3)])), Err(Closed));
    assert!(matches!(opened.committer.turn(), Err(Fault::Earlier)));
}

#[test]
fn a_full_disk_is_a_fault_of_its_own_name() {
    let disk = Disk::new();
    let mut opened = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap();
    disk.plan(Plan::Capacity(disk.len()));
    let mut sequence = 0;
    let fault = loop {
        sequence += 1;
        let mut batch = records(&[]);
        batch.records.push(journal::MachineId(1), sequence, &[0; 100_000]);
        opened.log.append(batch).unwrap();
        match opened.committer.turn() {
            Ok(_) => assert!(sequence < 1_000),
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, Fault::DiskFull { .. }), "{fault}");
    drop(opened);
    disk.plan(Plan::Never);
    let opened = Journal::open_with_backend(disk, &header(), options()).unwrap();
    assert_eq!(replay(&opened.recovery).len() as u64, sequence - 1);
}

#[test]
fn a_disk_full_or_read_only_at_opening_is_named() {
    let disk = Disk::new();
    disk.plan(Plan::Capacity(1_000));
    let found = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap_err();
    assert!(matches!(found, OpenError::DiskFull { .. }), "{found}");
    let disk = Disk::new();
    disk.plan(Plan::ReadOnly);
    let found = Journal::open_with_backend(disk, &header(), options()).unwrap_err();
    assert!(matches!(found, OpenError::ReadOnly { .. }), "{found}");
}
