//! The wallet's end of the forward protocol, as small as it can be: payments it makes (as A), invoices it is paid for (as B).

use std::collections::{BTreeMap, BTreeSet};

use channel::bytes::{PaymentHash, PaymentPreimage};
use channel::failure::FailureReason;
use channel::forward::{ForwardKey, ForwardResult, Internal, Offer};
use channel::ids::OwnerId;
use journal::{Batch, Content, MachineId, Recovery};
use serde::{Deserialize, Serialize};
use shard::MachineLog;

/// The ledger's number in each wallet's journal.
pub const LEDGER: OwnerId = OwnerId(1);

/// What the ledger journals.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Entry {
    Invoice { preimage: PaymentPreimage, amount_msat: u64 },
    Pay { to: OwnerId, offer: Offer },
    Paid { number: u64, result: ForwardResult },
    Answered { hash: PaymentHash, key: ForwardKey, result: ForwardResult },
    Acknowledged { key: ForwardKey },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Books {
    pub invoices: BTreeMap<PaymentHash, Invoice>,
    pub payments: BTreeMap<u64, Payment>,
    /// Answers not acknowledged yet.
    pub results: BTreeMap<ForwardKey, (OwnerId, ForwardResult)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invoice {
    pub preimage: PaymentPreimage,
    pub amount_msat: u64,
    /// The HTLCs that were answered with the preimage: never more than one.
    pub paid_by: BTreeSet<ForwardKey>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payment {
    pub to: OwnerId,
    pub offer: Offer,
    pub result: Option<ForwardResult>,
}

pub struct Ledger {
    log: MachineLog,
    pub books: Books,
}

impl Ledger {
    pub fn recover(recovery: &Recovery) -> Ledger {
        let machine = MachineId(LEDGER.0);
        let mut ledger = Ledger { log: MachineLog::new(machine), books: Books::default() };
        for snapshot in recovery.snapshots().unwrap().map(Result::unwrap) {
            if let (true, Content::State { payload, .. }) = (snapshot.machine == machine, &snapshot.content) {
                ledger.log = MachineLog::at(machine, snapshot.sequence);
                ledger.books = postcard::from_bytes(payload).unwrap();
            }
        }
        let mut records = recovery.records().unwrap();
        while let Some(record) = records.next().unwrap() {
            if record.machine == machine {
                ledger.log.replay(&record).unwrap();
                ledger.books.apply(postcard::from_bytes(record.payload).unwrap());
            }
        }
        ledger
    }

    pub fn snapshot(&self, batch: &mut Batch) {
        let payload = postcard::to_stdvec(&self.books).unwrap();
        batch.snapshots.push(self.log.snapshot(payload, [0; 32]));
    }

    fn journal(&mut self, batch: &mut Batch, entry: Entry) {
        self.log.record(batch, |out| {
            *out = postcard::to_extend(&entry, std::mem::take(out)).unwrap();
        });
        self.books.apply(entry);
    }

    pub fn invoice(&mut self, batch: &mut Batch, preimage: PaymentPreimage, amount_msat: u64) {
        self.journal(batch, Entry::Invoice { preimage, amount_msat });
    }

    /// Journals a payment; the message goes out once the batch is appended.
    pub fn pay(&mut self, batch: &mut Batch, to: OwnerId, offer: Offer) -> (OwnerId, Internal) {
        self.journal(batch, Entry::Pay { to, offer: offer.clone() });
        (to, Internal::Offer(offer))
    }

    pub fn handle(&mut self, batch: &mut Batch, message: Internal) -> Option<(OwnerId, Internal)> {
        match message {
            Internal::Offer(offer) => Some(self.answer(batch, &offer)),
            Internal::Result { key, from, result } => {
                let payment = &self.books.payments[&key.htlc_id];
                match &payment.result {
                    None => self.journal(batch, Entry::Paid { number: key.htlc_id, result }),
                    Some(known) => assert_eq!(*known, result, "a payment has one outcome"),
                }
                Some((from, Internal::Ack { key }))
            }
            Internal::Ack { key } => {
                if self.books.results.contains_key(&key) {
                    self.journal(batch, Entry::Acknowledged { key });
                }
                None
            }
        }
    }

    fn answer(&mut self, batch: &mut Batch, offer: &Offer) -> (OwnerId, Internal) {
        let key = offer.key;
        if !self.books.results.contains_key(&key) {
            let result = self.books.decide(offer);
            self.journal(batch, Entry::Answered { hash: offer.payment_hash, key, result });
        }
        let (_, result) = self.books.results[&key];
        (key.incoming, Internal::Result { key, from: LEDGER, result })
    }

    /// What every start says again.
    pub fn resume(&self) -> Vec<(OwnerId, Internal)> {
        let offers = self.books.payments.values().filter(|payment| payment.result.is_none());
        let offers = offers.map(|payment| (payment.to, Internal::Offer(payment.offer.clone())));
        let results = self.books.results.iter();
        let results = results
            .map(|(key, (to, result))| (*to, Internal::Result { key: *key, from: LEDGER, result: *result }));
        offers.chain(results).collect()
    }
}

impl Books {
    fn decide(&self, offer: &Offer) -> ForwardResult {
        let Some(invoice) = self.invoices.get(&offer.payment_hash) else {
            return ForwardResult::Failed { reason: FailureReason::IncorrectPaymentDetails };
        };
        if !invoice.paid_by.is_empty() {
            return ForwardResult::Failed { reason: FailureReason::AlreadyPaid };
        }
        if offer.amount_msat.to_u64() != invoice.amount_msat {
            return ForwardResult::Failed { reason: FailureReason::IncorrectPaymentDetails };
        }
        ForwardResult::Fulfilled { preimage: invoice.preimage }
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Invoice { preimage, amount_msat } => {
                let invoice = Invoice { preimage, amount_msat, paid_by: BTreeSet::new() };
                self.invoices.insert(preimage.payment_hash(), invoice);
            }
            Entry::Pay { to, offer } => {
                let number = offer.key.htlc_id;
                let known = self.payments.insert(number, Payment { to, offer, result: None });
                assert!(known.is_none(), "a payment number is used once");
            }
            Entry::Paid { number, result } => {
                self.payments.get_mut(&number).unwrap().result = Some(result);
            }
            Entry::Answered { hash, key, result } => {
                if let ForwardResult::Fulfilled { .. } = result {
                    self.invoices.get_mut(&hash).unwrap().paid_by.insert(key);
                }
                self.results.insert(key, (key.incoming, result));
            }
            Entry::Acknowledged { key } => {
                self.results.remove(&key);
            }
        }
    }
}
