//! The channels of a shard and every way to find one. Invariant: the indices name exactly the channels in the slots; each
//! look-up of the hot path is O(1), and every iteration is in the order of the channels' numbers.

use std::collections::{BTreeMap, BTreeSet};

use channel::channel::{Channel, PublishJob};
use channel::claim::OnchainPlan;
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use channel::message::Message;
use channel::signer::Signer;

use crate::events::About;
use crate::limits;
use crate::machine::MachineLog;
use crate::mail::Refused;
use crate::map::{FastMap, Seeded};
use crate::outlet::DirectoryEntry;

/// A place in the table. Valid until the channel's end is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId(usize);

/// A channel and what the shard keeps about it.
#[derive(Debug)]
pub(crate) struct Hosted {
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub node: Point,
    pub channel: Channel,
    pub log: MachineLog,
    /// Already in this turn's list of touched channels.
    pub touched: bool,
    /// Already in the list of channels that may want to sign.
    pub unsigned: bool,
    /// The host was asked for closing terms.
    pub terms_asked: bool,
    /// A snapshot is queued.
    pub snapshot_queued: bool,
    /// The channel said that it ended.
    pub ended: bool,
    /// This is the latest state as far as anybody can know: it was opened in this process's life, or the peer confirmed it
    /// in a reestablish since.
    pub proven_current: bool,
    pub deadline: Option<u32>,
    /// While its opening depends on the peer: the height at which that is given up. Openings end with their sessions, so nothing
    /// of it needs to be remembered.
    pub opening_until: Option<u32>,
    pub published: Option<DirectoryEntry>,
    /// Messages of the release under way, grouped.
    pub releasing: Vec<Message>,
}

impl Hosted {
    pub fn new(channel: Channel, log: MachineLog) -> Self {
        Hosted {
            owner: channel.owner(),
            channel_id: channel.channel_id(),
            node: channel.counterparty_node(),
            channel,
            log,
            touched: false,
            unsigned: false,
            terms_asked: false,
            snapshot_queued: false,
            ended: false,
            proven_current: false,
            deadline: None,
            opening_until: None,
            published: None,
            releasing: Vec::new(),
        }
    }

    /// The latest commitment, if it may be published.
    pub fn publish_job(&self, signer: &dyn Signer) -> Option<PublishJob> {
        let job = self.channel.publish_job(signer)?;
        Some(PublishJob { proven_current: self.proven_current, ..job })
    }

    /// What the channel wants done on the chain now.
    pub fn onchain_plan(&self, signer: &dyn Signer) -> OnchainPlan {
        let mut plan = self.channel.onchain_plan(signer);
        if let Some(job) = &mut plan.publish {
            job.proven_current = self.proven_current;
        }
        plan
    }

    pub fn about(&self) -> About {
        About { owner: self.owner, channel_id: self.channel_id, node: self.node }
    }
}

/// A node's channels here and its current session.
#[derive(Debug, Default)]
struct Node {
    session: Option<SessionId>,
    channels: BTreeMap<OwnerId, SlotId>,
}

#[derive(Debug)]
pub(crate) struct Table {
    slots: Vec<Option<Box<Hosted>>>,
    free: Vec<SlotId>,
    owners: FastMap<OwnerId, SlotId>,
    ids: FastMap<ChannelId, SlotId>,
    nodes: FastMap<Point, Node>,
    sessions: FastMap<SessionId, Point>,
    ordered: BTreeMap<OwnerId, SlotId>,
    deadlines: BTreeSet<(u32, OwnerId)>,
}

