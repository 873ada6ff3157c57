//! What hostile people do: they publish old states, and say what no honest wallet would say.

use std::collections::BTreeMap;

use bitcoin::{Amount, Transaction};
use prost::Message;
use proto::hub::v1 as pb;
use proto::hub::v1::Frame;
use proto::hub::v1::frame::Kind;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::act::Invoice;
use super::calls::Hold;
use super::reckon::txid_of;
use super::seats::{Character, Line};
use crate::audit::{Broken, Party};
use crate::chain::Mine;
use crate::disk::Cut;
use crate::net::Speaker;
use crate::seed::Chance;

/// Steps before which nobody cheats: there would be nothing to win.
const FIRST_STEPS: u64 = 10;
/// Copies that a cheat keeps at most.
const MOST_COPIES: usize = 3;
/// Coins that a cheat needs: each close and each HTLC costs one.
const COINS: (u32, Amount) = (4, Amount::from_sat(50_000));
/// What is in flight while a copy is made, in msat: with an output, and worth a theft.
const IN_FLIGHT_MSAT: (u64, u64) = (2_000_000, 30_000_000);
/// Blocks that a cheat gets before its victims see any. Fewer than margins before expiries (12), so that nothing else is lost.
const ALONE_BLOCKS: (u64, u64) = (3, 9);
/// Rounds in which messages pass and answers come.
const ROUNDS: u32 = 4;

/// How a cheat keeps its victims from answering at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// Not at all.
    None,
    /// Their nodes are away, so that they learn of nothing.
    Blind,
    /// A miner leaves out whatever is not the cheat's.
    Censor,
}

impl Run {
    /// One step further on the way of a cheat: first it keeps copies of its disk, later it goes back to one, meets nobody any
    /// more, and closes every channel alone. A hostile wallet begins or ends to tamper with what it says.
    pub(super) fn cheat(&mut self, number: usize) -> Result<(), Broken> {
        match self.hub.character {
            Character::Honest | Character::Forgetful => {}
            Character::Hostile => {
                self.tamper(Speaker::Hub);
                return Ok(());
            }
            Character::Cheat => return self.goes_on_cheating(Party::Hub),
        }
        match self.wallets[number].character {
            Character::Honest | Character::Forgetful => Ok(()),
            Character::Hostile if self.wallets[number].line == Line::Cut => Ok(()),
            Character::Hostile if self.counts.steps >= FIRST_STEPS && self.chance.cheats.one_of(1, 4) => {
                self.vanish(number)
            }
            Character::Hostile => {
                self.tamper(Speaker::Wallet(number));
                Ok(())
            }
            Character::Cheat => self.goes_on_cheating(Party::Wallet(number)),
        }
    }

    fn goes_on_cheating(&mut self, cheat: Party) -> Result<(), Broken> {
        let (line, copies, lives) = match cheat {
            Party::Hub => (self.hub.line, self.hub.copies.len(), self.hub.process.is_some()),
            Party::Wallet(number) => {
                let seat = &self.wallets[number];
                (seat.line, seat.copies.len(), seat.process.is_some())
            }
        };
        // Whoever cheated once is met by nobody again.
        if line == Line::Cut || !lives || self.spells.is_away(cheat) || self.counts.steps < FIRST_STEPS {
            return Ok(());
        }
        let another = copies < MOST_COPIES && self.chance.cheats.one_of(1, 3);
        if copies == 0 || another {
            return self.keep_copy(cheat);
        }
        self.go_back(cheat)
    }

    /// Payments are in flight both ways while the copy is made, as often as not.
    fn keep_copy(&mut self, cheat: Party) -> Result<(), Broken> {
        if self.chance.cheats.one_of(3, 4) {
            self.put_in_flight(cheat)?;
        }
        self.note("cheats", format_args!("{cheat} keeps a copy"));
        match cheat {
            Party::Hub => self.hub.copies.push(self.hub.disk.copy()),
            Party::Wallet(number) => {
                let copy = self.wallets[number].disk.copy();
                self.wallets[number].copies.push(copy);
            }
        }
        Ok(())
    }

    fn put_in_flight(&mut self, cheat: Party) -> Result<(), Broken> {
        let count = self.wallets.len();
        let one = match cheat {
            Party::Hub => self.chance.cheats.below(count),
            Party::Wallet(number) => {
                self.provide(number)?;
                number
            }
        };
        let other = (one + 1 + self.chance.cheats.below(count - 1)) % count;
        for (payer, payee) in [(one, other), (other, one)] {
            let amount_msat = self.chance.cheats.within(IN_FLIGHT_MSAT.0, IN_FLIGHT_MSAT.1);
            self.invoice(Invoice { payer, payee, amount_msat, hold: Hold::Yes });
        }
        self.rounds()
    }

