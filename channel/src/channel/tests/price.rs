//! What a channel costs its accepter: agreed at the opening, kept of the first payments, never more.

use bitcoin::{Amount, ScriptBuf, TxOut};

use super::pair::*;
use crate::amount::Msat;
use crate::channel::Channel;
use crate::effect::Report;
use crate::error::{ParameterFlaw, Refusal, Rejection};
use crate::event::{AcceptRequest, ChainEvent, Command, Event, FailRequest, OpenRequest};
use crate::funding::FundingFlaw;
use crate::message::{FundingCreated, Message};

fn msat(amount: u64) -> Msat {
    Msat::new(amount).unwrap()
}

/// What each end has still to be paid or to pay.
fn unpaid(pair: &Pair) -> [u64; 2] {
    [&pair.hub, &pair.wallet].map(|end| end.channel().view().price_unpaid_msat.to_u64())
}

/// The hub pays on `amount_msat`, as the wallet's HTLC `number`; answers what came in, and what the payer had paid.
fn paid(pair: &mut Pair, number: u64, amount_msat: u64) -> [u64; 2] {
    let before = pair.wallet.channel().view().holder_msat.to_u64();
    pair.offer(Who::Hub, number, amount_msat);
    pair.run();
    let told = pair.wallet.offers().last().unwrap().amount_msat.to_u64();
    pair.resolve(Who::Wallet, number, fulfilled(number));
    pair.run();
    [pair.wallet.channel().view().holder_msat.to_u64() - before, told]
}

#[test]
fn the_price_is_kept_of_the_first_payments_half_of_each_at_most() {
    let mut pair = Pair::open_at(msat(700_000));
    assert_eq!(pair.wallet.channel().view().price_msat, msat(700_000));
    assert_eq!(paid(&mut pair, 0, 1_000_001), [500_001, 1_000_001], "the odd one is the payee's");
    assert_eq!(unpaid(&pair), [200_000, 200_000]);
    assert_eq!(paid(&mut pair, 1, 1_000_000), [800_000, 1_000_000], "what is left is kept");
    assert_eq!(unpaid(&pair), [0, 0]);
    assert_eq!(paid(&mut pair, 2, 1_000_000), [1_000_000, 1_000_000], "then nothing more");
    let part = |amount, unpaid| Report::PricePaid { amount_msat: msat(amount), unpaid_msat: msat(unpaid) };
    for end in [&pair.hub, &pair.wallet] {
        let told: Vec<_> =
            end.reports.iter().filter(|report| matches!(report, Report::PricePaid { .. })).collect();
        assert_eq!(told, [&part(500_000, 200_000), &part(200_000, 0)]);
    }
}

#[test]
fn what_is_left_of_a_payment_is_no_dust_and_not_below_the_minimum_unless_the_whole_was() {
    for (whole, rest) in [(600_000, 354_000), (354_999, 354_000), (353_999, 177_000), (2, 1), (1, 1)] {
        let mut pair = Pair::open_at(msat(50_000_000));
        assert_eq!(paid(&mut pair, 0, whole), [rest, whole]);
    }
    let mut pair = Pair::new();
    pair.wallet.policy.htlc_minimum_msat = msat(900);
    let mut pair = pair.opened_at(msat(50_000_000));
    assert_eq!(paid(&mut pair, 0, 1_000), [900, 1_000]);
}

#[test]
fn what_was_kept_of_a_failed_payment_is_owed_again() {
    let mut pair = Pair::open_at(msat(700_000));
    pair.offer(Who::Hub, 0, 2_000_000);
    pair.run();
    assert_eq!(unpaid(&pair), [700_000, 700_000], "nothing is paid before the payment is");
    pair.resolve(Who::Wallet, 0, REFUSED);
    pair.run();
    assert_eq!(unpaid(&pair), [700_000, 700_000]);
    assert_eq!(pair.hub.channel().view().holder_msat.to_u64(), CAPACITY_SAT * 1_000);
    assert_eq!(paid(&mut pair, 1, 2_000_000), [1_300_000, 2_000_000]);
}

#[test]
fn who_took_a_payment_has_paid_with_it_though_the_channel_fails_before_it_is_removed() {
    let mut pair = Pair::open_at(msat(700_000));
    pair.offer(Who::Hub, 0, 2_000_000);
    pair.run();
    pair.resolve(Who::Wallet, 0, fulfilled(0));
    assert_eq!(unpaid(&pair), [700_000, 0]);
    pair.wallet.command(Command::Fail { reason: FailRequest::Operator }).unwrap();
    assert_eq!(unpaid(&pair)[1], 0, "the hub kept its part of what the chain gives");
    assert_eq!(pair.wallet.channel().price_paid(), msat(700_000));
    assert_eq!(pair.hub.channel().price_paid(), Msat::ZERO, "it is the accepter who pays");
}

