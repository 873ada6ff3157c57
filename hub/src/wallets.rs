//! The wallet-facing service: `Connect` and `GetInfo`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use channel::signer::Signer;
use proto::error::{ErrorCode, status};
use proto::hub::v1::hub_server::Hub;
use proto::hub::v1::{Frame, GetInfoRequest, GetInfoResponse, HubPolicy, Welcome};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::limits::SESSION_FRAMES_READY;
use crate::listen::ConnectionFacts;
use crate::recover::Shared;
use crate::session::{HandshakeSetup, InboxSetup, Serving, serve};

/// The service.
#[derive(Clone)]
pub struct WalletService {
    serving: Arc<Serving>,
    facts: Arc<Facts>,
}

/// What the hub tells about itself.
struct Facts {
    shared: Shared,
    config: Config,
}

impl WalletService {
    pub fn new(shared: &Shared, config: &Config) -> Self {
        let facts = Arc::new(Facts { shared: shared.clone(), config: config.clone() });
        let welcoming = facts.clone();
        let serving = Serving {
            handshake: HandshakeSetup {
                signer: shared.signer.clone(),
                timeout: Duration::from_millis(config.wallets.handshake_timeout_ms),
                world: shared.world.clone(),
            },
            inbox: InboxSetup {
                mailboxes: shared.mailboxes.clone(),
                directory: shared.directory.clone(),
                sessions: shared.sessions.clone(),
                gate: shared.gate.clone(),
                max_channels_per_wallet: config.wallets.max_channels_per_wallet,
                world: shared.world.clone(),
            },
            messages_per_second: config.wallets.messages_per_second,
            welcome: Box::new(move || welcoming.welcome()),
        };
        WalletService { serving: Arc::new(serving), facts }
    }

    /// What serving a connection needs, over whatever transport it comes.
    pub fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }
}

impl Facts {
    fn welcome(&self) -> Welcome {
        Welcome {
            policy: Some(self.policy()),
            height: self.shared.tip.height(),
            network: self.config.network.to_string(),
            time_ms: self.shared.world.now_ms(),
        }
    }

    fn policy(&self) -> HubPolicy {
        policy_out(&self.shared, &self.config)
    }
}

/// What the hub charges and allows, as wallets and the operator are told.
pub fn policy_out(shared: &Shared, config: &Config) -> HubPolicy {
    let policy = shared.policy.read().unwrap_or_else(PoisonError::into_inner);
    HubPolicy {
        fee_base_msat: policy.fee_base_msat,
        fee_ppm: policy.fee_ppm,
        cltv_expiry_delta: policy.cltv_expiry_delta.into(),
        max_cltv_expiry_delta: policy.max_cltv_expiry_delta,
        htlc_minimum_msat: policy.htlc_minimum_msat.to_u64(),
        min_capacity_sat: policy.min_capacity_sat,
        max_capacity_sat: policy.max_capacity_sat,
        max_inbound_sat: config.inbound.max_sat_per_wallet.min(config.inbound.max_channel_sat),
        minimum_depth: policy.minimum_depth,
        to_self_delay_blocks: policy.to_self_delay_blocks.into(),
        max_streams: u32::try_from(config.streams.max_per_wallet).unwrap_or(u32::MAX),
        inbound_fee_base_sat: config.inbound.fee_base_sat,
        inbound_fee_ppm: config.inbound.fee_ppm,
        inbound_reserve_sat: config.inbound.reserve_sat,
    }
}

#[tonic::async_trait]
impl Hub for WalletService {
    type ConnectStream = ReceiverStream<Result<Frame, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        // The server puts it there for every connection of this listener.
        let Some(facts) = request.extensions().get::<ConnectionFacts>().cloned() else {
            return Err(status(
                ErrorCode::HandshakeFailed,
                "this listener does not bind the handshake to TLS",
            ));
        };
        let (frames, outgoing) = mpsc::channel(SESSION_FRAMES_READY);
        let incoming = request.into_inner();
        let ConnectionFacts { address, exporter, proven } = facts;
        let mark_proven = move || proven.store(true, Ordering::Release);
        tokio::spawn(serve(self.serving.clone(), exporter, Some(address), incoming, frames, mark_proven));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let shared = &self.facts.shared;
        Ok(Response::new(GetInfoResponse {
            node_key: shared.signer.node_id().as_bytes().to_vec().into(),
            network: self.facts.config.network.to_string(),
            height: shared.tip.height(),
            policy: Some(self.facts.policy()),
        }))
    }
}
