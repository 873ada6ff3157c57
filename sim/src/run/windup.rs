//! The end of a run: everybody is honest, nothing goes wrong, enough blocks come, and the books are closed.

use proto::hub::v1 as pb;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::calls::note_payment;
use super::hindrance::MOST_BLOCKS;
use super::seats::Line;
use crate::audit::Broken;

/// Blocks within which every payment is decided: the longest expiry that anybody accepts, and what comes after it.
const PAYMENT_BLOCKS: u32 = 400;
/// As much is told of channels that keep a payment.
const TOLD: usize = 2_000;
/// Largest page of any list.
const PAGE: u32 = 500;

impl Run {
    pub(super) fn wind_up(&mut self) -> Result<(), Broken> {
        self.calm();
        self.return_those_away()?;
        self.let_proofs_come(MOST_BLOCKS)?;
        self.work(20)?;
        self.decide_everything()?;
        self.until_payments_end()?;
        self.note_last_words()?;
        self.until_channels_end()?;
        self.until_crumbs_are_given_up()?;
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
        let mut waiting = None;
        for _ in 0..PAYMENT_BLOCKS {
            waiting = None;
            for number in 0..self.wallets.len() {
                if self.wallets[number].line == Line::Cut || !self.wallets[number].is_honest() {
                    continue;
                }
                let payments = self.payments_of(number)?;
                let in_flight = |one: &&wallet_pb::Payment| one.state() == wallet_pb::PaymentState::InFlight;
                if let Some(payment) = payments.iter().find(in_flight) {
                    waiting = Some((number, payment.clone()));
                }
            }
            if waiting.is_none() {
                return Ok(());
            }
            self.block()?;
            self.decide_everything()?;
        }
        let Some((number, payment)) = waiting else { return Ok(()) };
        let busy = self.channels(number, false)?.into_iter().filter(|channel| channel.htlcs > 0);
        let busy: String = format!("{:?}", busy.collect::<Vec<_>>()).chars().take(TOLD).collect();
        let what = format!(
            "wallet {number}'s {} of {} msat is in flight after {PAYMENT_BLOCKS} blocks: {busy}",
            hex::encode(&payment.payment_hash),
            payment.amount_msat
        );
        Err(Broken::new("payments end", what))
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
}
