//! Answers with a value in every field.

use bytes::Bytes;
use proto::hub::v1 as hub;
use proto::wallet::v1 as pb;

pub fn id(byte: u8) -> Bytes {
    vec![byte; 32].into()
}

pub fn key(byte: u8) -> Bytes {
    let mut key = vec![byte; 33];
    key[0] = 2;
    key.into()
}

pub fn info() -> pb::GetInfoResponse {
    pb::GetInfoResponse {
        node_key: key(1),
        network: "regtest".into(),
        height: 1_234,
        block_hash: [vec![9], vec![0; 31]].concat().into(),
        hub_node_key: key(2),
        hub_address: "127.0.0.1:9735".into(),
        hub_connected: false,
        hub_policy: Some(hub::HubPolicy {
            fee_base_msat: 1_000,
            fee_ppm: 100,
            max_capacity_sat: 16_777_215,
            max_inbound_sat: 5_000_000,
            inbound_fee_base_sat: 1_000,
            inbound_fee_ppm: 500,
            inbound_reserve_sat: 10_000,
            ..hub::HubPolicy::default()
        }),
        version: "0.1.0".into(),
        channels: 2,
        newest_event: 30,
        chain_ok: true,
        trouble: "the hub does not answer".into(),
        online_again_by_height: 3_250,
    }
}

/// Funded by the hub, and not paid for yet.
pub fn priced(id: Bytes) -> hub::Channel {
    hub::Channel {
        channel_id: id,
        funded_locally: false,
        price_msat: 11_100_000,
        price_unpaid_msat: 9_100_500,
        ..channel()
    }
}

pub fn channel() -> hub::Channel {
    hub::Channel {
        channel_id: id(0x5f),
        node_key: key(2),
        phase: hub::ChannelPhase::Open.into(),
        online: true,
        usable: true,
        capacity_sat: 1_000_000,
        local_msat: 600_000_500,
        remote_msat: 399_999_500,
        in_flight_msat: 0,
        htlcs: 0,
        spendable_msat: 590_000_500,
        receivable_msat: 389_999_500,
        dust_exposure_msat: 0,
        funding: Some(hub::OutPoint { txid: [vec![7], vec![0; 31]].concat().into(), index: 1 }),
        funded_locally: true,
        confirmations: 6,
        minimum_depth: 3,
        local_to_self_delay_blocks: 144,
        remote_to_self_delay_blocks: 2_016,
        local_commitment_number: 8,
        remote_commitment_number: 9,
        closing_txid: Bytes::new(),
        closing_height: 0,
        failure: String::new(),
        format: "zero_fee_commitments".into(),
        paid_sat: 0,
        price_msat: 0,
        price_unpaid_msat: 0,
        online_again_by_height: 3_250,
        onchain: None,
    }
}

/// A channel whose commitment is in the chain, one output waiting.
pub fn failed(id: Bytes) -> hub::Channel {
    let outpoint = hub::OutPoint { txid: [vec![8], vec![0; 31]].concat().into(), index: 0 };
    let mut output = hub::OnchainOutput {
        outpoint: Some(outpoint),
        value_sat: 600_000,
        kind: "to_local".into(),
        height: 1_400,
        ..hub::OnchainOutput::default()
    };
    output.set_stage(hub::OnchainStage::Waits);
    let mut onchain = hub::OnchainClose {
        commitment_txid: [vec![8], vec![0; 31]].concat().into(),
        height: 1_256,
        outputs: vec![output],
        ..hub::OnchainClose::default()
    };
    onchain.set_whose(hub::CommitmentOf::Ours);
    hub::Channel {
        channel_id: id,
        phase: hub::ChannelPhase::Failed.into(),
        online: false,
        usable: false,
        failure: "the operator closed it".into(),
        onchain: Some(onchain),
        ..channel()
    }
}

pub fn awaiting(id: Bytes) -> hub::Channel {
    hub::Channel {
        channel_id: id,
        phase: hub::ChannelPhase::AwaitingConfirmation.into(),
        online: false,
        usable: false,
        confirmations: 1,
        ..channel()
    }
}

pub fn closing(id: Bytes) -> hub::Channel {
    hub::Channel { channel_id: id, phase: hub::ChannelPhase::ShuttingDown.into(), usable: false, ..channel() }
}

pub fn closed(id: Bytes) -> hub::Channel {
    hub::Channel {
        channel_id: id,
        phase: hub::ChannelPhase::Closed.into(),
        online: false,
        usable: false,
        closing_txid: [vec![3], vec![0; 31]].concat().into(),
        closing_height: 1_200,
        ..channel()
    }
}

pub fn balance() -> pb::GetBalanceResponse {
    pb::GetBalanceResponse {
        on_chain: Some(hub::OnChainBalance { confirmed_sat: 50_000, unconfirmed_sat: 7, locked_sat: 0 }),
        channels_msat: 600_000_500,
        in_flight_msat: 0,
        spendable_msat: 590_000_500,
        receivable_msat: 389_999_500,
        dust_exposure_msat: 0,
        reserve: Some(hub::FeeReserve {
            needed_coins: 1,
            confirmed_coins: 2,
            needed_sat: 10_000,
            available_sat: 50_000,
            short: false,
        }),
        publishing_suspended: false,
        held: 0,
    }
}

