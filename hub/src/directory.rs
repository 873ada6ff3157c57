//! What everybody may look up without asking a shard: channels by name and by node, streams, counts.
//!
//! It is written by the shards and the control thread and read by sessions and routers. Routing by it is a guess that the
//! outgoing channel's `check` decides about, so lines may run ahead of the disk; what users see never comes from here
//! where it could be undone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use channel::ids::{ChannelId, OwnerId, StreamId};
use channel::keys::Point;
use shard::DirectoryEntry;

use crate::placement::Placement;

/// Locks over nodes, so that shards that publish do not wait for routers that read other nodes.
const STRIPES: usize = 64;

#[derive(Debug, Default)]
pub struct Directory {
    nodes: Striped<Point, Vec<Line>>,
    channels: Striped<ChannelId, Place>,
    names: Striped<OwnerId, ChannelId>,
    streams: RwLock<HashMap<StreamId, Point>>,
    /// Lines whose channels' funding is in no block yet.
    unfunded: AtomicUsize,
}

/// One channel of a node, as far as routing cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub owner: OwnerId,
    pub online: bool,
    pub usable: bool,
    pub spendable_msat: u64,
    /// Its funding is in no block yet: so far it cost its opener nothing.
    pub unfunded: bool,
}

/// Whose channel an id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub owner: OwnerId,
    pub node: Point,
    /// Its shard has taken it; before that the id is only reserved.
    pub hosted: bool,
}

/// Why an id cannot be given to a new channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    #[error("the channel id is in use")]
    Id,
    #[error("the wallet has {maximum} channels, which is the most allowed (wallets.max_channels_per_wallet)")]
    TooMany { maximum: usize },
    #[error(
        "{maximum} channels wait for their funding, which is the most for wallets that have no other channel: try again later"
    )]
    TooManyUnfunded { maximum: usize },
}

impl Directory {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a channel's line from its shard.
    pub fn publish(&self, entry: &DirectoryEntry) {
        let place = Place { owner: entry.owner, node: entry.node, hosted: true };
        // The name is rarely new: look before locking for writing.
        if self.channels.read(&entry.channel_id).get(&entry.channel_id) != Some(&place) {
            self.channels.write(&entry.channel_id).insert(entry.channel_id, place);
            self.names.write(&entry.owner).insert(entry.owner, entry.channel_id);
        }
        let line = Line {
            owner: entry.owner,
            online: entry.session.is_some(),
            usable: entry.usable,
            spendable_msat: entry.spendable_msat.to_u64(),
            unfunded: !entry.funded,
        };
        let mut nodes = self.nodes.write(&entry.node);
        let lines = nodes.entry(entry.node).or_default();
        match lines.iter_mut().find(|known| known.owner == line.owner) {
            Some(known) => {
                self.uncount(known);
                *known = line;
            }
            None => lines.push(line),
        }
        self.count(&line);
    }

    fn count(&self, line: &Line) {
        self.unfunded.fetch_add(usize::from(line.unfunded), Ordering::Relaxed);
    }

    fn uncount(&self, line: &Line) {
        self.unfunded.fetch_sub(usize::from(line.unfunded), Ordering::Relaxed);
    }

    /// [`Directory::reserve`] for a channel that a wallet proposes. Proposals cost nothing, and node keys neither: a wallet without
    /// a channel in the chain is refused while `unfunded` channels (a few more where many propose at once) wait for theirs.
    pub fn propose(&self, id: ChannelId, place: Place, maximum: usize, unfunded: usize) -> Result<(), Taken> {
        let known = self.with_lines(&place.node, |lines| lines.iter().any(|line| !line.unfunded));
        if known != Some(true) && self.unfunded.load(Ordering::Relaxed) >= unfunded {
            return Err(Taken::TooManyUnfunded { maximum: unfunded });
        }
        self.reserve(id, place, maximum)
    }

    /// Gives an id to a channel that is about to be, so that a second proposal under the same id is noticed and
    /// `maximum` channels of a node are not exceeded.
    pub fn reserve(&self, id: ChannelId, place: Place, maximum: usize) -> Result<(), Taken> {
        let mut channels = self.channels.write(&id);
        let Entry::Vacant(vacant) = channels.entry(id) else { return Err(Taken::Id) };
        let mut nodes = self.nodes.write(&place.node);
        let lines = nodes.entry(place.node).or_default();
        if lines.len() >= maximum {
            return Err(Taken::TooMany { maximum });
        }
        let line =
            Line { owner: place.owner, online: false, usable: false, spendable_msat: 0, unfunded: true };
        self.count(&line);
        lines.push(line);
        vacant.insert(place);
        Ok(())
    }

