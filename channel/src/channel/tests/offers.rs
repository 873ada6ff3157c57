//! Offers that break a rule, and adds of the counterparty's that break only ours: each gets a durable failure
//! with its reason.

use bitcoin::ScriptBuf;

use super::pair::*;
use super::refusals::{frozen, msat, name};
use crate::amount::Msat;
use crate::error::Refusal;
use crate::event::{ChainEvent, Command};
use crate::failure::FailureReason;
use crate::forward::{ForwardResult, Offer};
use crate::limits::SEALED_PAYLOAD_BYTES;
use crate::message::Recipient;

/// An offer that breaks a rule is answered by a durable failure; the rule has its name in `can_offer`.
pub(super) fn offers() -> Vec<&'static str> {
    let check = |end: &mut End, change: fn(&mut Offer), expected: Refusal| {
        let good = offer(1, 1_000);
        let mut bad = good.clone();
        change(&mut bad);
        let before = end.channel().state_hash();
        assert_eq!(end.channel().can_offer(&bad, &end.context()), Err(expected.clone()));
        assert_eq!(end.channel().state_hash(), before);
        let key = bad.key;
        end.command(Command::Offer(bad)).unwrap();
        let result = ForwardResult::Failed { reason: expected.failure_reason() };
        assert_eq!(end.results().last(), Some(&(key, result)));
        name(&expected)
    };
    let open = || {
        let mut pair = Pair::open(Who::Hub);
        let state = &mut pair.hub.channel.as_mut().unwrap().state;
        let theirs = state.terms.counterparty.as_mut().unwrap();
        theirs.htlc_minimum_msat = Msat::from_u32(10);
        pair.hub.take_snapshot();
        assert_eq!(pair.hub.channel().can_offer(&offer(1, 1_000), &pair.hub.context()), Ok(()));
        pair.hub
    };
    let capacity = msat(CAPACITY_SAT * 1_000);
    let (maximum, too_much) = (msat(CAPACITY_SAT * 800), msat(CAPACITY_SAT * 800 + 1));
    let mut found = vec![
        check(&mut open(), |offer| offer.amount_msat = Msat::ZERO, Refusal::ZeroAmount),
        check(
            &mut open(),
            |offer| offer.amount_msat = Msat::from_u32(9),
            Refusal::BelowMinimum { amount: msat(9), minimum: msat(10) },
        ),
        check(
            &mut open(),
            |offer| offer.amount_msat = Msat::new(CAPACITY_SAT * 1_000 + 1).unwrap(),
            Refusal::AboveCapacity { amount: msat(CAPACITY_SAT * 1_000 + 1), capacity },
        ),
        check(
            &mut open(),
            |offer| offer.amount_msat = Msat::new(CAPACITY_SAT * 800 + 1).unwrap(),
            Refusal::AboveMaxInFlight { total: too_much, maximum },
        ),
        check(
            &mut open(),
            |offer| offer.cltv_expiry = 500_000_000,
            Refusal::ExpiryNotAHeight { cltv_expiry: 500_000_000 },
        ),
        check(
            &mut open(),
            |offer| offer.cltv_expiry = HEIGHT,
            Refusal::ExpiryPast { cltv_expiry: HEIGHT, height: HEIGHT },
        ),
        check(
            &mut open(),
            |offer| offer.cltv_expiry = HEIGHT + 9,
            Refusal::ExpiryTooSoon { cltv_expiry: HEIGHT + 9, earliest: HEIGHT + 10 },
        ),
        check(
            &mut open(),
            |offer| offer.cltv_expiry = HEIGHT + 1_001,
            Refusal::ExpiryTooFar { cltv_expiry: HEIGHT + 1_001, latest: HEIGHT + 1_000 },
        ),
        check(
            &mut open(),
            |offer| offer.sign_by_height = HEIGHT - 1,
            Refusal::SignByPassed { sign_by_height: HEIGHT - 1, height: HEIGHT },
        ),
        check(
            &mut open(),
            |offer| offer.recipient = Recipient::Node(crate::keys::Point::from_bytes([2; 33])),
            Refusal::WrongPayloadSize { found: 0, expected: SEALED_PAYLOAD_BYTES },
        ),
    ];
    found.extend(offers_in_other_states(check));
    found
}

