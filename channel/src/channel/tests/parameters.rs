//! Every parameter that an opening cannot have, in each of the three places where it is looked at.

use bitcoin::{Amount, ScriptBuf, TxOut};

use super::pair::*;
use super::rules::{assert_complete, variants};
use crate::amount::Msat;
use crate::channel::Channel;
use crate::effect::Effect;
use crate::error::{ParameterFlaw, Refusal, Rejection, Violation};
use crate::event::{AcceptRequest, Event, OpenRequest};
use crate::keys::Point;
use crate::limits::{MAX_DUST_HTLCS, MAX_MINIMUM_DEPTH};
use crate::message::{AcceptChannel, Message, OpenChannel, SideParameters};
use crate::policy::Policy;
use crate::signer::Signer;

variants!(
    name,
    ALL,
    ParameterFlaw,
    [
        UnsupportedFormat,
        CapacityTooSmall,
        CapacityTooLarge,
        DustLimitTooLow,
        DustLimitTooHigh,
        DepthOutOfRange,
        DelayOutOfRange,
        HtlcMinimumTooHigh,
        InFlightLimitUnusable,
        HtlcCountOutOfRange,
        DustHtlcCountTooLarge,
        InvalidPoint,
        SameFundingKey,
        NonStandardReserveScript,
        PriceTooHigh,
    ]
);

const NO_POINT: Point = Point::from_bytes([5; 33]);

/// The hub's proposal.
fn proposal(pair: &mut Pair) -> OpenChannel {
    let input = Channel::check_open(pair.hub.open_request(1, &pair.wallet), &pair.hub.context()).unwrap();
    pair.hub.begin(&input);
    match pair.hub.outbox.pop_front() {
        Some(Message::OpenChannel(proposal)) => *proposal,
        other => panic!("no proposal but {other:?}"),
    }
}

type SideCase = (fn(&mut SideParameters), ParameterFlaw);

/// What either side may get wrong about itself.
fn sides() -> Vec<SideCase> {
    let delay =
        |delay_blocks: u16| ParameterFlaw::DelayOutOfRange { delay_blocks, minimum: 1, maximum: 2_016 };
    let htlcs = |count: u16| ParameterFlaw::HtlcCountOutOfRange { count, maximum: 114 };
    let too_high = Msat::from_sat_u32(10_001);
    let mut cases: Vec<SideCase> = vec![
        (|side| side.to_self_delay_blocks = 0, delay(0)),
        (|side| side.to_self_delay_blocks = 2_017, delay(2_017)),
        (
            |side| side.htlc_minimum_msat = Msat::from_sat_u32(10_001),
            ParameterFlaw::HtlcMinimumTooHigh { minimum: too_high },
        ),
        (
            |side| side.max_htlc_value_in_flight_msat = Msat::ZERO,
            ParameterFlaw::InFlightLimitUnusable { maximum: Msat::ZERO },
        ),
        (|side| side.max_accepted_htlcs = 0, htlcs(0)),
        (|side| side.max_accepted_htlcs = 115, htlcs(115)),
        (
            |side| side.max_accepted_dust_htlcs = MAX_DUST_HTLCS + 1,
            ParameterFlaw::DustHtlcCountTooLarge { count: MAX_DUST_HTLCS + 1, maximum: MAX_DUST_HTLCS },
        ),
    ];
    let points: [fn(&mut SideParameters); 7] = [
        |side| side.basepoints.funding = NO_POINT,
        |side| side.basepoints.revocation = NO_POINT,
        |side| side.basepoints.payment = NO_POINT,
        |side| side.basepoints.delayed_payment = NO_POINT,
        |side| side.basepoints.htlc = NO_POINT,
        |side| side.first_point = NO_POINT,
        |side| side.second_point = NO_POINT,
    ];
    cases.extend(points.map(|point| (point, ParameterFlaw::InvalidPoint(NO_POINT))));
    cases
}

