//! Payments this wallet makes.

use channel::amount::Msat;
use channel::failure::FailureReason;
use channel::forward::{ForwardKey, ForwardResult, Internal, Offer};
use channel::ids::OwnerId;
use channel::keys::Point;
use channel::message::{ForwardInstruction, PaymentHash, Recipient};
use channel::seal::{PayloadBinding, PayloadContent, PaymentPayload, seal_payload};

use super::entry::Entry;
use super::invoices;
use super::requests::Asked;
use super::secrets::{Salt, payload_key, spontaneous_preimage};
use super::state::{Made, Payment, PaymentKind};
use super::{Env, LEDGER, Ledger, LedgerRefusal, Prices};
use crate::limits;

/// Pay an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayRequest {
    /// BOLT 11.
    pub invoice: String,
    /// For invoices without an amount only.
    pub amount_msat: Option<u64>,
    /// None: what the settings allow.
    pub max_fee_msat: Option<u64>,
    /// Fresh.
    pub salt: Salt,
}

/// Pay a node without an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRequest {
    pub payee: Point,
    pub amount_msat: u64,
    pub max_fee_msat: Option<u64>,
    /// Fresh.
    pub salt: Salt,
}

/// What a payment is about, before anything is decided.
struct Intent {
    payee: Point,
    amount_msat: Msat,
    max_fee_msat: Option<u64>,
    payment_hash: PaymentHash,
    content: PayloadContent,
    kind: PaymentKind,
    description: String,
    min_final_expiry_blocks: u64,
    salt: Salt,
}

impl Ledger {
    /// Starts paying an invoice. The payment's number: see its end in [`Done`](super::apply::Done).
    pub fn pay(
        &mut self,
        request: PayRequest,
        asked: Option<&Asked>,
        env: &Env<'_>,
    ) -> Result<u64, LedgerRefusal> {
        self.now_ms = env.now_ms;
        if let Some(Made::Payment(number)) = self.repeated(asked)? {
            return Ok(number);
        }
        let invoice = invoices::read(&request.invoice)?;
        if invoice.network != env.settings.network {
            return Err(LedgerRefusal::WrongNetwork {
                invoice: invoice.network.to_string(),
                ours: env.settings.network.to_string(),
            });
        }
        if let Some(settled) = self.state.settled.get(&invoice.payment_hash) {
            let (number, payment_hash) = (settled.number, invoice.payment_hash);
            return Err(LedgerRefusal::AlreadyPaid { number, payment_hash });
        }
        if invoice.payee == self.signer.node_id() {
            return Err(LedgerRefusal::OwnInvoice);
        }
        if invoice.expires_ms <= env.now_ms {
            let seconds = (env.now_ms - invoice.expires_ms) / 1_000;
            return Err(LedgerRefusal::InvoiceExpired { seconds });
        }
        let amount_msat = match (invoice.amount_msat, request.amount_msat) {
            (Some(invoice), Some(_)) => return Err(LedgerRefusal::AmountFixed { invoice }),
            (Some(amount), None) => amount,
            (None, Some(amount)) => Msat::new(amount).ok_or(LedgerRefusal::AmountTooLarge)?,
            (None, None) => return Err(LedgerRefusal::AmountMissing),
        };
        let intent = Intent {
            payee: invoice.payee,
            amount_msat,
            max_fee_msat: request.max_fee_msat,
            payment_hash: invoice.payment_hash,
            content: PayloadContent::InvoiceSecret(invoice.payment_secret),
            kind: PaymentKind::Invoice { expires_ms: invoice.expires_ms },
            description: invoice.description,
            min_final_expiry_blocks: invoice.min_final_expiry_blocks,
            salt: request.salt,
        };
        self.start(intent, asked, env)
    }

    /// Starts paying a node without an invoice.
    pub fn send_to(
        &mut self,
        request: SendRequest,
        asked: Option<&Asked>,
        env: &Env<'_>,
    ) -> Result<u64, LedgerRefusal> {
        self.now_ms = env.now_ms;
        if let Some(Made::Payment(number)) = self.repeated(asked)? {
            return Ok(number);
        }
        request.payee.parse().map_err(|_| LedgerRefusal::NotAPoint)?;
        if request.payee == self.signer.node_id() {
            return Err(LedgerRefusal::ToSelf);
        }
        let preimage = spontaneous_preimage(self.signer.as_ref(), &request.salt);
        let intent = Intent {
            payee: request.payee,
            amount_msat: Msat::new(request.amount_msat).ok_or(LedgerRefusal::AmountTooLarge)?,
            max_fee_msat: request.max_fee_msat,
            payment_hash: preimage.payment_hash(),
            content: PayloadContent::Spontaneous(preimage),
            kind: PaymentKind::Spontaneous { salt: request.salt },
            description: String::new(),
            min_final_expiry_blocks: env.settings.min_final_expiry_blocks.into(),
            salt: request.salt,
        };
        self.start(intent, asked, env)
    }

