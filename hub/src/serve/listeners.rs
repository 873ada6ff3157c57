//! The two listeners: wallets over TLS, the operator on loopback with a token. Health and reflection on both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::token::Token;
use proto::hub::v1::hub_server::HubServer;
use proto::hub::v1::operator_server::OperatorServer;
use settlement::desk::service::DeskHandle;
use settlement::follow::FollowStatus;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tracing::error;

use crate::config::Config;
use crate::data_dir::Layout;
use crate::limits::{
    HTTP2_STREAMS, HTTP2_WINDOW_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, STATUS_INTERVAL,
    UNPROVEN_PATIENCE,
};
use crate::listen::accept;
use crate::operator::{OperatorService, RequireToken};
use crate::recover::Shared;
use crate::stop::{Exit, Failed};
use crate::tls;
use crate::wallets::WalletService;

use super::write_address;

/// The listeners, bound at the start and served when their time comes.
pub struct Listeners {
    wallets: Option<TcpListener>,
    operator: Option<TcpListener>,
    wallets_address: SocketAddr,
    operator_address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    tasks: Vec<JoinHandle<()>>,
}

impl Listeners {
    /// Binds both, and writes where they are.
    pub async fn bind(config: &Config, layout: &Layout) -> Result<Listeners, Failed> {
        let tls =
            tls::server_config(layout, &config.wallets.tls_names).map_err(Failed::with(Exit::CannotStart))?;
        let (wallets, wallets_address) = bind("wallets.listen", config.wallets.listen).await?;
        let (operator, operator_address) = bind("operator.listen", config.operator.listen).await?;
        write_address(&layout.wallets_address(), wallets_address)?;
        write_address(&layout.operator_address(), operator_address)?;
        Ok(Listeners {
            wallets: Some(wallets),
            operator: Some(operator),
            wallets_address,
            operator_address,
            tls,
            tasks: Vec::new(),
        })
    }

    pub fn wallets_address(&self) -> SocketAddr {
        self.wallets_address
    }

    pub fn operator_address(&self) -> SocketAddr {
        self.operator_address
    }

    pub fn serve_operator(
        &mut self,
        service: OperatorService,
        token: Token,
        cancel: CancellationToken,
    ) -> Result<(), Failed> {
        let Some(listener) = self.operator.take() else { return Ok(()) };
        let (reporter, health) = tonic_health::server::health_reporter();
        let service = InterceptedService::new(OperatorServer::new(service), RequireToken(token));
        let reflection = reflection()?;
        self.tasks.push(tokio::spawn(async move {
            set_health::<OperatorServer<OperatorService>>(&reporter, true).await;
            let served = Server::builder()
                .add_service(service)
                .add_service(health)
                .add_service(reflection)
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), cancel.cancelled_owned())
                .await;
            if let Err(error) = served {
                error!(%error, "the operator's listener failed");
            }
        }));
        Ok(())
    }

    pub fn serve_wallets(
        &mut self,
        shared: &Shared,
        config: &Config,
        desk: DeskHandle,
        cancel: CancellationToken,
    ) -> Result<(), Failed> {
        let Some(listener) = self.wallets.take() else { return Ok(()) };
        let (reporter, health) = tonic_health::server::health_reporter();
        let reflection = reflection()?;
        let timeout = Duration::from_millis(config.wallets.handshake_timeout_ms);
        let connections = accept(listener, self.tls.clone(), timeout, UNPROVEN_PATIENCE, cancel.clone());
        let service = HubServer::new(WalletService::new(shared, config))
            .max_decoding_message_size(proto::limits::MAX_GRPC_MESSAGE_BYTES);
        tokio::spawn(report_health(reporter, desk, cancel.clone()));
        self.tasks.push(tokio::spawn(async move {
            let served = Server::builder()
                .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
                .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
                .initial_stream_window_size(HTTP2_WINDOW_BYTES)
                .initial_connection_window_size(HTTP2_WINDOW_BYTES)
                .max_concurrent_streams(HTTP2_STREAMS)
                .add_service(service)
                .add_service(health)
                .add_service(reflection)
                .serve_with_incoming_shutdown(ReceiverStream::new(connections), cancel.cancelled_owned())
                .await;
            if let Err(error) = served {
                error!(%error, "the wallets' listener failed");
            }
        }));
        Ok(())
    }

    /// Waits for open calls to end, after cancelling; those that do not are cut.
    pub async fn drain(&mut self, timeout: Duration) {
        for mut task in std::mem::take(&mut self.tasks) {
            if tokio::time::timeout(timeout, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failed> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    bound.await.map_err(|error| {
        Failed::new(Exit::CannotStart, format!("{key} is {address}, which cannot be bound: {error}"))
    })
}

fn reflection() -> Result<ServerReflectionServer<impl ServerReflection>, Failed> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .build_v1()
        .map_err(Failed::with(Exit::CannotStart))
}

async fn set_health<S: NamedService>(reporter: &HealthReporter, serving: bool) {
    if serving {
        reporter.set_serving::<S>().await;
    } else {
        reporter.set_not_serving::<S>().await;
    }
}

/// Health follows bitcoind: without the chain a hub takes no new channels, and probes should know.
async fn report_health(reporter: HealthReporter, desk: DeskHandle, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(STATUS_INTERVAL);
    let mut was = None;
    loop {
        let serving = match desk.status() {
            FollowStatus::Synced { .. } | FollowStatus::CatchingUp { .. } => true,
            FollowStatus::Starting | FollowStatus::NodeBehind { .. } | FollowStatus::Unavailable { .. } => {
                false
            }
        };
        if was != Some(serving) {
            was = Some(serving);
            set_health::<HubServer<WalletService>>(&reporter, serving).await;
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
    }
}
