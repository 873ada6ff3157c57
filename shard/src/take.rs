//! Taking mail: sessions, peers' messages, commands, reads.

use channel::channel::{Channel, PhaseView};
use channel::error::{Refusal, Rejection};
use channel::event::{AbortReason, AcceptRequest, ChainEvent, Command, Event, OpenRequest, RecoverRequest};
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use channel::message::{Essentials, Message, OpenChannel};
use journal::Position;

use crate::apply::error_text;
use crate::limits;
use crate::mail::{Mail, Refused, Reply, ReplyTo};
use crate::outlet::PeerRefusal;
use crate::release::Outgoing;
use crate::shard::{Run, Shard};
use crate::table::SlotId;

impl Shard {
    pub(crate) fn take(&mut self, mail: Mail) {
        if self.run == Run::Stopping {
            return self.take_while_stopping(mail);
        }
        match mail {
            Mail::Open { request, reply } => {
                let answer = match self.open(request) {
                    Ok((owner, channel_id)) => Reply::Opened { owner, channel_id },
                    Err(refused) => Reply::Refused(refused),
                };
                self.reply(reply, answer);
            }
            Mail::Accept { request, message } => self.accept(request, *message),
            Mail::Recover { request, essentials } => self.recover_channel(request, &essentials),
            Mail::Peer { session, node, channel, messages, credit } => {
                self.peer(session, &node, channel, messages);
                drop(credit);
            }
            Mail::Command { owner, command, reply } => {
                let answer = match self.command(owner, command) {
                    Ok(()) => Reply::Done,
                    Err(refused) => Reply::Refused(refused),
                };
                self.reply(reply, answer);
            }
            Mail::Internal { to, message } => self.turn.local.push_back((to, message)),
            Mail::SessionUp { node, session } => self.session_up(node, session),
            Mail::SessionDown { session } => self.session_down(session),
            Mail::Chain { events } => {
                for (owner, event) in events {
                    self.chain(owner, event);
                }
            }
            Mail::Height(height) => self.height(height),
            Mail::Read { query, reply } => {
                let answer = self.read(query);
                self.reply(Some(reply), Reply::Answer(answer));
            }
            Mail::SnapshotNow(owner) => self.queue_snapshot(owner),
            Mail::Durable(position) => self.durable_up_to(position),
            Mail::Policy(policy) => self.env.policy = *policy,
            Mail::Stop => self.stop(),
        }
    }

    /// Only the disk's progress counts still; whoever asks for something is told. Messages between owners are dropped: every
    /// start repeats them.
    fn take_while_stopping(&mut self, mail: Mail) {
        match mail {
            Mail::Open { reply, .. } | Mail::Command { reply, .. } => {
                self.reply(reply, Reply::Refused(Refused::Stopping));
            }
            Mail::Read { reply, .. } => self.reply(Some(reply), Reply::Refused(Refused::Stopping)),
            Mail::Durable(position) => self.durable_up_to(position),
            Mail::Accept { .. }
            | Mail::Recover { .. }
            | Mail::Peer { .. }
            | Mail::Internal { .. }
            | Mail::SessionUp { .. }
            | Mail::SessionDown { .. }
            | Mail::Chain { .. }
            | Mail::Height(_)
            | Mail::SnapshotNow(_)
            | Mail::Policy(_)
            | Mail::Stop => {}
        }
    }

    /// Answers once this turn's batch is durable.
    fn reply(&mut self, to: Option<ReplyTo>, reply: Reply) {
        if let Some(to) = to {
            self.turn.pending.push(Outgoing::Reply { to, reply });
        }
    }

    fn open(&mut self, request: OpenRequest) -> Result<(OwnerId, ChannelId), Refused> {
        let (owner, channel_id, node) = (request.owner, request.channel_id, request.counterparty_node);
        self.may_begin(owner, channel_id, node, request.session)?;
        let input = Channel::check_open(request, &self.env.context())?;
        self.begin_channel(owner, &input);
        Ok((owner, channel_id))
    }

    fn accept(&mut self, request: AcceptRequest, message: OpenChannel) {
        let (owner, channel, session) = (request.owner, request.channel_id, request.session);
        let allowed = self.may_begin(owner, channel, request.counterparty_node, session);
        let input = allowed.and_then(|()| Ok(Channel::check_accept(request, &message, &self.env.context())?));
        match input {
            Ok(input) => {
                self.begin_channel(owner, &input);
            }
            Err(refused) => self.refuse_peer(session, channel, refused.into()),
        }
    }

