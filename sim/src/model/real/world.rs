//! The state of the whole, and what can happen in it.

use std::collections::VecDeque;

use super::Bounds;
use super::lab::{Lab, StateId};
use crate::model::limits::MARGIN_BEGINS;
use crate::model::pair::HEIGHT;

/// The hub's connections: the payer's, and two that lead to payees.
pub(super) const LINKS: usize = 3;

/// A row that the disk does not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Row {
    Channel {
        link: usize,
        state: StateId,
    },
    /// Of the chain's side: that many facts of this channel were told.
    Tip {
        link: usize,
        told: usize,
    },
}

/// A message to a wallet that waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    /// How many of the rows not synced must be.
    pub(super) rows: usize,
    pub(super) link: usize,
    pub(super) session: u64,
    pub(super) to_send: u32,
}

/// A connection, the wallet at its far end, and what the chain holds of their channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Link {
    pub(super) up: bool,
    pub(super) session: u8,
    pub(super) wallet: StateId,
    pub(super) to_hub: VecDeque<u32>,
    pub(super) to_wallet: VecDeque<u32>,
    /// The offer that the payee has not decided about.
    pub(super) asked: Option<u32>,
    /// The payee showed its preimage in time.
    pub(super) promised: bool,
    /// Spends and their finality, in order.
    pub(super) chain: Vec<u32>,
    /// How many of them the hub's channel was told.
    pub(super) told: usize,
    pub(super) told_durably: usize,
}

impl Link {
    pub(super) fn new(wallet: StateId) -> Self {
        Link {
            up: true,
            session: 1,
            wallet,
            to_hub: VecDeque::new(),
            to_wallet: VecDeque::new(),
            asked: None,
            promised: false,
            chain: Vec::new(),
            told: 0,
            told_durably: 0,
        }
    }
}

/// What the payer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    Waiting,
    Paid,
    Failed,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub(super) up: bool,
    pub(super) height: u32,
    pub(super) hub: [StateId; LINKS],
    pub(super) durable: [StateId; LINKS],
    pub(super) rows: VecDeque<Row>,
    pub(super) outbox: VecDeque<Waiting>,
    /// From the incoming channel to each other one, and back.
    pub(super) onward: [VecDeque<u32>; LINKS],
    pub(super) back: [VecDeque<u32>; LINKS],
    pub(super) links: [Link; LINKS],
    pub(super) payer: Payer,
    pub(super) crashes: u8,
    pub(super) cuts: u8,
    /// What each end owned at the start, in the lab's order.
    pub(super) start_worth: Vec<u64>,
}

/// Whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Hub,
    Wallet,
}

/// One thing that happens; numbers name connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The hub takes the wallet's next message.
    ToHub(usize),
    ToWallet(usize),
    /// The hub signs what is pending.
    Sign(usize),
    /// The next message from the incoming channel to this one.
    Onward(usize),
    /// The next message from this channel to the incoming one.
    Back(usize),
    /// The next row is on the disk.
    Fsync,
    Crash,
    Start,
    Cut(usize),
    Connect(usize),
    Fulfil(usize),
    Fail(usize),
    /// A commitment gets into a block.
    Publish(usize, Who),
    /// The first of an end's claims that are due does.
    Claim(usize, Who),
    /// The hub hears of what the chain holds.
    Tell(usize),
    /// The next height.
    Tick,
}

impl World {
    pub(super) fn new(hub: [StateId; LINKS], links: [Link; LINKS], bounds: Bounds) -> Self {
        World {
            up: true,
            height: HEIGHT,
            hub,
            durable: hub,
            rows: VecDeque::new(),
            outbox: VecDeque::new(),
            onward: Default::default(),
            back: Default::default(),
            links,
            payer: Payer::Waiting,
            crashes: bounds.crashes,
            cuts: bounds.cuts,
            start_worth: Vec::new(),
        }
    }

    /// The height that comes next, if time goes on.
    pub(super) fn next_height(&self, bounds: &Bounds) -> Option<u32> {
        bounds.heights.iter().copied().find(|height| *height > self.height)
    }

