//! What people do: pay and are paid, open and close, come and go. And the miner.

use bitcoin::Amount;
use proto::hub::v1 as hub_pb;
use proto::request_id::RequestId;
use proto::wallet::v1 as pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::calls::{Asked, Decided, Hold, Next, WithChannels};
use super::seats::{Character, Line};
use crate::audit::{Broken, Party};
use crate::disk::Cut;

/// Amounts that people like, in msat: tiny ones, those around the dust limit, and large ones.
const AMOUNTS: [(u64, u64); 6] = [
    (1, 2_000),
    (353_999, 354_000),
    (352_000, 356_000),
    (10_000, 1_000_000),
    (1_000_000, 20_000_000),
    (20_000_000, 90_000_000),
];
/// What is in a wallet's purse, in satoshi.
const PURSE: (u64, u64) = (400_000, 3_000_000);
/// Blocks that pass while somebody is away for days.
const DAYS: (u64, u64) = (6, 150);
/// Rounds in which a payment arrives.
const HOLD_ROUNDS: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Mine,
    MineMany,
    Purse,
    Open,
    Inbound,
    Pay,
    Hold,
    Decide,
    Send,
    Stream,
    Close,
    Force,
    GoAway,
    GoAwayForDays,
    Stop,
    OperatorCloses,
    OperatorRestarts,
    Cheat,
    Odd,
    Nothing,
    HoldAndClose,
}

/// Who shall pay whom.
pub(super) struct Invoice {
    pub payer: usize,
    pub payee: usize,
    pub amount_msat: u64,
    pub hold: Hold,
}

/// How often each happens in a run whose seed makes nothing of it.
const ACTS: [(Act, u32); ACTS_COUNT] = [
    (Act::Mine, 24),
    (Act::MineMany, 2),
    (Act::Purse, 6),
    (Act::Open, 12),
    (Act::Inbound, 6),
    (Act::Pay, 80),
    (Act::Hold, 8),
    (Act::Decide, 8),
    (Act::Send, 16),
    (Act::Stream, 4),
    (Act::Close, 3),
    (Act::Force, 2),
    (Act::GoAway, 3),
    (Act::GoAwayForDays, 1),
    (Act::Stop, 2),
    (Act::OperatorCloses, 1),
    (Act::OperatorRestarts, 1),
    (Act::Cheat, 3),
    (Act::Odd, 12),
    (Act::Nothing, 10),
    (Act::HoldAndClose, 3),
];

/// How much somebody cheats who does nothing else.
const CHEATING: u32 = 16;

/// How many things people do.
pub(super) const ACTS_COUNT: usize = 21;

impl Run {
    pub(super) fn act(&mut self) -> Result<(), Broken> {
        let habits = self.climate.habits.iter();
        let cheats = self.climate.cheats;
        let weight = |((act, weight), habit): (&(Act, u32), &u32)| match act {
            Act::Cheat if cheats => weight * CHEATING,
            _ => weight * habit,
        };
        let weights: Vec<u32> = ACTS.iter().zip(habits).map(weight).collect();
        let index = self.chance.people.weighted(&weights).unwrap_or(0);
        let number = self.chance.people.below(self.wallets.len());
        let act = ACTS[index].0;
        match act {
            Act::Mine => self.next_block()?,
            Act::MineMany => {
                let blocks = self.chance.miner.within(2, 45);
                self.pass_blocks(blocks)?;
            }
            Act::Purse => {
                let amount = Amount::from_sat(self.chance.people.within(PURSE.0, PURSE.1));
                self.ask(number, |service| async move {
                    service.new_address(Request::new(pb::NewAddressRequest {})).await
                }, |call| Asked::Address { amount, call });
            }
            Act::Open => {
                let amount_sat = self.capacity_sat();
                let request = pb::OpenChannelRequest { amount_sat, ..Default::default() };
                self.note("people", format_args!("wallet {number} opens {amount_sat} sat"));
                self.ask(
                    number,
                    |service| async move { service.open_channel(Request::new(request)).await },
                    |call| Asked::Open { call },
                );
            }
            Act::Inbound => {
                let amount_sat = self.capacity_sat();
                let request = pb::RequestInboundRequest { amount_sat, ..Default::default() };
                self.note("people", format_args!("wallet {number} asks for {amount_sat} sat"));
                self.ask(
                    number,
                    |service| async move { service.request_inbound(Request::new(request)).await },
                    |call| Asked::Inbound { call },
                );
            }
            Act::Pay => self.ask_to_be_paid(number, Hold::No),
            Act::Hold => self.ask_to_be_paid(number, Hold::Yes),
            Act::Decide => self.decide(number),
            Act::Send => self.send(number),
            Act::Stream => self.stream(number),
            Act::Close => self.channels_of(number, WithChannels::Close),
            Act::Force => self.channels_of(number, WithChannels::Force),
            Act::GoAway => self.go_away(number)?,
            Act::GoAwayForDays => self.go_away_for_days(number)?,
            Act::Stop => self.stop_wallet(number)?,
            Act::OperatorCloses => self.operator_closes()?,
            Act::OperatorRestarts => self.restart_hub()?,
            Act::Cheat => {
                let number = self.somebody_who_cheats(number);
                self.cheat(number)?;
            }
            Act::Odd => self.oddity()?,
            Act::Nothing => {}
            Act::HoldAndClose => self.hold_and_close(number)?,
        }
        Ok(())
    }

