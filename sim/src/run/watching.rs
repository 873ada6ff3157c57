//! The auditor looks at everybody while the run goes on.
//!
//! It asks in the midst of work, when what is said may be ahead of the disk if anybody is, and when nothing moves, when both
//! ends of a channel must say the same.

use std::collections::BTreeMap;

use channel::keys::Point;
use proto::hub::v1 as pb;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::{Request, Response, Status};

use super::Run;
use super::calls::{Asked, note_payment};
use super::seats::Character;
use crate::audit::{Broken, Party, Watch};
use crate::plan::Fault;
use crate::process::Call;
use crate::seed::{Chance, Seed};

/// Largest page of any list.
const PAGE: u32 = 500;
/// One invoice in so many is paid by two.
const ALSO_EVERY: u32 = 6;
/// What programs tell of as errors, and what is none of theirs: somebody has to say yes to something.
const NO_FAULTS: [&str; 4] = [
    "a close waits for you to release it",
    "too many channels are to be closed at once",
    "tickets wait: ",
    "the disk is nearly full",
];

type Answered<T> = Call<Result<Response<T>, Status>>;

/// What the hub says of its channels, and what each wallet says that answered.
type Heard = (Option<Vec<pb::Channel>>, Vec<(usize, Vec<pb::Channel>)>);

/// What the auditor remembers of what it saw, and what it waits for.
pub struct Watching {
    pub books: Watch,
    /// The wallets' node keys, by their numbers.
    keys: Vec<Point>,
    chance: Chance,
    of_hub: Option<Answered<pb::ListChannelsResponse>>,
    of_wallets: Vec<(usize, Answered<wallet_pb::ListChannelsResponse>)>,
    payments: Vec<(usize, Answered<wallet_pb::ListPaymentsResponse>)>,
    /// The last invoice of each wallet: what was asked, and its payment hash.
    pub invoices: BTreeMap<usize, (wallet_pb::CreateInvoiceRequest, Vec<u8>)>,
    /// Wallets that were started since they were last asked what they remember.
    pub woken: Vec<usize>,
}

impl Watching {
    pub fn new(seed: Seed, keys: Vec<Point>) -> Self {
        Watching {
            books: Watch::default(),
            keys,
            chance: seed.stream("watch"),
            of_hub: None,
            of_wallets: Vec::new(),
            payments: Vec::new(),
            invoices: BTreeMap::new(),
            woken: Vec::new(),
        }
    }
}

impl Watching {
    /// A wallet lost all that it knew.
    pub fn forget(&mut self, wallet: usize, channels: &[pb::Channel]) {
        self.books.forget(wallet, channels);
        self.invoices.remove(&wallet);
        self.payments.retain(|(asked, _)| *asked != wallet);
        self.of_wallets.retain(|(asked, _)| *asked != wallet);
    }
}

impl Run {
    /// Looks at everybody. `rests`: nothing moves before time passes.
    pub(super) fn watch(&mut self, rests: bool) -> Result<(), Broken> {
        self.look_at_alarms()?;
        self.hear_everybody()?;
        self.books_are_sound()?;
        self.ask_everybody();
        if !rests {
            return Ok(());
        }
        let lies = self.lies_heard();
        self.settle()?;
        let (of_hub, of_wallets) = self.hear_everybody()?;
        self.lies_end_channels(&lies, of_hub.as_deref(), &of_wallets)?;
        if let Some(of_hub) = of_hub.filter(|_| self.hub.character == Character::Honest) {
            for (number, channels) in of_wallets {
                if self.wallets[number].is_honest() {
                    self.watching.books.compare(number, &channels, &of_hub)?;
                }
            }
        }
        let mut woken = std::mem::take(&mut self.watching.woken);
        woken.sort_unstable();
        woken.dedup();
        woken.into_iter().try_for_each(|number| self.still_remembers(number))
    }

    /// What programs tell of as their own faults is a fault.
    pub(super) fn look_at_alarms(&mut self) -> Result<(), Broken> {
        for alarm in self.chronicle.alarms() {
            let cheats = match self.wallets.iter().find(|wallet| wallet.setup.name == alarm.who) {
                Some(wallet) => wallet.character == Character::Cheat,
                None => matches!(self.hub.character, Character::Cheat | Character::Forgetful),
            };
            let lost = alarm.what.contains("lost data") && !self.lost.is_nothing();
            // A disk that fails is a fault of the disk's, and told of.
            let of_disk = alarm.what.contains("I/O error") && self.plan.faults.has(Fault::Disk);
            if cheats || lost || of_disk || NO_FAULTS.iter().any(|words| alarm.what.contains(words)) {
                continue;
            }
            return Err(Broken::new("nobody tells of a fault", format!("{}: {}", alarm.who, alarm.what)));
        }
        Ok(())
    }

