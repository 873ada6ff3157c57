//! What both command lines tell people of a close that nobody agreed on.

use crate::hub::v1 as pb;
use crate::json::{stage, txid};

/// One line a transaction that matters: the commitment first, then each output.
pub fn onchain_lines(close: &pb::OnchainClose) -> Vec<String> {
    let mut lines = Vec::new();
    if !close.commitment_txid.is_empty() {
        let whose = match close.whose() {
            pb::CommitmentOf::Ours => "our commitment",
            pb::CommitmentOf::Peer => "the peer's commitment",
            pb::CommitmentOf::Cheater => "a revoked commitment: the peer cheated, and all of it is taken",
            pb::CommitmentOf::Newer => "a commitment newer than this side knows: this side lost data",
            pb::CommitmentOf::Unknown => "a spend that is no commitment of this channel",
            pb::CommitmentOf::Unspecified => "a commitment",
        };
        let depth = if close.r#final { ", final" } else { "" };
        let id = txid(&close.commitment_txid);
        lines.push(format!("{whose} {id} is in block {}{depth}", close.height));
    } else if let Some(own) = &close.own {
        let fee = if own.fee_sat > 0 { format!(", paying {} sat", own.fee_sat) } else { String::new() };
        lines.push(joined(
            &format!("our commitment {} is {}{fee}", txid(&own.txid), stage(own.stage())),
            &own.why,
        ));
        if !own.transaction.is_empty() && own.stage() != pb::OnchainStage::Sent {
            let advice = "whoever has coins can pay for it: `bump --transaction` takes `own.transaction` of `channels --json`";
            lines.push(advice.to_owned());
        }
    }
    if close.awaits() == pb::OnchainAwaits::PeerCommitment {
        lines.push("this side must not publish: it waits for the peer's commitment".to_owned());
    }
    if close.awaits_by_height > 0 {
        lines.push(format!("a commitment must be in a block by height {}", close.awaits_by_height));
    }
    lines.extend(close.outputs.iter().map(output_line));
    lines
}

fn output_line(output: &pb::OnchainOutput) -> String {
    let what = if output.kind.is_empty() { "output" } else { &output.kind };
    let spender = if output.ours { "us" } else { "the peer" };
    let state = match output.stage() {
        pb::OnchainStage::AwaitsPreimage => {
            format!("its preimage is not known; the peer's from height {} on", output.height)
        }
        pb::OnchainStage::Waits => format!("waits until height {}", output.height),
        pb::OnchainStage::Sent => {
            format!("on its way in {}, paying {} sat", txid(&output.spent_by), output.fee_sat)
        }
        pb::OnchainStage::Spent => {
            format!("taken by {spender} in {} at height {}", txid(&output.spent_by), output.height)
        }
        pb::OnchainStage::Final => format!("taken by {spender} in {}, final", txid(&output.spent_by)),
        other => stage(other),
    };
    joined(&format!("{what} of {} sat: {state}", output.value_sat), &output.why)
}

fn joined(text: &str, why: &str) -> String {
    if why.is_empty() { text.to_owned() } else { format!("{text}: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reads_of_a_commitment_that_nobody_pays_for_is_told_how_somebody_may() {
        let lines = |stage, transaction: &[u8]| {
            let mut own = pb::OwnCommitment {
                txid: vec![1; 32].into(),
                why: "no confirmed coin".to_owned(),
                transaction: transaction.to_vec().into(),
                ..pb::OwnCommitment::default()
            };
            own.set_stage(stage);
            onchain_lines(&pb::OnchainClose { own: Some(own), ..pb::OnchainClose::default() })
        };
        let shown = lines(pb::OnchainStage::NoCoin, &[3, 0]);
        let first = format!("our commitment {} is no_coin: no confirmed coin", "01".repeat(32));
        assert_eq!(shown[0], first);
        assert!(shown[1].contains("`bump --transaction`"), "{shown:?}");
        assert_eq!(lines(pb::OnchainStage::Held, &[]).len(), 1, "what is kept is offered to nobody");
        assert_eq!(lines(pb::OnchainStage::Sent, &[3, 0]).len(), 1, "what is sent needs nobody");
    }
}
