//! Every way a counterparty can break the protocol, each caught by its own rule.

use bitcoin::{Amount, ScriptBuf};
use secp256k1::{SECP256K1, SecretKey};

use super::pair::*;
use super::rules::{Case, assert_complete, variants};
use crate::amount::Msat;
use crate::closing::ClosingTerms;
use crate::error::{ParameterFlaw, Rejection, Violation};
use crate::event::{Command, Event};
use crate::ids::{SessionId, StreamId};
use crate::keys::{CompactSignature, Point};
use crate::limits::{MAX_SEALED_BLOB_BYTES, SEALED_PAYLOAD_BYTES};
use crate::message::{
    CommitmentSigned, Message, Recipient, Reestablish, RevokeAndAck, Shutdown, Ticket, UpdateAddHtlc,
};
use crate::shachain::CommitmentSecret;
use crate::signer::Signer;

variants!(
    name,
    ALL,
    Violation,
    [
        Parameters,
        ReplayedCommitment,
        FutureCommitment,
        EmptyCommitment,
        WrongCommitmentSignature,
        WrongHtlcSignatureCount,
        WrongHtlcSignature,
        SealedBlobTooLong,
        UnexpectedRevocation,
        ReplayedRevocation,
        FutureRevocation,
        WrongRevocationSecret,
        InconsistentRevocationSecret,
        InvalidNextPoint,
        DuplicateHtlcId,
        SkippedHtlcId,
        ZeroAmount,
        BelowMinimum,
        AboveCapacity,
        Unaffordable,
        AboveMaxInFlight,
        TooManyHtlcs,
        TooManyDustHtlcs,
        ExpiryNotAHeight,
        PriceExceeded,
        WrongPayloadSize,
        AddAfterShutdown,
        AddBeforeReady,
        UnknownHtlc,
        HtlcNotIrrevocable,
        HtlcAlreadyRemoved,
        WrongPreimage,
        WrongReestablishSecret,
        ReestablishFromFuture,
        UnknownFrozenTerms,
        ShutdownScript,
        ShutdownScriptChanged,
        TermsFromWallet,
        TermsTooEarly,
        UnexpectedTicket,
        TicketForUnknownTerms,
        WrongTicketSignature,
    ]
);

#[test]
fn every_violation_is_caught_by_its_own_rule_and_fails_the_channel() {
    let mut cases = openings();
    cases.extend(commitments());
    cases.extend(revocations());
    cases.extend(adds());
    cases.extend(removals());
    cases.extend(reestablishments());
    cases.extend(closings());
    let mut found = Vec::new();
    for case in cases {
        if let Rejection::Violation(violation) = &case.expected {
            found.push(name(violation));
        }
        case.run();
    }
    assert_complete(ALL, found);
}

fn event(message: Message) -> Event {
    Event::Message(message)
}

/// The same message with one thing changed.
fn with<T: Clone>(original: &T, change: impl FnOnce(&mut T)) -> T {
    let mut changed = original.clone();
    change(&mut changed);
    changed
}

/// No point has this coordinate.
const NO_POINT: Point = Point::from_bytes([5; 33]);

const NO_SIGNATURE: CompactSignature = CompactSignature::from_bytes([1; 64]);

fn openings() -> Vec<Case> {
    let mut pair = Pair::new();
    let input =
        crate::channel::Channel::check_open(pair.hub.open_request(1, &pair.wallet), &pair.hub.context())
            .unwrap();
    pair.hub.begin(&input);
    let Some(Message::OpenChannel(proposal)) = pair.hub.outbox.pop_front() else { panic!("no proposal") };
    let request = pair.wallet.accept_request(1, &pair.hub);
    let input = crate::channel::Channel::check_accept(request, &proposal, &pair.wallet.context()).unwrap();
    pair.wallet.begin(&input);
    let Some(Message::AcceptChannel(accept)) = pair.wallet.outbox.pop_front() else { panic!("no answer") };
    let flaw = ParameterFlaw::InvalidPoint(NO_POINT);
    let parameters = Case::new(
        pair.hub,
        event(Message::AcceptChannel(accept.clone())),
        event(Message::AcceptChannel(with(&accept, |accept| accept.accepter.second_point = NO_POINT))),
        Violation::Parameters(flaw),
    );

    // Commitment 0 counts like any other.
    let mut pair = Pair::proposed(Who::Wallet);
    let transaction = pair.wallet.funding_transaction();
    pair.wallet.command(Command::FundingBuilt { transaction, output_index: 1 }).unwrap();
    let Some(Message::FundingCreated(created)) = pair.wallet.outbox.pop_front() else { panic!("none") };
    let signature = Case::new(
        pair.hub,
        event(Message::FundingCreated(created.clone())),
        event(Message::FundingCreated(with(&created, |created| created.signature = NO_SIGNATURE))),
        Violation::WrongCommitmentSignature,
    );
    vec![parameters, signature]
}

