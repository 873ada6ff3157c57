//! What channels may have been told of a block that the desk's rows do not know yet.
//!
//! Channels hear of a block first, and the row that moves the desk's tip comes after. A crash between the two is harmless
//! while the same block comes again, but it may have left the best chain meanwhile, and then nobody would ever take
//! back what was told. So a row that says what is about to be told goes ahead of it. Where no block's row follows that
//! row, the next start takes back what it names; a block that is still there is then told of anew.

use bitcoin::{OutPoint, Txid};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;
use serde::{Deserialize, Serialize};

use crate::follow::BlockRef;

/// The block that channels are about to be told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Telling {
    /// It joined the chain. How to take back what it meant, in the order for that.
    Connected { undo: Vec<(OwnerId, Undo)> },
    /// It left the chain.
    Disconnected { block: BlockRef },
}

/// Takes back one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Undo {
    Funding,
    Spend { txid: Txid },
    OutputSpend { outpoint: OutPoint, txid: Txid },
}

impl Telling {
    /// Of a block that joined the chain, by what it means for channels; `None` if that is nothing to take back.
    pub fn connected(news: &[(OwnerId, Command)]) -> Option<Self> {
        let undo: Vec<_> = news
            .iter()
            .rev()
            .filter_map(|(owner, command)| {
                let Command::Chain(event) = command else { return None };
                Some((*owner, Undo::of(event)?))
            })
            .collect();
        (!undo.is_empty()).then_some(Telling::Connected { undo })
    }

    /// Of a block that left the chain.
    pub fn disconnected(news: &[(OwnerId, Command)], block: BlockRef) -> Option<Self> {
        (!news.is_empty()).then_some(Telling::Disconnected { block })
    }
}

impl Undo {
    fn of(event: &ChainEvent) -> Option<Self> {
        match event {
            ChainEvent::FundingConfirmed { .. } => Some(Undo::Funding),
            ChainEvent::FundingSpent { transaction, .. } => {
                Some(Undo::Spend { txid: transaction.compute_txid() })
            }
            ChainEvent::OutputSpent { outpoint, transaction, .. } => {
                Some(Undo::OutputSpend { outpoint: *outpoint, txid: transaction.compute_txid() })
            }
            // Depth and finality rest on a block far below; the others are no block's.
            ChainEvent::FundingUndone
            | ChainEvent::FundingDeep { .. }
            | ChainEvent::FundingFinal
            | ChainEvent::FundingNeverConfirms { .. }
            | ChainEvent::SpendUndone { .. }
            | ChainEvent::SpendFinal { .. }
            | ChainEvent::OutputSpendUndone { .. }
            | ChainEvent::OutputSpendFinal { .. }
            | ChainEvent::SeenInMempool { .. }
            | ChainEvent::OutputGivenUp { .. }
            | ChainEvent::Deadline { .. } => None,
        }
    }

    /// What to tell the channel.
    pub fn command(self) -> Command {
        Command::Chain(match self {
            Undo::Funding => ChainEvent::FundingUndone,
            Undo::Spend { txid } => ChainEvent::SpendUndone { txid },
            Undo::OutputSpend { outpoint, txid } => ChainEvent::OutputSpendUndone { outpoint, txid },
        })
    }
}
