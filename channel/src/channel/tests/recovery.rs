//! A wallet that lost all but its seed: its channel is made again from what the hub kept, and pays it.

use bitcoin::Amount;

use super::chain::*;
use super::pair::*;
use crate::bytes::KeyId;
use crate::channel::{Awaiting, Channel, CommitmentOwner, PhaseView};
use crate::effect::{Effect, Report};
use crate::error::{FailureCause, ParameterFlaw, RecoveryFlaw};
use crate::event::{ChainEvent, Command, Event, FailRequest, RecoverRequest, Role};
use crate::ids::{ChannelId, SessionId};
use crate::keys::Point;
use crate::message::{Essentials, Message};
use crate::seal::{open_essentials, seal_essentials};
use crate::signer::Signer;

const LOST: PhaseView = PhaseView::Failed { cause: FailureCause::DataLost };

/// The hub's end of a used channel, what it tells a wallet that connects, and a wallet without data.
fn lost() -> (End, End, Essentials) {
    let mut pair = Pair::open(Who::Hub);
    for number in 0..3 {
        pair.offer(Who::Hub, number, 100_000_000);
        pair.run();
        pair.resolve(Who::Wallet, number, fulfilled(number));
        pair.run();
    }
    told_by_hub(pair)
}

fn told_by_hub(mut pair: Pair) -> (End, End, Essentials) {
    pair.disconnect();
    pair.connect();
    let essentials = pair.hub.outbox.iter().find_map(|message| match message {
        Message::Reestablish(reestablish) => reestablish.essentials.clone(),
        _ => None,
    });
    pair.hub.outbox.clear();
    (pair.hub, End::new(2, Role::Wallet), essentials.expect("the hub tells before it is asked"))
}

fn request(hub: &End) -> RecoverRequest {
    RecoverRequest {
        owner: CHANNEL,
        channel_id: ChannelId([7; 32]),
        role: Role::Wallet,
        counterparty_node: hub.signer.node_id(),
        session: SessionId(9),
    }
}

#[test]
fn a_wallet_without_data_asks_the_hub_to_publish_and_is_paid_by_what_confirms() {
    let (hub, mut wallet, essentials) = lost();
    let input = Channel::check_recovered(request(&hub), &essentials, &wallet.context()).unwrap();
    wallet.begin(&input);
    assert_eq!(wallet.channel().phase(), LOST);
    assert_eq!(wallet.channel().awaiting(), Some(Awaiting::TheirCommitment));
    assert!(matches!(wallet.effects[0], Effect::WatchFunding { .. }));
    assert_eq!(wallet.reports, [Report::Failed { cause: FailureCause::DataLost }]);
    assert_eq!(wallet.channel().publish_job(&wallet.signer), None);
    let output = wallet.funding_output();
    let confirmed = ChainEvent::FundingConfirmed { height: HEIGHT, block_index: 1, output: Some(output) };
    wallet.chain(confirmed).unwrap();
    // It asks, again in each session.
    let asked = wallet.outbox.pop_front().unwrap();
    assert!(matches!(asked, Message::ChannelError { cannot_publish: true, .. }));
    wallet.restart();
    wallet.command(Command::Connected { session: SessionId(10) }).unwrap();
    assert!(matches!(wallet.outbox.pop_front(), Some(Message::ChannelError { cannot_publish: true, .. })));

    let mut pair = Pair::new();
    (pair.hub, pair.wallet) = (hub, wallet);
    pair.hub.handle(Event::Message(asked)).unwrap();
    assert_eq!(pair.hub.channel().phase(), PhaseView::Failed { cause: FailureCause::CounterpartyLostData });
    let mut world = World::new(pair);
    let commitment = world.commitment(Who::Hub);
    world.mine([commitment]);
    assert_eq!(world.pair.wallet.channel().onchain().unwrap().whose, CommitmentOwner::Newer);
    assert_eq!(world.pair.wallet.channel().phase(), LOST);
    world.pair.wallet.restart();
    world.run_to_the_end(&Who::BOTH);
    assert_eq!((world.owned(Who::Hub), world.owned(Who::Wallet)), (700_000, 300_000));
    assert!(world.is_finished(Who::Wallet));
}