/// The wallet is about to get the hub's first signature, which covers an HTLC with an output.
fn about_to_be_signed() -> (Pair, CommitmentSigned) {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 10_000_000);
    pair.hub.command(Command::SignNow).unwrap();
    pair.deliver(Who::Wallet);
    let Some(Message::CommitmentSigned(signed)) = pair.hub.outbox.pop_front() else { panic!("unsigned") };
    (pair, signed)
}

fn commitments() -> Vec<Case> {
    let case = |change: fn(&mut CommitmentSigned), violation: Violation| {
        let (pair, signed) = about_to_be_signed();
        let broken = event(Message::CommitmentSigned(with(&signed, change)));
        Case::new(pair.wallet, event(Message::CommitmentSigned(signed)), broken, violation)
    };
    let too_long = MAX_SEALED_BLOB_BYTES + 1;
    let mut cases = vec![
        case(|signed| signed.number = 0, Violation::ReplayedCommitment { number: 0, expected: 1 }),
        case(|signed| signed.number = 2, Violation::FutureCommitment { number: 2, expected: 1 }),
        case(
            |signed| signed.number = u64::MAX,
            Violation::FutureCommitment { number: u64::MAX, expected: 1 },
        ),
        case(|signed| signed.signatures.commitment = NO_SIGNATURE, Violation::WrongCommitmentSignature),
        // Another message's signature is no better.
        case(
            |signed| signed.signatures.commitment = signed.signatures.htlcs[0],
            Violation::WrongCommitmentSignature,
        ),
        case(
            |signed| signed.signatures.htlcs.clear(),
            Violation::WrongHtlcSignatureCount { found: 0, expected: 1 },
        ),
        case(
            |signed| signed.signatures.htlcs.push(NO_SIGNATURE),
            Violation::WrongHtlcSignatureCount { found: 2, expected: 1 },
        ),
        case(
            |signed| signed.signatures.htlcs[0] = NO_SIGNATURE,
            Violation::WrongHtlcSignature { position: 0 },
        ),
        case(
            |signed| signed.sealed = vec![0; MAX_SEALED_BLOB_BYTES + 1],
            Violation::SealedBlobTooLong { found: too_long, maximum: MAX_SEALED_BLOB_BYTES },
        ),
    ];
    // Nothing is pending: the same message without its add.
    let (mut pair, signed) = about_to_be_signed();
    let valid = event(Message::CommitmentSigned(signed.clone()));
    pair.wallet.channel().check(valid, &pair.wallet.context()).unwrap();
    pair.wallet = Pair::open(Who::Hub).wallet;
    let valid = event(Message::Shutdown(Shutdown { script: ScriptBuf::new() }));
    let broken = event(Message::CommitmentSigned(signed));
    cases.push(Case::new(pair.wallet, valid, broken, Violation::EmptyCommitment));
    cases
}

/// The hub waits for the wallet's revocation of commitment `round - 1`.
fn about_to_be_revoked(round: u64) -> (Pair, RevokeAndAck) {
    let mut pair = Pair::open(Who::Hub);
    for number in 1..round {
        pair.offer(Who::Hub, number, 1_000);
        pair.hub.command(Command::SignNow).unwrap();
        pair.settle();
    }
    pair.offer(Who::Hub, round, 1_000);
    pair.hub.command(Command::SignNow).unwrap();
    while pair.deliver(Who::Wallet) {}
    let Some(Message::RevokeAndAck(revocation)) = pair.wallet.outbox.pop_front() else { panic!("none") };
    (pair, revocation)
}

