//! Two ends under random operations until a random one publishes: its latest commitment, or a revoked one. Then claims
//! confirm in random order, blocks are undone, ends restart, preimages come late. At the end each honest end holds at
//! least what it owned, less what was too small for outputs, every payment has one result, and a cheater has nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::chain::*;
use super::model::{Ledger, Model, Op, acknowledges, op, who};
use super::pair::*;
use crate::channel::htlc::Which;
use crate::channel::{Channel, CommitmentOwner};
use crate::event::{ChainEvent, Command, FailRequest};
use crate::forward::{ForwardResult, Internal};
use crate::message::Recipient;
use crate::parameters::Side;

#[derive(Clone, Debug)]
enum Step {
    /// A block with what the masks pick of the claims that are due, and with a commitment while there is none.
    Mine {
        publisher: Who,
        hub: u16,
        wallet: u16,
        together: bool,
    },
    Wait(u8),
    Undo(u8),
    Restart(Who),
    Snapshot(Who),
    Resolve {
        at: Who,
        which: Index,
        fulfil: bool,
    },
    /// One end sees a claim of the other that waits for a block.
    Seen {
        by: Who,
        which: Index,
    },
    Settle(Who),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (who(), any::<u16>(), any::<u16>(), any::<bool>()).prop_map(
            |(publisher, hub, wallet, together)| Step::Mine { publisher, hub, wallet, together }
        ),
        2 => (1u8..4).prop_map(Step::Wait),
        3 => (1u8..5).prop_map(Step::Undo),
        2 => who().prop_map(Step::Restart),
        1 => who().prop_map(Step::Snapshot),
        4 => (who(), any::<Index>(), any::<bool>())
            .prop_map(|(at, which, fulfil)| Step::Resolve { at, which, fulfil }),
        2 => (who(), any::<Index>()).prop_map(|(by, which)| Step::Seen { by, which }),
        1 => who().prop_map(Step::Settle),
    ]
}

struct Trial {
    world: World,
    hub: Ledger,
    wallet: Ledger,
    cheater: Option<Who>,
    /// HTLCs expire: both ends may take them, so that a preimage that comes now need not be worth anything.
    late: bool,
    /// What each end owned when the model began, and what may be lost with HTLCs that have no output.
    start: BTreeMap<&'static str, u64>,
    lost: BTreeMap<&'static str, u64>,
}

fn name(who: Who) -> &'static str {
    match who {
        Who::Hub => "hub",
        Who::Wallet => "wallet",
    }
}

impl Trial {
    /// Plays the operations, then turns back the cheater, if there is one, to one of its older states.
    fn new(opener: Who, ops: &[Op], cheater: Option<(Who, Index)>) -> Self {
        let mut model = Model::new(opener);
        let mut start = BTreeMap::new();
        for who in Who::BOTH {
            start.insert(name(who), model.pair.end(who).channel().view().holder_msat.to_u64());
        }
        let mut older: Vec<Channel> = Vec::new();
        for (from, amount_msat) in [(opener, 5_000_000), (opener.other(), 7_000_000), (opener, 400_000)] {
            model.step(&Op::Offer { from, amount_msat, sign_within: 9 });
        }
        model.pair.run();
        for op in ops {
            if let Some((who, _)) = cheater {
                older.push(model.pair.end(who).channel().clone());
            }
            model.step(op);
        }
        // A cheater goes back behind a state that was to its loss.
        let htlcs = |channel: &Channel| channel.state.htlcs.specs(Side::Holder, Which::latest).len();
        if older.iter().any(|channel| htlcs(channel) > 0) {
            older.retain(|channel| htlcs(channel) > 0);
        }
        model.step(&Op::Disconnect);
        let lost = Who::BOTH.map(|who| (name(who), at_risk(model.pair.end(who).channel())));
        let Model { pair, hub, wallet, .. } = model;
        let world = World::new(pair);
        let mut trial = Self { world, hub, wallet, cheater: None, late: false, start, lost: lost.into() };
        if let Some((who, which)) = cheater
            && !older.is_empty()
        {
            trial.cheater = Some(who);
            trial.world.turn_back(who, which.get(&older));
        }
        for who in Who::BOTH {
            let command = Command::Fail { reason: FailRequest::Operator };
            trial.world.pair.end(who).command(command).unwrap();
        }
        trial
    }