/// Makes the channel again, and gives what the wallet asks of the hub.
fn recovered(hub: &End, wallet: &mut End, essentials: &Essentials) -> Event {
    let input = Channel::check_recovered(request(hub), essentials, &wallet.context()).unwrap();
    wallet.begin(&input);
    Event::Message(wallet.outbox.pop_front().expect("it asks at once"))
}

#[test]
fn a_hub_that_owns_nothing_publishes_for_a_wallet_without_data_and_for_nobody_else() {
    let fund = || told_by_hub(Pair::open(Who::Wallet));
    let job = |hub: &End| hub.channel().publish_job(&hub.signer).expect("it may publish");
    // Its own close, and that of a wallet that can publish by itself.
    let error = Message::ChannelError { text: "a wallet's own close".to_owned(), cannot_publish: false };
    for event in [Event::Command(Command::Fail { reason: FailRequest::Operator }), Event::Message(error)] {
        let (mut hub, mut wallet, essentials) = fund();
        hub.handle(event).unwrap();
        assert_eq!((job(&hub).value_at_stake, job(&hub).for_counterparty), (Amount::ZERO, false));
        // The wallet loses its data after that: now it waits for the hub alone.
        let asked = recovered(&hub, &mut wallet, &essentials);
        hub.handle(asked.clone()).unwrap();
        assert_eq!(hub.effects.last(), Some(&Effect::PlanChanged));
        assert!(job(&hub).for_counterparty);
        // Asked again in each session, it has nothing new to do.
        hub.effects.clear();
        hub.handle(asked).unwrap();
        assert_eq!(hub.effects, []);
    }
    let (hub, mut wallet, essentials) = fund();
    let asked = recovered(&hub, &mut wallet, &essentials);
    let output = wallet.funding_output();
    wallet
        .chain(ChainEvent::FundingConfirmed { height: HEIGHT, block_index: 1, output: Some(output) })
        .unwrap();
    let mut pair = Pair::new();
    (pair.hub, pair.wallet) = (hub, wallet);
    pair.hub.handle(asked).unwrap();
    pair.hub.restart();
    assert_eq!((job(&pair.hub).value_at_stake, job(&pair.hub).for_counterparty), (Amount::ZERO, true));
    let mut world = World::new(pair);
    let commitment = world.commitment(Who::Hub);
    world.mine([commitment]);
    world.run_to_the_end(&Who::BOTH);
    assert_eq!((world.owned(Who::Hub), world.owned(Who::Wallet)), (0, CAPACITY_SAT));
}

#[test]
fn a_hub_keeps_a_channel_whose_funding_is_in_no_block_yet_for_an_opener_that_lost_its_data() {
    let asked = || {
        let (mut hub, mut wallet, essentials) = told_by_hub(Pair::funded(Who::Wallet));
        let asked = recovered(&hub, &mut wallet, &essentials);
        hub.handle(asked).unwrap();
        assert_eq!(hub.channel().phase(), PhaseView::Failed { cause: FailureCause::CounterpartyLostData });
        hub
    };
    let mut hub = asked();
    let output = hub.funding_output();
    hub.chain(ChainEvent::FundingConfirmed { height: HEIGHT, block_index: 1, output: Some(output) }).unwrap();
    assert!(hub.channel().publish_job(&hub.signer).is_some_and(|job| job.for_counterparty));
    // One that never confirms is forgotten in the end.
    let mut hub = asked();
    hub.chain(ChainEvent::FundingNeverConfirms { height: HEIGHT + 2_016 }).unwrap();
    assert!(matches!(hub.channel().phase(), PhaseView::Aborted { .. }));
}

