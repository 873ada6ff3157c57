//! Which wallet is connected by which session. Invariant: at most one session a node is current, session numbers rise,
//! and every shard hears of beginnings and ends in the order in which they happened.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use channel::ids::SessionId;
use channel::keys::Point;
use proto::error::ErrorCode;
use shard::Mail;
use tokio::time::Instant;

use crate::control::ControlMail;
use crate::mailboxes::Mailboxes;
use crate::rate::Bucket;

use super::outgoing::{Ending, Outgoing};

/// Wallets whose openings are counted at once; full buckets are forgotten first, then all.
const MAX_COUNTED_WALLETS: usize = 100_000;

const HOUR: Duration = Duration::from_secs(3_600);

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    mailboxes: Mailboxes,
    max_sessions: usize,
    opens_per_hour: u32,
    state: Mutex<State>,
    senders: RwLock<HashMap<SessionId, Outgoing>>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    stopping: bool,
    /// In order, so that endings of many come in the same order in every run.
    current: BTreeMap<Point, Current>,
    opens: HashMap<Point, Bucket>,
}

#[derive(Debug, Clone)]
struct Current {
    session: SessionId,
    outgoing: Outgoing,
    address: Option<SocketAddr>,
    since_ms: u64,
}

/// A wallet's connection, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    pub node: Point,
    pub address: Option<SocketAddr>,
    pub since_ms: u64,
}

/// A session that began. It ends when this is dropped.
#[derive(Debug)]
pub struct Session<'a> {
    sessions: &'a Sessions,
    pub id: SessionId,
    pub node: Point,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    #[error("{maximum} wallets are connected, which is the most allowed (wallets.max_sessions)")]
    Full { maximum: usize },
    #[error("the hub is stopping")]
    Stopping,
}

impl BeginError {
    pub fn ending(&self) -> Ending {
        let code = match self {
            BeginError::Full { .. } => ErrorCode::LimitReached,
            BeginError::Stopping => ErrorCode::Stopping,
        };
        Ending::new(code, self.to_string())
    }
}

impl Sessions {
    pub fn new(mailboxes: Mailboxes, max_sessions: usize, opens_per_hour: u32) -> Self {
        Sessions {
            mailboxes,
            max_sessions,
            opens_per_hour,
            state: Mutex::default(),
            senders: RwLock::default(),
        }
    }

