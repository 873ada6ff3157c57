//! Data that is lost or old, of honest people: a wallet of which only its words are left, a hub that goes back to a backup.

use std::collections::{BTreeMap, BTreeSet};

use channel::amount::Msat;
use channel::ids::ChannelId;
use proto::hub::v1 as pb;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::calls::note_payment;
use super::seats::{Bitcoind, Character, Line};
use crate::audit::Broken;
use crate::disk::{Cut, SimDisk};

/// What the auditor keeps of what its owners forgot.
#[derive(Default)]
pub struct Lost {
    /// The channels that a wallet knew when it lost everything, which it may not know again.
    channels: BTreeMap<usize, Vec<pb::Channel>>,
    /// Payments of which a wallet said the last word before that.
    payments: BTreeMap<usize, BTreeSet<[u8; 32]>>,
    /// The most that wallets had paid for each channel, in msat: those that ended, or were lost, are forgotten with their prices.
    prices: BTreeMap<(usize, ChannelId), u64>,
    /// What the hub lost to those who undid the blocks that it relied on, at most.
    pub robbed_sat: u64,
    /// What the hub may go back to.
    backup: Option<SimDisk>,
}

impl Lost {
    /// Whether a wallet need not know the payment any more.
    pub fn forgave(&self, wallet: usize, hash: &[u8; 32]) -> bool {
        self.payments.get(&wallet).is_some_and(|lost| lost.contains(hash))
    }

    /// What a wallet has paid for channels by now.
    pub fn note_prices(&mut self, wallet: usize, paid: impl IntoIterator<Item = (ChannelId, Msat)>) {
        for (channel, paid) in paid {
            let most = self.prices.entry((wallet, channel)).or_default();
            *most = paid.to_u64().max(*most);
        }
    }

    /// What a wallet has paid for channels that the hub opened, in msat.
    pub fn prices_paid_msat(&self, wallet: usize) -> u64 {
        self.prices.iter().filter(|((owner, _), _)| *owner == wallet).map(|(_, paid)| paid).sum()
    }

    /// Whether nobody lost anything.
    pub fn is_nothing(&self) -> bool {
        self.channels.is_empty()
    }

    /// Those of a wallet's channels that it forgot.
    pub fn channels(&self, wallet: usize, known: &[pb::Channel]) -> Vec<pb::Channel> {
        let lost = self.channels.get(&wallet).into_iter().flatten();
        lost.filter(|lost| !known.iter().any(|one| one.channel_id == lost.channel_id)).cloned().collect()
    }
}

impl Run {
    /// A wallet's machine is lost. Its words are put into a new one, which asks the hub to close all it has with it. What was
    /// not over by then may be lost with it, so its owner is only seen to do it when nothing is under way.
    pub(super) fn restore_from_words(&mut self, number: usize) -> Result<(), Broken> {
        if self.lose_machine(number)? { self.start_wallet(number) } else { Ok(()) }
    }

    /// False, and nothing happened, where the owner would not be seen to do it.
    pub(super) fn lose_machine(&mut self, number: usize) -> Result<bool, Broken> {
        // With a hub that does not tell what it knows the coins would be lost, as they would without any hub.
        let hub_tells = self.hub.character == Character::Honest;
        if !hub_tells || !self.wallets[number].is_honest() || !self.may_be_restored(number)? {
            return Ok(false);
        }
        self.note("people", format_args!("wallet {number} loses all but its words"));
        self.say_wallet(number);
        self.wallets[number].kill(Cut::Kill, &mut self.chance.disk);
        self.net.wallet_died(number);
        self.wallets[number].disk = SimDisk::new();
        self.wallets[number].setup.restored();
        self.owners[number] = super::seats::Owner::default();
        Ok(true)
    }

    /// Whether nothing is under way in the wallet. What it has to say is then noted, for it will not say it again.
    fn may_be_restored(&mut self, number: usize) -> Result<bool, Broken> {
        if self.wallets[number].process.is_none()
            || self.bitcoind(crate::audit::Party::Wallet(number)) == Bitcoind::Away
        {
            return Ok(false);
        }
        let channels = self.channels(number, true)?;
        let settled = |channel: &pb::Channel| match channel.phase() {
            pb::ChannelPhase::Open | pb::ChannelPhase::Closed => channel.htlcs == 0,
            pb::ChannelPhase::Aborted => true,
            _ => false,
        };
        if !channels.iter().all(settled) {
            return Ok(false);
        }
        // Whose disk fails right now does not answer.
        let Ok(payments) = self.payments_of(number) else { return Ok(false) };
        if payments.iter().any(|payment| payment.state() == wallet_pb::PaymentState::InFlight) {
            return Ok(false);
        }
        let streams = self.ask_wallet(number, |service| async move {
            service.list_streams(Request::new(wallet_pb::ListStreamsRequest::default())).await
        })?;
        if streams.is_none_or(|listed| !listed.streams.is_empty()) {
            return Ok(false);
        }
        // The world went on while its owner looked: an opening may have come meanwhile.
        let now = self.channels(number, true)?;
        if now.len() != channels.len() || !now.iter().all(settled) {
            return Ok(false);
        }
        for payment in &payments {
            note_payment(number, payment, &mut self.books)?;
        }
        let said: Vec<[u8; 32]> = self.books.acknowledged_by(number).collect();
        self.lost.payments.entry(number).or_default().extend(said);
        self.watching.forget(number, &channels);
        self.books.withdraw_invoices();
        self.lost.channels.entry(number).or_default().extend(channels);
        Ok(true)
    }

    /// The operator keeps a backup, or goes back to it: then the hub has forgotten what came after, and may lose by that.
    pub(super) fn go_back_to_a_backup(&mut self) -> Result<(), Broken> {
        if self.hub.character != Character::Honest || self.hub.line == Line::Cut || self.hub.process.is_none()
        {
            return Ok(());
        }
        // Nobody would know what both have lost.
        if !self.lost.channels.is_empty() {
            return Ok(());
        }
        let Some(backup) = self.lost.backup.take() else {
            self.note("people", format_args!("the operator keeps a backup of the hub"));
            self.lost.backup = Some(self.hub.disk.copy());
            return Ok(());
        };
        self.note("people", format_args!("the operator goes back to a backup of the hub"));
        self.say("hub");
        self.hub.kill(Cut::Kill, &mut self.chance.disk);
        self.net.hub_died();
        self.hub.disk.restore(&backup);
        self.hub.character = Character::Forgetful;
        self.start_hub()
    }
    /// A hub that was proven to have forgotten something publishes nothing until its operator says so.
    pub(super) fn resume_publishing(&mut self) -> Result<(), Broken> {
        if self.hub.character == Character::Forgetful {
            self.ask_operator(|operator| async move {
                operator.resume_publishing(Request::new(pb::ResumePublishingRequest {})).await
            })?;
        }
        Ok(())
    }
}