#[test]
fn nothing_that_a_recovered_channel_hears_makes_it_sign() {
    let (hub, mut wallet, essentials) = lost();
    let input = Channel::check_recovered(request(&hub), &essentials, &wallet.context()).unwrap();
    wallet.begin(&input);
    wallet.outbox.clear();
    for message in [
        Message::ChannelReady,
        Message::ChannelError { text: "no".to_owned(), cannot_publish: false },
        Message::UpdateFulfillHtlc { id: 0, preimage: preimage(0) },
    ] {
        wallet.handle(Event::Message(message)).unwrap();
    }
    assert!(wallet.outbox.is_empty());
    assert_eq!(wallet.channel().phase(), LOST);
    assert!(wallet.command(Command::SignNow).is_err());
    assert!(wallet.command(Command::Shutdown { script: payout_script(1) }).is_err());
}

#[test]
fn a_funding_that_is_not_on_the_chain_as_told_is_named() {
    let (hub, mut wallet, essentials) = lost();
    let input = Channel::check_recovered(request(&hub), &essentials, &wallet.context()).unwrap();
    wallet.begin(&input);
    wallet.chain(ChainEvent::FundingConfirmed { height: HEIGHT, block_index: 1, output: None }).unwrap();
    let wrong = PhaseView::Failed { cause: FailureCause::WrongFunding };
    assert_eq!(wallet.channel().phase(), wrong);
}

#[test]
fn essentials_that_differ_from_the_sealed_ones_recover_nothing() {
    let (hub, wallet, essentials) = lost();
    let other_key = Point::from_bytes([3; 33]);
    let check = |change: fn(&mut RecoverRequest, &mut Essentials), expected: RecoveryFlaw| {
        let (mut request, mut essentials) = (request(&hub), essentials.clone());
        assert!(Channel::check_recovered(request.clone(), &essentials, &wallet.context()).is_ok());
        change(&mut request, &mut essentials);
        let result = Channel::check_recovered(request, &essentials, &wallet.context());
        assert_eq!(result, Err(expected));
    };
    check(|request, _| request.channel_id = ChannelId([8; 32]), RecoveryFlaw::ChannelId);
    check(|request, _| request.counterparty_node = Point::from_bytes([3; 33]), RecoveryFlaw::Node);
    check(|_, essentials| essentials.outpoint.vout += 1, RecoveryFlaw::Outpoint);
    check(|_, essentials| essentials.capacity_sat += 1, RecoveryFlaw::Capacity);
    let foreign: fn(&mut RecoverRequest, &mut Essentials) =
        |_, essentials| essentials.sender.basepoints.funding = essentials.receiver.basepoints.funding;
    check(foreign, RecoveryFlaw::CounterpartyKey);
    let foreign: fn(&mut RecoverRequest, &mut Essentials) =
        |_, essentials| essentials.receiver.basepoints.payment = essentials.sender.basepoints.payment;
    check(foreign, RecoveryFlaw::OwnKeys);
    let name = "option_other".to_owned();
    let expected = RecoveryFlaw::Parameters(ParameterFlaw::UnsupportedFormat { name });
    check(|_, essentials| essentials.format = "option_other".to_owned(), expected);
    let expected = RecoveryFlaw::Parameters(ParameterFlaw::InvalidPoint(other_key));
    check(|_, essentials| essentials.sender.basepoints.htlc = Point::from_bytes([3; 33]), expected);
    let broken = check_sealed(&hub, &wallet, &essentials, |sealed| sealed.pop());
    assert!(matches!(broken, Err(RecoveryFlaw::Sealed(_))));
}

fn check_sealed(
    hub: &End,
    wallet: &End,
    essentials: &Essentials,
    change: fn(&mut Vec<u8>) -> Option<u8>,
) -> Result<(), RecoveryFlaw> {
    let mut essentials = essentials.clone();
    change(&mut essentials.sealed);
    Channel::check_recovered(request(hub), &essentials, &wallet.context()).map(|_| ())
}

#[test]
fn a_sealed_key_id_of_another_channel_is_noticed() {
    let (hub, wallet, mut essentials) = lost();
    let mut sealed = open_essentials(&wallet.signer, &essentials.sealed).unwrap();
    sealed.key_id = KeyId::from_bytes([99; 32]);
    essentials.sealed = seal_essentials(&wallet.signer, &sealed);
    let result = Channel::check_recovered(request(&hub), &essentials, &wallet.context());
    assert_eq!(result, Err(RecoveryFlaw::OwnKeys));
}
