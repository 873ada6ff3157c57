//! What the story came to: the closing table, and the same as one JSON object for scripts.

use std::fmt::Write as _;

use bitcoin::{Amount, Txid};
use serde::Serialize;

/// The whole run in numbers. Serialises to the object that scripts read.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Channels opened on the chain.
    pub channels_opened: usize,
    /// Invoice payments whose payer was told that they are settled.
    pub payments_settled: u64,
    /// Payments that did not settle, as they must not: the one without liquidity and the second payment of one invoice.
    pub payments_failed: u64,
    /// Ticks of streams settled.
    pub stream_ticks: u64,
    /// Channels whose closing transaction is final.
    pub closes_confirmed: usize,
    /// The closing transactions.
    pub closing_txids: Vec<Txid>,
    /// Every balance, in channels and on the chain, is what it should be to the last unit.
    pub conserved: bool,
    /// One row a party; for people.
    #[serde(skip)]
    pub parties: Vec<Party>,
    /// Confirmations of the latest close; for people.
    #[serde(skip)]
    pub confirmations: u32,
    /// What the closing transactions paid to miners; for people.
    #[serde(skip)]
    pub miner_fees: Amount,
    /// What the hub earned by forwarding, in msat; for people.
    #[serde(skip)]
    pub earned_msat: u64,
    /// Payments that were tried again because the hub was away; for people.
    #[serde(skip)]
    pub retries: u64,
    /// How long it took; for people.
    #[serde(skip)]
    pub seconds: f64,
}

/// One party's coins before and after.
#[derive(Debug, Clone)]
pub struct Party {
    /// Its name.
    pub name: String,
    /// In channels before the first payment, in msat.
    pub channels_before_msat: u64,
    /// In channels after the last, in msat.
    pub channels_after_msat: u64,
    /// On the chain before the closes.
    pub chain_before: Amount,
    /// On the chain after them.
    pub chain_after: Amount,
}

impl Summary {
    /// The closing table.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |row: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{row}");
        };
        line(format!(
            "{:<12} {:>18} {:>18} {:>18} {:>18}",
            "", "channels before", "channels after", "chain before", "chain after"
        ));
        line(format!("{:<12} {:>18} {:>18} {:>18} {:>18}", "", "msat", "msat", "sat", "sat"));
        for party in &self.parties {
            line(format!(
                "{:<12} {:>18} {:>18} {:>18} {:>18}",
                party.name,
                grouped(party.channels_before_msat),
                grouped(party.channels_after_msat),
                grouped(party.chain_before.to_sat()),
                grouped(party.chain_after.to_sat())
            ));
        }
        line(String::new());
        line(format!("channels opened     {}", self.channels_opened));
        line(format!(
            "payments settled    {} ({} tried again while the hub was away)",
            grouped(self.payments_settled),
            self.retries
        ));
        line(format!(
            "payments failed     {} (without liquidity; paying an invoice again was refused)",
            self.payments_failed
        ));
        line(format!("stream ticks        {}", grouped(self.stream_ticks)));
        line(format!("hub's earnings      {} msat", grouped(self.earned_msat)));
        line(format!(
            "closes confirmed    {} in {} transactions, {} sat to miners, {} confirmations",
            self.closes_confirmed,
            self.closing_txids.len(),
            grouped(self.miner_fees.to_sat()),
            self.confirmations
        ));
        for txid in &self.closing_txids {
            line(format!("                    {txid}"));
        }
        let conserved = if self.conserved { "yes, by the chain's own set of unspent outputs" } else { "NO" };
        line(format!("conserved           {conserved}"));
        line(format!("time                {:.1} s", self.seconds));
        text
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let rows = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, expected) in rows {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn scripts_get_exactly_the_promised_keys() {
        let summary = Summary {
            channels_opened: 42,
            payments_settled: 1_000,
            payments_failed: 1,
            stream_ticks: 10_000,
            closes_confirmed: 42,
            closing_txids: Vec::new(),
            conserved: true,
            parties: Vec::new(),
            confirmations: 6,
            miner_fees: Amount::ZERO,
            earned_msat: 0,
            retries: 0,
            seconds: 1.0,
        };
        let json = serde_json::to_value(&summary).unwrap();
        let mut keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        let expected = [
            "channels_opened",
            "closes_confirmed",
            "closing_txids",
            "conserved",
            "payments_failed",
            "payments_settled",
            "stream_ticks",
        ];
        assert_eq!(keys, expected);
    }
}
