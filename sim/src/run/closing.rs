//! The end of every channel: together where both can be reached, alone otherwise, with a person's help where a program waits
//! for one.

use proto::hub::v1 as pb;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::due::funding_of;
use super::seats::{Character, Line, Seat};
use crate::audit::chain::{LEFT_LYING, Ledger};
use crate::audit::{Broken, Party};
use crate::chain::Whereabouts;
use crate::plan::Fault;
use crate::process::WalletProcess;

/// Blocks within which every channel ends: delays, final depths, second stages.
const CLOSING_BLOCKS: u32 = 700;
/// Blocks before who does not close together closes alone.
pub(super) const PATIENCE_BLOCKS: u32 = 30;
/// Blocks after which everybody is asked to close, the last time alone.
const CLOSES_AT: [u32; 3] = [0, 10, PATIENCE_BLOCKS];
/// Blocks after which a person looks what a program does not pay for, and how often.
const PERSON_LOOKS_AFTER_BLOCKS: u32 = 40;
const PERSON_LOOKS_EVERY_BLOCKS: u32 = 20;
/// What a person pays, in satoshi a virtual byte.
const PERSON_PAYS_SAT_PER_VB: u64 = 3;
/// What is less than this is not worth a close without the hub's help.
const WORTH_CLOSING_MSAT: u64 = 2_000_000;
/// Once everybody closes alone, blocks between two looks at what is left.
const LOOK_EVERY_BLOCKS: u32 = 4;
/// Blocks after which nobody waits for crumbs, and some more.
const CRUMBS_BLOCKS: u32 = settlement::limits::GIVE_UP_BLOCKS + settlement::limits::GIVE_UP_LOOK_BLOCKS;
const CRUMBS_EVERY_BLOCKS: u32 = 24;
/// Time for a close to be agreed on and sent.
const FORGETS_AFTER_SECONDS: u32 = 5;
/// Characters of what is left that are told.
const TOLD: usize = 4_000;

impl Run {
    pub(super) fn until_channels_end(&mut self) -> Result<(), Broken> {
        let mut left = Vec::new();
        for blocks in 0..CLOSING_BLOCKS {
            let together = blocks <= PATIENCE_BLOCKS;
            if together || blocks.is_multiple_of(LOOK_EVERY_BLOCKS) {
                left = self.close_what_is_open(blocks)?;
                if left.is_empty() {
                    return Ok(());
                }
            }
            if self.plan.faults.has(Fault::Chain) && CLOSES_AT.contains(&blocks) {
                self.forget_once()?;
            }
            if together {
                self.block()?;
            } else {
                self.block_for_all()?;
            }
        }
        let told: Vec<String> = left.iter().map(|(who, channel)| format!("{who}: {channel:?}")).collect();
        let left: String = told.join("; ").chars().take(TOLD).collect();
        Err(Broken::new("no channel is stuck", format!("after {CLOSING_BLOCKS} blocks: {left}")))
    }

    /// A node restarts before the next block, and what waits for it is forgotten: that is to be sent again.
    fn forget_once(&mut self) -> Result<(), Broken> {
        for _ in 0..FORGETS_AFTER_SECONDS {
            self.settle()?;
            self.advance(1_000);
        }
        self.note("miner", format_args!("bitcoind forgets what waits"));
        self.node.forget_mempool();
        Ok(())
    }

    /// What is not worth its fee is given up after a week. Few runs wait for that.
    pub(super) fn until_crumbs_are_given_up(&mut self) -> Result<(), Broken> {
        if !self.moments.waits_for_crumbs {
            return Ok(());
        }
        for blocks in 0..CRUMBS_BLOCKS {
            if blocks.is_multiple_of(CRUMBS_EVERY_BLOCKS) && !self.somebody_has_crumbs()? {
                return Ok(());
            }
            self.block_for_all()?;
        }
        Ok(())
    }