    fn start(&mut self, intent: Intent, asked: Option<&Asked>, env: &Env<'_>) -> Result<u64, LedgerRefusal> {
        let Intent { payment_hash, amount_msat, .. } = intent;
        if let Some(number) = self.state.in_flight.get(&payment_hash) {
            return Err(LedgerRefusal::InFlight { number: *number, payment_hash });
        }
        if self.state.payments.len() >= limits::MAX_PAYMENTS_IN_FLIGHT {
            let limit = limits::MAX_PAYMENTS_IN_FLIGHT;
            return Err(LedgerRefusal::Full { what: "payments in flight", limit });
        }
        if self.state.settled.len() >= limits::MAX_SETTLED_REMEMBERED {
            let limit = limits::MAX_SETTLED_REMEMBERED;
            return Err(LedgerRefusal::Full { what: "paid invoices not expired", limit });
        }
        let prices = env.prices.ok_or(LedgerRefusal::HubUnknown)?;
        let fee_msat = priced(&prices, amount_msat, intent.max_fee_msat, env)?;
        let needed = amount_msat.checked_add(fee_msat).ok_or(LedgerRefusal::AmountTooLarge)?;
        let expiries = Expiries::new(intent.min_final_expiry_blocks, &prices, env.height)?;
        let to = choose(needed, &[], env)?;
        let binding = PayloadBinding { payment_hash, amount_msat, cltv_expiry: expiries.final_expiry };
        let payload = PaymentPayload { content: intent.content, total_msat: amount_msat };
        let key = payload_key(self.signer.as_ref(), &intent.salt).ok_or(LedgerRefusal::NotAPoint)?;
        let payload =
            seal_payload(&intent.payee, &key, &payload, &binding).map_err(|_| LedgerRefusal::NotAPoint)?;

        let number = self.state.last_payment + 1;
        let payment = Payment {
            payment_hash,
            payee: intent.payee,
            amount_msat,
            fee_msat,
            final_expiry: expiries.final_expiry,
            hub_expiry: expiries.hub_expiry,
            sign_by_height: expiries.sign_by_height,
            kind: intent.kind,
            payload,
            description: intent.description,
            created_ms: env.now_ms,
            attempt: 1,
            tried: vec![to],
        };
        let offer = offer_of(number, &payment);
        self.record(&Entry::PaymentStarted { number, payment: Box::new(payment) });
        self.note(asked, Made::Payment(number));
        self.send(to, Internal::Offer(offer));
        Ok(number)
    }

    /// Step 3 of the forward protocol, as its paying end. Everything is acknowledged; only what counts is recorded.
    pub(super) fn resulted(&mut self, key: ForwardKey, from: OwnerId, result: ForwardResult, env: &Env<'_>) {
        if key.htlc_id >> limits::STREAM_INDEX_BITS == 0 {
            self.payment_resulted(key, from, result, env);
        } else {
            self.tick_resulted(key, from, result, env);
        }
        self.send(from, Internal::Ack { key });
    }

    fn payment_resulted(&mut self, key: ForwardKey, from: OwnerId, result: ForwardResult, env: &Env<'_>) {
        let number = key.htlc_id;
        let now_ms = env.now_ms;
        let Some(payment) = self.state.payments.get(&number) else { return };
        match result {
            ForwardResult::Fulfilled { preimage } => {
                if preimage.payment_hash() == payment.payment_hash {
                    self.record(&Entry::PaymentSettled { number, preimage, now_ms });
                }
            }
            ForwardResult::Failed { reason } => {
                if key.attempt != payment.attempt || payment.tried.last() != Some(&from) {
                    return;
                }
                let needed = payment.amount_msat.saturating_add(payment.fee_msat);
                let next = choose(needed, &payment.tried, env).ok();
                match next {
                    Some(to)
                        if payment.attempt < limits::MAX_ATTEMPTS
                            && another_channel_may_help(reason)
                            && env.height <= payment.sign_by_height =>
                    {
                        self.record(&Entry::PaymentRetried { number, to });
                        self.repeat_payment(number);
                    }
                    _ => self.record(&Entry::PaymentFailed { number, reason, now_ms }),
                }
            }
        }
    }

