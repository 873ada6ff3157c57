//! Openings and closes that are refused, and calls without the token.

use bitcoin::Amount;
use proto::error::ErrorCode;
use proto::hub::v1 as hub_pb;
use proto::wallet::v1 as pb;
use proto::wallet::v1::wallet_client::WalletClient;
use regtest::lab::{Lab, connection, request_id};
use regtest::wait::{Look, until_seen};

use crate::support::{CAPACITY_SAT, SOON, assert_refused, options, pair};

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_beyond_funds_or_policy_is_refused_by_name() {
    let mut lab = Lab::start(options()).await.unwrap();
    let wallet = lab.add_wallet("poor").await.unwrap();
    wallet.is_connected(SOON).await.unwrap();
    let outcome = wallet.open(1_000_000).await;
    assert_refused(outcome, &[ErrorCode::InsufficientFunds]);
    let limits = [
        ErrorCode::BadField,
        ErrorCode::AgainstPolicy,
        ErrorCode::BadAmount,
        ErrorCode::ChannelRefused,
        ErrorCode::InsufficientFunds,
    ];
    assert_refused(wallet.open(0).await, &limits);
    assert_refused(wallet.open(1).await, &limits);
    let limits = [ErrorCode::BadField, ErrorCode::AgainstPolicy, ErrorCode::BadAmount];
    assert_refused(wallet.request_inbound(0).await, &limits);
    assert_refused(wallet.request_inbound(1).await, &limits);
    assert_refused(wallet.request_inbound(100_000_000_000).await, &limits);
    let open = wallet.channels().await.unwrap();
    assert!(open.iter().all(|one| one.phase() == hub_pb::ChannelPhase::Aborted), "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_of_an_unknown_channel_is_refused_and_a_second_close_changes_nothing() {
    let (lab, payer, _payee) = pair().await;
    let unknown = bytes::Bytes::from_static(&[7; 32]);
    assert_refused(payer.close(&unknown).await, &[ErrorCode::NotFound]);
    assert_refused(lab.hub().close(&unknown).await, &[ErrorCode::NotFound]);
    let short = bytes::Bytes::from_static(&[7; 31]);
    assert_refused(payer.close(&short).await, &[ErrorCode::BadField]);
    assert_refused(lab.hub().close(&short).await, &[ErrorCode::BadField]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_the_token_is_served() {
    let mut lab = Lab::start(options()).await.unwrap();
    let wallet = lab.add_wallet("guarded").await.unwrap();
    let address = |file: std::path::PathBuf| std::fs::read_to_string(file).unwrap().trim().parse().unwrap();

    let mut client = WalletClient::new(connection(address(wallet.file("wallet.addr"))));
    let outcome = client.get_info(pb::GetInfoRequest {}).await.map_err(wallet.refused("GetInfo"));
    assert_refused(outcome, &[ErrorCode::BadToken]);

    let channel = connection(address(lab.hub().file("operator.addr")));
    let mut client = hub_pb::operator_client::OperatorClient::new(channel.clone());
    let outcome = client.stop(hub_pb::StopRequest {}).await.map_err(wallet.refused("Stop"));
    assert_refused(outcome, &[ErrorCode::BadToken]);

    let wrong = |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", "Bearer 00".parse().unwrap());
        Ok(request)
    };
    let mut client = hub_pb::operator_client::OperatorClient::with_interceptor(channel, wrong);
    let outcome = client.get_info(hub_pb::OperatorGetInfoRequest {}).await.map_err(wallet.refused("GetInfo"));
    assert_refused(outcome, &[ErrorCode::BadToken]);
    lab.hub().info().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_asked_for_again_at_once_and_later_is_one_opening() {
    let mut lab = Lab::start(options()).await.unwrap();
    let wallet = lab.add_wallet("impatient").await.unwrap();
    lab.fund_wallets(std::slice::from_ref(&wallet), Amount::from_sat(2 * CAPACITY_SAT)).await.unwrap();
    wallet.is_connected(SOON).await.unwrap();
    // More than half of the coins: a second opening could not be paid for.
    let request = pb::OpenChannelRequest {
        amount_sat: CAPACITY_SAT + CAPACITY_SAT / 2,
        request_id: request_id().to_string(),
    };
    let ask = async || {
        let mut client = wallet.client().unwrap();
        client.open_channel(request.clone()).await.map(|answer| answer.into_inner().channel_id).unwrap()
    };
    let (first, second, third) = tokio::join!(ask(), ask(), ask());
    assert!(first == second && second == third);
    let spent = async || {
        let funds = wallet.balance().await?.on_chain.unwrap_or_default();
        Ok(if funds.confirmed_sat < request.amount_sat {
            Look::Seen(())
        } else {
            Look::NotYet(format!("{funds:?}"))
        })
    };
    until_seen("the coins of the opening", SOON, spent).await.unwrap();
    assert_eq!(ask().await, first);
    wallet.kill().unwrap();
    wallet.start_again().await.unwrap();
    assert_eq!(ask().await, first);
    assert_eq!(wallet.channels().await.unwrap().len(), 1);
}