    fn recover_channel(&mut self, request: RecoverRequest, essentials: &Essentials) {
        let (owner, channel, session) = (request.owner, request.channel_id, request.session);
        let allowed = self.may_begin(owner, channel, request.counterparty_node, session);
        let input =
            allowed.and_then(|()| Ok(Channel::check_recovered(request, essentials, &self.env.context())?));
        match input {
            Ok(input) => {
                tracing::warn!(%channel, "a channel that this side lost is made again: the peer is asked to close it");
                let slot = self.begin_channel(owner, &input);
                // Nobody knows less of a channel than who lost it.
                self.table.get_mut(slot).proven_current = false;
            }
            Err(refused) => self.refuse_peer(session, channel, refused.into()),
        }
    }

    /// Whether a channel of these names may begin.
    fn may_begin(
        &self,
        owner: OwnerId,
        channel_id: ChannelId,
        node: Point,
        session: SessionId,
    ) -> Result<(), Refused> {
        if !self.table.is_current(&node, session) {
            return Err(Refused::NotConnected(session));
        }
        if self.quarantine.contains_key(&owner) {
            return Err(Refused::OwnerExists(owner));
        }
        if self.quarantined_by_id(&channel_id).is_some() {
            return Err(Refused::ChannelExists(channel_id));
        }
        self.table.room_for(owner, &channel_id, &node)
    }

    fn peer(&mut self, session: SessionId, node: &Point, channel: ChannelId, messages: Vec<Message>) {
        self.turn.work += messages.len();
        self.load.messages += messages.len() as u64;
        if !self.table.is_current(node, session) {
            self.load.late_messages += messages.len() as u64;
            return;
        }
        let slot = match self.slot_for_peer(&channel, node) {
            Ok(slot) => slot,
            Err(why) => {
                // An error is never answered by an error: two ends that both forgot a channel would go on for ever.
                let only_errors = messages.iter().all(|m| matches!(m, Message::ChannelError { .. }));
                if !only_errors {
                    self.refuse_peer(session, channel, why);
                }
                return;
            }
        };
        for message in messages {
            if self.table.get(slot).channel.session() != Some(session) {
                self.load.late_messages += 1;
                continue;
            }
            if let Err(refusal) = self.submit(slot, Event::Message(message)) {
                let why = PeerRefusal::Refused(Rejection::Refusal(refusal).into());
                self.turn.pending.push(Outgoing::PeerRefused { session, channel, why });
                // What the peer sent after it may rest on it: the connection is over for this channel, and the next one
                // starts from what both have.
                self.disconnect(slot);
            }
        }
    }

    fn slot_for_peer(&self, channel: &ChannelId, node: &Point) -> Result<SlotId, PeerRefusal> {
        if let Some(quarantined) = self.quarantined_by_id(channel) {
            return Err(Refused::Quarantined { why: quarantined.why.clone() }.into());
        }
        let slot = self.table.by_id(channel).ok_or(PeerRefusal::UnknownChannel)?;
        if self.table.get(slot).node != *node {
            return Err(PeerRefusal::NotYours);
        }
        Ok(slot)
    }

    /// Tells the peer, about a channel that is not (or not its) here, and the host. A peer is not told whether a
    /// channel of somebody else exists.
    fn refuse_peer(&mut self, session: SessionId, channel: ChannelId, why: PeerRefusal) {
        self.load.refusals += 1;
        let text = match &why {
            PeerRefusal::UnknownChannel | PeerRefusal::NotYours => PeerRefusal::UnknownChannel.to_string(),
            PeerRefusal::Refused(refused) => refused.to_string(),
        };
        // What was set aside is never published, like what was lost.
        let cannot_publish = matches!(&why, PeerRefusal::Refused(Refused::Quarantined { .. }));
        let message = Box::new(Message::ChannelError { text: error_text(&text), cannot_publish });
        self.turn.pending.push(Outgoing::Tell { session, channel, message });
        self.turn.pending.push(Outgoing::PeerRefused { session, channel, why });
    }

