//! Real channels, each step of each taken once.
//!
//! A walk comes by the same state of one channel end in very many states of the whole. Ends are deterministic, so their
//! states get numbers, and what an event does to a state is looked up after the first time. At that first time the
//! laws of a single channel are checked: what the journal would hold decodes to the same input, the snapshot to the same
//! state, replay gives the state of the run, and the books add up.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use bitcoin::{OutPoint, Transaction};
use channel::channel::{Channel, Checked, Input, PhaseView};
use channel::claim::Claim;
use channel::effect::{Effect, ToSend};
use channel::error::{Refusal, Rejection};
use channel::event::{ChainEvent, Command, Event};
use channel::forward::{Candidate, Internal, RouteChoice, Router};
use channel::ids::{OwnerId, SessionId};
use channel::message::Message;

use crate::model::pair::Party;

/// The number of a state of an end.
pub type StateId = u32;

/// What an end is told. Numbers are those of the lab's stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stimulus {
    Message(u32),
    Internal(u32),
    Chain(u32),
    Sign,
    Deadline,
    Connected(u8),
    Disconnected,
}

/// What leaves an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    Send(u32),
    Internal { to: OwnerId, message: u32 },
}

/// What a stimulus does.
#[derive(Debug)]
pub struct Step {
    pub next: StateId,
    /// The journal has a row more.
    pub journaled: bool,
    pub out: Vec<Out>,
}

/// What a state wants done on the chain.
#[derive(Debug)]
pub struct Plan {
    pub commitment: Option<Transaction>,
    pub claims: Vec<Claim>,
}

/// By which state, of which output (none: the funding), at which height.
pub type Spend = (StateId, Option<OutPoint>, u32);

/// What is read of a state, read once.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub session: Option<SessionId>,
    pub wants_to_sign: bool,
    pub next_deadline: Option<u32>,
    /// It was given up: the chain decides.
    pub failed: bool,
    /// The chain has decided, and nothing more can come.
    pub closed: bool,
    /// The host may forget it.
    pub finished: bool,
    pub htlcs: usize,
    pub forwards_kept: usize,
    /// What is this end's, HTLCs in flight left out.
    pub worth_msat: u64,
}

/// Sends HTLCs to these owners in turn.
#[derive(Clone, Debug)]
pub struct Routes {
    pub to: Vec<OwnerId>,
    pub sign_by_height: u32,
}

impl Router for Routes {
    fn route(&self, candidate: &Candidate<'_>) -> RouteChoice {
        match (self.to.get(candidate.tried.len()), candidate.last_failure) {
            (Some(to), _) => RouteChoice::Offer { to: *to, sign_by_height: self.sign_by_height },
            (None, Some(reason)) => RouteChoice::Fail { reason },
            (None, None) => RouteChoice::Fail { reason: channel::failure::FailureReason::UnknownRecipient },
        }
    }
}

/// Values with numbers.
#[derive(Debug)]
struct Store<T> {
    values: Vec<T>,
    buckets: HashMap<u64, Vec<u32>>,
}

impl<T: PartialEq + Debug> Store<T> {
    fn new() -> Self {
        Store { values: Vec::new(), buckets: HashMap::new() }
    }

    fn put(&mut self, value: T) -> u32 {
        let mut hasher = DefaultHasher::new();
        format!("{value:?}").hash(&mut hasher);
        let bucket = self.buckets.entry(hasher.finish()).or_default();
        // What does not show in the text (secrets) is compared.
        if let Some(known) = bucket.iter().find(|number| self.values[**number as usize] == value) {
            return *known;
        }
        let number = u32::try_from(self.values.len()).expect("far fewer values than numbers");
        bucket.push(number);
        self.values.push(value);
        number
    }

    fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

struct Known {
    end: usize,
    channel: Channel,
    facts: Facts,
}

/// All ends, their states and steps.
pub struct Lab {
    ends: Vec<(Party, Routes)>,
    known: Vec<Known>,
    by_hash: HashMap<(usize, [u8; 32]), StateId>,
    steps: HashMap<(StateId, Stimulus, u32), Rc<Step>>,
    made: HashMap<(StateId, u32), Option<u32>>,
    resumed: HashMap<StateId, Rc<Vec<Out>>>,
    plans: HashMap<StateId, Rc<Plan>>,
    spends: HashMap<Spend, [u32; 2]>,
    messages: Store<Message>,
    to_send: Store<ToSend>,
    internals: Store<Internal>,
    chain: Store<ChainEvent>,
}

impl Lab {
    pub fn new(ends: Vec<(Party, Routes)>) -> Self {
        Lab {
            ends,
            known: Vec::new(),
            by_hash: HashMap::new(),
            steps: HashMap::new(),
            made: HashMap::new(),
            resumed: HashMap::new(),
            plans: HashMap::new(),
            spends: HashMap::new(),
            messages: Store::new(),
            to_send: Store::new(),
            internals: Store::new(),
            chain: Store::new(),
        }
    }