pub fn bumped() -> hub::BumpResponse {
    hub::BumpResponse {
        txid: [vec![8], vec![0; 31]].concat().into(),
        child_txid: [vec![9], vec![0; 31]].concat().into(),
        fee_sat: 14_000,
    }
}

pub fn invoice() -> pb::CreateInvoiceResponse {
    pb::CreateInvoiceResponse {
        invoice: "lnbcrt1sample".into(),
        payment_hash: id(4),
        expires_at_ms: 1_700_003_600_000,
    }
}

pub fn held() -> pb::ListHeldResponse {
    let held = pb::HeldPayment {
        payment_hash: id(4),
        amount_msat: 100_000,
        description: "tea".into(),
        decide_by_height: 250,
    };
    pb::ListHeldResponse { held: vec![held] }
}

pub fn decoded() -> pb::DecodeInvoiceResponse {
    pb::DecodeInvoiceResponse {
        payee: key(3),
        network: "regtest".into(),
        amount_msat: Some(100_000),
        payment_hash: id(4),
        description: "two coffees".into(),
        description_hash: Bytes::new(),
        created_at_ms: 1_700_000_000_000,
        expires_at_ms: 1_700_003_600_000,
        min_final_cltv_expiry_delta: 18,
        expired: true,
        via_our_hub: true,
        ours: false,
    }
}

pub fn payment() -> pb::Payment {
    pb::Payment {
        number: 12,
        direction: pb::PaymentDirection::Sent.into(),
        state: pb::PaymentState::Settled.into(),
        payment_hash: id(4),
        amount_msat: 100_000,
        fee_msat: 1_010,
        preimage: id(5),
        failure: hub::FailureReason::Unspecified.into(),
        attempts: 1,
        created_at_ms: 1_700_000_000_000,
        ended_at_ms: 1_700_000_001_000,
        payee: key(3),
        description: "two coffees".into(),
        spontaneous: false,
        on_chain: false,
        expiry_height: 0,
    }
}

pub fn failed_payment() -> pb::Payment {
    pb::Payment {
        number: 13,
        state: pb::PaymentState::Failed.into(),
        preimage: Bytes::new(),
        failure: hub::FailureReason::NoLiquidity.into(),
        ..payment()
    }
}

/// Newest first: received, failed, settled.
pub fn payments() -> Vec<pb::Payment> {
    let received = pb::Payment {
        number: 1,
        direction: pb::PaymentDirection::Received.into(),
        fee_msat: 0,
        amount_msat: 5_000_001,
        description: String::new(),
        ..payment()
    };
    vec![received, failed_payment(), payment()]
}

/// A stream that ended well.
pub fn stream() -> pb::StreamProgress {
    pb::StreamProgress {
        stream_id: vec![6; 16].into(),
        direction: pb::PaymentDirection::Sent.into(),
        state: pb::StreamState::Ended.into(),
        peer: key(3),
        amount_msat: 100,
        ticks: 1_000,
        ticks_per_second: 50,
        max_in_flight: 500,
        settled: 1_000,
        in_flight: 0,
        failed: 2,
        settled_msat: 100_000,
        receipt: Some(hub::StreamReceipt {
            highest_tick: 1_001,
            total_msat: 100_000,
            signature: vec![8; 64].into(),
        }),
        text: String::new(),
        started_at_ms: 1_700_000_000_000,
        ended_at_ms: 1_700_000_020_500,
        last_failure: hub::FailureReason::ChannelUnavailable.into(),
        times: None,
    }
}

pub fn running(settled: u64) -> pb::StreamProgress {
    pb::StreamProgress {
        state: pb::StreamState::Running.into(),
        settled,
        settled_msat: settled * 100,
        receipt: None,
        ended_at_ms: 0,
        ..stream()
    }
}

pub fn event(index: u64) -> pb::Event {
    let kind = match index % 3 {
        0 => pb::event::Kind::Payment(payment()),
        1 => pb::event::Kind::Stream(stream()),
        _ => pb::event::Kind::Channel(hub::ChannelEvent {
            channel_id: id(0x5f),
            node_key: key(2),
            kind: Some(hub::channel_event::Kind::Closed(hub::channel_event::Closed {
                txid: [vec![3], vec![0; 31]].concat().into(),
                height: 1_200,
                paid_sat: 599_000,
            })),
        }),
    };
    pb::Event { index, time_ms: 1_700_000_000_000, kind: Some(kind) }
}

pub fn scan() -> pb::ScanChainResponse {
    let outpoint = Some(hub::OutPoint { txid: [vec![7], vec![0; 31]].concat().into(), index: 1 });
    let mine =
        pb::FoundOutput { outpoint, value_sat: 9_000, height: 50, earliest_height: 51, of_channel: false };
    let channels = pb::FoundOutput { value_sat: 500, of_channel: true, ..mine.clone() };
    pb::ScanChainResponse { height: 60, found: vec![mine, channels] }
}