#[test]
fn a_proposal_with_an_unacceptable_parameter_is_refused_by_name() {
    let mut pair = Pair::new();
    let good = proposal(&mut pair);
    let accept = |proposal: &OpenChannel| {
        Channel::check_accept(pair.wallet.accept_request(1, &pair.hub), proposal, &pair.wallet.context())
    };
    assert!(accept(&good).is_ok());
    let mut found = Vec::new();
    let mut case = |change: &dyn Fn(&mut OpenChannel), flaw: ParameterFlaw| {
        let mut changed = good.clone();
        change(&mut changed);
        found.push(name(&flaw));
        assert_eq!(accept(&changed), Err(Rejection::Refusal(Refusal::Parameters(flaw))));
    };
    for format in ["option_static_remotekey", "option_anchors_zero_fee_htlc_tx", "option_taproot", ""] {
        let flaw = ParameterFlaw::UnsupportedFormat { name: format.to_owned() };
        case(&|proposal| proposal.format = format.to_owned(), flaw);
    }
    let too_small = ParameterFlaw::CapacityTooSmall { capacity_sat: 19_999, minimum_sat: 20_000 };
    case(&|proposal| proposal.capacity_sat = 19_999, too_small);
    let too_large = ParameterFlaw::CapacityTooLarge { capacity_sat: u64::MAX, maximum_sat: 100_000_000 };
    case(&|proposal| proposal.capacity_sat = u64::MAX, too_large);
    let too_low = ParameterFlaw::DustLimitTooLow { dust_limit_sat: 353, minimum_sat: 354 };
    case(&|proposal| proposal.dust_limit_sat = 353, too_low);
    let too_high = ParameterFlaw::DustLimitTooHigh { dust_limit_sat: 10_001, maximum_sat: 10_000 };
    case(&|proposal| proposal.dust_limit_sat = 10_001, too_high);
    for minimum_depth in [0, MAX_MINIMUM_DEPTH + 1] {
        let maximum = MAX_MINIMUM_DEPTH;
        let flaw = ParameterFlaw::DepthOutOfRange { minimum_depth, minimum: 1, maximum };
        case(&|proposal| proposal.minimum_depth = minimum_depth, flaw);
    }
    let priced = ParameterFlaw::PriceTooHigh { price: Msat::from_u32(1), maximum: Msat::ZERO };
    case(&|proposal| proposal.price_msat = Msat::from_u32(1), priced);
    let ours = pair.wallet.signer.channel_public_keys(&pair.wallet.accept_request(1, &pair.hub).key_id);
    for (change, flaw) in sides() {
        case(&|proposal| change(&mut proposal.opener), flaw);
    }
    case(&|proposal| proposal.opener.basepoints.funding = ours.funding, ParameterFlaw::SameFundingKey);
    // A proposal asks for no coin: the answer's case is below.
    found.push(name(&ParameterFlaw::NonStandardReserveScript));
    assert_complete(ALL, found);
}

#[test]
fn an_answer_with_an_unacceptable_parameter_is_a_violation_by_name() {
    let mut pair = Pair::new();
    let proposal = proposal(&mut pair);
    let request = pair.wallet.accept_request(1, &pair.hub);
    let input = Channel::check_accept(request, &proposal, &pair.wallet.context()).unwrap();
    pair.wallet.begin(&input);
    let Some(Message::AcceptChannel(good)) = pair.wallet.outbox.pop_front() else { panic!("no answer") };
    let check = |answer: &AcceptChannel| {
        let event = Event::Message(Message::AcceptChannel(Box::new(answer.clone())));
        pair.hub.channel().check(event, &pair.hub.context())
    };
    assert!(check(&good).is_ok());
    let case = |change: &dyn Fn(&mut AcceptChannel), flaw: ParameterFlaw| {
        let mut changed = good.as_ref().clone();
        change(&mut changed);
        assert_eq!(check(&changed), Err(Rejection::Violation(Violation::Parameters(flaw))));
    };
    // More than we asked for is fine, less is not.
    assert!(check(&AcceptChannel { minimum_depth: 4, ..good.as_ref().clone() }).is_ok());
    let too_low = ParameterFlaw::DepthOutOfRange { minimum_depth: 2, minimum: 3, maximum: MAX_MINIMUM_DEPTH };
    case(&|answer| answer.minimum_depth = 2, too_low);
    let ours = proposal.opener.basepoints.funding;
    for (change, flaw) in sides() {
        case(&|answer| change(&mut answer.accepter), flaw);
    }
    case(&|answer| answer.accepter.basepoints.funding = ours, ParameterFlaw::SameFundingKey);
    let burnt = ScriptBuf::new_op_return([7]);
    case(&|answer| answer.reserve_script = burnt.clone(), ParameterFlaw::NonStandardReserveScript);
}