#[test]
fn what_is_given_up_is_the_whole_payment_not_what_is_left_of_it() {
    let mut pair = Pair::open_at(msat(700_000));
    pair.offer(Who::Hub, 0, 353_999);
    pair.run();
    pair.disconnect();
    let due = pair.hub.channel().next_deadline().unwrap();
    pair.hub.chain(ChainEvent::Deadline { height: due }).unwrap();
    let given_up: Vec<_> = pair.hub.channel().given_up().map(|htlc| htlc.amount_msat).collect();
    assert_eq!(given_up, [msat(353_999)]);
}

#[test]
fn payments_the_other_way_cost_nothing() {
    let mut pair = Pair::open_at(msat(400_000_000));
    assert_eq!(paid(&mut pair, 0, 200_000_000), [100_000_000, 200_000_000]);
    // An HTLC with the same id goes each way, and a part is kept of one.
    pair.offer(Who::Hub, 1, 3_000_000);
    pair.offer(Who::Wallet, 7, 2_000_000);
    pair.run();
    pair.offer(Who::Wallet, 8, 5_000_000);
    pair.run();
    let told: Vec<_> = pair.hub.offers().iter().map(|offer| offer.amount_msat).collect();
    assert_eq!(told, [msat(2_000_000), msat(5_000_000)]);
    for id in [0, 1] {
        pair.resolve(Who::Hub, id, fulfilled(id + 7));
    }
    pair.resolve(Who::Wallet, 1, fulfilled(1));
    pair.run();
    assert_eq!(pair.wallet.channel().view().holder_msat, msat(94_500_000));
    assert_eq!(unpaid(&pair), [298_500_000, 298_500_000]);
}

#[test]
fn two_payments_at_once_do_not_pay_the_same_part_twice() {
    let mut pair = Pair::open_at(msat(700_000));
    pair.offer(Who::Hub, 0, 1_000_000);
    pair.offer(Who::Hub, 1, 1_000_000);
    pair.run();
    for number in [0, 1] {
        pair.resolve(Who::Wallet, number, fulfilled(number));
    }
    pair.run();
    assert_eq!(pair.wallet.channel().view().holder_msat, msat(1_300_000));
    assert_eq!(unpaid(&pair), [0, 0]);
}

#[test]
fn a_payment_with_a_part_kept_survives_a_lost_connection_and_restarts_at_every_message() {
    for lost_after in 0..12 {
        let mut pair = Pair::open_at(msat(700_000));
        pair.offer(Who::Hub, 0, 1_000_000);
        pair.hub.command(Command::SignNow).unwrap();
        for _ in 0..lost_after {
            let _ = pair.deliver(Who::Wallet) || pair.deliver(Who::Hub);
            for who in Who::BOTH {
                let _ = pair.end(who).command(Command::SignNow);
            }
        }
        for who in Who::BOTH {
            if lost_after % 2 == 0 {
                pair.end(who).take_snapshot();
            }
            pair.end(who).restart();
        }
        pair.disconnect();
        pair.connect();
        pair.run();
        assert_eq!(pair.wallet.offers().last().unwrap().amount_msat, msat(1_000_000));
        pair.resolve(Who::Wallet, 0, fulfilled(0));
        pair.run();
        assert_eq!(pair.wallet.channel().view().holder_msat, msat(500_000), "lost after {lost_after}");
        assert_eq!(unpaid(&pair), [200_000, 200_000]);
    }
}

#[test]
fn a_channel_that_costs_more_than_was_agreed_is_refused_by_name() {
    let proposed = |price: u64, coin: u64, coins: &ScriptBuf, maximum: u64| {
        let mut pair = Pair::new();
        let request = OpenRequest {
            price_msat: msat(price),
            reserve_sat: 10_000,
            reserve_price_msat: msat(coin),
            ..pair.hub.open_request(1, &pair.wallet)
        };
        pair.hub.begin(&Channel::check_open(request, &pair.hub.context()).unwrap());
        let Some(Message::OpenChannel(proposal)) = pair.hub.outbox.pop_front() else { panic!("no proposal") };
        let request = AcceptRequest {
            reserve_script: coins.clone(),
            max_price_msat: msat(maximum),
            ..pair.wallet.accept_request(1, &pair.hub)
        };
        Channel::check_accept(request, &proposal, &pair.wallet.context()).map(|_| ())
    };
    let too_high = |price, maximum| {
        let flaw = ParameterFlaw::PriceTooHigh { price: msat(price), maximum: msat(maximum) };
        Err(Rejection::Refusal(Refusal::Parameters(flaw)))
    };
    let (none, asked) = (ScriptBuf::new(), payout_script(3));
    assert_eq!(proposed(500, 0, &none, 500), Ok(()));
    assert_eq!(proposed(501, 0, &none, 500), too_high(501, 500));
    assert_eq!(proposed(500, 100, &none, 500), Ok(()), "the coin costs nothing where none is asked for");
    assert_eq!(proposed(500, 100, &asked, 600), Ok(()));
    assert_eq!(proposed(500, 100, &asked, 599), too_high(600, 599));
    assert_eq!(proposed(1, 0, &none, 0), too_high(1, 0), "nobody asked for it");
}

