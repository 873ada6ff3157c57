//! The steps of a forward: offers that other owners make of us, and what became of ours.

use super::limits::NewHtlc;
use super::{Verdict, decided, refused};
use crate::bug::{self, Bug};
use crate::channel::input::Kind;
use crate::channel::state::Place;
use crate::channel::{Channel, Checked, Context};
use crate::effect::Effect;
use crate::error::Refusal;
use crate::forward::{Candidate, ForwardKey, ForwardResult, Internal, Offer, RouteChoice};
use crate::ids::OwnerId;
use crate::limits::MAX_ATTEMPTS;
use crate::parameters::Side;

impl Channel {
    /// Step 1, as the outgoing owner. Each attempt gets exactly one durable result; a repeat changes nothing.
    pub(super) fn check_offer(&self, offer: Offer, context: &Context<'_>) -> Verdict {
        let key = offer.key;
        if let Some(known) = self.state.forwards.get(&(key.incoming, key.htlc_id)) {
            if key.attempt < known.attempt {
                return Ok(Checked::Nothing);
            }
            if key.attempt == known.attempt {
                return Ok(match known.result {
                    Some(result) if !known.acknowledged => {
                        Checked::Repeat(self.state.result_effect(key, result))
                    }
                    Some(_) | None => Checked::Nothing,
                });
            }
            match known.place {
                Place::Over => {}
                Place::Queued | Place::Live(_) => {
                    return refused(Refusal::EarlierAttemptLive { attempt: known.attempt });
                }
            }
        }
        match self.can_offer(&offer, context) {
            Ok(()) => decided(Kind::Offered(offer)),
            Err(refusal) => decided(Kind::OfferRefused { key, reason: refusal.failure_reason() }),
        }
    }

    /// Whether an offer could be taken now, by the rules of `check`. For a choice among channels before
    /// anything is asked.
    pub fn can_offer(&self, offer: &Offer, context: &Context<'_>) -> Result<(), Refusal> {
        self.expect_open()?;
        if self.state.shutdowns.holder.is_some() || self.state.shutdowns.counterparty.is_some() {
            return Err(Refusal::ShuttingDown);
        }
        self.expect_online()?;
        if !self.state.funding.as_ref().is_some_and(|funding| funding.deep) {
            return Err(Refusal::FundingUnconfirmed);
        }
        self.check_limits(&NewHtlc {
            offerer: Side::Holder,
            amount: offer.amount_msat,
            cltv_expiry: offer.cltv_expiry,
            recipient: &offer.recipient,
            payload: &offer.payload,
        })?;
        let exposure = self.exposure_with(offer.amount_msat);
        let maximum = context.policy.max_dust_htlc_exposure_msat;
        if exposure > maximum && self.state.is_trimmed(offer.amount_msat) {
            return Err(Refusal::DustExposure { exposure, maximum });
        }
        check_expiry(offer, context)
    }

    /// Step 3, as the incoming owner.
    pub(super) fn check_result(
        &self,
        key: ForwardKey,
        from: OwnerId,
        result: ForwardResult,
        context: &Context<'_>,
    ) -> Verdict {
        let acknowledge = Effect::Internal { to: from, message: Internal::Ack { key } };
        let htlc = self.state.htlcs.received.get(&key.htlc_id);
        let (Some(htlc), true) = (htlc, key.incoming == self.state.names.owner) else {
            return Ok(Checked::Repeat(acknowledge));
        };
        let (Some(route), None) = (&htlc.route, &htlc.removal) else {
            return Ok(Checked::Repeat(acknowledge));
        };
        match result {
            ForwardResult::Fulfilled { preimage } => {
                if preimage.payment_hash() != htlc.add.payment_hash && !bug::is(Bug::WrongPreimageTaken) {
                    return refused(Refusal::WrongPreimage);
                }
                decided(Kind::ResultTaken { key, from, result, next: None })
            }
            ForwardResult::Failed { .. }
                if key.attempt != route.attempt && !bug::is(Bug::AttemptsNotNumbered) =>
            {
                Ok(Checked::Repeat(acknowledge))
            }
            ForwardResult::Failed { reason } => {
                let next = if route.attempt >= MAX_ATTEMPTS || !self.state.may_update() {
                    RouteChoice::Fail { reason }
                } else {
                    let mut tried = route.tried.clone();
                    tried.push(route.to);
                    context.router.route(&Candidate {
                        incoming: self.state.names.owner,
                        htlc: &htlc.add,
                        attempt: route.attempt + 1,
                        tried: &tried,
                        last_failure: Some(reason),
                    })
                };
                decided(Kind::ResultTaken { key, from, result, next: Some(next) })
            }
        }
    }

    /// Step 4, as the outgoing owner.
    pub(super) fn check_ack(&self, key: ForwardKey) -> Checked {
        match self.state.forwards.get(&(key.incoming, key.htlc_id)) {
            Some(known) if known.attempt == key.attempt && known.result.is_some() && !known.acknowledged => {
                Checked::Input(crate::channel::Input(Kind::Acknowledged { key }))
            }
            Some(_) | None => Checked::Nothing,
        }
    }
}

/// Expiries of ours, named one by one.
fn check_expiry(offer: &Offer, context: &Context<'_>) -> Result<(), Refusal> {
    let (cltv_expiry, height) = (offer.cltv_expiry, context.height);
    if cltv_expiry <= height {
        return Err(Refusal::ExpiryPast { cltv_expiry, height });
    }
    let earliest = height.saturating_add(context.policy.min_cltv_expiry_ahead);
    if cltv_expiry < earliest {
        return Err(Refusal::ExpiryTooSoon { cltv_expiry, earliest });
    }
    let latest = height.saturating_add(context.policy.max_cltv_expiry_delta);
    if cltv_expiry > latest {
        return Err(Refusal::ExpiryTooFar { cltv_expiry, latest });
    }
    if offer.sign_by_height < height {
        return Err(Refusal::SignByPassed { sign_by_height: offer.sign_by_height, height });
    }
    Ok(())
}
