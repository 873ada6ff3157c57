//! What must hold of channels while a run goes on, by what both ends say of them.
//!
//! An end says what is durable, so that what it said once holds for ever: numbers only rise, phases only go on, and what a
//! channel held once is always all there. Between two honest ends nobody ever breaks the protocol, cheats or loses data.

use std::collections::{BTreeMap, BTreeSet};

use proto::hub::v1 as pb;
use proto::hub::v1::{ChannelPhase, CommitmentOf};
use proto::wallet::v1 as wallet_pb;

use super::{Broken, Party};

/// The smallest HTLC with an output of its own: what less is worth is at risk (BOLT 3, "Dust Limits").
const DUST_LIMIT_MSAT: u64 = 354_000;
const MSAT: u64 = 1_000;

/// What no channel between two honest ends fails for, by words of its cause.
const SHAMES: [&str; 6] = [
    "broke the protocol",
    "lost data",
    "lost its data",
    "cheated",
    "another copy of its data",
    "spent the funding without agreement",
];

type Id = Vec<u8>;

/// What an end said of a channel last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    phase: ChannelPhase,
    local_number: u64,
    remote_number: u64,
}

/// What both ends said so far.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    said: BTreeMap<(Party, Id), Said>,
    /// Whose channel it is, by what the wallets say.
    wallets: BTreeMap<Id, usize>,
    /// Channels whose opening was acknowledged: they are never forgotten.
    known: BTreeSet<(usize, Id)>,
    /// Channels of which an end lost all it knew: of them nobody says anything that counts.
    lost: BTreeSet<Id>,
    /// Wallets that did. What they open while they do not know what they had may be lost to them as well.
    losers: BTreeSet<usize>,
    /// Payments that a wallet ever listed, by direction and number, and their hashes.
    listed: BTreeMap<(usize, i32, u64), Id>,
}

impl Watch {
    /// The wallet at a channel's other end, if it ever named the channel.
    pub fn wallet_of(&self, channel_id: &[u8]) -> Option<usize> {
        self.wallets.get(channel_id).copied()
    }

    /// An honest end says what channels it has, `honest` tells of which the other end is honest too.
    pub fn hear(
        &mut self,
        who: Party,
        channels: &[pb::Channel],
        honest: impl Fn(&pb::Channel) -> bool,
    ) -> Result<(), Broken> {
        for channel in channels {
            if self.lost.contains(channel.channel_id.as_ref()) {
                continue;
            }
            let told = |rule, what: String| {
                let id = hex::encode(&channel.channel_id);
                Err(Broken::new(rule, format!("{who}, channel {id}: {what}: {channel:?}")))
            };
            if let Some(what) = not_conserved(channel) {
                return told("a channel holds its capacity", what);
            }
            if let Some(what) = wrong_exposure(channel) {
                return told("what has no output is at risk, and nothing else", what);
            }
            if honest(channel)
                && let Some(what) = shame(channel)
            {
                return told("honest ends are at peace", what);
            }
            // Who breaks rules may propose a channel again under the name of one that was given up and forgotten.
            if !honest(channel) && channel.phase() == ChannelPhase::Opening {
                self.said.remove(&(who, channel.channel_id.to_vec()));
            }
            if let Some(what) = self.went_back(who, channel) {
                return told("what an end said of a channel holds", what);
            }
            if let Party::Wallet(number) = who {
                self.wallets.insert(channel.channel_id.to_vec(), number);
            }
        }
        Ok(())
    }

    /// What it said before and takes back now.
    fn went_back(&mut self, who: Party, channel: &pb::Channel) -> Option<String> {
        let now = Said {
            phase: channel.phase(),
            local_number: channel.local_commitment_number,
            remote_number: channel.remote_commitment_number,
        };
        let before = self.said.insert((who, channel.channel_id.to_vec()), now)?;
        let fewer = now.local_number < before.local_number || now.remote_number < before.remote_number;
        let thawed = place(now.phase) < place(before.phase);
        (fewer || thawed).then(|| format!("first {before:?}, then {now:?}"))
    }

    /// Whether this wallet lost all that it knew at some time.
    pub fn has_lost(&self, wallet: usize) -> bool {
        self.losers.contains(&wallet)
    }

