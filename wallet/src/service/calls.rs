//! Invoices and payments.

use std::collections::BTreeMap;

use channel::forward::Offer;
use channel::message::PaymentHash;
use proto::error::{ErrorCode, ErrorDetail, detail, from_detail, status, status_with_advice};
use proto::fields::{bytes, node_key};
use proto::hub::v1::FailureReason as WireReason;
use proto::wallet::v1 as pb;
use tonic::Status;

use super::channels::unreadable;
use super::{PAY_PATIENCE, Service, convert, refused, stopping, wrong_field};
use crate::core::handle::Paying;
use crate::history;
use crate::ledger::state::{Ended, Outcome};
use crate::ledger::{InvoiceRequest, PayRequest, SendRequest, read_invoice, refusal};

impl Service {
    pub(super) async fn make_invoice(
        &self,
        request: pb::CreateInvoiceRequest,
    ) -> Result<pb::CreateInvoiceResponse, Status> {
        let asked = self.asked("CreateInvoice", &request.request_id, &request)?;
        self.check_room(asked).await?;
        let wanted = InvoiceRequest {
            amount_msat: request.amount_msat,
            description: request.description,
            expiry_seconds: request.expiry_seconds,
            hold: request.hold,
            salt: self.world.random(),
        };
        let made = self.core.ask(move |core| {
            core.with_ledger(|ledger, env| {
                let hash = ledger.create_invoice(wanted, asked.as_ref(), env)?;
                Ok((hash, ledger.state().invoices.get(&hash).cloned()))
            })
        });
        let (hash, invoice) = made.await.map_err(stopping)?.map_err(refused)?;
        let forgotten =
            || status(ErrorCode::NotFound, "the invoice of this request_id has expired and is forgotten");
        let invoice = invoice.ok_or_else(forgotten)?;
        Ok(pb::CreateInvoiceResponse {
            invoice: invoice.text,
            payment_hash: bytes(hash.as_bytes()),
            expires_at_ms: invoice.expires_ms,
        })
    }

    pub(super) async fn take_held(
        &self,
        request: pb::SettleInvoiceRequest,
    ) -> Result<pb::SettleInvoiceResponse, Status> {
        let hash = payment_hash(&request.payment_hash)?;
        let settle =
            self.core.ask(move |core| core.with_ledger(|ledger, env| ledger.settle_invoice(hash, env)));
        settle.await.map_err(stopping)?.map_err(refused)?;
        Ok(pb::SettleInvoiceResponse {})
    }

    pub(super) async fn refuse_held(
        &self,
        request: pb::CancelInvoiceRequest,
    ) -> Result<pb::CancelInvoiceResponse, Status> {
        let hash = payment_hash(&request.payment_hash)?;
        let cancel =
            self.core.ask(move |core| core.with_ledger(|ledger, env| ledger.cancel_invoice(hash, env)));
        cancel.await.map_err(stopping)?.map_err(refused)?;
        Ok(pb::CancelInvoiceResponse {})
    }

    pub(super) async fn held(&self) -> Result<pb::ListHeldResponse, Status> {
        let held = self.core.ask(|core| {
            core.with_ledger(|ledger, _| {
                let invoices = &ledger.state().invoices;
                let row = |(offer, decide_by_height): (&Offer, u32)| pb::HeldPayment {
                    payment_hash: bytes(offer.payment_hash.as_bytes()),
                    amount_msat: offer.amount_msat.to_u64(),
                    description: invoices
                        .get(&offer.payment_hash)
                        .map(|invoice| invoice.description.clone())
                        .unwrap_or_default(),
                    decide_by_height,
                };
                ledger.waiting().map(row).collect()
            })
        });
        Ok(pb::ListHeldResponse { held: held.await.map_err(stopping)? })
    }

    pub(super) async fn explain_invoice(
        &self,
        request: pb::DecodeInvoiceRequest,
    ) -> Result<pb::DecodeInvoiceResponse, Status> {
        let invoice = read_invoice(&request.invoice).map_err(refused)?;
        Ok(pb::DecodeInvoiceResponse {
            payee: bytes(invoice.payee.as_bytes()),
            network: invoice.network.to_string(),
            amount_msat: invoice.amount_msat.map(|amount| amount.to_u64()),
            payment_hash: bytes(invoice.payment_hash.as_bytes()),
            description: invoice.description,
            description_hash: invoice.description_hash.map(|hash| bytes(&hash)).unwrap_or_default(),
            created_at_ms: invoice.created_ms,
            expires_at_ms: invoice.expires_ms,
            min_final_cltv_expiry_delta: u32::try_from(invoice.min_final_expiry_blocks).unwrap_or(u32::MAX),
            expired: invoice.expires_ms <= self.world.now_ms(),
            via_our_hub: invoice.hints.contains(&self.hub),
            ours: invoice.payee == self.node,
        })
    }

