//! `Channel::check` and `apply` against everything: bytes become steps of two real ends that were opened by their own messages,
//! among them any message a peer could send, at any moment.
//!
//! Laws: nothing panics, a refusal changes nothing, what `check` gives the journal reads again and `apply` takes, every
//! state's books add up, replay equals the run.

use std::sync::OnceLock;

use bitcoin::{OutPoint, ScriptBuf};
use channel::amount::Msat;
use channel::closing::ClosingTerms;
use channel::commitment::CommitmentSignatures;
use channel::event::{ChainEvent, Command, Event, FailRequest};
use channel::failure::FailureReason;
use channel::forward::{ForwardKey, ForwardResult, Offer};
use channel::ids::StreamId;
use channel::keys::{CompactSignature, Point};
use channel::message::{
    CommitmentSigned, ForwardInstruction, FundingCreated, FundingSigned, Message, Preimage, Recipient,
    Reestablish, RevokeAndAck, Shutdown, Ticket, UpdateAddHtlc,
};
use channel::shachain::CommitmentSecret;
use prost::Message as _;
use proto::hub::v1 as pb;

use super::duo::{Duo, LEDGER};
use super::limits::MAX_STEPS;
use super::source::Source;
use crate::model::pair::payout_script;

/// Kinds of steps; an input's byte is taken modulo this.
const STEPS: u8 = 18;

/// `data` chooses a scene, then steps.
pub fn check(data: &[u8]) {
    for end in &played(data).ends {
        end.check_replay();
    }
}

fn played(data: &[u8]) -> Duo {
    let mut source = Source::new(data);
    let mut duo = scene(source.byte()).clone();
    for _ in 0..MAX_STEPS {
        if source.is_empty() {
            break;
        }
        step(&mut duo, &mut source);
    }
    duo
}

fn preimage(number: u8) -> Preimage {
    Preimage::from_bytes([number; 32])
}

fn amount(source: &mut Source<'_>) -> Option<Msat> {
    // Around the dust limit, ordinary, or anything at all.
    Msat::new(match source.byte() {
        0 => 353_999,
        1 => 354_000,
        2 => 354_999,
        3 => source.number(),
        small @ 4..=127 => u64::from(small) * 10_000,
        large => u64::from(large) * 1_000_000,
    })
}

fn step(duo: &mut Duo, source: &mut Source<'_>) {
    let (kind, end) = (source.byte() % STEPS, usize::from(source.byte() & 1));
    let height = duo.height;
    match kind {
        0..=2 => {
            duo.deliver(end);
        }
        3 => {
            duo.command(end, Command::SignNow);
        }
        4 => {
            let (Some(amount_msat), number) = (amount(source), source.byte()) else { return };
            let sign_by_height = height + u32::from(source.byte() & 3);
            duo.command(end, Command::Offer(offer(number, amount_msat, height, sign_by_height)));
        }
        5 => resolve(duo, end, source),
        6 => {
            if let Some(key) = duo.ends[end].told.pop() {
                duo.command(end, Command::Ack { key });
            }
        }
        7 => duo.disconnect(),
        8 => {
            duo.disconnect();
            duo.connect();
        }
        9 => {
            duo.ends[end].outbox.clear();
            duo.ends[1 - end].outbox.clear();
            duo.ends[end].restart(height);
            duo.command(1 - end, Command::Disconnected);
        }
        10 => {
            duo.height = height.saturating_add(u32::from(source.byte()) % 64);
            let height = duo.height;
            duo.command(end, Command::Chain(ChainEvent::Deadline { height }));
        }
        11 => host(duo, end, source),
        12 => chain(duo, end, source),
        13 => {
            // The peer's next message, twice: the second is a replay.
            if let Some(message) = duo.ends[1 - end].outbox.front().cloned() {
                duo.ends[end].feed(Event::Message(message), height);
            }
        }
        14 => {
            if let Ok(wire) = pb::ChannelMessage::decode(source.blob().as_slice())
                && let Ok(message) = proto::message::from_wire(wire)
            {
                duo.ends[end].feed(Event::Message(message), height);
            }
        }
        15 => bent(duo, end, source),
        _ => {
            if let Some(message) = hostile(source, height) {
                duo.ends[end].feed(Event::Message(message), height);
            }
        }
    }
}

