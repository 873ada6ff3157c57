//! What goes wrong by itself: power, disks, connections, the chain.

use std::collections::BTreeMap;

use bitcoin::{FeeRate, Weight};

use super::Run;
use super::seats::Character;
use crate::audit::Broken;
use crate::chain::{Keep, Mine, Pressure};
use crate::disk::{Cut, Trouble};
use crate::net::Weather;
use crate::plan::Fault;

/// In so many steps one mishap of each kind, on average.
const CRASH_EVERY: u32 = 12;
const DISK_EVERY: u32 = 60;
const NET_EVERY: u32 = 10;
const CHAIN_EVERY: u32 = 25;
/// Reorganisations stay below the final depth of hub and wallets.
const DEEPEST: u64 = 5;

impl Run {
    pub(super) fn mishap(&mut self) -> Result<(), Broken> {
        if self.plan.faults.has(Fault::Crash) && self.chance.faults.one_of(1, CRASH_EVERY) {
            self.crash();
        }
        if self.plan.faults.has(Fault::Disk) && self.chance.faults.one_of(1, DISK_EVERY) {
            self.disk_trouble();
        }
        if self.plan.faults.has(Fault::Net) && self.chance.faults.one_of(1, NET_EVERY) {
            self.net_trouble();
        }
        if self.plan.faults.has(Fault::Chain) && self.chance.faults.one_of(1, CHAIN_EVERY) {
            self.chain_trouble();
        }
        Ok(())
    }

    fn crash(&mut self) {
        let cut = if self.chance.faults.one_of(1, 2) { Cut::Kill } else { Cut::Power };
        let back_ms = self.clock.now_ms() + self.chance.faults.within(0, 8_000);
        let drawn = self.chance.faults.below(self.wallets.len() + 2);
        if drawn >= self.wallets.len() {
            if self.hub.process.is_none() {
                return;
            }
            self.note("faults", format_args!("the hub's end: {cut:?}"));
            self.hub.kill(cut, &mut self.chance.disk);
            self.hub.back_ms = back_ms;
            self.net.hub_died();
        } else {
            if self.wallets[drawn].process.is_none() {
                return;
            }
            self.note("faults", format_args!("wallet {drawn}'s end: {cut:?}"));
            self.wallets[drawn].kill(cut, &mut self.chance.disk);
            self.wallets[drawn].back_ms = back_ms;
            self.net.wallet_died(drawn);
        }
        self.counts.crashes += 1;
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
                let max_delay_ms = match self.chance.faults.below(3) {
                    0 => 0,
                    1 => 50,
                    _ => 3_000,
                };
                self.note("faults", format_args!("up to {max_delay_ms} ms on the way"));
                self.net.set_weather(Weather { max_delay_ms });
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

    fn chain_trouble(&mut self) {
        match self.chance.faults.below(6) {
            0 | 1 => {
                let depth = u32::try_from(self.chance.faults.within(1, DEEPEST)).unwrap_or(1);
                let keep = *self
                    .chance
                    .faults
                    .pick(&[Keep::Return, Keep::Again, Keep::Drop])
                    .unwrap_or(&Keep::Return);
                self.note("faults", format_args!("{depth} blocks are reorganised, {keep:?}"));
                self.node.reorganise(depth, keep);
                self.counts.reorgs += 1;
            }
            2 => {
                let rate = FeeRate::from_sat_per_vb(self.chance.faults.within(1, 40))
                    .unwrap_or(FeeRate::BROADCAST_MIN);
                self.note("faults", format_args!("feerates rise to {rate}"));
                let minimum = if self.chance.faults.one_of(1, 2) { rate } else { FeeRate::BROADCAST_MIN };
                self.node.set_pressure(Pressure { minimum, estimates: BTreeMap::from([(1, rate)]) });
            }
            3 => {
                self.note("faults", format_args!("feerates are as ever"));
                self.node.set_pressure(Pressure::default());
            }
            4 => {
                let down = !self.bitcoind_away;
                self.bitcoind_away = down;
                self.note("faults", format_args!("bitcoind is away: {down}"));
                self.node.set_all_down(down);
            }
            _ => {
                // A miner who wants nobody's transactions, or hardly any.
                let blocks = self.chance.faults.within(1, 8);
                let weight = Weight::from_wu(self.chance.faults.within(0, 4_000));
                self.note("faults", format_args!("{blocks} blocks with hardly any room"));
                for _ in 0..blocks {
                    self.node.mine(&Mine { weight_limit: weight, ..Mine::default() });
                    self.counts.blocks += 1;
                }
            }
        }
    }

    /// From here on nothing goes wrong any more, and everybody is honest who still can be.
    pub(super) fn calm(&mut self) {
        self.note("faults", format_args!("the storm is over"));
        self.stormy = false;
        self.node.set_all_down(false);
        self.bitcoind_away = false;
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
            wallet.back_ms = now;
            if wallet.character == Character::Hostile {
                self.net.set_tamper(number, None);
            }
        }
    }
}
