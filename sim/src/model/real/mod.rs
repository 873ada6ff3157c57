//! The same walk with the code itself: real channels at both ends of every connection, hosted by a hub and by wallets that do
//! what a shard does, only smaller.
//!
//! One payment comes in over channel A and goes out over the channels that the bounds name, one attempt each. Every
//! order of peers' messages, signatures, messages between owners, fsyncs, crashes and starts of the hub, lost and new
//! connections, heights, the payee's decision, and of what the chain's side does for channels that were given up.
//!
//! | file | what |
//! | --- | --- |
//! | [`lab`] | channels, each step of each taken once |
//! | `scene` | the channels, open, and the payment on its way |
//! | `world` | what the state of the whole is, and what can happen |
//! | `hub`, `wallet`, `chain` | the steps of each |
//! | `laws` | what must hold |

mod chain;
mod hub;
pub mod lab;
mod laws;
mod scene;
mod wallet;
mod world;

use super::limits;
use super::walk::{Model, Report, walk};
use lab::Lab;

pub use world::{Action, World};

/// How far the walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The outgoing channels to be tried, in turn: 1 or 2. A channel may be named again.
    pub routes: &'static [usize],
    pub size: Size,
    /// The heights that pass, rising: some of [`limits::HEIGHTS`].
    pub heights: &'static [u32],
    pub crashes: u8,
    /// Connections lost without a crash.
    pub cuts: u8,
    /// Rows that the disk may be behind.
    pub unsynced: usize,
    /// A mistake that the hub makes, to see whether it shows.
    pub slip: Option<Slip>,
    pub max_states: usize,
}

/// Whether the HTLC has an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    WithOutput,
    Trimmed,
}

/// What a host could forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// Nothing is sent again after a start.
    NoResume,
    /// Messages to peers leave before the disk has their rows.
    EarlyRelease,
    /// Acknowledgements are lost inside the process.
    LostAck,
    /// The tip is durable before what its block means to channels.
    TipFirst,
}

impl Bounds {
    /// No faults: only orders.
    pub const CALM: Self = Self {
        routes: &[1],
        size: Size::WithOutput,
        heights: &[],
        crashes: 0,
        cuts: 0,
        unsynced: limits::UNSYNCED_ROWS,
        slip: None,
        max_states: limits::MAX_STATES,
    };

    /// For the ordinary tests: one thing at a time.
    pub const ORDINARY: [(&'static str, Self); 5] = [
        ("calm", Self::CALM),
        ("a connection lost", Self { cuts: 1, ..Self::CALM }),
        ("a crash", Self { crashes: 1, unsynced: 1, ..Self::CALM }),
        (
            "a connection lost, and the same channel tried again",
            Self { cuts: 1, routes: &[1, 1], ..Self::CALM },
        ),
        (
            "blocks, without an output",
            Self { size: Size::Trimmed, heights: &limits::FEW_HEIGHTS, ..Self::CALM },
        ),
    ];

    /// For who has an hour: two things at a time. The largest, blocks and a crash, has fifteen million states.
    pub const LARGER: [(&'static str, Self); 11] = [
        ("a crash, rows waiting", Self { crashes: 1, ..Self::CALM }),
        ("a crash and a connection lost", Self { crashes: 1, cuts: 1, ..Self::CALM }),
        ("the same without an output", Self { crashes: 1, cuts: 1, size: Size::Trimmed, ..Self::CALM }),
        ("two crashes", Self { crashes: 2, ..Self::CALM }),
        ("a crash, and the same channel tried again", Self { crashes: 1, routes: &[1, 1], ..Self::CALM }),
        ("a connection lost, and another channel tried", Self { cuts: 1, routes: &[1, 2], ..Self::CALM }),
        ("a crash, and another channel tried", Self { crashes: 1, routes: &[1, 2], ..Self::CALM }),
        ("blocks", Self { unsynced: 1, heights: &limits::FEW_HEIGHTS, ..Self::CALM }),
        (
            "blocks and a crash, without an output",
            Self {
                unsynced: 1,
                crashes: 1,
                size: Size::Trimmed,
                heights: &limits::FEW_HEIGHTS,
                ..Self::CALM
            },
        ),
        ("blocks and a crash", Self { unsynced: 1, crashes: 1, heights: &limits::FEW_HEIGHTS, ..Self::CALM }),
        ("every height", Self { unsynced: 1, heights: &limits::HEIGHTS, ..Self::CALM }),
    ];
}

/// Walks through all states within the bounds.
pub fn explore(bounds: Bounds) -> Result<Report, String> {
    let mut real = Real::new(bounds)?;
    Ok(walk(&mut real, bounds.max_states))
}

/// The model: real channels, and the state in which the walk begins.
pub struct Real {
    bounds: Bounds,
    lab: Lab,
    start: World,
}

impl Real {
    fn new(bounds: Bounds) -> Result<Self, String> {
        let (lab, start) = scene::begin(bounds)?;
        Ok(Real { bounds, lab, start })
    }
}

impl Model for Real {
    type State = World;
    type Action = Action;

    fn start(&mut self) -> World {
        self.start.clone()
    }

    fn actions(&mut self, state: &World) -> Vec<Action> {
        state.actions(&mut self.lab, &self.bounds)
    }

    fn take(&mut self, state: &World, action: &Action) -> Result<World, String> {
        let mut next = state.clone();
        next.take(*action, &mut self.lab, &self.bounds)?;
        Ok(next)
    }

    fn check(&mut self, state: &World, actions: &[Action]) -> Result<(), String> {
        state.check(&self.lab, &self.bounds, actions)
    }
}
