//! At release: what effects named becomes messages. Only here are our secrets used, after the rows that rest
//! on them are durable.

use bitcoin::Transaction;

use super::Channel;
use super::htlc::Which;
use crate::amount::Msat;
use crate::commitment::{CommitmentSignatures, CommitmentSpec, CommitmentTransaction};
use crate::effect::ToSend;
use crate::event::Role;
use crate::keys::Point;
use crate::message::{
    AcceptChannel, CommitmentSigned, Essentials, FundingCreated, FundingSigned, Message, OpenChannel,
    Reestablish, RevokeAndAck, Ticket,
};
use crate::parameters::Side;
use crate::seal::{SealedEssentials, seal_essentials};
use crate::shachain::CommitmentSecret;
use crate::signer::Signer;

impl Channel {
    /// At release: turns what an effect named into the message, signing with the signer. `None` if the state
    /// moved past it.
    pub fn message(&self, to_send: &ToSend, signer: &dyn Signer) -> Option<Message> {
        match to_send {
            ToSend::Ready(message) => Some(message.as_ref().clone()),
            ToSend::OpenChannel => Some(Message::OpenChannel(Box::new(self.open_channel()))),
            ToSend::AcceptChannel => Some(Message::AcceptChannel(Box::new(AcceptChannel {
                minimum_depth: self.state.terms.minimum_depth,
                accepter: self.state.terms.holder.clone(),
                reserve_script: self.state.terms.reserve_script.clone(),
            }))),
            ToSend::FundingCreated => {
                let signatures = self.sign_counterparty_commitment(0, signer)?;
                Some(Message::FundingCreated(FundingCreated {
                    outpoint: self.state.funding.as_ref()?.outpoint,
                    signature: signatures.commitment,
                    transaction: self.funding_with_coin(),
                    sealed: self.sealed_essentials(0, signer),
                }))
            }
            ToSend::FundingSigned => {
                let signatures = self.sign_counterparty_commitment(0, signer)?;
                Some(Message::FundingSigned(FundingSigned {
                    signature: signatures.commitment,
                    sealed: self.sealed_essentials(0, signer),
                }))
            }
            ToSend::AddHtlc { id } => {
                let add = self.state.htlcs.offered.get(id)?.add.clone();
                Some(match self.state.part_of(Side::Holder, *id) {
                    Msat::ZERO => Message::UpdateAddHtlc(add),
                    deducted_msat => Message::PricedAddHtlc { add, deducted_msat },
                })
            }
            ToSend::FulfillHtlc { id, preimage } => {
                Some(Message::UpdateFulfillHtlc { id: *id, preimage: *preimage })
            }
            ToSend::FailHtlc { id, reason } => Some(Message::UpdateFailHtlc { id: *id, reason: *reason }),
            ToSend::CommitmentSigned { number } => {
                let signatures = self.sign_counterparty_commitment(*number, signer)?;
                let sealed = self.sealed_essentials(*number, signer);
                Some(Message::CommitmentSigned(CommitmentSigned { number: *number, signatures, sealed }))
            }
            ToSend::RevokeAndAck { number } => self.revoke_and_ack(*number, signer),
            ToSend::Reestablish { next_commitment_number, next_revocation_number } => {
                let reestablish = self.reestablish(*next_commitment_number, *next_revocation_number)?;
                Some(Message::Reestablish(Box::new(reestablish)))
            }
            ToSend::Ticket => {
                let terms = self.state.closing.frozen.as_ref()?.terms;
                let spec = self.ticket_spec(&terms);
                let signature = signer.sign_ticket(&self.state.names.key_id, &spec).ok()?;
                Some(Message::ClosingTicket(Ticket { terms, signature }))
            }
        }
    }

    fn open_channel(&self) -> OpenChannel {
        let terms = &self.state.terms;
        OpenChannel {
            format: terms.format.name().to_owned(),
            capacity_sat: terms.capacity_sat,
            dust_limit_sat: terms.dust_limit_sat,
            minimum_depth: terms.minimum_depth,
            opener: terms.holder.clone(),
            price_msat: self.state.price.as_ref().map_or(Msat::ZERO, |price| price.total),
            reserve_sat: terms.reserve_sat,
            reserve_price_msat: self.state.price.as_ref().map_or(Msat::ZERO, |price| price.coin),
        }
    }

