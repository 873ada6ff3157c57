//! `wallet.v1`, for scripts in any language, on loopback behind a token. A call is thin: parse, ask the core, wrap.

mod calls;
mod channels;
mod convert;
mod events;
mod onchain;
mod streams;

use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use channel::keys::Point;
use daemon::rising::Rising;
use daemon::token::Token;
use daemon::world::World;
use journal::{Position, Reader, Room};
use prost::Message;
use proto::error::{ErrorCode, ErrorDetail, from_detail, status, status_with_advice};
use proto::hub::v1 as hub;
use proto::request_id::RequestId;
use proto::wallet::v1 as pb;
use proto::wallet::v1::wallet_server::{Wallet, WalletServer};
use settlement::desk::service::DeskHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::config::Checked;
use crate::connection;
use crate::core::assemble::Handles;
use crate::core::{CoreHandle, Stopped};
use crate::ledger::LedgerRefusal;
use crate::ledger::requests::Asked;
use crate::ledger::state::Made;

/// Longest a call waits for a payment's end: longer than any HTLC should take, shorter than for ever.
const PAY_PATIENCE: Duration = Duration::from_secs(120);
/// Longest a call waits for the hub's answer.
const HUB_PATIENCE: Duration = Duration::from_secs(20);

/// What calls need.
#[derive(Clone)]
pub struct Service {
    core: CoreHandle,
    desk: DeskHandle,
    reader: Reader,
    durable: Rising<Position>,
    next_event: Rising<u64>,
    connection: watch::Receiver<connection::Status>,
    node: Point,
    hub: Point,
    hub_address: String,
    network: String,
    stop: watch::Sender<bool>,
    /// The journal must have room for new work.
    room: Room,
    world: World,
}

impl Service {
    /// For a wallet that was assembled. `stop` is told when somebody asks the wallet to stop.
    pub fn new(
        handles: Handles,
        checked: &Checked,
        connection: watch::Receiver<connection::Status>,
        stop: watch::Sender<bool>,
        room: Room,
    ) -> Self {
        let Handles { core, desk, reader, durable, next_event, signer, world } = handles;
        Service {
            core,
            desk,
            reader,
            durable,
            next_event,
            connection,
            node: signer.node_id(),
            hub: checked.hub,
            hub_address: checked.config.hub.address.clone(),
            network: checked.config.network.clone(),
            stop,
            room,
            world,
        }
    }

    /// New work is refused while there is still room for what is under way. A repeat of a request is no new work: who asks
    /// again must not be told that nothing was done.
    async fn check_room(&self, asked: Option<Asked>) -> Result<(), Status> {
        let Err(error) = self.room.check() else { return Ok(()) };
        if self.made_before(asked).await?.is_some() {
            return Ok(());
        }
        Err(status_with_advice(
            ErrorCode::DiskNearlyFull,
            error.to_string(),
            "free some space; what is under way goes on",
        ))
    }

    /// What the same request made before.
    async fn made_before(&self, asked: Option<Asked>) -> Result<Option<Made>, Status> {
        if asked.is_none() {
            return Ok(None);
        }
        let made = self.core.ask(move |core| core.with_ledger(|ledger, _| ledger.repeated(asked.as_ref())));
        made.await.map_err(stopping)?.map_err(refused)
    }

    /// The request's id, if it has one, with the hash of what it asks. Another call or body gives another hash.
    fn asked(&self, call: &str, text: &str, body: &impl Message) -> Result<Option<Asked>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let id = RequestId::parse(text).map_err(|error| from_detail(ErrorDetail::from(error)))?;
        id.check_age(self.world.now_ms()).map_err(|error| from_detail(ErrorDetail::from(error)))?;
        let mut bytes = call.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend_from_slice(&body.encode_to_vec());
        Ok(Some(Asked { id, body: sha256::Hash::hash(&bytes).to_byte_array() }))
    }
}

/// Serves until told to stop.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    token: Token,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<WalletServer<Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .build_v1();
    let guarded = WalletServer::with_interceptor(service, move |request: Request<()>| {
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if token.opens(given.unwrap_or_default()) {
            return Ok(request);
        }
        Err(status_with_advice(
            ErrorCode::BadToken,
            "the token is absent or wrong",
            "send `authorization: Bearer <contents of wallet.token in the wallet's data folder>`",
        ))
    });
    let mut router = tonic::transport::Server::builder().add_service(health_service).add_service(guarded);
    match reflection {
        Ok(reflection) => router = router.add_service(reflection),
        Err(error) => tracing::warn!(%error, "no reflection"),
    }
    router
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        })
        .await
}

/// What a call of this process may end in, besides a named refusal.
fn stopping(_: Stopped) -> Status {
    status(ErrorCode::Stopping, "the wallet is stopping")
}

fn refused(refusal: LedgerRefusal) -> Status {
    from_detail(refusal.into())
}

