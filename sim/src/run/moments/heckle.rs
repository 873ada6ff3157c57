//! Words, closes and rival coins at the moments that last shortest: an opening, an agreed close, the turn in which a channel
//! ends.

use bytes::Bytes;
use proto::hub::v1 as pb;
use proto::hub::v1::ChannelPhase;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use crate::audit::{Broken, Party};
use crate::process::HubProcess;
use crate::run::Run;
use crate::run::act::Invoice;
use crate::run::calls::Hold;
use crate::run::seats::{Character, Line};
use crate::run::strange;

/// Confirmations after which a close is final, for hub and wallets.
const FINAL_DEPTH: u32 = 6;
/// Words that a heckler says, each over a connection of its own.
const ROUNDS: (u64, u64) = (2, 6);
/// A lag ends by itself no sooner.
const LAG_MS: u64 = 60_000;
/// How long a desk waits for fees, in milliseconds, and a little.
const ESTIMATE_MS: u64 = 2_100;
/// Blocks after which a robber takes its coins back: fewer than are final, and as many as make a channel ready.
const ROBBED: (u64, u64) = (4, 5);
/// More than a wallet has.
const TOO_DEAR_SAT: u64 = 40_000_000;

impl Run {
    /// A hostile wallet speaks out of place about channels that are being closed.
    pub(super) fn heckle(&mut self) -> Result<(), Broken> {
        let Some(number) = self.some_heckler() else { return Ok(()) };
        self.note("cheats", format_args!("wallet {number} heckles"));
        for _ in 0..self.moments.chance.within(ROUNDS.0, ROUNDS.1) {
            self.until_block_is_due()?;
            let channels = self.of_wallet(number)?;
            let ending: Vec<&pb::Channel> = channels.iter().filter(|channel| is_ending(channel)).collect();
            let tip = self.node.height();
            let at_end = ending.iter().find(|channel| {
                channel.closing_height > 0 && channel.closing_height + FINAL_DEPTH == tip + 2
            });
            if let Some(channel) = at_end {
                let id = channel.channel_id.clone();
                self.heckle_the_end(number, &id)?;
                continue;
            }
            match self.moments.chance.pick(&ending) {
                Some(channel) => {
                    let frame = strange::about(&channel.channel_id, 1, &mut self.moments.chance);
                    self.net.say(number, &frame, self.clock.now_ms());
                }
                None if self.moments.chance.one_of(1, 4) => self.heckle_an_opening(number)?,
                None => {
                    let open = channels.iter().find(|channel| channel.phase() == ChannelPhase::Open);
                    if let Some(id) = open.map(|channel| channel.channel_id.clone()) {
                        self.closes(Party::Wallet(number), &id, false);
                    }
                }
            }
            self.settle()?;
            if self.moments.chance.one_of(1, 2)
                && let Some(link) = self.net.link_of(number)
            {
                self.net.cut(link);
            }
            self.advance(2_500);
            self.settle()?;
            if self.moments.chance.one_of(1, 3) {
                self.block_for_all()?;
            }
        }
        Ok(())
    }

    fn some_heckler(&mut self) -> Option<usize> {
        let hostile: Vec<usize> = (0..self.wallets.len())
            .filter(|number| {
                let wallet = &self.wallets[*number];
                wallet.character == Character::Hostile
                    && wallet.line == Line::Open
                    && wallet.process.is_some()
            })
            .collect();
        self.moments.chance.pick(&hostile).copied()
    }

    fn all_shards_fall_behind(&mut self) {
        for shard in 0..self.hub.setup.shards() {
            self.shard_falls_behind(shard, LAG_MS);
        }
    }

    /// All that a wallet, the operator and the chain say of a channel in the turn in which it ends.
    fn heckle_the_end(&mut self, number: usize, id: &Bytes) -> Result<(), Broken> {
        self.all_shards_fall_behind();
        self.mine(1);
        self.advance(1_000);
        self.settle()?;
        let frame = strange::about(id, strange::EVERYTHING, &mut self.moments.chance);
        self.net.say(number, &frame, self.clock.now_ms());
        let force = self.moments.chance.one_of(1, 2);
        self.closes(Party::Hub, id, force);
        self.settle()?;
        self.catch_up();
        self.settle()
    }

    /// An opener gives up in the turn in which its funding confirms.
    fn heckle_an_opening(&mut self, number: usize) -> Result<(), Broken> {
        self.open_own(number, None);
        self.settle()?;
        self.advance(1_000);
        self.settle()?;
        let channels = self.of_wallet(number)?;
        let awaiting =
            channels.iter().filter(|channel| channel.phase() == ChannelPhase::AwaitingConfirmation);
        let ids: Vec<Bytes> = awaiting.map(|channel| channel.channel_id.clone()).collect();
        self.all_shards_fall_behind();
        for id in &ids {
            let frame = strange::given_up(id);
            self.net.say(number, &frame, self.clock.now_ms());
        }
        self.settle()?;
        self.mine(1);
        self.advance(1_000);
        self.settle()?;
        self.catch_up();
        self.settle()
    }