fn offer(number: u8, amount_msat: Msat, height: u32, sign_by_height: u32) -> Offer {
    Offer {
        key: ForwardKey { incoming: LEDGER, htlc_id: u64::from(number), attempt: 1 },
        amount_msat,
        payment_hash: preimage(number).payment_hash(),
        cltv_expiry: height + 60,
        recipient: Recipient::Stream { id: StreamId([4; 16]), index: u64::from(number) },
        forward: None,
        payload: Vec::new(),
        sign_by_height,
    }
}

/// The ledger answers an offer: with the preimage of some payment, or not.
fn resolve(duo: &mut Duo, end: usize, source: &mut Source<'_>) {
    let (which, how) = (usize::from(source.byte()), source.byte());
    let asked = &mut duo.ends[end].asked;
    if asked.is_empty() {
        return;
    }
    let key = asked.remove(which % asked.len());
    let result = if how & 1 == 0 {
        ForwardResult::Fulfilled { preimage: preimage(how >> 1) }
    } else {
        ForwardResult::Failed { reason: FailureReason::IncorrectPaymentDetails }
    };
    duo.command(end, Command::Result { key, from: LEDGER, result });
}

/// What people and the settlement ask of a host.
fn host(duo: &mut Duo, end: usize, source: &mut Source<'_>) {
    let command = match source.byte() % 4 {
        0 => Command::Shutdown { script: if end == 0 { ScriptBuf::new() } else { payout_script(1) } },
        1 => Command::ProposeTerms(terms(source, duo.height)),
        2 => Command::Fail { reason: FailRequest::Operator },
        _ => Command::Shutdown { script: ScriptBuf::from(source.blob()) },
    };
    duo.command(end, command);
}

/// The chain holds a commitment of either end, the latest or an older one; or claims of it.
fn chain(duo: &mut Duo, end: usize, source: &mut Source<'_>) {
    let (how, height) = (source.byte(), duo.height);
    if how & 1 == 0 {
        let spend = duo.ends[end].commitment(usize::from(how >> 1) % 4, height);
        if let Some(transaction) = spend {
            for end in &mut duo.ends {
                end.funding_spent(&transaction, height);
            }
        }
        return;
    }
    let Some(onchain) = duo.ends[end].channel.view().onchain else { return };
    let txid = onchain.txid;
    let event = match how >> 1 & 3 {
        0 => ChainEvent::SpendFinal { height, txid },
        1 => ChainEvent::SpendUndone { txid },
        _ => {
            let outpoint = OutPoint { txid, vout: u32::from(source.byte() & 7) };
            ChainEvent::OutputSpendFinal { outpoint, height, txid }
        }
    };
    duo.command(end, Command::Chain(event));
}

/// The peer's next message with something bent in it, as it was made by one who knows the keys.
fn bent(duo: &mut Duo, end: usize, source: &mut Source<'_>) {
    let Some(mut message) = duo.ends[1 - end].outbox.front().cloned() else { return };
    match &mut message {
        Message::UpdateAddHtlc(add) | Message::PricedAddHtlc { add, .. } => match source.byte() % 4 {
            0 => add.id = source.number(),
            1 => add.amount_msat = amount(source).unwrap_or(add.amount_msat),
            2 => add.cltv_expiry = source.short(),
            _ => add.payload = source.blob(),
        },
        Message::UpdateFulfillHtlc { id, .. } | Message::UpdateFailHtlc { id, .. } => *id = source.number(),
        Message::CommitmentSigned(signed) => match source.byte() % 4 {
            0 => signed.number = source.number(),
            1 => signed.signatures.htlcs.push(CompactSignature::from_bytes([source.byte(); 64])),
            2 => signed.signatures.htlcs.reverse(),
            _ => signed.sealed = source.blob(),
        },
        Message::RevokeAndAck(revocation) => match source.byte() % 3 {
            0 => revocation.number = source.number(),
            1 => revocation.secret = CommitmentSecret::from_bytes([source.byte(); 32]),
            _ => revocation.next_point = Point::from_bytes([source.byte(); 33]),
        },
        Message::Reestablish(reestablish) => match source.byte() % 3 {
            0 => reestablish.next_commitment_number = source.number(),
            1 => reestablish.next_revocation_number = source.number(),
            _ => reestablish.last_secret = CommitmentSecret::from_bytes(source.array()),
        },
        Message::Shutdown(shutdown) => shutdown.script = ScriptBuf::from(source.blob()),
        Message::ClosingTerms(changed) => *changed = terms(source, duo.height),
        Message::ClosingTicket(ticket) => ticket.terms = terms(source, duo.height),
        Message::OpenChannel(_)
        | Message::AcceptChannel(_)
        | Message::FundingCreated(_)
        | Message::FundingSigned(_)
        | Message::ChannelReady
        | Message::ClosingTransaction { .. }
        | Message::ChannelError { .. } => {}
    }
    duo.ends[end].feed(Event::Message(message), duo.height);
}