    /// Forgets a channel that ended or never came to be.
    pub fn remove(&self, id: &ChannelId, owner: OwnerId) {
        let place = {
            let mut channels = self.channels.write(id);
            match channels.entry(*id) {
                Entry::Occupied(entry) if entry.get().owner == owner => entry.remove(),
                Entry::Occupied(_) | Entry::Vacant(_) => return,
            }
        };
        self.names.write(&owner).remove(&owner);
        let mut nodes = self.nodes.write(&place.node);
        if let Entry::Occupied(mut entry) = nodes.entry(place.node) {
            for gone in entry.get_mut().extract_if(.., |line| line.owner == owner) {
                self.uncount(&gone);
            }
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// Forgets an id that was reserved for a channel of this shard and refused by it. True if there was one.
    pub fn forget_unhosted(&self, id: &ChannelId, shard: usize, placement: &Placement) -> bool {
        let Some(place) = self.place(id) else { return false };
        let refused = !place.hosted && placement.shard_of(place.owner) == shard;
        if refused {
            self.remove(id, place.owner);
        }
        refused
    }

    pub fn place(&self, id: &ChannelId) -> Option<Place> {
        self.channels.read(id).get(id).copied()
    }

    /// The name of a channel that its shard has taken.
    pub fn name_of(&self, owner: OwnerId) -> Option<ChannelId> {
        self.names.read(&owner).get(&owner).copied()
    }

    /// Calls `see` with the lines of a node, without copying them; `None` when it has no channel.
    pub fn with_lines<R>(&self, node: &Point, see: impl FnOnce(&[Line]) -> R) -> Option<R> {
        self.nodes.read(node).get(node).map(|lines| see(lines))
    }

    pub fn channels_of(&self, node: &Point) -> usize {
        self.with_lines(node, <[Line]>::len).unwrap_or(0)
    }

    /// The nodes with channels, in order, after `after`.
    pub fn nodes_after(&self, after: Option<&Point>, max: usize) -> Vec<Point> {
        let mut all: Vec<Point> =
            self.nodes.keys().filter(|node| after.is_none_or(|after| node > after)).collect();
        all.sort_unstable();
        all.truncate(max);
        all
    }

    pub fn add_stream(&self, stream: StreamId, payee: Point) {
        write(&self.streams).insert(stream, payee);
    }

    pub fn remove_stream(&self, stream: &StreamId) {
        write(&self.streams).remove(stream);
    }

    /// Streams known now.
    pub fn streams(&self) -> usize {
        read(&self.streams).len()
    }

    pub fn payee(&self, stream: &StreamId) -> Option<Point> {
        read(&self.streams).get(stream).copied()
    }
}

/// A map behind many locks, by the hash of the key.
#[derive(Debug)]
struct Striped<K, V> {
    stripes: Vec<RwLock<HashMap<K, V>>>,
    hasher: RandomState,
}

impl<K, V> Default for Striped<K, V> {
    fn default() -> Self {
        Striped {
            stripes: std::iter::repeat_with(RwLock::default).take(STRIPES).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl<K: std::hash::Hash + Eq + Copy, V> Striped<K, V> {
    fn stripe(&self, key: &K) -> &RwLock<HashMap<K, V>> {
        let hash = self.hasher.hash_one(key);
        let stripes = u64::try_from(STRIPES).expect("a small constant");
        let at = usize::try_from(hash % stripes).expect("a remainder of a small constant");
        &self.stripes[at]
    }

    fn read(&self, key: &K) -> RwLockReadGuard<'_, HashMap<K, V>> {
        read(self.stripe(key))
    }

    fn write(&self, key: &K) -> RwLockWriteGuard<'_, HashMap<K, V>> {
        write(self.stripe(key))
    }

    fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.stripes.iter().flat_map(|stripe| read(stripe).keys().copied().collect::<Vec<_>>())
    }
}

/// Every change under these locks is a single insertion or removal, so a panic elsewhere leaves them whole.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use channel::amount::Msat;
    use channel::channel::PhaseView;
    use channel::error::FailureCause;

    use super::*;

    fn place(owner: u64, node: u8) -> Place {
        Place { owner: OwnerId(owner), node: Point::from_bytes([node; 33]), hosted: false }
    }

    #[test]
    fn an_id_is_given_once_and_again_after_its_channel_ended() {
        let directory = Directory::new();
        let id = ChannelId([1; 32]);
        directory.reserve(id, place(5000, 2), 9).unwrap();
        assert_eq!(directory.reserve(id, place(5001, 3), 9), Err(Taken::Id));
        directory.remove(&id, OwnerId(5001));
        assert_eq!(directory.place(&id), Some(place(5000, 2)));
        directory.remove(&id, OwnerId(5000));
        assert_eq!(directory.place(&id), None);
        assert_eq!(directory.channels_of(&place(0, 2).node), 0);
        directory.reserve(id, place(5001, 3), 9).unwrap();
    }

    #[test]
    fn a_wallet_gets_no_more_channels_than_allowed() {
        let directory = Directory::new();
        for at in 0..3u8 {
            directory.reserve(ChannelId([at; 32]), place(5000 + u64::from(at), 2), 3).unwrap();
        }
        let refused = directory.reserve(ChannelId([9; 32]), place(6000, 2), 3);
        assert_eq!(refused, Err(Taken::TooMany { maximum: 3 }));
        assert_eq!(directory.place(&ChannelId([9; 32])), None);
    }

    fn published(place: Place, id: ChannelId, phase: PhaseView, funded: bool) -> DirectoryEntry {
        DirectoryEntry {
            owner: place.owner,
            channel_id: id,
            node: place.node,
            session: None,
            usable: false,
            spendable_msat: Msat::ZERO,
            receivable_msat: Msat::ZERO,
            phase,
            funded,
        }
    }

    #[test]
    fn strangers_wait_while_too_many_channels_wait_for_their_funding_and_who_has_a_channel_does_not() {
        let directory = Directory::new();
        let full = Err(Taken::TooManyUnfunded { maximum: 2 });
        let propose = |at: u8, node: u8| {
            directory.propose(ChannelId([at; 32]), place(5000 + u64::from(at), node), 9, 2)
        };
        let publish = |at: u8, node: u8, phase, funded| {
            let place = place(5000 + u64::from(at), node);
            directory.publish(&published(place, ChannelId([at; 32]), phase, funded));
        };
        let awaiting = |confirmed_height| PhaseView::AwaitingConfirmation { confirmed_height };
        assert_eq!((propose(1, 1), propose(2, 2), propose(3, 3)), (Ok(()), Ok(()), full));
        publish(1, 1, awaiting(None), false);
        assert_eq!(propose(3, 3), full, "a signed funding costs nothing either");
        publish(1, 1, PhaseView::Failed { cause: FailureCause::Counterparty }, false);
        assert_eq!((propose(3, 3), propose(3, 1)), (full, full), "nor does a channel that failed before");
        publish(1, 1, awaiting(Some(7)), true);
        assert_eq!(propose(3, 3), Ok(()));
        assert_eq!((propose(4, 2), propose(4, 1)), (full, Ok(())), "the first has one in the chain");
        // What ends makes room, and so does a refused proposal; after a start they are counted again.
        directory.remove(&ChannelId([2; 32]), OwnerId(5002));
        directory.remove(&ChannelId([3; 32]), OwnerId(5003));
        assert_eq!((propose(5, 5), propose(6, 6)), (Ok(()), full));
        publish(5, 5, PhaseView::Open, true);
        publish(7, 7, awaiting(None), false);
        assert_eq!(propose(6, 6), full);
    }

    #[test]
    fn only_its_own_shard_gives_a_refused_proposals_id_back() {
        let directory = Directory::new();
        let placement = Placement::new(2, 1);
        let id = ChannelId([1; 32]);
        directory.reserve(id, place(5001, 2), 9).unwrap();
        assert!(!directory.forget_unhosted(&id, 0, &placement));
        assert!(directory.forget_unhosted(&id, 1, &placement));
        assert_eq!(directory.place(&id), None);
    }

    #[test]
    fn nodes_are_listed_in_pages() {
        let directory = Directory::new();
        for at in [3u8, 1, 2] {
            directory.reserve(ChannelId([at; 32]), place(5000 + u64::from(at), at), 3).unwrap();
        }
        let first = directory.nodes_after(None, 2);
        assert_eq!(first, [place(0, 1).node, place(0, 2).node]);
        assert_eq!(directory.nodes_after(first.last(), 2), [place(0, 3).node]);
    }
}