    /// Goes for good, with payments in flight.
    fn vanish(&mut self, number: usize) -> Result<(), Broken> {
        self.put_in_flight(Party::Wallet(number))?;
        self.note("cheats", format_args!("wallet {number} vanishes"));
        self.say_wallet(number);
        self.wallets[number].kill(Cut::Kill, &mut self.chance.disk);
        self.net.wallet_died(number);
        self.set_line(number, Line::Cut);
        self.wallets[number].back_ms = u64::MAX;
        self.owners[number].back_by = None;
        Ok(())
    }

    /// Coins to cheat with.
    fn provide(&mut self, number: usize) -> Result<(), Broken> {
        for _ in 0..COINS.0 {
            let address = self.ask_wallet(number, |service| async move {
                service.new_address(Request::new(wallet_pb::NewAddressRequest {})).await
            })?;
            let Some(answer) = address else { continue };
            self.fund(Party::Wallet(number), &answer.address, COINS.1)?;
        }
        self.mine(1);
        Ok(())
    }

    pub(super) fn rounds(&mut self) -> Result<(), Broken> {
        for _ in 0..ROUNDS {
            self.settle()?;
            self.advance(500);
            self.look_at_answers()?;
        }
        Ok(())
    }

    fn go_back(&mut self, cheat: Party) -> Result<(), Broken> {
        // What was in flight goes through: the old state is better than the new one for some.
        for number in 0..self.wallets.len() {
            for hash in std::mem::take(&mut self.owners[number].held) {
                self.decide_about(number, hash, true);
            }
        }
        self.rounds()?;
        let newest = self.numbers(cheat)?;
        self.note("cheats", format_args!("{cheat} goes back to a copy and closes everything"));
        match cheat {
            Party::Hub => {
                let copy = self.hub.copies.swap_remove(self.chance.cheats.below(self.hub.copies.len()));
                self.say("hub");
                self.hub.kill(Cut::Kill, &mut self.chance.disk);
                self.net.hub_died();
                self.hub.line = Line::Cut;
                self.hub.disk.restore(&copy);
                self.start_hub()?;
            }
            Party::Wallet(number) => {
                let seat = &mut self.wallets[number];
                let copy = seat.copies.swap_remove(self.chance.cheats.below(seat.copies.len()));
                self.say_wallet(number);
                self.wallets[number].kill(Cut::Kill, &mut self.chance.disk);
                self.net.wallet_died(number);
                self.set_line(number, Line::Cut);
                self.wallets[number].disk.restore(&copy);
                self.start_wallet(number)?;
            }
        }
        self.settle()?;
        match cheat {
            Party::Hub => self.hub_takes_all()?,
            Party::Wallet(number) => self.wallet_takes_all(number)?,
        }
        self.note_revoked(cheat, &newest)?;
        self.scheme(cheat)
    }

    fn listed(&mut self, party: Party) -> Result<Vec<pb::Channel>, Broken> {
        match party {
            Party::Wallet(number) => self.channels(number, false),
            Party::Hub => {
                let listed = self.ask_operator(|operator| async move {
                    operator.list_channels(Request::new(pb::ListChannelsRequest::default())).await
                })?;
                Ok(listed.map(|listed| listed.channels).unwrap_or_default())
            }
        }
    }

    /// The numbers of this party's commitments.
    fn numbers(&mut self, party: Party) -> Result<BTreeMap<Vec<u8>, u64>, Broken> {
        let channels = self.listed(party)?;
        let number = |channel: &pb::Channel| (channel.channel_id.to_vec(), channel.local_commitment_number);
        Ok(channels.iter().map(number).collect())
    }

    /// Keeps in mind which of the commitments that this cheat publishes are revoked: whoever holds the second one after has
    /// given the secret, or that one would not have been signed.
    fn note_revoked(&mut self, cheat: Party, newest: &BTreeMap<Vec<u8>, u64>) -> Result<(), Broken> {
        for channel in self.listed(cheat)? {
            let newest = newest.get(channel.channel_id.as_ref()).copied().unwrap_or(0);
            let own = channel.onchain.and_then(|onchain| onchain.own);
            if newest >= channel.local_commitment_number + 2
                && let Some(txid) = own.and_then(|own| txid_of(&own.txid))
            {
                self.note("cheats", format_args!("{txid} is revoked"));
                self.revoked.insert(txid);
            }
        }
        Ok(())
    }

    fn wallet_takes_all(&mut self, number: usize) -> Result<(), Broken> {
        let held = self.ask_wallet(number, |service| async move {
            service.list_held(Request::new(wallet_pb::ListHeldRequest {})).await
        })?;
        for held in held.map(|listed| listed.held).unwrap_or_default() {
            let request = wallet_pb::SettleInvoiceRequest { payment_hash: held.payment_hash };
            self.ask_wallet(
                number,
                |service| async move { service.settle_invoice(Request::new(request)).await },
            )?;
        }
        for channel in self.channels(number, false)? {
            let request = wallet_pb::CloseChannelRequest {
                channel_id: channel.channel_id,
                force: true,
                ..Default::default()
            };
            self.ask_wallet(
                number,
                |service| async move { service.close_channel(Request::new(request)).await },
            )?;
        }
        Ok(())
    }

