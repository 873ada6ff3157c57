//! What the chain says of closes, held against who is honest: nobody publishes what it revoked or did not verify, what was
//! agreed on is done, and whoever cheats loses everything.

use std::collections::BTreeSet;

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use proto::hub::v1 as pb;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::calls::Asked;
use super::closing::PATIENCE_BLOCKS;
use super::seats::Seat;
use crate::audit::chain::Ledger;
use crate::audit::{Broken, Party};

/// Blocks of the end after which an agreed close has no excuse.
const FROZEN_BLOCKS: u32 = 12;
/// The hub's name on the chain.
const HUB: &str = "hub";

impl Run {
    /// A party's name on the chain.
    pub(super) fn label(&self, party: Party) -> &str {
        match party {
            Party::Hub => HUB,
            Party::Wallet(number) => &self.wallets[number].setup.name,
        }
    }

    /// Whether the party with this name on the chain keeps to the rules.
    fn is_honest_label(&self, label: &str) -> bool {
        if label == HUB {
            return self.hub.is_honest();
        }
        self.wallets.iter().any(|wallet| wallet.setup.name == label && wallet.is_honest())
    }

    /// What honest parties sent since the last look is what they may send.
    pub(super) fn look_at_submissions(&mut self) -> Result<(), Broken> {
        let mut watchman = std::mem::take(&mut self.watchman);
        let result = watchman.look(&self.node, |label| self.is_honest_label(label));
        self.watchman = watchman;
        result
    }

    /// Channels in which this party found the other's old state on the chain.
    fn note_published(&mut self, party: Party, channels: &[pb::Channel]) -> Result<(), Broken> {
        if !self.is_honest_label(self.label(party)) {
            return Ok(());
        }
        for channel in channels {
            let Some(onchain) = channel.onchain.as_ref() else { continue };
            if onchain.whose() != pb::CommitmentOf::Cheater {
                continue;
            }
            let peer = self.wallets.iter().find(|wallet| {
                let node_key = wallet.setup.node_id().as_bytes().to_vec();
                node_key == channel.node_key.as_ref()
            });
            let peer_is_honest = match party {
                Party::Hub => peer.is_some_and(Seat::is_honest),
                Party::Wallet(_) => self.hub.is_honest(),
            };
            if peer_is_honest {
                let what = format!("{party} finds an old state of {}", hex::encode(&channel.channel_id));
                return Err(Broken::new("nothing revoked is published", what));
            }
            self.revoked.extend(txid_of(&onchain.commitment_txid));
        }
        Ok(())
    }

    /// Keeps each channel in mind as its wallet saw it last: whoever vanishes is not asked any more.
    pub(super) fn note_seen(&mut self, party: Party, channels: &[pb::Channel]) {
        let Party::Wallet(number) = party else { return };
        for channel in channels {
            self.seen.insert(channel.channel_id.to_vec(), (number, channel.clone()));
        }
    }

    /// Now and then everybody looks at their channels.
    pub(super) fn look_at_channels(&mut self) {
        for number in 0..self.wallets.len() {
            if self.wallets[number].process.is_none() {
                self.owners[number].looks = false;
            } else if !std::mem::replace(&mut self.owners[number].looks, true) {
                let request = wallet_pb::ListChannelsRequest { include_closed: false };
                self.ask(
                    number,
                    |service| async move { service.list_channels(Request::new(request)).await },
                    |call| Asked::Look { call },
                );
            }
        }
    }

    /// What a party says of its channels while they are being closed. What both sides agreed on by [`FROZEN_BLOCKS`] is in the
    /// chain before anybody loses patience.
    pub(super) fn look_at_closing(
        &mut self,
        party: Party,
        channels: &[pb::Channel],
        blocks: u32,
    ) -> Result<(), Broken> {
        self.note_punished(channels);
        self.note_published(party, channels)?;
        self.note_seen(party, channels);
        let honest = self.hub.is_honest()
            && match party {
                Party::Hub => false,
                Party::Wallet(number) => self.wallets[number].is_honest(),
            };
        for channel in channels {
            let id = channel.channel_id.to_vec();
            // One side may have given up what the other still waits for.
            let frozen = channel.phase() == pb::ChannelPhase::Frozen
                && self.watching.books.is_frozen(Party::Hub, &channel.channel_id);
            if frozen && honest && blocks == FROZEN_BLOCKS {
                self.frozen.insert(id);
            } else if frozen && honest && blocks == PATIENCE_BLOCKS && self.frozen.contains(&id) {
                let what = format!("{party}: {} is still frozen", hex::encode(id));
                return Err(Broken::new("what both agreed on is done", what));
            }
        }
        Ok(())
    }

    /// Where somebody published what it had revoked, everything in that channel is the other side's.
    pub(super) fn check_closes(&mut self) -> Result<(), Broken> {
        let ledger = Ledger::new(&self.node);
        for number in 0..self.wallets.len() {
            let channels = self.channels(number, true)?;
            let forgot = !self.lost.channels(number, &[]).is_empty();
            if self.wallets[number].is_honest() && !forgot {
                for channel in &channels {
                    check_close(&ledger, &self.revoked, self.label(Party::Wallet(number)), channel)?;
                }
            }
        }
        if self.hub.is_honest() {
            for (number, channel) in self.seen.values() {
                if !self.wallets[*number].is_honest() {
                    check_close(&ledger, &self.revoked, HUB, channel)?;
                }
            }
        }
        Ok(())
    }
}

fn check_close(
    ledger: &Ledger,
    revoked: &BTreeSet<Txid>,
    victim: &str,
    channel: &pb::Channel,
) -> Result<(), Broken> {
    let closing = funding_of(channel).and_then(|funding| ledger.closing(funding));
    let Some(closing) = closing else { return Ok(()) };
    if !revoked.contains(&closing.txid) || ledger.sent_by(closing.txid, victim) {
        return Ok(());
    }
    ledger.check_cheated(&closing, victim)
}

pub(super) fn txid_of(bytes: &[u8]) -> Option<Txid> {
    Some(Txid::from_byte_array(bytes.try_into().ok()?))
}

fn funding_of(channel: &pb::Channel) -> Option<OutPoint> {
    let funding = channel.funding.as_ref()?;
    Some(OutPoint { txid: txid_of(&funding.txid)?, vout: funding.index })
}