fn offers_in_other_states(
    check: impl Fn(&mut End, fn(&mut Offer), Refusal) -> &'static str,
) -> Vec<&'static str> {
    let same: fn(&mut Offer) = |offer| offer.key.htlc_id = 99;
    let limited = |limit: u16, first: u64| {
        let mut pair = Pair::open(Who::Hub);
        let state = &mut pair.hub.channel.as_mut().unwrap().state;
        let theirs = state.terms.counterparty.as_mut().unwrap();
        theirs.max_accepted_htlcs = limit;
        theirs.max_accepted_dust_htlcs = limit;
        pair.hub.take_snapshot();
        pair.offer(Who::Hub, 7, first);
        pair.hub
    };
    let mut exposed = Pair::open(Who::Hub);
    exposed.hub.policy.max_dust_htlc_exposure_msat = msat(1_999);
    exposed.offer(Who::Hub, 7, 1_000);
    let (exposure, maximum) = (msat(2_000), msat(1_999));

    let mut empty = Pair::open(Who::Hub);
    let mut offline = Pair::open(Who::Hub);
    offline.disconnect();
    let mut reestablishing = Pair::open(Who::Hub);
    reestablishing.disconnect();
    reestablishing.connect();
    let mut unconfirmed = Pair::open(Who::Hub);
    unconfirmed.hub.chain(ChainEvent::FundingUndone).unwrap();
    let mut shutting_down = Pair::open(Who::Hub);
    shutting_down.hub.command(Command::Shutdown { script: ScriptBuf::new() }).unwrap();
    let mut shut_down_by_them = Pair::open(Who::Hub);
    shut_down_by_them.hub.command(Command::Shutdown { script: ScriptBuf::new() }).unwrap();
    shut_down_by_them.settle();
    let mut failed = Pair::open(Who::Hub);
    failed.hub.command(Command::Fail { reason: crate::event::FailRequest::Operator }).unwrap();
    vec![
        check(&mut limited(1, 354_000), |offer| offer.amount_msat = Msat::from_u32(354_000), {
            Refusal::TooManyHtlcs { maximum: 1 }
        }),
        check(&mut limited(1, 1_000), same, Refusal::TooManyDustHtlcs { maximum: 1 }),
        check(&mut exposed.hub, same, Refusal::DustExposure { exposure, maximum }),
        check(&mut empty.wallet, same, {
            Refusal::InsufficientBalance { amount: msat(1_000), available: Msat::ZERO }
        }),
        check(&mut offline.hub, same, Refusal::NotConnected),
        check(&mut reestablishing.hub, same, Refusal::NotReestablished),
        check(&mut Pair::funded(Who::Hub).hub, same, Refusal::NotOpenYet),
        check(&mut unconfirmed.hub, same, Refusal::FundingUnconfirmed),
        check(&mut shutting_down.hub, same, Refusal::ShuttingDown),
        check(&mut shut_down_by_them.wallet, same, Refusal::ShuttingDown),
        check(&mut frozen().hub, same, Refusal::Frozen),
        check(&mut failed.hub, same, Refusal::Failed),
    ]
}

#[test]
fn an_add_of_theirs_that_breaks_our_own_limits_is_taken_and_failed() {
    // No rule of the protocol is broken, so the channel lives; the HTLC is never passed on.
    let case = |change: fn(&mut End), number: u64, expected: FailureReason| {
        let mut pair = Pair::open(Who::Hub);
        change(&mut pair.wallet);
        pair.offer(Who::Hub, number, 1_000);
        pair.run();
        assert_eq!(pair.wallet.offers(), []);
        assert_eq!(pair.hub.results(), [(key(number), ForwardResult::Failed { reason: expected })]);
    };
    case(|end| end.policy.max_dust_htlc_exposure_msat = Msat::from_u32(999), 1, FailureReason::TooManyHtlcs);
    case(|end| end.height = HEIGHT + 95, 1, FailureReason::ExpiryTooSoon);
    case(|end| end.height = HEIGHT + 500, 1, FailureReason::ExpiryTooSoon);
    case(|end| end.policy.max_cltv_expiry_delta = 50, 1, FailureReason::ExpiryTooFar);
    case(|end| end.chain(ChainEvent::FundingUndone).unwrap(), 1, FailureReason::ChannelUnavailable);
}