/// A channel at 500 sat, whose accepter asks for a coin of 10,000 sat for 10,000 sat more.
fn with_coin() -> (Pair, TxOut) {
    let mut pair = Pair::new();
    let request = OpenRequest {
        price_msat: msat(500_000),
        reserve_sat: 10_000,
        reserve_price_msat: msat(10_000_000),
        ..pair.hub.open_request(1, &pair.wallet)
    };
    pair.hub.begin(&Channel::check_open(request, &pair.hub.context()).unwrap());
    let Some(Message::OpenChannel(proposal)) = pair.hub.outbox.pop_front() else { panic!("no proposal") };
    let coin = TxOut { value: Amount::from_sat(10_000), script_pubkey: payout_script(3) };
    let request = AcceptRequest {
        reserve_script: coin.script_pubkey.clone(),
        max_price_msat: msat(10_500_000),
        ..pair.wallet.accept_request(1, &pair.hub)
    };
    pair.wallet.begin(&Channel::check_accept(request, &proposal, &pair.wallet.context()).unwrap());
    pair.settle();
    (pair, coin)
}

#[test]
fn a_coin_is_paid_for_only_where_the_funding_transaction_holds_it() {
    let (mut pair, coin) = with_coin();
    assert_eq!(unpaid(&pair), [10_500_000, 10_500_000]);
    let without = pair.hub.funding_transaction();
    let missing = FundingFlaw::NoReserveCoin { expected: coin.value };
    let refused = Err(Rejection::Refusal(Refusal::WrongFunding(missing)));
    let built = |transaction| Command::FundingBuilt { transaction, output_index: 1 };
    assert_eq!(pair.hub.command(built(without.clone())), refused, "the hub's own wallet forgot it");

    let mut transaction = without.clone();
    transaction.output.push(coin);
    pair.hub.command(built(transaction.clone())).unwrap();
    let Some(Message::FundingCreated(good)) = pair.hub.outbox.pop_front() else { panic!("no funding") };
    let told = good.transaction.clone().expect("the wallet is shown the transaction");
    assert_eq!(told.compute_txid(), transaction.compute_txid());
    assert!(told.input.iter().all(|input| input.witness.is_empty()), "nobody but the hub could publish it");
    let mut check = |transaction| {
        let created = FundingCreated { transaction, ..good.clone() };
        pair.wallet.handle(Event::Message(Message::FundingCreated(created)))
    };
    assert_eq!(check(None), refused, "not shown");
    let found = without.compute_txid();
    let other = FundingFlaw::WrongTxid { found, expected: transaction.compute_txid() };
    assert_eq!(check(Some(without)), Err(Rejection::Refusal(Refusal::WrongFunding(other))));
    assert_eq!(check(Some(told)), Ok(()));
}

#[test]
fn an_accepter_with_coins_pays_for_the_channel_alone() {
    let mut pair = Pair::new();
    let request = OpenRequest {
        price_msat: msat(500_000),
        reserve_sat: 10_000,
        reserve_price_msat: msat(10_000_000),
        ..pair.hub.open_request(1, &pair.wallet)
    };
    pair.hub.begin(&Channel::check_open(request, &pair.hub.context()).unwrap());
    let Some(Message::OpenChannel(proposal)) = pair.hub.outbox.pop_front() else { panic!("no proposal") };
    let request = AcceptRequest { max_price_msat: msat(500_000), ..pair.wallet.accept_request(1, &pair.hub) };
    pair.wallet.begin(&Channel::check_accept(request, &proposal, &pair.wallet.context()).unwrap());
    pair.settle();
    assert_eq!(unpaid(&pair), [500_000, 500_000]);
    let transaction = pair.hub.funding_transaction();
    pair.hub.command(Command::FundingBuilt { transaction, output_index: 1 }).unwrap();
    let Some(Message::FundingCreated(created)) = pair.hub.outbox.front() else { panic!("no funding") };
    assert_eq!(created.transaction, None);
}
