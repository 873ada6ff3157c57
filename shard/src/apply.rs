//! The heart: an event is checked, journaled and applied, and its effects find their way. Nothing else in the crate
//! changes a channel.

use channel::channel::{Channel, Checked, Input};
use channel::effect::{Effect, Report};
use channel::error::{Refusal, Rejection};
use channel::event::{Command, Event};
use channel::forward::Internal;
use channel::ids::OwnerId;

use journal::MachineId;

use crate::limits;
use crate::machine::MachineLog;
use crate::outlet::ChainRequest;
use crate::release::Outgoing;
use crate::shard::Shard;
use crate::table::{Hosted, SlotId};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// Journaled and applied.
    Applied,
    /// A repeat; nothing was journaled.
    Nothing,
    /// The counterparty broke the protocol: the channel failed.
    Violated,
}

impl Shard {
    /// Checks an event and applies the input it gives. `Err`: refused, nothing changed.
    pub(crate) fn submit(&mut self, slot: SlotId, event: Event) -> Result<Submitted, Refusal> {
        let hosted = self.table.get(slot);
        tracing::trace!(
            target: crate::EVENTS_TARGET,
            owner = hosted.channel.owner().0,
            phase = hosted.channel.phase_name(),
            event = event.name(),
        );
        match hosted.channel.check(event, &self.env.context()) {
            Ok(Checked::Input(input)) => {
                self.apply(slot, &input);
                Ok(Submitted::Applied)
            }
            Ok(Checked::Repeat(effect)) => {
                self.perform(slot, effect);
                Ok(Submitted::Nothing)
            }
            Ok(Checked::Nothing) => Ok(Submitted::Nothing),
            Err(Rejection::Refusal(refusal)) => {
                self.load.refusals += 1;
                Err(refusal)
            }
            Err(Rejection::Violation(violation)) => {
                self.load.violations += 1;
                let hosted = self.table.get(slot);
                tracing::warn!(channel = %hosted.channel_id, %violation, "the counterparty broke the protocol");
                let input = hosted.channel.violated(violation);
                // The channel itself tells the peer, once its failure is durable.
                self.apply(slot, &input);
                Ok(Submitted::Violated)
            }
        }
    }

    /// Journals the input in this turn's batch, applies it and performs its effects.
    fn apply(&mut self, slot: SlotId, input: &Input) {
        let hosted = self.table.get_mut(slot);
        hosted.log.record(&mut self.turn.batch, |out| input.encode(out));
        self.load.inputs += 1;
        let mut effects = std::mem::take(&mut self.turn.effects);
        hosted.channel.apply(input, &mut effects);
        self.touch(slot);
        for effect in effects.drain(..) {
            self.perform(slot, effect);
        }
        self.turn.effects = effects;
    }

    /// Hosts the channel that its first input makes.
    pub(crate) fn begin_channel(&mut self, owner: OwnerId, input: &Input) -> SlotId {
        let mut effects = std::mem::take(&mut self.turn.effects);
        let channel = Channel::from_first(input, &mut effects)
            .expect("check_open, check_accept and check_recovered give nothing but first inputs");
        let mut hosted = Hosted::new(channel, MachineLog::new(MachineId(owner.0)));
        hosted.proven_current = true;
        hosted.log.record(&mut self.turn.batch, |out| input.encode(out));
        self.load.inputs += 1;
        let slot = self.table.insert(hosted);
        self.touch(slot);
        for effect in effects.drain(..) {
            self.perform(slot, effect);
        }
        self.turn.effects = effects;
        slot
    }

    fn touch(&mut self, slot: SlotId) {
        let hosted = self.table.get_mut(slot);
        if !hosted.touched {
            hosted.touched = true;
            self.turn.touched.push(slot);
        }
        if !hosted.unsigned {
            hosted.unsigned = true;
            self.turn.unsigned.push(slot);
        }
    }

    /// Natural batching: every channel with pending updates and no round under way signs once, for all of them.
    pub(crate) fn sign(&mut self) {
        let mut slots = std::mem::take(&mut self.turn.unsigned);
        for slot in slots.drain(..) {
            let wants = self.table.get(slot).channel.wants_to_sign();
            if wants {
                // The mark stays during this input, so that the channel is not listed again by its own signing.
                if let Err(refusal) = self.submit(slot, Event::Command(Command::SignNow)) {
                    tracing::debug!(%refusal, "a channel that wanted to sign may not");
                }
            }
            self.table.get_mut(slot).unsigned = false;
        }
        // Signing lists no channel (each was marked), so the emptied buffer can be put back.
        debug_assert!(self.turn.unsigned.is_empty());
        self.turn.unsigned = slots;
    }

    /// Sends an effect on its way: into the batch, to another owner, or to wait for the disk.
    pub(crate) fn perform(&mut self, slot: SlotId, effect: Effect) {
        let hosted = self.table.get_mut(slot);
        let owner = hosted.owner;
        let request = match effect {
            Effect::Send(to_send) => {
                match hosted.channel.session() {
                    Some(session) => self.turn.pending.push(Outgoing::Send { slot, session, to_send }),
                    None => self.load.unsent += 1,
                }
                return;
            }
            Effect::Internal { to, message } => return self.route(to, message),
            Effect::LogRevoked { number, htlcs } => {
                self.log_revoked(owner, number, htlcs);
                return;
            }
            Effect::Report(report) => {
                hosted.proven_current |= report == Report::Reestablished;
                if let Report::Failed { cause } = &report
                    && cause.proves_old_data()
                {
                    let request = ChainRequest::ProvenBehind;
                    self.turn.pending.push(Outgoing::Chain { owner, request });
                }
                self.turn.events.add(self.turn.now_ms, hosted.about(), report);
                return;
            }
            Effect::PlanChanged => {
                self.turn.pending.push(Outgoing::Plan { slot });
                return;
            }
            Effect::Finished => {
                if !hosted.ended {
                    hosted.ended = true;
                    self.turn.ended.push(slot);
                }
                return;
            }
            Effect::TicketReady => match hosted.channel.ticket() {
                Some(ticket) => ChainRequest::TicketReady(Box::new(ticket)),
                None => return,
            },
            Effect::BuildFunding { script, amount, reserve_coin } => {
                ChainRequest::BuildFunding { script, amount, reserve_coin }
            }
            Effect::WatchFunding { outpoint, script, amount, minimum_depth } => {
                ChainRequest::WatchFunding { outpoint, script, amount, minimum_depth }
            }
            Effect::BroadcastFunding { transaction } => ChainRequest::BroadcastFunding { transaction },
            Effect::ReleaseCoins { transaction } => ChainRequest::ReleaseCoins { transaction },
            Effect::ClosingHandedOver { transaction, publish_by_height } => {
                ChainRequest::ClosingHandedOver { transaction, publish_by_height }
            }
        };
        self.turn.pending.push(Outgoing::Chain { owner, request });
    }

    /// To an owner here, in this turn; or elsewhere, after the append.
    pub(crate) fn route(&mut self, to: OwnerId, message: Internal) {
        if self.table.by_owner(to).is_some() || self.quarantine.contains_key(&to) {
            self.turn.local.push_back((to, message));
        } else {
            self.turn.remote.push((to, message));
        }
    }
}

/// Cuts a text for the peer to the length we allow ourselves.
pub(crate) fn error_text(text: &str) -> String {
    let mut end = text.len().min(limits::MAX_ERROR_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
