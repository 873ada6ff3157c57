//! Every rule by which an end says no without harm to the channel.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};

use super::offers::offers;
use super::pair::*;
use super::rules::{Case, assert_complete, variants};
use crate::amount::Msat;
use crate::channel::PhaseView;
use crate::closing::{ClosingTerms, PlacementFlaw, TicketFlaw};
use crate::effect::{Report, TermsFlaw};
use crate::error::{ParameterFlaw, Refusal, Rejection};
use crate::event::{AbortReason, ChainEvent, Command, Event};
use crate::forward::ForwardKey;
use crate::funding::FundingFlaw;
use crate::ids::SessionId;
use crate::limits::{MAX_COMMITMENT_NUMBER, MAX_PROPOSED_TERMS};
use crate::message::{Message, Shutdown};
use crate::signer::Signer;

variants!(
    name,
    ALL,
    Refusal,
    [
        Parameters,
        PolicyUnusable,
        FundingNotAskedFor,
        WrongFunding,
        MalleableFunding,
        FundingReleased,
        ZeroAmount,
        BelowMinimum,
        AboveCapacity,
        InsufficientBalance,
        AboveMaxInFlight,
        TooManyHtlcs,
        TooManyDustHtlcs,
        DustExposure,
        ExpiryNotAHeight,
        ExpiryPast,
        ExpiryTooSoon,
        ExpiryTooFar,
        SignByPassed,
        WrongPayloadSize,
        WrongPreimage,
        EarlierAttemptLive,
        NotConnected,
        StillConnected,
        NotReestablished,
        AlreadyReestablished,
        NotOpenYet,
        FundingUnconfirmed,
        ShuttingDown,
        Frozen,
        Closed,
        Failed,
        UnexpectedMessage,
        NothingToSign,
        RoundUnderWay,
        CommitmentsExhausted,
        NotTheHub,
        NonStandardScript,
        ShutdownScriptFixed,
        ShutdownIncomplete,
        InFlight,
        PublishHeightPast,
        TooManyTerms,
        ImpossibleTicket,
        MalformedClosing,
        ClosingSpendsNothing,
        ClosingNotAsAgreed,
        NotOurSpend,
        NoFunding,
        NoDeadline,
    ]
);

#[test]
fn every_refusal_is_made_by_its_own_rule_and_changes_nothing() {
    let mut found = offers();
    // Openings have no channel yet; their cases are in `parameters`.
    found.extend(["Parameters", "PolicyUnusable"]);
    let mut cases = fundings();
    cases.extend(states());
    cases.extend(rounds());
    cases.extend(closings());
    cases.extend(agreed_closings());
    cases.extend(chain());
    for case in cases {
        if let Rejection::Refusal(refusal) = &case.expected {
            found.push(name(refusal));
        }
        case.run();
    }
    assert_complete(ALL, found);
}

fn command(command: Command) -> Event {
    Event::Command(command)
}

fn chain_event(event: ChainEvent) -> Event {
    command(Command::Chain(event))
}

pub(super) fn msat(amount: u64) -> Msat {
    Msat::new(amount).unwrap()
}

fn fundings() -> Vec<Case> {
    let built = |transaction: Transaction, output_index: u32| {
        command(Command::FundingBuilt { transaction, output_index })
    };
    let proposed = || {
        let pair = Pair::proposed(Who::Hub);
        let transaction = pair.hub.funding_transaction();
        (pair.hub, transaction)
    };
    let case = |change: fn(&mut Transaction), output_index: u32, expected: Refusal| {
        let (end, transaction) = proposed();
        let mut changed = transaction.clone();
        change(&mut changed);
        Case::new(end, built(transaction, 1), built(changed, output_index), expected)
    };
    let (_, good) = proposed();
    let (output, change) = (good.output[1].clone(), good.output[0].clone());
    let wrong_script = FundingFlaw::WrongScript {
        found: change.script_pubkey.clone(),
        expected: output.script_pubkey.clone(),
    };
    let wrong_amount =
        FundingFlaw::WrongAmount { found: output.value - Amount::ONE_SAT, expected: output.value };
    let missing = FundingFlaw::NoSuchOutput { index: 2, outputs: 2 };
    let funded = Pair::funded(Who::Hub);
    let abort = || command(Command::AbortOpening { why: AbortReason::TimedOut });
    let disconnected = command(Command::Disconnected);
    vec![
        case(|tx| tx.output[1].value -= Amount::ONE_SAT, 1, Refusal::WrongFunding(wrong_amount)),
        case(
            |tx| tx.output[1].script_pubkey = tx.output[0].script_pubkey.clone(),
            1,
            Refusal::WrongFunding(wrong_script),
        ),
        case(|_| {}, 2, Refusal::WrongFunding(missing)),
        case(|tx| tx.input[0].witness.clear(), 1, Refusal::MalleableFunding { index: 0 }),
        case(
            |tx| tx.input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]),
            1,
            Refusal::MalleableFunding { index: 0 },
        ),
        Case::new(funded.hub, disconnected.clone(), built(good, 1), Refusal::FundingNotAskedFor),
        Case::new(Pair::funded(Who::Hub).wallet, disconnected, abort(), Refusal::FundingReleased),
    ]
}