    /// A wallet opens a channel with its own coins, and does not wait.
    fn open_own(&mut self, number: usize, amount_sat: Option<u64>) {
        let amount_sat = amount_sat.unwrap_or_else(|| self.capacity_sat());
        let Some(process) = &self.wallets[number].process else { return };
        let request = wallet_pb::OpenChannelRequest { amount_sat, ..Default::default() };
        drop(process.call(|service| async move { service.open_channel(Request::new(request)).await }));
    }

    /// An opening waits for a slow node, and is closed, cut or answered meanwhile, all at once as often as not.
    pub(super) fn open_amiss(&mut self) -> Result<(), Broken> {
        let number = self.moments.chance.below(self.wallets.len());
        if !self.lives(Party::Hub) || !self.lives(Party::Wallet(number)) {
            return Ok(());
        }
        let name = self.wallets[number].setup.name.clone();
        self.note("faults", format_args!("wallet {number} opens a channel while nodes are slow"));
        self.let_fees_be_unknown(&["hub", &name])?;
        let done = self.close_an_opening(number);
        ["hub", &name].iter().for_each(|name| self.node.set_slow(name, None));
        done?;
        self.catch_up();
        self.settle()
    }

    fn close_an_opening(&mut self, number: usize) -> Result<(), Broken> {
        // Nobody is asked: lists wait for desks, which wait for fees.
        let before = self.hub.process.as_ref().map(HubProcess::channel_ids).unwrap_or_default();
        match self.moments.chance.below(4) {
            0 => self.open_own(number, Some(TOO_DEAR_SAT)),
            _ => self.open_something(number),
        }
        self.settle()?;
        let mut young = self.hub.process.as_ref().map(HubProcess::channel_ids).unwrap_or_default();
        young.retain(|id| !before.contains(id));
        if self.moments.chance.one_of(3, 4) {
            self.all_shards_fall_behind();
            if let Some(wallet) = &mut self.wallets[number].process {
                wallet.fall_behind();
            }
        }
        let cut = self.moments.chance.one_of(1, 4);
        if let Some(link) = self.net.link_of(number).filter(|_| cut) {
            self.net.cut(link);
        }
        let force = self.moments.chance.one_of(1, 2);
        for by in [Party::Hub, Party::Wallet(number)] {
            if self.moments.chance.one_of(2, 3) {
                young.iter().for_each(|id| self.closes(by, &Bytes::copy_from_slice(&id.0), force));
            }
        }
        self.settle()?;
        self.advance(ESTIMATE_MS);
        self.settle()
    }

    /// A hostile wallet opens a channel, uses it or closes it, and takes its coins back by a rival of the funding.
    pub(super) fn rob(&mut self) -> Result<(), Broken> {
        let Some(number) = self.some_heckler() else { return Ok(()) };
        self.note("cheats", format_args!("wallet {number} opens a channel to take it back"));
        self.open_own(number, None);
        self.settle()?;
        self.advance(1_000);
        self.settle()?;
        let depth = u32::try_from(self.moments.chance.within(ROBBED.0, ROBBED.1)).unwrap_or(1);
        for _ in 0..depth {
            self.block_for_all()?;
        }
        let (pays, closes) = (self.moments.chance.one_of(1, 2), self.moments.chance.one_of(1, 2));
        if pays {
            let count = self.wallets.len();
            let other = (number + 1 + self.moments.chance.below(count - 1)) % count;
            for (payer, payee) in [(other, number), (number, other)] {
                let amount_msat = self.moments.chance.within(1_000, 20_000_000);
                self.invoice(Invoice { payer, payee, amount_msat, hold: Hold::Yes });
            }
            self.rounds()?;
        }
        if closes {
            let channels = self.of_wallet(number)?;
            let newest = channels.iter().rev().find(|channel| channel.phase() == ChannelPhase::Open);
            if let Some(id) = newest.map(|channel| channel.channel_id.clone()) {
                self.closes(Party::Wallet(number), &id, false);
            }
            self.rounds()?;
        }
        if self.take_back(number, depth)? {
            self.pass_blocks(u64::from(FINAL_DEPTH) + 2)?;
        }
        Ok(())
    }
}

fn is_ending(channel: &pb::Channel) -> bool {
    match channel.phase() {
        ChannelPhase::ShuttingDown | ChannelPhase::Frozen | ChannelPhase::Closing => true,
        ChannelPhase::Unspecified
        | ChannelPhase::Opening
        | ChannelPhase::AwaitingConfirmation
        | ChannelPhase::Open
        | ChannelPhase::Closed
        | ChannelPhase::Failed
        | ChannelPhase::Aborted
        | ChannelPhase::Quarantined => false,
    }
}
