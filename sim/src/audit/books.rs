//! What parties were promised, kept apart from what any of them believes.
//!
//! Only what somebody outside saw goes in: answers of services, and coins given on the chain. A promise once seen never
//! changes; whoever says something else later has broken it.

use std::collections::BTreeMap;

use bitcoin::Amount;
use bitcoin::hashes::{Hash, sha256};

use super::forwards::Untaken;

/// A party: wallets by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Hub,
    Wallet(usize),
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Party::Hub => f.write_str("the hub"),
            Party::Wallet(number) => write!(f, "wallet {number}"),
        }
    }
}

/// A promise that was broken, or a rule. The auditor's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule's name, the same for every breach of it.
    pub rule: &'static str,
    pub what: String,
}

impl Broken {
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Broken { rule, what: what.into() }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// What one side says of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Paid, at this fee (0 for the payee).
    Settled {
        amount_msat: u64,
        fee_msat: u64,
    },
    Failed,
}

/// A payment as its ends told it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payment {
    /// Whoever tried to pay it. Of an invoice there may be several, and one may succeed.
    pub payers: BTreeMap<usize, Word>,
    pub payee: Option<(usize, Word)>,
}

impl Payment {
    /// Who paid it, by their own words.
    fn paid_by(&self) -> impl Iterator<Item = (usize, Word)> + '_ {
        let all = self.payers.iter().map(|(payer, word)| (*payer, *word));
        all.filter(|(_, word)| matches!(word, Word::Settled { .. }))
    }
}

/// A stream as its two ends told it last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    pub payer: Option<(usize, u64)>,
    pub payee: Option<(usize, u64)>,
    /// What the payer paid the hub for it, at most.
    pub fees_msat: u64,
}

/// The auditor's own books.
#[derive(Clone, Debug, Default)]
pub struct Books {
    given: BTreeMap<Party, Amount>,
    payments: BTreeMap<[u8; 32], Payment>,
    streams: BTreeMap<[u8; 16], Stream>,
    /// Invoices that were handed out and are not withdrawn, by payment hash: until when they hold, in milliseconds since 1970.
    invoices: BTreeMap<[u8; 32], u64>,
}

impl Books {
    /// Somebody outside paid a party on the chain.
    pub fn give(&mut self, to: Party, amount: Amount) {
        let given = self.given.entry(to).or_default();
        *given = given.checked_add(amount).unwrap_or(Amount::MAX_MONEY);
    }

    pub fn given(&self, to: Party) -> Amount {
        self.given.get(&to).copied().unwrap_or_default()
    }

    /// Payments that somebody paid.
    pub fn settled(&self) -> u64 {
        self.payments.values().filter(|payment| payment.paid_by().next().is_some()).count() as u64
    }

