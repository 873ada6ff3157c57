//! `stream`, `streams`.

use std::time::Duration;

use daemon::table::{Align, Table, facts};
use indicatif::ProgressBar;
use proto::wallet::v1 as pb;
use proto::wallet::v1::{PaymentDirection, StreamState};
use serde_json::json;
use tokio::time::Instant;

use super::args::StreamArgs;
use super::failure::{Exit, Failure};
use super::payments::rows_left;
use super::session::{Session, Under};
use super::{json, text};
use crate::client::{Api, CallError, may_have_happened};

pub async fn stream(session: &mut Session<'_, '_>, args: &StreamArgs) -> Result<(), Failure> {
    let under = Under::id(&args.repeatable);
    let request = pb::StartStreamRequest {
        payee: args.payee.0.clone(),
        amount_msat: args.amount.msat()?,
        ticks: args.ticks,
        ticks_per_second: args.ticks_per_second,
        max_in_flight: args.max_in_flight,
        request_id: under.text(),
    };
    let bar = session.terminal.bar(args.ticks, "ticks");
    let end = watch(session, &request, under, &bar).await;
    bar.finish_and_clear();
    let end = end?;
    let receipt =
        json::merged([json::stream(&end), json!({ "kind": "receipt", "request_id": under.text() })]);
    session.terminal.show(receipt, || receipt_text(&end))?;
    judge(&end)
}

/// Follows the stream to its end. When the connection breaks the same request is sent again: under its id the daemon
/// follows the stream that runs already.
async fn watch(
    session: &mut Session<'_, '_>,
    request: &pb::StartStreamRequest,
    under: Under,
    bar: &ProgressBar,
) -> Result<pb::StreamProgress, Failure> {
    let mut until = Instant::now() + under.patience;
    loop {
        let status = match session.client.api().start_stream(request.clone()).await {
            Err(status) => status,
            Ok(answer) => {
                let mut progress = answer.into_inner();
                loop {
                    match progress.message().await {
                        Ok(Some(now)) => {
                            until = Instant::now() + under.patience;
                            if is_over(&now) {
                                return Ok(now);
                            }
                            show_progress(session, &now, bar)?;
                        }
                        Ok(None) => break tonic::Status::unavailable("the daemon ended the connection"),
                        Err(status) => break status,
                    }
                }
            }
        };
        let failed =
            |error, session: &Session<'_, '_>| Failure::of_call(error, session.data_dir(), under.request_id);
        if !may_have_happened(&status) {
            return Err(failed(CallError::Refused(Box::new(status)), session));
        }
        bar.set_message("the connection to the daemon broke; connecting again");
        if Instant::now() >= until || session.client.reconnect_until(until).await.is_err() {
            return Err(failed(CallError::Unknown { last: status.message().to_owned() }, session));
        }
    }
}

fn is_over(progress: &pb::StreamProgress) -> bool {
    match progress.state() {
        StreamState::Ended | StreamState::Refused => true,
        StreamState::Unspecified | StreamState::Proposed | StreamState::Running | StreamState::Ending => {
            false
        }
    }
}

fn show_progress(
    session: &mut Session<'_, '_>,
    now: &pb::StreamProgress,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    if session.terminal.json {
        let line = json::merged([json::stream(now), json!({ "kind": "progress" })]);
        return session.terminal.show(line, String::new);
    }
    bar.set_position(now.settled);
    let state = match now.state() {
        StreamState::Proposed => "waiting for the payee".to_owned(),
        StreamState::Ending => "waiting for the receipt".to_owned(),
        StreamState::Unspecified | StreamState::Running | StreamState::Ended | StreamState::Refused => {
            format!("{}, {} in flight", text::msat(now.settled_msat), now.in_flight)
        }
    };
    let failed = if now.failed > 0 { format!(", {} failed and replaced", now.failed) } else { String::new() };
    bar.set_message(format!("{state}{failed}"));
    Ok(())
}

fn receipt_text(end: &pb::StreamProgress) -> String {
    let seconds = Duration::from_millis(end.ended_at_ms.saturating_sub(end.started_at_ms)).as_secs_f64();
    let mut all = vec![
        ("stream", hex::encode(&end.stream_id)),
        ("state", text::stream_state(end.state())),
        ("ticks settled", format!("{} of {}", text::grouped(end.settled), text::grouped(end.ticks))),
        ("paid", text::msat(end.settled_msat)),
        ("took", format!("{seconds:.1} s")),
        ("note", end.text.clone()),
    ];
    if let Some(receipt) = &end.receipt {
        all.push(("receipt over", text::msat(receipt.total_msat)));
        all.push(("highest tick", text::grouped(receipt.highest_tick)));
        all.push(("signature", hex::encode(&receipt.signature)));
    }
    facts(all)
}

/// A stream that did not pay everything failed, also when it ended by itself.
fn judge(end: &pb::StreamProgress) -> Result<(), Failure> {
    let why = if end.text.is_empty() { text::failure_reason(end.last_failure()) } else { end.text.clone() };
    match end.state() {
        StreamState::Refused => {
            let text = format!("the payee refused the stream: {why}");
            Err(Failure::new(Exit::Failed, "STREAM_REFUSED", text))
        }
        _ if end.settled < end.ticks => {
            let text = format!("the stream ended after {} of {} ticks: {why}", end.settled, end.ticks);
            Err(Failure::new(Exit::Failed, "STREAM_INCOMPLETE", text))
        }
        StreamState::Unspecified
        | StreamState::Proposed
        | StreamState::Running
        | StreamState::Ending
        | StreamState::Ended => Ok(()),
    }
}

pub async fn list(session: &mut Session<'_, '_>, limit: u32) -> Result<(), Failure> {
    let (mut streams, mut page_token) = (Vec::new(), String::new());
    while let Some(left) = rows_left(limit, streams.len()) {
        let request = pb::ListStreamsRequest { page_size: left, page_token };
        let call = |mut api: Api, request| async move { api.list_streams(request).await };
        let page: pb::ListStreamsResponse =
            session.call("asking the daemon", Under::nothing(), request, call).await?;
        streams.extend(page.streams);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let json = streams.iter().map(json::stream).collect();
    session.terminal.show(json, || table(&streams).text("no streams"))
}

fn table(streams: &[pb::StreamProgress]) -> Table {
    let mut table = Table::new([
        ("started (UTC)", Align::Left),
        ("stream", Align::Left),
        ("direction", Align::Left),
        ("state", Align::Left),
        ("ticks", Align::Right),
        ("settled", Align::Right),
        ("a tick, sat", Align::Right),
        ("sat", Align::Right),
        ("receipt, sat", Align::Right),
        ("note", Align::Left),
    ]);
    for stream in streams {
        let ticks = match stream.direction() {
            PaymentDirection::Received if stream.ticks == 0 => String::new(),
            PaymentDirection::Received | PaymentDirection::Sent | PaymentDirection::Unspecified => {
                text::grouped(stream.ticks)
            }
        };
        table.row([
            text::when(stream.started_at_ms),
            text::short(&stream.stream_id),
            text::direction(stream.direction()),
            text::stream_state(stream.state()),
            ticks,
            text::grouped(stream.settled),
            text::msat_cell(stream.amount_msat),
            text::msat_cell(stream.settled_msat),
            stream.receipt.as_ref().map(|receipt| text::msat_cell(receipt.total_msat)).unwrap_or_default(),
            stream.text.clone(),
        ]);
    }
    table
}
