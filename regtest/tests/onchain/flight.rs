//! Payments that stay in flight until their payee decides.

use std::sync::Arc;

use bytes::Bytes;
use proto::wallet::v1 as pb;
use regtest::lab::{LabError, Wallet};
use regtest::wait::{Look, until_seen};

use crate::support::{HOLD_MARGIN, LARGE_MSAT, SMALL_MSAT, SOON, Stage};

/// What the payee will decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Taken,
    Refused,
}

/// A payment in flight.
#[derive(Debug)]
pub struct Flight {
    pub payer: Arc<Wallet>,
    pub payee: Arc<Wallet>,
    pub amount_msat: u64,
    pub fate: Fate,
    pub hash: Bytes,
}

impl Flight {
    /// Starts a payment, and waits until the payee holds it.
    pub async fn start(payer: &Arc<Wallet>, payee: &Arc<Wallet>, amount_msat: u64, fate: Fate) -> Flight {
        let invoice = payee.hold_invoice(amount_msat).await.unwrap();
        let paying = Arc::clone(payer);
        // The call ends when the payment does, or breaks when the payer is killed; what became of the payment is asked later.
        tokio::spawn(async move { paying.pay(&invoice.invoice).await });
        let hash = invoice.payment_hash;
        let flight = Flight { payer: Arc::clone(payer), payee: Arc::clone(payee), amount_msat, fate, hash };
        flight.is_held().await;
        flight
    }

    async fn held(&self) -> Result<Option<pb::HeldPayment>, LabError> {
        Ok(self.payee.held().await?.into_iter().find(|held| held.payment_hash == self.hash))
    }

    /// Waits until the payee holds it: after a restart that takes a moment.
    async fn is_held(&self) -> pb::HeldPayment {
        until_seen("a payment held", SOON, async || {
            Ok(self.held().await?.map_or_else(|| Look::NotYet("not held".to_owned()), Look::Seen))
        })
        .await
        .unwrap()
    }

    /// The height at which the hub may take back what it offered to the payee.
    pub async fn expiry(&self) -> u32 {
        self.is_held().await.decide_by_height + HOLD_MARGIN
    }

    /// The payee decides.
    pub async fn decide(&self) {
        self.is_held().await;
        match self.fate {
            Fate::Taken => self.payee.settle(&self.hash).await.unwrap(),
            Fate::Refused => self.payee.cancel(&self.hash).await.unwrap(),
        }
    }

    /// What the payer says of it.
    pub async fn payment(&self) -> Result<pb::Payment, LabError> {
        let payments = self.payer.payments().await?;
        let sent = |one: &&pb::Payment| one.direction() == pb::PaymentDirection::Sent;
        let found = payments.iter().filter(sent).find(|one| one.payment_hash == self.hash);
        found.cloned().ok_or_else(|| LabError::Broken(format!("{} lost a payment", self.payer.name())))
    }

    /// Whether the payer knows what became of it; panics if that is not what the payee decided.
    pub async fn look_decided(&self) -> Result<Look<pb::Payment>, LabError> {
        let payment = self.payment().await?;
        let ends = match self.fate {
            Fate::Taken => pb::PaymentState::Settled,
            Fate::Refused => pb::PaymentState::Failed,
        };
        match payment.state() {
            pb::PaymentState::InFlight => Ok(Look::NotYet(format!("{payment:?}"))),
            state if state == ends => Ok(Look::Seen(payment)),
            state => Err(LabError::Broken(format!("{state:?} instead of {ends:?}: {payment:?}"))),
        }
    }
}

/// Which payments are in flight through a channel under test when it ends.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// With outputs, offered by the wallet: taken, refused.
    pub offered: (usize, usize),
    /// With outputs, received by the wallet: taken, refused.
    pub received: (usize, usize),
    /// Trimmed, each direction.
    pub trimmed: usize,
}

impl Load {
    pub const NONE: Load = Load { offered: (0, 0), received: (0, 0), trimmed: 0 };
    pub const ONE: Load = Load { offered: (0, 0), received: (1, 0), trimmed: 0 };
    pub const MANY: Load = Load { offered: (2, 2), received: (2, 1), trimmed: 1 };
}

/// Payments in flight through one channel, those with outputs first.
#[derive(Debug, Default)]
pub struct Flights {
    pub with_output: Vec<Flight>,
    pub trimmed: Vec<Flight>,
}

impl Flights {
    /// Puts a load on the channel of a wallet. Each amount is another, so that no two outputs are alike, but for the two of
    /// each first pair, which are.
    pub async fn launch(stage: &Stage, wallet: &Arc<Wallet>, load: Load) -> Flights {
        let mut flights = Flights::default();
        for (payer, payee, (taken, refused)) in
            [(wallet, &stage.peer, load.offered), (&stage.peer, wallet, load.received)]
        {
            let fates = [Fate::Taken].repeat(taken).into_iter().chain([Fate::Refused].repeat(refused));
            for (number, fate) in (0..).zip(fates) {
                let amount_msat = LARGE_MSAT + number / 2 * 1_000_000;
                flights.with_output.push(Flight::start(payer, payee, amount_msat, fate).await);
            }
            for _ in 0..load.trimmed {
                flights.trimmed.push(Flight::start(payer, payee, SMALL_MSAT, Fate::Refused).await);
            }
        }
        flights
    }

    /// The payees decide; of trimmed ones nobody does.
    pub async fn decide(&self) {
        for flight in &self.with_output {
            flight.decide().await;
        }
    }

    /// What all with outputs that are taken bring to a party: minus what it pays, plus what it is paid, plus fees if it is
    /// the hub (`None`).
    pub async fn gain(&self, party: Option<&Wallet>) -> i64 {
        let mut gain = 0i64;
        for flight in self.with_output.iter().filter(|flight| flight.fate == Fate::Taken) {
            let payment = flight.payment().await.unwrap();
            let (amount, fee) = (payment.amount_msat.cast_signed(), payment.fee_msat.cast_signed());
            match party {
                None => gain += fee,
                Some(wallet) if wallet.name() == flight.payer.name() => gain -= amount + fee,
                Some(wallet) if wallet.name() == flight.payee.name() => gain += amount,
                Some(_) => (),
            }
        }
        gain
    }

    /// What trimmed ones may cost any party.
    pub fn risk_msat(&self) -> u64 {
        self.trimmed.iter().map(|flight| flight.amount_msat + 1_000).sum()
    }

    /// Whether every payer knows what became of its payments.
    pub async fn look_decided(&self) -> Result<Look<()>, LabError> {
        for flight in &self.with_output {
            if let Look::NotYet(seen) = flight.look_decided().await? {
                return Ok(Look::NotYet(seen));
            }
        }
        Ok(Look::Seen(()))
    }
}
