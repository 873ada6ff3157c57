//! `bump`, `release`, `resume-publishing`: what a person does about closes on the chain.

use proto::hub::v1 as hub;
use serde_json::json;

use super::args::BumpArgs;
use super::failure::Failure;
use super::session::{Session, Under};
use super::text;
use crate::client::Api;

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
