//! `events`: one line an event, none missed.

use std::time::Duration;

use proto::hub::v1 as hub;
use proto::wallet::v1 as pb;
use proto::wallet::v1::PaymentState;
use proto::wallet::v1::event::Kind;
use tokio::time::Instant;

use super::args::EventsArgs;
use super::failure::Failure;
use super::session::Session;
use super::{json, text};
use crate::client::{CallError, may_have_happened};
use crate::limits::{CLIENT_RETRY_PATIENCE_MS, EVENTS_SHOWN};

/// Which events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    /// The first; 0: whatever comes next.
    from: u64,
    /// The last; `None`: never ends.
    last: Option<u64>,
}

impl Wanted {
    fn new(args: &EventsArgs, newest: u64) -> Wanted {
        let shown = || newest.saturating_sub(EVENTS_SHOWN - 1).max(1);
        match (args.from, args.follow) {
            (Some(from), true) => Wanted { from, last: None },
            // The number that comes next is named, so that nothing is missed even if the first connection breaks at once.
            (None, true) => Wanted { from: newest.saturating_add(1), last: None },
            (from, false) => Wanted { from: from.unwrap_or_else(shown), last: Some(newest) },
        }
    }

    fn is_done(&self) -> bool {
        self.last.is_some_and(|last| self.from > last)
    }
}

pub async fn events(session: &mut Session<'_, '_>, args: &EventsArgs) -> Result<(), Failure> {
    let newest = session.info().await?.newest_event;
    let mut wanted = Wanted::new(args, newest);
    let patience = Duration::from_millis(CLIENT_RETRY_PATIENCE_MS);
    let mut until = Instant::now() + patience;
    while !wanted.is_done() {
        let request = pb::SubscribeEventsRequest { from_index: wanted.from };
        let status = match session.client.api().subscribe_events(request).await {
            Err(status) => status,
            Ok(answer) => {
                let mut events = answer.into_inner();
                loop {
                    match events.message().await {
                        Ok(Some(event)) => {
                            session.terminal.show(json::event(&event), || line(&event))?;
                            wanted.from = event.index.saturating_add(1);
                            until = Instant::now() + patience;
                            if wanted.is_done() {
                                return Ok(());
                            }
                        }
                        Ok(None) => break tonic::Status::unavailable("the daemon ended the connection"),
                        Err(status) => break status,
                    }
                }
            }
        };
        if !may_have_happened(&status) {
            return Err(Failure::of_call(CallError::Refused(Box::new(status)), session.data_dir(), None));
        }
        if let Err(error) = session.client.reconnect_until(until).await {
            let advice = format!("go on with: hubwallet events --from {} --follow", wanted.from);
            return Err(Failure::of_connect(error, session.data_dir()).advise(advice));
        }
    }
    Ok(())
}

fn line(event: &pb::Event) -> String {
    let what = match &event.kind {
        None => "of a kind that this version does not know".to_owned(),
        Some(Kind::Payment(payment)) => payment_text(payment),
        Some(Kind::Stream(stream)) => stream_text(stream),
        Some(Kind::Channel(event)) => channel_text(event),
    };
    format!("{:>8}  {}  {}\n", event.index, text::when(event.time_ms), text::plain(&what))
}

fn payment_text(payment: &pb::Payment) -> String {
    let (direction, number) = (text::direction(payment.direction()), payment.number);
    let amount = text::msat(payment.amount_msat);
    match payment.state() {
        PaymentState::Failed => {
            format!(
                "payment {number} {direction} of {amount} failed: {}",
                text::failure_reason(payment.failure())
            )
        }
        state @ (PaymentState::Settled | PaymentState::InFlight | PaymentState::Unspecified) => {
            format!("payment {number} {direction} of {amount} {}", text::payment_state(state))
        }
    }
}

fn stream_text(stream: &pb::StreamProgress) -> String {
    format!(
        "stream {} {} {}: {} ticks, {}{}",
        text::short(&stream.stream_id),
        text::direction(stream.direction()),
        text::stream_state(stream.state()),
        text::grouped(stream.settled),
        text::msat(stream.settled_msat),
        if stream.text.is_empty() { String::new() } else { format!("; {}", stream.text) }
    )
}

/// The name and every field but the channel's own; ids are cut to what tells them apart.
fn channel_text(event: &hub::ChannelEvent) -> String {
    let (name, fields) = proto::json::channel_event(event);
    let mut line = format!("channel {} {name}", text::short(&event.channel_id));
    for (key, value) in fields.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match key.as_str() {
            "channel_id" | "node_key" => {}
            _ if value.is_empty() => {}
            "payment_hash" | "stream_id" => {
                line.push_str(&format!(" {key}={}", value.chars().take(12).collect::<String>()));
            }
            _ => line.push_str(&format!(" {key}={value}")),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_number_the_last_are_shown_and_when_following_only_new_ones() {
        let wanted = |from, follow, newest| Wanted::new(&EventsArgs { from, follow }, newest);
        assert_eq!(wanted(None, false, 100), Wanted { from: 81, last: Some(100) });
        assert_eq!(wanted(None, false, 3), Wanted { from: 1, last: Some(3) });
        assert_eq!(wanted(Some(7), false, 100), Wanted { from: 7, last: Some(100) });
        assert_eq!(wanted(None, true, 100), Wanted { from: 101, last: None });
        assert_eq!(wanted(Some(7), true, 100), Wanted { from: 7, last: None });
        assert!(wanted(None, false, 0).is_done());
        assert!(!wanted(None, true, 0).is_done());
    }
}
