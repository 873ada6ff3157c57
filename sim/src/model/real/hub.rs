//! The hub's steps: what a shard does with its channels, its outbox, its disk and its mail.

use channel::failure::FailureReason;
use channel::forward::{ForwardResult, Internal};
use channel::ids::OwnerId;

use super::lab::{Lab, Out, Stimulus};
use super::scene::{link_of, owner};
use super::world::{Action, LINKS, Row, Waiting, Who, World};
use super::{Bounds, Slip};
use crate::model::limits::LAST_HEIGHT;

impl World {
    pub(super) fn take(&mut self, action: Action, lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        match action {
            Action::ToHub(link) => {
                let Some(message) = self.links[link].to_hub.pop_front() else { return Ok(()) };
                self.host(link, Stimulus::Message(message), lab, bounds)
            }
            Action::ToWallet(link) => {
                let Some(message) = self.links[link].to_wallet.pop_front() else { return Ok(()) };
                self.wallet(link, Stimulus::Message(message), lab)
            }
            Action::Sign(link) => self.host(link, Stimulus::Sign, lab, bounds),
            Action::Onward(link) => {
                let Some(message) = self.onward[link].pop_front() else { return Ok(()) };
                self.internal(link, message, lab, bounds)
            }
            Action::Back(link) => {
                let Some(message) = self.back[link].pop_front() else { return Ok(()) };
                self.internal(0, message, lab, bounds)
            }
            Action::Fsync => self.fsync(lab),
            Action::Crash => self.crash(lab),
            Action::Start => self.start(lab, bounds),
            Action::Cut(link) => {
                self.cuts -= 1;
                self.lose(link, lab)?;
                self.disconnect(link, lab, bounds)
            }
            Action::Connect(link) => self.connect(link, lab, bounds),
            Action::Fulfil(link) | Action::Fail(link) => self.decide(link, action, lab),
            Action::Publish(link, who) => self.publish(link, who, lab),
            Action::Claim(link, who) => self.claim(link, who, lab),
            Action::Tell(link) => self.tell(link, lab, bounds),
            Action::Tick => self.tick(lab, bounds),
        }
    }

    /// An event for a channel: its row is appended, and what it causes goes its way.
    pub(super) fn host(
        &mut self,
        link: usize,
        stimulus: Stimulus,
        lab: &mut Lab,
        bounds: &Bounds,
    ) -> Result<(), String> {
        if lab.facts(self.hub[link]).finished {
            return Ok(());
        }
        let step = lab.step(self.hub[link], stimulus, self.height)?;
        self.hub[link] = step.next;
        if step.journaled {
            self.rows.push_back(Row::Channel { link, state: step.next });
        }
        self.perform(link, &step.out, lab, bounds)
    }

    fn perform(&mut self, link: usize, out: &[Out], lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        for out in out {
            match *out {
                Out::Send(to_send) => {
                    let Some(session) = lab.facts(self.hub[link]).session else { continue };
                    let rows = if bounds.slip == Some(Slip::EarlyRelease) { 0 } else { self.rows.len() };
                    self.outbox.push_back(Waiting { rows, link, session: session.0, to_send });
                }
                Out::Internal { to, message } => self.route(link, to, message, lab, bounds)?,
            }
        }
        self.release(lab)
    }

    fn route(
        &mut self,
        from: usize,
        to: OwnerId,
        message: u32,
        lab: &Lab,
        bounds: &Bounds,
    ) -> Result<(), String> {
        let is_ack = matches!(lab.internal(message), Internal::Ack { .. });
        if is_ack && bounds.slip == Some(Slip::LostAck) {
            return Ok(());
        }
        match (from, link_of(to)) {
            (0, Some(to)) if to != 0 => self.onward[to].push_back(message),
            (from, Some(0)) if from != 0 => self.back[from].push_back(message),
            (_, to) => return Err(format!("a message from channel {from} to {to:?}: {message}")),
        }
        Ok(())
    }

    /// A message between channels; for one that is gone the shard answers.
    fn internal(&mut self, to: usize, message: u32, lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        if !lab.facts(self.hub[to]).finished {
            return self.host(to, Stimulus::Internal(message), lab, bounds);
        }
        let answer = match lab.internal(message) {
            Internal::Offer(offer) => Internal::Result {
                key: offer.key,
                from: owner(to),
                result: ForwardResult::Failed { reason: FailureReason::ChannelUnavailable },
            },
            Internal::Result { key, .. } => Internal::Ack { key: *key },
            Internal::Ack { .. } => return Ok(()),
        };
        let (from, receiver) = match (&answer, lab.internal(message)) {
            (Internal::Ack { .. }, Internal::Result { from, .. }) => (to, *from),
            _ => (to, owner(0)),
        };
        let answer = lab.put_internal(answer);
        self.route(from, receiver, answer, lab, bounds)
    }

