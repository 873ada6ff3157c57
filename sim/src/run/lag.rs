//! A disk that takes its time: everybody works on, and what one of them writes waits. Who is killed then has told nobody what
//! is lost, if it keeps to its rules.

use super::Run;
use crate::audit::{Broken, Party};
use crate::process::{HubPart, WalletPart};

/// Most rounds that everybody works meanwhile.
const MOST_ROUNDS: u64 = 6;
/// Polls of tasks in a round.
const POLLS: u32 = 24;

impl Run {
    /// Everybody but this one's journal has some turns.
    pub(super) fn disk_lags(&mut self, whose: Party) -> Result<(), Broken> {
        self.note("faults", format_args!("the disk of {whose} takes its time"));
        for _ in 0..self.chance.faults.within(1, MOST_ROUNDS) {
            self.hub_works(whose == Party::Hub)?;
            for number in 0..self.wallets.len() {
                self.wallet_works(number, whose == Party::Wallet(number))?;
            }
            self.connect_dialers()?;
            self.say("net");
            for link in self.net.links() {
                self.net.carry(link, self.clock.now_ms());
            }
        }
        Ok(())
    }

    pub(super) fn hub_works(&mut self, lags: bool) -> Result<(), Broken> {
        self.say("hub");
        let shards = (0..self.hub.setup.shards()).map(HubPart::Shard);
        let tasks = [HubPart::Tasks { polls: POLLS }];
        let parts = tasks.into_iter().chain([HubPart::Control]).chain(shards).chain(tasks);
        for part in parts.chain((!lags).then_some(HubPart::Journal)) {
            self.hub.turn(part, &mut self.chance.disk)?;
        }
        Ok(())
    }

    pub(super) fn wallet_works(&mut self, number: usize, lags: bool) -> Result<(), Broken> {
        self.say_wallet(number);
        let tasks = WalletPart::Tasks { polls: POLLS };
        let parts = [tasks, WalletPart::Core, tasks];
        for part in parts.into_iter().chain((!lags).then_some(WalletPart::Journal)) {
            self.wallets[number].turn(part, &mut self.chance.disk)?;
        }
        Ok(())
    }
}
