//! What probes and generic clients ask: health, and which services there are.

use std::net::SocketAddr;

use regtest::lab::Lab;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::foreigner::channel_over_tls;
use crate::support::options;

async fn plain(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.expect("the listener takes connections")
}

/// The service is healthy, and the listener describes it.
async fn is_healthy_and_described(channel: Channel, service: &str) {
    let request = HealthCheckRequest { service: service.to_owned() };
    let health = HealthClient::new(channel.clone()).check(request).await.expect("health answers");
    assert_eq!(health.into_inner().status(), ServingStatus::Serving, "{service}");

    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::iter([list]))
        .await
        .expect("reflection answers");
    let answer = answers.into_inner().next().await.expect("an answer").expect("no error");
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<String> = services.service.into_iter().map(|service| service.name).collect();
    assert!(names.iter().any(|name| name == service), "{service} is among {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listener_tells_its_health_and_describes_itself() {
    let mut lab = Lab::start(options()).await.unwrap();
    let wallets = lab.add_wallets(["wallet".to_owned()]).await.unwrap();
    let (hub, wallet) = (lab.hub(), &wallets[0]);
    let file = |path: std::path::PathBuf| -> SocketAddr {
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    };
    let wallets_facing = file(hub.file("wallets.addr"));
    is_healthy_and_described(channel_over_tls(wallets_facing).await, "hub.v1.Hub").await;
    let operator = file(hub.file("operator.addr"));
    is_healthy_and_described(plain(operator).await, "hub.v1.Operator").await;
    let daemon = file(wallet.file("wallet.addr"));
    is_healthy_and_described(plain(daemon).await, "wallet.v1.Wallet").await;
}