    /// The funding transaction as the accepter sees it before it is signed, if it pays the accepter a coin.
    fn funding_with_coin(&self) -> Option<Transaction> {
        self.agreed_coin()?;
        let mut transaction = self.state.funding.as_ref()?.transaction.clone()?;
        transaction.input.iter_mut().for_each(|input| input.witness.clear());
        Some(transaction)
    }

    /// The secret of a commitment that is no longer our latest: only a newer one, verified and durable, lets
    /// it go.
    fn revoke_and_ack(&self, number: u64, signer: &dyn Signer) -> Option<Message> {
        if number >= self.state.holder.number {
            return None;
        }
        let key = &self.state.names.key_id;
        Some(Message::RevokeAndAck(RevokeAndAck {
            number,
            secret: signer.release_secret(key, number),
            next_point: signer.per_commitment_point(key, number + 2),
        }))
    }

    /// Signs the counterparty's latest commitment; it is the same however often it is signed, because HTLCs
    /// enter and leave it by our signature alone.
    fn sign_counterparty_commitment(&self, number: u64, signer: &dyn Signer) -> Option<CommitmentSignatures> {
        let their = self.state.counterparty.as_ref()?;
        if number != their.number || (number > 0 && !their.awaiting_revocation) {
            return None;
        }
        let commitment = self.counterparty_commitment(their.latest_point(), number, signer)?;
        signer.sign_counterparty_commitment(&self.state.names.key_id, self.context(), &commitment).ok()
    }

    fn counterparty_commitment(
        &self,
        point: &Point,
        number: u64,
        signer: &dyn Signer,
    ) -> Option<CommitmentTransaction> {
        let parameters = self.context();
        let balances = self.state.books.counterparty.latest;
        let spec = CommitmentSpec {
            number,
            to_broadcaster: balances.counterparty,
            to_countersignatory: balances.holder,
            htlcs: self.state.htlcs.specs(Side::Counterparty, Which::latest),
            feerate_sat_per_kw: 0,
        };
        let keys = signer.counterparty_commitment_keys(
            &self.state.names.key_id,
            parameters,
            &point.parse().ok()?,
            parameters.htlc_outputs(&spec),
        );
        CommitmentTransaction::build(parameters, Side::Counterparty, &keys, &spec).ok()
    }

    /// What this side wants back if it ever loses its data. A hub has backups of its own.
    fn sealed_essentials(&self, commitment_number: u64, signer: &dyn Signer) -> Vec<u8> {
        let (Role::Wallet, Some(funding)) = (self.state.names.role, &self.state.funding) else {
            return Vec::new();
        };
        let names = &self.state.names;
        seal_essentials(
            signer,
            &SealedEssentials {
                channel_id: names.channel_id,
                key_id: names.key_id,
                counterparty_node: names.counterparty_node,
                counterparty_funding_key: self.state.counterparty_parameters().basepoints.funding,
                outpoint: funding.outpoint,
                capacity_sat: self.state.terms.capacity_sat,
                commitment_number,
            },
        )
    }

    fn reestablish(&self, next_commitment_number: u64, next_revocation_number: u64) -> Option<Reestablish> {
        let their = self.state.counterparty.as_ref()?;
        let last_secret = match next_revocation_number.checked_sub(1) {
            Some(number) => their.secrets.get(number)?,
            None => CommitmentSecret::from_bytes([0; 32]),
        };
        Some(Reestablish {
            next_commitment_number,
            next_revocation_number,
            last_secret,
            frozen: self.state.closing.frozen.as_ref().map(|agreement| agreement.terms),
            essentials: self.essentials(),
        })
    }

    /// Hub: what lets a wallet that lost its data find its coins. Sent at each connection, before it is known
    /// whether it is needed.
    fn essentials(&self) -> Option<Essentials> {
        let terms = &self.state.terms;
        match self.state.names.role {
            Role::Hub => Some(Essentials {
                outpoint: self.state.funding.as_ref()?.outpoint,
                capacity_sat: terms.capacity_sat,
                format: terms.format.name().to_owned(),
                receiver_is_opener: terms.opener == Side::Counterparty,
                sender: terms.holder.clone(),
                receiver: terms.counterparty.clone()?,
                sealed: self.state.sealed.clone(),
            }),
            Role::Wallet => None,
        }
    }
}
