//! Everything that counts, and what can happen to it.

use std::collections::VecDeque;

use super::{Bounds, Rule, Rules};

/// The latest height at which the add may be signed.
pub(super) const SIGN_BY: u8 = 0;
/// The outgoing HTLC expires.
pub(super) const OUT_EXPIRY: u8 = 1;
/// The outgoing channel was closed for an HTLC that is still open, and what the chain decided is final.
pub(super) const OUT_DECIDED: u8 = 2;
/// The payer takes the incoming HTLC back.
pub(super) const IN_EXPIRY: u8 = 3;
/// The last height.
pub(super) const LAST: u8 = 4;

/// Choices of an outgoing channel.
pub(super) const MAX_ATTEMPTS: u8 = 2;
/// Channels that lead to a payee.
pub(super) const OUTGOING: usize = 2;

/// The incoming side's HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Upstream {
    /// Irrevocable; passed on if there is a route.
    Open {
        route: Option<Route>,
    },
    Fulfilled,
    Failed,
    /// It expired, and the payer took it.
    Lapsed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) attempt: u8,
    pub(super) to: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Fulfilled,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Queued,
    Signed,
    /// The payee announced a failure that is not committed.
    Removing,
    Over,
}

/// What an outgoing side keeps of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) attempt: u8,
    pub(super) place: Place,
    pub(super) result: Option<Outcome>,
}

/// What the hub's journal gives after each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hub {
    pub(super) upstream: Upstream,
    pub(super) slots: [Option<Slot>; OUTGOING],
    pub(super) closed: [bool; OUTGOING],
}

/// Between the incoming side and an outgoing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Message {
    Offer { attempt: u8 },
    Ack { attempt: u8 },
    Result { attempt: u8, outcome: Outcome },
}

/// A row the disk does not have yet, and the add that leaves with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) state: Hub,
    pub(super) add: Option<(usize, u8)>,
}

/// A wallet that is paid, and the connection to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Payee {
    pub(super) online: bool,
    /// Attempts whose add it was sent, a bit each.
    pub(super) seen: u8,
    /// HTLCs that it can fulfil.
    pub(super) holds: u8,
    pub(super) paid: u8,
    /// Attempts whose preimage it showed, a bit each.
    pub(super) shown: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub(super) up: bool,
    pub(super) hub: Hub,
    pub(super) durable: Hub,
    pub(super) rows: VecDeque<Row>,
    /// From the incoming side, by the outgoing one.
    pub(super) down: [VecDeque<Message>; OUTGOING],
    /// To the incoming side.
    pub(super) back: [VecDeque<Message>; OUTGOING],
    pub(super) payees: [Payee; OUTGOING],
    pub(super) height: u8,
    pub(super) crashes: u8,
    pub(super) cuts: u8,
}

/// One thing that happens. `usize` names the outgoing channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Choose(usize),
    TakeOffer(usize),
    /// The next choice, if the result is a failure that counts and another attempt is allowed.
    TakeResult(usize, Option<usize>),
    Sign(usize),
    Fsync,
    Fulfil(usize),
    AnnounceFailure(usize),
    CommitFailure(usize),
    /// The chain decides about an HTLC past its expiry: the payee's claim.
    ClaimOnChain(usize),
    /// The same: back to the hub.
    TimeOutOnChain(usize),
    /// What a crash undid: the payee sends it again (its fulfilment, or its last revocation), or the chain shows it.
    SendAgain(usize),
    Cut(usize),
    Connect(usize),
    Crash,
    Recover,
    Tick,
}

impl World {
    pub(super) fn new(bounds: Bounds) -> Self {
        let hub = Hub {
            upstream: Upstream::Open { route: None },
            slots: [None; OUTGOING],
            closed: [false; OUTGOING],
        };
        World {
            up: true,
            hub,
            durable: hub,
            rows: VecDeque::new(),
            down: Default::default(),
            back: Default::default(),
            payees: [Payee { online: true, ..Payee::default() }; OUTGOING],
            height: 0,
            crashes: bounds.crashes,
            cuts: bounds.cuts,
        }
    }

    /// Whether the hub has taken every step that it can take alone.
    pub(super) fn is_idle(&self) -> bool {
        let queues = || self.down.iter().chain(&self.back);
        let unsent = matches!(self.hub.upstream, Upstream::Open { route: None });
        self.up && self.rows.is_empty() && queues().all(VecDeque::is_empty) && !unsent
    }

    /// Whether an HTLC may be with this payee.
    pub(super) fn is_live(&self, to: usize) -> bool {
        let slot = self.hub.slots[to];
        slot.is_some_and(|slot| matches!(slot.place, Place::Signed | Place::Removing))
    }

    pub(super) fn was_sent(&self, to: usize) -> bool {
        self.hub.slots[to].is_some_and(|slot| self.payees[to].seen & 1 << slot.attempt != 0)
    }

