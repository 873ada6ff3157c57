//! HTTP connections to bitcoind, used in rotation.
//!
//! Invariant: never more than `connections` calls are in flight, and the connection taken is the one that has been
//! idle longest. bitcoind answers before it is ready to read the next request, so a connection used again at once
//! stalls about 50 ms.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::transport::Reply;
use super::{Auth, RpcError};
use crate::limits;

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    idle_since: Instant,
}

/// The connections to one bitcoind.
pub(super) struct Http {
    /// `host:port`.
    address: String,
    auth: Auth,
    /// The `Authorization` header last read; empty before the first call.
    authorization: Mutex<Option<String>>,
    idle: Mutex<VecDeque<Connection>>,
    open: AtomicUsize,
    size: usize,
    permits: Semaphore,
    waiting: AtomicUsize,
}

/// Why a request got no usable reply. bitcoind may have seen it.
struct Broken {
    reason: String,
}

impl Http {
    pub(super) fn new(address: String, auth: Auth, connections: usize) -> Self {
        let size = connections.max(1);
        Self {
            address,
            auth,
            authorization: Mutex::new(None),
            idle: Mutex::new(VecDeque::new()),
            open: AtomicUsize::new(0),
            size,
            permits: Semaphore::new(size),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Posts `body` and reads the reply, within `timeout` counted from when a connection is free. A refused cookie
    /// is read again once. A connection found closed is replaced once: every method of this crate may be repeated.
    pub(super) async fn post(
        &self,
        method: &'static str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Reply, RpcError> {
        let _waiting = Waiting::enter(&self.waiting)?;
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| RpcError::Unreachable { reason: "the client is closed".into() })?;
        drop(_waiting);
        match tokio::time::timeout(timeout, self.post_authorized(body)).await {
            Ok(result) => result,
            Err(_) => Err(RpcError::Timeout { method, seconds: timeout.as_secs() }),
        }
    }

    async fn post_authorized(&self, body: Bytes) -> Result<Reply, RpcError> {
        let cached = self.lock_authorization().clone();
        let (header, fresh) = match cached {
            Some(header) => (header, false),
            None => (self.read_authorization()?, true),
        };
        let reply = self.exchange(&header, body.clone()).await?;
        if reply.status != StatusCode::UNAUTHORIZED || fresh {
            return self.authorized(reply);
        }
        let header = self.read_authorization()?;
        let reply = self.exchange(&header, body).await?;
        self.authorized(reply)
    }

    fn authorized(&self, reply: Reply) -> Result<Reply, RpcError> {
        if reply.status == StatusCode::UNAUTHORIZED {
            *self.lock_authorization() = None;
            return Err(RpcError::Unauthorized { source_name: self.auth.source_name() });
        }
        Ok(reply)
    }

    fn read_authorization(&self) -> Result<String, RpcError> {
        let header = self.auth.header()?;
        *self.lock_authorization() = Some(header.clone());
        Ok(header)
    }

    async fn exchange(&self, authorization: &str, body: Bytes) -> Result<Reply, RpcError> {
        if let Some(connection) = self.take_idle() {
            match self.send(connection, authorization, body.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(Broken { reason }) => tracing::debug!(%reason, "a kept connection to bitcoind broke"),
            }
            self.open.fetch_add(1, Ordering::Relaxed);
        }
        let connection = self.connect().await?;
        self.send(connection, authorization, body)
            .await
            .map_err(|Broken { reason }| RpcError::Unreachable { reason })
    }

    /// The connection idle for longest, unless another may still be opened instead of using a fresh one again. `None`
    /// is the permission to open one: it is counted already.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.lock_idle();
        while let Some(connection) = idle.front() {
            let expired = connection.idle_since.elapsed() > limits::RPC_IDLE || connection.sender.is_closed();
            if expired {
                idle.pop_front();
                self.open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            if self.open.load(Ordering::Relaxed) < self.size
                && connection.idle_since.elapsed() < limits::RPC_STALL
            {
                break;
            }
            return idle.pop_front();
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Opens a connection that is counted already.
    async fn connect(&self) -> Result<Connection, RpcError> {
        let open = OpenGuard { open: &self.open, kept: false };
        let unreachable = |reason: String| RpcError::Unreachable { reason };
        let stream =
            tokio::time::timeout(limits::RPC_CONNECT_TIMEOUT, TcpStream::connect(self.address.as_str()))
                .await
                .map_err(|_| unreachable(format!("no connection to {} in time", self.address)))?
                .map_err(|error| unreachable(format!("{}: {error}", self.address)))?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to bitcoind ended");
            }
        });
        open.keep();
        Ok(Connection { sender, idle_since: Instant::now() })
    }

    async fn send(
        &self,
        mut connection: Connection,
        authorization: &str,
        body: Bytes,
    ) -> Result<Reply, Broken> {
        let open = OpenGuard { open: &self.open, kept: false };
        let broken = |error: &dyn std::fmt::Display| Broken { reason: error.to_string() };
        connection.sender.ready().await.map_err(|error| broken(&error))?;
        let request = Request::post("/")
            .header(header::HOST, self.address.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, authorization)
            .body(Full::new(body))
            .map_err(|error| broken(&error))?;
        let response = connection.sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), limits::RPC_MAX_REPLY_BYTES)
            .collect()
            .await
            .map_err(|error| broken(&error))?
            .to_bytes();
        if !connection.sender.is_closed() {
            open.keep();
            connection.idle_since = Instant::now();
            self.lock_idle().push_back(connection);
        }
        Ok(Reply { status, body })
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_authorization(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a connection out when a call is dropped or fails half way, so that a timeout leaks no place.
struct OpenGuard<'a> {
    open: &'a AtomicUsize,
    kept: bool,
}

impl OpenGuard<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One call in the queue for a connection.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, RpcError> {
        if count.fetch_add(1, Ordering::Relaxed) >= limits::RPC_MAX_WAITING {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(RpcError::Busy {
                reason: format!("{} calls wait for a connection here", limits::RPC_MAX_WAITING),
            });
        }
        Ok(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