    fn command(&mut self, owner: OwnerId, command: Command) -> Result<(), Refused> {
        match &command {
            Command::Connected { .. }
            | Command::Disconnected
            | Command::SignNow
            | Command::Offer(_)
            | Command::Result { .. }
            | Command::Ack { .. } => return Err(Refused::NotForHosts),
            Command::FundingBuilt { .. }
            | Command::AbortOpening { .. }
            | Command::Shutdown { .. }
            | Command::ProposeTerms(_)
            | Command::Fail { .. }
            | Command::ClosingPublished { .. }
            | Command::Chain(_) => {}
        }
        if let Some(quarantined) = self.quarantine.get(&owner) {
            return Err(Refused::Quarantined { why: quarantined.why.clone() });
        }
        let slot = self.table.by_owner(owner).ok_or(Refused::UnknownOwner(owner))?;
        match command {
            Command::Chain(event) => self.chain_event(slot, event).map_err(Rejection::Refusal)?,
            command => {
                self.submit(slot, Event::Command(command)).map_err(Rejection::Refusal)?;
            }
        }
        Ok(())
    }

    fn session_up(&mut self, node: Point, session: SessionId) {
        if let Err(refused) = self.table.begin_session(node, session) {
            self.load.refusals += 1;
            tracing::debug!(%refused, "a session did not begin");
            return;
        }
        for slot in self.table.of_node(&node, None).collect::<Vec<_>>() {
            self.disconnect(slot);
            if let Err(refusal) = self.submit(slot, Event::Command(Command::Connected { session })) {
                tracing::debug!(%refusal, "a channel has nothing to say to its peer");
            }
        }
    }

    fn session_down(&mut self, session: SessionId) {
        let Some(node) = self.table.end_session(session) else { return };
        for slot in self.table.of_node(&node, None).collect::<Vec<_>>() {
            self.disconnect(slot);
        }
    }

    /// Tells a connected channel that it is not any more.
    pub(crate) fn disconnect(&mut self, slot: SlotId) {
        if self.table.get(slot).channel.session().is_none() {
            return;
        }
        if let Err(refusal) = self.submit(slot, Event::Command(Command::Disconnected)) {
            tracing::debug!(%refusal, "a channel took no notice of its disconnection");
        }
    }

    fn chain(&mut self, owner: OwnerId, event: ChainEvent) {
        let Some(slot) = self.table.by_owner(owner) else {
            tracing::debug!(owner = owner.0, "the chain's news are for a channel that is gone");
            return;
        };
        if let Err(refusal) = self.chain_event(slot, event) {
            tracing::debug!(owner = owner.0, %refusal, "a channel took no notice of the chain's news");
        }
    }

    fn chain_event(&mut self, slot: SlotId, event: ChainEvent) -> Result<(), Refusal> {
        match self.informed(slot, event) {
            Ok(event) => self.submit(slot, Event::Command(Command::Chain(event))).map(|_| ()),
            Err(error) => {
                self.turn.unread = Some(error);
                Ok(())
            }
        }
    }

    fn durable_up_to(&mut self, position: Position) {
        self.durable = self.durable.max(position);
        self.fresh.durable(self.durable);
    }

    fn height(&mut self, height: u32) {
        self.env.height = height;
        for owner in self.table.due(height) {
            let Some(slot) = self.table.by_owner(owner) else { continue };
            let hosted = self.table.get(slot);
            if hosted.opening_until.is_none() {
                self.meet_deadlines(slot, height);
            } else if hosted.channel.phase() == PhaseView::Opening {
                self.give_up_opening(slot);
            }
        }
    }

    /// A deadline is for one thing, and others may be due at the same height: an HTLC is given up, and offers are late as well.
    fn meet_deadlines(&mut self, slot: SlotId, height: u32) {
        for _ in 0..limits::DEADLINES_AT_ONCE {
            let due = self.table.get(slot).channel.next_deadline();
            if due.is_none_or(|due| due > height) {
                return;
            }
            if let Err(refusal) = self.chain_event(slot, ChainEvent::Deadline { height }) {
                tracing::debug!(%refusal, "a channel took no notice of a deadline");
                return;
            }
        }
    }

    /// Nothing is signed that the peer could use: the funder's coins are free again.
    fn give_up_opening(&mut self, slot: SlotId) {
        let abort = Command::AbortOpening { why: AbortReason::TimedOut };
        if let Err(refusal) = self.submit(slot, Event::Command(abort)) {
            tracing::debug!(%refusal, "an opening goes on");
        }
    }
}
