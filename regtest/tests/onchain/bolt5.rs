//! BOLT 5's requirements, in our words, and the tests that prove each. A requirement without a test, and a test that no longer
//! exists, fail here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A requirement, and the names of the test functions that prove it, wherever in the workspace they are.
struct Requirement {
    section: &'static str,
    text: &'static str,
    tests: &'static [&'static str],
}

macro_rules! table {
    ($($section:literal: { $($text:literal => [$($test:ident),* $(,)?],)+ })+) => {
        &[$($(Requirement { section: $section, text: $text, tests: &[$(stringify!($test)),*] },)+)+]
    };
}

const TABLE: &[Requirement] = table! {
    "General": {
    "Watch the chain for spends of every output that is not resolved for good." => [
        a_wallet_that_was_away_for_weeks_finds_its_channel_closed_and_takes_what_is_its_own,
        a_deadline_that_passes_while_bitcoind_is_away_is_acted_on_as_soon_as_it_is_back,
    ],
    "Resolve every output, as its kind asks for." => [
        when_both_close_at_once_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    "Be ready to resolve an output again after a reorganisation." => [
        another_revoked_state_after_a_reorganisation_is_punished_with_its_own_second_stages,
        a_commitment_leaves_room_for_one_that_a_reorganisation_took_out_of_the_chain,
        closes_and_a_cheat_end_the_same_when_one_to_five_blocks_are_reorganised_at_every_stage,
        timeouts_on_both_hops_end_the_same_when_one_to_five_blocks_are_reorganised_at_every_stage,
    ],
    "A funding whose inputs were spent otherwise after a reorganisation ends the channel." => [
        a_funding_replaced_for_good_ends_an_open_channel_by_name,
        a_reorganised_funding_that_was_spent_otherwise_never_confirms,
        open_channels_whose_fundings_are_double_spent_after_a_reorganisation_end_by_name_and_cost_what_was_in_them,
        open_channels_whose_fundings_are_double_spent_end_the_same_when_everybody_is_killed_at_every_block,
        closes_whose_fundings_are_double_spent_end_by_name_and_what_shared_a_batch_with_them_closes,
        a_channel_that_was_funded_by_the_change_of_a_void_funding_ends_by_name_too,
    ],
    "A spend of the funding that was not agreed fails the channel." => [
        when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    "A result is acted on only once it is buried deep enough." => [
        htlcs_that_nobody_resolves_time_out_on_both_hops_of_their_forward,
    ],
    }
    "Failing a channel": {
    "A state known or assumed to be outdated is not published." => [
        a_hub_started_from_an_old_backup_publishes_nothing_by_itself_and_is_paid_by_what_its_wallets_publish,
        a_suspended_hub_publishes_what_a_wallet_confirmed_and_the_rest_once_its_operator_vouches_for_it,
        a_party_proven_to_be_behind_publishes_only_what_a_peer_confirmed,
        nothing_that_a_recovered_channel_hears_makes_it_sign,
    ],
    "Publish the latest commitment that the other side has signed." => [
        hubwallet_close_force_brings_the_coins_home_when_the_hub_is_gone_for_good,
        when_the_hub_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    "Spend the anchor with fees that bring the commitment into a block." => [
        hubwallet_close_force_brings_the_coins_home_when_the_hub_is_gone_for_good,
        a_close_without_a_coin_to_pay_for_it_waits_and_goes_on_once_there_is_one,
        a_commitment_that_no_mempool_ever_held_confirms_because_a_stranger_is_given_it_and_pays,
    ],
    "Raise the fee of what spends the anchor when it proves too low." => [
        when_blocks_are_full_a_close_and_its_claims_are_bumped_until_they_confirm_before_anything_is_lost,
        commitments_that_are_stuck_confirm_once_a_stranger_and_the_operator_bump_them_by_their_ids,
        fees_are_raised_until_all_is_in_blocks_in_time_when_everybody_is_killed_at_every_stage,
    ],
    "Use the agreed closing transaction where there is one." => [
        a_close_by_the_hub_is_answered_by_the_wallets_themselves_whatever_happens_to_them_meanwhile,
    ],
    }
    "Mutual close": {
    "The agreed closing transaction resolves the funding, and nothing else is to be done." => [
        a_close_by_the_hub_is_answered_by_the_wallets_themselves_whatever_happens_to_them_meanwhile,
    ],
    }
    "Unilateral close, own commitment": {
    "Spend our delayed balance to an address of our own, not before its delay has passed." => [
        our_balance_in_our_own_commitment_waits_for_the_delay_and_in_theirs_for_nothing,
        when_the_hub_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
        when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    "The other side's balance needs nothing from us." => [
        when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    }
    "Own commitment, offered HTLCs": {
    "Take the preimage from the witness of whoever spends the output with it." => [
        when_the_hub_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
        when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    "Take an output back by the HTLC-timeout transaction once it has expired." => [
        when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
        htlcs_that_nobody_resolves_time_out_on_both_hops_of_their_forward,
    ],
    "Spend the HTLC transaction's output after its delay." => [
        when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    "Fail the incoming HTLC once the timeout is deep enough." => [
        htlcs_that_nobody_resolves_time_out_on_both_hops_of_their_forward,
        timeouts_on_both_hops_end_the_same_when_everybody_is_killed_at_every_stage,
    ],
    "Fail the incoming HTLC of one without an output once the commitment is deep enough." => [
        a_trimmed_htlc_fails_upstream_when_the_commitment_is_final,
        when_the_hub_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    }
    "Own commitment, received HTLCs": {
    "With the preimage, known before or learned later, take the output by the HTLC-success transaction." => [
        when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
        a_preimage_that_only_the_chain_tells_is_claimed_upstream_from_payers_that_answer_and_that_do_not,
    ],
    "Without the preimage leave the output to the other side." => [
        when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    "Take no HTLC that was never irrevocably committed: whoever offered it may take it back." => [
        an_htlc_in_any_state_ends_as_the_commitment_says,
    ],
    "Show a preimage of one's own only for an HTLC that pays oneself." => [
        no_preimage_leaves_for_anything_but_the_right_htlc,
        what_waits_too_long_fails_while_it_could_still_be_claimed_on_the_chain,
    ],
    }
    "Unilateral close, other side's commitment": {
    "Take our balance from the other side's commitment." => [
        when_the_hub_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
        a_wallet_that_was_away_for_weeks_finds_its_channel_closed_and_takes_what_is_its_own,
    ],
    "A commitment newer than we know, when data was lost: take our balance, and say so." => [
        a_commitment_newer_than_known_pays_our_balance_and_stops_our_own,
        a_wallet_without_data_asks_the_hub_to_publish_and_is_paid_by_what_confirms,
        a_wallet_restored_from_its_words_gets_its_coins_when_everybody_is_killed_at_every_stage,
        a_wallet_whose_hub_owns_nothing_in_its_channel_gets_its_coins_when_everybody_is_killed_at_every_stage,
    ],
    "Handle either of its two unrevoked commitments." => [
        when_both_close_at_once_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    }
    "Other side's commitment, offered HTLCs": {
    "Take the preimage from the witness, also from a transaction that waits for a block." => [
        a_preimage_is_read_from_a_transaction_that_never_gets_into_a_block,
        a_preimage_that_only_the_chain_tells_is_claimed_upstream_from_payers_that_answer_and_that_do_not,
    ],
    "Take an expired output back." => [
        when_the_hub_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
        a_wallet_that_was_away_for_weeks_finds_its_channel_closed_and_takes_what_is_its_own,
    ],
    }
    "Other side's commitment, received HTLCs": {
    "With the preimage take the output." => [
        when_the_hub_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
        when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight,
    ],
    }
    "Revoked commitment": {
    "Take the cheater's balance with the revocation key." => [
        a_wallet_that_publishes_any_revoked_state_loses_everything_to_a_hub_that_is_restarted_meanwhile,
        a_hub_that_publishes_revoked_states_loses_everything_to_its_wallets_even_to_one_that_was_away_for_weeks,
    ],
    "Take our own balance." => [
        a_wallet_that_publishes_any_revoked_state_loses_everything_to_a_hub_that_is_restarted_meanwhile,
    ],
    "Take the HTLC outputs that either side offered." => [
        a_wallet_that_publishes_any_revoked_state_loses_everything_to_a_hub_that_is_restarted_meanwhile,
        a_hub_that_publishes_revoked_states_loses_everything_to_its_wallets_even_to_one_that_was_away_for_weeks,
    ],
    "Take the outputs of the cheater's HTLC-success and HTLC-timeout transactions." => [
        a_wallets_second_stages_confirmed_racing_or_in_one_transaction_are_all_taken_from_it,
        a_hubs_second_stages_confirmed_or_racing_are_all_taken_from_it_by_a_wallet_that_slept_over_them,
        a_cheaters_second_stage_that_confirmed_while_the_hub_slept_is_taken_from_it_too,
    ],
    "Go on when the cheater's transactions invalidate our own." => [
        a_wallets_second_stages_confirmed_racing_or_in_one_transaction_are_all_taken_from_it,
        a_hubs_second_stages_confirmed_or_racing_are_all_taken_from_it_by_a_wallet_that_slept_over_them,
        a_cheaters_second_stage_that_confirmed_while_the_hub_slept_is_taken_from_it_too,
        closes_and_a_cheat_end_the_same_when_one_to_five_blocks_are_reorganised_at_every_stage,
    ],
    "Nothing of this is lost when the victim's process dies at any stage." => [
        closes_and_a_cheat_end_the_same_when_everybody_is_killed_at_every_stage,
        a_hubs_cheat_ends_the_same_when_everybody_is_killed_at_every_stage,
    ],
    }
};

/// Every test function of the workspace.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut names = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let mut is_test = false;
                for line in text.lines().map(str::trim) {
                    if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                        is_test = true;
                    } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
                        names.extend(rest.split('(').next().map(str::to_owned));
                        is_test = false;
                    }
                }
            }
        }
    }
    names
}

#[test]
fn every_requirement_of_bolt_5_has_a_test_and_every_test_named_here_exists() {
    let tests = tests();
    assert!(tests.contains("every_requirement_of_bolt_5_has_a_test_and_every_test_named_here_exists"));
    for Requirement { section, text, tests: named } in TABLE {
        assert!(!named.is_empty(), "{section}: {text} no test proves it");
        for name in *named {
            assert!(tests.contains(*name), "{section}: {text} there is no test {name}");
        }
    }
}
