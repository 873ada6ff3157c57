//! The ledger against its rules, one test a rule, with a pretended channel at the other end.

mod holding;
mod invoices;
mod paying;
mod properties;
mod receiving;
mod streams;

use std::sync::Arc;

use bitcoin::Network;
use channel::amount::Msat;
use channel::channel::PhaseView;
use channel::failure::FailureReason;
use channel::forward::{ForwardKey, ForwardResult, Internal, Offer};
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use channel::message::PaymentHash;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use shard::DirectoryEntry;

use super::requests::Asked;
use super::*;

pub const FIRST: OwnerId = OwnerId(1 << 24);
pub const SECOND: OwnerId = OwnerId((1 << 24) + 1);
pub const HEIGHT: u32 = 200;
pub const START_MS: u64 = 1_700_000_000_000;

/// Spoils an offer in one way.
pub type Spoil = fn(&mut Offer);

/// A ledger with everything around it, and a copy of every record it wrote.
pub struct Rig {
    pub ledger: Ledger,
    pub signer: Arc<SeedSigner>,
    pub directory: Directory,
    pub settings: Settings,
    pub now_ms: u64,
    pub height: u32,
    pub prices: Option<Prices>,
    pub records: Vec<Vec<u8>>,
    pub last: Outputs,
}

impl Rig {
    pub fn new(seed: u8) -> Rig {
        let signer = Arc::new(SeedSigner::new(&[seed; 64]));
        let mut rig = Rig {
            ledger: Ledger::new(signer.clone()),
            signer,
            directory: Directory::default(),
            settings: Settings {
                network: Network::Regtest,
                min_final_expiry_blocks: 18,
                max_fee_msat: Msat::from_u32(5_000),
                max_fee_percent: 5,
                accept_spontaneous: true,
                stream_window: 50,
            },
            now_ms: START_MS,
            height: HEIGHT,
            prices: Some(Prices {
                fee_base_msat: 10,
                fee_ppm: 1_000,
                cltv_expiry_delta: 40,
                max_cltv_expiry_delta: 1_000,
                htlc_minimum_msat: Msat::from_u32(1),
            }),
            records: Vec::new(),
            last: Outputs::default(),
        };
        rig.channel(FIRST, 1_000_000);
        rig
    }

    pub fn node(&self) -> Point {
        self.signer.node_id()
    }

    pub fn channel(&mut self, owner: OwnerId, spendable: u32) {
        self.directory.publish(DirectoryEntry {
            owner,
            channel_id: ChannelId([7; 32]),
            node: hub(),
            session: Some(SessionId(1)),
            usable: spendable > 0,
            spendable_msat: Msat::from_u32(spendable),
            receivable_msat: Msat::from_u32(1_000_000),
            phase: PhaseView::Open,
            funded: true,
        });
    }

    /// Runs one command and closes the round.
    pub fn run<T>(&mut self, command: impl FnOnce(&mut Ledger, &Env<'_>) -> T) -> T {
        let env = Env {
            now_ms: self.now_ms,
            now_us: self.now_ms * 1_000,
            height: self.height,
            settings: &self.settings,
            hub: hub(),
            prices: self.prices,
            directory: &self.directory,
        };
        let result = command(&mut self.ledger, &env);
        self.last = self.ledger.close();
        self.records.extend(self.last.batch.records.iter().map(|record| record.payload.to_vec()));
        result
    }

    pub fn pay(&mut self, invoice: &str) -> Result<u64, LedgerRefusal> {
        self.pay_asked(invoice, None)
    }

    pub fn pay_asked(&mut self, invoice: &str, asked: Option<&Asked>) -> Result<u64, LedgerRefusal> {
        let salt = [u8::try_from(self.records.len() % 251).unwrap(); 16];
        let request = PayRequest { invoice: invoice.to_owned(), amount_msat: None, max_fee_msat: None, salt };
        self.run(|ledger, env| ledger.pay(request, asked, env))
    }

    pub fn invoice(&mut self, amount_msat: Option<u64>) -> (String, PaymentHash) {
        self.made_invoice(amount_msat, false)
    }

    /// What pays it waits.
    pub fn hold_invoice(&mut self, amount_msat: u64) -> (String, PaymentHash) {
        self.made_invoice(Some(amount_msat), true)
    }

    fn made_invoice(&mut self, amount_msat: Option<u64>, hold: bool) -> (String, PaymentHash) {
        let salt = [u8::try_from(self.records.len() % 251).unwrap(); 16];
        let request =
            InvoiceRequest { amount_msat, description: "tea".into(), expiry_seconds: 0, hold, salt };
        let hash = self.run(|ledger, env| ledger.create_invoice(request, None, env)).unwrap();
        (self.ledger.state().invoices[&hash].text.clone(), hash)
    }

    /// Hands in what a channel says.
    pub fn tell(&mut self, message: Internal) {
        self.run(|ledger, env| ledger.internal(message, env));
    }

    pub fn result(&mut self, key: ForwardKey, from: OwnerId, result: ForwardResult) {
        self.tell(Internal::Result { key, from, result });
    }

    pub fn failed(&mut self, key: ForwardKey, from: OwnerId, reason: FailureReason) {
        self.result(key, from, ForwardResult::Failed { reason });
    }

    /// The offers of the last round.
    pub fn offers(&self) -> Vec<(OwnerId, Offer)> {
        let offers = self.last.internals.iter().filter_map(|(to, message)| match message {
            Internal::Offer(offer) => Some((*to, offer.clone())),
            Internal::Result { .. } | Internal::Ack { .. } => None,
        });
        offers.collect()
    }

    /// The results of the last round.
    pub fn results(&self) -> Vec<ForwardResult> {
        let results = self.last.internals.iter().filter_map(|(_, message)| match message {
            Internal::Result { result, .. } => Some(*result),
            Internal::Offer(_) | Internal::Ack { .. } => None,
        });
        results.collect()
    }

    pub fn acks(&self) -> usize {
        self.last.internals.iter().filter(|(_, message)| matches!(message, Internal::Ack { .. })).count()
    }

    /// A new ledger from the records alone.
    pub fn replayed(&self) -> Ledger {
        let mut ledger = Ledger::new(self.signer.clone());
        for record in &self.records {
            ledger.fold(0, record).unwrap();
        }
        ledger
    }

    /// Restarts: what is not in the records is gone.
    pub fn restart(&mut self) {
        let replayed = self.replayed();
        assert_eq!(replayed.state, self.ledger.state, "replay gives the state of the run");
        let log = self.ledger.log;
        self.ledger = replayed;
        self.ledger.log = log;
        self.run(|ledger, _| ledger.resume());
    }
}

pub fn hub() -> Point {
    SeedSigner::new(&[99; 64]).node_id()
}

/// What the hub makes of a payer's offer: the HTLC at the payee, from its channel `owner`.
pub fn forwarded(offer: &Offer, owner: OwnerId, htlc_id: u64) -> Offer {
    let forward = offer.forward.expect("a payment through the hub");
    Offer {
        key: ForwardKey { incoming: owner, htlc_id, attempt: 1 },
        amount_msat: forward.amount_msat,
        payment_hash: offer.payment_hash,
        cltv_expiry: forward.cltv_expiry,
        recipient: offer.recipient.clone(),
        forward: None,
        payload: offer.payload.clone(),
        sign_by_height: forward.cltv_expiry,
    }
}