    /// Begins a call, if the wallet is there.
    pub(super) fn ask<T, F>(
        &mut self,
        number: usize,
        ask: impl FnOnce(::wallet::service::Service) -> F,
        asked: impl FnOnce(crate::process::Call<T>) -> Asked,
    ) where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        if let Some(process) = &self.wallets[number].process {
            let call = process.call(ask);
            self.owners[number].asked.push(asked(call));
        }
    }

    /// A wallet that is not honest, if there is one.
    fn somebody_who_cheats(&mut self, otherwise: usize) -> usize {
        let all: Vec<usize> =
            (0..self.wallets.len()).filter(|number| !self.wallets[*number].is_honest()).collect();
        self.chance.people.pick(&all).copied().unwrap_or(otherwise)
    }

    fn amount_msat(&mut self) -> u64 {
        let index = self.chance.people.below(AMOUNTS.len());
        let (low, high) = AMOUNTS[index];
        self.chance.people.within(low, high)
    }

    /// Another wallet than this one.
    fn other(&mut self, number: usize) -> usize {
        let other = self.chance.people.below(self.wallets.len() - 1);
        if other >= number { other + 1 } else { other }
    }

    fn ask_to_be_paid(&mut self, payee: usize, hold: Hold) {
        let (payer, amount_msat) = (self.other(payee), self.amount_msat());
        self.invoice(Invoice { payer, payee, amount_msat, hold });
    }

    pub(super) fn invoice(&mut self, invoice: Invoice) {
        let Invoice { payer, payee, amount_msat, hold } = invoice;
        let request = pb::CreateInvoiceRequest {
            amount_msat: Some(amount_msat),
            description: "something".into(),
            hold: hold == Hold::Yes,
            request_id: self.request_id(),
            ..Default::default()
        };
        self.note(
            "people",
            format_args!("wallet {payer} shall pay {amount_msat} msat to wallet {payee}, hold {hold:?}"),
        );
        let asked = request.clone();
        self.ask(
            payee,
            |service| async move { service.create_invoice(Request::new(asked)).await },
            |call| Asked::Invoice { payer, hold, request, call },
        );
    }

    fn send(&mut self, payer: usize) {
        let (payee, amount_msat) = (self.other(payer), self.amount_msat());
        let Some(process) = &self.wallets[payee].process else { return };
        let request = pb::SendRequest {
            payee: process.node_id().as_bytes().to_vec().into(),
            amount_msat,
            ..Default::default()
        };
        self.note("people", format_args!("wallet {payer} sends {amount_msat} msat to wallet {payee}"));
        self.ask(
            payer,
            |service| async move { service.send(Request::new(request)).await },
            |call| Asked::Pay { call },
        );
    }

    /// A payment is held while its channel is closed, and taken afterwards, or not.
    fn hold_and_close(&mut self, payee: usize) -> Result<(), Broken> {
        if self.owners[payee].held.is_empty() {
            let (payer, amount_msat) = (self.other(payee), self.amount_msat());
            self.invoice(Invoice { payer, payee, amount_msat, hold: Hold::Yes });
            for _ in 0..HOLD_ROUNDS {
                self.settle()?;
                self.advance(500);
                self.look_at_answers()?;
            }
        }
        let channels = self.channels(payee, false)?;
        let busiest = channels.into_iter().max_by_key(|channel| channel.in_flight_msat);
        let Some(channel) = busiest.filter(|channel| channel.in_flight_msat > 0) else { return Ok(()) };
        self.note(
            "people",
            format_args!("wallet {payee} closes {} while it holds", hex::encode(&channel.channel_id)),
        );
        let request =
            pb::CloseChannelRequest { channel_id: channel.channel_id, force: true, ..Default::default() };
        self.ask_wallet(payee, |service| async move { service.close_channel(Request::new(request)).await })?;
        if self.chance.people.one_of(1, 2) {
            self.decide(payee);
        }
        Ok(())
    }

    fn stream(&mut self, payer: usize) {
        let payee = self.other(payer);
        let Some(process) = &self.wallets[payee].process else { return };
        let request = pb::StartStreamRequest {
            payee: process.node_id().as_bytes().to_vec().into(),
            amount_msat: self.chance.people.within(1_000, 20_000),
            ticks: self.chance.people.within(1, 30),
            ..Default::default()
        };
        self.note("people", format_args!("wallet {payer} streams to wallet {payee}"));
        self.ask(
            payer,
            |service| async move {
                // The stream lives in the wallet: whoever asked need not listen.
                service.start_stream(Request::new(request)).await.map(|_| ())
            },
            |call| Asked::Stream { call },
        );
    }

    fn decide(&mut self, number: usize) {
        let held = self.owners[number].held.len();
        if held == 0 {
            return;
        }
        let hash = self.owners[number].held.swap_remove(self.chance.people.below(held));
        let take = self.chance.people.one_of(1, 2);
        self.decide_about(number, hash, take);
    }

    /// Takes or refuses a held payment.
    pub(super) fn decide_about(&mut self, number: usize, hash: Vec<u8>, take: bool) {
        self.note("people", format_args!("wallet {number} decides: {take}"));
        let payment_hash = hash.into();
        if take {
            let request = pb::SettleInvoiceRequest { payment_hash };
            self.ask(
                number,
                |service| async move { service.settle_invoice(Request::new(request)).await },
                |call| Asked::Decide { call: Decided::Settle(call) },
            );
        } else {
            let request = pb::CancelInvoiceRequest { payment_hash };
            self.ask(
                number,
                |service| async move { service.cancel_invoice(Request::new(request)).await },
                |call| Asked::Decide { call: Decided::Cancel(call) },
            );
        }
    }

    pub(super) fn channels_of(&mut self, number: usize, then: WithChannels) {
        let request = pb::ListChannelsRequest { include_closed: false };
        self.ask(
            number,
            |service| async move { service.list_channels(Request::new(request)).await },
            |call| Asked::Channels { then, call },
        );
    }

    /// A while without this wallet: minutes, hours or days, with the blocks that belong to them.
    fn go_away(&mut self, number: usize) -> Result<(), Broken> {
        if self.wallets[number].process.is_none() {
            return Ok(());
        }
        // It was told by when it must be there again.
        let channels = self.channels(number, false)?;
        let heights = channels.iter().map(|channel| channel.online_again_by_height);
        let back_by = heights.filter(|height| *height > 0).min();
        let away_ms = self.chance.people.within(1_000, 120_000);
        self.note("people", format_args!("wallet {number} goes away for {away_ms} ms"));
        self.say_wallet(number);
        self.wallets[number].kill(Cut::Kill, &mut self.chance.disk);
        self.net.wallet_died(number);
        self.owners[number].back_by = Some(back_by.unwrap_or(u32::MAX));
        self.wallets[number].back_ms = self.clock.now_ms() + away_ms;
        Ok(())
    }

    fn go_away_for_days(&mut self, number: usize) -> Result<(), Broken> {
        self.go_away(number)?;
        let blocks = self.chance.people.within(DAYS.0, DAYS.1);
        self.pass_blocks(blocks)
    }

    pub(super) fn capacity_sat(&mut self) -> u64 {
        let (least, most) = self.climate.capacity_sat;
        self.chance.people.within(least, most)
    }

    fn stop_wallet(&mut self, number: usize) -> Result<(), Broken> {
        if self.wallets[number].process.is_none() {
            return Ok(());
        }
        self.note("people", format_args!("wallet {number} stops"));
        self.say_wallet(number);
        self.wallets[number].stop(&mut self.chance.disk)?;
        self.net.wallet_died(number);
        self.wallets[number].back_ms = self.clock.now_ms() + self.chance.people.within(0, 20_000);
        Ok(())
    }

    pub(super) fn restart_hub(&mut self) -> Result<(), Broken> {
        if self.hub.process.is_none() {
            return Ok(());
        }
        let upgrades = self.chance.people.one_of(1, 3);
        let what = if upgrades { "upgrades" } else { "restarts" };
        self.note("people", format_args!("the operator {what} the hub"));
        self.say("hub");
        if upgrades {
            // It did not stop in order, so the version that wrote the journal must make snapshots of it.
            self.hub.kill(Cut::Kill, &mut self.chance.disk);
            self.hub.checkpoint(&mut self.chance.disk)?;
        } else {
            self.hub.stop(&mut self.chance.disk)?;
        }
        self.net.hub_died();
        self.hub.back_ms = self.clock.now_ms() + self.chance.people.within(0, 10_000);
        Ok(())
    }

    /// One channel of the hub's, or many.
    fn operator_closes(&mut self) -> Result<(), Broken> {
        use proto::hub::v1::operator_server::Operator;
        if self.hub.process.is_none() || self.hub.character != Character::Honest {
            return Ok(());
        }
        let (many, force) = (self.chance.people.one_of(1, 4), self.chance.people.one_of(1, 3));
        let listed = self.ask_operator(|operator| async move {
            operator.list_channels(Request::new(hub_pb::ListChannelsRequest::default())).await
        })?;
        let mut channels = listed.map(|listed| listed.channels).unwrap_or_default();
        if !many && channels.len() > 1 {
            let kept = self.chance.people.below(channels.len());
            channels = vec![channels.swap_remove(kept)];
        }
        self.note("people", format_args!("the operator closes {} channels, force {force}", channels.len()));
        for channel in channels {
            self.operator_closes_one(channel.channel_id, force)?;
        }
        Ok(())
    }

    /// Refused where there is nothing to close.
    pub(super) fn operator_closes_one(
        &mut self,
        channel_id: bytes::Bytes,
        force: bool,
    ) -> Result<(), Broken> {
        use proto::hub::v1::operator_server::Operator;
        let request_id = self.request_id();
        let request = hub_pb::CloseChannelRequest { channel_id, request_id, force };
        self.ask_operator(|operator| async move { operator.close_channel(Request::new(request)).await })?;
        Ok(())
    }

    /// A request's own id, which makes a repeat of it harmless.
    fn request_id(&mut self) -> String {
        RequestId::new(self.clock.now_ms(), self.chance.people.bytes()).to_string()
    }

    // --- Answers -----------------------------------------------------------------------------------------------------

    pub(super) fn look_at_answers(&mut self) -> Result<(), Broken> {
        for number in 0..self.wallets.len() {
            for asked in std::mem::take(&mut self.owners[number].asked) {
                let people = &mut self.chance.people;
                let honest = self.wallets[number].is_honest();
                // What a hostile wallet says is no promise.
                let mut nobodys = crate::audit::Books::default();
                let books = if honest { &mut self.books } else { &mut nobodys };
                let next = asked.look(number, books, &mut |length| people.below(length))?;
                self.follow(number, next)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, number: usize, next: Next) -> Result<(), Broken> {
        match next {
            Next::Wait(asked) => self.owners[number].asked.push(asked),
            Next::Done => {}
            Next::Seen { channels } => {
                self.owners[number].looks = false;
                self.note_seen(Party::Wallet(number), &channels);
            }
            Next::Fund { address, amount } => self.fund(Party::Wallet(number), &address, amount)?,
            Next::Given { request, payment_hash, until_ms } => {
                // The word of those who break rules is none, nor what a hub of that kind makes of it.
                let honest = self.wallets[number].is_honest() && self.hub.is_honest();
                if let (true, Some(until), Ok(hash)) =
                    (honest, until_ms, <[u8; 32]>::try_from(payment_hash.as_slice()))
                {
                    self.books.invoice_given(hash, until);
                }
                self.watching.invoices.insert(number, (request, payment_hash));
            }
            Next::Opened { channel_id } => {
                if self.wallets[number].is_honest() {
                    self.watching.books.acknowledged(number, &channel_id);
                }
            }
            Next::Pay { payer, invoice } => {
                self.pay_also(number, payer, &invoice);
                let request = pb::PayRequest { invoice, ..Default::default() };
                self.ask(
                    payer,
                    |service| async move { service.pay(Request::new(request)).await },
                    |call| Asked::Pay { call },
                );
            }
            Next::Held { payment_hash } => self.owners[number].held.push(payment_hash),
            Next::Close { channel, then } => {
                let force = then == WithChannels::Force;
                self.note(
                    "people",
                    format_args!(
                        "wallet {number} closes {}, force {force}",
                        hex::encode(&channel.channel_id)
                    ),
                );
                let request =
                    pb::CloseChannelRequest { channel_id: channel.channel_id, force, ..Default::default() };
                self.ask(
                    number,
                    |service| async move { service.close_channel(Request::new(request)).await },
                    |call| Asked::Close { call },
                );
            }
            Next::Several(all) => {
                for next in all {
                    self.follow(number, next)?;
                }
            }
        }
        Ok(())
    }

    /// Whether this wallet and the hub may be connected.
    pub(super) fn set_line(&mut self, number: usize, line: Line) {
        self.wallets[number].line = line;
    }
}