fn terms(source: &mut Source<'_>, height: u32) -> ClosingTerms {
    let fee = bitcoin::Amount::from_sat(source.number() & 0xffff);
    ClosingTerms { fee, publish_by_height: height.saturating_add(source.short()) }
}

fn hostile_add(source: &mut Source<'_>, height: u32) -> Option<UpdateAddHtlc> {
    Some(UpdateAddHtlc {
        id: source.number(),
        amount_msat: amount(source)?,
        payment_hash: preimage(source.byte()).payment_hash(),
        cltv_expiry: height.wrapping_add(source.short()),
        recipient: if source.flag() {
            Recipient::Node(Point::from_bytes([source.byte(); 33]))
        } else {
            Recipient::Stream { id: StreamId([source.byte(); 16]), index: source.number() }
        },
        forward: match source.flag() {
            true => Some(ForwardInstruction {
                amount_msat: amount(source)?,
                cltv_expiry: height.wrapping_add(source.short()),
            }),
            false => None,
        },
        payload: source.blob(),
    })
}

/// Any message, from bytes alone.
fn hostile(source: &mut Source<'_>, height: u32) -> Option<Message> {
    let signature = |source: &mut Source<'_>| CompactSignature::from_bytes([source.byte(); 64]);
    Some(match source.byte() % 14 {
        0 => Message::UpdateAddHtlc(hostile_add(source, height)?),
        13 => Message::PricedAddHtlc { add: hostile_add(source, height)?, deducted_msat: amount(source)? },
        1 => Message::UpdateFulfillHtlc { id: source.number(), preimage: preimage(source.byte()) },
        2 => Message::UpdateFailHtlc { id: source.number(), reason: FailureReason::NoLiquidity },
        3 => Message::CommitmentSigned(CommitmentSigned {
            number: source.number(),
            signatures: CommitmentSignatures {
                commitment: signature(source),
                htlcs: (0..source.byte()).map(|tag| CompactSignature::from_bytes([tag; 64])).collect(),
            },
            sealed: source.blob(),
        }),
        4 => Message::RevokeAndAck(RevokeAndAck {
            number: source.number(),
            secret: CommitmentSecret::from_bytes(source.array()),
            next_point: Point::from_bytes(source.array()),
        }),
        5 => Message::Reestablish(Box::new(Reestablish {
            next_commitment_number: source.number(),
            next_revocation_number: source.number(),
            last_secret: CommitmentSecret::from_bytes([source.byte(); 32]),
            frozen: if source.flag() { Some(terms(source, height)) } else { None },
            essentials: None,
        })),
        6 => Message::Shutdown(Shutdown { script: ScriptBuf::from(source.blob()) }),
        7 => Message::ClosingTerms(terms(source, height)),
        8 => Message::ClosingTicket(Ticket { terms: terms(source, height), signature: signature(source) }),
        9 => Message::ClosingTransaction { transaction: source.blob() },
        10 => {
            let text = source.blob();
            let cannot_publish = text.len() % 2 == 1;
            Message::ChannelError { text: String::from_utf8_lossy(&text).into_owned(), cannot_publish }
        }
        11 => Message::FundingSigned(FundingSigned { signature: signature(source), sealed: source.blob() }),
        _ => Message::FundingCreated(FundingCreated {
            outpoint: OutPoint::null(),
            signature: signature(source),
            transaction: None,
            sealed: source.blob(),
        }),
    })
}

