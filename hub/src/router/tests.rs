use channel::amount::Msat;
use channel::bytes::PaymentHash;
use channel::channel::PhaseView;
use channel::ids::{ChannelId, SessionId, StreamId};
use channel::message::UpdateAddHtlc;
use shard::DirectoryEntry;

use super::*;

const PAYEE: Point = Point::from_bytes([2; 33]);
const HEIGHT: u32 = 1000;
const AMOUNT: u32 = 10_000;

fn router() -> HubRouter {
    let mut policy = crate::config::load(&crate::config::Layers::default()).unwrap().policy.channel_policy();
    policy.fee_base_msat = 10;
    policy.fee_ppm = 1000;
    policy.cltv_expiry_delta = 40;
    policy.min_cltv_expiry_ahead = 12;
    policy.max_cltv_expiry_delta = 2016;
    let router = HubRouter {
        directory: Arc::default(),
        policy: Arc::new(RwLock::new(policy)),
        tip: Arc::default(),
        gate: Arc::default(),
    };
    router.tip.set(HEIGHT);
    router
}

fn entry(owner: u64, spendable_msat: u64, online: bool, usable: bool) -> DirectoryEntry {
    DirectoryEntry {
        owner: OwnerId(owner),
        channel_id: ChannelId([u8::try_from(owner % 256).unwrap(); 32]),
        node: PAYEE,
        session: online.then_some(SessionId(1)),
        usable,
        spendable_msat: Msat::new(spendable_msat).unwrap(),
        receivable_msat: Msat::ZERO,
        phase: PhaseView::Open,
        funded: true,
    }
}

/// An HTLC that every rule accepts: 10,000 msat to the payee for a fee of 20.
fn htlc() -> UpdateAddHtlc {
    UpdateAddHtlc {
        id: 0,
        amount_msat: Msat::from_u32(AMOUNT + 20),
        payment_hash: PaymentHash::from_bytes([3; 32]),
        cltv_expiry: HEIGHT + 100,
        recipient: Recipient::Node(PAYEE),
        forward: Some(ForwardInstruction { amount_msat: Msat::from_u32(AMOUNT), cltv_expiry: HEIGHT + 60 }),
        payload: Vec::new(),
    }
}

fn first_try(router: &HubRouter, htlc: &UpdateAddHtlc) -> Result<u64, FailureReason> {
    later_try(router, htlc, 1, &[], None)
}

fn later_try(
    router: &HubRouter,
    htlc: &UpdateAddHtlc,
    attempt: u32,
    tried: &[OwnerId],
    last_failure: Option<FailureReason>,
) -> Result<u64, FailureReason> {
    match router.route(&Candidate { incoming: OwnerId(9999), htlc, attempt, tried, last_failure }) {
        RouteChoice::Offer { to, sign_by_height } => {
            assert_eq!(sign_by_height, HEIGHT + 60 - 12);
            Ok(to.0)
        }
        RouteChoice::Fail { reason } => Err(reason),
    }
}

#[test]
fn the_usable_channel_with_most_to_spend_is_chosen() {
    let router = router();
    router.directory.publish(&entry(1, 20_000, true, true));
    router.directory.publish(&entry(2, 30_000, true, true));
    router.directory.publish(&entry(3, 90_000, false, false));
    router.directory.publish(&entry(4, 90_000, true, false));
    assert_eq!(first_try(&router, &htlc()), Ok(2));
}

