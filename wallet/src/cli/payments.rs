//! `invoice`, `decode`, `pay`, `send`, `payments`.

use daemon::table::{Align, Table, facts};
use proto::fields::bytes;
use proto::wallet::v1 as pb;
use proto::wallet::v1::{PaymentDirection, PaymentState};

use super::args::{Direction, HashArgs, InvoiceArgs, PayArgs, PaymentsArgs, SendArgs};
use super::failure::{Exit, Failure};
use super::session::{Session, Under};
use super::{json, text};
use crate::client::Api;

pub async fn invoice(session: &mut Session<'_, '_>, args: &InvoiceArgs) -> Result<(), Failure> {
    let under = Under::id(&args.repeatable);
    let request = pb::CreateInvoiceRequest {
        amount_msat: args.amount.msat()?,
        description: args.description.clone(),
        expiry_seconds: args.expiry_seconds,
        hold: args.hold,
        request_id: under.text(),
    };
    let call = |mut api: Api, request| async move { api.create_invoice(request).await };
    let made: pb::CreateInvoiceResponse = session.call("making the invoice", under, request, call).await?;
    session.terminal.show(json::invoice(&made), || format!("{}\n", made.invoice))
}

pub async fn settle(session: &mut Session<'_, '_>, args: &HashArgs) -> Result<(), Failure> {
    let request = pb::SettleInvoiceRequest { payment_hash: bytes(args.payment_hash.as_bytes()) };
    let call = |mut api: Api, request| async move { api.settle_invoice(request).await };
    let _: pb::SettleInvoiceResponse = session.call("settling", Under::nothing(), request, call).await?;
    let hash = args.payment_hash.to_string();
    session.terminal.show(serde_json::json!({ "settled": hash }), || format!("settled {hash}\n"))
}

pub async fn cancel(session: &mut Session<'_, '_>, args: &HashArgs) -> Result<(), Failure> {
    let request = pb::CancelInvoiceRequest { payment_hash: bytes(args.payment_hash.as_bytes()) };
    let call = |mut api: Api, request| async move { api.cancel_invoice(request).await };
    let _: pb::CancelInvoiceResponse = session.call("cancelling", Under::nothing(), request, call).await?;
    let hash = args.payment_hash.to_string();
    session.terminal.show(serde_json::json!({ "cancelled": hash }), || format!("cancelled {hash}\n"))
}

pub async fn held(session: &mut Session<'_, '_>) -> Result<(), Failure> {
    let call = |mut api: Api, request| async move { api.list_held(request).await };
    let answer: pb::ListHeldResponse =
        session.call("asking the daemon", Under::nothing(), pb::ListHeldRequest {}, call).await?;
    let json = answer.held.iter().map(json::held).collect();
    session.terminal.show(json, || {
        let mut table = Table::new([
            ("payment hash", Align::Left),
            ("amount", Align::Right),
            ("decide by height", Align::Right),
            ("description", Align::Left),
        ]);
        for held in &answer.held {
            table.row([
                hex::encode(&held.payment_hash),
                text::msat(held.amount_msat),
                held.decide_by_height.to_string(),
                held.description.clone(),
            ]);
        }
        table.to_string()
    })
}

pub async fn decode(session: &mut Session<'_, '_>, invoice: &str) -> Result<(), Failure> {
    let request = pb::DecodeInvoiceRequest { invoice: invoice.trim().to_owned() };
    let call = |mut api: Api, request| async move { api.decode_invoice(request).await };
    let decoded: pb::DecodeInvoiceResponse =
        session.call("asking the daemon", Under::nothing(), request, call).await?;
    session.terminal.show(json::decoded(&decoded), || decoded_text(&decoded))
}

fn decoded_text(invoice: &pb::DecodeInvoiceResponse) -> String {
    let expired = if invoice.expired { " (expired)" } else { "" };
    let mut notes = Vec::new();
    if invoice.ours {
        notes.push("this wallet made it");
    }
    if invoice.via_our_hub {
        notes.push("paid through this wallet's hub");
    }
    facts([
        ("amount", invoice.amount_msat.map_or_else(|| "the payer chooses".to_owned(), text::msat)),
        ("description", invoice.description.clone()),
        ("description hash", hex::encode(&invoice.description_hash)),
        ("payee", hex::encode(&invoice.payee)),
        ("payment hash", hex::encode(&invoice.payment_hash)),
        ("network", invoice.network.clone()),
        ("made", text::when(invoice.created_at_ms)),
        ("expires", format!("{}{expired}", text::when(invoice.expires_at_ms))),
        ("blocks left at end", invoice.min_final_cltv_expiry_delta.to_string()),
        ("note", notes.join("; ")),
    ])
}

pub async fn pay(session: &mut Session<'_, '_>, args: &PayArgs) -> Result<(), Failure> {
    let under = Under::id(&args.paying.repeatable).within(args.paying.wait_seconds);
    let request = pb::PayRequest {
        invoice: args.invoice.trim().to_owned(),
        amount_msat: args.amount.msat()?,
        max_fee_msat: args.paying.max_fee_msat,
        request_id: under.text(),
    };
    let call = |mut api: Api, request| async move { api.pay(request).await };
    let answer: pb::PayResponse = session.call("paying", under, request, call).await?;
    show_payment(session, answer)
}

