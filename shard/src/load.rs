//! What a shard did and what waits in it, for people and for the host that spreads channels over shards.

/// Counters since the shard was made, except those that say "now".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Turns taken.
    pub turns: u64,
    /// Nanoseconds spent in them, as far as the host handed them in ([`Shard::note_busy`](crate::Shard::note_busy)).
    pub busy_ns: u64,
    /// Mails taken.
    pub mails: u64,
    /// Peers' messages looked at.
    pub messages: u64,
    /// Inputs journaled.
    pub inputs: u64,
    /// Commands and messages that changed nothing.
    pub refusals: u64,
    /// Channels failed because the counterparty broke the protocol.
    pub violations: u64,
    /// Messages handled that came from another owner.
    pub internals: u64,
    /// Messages of superseded or ended sessions, dropped.
    pub late_messages: u64,
    /// Messages to peers handed out.
    pub sent: u64,
    /// Messages to peers dropped because their session had ended.
    pub unsent: u64,
    /// Things that wait for the disk now.
    pub waiting: usize,
    /// Messages between owners that wait for the next turn now.
    pub backlog: usize,
    /// Channels now.
    pub channels: usize,
}