/// Where steps begin: open and idle; with HTLCs both ways; in the middle of a round; just connected again; closing; frozen.
fn scene(which: u8) -> &'static Duo {
    static SCENES: OnceLock<Vec<Duo>> = OnceLock::new();
    let scenes = SCENES.get_or_init(|| {
        let idle = Duo::open();
        let both = |duo: &mut Duo| {
            for (end, number, msat) in [(0, 1, 400_000_000), (0, 2, 100_000), (0, 3, 3_000_000)] {
                offer_and_run(duo, end, number, msat);
            }
            resolve(duo, 1, &mut Source::new(&[0, 2]));
            duo.run();
            for (end, number, msat) in [(1, 11, 5_000_000), (1, 12, 200_000)] {
                offer_and_run(duo, end, number, msat);
            }
        };
        let mut busy = idle.clone();
        both(&mut busy);
        let mut round = busy.clone();
        let amount_msat = Msat::new(7_000_000).expect("a small amount");
        round.command(0, Command::Offer(offer(4, amount_msat, round.height, round.height)));
        round.command(0, Command::SignNow);
        round.deliver(1);
        let mut back = round.clone();
        back.disconnect();
        back.connect();
        let mut closing = busy.clone();
        closing.command(1, Command::Shutdown { script: payout_script(1) });
        closing.run();
        let mut frozen = idle.clone();
        frozen.command(1, Command::Shutdown { script: payout_script(1) });
        frozen.run();
        let fee = bitcoin::Amount::from_sat(500);
        let agreed = ClosingTerms { fee, publish_by_height: frozen.height + 144 };
        frozen.command(0, Command::ProposeTerms(agreed));
        frozen.run();
        vec![idle, busy, round, back, closing, frozen]
    });
    &scenes[usize::from(which) % scenes.len()]
}

fn offer_and_run(duo: &mut Duo, end: usize, number: u8, msat: u64) {
    let amount_msat = Msat::new(msat).expect("a small amount");
    let height = duo.height;
    duo.command(end, Command::Offer(offer(number, amount_msat, height, height)));
    duo.run();
}

/// The scenes' ends, for the seeds of other targets.
pub(super) fn scenes() -> Vec<&'static Duo> {
    (0..6).map(scene).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use channel::channel::{CommitmentOwner, PhaseView};

    use super::*;
    use crate::fuzz::seeds;

    /// What the inputs are worth: they come to all that a channel can be after its opening.
    #[test]
    fn the_seeds_come_to_every_phase_and_to_every_commitment() {
        let mut seen = BTreeSet::new();
        for (_, data) in seeds::check() {
            for end in &played(&data).ends {
                let view = end.channel.view();
                seen.insert(match view.phase {
                    PhaseView::Opening => "opening",
                    PhaseView::AwaitingConfirmation { .. } => "awaiting",
                    PhaseView::Open if view.htlcs > 0 => "busy",
                    PhaseView::Open => "idle",
                    PhaseView::ShuttingDown { .. } => "shutting down",
                    PhaseView::Frozen { .. } => "frozen",
                    PhaseView::Closing { .. } => "closing",
                    PhaseView::Closed { .. } => "closed",
                    PhaseView::Aborted { .. } => "aborted",
                    PhaseView::Failed { .. } => "failed",
                });
                if view.holder_commitment_number > 8 {
                    seen.insert("many rounds");
                }
                match view.onchain.map(|onchain| onchain.whose) {
                    Some(CommitmentOwner::Ours) => seen.insert("our commitment"),
                    Some(CommitmentOwner::Theirs) => seen.insert("their commitment"),
                    Some(CommitmentOwner::Revoked) => seen.insert("a cheat"),
                    Some(_) | None => false,
                };
            }
        }
        let wanted = [
            "busy",
            "shutting down",
            "frozen",
            "failed",
            "many rounds",
            "our commitment",
            "their commitment",
            "a cheat",
        ];
        for wanted in wanted {
            assert!(seen.contains(wanted), "no seed comes to {wanted:?}, only to {seen:?}");
        }
    }
}