fn states() -> Vec<Case> {
    let mut offline = Pair::open(Who::Hub);
    offline.disconnect();
    let connect = |session: u64| command(Command::Connected { session: SessionId(session) });
    let shutdown = || Event::Message(Message::Shutdown(Shutdown { script: payout_script(1) }));
    let mut connecting = Pair::open(Who::Hub);
    connecting.disconnect();
    connecting.connect();
    let reestablish = Event::Message(connecting.wallet.outbox[0].clone());
    let mut reestablished = Pair::open(Who::Hub);
    reestablished.disconnect();
    reestablished.connect();
    reestablished.settle();
    let error = || Event::Message(Message::ChannelError { text: String::new(), cannot_publish: false });
    let mut irrevocable = Pair::open(Who::Hub);
    irrevocable.offer(Who::Hub, 1, 1_000);
    irrevocable.run();
    let result = |number: u64| {
        let key = ForwardKey { incoming: CHANNEL, htlc_id: 0, attempt: 1 };
        command(Command::Result { key, from: LEDGER, result: fulfilled(number) })
    };
    let mut offered = Pair::open(Who::Hub);
    offered.offer(Who::Hub, 1, 1_000);
    let again = |attempt: u32| {
        let mut again = offer(1, 1_000);
        again.key.attempt = attempt;
        command(Command::Offer(again))
    };
    let mut closing = frozen();
    let batch = closing.batch();
    closing
        .hub
        .chain(ChainEvent::FundingSpent { height: HEIGHT, transaction: batch, revoked_htlcs: None })
        .unwrap();
    let own_shutdown = || command(Command::Shutdown { script: ScriptBuf::new() });
    let mut failed = Pair::open(Who::Hub);
    failed.hub.command(Command::Fail { reason: crate::event::FailRequest::Operator }).unwrap();
    let disconnected = || command(Command::Disconnected);
    vec![
        Case::new(offline.hub, connect(5), shutdown(), Refusal::NotConnected),
        Case::new(
            Pair::open(Who::Hub).hub,
            shutdown(),
            connect(5),
            Refusal::StillConnected { current: SessionId(1) },
        ),
        Case::new(End::copy_of(&connecting.hub), reestablish.clone(), shutdown(), Refusal::NotReestablished),
        Case::new(reestablished.hub, shutdown(), reestablish.clone(), Refusal::AlreadyReestablished),
        Case::new(Pair::proposed(Who::Hub).hub, error(), reestablish, Refusal::UnexpectedMessage),
        Case::new(irrevocable.wallet, result(1), result(2), Refusal::WrongPreimage),
        Case::new(offered.hub, again(1), again(2), Refusal::EarlierAttemptLive { attempt: 1 }),
        Case::new(Pair::funded(Who::Hub).hub, disconnected(), own_shutdown(), Refusal::NotOpenYet),
        Case::new(closing.hub, disconnected(), own_shutdown(), Refusal::Closed),
        Case::new(failed.hub, disconnected(), own_shutdown(), Refusal::Failed),
    ]
}

fn rounds() -> Vec<Case> {
    let sign = || command(Command::SignNow);
    let mut signed = Pair::open(Who::Hub);
    signed.offer(Who::Hub, 1, 1_000);
    signed.hub.command(Command::SignNow).unwrap();
    signed.offer(Who::Hub, 2, 1_000);
    let mut exhausted = Pair::open(Who::Hub);
    exhausted.offer(Who::Hub, 1, 1_000);
    let exhaust = |end: &mut End| {
        end.channel.as_mut().unwrap().state.their_mut().number = MAX_COMMITMENT_NUMBER;
    };
    let disconnected = || command(Command::Disconnected);
    let mut last = Case::new(exhausted.hub, sign(), sign(), Refusal::CommitmentsExhausted);
    exhaust(&mut last.end);
    last.valid = disconnected();
    vec![
        Case::new(Pair::open(Who::Hub).hub, disconnected(), sign(), Refusal::NothingToSign),
        Case::new(signed.hub, disconnected(), sign(), Refusal::RoundUnderWay),
        last,
    ]
}

fn terms(fee_sat: u64, publish_by_height: u32) -> ClosingTerms {
    ClosingTerms { fee: Amount::from_sat(fee_sat), publish_by_height }
}