    /// Whether this end said last that the channel is frozen.
    pub fn is_frozen(&self, who: Party, channel_id: &[u8]) -> bool {
        let said = self.said.get(&(who, channel_id.to_vec()));
        said.is_some_and(|said| said.phase == ChannelPhase::Frozen)
    }

    /// A wallet lost all that it knew, these channels among it.
    pub fn forget(&mut self, wallet: usize, channels: &[pb::Channel]) {
        self.losers.insert(wallet);
        self.lost.extend(channels.iter().map(|channel| channel.channel_id.to_vec()));
        self.known.retain(|(who, _)| *who != wallet);
        self.listed.retain(|(who, _, _), _| *who != wallet);
    }

    /// A wallet acknowledged this channel.
    pub fn acknowledged(&mut self, wallet: usize, channel_id: &[u8]) {
        self.known.insert((wallet, channel_id.to_vec()));
    }

    /// All channels that a wallet knows, those that ended included.
    pub fn remembers(&self, wallet: usize, channels: &[pb::Channel]) -> Result<(), Broken> {
        let named: BTreeSet<&[u8]> = channels.iter().map(|channel| channel.channel_id.as_ref()).collect();
        let mut known = self.known.range((wallet, Id::new())..(wallet + 1, Id::new()));
        match known.find(|(_, id)| !named.contains(id.as_slice())) {
            None => Ok(()),
            Some((_, id)) => {
                let what = format!("wallet {wallet} forgot channel {}", hex::encode(id));
                Err(Broken::new("an acknowledged channel is remembered", what))
            }
        }
    }

    /// A wallet lists payments.
    pub fn lists(&mut self, wallet: usize, payments: &[wallet_pb::Payment]) {
        for payment in payments {
            let key = (wallet, payment.direction, payment.number);
            self.listed.entry(key).or_insert_with(|| payment.payment_hash.to_vec());
        }
    }

    /// All payments that a wallet knows.
    pub fn still_lists(&self, wallet: usize, payments: &[wallet_pb::Payment]) -> Result<(), Broken> {
        let named: BTreeMap<(i32, u64), &[u8]> = payments
            .iter()
            .map(|payment| ((payment.direction, payment.number), payment.payment_hash.as_ref()))
            .collect();
        let listed = self.listed.range((wallet, i32::MIN, 0)..(wallet + 1, i32::MIN, 0));
        for ((_, direction, number), hash) in listed {
            let now = named.get(&(*direction, *number));
            if now != Some(&hash.as_slice()) {
                let (hash, now) = (hex::encode(hash), now.map(hex::encode));
                let what =
                    format!("wallet {wallet}: {number}, direction {direction}, was {hash}, is {now:?}");
                return Err(Broken::new("a payment once listed is remembered", what));
            }
        }
        Ok(())
    }

    /// What two honest ends say of the same channel while nothing moves.
    pub fn compare(
        &self,
        wallet: usize,
        of_wallet: &[pb::Channel],
        of_hub: &[pb::Channel],
    ) -> Result<(), Broken> {
        let lost = |channel: &&pb::Channel| self.lost.contains(channel.channel_id.as_ref());
        for theirs in of_wallet.iter().filter(|channel| !lost(channel)) {
            let Some(ours) = of_hub.iter().find(|ours| ours.channel_id == theirs.channel_id) else {
                continue;
            };
            if let Some(what) = disagreement(ours, theirs) {
                let what = format!("wallet {wallet}: {what}: the hub says {ours:?}, the wallet {theirs:?}");
                return Err(Broken::new("both ends of a channel agree", what));
            }
        }
        Ok(())
    }
}

/// How far a channel has come. What a reorganisation may undo has the same place as what is undone.
fn place(phase: ChannelPhase) -> u32 {
    match phase {
        ChannelPhase::Unspecified | ChannelPhase::Opening => 0,
        ChannelPhase::AwaitingConfirmation => 1,
        // A shutdown that never reached the other end is forgotten with the connection.
        ChannelPhase::Open | ChannelPhase::ShuttingDown => 2,
        // What was agreed and what was done alone race for a block, which may be undone.
        ChannelPhase::Frozen | ChannelPhase::Closing | ChannelPhase::Failed => 3,
        ChannelPhase::Closed | ChannelPhase::Aborted | ChannelPhase::Quarantined => 5,
    }
}

