//! The steps, each by the rules that apply.

use super::world::{
    Action, Hub, IN_EXPIRY, MAX_ATTEMPTS, Message, OUT_EXPIRY, OUTGOING, Outcome, Place, Route, Row, SIGN_BY,
    Slot, Upstream, World,
};
use super::{Rule, Rules};

impl World {
    pub(super) fn take(&mut self, action: Action, rules: &Rules) {
        match action {
            Action::Choose(to) => self.choose(1, to),
            Action::TakeOffer(to) => self.take_from_upstream(to, rules),
            Action::TakeResult(from, next) => self.take_result(from, next, rules),
            Action::Sign(to) => self.sign(to, rules),
            Action::Fsync => self.fsync(),
            Action::Fulfil(to) | Action::ClaimOnChain(to) => self.fulfilled(to, rules),
            Action::AnnounceFailure(to) => self.failure_announced(to, rules),
            Action::CommitFailure(to) | Action::TimeOutOnChain(to) => {
                self.hub.closed[to] |= action == Action::TimeOutOnChain(to);
                self.payees[to].holds = self.payees[to].holds.saturating_sub(1);
                self.ended(to, Outcome::Failed, rules);
            }
            Action::SendAgain(to) => {
                let outcome = if self.was_shown(to) { Outcome::Fulfilled } else { Outcome::Failed };
                self.ended(to, outcome, rules);
            }
            Action::Cut(to) => {
                self.cuts -= 1;
                self.disconnect(to, rules);
            }
            Action::Connect(to) => self.connect(to, rules),
            Action::Crash => self.crash(rules),
            Action::Recover => self.recover(rules),
            Action::Tick => self.tick(),
        }
    }

    fn row(&mut self) {
        self.rows.push_back(Row { state: self.hub, add: None });
    }

    // --- The incoming side -----------------------------------------------------------------------------------------

    fn choose(&mut self, attempt: u8, to: usize) {
        self.hub.upstream = Upstream::Open { route: Some(Route { attempt, to }) };
        self.row();
        self.down[to].push_back(Message::Offer { attempt });
    }

    fn take_result(&mut self, from: usize, next: Option<usize>, rules: &Rules) {
        let Some(Message::Result { attempt, outcome }) = self.back[from].pop_front() else { return };
        if rules.has(Rule::Acknowledgement) {
            self.down[from].push_back(Message::Ack { attempt });
        }
        let Upstream::Open { route: Some(route) } = self.hub.upstream else { return };
        match (outcome, next) {
            (Outcome::Fulfilled, _) => self.hub.upstream = Upstream::Fulfilled,
            (Outcome::Failed, _) if attempt != route.attempt && rules.has(Rule::AttemptNumber) => return,
            (Outcome::Failed, Some(to)) if route.attempt < MAX_ATTEMPTS => {
                return self.choose(route.attempt + 1, to);
            }
            (Outcome::Failed, Some(_) | None) => self.hub.upstream = Upstream::Failed,
        }
        self.row();
    }

    // --- An outgoing side ------------------------------------------------------------------------------------------

    fn take_from_upstream(&mut self, to: usize, rules: &Rules) {
        match self.down[to].pop_front() {
            Some(Message::Offer { attempt }) => self.take_offer(to, attempt, rules),
            Some(Message::Ack { attempt }) => {
                let known = self.hub.slots[to];
                if known.is_some_and(|slot| slot.attempt == attempt && slot.result.is_some()) {
                    self.hub.slots[to] = None;
                    self.row();
                }
            }
            Some(Message::Result { .. }) | None => {}
        }
    }

    fn take_offer(&mut self, to: usize, attempt: u8, rules: &Rules) {
        if let Some(slot) = self.hub.slots[to]
            && attempt <= slot.attempt
        {
            if let (Some(outcome), true) = (slot.result, attempt == slot.attempt) {
                self.back[to].push_back(Message::Result { attempt, outcome });
            }
            return;
        }
        self.hub.slots[to] = Some(Slot { attempt, place: Place::Queued, result: None });
        if !self.payees[to].online || self.hub.closed[to] || self.height > SIGN_BY {
            return self.ended(to, Outcome::Failed, rules);
        }
        self.row();
    }

    fn sign(&mut self, to: usize, rules: &Rules) {
        if self.height > SIGN_BY && rules.has(Rule::CheckAtSigning) {
            return self.ended(to, Outcome::Failed, rules);
        }
        let Some(slot) = &mut self.hub.slots[to] else { return };
        slot.place = Place::Signed;
        let add = (to, slot.attempt);
        self.row();
        if rules.has(Rule::DurableBeforeVisible) {
            if let Some(row) = self.rows.back_mut() {
                row.add = Some(add);
            }
        } else {
            self.deliver(add);
        }
    }