/// Both have shut down, nothing is in flight; the wallet has something to be paid.
fn shut_down() -> Pair {
    let mut pair = Pair::open(Who::Wallet);
    pair.wallet.command(Command::Shutdown { script: payout_script(1) }).unwrap();
    pair.run();
    pair
}

pub(super) fn frozen() -> Pair {
    let mut pair = shut_down();
    pair.hub.command(Command::ProposeTerms(terms(300, HEIGHT + 50))).unwrap();
    pair.settle();
    assert!(pair.hub.channel().ticket().is_some());
    pair
}

fn closings() -> Vec<Case> {
    let propose = |terms: ClosingTerms| command(Command::ProposeTerms(terms));
    let shutdown = |script: ScriptBuf| command(Command::Shutdown { script });
    let good = || propose(terms(300, HEIGHT + 50));
    let disconnected = || command(Command::Disconnected);
    let mut in_flight = Pair::open(Who::Wallet);
    in_flight.offer(Who::Wallet, 1, 1_000);
    in_flight.run();
    in_flight.wallet.command(Command::Shutdown { script: payout_script(1) }).unwrap();
    in_flight.run();
    let mut proposed = shut_down();
    for fee_sat in 0..MAX_PROPOSED_TERMS as u64 {
        proposed.hub.command(Command::ProposeTerms(terms(fee_sat, HEIGHT + 50))).unwrap();
    }
    // A dust limit that the closing does not take, as if the state were damaged.
    let mut impossible = Case::new(
        shut_down().hub,
        good(),
        good(),
        Refusal::ImpossibleTicket(TicketFlaw::DustLimitOutOfRange { dust_limit: Amount::from_sat(10_001) }),
    );
    impossible.end.channel.as_mut().unwrap().state.terms.dust_limit_sat = 10_001;
    impossible.end.channel.as_mut().unwrap().context = Default::default();
    impossible.end.take_snapshot();
    impossible.valid = disconnected();
    vec![
        Case::new(
            Pair::open(Who::Hub).wallet,
            shutdown(payout_script(1)),
            shutdown(ScriptBuf::from_bytes(vec![0x51])),
            Refusal::NonStandardScript,
        ),
        Case::new(
            Pair::open(Who::Hub).wallet,
            shutdown(payout_script(1)),
            shutdown(ScriptBuf::new()),
            Refusal::NonStandardScript,
        ),
        Case::new(
            shut_down().wallet,
            shutdown(payout_script(1)),
            shutdown(payout_script(2)),
            Refusal::ShutdownScriptFixed,
        ),
        Case::new(shut_down().wallet, disconnected(), good(), Refusal::NotTheHub),
        Case::new(Pair::open(Who::Hub).hub, disconnected(), good(), Refusal::ShutdownIncomplete),
        Case::new(in_flight.hub, disconnected(), good(), Refusal::InFlight),
        Case::new(proposed.hub, disconnected(), good(), {
            Refusal::TooManyTerms { maximum: MAX_PROPOSED_TERMS }
        }),
        Case::new(shut_down().hub, good(), propose(terms(300, HEIGHT)), {
            Refusal::PublishHeightPast { publish_by_height: HEIGHT, height: HEIGHT }
        }),
        impossible,
        Case::new(frozen().hub, disconnected(), good(), Refusal::Frozen),
    ]
}

impl Pair {
    /// A batch of this one channel, without witnesses.
    fn batch(&self) -> Transaction {
        let spec = self.hub.channel().ticket().unwrap().spec;
        let mut batch = transaction(spec.payout().into_iter().collect());
        batch.input = vec![spec.input()];
        batch
    }
}

fn agreed_closings() -> Vec<Case> {
    let handed = |transaction: &Transaction| {
        let transaction = bitcoin::consensus::serialize(transaction);
        Event::Message(Message::ClosingTransaction { transaction })
    };
    let case = |change: fn(&mut Transaction), expected: Refusal| {
        let pair = frozen();
        let batch = pair.batch();
        let mut changed = batch.clone();
        change(&mut changed);
        Case::new(pair.wallet, handed(&batch), handed(&changed), expected)
    };
    let pair = frozen();
    let batch = pair.batch();
    let garbage = Event::Message(Message::ClosingTransaction { transaction: vec![1; 100] });
    let huge = Event::Message(Message::ClosingTransaction { transaction: vec![0; 400_001] });
    let published = |transaction: Transaction| command(Command::ClosingPublished { transaction });
    let mut poorer = batch.clone();
    poorer.output[0].value -= Amount::ONE_SAT;
    let not_as_agreed = Refusal::ClosingNotAsAgreed(PlacementFlaw::Output { index: 0 });
    vec![
        case(|tx| tx.input[0].previous_output = OutPoint::null(), Refusal::ClosingSpendsNothing),
        case(|tx| tx.output[0].value -= Amount::ONE_SAT, not_as_agreed.clone()),
        case(|tx| tx.output[0].script_pubkey = payout_script(5), not_as_agreed.clone()),
        case(|tx| tx.output.clear(), not_as_agreed.clone()),
        case(
            |tx| tx.version = bitcoin::transaction::Version::ONE,
            Refusal::ClosingNotAsAgreed(PlacementFlaw::Version),
        ),
        Case::new(End::copy_of(&pair.wallet), handed(&batch), garbage, Refusal::MalformedClosing),
        Case::new(End::copy_of(&pair.wallet), handed(&batch), huge, Refusal::MalformedClosing),
        Case::new(End::copy_of(&pair.hub), published(batch.clone()), published(poorer), not_as_agreed),
        Case::new(
            Pair::open(Who::Hub).hub,
            command(Command::Disconnected),
            published(batch),
            Refusal::InFlight,
        ),
    ]
}

