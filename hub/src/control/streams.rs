//! Streams: wallets agree on them end to end, the hub remembers who pays whom, so that it can route the ticks.

use channel::ids::{SessionId, StreamId};
use channel::keys::Point;
use proto::hub::v1::StreamRefusal;
use proto::relay::{Relay, RelayKind, StreamTerms};

use crate::events::HubHappening;
use crate::session::ToWallet;

use super::registry::{Input, RegistryError, Stream};
use super::thread::Control;

impl Control {
    pub(super) fn relay(&mut self, session: SessionId, from: Point, relay: Relay) {
        if self.setup.sessions.session_of(&from) != Some(session) {
            return;
        }
        let id = relay.stream;
        match &relay.kind {
            RelayKind::Open(terms) => {
                let payee = terms.payee;
                // Payers repeat a proposal until it is accepted, and to ask for the last receipt: a repeat is passed on.
                let known = self.registry.streams().get(&id);
                let repeat = known.is_some_and(|known| known.payer == from && known.payee == payee);
                if !repeat && let Err((reason, text)) = self.open_stream(from, id, terms) {
                    let refusal = Relay { stream: id, kind: RelayKind::Refuse { reason, text } };
                    self.tell_node(&from, refusal);
                    return;
                }
                self.tell_node(&payee, relay);
            }
            RelayKind::Accept | RelayKind::Receipt(_) => {
                // Only the payee accepts and signs receipts.
                let Ok(stream) = self.registry.stream_of(id, &from) else { return };
                if stream.payee != from {
                    return;
                }
                if matches!(relay.kind, RelayKind::Accept) && !stream.accepted {
                    self.journal(Input::StreamAccepted { id });
                    let Stream { payer, payee, .. } = stream;
                    self.event(HubHappening::StreamAgreed { stream: id, payer, payee });
                }
                self.heard.insert(id, self.turn.now_ms);
                self.tell_node(&stream.payer, relay);
            }
            RelayKind::Refuse { .. } | RelayKind::End { .. } => {
                let Ok(stream) = self.registry.stream_of(id, &from) else { return };
                let other = if stream.payer == from { stream.payee } else { stream.payer };
                self.end_stream(id, stream);
                self.tell_node(&other, relay);
            }
        }
    }

    fn open_stream(
        &mut self,
        from: Point,
        id: StreamId,
        terms: &StreamTerms,
    ) -> Result<(), (StreamRefusal, String)> {
        let refuse = |reason: StreamRefusal, text: &str| Err((reason, text.to_owned()));
        if terms.payer != from {
            return refuse(StreamRefusal::BadTerms, "the payer named is not the wallet that asks");
        }
        if terms.payee == from {
            return refuse(StreamRefusal::BadTerms, "payer and payee are the same wallet");
        }
        if self.setup.gate.is_shut() {
            return refuse(StreamRefusal::TooMany, "the hub's disk is nearly full: no new streams for now");
        }
        // Node keys cost nothing, channels do: without one a stranger could fill the hub's and everybody's lists of streams.
        if self.setup.directory.channels_of(&from) == 0 {
            return refuse(StreamRefusal::BadTerms, "the payer has no channel with the hub");
        }
        if self.setup.directory.channels_of(&terms.payee) == 0 {
            return refuse(StreamRefusal::UnknownRecipient, "the hub has no channel with the payee");
        }
        if self.setup.sessions.session_of(&terms.payee).is_none() {
            return refuse(StreamRefusal::RecipientOffline, "the payee is not connected");
        }
        let stream = Stream { payer: from, payee: terms.payee, accepted: false, opened_ms: self.turn.now_ms };
        match self.registry.check_stream(id, stream, self.setup.streams.max_per_wallet) {
            Ok(input) => {
                self.journal(input);
                self.setup.directory.add_stream(id, terms.payee);
                Ok(())
            }
            Err(error) => {
                let reason = match error {
                    RegistryError::StreamExists | RegistryError::NoSuchStream => StreamRefusal::Duplicate,
                    RegistryError::TooManyStreams { .. }
                    | RegistryError::HubFull { .. }
                    | RegistryError::TooManyRequests { .. }
                    | RegistryError::TooManyInbound { .. }
                    | RegistryError::TooMuchInbound { .. } => StreamRefusal::TooMany,
                };
                Err((reason, error.to_string()))
            }
        }
    }

    fn end_stream(&mut self, id: StreamId, stream: Stream) {
        self.journal(Input::StreamEnded { id });
        self.setup.directory.remove_stream(&id);
        self.heard.remove(&id);
        if stream.accepted {
            let Stream { payer, payee, .. } = stream;
            self.event(HubHappening::StreamEnded { stream: id, payer, payee });
        }
    }

    /// Streams that nobody spoke of for long are forgotten; both ends are told.
    pub(super) fn end_idle_streams(&mut self) {
        let idle_ms = self.setup.streams.idle_seconds.saturating_mul(1000);
        let now_ms = self.turn.now_ms;
        let idle: Vec<(StreamId, Stream)> = self
            .registry
            .streams()
            .iter()
            .filter(|(id, stream)| {
                // A hub that was down heard nothing, which says nothing about the stream.
                let heard = self.heard.get(*id).copied().unwrap_or(stream.opened_ms.max(self.began_ms));
                now_ms.saturating_sub(heard) > idle_ms
            })
            .map(|(id, stream)| (*id, *stream))
            .collect();
        for (id, stream) in idle {
            self.end_stream(id, stream);
            let text = "the hub forgot the stream because nothing was heard of it (streams.idle_seconds)";
            for node in [stream.payer, stream.payee] {
                self.tell_node(&node, Relay { stream: id, kind: RelayKind::End { text: text.to_owned() } });
            }
        }
    }

    fn tell_node(&mut self, node: &Point, relay: Relay) {
        let to = self.setup.sessions.outgoing_to(node);
        self.tell(to, ToWallet::Relay(relay));
    }
}