fn wrong_field(error: proto::WireError) -> Status {
    error.into()
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Wallet for Service {
    async fn get_info(&self, _: Request<pb::GetInfoRequest>) -> Answer<pb::GetInfoResponse> {
        self.info().await.map(Response::new)
    }

    async fn new_address(&self, _: Request<pb::NewAddressRequest>) -> Answer<pb::NewAddressResponse> {
        let address = self.desk.new_address().await.map_err(|_| stopping(Stopped))?;
        Ok(Response::new(pb::NewAddressResponse { address: address.to_string() }))
    }

    async fn open_channel(
        &self,
        request: Request<pb::OpenChannelRequest>,
    ) -> Answer<pb::OpenChannelResponse> {
        self.open(request.into_inner()).await.map(Response::new)
    }

    async fn request_inbound(
        &self,
        request: Request<pb::RequestInboundRequest>,
    ) -> Answer<pb::RequestInboundResponse> {
        self.inbound(request.into_inner()).await.map(Response::new)
    }

    async fn create_invoice(
        &self,
        request: Request<pb::CreateInvoiceRequest>,
    ) -> Answer<pb::CreateInvoiceResponse> {
        self.make_invoice(request.into_inner()).await.map(Response::new)
    }

    async fn settle_invoice(
        &self,
        request: Request<pb::SettleInvoiceRequest>,
    ) -> Answer<pb::SettleInvoiceResponse> {
        self.take_held(request.into_inner()).await.map(Response::new)
    }

    async fn cancel_invoice(
        &self,
        request: Request<pb::CancelInvoiceRequest>,
    ) -> Answer<pb::CancelInvoiceResponse> {
        self.refuse_held(request.into_inner()).await.map(Response::new)
    }

    async fn list_held(&self, _: Request<pb::ListHeldRequest>) -> Answer<pb::ListHeldResponse> {
        self.held().await.map(Response::new)
    }

    async fn decode_invoice(
        &self,
        request: Request<pb::DecodeInvoiceRequest>,
    ) -> Answer<pb::DecodeInvoiceResponse> {
        self.explain_invoice(request.into_inner()).await.map(Response::new)
    }

    async fn pay(&self, request: Request<pb::PayRequest>) -> Answer<pb::PayResponse> {
        self.pay_invoice(request.into_inner()).await.map(Response::new)
    }

    async fn send(&self, request: Request<pb::SendRequest>) -> Answer<pb::PayResponse> {
        self.send_payment(request.into_inner()).await.map(Response::new)
    }

    type StartStreamStream = streams::Progress;

    async fn start_stream(
        &self,
        request: Request<pb::StartStreamRequest>,
    ) -> Answer<Self::StartStreamStream> {
        self.begin_stream(request.into_inner()).await.map(Response::new)
    }

    async fn list_streams(
        &self,
        request: Request<pb::ListStreamsRequest>,
    ) -> Answer<pb::ListStreamsResponse> {
        self.all_streams(request.into_inner()).await.map(Response::new)
    }

    type SubscribeStreamsStream = streams::Progress;

    async fn subscribe_streams(
        &self,
        request: Request<pb::SubscribeStreamsRequest>,
    ) -> Answer<Self::SubscribeStreamsStream> {
        self.watch_streams(request.into_inner()).map(Response::new)
    }

    async fn list_channels(
        &self,
        request: Request<pb::ListChannelsRequest>,
    ) -> Answer<pb::ListChannelsResponse> {
        self.all_channels(request.into_inner()).await.map(Response::new)
    }

    async fn get_balance(&self, _: Request<pb::GetBalanceRequest>) -> Answer<pb::GetBalanceResponse> {
        self.balance().await.map(Response::new)
    }

    async fn list_payments(
        &self,
        request: Request<pb::ListPaymentsRequest>,
    ) -> Answer<pb::ListPaymentsResponse> {
        self.payments(request.into_inner()).await.map(Response::new)
    }

    async fn bump(&self, request: Request<hub::BumpRequest>) -> Result<Response<hub::BumpResponse>, Status> {
        Service::bump(self, &request.into_inner()).await.map(Response::new)
    }

    async fn release_held(
        &self,
        _: Request<hub::ReleaseHeldRequest>,
    ) -> Result<Response<hub::ReleaseHeldResponse>, Status> {
        Service::release_held(self).await.map(Response::new)
    }

    async fn scan_chain(&self, _: Request<pb::ScanChainRequest>) -> Answer<pb::ScanChainResponse> {
        self.scan().await.map(Response::new)
    }

    async fn resume_publishing(
        &self,
        _: Request<hub::ResumePublishingRequest>,
    ) -> Result<Response<hub::ResumePublishingResponse>, Status> {
        Service::resume_publishing(self).await.map(Response::new)
    }

    async fn close_channel(
        &self,
        request: Request<pb::CloseChannelRequest>,
    ) -> Answer<pb::CloseChannelResponse> {
        self.close(request.into_inner()).await.map(Response::new)
    }

    type SubscribeEventsStream = events::Events;

    async fn subscribe_events(
        &self,
        request: Request<pb::SubscribeEventsRequest>,
    ) -> Answer<Self::SubscribeEventsStream> {
        self.events(request.into_inner()).map(Response::new)
    }

    async fn stop(&self, _: Request<pb::StopRequest>) -> Answer<pb::StopResponse> {
        self.stop.send_replace(true);
        Ok(Response::new(pb::StopResponse {}))
    }
}