    /// Sends the current attempt's offer (again).
    pub(super) fn repeat_payment(&mut self, number: u64) {
        if let Some(payment) = self.state.payments.get(&number)
            && let Some(to) = payment.tried.last().copied()
        {
            let offer = offer_of(number, payment);
            self.send(to, Internal::Offer(offer));
        }
    }
}

/// The expiries of one payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiries {
    pub final_expiry: u32,
    pub hub_expiry: u32,
    pub sign_by_height: u32,
}

impl Expiries {
    pub fn new(min_final: u64, prices: &Prices, height: u32) -> Result<Self, LedgerRefusal> {
        let slack = limits::EXPIRY_SLACK_BLOCKS;
        let asked = min_final.saturating_add(slack.into()).saturating_add(prices.cltv_expiry_delta.into());
        let limit = prices.max_cltv_expiry_delta;
        let too_far = LedgerRefusal::ExpiryTooFar { asked, limit };
        if asked > u64::from(limit) {
            return Err(too_far);
        }
        let ahead = u32::try_from(asked).map_err(|_| too_far.clone())?;
        let hub_expiry = height.checked_add(ahead).ok_or(too_far)?;
        let final_expiry = hub_expiry - prices.cltv_expiry_delta;
        Ok(Expiries { final_expiry, hub_expiry, sign_by_height: height + slack })
    }
}

/// The hub's fee, if it is within what is allowed.
pub(super) fn priced(
    prices: &Prices,
    amount: Msat,
    max_fee_msat: Option<u64>,
    env: &Env<'_>,
) -> Result<Msat, LedgerRefusal> {
    if amount.is_zero() {
        return Err(LedgerRefusal::ZeroAmount);
    }
    if amount < prices.htlc_minimum_msat {
        return Err(LedgerRefusal::BelowHubMinimum { minimum: prices.htlc_minimum_msat });
    }
    let fee = prices.fee(amount).ok_or(LedgerRefusal::AmountTooLarge)?;
    let limit = match max_fee_msat {
        Some(limit) => Msat::new(limit).unwrap_or(Msat::MAX),
        None => {
            let share = u128::from(amount.to_u64()) * u128::from(env.settings.max_fee_percent) / 100;
            let share = u64::try_from(share).ok().and_then(Msat::new).unwrap_or(Msat::MAX);
            env.settings.max_fee_msat.max(share)
        }
    };
    if fee > limit { Err(LedgerRefusal::FeeAboveLimit { fee, limit }) } else { Ok(fee) }
}

/// A channel that can carry the amount now.
pub(super) fn choose(needed: Msat, tried: &[OwnerId], env: &Env<'_>) -> Result<OwnerId, LedgerRefusal> {
    match env.directory.best(tried) {
        None => Err(LedgerRefusal::NoUsableChannel { channels: env.directory.live() }),
        Some(entry) if entry.spendable_msat < needed => {
            Err(LedgerRefusal::InsufficientBalance { needed, spendable: entry.spendable_msat })
        }
        Some(entry) => Ok(entry.owner),
    }
}

fn offer_of(number: u64, payment: &Payment) -> Offer {
    Offer {
        key: ForwardKey { incoming: LEDGER, htlc_id: number, attempt: payment.attempt },
        amount_msat: payment.amount_msat.saturating_add(payment.fee_msat),
        payment_hash: payment.payment_hash,
        cltv_expiry: payment.hub_expiry,
        recipient: Recipient::Node(payment.payee),
        forward: Some(ForwardInstruction {
            amount_msat: payment.amount_msat,
            cltv_expiry: payment.final_expiry,
        }),
        payload: payment.payload.clone(),
        sign_by_height: payment.sign_by_height,
    }
}

/// Whether the failure may be the channel's own, not the payment's.
fn another_channel_may_help(reason: FailureReason) -> bool {
    match reason {
        FailureReason::NoLiquidity
        | FailureReason::TooManyHtlcs
        | FailureReason::ChannelUnavailable
        | FailureReason::RecipientOffline
        | FailureReason::TimedOut
        | FailureReason::AmountOutOfRange => true,
        FailureReason::UnknownRecipient
        | FailureReason::FeeTooLow
        | FailureReason::ExpiryTooSoon
        | FailureReason::ExpiryTooFar
        | FailureReason::IncorrectPaymentDetails
        | FailureReason::AlreadyPaid
        | FailureReason::InvoiceExpired
        | FailureReason::StreamRefused
        | FailureReason::Overloaded => false,
    }
}