    fn ledger(&mut self, who: Who) -> &mut Ledger {
        match who {
            Who::Hub => &mut self.hub,
            Who::Wallet => &mut self.wallet,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Mine { publisher, hub, wallet, together } => {
                let mut transactions = self.pick(Who::Hub, *hub, *together);
                transactions.extend(self.pick(Who::Wallet, *wallet, *together));
                if hub & 1 == 1 {
                    transactions.reverse();
                }
                let publisher = self.cheater.filter(|_| hub & 2 == 2).unwrap_or(*publisher);
                transactions.extend(self.commitment(publisher));
                self.world.mine(transactions);
            }
            Step::Wait(blocks) => self.world.mine_empty(u32::from(*blocks)),
            Step::Undo(blocks) => {
                for _ in 0..u32::from(*blocks).min(self.world.undoable()) {
                    self.world.undo();
                }
            }
            Step::Restart(who) => self.world.pair.end(*who).restart(),
            Step::Snapshot(who) => self.world.pair.end(*who).take_snapshot(),
            Step::Resolve { at, which, fulfil } => self.resolve(*at, which, *fulfil),
            Step::Seen { by, which } => {
                let claims = self.world.due_claims(by.other());
                if !claims.is_empty() {
                    let claim = which.get(&claims).clone();
                    let transaction = self.world.take(by.other(), &[claim]);
                    self.world.pair.end(*by).chain(ChainEvent::SeenInMempool { transaction }).unwrap();
                }
            }
            Step::Settle(who) => {
                let due = self.world.due_claims(*who);
                let transactions = self.world.take_each(*who, &due);
                self.world.mine(transactions);
            }
        }
        self.collect();
    }

    /// The commitment that this end would publish, while the chain holds none.
    fn commitment(&mut self, who: Who) -> Option<bitcoin::Transaction> {
        let end = self.world.pair.end(who);
        Some(end.channel().publish_job(&end.signer)?.transaction)
    }

    fn pick(&mut self, who: Who, mask: u16, together: bool) -> Vec<bitcoin::Transaction> {
        let due = self.world.due_claims(who);
        let picked = due.into_iter().zip((0..16).cycle()).filter(|(_, bit)| mask >> bit & 1 == 1);
        let picked: Vec<_> = picked.map(|(claim, _)| claim).collect();
        if together { self.world.take_together(who, &picked) } else { self.world.take_each(who, &picked) }
    }

    fn resolve(&mut self, at: Who, which: &Index, fulfil: bool) {
        if self.cheater == Some(at) {
            return self.reveal(at);
        }
        let late = self.late;
        let ledger = self.ledger(at);
        let open: Vec<_> =
            ledger.offered.iter().filter(|(_, (number, _))| !ledger.answered.contains_key(number)).collect();
        if open.is_empty() {
            return;
        }
        let (&id, &(number, amount)) = open[which.index(open.len())];
        let result = if fulfil { fulfilled(number) } else { REFUSED };
        ledger.answered.insert(number, result);
        if fulfil && !late {
            ledger.earned += amount;
        }
        self.world.pair.resolve(at, id, result);
    }

    fn give_up(&mut self, at: Who) {
        let offered = self.ledger(at).offered.clone();
        for (id, (number, _)) in offered {
            if self.ledger(at).answered.insert(number, REFUSED).is_none() {
                self.world.pair.resolve(at, id, REFUSED);
            }
        }
    }

    /// A cheater uses every preimage that it ever knew.
    fn reveal(&mut self, who: Who) {
        let received = &self.world.pair.end(who).channel().state.htlcs.received;
        let mut known = Vec::new();
        for (id, htlc) in received {
            let Recipient::Stream { index, .. } = htlc.add.recipient else { panic!("no tick") };
            known.push((*id, index));
        }
        for (id, number) in known {
            self.world.pair.resolve(who, id, fulfilled(number));
        }
    }

    /// The ledgers read what the channels told them: each payment has one result.
    fn collect(&mut self) {
        for who in Who::BOTH {
            for internal in std::mem::take(&mut self.world.pair.end(who).internals) {
                let Internal::Result { key, result, .. } = internal else { continue };
                if self.cheater == Some(who) {
                    continue;
                }
                let (_, known) = self.ledger(who).made.get_mut(&key.htlc_id).expect("it was made");
                assert!(known.is_none_or(|known| known == result), "the result never changes");
                *known = Some(result);
                if acknowledges(key.htlc_id) {
                    self.world.pair.end(who).command(Command::Ack { key }).unwrap();
                }
            }
        }
    }

