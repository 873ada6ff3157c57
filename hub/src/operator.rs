//! The operator's service: one thin file a call. Every answer rests on what is durable.

mod ask;
mod auth;
mod bump;
mod close_channel;
mod event_out;
mod get_balances;
mod get_info;
mod list_channels;
mod list_forwards;
mod list_peers;
mod new_address;
mod onchain_out;
mod page;
mod release_held;
mod resume_publishing;
mod stop;
mod subscribe_events;

use std::sync::Arc;

use proto::hub::v1 as pb;
use proto::hub::v1::operator_server::Operator;
use settlement::desk::service::DeskHandle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::earnings::Earnings;
use crate::recover::Shared;

pub use auth::RequireToken;

/// What the calls need of the hub.
pub struct OperatorHub {
    pub shared: Shared,
    pub config: Config,
    pub desk: DeskHandle,
    pub earnings: Arc<Earnings>,
    /// Where wallets connect, as bound.
    pub listen: String,
    /// Asks the main loop to stop.
    pub stop: mpsc::Sender<()>,
    /// Cancelled once the hub stops: subscriptions end then.
    pub stopping: CancellationToken,
}

/// The gRPC service.
#[derive(Clone)]
pub struct OperatorService(pub Arc<OperatorHub>);

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn get_info(
        &self,
        _: Request<pb::OperatorGetInfoRequest>,
    ) -> Result<Response<pb::OperatorGetInfoResponse>, Status> {
        get_info::handle(&self.0).await.map(Response::new)
    }

    async fn get_balances(
        &self,
        _: Request<pb::GetBalancesRequest>,
    ) -> Result<Response<pb::GetBalancesResponse>, Status> {
        get_balances::handle(&self.0).await.map(Response::new)
    }

    async fn new_address(
        &self,
        _: Request<pb::NewAddressRequest>,
    ) -> Result<Response<pb::NewAddressResponse>, Status> {
        new_address::handle(&self.0).await.map(Response::new)
    }

    async fn list_peers(
        &self,
        request: Request<pb::ListPeersRequest>,
    ) -> Result<Response<pb::ListPeersResponse>, Status> {
        list_peers::handle(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn list_channels(
        &self,
        request: Request<pb::ListChannelsRequest>,
    ) -> Result<Response<pb::ListChannelsResponse>, Status> {
        list_channels::handle(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn close_channel(
        &self,
        request: Request<pb::CloseChannelRequest>,
    ) -> Result<Response<pb::CloseChannelResponse>, Status> {
        close_channel::handle(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn bump(&self, request: Request<pb::BumpRequest>) -> Result<Response<pb::BumpResponse>, Status> {
        bump::handle(&self.0, &request.into_inner()).await.map(Response::new)
    }

    async fn release_held(
        &self,
        _: Request<pb::ReleaseHeldRequest>,
    ) -> Result<Response<pb::ReleaseHeldResponse>, Status> {
        release_held::handle(&self.0).await.map(Response::new)
    }

    async fn resume_publishing(
        &self,
        _: Request<pb::ResumePublishingRequest>,
    ) -> Result<Response<pb::ResumePublishingResponse>, Status> {
        resume_publishing::handle(&self.0).await.map(Response::new)
    }

    async fn list_forwards(
        &self,
        request: Request<pb::ListForwardsRequest>,
    ) -> Result<Response<pb::ListForwardsResponse>, Status> {
        list_forwards::handle(&self.0, request.into_inner()).await.map(Response::new)
    }

    type SubscribeEventsStream = ReceiverStream<Result<pb::Event, Status>>;

    async fn subscribe_events(
        &self,
        request: Request<pb::SubscribeEventsRequest>,
    ) -> Result<Response<Self::SubscribeEventsStream>, Status> {
        let shared = &self.0.shared;
        let from = request.into_inner().from_index;
        let (reader, next_event) = (shared.reader.clone(), shared.next_event.clone());
        let stopping = self.0.stopping.clone();
        subscribe_events::handle(reader, next_event, stopping, from).map(Response::new)
    }

    async fn stop(&self, _: Request<pb::StopRequest>) -> Result<Response<pb::StopResponse>, Status> {
        stop::handle(&self.0).await.map(Response::new)
    }
}
