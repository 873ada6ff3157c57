//! Whether a party has what it is due; and, where it has not, its statement of account for whoever looks for the cause: what
//! it was given, what it was promised, and where every coin of its channels went.

use bitcoin::{OutPoint, Txid};
use proto::hub::v1 as pb;

use super::Run;
use super::due::funding_of;
use crate::audit::accounts::Accounts;
use crate::audit::chain::{Ledger, is_commitment};
use crate::audit::{Broken, Party};

const MSAT: i128 = 1_000;
/// Transactions that an output is followed through: a commitment, its HTLC transaction, the claim of that.
const STAGES: usize = 3;

impl Run {
    /// Whether this party found what is due, both on the chain in the end: what it was given, what `net_msat` says it gained by
    /// payments, and what the chain took.
    pub(super) fn check_due(
        &self,
        party: Party,
        found_sat: u64,
        net_msat: i128,
        accounts: &Accounts,
        channels: &[pb::Channel],
    ) -> Result<(), Broken> {
        let given = i128::from(self.books.given(party).to_sat());
        let (found, cost) = (i128::from(found_sat) * MSAT, accounts.total_sat(party));
        let due = (given + cost) * MSAT + net_msat;
        if found >= due {
            return Ok(());
        }
        self.tell_statement(party, accounts, channels);
        let held = accounts.held(party).to_sat();
        let what = format!(
            "{party} has {found} msat, and {due} are due: given {given} sat, net {net_msat} msat, by the chain {cost} \
             sat; the chain holds {held} sat of its coins"
        );
        Err(Broken::new("everybody honest has its due", what))
    }

    fn tell_statement(&self, party: Party, accounts: &Accounts, channels: &[pb::Channel]) {
        self.note("books", format_args!("{party} was given {}", self.books.given(party)));
        for line in self.books.promised(party) {
            self.note("books", format_args!("{line}"));
        }
        if let Party::Wallet(number) = party {
            let paid = self.lost.prices_paid_msat(number);
            self.note("books", format_args!("prices of channels: {paid} msat"));
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
        for entry in accounts.of(party) {
            self.note("books", format_args!("{party}: {:?} {} sat, {}", entry.cause, entry.sat, entry.txid));
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
