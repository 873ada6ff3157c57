//! The wallets' steps. Their disks are never behind, and they sign as soon as they can.

use channel::failure::FailureReason;
use channel::forward::{ForwardResult, Internal};
use channel::limits::{CLAIM_MARGIN_BLOCKS, OUTGOING_GRACE_BLOCKS};

use super::lab::{Lab, Out, Stimulus};
use super::scene::{LEDGER, preimage};
use super::world::{Action, Payer, World};
use crate::model::limits::{IN_EXPIRY, OUT_EXPIRY};

impl World {
    /// An event for the wallet's channel, and all that follows at once.
    pub(super) fn wallet(&mut self, link: usize, stimulus: Stimulus, lab: &mut Lab) -> Result<(), String> {
        self.wallet_step(link, stimulus, lab)?;
        while lab.facts(self.links[link].wallet).wants_to_sign {
            self.wallet_step(link, Stimulus::Sign, lab)?;
        }
        Ok(())
    }

    fn wallet_step(&mut self, link: usize, stimulus: Stimulus, lab: &mut Lab) -> Result<(), String> {
        if lab.facts(self.links[link].wallet).finished {
            return Ok(());
        }
        let step = lab.step(self.links[link].wallet, stimulus, self.height)?;
        self.links[link].wallet = step.next;
        for out in &step.out {
            match *out {
                Out::Send(to_send) => {
                    let message = lab.make(step.next, to_send);
                    let far = &mut self.links[link];
                    far.to_hub.extend(message.filter(|_| far.up));
                }
                Out::Internal { message, .. } => self.ledger(link, message, lab)?,
            }
        }
        Ok(())
    }

    /// What the channel tells the wallet's ledger.
    fn ledger(&mut self, link: usize, message: u32, lab: &mut Lab) -> Result<(), String> {
        match lab.internal(message).clone() {
            Internal::Offer(_) => self.links[link].asked = Some(message),
            Internal::Result { key, result, .. } => {
                let told = match result {
                    ForwardResult::Fulfilled { .. } => Payer::Paid,
                    ForwardResult::Failed { .. } => Payer::Failed,
                };
                // Without an output an overdue HTLC is given up; a preimage that comes after all is told all the same.
                let late = self.payer == Payer::Failed && told == Payer::Paid && self.has_given_up(link, lab);
                if self.payer != Payer::Waiting && self.payer != told && !late {
                    return Err(format!("the payer's result changed from {:?} to {told:?}", self.payer));
                }
                self.payer = told;
                let ack = lab.put_internal(Internal::Ack { key });
                self.wallet_step(link, Stimulus::Internal(ack), lab)?;
            }
            Internal::Ack { .. } => {}
        }
        Ok(())
    }

    fn has_given_up(&self, link: usize, lab: &Lab) -> bool {
        let late = self.height >= IN_EXPIRY + OUTGOING_GRACE_BLOCKS;
        late && lab.channel(self.links[link].wallet).view().dust_exposure_msat.to_u64() > 0
    }

    /// The payee decides.
    pub(super) fn decide(&mut self, link: usize, action: Action, lab: &mut Lab) -> Result<(), String> {
        let Some(offer) = self.links[link].asked.take() else { return Ok(()) };
        let Internal::Offer(offer) = lab.internal(offer) else { return Ok(()) };
        let key = offer.key;
        let result = if action == Action::Fulfil(link) {
            // Later it may lose the race on the chain: its own risk.
            self.links[link].promised |= self.height < OUT_EXPIRY - CLAIM_MARGIN_BLOCKS;
            ForwardResult::Fulfilled { preimage: preimage() }
        } else {
            ForwardResult::Failed { reason: FailureReason::IncorrectPaymentDetails }
        };
        let result = lab.put_internal(Internal::Result { key, from: LEDGER, result });
        self.wallet(link, Stimulus::Internal(result), lab)
    }

    /// The connection is lost, and everything on its way.
    pub(super) fn lose(&mut self, link: usize, lab: &mut Lab) -> Result<(), String> {
        let far = &mut self.links[link];
        if !std::mem::replace(&mut far.up, false) {
            return Ok(());
        }
        far.to_hub.clear();
        far.to_wallet.clear();
        self.wallet(link, Stimulus::Disconnected, lab)
    }

    pub(super) fn wallet_deadline(&mut self, link: usize, lab: &mut Lab) -> Result<(), String> {
        let due = |world: &Self, lab: &Lab| {
            let deadline = lab.facts(world.links[link].wallet).next_deadline;
            deadline.is_some_and(|deadline| deadline <= world.height)
        };
        while due(self, lab) {
            let before = self.links[link].wallet;
            self.wallet(link, Stimulus::Deadline, lab)?;
            if self.links[link].wallet == before {
                return Err(format!("a deadline that stays due: wallet {link} at {}", self.height));
            }
        }
        Ok(())
    }
}
