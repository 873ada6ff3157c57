//! A thin client of bitcoind's JSON-RPC.
//!
//! It promises: bounded parallelism over a few connections in rotation, a deadline for every call, a cookie read
//! again when bitcoind was restarted, and a typed error for each cause. It never retries a call that bitcoind
//! answered, and it knows nothing of what the calls are for.
//!
//! [`RpcClient::connect_and_check`] is the way in: it refuses a node on another network, a pruned one and one
//! too old, so that the rest of the crate need not ask again.

mod auth;
mod error;
mod http;
mod methods;
mod transport;
mod types;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Network;
use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use auth::Auth;
pub use error::RpcError;
pub(crate) use error::{
    RPC_INVALID_ADDRESS_OR_KEY, RPC_INVALID_PARAMETER, RPC_VERIFY_ALREADY_IN_UTXO_SET, RPC_VERIFY_ERROR,
    RPC_VERIFY_REJECTED,
};
pub use methods::MempoolCounts;
pub(crate) use methods::feerate_from_per_kvb;
pub use transport::Answer;
pub use types::{
    AcceptResult, BlockchainInfo, HeaderInfo, MempoolEntry, MempoolFees, MempoolInfo, NodeInfo,
    PackageResult, PackageTxResult, ScannedCoin, UnspentOutput, UtxoScan,
};

use crate::limits;
use error::RPC_IN_WARMUP;
use http::Http;
use transport::{Reply, Transport};

/// Where bitcoind is and how to call it.
#[derive(Debug, Clone)]
pub struct RpcConfig {
    /// `host:port`; a leading `http://` and a trailing `/` are allowed.
    pub address: String,
    /// Credentials.
    pub auth: Auth,
    /// Connections kept, at least 1; see [`limits::RPC_CONNECTIONS`].
    pub connections: usize,
    /// Deadline of a call; see [`limits::RPC_CALL_TIMEOUT`].
    pub timeout: Duration,
}

impl RpcConfig {
    /// The default limits for the node at `address`.
    pub fn new(address: impl Into<String>, auth: Auth) -> Self {
        Self {
            address: address.into(),
            auth,
            connections: limits::RPC_CONNECTIONS,
            timeout: limits::RPC_CALL_TIMEOUT,
        }
    }
}

/// A client of one bitcoind. Cloning shares the connections.
#[derive(Clone)]
pub struct RpcClient {
    calls: Arc<Transport>,
    /// Long polls have connections of their own, so that they keep no call waiting.
    polls: Arc<Transport>,
    timeout: Duration,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Envelope<T> {
    // A `null` result deserializes to `None`; methods that may answer `null` ask for an `Option`.
    #[serde(default = "Option::default", deserialize_with = "present")]
    result: Option<T>,
    #[serde(default)]
    error: Option<ErrorObject>,
    #[serde(default)]
    id: Option<u64>,
}

/// Reads a field that is there as `Some`, even when its value is `null` and `T` is itself an option.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i64,
    message: String,
}

impl RpcClient {
    /// A client that has not spoken to the node yet.
    pub fn new(config: RpcConfig) -> Self {
        let address = config.address.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Self {
            calls: Arc::new(Transport::Http(Http::new(
                address.clone(),
                config.auth.clone(),
                config.connections,
            ))),
            polls: Arc::new(Transport::Http(Http::new(address, config.auth, 2))),
            timeout: config.timeout,
        }
    }

    /// A client of a node in this process. `answer` gets the body of each request, a JSON-RPC call or a batch of them, and
    /// gives the body of the reply, or why there is none. Deadlines and the reading of replies are those of every client;
    /// connections and credentials there are none. For tests, and for chains that are simulated.
    pub fn in_process(answer: impl Fn(Bytes) -> Answer + Send + Sync + 'static) -> Self {
        let transport = Arc::new(Transport::InProcess(Box::new(answer)));
        Self { calls: Arc::clone(&transport), polls: transport, timeout: limits::RPC_CALL_TIMEOUT }
    }

    /// Connects and refuses a node that cannot be relied on.
    ///
    /// # Errors
    ///
    /// [`RpcError::WrongNetwork`], [`RpcError::Pruned`], [`RpcError::TooOld`], or why the node cannot be asked;
    /// [`RpcError::is_transient`] tells whether asking again makes sense.
    pub async fn connect_and_check(
        config: RpcConfig,
        network: Network,
    ) -> Result<(Self, NodeInfo), RpcError> {
        let client = Self::new(config);
        let info = client.check_node(network).await?;
        Ok((client, info))
    }

