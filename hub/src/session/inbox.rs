//! Where a frame's contents go: channels to their shards, everything else to the control thread.
//!
//! Only what concerns the connection itself is judged here (whose channel, how many openings); the shards judge the rest.

use std::collections::HashMap;
use std::sync::Arc;

use channel::amount::Msat;
use channel::bytes::KeyId;
use channel::event::{AcceptRequest, Role};
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use channel::message::Message;
use daemon::world::World;
use proto::error::ErrorCode;
use proto::frame::Contents;
use shard::{Credit, Mail};
use tokio::time::Instant;

use crate::control::ControlMail;
use crate::directory::{Directory, Place};
use crate::limits::MAX_UNFUNDED;
use crate::mailboxes::Mailboxes;
use crate::router::Gate;

use super::outgoing::{Ending, Outgoing, ToWallet};
use super::registry::Sessions;

/// What sorting a wallet's mail needs of the hub.
#[derive(Debug, Clone)]
pub struct InboxSetup {
    pub mailboxes: Mailboxes,
    pub directory: Arc<Directory>,
    pub sessions: Arc<Sessions>,
    pub gate: Arc<Gate>,
    pub max_channels_per_wallet: usize,
    pub world: World,
}

/// Sorts one session's mail.
pub struct Inbox<'a> {
    setup: &'a InboxSetup,
    session: SessionId,
    node: Point,
    outgoing: Outgoing,
    /// The owners of channels this session has talked about.
    known: HashMap<ChannelId, OwnerId>,
}

impl<'a> Inbox<'a> {
    pub fn new(setup: &'a InboxSetup, session: SessionId, node: Point, outgoing: Outgoing) -> Self {
        Inbox { setup, session, node, outgoing, known: HashMap::new() }
    }

    /// Delivers a frame's contents in order, channels first. `credit` makes the room that `count` messages take.
    pub fn deliver(
        &mut self,
        contents: Contents,
        mut credit: impl FnMut(usize) -> Credit,
    ) -> Result<(), Ending> {
        let Contents { channels, relays, inbound_requests, inbound_replies, ping, pong: _ } = contents;
        if !inbound_replies.is_empty() {
            return Err(Ending::new(
                ErrorCode::FrameMalformed,
                "inbound_replies come from the hub, never to it",
            ));
        }
        for (channel, messages) in channels {
            let credit = credit(messages.len());
            self.channel(channel, messages, credit)?;
        }
        let (session, node) = (self.session, self.node);
        for relay in relays {
            let credit = credit(1);
            self.setup.mailboxes.control(ControlMail::Relay { session, node, relay, credit });
        }
        for request in inbound_requests {
            let credit = credit(1);
            self.setup.mailboxes.control(ControlMail::Inbound { session, node, request, credit });
        }
        if let Some(nonce) = ping {
            self.outgoing.send(ToWallet::Pong(nonce));
        }
        Ok(())
    }

    fn channel(&mut self, channel: ChannelId, messages: Vec<Message>, credit: Credit) -> Result<(), Ending> {
        if messages.is_empty() {
            return Ok(());
        }
        let opens = matches!(messages.first(), Some(Message::OpenChannel(_)));
        let owner = match self.known.get(&channel) {
            Some(owner) if !opens => Some(*owner),
            _ => self.look_up(channel)?,
        };
        match owner {
            Some(owner) => {
                self.known.insert(channel, owner);
                self.to_shard(owner, channel, messages, credit);
                Ok(())
            }
            None if opens => self.open(channel, messages, credit),
            None => {
                // A channel this hub has forgotten, or never had: any shard tells the wallet so.
                self.known.remove(&channel);
                self.to_shard(OwnerId(0), channel, messages, credit);
                Ok(())
            }
        }
    }

    fn look_up(&self, channel: ChannelId) -> Result<Option<OwnerId>, Ending> {
        match self.setup.directory.place(&channel) {
            None => Ok(None),
            Some(place) if place.node == self.node => Ok(Some(place.owner)),
            Some(_) => {
                let text = format!("channel {channel} belongs to another node");
                Err(Ending::new(ErrorCode::NotYourChannel, text))
            }
        }
    }

    /// The wallet proposes a channel: a number, a place, a shard.
    fn open(&mut self, channel: ChannelId, mut messages: Vec<Message>, credit: Credit) -> Result<(), Ending> {
        let owner = match self.may_open(channel) {
            Ok(owner) => owner,
            Err(text) => {
                let refusal = Message::ChannelError { text, cannot_publish: false };
                self.outgoing.send(ToWallet::Channels(vec![(channel, vec![refusal])]));
                return Ok(());
            }
        };
        let rest = messages.split_off(1);
        let Some(Message::OpenChannel(message)) = messages.pop() else {
            return Ok(());
        };
        let request = AcceptRequest {
            owner,
            channel_id: channel,
            role: Role::Hub,
            counterparty_node: self.node,
            key_id: KeyId::from_bytes(self.setup.world.random()),
            // A hub that has no coins of its own accepts none from wallets.
            reserve_script: bitcoin::ScriptBuf::new(),
            // Nor does it pay wallets for channels.
            max_price_msat: Msat::ZERO,
            session: self.session,
        };
        self.known.insert(channel, owner);
        self.setup.mailboxes.owner(owner, Mail::Accept { request, message });
        if !rest.is_empty() {
            self.to_shard(owner, channel, rest, credit);
        }
        Ok(())
    }

    /// The hub's own reasons against one more channel of this wallet; the channel has its own.
    fn may_open(&self, channel: ChannelId) -> Result<OwnerId, String> {
        if self.setup.gate.is_shut() {
            return Err("the hub's disk is nearly full: no new channels for now".into());
        }
        if !self.setup.sessions.may_open(self.node, Instant::now()) {
            return Err("too many openings in this hour (wallets.opens_per_hour): try again later".into());
        }
        let owner = self.setup.mailboxes.placement().place().map_err(|error| error.to_string())?;
        let place = Place { owner, node: self.node, hosted: false };
        let maximum = self.setup.max_channels_per_wallet;
        let taken = self.setup.directory.propose(channel, place, maximum, MAX_UNFUNDED);
        taken.map_err(|taken| taken.to_string())?;
        Ok(owner)
    }

    fn to_shard(&self, owner: OwnerId, channel: ChannelId, messages: Vec<Message>, credit: Credit) {
        let (session, node) = (self.session, self.node);
        self.setup.mailboxes.owner(owner, Mail::Peer { session, node, channel, messages, credit });
    }
}

#[cfg(test)]
mod tests;