#[test]
fn each_rule_of_routing_fails_by_its_name() {
    type Change = fn(&HubRouter, &mut UpdateAddHtlc);
    let rows: &[(&str, FailureReason, Change)] = &[
        ("nobody by this key", FailureReason::UnknownRecipient, |_, htlc| {
            htlc.recipient = Recipient::Node(Point::from_bytes([7; 33]));
        }),
        ("a stream nobody agreed on", FailureReason::StreamRefused, |_, htlc| {
            htlc.recipient = Recipient::Stream { id: StreamId([1; 16]), index: 0 };
        }),
        ("the recipient is offline", FailureReason::RecipientOffline, |router, _| {
            router.directory.publish(&entry(1, 90_000, false, false));
        }),
        ("the recipient's channel is not usable", FailureReason::ChannelUnavailable, |router, _| {
            router.directory.publish(&entry(1, 90_000, true, false));
        }),
        ("one msat too little to spend", FailureReason::NoLiquidity, |router, _| {
            router.directory.publish(&entry(1, u64::from(AMOUNT) - 1, true, true));
        }),
        (
            "too little, and another channel is not back yet",
            FailureReason::ChannelUnavailable,
            |router, _| {
                router.directory.publish(&entry(1, u64::from(AMOUNT) - 1, true, true));
                router.directory.publish(&entry(2, 0, true, false));
            },
        ),
        ("one msat too little fee", FailureReason::FeeTooLow, |_, htlc| {
            htlc.amount_msat = Msat::from_u32(AMOUNT + 19);
        }),
        ("one block too little difference", FailureReason::ExpiryTooSoon, |_, htlc| {
            htlc.cltv_expiry = HEIGHT + 99;
        }),
        ("expiry too near", FailureReason::ExpiryTooSoon, |_, htlc| {
            htlc.forward.as_mut().unwrap().cltv_expiry = HEIGHT + 11;
        }),
        ("expiry too far", FailureReason::ExpiryTooFar, |_, htlc| {
            htlc.cltv_expiry = HEIGHT + 5000;
            htlc.forward.as_mut().unwrap().cltv_expiry = HEIGHT + 2017;
        }),
        ("nothing to pass on", FailureReason::AmountOutOfRange, |_, htlc| {
            htlc.forward.as_mut().unwrap().amount_msat = Msat::ZERO;
        }),
        ("no instruction", FailureReason::IncorrectPaymentDetails, |_, htlc| htlc.forward = None),
        ("the disk is nearly full", FailureReason::Overloaded, |router, _| {
            assert!(router.gate.set_shut(true));
        }),
    ];
    for (what, expected, change) in rows {
        let router = router();
        router.directory.publish(&entry(1, 90_000, true, true));
        let mut htlc = htlc();
        assert_eq!(first_try(&router, &htlc), Ok(1));
        change(&router, &mut htlc);
        assert_eq!(first_try(&router, &htlc), Err(*expected), "{what}");
    }
}

#[test]
fn ticks_go_to_the_payee_of_their_stream() {
    let router = router();
    router.directory.publish(&entry(1, 90_000, true, true));
    let stream = StreamId([1; 16]);
    router.directory.add_stream(stream, PAYEE);
    let tick = UpdateAddHtlc { recipient: Recipient::Stream { id: stream, index: 5 }, ..htlc() };
    assert_eq!(first_try(&router, &tick), Ok(1));
    router.directory.remove_stream(&stream);
    assert_eq!(first_try(&router, &tick), Err(FailureReason::StreamRefused));
}

#[test]
fn another_channel_is_tried_only_where_it_may_help_and_three_times_at_most() {
    let router = router();
    for owner in 1..=5 {
        router.directory.publish(&entry(owner, 90_000 - owner, true, true));
    }
    let htlc = htlc();
    let again = |attempt, tried: &[u64], reason| {
        let tried: Vec<OwnerId> = tried.iter().map(|owner| OwnerId(*owner)).collect();
        later_try(&router, &htlc, attempt, &tried, Some(reason))
    };
    assert_eq!(again(2, &[1], FailureReason::ChannelUnavailable), Ok(2));
    assert_eq!(again(3, &[1, 2], FailureReason::NoLiquidity), Ok(3));
    assert_eq!(again(4, &[1, 2, 3], FailureReason::NoLiquidity), Err(FailureReason::NoLiquidity));
    assert_eq!(
        again(2, &[1], FailureReason::IncorrectPaymentDetails),
        Err(FailureReason::IncorrectPaymentDetails)
    );
}

#[test]
fn a_payment_never_goes_back_into_the_channel_it_came_from() {
    let router = router();
    router.directory.publish(&entry(9999, 90_000, true, true));
    assert_eq!(first_try(&router, &htlc()), Err(FailureReason::NoLiquidity));
}
