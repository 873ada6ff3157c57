//! Two ends under random operations, against a model that knows nothing but payments.
//!
//! Offers with and without outputs both ways, fulfilments, failures, signatures at random moments, messages
//! delivered one by one, lost with the connection, restarts from a snapshot and the journal, a shutdown in
//! the middle. Every message of an honest end must be accepted: so every commitment's signatures were
//! verified, and the two agree on every commitment.

use std::collections::BTreeMap;

use bitcoin::Amount;
use proptest::prelude::*;
use proptest::sample::Index;

use super::pair::*;
use crate::amount::Msat;
use crate::channel::PhaseView;
use crate::closing::ClosingTerms;
use crate::event::Command;
use crate::forward::{ForwardResult, Internal};
use crate::message::Recipient;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Offer { from: Who, amount_msat: u64, sign_within: u32 },
    Resolve { at: Who, which: Index, fulfil: bool },
    Sign(Who),
    Deliver(Who, u8),
    Reconnect { hub_restarts: bool, wallet_restarts: bool, delivered: u8 },
    Disconnect,
    Connect,
    Snapshot(Who),
    Block,
    Shutdown(Who),
}

pub(super) fn who() -> impl Strategy<Value = Who> {
    prop_oneof![Just(Who::Hub), Just(Who::Wallet)]
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 1u64..353_999,
        1 => prop_oneof![Just(353_999u64), Just(354_000), Just(354_999)],
        4 => 354_000u64..50_000_000,
        1 => 50_000_000u64..900_000_000,
    ]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (who(), amount(), 0u32..4).prop_map(|(from, amount_msat, sign_within)| Op::Offer {
            from,
            amount_msat,
            sign_within
        }),
        10 => (who(), any::<Index>(), any::<bool>())
            .prop_map(|(at, which, fulfil)| Op::Resolve { at, which, fulfil }),
        12 => who().prop_map(Op::Sign),
        20 => (who(), 1u8..4).prop_map(|(to, count)| Op::Deliver(to, count)),
        3 => (any::<bool>(), any::<bool>(), 0u8..6).prop_map(
            |(hub_restarts, wallet_restarts, delivered)| Op::Reconnect {
                hub_restarts,
                wallet_restarts,
                delivered
            }
        ),
        1 => Just(Op::Disconnect),
        2 => Just(Op::Connect),
        1 => who().prop_map(Op::Snapshot),
        1 => Just(Op::Block),
    ]
}

/// One ledger's books: payments it made, and payments it was offered.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) made: BTreeMap<u64, (u64, Option<ForwardResult>)>,
    /// By HTLC id of the channel: the payment's number and amount.
    pub(super) offered: BTreeMap<u64, (u64, u64)>,
    /// What it answered, by the payment's number; it stands until the channel took it.
    pub(super) answered: BTreeMap<u64, ForwardResult>,
    pub(super) earned: u64,
}

pub(super) struct Model {
    pub(super) pair: Pair,
    pub(super) hub: Ledger,
    pub(super) wallet: Ledger,
    next: u64,
    online: bool,
}

impl Model {
    pub(super) fn new(opener: Who) -> Self {
        Self::of(Pair::open(opener), opener)
    }

    fn of(mut pair: Pair, opener: Who) -> Self {
        // Both must have something to spend.
        pair.offer(opener, 0, 400_000_000);
        pair.run();
        pair.resolve(opener.other(), 0, fulfilled(0));
        pair.run();
        pair.end(opener).command(Command::Ack { key: key(0) }).unwrap();
        for who in Who::BOTH {
            pair.end(who).internals.clear();
        }
        Self { pair, hub: Ledger::default(), wallet: Ledger::default(), next: 1, online: true }
    }

    fn ledger(&mut self, who: Who) -> &mut Ledger {
        match who {
            Who::Hub => &mut self.hub,
            Who::Wallet => &mut self.wallet,
        }
    }

