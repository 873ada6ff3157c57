//! Closing the books: what everybody honest is due, by what was promised and by what the chain took, and whether they have it.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, Network, OutPoint, Txid};
use channel::seed_signer::SeedSigner;
use proto::hub::v1 as pb;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use settlement::onchain::AddressKind;
use tonic::Request;

use super::Run;
use super::closing::own_msat;
use super::seats::{Character, Seat};
use crate::audit::accounts::{Accounts, Cause, Chain, Known};
use crate::audit::chain::Ledger;
use crate::audit::coins::Coins;
use crate::audit::{Broken, Party};
use crate::chain::Whereabouts;

const MSAT: i128 = 1_000;
const MILLION: u64 = 1_000_000;

impl Run {
    pub(super) fn close_the_books(&mut self) -> Result<(), Broken> {
        // Change and last claims confirm.
        for _ in 0..10 {
            self.block()?;
        }
        self.check_closes()?;
        // Streams go on as long as a channel can carry them.
        for number in
            (0..self.wallets.len()).filter(|number| self.wallets[*number].is_honest()).collect::<Vec<_>>()
        {
            self.note_streams(number)?;
        }
        let mut all = Vec::new();
        for number in 0..self.wallets.len() {
            let mut channels = self.channels(number, true)?;
            channels.extend(self.lost.channels(number, &channels));
            all.push(channels);
        }
        let (chain, ledger) = (Chain::new(&self.node), Ledger::new(&self.node));
        let (coins, names, channels) = (self.coins(&chain), self.names(), self.known(&all));
        let accounts = Accounts::new(&chain, &ledger, &coins, &names, &channels);
        self.compare_ends(&accounts)?;
        let honest: Vec<bool> = self.wallets.iter().map(Seat::is_honest).collect();
        let mut prices = 0;
        for number in (0..self.wallets.len()).filter(|number| honest[*number]) {
            let balance = self.ask_wallet(number, |service| async move {
                service.get_balance(Request::new(wallet_pb::GetBalanceRequest {})).await
            })?;
            let Some(balance) = balance else {
                return Err(Broken::new("calls are answered", format!("wallet {number} tells no balance")));
            };
            let found = balance.on_chain.map_or(0, |coins| coins.confirmed_sat);
            let price = self.lost.prices_paid_msat(number);
            prices += i128::from(price);
            let left = i128::from(self.left_open_msat(&all[number])) + self.unmade_msat(Some(number));
            let net = self.books.wallet_net_msat(number, |wallet| honest[wallet], &self.traffic.untaken)
                - i128::from(price)
                - left;
            self.check_due(Party::Wallet(number), found, net, &accounts, &all[number])?;
        }
        if self.hub.character == Character::Honest {
            let net = self.books.hub_net_msat(|wallet| honest[wallet], &self.traffic.untaken) + prices;
            self.check_hub(net, &accounts)?;
        }
        Ok(())
    }

    /// What a wallet, or the hub, received in channels whose fundings a reorganisation took out of the chain for good, deeper than both
    /// had agreed to wait for: each has what it put in, and nobody the payments.
    fn unmade_msat(&self, wallet: Option<usize>) -> i128 {
        let unmade = self.seen.values().filter(|(_, channel)| {
            let made = funding_of(channel).map(|funding| self.node.transaction(funding.txid));
            matches!(made, Some(Whereabouts::Nowhere))
        });
        let received = unmade.map(|(number, channel)| {
            let put_in = if channel.funded_locally { channel.capacity_sat } else { 0 };
            let received = i128::from(channel.local_msat) - i128::from(put_in) * MSAT;
            match wallet {
                None => -received,
                Some(wallet) if wallet == *number => received,
                Some(_) => 0,
            }
        });
        received.filter(|received| *received > 0).sum()
    }

    /// What a wallet has in channels that nobody closes any more.
    fn left_open_msat(&self, channels: &[pb::Channel]) -> u64 {
        let unspent = |channel: &&pb::Channel| {
            funding_of(channel).is_some_and(|funding| self.node.spender_of(funding).is_none())
        };
        let left = channels.iter().filter(|channel| self.is_left_open(channel)).filter(unspent);
        left.map(own_msat).sum()
    }

