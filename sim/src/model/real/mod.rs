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
    /// Heights of [`limits::HEIGHTS`] that pass.
    pub heights: usize,
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
    /// A start is not told to channels as a disconnection.
    NoDisconnect,
    /// The tip is durable before what its block means to channels.
    TipFirst,
    /// Deadlines are not told.
    NoDeadline,
}

impl Bounds {
    /// No faults: only orders.
    pub const CALM: Self = Self {
        routes: &[1],
        size: Size::WithOutput,
        heights: 1,
        crashes: 0,
        cuts: 0,
        unsynced: limits::UNSYNCED_ROWS,
        slip: None,
        max_states: limits::MAX_STATES_IN_TESTS,
    };
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
