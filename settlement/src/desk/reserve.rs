//! Coins kept back to close channels with.
//!
//! Commitments pay no fee: a child does, from a confirmed coin, and each close under way needs one of its own. So part of
//! the coins is left alone by openings, sized by the open channels. One coin can serve one close after another: what is
//! refused is an opening that would leave too little, and what is warned about is too few coins as well.

use bitcoin::{Amount, Transaction, TxOut};

use super::{Desk, DeskReport, FUNDING_COINS, Outcome};
use crate::limits;
use crate::onchain::CoinState;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservePolicy {
    /// For each open channel.
    pub per_channel: Amount,
    /// Beyond as many channels no more is kept: they will not all be closed on the chain at once.
    pub max_channels: u32,
}

impl Default for ReservePolicy {
    fn default() -> Self {
        Self { per_channel: limits::RESERVE_PER_CHANNEL, max_channels: limits::RESERVE_MAX_CHANNELS }
    }
}

impl ReservePolicy {
    /// What as many open channels need.
    pub fn needed(&self, channels: u32) -> Amount {
        let counted = u64::from(channels.min(self.max_channels));
        Amount::from_sat(self.per_channel.to_sat().saturating_mul(counted))
    }
}

/// The reserve as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Confirmed coins that should be there, each of at least what one channel needs.
    pub needed_coins: u32,
    /// Those that are there, the ones that pay for closes on their way included.
    pub confirmed_coins: u32,
    /// What they should amount to.
    pub needed: Amount,
    /// What is confirmed, or our own change on its way.
    pub available: Amount,
    /// Coins or amount fall short: a close on the chain may have to wait.
    pub short: bool,
}

/// An opening that would use up what closing channels may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{left} would be left, but {needed} must be kept to close channels on the chain: send more coins to this wallet, or \
     open a smaller channel"
)]
pub struct ReserveBroken {
    pub left: Amount,
    pub needed: Amount,
}

impl Desk {
    /// The reserve for the channels that are open.
    pub(super) fn reserve(&self) -> Reserve {
        let policy = self.config.reserve;
        let channels = self.open_channels();
        let (mut confirmed_coins, mut available) = (0u32, Amount::ZERO);
        for coin in self.wallet.coins() {
            let value = coin.output.value;
            let counts = match coin.state {
                CoinState::Confirmed { .. } | CoinState::Reserved { .. } => {
                    confirmed_coins += u32::from(value >= policy.per_channel);
                    true
                }
                CoinState::OwnChange => true,
                CoinState::Unconfirmed | CoinState::Immature | CoinState::Locked => false,
            };
            if counts {
                available = available.checked_add(value).unwrap_or(Amount::MAX_MONEY);
            }
        }
        let (needed_coins, needed) = (channels.min(policy.max_channels), policy.needed(channels));
        let short = confirmed_coins < needed_coins || available < needed;
        Reserve { needed_coins, confirmed_coins, needed, available, short }
    }

    /// What openings may spend: the reserve for one channel more stays.
    pub(super) fn spendable(&self) -> Amount {
        let kept = self.config.reserve.needed(self.open_channels().saturating_add(1));
        self.wallet.spendable(FUNDING_COINS).checked_sub(kept).unwrap_or(Amount::ZERO)
    }

    /// Whether enough is left when `funding`, whose coins are locked already, opens another channel.
    pub(super) fn check_reserve(&self, funding: &Transaction) -> Result<(), ReserveBroken> {
        let needed = self.config.reserve.needed(self.open_channels().saturating_add(1));
        let ours = |output: &&TxOut| self.wallet.is_ours(&output.script_pubkey);
        let change = funding.output.iter().filter(ours).map(|output| output.value);
        let left = change
            .fold(self.wallet.spendable(FUNDING_COINS), |sum, value| sum.checked_add(value).unwrap_or(sum));
        if left < needed { Err(ReserveBroken { left, needed }) } else { Ok(()) }
    }

    /// Warns once when the reserve falls short, and once when it is whole again.
    pub(super) fn report_reserve(&mut self, outcome: &mut Outcome) {
        let reserve = self.reserve();
        if reserve.short != self.settling.reserve_was_short {
            self.settling.reserve_was_short = reserve.short;
            outcome.reports.push(if reserve.short {
                DeskReport::ReserveShort { reserve }
            } else {
                DeskReport::ReserveWhole { reserve }
            });
        }
    }

    /// Channels whose funding is watched and not spent.
    fn open_channels(&self) -> u32 {
        let fundings = self.watches.all().values().filter_map(|watch| watch.funding.as_ref());
        u32::try_from(fundings.filter(|funding| funding.spend.is_none()).count()).unwrap_or(u32::MAX)
    }
}