    /// States and steps that real channels took.
    pub fn size(&self) -> (usize, usize) {
        (self.known.len(), self.steps.len())
    }

    pub fn facts(&self, state: StateId) -> Facts {
        self.known[state as usize].facts
    }

    pub fn channel(&self, state: StateId) -> &Channel {
        &self.known[state as usize].channel
    }

    pub fn party(&self, state: StateId) -> &Party {
        &self.ends[self.known[state as usize].end].0
    }

    pub fn put_internal(&mut self, message: Internal) -> u32 {
        self.internals.put(message)
    }

    pub fn internal(&self, number: u32) -> &Internal {
        self.internals.get(number)
    }

    pub fn to_send(&self, number: u32) -> &ToSend {
        self.to_send.get(number)
    }

    pub fn chain_event(&self, number: u32) -> &ChainEvent {
        self.chain.get(number)
    }

    /// What this state wants done on the chain.
    pub fn plan(&mut self, state: StateId) -> Rc<Plan> {
        if let Some(known) = self.plans.get(&state) {
            return known.clone();
        }
        let plan = self.channel(state).onchain_plan(&self.party(state).signer);
        let plan = Rc::new(Plan { commitment: plan.publish.map(|job| job.transaction), claims: plan.claims });
        self.plans.insert(state, plan.clone());
        plan
    }

    /// The facts that a spend makes.
    pub fn spend(
        &mut self,
        spend: Spend,
        make: impl FnOnce(&mut Self) -> Result<[ChainEvent; 2], String>,
    ) -> Result<[u32; 2], String> {
        if let Some(known) = self.spends.get(&spend) {
            return Ok(*known);
        }
        let facts = make(self)?.map(|event| self.chain.put(event));
        self.spends.insert(spend, facts);
        Ok(facts)
    }

    /// The number of a state. What every state of a channel must keep is checked when it is new.
    pub fn put_state(&mut self, end: usize, channel: Channel) -> Result<StateId, String> {
        let hash = channel.state_hash();
        if let Some(known) = self.by_hash.get(&(end, hash)) {
            return Ok(*known);
        }
        let bytes = channel.encode_snapshot();
        let again = Channel::decode_snapshot(&bytes).map_err(|error| format!("the snapshot: {error}"))?;
        if again.encode_snapshot() != bytes {
            return Err("the snapshot gives another state".to_owned());
        }
        let facts = self.read(&channel)?;
        let number = u32::try_from(self.known.len()).expect("far fewer states than numbers");
        self.known.push(Known { end, channel, facts });
        self.by_hash.insert((end, hash), number);
        Ok(number)
    }

    fn read(&self, channel: &Channel) -> Result<Facts, String> {
        let view = channel.view();
        let parts = [view.holder_msat, view.counterparty_msat, view.offered_msat, view.received_msat];
        let sum: u64 = parts.iter().map(|part| part.to_u64()).sum();
        if sum != view.capacity.to_sat() * 1_000 {
            return Err(format!("conservation: {parts:?} of {}", view.capacity));
        }
        let closed = matches!(view.phase, PhaseView::Closed { .. });
        let mut effects = Vec::new();
        channel.resume(&mut effects);
        Ok(Facts {
            session: channel.session(),
            wants_to_sign: channel.wants_to_sign(),
            next_deadline: channel.next_deadline(),
            failed: matches!(view.phase, PhaseView::Failed { .. }),
            closed,
            finished: effects.contains(&Effect::Finished),
            htlcs: view.htlcs,
            forwards_kept: channel.forwards_kept(),
            worth_msat: if closed { view.paid_sat * 1_000 } else { view.holder_msat.to_u64() },
        })
    }

    /// What a stimulus does to a state at a height. A refusal or a violation is an error: everybody here is honest.
    pub fn step(&mut self, state: StateId, stimulus: Stimulus, height: u32) -> Result<Rc<Step>, String> {
        if let Some(step) = self.steps.get(&(state, stimulus, height)) {
            return Ok(step.clone());
        }
        let step = Rc::new(self.take(state, stimulus, height)?);
        self.steps.insert((state, stimulus, height), step.clone());
        Ok(step)
    }