/// Whether its books are those of two commitments.
fn has_books(channel: &pb::Channel) -> bool {
    match channel.phase() {
        ChannelPhase::AwaitingConfirmation
        | ChannelPhase::Open
        | ChannelPhase::ShuttingDown
        | ChannelPhase::Frozen => true,
        ChannelPhase::Unspecified
        | ChannelPhase::Opening
        | ChannelPhase::Closing
        | ChannelPhase::Closed
        | ChannelPhase::Failed
        | ChannelPhase::Aborted
        | ChannelPhase::Quarantined => false,
    }
}

fn not_conserved(channel: &pb::Channel) -> Option<String> {
    let total = [channel.local_msat, channel.remote_msat, channel.in_flight_msat];
    let total = total.into_iter().fold(0u64, u64::saturating_add);
    (has_books(channel) && total != channel.capacity_sat.saturating_mul(MSAT))
        .then(|| format!("{total} msat"))
}

/// Each HTLC below the limit is at risk, and none of the others.
fn wrong_exposure(channel: &pb::Channel) -> Option<String> {
    let (exposure, in_flight) = (channel.dust_exposure_msat, channel.in_flight_msat);
    let most = u64::from(channel.htlcs).saturating_mul(DUST_LIMIT_MSAT - 1);
    let alone = channel.htlcs == 1 && in_flight > 0;
    let wrong = exposure > most
        || alone && in_flight >= DUST_LIMIT_MSAT && exposure > 0
        || alone && in_flight < DUST_LIMIT_MSAT && exposure < in_flight;
    (has_books(channel) && wrong).then(|| format!("{exposure} msat are at risk"))
}

/// What cannot happen between two honest ends.
fn shame(channel: &pb::Channel) -> Option<String> {
    let shames = || SHAMES.iter().find(|shame| channel.failure.contains(**shame));
    if channel.phase() == ChannelPhase::Quarantined {
        return Some("it is set aside".to_owned());
    }
    if let Some(shame) = shames() {
        return Some((*shame).to_owned());
    }
    match channel.onchain.as_ref()?.whose() {
        CommitmentOf::Unspecified | CommitmentOf::Ours | CommitmentOf::Peer => None,
        whose @ (CommitmentOf::Cheater | CommitmentOf::Newer | CommitmentOf::Unknown) => {
            Some(format!("the chain holds a commitment: {whose:?}"))
        }
    }
}

