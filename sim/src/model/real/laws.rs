//! What must hold.

use channel::effect::ToSend;

use super::lab::{Facts, Lab};
use super::scene::amounts;
use super::world::{Action, LINKS, Payer, World};
use super::{Bounds, Size};
use crate::model::limits::LAST_HEIGHT;

impl World {
    /// At the moment a failure leaves for the payer: no outgoing channel may still pay.
    pub(super) fn check_release(&self, link: usize, to_send: u32, lab: &Lab) -> Result<(), String> {
        if link != 0 || !matches!(lab.to_send(to_send), ToSend::FailHtlc { .. }) {
            return Ok(());
        }
        for outgoing in 1..LINKS {
            let facts = lab.facts(self.durable[outgoing]);
            let on_chain = facts.failed || facts.closed;
            // A trimmed HTLC that is overdue is given up, at a loss within the cap.
            let given_up = lab.channel(self.durable[outgoing]).view().dust_exposure_msat.to_u64() > 0;
            if !on_chain && !given_up && facts.htlcs > 0 {
                return Err(format!("failed upstream while channel {outgoing} can still pay"));
            }
        }
        Ok(())
    }

    pub(super) fn check(&self, lab: &Lab, bounds: &Bounds, actions: &[Action]) -> Result<(), String> {
        if actions.is_empty() && self.height == LAST_HEIGHT {
            self.check_end(lab, bounds)?;
        }
        if self.is_settled(lab, actions) {
            self.check_end(lab, bounds)?;
        }
        Ok(())
    }

    /// Nobody has anything to do but faults and time, and no channel was given up.
    fn is_settled(&self, lab: &Lab, actions: &[Action]) -> bool {
        let waits = actions.iter().all(|action| match action {
            Action::Crash | Action::Cut(_) | Action::Tick => true,
            Action::ToHub(_)
            | Action::ToWallet(_)
            | Action::Sign(_)
            | Action::Onward(_)
            | Action::Back(_)
            | Action::Fsync
            | Action::Start
            | Action::Connect(_)
            | Action::Fulfil(_)
            | Action::Fail(_)
            | Action::Publish(..)
            | Action::Claim(..)
            | Action::Tell(_) => false,
        });
        let ends = self.hub.iter().chain(self.links.iter().map(|link| &link.wallet));
        waits && ends.map(|state| lab.facts(*state)).all(|facts| !facts.failed && !facts.closed)
    }

    /// Nothing is stuck, nobody has lost anything, nothing is remembered for ever.
    fn check_end(&self, lab: &Lab, bounds: &Bounds) -> Result<(), String> {
        let hub: [Facts; LINKS] = self.hub.map(|state| lab.facts(state));
        let wallets: [Facts; LINKS] = std::array::from_fn(|link| lab.facts(self.links[link].wallet));
        for (facts, whose) in
            hub.iter().map(|facts| (facts, "hub")).chain(wallets.iter().map(|f| (f, "wallet")))
        {
            if facts.forwards_kept > 0 {
                return Err(format!("memory: the {whose} keeps {} forwards", facts.forwards_kept));
            }
            if !facts.closed && (facts.failed || facts.htlcs > 0) {
                return Err(format!("stuck: a channel of the {whose}: {facts:?}"));
            }
        }
        let gain =
            |end: usize, facts: &Facts| i128::from(facts.worth_msat) - i128::from(self.start_worth[end]);
        let (incoming, outgoing) = amounts(bounds.size);
        let (incoming, outgoing) = (i128::from(incoming), i128::from(outgoing));
        // What has no output goes to miners with the channel.
        let lost = match bounds.size {
            Size::WithOutput => 0,
            Size::Trimmed => incoming,
        };
        let of_hub: i128 = hub.iter().enumerate().map(|(link, facts)| gain(2 * link, facts)).sum();
        if of_hub + lost < 0 {
            return Err(format!("the hub lost {} msat", -of_hub));
        }
        let paid = match self.payer {
            Payer::Waiting => return Err("stuck: the payer has no result".to_owned()),
            Payer::Paid => incoming,
            Payer::Failed => 0,
        };
        let of_payer = gain(1, &wallets[0]);
        if of_payer + paid + lost < 0 {
            return Err(format!("the payer lost {} msat for {:?}", -of_payer, self.payer));
        }
        for (link, facts) in wallets.iter().enumerate().skip(1) {
            let of_payee = gain(2 * link + 1, facts);
            let promised = if self.links[link].promised { outgoing } else { 0 };
            if of_payee + lost < promised {
                return Err(format!("payee {link} was promised {promised} msat and got {of_payee}"));
            }
            if of_payee > lost && self.payer != Payer::Paid {
                return Err(format!(
                    "payee {link} got {of_payee} msat, and the payer was told {:?}",
                    self.payer
                ));
            }
        }
        Ok(())
    }
}
