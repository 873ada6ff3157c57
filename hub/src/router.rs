//! Where an incoming HTLC goes: policy first, then the best channel of its recipient (DESIGN section 10.8).
//!
//! Nobody online, or no channel with balance: failed at once, since nothing was asked. Another channel is tried only
//! after a durable failure that another channel could avoid, three tries at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};

use channel::failure::FailureReason;
use channel::forward::{Candidate, RouteChoice, Router};
use channel::ids::OwnerId;
use channel::keys::Point;
use channel::limits::MAX_ATTEMPTS;
use channel::message::{ForwardInstruction, Recipient};
use channel::policy::Policy;

use crate::directory::{Directory, Line};

/// The chain's tip, as all threads see it.
#[derive(Debug, Default)]
pub struct Tip(AtomicU32);

impl Tip {
    pub fn height(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    pub fn set(&self, height: u32) {
        self.0.store(height, Ordering::Release);
    }
}

/// Whether new work is accepted; not while the disk is nearly full.
#[derive(Debug, Default)]
pub struct Gate(AtomicBool);

impl Gate {
    pub fn is_shut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Answers whether that was a change.
    pub fn set_shut(&self, shut: bool) -> bool {
        self.0.swap(shut, Ordering::AcqRel) != shut
    }
}

/// The hub's router; every shard has a clone.
#[derive(Debug, Clone)]
pub struct HubRouter {
    pub directory: Arc<Directory>,
    pub policy: Arc<RwLock<Policy>>,
    pub tip: Arc<Tip>,
    pub gate: Arc<Gate>,
}

impl Router for HubRouter {
    fn route(&self, candidate: &Candidate<'_>) -> RouteChoice {
        match self.choose(candidate) {
            Ok((to, sign_by_height)) => RouteChoice::Offer { to, sign_by_height },
            Err(reason) => RouteChoice::Fail { reason },
        }
    }
}

impl HubRouter {
    fn choose(&self, candidate: &Candidate<'_>) -> Result<(OwnerId, u32), FailureReason> {
        if let Some(reason) = candidate.last_failure {
            if candidate.attempt > MAX_ATTEMPTS || !another_channel_may_help(reason) {
                return Err(reason);
            }
        } else if self.gate.is_shut() {
            return Err(FailureReason::Overloaded);
        }
        // Without an instruction there is nobody to forward to: the payer took the hub for the recipient.
        let instruction = candidate.htlc.forward.ok_or(FailureReason::IncorrectPaymentDetails)?;
        let sign_by_height = {
            let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
            let height = self.tip.height();
            policy.check_forward(candidate.htlc, &instruction, height)?;
            policy.sign_by_height(instruction.cltv_expiry)
        };
        let node = self.recipient(&candidate.htlc.recipient)?;
        let best = self
            .directory
            .with_lines(&node, |lines| best_line(lines, candidate, &instruction))
            .ok_or(FailureReason::UnknownRecipient)?;
        Ok((best?, sign_by_height))
    }

    fn recipient(&self, recipient: &Recipient) -> Result<Point, FailureReason> {
        match recipient {
            Recipient::Node(node) => Ok(*node),
            Recipient::Stream { id, .. } => self.directory.payee(id).ok_or(FailureReason::StreamRefused),
        }
    }
}

/// The recipient's usable channel with most to spend, so that its channels drain evenly.
fn best_line(
    lines: &[Line],
    candidate: &Candidate<'_>,
    instruction: &ForwardInstruction,
) -> Result<OwnerId, FailureReason> {
    let amount = instruction.amount_msat.to_u64();
    let eligible = |line: &&Line| line.owner != candidate.incoming && !candidate.tried.contains(&line.owner);
    if let Some(best) = lines
        .iter()
        .filter(eligible)
        .filter(|line| line.online && line.usable && line.spendable_msat >= amount)
        .max_by_key(|line| line.spendable_msat)
    {
        return Ok(best.owner);
    }
    // After a failure the payer learns that reason: it is what stands in the way.
    if let Some(reason) = candidate.last_failure {
        return Err(reason);
    }
    if !lines.iter().any(|line| line.online) {
        return Err(FailureReason::RecipientOffline);
    }
    if !lines.iter().any(|line| line.online && line.usable) {
        return Err(FailureReason::ChannelUnavailable);
    }
    // After a reconnection channels come back one by one, and what one holds is not known before: it may be enough.
    if lines.iter().filter(eligible).any(|line| !line.usable && !line.unfunded) {
        return Err(FailureReason::ChannelUnavailable);
    }
    Err(FailureReason::NoLiquidity)
}

/// Whether the failure belonged to the channel tried rather than to the payment.
fn another_channel_may_help(reason: FailureReason) -> bool {
    match reason {
        FailureReason::RecipientOffline
        | FailureReason::NoLiquidity
        | FailureReason::AmountOutOfRange
        | FailureReason::TooManyHtlcs
        | FailureReason::ChannelUnavailable => true,
        FailureReason::UnknownRecipient
        | FailureReason::FeeTooLow
        | FailureReason::ExpiryTooSoon
        | FailureReason::ExpiryTooFar
        | FailureReason::IncorrectPaymentDetails
        | FailureReason::AlreadyPaid
        | FailureReason::InvoiceExpired
        | FailureReason::StreamRefused
        | FailureReason::Overloaded
        | FailureReason::TimedOut => false,
    }
}

#[cfg(test)]
mod tests;
