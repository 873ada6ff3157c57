//! What every command that asks the daemon needs: the connection, the terminal, and one way to make calls.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::hub::v1 as hub;
use proto::request_id::RequestId;
use proto::wallet::v1 as pb;
use tonic::{Response, Status};

use super::args::Repeatable;
use super::failure::Failure;
use super::terminal::Terminal;
use crate::client::{Api, Client, new_request_id};
use crate::limits::{CLIENT_READ_PATIENCE_MS, CLIENT_RETRY_PATIENCE_MS};

/// A command under way.
pub struct Session<'a, 't> {
    pub terminal: &'a mut Terminal<'t>,
    pub client: Client,
    data_dir: PathBuf,
}

/// What a call is made under.
#[derive(Debug, Clone, Copy)]
pub struct Under {
    pub request_id: Option<RequestId>,
    pub patience: Duration,
}

impl Under {
    /// For calls that change nothing.
    pub fn nothing() -> Under {
        Under { request_id: None, patience: Duration::from_millis(CLIENT_READ_PATIENCE_MS) }
    }

    /// For calls that change something: the id given, or a new one.
    pub fn id(repeatable: &Repeatable) -> Under {
        let request_id = repeatable.request_id.map_or_else(new_request_id, |given| given.0);
        Under { request_id: Some(request_id), patience: Duration::from_millis(CLIENT_RETRY_PATIENCE_MS) }
    }

    pub fn within(self, seconds: u64) -> Under {
        Under { patience: Duration::from_secs(seconds), ..self }
    }

    /// As the request wants it; empty for none.
    pub fn text(&self) -> String {
        self.request_id.map(|id| id.to_string()).unwrap_or_default()
    }
}

impl<'a, 't> Session<'a, 't> {
    /// Connects to the daemon of this data folder.
    ///
    /// # Errors
    /// It is not there.
    pub async fn open(data_dir: &Path, terminal: &'a mut Terminal<'t>) -> Result<Session<'a, 't>, Failure> {
        let client = Client::connect(data_dir).await.map_err(|error| Failure::of_connect(error, data_dir))?;
        Ok(Session { terminal, client, data_dir: data_dir.to_owned() })
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Asks the daemon; `what` is shown when it takes long.
    ///
    /// # Errors
    /// The daemon's refusal, or no answer within the patience.
    pub async fn call<Req, Resp, Fut>(
        &mut self,
        what: &str,
        under: Under,
        request: Req,
        call: impl Fn(Api, Req) -> Fut,
    ) -> Result<Resp, Failure>
    where
        Req: Clone,
        Fut: Future<Output = Result<Response<Resp>, Status>>,
    {
        let mut waiting = self.terminal.waiting();
        let answer = waiting.until(what, self.client.call_within(under.patience, request, call)).await;
        answer.map_err(|error| Failure::of_call(error, &self.data_dir, under.request_id))
    }

    /// Everything about this wallet and its hub.
    pub async fn info(&mut self) -> Result<pb::GetInfoResponse, Failure> {
        let call = |mut api: Api, request| async move { api.get_info(request).await };
        self.call("asking the daemon", Under::nothing(), pb::GetInfoRequest {}, call).await
    }

    /// The wallet's channels.
    pub async fn channels(&mut self, include_closed: bool) -> Result<Vec<hub::Channel>, Failure> {
        let call = |mut api: Api, request| async move { api.list_channels(request).await };
        let request = pb::ListChannelsRequest { include_closed };
        let answer: pb::ListChannelsResponse =
            self.call("asking the daemon", Under::nothing(), request, call).await?;
        Ok(answer.channels)
    }
}