    /// Whether the payee has shown this channel's preimage.
    pub(super) fn was_shown(&self, to: usize) -> bool {
        self.hub.slots[to].is_some_and(|slot| self.payees[to].shown & 1 << slot.attempt != 0)
    }

    /// Whether the payee is done with an HTLC that is still open at the hub.
    pub(super) fn is_undone(&self, to: usize) -> bool {
        self.is_live(to) && self.was_sent(to) && self.payees[to].holds == 0
    }

    pub(super) fn actions(&self, rules: &Rules) -> Vec<Action> {
        let mut actions = Vec::new();
        // The disk is only so far behind; then the hub waits for it.
        let may_write = self.up && self.rows.len() < rules.bounds.unsynced;
        if may_write {
            self.hub_actions(rules, &mut actions);
        }
        if self.up && !self.rows.is_empty() {
            actions.push(Action::Fsync);
        }
        for to in 0..OUTGOING {
            self.payee_actions(to, may_write, rules, &mut actions);
        }
        if self.up && self.crashes > 0 {
            actions.push(Action::Crash);
        }
        if !self.up {
            actions.push(Action::Recover);
        }
        if self.may_tick(rules) {
            actions.push(Action::Tick);
        }
        actions
    }

    fn hub_actions(&self, rules: &Rules, actions: &mut Vec<Action>) {
        if let Upstream::Open { route: None } = self.hub.upstream {
            actions.extend((0..OUTGOING).map(Action::Choose));
        }
        for to in 0..OUTGOING {
            if !self.down[to].is_empty() {
                actions.push(Action::TakeOffer(to));
            }
            match self.back[to].front() {
                Some(Message::Result { attempt, outcome: Outcome::Failed })
                    if self.asks_again(*attempt, rules) =>
                {
                    actions.extend((0..OUTGOING).map(|next| Action::TakeResult(to, Some(next))));
                }
                Some(_) => actions.push(Action::TakeResult(to, None)),
                None => {}
            }
            let queued = self.hub.slots[to].is_some_and(|slot| slot.place == Place::Queued);
            if queued && self.payees[to].online {
                actions.push(Action::Sign(to));
            }
        }
    }

    /// Whether a failure of this attempt makes the hub try another channel.
    fn asks_again(&self, attempt: u8, rules: &Rules) -> bool {
        let Upstream::Open { route: Some(route) } = self.hub.upstream else { return false };
        let counts = attempt == route.attempt || !rules.has(Rule::AttemptNumber);
        counts && route.attempt < MAX_ATTEMPTS && self.height < IN_EXPIRY
    }

    fn payee_actions(&self, to: usize, may_write: bool, rules: &Rules, actions: &mut Vec<Action>) {
        let payee = self.payees[to];
        let live = self.is_live(to);
        let talks = payee.online && may_write && !self.hub.closed[to];
        if talks && payee.holds > 0 {
            actions.push(Action::Fulfil(to));
        }
        if let (true, true, Some(slot)) = (talks, live && payee.holds > 0, self.hub.slots[to]) {
            match slot.place {
                // The payee revokes only after our signature, which waits for the disk.
                Place::Removing if self.rows.is_empty() => actions.push(Action::CommitFailure(to)),
                Place::Removing => {}
                Place::Queued | Place::Signed | Place::Over => actions.push(Action::AnnounceFailure(to)),
            }
        }
        let seen = payee.online || (self.height >= OUT_EXPIRY && self.was_shown(to));
        if may_write && seen && self.is_undone(to) {
            actions.push(Action::SendAgain(to));
        }
        // Past its expiry the outgoing HTLC is taken to the chain, where either side may win.
        if may_write && self.rows.is_empty() && self.height >= OUT_EXPIRY && live {
            if payee.holds > 0 {
                actions.push(Action::ClaimOnChain(to));
            }
            let closes = self.was_sent(to) || rules.has(Rule::NoLateResend);
            if closes && !self.was_shown(to) {
                actions.push(Action::TimeOutOnChain(to));
            }
        }
        if self.up && payee.online && self.cuts > 0 && may_write {
            actions.push(Action::Cut(to));
        }
        if may_write && !payee.online {
            actions.push(Action::Connect(to));
        }
    }

    /// Heights pass by themselves, but the margin between the two expiries is longer than what the hub needs for its
    /// own steps, and longer than the chain needs for what was closed.
    fn may_tick(&self, rules: &Rules) -> bool {
        if self.height >= LAST {
            return false;
        }
        if self.height < OUT_DECIDED {
            return true;
        }
        // What was never sent has nobody who waits for it; only the rule closes its channel.
        let closes = |to: usize| self.was_sent(to) || rules.has(Rule::NoLateResend);
        self.is_idle() && (0..OUTGOING).all(|to| !self.is_live(to) || !closes(to))
    }
}