    pub(super) async fn pay_invoice(&self, request: pb::PayRequest) -> Result<pb::PayResponse, Status> {
        let asked = self.asked("Pay", &request.request_id, &request)?;
        self.check_room(asked).await?;
        let wanted = PayRequest {
            invoice: request.invoice,
            amount_msat: request.amount_msat,
            max_fee_msat: request.max_fee_msat,
            salt: self.world.random(),
        };
        let started = self
            .core
            .ask(move |core| core.with_ledger(|ledger, env| ledger.pay(wanted, asked.as_ref(), env)));
        let number = started.await.map_err(stopping)?.map_err(refused)?;
        self.payment_end(number).await
    }

    pub(super) async fn send_payment(&self, request: pb::SendRequest) -> Result<pb::PayResponse, Status> {
        let asked = self.asked("Send", &request.request_id, &request)?;
        self.check_room(asked).await?;
        let wanted = SendRequest {
            payee: node_key("payee", &request.payee).map_err(wrong_field)?,
            amount_msat: request.amount_msat,
            max_fee_msat: request.max_fee_msat,
            salt: self.world.random(),
        };
        let started = self
            .core
            .ask(move |core| core.with_ledger(|ledger, env| ledger.send_to(wanted, asked.as_ref(), env)));
        let number = started.await.map_err(stopping)?.map_err(refused)?;
        self.payment_end(number).await
    }

    /// Waits until a payment settled or failed.
    async fn payment_end(&self, number: u64) -> Result<pb::PayResponse, Status> {
        let ended = match self.core.follow_payment(number).await.map_err(stopping)? {
            Paying::InFlight(end) => match tokio::time::timeout(PAY_PATIENCE, end).await {
                Ok(ended) => ended.map_err(|_| stopping(crate::core::Stopped))?,
                Err(_) => {
                    return Err(status_with_advice(
                        ErrorCode::StillUnderWay,
                        format!(
                            "payment {number} is still in flight after {} seconds",
                            PAY_PATIENCE.as_secs()
                        ),
                        "ask again with the same request_id, or see `hubwallet payments`",
                    ));
                }
            },
            Paying::Over => {
                let row = self.reader.get(history::PAYMENTS, &history::payment_key(true, number));
                let row =
                    row.map_err(unreadable)?.ok_or_else(|| unreadable("the payment's row is missing"))?;
                history::read_payment(&row).map_err(unreadable)?
            }
        };
        match ended.outcome {
            Outcome::Settled { .. } => Ok(pb::PayResponse { payment: Some(convert::ended(&ended)) }),
            Outcome::Failed { reason } => Err(from_detail(ErrorDetail {
                advice: refusal::advice_for(reason).to_owned(),
                field: reason_name(reason),
                ..detail(ErrorCode::PaymentFailed, format!("payment {number} failed: {reason}"))
            })),
        }
    }

    pub(super) async fn payments(
        &self,
        request: pb::ListPaymentsRequest,
    ) -> Result<pb::ListPaymentsResponse, Status> {
        let rows = proto::page::rows(request.page_size)?;
        let direction = pb::PaymentDirection::try_from(request.direction).map_err(|_| bad_direction())?;
        let (sent, received) = match direction {
            pb::PaymentDirection::Unspecified => (true, true),
            pb::PaymentDirection::Sent => (true, false),
            pb::PaymentDirection::Received => (false, true),
        };
        let cursor = Cursor::parse(&request.page_token)?;
        let on_chain = self.owners_on_chain().await?;
        let flying = self.core.ask(move |core| {
            let payments = core.ledger_state().payments.iter();
            payments
                .map(|(number, payment)| convert::in_flight(*number, payment, &on_chain))
                .collect::<Vec<_>>()
        });
        let mut in_flight = flying.await.map_err(stopping)?;
        in_flight.retain(|payment| payment.number < cursor.sent);
        // What ended between the two looks is in both: its end counts.
        let mut by_number: BTreeMap<u64, pb::Payment> = BTreeMap::new();
        let mut came = Vec::new();
        if sent {
            by_number.extend(in_flight.into_iter().map(|payment| (payment.number, payment)));
            let ended = self.ended_page(true, cursor.sent, rows)?;
            by_number.extend(ended.iter().map(|ended| (ended.number, convert::ended(ended))));
        }
        if received {
            came.extend(self.ended_page(false, cursor.received, rows)?.iter().map(convert::ended));
        }
        let (all, more) = merged(by_number.into_values().rev().collect(), came, rows);
        let next = cursor.after(&all);
        let next_page_token = if more { next.to_string() } else { String::new() };
        Ok(pb::ListPaymentsResponse { payments: all, next_page_token })
    }