    /// The payments of which this wallet has said the last word.
    pub fn acknowledged_by(&self, wallet: usize) -> impl Iterator<Item = [u8; 32]> + '_ {
        let said = move |payment: &Payment| {
            payment.payers.contains_key(&wallet) || payment.payee.is_some_and(|(who, _)| who == wallet)
        };
        self.payments.iter().filter(move |(_, payment)| said(payment)).map(|(hash, _)| *hash)
    }

    /// A payer's last word on a payment. A payment said to be settled must come with the preimage.
    pub fn payer_says(
        &mut self,
        wallet: usize,
        hash: [u8; 32],
        word: Word,
        preimage: &[u8],
    ) -> Result<(), Broken> {
        if matches!(word, Word::Settled { .. }) && sha256::Hash::hash(preimage).to_byte_array() != hash {
            let what = format!("wallet {wallet} has no preimage of a settled payment {}", hex::encode(hash));
            return Err(Broken::new("a settled payment has its proof", what));
        }
        let payers = &mut self.payments.entry(hash).or_default().payers;
        let mut kept = payers.get(&wallet).map(|word| (wallet, *word));
        keep_word(&mut kept, wallet, word, "payer", &hash)?;
        payers.insert(wallet, word);
        Ok(())
    }

    /// A payee's last word on a payment.
    pub fn payee_says(&mut self, wallet: usize, hash: [u8; 32], word: Word) -> Result<(), Broken> {
        keep_word(&mut self.payments.entry(hash).or_default().payee, wallet, word, "payee", &hash)
    }

    /// A payee handed out an invoice. Whoever pays it before then is not told that there is none.
    pub fn invoice_given(&mut self, hash: [u8; 32], until_ms: u64) {
        self.invoices.insert(hash, until_ms);
    }

    /// Whoever handed them out has lost what it knew of them.
    pub fn withdraw_invoices(&mut self) {
        self.invoices.clear();
    }

    /// A payer was told, at this time, that the payee knows of no such payment.
    pub fn payee_denies(&self, hash: &[u8; 32], now_ms: u64) -> Result<(), Broken> {
        if self.invoices.get(hash).is_none_or(|until| *until <= now_ms) {
            return Ok(());
        }
        let what = format!("the payee of {} says that it is not its own", hex::encode(hash));
        Err(Broken::new("an invoice that was given is honoured", what))
    }

    /// No invoice of somebody honest is paid by two: of others nothing is recorded.
    pub fn paid_once(&self) -> Result<(), Broken> {
        for (hash, payment) in &self.payments {
            if payment.payee.is_some() && payment.paid_by().count() > 1 {
                let what = format!("{}: {:?}", hex::encode(hash), payment.payers);
                return Err(Broken::new("an invoice is paid once", what));
            }
        }
        Ok(())
    }

    /// What a payer of a stream says is settled: it may only rise. `fees_msat`: what the hub asked for that, at most.
    pub fn stream_payer_says(
        &mut self,
        wallet: usize,
        id: [u8; 16],
        msat: u64,
        fees_msat: u64,
    ) -> Result<(), Broken> {
        let stream = self.streams.entry(id).or_default();
        stream.fees_msat = fees_msat;
        raise(&mut stream.payer, wallet, msat, &id)
    }

    /// What a payee of a stream says it has: it may only rise.
    pub fn stream_payee_says(&mut self, wallet: usize, id: [u8; 16], msat: u64) -> Result<(), Broken> {
        raise(&mut self.streams.entry(id).or_default().payee, wallet, msat, &id)
    }

    /// Compares both ends of every payment and stream, once nothing is in flight any more. `honest` tells whose word
    /// counts, `at_risk_msat` how much trimmed HTLCs of a wallet's channels that were closed on the chain may have gone to
    /// miners, `untaken` what somebody between them pays itself if it was taken after all.
    pub fn compare(
        &self,
        honest: impl Fn(usize) -> bool,
        at_risk_msat: impl Fn(usize) -> u64,
        untaken: &Untaken,
    ) -> Result<(), Broken> {
        for (hash, payment) in &self.payments {
            let payee = payment.payee;
            // Of several who tried, the one who paid is asked, if anybody says that it did.
            let Some((payer, paid)) = payment
                .paid_by()
                .next()
                .or_else(|| payment.payers.iter().next().map(|(who, word)| (*who, *word)))
            else {
                continue;
            };
            if !honest(payer) {
                continue;
            }
            let received = match (paid, payee) {
                (Word::Settled { amount_msat, .. }, Some((payee, word))) if honest(payee) => {
                    (word, Word::Settled { amount_msat, fee_msat: 0 })
                }
                (Word::Failed, Some((payee, word @ Word::Settled { amount_msat, .. }))) if honest(payee) => {
                    // What had no output, or one not worth its fee, may be lost on the chain.
                    let payers = payment.payers.keys().map(|payer| at_risk_msat(*payer));
                    let at_risk = payers.fold(at_risk_msat(payee), u64::max);
                    if amount_msat <= at_risk.max(untaken.of(hash)) {
                        continue;
                    }
                    (word, Word::Failed)
                }
                _ => continue,
            };
            if received.0 != received.1 {
                let (hash, risk) = (hex::encode(hash), at_risk_msat(payer));
                let what = format!("{hash}: payer {payer} {paid:?} ({risk} msat at risk), payee {payee:?}");
                return Err(Broken::new("a payment is whole or not at all", what));
            }
        }
        let ticks = untaken.by(None).filter(|(hash, _)| !self.payments.contains_key(*hash));
        let untaken: u64 = ticks.map(|(_, amount_msat)| amount_msat).sum();
        for (id, stream) in &self.streams {
            if let (Some((payer, paid)), Some((payee, received))) = (stream.payer, stream.payee)
                && honest(payer)
                && honest(payee)
                && paid.abs_diff(received) > at_risk_msat(payer).max(at_risk_msat(payee))
                && !(1..=untaken).contains(&received.saturating_sub(paid))
            {
                let what = format!("stream {}: paid {paid}, received {received} msat", hex::encode(id));
                return Err(Broken::new("a stream's ends agree", what));
            }
        }
        Ok(())
    }

    /// What this wallet received less what it paid, in msat, with fees, and with what was taken from it after it gave it up.
    pub fn wallet_net_msat(&self, wallet: usize, honest: impl Fn(usize) -> bool, untaken: &Untaken) -> i128 {
        let mut net = -self.taken_msat(Party::Wallet(wallet), honest, untaken);
        for payment in self.payments.values() {
            if let Some(Word::Settled { amount_msat, fee_msat }) = payment.payers.get(&wallet) {
                net -= i128::from(*amount_msat) + i128::from(*fee_msat);
            }
            if let Some((payee, Word::Settled { amount_msat, .. })) = payment.payee
                && payee == wallet
            {
                net += i128::from(amount_msat);
            }
        }
        for stream in self.streams.values() {
            if let Some((_, msat)) = stream.payer.filter(|(who, _)| *who == wallet) {
                net -= i128::from(msat) + i128::from(stream.fees_msat);
            }
            net += stream.payee.filter(|(who, _)| *who == wallet).map_or(0, |(_, msat)| i128::from(msat));
        }
        net
    }

    /// What was said of payments and streams that this party has a part in, one line each. The hub has one in all.
    pub fn promised(&self, party: Party) -> Vec<String> {
        let has_part = |wallet: usize| party == Party::Hub || party == Party::Wallet(wallet);
        let mut lines = Vec::new();
        for (hash, Payment { payers, payee }) in &self.payments {
            if payers.keys().any(|payer| has_part(*payer)) || payee.is_some_and(|(payee, _)| has_part(payee))
            {
                lines.push(format!("payment {}: payers {payers:?}, payee {payee:?}", hex::encode(hash)));
            }
        }
        for (id, Stream { payer, payee, fees_msat }) in &self.streams {
            if [payer, payee].into_iter().flatten().any(|(wallet, _)| has_part(*wallet)) {
                lines.push(format!(
                    "stream {}: payer {payer:?}, fees {fees_msat} msat at most, payee {payee:?}",
                    hex::encode(id)
                ));
            }
        }
        lines
    }

    /// What the hub earned by payments between honest wallets, in msat. Of others it must not lose, but for what was taken
    /// from it after it gave it up.
    pub fn hub_net_msat(&self, honest: impl Fn(usize) -> bool, untaken: &Untaken) -> i128 {
        let of_payments =
            self.payments.values().filter_map(|payment| match (payment.paid_by().next()?, payment.payee?) {
                ((payer, Word::Settled { fee_msat, .. }), (payee, Word::Settled { .. }))
                    if honest(payer) && honest(payee) =>
                {
                    Some(i128::from(fee_msat))
                }
                _ => None,
            });
        of_payments.sum::<i128>() - self.taken_msat(Party::Hub, honest, untaken)
    }

    /// What may have been taken from this party after it gave it up.
    fn taken_msat(&self, party: Party, honest: impl Fn(usize) -> bool, untaken: &Untaken) -> i128 {
        let may_be_taken = |hash: &[u8; 32]| {
            let Some(payment) = self.payments.get(hash) else { return true };
            let paid = payment.paid_by().any(|(payer, _)| honest(payer));
            let refused = payment.payee.is_some_and(|(payee, word)| word == Word::Failed && honest(payee));
            !paid && !refused
        };
        let taken = untaken.by(Some(party)).filter(|(hash, _)| may_be_taken(hash));
        taken.map(|(_, amount_msat)| i128::from(amount_msat)).sum()
    }
}