    /// Whoever may take something takes it, before time makes it the other's too.
    fn grow_late(&mut self, publisher: Who) {
        let commitment = self.commitment(publisher).or_else(|| self.commitment(publisher.other()));
        self.world.mine(commitment);
        for _ in 0..2 {
            for who in Who::BOTH {
                self.step(&Step::Settle(who));
            }
        }
        while self.world.tip() < HEIGHT + 98 {
            self.world.mine_empty(1);
        }
        self.late = true;
    }

    fn finish(&mut self, publisher: Who) {
        let honest: Vec<_> = Who::BOTH.into_iter().filter(|who| self.cheater != Some(*who)).collect();
        let commitment = self.commitment(publisher).or_else(|| self.commitment(publisher.other()));
        self.world.mine(commitment);
        if let Some(cheater) = self.cheater {
            // It may have forgotten what it offered; whoever it was for gives up.
            self.give_up(cheater.other());
        }
        self.world.run_to_the_end(&honest);
        self.collect();
        for who in honest {
            self.check(who);
        }
    }

    fn check(&mut self, who: Who) {
        let owned = self.world.owned(who) * 1_000;
        let lost = self.lost[name(who)];
        let start = self.start[name(who)];
        let ledger = self.ledger(who);
        let mut paid = 0;
        for (number, (amount, result)) in &ledger.made {
            match result.unwrap_or_else(|| panic!("payment {number} has no result")) {
                ForwardResult::Fulfilled { .. } => paid += amount,
                ForwardResult::Failed { .. } => {}
            }
        }
        let due = start + ledger.earned - paid;
        let view = self.world.pair.end(who).channel().onchain().unwrap();
        assert!(owned + lost >= due, "{who:?} owns {owned} of {due}, {lost} at risk: {view:?}");
        if view.whose == CommitmentOwner::Revoked {
            let cheater = who.other();
            assert_eq!(self.world.owned(cheater), 0, "no cheat pays: {view:?}");
            let held: u64 = self
                .world
                .blocks
                .iter()
                .flatten()
                .find(|tx| tx.compute_txid() == view.txid)
                .into_iter()
                .flat_map(|tx| &tx.output)
                .filter(|output| output.script_pubkey != crate::scripts::shared_anchor())
                .map(|output| output.value.to_sat())
                .sum();
            assert_eq!(self.world.owned(who), held, "the victim takes it all");
        }
        let kept = self.ledger(who).made.keys().filter(|number| !acknowledges(**number)).count();
        let end = self.world.pair.end(who);
        assert_eq!(end.channel().state.forwards.len(), kept, "what was acknowledged is forgotten");
        end.restart();
    }
}

/// What may be lost: trimmed HTLCs, two balances below the dust limit, and what is rounded down.
fn at_risk(channel: &Channel) -> u64 {
    let htlcs = &channel.state.htlcs;
    let offered = htlcs.offered.values().map(|htlc| (htlc.trimmed, htlc.add.amount_msat));
    let all: Vec<_> =
        offered.chain(htlcs.received.values().map(|htlc| (htlc.trimmed, htlc.add.amount_msat))).collect();
    let trimmed = all.iter().filter(|(trimmed, _)| *trimmed).map(|(_, amount)| amount.to_u64());
    trimmed.sum::<u64>() + 354_000 + 1_000 * (u64::try_from(all.len()).unwrap() + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_publishes_whatever_an_honest_end_keeps_what_it_owns(
        opener in who(),
        ops in prop::collection::vec(op(), 1..80),
        cheater in prop::option::of((who(), any::<Index>())),
        steps in prop::collection::vec(step(), 0..30),
        late in prop::option::of(prop::collection::vec(step(), 1..20)),
        publisher in who(),
    ) {
        let mut trial = Trial::new(opener, &ops, cheater);
        trial.collect();
        for step in &steps {
            trial.step(step);
        }
        if let Some(late) = late {
            trial.grow_late(publisher);
            for step in &late {
                trial.step(step);
            }
        }
        trial.finish(publisher);
    }

    #[test]
    fn no_revoked_state_pays_its_publisher(
        opener in who(),
        ops in prop::collection::vec(op(), 40..120),
        cheater in who(),
        which in any::<Index>(),
        steps in prop::collection::vec(step(), 0..30),
    ) {
        let mut trial = Trial::new(opener, &ops, Some((cheater, which)));
        trial.collect();
        for step in &steps {
            trial.step(step);
        }
        trial.finish(cheater);
    }
}
