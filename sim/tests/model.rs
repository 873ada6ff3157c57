//! Exhaustive walks through forwards, with the real channels.

use sim::model::limits::FEW_HEIGHTS;
use sim::model::real::{Bounds, Slip, explore};

/// Walks within one of the ordinary bounds, and fails with the shortest way to what is wrong.
fn walk(name: &str) {
    let (_, bounds) =
        Bounds::ORDINARY.into_iter().find(|(other, _)| *other == name).expect("the bounds' name");
    let report = explore(bounds).expect("the channels open");
    println!("{name}: {report}");
    assert_eq!(report.failure, None, "{report}");
    assert!(report.complete && report.ends > 0, "{report}");
}

#[test]
fn without_faults_every_order_ends_well() {
    walk("calm");
}

#[test]
fn wherever_a_connection_is_lost_nobody_loses_anything() {
    walk("a connection lost");
}

#[test]
fn wherever_the_hub_crashes_nobody_loses_anything() {
    walk("a crash");
}

#[test]
fn a_second_attempt_over_the_same_channel_is_never_taken_for_the_first() {
    walk("a connection lost, and the same channel tried again");
}

#[test]
fn whatever_expires_without_an_output_costs_no_more_than_its_amount() {
    walk("blocks, without an output");
}

/// The walk would see it: what a host must not forget, forgotten.
#[test]
fn a_host_that_forgets_something_is_found_out() {
    let crash = Bounds { crashes: 1, unsynced: 1, ..Bounds::CALM };
    let cases = [
        (Slip::NoResume, crash, "stuck"),
        (Slip::EarlyRelease, crash, "at most 1 can be"),
        (Slip::LostAck, Bounds::CALM, "memory"),
        (Slip::TipFirst, Bounds { heights: &FEW_HEIGHTS, ..crash }, "stuck"),
    ];
    for (slip, bounds, sign) in cases {
        let report = explore(Bounds { slip: Some(slip), ..bounds }).expect("the channels open");
        let failure = report.failure.unwrap_or_else(|| panic!("{slip:?} goes unseen"));
        println!("{slip:?}: {} after {} steps", failure.what, failure.way.len());
        assert!(failure.what.contains(sign), "{slip:?}: {}", failure.what);
    }
}