fn keep_word(
    kept: &mut Option<(usize, Word)>,
    wallet: usize,
    word: Word,
    side: &str,
    hash: &[u8; 32],
) -> Result<(), Broken> {
    match kept {
        Some((who, before)) if *who == wallet && *before != word => {
            let what = format!("payment {}: its {side} said {before:?}, now {word:?}", hex::encode(hash));
            Err(Broken::new("an acknowledged payment stays as it is", what))
        }
        Some(_) => Ok(()),
        None => {
            *kept = Some((wallet, word));
            Ok(())
        }
    }
}

fn raise(kept: &mut Option<(usize, u64)>, wallet: usize, msat: u64, id: &[u8; 16]) -> Result<(), Broken> {
    match kept {
        Some((_, before)) if *before > msat => {
            let what = format!("stream {}: {before} msat were settled, now {msat}", hex::encode(id));
            Err(Broken::new("an acknowledged tick stays settled", what))
        }
        _ => {
            *kept = Some((wallet, msat));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use channel::amount::Msat;
    use channel::channel::GivenUp;
    use channel::message::PaymentHash;

    use super::*;

    const PREIMAGE: [u8; 32] = [7; 32];

    fn hash() -> [u8; 32] {
        sha256::Hash::hash(&PREIMAGE).to_byte_array()
    }

    fn nothing() -> Untaken {
        Untaken::default()
    }

    fn untaken(by: Party, amount_msat: u64) -> Untaken {
        let mut untaken = Untaken::default();
        let (payment_hash, amount_msat) = (PaymentHash::from_bytes(hash()), Msat::new(amount_msat).unwrap());
        untaken.look(by, [GivenUp { payment_hash, amount_msat }]);
        untaken
    }

    fn net(books: &Books, wallet: usize) -> i128 {
        books.wallet_net_msat(wallet, |_| true, &nothing())
    }

    fn settled(amount_msat: u64, fee_msat: u64) -> Word {
        Word::Settled { amount_msat, fee_msat }
    }

    #[test]
    fn a_word_that_changes_is_a_broken_promise() {
        let mut books = Books::default();
        books.payer_says(0, hash(), settled(5, 1), &PREIMAGE).unwrap();
        books.payer_says(0, hash(), settled(5, 1), &PREIMAGE).unwrap();
        assert!(books.payer_says(0, hash(), Word::Failed, &[]).is_err());
        assert!(books.payer_says(1, [0; 32], settled(5, 1), &PREIMAGE).is_err(), "a wrong proof");
    }

    #[test]
    fn both_ends_must_tell_the_same() {
        let mut books = Books::default();
        books.payer_says(0, hash(), settled(5, 1), &PREIMAGE).unwrap();
        books.payee_says(1, hash(), settled(4, 0)).unwrap();
        books.compare(|_| true, |_| 0, &nothing()).unwrap_err();
        books.compare(|wallet| wallet != 1, |_| 0, &nothing()).unwrap();
        let mut books = Books::default();
        books.payer_says(0, hash(), Word::Failed, &[]).unwrap();
        books.payee_says(1, hash(), settled(5, 0)).unwrap();
        books.compare(|_| true, |_| 4, &nothing()).unwrap_err();
        books.compare(|_| true, |_| 5, &nothing()).unwrap();
    }

    #[test]
    fn what_the_hub_gave_up_and_was_taken_is_the_hubs_loss() {
        let mut books = Books::default();
        books.payer_says(0, hash(), Word::Failed, &[]).unwrap();
        books.payee_says(1, hash(), settled(5, 0)).unwrap();
        books.compare(|_| true, |_| 0, &untaken(Party::Hub, 4)).unwrap_err();
        let given_up = untaken(Party::Hub, 5);
        assert_eq!(books.wallet_net_msat(0, |_| true, &untaken(Party::Wallet(0), 5)), -5);
        books.compare(|_| true, |_| 0, &given_up).unwrap();
        assert_eq!(books.hub_net_msat(|_| true, &given_up), -5);
        let mut books = Books::default();
        books.payee_says(1, hash(), Word::Failed).unwrap();
        assert_eq!(books.hub_net_msat(|_| true, &given_up), 0, "nobody took it");
        assert_eq!(books.hub_net_msat(|_| false, &given_up), -5, "whoever says so lies");
    }

    #[test]
    fn a_stream_whose_ticks_were_given_up_may_have_paid_its_payee_more() {
        let mut books = Books::default();
        books.stream_payer_says(0, [1; 16], 3, 0).unwrap();
        books.stream_payee_says(1, [1; 16], 5).unwrap();
        books.compare(|_| true, |_| 0, &untaken(Party::Hub, 1)).unwrap_err();
        books.compare(|_| true, |_| 0, &untaken(Party::Hub, 2)).unwrap();
        books.stream_payer_says(0, [1; 16], 7, 0).unwrap();
        books.compare(|_| true, |_| 0, &untaken(Party::Hub, 2)).unwrap_err();
    }

    #[test]
    fn an_invoice_is_paid_by_one_of_those_who_try() {
        let mut books = Books::default();
        books.payer_says(0, hash(), Word::Failed, &[]).unwrap();
        books.payer_says(2, hash(), settled(5, 1), &PREIMAGE).unwrap();
        books.payee_says(1, hash(), settled(5, 0)).unwrap();
        books.compare(|_| true, |_| 0, &nothing()).unwrap();
        books.paid_once().unwrap();
        books.payer_says(3, hash(), settled(5, 1), &PREIMAGE).unwrap();
        books.paid_once().unwrap_err();
    }

    #[test]
    fn an_invoice_is_honoured_until_it_expires() {
        let mut books = Books::default();
        books.payee_denies(&hash(), 5).unwrap();
        books.invoice_given(hash(), 6);
        books.payee_denies(&hash(), 5).unwrap_err();
        books.payee_denies(&hash(), 6).unwrap();
    }

    #[test]
    fn what_is_due_follows_from_the_words() {
        let mut books = Books::default();
        books.payer_says(0, hash(), settled(5, 1), &PREIMAGE).unwrap();
        books.payee_says(1, hash(), settled(5, 0)).unwrap();
        books.stream_payer_says(0, [1; 16], 3, 2).unwrap();
        books.stream_payee_says(1, [1; 16], 3).unwrap();
        books.stream_payee_says(1, [1; 16], 2).unwrap_err();
        assert_eq!((net(&books, 0), net(&books, 1)), (-11, 8));
        assert_eq!(books.hub_net_msat(|_| true, &nothing()), 1);
        assert_eq!(books.hub_net_msat(|wallet| wallet == 0, &nothing()), 0);
    }
}
