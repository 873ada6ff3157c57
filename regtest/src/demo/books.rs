//! What everybody should have in channels, by what was acknowledged to the demo and by nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::wallet::v1 as pb;

use crate::lab::LabError;
use crate::lab::audit::ChannelBook;

/// A payment that its payer was told is settled.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// Place of the payer in the lab.
    pub payer: usize,
    /// Place of the payee in the lab.
    pub payee: usize,
    /// Its hash, 32 bytes.
    pub payment_hash: Bytes,
    /// What the payee gets.
    pub amount_msat: u64,
}

/// Balances in channels by place of the wallet in the lab, in msat, and the hub's.
#[derive(Debug)]
pub struct Books {
    inner: Mutex<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    wallets: Vec<u64>,
    hub: u64,
    fees: u64,
    payments: Vec<Acknowledged>,
}

impl Books {
    /// Begins with what the channels hold before the first payment.
    pub fn open(wallets: usize, channels: &[ChannelBook]) -> Books {
        let mut inner = Inner { wallets: vec![0; wallets], hub: 0, fees: 0, payments: Vec::new() };
        for channel in channels {
            inner.wallets[channel.wallet] += channel.wallet_msat;
            inner.hub += channel.hub_msat;
        }
        Books { inner: Mutex::new(inner) }
    }

    /// Books a payment that settled.
    pub fn paid(&self, payer: usize, payee: usize, payment: &pb::Payment) {
        let mut books = self.lock();
        books.transfer(payer, payee, payment.amount_msat, payment.fee_msat);
        books.payments.push(Acknowledged {
            payer,
            payee,
            payment_hash: payment.payment_hash.clone(),
            amount_msat: payment.amount_msat,
        });
    }

    /// Books the ticks of a stream that ended, each with this fee.
    pub fn streamed(&self, payer: usize, payee: usize, progress: &pb::StreamProgress, fee_msat: u64) {
        self.lock().transfer(payer, payee, progress.settled_msat, progress.settled.saturating_mul(fee_msat));
    }

    /// What the hub earned.
    pub fn fees_msat(&self) -> u64 {
        self.lock().fees
    }

    /// The wallet's balance in channels.
    pub fn wallet_msat(&self, wallet: usize) -> u64 {
        self.lock().wallets[wallet]
    }

    /// The hub's balance in channels.
    pub fn hub_msat(&self) -> u64 {
        self.lock().hub
    }

    /// Compares with what the channels say.
    ///
    /// # Errors
    /// [`LabError::Broken`], naming whose balance differs.
    pub fn compare(&self, names: &[String], channels: &[ChannelBook]) -> Result<(), LabError> {
        let said = Books::open(names.len(), channels).lock().clone();
        let books = self.lock();
        for (place, name) in names.iter().enumerate() {
            let (due, has) = (books.wallets[place], said.wallets[place]);
            if due != has {
                let text =
                    format!("the channels of {name} hold {has} msat; what was acknowledged makes {due} msat");
                return Err(LabError::Broken(text));
            }
        }
        if books.hub != said.hub {
            let (due, has) = (books.hub, said.hub);
            let text = format!("the hub's channels hold {has} msat; what was acknowledged makes {due} msat");
            return Err(LabError::Broken(text));
        }
        Ok(())
    }

    /// Looks each acknowledged payment up in what payer and payee list: nothing acknowledged may be lost.
    ///
    /// # Errors
    /// [`LabError::Broken`], naming the payment.
    pub fn compare_lists(&self, names: &[String], lists: &[Vec<pb::Payment>]) -> Result<(), LabError> {
        let index = |list: &Vec<pb::Payment>| -> HashMap<(Bytes, i32), (u64, i32)> {
            let row =
                |one: &pb::Payment| ((one.payment_hash.clone(), one.direction), (one.amount_msat, one.state));
            list.iter().filter(|one| one.state() == pb::PaymentState::Settled).map(row).collect()
        };
        let lists: Vec<_> = lists.iter().map(index).collect();
        let books = self.lock();
        for payment in &books.payments {
            let ends = [
                (payment.payer, pb::PaymentDirection::Sent),
                (payment.payee, pb::PaymentDirection::Received),
            ];
            for (place, direction) in ends {
                let found = lists[place].get(&(payment.payment_hash.clone(), direction.into()));
                if found.map(|(amount, _)| *amount) != Some(payment.amount_msat) {
                    return Err(LabError::Broken(format!(
                        "{} does not list the payment {} of {} msat, which was acknowledged, as settled",
                        names[place],
                        hex::encode(&payment.payment_hash),
                        payment.amount_msat
                    )));
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before the lock is given back, even by a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn transfer(&mut self, payer: usize, payee: usize, amount: u64, fee: u64) {
        // Nobody can pay more than it has; should a wallet claim so, the comparison shows it.
        self.wallets[payer] = self.wallets[payer].saturating_sub(amount).saturating_sub(fee);
        self.wallets[payee] = self.wallets[payee].saturating_add(amount);
        self.hub = self.hub.saturating_add(fee);
        self.fees = self.fees.saturating_add(fee);
    }
}
