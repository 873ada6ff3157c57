//! Handing out what is durable. Signing happens here, after the fsync; messages of one channel leave together.

use channel::bug::{self, Bug};
use channel::effect::ToSend;
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::message::Message;

use crate::mail::{Reply, ReplyTo};
use crate::outlet::{ChainRequest, Outlet, PeerRefusal};
use crate::shard::Shard;
use crate::table::SlotId;

/// Something that waits for the disk.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A hosted channel's message; made, and signed if need be, at release.
    Send {
        slot: SlotId,
        session: SessionId,
        to_send: ToSend,
    },
    /// To a peer about a channel that is not hosted here.
    Tell {
        session: SessionId,
        channel: ChannelId,
        message: Box<Message>,
    },
    Chain {
        owner: OwnerId,
        request: ChainRequest,
    },
    /// What a channel wants done on the chain, signed at release.
    Plan {
        slot: SlotId,
    },
    Reply {
        to: ReplyTo,
        reply: Reply,
    },
    PeerRefused {
        session: SessionId,
        channel: ChannelId,
        why: PeerRefusal,
    },
    /// The channel's end is durable: its slot is free.
    Finished {
        slot: SlotId,
    },
}

impl Shard {
    /// Hands out everything whose position is durable, in order.
    pub(crate) fn release(&mut self, outlet: &mut impl Outlet) {
        let mut released = false;
        let durable = if bug::is(Bug::EffectsBeforeFsync) { self.last } else { self.durable };
        while let Some(item) = self.outbox.pop(durable) {
            released = true;
            self.hand_out(item, outlet);
        }
        let mut slots = std::mem::take(&mut self.releasing);
        for slot in slots.drain(..) {
            self.send_grouped(slot, outlet);
        }
        self.releasing = slots;
        if released {
            outlet.flush();
        }
    }

    fn hand_out(&mut self, item: Outgoing, outlet: &mut impl Outlet) {
        match item {
            Outgoing::Send { slot, session, to_send } => self.group(slot, session, &to_send),
            Outgoing::Tell { session, channel, message } => {
                self.load.sent += 1;
                outlet.send(session, channel, vec![*message]);
            }
            Outgoing::Chain { owner, request } => outlet.chain(owner, request),
            Outgoing::Plan { slot } => {
                let hosted = self.table.get(slot);
                let plan = hosted.onchain_plan(self.env.signer.as_ref());
                outlet.chain(hosted.owner, ChainRequest::Plan(Box::new(plan)));
            }
            Outgoing::Reply { to, reply } => outlet.reply(to, reply),
            Outgoing::PeerRefused { session, channel, why } => outlet.peer_refused(session, channel, why),
            Outgoing::Finished { slot } => {
                self.send_grouped(slot, outlet);
                let hosted = self.table.get(slot);
                outlet.finished(hosted.owner, hosted.channel_id);
                self.table.free(slot);
                self.releasing.retain(|other| *other != slot);
            }
        }
    }

    /// Makes the message and adds it to its channel's group, unless its session ended meanwhile.
    fn group(&mut self, slot: SlotId, session: SessionId, to_send: &ToSend) {
        let hosted = self.table.get_mut(slot);
        if hosted.channel.session() != Some(session) {
            self.load.unsent += 1;
            return;
        }
        let Some(message) = hosted.channel.message(to_send, self.env.signer.as_ref()) else {
            self.load.unsent += 1;
            return;
        };
        self.load.sent += 1;
        if hosted.releasing.is_empty() {
            self.releasing.push(slot);
        }
        hosted.releasing.push(message);
    }

    fn send_grouped(&mut self, slot: SlotId, outlet: &mut impl Outlet) {
        let hosted = self.table.get_mut(slot);
        let messages = std::mem::take(&mut hosted.releasing);
        if let (Some(session), false) = (hosted.channel.session(), messages.is_empty()) {
            outlet.send(session, hosted.channel_id, messages);
        }
    }
}
