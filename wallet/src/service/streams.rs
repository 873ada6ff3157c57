//! Streams: started, listed, followed live.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use channel::ids::StreamId;
use daemon::rising::Rising;
use journal::Position;
use proto::error::{ErrorCode, status};
use proto::fields::{node_key, stream_id};
use proto::wallet::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Service, convert, refused, stopping, wrong_field};
use crate::ledger::StreamRequest;
use crate::ledger::state::State;

/// Progress, until the stream ends or the caller leaves.
pub type Progress = Pin<Box<dyn Stream<Item = Result<pb::StreamProgress, Status>> + Send>>;

/// Progress is looked at this often at most: live for eyes, cheap for the core.
const LOOK: Duration = Duration::from_millis(100);

fn progress(state: &State, id: &StreamId) -> Option<pb::StreamProgress> {
    let paid = state.payers.get(id).map(|stream| convert::paid_stream(id, stream));
    paid.or_else(|| state.payees.get(id).map(|stream| convert::received_stream(id, stream)))
}

fn is_over(progress: &pb::StreamProgress) -> bool {
    match progress.state() {
        pb::StreamState::Ended | pb::StreamState::Refused => true,
        pb::StreamState::Unspecified
        | pb::StreamState::Proposed
        | pb::StreamState::Running
        | pb::StreamState::Ending => false,
    }
}

impl Service {
    pub(super) async fn begin_stream(&self, request: pb::StartStreamRequest) -> Result<Progress, Status> {
        let asked = self.asked("StartStream", &request.request_id, &request)?;
        self.check_room(asked).await?;
        let wanted = StreamRequest {
            payee: node_key("payee", &request.payee).map_err(wrong_field)?,
            amount_msat: request.amount_msat,
            ticks: request.ticks,
            ticks_per_second: request.ticks_per_second,
            max_in_flight: request.max_in_flight,
            id: StreamId(self.world.random()),
        };
        let started = self.core.ask(move |core| {
            core.with_ledger(|ledger, env| ledger.start_stream(wanted, asked.as_ref(), env))
        });
        let id = started.await.map_err(stopping)?.map_err(refused)?;
        let (sender, receiver) = mpsc::channel(16);
        let core = self.core.clone();
        let durable = self.durable.clone();
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let seen = durable.now();
                let Ok(now) = core.ask(move |core| progress(core.ledger_state(), &id)).await else {
                    let _ = sender.send(Err(stopping(crate::core::Stopped))).await;
                    return;
                };
                let Some(now) = now else {
                    let _ = sender.send(Err(status(ErrorCode::NotFound, "the stream is forgotten"))).await;
                    return;
                };
                let over = is_over(&now);
                if last.as_ref() != Some(&now) && sender.send(Ok(now.clone())).await.is_err() {
                    return;
                }
                last = Some(now);
                if over || !news(&durable, seen, &sender).await {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    pub(super) fn watch_streams(&self, request: pb::SubscribeStreamsRequest) -> Result<Progress, Status> {
        let only = if request.stream_id.is_empty() {
            None
        } else {
            Some(stream_id("stream_id", &request.stream_id).map_err(wrong_field)?)
        };
        let (sender, receiver) = mpsc::channel(64);
        let core = self.core.clone();
        let durable = self.durable.clone();
        tokio::spawn(async move {
            let mut last: BTreeMap<bytes::Bytes, pb::StreamProgress> = BTreeMap::new();
            loop {
                let seen = durable.now();
                let Ok(all) = core.ask(move |core| collect(core.ledger_state(), only)).await else {
                    let _ = sender.send(Err(stopping(crate::core::Stopped))).await;
                    return;
                };
                for now in all {
                    if last.get(&now.stream_id) == Some(&now) {
                        continue;
                    }
                    // Streams that were over before the subscription are of no interest.
                    let news = !is_over(&now) || last.contains_key(&now.stream_id) || only.is_some();
                    if news && sender.send(Ok(now.clone())).await.is_err() {
                        return;
                    }
                    if news {
                        last.insert(now.stream_id.clone(), now);
                    }
                }
                if !news(&durable, seen, &sender).await {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    pub(super) async fn all_streams(
        &self,
        request: pb::ListStreamsRequest,
    ) -> Result<pb::ListStreamsResponse, Status> {
        let rows = proto::page::rows(request.page_size)?;
        let skip: usize = match request.page_token.as_str() {
            "" => 0,
            token => token
                .parse()
                .map_err(|_| status(ErrorCode::BadPageToken, "the page token is not one this wallet gave"))?,
        };
        let asked = self.core.ask(|core| {
            let mut all = collect(core.ledger_state(), None);
            for stream in &mut all {
                let id = stream_id("stream_id", &stream.stream_id).ok();
                let counts = id.and_then(|id| core.tick_times(&id));
                stream.times = counts.map(|counts| pb::TickTimes { counts });
            }
            all
        });
        let mut all = asked.await.map_err(stopping)?;
        all.sort_by_key(|stream| (std::cmp::Reverse(stream.started_at_ms), stream.stream_id.clone()));
        let more = all.len() > skip.saturating_add(rows);
        let streams: Vec<_> = all.into_iter().skip(skip).take(rows).collect();
        let next_page_token = if more { (skip + rows).to_string() } else { String::new() };
        Ok(pb::ListStreamsResponse { streams, next_page_token })
    }
}

/// Waits until a commit made something visible that was not when `seen` was durable, and a moment more. False when the
/// caller left.
async fn news<T>(durable: &Rising<Position>, seen: Position, caller: &mpsc::Sender<T>) -> bool {
    tokio::select! {
        biased;
        () = caller.closed() => return false,
        // A journal that ended is a process that is stopping: the next question says so.
        _ = durable.above(seen) => {}
    }
    tokio::time::sleep(LOOK).await;
    true
}

fn collect(state: &State, only: Option<StreamId>) -> Vec<pb::StreamProgress> {
    let ids = state.payers.keys().chain(state.payees.keys());
    ids.filter(|id| only.is_none_or(|only| only == **id)).filter_map(|id| progress(state, id)).collect()
}
