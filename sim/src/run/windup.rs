//! The end of a run: everybody is honest, nothing goes wrong, enough blocks come, and the books are closed.

use std::collections::BTreeSet;

use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Txid};
use proto::hub::v1 as pb;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::calls::note_payment;
use super::seats::{Character, Line, Seat};
use crate::audit::{Broken, Party};

/// Blocks within which every payment is decided: the longest expiry that anybody accepts, and what comes after it.
const PAYMENT_BLOCKS: u32 = 400;
/// Most that a balance below the dust limit gives up in an agreed close.
const DUST_SAT: u64 = 354;
/// Largest page of any list.
const PAGE: u32 = 500;
const MSAT: u64 = 1_000;

impl Run {
    pub(super) fn wind_up(&mut self) -> Result<(), Broken> {
        self.calm();
        self.return_those_away()?;
        self.work(20)?;
        self.decide_everything()?;
        self.until_payments_end()?;
        self.note_last_words()?;
        self.until_channels_end()?;
        self.close_the_books()?;
        self.restart_everybody()
    }

    /// Lets a while pass, of so many seconds, without blocks.
    fn work(&mut self, seconds: u32) -> Result<(), Broken> {
        for _ in 0..seconds {
            self.settle()?;
            self.advance(1_000);
            self.return_those_away()?;
            self.look_at_answers()?;
        }
        self.settle()
    }

    /// A block, and time for everybody to look at it.
    pub(super) fn block(&mut self) -> Result<(), Broken> {
        self.mine(1);
        self.work(3)?;
        self.look_at_alarms()
    }

    /// Nobody holds a payment any longer.
    fn decide_everything(&mut self) -> Result<(), Broken> {
        for number in 0..self.wallets.len() {
            let listed = self.ask_wallet(number, |service| async move {
                service.list_held(Request::new(wallet_pb::ListHeldRequest {})).await
            })?;
            for held in listed.map(|listed| listed.held).unwrap_or_default() {
                let take = self.chance.people.one_of(1, 2);
                self.decide_about(number, held.payment_hash.to_vec(), take);
            }
        }
        self.work(10)
    }

    fn until_payments_end(&mut self) -> Result<(), Broken> {
        for _ in 0..PAYMENT_BLOCKS {
            let mut waiting = None;
            for number in 0..self.wallets.len() {
                if self.wallets[number].line == Line::Cut || !self.wallets[number].is_honest() {
                    continue;
                }
                let payments = self.payments_of(number)?;
                if payments.iter().any(|payment| payment.state() == wallet_pb::PaymentState::InFlight) {
                    waiting = Some(number);
                }
            }
            if waiting.is_none() {
                return Ok(());
            }
            self.block()?;
            self.decide_everything()?;
        }
        Err(Broken::new("payments end", format!("one is in flight after {PAYMENT_BLOCKS} blocks")))
    }