    fn somebody_has_crumbs(&mut self) -> Result<bool, Broken> {
        for number in 0..self.wallets.len() {
            if !self.is_gone(number) && self.channels(number, false)?.iter().any(is_crumbs) {
                return Ok(true);
            }
        }
        let listed = self.ask_operator(|operator| async move {
            operator.list_channels(Request::new(pb::ListChannelsRequest::default())).await
        })?;
        Ok(listed.is_some_and(|listed| listed.channels.iter().any(is_crumbs)))
    }

    /// Everybody closes what they have. What is still open is told.
    fn close_what_is_open(&mut self, blocks: u32) -> Result<Vec<(String, pb::Channel)>, Broken> {
        let mut left = Vec::new();
        for number in 0..self.wallets.len() {
            if !self.is_gone(number) {
                let channels = self.close_of_wallet(number, blocks)?;
                left.extend(channels.into_iter().map(|channel| (format!("wallet {number}"), channel)));
            }
        }
        if self.hub.line == Line::Open {
            let channels = self.close_of_hub(blocks)?;
            left.extend(channels.into_iter().map(|channel| ("hub".to_owned(), channel)));
        }
        Ok(left)
    }

    /// With a hub that is gone for good nobody publishes what is worth nothing to it.
    pub(super) fn is_left_open(&self, channel: &pb::Channel) -> bool {
        self.hub.line == Line::Cut && own_msat(channel) < WORTH_CLOSING_MSAT
    }

    /// It cheated, and meets nobody any more.
    pub(super) fn is_gone(&self, number: usize) -> bool {
        let wallet = &self.wallets[number];
        !wallet.is_honest() && wallet.line == Line::Cut
    }

    fn close_of_wallet(&mut self, number: usize, blocks: u32) -> Result<Vec<pb::Channel>, Broken> {
        let mut channels = self.channels(number, false)?;
        self.hear_wallet(number, &channels)?;
        self.look_at_closing(Party::Wallet(number), &channels, blocks)?;
        channels.retain(|channel| self.may_yet_end(channel) && !self.is_left_open(channel));
        let closes = CLOSES_AT.contains(&blocks);
        for channel in channels.iter().filter(|_| closes) {
            let request = wallet_pb::CloseChannelRequest {
                channel_id: channel.channel_id.clone(),
                force: blocks == PATIENCE_BLOCKS,
                ..Default::default()
            };
            self.ask_wallet(
                number,
                |service| async move { service.close_channel(Request::new(request)).await },
            )?;
        }
        channels.retain(|channel| !is_crumbs(channel));
        for request in waits_for_a_person(&channels, blocks) {
            self.ask_wallet(number, |service| async move { service.bump(Request::new(request)).await })?;
        }
        Ok(channels)
    }

    fn close_of_hub(&mut self, blocks: u32) -> Result<Vec<pb::Channel>, Broken> {
        self.resume_publishing()?;
        // Nobody is near a deadline, so the breaker asks: yes.
        self.ask_operator(|operator| async move {
            operator.release_held(Request::new(pb::ReleaseHeldRequest {})).await
        })?;
        let listed = self.ask_operator(|operator| async move {
            operator.list_channels(Request::new(pb::ListChannelsRequest::default())).await
        })?;
        let mut channels = listed.map(|listed| listed.channels).unwrap_or_default();
        self.hear_hub(&channels)?;
        self.look_at_closing(Party::Hub, &channels, blocks)?;
        for channel in channels.iter().filter(|_| blocks == PATIENCE_BLOCKS) {
            // Whoever cheated and never came back is not waited for.
            self.operator_closes_one(channel.channel_id.clone(), true)?;
        }
        for request in waits_for_a_person(&channels, blocks) {
            self.ask_operator(|operator| async move { operator.bump(Request::new(request)).await })?;
        }
        channels.retain(|channel| {
            self.may_yet_end(channel) && !is_crumbs(channel) && !self.waits_in_vain(channel)
        });
        Ok(channels)
    }

