//! Exhaustive walks through forwards, with the real channels.

use sim::model::real::{Bounds, explore};

/// Walks, and fails with the shortest way to what is wrong.
fn walk(bounds: Bounds) -> sim::model::walk::Report {
    let report = explore(bounds).expect("the channels open");
    println!("{bounds:?}: {report}");
    assert_eq!(report.failure, None, "{report}");
    assert!(report.complete, "{report}");
    report
}

#[test]
fn without_faults_every_order_ends_well() {
    walk(Bounds::CALM);
}