    /// Finished payments of one direction below a number, newest first; one more than a page, to know of the next.
    fn ended_page(&self, sent: bool, below: u64, rows: usize) -> Result<Vec<Ended>, Status> {
        let prefix = [u8::from(!sent)];
        let after = history::payment_key(sent, below);
        let rows =
            self.reader.range(history::PAYMENTS, &prefix, Some(&after), rows + 1).map_err(unreadable)?;
        rows.iter().map(|(_, value)| history::read_payment(value).map_err(unreadable)).collect()
    }
}

/// A page of both directions, each given with its highest number first, and whether anything is left over. Payments of one
/// direction keep the order of their numbers, so that a page's end is one number a direction, and none is passed over.
fn merged(sent: Vec<pb::Payment>, received: Vec<pb::Payment>, rows: usize) -> (Vec<pb::Payment>, bool) {
    let time = |payment: &pb::Payment| payment.created_at_ms.max(payment.ended_at_ms);
    let (mut sent, mut received) = (sent.into_iter().peekable(), received.into_iter().peekable());
    let mut page = Vec::new();
    while page.len() < rows {
        let next = match (sent.peek(), received.peek()) {
            (Some(out), Some(came)) if time(out) >= time(came) => sent.next(),
            (_, Some(_)) => received.next(),
            (Some(_), None) => sent.next(),
            (None, None) => None,
        };
        let Some(next) = next else { break };
        page.push(next);
    }
    (page, sent.peek().is_some() || received.peek().is_some())
}

fn bad_direction() -> Status {
    status(ErrorCode::BadField, "direction is none of SENT, RECEIVED and UNSPECIFIED")
}

/// A machine-readable name of a failure, as in the .proto file.
fn reason_name(reason: channel::failure::FailureReason) -> String {
    let wire: WireReason = proto::message::reason_out(reason);
    wire.as_str_name().to_owned()
}

/// Where a page of payments begins: below these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    sent: u64,
    received: u64,
}

impl Cursor {
    fn parse(token: &str) -> Result<Cursor, Status> {
        if token.is_empty() {
            return Ok(Cursor { sent: u64::MAX, received: u64::MAX });
        }
        let bad = || status(ErrorCode::BadPageToken, "the page token is not one this wallet gave");
        let (sent, received) = token.split_once('.').ok_or_else(bad)?;
        let number = |text: &str| text.parse().map_err(|_| bad());
        Ok(Cursor { sent: number(sent)?, received: number(received)? })
    }

    /// Where the page after this one begins.
    fn after(mut self, page: &[pb::Payment]) -> Cursor {
        for payment in page {
            match payment.direction() {
                pb::PaymentDirection::Received => self.received = self.received.min(payment.number),
                pb::PaymentDirection::Sent | pb::PaymentDirection::Unspecified => {
                    self.sent = self.sent.min(payment.number);
                }
            }
        }
        self
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.sent, self.received)
    }
}

fn payment_hash(field: &[u8]) -> Result<PaymentHash, Status> {
    let bytes = <[u8; 32]>::try_from(field);
    bytes.map(PaymentHash::from_bytes).map_err(|_| {
        let text = format!("payment_hash has {} bytes; 32 are expected", field.len());
        from_detail(ErrorDetail { field: "payment_hash".to_owned(), ..detail(ErrorCode::BadField, text) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payment(
        direction: pb::PaymentDirection,
        number: u64,
        created_at_ms: u64,
        ended_at_ms: u64,
    ) -> pb::Payment {
        let direction = direction.into();
        pb::Payment { number, direction, created_at_ms, ended_at_ms, ..pb::Payment::default() }
    }

    #[test]
    fn pages_show_every_payment_once_although_an_old_one_ended_last() {
        // The first payment was held up for long, and the clock was once set back.
        let sent =
            (1..=25).map(|n| payment(pb::PaymentDirection::Sent, n, n, if n == 1 { 999 } else { n + 1 }));
        let received =
            (1..=25).map(|n| payment(pb::PaymentDirection::Received, n, 0, if n == 20 { 1 } else { 2 * n }));
        let (sent, received): (Vec<_>, Vec<_>) = (sent.rev().collect(), received.rev().collect());
        let mut cursor = Cursor::parse("").unwrap();
        let mut seen = Vec::new();
        loop {
            let below = |all: &[pb::Payment], end: u64| -> Vec<pb::Payment> {
                all.iter().filter(|payment| payment.number < end).take(8).cloned().collect()
            };
            let (page, more) = merged(below(&sent, cursor.sent), below(&received, cursor.received), 7);
            assert!(page.len() == 7 || !more);
            seen.extend(page.iter().map(|payment| (payment.direction, payment.number)));
            if !more {
                break;
            }
            cursor = Cursor::parse(&cursor.after(&page).to_string()).unwrap();
        }
        seen.sort_unstable();
        let expected: Vec<(i32, u64)> = [pb::PaymentDirection::Sent, pb::PaymentDirection::Received]
            .into_iter()
            .flat_map(|direction| (1..=25).map(move |n| (direction.into(), n)))
            .collect();
        assert_eq!(seen, expected);
    }
}
