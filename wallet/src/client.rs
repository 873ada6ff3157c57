//! A client of the wallet's daemon, for the command line, for scripts in Rust and for tests.
//!
//! [`Client::connect`] needs the data folder alone: the daemon's address and token are read from it. [`Client::call`]
//! makes a call whose answer cannot get lost: when the connection breaks before it, the same request is sent again, over a
//! new connection and to the daemon that runs then. That is safe because every request that changes something carries a
//! `request_id` ([`new_request_id`]), under which the daemon gives its first answer again.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::data_dir::FolderError;
use daemon::token::Token;
use proto::error::{ErrorCode, ErrorDetail};
use proto::request_id::RequestId;
use proto::wallet::v1::wallet_client::WalletClient;
use rand::RngCore;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::data_dir::{DataDirError, Layout, PROGRAM};
use crate::limits::{CLIENT_CONNECT_PATIENCE_MS, CLIENT_RETRY_MS, CLIENT_RETRY_PATIENCE_MS};

/// The generated client, with the token in every call. Cheap to clone; clones share the connection.
pub type Api = WalletClient<InterceptedService<Channel, Bearer>>;

/// Puts the token into every call.
#[derive(Clone, Debug)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    fn new(token: &Token) -> Self {
        let mut value =
            MetadataValue::try_from(token.header()).expect("hexadecimal digits are allowed in a header");
        value.set_sensitive(true);
        Bearer(value)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Why there is no connection to the daemon.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no such wallet.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// No daemon was ever started, or it stopped cleanly.
    #[error("the daemon of {} is not running", root.display())]
    NotRunning { root: PathBuf },
    /// A daemon wrote its address, but nobody answers there.
    #[error("nobody answers at {address}, the address of the daemon of {}: it ended without stopping cleanly, or still starts", root.display())]
    NoAnswer { root: PathBuf, address: SocketAddr, source: tonic::transport::Error },
}

impl From<FolderError> for ConnectError {
    fn from(error: FolderError) -> Self {
        DataDirError::from(error).into()
    }
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Not connected, and nothing was asked for: it was not executed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The daemon answered that it will not, or that it failed.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// It may or may not have been executed: ask again with the same `request_id`.
    #[error("no answer in time, the last trouble being: {last}")]
    Unknown { last: String },
}

impl CallError {
    /// The machine-readable half of a refusal.
    pub fn detail(&self) -> Option<ErrorDetail> {
        match self {
            CallError::Refused(status) => proto::error::parse(status),
            CallError::Connect(_) | CallError::Unknown { .. } => None,
        }
    }
}

/// A client of one wallet's daemon.
#[derive(Clone, Debug)]
pub struct Client {
    layout: Layout,
    api: Api,
    patience: Duration,
}

impl Client {
    /// Connects to the daemon of this data folder.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(data_dir: &Path) -> Result<Client, ConnectError> {
        let layout = Layout::new(data_dir);
        let api = connect(&layout).await?;
        Ok(Client { layout, api, patience: Duration::from_millis(CLIENT_RETRY_PATIENCE_MS) })
    }

    /// The same client with another patience: how long [`Client::call`] goes on asking while connections break or the
    /// daemon answers that it is still under way.
    pub fn with_patience(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    /// The generated client: one attempt a call, and server streams.
    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// Connects again, to the daemon that runs now.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn reconnect(&mut self) -> Result<(), ConnectError> {
        self.api = connect(&self.layout).await?;
        Ok(())
    }

    /// Connects again, trying until then. The first try comes after a short pause: what broke needs a moment.
    ///
    /// # Errors
    /// The last [`ConnectError`].
    pub async fn reconnect_until(&mut self, until: Instant) -> Result<(), ConnectError> {
        loop {
            sleep(Duration::from_millis(CLIENT_RETRY_MS)).await;
            match self.reconnect().await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// [`Client::call_within`] with the client's own patience.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<Req, Resp, Fut>(
        &mut self,
        request: Req,
        call: impl Fn(Api, Req) -> Fut,
    ) -> Result<Resp, CallError>
    where
        Req: Clone,
        Fut: Future<Output = Result<Response<Resp>, Status>>,
    {
        self.call_within(self.patience, request, call).await
    }

    /// Calls until there is an answer. `call` is given the request anew at each attempt; if it changes something it must
    /// carry a `request_id`.
    ///
    /// # Errors
    /// [`CallError::Refused`] is the daemon's answer; [`CallError::Unknown`] that there was none within the patience.
    pub async fn call_within<Req, Resp, Fut>(
        &mut self,
        patience: Duration,
        request: Req,
        call: impl Fn(Api, Req) -> Fut,
    ) -> Result<Resp, CallError>
    where
        Req: Clone,
        Fut: Future<Output = Result<Response<Resp>, Status>>,
    {
        let until = Instant::now() + patience;
        let mut last = String::new();
        loop {
            match timeout_at(until, call(self.api(), request.clone())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) if !may_have_happened(&status) => {
                    return Err(CallError::Refused(Box::new(status)));
                }
                Ok(Err(status)) => last = status.message().to_owned(),
                Err(_) if last.is_empty() => last = "the daemon is still at it".to_owned(),
                Err(_) => {}
            }
            if Instant::now() >= until {
                return Err(CallError::Unknown { last });
            }
            if let Err(error) = self.reconnect_until(until).await {
                return Err(CallError::Unknown { last: error.to_string() });
            }
        }
    }
}

/// Whether this status leaves open if the call was executed: the connection broke, the daemon is stopping, or it gave up
/// waiting. Statuses of the daemon have a detail, those that the transport makes up have none.
pub fn may_have_happened(status: &Status) -> bool {
    match proto::error::parse(status) {
        Some(detail) => matches!(detail.code(), ErrorCode::StillUnderWay | ErrorCode::Stopping),
        None => matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::DeadlineExceeded
        ),
    }
}

/// A new id for a request that changes something.
pub fn new_request_id() -> RequestId {
    let mut random = [0; 10];
    rand::rngs::OsRng.fill_bytes(&mut random);
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    RequestId::new(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX), random)
}

/// Address and token are read each time: a daemon started again has another port.
async fn connect(layout: &Layout) -> Result<Api, ConnectError> {
    let root = layout.root().to_owned();
    if !layout.config().exists() && !layout.seed().exists() && !layout.address().exists() {
        return Err(DataDirError::NoWallet { root }.into());
    }
    let path = layout.address();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ConnectError::NotRunning { root });
        }
        Err(source) => return Err(FolderError::Unreadable { path, source }.into()),
    };
    let address: SocketAddr = text.trim().parse().map_err(|_| FolderError::Malformed {
        path,
        found: format!("{:?}", text.trim()),
        expected: "an address and port; start the daemon again".into(),
    })?;
    let Some(token) = Token::load(&layout.token(), &PROGRAM)? else {
        return Err(ConnectError::NotRunning { root });
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .expect("an address makes a URI")
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_millis(CLIENT_CONNECT_PATIENCE_MS));
    let channel =
        endpoint.connect().await.map_err(|source| ConnectError::NoAnswer { root, address, source })?;
    Ok(WalletClient::with_interceptor(channel, Bearer::new(&token)))
}