/// What the hub is asked to pay besides the funding output.
fn coin_for(asked: &ScriptBuf, offered_sat: u64) -> Option<TxOut> {
    let mut pair = Pair::new();
    let request = OpenRequest { reserve_sat: offered_sat, ..pair.hub.open_request(1, &pair.wallet) };
    let input = Channel::check_open(request, &pair.hub.context()).unwrap();
    pair.hub.begin(&input);
    let Some(Message::OpenChannel(proposal)) = pair.hub.outbox.pop_front() else { panic!("no proposal") };
    let request = AcceptRequest { reserve_script: asked.clone(), ..pair.wallet.accept_request(1, &pair.hub) };
    let input = Channel::check_accept(request, &proposal, &pair.wallet.context()).unwrap();
    pair.wallet.begin(&input);
    let answer = pair.wallet.outbox.pop_front().expect("the wallet answers");
    pair.hub.handle(Event::Message(answer)).unwrap();
    let build = pair.hub.effects.iter().find_map(|effect| match effect {
        Effect::BuildFunding { reserve_coin, .. } => Some(reserve_coin.clone()),
        _ => None,
    });
    build.expect("the hub is asked to build")
}

#[test]
fn an_accepter_without_coins_gets_one_if_it_asks_and_one_is_offered() {
    let (script, none) = (payout_script(3), ScriptBuf::new());
    let coin = TxOut { value: Amount::from_sat(10_000), script_pubkey: script.clone() };
    assert_eq!(coin_for(&script, 10_000), Some(coin));
    assert_eq!(coin_for(&script, 0), None, "none is offered");
    assert_eq!(coin_for(&none, 10_000), None, "none is asked for");
}

#[test]
fn a_policy_that_the_counterparty_could_not_accept_opens_no_channel() {
    let mut pair = Pair::new();
    let over = Msat::from_sat_u32(1_000_001);
    let request = OpenRequest { price_msat: over, ..pair.hub.open_request(1, &pair.wallet) };
    let flaw = ParameterFlaw::PriceTooHigh { price: over, maximum: Msat::from_sat_u32(1_000_000) };
    let expected = Err(Rejection::Refusal(Refusal::Parameters(flaw)));
    assert_eq!(Channel::check_open(request, &pair.hub.context()), expected);
    let mut case = |change: fn(&mut Policy), flaw: ParameterFlaw| {
        pair.hub.policy = policy();
        change(&mut pair.hub.policy);
        let request = pair.hub.open_request(1, &pair.wallet);
        let expected = Err(Rejection::Refusal(Refusal::PolicyUnusable(flaw)));
        assert_eq!(Channel::check_open(request, &pair.hub.context()), expected);
    };
    case(|policy| policy.minimum_depth = 0, {
        ParameterFlaw::DepthOutOfRange { minimum_depth: 0, minimum: 1, maximum: MAX_MINIMUM_DEPTH }
    });
    case(|policy| policy.dust_limit_sat = 100, {
        ParameterFlaw::DustLimitTooLow { dust_limit_sat: 100, minimum_sat: 354 }
    });
    case(|policy| policy.to_self_delay_blocks = 0, {
        ParameterFlaw::DelayOutOfRange { delay_blocks: 0, minimum: 1, maximum: 2_016 }
    });
    case(|policy| policy.max_in_flight_percent = 0, {
        ParameterFlaw::InFlightLimitUnusable { maximum: Msat::ZERO }
    });
    case(|policy| policy.max_accepted_htlcs = 115, {
        ParameterFlaw::HtlcCountOutOfRange { count: 115, maximum: 114 }
    });
    let mut request = pair.hub.open_request(1, &pair.wallet);
    pair.hub.policy = policy();
    request.capacity_sat = 19_999;
    let flaw = ParameterFlaw::CapacityTooSmall { capacity_sat: 19_999, minimum_sat: 20_000 };
    let expected = Err(Rejection::Refusal(Refusal::Parameters(flaw)));
    assert_eq!(Channel::check_open(request, &pair.hub.context()), expected);
}