    fn books_are_sound(&self) -> Result<(), Broken> {
        if self.hub.character == Character::Honest { self.books.paid_once() } else { Ok(()) }
    }

    /// Begins to ask everybody who is there, and has no question left to answer, for their channels.
    fn ask_everybody(&mut self) {
        if self.watching.of_hub.is_none()
            && let Some(hub) = &self.hub.process
        {
            let request = pb::ListChannelsRequest { page_size: PAGE, ..Default::default() };
            let call =
                hub.call(|operator| async move { operator.list_channels(Request::new(request)).await });
            self.watching.of_hub = Some(call);
        }
        for (number, wallet) in self.wallets.iter().enumerate() {
            let Some(process) = &wallet.process else { continue };
            if !self.watching.payments.iter().any(|(asked, _)| *asked == number) {
                let request = wallet_pb::ListPaymentsRequest { page_size: PAGE, ..Default::default() };
                let call =
                    process.call(|service| async move { service.list_payments(Request::new(request)).await });
                self.watching.payments.push((number, call));
            }
            if !self.watching.of_wallets.iter().any(|(asked, _)| *asked == number) {
                let request = wallet_pb::ListChannelsRequest { include_closed: false };
                let call =
                    process.call(|service| async move { service.list_channels(Request::new(request)).await });
                self.watching.of_wallets.push((number, call));
            }
        }
    }

    /// Hears whoever has answered.
    fn hear_everybody(&mut self) -> Result<Heard, Broken> {
        let mut of_wallets = Vec::new();
        for (number, mut call) in std::mem::take(&mut self.watching.of_wallets) {
            match call.answer() {
                None => self.watching.of_wallets.push((number, call)),
                Some(Ok(Ok(answer))) => of_wallets.push((number, answer.into_inner().channels)),
                // Refused, or the process died first.
                Some(_) => {}
            }
        }
        for (number, channels) in &of_wallets {
            self.hear_wallet(*number, channels)?;
        }
        self.hear_payments()?;
        let mut of_hub = None;
        if let Some(mut call) = self.watching.of_hub.take() {
            match call.answer() {
                None => self.watching.of_hub = Some(call),
                Some(Ok(Ok(answer))) => of_hub = Some(answer.into_inner().channels),
                Some(_) => {}
            }
        }
        if let Some(channels) = &of_hub {
            self.hear_hub(channels)?;
        }
        Ok((of_hub, of_wallets))
    }

