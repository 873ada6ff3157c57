//! What every state must keep.

use super::world::{OUTGOING, Place, Upstream, World};

impl World {
    pub(super) fn check(&self) -> Result<(), String> {
        let paid: u8 = self.payees.iter().map(|payee| payee.paid).sum();
        if paid > 1 {
            return Err("the payment was made twice".to_owned());
        }
        // What the disk has is what payer and payees may know.
        let known = self.durable.upstream;
        if paid == 1 && matches!(known, Upstream::Failed | Upstream::Lapsed) {
            return Err("paid downstream, and nothing can be claimed upstream".to_owned());
        }
        for to in 0..OUTGOING {
            let slot = self.durable.slots[to];
            let live = slot.is_some_and(|slot| matches!(slot.place, Place::Signed | Place::Removing));
            if known == Upstream::Failed && (live || self.payees[to].holds > 0) {
                return Err("failed upstream while downstream can still succeed".to_owned());
            }
        }
        if self.is_settled() {
            self.check_settled()?;
        }
        Ok(())
    }

    /// Nothing is left to do but what people, faults and time may do.
    fn is_settled(&self) -> bool {
        let payees = self.payees.iter().all(|payee| payee.online && payee.holds == 0);
        let queued = |to: usize| self.hub.slots[to].is_some_and(|slot| slot.place == Place::Queued);
        self.is_idle() && payees && !(0..OUTGOING).any(|to| queued(to) || self.is_undone(to))
    }

    fn check_settled(&self) -> Result<(), String> {
        if matches!(self.hub.upstream, Upstream::Open { .. }) {
            return Err("stuck: the payment is open, and nobody has anything to do".to_owned());
        }
        if self.hub.slots.iter().any(Option::is_some) {
            return Err("memory: a result is kept for ever".to_owned());
        }
        let paid = self.payees.iter().any(|payee| payee.paid > 0);
        if paid != (self.hub.upstream == Upstream::Fulfilled) {
            return Err(format!("paid downstream: {paid}, upstream: {:?}", self.hub.upstream));
        }
        Ok(())
    }
}