    pub(super) fn step(&mut self, op: &Op) {
        match op {
            Op::Offer { from, amount_msat, sign_within } => {
                let number = self.next;
                self.next += 1;
                let mut offer = offer(number, *amount_msat);
                offer.sign_by_height = self.pair.end(*from).height + sign_within;
                self.ledger(*from).made.insert(number, (*amount_msat, None));
                self.pair.end(*from).command(Command::Offer(offer)).unwrap();
            }
            Op::Resolve { at, which, fulfil } => self.resolve(*at, which, *fulfil),
            Op::Sign(who) => {
                // Refused or not: it changes nothing where it may not sign.
                let _ = self.pair.end(*who).command(Command::SignNow);
            }
            Op::Deliver(to, count) => {
                for _ in 0..*count {
                    self.pair.deliver(*to);
                }
            }
            Op::Reconnect { hub_restarts, wallet_restarts, delivered } => {
                if *hub_restarts {
                    self.pair.hub.restart();
                }
                if *wallet_restarts {
                    self.pair.wallet.restart();
                }
                self.pair.disconnect();
                self.pair.connect();
                self.online = true;
                for _ in 0..*delivered {
                    let _ = self.pair.deliver(Who::Hub) || self.pair.deliver(Who::Wallet);
                }
            }
            Op::Disconnect => {
                self.pair.disconnect();
                self.online = false;
            }
            Op::Connect => {
                if !self.online {
                    self.pair.connect();
                    self.online = true;
                }
            }
            Op::Snapshot(who) => self.pair.end(*who).take_snapshot(),
            Op::Block => {
                self.pair.hub.height += 1;
                self.pair.wallet.height += 1;
            }
            Op::Shutdown(who) => {
                let script = match who {
                    Who::Hub => Default::default(),
                    Who::Wallet => payout_script(1),
                };
                // Also while offline: it is sent with the reestablish.
                self.pair.end(*who).command(Command::Shutdown { script }).unwrap();
            }
        }
        self.collect();
    }

    fn resolve(&mut self, at: Who, which: &Index, fulfil: bool) {
        let ledger = self.ledger(at);
        let open: Vec<_> =
            ledger.offered.iter().filter(|(_, (number, _))| !ledger.answered.contains_key(number)).collect();
        if open.is_empty() {
            return;
        }
        let (&id, &(number, amount)) = open[which.index(open.len())];
        let result = if fulfil { fulfilled(number) } else { REFUSED };
        ledger.answered.insert(number, result);
        if fulfil {
            ledger.earned += amount;
        }
        self.pair.resolve(at, id, result);
    }

    /// The ledgers read what the channels told them.
    fn collect(&mut self) {
        for who in Who::BOTH {
            let internals = std::mem::take(&mut self.pair.end(who).internals);
            for internal in internals {
                match internal {
                    Internal::Offer(offer) => {
                        let Recipient::Stream { index, .. } = offer.recipient else { panic!("no tick") };
                        let payment = (index, offer.amount_msat.to_u64());
                        let known = self.ledger(who).offered.insert(offer.key.htlc_id, payment);
                        assert!(known.is_none_or(|known| known == payment), "an id names one payment");
                    }
                    Internal::Result { key, result, .. } => {
                        let (_, known) = self.ledger(who).made.get_mut(&key.htlc_id).expect("it was made");
                        assert!(known.is_none_or(|known| known == result), "the result never changes");
                        *known = Some(result);
                        if acknowledges(key.htlc_id) {
                            self.pair.end(who).command(Command::Ack { key }).unwrap();
                        }
                    }
                    Internal::Ack { .. } => {}
                }
            }
        }
    }

    /// Everything that is still open comes to its end.
    fn finish(&mut self) {
        if !self.online {
            self.pair.connect();
            self.online = true;
        }
        self.pair.run();
        self.collect();
        for who in Who::BOTH {
            let ids: Vec<_> = self.ledger(who).offered.keys().copied().collect();
            for _ in ids {
                self.resolve(who, &Index::default_first(), true);
            }
        }
        self.pair.run();
        self.collect();
    }