    fn hear_payments(&mut self) -> Result<(), Broken> {
        for (number, mut call) in std::mem::take(&mut self.watching.payments) {
            match call.answer() {
                None => self.watching.payments.push((number, call)),
                Some(Ok(Ok(answer))) if self.wallets[number].is_honest() => {
                    let payments = answer.into_inner().payments;
                    for payment in &payments {
                        note_payment(number, payment, &mut self.books)?;
                    }
                    self.watching.books.lists(number, &payments);
                }
                // Refused, or the process died first.
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// A wallet says what channels it has.
    pub(super) fn hear_wallet(&mut self, number: usize, channels: &[pb::Channel]) -> Result<(), Broken> {
        if !self.wallets[number].is_honest() {
            return Ok(());
        }
        let both_are_honest =
            self.hub.character == Character::Honest && !self.watching.books.has_lost(number);
        self.watching.books.hear(Party::Wallet(number), channels, |_| both_are_honest)
    }

    /// The hub says what channels it has.
    pub(super) fn hear_hub(&mut self, channels: &[pb::Channel]) -> Result<(), Broken> {
        if self.hub.character != Character::Honest {
            return Ok(());
        }
        let (wallets, Watching { books, keys, .. }) = (&self.wallets, &mut self.watching);
        let good: Vec<bool> = wallets
            .iter()
            .enumerate()
            .map(|(number, wallet)| wallet.is_honest() && !books.has_lost(number))
            .collect();
        let honest = |channel: &pb::Channel| {
            let number = keys.iter().position(|key| key.as_bytes()[..] == channel.node_key[..]);
            number.is_some_and(|number| good[number])
        };
        books.hear(Party::Hub, channels, honest)
    }

    /// What was acknowledged to a wallet's owner is known after a start.
    fn still_remembers(&mut self, number: usize) -> Result<(), Broken> {
        if !self.wallets[number].is_honest() || self.wallets[number].process.is_none() {
            return Ok(());
        }
        let request = wallet_pb::ListChannelsRequest { include_closed: true };
        let channels =
            self.ask_wallet(
                number,
                |service| async move { service.list_channels(Request::new(request)).await },
            )?;
        if let Some(listed) = channels {
            self.watching.books.remembers(number, &listed.channels)?;
        }
        self.invoice_is_known(number)?;
        let request = wallet_pb::ListPaymentsRequest { page_size: PAGE, ..Default::default() };
        let payments =
            self.ask_wallet(
                number,
                |service| async move { service.list_payments(Request::new(request)).await },
            )?;
        // Of one who was killed again meanwhile nothing is known.
        let Some(listed) = payments.filter(|listed| listed.next_page_token.is_empty()) else { return Ok(()) };
        for payment in &listed.payments {
            note_payment(number, payment, &mut self.books)?;
        }
        self.watching.books.still_lists(number, &listed.payments)?;
        self.nothing_is_forgotten(number, &listed.payments)?;
        self.note_streams(number)
    }

    /// Whoever asks for the same invoice again gets the one there is.
    fn invoice_is_known(&mut self, number: usize) -> Result<(), Broken> {
        let Some((request, hash)) = self.watching.invoices.get(&number).cloned() else { return Ok(()) };
        let again =
            self.ask_wallet(
                number,
                |service| async move { service.create_invoice(Request::new(request)).await },
            )?;
        match again {
            Some(answer) if answer.payment_hash != hash => {
                let what = format!("wallet {number} forgot invoice {}", hex::encode(hash));
                Err(Broken::new("an acknowledged invoice is remembered", what))
            }
            // Asked too late, or not there.
            _ => Ok(()),
        }
    }

    /// What a wallet says of its streams.
    pub(super) fn note_streams(&mut self, number: usize) -> Result<(), Broken> {
        let request = wallet_pb::ListStreamsRequest { page_size: PAGE, ..Default::default() };
        let streams = self
            .ask_wallet(number, |service| async move { service.list_streams(Request::new(request)).await })?;
        for stream in streams.map(|listed| listed.streams).unwrap_or_default() {
            let Ok(id) = <[u8; 16]>::try_from(stream.stream_id.as_ref()) else {
                return Err(Broken::new("answers are well formed", "a stream without an id"));
            };
            match stream.direction() {
                wallet_pb::PaymentDirection::Sent => {
                    let fees_msat = self.dearest_fee_msat(stream.amount_msat).saturating_mul(stream.settled);
                    self.books.stream_payer_says(number, id, stream.settled_msat, fees_msat)?;
                }
                wallet_pb::PaymentDirection::Received => {
                    self.books.stream_payee_says(number, id, stream.settled_msat)?;
                }
                wallet_pb::PaymentDirection::Unspecified => {}
            }
        }
        Ok(())
    }

    /// Payments of which this wallet told the end are among those it lists.
    pub(super) fn nothing_is_forgotten(
        &self,
        number: usize,
        listed: &[wallet_pb::Payment],
    ) -> Result<(), Broken> {
        let known = |hash: &[u8; 32]| listed.iter().any(|payment| payment.payment_hash.as_ref() == hash);
        let forgotten = |hash: &[u8; 32]| !known(hash) && !self.lost.forgave(number, hash);
        match self.books.acknowledged_by(number).find(forgotten) {
            None => Ok(()),
            Some(hash) => {
                let what = format!("wallet {number} forgot payment {}", hex::encode(hash));
                Err(Broken::new("an acknowledged payment stays as it is", what))
            }
        }
    }

    /// Now and then somebody else pays the same invoice, or the same wallet once more. Of two, one may succeed.
    pub(super) fn pay_also(&mut self, payee: usize, payer: usize, invoice: &str) {
        if !self.watching.chance.one_of(1, ALSO_EVERY) {
            return;
        }
        let also = self.watching.chance.below(self.wallets.len());
        // What a hostile wallet says of its payment is not known, and an honest one's word needs the whole story.
        if also == payee || !self.wallets[also].is_honest() || !self.wallets[payer].is_honest() {
            return;
        }
        self.note("people", format_args!("wallet {also} pays the invoice too"));
        let request = wallet_pb::PayRequest { invoice: invoice.to_owned(), ..Default::default() };
        self.ask(
            also,
            |service| async move { service.pay(Request::new(request)).await },
            |call| Asked::Pay { call },
        );
    }
}
