//! A daemon that answers with samples, unless a test gave it other answers; it remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use daemon::token::Token;
use proto::error::{ErrorCode, status};
use proto::wallet::v1 as pb;
use proto::wallet::v1::wallet_server::{Wallet, WalletServer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::samples;
use crate::data_dir::DataDir;

type Answer<T> = Result<Response<T>, Status>;
type Pieces<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// What the daemon was asked, in words of the requests' `Debug`.
#[derive(Default)]
pub struct Played {
    asked: Mutex<Vec<String>>,
    request_ids: Mutex<Vec<String>>,
    /// Given instead of the next answers.
    refusals: Mutex<VecDeque<Status>>,
    channels: Mutex<Option<Vec<proto::hub::v1::Channel>>>,
    payment: Mutex<Option<pb::Payment>>,
    streams: Mutex<VecDeque<Vec<Result<pb::StreamProgress, Status>>>>,
    events: Mutex<VecDeque<Vec<Result<pb::Event, Status>>>>,
    /// Held until the daemon is asked to stop.
    pub lock: Mutex<Option<DataDir>>,
    /// Calls that should get no answer wait here.
    pub hang: Mutex<bool>,
    pub hanging: Arc<Notify>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Played {
    pub fn refuse(&self, status: Status) {
        held(&self.refusals).push_back(status);
    }

    pub fn channels(&self, channels: Vec<proto::hub::v1::Channel>) {
        *held(&self.channels) = Some(channels);
    }

    pub fn payment(&self, payment: pb::Payment) {
        *held(&self.payment) = Some(payment);
    }

    pub fn stream(&self, pieces: Vec<Result<pb::StreamProgress, Status>>) {
        held(&self.streams).push_back(pieces);
    }

    pub fn events(&self, pieces: Vec<Result<pb::Event, Status>>) {
        held(&self.events).push_back(pieces);
    }

    /// The last request of this call.
    pub fn last(&self, call: &str) -> String {
        let asked = held(&self.asked);
        asked.iter().rev().find(|asked| asked.starts_with(call)).cloned().unwrap_or_default()
    }

    pub fn times_asked(&self, call: &str) -> usize {
        held(&self.asked).iter().filter(|asked| asked.starts_with(call)).count()
    }

    pub fn request_ids(&self) -> Vec<String> {
        held(&self.request_ids).clone()
    }

    async fn ask<T: std::fmt::Debug>(&self, request: &Request<T>, id: &str) -> Result<(), Status> {
        held(&self.asked).push(format!("{:?}", request.get_ref()));
        if !id.is_empty() {
            held(&self.request_ids).push(id.to_owned());
        }
        if *held(&self.hang) {
            self.hanging.notify_one();
            std::future::pending::<()>().await;
        }
        match held(&self.refusals).pop_front() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    fn pay(&self) -> Answer<pb::PayResponse> {
        let payment = held(&self.payment).clone().unwrap_or_else(samples::payment);
        Ok(Response::new(pb::PayResponse { payment: Some(payment) }))
    }
}

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener, token: Token, played: Arc<Played>) {
    let service = WalletServer::with_interceptor(Service(played), move |request: Request<()>| {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        match header.is_some_and(|header| token.opens(header)) {
            true => Ok(request),
            false => Err(status(ErrorCode::BadToken, "the token is wrong")),
        }
    });
    let server = tonic::transport::Server::builder().add_service(service);
    server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
}

struct Service(Arc<Played>);

#[tonic::async_trait]
impl Wallet for Service {
    type StartStreamStream = Pieces<pb::StreamProgress>;
    type SubscribeStreamsStream = Pieces<pb::StreamProgress>;
    type SubscribeEventsStream = Pieces<pb::Event>;

    async fn get_info(&self, request: Request<pb::GetInfoRequest>) -> Answer<pb::GetInfoResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(samples::info()))
    }

    async fn new_address(&self, request: Request<pb::NewAddressRequest>) -> Answer<pb::NewAddressResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(pb::NewAddressResponse { address: "bcrt1qsample".into() }))
    }

    async fn open_channel(
        &self,
        request: Request<pb::OpenChannelRequest>,
    ) -> Answer<pb::OpenChannelResponse> {
        self.0.ask(&request, &request.get_ref().request_id).await?;
        Ok(Response::new(pb::OpenChannelResponse { channel_id: samples::channel().channel_id }))
    }

    async fn request_inbound(
        &self,
        request: Request<pb::RequestInboundRequest>,
    ) -> Answer<pb::RequestInboundResponse> {
        self.0.ask(&request, &request.get_ref().request_id).await?;
        let max_fee_sat = request.get_ref().max_fee_sat.unwrap_or(1_070);
        let channel_id = samples::channel().channel_id;
        Ok(Response::new(pb::RequestInboundResponse { channel_id, max_fee_sat }))
    }

    async fn create_invoice(
        &self,
        request: Request<pb::CreateInvoiceRequest>,
    ) -> Answer<pb::CreateInvoiceResponse> {
        self.0.ask(&request, &request.get_ref().request_id).await?;
        Ok(Response::new(samples::invoice()))
    }

    async fn settle_invoice(
        &self,
        request: Request<pb::SettleInvoiceRequest>,
    ) -> Answer<pb::SettleInvoiceResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(pb::SettleInvoiceResponse {}))
    }

    async fn cancel_invoice(
        &self,
        request: Request<pb::CancelInvoiceRequest>,
    ) -> Answer<pb::CancelInvoiceResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(pb::CancelInvoiceResponse {}))
    }

    async fn list_held(&self, request: Request<pb::ListHeldRequest>) -> Answer<pb::ListHeldResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(samples::held()))
    }

    async fn decode_invoice(
        &self,
        request: Request<pb::DecodeInvoiceRequest>,
    ) -> Answer<pb::DecodeInvoiceResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(samples::decoded()))
    }

    async fn pay(&self, request: Request<pb::PayRequest>) -> Answer<pb::PayResponse> {
        self.0.ask(&request, &request.get_ref().request_id).await?;
        self.0.pay()
    }

    async fn send(&self, request: Request<pb::SendRequest>) -> Answer<pb::PayResponse> {
        self.0.ask(&request, &request.get_ref().request_id).await?;
        self.0.pay()
    }

    async fn start_stream(
        &self,
        request: Request<pb::StartStreamRequest>,
    ) -> Answer<Self::StartStreamStream> {
        self.0.ask(&request, &request.get_ref().request_id).await?;
        let pieces = held(&self.0.streams).pop_front().unwrap_or_else(|| vec![Ok(samples::stream())]);
        Ok(Response::new(tokio_stream::iter(pieces)))
    }

    async fn list_streams(
        &self,
        request: Request<pb::ListStreamsRequest>,
    ) -> Answer<pb::ListStreamsResponse> {
        self.0.ask(&request, "").await?;
        let answer =
            pb::ListStreamsResponse { streams: vec![samples::stream()], next_page_token: String::new() };
        Ok(Response::new(answer))
    }

    async fn subscribe_streams(
        &self,
        _: Request<pb::SubscribeStreamsRequest>,
    ) -> Answer<Self::SubscribeStreamsStream> {
        Err(Status::unimplemented("no command uses it"))
    }

    async fn list_channels(
        &self,
        request: Request<pb::ListChannelsRequest>,
    ) -> Answer<pb::ListChannelsResponse> {
        self.0.ask(&request, "").await?;
        let channels = held(&self.0.channels).clone().unwrap_or_else(|| vec![samples::channel()]);
        Ok(Response::new(pb::ListChannelsResponse { channels }))
    }

    async fn bump(
        &self,
        request: Request<proto::hub::v1::BumpRequest>,
    ) -> Answer<proto::hub::v1::BumpResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(samples::bumped()))
    }

    async fn release_held(
        &self,
        request: Request<proto::hub::v1::ReleaseHeldRequest>,
    ) -> Answer<proto::hub::v1::ReleaseHeldResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(proto::hub::v1::ReleaseHeldResponse { channel_ids: vec![samples::id(0x5f)] }))
    }

    async fn scan_chain(&self, request: Request<pb::ScanChainRequest>) -> Answer<pb::ScanChainResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(samples::scan()))
    }

    async fn resume_publishing(
        &self,
        request: Request<proto::hub::v1::ResumePublishingRequest>,
    ) -> Answer<proto::hub::v1::ResumePublishingResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(proto::hub::v1::ResumePublishingResponse { was_suspended: true }))
    }

    async fn get_balance(&self, request: Request<pb::GetBalanceRequest>) -> Answer<pb::GetBalanceResponse> {
        self.0.ask(&request, "").await?;
        Ok(Response::new(samples::balance()))
    }

    /// Three payments in pages of what is asked for, the page token being the number of rows before.
    async fn list_payments(
        &self,
        request: Request<pb::ListPaymentsRequest>,
    ) -> Answer<pb::ListPaymentsResponse> {
        self.0.ask(&request, "").await?;
        let all = samples::payments();
        let before: usize = request.get_ref().page_token.parse().unwrap_or(0);
        let rows = usize::try_from(request.get_ref().page_size.min(2)).unwrap();
        let payments: Vec<_> = all.iter().skip(before).take(rows).cloned().collect();
        let seen = before + payments.len();
        let next_page_token = if seen < all.len() { seen.to_string() } else { String::new() };
        Ok(Response::new(pb::ListPaymentsResponse { payments, next_page_token }))
    }

    async fn close_channel(
        &self,
        request: Request<pb::CloseChannelRequest>,
    ) -> Answer<pb::CloseChannelResponse> {
        self.0.ask(&request, &request.get_ref().request_id).await?;
        let channel = samples::closing(request.into_inner().channel_id);
        Ok(Response::new(pb::CloseChannelResponse { channel: Some(channel) }))
    }

    async fn subscribe_events(
        &self,
        request: Request<pb::SubscribeEventsRequest>,
    ) -> Answer<Self::SubscribeEventsStream> {
        self.0.ask(&request, "").await?;
        let pieces = held(&self.0.events).pop_front().unwrap_or_default();
        Ok(Response::new(tokio_stream::iter(pieces)))
    }

    async fn stop(&self, request: Request<pb::StopRequest>) -> Answer<pb::StopResponse> {
        self.0.ask(&request, "").await?;
        drop(held(&self.0.lock).take());
        Ok(Response::new(pb::StopResponse {}))
    }
}