    /// The attempt has its result: it is kept, and told.
    fn ended(&mut self, to: usize, outcome: Outcome, rules: &Rules) {
        let Some(slot) = &mut self.hub.slots[to] else { return };
        slot.place = Place::Over;
        slot.result = Some(outcome);
        let attempt = slot.attempt;
        if !rules.has(Rule::KeptResult) {
            self.hub.slots[to] = None;
        }
        self.row();
        self.back[to].push_back(Message::Result { attempt, outcome });
    }

    // --- Payees ----------------------------------------------------------------------------------------------------

    fn deliver(&mut self, (to, attempt): (usize, u8)) {
        let payee = &mut self.payees[to];
        if payee.online && payee.seen & 1 << attempt == 0 {
            payee.seen |= 1 << attempt;
            payee.holds += 1;
        }
    }

    /// The payee shows the preimage, and is paid.
    fn fulfilled(&mut self, to: usize, rules: &Rules) {
        let payee = &mut self.payees[to];
        payee.holds -= 1;
        payee.paid += 1;
        payee.shown |= self.hub.slots[to].map_or(0, |slot| 1 << slot.attempt);
        if self.is_live(to) {
            self.ended(to, Outcome::Fulfilled, rules);
        }
    }

    fn failure_announced(&mut self, to: usize, rules: &Rules) {
        let Some(slot) = &mut self.hub.slots[to] else { return };
        slot.place = Place::Removing;
        let attempt = slot.attempt;
        self.row();
        if !rules.has(Rule::FailureOnceIrrevocable) {
            self.back[to].push_back(Message::Result { attempt, outcome: Outcome::Failed });
        }
    }

    /// What neither side had committed is forgotten: the payee's failure, and our offers that were not signed.
    fn disconnect(&mut self, to: usize, rules: &Rules) {
        self.payees[to].online = false;
        match self.hub.slots[to].map(|slot| slot.place) {
            Some(Place::Removing) => {
                if let Some(slot) = &mut self.hub.slots[to] {
                    slot.place = Place::Signed;
                }
                self.row();
            }
            Some(Place::Queued) => self.ended(to, Outcome::Failed, rules),
            Some(Place::Signed | Place::Over) | None => {}
        }
    }

    /// A signed add that the payee missed is sent again.
    fn connect(&mut self, to: usize, rules: &Rules) {
        self.payees[to].online = true;
        let Some(slot) = self.hub.slots[to] else { return };
        if !self.is_live(to) || self.was_sent(to) || self.hub.closed[to] || self.is_unsynced(to) {
            return;
        }
        if self.height >= OUT_EXPIRY && rules.has(Rule::NoLateResend) {
            self.hub.closed[to] = true;
            return self.ended(to, Outcome::Failed, rules);
        }
        self.deliver((to, slot.attempt));
    }

    /// Whether the add leaves with a row that the disk does not have yet.
    fn is_unsynced(&self, to: usize) -> bool {
        self.rows.iter().any(|row| row.add.is_some_and(|(other, _)| other == to))
    }

    // --- Disk and time ---------------------------------------------------------------------------------------------

    fn fsync(&mut self) {
        let Some(row) = self.rows.pop_front() else { return };
        self.durable = row.state;
        if let Some(add) = row.add {
            self.deliver(add);
        }
    }

    fn crash(&mut self, rules: &Rules) {
        self.crashes -= 1;
        self.up = false;
        self.rows.clear();
        self.hub = self.durable;
        if let (Upstream::Open { .. }, false) = (self.hub.upstream, rules.has(Rule::JournaledChoice)) {
            self.hub.upstream = Upstream::Open { route: None };
        }
        self.down = Default::default();
        self.back = Default::default();
        for payee in &mut self.payees {
            payee.online = false;
        }
    }

    fn recover(&mut self, rules: &Rules) {
        self.up = true;
        if self.height >= IN_EXPIRY {
            self.lapse();
        }
        let before: Hub = self.hub;
        for to in 0..OUTGOING {
            self.disconnect(to, rules);
        }
        if !rules.has(Rule::Reemission) {
            return;
        }
        if let Upstream::Open { route: Some(Route { attempt, to }) } = self.hub.upstream {
            self.down[to].push_back(Message::Offer { attempt });
        }
        for (to, slot) in before.slots.into_iter().enumerate() {
            if let Some(Slot { attempt, result: Some(outcome), .. }) = slot {
                self.back[to].push_back(Message::Result { attempt, outcome });
            }
        }
    }

    fn tick(&mut self) {
        self.height += 1;
        if self.height == IN_EXPIRY && self.up {
            self.lapse();
        }
    }

    /// The payer takes back what was not claimed in time.
    fn lapse(&mut self) {
        if let Upstream::Open { .. } = self.hub.upstream {
            self.hub.upstream = Upstream::Lapsed;
            self.durable.upstream = Upstream::Lapsed;
            for row in &mut self.rows {
                row.state.upstream = Upstream::Lapsed;
            }
        }
    }
}