    /// Makes a connection its node's current session; an older one is ended.
    pub fn begin(
        &self,
        node: Point,
        outgoing: Outgoing,
        address: Option<SocketAddr>,
        now_ms: u64,
    ) -> Result<Session<'_>, BeginError> {
        let mut state = self.lock();
        if state.stopping {
            return Err(BeginError::Stopping);
        }
        let older = state.current.get(&node).map(|older| (older.session, older.outgoing.clone()));
        if older.is_none() && state.current.len() >= self.max_sessions {
            return Err(BeginError::Full { maximum: self.max_sessions });
        }
        state.last += 1;
        let id = SessionId(state.last);
        if let Some((older, older_outgoing)) = older {
            older_outgoing.end(Ending::new(ErrorCode::Superseded, "the same node key connected again"));
            self.senders_mut().remove(&older);
        }
        self.senders_mut().insert(id, outgoing.clone());
        state.current.insert(node, Current { session: id, outgoing, address, since_ms: now_ms });
        // Under the lock, so that shards hear of sessions in the order of their numbers.
        self.mailboxes.every_shard(|| Mail::SessionUp { node, session: id });
        self.mailboxes.control(ControlMail::SessionUp { node, session: id });
        Ok(Session { sessions: self, id, node })
    }

    /// Ends one session of a node for which `may_go` says so; false when there is none.
    pub fn make_room(&self, may_go: impl Fn(&Point) -> bool) -> bool {
        let found = {
            let state = self.lock();
            let found = state.current.iter().find(|(node, _)| may_go(node));
            found.map(|(node, current)| (*node, current.session, current.outgoing.clone()))
        };
        let Some((node, session, outgoing)) = found else { return false };
        let text = "the hub is full, and wallets with channels go first";
        outgoing.end(Ending::new(ErrorCode::LimitReached, text));
        self.end(node, session);
        true
    }

    fn end(&self, node: Point, session: SessionId) {
        self.senders_mut().remove(&session);
        let mut state = self.lock();
        if state.current.get(&node).is_some_and(|current| current.session == session) {
            state.current.remove(&node);
            self.mailboxes.every_shard(|| Mail::SessionDown { session });
            self.mailboxes.control(ControlMail::SessionDown { node, session });
        }
    }

    /// The queue of a session, while it lasts.
    pub fn outgoing(&self, session: SessionId) -> Option<Outgoing> {
        self.senders.read().unwrap_or_else(PoisonError::into_inner).get(&session).cloned()
    }

    /// The queue of a node's current session.
    pub fn outgoing_to(&self, node: &Point) -> Option<Outgoing> {
        self.lock().current.get(node).map(|current| current.outgoing.clone())
    }

    /// The node's current session.
    pub fn session_of(&self, node: &Point) -> Option<SessionId> {
        self.lock().current.get(node).map(|current| current.session)
    }

    pub fn connected(&self, node: &Point) -> Option<Connected> {
        self.lock().current.get(node).map(|current| Connected {
            node: *node,
            address: current.address,
            since_ms: current.since_ms,
        })
    }

    /// Connected nodes in order, after `after`.
    pub fn nodes_after(&self, after: Option<&Point>, max: usize) -> Vec<Point> {
        let state = self.lock();
        let mut nodes: Vec<Point> =
            state.current.keys().filter(|node| after.is_none_or(|after| *node > after)).copied().collect();
        nodes.sort_unstable();
        nodes.truncate(max);
        nodes
    }

    pub fn count(&self) -> usize {
        self.lock().current.len()
    }

    /// Whether the wallet may propose or request one more channel in this hour.
    pub fn may_open(&self, node: Point, now: Instant) -> bool {
        let mut state = self.lock();
        if state.opens.len() >= MAX_COUNTED_WALLETS {
            state.opens.retain(|_, bucket| !bucket.is_full(now));
            // Still full of strangers: counting them does not keep them from taking new keys, and must not keep others out.
            if state.opens.len() >= MAX_COUNTED_WALLETS {
                state.opens.clear();
            }
        }
        let limit = self.opens_per_hour;
        state.opens.entry(node).or_insert_with(|| Bucket::new(limit, HOUR, now)).take(1, now)
    }

    /// Ends every session and lets none begin.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        for current in state.current.values() {
            current
                .outgoing
                .end(Ending::new(ErrorCode::Stopping, "the hub is stopping; connect again later"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn senders_mut(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<SessionId, Outgoing>> {
        self.senders.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.sessions.end(self.node, self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::placement::Placement;
    use crate::session::channel;

    const NODE: Point = Point::from_bytes([2; 33]);

    fn sessions(max: usize) -> (Sessions, crossbeam_channel::Receiver<Mail>) {
        let (shard, mailbox) = crossbeam_channel::unbounded();
        // Nobody reads the control mailbox here: what is sent to it is dropped.
        let (control, _) = crossbeam_channel::unbounded();
        let mailboxes = Mailboxes::new(vec![shard], control, Arc::new(Placement::new(1, 1)));
        (Sessions::new(mailboxes, max, 2), mailbox)
    }

    fn heard(mailbox: &crossbeam_channel::Receiver<Mail>) -> Vec<String> {
        mailbox
            .try_iter()
            .map(|mail| match mail {
                Mail::SessionUp { session, .. } => format!("up {}", session.0),
                Mail::SessionDown { session } => format!("down {}", session.0),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_newer_connection_supersedes_the_older_and_the_older_ends_in_silence() {
        let (sessions, mailbox) = sessions(1);
        let (first, _first_writer) = channel();
        let (second, _second_writer) = channel();
        let old = sessions.begin(NODE, first.clone(), None, 0).unwrap();
        let new = sessions.begin(NODE, second.clone(), None, 0).unwrap();
        assert_eq!(first.ending().unwrap().code, ErrorCode::Superseded);
        assert!(!second.is_ended());
        assert!(sessions.outgoing(old.id).is_none());
        drop(old);
        assert_eq!(sessions.session_of(&NODE), Some(new.id));
        drop(new);
        assert_eq!(heard(&mailbox), ["up 1", "up 2", "down 2"]);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn one_wallet_too_many_is_refused_by_name() {
        let (sessions, _mailbox) = sessions(1);
        let (outgoing, _writer) = channel();
        let first = sessions.begin(NODE, outgoing.clone(), None, 0).unwrap();
        let other = Point::from_bytes([3; 33]);
        let refused = sessions.begin(other, outgoing.clone(), None, 0).unwrap_err();
        assert_eq!(refused, BeginError::Full { maximum: 1 });
        assert_eq!(refused.ending().code, ErrorCode::LimitReached);
        drop(first);
        assert!(sessions.begin(other, outgoing, None, 0).is_ok());
    }

    #[test]
    fn a_stopping_hub_ends_all_and_takes_none() {
        let (sessions, _mailbox) = sessions(9);
        let (outgoing, _writer) = channel();
        let _session = sessions.begin(NODE, outgoing.clone(), None, 0).unwrap();
        sessions.stop();
        assert_eq!(outgoing.ending().unwrap().code, ErrorCode::Stopping);
        assert_eq!(sessions.begin(NODE, outgoing, None, 0).unwrap_err(), BeginError::Stopping);
    }

    #[test]
    fn openings_are_counted_by_wallet_and_hour() {
        let (sessions, _mailbox) = sessions(9);
        let now = Instant::now();
        assert!(sessions.may_open(NODE, now));
        assert!(sessions.may_open(NODE, now));
        assert!(!sessions.may_open(NODE, now));
        assert!(sessions.may_open(Point::from_bytes([3; 33]), now));
        assert!(sessions.may_open(NODE, now + HOUR));
    }

    #[test]
    fn strangers_without_number_keep_nobody_from_opening() {
        let (sessions, _mailbox) = sessions(9);
        let now = Instant::now();
        for stranger in 0..u32::try_from(MAX_COUNTED_WALLETS).unwrap() {
            let mut key = [3; 33];
            key[..4].copy_from_slice(&stranger.to_be_bytes());
            assert!(sessions.may_open(Point::from_bytes(key), now));
        }
        assert!(sessions.may_open(NODE, now));
        assert!(sessions.lock().opens.len() <= MAX_COUNTED_WALLETS);
    }
}
