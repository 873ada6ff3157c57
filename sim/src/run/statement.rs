//! Whether a party has what it is due; and, where it has not, its statement of account for whoever looks for the cause: what
//! it was given, what it was promised, and where every coin of its channels went.

use bitcoin::{OutPoint, Txid};
use proto::hub::v1 as pb;

use super::Run;
use super::windup::funding_of;
use crate::audit::chain::{Ledger, is_commitment};
use crate::audit::{Broken, Party};

const MSAT: i128 = 1_000;
/// Each channel's last satoshi may be shared.
const SHARED_MSAT: i128 = 20 * MSAT;
/// Transactions that an output is followed through: a commitment, its HTLC transaction, the claim of that.
const STAGES: usize = 3;

impl Run {
    /// Whether this party found what is due, both on the chain in the end.
    pub(super) fn check_due(
        &self,
        party: Party,
        found_sat: u64,
        due_msat: i128,
        channels: &[pb::Channel],
    ) -> Result<(), Broken> {
        let found = i128::from(found_sat) * MSAT;
        if found + SHARED_MSAT >= due_msat {
            return Ok(());
        }
        self.tell_statement(party, channels);
        let what = format!("{party} has {found} msat, and {due_msat} are due");
        Err(Broken::new("everybody honest has its due", what))
    }

    fn tell_statement(&self, party: Party, channels: &[pb::Channel]) {
        self.note("books", format_args!("{party} was given {}", self.books.given(party)));
        for line in self.books.promised(party) {
            self.note("books", format_args!("{line}"));
        }
        let ledger = Ledger::new(&self.node);
        channels.iter().for_each(|channel| self.tell_channel(&ledger, channel));
        if party == Party::Hub {
            // It forgets what is closed; the wallets do not.
            for (number, channel) in self.seen.values() {
                self.note("books", format_args!("with {}:", Party::Wallet(*number)));
                self.tell_channel(&ledger, channel);
            }
        }
        for sent in ledger.sent_in_chain(self.label(party)) {
            let fee = self.node.fee_of(sent).unwrap_or_default();
            self.note("books", format_args!("{party} sent {sent}, fee {fee}"));
        }
    }

    fn tell_channel(&self, ledger: &Ledger, channel: &pb::Channel) {
        let id = hex::encode(&channel.channel_id);
        let (capacity, local) = (channel.capacity_sat, channel.local_msat);
        let by = if channel.funded_locally { "here" } else { "there" };
        let phase = channel.phase();
        let what = format_args!("channel {id}: {capacity} sat, funded {by}, {local} msat here, {phase:?}");
        self.note("books", what);
        let Some(closing) = funding_of(channel).and_then(|funding| ledger.closing(funding)) else { return };
        let kind = if is_commitment(&closing.transaction) { "commitment" } else { "agreed close" };
        let (txid, senders) = (closing.txid, ledger.senders(closing.txid));
        let fee = self.node.fee_of(txid).unwrap_or_default();
        self.note("books", format_args!("    {kind} {txid} by {senders}, fee {fee}"));
        self.tell_outputs(ledger, txid, STAGES);
    }

    fn tell_outputs(&self, ledger: &Ledger, txid: Txid, stages: usize) {
        let Some(transaction) = self.node.find(txid) else { return };
        let indent = "    ".repeat(STAGES + 2 - stages);
        for (vout, output) in (0_u32..).zip(&transaction.output) {
            let outpoint = OutPoint { txid, vout };
            let value = output.value;
            let Some(spender) = self.node.spender_of(outpoint) else {
                self.note("books", format_args!("{indent}{vout}: {value}, unspent"));
                continue;
            };
            let senders = ledger.senders(spender);
            self.note("books", format_args!("{indent}{vout}: {value}, to {spender} by {senders}"));
            let next = stages.saturating_sub(1);
            if next > 0 && ledger.is_second_stage(spender) {
                self.tell_outputs(ledger, spender, next);
            }
        }
    }
}