    /// Not so where the other side alone could send the funding, never did, and nothing in it is this side's: that is forgotten
    /// after two weeks, and nobody waits for it. Nor where this side made the funding and lost it, with all its data, before it
    /// sent it: no node has it, and none will. Nor where what the other side's funding was made of was taken by something else, of
    /// which this side has seen nothing.
    fn may_yet_end(&self, channel: &pb::Channel) -> bool {
        let was_lost = awaits(channel) == Some(pb::OnchainAwaits::PeerCommitment)
            && channel.confirmations == 0
            && funding_of(channel)
                .is_some_and(|funding| self.node.transaction(funding.txid) == Whereabouts::Nowhere);
        let is_replaced = || {
            let funding =
                funding_of(channel).filter(|_| !channel.funded_locally && channel.confirmations == 0);
            funding.is_some_and(|funding| Ledger::new(&self.node).can_never_be(funding.txid))
        };
        !was_lost
            && !is_replaced()
            && (channel.funded_locally || channel.confirmations > 0 || channel.local_msat > 0)
    }

    /// Who could end it is gone for good: a hub that forgot what it revoked may not close it alone, and a funding that a
    /// reorganisation lost is sent again by whoever made it.
    fn waits_in_vain(&self, channel: &pb::Channel) -> bool {
        let is_peer =
            |wallet: &Seat<WalletProcess>| wallet.setup.node_id().as_bytes()[..] == channel.node_key[..];
        let peer = self.wallets.iter().position(is_peer);
        let forgot = self.hub.character == Character::Forgetful
            && awaits(channel) == Some(pb::OnchainAwaits::PeerCommitment);
        let is_unfunded = || {
            !channel.funded_locally
                && channel.confirmations == 0
                && funding_of(channel)
                    .is_some_and(|funding| self.node.transaction(funding.txid) == Whereabouts::Nowhere)
        };
        peer.is_some_and(|number| self.is_gone(number)) && (forgot || is_unfunded())
    }
}

/// What a party may have in a channel: its balance, and what it took of what is in flight, which the other side never confirmed.
pub(super) fn own_msat(channel: &pb::Channel) -> u64 {
    channel.local_msat.saturating_add(channel.in_flight_msat)
}

fn awaits(channel: &pb::Channel) -> Option<pb::OnchainAwaits> {
    channel.onchain.as_ref().map(pb::OnchainClose::awaits)
}

/// What is left of it is worth less than it costs, and is given up after a week without company. What is the payer's again, and
/// lies there because its claim costs as much, or because the payer is gone, keeps nothing open.
fn is_crumbs(channel: &pb::Channel) -> bool {
    let Some(onchain) = channel.onchain.as_ref().filter(|onchain| onchain.r#final) else { return false };
    let mut crumbs = false;
    onchain.outputs.iter().all(|output| match output.stage() {
        pb::OnchainStage::TooDear => {
            crumbs = true;
            output.value_sat < LEFT_LYING.to_sat()
        }
        pb::OnchainStage::Final | pb::OnchainStage::AwaitsPreimage => true,
        _ => false,
    }) && crumbs
}

/// A person pays for commitments that are not worth their fee to the program.
fn waits_for_a_person(channels: &[pb::Channel], blocks: u32) -> Vec<pb::BumpRequest> {
    if blocks < PERSON_LOOKS_AFTER_BLOCKS || !blocks.is_multiple_of(PERSON_LOOKS_EVERY_BLOCKS) {
        return Vec::new();
    }
    let own = channels.iter().filter_map(|channel| channel.onchain.as_ref()?.own.as_ref());
    let dear = own.filter(|own| own.stage() == pb::OnchainStage::TooDear && !own.transaction.is_empty());
    dear.map(|own| pb::BumpRequest {
        transaction: own.transaction.clone(),
        feerate_sat_per_vb: PERSON_PAYS_SAT_PER_VB,
        ..Default::default()
    })
    .collect()
}