    fn hub_takes_all(&mut self) -> Result<(), Broken> {
        for channel in self.listed(Party::Hub)? {
            self.operator_closes_one(channel.channel_id, true)?;
        }
        // Whoever cheats lets nothing hold it up.
        self.ask_operator(|operator| async move {
            operator.release_held(Request::new(pb::ReleaseHeldRequest {})).await
        })?;
        Ok(())
    }

    /// Some blocks in which only the cheat is heard.
    fn scheme(&mut self, cheat: Party) -> Result<(), Broken> {
        let schemes = [Scheme::None, Scheme::Blind, Scheme::Blind, Scheme::Censor];
        let scheme = self.chance.cheats.pick(&schemes).copied().unwrap_or(Scheme::None);
        if scheme == Scheme::None {
            return Ok(());
        }
        let blocks = self.chance.cheats.within(ALONE_BLOCKS.0, ALONE_BLOCKS.1);
        self.note("cheats", format_args!("{scheme:?}: {cheat} has {blocks} blocks for itself"));
        let victims: Vec<Party> = match cheat {
            Party::Wallet(_) => vec![Party::Hub],
            Party::Hub => (0..self.wallets.len()).map(Party::Wallet).collect(),
        };
        if scheme == Scheme::Blind {
            victims.iter().for_each(|victim| self.node.set_down(self.label(*victim), true));
        }
        for _ in 0..blocks {
            self.block_of(cheat, scheme);
            for _ in 0..2 {
                self.settle()?;
                self.advance(1_000);
            }
        }
        victims.iter().for_each(|victim| self.node.set_down(self.label(*victim), false));
        Ok(())
    }

    fn block_of(&mut self, cheat: Party, scheme: Scheme) {
        let of_cheat = self.sent_by(cheat);
        let others = |transaction: &Transaction| !of_cheat.contains(&transaction.compute_txid());
        let censor: Option<&dyn Fn(&Transaction) -> bool> = match scheme {
            Scheme::Censor => Some(&others),
            Scheme::None | Scheme::Blind => None,
        };
        self.node.mine(&Mine { censor, ..Mine::default() });
        self.counts.blocks += 1;
        self.note("miner", format_args!("block {}, by a friend of {cheat}'s", self.node.height()));
    }

    /// Whoever is hostile may be so from the beginning.
    pub(super) fn first_lies(&mut self) {
        if self.hub.character == Character::Hostile {
            self.tamper(Speaker::Hub);
        }
        for number in 0..self.wallets.len() {
            if self.wallets[number].character == Character::Hostile {
                self.tamper(Speaker::Wallet(number));
            }
        }
    }

    fn tamper(&mut self, who: Speaker) {
        let mut chance = self.plan.seed.stream(&format!("tamper {who:?} {}", self.counts.steps));
        let how = chance.below(8);
        self.note("cheats", format_args!("{who:?} speaks falsely, in way {how}"));
        let tamper: Option<crate::net::Tamper> = match how {
            0 => None,
            1 => Some(Box::new(move |frame| flip(frame, &mut chance))),
            2 => Some(Box::new(
                move |frame| if chance.one_of(1, 3) { vec![frame.clone(), frame] } else { vec![frame] },
            )),
            3 => Some(Box::new(move |frame| if chance.one_of(1, 3) { Vec::new() } else { vec![frame] })),
            5.. => Some(self.lies.liar(who, chance)),
            _ => {
                let mut kept: Option<Frame> = None;
                // What it said once it says again later.
                Some(Box::new(move |frame| {
                    let again = kept.take_if(|_| chance.one_of(1, 4));
                    if chance.one_of(1, 4) {
                        kept = Some(frame.clone());
                    }
                    [Some(frame), again].into_iter().flatten().collect()
                }))
            }
        };
        self.net.set_tamper(who, tamper);
    }
}

/// One bit of a batch is another. The handshake is left alone: who fails it says nothing further.
fn flip(frame: Frame, chance: &mut Chance) -> Vec<Frame> {
    if !matches!(frame.kind, Some(Kind::Batch(_))) || !chance.one_of(1, 4) {
        return vec![frame];
    }
    let mut bytes = frame.encode_to_vec();
    if bytes.is_empty() {
        return vec![frame];
    }
    let index = chance.below(bytes.len());
    bytes[index] ^= 1 << chance.below(8);
    vec![Frame::decode(bytes.as_slice()).unwrap_or(frame)]
}
