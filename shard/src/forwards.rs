//! Messages between owners: the four steps of a forward (DESIGN section 7) as far as they touch this shard.

use channel::bug::{self, Bug};
use channel::error::Refusal;
use channel::event::{Command, Event};
use channel::failure::FailureReason;
use channel::forward::{ForwardResult, Internal};
use channel::ids::OwnerId;

use crate::shard::Shard;

impl Shard {
    /// Delivers a message to a channel here, or answers for one that is gone.
    pub(crate) fn internal(&mut self, to: OwnerId, message: Internal) {
        self.load.internals += 1;
        let Some(slot) = self.table.by_owner(to) else {
            // A channel whose records do not fold may owe money either way: it is never answered for.
            if !self.quarantine.contains_key(&to) {
                self.answer_for_gone(to, message);
            }
            return;
        };
        let command = match message {
            Internal::Offer(offer) => Command::Offer(offer),
            Internal::Result { key, from, result } => Command::Result { key, from, result },
            Internal::Ack { .. } if bug::is(Bug::AcknowledgementForgotten) => return,
            Internal::Ack { key } => Command::Ack { key },
        };
        if let Err(refusal) = self.submit(slot, Event::Command(command)) {
            refused(to, &refusal);
        }
    }

    /// A channel ends only when it owes no result and holds no HTLC, and its number is never used again: so an offer was and
    /// will be asked of nobody, and a result is for an HTLC that is gone.
    fn answer_for_gone(&mut self, gone: OwnerId, message: Internal) {
        match message {
            Internal::Offer(offer) => {
                let result = ForwardResult::Failed { reason: FailureReason::ChannelUnavailable };
                self.route(offer.key.incoming, Internal::Result { key: offer.key, from: gone, result });
            }
            Internal::Result { key, from, result: _ } => self.route(from, Internal::Ack { key }),
            Internal::Ack { key: _ } => {}
        }
    }
}

/// Channels answer offers and results by inputs, never by refusals: a refusal here leaves a forward waiting for the next start.
fn refused(to: OwnerId, refusal: &Refusal) {
    tracing::error!(owner = to.0, %refusal, "a forward's message was refused");
}