fn revocations() -> Vec<Case> {
    let case = |round: u64, change: fn(&mut RevokeAndAck), violation: Violation| {
        let (pair, revocation) = about_to_be_revoked(round);
        let broken = event(Message::RevokeAndAck(with(&revocation, change)));
        Case::new(pair.hub, event(Message::RevokeAndAck(revocation)), broken, violation)
    };
    let mut cases = vec![
        case(2, |revocation| revocation.number = 0, Violation::ReplayedRevocation { number: 0, expected: 1 }),
        case(1, |revocation| revocation.number = 1, Violation::FutureRevocation { number: 1, expected: 0 }),
        case(
            1,
            |revocation| revocation.secret = CommitmentSecret::from_bytes([9; 32]),
            Violation::WrongRevocationSecret { number: 0 },
        ),
        case(
            1,
            |revocation| revocation.secret = CommitmentSecret::from_bytes([0; 32]),
            Violation::WrongRevocationSecret { number: 0 },
        ),
        case(1, |revocation| revocation.next_point = NO_POINT, Violation::InvalidNextPoint),
    ];
    // A secret that is the point's, but not of the tree: the counterparty cheated when it named the point.
    let (mut pair, revocation) = about_to_be_revoked(2);
    let valid = event(Message::RevokeAndAck(revocation.clone()));
    pair.hub.channel().check(valid.clone(), &pair.hub.context()).unwrap();
    let foreign = SecretKey::from_slice(&[9; 32]).unwrap();
    let channel = pair.hub.channel.as_mut().unwrap();
    channel.state.their_mut().unrevoked_point = foreign.public_key(SECP256K1).into();
    let broken = with(&revocation, |revocation| revocation.secret = CommitmentSecret::from_bytes([9; 32]));
    let valid = event(Message::Shutdown(Shutdown { script: payout_script(1) }));
    let violation = Violation::InconsistentRevocationSecret { number: 1 };
    cases.push(Case::new(pair.hub, valid, event(Message::RevokeAndAck(broken)), violation));
    // Nothing was signed, so nothing is to be revoked.
    let (_, revocation) = about_to_be_revoked(1);
    let valid = event(Message::Shutdown(Shutdown { script: payout_script(1) }));
    let violation = Violation::UnexpectedRevocation { number: 0 };
    let idle = Pair::open(Who::Hub).hub;
    cases.push(Case::new(idle, valid, event(Message::RevokeAndAck(revocation)), violation));
    cases
}

/// An add that the wallet accepts from the hub.
fn add(amount_msat: u64) -> UpdateAddHtlc {
    UpdateAddHtlc {
        id: 0,
        amount_msat: Msat::new(amount_msat).unwrap(),
        payment_hash: hash(1),
        cltv_expiry: HEIGHT + 100,
        recipient: Recipient::Stream { id: StreamId([4; 16]), index: 1 },
        forward: None,
        payload: Vec::new(),
    }
}

fn adds() -> Vec<Case> {
    let case = |change: fn(&mut UpdateAddHtlc), violation: Violation| {
        let mut pair = Pair::open(Who::Hub);
        let end = &mut pair.wallet;
        let mut terms = end.channel().state.terms.clone();
        terms.holder.htlc_minimum_msat = Msat::from_u32(10);
        terms.holder.max_accepted_htlcs = 1;
        terms.holder.max_accepted_dust_htlcs = 1;
        end.channel.as_mut().unwrap().state.terms = terms;
        end.take_snapshot();
        let valid = event(Message::UpdateAddHtlc(add(1_000)));
        let broken = event(Message::UpdateAddHtlc(with(&add(1_000), change)));
        Case::new(pair.wallet, valid, broken, violation)
    };
    let msat = |amount: u64| Msat::new(amount).unwrap();
    let capacity = msat(CAPACITY_SAT * 1_000);
    let mut cases = vec![
        case(|add| add.id = 1, Violation::SkippedHtlcId { id: 1, expected: 0 }),
        case(|add| add.amount_msat = Msat::ZERO, Violation::ZeroAmount),
        case(
            |add| add.amount_msat = Msat::from_u32(9),
            Violation::BelowMinimum { amount: msat(9), minimum: msat(10) },
        ),
        case(
            |add| add.amount_msat = Msat::new(CAPACITY_SAT * 1_000 + 1).unwrap(),
            Violation::AboveCapacity { amount: msat(CAPACITY_SAT * 1_000 + 1), capacity },
        ),
        case(
            |add| add.amount_msat = Msat::new(CAPACITY_SAT * 800 + 1).unwrap(),
            Violation::AboveMaxInFlight {
                total: msat(CAPACITY_SAT * 800 + 1),
                maximum: msat(CAPACITY_SAT * 800),
            },
        ),
        case(|add| add.cltv_expiry = 500_000_000, Violation::ExpiryNotAHeight { cltv_expiry: 500_000_000 }),
        case(
            |add| add.recipient = Recipient::Node(NO_POINT),
            Violation::WrongPayloadSize { found: 0, expected: SEALED_PAYLOAD_BYTES },
        ),
        case(|add| add.payload = vec![1], Violation::WrongPayloadSize { found: 1, expected: 0 }),
    ];
    cases.extend(adds_in_other_states());
    cases
}

