//! One end against a counterparty that keeps no rule but whose every signature and secret is right.
//!
//! The adversary has no channel of its own: it reads the victim's state and signs whatever makes the victim
//! take the next step, in any order, with any numbers. Nothing it sends may panic the victim, break its books
//! or turn a result around.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::pair::*;
use crate::amount::Msat;
use crate::bytes::KeyId;
use crate::channel::htlc::{HtlcState, Which};
use crate::channel::{ConnectionView, PhaseView};
use crate::closing::ClosingTerms;
use crate::commitment::{CommitmentSignatures, CommitmentSpec, CommitmentTransaction};
use crate::event::{ChainEvent, Command, Event};
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, ForwardResult, Internal};
use crate::ids::{SessionId, StreamId};
use crate::message::{
    CommitmentSigned, Message, Recipient, Reestablish, RevokeAndAck, Shutdown, Ticket, UpdateAddHtlc,
};
use crate::parameters::{ChannelContext, ChannelParameters, Side};
use crate::seed_signer::SeedSigner;
use crate::shachain::CommitmentSecret;
use crate::signer::Signer;

/// A step: what is done, and two numbers that it may use.
type Move = (u8, u64, u64);

const MOVES: u8 = 40;

struct Duel {
    victim: End,
    adversary: SeedSigner,
    key_id: KeyId,
    sessions: u64,
    payments: u64,
    results: BTreeMap<ForwardKey, ForwardResult>,
}

impl Duel {
    fn new(opener: Who, victim: Who) -> Self {
        let pair = Pair::open(opener);
        let key_id = KeyId::from_bytes(if opener == victim { [2; 32] } else { [1; 32] });
        let (victim, adversary) = match victim {
            Who::Hub => (pair.hub, pair.wallet),
            Who::Wallet => (pair.wallet, pair.hub),
        };
        let (mut victim, adversary, results) = (victim, adversary.signer, BTreeMap::new());
        // Everything may be in flight at once, so that only balances bound what is offered.
        let terms = &mut victim.channel.as_mut().unwrap().state.terms;
        terms.holder.max_htlc_value_in_flight_msat = Msat::MAX;
        terms.counterparty.as_mut().unwrap().max_htlc_value_in_flight_msat = Msat::MAX;
        victim.take_snapshot();
        Self { victim, adversary, key_id, sessions: 1_000, payments: 0, results }
    }

    /// The channel's context as the adversary sees it.
    fn context(&self) -> ChannelContext {
        let ours = self.victim.channel().context().parameters().clone();
        ChannelContext::new(ChannelParameters {
            opener: ours.opener.other(),
            holder: ours.counterparty,
            counterparty: ours.holder,
            ..ours
        })
        .unwrap()
    }

    /// The signatures that make the victim's next commitment its latest.
    fn signed(&self, number: u64) -> CommitmentSigned {
        let state = &self.victim.channel().state;
        let context = self.context();
        let spec = CommitmentSpec {
            number: state.holder.number + 1,
            to_broadcaster: state.books.holder.next.holder,
            to_countersignatory: state.books.holder.next.counterparty,
            htlcs: state.htlcs.specs(Side::Holder, Which::next),
            feerate_sat_per_kw: 0,
        };
        let point = self.victim.signer.per_commitment_point(&state.names.key_id, spec.number);
        let keys = self.adversary.counterparty_commitment_keys(
            &self.key_id,
            &context,
            &point.parse().unwrap(),
            context.htlc_outputs(&spec),
        );
        let commitment = CommitmentTransaction::build(&context, Side::Counterparty, &keys, &spec).unwrap();
        let signatures: CommitmentSignatures =
            self.adversary.sign_counterparty_commitment(&self.key_id, &context, &commitment).unwrap();
        CommitmentSigned { number, signatures, sealed: vec![1; 5] }
    }

    fn revocation(&self, number: u64) -> RevokeAndAck {
        RevokeAndAck {
            number,
            secret: self.adversary.release_secret(&self.key_id, number),
            next_point: self.adversary.per_commitment_point(&self.key_id, number + 2),
        }
    }

    fn add(&self, id: u64, amount: u64, expiry: u32) -> Message {
        Message::UpdateAddHtlc(UpdateAddHtlc {
            id,
            amount_msat: Msat::new(amount).unwrap_or(Msat::MAX),
            payment_hash: hash(id),
            cltv_expiry: expiry,
            recipient: Recipient::Stream { id: StreamId([1; 16]), index: id },
            forward: None,
            payload: Vec::new(),
        })
    }