pub async fn send(session: &mut Session<'_, '_>, args: &SendArgs) -> Result<(), Failure> {
    let under = Under::id(&args.paying.repeatable).within(args.paying.wait_seconds);
    let request = pb::SendRequest {
        payee: args.payee.0.clone(),
        amount_msat: args.amount.msat()?,
        max_fee_msat: args.paying.max_fee_msat,
        request_id: under.text(),
    };
    let call = |mut api: Api, request| async move { api.send(request).await };
    let answer: pb::PayResponse = session.call("paying", under, request, call).await?;
    show_payment(session, answer)
}

/// A daemon tells of a failed payment by an error; one that gives the payment instead is understood too.
fn show_payment(session: &mut Session<'_, '_>, answer: pb::PayResponse) -> Result<(), Failure> {
    let payment = answer.payment.ok_or_else(|| {
        Failure::new(Exit::Fault, "UNEXPECTED_ANSWER", "the daemon's answer has no payment")
    })?;
    let reason = text::failure_reason(payment.failure());
    match payment.state() {
        PaymentState::Settled => session.terminal.show(json::payment(&payment), || settled_text(&payment)),
        PaymentState::Failed => {
            let text = format!("payment {} failed: {reason}", payment.number);
            Err(Failure { field: reason, ..Failure::new(Exit::Failed, "PAYMENT_FAILED", text) })
        }
        PaymentState::InFlight | PaymentState::Unspecified => {
            let text = format!("payment {} is still in flight", payment.number);
            Err(Failure::new(Exit::Unknown, "STILL_UNDER_WAY", text)
                .advise("`hubwallet payments` shows how it stands"))
        }
    }
}

fn settled_text(payment: &pb::Payment) -> String {
    facts([
        ("paid", text::msat(payment.amount_msat)),
        ("fee", text::msat(payment.fee_msat)),
        ("payment hash", hex::encode(&payment.payment_hash)),
        ("preimage", hex::encode(&payment.preimage)),
    ])
}

pub async fn list(session: &mut Session<'_, '_>, args: &PaymentsArgs) -> Result<(), Failure> {
    let direction = match args.direction {
        None => PaymentDirection::Unspecified,
        Some(Direction::Sent) => PaymentDirection::Sent,
        Some(Direction::Received) => PaymentDirection::Received,
    };
    let (mut payments, mut page_token) = (Vec::new(), String::new());
    while let Some(left) = rows_left(args.limit, payments.len()) {
        let request = pb::ListPaymentsRequest { page_size: left, page_token, direction: direction.into() };
        let call = |mut api: Api, request| async move { api.list_payments(request).await };
        let page: pb::ListPaymentsResponse =
            session.call("asking the daemon", Under::nothing(), request, call).await?;
        payments.extend(page.payments);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let json = payments.iter().map(json::payment).collect();
    session.terminal.show(json, || table(&payments).text("no payments"))
}

/// Rows to ask for next; `None` when there are enough.
pub(super) fn rows_left(limit: u32, have: usize) -> Option<u32> {
    let left = limit.saturating_sub(u32::try_from(have).unwrap_or(u32::MAX));
    (left > 0).then(|| left.min(proto::limits::MAX_PAGE_ROWS))
}

fn table(payments: &[pb::Payment]) -> Table {
    let mut table = Table::new([
        ("ended (UTC)", Align::Left),
        ("no.", Align::Right),
        ("direction", Align::Left),
        ("state", Align::Left),
        ("sat", Align::Right),
        ("fee, sat", Align::Right),
        ("payment hash", Align::Left),
        ("description", Align::Left),
    ]);
    for payment in payments {
        table.row([
            text::when(payment.ended_at_ms),
            payment.number.to_string(),
            text::direction(payment.direction()),
            state_text(payment),
            text::msat_cell(payment.amount_msat),
            text::msat_cell(payment.fee_msat),
            text::short(&payment.payment_hash),
            one_line(&payment.description),
        ]);
    }
    table
}

/// How it stands. What is decided on the chain may take a day, so that is said.
fn state_text(payment: &pb::Payment) -> String {
    match payment.state() {
        PaymentState::Failed => format!("failed: {}", text::failure_reason(payment.failure())),
        PaymentState::InFlight if payment.on_chain => {
            let height = text::grouped(payment.expiry_height.into());
            format!("on the chain: paid, or back after height {height}")
        }
        state @ (PaymentState::Unspecified | PaymentState::InFlight | PaymentState::Settled) => {
            text::payment_state(state)
        }
    }
}

/// The beginning of a description.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(60).collect();
    if text.chars().count() > 60 {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_cannot_fill_the_screen() {
        assert_eq!(one_line("tea"), "tea");
        assert_eq!(one_line(&"x".repeat(700)).chars().count(), 61);
    }

    #[test]
    fn a_payment_that_is_decided_on_the_chain_says_until_when() {
        let mut payment = pb::Payment { expiry_height: 1_234, ..pb::Payment::default() };
        payment.set_state(PaymentState::InFlight);
        assert_eq!(state_text(&payment), "in_flight");
        payment.on_chain = true;
        assert_eq!(state_text(&payment), "on the chain: paid, or back after height 1,234");
        payment.set_state(PaymentState::Settled);
        assert_eq!(state_text(&payment), "settled");
    }

    #[test]
    fn pages_are_asked_for_until_the_limit_is_reached() {
        assert_eq!(rows_left(100, 0), Some(100));
        assert_eq!(rows_left(5_000, 1_000), Some(1_000));
        assert_eq!(rows_left(5_000, 4_990), Some(10));
        assert_eq!(rows_left(100, 100), None);
    }
}