    pub(super) fn payments_of(&mut self, number: usize) -> Result<Vec<wallet_pb::Payment>, Broken> {
        let mut payments = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                wallet_pb::ListPaymentsRequest { page_size: PAGE, page_token, ..Default::default() };
            let listed = self.ask_wallet(number, |service| async move {
                service.list_payments(Request::new(request)).await
            })?;
            let Some(listed) = listed else {
                return Err(Broken::new("calls are answered", format!("wallet {number} lists no payments")));
            };
            payments.extend(listed.payments);
            if listed.next_page_token.is_empty() {
                return Ok(payments);
            }
            page_token = listed.next_page_token;
        }
    }

    /// What honest wallets say of payments and streams in the end. What was acknowledged before must still be there.
    fn note_last_words(&mut self) -> Result<(), Broken> {
        for number in 0..self.wallets.len() {
            if !self.wallets[number].is_honest() {
                continue;
            }
            let payments = self.payments_of(number)?;
            for payment in &payments {
                note_payment(number, payment, &mut self.books)?;
            }
            self.nothing_is_forgotten(number, &payments)?;
            self.note_streams(number)?;
        }
        self.counts.payments = self.books.settled();
        Ok(())
    }

    pub(super) fn channels(
        &mut self,
        number: usize,
        include_closed: bool,
    ) -> Result<Vec<pb::Channel>, Broken> {
        let request = wallet_pb::ListChannelsRequest { include_closed };
        let listed =
            self.ask_wallet(
                number,
                |service| async move { service.list_channels(Request::new(request)).await },
            )?;
        Ok(listed.map(|listed| listed.channels).unwrap_or_default())
    }

    /// Channels in which this party found the other's old state on the chain.
    pub(super) fn note_punished(&mut self, channels: &[pb::Channel]) {
        let by_cheater = channels.iter().filter(|channel| {
            channel.onchain.as_ref().is_some_and(|close| close.whose() == pb::CommitmentOf::Cheater)
        });
        self.punished.extend(by_cheater.map(|channel| channel.channel_id.to_vec()));
        self.counts.cheats_punished = self.punished.len() as u64;
    }

    // --- The books ---------------------------------------------------------------------------------------------------

    fn close_the_books(&mut self) -> Result<(), Broken> {
        // Change and last claims confirm.
        for _ in 0..10 {
            self.block()?;
        }
        self.check_closes()?;
        let honest: Vec<bool> = self.wallets.iter().map(Seat::is_honest).collect();
        let (mut all, mut at_risk) = (Vec::new(), Vec::new());
        let (mut fees, mut prices, mut given_away, mut dust) = (Vec::new(), Vec::new(), 0, 0);
        for number in 0..self.wallets.len() {
            let mut channels = match self.wallets[number].process {
                Some(_) => self.channels(number, true)?,
                None => self.channels_by_hub(number)?,
            };
            channels.extend(self.lost.channels(number, &channels));
            at_risk.push(self.at_risk_msat(&channels));
            given_away += self.coin_given(&channels);
            dust += channels.len() as u64 * DUST_SAT;
            prices.push(channels.iter().map(price_paid_msat).sum::<u64>());
            fees.push(
                channels.len() as u64 * DUST_SAT + self.fees_of(&format!("wallet {number}"), &channels),
            );
            all.push(channels);
        }
        // What a hub forgot, or cheated with, it loses itself: one of its channels paid, another need not pay it.
        let forgot = self.hub.character != Character::Honest;
        let risk = |wallet: usize| if forgot { u64::MAX } else { at_risk[wallet] };
        self.books.compare(|wallet| honest[wallet], risk)?;
        for (number, _) in honest.iter().enumerate().filter(|(_, honest)| **honest) {
            let balance = self.ask_wallet(number, |service| async move {
                service.get_balance(Request::new(wallet_pb::GetBalanceRequest {})).await
            })?;
            let Some(balance) = balance else {
                return Err(Broken::new("calls are answered", format!("wallet {number} tells no balance")));
            };
            let found = balance.on_chain.map_or(0, |coins| coins.confirmed_sat);
            let given = self.books.given(Party::Wallet(number)).to_sat();
            let due = i128::from(given * MSAT) + self.books.wallet_net_msat(number)
                - i128::from(fees[number] * MSAT)
                - i128::from(prices[number])
                - i128::from(at_risk[number]);
            self.check_due(Party::Wallet(number), found, due, &all[number])?;
        }
        self.check_hub(&honest, at_risk.iter().sum(), given_away + dust)
    }

    /// The channels of a wallet that vanished, by its hub's word, as the wallet would tell them.
    fn channels_by_hub(&mut self, number: usize) -> Result<Vec<pb::Channel>, Broken> {
        let request = pb::ListChannelsRequest { include_closed: true, ..Default::default() };
        let listed =
            self.ask_operator(|operator| async move { operator.list_channels(Request::new(request)).await })?;
        let key = self.wallets[number].setup.node_id();
        let mut channels = listed.map(|listed| listed.channels).unwrap_or_default();
        channels.retain(|channel| channel.node_key[..] == key.as_bytes()[..]);
        channels.iter_mut().for_each(|channel| channel.funded_locally = !channel.funded_locally);
        Ok(channels)
    }

    fn check_hub(&mut self, honest: &[bool], at_risk_msat: u64, given_away: u64) -> Result<(), Broken> {
        if self.hub.character != Character::Honest {
            return Ok(());
        }
        let balances = self.ask_operator(|operator| async move {
            operator.get_balances(Request::new(pb::GetBalancesRequest {})).await
        })?;
        let Some(balances) = balances else {
            return Err(Broken::new("calls are answered", "the hub tells no balance"));
        };
        let request = pb::ListChannelsRequest { include_closed: true, ..Default::default() };
        let listed =
            self.ask_operator(|operator| async move { operator.list_channels(Request::new(request)).await })?;
        let channels = listed.map(|listed| listed.channels).unwrap_or_default();
        let fees = self.fees_of("hub", &channels);
        let found = balances.on_chain.map_or(0, |coins| coins.confirmed_sat);
        let given = self.books.given(Party::Hub).to_sat();
        let due = i128::from(given * MSAT) + self.books.hub_net_msat(|wallet| honest[wallet])
            - i128::from(fees * MSAT)
            - i128::from(at_risk_msat)
            - i128::from(given_away * MSAT)
            - i128::from(self.lost.robbed_sat * MSAT);
        self.check_due(Party::Hub, found, due, &channels)
    }

    /// What the hub put into a wallet's purse with the first channel that it funded for it.
    fn coin_given(&self, channels: &[pb::Channel]) -> u64 {
        let funded = channels.iter().any(|channel| {
            let funding = funding_of(channel).and_then(|funding| self.node.find(funding.txid));
            !channel.funded_locally && funding.is_some()
        });
        if funded { self.hub.setup.config.inbound.reserve_sat } else { 0 }
    }

    /// What trimmed HTLCs may have cost in channels that a commitment closed.
    fn at_risk_msat(&self, channels: &[pb::Channel]) -> u64 {
        /// What both ends of a channel accept.
        const CAP_MSAT: u64 = 5_000_000;
        let by_commitment = |channel: &&pb::Channel| {
            let spender = funding_of(channel).and_then(|outpoint| self.node.spender_of(outpoint));
            // Commitments are version 3, agreed closes are version 2.
            let spend = spender.and_then(|txid| self.node.find(txid));
            spend.is_some_and(|spend| spend.version == Version::non_standard(3))
        };
        channels.iter().filter(by_commitment).count() as u64 * CAP_MSAT
    }

    /// The fees of all transactions in the chain that this party sent, or that spent a funding of its.
    fn fees_of(&self, label: &str, channels: &[pb::Channel]) -> u64 {
        let mut transactions: BTreeSet<Txid> = self
            .node
            .submissions(0)
            .into_iter()
            .filter(|sent| sent.label.as_ref() == label)
            .map(|sent| sent.txid)
            .collect();
        for channel in channels {
            let Some(funding) = &channel.funding else { continue };
            let Ok(txid) = <[u8; 32]>::try_from(funding.txid.as_ref()) else { continue };
            let outpoint =
                OutPoint { txid: bitcoin::hashes::Hash::from_byte_array(txid), vout: funding.index };
            transactions.extend(self.node.spender_of(outpoint));
        }
        transactions.into_iter().filter_map(|txid| self.node.fee_of(txid)).map(bitcoin::Amount::to_sat).sum()
    }
}

/// What a wallet has paid for a channel that the hub opened.
fn price_paid_msat(channel: &pb::Channel) -> u64 {
    if channel.funded_locally { 0 } else { channel.price_msat.saturating_sub(channel.price_unpaid_msat) }
}

pub(super) fn funding_of(channel: &pb::Channel) -> Option<OutPoint> {
    let funding = channel.funding.as_ref()?;
    let txid = <[u8; 32]>::try_from(funding.txid.as_ref()).ok()?;
    Some(OutPoint { txid: Txid::from_byte_array(txid), vout: funding.index })
}