    // --- The disk --------------------------------------------------------------------------------------------------

    fn fsync(&mut self, lab: &mut Lab) -> Result<(), String> {
        match self.rows.pop_front() {
            Some(Row::Channel { link, state }) => self.durable[link] = state,
            Some(Row::Tip { link, told }) => self.links[link].told_durably = told,
            None => {}
        }
        for waiting in &mut self.outbox {
            waiting.rows = waiting.rows.saturating_sub(1);
        }
        self.release(lab)
    }

    /// What waits for no row any more leaves, made by the state of now. Nothing overtakes.
    fn release(&mut self, lab: &mut Lab) -> Result<(), String> {
        while let Some(waiting) = self.outbox.front().copied()
            && waiting.rows == 0
        {
            self.outbox.pop_front();
            let Waiting { link, session, to_send, .. } = waiting;
            let state = self.hub[link];
            let current = lab.facts(state).session.is_some_and(|now| now.0 == session);
            if !current || !self.links[link].up {
                continue;
            }
            if let Some(message) = lab.make(state, to_send) {
                self.check_release(link, to_send, lab)?;
                self.links[link].to_wallet.push_back(message);
            }
        }
        Ok(())
    }

    /// The process ends; what is not on the disk is gone.
    fn crash(&mut self, lab: &mut Lab) -> Result<(), String> {
        self.crashes -= 1;
        self.up = false;
        self.rows.clear();
        self.outbox.clear();
        self.hub = self.durable;
        self.onward = Default::default();
        self.back = Default::default();
        for link in 0..LINKS {
            self.links[link].told = self.links[link].told_durably;
            self.lose(link, lab)?;
        }
        Ok(())
    }

    /// A restart is a disconnect; then the chain is followed to its tip; then what may have been lost is sent again.
    fn start(&mut self, lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        self.up = true;
        for link in Self::active(bounds) {
            self.disconnect(link, lab, bounds)?;
        }
        for link in Self::active(bounds) {
            while self.links[link].told < self.links[link].chain.len() {
                self.tell(link, lab, bounds)?;
            }
            self.deadline(link, lab, bounds)?;
        }
        for link in Self::active(bounds) {
            if bounds.slip != Some(Slip::NoResume) {
                let outs = lab.resume(self.hub[link]);
                self.perform(link, &outs, lab, bounds)?;
            }
        }
        Ok(())
    }

    // --- Connections and time --------------------------------------------------------------------------------------

    fn disconnect(&mut self, link: usize, lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        if lab.facts(self.hub[link]).session.is_none() {
            return Ok(());
        }
        self.host(link, Stimulus::Disconnected, lab, bounds)
    }

    fn connect(&mut self, link: usize, lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        self.disconnect(link, lab, bounds)?;
        let far = &mut self.links[link];
        far.up = true;
        far.session += 1;
        let stimulus = Stimulus::Connected(far.session);
        self.host(link, stimulus, lab, bounds)?;
        self.wallet(link, stimulus, lab)
    }

    fn tick(&mut self, lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        let Some(next) = self.next_height(bounds) else { return Ok(()) };
        self.height = next;
        for link in Self::active(bounds) {
            if self.up {
                self.deadline(link, lab, bounds)?;
            }
            self.wallet_deadline(link, lab)?;
        }
        if self.height == LAST_HEIGHT { self.sweep(lab, bounds) } else { Ok(()) }
    }

    /// The last height: nothing is decided any more, and everybody takes what only they can take. In one step, because its
    /// orders tell nothing.
    fn sweep(&mut self, lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        for link in Self::active(bounds) {
            for who in [Who::Hub, Who::Wallet] {
                while self.has_claim(link, who, lab) {
                    self.claim(link, who, lab)?;
                    while self.links[link].told < self.links[link].chain.len() {
                        self.tell(link, lab, bounds)?;
                    }
                    while !self.rows.is_empty() {
                        self.fsync(lab)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn deadline(&mut self, link: usize, lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        while lab.facts(self.hub[link]).next_deadline.is_some_and(|deadline| deadline <= self.height) {
            let before = self.hub[link];
            self.host(link, Stimulus::Deadline, lab, bounds)?;
            if self.hub[link] == before {
                return Err(format!("a deadline that stays due: channel {link} at {}", self.height));
            }
        }
        Ok(())
    }
}
