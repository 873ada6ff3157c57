//! Where processes sit: what stays when one of them is gone.

use daemon::world::World;

use super::calls::Asked;
use crate::audit::Broken;
use crate::chain::SimNode;
use crate::disk::{Cut, SimDisk, Trouble};
use crate::process::{Died, HubPart, HubProcess, HubSetup, WalletPart, WalletProcess, WalletSetup};
use crate::seed::Chance;

/// Who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Character {
    /// Keeps to the rules, and is owed what it was promised.
    Honest,
    /// Breaks rules in its messages, or holds payments for ever.
    Hostile,
    /// Keeps to the rules, and forgot what it promised: it may lose by that, and is owed nothing.
    Forgetful,
    /// Publishes an old state of its channels when the time has come.
    Cheat,
}

/// Whether somebody can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Open,
    /// Nobody calls it, and it calls nobody.
    Cut,
}

/// Whether the chain can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bitcoind {
    There,
    Away,
}

/// A process as its seat drives it.
pub trait Process: Sized {
    type Setup;
    type Part;

    fn start(setup: &Self::Setup, disk: &SimDisk, node: &SimNode, world: World) -> Result<Self, Died>;
    /// Turns a part; whether it moved.
    fn turn(&mut self, part: Self::Part) -> Result<bool, Died>;
    fn settle(&mut self) -> Result<(), Died>;
    fn advance_ms(&mut self, ms: u64);
    /// A clean stop.
    fn stop(self) -> Result<(), Died>;
}

/// A machine, and whoever owns it.
pub struct Seat<P: Process> {
    pub setup: P::Setup,
    pub disk: SimDisk,
    pub world: World,
    pub process: Option<P>,
    /// When it is started again, in milliseconds since 1970.
    pub back_ms: u64,
    pub character: Character,
    pub line: Line,
    /// What a cheat goes back to one of.
    pub copies: Vec<SimDisk>,
}

/// What the owner of a wallet waits for. It outlives the process: calls into one that is gone are lost.
#[derive(Default)]
pub struct Owner {
    pub asked: Vec<Asked>,
    /// Payments it will decide about.
    pub held: Vec<Vec<u8>>,
    /// Its channels are being looked at.
    pub looks: bool,
    /// Height by which it must be there again, if it went away.
    pub back_by: Option<u32>,
}

/// A death that the disk explains is none that the auditor asks about.
fn excused(disk: &SimDisk, died: &Died) -> Result<(), Broken> {
    if disk.has_failed() {
        return Ok(());
    }
    Err(Broken::new("processes live", died.to_string()))
}

impl Owner {
    /// The wallet starts. What its owner had asked it before is lost, so a look that was not answered is no reason to wait.
    pub fn is_back(&mut self) {
        self.back_by = None;
        self.looks = false;
    }
}

impl<P: Process> Seat<P> {
    pub fn new(setup: P::Setup, world: World, character: Character) -> Self {
        Seat {
            setup,
            disk: SimDisk::new(),
            world,
            process: None,
            back_ms: 0,
            character,
            line: Line::Open,
            copies: Vec::new(),
        }
    }

    /// There is no process afterwards if the disk failed, or if it cannot begin without its node.
    pub fn start(&mut self, node: &SimNode, bitcoind: Bitcoind, chance: &mut Chance) -> Result<(), Broken> {
        match P::start(&self.setup, &self.disk, node, self.world.clone()) {
            Ok(process) => {
                self.process = Some(process);
                Ok(())
            }
            Err(died) if bitcoind == Bitcoind::There => self.died(&died, chance),
            Err(_) => {
                self.kill(Cut::Kill, chance);
                Ok(())
            }
        }
    }

    /// Turns a part; whether it moved.
    pub fn turn(&mut self, part: P::Part, chance: &mut Chance) -> Result<bool, Broken> {
        let Some(process) = &mut self.process else { return Ok(false) };
        match process.turn(part) {
            Ok(moved) => Ok(moved),
            Err(died) => self.died(&died, chance).map(|()| true),
        }
    }

    pub fn settle(&mut self, chance: &mut Chance) -> Result<(), Broken> {
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.settle() {
            Ok(()) => Ok(()),
            Err(died) => self.died(&died, chance),
        }
    }

    pub fn advance_ms(&mut self, ms: u64) {
        if let Some(process) = &mut self.process {
            process.advance_ms(ms);
        }
    }

    fn died(&mut self, died: &Died, chance: &mut Chance) -> Result<(), Broken> {
        excused(&self.disk, died)?;
        self.kill(Cut::Kill, chance);
        Ok(())
    }

    pub fn kill(&mut self, cut: Cut, chance: &mut Chance) {
        self.disk.cut(cut, chance);
        self.process = None;
    }

    /// A clean stop.
    pub fn stop(&mut self, chance: &mut Chance) -> Result<(), Broken> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let stopped = process.stop();
        let result = stopped.or_else(|died| excused(&self.disk, &died));
        self.disk.cut(Cut::Kill, chance);
        result
    }

    /// Whether its word counts.
    pub fn is_honest(&self) -> bool {
        self.character == Character::Honest
    }

    /// Whether it works, and is owed what it was promised.
    pub fn is_at_work(&self) -> bool {
        self.is_honest() && self.process.is_some()
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.disk.trouble(trouble);
    }
}

impl Seat<HubProcess> {
    /// `hubd checkpoint`, between two runs of the hub.
    pub fn checkpoint(&mut self, chance: &mut Chance) -> Result<(), Broken> {
        let done = HubProcess::checkpoint(&self.setup, &self.disk, self.world.clone());
        let result = done.or_else(|died| excused(&self.disk, &died));
        self.disk.cut(Cut::Kill, chance);
        result
    }
}

impl Process for HubProcess {
    type Setup = HubSetup;
    type Part = HubPart;

    fn start(setup: &HubSetup, disk: &SimDisk, node: &SimNode, world: World) -> Result<Self, Died> {
        HubProcess::start(setup, disk, node, world)
    }

    fn turn(&mut self, part: HubPart) -> Result<bool, Died> {
        HubProcess::turn(self, part)
    }

    fn settle(&mut self) -> Result<(), Died> {
        HubProcess::settle(self)
    }

    fn advance_ms(&mut self, ms: u64) {
        HubProcess::advance_ms(self, ms);
    }

    fn stop(self) -> Result<(), Died> {
        HubProcess::stop(self)
    }
}

impl Process for WalletProcess {
    type Setup = WalletSetup;
    type Part = WalletPart;

    fn start(setup: &WalletSetup, disk: &SimDisk, node: &SimNode, world: World) -> Result<Self, Died> {
        WalletProcess::start(setup, disk, node, world)
    }

    fn turn(&mut self, part: WalletPart) -> Result<bool, Died> {
        WalletProcess::turn(self, part)
    }

    fn settle(&mut self) -> Result<(), Died> {
        WalletProcess::settle(self)
    }

    fn advance_ms(&mut self, ms: u64) {
        WalletProcess::advance_ms(self, ms);
    }

    fn stop(self) -> Result<(), Died> {
        WalletProcess::stop(self)
    }
}