/// What the hub and a wallet say differently of a channel, although nothing moves.
fn disagreement(hub: &pb::Channel, wallet: &pb::Channel) -> Option<&'static str> {
    if !has_books(hub) || !has_books(wallet) {
        return None;
    }
    if hub.capacity_sat != wallet.capacity_sat || hub.funding != wallet.funding {
        return Some("other channels");
    }
    // Whoever signed a commitment may be ahead of who is to have it, by that one.
    let ahead = |signed: u64, has: u64| signed.checked_sub(has).is_some_and(|ahead| ahead <= 1);
    let fits = ahead(wallet.remote_commitment_number, hub.local_commitment_number)
        && ahead(hub.remote_commitment_number, wallet.local_commitment_number);
    if !fits {
        return Some("the numbers do not fit");
    }
    let settled = hub.htlcs == 0 && wallet.htlcs == 0;
    if settled && (hub.local_msat, hub.remote_msat) != (wallet.remote_msat, wallet.local_msat) {
        return Some("the balances differ");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> pb::Channel {
        pb::Channel {
            channel_id: vec![1; 32].into(),
            phase: ChannelPhase::Open.into(),
            capacity_sat: 1_000,
            local_msat: 400_000,
            remote_msat: 600_000,
            local_commitment_number: 7,
            remote_commitment_number: 8,
            ..Default::default()
        }
    }

    fn mirrored() -> pb::Channel {
        pb::Channel {
            local_msat: 600_000,
            remote_msat: 400_000,
            local_commitment_number: 8,
            remote_commitment_number: 7,
            ..channel()
        }
    }

    /// What one end may say after it said something else.
    fn hear_both(first: pb::Channel, then: pb::Channel) -> Result<(), Broken> {
        let mut watch = Watch::default();
        watch.hear(Party::Hub, &[first], |_| true)?;
        watch.hear(Party::Hub, &[then], |_| true)
    }

    #[test]
    fn all_that_a_channel_holds_is_its_capacity() {
        hear_both(
            channel(),
            pb::Channel { local_msat: 300_000, in_flight_msat: 100_000, htlcs: 2, ..channel() },
        )
        .unwrap();
        hear_both(channel(), pb::Channel { local_msat: 399_999, ..channel() }).unwrap_err();
    }

    #[test]
    fn exactly_the_limit_is_not_at_risk_and_one_less_is() {
        let with = |amount: u64, dust_exposure_msat| pb::Channel {
            local_msat: 400_000 - amount,
            in_flight_msat: amount,
            htlcs: 1,
            dust_exposure_msat,
            ..channel()
        };
        hear_both(channel(), with(354_000, 0)).unwrap();
        hear_both(channel(), with(353_999, 353_999)).unwrap();
        hear_both(channel(), with(354_000, 354_000)).unwrap_err();
        hear_both(channel(), with(353_999, 0)).unwrap_err();
    }

    #[test]
    fn what_was_said_holds() {
        hear_both(channel(), pb::Channel { local_commitment_number: 6, ..channel() }).unwrap_err();
        hear_both(channel(), pb::Channel { remote_commitment_number: 7, ..channel() }).unwrap_err();
        let frozen = pb::Channel { phase: ChannelPhase::Frozen.into(), ..channel() };
        let closing = pb::Channel { phase: ChannelPhase::Closing.into(), ..channel() };
        hear_both(closing, frozen.clone()).unwrap();
        hear_both(frozen, channel()).unwrap_err();
    }

    #[test]
    fn honest_ends_neither_cheat_nor_break_rules() {
        let failed = |failure: &str| pb::Channel {
            phase: ChannelPhase::Failed.into(),
            failure: failure.to_owned(),
            ..channel()
        };
        let broke = "the counterparty broke the protocol: the commitment covers no update";
        hear_both(channel(), failed("the counterparty gave the channel up")).unwrap();
        hear_both(channel(), failed(broke)).unwrap_err();
        Watch::default().hear(Party::Hub, &[failed(broke)], |_| false).unwrap();
        let onchain = pb::OnchainClose { whose: CommitmentOf::Cheater.into(), ..Default::default() };
        hear_both(channel(), pb::Channel { onchain: Some(onchain), ..failed("") }).unwrap_err();
    }

    #[test]
    fn both_ends_agree_while_nothing_moves() {
        let compare = |wallet: pb::Channel| Watch::default().compare(0, &[wallet], &[channel()]);
        compare(mirrored()).unwrap();
        compare(pb::Channel { local_commitment_number: 7, ..mirrored() }).unwrap();
        compare(pb::Channel { local_commitment_number: 6, ..mirrored() }).unwrap_err();
        compare(pb::Channel { local_commitment_number: 9, ..mirrored() }).unwrap_err();
        compare(pb::Channel { local_msat: 599_999, ..mirrored() }).unwrap_err();
        compare(pb::Channel { local_msat: 599_999, htlcs: 1, ..mirrored() }).unwrap();
    }

    #[test]
    fn an_acknowledged_channel_is_remembered() {
        let mut watch = Watch::default();
        watch.acknowledged(0, &channel().channel_id);
        watch.remembers(1, &[]).unwrap();
        watch.remembers(0, &[channel()]).unwrap();
        watch.remembers(0, &[]).unwrap_err();
    }

    #[test]
    fn a_payment_once_listed_is_remembered() {
        let payment = |number: u64, byte: u8| wallet_pb::Payment {
            number,
            payment_hash: vec![byte; 32].into(),
            ..Default::default()
        };
        let mut watch = Watch::default();
        watch.lists(0, &[payment(1, 1)]);
        watch.still_lists(0, &[payment(2, 2), payment(1, 1)]).unwrap();
        watch.still_lists(1, &[]).unwrap();
        watch.still_lists(0, &[payment(2, 2)]).unwrap_err();
        watch.still_lists(0, &[payment(1, 2)]).unwrap_err();
    }
}