    /// A message that breaks a rule changes nothing, so that the game goes on as if it had not been sent.
    fn say(&mut self, message: Message) {
        let before = self.victim.channel().state.clone();
        if let Err(rejection) = self.victim.handle(Event::Message(message)) {
            assert_eq!(self.victim.channel().state, before, "{rejection}");
        }
    }

    fn command(&mut self, command: Command) {
        let _ = self.victim.command(command);
    }

    /// An id of an HTLC that the victim offered, or one nobody did.
    fn offered(&self, pick: u64) -> u64 {
        let ids: Vec<u64> = self.victim.channel().state.htlcs.offered.keys().copied().collect();
        usize::try_from(pick).ok().and_then(|at| ids.get(at % (ids.len() + 1))).copied().unwrap_or(pick)
    }

    fn ticket(&self, terms: ClosingTerms) -> Option<Ticket> {
        let spec = self.victim.channel().ticket_spec(&terms);
        Some(Ticket { terms, signature: self.adversary.sign_ticket(&self.key_id, &spec).ok()? })
    }

    fn reestablish(&self, commitment: u64, revocation: u64, frozen: bool) -> Message {
        let key_id = &self.victim.channel().state.names.key_id;
        let secret = match revocation.checked_sub(1) {
            Some(number) => self.victim.signer.release_secret(key_id, number),
            None => CommitmentSecret::from_bytes([0; 32]),
        };
        Message::Reestablish(Box::new(Reestablish {
            next_commitment_number: commitment,
            next_revocation_number: revocation,
            last_secret: secret,
            frozen: frozen.then(|| terms(300)),
            essentials: None,
        }))
    }

    fn play(&mut self, (what, one, two): Move) {
        let state = &self.victim.channel().state;
        let (ours, theirs) = (state.holder.number, state.their().number);
        let revoked = state.their().secrets.count();
        let next_id = state.htlcs.next_received_id;
        let height = self.victim.height;
        match what % MOVES {
            0..=5 => {
                let available = state.books.holder.next.counterparty.to_u64();
                let amount = [
                    one % 400_000,
                    one % 40_000_000,
                    one % 400_000_000,
                    available,
                    available.saturating_sub(10_000_000),
                ][usize::from(two as u8 % 5)]
                .min(available.saturating_sub(if one % 7 == 0 { 0 } else { 10_000_000 }));
                self.say(self.add(next_id, amount, height + 20 + (two as u32 >> 3) % 100));
            }
            6 => self.say(self.add(next_id + one % 2, two, one as u32)),
            7..=11 => {
                if state.updates.expected > 0 {
                    self.say(Message::CommitmentSigned(self.signed(ours + 1)));
                }
            }
            12 => self.say(Message::CommitmentSigned(
                self.signed((ours + 1).saturating_add(one % 3).saturating_sub(1)),
            )),
            13..=17 => {
                if state.their().awaiting_revocation {
                    self.say(Message::RevokeAndAck(self.revocation(revoked)));
                }
            }
            18 => self.say(Message::RevokeAndAck(self.revocation((revoked + one % 3).saturating_sub(1)))),
            19..=21 => {
                let id = self.offered(one);
                let htlc = self.victim.channel().state.htlcs.offered.get(&id);
                let irrevocable = htlc.is_some_and(|htlc| htlc.state == HtlcState::Irrevocable);
                let number = htlc.map_or(id, |htlc| htlc.key.htlc_id);
                if irrevocable || two % 16 == 0 {
                    self.say(match two % 2 {
                        0 => Message::UpdateFulfillHtlc { id, preimage: preimage(number) },
                        _ => Message::UpdateFailHtlc { id, reason: FailureReason::NoLiquidity },
                    });
                }
            }
            22..=24 => {
                self.payments += 1;
                let spendable = self.victim.channel().spendable().to_u64();
                let amount = [one % 400_000, one % 40_000_000, spendable][usize::from(two as u8 % 3)];
                let mut offer = offer(self.payments, amount);
                offer.sign_by_height = height + (two as u32 % 7);
                self.command(Command::Offer(offer));
            }
            25..=27 => self.command(Command::SignNow),
            28 | 29 => {
                let received: Vec<u64> = state.htlcs.received.keys().copied().collect();
                let Some(id) = received.get(one as usize % received.len().max(1)).copied() else { return };
                let key = ForwardKey { incoming: CHANNEL, htlc_id: id, attempt: 1 + two as u32 % 3 / 2 };
                let result = if two % 4 < 3 { fulfilled(id) } else { REFUSED };
                self.command(Command::Result { key, from: LEDGER, result });
            }
            30 => self.command(Command::Ack { key: key(one % (self.payments + 1)) }),
            31 => {
                self.command(Command::Disconnected);
                self.sessions += 1;
                self.command(Command::Connected { session: SessionId(self.sessions) });
            }
            32..=34 => {
                let commitment = if two % 8 == 0 { one } else { (theirs + 1).saturating_sub(one % 2) };
                let revocation =
                    if two % 8 == 1 { one % (1 << 49) } else { ours.saturating_sub(one / 2 % 2) };
                self.say(self.reestablish(commitment, revocation, two % 16 == 2));
            }
            35 => self.victim.restart(),
            36 => {
                self.victim.height += 1 + one as u32 % 3;
                let height = self.victim.height;
                self.command(Command::Chain(ChainEvent::Deadline { height }));
            }
            37 => {
                let event = match one % 4 {
                    0 => ChainEvent::FundingUndone,
                    1 => ChainEvent::FundingDeep { height },
                    _ => ChainEvent::FundingConfirmed {
                        height,
                        block_index: 1,
                        output: Some(bitcoin::TxOut {
                            value: state.funding_amount(),
                            script_pubkey: state.funding_script(),
                        }),
                    },
                };
                self.command(Command::Chain(event));
            }
            38 => match one % 16 {
                0 => self.say(Message::Shutdown(Shutdown { script: payout_script(2) })),
                1 => self.command(Command::Shutdown { script: payout_script(1) }),
                2 => self.say(Message::ChannelReady),
                _ => {}
            },
            _ => match one % 6 {
                0 => self.say(Message::ClosingTerms(terms(two % 2_000))),
                1 => self.command(Command::ProposeTerms(terms(300))),
                2 => {
                    if let Some(ticket) = self.ticket(terms(if two % 4 == 0 { 1 } else { 300 })) {
                        self.say(Message::ClosingTicket(ticket));
                    }
                }
                3 => self.say(Message::ClosingTransaction { transaction: two.to_le_bytes().to_vec() }),
                _ => {}
            },
        }
    }

