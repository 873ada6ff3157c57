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

/// The hub's machine.
pub struct HubSeat {
    pub setup: HubSetup,
    pub disk: SimDisk,
    pub world: World,
    pub process: Option<HubProcess>,
    /// When it is started again, in milliseconds since 1970.
    pub back_ms: u64,
    pub character: Character,
    pub line: Line,
    /// What a cheating hub goes back to.
    pub backup: Option<SimDisk>,
}

/// A wallet's machine, and what its owner waits for.
pub struct WalletSeat {
    pub setup: WalletSetup,
    pub disk: SimDisk,
    pub world: World,
    pub process: Option<WalletProcess>,
    pub back_ms: u64,
    pub character: Character,
    pub line: Line,
    pub backup: Option<SimDisk>,
    pub asked: Vec<Asked>,
    /// Payments it will decide about.
    pub held: Vec<Vec<u8>>,
}

/// Whether the chain can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bitcoind {
    There,
    Away,
}

/// What became of a start.
pub enum Started {
    Yes,
    /// Bitcoind is away, and it cannot begin without.
    NotYet,
}

/// A death that the disk explains is none that the auditor asks about.
fn excused(disk: &SimDisk, died: &Died) -> Result<(), Broken> {
    if disk.has_failed() {
        return Ok(());
    }
    Err(Broken::new("processes live", died.to_string()))
}

impl HubSeat {
    pub fn start(&mut self, node: &SimNode, chance: &mut Chance) -> Result<(), Broken> {
        match HubProcess::start(&self.setup, &self.disk, node, self.world.clone()) {
            Ok(process) => self.process = Some(process),
            Err(died) => self.died(&died, chance)?,
        }
        Ok(())
    }

    /// Turns a part; whether it moved.
    pub fn turn(&mut self, part: HubPart, chance: &mut Chance) -> Result<bool, Broken> {
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
}

impl WalletSeat {
    pub fn start(
        &mut self,
        node: &SimNode,
        bitcoind: Bitcoind,
        chance: &mut Chance,
    ) -> Result<Started, Broken> {
        match WalletProcess::start(&self.setup, &self.disk, node, self.world.clone()) {
            Ok(process) => {
                self.process = Some(process);
                Ok(Started::Yes)
            }
            Err(died) if bitcoind == Bitcoind::There => self.died(&died, chance).map(|()| Started::NotYet),
            Err(_) => {
                self.kill(Cut::Kill, chance);
                Ok(Started::NotYet)
            }
        }
    }

    pub fn turn(&mut self, part: WalletPart, chance: &mut Chance) -> Result<bool, Broken> {
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

    fn died(&mut self, died: &Died, chance: &mut Chance) -> Result<(), Broken> {
        excused(&self.disk, died)?;
        self.kill(Cut::Kill, chance);
        Ok(())
    }

    pub fn kill(&mut self, cut: Cut, chance: &mut Chance) {
        self.disk.cut(cut, chance);
        self.process = None;
        self.asked.clear();
    }

    pub fn stop(&mut self, chance: &mut Chance) -> Result<(), Broken> {
        let Some(process) = self.process.take() else { return Ok(()) };
        self.asked.clear();
        let stopped = process.stop();
        let result = stopped.or_else(|died| excused(&self.disk, &died));
        self.disk.cut(Cut::Kill, chance);
        result
    }

    /// Whether its word counts.
    pub fn is_honest(&self) -> bool {
        self.character == Character::Honest
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.disk.trouble(trouble);
    }
}
