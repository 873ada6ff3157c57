//! Events as the operator sees them.

use bitcoin::hashes::Hash;
use proto::fields::{bytes, txid_out};
use proto::hub::v1 as pb;
use proto::hub::v1::channel_event::{self, Kind as ChannelKind};
use proto::hub::v1::event::Kind;
use proto::message::reason_out;
use proto::view::report_out;
use shard::{EventRecord, Happening};

use crate::events::{Event, HubEvent, HubHappening, ReserveRecord};

/// To the wire.
pub fn event_out(index: u64, event: &Event) -> pb::Event {
    let (time_ms, kind) = match event {
        Event::Channel(record) => (record.time_ms, Kind::Channel(channel_out(record))),
        Event::Hub(HubEvent { time_ms, what }) => (*time_ms, hub_out(what)),
    };
    pb::Event { index, time_ms, kind: Some(kind) }
}

fn channel_out(record: &EventRecord) -> pb::ChannelEvent {
    pb::ChannelEvent {
        channel_id: record.channel_id.0.to_vec().into(),
        node_key: record.node.as_bytes().to_vec().into(),
        kind: Some(happening_out(&record.what)),
    }
}

fn happening_out(what: &Happening) -> ChannelKind {
    use channel_event::StreamTicks;
    let none = pb::FailureReason::Unspecified;
    let ticks =
        |stream: &channel::ids::StreamId, stage: pb::TickStage, ticks: u64, incoming_msat: u64| StreamTicks {
            stream_id: stream.0.to_vec().into(),
            stage: stage.into(),
            ticks,
            incoming_msat,
            fee_msat: 0,
            reason: none.into(),
        };
    match what {
        Happening::Report(report) => report_out(report),
        Happening::StreamReceived { stream, ticks: count, amount_msat } => {
            ChannelKind::StreamTicks(ticks(stream, pb::TickStage::Received, *count, amount_msat.to_u64()))
        }
        Happening::StreamSettled { stream, ticks: count, amount_msat, fee_msat } => {
            let settled = ticks(stream, pb::TickStage::Settled, *count, amount_msat.to_u64());
            ChannelKind::StreamTicks(StreamTicks { fee_msat: fee_msat.to_u64(), ..settled })
        }
        Happening::StreamFailed { stream, reason, ticks: count, amount_msat } => {
            let failed = ticks(stream, pb::TickStage::Failed, *count, amount_msat.to_u64());
            ChannelKind::StreamTicks(StreamTicks { reason: reason_out(*reason).into(), ..failed })
        }
        Happening::ForwardsFailed { reason, count } => {
            let reason = reason_out(*reason).into();
            ChannelKind::ForwardsFailed(channel_event::ForwardsFailed { reason, count: *count })
        }
    }
}

fn hub_out(what: &HubHappening) -> Kind {
    let key = |node: &channel::keys::Point| bytes::Bytes::copy_from_slice(node.as_bytes());
    let stream = |stream: &channel::ids::StreamId, payer, payee, ended| {
        Kind::Stream(pb::StreamEvent {
            stream_id: stream.0.to_vec().into(),
            payer: key(payer),
            payee: key(payee),
            ended,
        })
    };
    match what {
        HubHappening::PeerConnected { node } => {
            Kind::Peer(pb::PeerEvent { node_key: key(node), connected: true })
        }
        HubHappening::PeerDisconnected { node } => {
            Kind::Peer(pb::PeerEvent { node_key: key(node), connected: false })
        }
        HubHappening::StreamAgreed { stream: id, payer, payee } => stream(id, payer, payee, false),
        HubHappening::StreamEnded { stream: id, payer, payee } => stream(id, payer, payee, true),
        HubHappening::BatchMade { txid, channels, fee_sat } => Kind::Batch(pb::BatchEvent {
            txid: txid.to_byte_array().to_vec().into(),
            channels: *channels,
            fee_sat: *fee_sat,
        }),
        HubHappening::CommitmentSent { channel, txid, child, fee_sat, replaces } => {
            Kind::Onchain(pb::OnchainEvent {
                txid: txid_out(txid),
                channel_id: bytes(&channel.0),
                child_txid: txid_out(child),
                outputs: 0,
                fee_sat: *fee_sat,
                replaces: replaces.as_ref().map(txid_out).unwrap_or_default(),
            })
        }
        HubHappening::ClaimSent { txid, outputs, fee_sat, replaces } => Kind::Onchain(pb::OnchainEvent {
            txid: txid_out(txid),
            outputs: *outputs,
            fee_sat: *fee_sat,
            replaces: replaces.as_ref().map(txid_out).unwrap_or_default(),
            ..pb::OnchainEvent::default()
        }),
        HubHappening::PublishingSuspended { by } => publishing(by, pb::PublishingState::Suspended),
        HubHappening::PublishingHeld { channel } => publishing(channel, pb::PublishingState::Held),
        HubHappening::Reserve(reserve) => {
            Kind::Reserve(pb::ReserveEvent { reserve: Some(reserve_out(reserve)) })
        }
    }
}

fn publishing(channel: &channel::ids::ChannelId, state: pb::PublishingState) -> Kind {
    Kind::Publishing(pb::PublishingEvent { channel_id: bytes(&channel.0), state: state.into() })
}

/// The coins kept to close channels with.
pub fn reserve_out(reserve: &ReserveRecord) -> pb::FeeReserve {
    pb::FeeReserve {
        needed_coins: reserve.needed_coins,
        confirmed_coins: reserve.confirmed_coins,
        needed_sat: reserve.needed_sat,
        available_sat: reserve.available_sat,
        short: reserve.short,
    }
}