    /// What must hold whatever was said. The books were audited with each step.
    fn audit(&mut self) {
        for internal in std::mem::take(&mut self.victim.internals) {
            match internal {
                Internal::Result { key, result, .. } => {
                    assert_eq!(*self.results.entry(key).or_insert(result), result, "a result never turns");
                    let live = self.victim.channel().state.htlcs.offered.values().any(|htlc| htlc.key == key);
                    assert!(!live || matches!(result, ForwardResult::Fulfilled { .. }), "failed early");
                }
                Internal::Offer(offer) => {
                    let htlc = &self.victim.channel().state.htlcs.received[&offer.key.htlc_id];
                    assert!(htlc.state >= HtlcState::Irrevocable, "passed on early");
                }
                Internal::Ack { .. } => {}
            }
        }
        self.victim.effects.clear();
        self.victim.outbox.clear();
    }

    fn is_over(&self) -> bool {
        !matches!(self.victim.channel().phase(), PhaseView::Open | PhaseView::ShuttingDown { .. })
    }
}

fn terms(fee_sat: u64) -> ClosingTerms {
    ClosingTerms { fee: bitcoin::Amount::from_sat(fee_sat), publish_by_height: HEIGHT + 1_000 }
}

/// Plays until the channel is frozen or failed.
fn play(opener: Who, victim: Who, moves: &[Move]) {
    let mut duel = Duel::new(opener, victim);
    for step in moves {
        duel.play(*step);
        duel.audit();
        if duel.is_over() {
            return;
        }
        let online = matches!(duel.victim.channel().view().connection, ConnectionView::Online(_));
        if !online && step.1 % 2 == 0 {
            let state = &duel.victim.channel().state;
            let (ours, theirs) = (state.holder.number, state.their().number);
            duel.sessions += 1;
            let session = SessionId(duel.sessions);
            duel.command(Command::Connected { session });
            duel.say(duel.reestablish(theirs + 1, ours, false));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_counterparty_with_valid_signatures_breaks_nothing_by_any_order(
        hub_opens in any::<bool>(),
        hub_is_victim in any::<bool>(),
        moves in proptest::collection::vec((0..MOVES, any::<u64>(), any::<u64>()), 1..300),
    ) {
        let who = |hub| if hub { Who::Hub } else { Who::Wallet };
        play(who(hub_opens), who(hub_is_victim), &moves);
    }
}
