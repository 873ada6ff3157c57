//! Commitments that are published for the counterparty's sake: what they cost, and that they wait where that is not enough.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bitcoin::Amount;
use channel::channel::PublishJob;
use common::pair::{End, Htlc};
use common::rig::Rig;
use common::sat;
use common::settling::{at_feerate, channel, child_fee, commitment_state, give, package, settle_at};
use settlement::broadcast::PublishError;
use settlement::desk::CommitmentState;
use settlement::fees::fee_for;
use settlement::limits::OBLIGING_FEERATE;

#[test]
fn what_the_counterparty_needs_leaves_at_a_moderate_fee_however_little_of_it_is_ours() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    rig.receive(100_000);
    let many: Vec<_> = (0..60).map(|id| Htlc { from: End::Wallet, id, sat: 1_000, expiry: 900 }).collect();
    for (number, htlcs) in [(1, vec![]), (2, many)] {
        let pair = channel(&mut rig, number);
        let commitment = pair.commitment(End::Hub, 7, &htlcs);
        let job = PublishJob { value_at_stake: Amount::ZERO, ..pair.publish(&commitment, None) };
        let plan = |for_counterparty| pair.plan(Some(PublishJob { for_counterparty, ..job.clone() }), vec![]);
        give(&mut rig, plan(false));
        settle_at(&mut rig, &at_feerate(5_000));
        assert!(matches!(commitment_state(&rig, &pair), CommitmentState::TooDear { .. }), "for its own sake");

        give(&mut rig, plan(true));
        let (parent, child) = package(&settle_at(&mut rig, &at_feerate(5_000)));
        assert_eq!(parent, commitment.transaction);
        let fee = child_fee(&rig, &pair);
        let moderate = fee_for(OBLIGING_FEERATE, parent.weight() + child.weight());
        assert!(fee >= moderate && fee <= moderate + sat(20), "{fee} instead of {moderate}");
        // While blocks are dearer it waits, and is not outbid by itself.
        let refused = Err(PublishError::FeeTooLow { reason: "mempool min fee not met".into() });
        rig.desk.note_published(parent.compute_txid(), &refused);
        rig.mine(vec![]);
        assert!(settle_at(&mut rig, &at_feerate(5_000)).broadcasts.is_empty());
        assert_eq!(child_fee(&rig, &pair), fee);
        rig.mine(vec![parent, child]);
    }
}