    fn check(&mut self) {
        let capacity = CAPACITY_SAT * 1_000;
        for who in Who::BOTH {
            let paid: u64 = self
                .ledger(who)
                .made
                .values()
                .map(|(amount, result)| match result.expect("every payment has a result") {
                    ForwardResult::Fulfilled { .. } => *amount,
                    ForwardResult::Failed { .. } => 0,
                })
                .sum();
            assert_eq!(paid, self.ledger(who.other()).earned, "who pays and who is paid agree");
        }
        let (hub, wallet) = (self.pair.hub.channel().view(), self.pair.wallet.channel().view());
        assert_eq!(hub.holder_msat.to_u64() + wallet.holder_msat.to_u64(), capacity);
        assert_eq!(hub.holder_msat, wallet.counterparty_msat);
        for who in Who::BOTH {
            let kept = self.ledger(who).made.keys().filter(|number| !acknowledges(**number)).count();
            let channel = self.pair.end(who).channel();
            assert_eq!(channel.state.forwards.len(), kept, "what was acknowledged is forgotten");
            assert!(channel.state.is_quiescent(), "nothing is in flight: {:?}", channel.state);
        }
    }

    fn close_if_both_shut_down(&mut self) {
        if !self.pair.hub.channel().wants_terms() {
            return;
        }
        let terms = ClosingTerms { fee: Amount::from_sat(500), publish_by_height: HEIGHT + 1_000 };
        self.pair.hub.command(Command::ProposeTerms(terms)).unwrap();
        self.pair.run();
        for who in Who::BOTH {
            assert_eq!(self.pair.end(who).channel().phase(), PhaseView::Frozen { terms });
        }
        assert!(self.pair.hub.channel().ticket().is_some());
    }
}

/// Whether a ledger acknowledges the result of its payment; it never may, and then the channel keeps it.
pub(super) fn acknowledges(number: u64) -> bool {
    !number.is_multiple_of(3)
}

trait DefaultFirst {
    fn default_first() -> Index;
}

impl DefaultFirst for Index {
    /// Picks the first of whatever there is.
    fn default_first() -> Index {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::TestRunner;
        any::<Index>().new_tree(&mut TestRunner::deterministic()).unwrap().current()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_honest_ends_agree_and_every_payment_ends_exactly_once(
        opener in who(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut model = Model::new(opener);
        let start = model.pair.hub.channel().view().holder_msat.to_u64();
        for op in &ops {
            model.step(op);
        }
        model.finish();
        model.check();
        let end = model.pair.hub.channel().view().holder_msat.to_u64();
        prop_assert_eq!(end + model.wallet.earned, start + model.hub.earned);
    }

    #[test]
    fn a_price_is_kept_of_what_is_paid_and_both_ends_agree_how_much_is_left(
        price in prop_oneof![1u64..100_000, 100_000u64..900_000_000],
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut model = Model::of(Pair::open_at(Msat::new(price).unwrap()), Who::Hub);
        let unpaid = |end: &End| end.channel().view().price_unpaid_msat.to_u64();
        let start = model.pair.hub.channel().view().holder_msat.to_u64() + unpaid(&model.pair.hub);
        for op in &ops {
            model.step(op);
            let left = |end: &End| end.channel().state.price.as_ref().unwrap().left();
            prop_assert!(left(&model.pair.hub) <= left(&model.pair.wallet), "the hub never keeps more than is granted");
        }
        model.finish();
        model.check();
        prop_assert_eq!(unpaid(&model.pair.hub), unpaid(&model.pair.wallet));
        let end = model.pair.hub.channel().view().holder_msat.to_u64() + unpaid(&model.pair.hub);
        prop_assert_eq!(end + model.wallet.earned, start + model.hub.earned);
    }

    #[test]
    fn a_shutdown_at_any_moment_ends_in_a_frozen_channel(
        opener in who(),
        before in prop::collection::vec(op(), 1..60),
        first in who(),
        after in prop::collection::vec(op(), 1..40),
        second in any::<bool>(),
    ) {
        let mut model = Model::new(opener);
        for op in &before {
            model.step(op);
        }
        model.step(&Op::Shutdown(first));
        for op in &after {
            model.step(op);
        }
        if second {
            model.step(&Op::Shutdown(Who::Wallet));
        }
        model.finish();
        model.step(&Op::Shutdown(Who::Wallet));
        model.finish();
        model.check();
        model.close_if_both_shut_down();
        for who in Who::BOTH {
            let frozen = matches!(model.pair.end(who).channel().phase(), PhaseView::Frozen { .. });
            prop_assert!(frozen);
        }
    }
}