fn chain() -> Vec<Case> {
    let deep = || chain_event(ChainEvent::FundingDeep { height: HEIGHT });
    let spend = |previous_output: OutPoint| {
        let mut transaction =
            transaction(vec![TxOut { value: Amount::from_sat(1), script_pubkey: payout_script(1) }]);
        transaction.input[0].previous_output = previous_output;
        chain_event(ChainEvent::FundingSpent { height: HEIGHT, transaction, revoked_htlcs: None })
    };
    let open = Pair::open(Who::Hub);
    let ours = open.hub.channel().funding_outpoint().unwrap();
    let mut waiting = Pair::open(Who::Hub);
    waiting.offer(Who::Hub, 1, 1_000);
    waiting.run();
    let due = waiting.hub.channel().next_deadline().unwrap();
    assert_eq!(due, HEIGHT + 100 + crate::limits::OUTGOING_GRACE_BLOCKS);
    let deadline = |height: u32| chain_event(ChainEvent::Deadline { height });
    vec![
        Case::new(Pair::proposed(Who::Hub).hub, command(Command::Disconnected), deep(), Refusal::NoFunding),
        Case::new(open.hub, spend(ours), spend(OutPoint::null()), Refusal::NotOurSpend),
        Case::new(waiting.hub, deadline(due), deadline(due - 1), Refusal::NoDeadline { height: due - 1 }),
    ]
}

#[test]
fn a_ticket_is_never_signed_for_another_script_or_amount() {
    // The signer builds what it signs from the state: there is no way to ask for another.
    let pair = frozen();
    let ticket = pair.hub.channel().ticket().unwrap();
    assert_eq!(ticket.spec.wallet_script, payout_script(1));
    assert_eq!(ticket.spec.payout().unwrap().value.to_sat(), CAPACITY_SAT - 300);
    assert_eq!(ticket.spec.verify(&ticket.signature), Ok(()));
    let mut richer = ticket.spec.clone();
    richer.wallet_balance = Msat::new(CAPACITY_SAT * 1_000 + 1).unwrap();
    assert!(matches!(
        pair.wallet.signer.sign_ticket(&pair.wallet.channel().key_id(), &richer),
        Err(crate::signer::SignerError::Ticket(TicketFlaw::BalanceExceedsFunding { .. }))
    ));
}

#[test]
fn terms_above_the_wallets_limits_change_nothing_and_are_told() {
    for (proposed, why) in [
        (terms(2_001, HEIGHT + 50), TermsFlaw::FeeTooHigh { maximum_sat: 2_000 }),
        (terms(2_000, HEIGHT), TermsFlaw::PublishHeightPast { height: HEIGHT }),
    ] {
        let mut pair = shut_down();
        let before = pair.wallet.channel().state_hash();
        pair.wallet.handle(Event::Message(Message::ClosingTerms(proposed))).unwrap();
        assert_eq!(pair.wallet.reports.last(), Some(&Report::TermsRefused { terms: proposed, why }));
        assert_eq!(pair.wallet.channel().state_hash(), before);
        // Others may follow.
        pair.wallet.handle(Event::Message(Message::ClosingTerms(terms(2_000, HEIGHT + 50)))).unwrap();
        assert!(matches!(pair.wallet.channel().phase(), PhaseView::Frozen { .. }));
    }
}

#[test]
fn parameters_name_themselves() {
    // The text is for people; it must say what was wrong and what is expected.
    let flaw = ParameterFlaw::CapacityTooSmall { capacity_sat: 1, minimum_sat: 20_000 };
    let text = Refusal::from(flaw).to_string();
    assert_eq!(text, "the capacity of 1 sat is below the minimum of 20000 sat");
}