    /// The connections that the payment may use. The others are left alone.
    pub(super) fn active(bounds: &Bounds) -> impl Iterator<Item = usize> + use<> {
        let routes = bounds.routes;
        (0..LINKS).filter(move |link| *link == 0 || routes.contains(link))
    }

    /// Whether the hub has nothing to do by itself.
    pub(super) fn is_idle(&self, lab: &Lab) -> bool {
        let quiet = self.onward.iter().chain(&self.back).all(VecDeque::is_empty);
        let told = self.links.iter().all(|link| link.told == link.chain.len());
        let signed = self.hub.iter().all(|state| !lab.facts(*state).wants_to_sign);
        self.up && self.rows.is_empty() && self.outbox.is_empty() && quiet && told && signed
    }

    pub(super) fn actions(&self, lab: &mut Lab, bounds: &Bounds) -> Vec<Action> {
        let mut actions = Vec::new();
        // The disk is only so far behind; then the hub waits for it.
        let works = self.up && self.rows.len() < bounds.unsynced;
        for link in Self::active(bounds) {
            if works {
                self.hub_actions(link, lab, &mut actions);
            }
            self.wallet_actions(link, &mut actions);
            self.connection_actions(link, works, lab, &mut actions);
            self.chain_actions(link, works, lab, &mut actions);
        }
        if self.up && !self.rows.is_empty() {
            actions.push(Action::Fsync);
        }
        if self.up && self.crashes > 0 {
            actions.push(Action::Crash);
        }
        if !self.up {
            actions.push(Action::Start);
        }
        if self.may_tick(&actions, lab, bounds) {
            actions.push(Action::Tick);
        }
        actions
    }

    fn hub_actions(&self, link: usize, lab: &Lab, actions: &mut Vec<Action>) {
        if !self.links[link].to_hub.is_empty() {
            actions.push(Action::ToHub(link));
        }
        if lab.facts(self.hub[link]).wants_to_sign {
            actions.push(Action::Sign(link));
        }
        if !self.onward[link].is_empty() {
            actions.push(Action::Onward(link));
        }
        if !self.back[link].is_empty() {
            actions.push(Action::Back(link));
        }
    }

    fn wallet_actions(&self, link: usize, actions: &mut Vec<Action>) {
        let far = &self.links[link];
        if !far.to_wallet.is_empty() {
            actions.push(Action::ToWallet(link));
        }
        if far.asked.is_some() {
            actions.extend([Action::Fulfil(link), Action::Fail(link)]);
        }
    }

    fn connection_actions(&self, link: usize, works: bool, lab: &Lab, actions: &mut Vec<Action>) {
        let far = &self.links[link];
        if works && far.up && self.cuts > 0 {
            actions.push(Action::Cut(link));
        }
        let (hub, wallet) = (lab.facts(self.hub[link]), lab.facts(far.wallet));
        let over = (hub.failed || hub.closed) && (wallet.failed || wallet.closed);
        if works && !far.up && !over {
            actions.push(Action::Connect(link));
        }
    }

    /// The next height comes at any time, until the hub's margin begins. What people do on the chain does not wait either.
    fn may_tick(&self, actions: &[Action], lab: &Lab, bounds: &Bounds) -> bool {
        let Some(next) = self.next_height(bounds) else { return false };
        let urgent = actions.iter().any(|action| match action {
            Action::Publish(..) | Action::Claim(..) => true,
            Action::ToHub(_)
            | Action::ToWallet(_)
            | Action::Sign(_)
            | Action::Onward(_)
            | Action::Back(_)
            | Action::Fsync
            | Action::Crash
            | Action::Start
            | Action::Cut(_)
            | Action::Connect(_)
            | Action::Fulfil(_)
            | Action::Fail(_)
            | Action::Tell(_)
            | Action::Tick => false,
        });
        !urgent && (next <= MARGIN_BEGINS || self.is_idle(lab))
    }
}