    fn check_hub(&mut self, net_msat: i128, accounts: &Accounts) -> Result<(), Broken> {
        let balances = self.ask_operator(|operator| async move {
            operator.get_balances(Request::new(pb::GetBalancesRequest {})).await
        })?;
        let Some(balances) = balances else {
            return Err(Broken::new("calls are answered", "the hub tells no balance"));
        };
        let found = balances.on_chain.map_or(0, |coins| coins.confirmed_sat);
        let net = net_msat - i128::from(self.lost.robbed_sat) * MSAT - self.unmade_msat(None);
        self.check_due(Party::Hub, found, net, accounts, &[])
    }

    /// Both ends of every payment and stream. What a hub forgot, or cheated with, it loses itself: one of its channels paid,
    /// another need not pay it.
    fn compare_ends(&self, accounts: &Accounts) -> Result<(), Broken> {
        let forgot = self.hub.character != Character::Honest;
        let lost = |party: Party| {
            let lost = accounts.of(party).filter(|entry| is_at_risk(entry.cause));
            u64::try_from(lost.map(|entry| -entry.sat * MSAT).sum::<i128>()).unwrap_or(0)
        };
        // What the hub lost of a payer's HTLC it had passed on all the same.
        let of_hub = lost(Party::Hub);
        let at_risk = |wallet: usize| if forgot { u64::MAX } else { lost(Party::Wallet(wallet)).max(of_hub) };
        self.books.compare(|wallet| self.wallets[wallet].is_honest(), at_risk, &self.traffic.untaken)
    }

    /// The most that the hub ever asked for passing on so much: of a stream's ticks nobody tells what each cost.
    pub(super) fn dearest_fee_msat(&self, amount_msat: u64) -> u64 {
        let policy = &self.hub.setup.config.policy;
        let rates = self.odd.rates.iter().copied().chain([(policy.fee_base_msat, policy.fee_ppm)]);
        let fee = |(base, ppm): (u64, u32)| {
            base.saturating_add(amount_msat.saturating_mul(u64::from(ppm)) / MILLION)
        };
        rates.map(fee).max().unwrap_or(0)
    }

    /// Whose coins are whose.
    fn coins(&self, chain: &Chain) -> Coins {
        let scripts = chain.scripts();
        let mut coins = Coins::default();
        let mut add = |party, seed: &[u8; 64], kind| {
            let master = SeedSigner::new(seed).onchain_master(Network::Regtest);
            coins.add(party, &master, kind, &scripts);
        };
        add(Party::Hub, &self.hub.setup.seed, AddressKind::P2tr);
        for (number, wallet) in self.wallets.iter().enumerate() {
            add(Party::Wallet(number), &wallet.setup.seed, AddressKind::P2wpkh);
        }
        coins
    }

    fn names(&self) -> BTreeMap<Party, String> {
        let wallets = (0..self.wallets.len()).map(Party::Wallet);
        wallets.chain([Party::Hub]).map(|party| (party, self.label(party).to_owned())).collect()
    }

    /// Every channel that a wallet ever told of, by its funding.
    fn known(&self, all: &[Vec<pb::Channel>]) -> BTreeMap<OutPoint, Known> {
        let seen = self.seen.values().map(|(wallet, channel)| (*wallet, channel));
        let told = all.iter().enumerate().flat_map(|(wallet, all)| all.iter().map(move |one| (wallet, one)));
        let known = seen.chain(told).filter_map(|(wallet, channel)| {
            let agreed_fee = self.net.agreed_fee(wallet, &channel.channel_id).map(Amount::from_sat);
            Some((funding_of(channel)?, Known { wallet, agreed_fee }))
        });
        known.collect()
    }
}

/// Whether a payment may be lost to it.
fn is_at_risk(cause: Cause) -> bool {
    match cause {
        Cause::NoOutput | Cause::LeftLying | Cause::TooSmall | Cause::NoCoin => true,
        Cause::Fee | Cause::Anchor | Cause::Coin | Cause::AgreedFee | Cause::Dust => false,
    }
}

/// What a wallet has paid for a channel that the hub opened.
pub(super) fn funding_of(channel: &pb::Channel) -> Option<OutPoint> {
    let funding = channel.funding.as_ref()?;
    let txid = <[u8; 32]>::try_from(funding.txid.as_ref()).ok()?;
    Some(OutPoint { txid: Txid::from_byte_array(txid), vout: funding.index })
}