fn adds_in_other_states() -> Vec<Case> {
    let mut cases = Vec::new();
    let message = |id: u64, amount: u64| event(Message::UpdateAddHtlc(UpdateAddHtlc { id, ..add(amount) }));
    // More than half, more than what is left, and anything where nothing was agreed.
    let msat = |amount: u64| Msat::new(amount).unwrap();
    for (price, amount, maximum) in [(5_000, 1_000, 1_000), (700, 1_000, 700), (0, 1_000, 0)] {
        let end = Pair::open_at(msat(price)).wallet;
        let kept = |deducted_msat| event(Message::PricedAddHtlc { add: add(amount), deducted_msat });
        let (deducted, maximum) = (msat(maximum + 1), msat(maximum));
        let violation = Violation::PriceExceeded { deducted, maximum };
        cases.push(Case::new(end, kept(maximum), kept(deducted), violation));
    }
    let after = |first: Option<u64>, limit: u16| {
        let mut pair = Pair::open(Who::Hub);
        let holder = &mut pair.wallet.channel.as_mut().unwrap().state.terms.holder;
        holder.max_accepted_htlcs = limit;
        holder.max_accepted_dust_htlcs = limit;
        pair.wallet.take_snapshot();
        if let Some(amount) = first {
            pair.wallet.handle(message(0, amount)).unwrap();
        }
        pair.wallet
    };
    let duplicate = Violation::DuplicateHtlcId { id: 0, expected: 1 };
    cases.push(Case::new(after(Some(1_000), 20), message(1, 1_000), message(0, 1_000), duplicate));
    let too_many = Violation::TooManyHtlcs { maximum: 1 };
    cases.push(Case::new(after(Some(354_000), 1), message(1, 353_999), message(1, 354_000), too_many));
    let too_many = Violation::TooManyDustHtlcs { maximum: 1 };
    cases.push(Case::new(after(Some(1_000), 1), message(1, 354_000), message(1, 353_999), too_many));

    // The offerer owns nothing: all of it, and the reserve to keep besides.
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 50_000_000);
    pair.run();
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    pair.run();
    let available = 50_000_000 - CAPACITY_SAT * 10;
    let violation = Violation::Unaffordable {
        amount: Msat::new(available + 1).unwrap(),
        available: Msat::new(available).unwrap(),
    };
    cases.push(Case::new(pair.hub, message(0, available), message(0, available + 1), violation));

    // After its shutdown a side offers nothing.
    let mut pair = Pair::open(Who::Hub);
    pair.hub.command(Command::Shutdown { script: ScriptBuf::new() }).unwrap();
    pair.run();
    let terms = event(Message::Shutdown(Shutdown { script: ScriptBuf::new() }));
    cases.push(Case::new(pair.wallet, terms, message(0, 1_000), Violation::AddAfterShutdown));

    let pair = Pair::funded(Who::Hub);
    let ready = event(Message::ChannelReady);
    cases.push(Case::new(pair.wallet, ready, message(0, 1_000), Violation::AddBeforeReady));
    cases
}

fn removals() -> Vec<Case> {
    let irrevocable = || {
        let mut pair = Pair::open(Who::Hub);
        pair.offer(Who::Hub, 1, 1_000);
        pair.run();
        pair
    };
    let fulfill = |id: u64, number: u64| event(Message::UpdateFulfillHtlc { id, preimage: preimage(number) });
    let mut not_yet = Pair::open(Who::Hub);
    not_yet.offer(Who::Hub, 1, 1_000);
    not_yet.hub.command(Command::SignNow).unwrap();
    let mut removed = irrevocable();
    removed.resolve(Who::Wallet, 0, fulfilled(1));
    removed.settle();
    let other = event(Message::Shutdown(Shutdown { script: payout_script(1) }));
    vec![
        Case::new(irrevocable().hub, fulfill(0, 1), fulfill(1, 1), Violation::UnknownHtlc { id: 1 }),
        Case::new(irrevocable().hub, fulfill(0, 1), fulfill(0, 2), Violation::WrongPreimage { id: 0 }),
        Case::new(not_yet.hub, other.clone(), fulfill(0, 1), Violation::HtlcNotIrrevocable { id: 0 }),
        Case::new(removed.hub, other, fulfill(0, 1), Violation::HtlcAlreadyRemoved { id: 0 }),
    ]
}