    /// The checks of [`RpcClient::connect_and_check`], for a client that may talk to a node restarted since.
    pub async fn check_node(&self, network: Network) -> Result<NodeInfo, RpcError> {
        let chain = self.get_blockchain_info().await?;
        let wrong = |found: String| RpcError::WrongNetwork { found, expected: network };
        if Network::from_core_arg(&chain.chain) != Ok(network) {
            return Err(wrong(chain.chain));
        }
        let genesis = self.get_block_hash(0).await?;
        let expected = bitcoin::constants::genesis_block(network).block_hash();
        if genesis != Some(expected) {
            return Err(wrong(format!("a {} with another genesis block", chain.chain)));
        }
        if chain.pruned {
            return Err(RpcError::Pruned { kept_from: chain.pruneheight.unwrap_or(0) });
        }
        let node = self.get_network_info().await?;
        if node.version < limits::MIN_NODE_VERSION {
            return Err(RpcError::TooOld { found: node.version, needed: limits::MIN_NODE_VERSION });
        }
        Ok(node)
    }

    /// Any method, for tools and tests that need one without a function of its own.
    pub async fn call_json(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        self.call(method, params).await
    }

    async fn call<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<T, RpcError> {
        self.call_on(&self.calls, method, params, self.timeout).await
    }

    async fn call_on<T: DeserializeOwned>(
        &self,
        transport: &Transport,
        method: &'static str,
        params: Value,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let request = json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": params});
        let reply = transport.post(method, Bytes::from(request.to_string()), timeout).await?;
        match serde_json::from_slice::<Envelope<T>>(&reply.body) {
            Ok(envelope) => open(method, envelope),
            Err(error) => Err(unreadable(method, &reply, &error)),
        }
    }

    /// One call for each of `params`, in batches of at most [`limits::RPC_MAX_BATCH`]. Results come in order.
    async fn batch<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Vec<Value>,
    ) -> Result<Vec<Result<T, RpcError>>, RpcError> {
        let mut results = Vec::with_capacity(params.len());
        for chunk in params.chunks(limits::RPC_MAX_BATCH) {
            let requests: Vec<Value> = chunk
                .iter()
                .enumerate()
                .map(|(id, params)| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
                .collect();
            let body = Bytes::from(Value::Array(requests).to_string());
            let reply = self.calls.post(method, body, self.timeout).await?;
            let envelopes: Vec<Envelope<T>> =
                serde_json::from_slice(&reply.body).map_err(|error| unreadable(method, &reply, &error))?;
            results.extend(in_order(method, envelopes, chunk.len())?);
        }
        Ok(results)
    }
}

/// Sorts the replies of one batch by id. bitcoind answers in order, but JSON-RPC does not promise it.
fn in_order<T>(
    method: &'static str,
    envelopes: Vec<Envelope<T>>,
    expected: usize,
) -> Result<Vec<Result<T, RpcError>>, RpcError> {
    let malformed = |reason: String| RpcError::Malformed { method, reason };
    if envelopes.len() != expected {
        return Err(malformed(format!("{} replies to a batch of {expected}", envelopes.len())));
    }
    let mut slots: Vec<Option<Result<T, RpcError>>> = (0..expected).map(|_| None).collect();
    for envelope in envelopes {
        let slot = envelope.id.and_then(|id| usize::try_from(id).ok()).and_then(|id| slots.get_mut(id));
        match slot {
            Some(slot @ None) => *slot = Some(open(method, envelope)),
            _ => return Err(malformed("a reply with an unknown or repeated id".into())),
        }
    }
    Ok(slots.into_iter().flatten().collect())
}

fn open<T>(method: &'static str, envelope: Envelope<T>) -> Result<T, RpcError> {
    match (envelope.error, envelope.result) {
        (Some(error), _) if error.code == RPC_IN_WARMUP => Err(RpcError::Warmup { message: error.message }),
        (Some(error), _) => Err(RpcError::Rpc { method, code: error.code, message: error.message }),
        (None, Some(result)) => Ok(result),
        (None, None) => Err(RpcError::Malformed { method, reason: "neither a result nor an error".into() }),
    }
}

/// A reply that is no envelope of the type asked for: an HTTP error page, an error with a `null` result of the
/// wrong type, or nonsense.
fn unreadable(method: &'static str, reply: &Reply, error: &serde_json::Error) -> RpcError {
    if reply.status == StatusCode::SERVICE_UNAVAILABLE {
        return RpcError::Busy { reason: "bitcoind's work queue is full".into() };
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope<Value>>(&reply.body)
        && envelope.error.is_some()
        && let Err(error) = open(method, envelope)
    {
        return error;
    }
    if !reply.status.is_success() {
        return RpcError::Unreachable { reason: format!("HTTP status {}", reply.status) };
    }
    RpcError::Malformed { method, reason: error.to_string() }
}
