//! `bump`, `release`, `resume-publishing`, `scan`: what a person does about closes on the chain.

use daemon::table::{Align, Table};
use proto::hub::v1 as hub;
use proto::wallet::v1 as pb;
use serde_json::json;

use super::args::BumpArgs;
use super::failure::Failure;
use super::session::{Session, Under};
use super::text;
use crate::client::Api;
use crate::limits::CLIENT_SCAN_PATIENCE_SECONDS;

pub async fn bump(session: &mut Session<'_, '_>, args: &BumpArgs) -> Result<(), Failure> {
    let mut txid = match &args.txid {
        Some(text) => hex::decode(text).ok().filter(|id| id.len() == 32).ok_or_else(|| {
            Failure::usage(format!("{text:?} is no transaction id; expected 64 hexadecimal digits"))
                .advise("`hubwallet channels` shows the commitments")
        })?,
        None => Vec::new(),
    };
    // Explorers show it the other way round.
    txid.reverse();
    let transaction = hex::decode(args.transaction.as_deref().unwrap_or_default())
        .map_err(|_| Failure::usage("--transaction takes hexadecimal digits"))?;
    let request = hub::BumpRequest {
        txid: txid.into(),
        transaction: transaction.into(),
        feerate_sat_per_vb: args.feerate,
    };
    let call = |mut api: Api, request| async move { api.bump(request).await };
    let bumped: hub::BumpResponse =
        session.call("paying for the commitment", Under::nothing(), request, call).await?;
    session.terminal.show(proto::json::bumped(&bumped), || {
        let fee = text::sat(bumped.fee_sat);
        format!("{} pays {fee} for {}\n", text::txid(&bumped.child_txid), text::txid(&bumped.txid))
    })
}

pub async fn release(session: &mut Session<'_, '_>) -> Result<(), Failure> {
    let call = |mut api: Api, request| async move { api.release_held(request).await };
    let released: hub::ReleaseHeldResponse =
        session.call("releasing closes", Under::nothing(), hub::ReleaseHeldRequest {}, call).await?;
    let ids: Vec<String> = released.channel_ids.iter().map(hex::encode).collect();
    session.terminal.show(json!({ "released": ids }), || match ids.is_empty() {
        true => "nothing was held\n".to_owned(),
        false => ids.iter().map(|id| format!("released {id}\n")).collect(),
    })
}

pub async fn resume_publishing(session: &mut Session<'_, '_>) -> Result<(), Failure> {
    let call = |mut api: Api, request| async move { api.resume_publishing(request).await };
    let request = hub::ResumePublishingRequest {};
    let answer: hub::ResumePublishingResponse =
        session.call("publishing again", Under::nothing(), request, call).await?;
    session.terminal.show(json!({ "was_suspended": answer.was_suspended }), || {
        match answer.was_suspended {
            true => "publishing again\n",
            false => "publishing was not suspended\n",
        }
        .to_owned()
    })
}

pub async fn scan(session: &mut Session<'_, '_>) -> Result<(), Failure> {
    let call = |mut api: Api, request| async move { api.scan_chain(request).await };
    let under = Under::nothing().within(CLIENT_SCAN_PATIENCE_SECONDS);
    let scan: pb::ScanChainResponse =
        session.call("looking through the chain", under, pb::ScanChainRequest {}, call).await?;
    let total_sat: u64 = scan.found.iter().map(|found| found.value_sat).sum();
    let rows: Vec<_> = scan.found.iter().map(found_json).collect();
    let json = json!({ "height": scan.height, "found": rows, "total_sat": total_sat });
    session.terminal.show(json, || {
        let mut table = Table::new([
            ("transaction", Align::Left),
            ("output", Align::Right),
            ("sat", Align::Right),
            ("height", Align::Right),
            ("taken", Align::Left),
        ]);
        for found in &scan.found {
            let outpoint = found.outpoint.clone().unwrap_or_default();
            table.row([
                text::txid(&outpoint.txid),
                outpoint.index.to_string(),
                text::grouped(found.value_sat),
                text::grouped(found.height.into()),
                taken(found),
            ]);
        }
        let nothing =
            "no closed channel's balance waits for this seed; `hubwallet balance` shows what was taken";
        table.text(nothing)
    })
}

fn taken(found: &pb::FoundOutput) -> String {
    match found.of_channel {
        true => "by its channel, see `hubwallet channels`".to_owned(),
        false => format!("from height {} on", text::grouped(found.earliest_height.into())),
    }
}

fn found_json(found: &pb::FoundOutput) -> serde_json::Value {
    let outpoint = found.outpoint.clone().unwrap_or_default();
    json!({
        "txid": text::txid(&outpoint.txid),
        "output_index": outpoint.index,
        "value_sat": found.value_sat,
        "height": found.height,
        "earliest_height": found.earliest_height,
        "of_channel": found.of_channel,
    })
}
