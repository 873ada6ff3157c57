//! After the books are closed: everybody stops in order, and is started once more. Nothing is left that grew with what
//! happened, and nobody says anything else than before.

use proto::hub::v1 as pb;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::seats::Line;
use crate::audit::Broken;

/// Most bytes of a journal of whom every channel ended: a file of its least size, snapshots, and a log that was trimmed.
const MOST_JOURNAL_BYTES: usize = 12 << 20;
const RULE: &str = "a clean restart changes nothing";

impl Run {
    pub(super) fn restart_everybody(&mut self) -> Result<(), Broken> {
        let before = self.balances()?;
        // Whoever cheated and is met by nobody may still be claiming. What is on its way is made anew after a start.
        let mut busy: Vec<bool> = (0..self.wallets.len()).map(|number| self.is_gone(number)).collect();
        busy.push(self.hub.line == Line::Cut);
        for number in 0..self.wallets.len() {
            self.say_wallet(number);
            self.wallets[number].stop(&mut self.chance.disk)?;
            self.net.wallet_died(number);
        }
        self.say("hub");
        self.hub.stop(&mut self.chance.disk)?;
        self.net.hub_died();
        self.check_journals()?;
        self.start_hub()?;
        for number in 0..self.wallets.len() {
            self.start_wallet(number)?;
        }
        // Nobody connects: what a hub with other data could say would change what a wallet tells.
        self.hub.line = Line::Cut;
        self.settle()?;
        let after = self.balances()?;
        // Of whoever was away before nothing is known.
        let told = before.iter().zip(&after).zip(busy);
        let mut known = told.filter(|((before, _), busy)| !busy && !before.ends_with("None"));
        match known.find(|((before, after), _)| before != after) {
            None => Ok(()),
            Some(((before, after), _)) => Err(Broken::new(RULE, format!("before: {before}; after: {after}"))),
        }
    }

    fn check_journals(&self) -> Result<(), Broken> {
        let wallets = self.wallets.iter().map(|wallet| (wallet.setup.name.as_str(), wallet.disk.bytes()));
        for (who, bytes) in wallets.chain([("hub", self.hub.disk.bytes())]) {
            if bytes > MOST_JOURNAL_BYTES {
                let what = format!("{who}: {bytes} bytes, expected at most {MOST_JOURNAL_BYTES}");
                return Err(Broken::new("no journal grows past its bound", what));
            }
        }
        Ok(())
    }

    /// What everybody says they have, in words.
    fn balances(&mut self) -> Result<Vec<String>, Broken> {
        let mut told = Vec::new();
        for number in 0..self.wallets.len() {
            let balance = self.ask_wallet(number, |service| async move {
                service.get_balance(Request::new(wallet_pb::GetBalanceRequest {})).await
            })?;
            let coins = balance.and_then(|balance| balance.on_chain);
            told.push(format!("wallet {number}: {:?}", coins.map(|coins| coins.confirmed_sat)));
        }
        let balances = self.ask_operator(|operator| async move {
            operator.get_balances(Request::new(pb::GetBalancesRequest {})).await
        })?;
        let coins = balances.and_then(|balances| balances.on_chain);
        told.push(format!("the hub: {:?}", coins.map(|coins| coins.confirmed_sat)));
        Ok(told)
    }
}
