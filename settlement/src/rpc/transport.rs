//! How a request reaches bitcoind and its reply comes back.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::RpcError;
use super::http::Http;

/// A reply with its body read whole.
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
}

/// The reply of a node in this process: its body, or why there is none.
pub type Answer = Pin<Box<dyn Future<Output = Result<Bytes, RpcError>> + Send>>;

/// The way to a node.
pub(super) enum Transport {
    /// Over the network.
    Http(Http),
    /// In this process.
    InProcess(Box<dyn Fn(Bytes) -> Answer + Send + Sync>),
}

impl Transport {
    /// Hands `body` to the node and waits for its reply, `timeout` at most.
    pub(super) async fn post(
        &self,
        method: &'static str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Reply, RpcError> {
        match self {
            Transport::Http(http) => http.post(method, body, timeout).await,
            Transport::InProcess(answer) => match tokio::time::timeout(timeout, answer(body)).await {
                Ok(body) => Ok(Reply { status: StatusCode::OK, body: body? }),
                Err(_) => Err(RpcError::Timeout { method, seconds: timeout.as_secs() }),
            },
        }
    }
}
