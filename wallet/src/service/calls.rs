//! Invoices and payments.

use proto::error::{ErrorCode, ErrorDetail, detail, from_detail, status, status_with_advice};
use proto::fields::{bytes, node_key};
use proto::hub::v1::FailureReason as WireReason;
use proto::wallet::v1 as pb;
use tonic::Status;

use super::channels::unreadable;
use super::{PAY_PATIENCE, Service, asked, convert, fresh, refused, stopping, wrong_field};
use crate::core::handle::Paying;
use crate::history;
use crate::ledger::state::{Ended, Outcome};
use crate::ledger::{InvoiceRequest, PayRequest, SendRequest, read_invoice, refusal};

impl Service {
    pub(super) async fn make_invoice(
        &self,
        request: pb::CreateInvoiceRequest,
    ) -> Result<pb::CreateInvoiceResponse, Status> {
        let asked = asked("CreateInvoice", &request.request_id, &request)?;
        let wanted = InvoiceRequest {
            amount_msat: request.amount_msat,
            description: request.description,
            expiry_seconds: request.expiry_seconds,
            salt: fresh(),
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
            expired: invoice.expires_ms <= crate::core::now_ms(),
            via_our_hub: invoice.hints.contains(&self.hub),
            ours: invoice.payee == self.node,
        })
    }

    pub(super) async fn pay_invoice(&self, request: pb::PayRequest) -> Result<pb::PayResponse, Status> {
        let asked = asked("Pay", &request.request_id, &request)?;
        let wanted = PayRequest {
            invoice: request.invoice,
            amount_msat: request.amount_msat,
            max_fee_msat: request.max_fee_msat,
            salt: fresh(),
        };
        let started = self
            .core
            .ask(move |core| core.with_ledger(|ledger, env| ledger.pay(wanted, asked.as_ref(), env)));
        let number = started.await.map_err(stopping)?.map_err(refused)?;
        self.payment_end(number).await
    }

    pub(super) async fn send_payment(&self, request: pb::SendRequest) -> Result<pb::PayResponse, Status> {
        let asked = asked("Send", &request.request_id, &request)?;
        let wanted = SendRequest {
            payee: node_key("payee", &request.payee).map_err(wrong_field)?,
            amount_msat: request.amount_msat,
            max_fee_msat: request.max_fee_msat,
            salt: fresh(),
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
        let rows = page_rows(request.page_size);
        let direction = pb::PaymentDirection::try_from(request.direction).map_err(|_| bad_direction())?;
        let (sent, received) = match direction {
            pb::PaymentDirection::Unspecified => (true, true),
            pb::PaymentDirection::Sent => (true, false),
            pb::PaymentDirection::Received => (false, true),
        };
        let cursor = Cursor::parse(&request.page_token)?;
        let flying = self.core.ask(|core| {
            let payments = core.ledger_state().payments.iter();
            payments.map(|(number, payment)| convert::in_flight(*number, payment)).collect::<Vec<_>>()
        });
        let mut flying = flying.await.map_err(stopping)?;
        flying.retain(|payment| sent && payment.number < cursor.sent);
        let mut all = flying;
        for (wanted, is_sent, below) in [(sent, true, cursor.sent), (received, false, cursor.received)] {
            if wanted {
                all.extend(self.ended_page(is_sent, below, rows)?.iter().map(convert::ended));
            }
        }
        all.sort_by_key(|payment| {
            (std::cmp::Reverse(payment.created_at_ms.max(payment.ended_at_ms)), payment.number)
        });
        let more = all.len() > rows;
        all.truncate(rows);
        let mut next = cursor;
        for payment in &all {
            match payment.direction() {
                pb::PaymentDirection::Received => next.received = next.received.min(payment.number),
                pb::PaymentDirection::Sent | pb::PaymentDirection::Unspecified => {
                    next.sent = next.sent.min(payment.number);
                }
            }
        }
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

fn bad_direction() -> Status {
    status(ErrorCode::BadField, "direction is none of SENT, RECEIVED and UNSPECIFIED")
}

/// Rows of a page.
pub(super) fn page_rows(asked: u32) -> usize {
    let rows =
        if asked == 0 { proto::limits::DEFAULT_PAGE_ROWS } else { asked.min(proto::limits::MAX_PAGE_ROWS) };
    usize::try_from(rows).unwrap_or(usize::MAX)
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
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.sent, self.received)
    }
}