impl Table {
    pub fn new(seed: u64) -> Self {
        let seeded = Seeded(seed);
        Table {
            slots: Vec::new(),
            free: Vec::new(),
            owners: FastMap::with_hasher(seeded),
            ids: FastMap::with_hasher(seeded),
            nodes: FastMap::with_hasher(seeded),
            sessions: FastMap::with_hasher(seeded),
            ordered: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    pub fn by_owner(&self, owner: OwnerId) -> Option<SlotId> {
        self.owners.get(&owner).copied()
    }

    pub fn by_id(&self, id: &ChannelId) -> Option<SlotId> {
        self.ids.get(id).copied()
    }

    /// The channel in a slot that a look-up or this turn's lists named.
    pub fn get(&self, slot: SlotId) -> &Hosted {
        self.slots[slot.0].as_ref().expect("a slot stays filled until the channel's end is durable")
    }

    pub fn get_mut(&mut self, slot: SlotId) -> &mut Hosted {
        self.slots[slot.0].as_mut().expect("a slot stays filled until the channel's end is durable")
    }

    /// Whether one more channel of the node may be added under these names.
    pub fn room_for(&self, owner: OwnerId, id: &ChannelId, node: &Point) -> Result<(), Refused> {
        if self.owners.contains_key(&owner) {
            return Err(Refused::OwnerExists(owner));
        }
        if self.ids.contains_key(id) {
            return Err(Refused::ChannelExists(*id));
        }
        if self.len() >= limits::MAX_CHANNELS {
            return Err(Refused::TooManyChannels { maximum: limits::MAX_CHANNELS });
        }
        let of_node = self.nodes.get(node).map_or(0, |node| node.channels.len());
        if of_node >= limits::MAX_CHANNELS_PER_NODE {
            return Err(Refused::TooManyChannelsOfNode { maximum: limits::MAX_CHANNELS_PER_NODE });
        }
        Ok(())
    }

    pub fn insert(&mut self, hosted: Hosted) -> SlotId {
        let (owner, id, node) = (hosted.owner, hosted.channel_id, hosted.node);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot.0] = Some(Box::new(hosted));
                slot
            }
            None => {
                self.slots.push(Some(Box::new(hosted)));
                SlotId(self.slots.len() - 1)
            }
        };
        self.owners.insert(owner, slot);
        self.ids.insert(id, slot);
        self.ordered.insert(owner, slot);
        self.nodes.entry(node).or_default().channels.insert(owner, slot);
        slot
    }

    /// Makes a channel that ended unfindable; its slot stays filled, for what still waits to be sent, until [`Table::free`].
    pub fn retire(&mut self, slot: SlotId) {
        let hosted = self.get_mut(slot);
        let (owner, id, node) = (hosted.owner, hosted.channel_id, hosted.node);
        let deadline = hosted.deadline.take();
        self.owners.remove(&owner);
        self.ids.remove(&id);
        self.ordered.remove(&owner);
        if let Some(height) = deadline {
            self.deadlines.remove(&(height, owner));
        }
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.channels.remove(&owner);
            if entry.channels.is_empty() && entry.session.is_none() {
                self.nodes.remove(&node);
            }
        }
    }

    /// Frees a retired slot.
    pub fn free(&mut self, slot: SlotId) {
        self.slots[slot.0] = None;
        self.free.push(slot);
    }

    /// The first channel after `after`, in the order of numbers.
    pub fn after(&self, after: Option<OwnerId>) -> impl Iterator<Item = SlotId> + '_ {
        let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.ordered.range((start, std::ops::Bound::Unbounded)).map(|(_, slot)| *slot)
    }

    /// The channels of a node after `after`, in the order of numbers.
    pub fn of_node(&self, node: &Point, after: Option<OwnerId>) -> impl Iterator<Item = SlotId> + '_ {
        let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let channels = self.nodes.get(node).map(|node| &node.channels);
        channels
            .into_iter()
            .flat_map(move |channels| channels.range((start, std::ops::Bound::Unbounded)))
            .map(|(_, slot)| *slot)
    }

    pub fn session_of(&self, node: &Point) -> Option<SessionId> {
        self.nodes.get(node)?.session
    }

    /// Whether the session is the current one of this node.
    pub fn is_current(&self, node: &Point, session: SessionId) -> bool {
        self.session_of(node) == Some(session)
    }

    /// Makes `session` the node's current one. `Err` when it is not newer than the current, or there are too many.
    pub fn begin_session(&mut self, node: Point, session: SessionId) -> Result<(), Refused> {
        let older = self.session_of(&node);
        if older.is_some_and(|older| older >= session) {
            return Err(Refused::NotConnected(session));
        }
        if let Some(older) = older {
            self.sessions.remove(&older);
        } else if self.sessions.len() >= limits::MAX_SESSIONS {
            return Err(Refused::TooManySessions { maximum: limits::MAX_SESSIONS });
        }
        self.sessions.insert(session, node);
        self.nodes.entry(node).or_default().session = Some(session);
        Ok(())
    }

    /// Ends a session; the node, if it was its current one.
    pub fn end_session(&mut self, session: SessionId) -> Option<Point> {
        let node = self.sessions.remove(&session)?;
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.session = None;
            if entry.channels.is_empty() {
                self.nodes.remove(&node);
            }
        }
        Some(node)
    }

    /// Brings the index of deadlines up to date with the channel.
    pub fn set_deadline(&mut self, slot: SlotId, deadline: Option<u32>) {
        let hosted = self.get_mut(slot);
        let (owner, old) = (hosted.owner, hosted.deadline);
        if old == deadline {
            return;
        }
        hosted.deadline = deadline;
        if let Some(height) = old {
            self.deadlines.remove(&(height, owner));
        }
        if let Some(height) = deadline {
            self.deadlines.insert((height, owner));
        }
    }

    /// The channels whose deadline is at this height or below, earliest first.
    pub fn due(&self, height: u32) -> Vec<OwnerId> {
        self.deadlines.range(..=(height, OwnerId(u64::MAX))).map(|(_, owner)| *owner).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> Point {
        Point::from_bytes([number; 33])
    }

    #[test]
    fn only_a_newer_session_takes_a_nodes_place() {
        let mut table = Table::new(1);
        assert_eq!(table.begin_session(node(1), SessionId(5)), Ok(()));
        assert_eq!(table.begin_session(node(1), SessionId(5)), Err(Refused::NotConnected(SessionId(5))));
        assert_eq!(table.begin_session(node(1), SessionId(4)), Err(Refused::NotConnected(SessionId(4))));
        assert_eq!(table.begin_session(node(1), SessionId(6)), Ok(()));
        assert_eq!(table.end_session(SessionId(5)), None);
        assert!(table.is_current(&node(1), SessionId(6)));
        assert_eq!(table.end_session(SessionId(6)), Some(node(1)));
        assert_eq!(table.session_of(&node(1)), None);
        assert!(table.nodes.is_empty() && table.sessions.is_empty());
    }

    #[test]
    fn sessions_of_nodes_do_not_mix() {
        let mut table = Table::new(1);
        assert_eq!(table.begin_session(node(1), SessionId(1)), Ok(()));
        assert_eq!(table.begin_session(node(2), SessionId(2)), Ok(()));
        assert!(!table.is_current(&node(1), SessionId(2)));
        assert_eq!(table.end_session(SessionId(1)), Some(node(1)));
        assert!(table.is_current(&node(2), SessionId(2)));
    }
}
