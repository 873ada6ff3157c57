//! A channel made again by a wallet that lost its data (DESIGN section 5, "Data loss"): from the essentials that the
//! counterparty keeps for it, held against what the wallet sealed for itself.

use super::opening::{FORMAT, check_side, own_terms};
use crate::channel::input::{Input, Kind, Recovered};
use crate::channel::state::{Names, Terms};
use crate::channel::{Channel, Context};
use crate::error::{ParameterFlaw, RecoveryFlaw};
use crate::event::RecoverRequest;
use crate::format::CommitmentFormat;
use crate::limits::{MAX_TO_SELF_DELAY_BLOCKS, MIN_DUST_LIMIT};
use crate::message::Essentials;
use crate::parameters::Side;
use crate::seal::open_essentials;

impl Channel {
    /// Checks what the counterparty says of a channel that this side does not know any more. The input is that
    /// channel's first: it signs nothing, publishes nothing, asks the counterparty to publish whenever it connects, and
    /// takes what pays our payment key. Whether the funding is on the chain is for the chain to say
    /// (`ChainEvent::FundingConfirmed`).
    pub fn check_recovered(
        request: RecoverRequest,
        essentials: &Essentials,
        context: &Context<'_>,
    ) -> Result<Input, RecoveryFlaw> {
        let RecoverRequest { owner, channel_id, role, counterparty_node, session } = request;
        let sealed = open_essentials(context.signer, &essentials.sealed)?;
        let own_keys = context.signer.channel_public_keys(&sealed.key_id);
        let claimed = [
            (sealed.channel_id == channel_id, RecoveryFlaw::ChannelId),
            (sealed.counterparty_node == counterparty_node, RecoveryFlaw::Node),
            (sealed.outpoint == essentials.outpoint, RecoveryFlaw::Outpoint),
            (sealed.capacity_sat == essentials.capacity_sat, RecoveryFlaw::Capacity),
            (
                sealed.counterparty_funding_key == essentials.sender.basepoints.funding,
                RecoveryFlaw::CounterpartyKey,
            ),
            (own_keys == essentials.receiver.basepoints, RecoveryFlaw::OwnKeys),
        ];
        if let Some((_, flaw)) = claimed.into_iter().find(|(agrees, _)| !agrees) {
            return Err(flaw);
        }
        if CommitmentFormat::from_negotiated_name(&essentials.format) != Some(FORMAT) {
            let name = essentials.format.clone();
            return Err(ParameterFlaw::UnsupportedFormat { name }.into());
        }
        let names = Names { owner, channel_id, role, counterparty_node, key_id: sealed.key_id };
        let terms = Terms {
            opener: if essentials.receiver_is_opener { Side::Holder } else { Side::Counterparty },
            holder: essentials.receiver.clone(),
            counterparty: Some(essentials.sender.clone()),
            // Not told, and needed only to build commitments, which this channel never does.
            ..own_terms(&names, sealed.capacity_sat, MIN_DUST_LIMIT.to_sat(), context)
        };
        check_side(&essentials.sender, &terms, MAX_TO_SELF_DELAY_BLOCKS)?;
        let recovered = Recovered { names, terms, outpoint: sealed.outpoint, session };
        Ok(Input(Kind::Recovered(Box::new(recovered))))
    }
}