    fn take(&mut self, state: StateId, stimulus: Stimulus, height: u32) -> Result<Step, String> {
        let Known { end, channel, .. } = &self.known[state as usize];
        let (party, routes) = &self.ends[*end];
        let (end, event) = (*end, self.event(stimulus, height));
        let text = || format!("end {end}, {stimulus:?} at {height}: {event:?}");
        let checked = channel.check(event.clone(), &party.context(height, routes));
        let (next, journaled, effects) = match checked {
            Ok(Checked::Input(input)) => {
                let (next, effects) = apply(channel, &input).map_err(|what| format!("{what}: {}", text()))?;
                (self.put_state(end, next)?, true, effects)
            }
            Ok(Checked::Repeat(effect)) => (state, false, vec![effect]),
            Ok(Checked::Nothing) => (state, false, Vec::new()),
            Err(Rejection::Refusal(Refusal::NoDeadline { .. })) => (state, false, Vec::new()),
            Err(rejection) => return Err(format!("{rejection}: {}", text())),
        };
        let out = self.outs(effects);
        Ok(Step { next, journaled, out })
    }

    fn event(&self, stimulus: Stimulus, height: u32) -> Event {
        Event::Command(match stimulus {
            Stimulus::Message(number) => return Event::Message(self.messages.get(number).clone()),
            Stimulus::Internal(number) => match self.internals.get(number).clone() {
                Internal::Offer(offer) => Command::Offer(offer),
                Internal::Result { key, from, result } => Command::Result { key, from, result },
                Internal::Ack { key } => Command::Ack { key },
            },
            Stimulus::Chain(number) => Command::Chain(self.chain.get(number).clone()),
            Stimulus::Sign => Command::SignNow,
            Stimulus::Deadline => Command::Chain(ChainEvent::Deadline { height }),
            Stimulus::Connected(session) => Command::Connected { session: SessionId(u64::from(session)) },
            Stimulus::Disconnected => Command::Disconnected,
        })
    }

    fn outs(&mut self, effects: Vec<Effect>) -> Vec<Out> {
        let mut outs = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send(to_send) => outs.push(Out::Send(self.to_send.put(to_send))),
                Effect::Internal { to, message } => {
                    outs.push(Out::Internal { to, message: self.internals.put(message) });
                }
                // Nobody here publishes what is revoked, and what the chain's side needs is read from the state.
                Effect::LogRevoked { .. }
                | Effect::BuildFunding { .. }
                | Effect::WatchFunding { .. }
                | Effect::BroadcastFunding { .. }
                | Effect::ReleaseCoins { .. }
                | Effect::TicketReady
                | Effect::ClosingHandedOver { .. }
                | Effect::PlanChanged
                | Effect::Report(_)
                | Effect::Finished => {}
            }
        }
        outs
    }

    /// The message that an effect named, made by this state; none if the state moved past it.
    pub fn make(&mut self, state: StateId, to_send: u32) -> Option<u32> {
        if let Some(known) = self.made.get(&(state, to_send)) {
            return *known;
        }
        let signer = &self.party(state).signer;
        let message = self.channel(state).message(self.to_send.get(to_send), signer);
        let number = message.map(|message| self.messages.put(message));
        self.made.insert((state, to_send), number);
        number
    }

    /// What a start sends again.
    pub fn resume(&mut self, state: StateId) -> Rc<Vec<Out>> {
        if let Some(known) = self.resumed.get(&state) {
            return known.clone();
        }
        let mut effects = Vec::new();
        self.channel(state).resume(&mut effects);
        let outs = Rc::new(self.outs(effects));
        self.resumed.insert(state, outs.clone());
        outs
    }
}

/// Takes the step as a host does, by the bytes of the journal, and compares with what replay makes of a snapshot.
fn apply(channel: &Channel, input: &Input) -> Result<(Channel, Vec<Effect>), String> {
    let mut bytes = Vec::new();
    input.encode(&mut bytes);
    let decoded = Input::decode(&bytes).map_err(|error| format!("the row: {error}"))?;
    if decoded != *input {
        return Err("the row gives another input".to_owned());
    }
    let (mut next, mut effects) = (channel.clone(), Vec::new());
    next.apply(&decoded, &mut effects);
    let snapshot = channel.encode_snapshot();
    let mut replayed =
        Channel::decode_snapshot(&snapshot).map_err(|error| format!("the snapshot: {error}"))?;
    let mut again = Vec::new();
    replayed.apply(&decoded, &mut again);
    if replayed.state_hash() != next.state_hash() || again != effects {
        return Err("replay is not what the run was".to_owned());
    }
    Ok((next, effects))
}
