//! What goes wrong by itself: power, disks, connections.

use super::Run;
use super::chain_mishap::Away;
use super::seats::{Character, Line};
use crate::audit::{Broken, Party};
use crate::chain::Pressure;
use crate::disk::{Cut, Trouble};
use crate::net::{Speaker, Weather};

/// Steps that bad weather, high fees and a missing bitcoind last.
const SPELL_STEPS: (u64, u64) = (3, 30);

/// What lasts for a while: the step before which it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spells {
    weather: Option<u64>,
    pub(super) pressure: Option<u64>,
    pub(super) away: Option<Away>,
}

impl Spells {
    /// Whether anybody's node is away.
    pub(super) fn any_away(&self) -> bool {
        self.away.is_some()
    }

    /// Whether this party's node is away.
    pub(super) fn is_away(&self, party: Party) -> bool {
        self.away.as_ref().is_some_and(|away| away.is(party))
    }
}

impl Run {
    pub(super) fn mishap(&mut self) -> Result<(), Broken> {
        self.end_spells();
        let mut comes = |every: Option<u32>| every.is_some_and(|every| self.chance.faults.one_of(1, every));
        let climate = &self.climate;
        let crash = comes(climate.crash_every);
        let disk = comes(climate.disk_every);
        let net = comes(climate.net_every);
        let chain = comes(climate.chain_every);
        if crash {
            self.crash()?;
        }
        if disk {
            self.disk_trouble();
        }
        if net {
            self.net_trouble();
        }
        if chain {
            self.chain_trouble();
        }
        if self.climate.chain_every.is_some() {
            self.undo_close();
        }
        Ok(())
    }

    fn end_spells(&mut self) {
        let now = self.counts.steps;
        let over = |spell: &mut Option<u64>| spell.take_if(|end| *end <= now).is_some();
        if over(&mut self.spells.weather) {
            self.net.set_weather(Weather { max_delay_ms: 0 });
        }
        if over(&mut self.spells.pressure) {
            self.note("faults", format_args!("feerates are as ever"));
            self.node.set_pressure(Pressure::default());
        }
        self.end_away();
    }

    pub(super) fn spell(&mut self) -> Option<u64> {
        Some(self.counts.steps + self.chance.faults.within(SPELL_STEPS.0, SPELL_STEPS.1))
    }

    fn crash(&mut self) -> Result<(), Broken> {
        let cut = if self.chance.faults.one_of(1, 2) { Cut::Kill } else { Cut::Power };
        let back_ms = self.clock.now_ms() + self.chance.faults.within(0, 8_000);
        let drawn = self.chance.faults.below(self.wallets.len() + 2);
        let lags = self.chance.faults.one_of(1, 2);
        if drawn >= self.wallets.len() {
            if self.hub.process.is_none() {
                return Ok(());
            }
            if lags {
                self.disk_lags(Party::Hub)?;
            }
            self.note("faults", format_args!("the hub's end: {cut:?}"));
            self.hub.kill(cut, &mut self.chance.disk);
            self.hub.back_ms = back_ms;
            self.net.hub_died();
        } else {
            if self.wallets[drawn].process.is_none() {
                return Ok(());
            }
            if lags {
                self.disk_lags(Party::Wallet(drawn))?;
            }
            self.note("faults", format_args!("wallet {drawn}'s end: {cut:?}"));
            self.wallets[drawn].kill(cut, &mut self.chance.disk);
            self.wallets[drawn].back_ms = back_ms;
            self.net.wallet_died(drawn);
        }
        self.counts.crashes += 1;
        Ok(())
    }

    fn disk_trouble(&mut self) {
        let after = u32::try_from(self.chance.faults.within(0, 12)).unwrap_or(0);
        let trouble = match self.chance.faults.below(3) {
            0 => Trouble::Full,
            1 => Trouble::SyncFails { after },
            _ => Trouble::ReadFails { after },
        };
        let drawn = self.chance.faults.below(self.wallets.len() + 1);
        self.note("faults", format_args!("disk {drawn}: {trouble:?}"));
        match self.wallets.get(drawn) {
            Some(wallet) => wallet.trouble(trouble),
            None => self.hub.disk.trouble(trouble),
        }
    }

    fn net_trouble(&mut self) {
        let links = self.net.links();
        match self.chance.faults.below(4) {
            0 => {
                let max_delay_ms = if self.chance.faults.one_of(1, 2) { 50 } else { 3_000 };
                self.note("faults", format_args!("up to {max_delay_ms} ms on the way"));
                self.net.set_weather(Weather { max_delay_ms });
                self.spells.weather = self.spell();
            }
            1 => {
                if let Some(link) = self.chance.faults.pick(&links) {
                    let until = self.clock.now_ms() + self.chance.faults.within(100, 60_000);
                    self.net.stall(*link, until);
                }
            }
            _ => {
                if let Some(link) = self.chance.faults.pick(&links) {
                    self.net.cut(*link);
                }
            }
        }
    }

    /// From here on nothing goes wrong any more, and everybody is honest who still can be.
    pub(super) fn calm(&mut self) {
        self.note("faults", format_args!("the storm is over"));
        self.stormy = false;
        self.give_back_node();
        self.spells = Spells::default();
        self.end_all_oddities();
        self.node.set_pressure(Pressure::default());
        self.net.set_weather(Weather { max_delay_ms: 0 });
        let now = self.clock.now_ms();
        for link in self.net.links() {
            self.net.stall(link, now);
        }
        self.hub.disk.trouble(Trouble::None);
        self.hub.back_ms = now;
        for (number, wallet) in self.wallets.iter_mut().enumerate() {
            wallet.trouble(Trouble::None);
            // Who vanished for good stays away.
            if wallet.line == Line::Open || wallet.process.is_some() {
                wallet.back_ms = now;
            }
            if wallet.character == Character::Hostile {
                self.net.set_tamper(Speaker::Wallet(number), None);
            }
        }
        if self.hub.character == Character::Hostile {
            self.net.set_tamper(Speaker::Hub, None);
        }
    }
}