fn reestablishments() -> Vec<Case> {
    let case = |change: fn(&mut Reestablish), violation: Violation| {
        let mut pair = Pair::open(Who::Hub);
        pair.offer(Who::Hub, 1, 1_000);
        pair.run();
        pair.disconnect();
        for who in Who::BOTH {
            pair.end(who).command(Command::Connected { session: SessionId(9) }).unwrap();
        }
        let Some(Message::Reestablish(reestablish)) = pair.wallet.outbox.pop_front() else {
            panic!("no reestablish")
        };
        let broken = event(Message::Reestablish(with(&reestablish, |reestablish| change(reestablish))));
        Case::new(pair.hub, event(Message::Reestablish(reestablish)), broken, violation)
    };
    vec![
        case(
            |reestablish| reestablish.last_secret = CommitmentSecret::from_bytes([9; 32]),
            Violation::WrongReestablishSecret { number: 0 },
        ),
        // It claims that we revoked more than we did, and cannot prove it.
        case(
            |reestablish| reestablish.next_revocation_number = 5,
            Violation::WrongReestablishSecret { number: 4 },
        ),
        case(
            |reestablish| reestablish.next_revocation_number = u64::MAX,
            Violation::WrongReestablishSecret { number: u64::MAX - 1 },
        ),
        case(
            |reestablish| reestablish.next_commitment_number = 7,
            Violation::ReestablishFromFuture { number: 7, expected: 2 },
        ),
        case(|reestablish| reestablish.frozen = Some(terms(1)), Violation::UnknownFrozenTerms),
    ]
}

fn terms(fee_sat: u64) -> ClosingTerms {
    ClosingTerms { fee: Amount::from_sat(fee_sat), publish_by_height: HEIGHT + 50 }
}

/// Both have shut down.
fn shut_down() -> Pair {
    let mut pair = Pair::open(Who::Wallet);
    pair.wallet.command(Command::Shutdown { script: payout_script(1) }).unwrap();
    pair.run();
    pair
}

fn closings() -> Vec<Case> {
    let shutdown = |script: ScriptBuf| event(Message::Shutdown(Shutdown { script }));
    let proposal = |fee_sat: u64| event(Message::ClosingTerms(terms(fee_sat)));
    let mut proposed = shut_down();
    proposed.hub.command(Command::ProposeTerms(terms(1))).unwrap();
    proposed.deliver(Who::Wallet);
    let Some(Message::ClosingTicket(ticket)) = proposed.wallet.outbox.pop_front() else {
        panic!("no ticket")
    };
    let submit = |ticket: Ticket| event(Message::ClosingTicket(ticket));
    // Of another balance, fee or script: in short, of another ticket.
    let mut other_spec = proposed.wallet.channel().ticket_spec(&terms(1));
    other_spec.wallet_script = payout_script(2);
    let key_id = proposed.wallet.channel().key_id();
    let other_script = proposed.wallet.signer.sign_ticket(&key_id, &other_spec).unwrap();
    let hub = |pair: &Pair| End::copy_of(&pair.hub);
    vec![
        Case::new(
            Pair::open(Who::Hub).hub,
            shutdown(payout_script(1)),
            shutdown(ScriptBuf::from_bytes(vec![0x51])),
            Violation::ShutdownScript,
        ),
        // Only the hub may leave its script open.
        Case::new(
            Pair::open(Who::Hub).hub,
            shutdown(payout_script(1)),
            shutdown(ScriptBuf::new()),
            Violation::ShutdownScript,
        ),
        Case::new(
            shut_down().hub,
            shutdown(payout_script(1)),
            shutdown(payout_script(2)),
            Violation::ShutdownScriptChanged,
        ),
        Case::new(shut_down().hub, shutdown(payout_script(1)), proposal(1), Violation::TermsFromWallet),
        Case::new(
            Pair::open(Who::Hub).wallet,
            shutdown(ScriptBuf::new()),
            proposal(1),
            Violation::TermsTooEarly,
        ),
        Case::new(shut_down().hub, shutdown(payout_script(1)), submit(ticket), Violation::UnexpectedTicket),
        Case::new(
            hub(&proposed),
            submit(ticket),
            submit(with(&ticket, |ticket| ticket.terms = terms(2))),
            Violation::TicketForUnknownTerms,
        ),
        Case::new(
            hub(&proposed),
            submit(ticket),
            submit(with(&ticket, |ticket| ticket.signature = NO_SIGNATURE)),
            Violation::WrongTicketSignature,
        ),
        Case::new(
            hub(&proposed),
            submit(ticket),
            submit(with(&ticket, |ticket| ticket.signature = other_script)),
            Violation::WrongTicketSignature,
        ),
    ]
}
