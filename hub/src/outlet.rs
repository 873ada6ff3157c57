//! What a shard hands out, delivered: frames to sessions, messages to other shards, requests to the chain.

use std::collections::HashMap;
use std::sync::Arc;

use channel::forward::Internal;
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::message::Message;
use proto::error::ErrorCode;
use shard::{ChainRequest, DirectoryEntry, Mail, Outlet, PeerRefusal, Refused};
use tokio::sync::mpsc;
use tracing::debug;

use crate::chain::ToDesk;
use crate::control::ControlMail;
use crate::directory::Directory;
use crate::mailboxes::Mailboxes;
use crate::session::{Ending, Outgoing, Sessions, ToWallet};

/// Ended sessions whose senders are still in the cache before it is swept.
const CACHE_SWEEP: usize = 1_024;

/// Messages of several channels, in order.
type Messages = Vec<(ChannelId, Vec<Message>)>;

/// One shard's outlet.
#[derive(Debug)]
pub struct HubOutlet {
    shard: usize,
    mailboxes: Mailboxes,
    directory: Arc<Directory>,
    sessions: Arc<Sessions>,
    chain: mpsc::UnboundedSender<ToDesk>,
    /// Senders of sessions this shard has sent to, so that a release takes no lock.
    senders: HashMap<SessionId, Outgoing>,
    /// The release under way, by session, in the order of the first message of each.
    releasing: HashMap<SessionId, usize>,
    released: Vec<(SessionId, Messages)>,
}

impl HubOutlet {
    pub fn new(
        shard: usize,
        mailboxes: Mailboxes,
        directory: Arc<Directory>,
        sessions: Arc<Sessions>,
        chain: mpsc::UnboundedSender<ToDesk>,
    ) -> Self {
        HubOutlet {
            shard,
            mailboxes,
            directory,
            sessions,
            chain,
            senders: HashMap::new(),
            releasing: HashMap::new(),
            released: Vec::new(),
        }
    }

    fn sender(&mut self, session: SessionId) -> Option<&Outgoing> {
        if self.senders.len() >= CACHE_SWEEP {
            self.senders.retain(|_, sender| !sender.is_ended());
        }
        match self.senders.entry(session) {
            std::collections::hash_map::Entry::Occupied(entry) => Some(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                self.sessions.outgoing(session).map(|outgoing| &*entry.insert(outgoing))
            }
        }
    }

    fn end_session(&mut self, session: SessionId, code: ErrorCode, text: String) {
        if let Some(sender) = self.sender(session) {
            sender.end(Ending::new(code, text));
        }
    }
}

impl Outlet for HubOutlet {
    fn send(&mut self, session: SessionId, channel: ChannelId, messages: Vec<Message>) {
        match self.releasing.get(&session) {
            Some(at) => self.released[*at].1.push((channel, messages)),
            None => {
                self.releasing.insert(session, self.released.len());
                self.released.push((session, vec![(channel, messages)]));
            }
        }
    }

    fn internal(&mut self, to: OwnerId, message: Internal) {
        self.mailboxes.owner(to, Mail::Internal { to, message });
    }

    fn chain(&mut self, owner: OwnerId, request: ChainRequest) {
        // The desk's side is gone only when the process stops; channels ask again after the start.
        let _ = self.chain.send(ToDesk::Request(owner, request));
    }

    fn publish(&mut self, entry: DirectoryEntry) {
        self.directory.publish(&entry);
    }

    fn peer_refused(&mut self, session: SessionId, channel: ChannelId, why: PeerRefusal) {
        debug!(%channel, session = session.0, %why, "a peer's message was refused");
        match &why {
            // The shard told the wallet; there is nothing more to say.
            PeerRefusal::UnknownChannel => {}
            PeerRefusal::NotYours => self.end_session(session, ErrorCode::NotYourChannel, why.to_string()),
            PeerRefusal::Refused(refused) => {
                if self.directory.forget_unhosted(&channel, self.shard, self.mailboxes.placement()) {
                    // A proposal that was refused: the channel never was, the others of the session go on.
                    return;
                }
                if let Refused::Rejected(_) = refused {
                    let text = format!("channel {channel}: {why}");
                    self.end_session(session, ErrorCode::ChannelRefused, text);
                }
            }
        }
    }

    fn finished(&mut self, owner: OwnerId, channel: ChannelId) {
        self.mailboxes.control(ControlMail::Finished { owner, channel });
        let _ = self.chain.send(ToDesk::Forget(owner));
    }

    fn flush(&mut self) {
        self.releasing.clear();
        for (session, channels) in std::mem::take(&mut self.released) {
            if let Some(sender) = self.sender(session) {
                sender.send(ToWallet::Channels(channels));
            }
        }
    }
}
