//! What phases and events are called, for those who follow a channel's life: traces, tables of what was seen.

use super::Channel;
use super::state::Phase;
use crate::event::{ChainEvent, Command, Event};
use crate::message::Message;

impl Channel {
    /// Every phase, in the order of life.
    pub const PHASES: [&str; 13] = [
        "proposed",
        "building",
        "funding-sent",
        "accepted",
        "awaiting-confirmation",
        "open",
        "shutting-down",
        "frozen",
        "closing",
        "closed",
        "aborted",
        "failed",
        "ending",
    ];

    /// The phase that the channel is in. Finer than [`Channel::phase`]: it tells the steps of an opening apart, and
    /// whether a failed channel's commitment is in the chain already ("ending").
    pub fn phase_name(&self) -> &'static str {
        let shutdowns = &self.state.shutdowns;
        match &self.state.phase {
            Phase::Proposed => "proposed",
            Phase::Building => "building",
            Phase::FundingSent => "funding-sent",
            Phase::Accepted => "accepted",
            Phase::AwaitingConfirmation => "awaiting-confirmation",
            Phase::Open if shutdowns.holder.is_some() || shutdowns.counterparty.is_some() => "shutting-down",
            Phase::Open => "open",
            Phase::Frozen => "frozen",
            Phase::Closing { .. } => "closing",
            Phase::Closed { .. } => "closed",
            Phase::Aborted { .. } => "aborted",
            Phase::Failed { .. } if self.onchain().is_some() => "ending",
            Phase::Failed { .. } => "failed",
        }
    }
}

impl Event {
    /// Every event, messages first.
    pub const NAMES: [&str; 42] = [
        "open_channel",
        "accept_channel",
        "funding_created",
        "funding_signed",
        "channel_ready",
        "update_add_htlc",
        "update_fulfill_htlc",
        "update_fail_htlc",
        "commitment_signed",
        "revoke_and_ack",
        "channel_reestablish",
        "shutdown",
        "closing_terms",
        "closing_ticket",
        "closing_transaction",
        "error",
        "Connected",
        "Disconnected",
        "FundingBuilt",
        "AbortOpening",
        "SignNow",
        "Offer",
        "Result",
        "Ack",
        "Shutdown",
        "ProposeTerms",
        "Fail",
        "ClosingPublished",
        "FundingConfirmed",
        "FundingUndone",
        "FundingDeep",
        "FundingFinal",
        "FundingNeverConfirms",
        "FundingSpent",
        "SpendUndone",
        "SpendFinal",
        "OutputSpent",
        "OutputSpendUndone",
        "OutputSpendFinal",
        "SeenInMempool",
        "OutputGivenUp",
        "Deadline",
    ];

    /// What the event is called: a message as BOLT 2 names it, a command or a thing of the chain by its own name.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Message(message) => message_name(message),
            Event::Command(command) => command_name(command),
        }
    }
}

fn message_name(message: &Message) -> &'static str {
    match message {
        Message::OpenChannel(_) => "open_channel",
        Message::AcceptChannel(_) => "accept_channel",
        Message::FundingCreated(_) => "funding_created",
        Message::FundingSigned(_) => "funding_signed",
        Message::ChannelReady => "channel_ready",
        Message::UpdateAddHtlc(_) | Message::PricedAddHtlc { .. } => "update_add_htlc",
        Message::UpdateFulfillHtlc { .. } => "update_fulfill_htlc",
        Message::UpdateFailHtlc { .. } => "update_fail_htlc",
        Message::CommitmentSigned(_) => "commitment_signed",
        Message::RevokeAndAck(_) => "revoke_and_ack",
        Message::Reestablish(_) => "channel_reestablish",
        Message::Shutdown(_) => "shutdown",
        Message::ClosingTerms(_) => "closing_terms",
        Message::ClosingTicket(_) => "closing_ticket",
        Message::ClosingTransaction { .. } => "closing_transaction",
        Message::ChannelError { .. } => "error",
    }
}

fn command_name(command: &Command) -> &'static str {
    match command {
        Command::Connected { .. } => "Connected",
        Command::Disconnected => "Disconnected",
        Command::FundingBuilt { .. } => "FundingBuilt",
        Command::AbortOpening { .. } => "AbortOpening",
        Command::SignNow => "SignNow",
        Command::Offer(_) => "Offer",
        Command::Result { .. } => "Result",
        Command::Ack { .. } => "Ack",
        Command::Shutdown { .. } => "Shutdown",
        Command::ProposeTerms(_) => "ProposeTerms",
        Command::Fail { .. } => "Fail",
        Command::ClosingPublished { .. } => "ClosingPublished",
        Command::Chain(event) => match event {
            ChainEvent::FundingConfirmed { .. } => "FundingConfirmed",
            ChainEvent::FundingUndone => "FundingUndone",
            ChainEvent::FundingDeep { .. } => "FundingDeep",
            ChainEvent::FundingFinal => "FundingFinal",
            ChainEvent::FundingNeverConfirms { .. } => "FundingNeverConfirms",
            ChainEvent::FundingSpent { .. } => "FundingSpent",
            ChainEvent::SpendUndone { .. } => "SpendUndone",
            ChainEvent::SpendFinal { .. } => "SpendFinal",
            ChainEvent::OutputSpent { .. } => "OutputSpent",
            ChainEvent::OutputSpendUndone { .. } => "OutputSpendUndone",
            ChainEvent::OutputSpendFinal { .. } => "OutputSpendFinal",
            ChainEvent::SeenInMempool { .. } => "SeenInMempool",
            ChainEvent::OutputGivenUp { .. } => "OutputGivenUp",
            ChainEvent::Deadline { .. } => "Deadline",
        },
    }
}
