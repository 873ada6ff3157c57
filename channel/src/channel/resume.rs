//! After a replay: what the process may have been doing when it stopped is asked for again. Every effect is
//! harmless to repeat.

use super::Channel;
use super::apply::Out;
use super::state::{Phase, State};
use crate::bug::{self, Bug};
use crate::effect::Effect;
use crate::event::Role;

impl Channel {
    /// After replay and `Disconnected`, once the chain was followed to its tip: everything that must be
    /// (harmlessly) repeated. `Offer`s of unresolved incoming HTLCs, results not acknowledged, watches,
    /// broadcasts, tickets, publish jobs.
    pub fn resume(&self, effects: &mut Vec<Effect>) {
        let state = &self.state;
        if bug::is(Bug::NotReemitted) {
            return state.resume_chain(effects);
        }
        if !matches!(state.phase, Phase::Closed { .. } | Phase::Aborted { .. }) {
            effects.extend(state.htlcs.received.keys().filter_map(|id| state.offer_effect(*id)));
        }
        for ((incoming, htlc_id), forwarded) in &state.forwards {
            if let (Some(result), false) = (forwarded.result, forwarded.acknowledged) {
                let attempt = forwarded.attempt;
                let key = crate::forward::ForwardKey { incoming: *incoming, htlc_id: *htlc_id, attempt };
                effects.push(state.result_effect(key, result));
            }
        }
        state.resume_chain(effects);
    }
}

impl State {
    fn resume_chain(&self, effects: &mut Vec<Effect>) {
        let watch = self.funding.as_ref().map(|funding| self.watch_funding(funding.outpoint));
        match &self.phase {
            // An opening ends with the session, so that these are aborted before anything is resumed.
            Phase::Proposed | Phase::Building | Phase::FundingSent | Phase::Accepted => {}
            Phase::AwaitingConfirmation | Phase::Open => {
                effects.extend(watch);
                effects.extend(self.broadcast_funding());
            }
            Phase::Frozen | Phase::Closing { .. } => {
                effects.extend(watch);
                effects.extend(self.broadcast_funding());
                match self.names.role {
                    Role::Hub => effects.push(Effect::TicketReady),
                    Role::Wallet => effects.extend(self.handed_over_effect()),
                }
            }
            Phase::Failed { cause } => {
                effects.extend(watch);
                // A commitment needs the funding that it spends.
                effects.extend(self.broadcast_funding().filter(|_| cause.may_publish()));
                effects.push(Effect::PlanChanged);
            }
            Phase::Closed { .. } | Phase::Aborted { .. } => self.finish_if_done(&mut Out::new(effects)),
        }
    }

    /// Opener: the funding, until nothing is expected to take it out of the chain any more.
    fn broadcast_funding(&self) -> Option<Effect> {
        let transaction = self.funding.as_ref()?.transaction.clone()?;
        Some(Effect::BroadcastFunding { transaction })
    }
}
