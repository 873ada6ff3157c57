//! Messages about one channel, to and from the wire. Every variant of [`Message`] is matched by name, so that a new one cannot be forgotten.

use bitcoin::{ScriptBuf, Transaction, consensus};
use channel::amount::Msat;
use channel::commitment::CommitmentSignatures;
use channel::failure::FailureReason;
use channel::keys::CompactSignature;
use channel::message::{
    AcceptChannel, CommitmentSigned, ForwardInstruction, FundingCreated, FundingSigned, Message, OpenChannel,
    PaymentHash, Preimage, Recipient, Reestablish, RevokeAndAck, Shutdown, Ticket, UpdateAddHtlc,
};
use channel::shachain::CommitmentSecret;

use crate::fields::{
    at_most, bytes, commitment_number, cut_text, fixed, msat, outpoint, outpoint_out, point, present, sat,
    signature, signature_out, stream_id, text,
};
use crate::hub::v1 as pb;
use crate::hub::v1::channel_message::Kind;
use crate::hub::v1::update_add_htlc::Recipient as WireRecipient;
use crate::limits;
use crate::parameters::{essentials_in, essentials_out, format_in, side_in, side_out, terms_in, terms_out};
use crate::wire_error::WireError;

/// To the wire. Texts are cut to [`limits::MAX_TEXT_BYTES`].
pub fn to_wire(message: &Message) -> pb::ChannelMessage {
    let kind = match message {
        Message::UpdateAddHtlc(add) => Kind::UpdateAddHtlc(add_out(add)),
        Message::PricedAddHtlc { add, deducted_msat } => {
            Kind::UpdateAddHtlc(pb::UpdateAddHtlc { deducted_msat: deducted_msat.to_u64(), ..add_out(add) })
        }
        Message::UpdateFulfillHtlc { id, preimage } => {
            Kind::UpdateFulfillHtlc(pb::UpdateFulfillHtlc { id: *id, preimage: bytes(preimage.as_bytes()) })
        }
        Message::UpdateFailHtlc { id, reason } => {
            Kind::UpdateFailHtlc(pb::UpdateFailHtlc { id: *id, reason: reason_out(*reason).into() })
        }
        Message::CommitmentSigned(signed) => Kind::CommitmentSigned(pb::CommitmentSigned {
            number: signed.number,
            signature: signature_out(&signed.signatures.commitment),
            htlc_signatures: htlc_signatures_out(&signed.signatures.htlcs),
            sealed: bytes(&signed.sealed),
        }),
        Message::RevokeAndAck(revoke) => Kind::RevokeAndAck(pb::RevokeAndAck {
            number: revoke.number,
            secret: bytes(revoke.secret.as_bytes()),
            next_point: bytes(revoke.next_point.as_bytes()),
        }),
        Message::Reestablish(reestablish) => Kind::Reestablish(reestablish_out(reestablish)),
        Message::OpenChannel(open) => Kind::OpenChannel(pb::OpenChannel {
            format: open.format.clone(),
            capacity_sat: open.capacity_sat,
            dust_limit_sat: open.dust_limit_sat,
            minimum_depth: open.minimum_depth,
            opener: Some(side_out(&open.opener)),
            price_msat: open.price_msat.to_u64(),
            reserve_sat: open.reserve_sat,
            reserve_price_msat: open.reserve_price_msat.to_u64(),
        }),
        Message::AcceptChannel(accept) => Kind::AcceptChannel(pb::AcceptChannel {
            minimum_depth: accept.minimum_depth,
            accepter: Some(side_out(&accept.accepter)),
            reserve_script: bytes(accept.reserve_script.as_bytes()),
        }),
        Message::FundingCreated(created) => Kind::FundingCreated(pb::FundingCreated {
            outpoint: Some(outpoint_out(&created.outpoint)),
            signature: signature_out(&created.signature),
            sealed: bytes(&created.sealed),
            transaction: created.transaction.as_ref().map(consensus::serialize).unwrap_or_default().into(),
        }),
        Message::FundingSigned(signed) => Kind::FundingSigned(pb::FundingSigned {
            signature: signature_out(&signed.signature),
            sealed: bytes(&signed.sealed),
        }),
        Message::ChannelReady => Kind::ChannelReady(pb::ChannelReady {}),
        Message::Shutdown(shutdown) => {
            Kind::Shutdown(pb::Shutdown { script: bytes(shutdown.script.as_bytes()) })
        }
        Message::ClosingTerms(terms) => Kind::ClosingTerms(terms_out(terms)),
        Message::ClosingTicket(ticket) => Kind::ClosingTicket(pb::ClosingTicket {
            terms: Some(terms_out(&ticket.terms)),
            signature: signature_out(&ticket.signature),
        }),
        Message::ClosingTransaction { transaction } => {
            Kind::ClosingTransaction(pb::ClosingTransaction { transaction: bytes(transaction) })
        }
        Message::ChannelError { text, cannot_publish } => {
            Kind::ChannelError(pb::ChannelError { text: cut_text(text), cannot_publish: *cannot_publish })
        }
    };
    pb::ChannelMessage { kind: Some(kind) }
}

/// From the wire. What it lets through is well-formed; whether it is allowed is `Channel::check`'s question.
pub fn from_wire(message: pb::ChannelMessage) -> Result<Message, WireError> {
    let kind = message.kind.ok_or(WireError::UnknownKind { what: "a channel message" })?;
    Ok(match kind {
        Kind::UpdateAddHtlc(add) => match msat("deducted_msat", add.deducted_msat, 0)? {
            Msat::ZERO => Message::UpdateAddHtlc(add_in(add)?),
            deducted_msat => Message::PricedAddHtlc { add: add_in(add)?, deducted_msat },
        },
        Kind::UpdateFulfillHtlc(fulfill) => Message::UpdateFulfillHtlc {
            id: fulfill.id,
            preimage: Preimage::from_bytes(fixed("preimage", &fulfill.preimage)?),
        },
        Kind::UpdateFailHtlc(fail) => {
            Message::UpdateFailHtlc { id: fail.id, reason: reason_in("reason", fail.reason)? }
        }
        Kind::CommitmentSigned(signed) => Message::CommitmentSigned(CommitmentSigned {
            number: commitment_number("number", signed.number)?,
            signatures: CommitmentSignatures {
                commitment: signature("signature", &signed.signature)?,
                htlcs: htlc_signatures_in(&signed.htlc_signatures)?,
            },
            sealed: at_most("sealed", &signed.sealed, limits::MAX_SEALED_BYTES)?,
        }),
        Kind::RevokeAndAck(revoke) => Message::RevokeAndAck(RevokeAndAck {
            number: commitment_number("number", revoke.number)?,
            secret: CommitmentSecret::from_bytes(fixed("secret", &revoke.secret)?),
            next_point: point("next_point", &revoke.next_point)?,
        }),
        Kind::Reestablish(reestablish) => Message::Reestablish(Box::new(reestablish_in(reestablish)?)),
        Kind::OpenChannel(open) => Message::OpenChannel(Box::new(OpenChannel {
            format: format_in(open.format)?,
            capacity_sat: sat("capacity_sat", open.capacity_sat)?,
            dust_limit_sat: sat("dust_limit_sat", open.dust_limit_sat)?,
            minimum_depth: open.minimum_depth,
            opener: side_in("opener", open.opener)?,
            price_msat: msat("price_msat", open.price_msat, 0)?,
            reserve_sat: sat("reserve_sat", open.reserve_sat)?,
            reserve_price_msat: msat("reserve_price_msat", open.reserve_price_msat, 0)?,
        })),
        Kind::AcceptChannel(accept) => Message::AcceptChannel(Box::new(AcceptChannel {
            minimum_depth: accept.minimum_depth,
            accepter: side_in("accepter", accept.accepter)?,
            reserve_script: ScriptBuf::from_bytes(at_most(
                "reserve_script",
                &accept.reserve_script,
                limits::MAX_SCRIPT_BYTES,
            )?),
        })),
        Kind::FundingCreated(created) => Message::FundingCreated(FundingCreated {
            outpoint: outpoint("outpoint", created.outpoint)?,
            signature: signature("signature", &created.signature)?,
            transaction: funding_in(&created.transaction)?,
            sealed: at_most("sealed", &created.sealed, limits::MAX_SEALED_BYTES)?,
        }),
        Kind::FundingSigned(signed) => Message::FundingSigned(FundingSigned {
            signature: signature("signature", &signed.signature)?,
            sealed: at_most("sealed", &signed.sealed, limits::MAX_SEALED_BYTES)?,
        }),
        Kind::ChannelReady(pb::ChannelReady {}) => Message::ChannelReady,
        Kind::Shutdown(shutdown) => Message::Shutdown(Shutdown {
            script: ScriptBuf::from_bytes(at_most("script", &shutdown.script, limits::MAX_SCRIPT_BYTES)?),
        }),
        Kind::ClosingTerms(terms) => Message::ClosingTerms(terms_in(terms)?),
        Kind::ClosingTicket(ticket) => Message::ClosingTicket(Ticket {
            terms: terms_in(present("terms", ticket.terms)?)?,
            signature: signature("signature", &ticket.signature)?,
        }),
        Kind::ClosingTransaction(closing) => {
            let transaction = at_most("transaction", &closing.transaction, limits::MAX_TRANSACTION_BYTES)?;
            consensus::deserialize::<Transaction>(&transaction)
                .map_err(|_| WireError::NotATransaction { field: "transaction" })?;
            Message::ClosingTransaction { transaction }
        }
        Kind::ChannelError(error) => {
            Message::ChannelError { text: text("text", error.text)?, cannot_publish: error.cannot_publish }
        }
    })
}

fn funding_in(bytes: &[u8]) -> Result<Option<Transaction>, WireError> {
    let bytes = at_most("transaction", bytes, limits::MAX_FUNDING_BYTES)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let transaction = consensus::deserialize(&bytes);
    transaction.map(Some).map_err(|_| WireError::NotATransaction { field: "transaction" })
}

fn add_out(add: &UpdateAddHtlc) -> pb::UpdateAddHtlc {
    pb::UpdateAddHtlc {
        id: add.id,
        amount_msat: add.amount_msat.to_u64(),
        payment_hash: bytes(add.payment_hash.as_bytes()),
        cltv_expiry: add.cltv_expiry,
        recipient: Some(match &add.recipient {
            Recipient::Node(key) => WireRecipient::NodeKey(bytes(key.as_bytes())),
            Recipient::Stream { id, index } => {
                WireRecipient::Tick(pb::StreamTick { stream_id: bytes(&id.0), index: *index })
            }
        }),
        forward: add.forward.as_ref().map(|forward| pb::ForwardInstruction {
            amount_msat: forward.amount_msat.to_u64(),
            cltv_expiry: forward.cltv_expiry,
        }),
        payload: bytes(&add.payload),
        deducted_msat: 0,
    }
}

/// A zero amount passes: BOLT 2 makes it a failure of the channel, which `Channel::check` decides.
fn add_in(add: pb::UpdateAddHtlc) -> Result<UpdateAddHtlc, WireError> {
    let recipient = match present("recipient", add.recipient)? {
        WireRecipient::NodeKey(key) => Recipient::Node(point("recipient.node_key", &key)?),
        WireRecipient::Tick(tick) => Recipient::Stream {
            id: stream_id("recipient.tick.stream_id", &tick.stream_id)?,
            index: tick.index,
        },
    };
    let forward = match add.forward {
        None => None,
        Some(forward) => Some(ForwardInstruction {
            amount_msat: msat("forward.amount_msat", forward.amount_msat, 0)?,
            cltv_expiry: forward.cltv_expiry,
        }),
    };
    Ok(UpdateAddHtlc {
        id: add.id,
        amount_msat: msat("amount_msat", add.amount_msat, 0)?,
        payment_hash: PaymentHash::from_bytes(fixed("payment_hash", &add.payment_hash)?),
        cltv_expiry: add.cltv_expiry,
        recipient,
        forward,
        payload: at_most("payload", &add.payload, limits::MAX_PAYLOAD_BYTES)?,
    })
}

fn reestablish_out(reestablish: &Reestablish) -> pb::Reestablish {
    pb::Reestablish {
        next_commitment_number: reestablish.next_commitment_number,
        next_revocation_number: reestablish.next_revocation_number,
        last_secret: bytes(reestablish.last_secret.as_bytes()),
        frozen: reestablish.frozen.as_ref().map(terms_out),
        essentials: reestablish.essentials.as_ref().map(essentials_out),
    }
}

fn reestablish_in(reestablish: pb::Reestablish) -> Result<Reestablish, WireError> {
    Ok(Reestablish {
        next_commitment_number: commitment_number(
            "next_commitment_number",
            reestablish.next_commitment_number,
        )?,
        next_revocation_number: commitment_number(
            "next_revocation_number",
            reestablish.next_revocation_number,
        )?,
        last_secret: CommitmentSecret::from_bytes(fixed("last_secret", &reestablish.last_secret)?),
        frozen: reestablish.frozen.map(terms_in).transpose()?,
        essentials: reestablish.essentials.map(essentials_in).transpose()?,
    })
}

fn htlc_signatures_out(signatures: &[CompactSignature]) -> ::bytes::Bytes {
    let mut all = Vec::with_capacity(signatures.len() * 64);
    for signature in signatures {
        all.extend_from_slice(signature.as_bytes());
    }
    all.into()
}

fn htlc_signatures_in(all: &[u8]) -> Result<Vec<CompactSignature>, WireError> {
    const FIELD: &str = "htlc_signatures";
    let (parts, rest) = all.as_chunks::<64>();
    if !rest.is_empty() {
        let expected = (parts.len() + 1) * 64;
        return Err(WireError::WrongLength { field: FIELD, got: all.len(), expected });
    }
    if parts.len() > limits::MAX_HTLC_SIGNATURES {
        let limit = limits::MAX_HTLC_SIGNATURES;
        return Err(WireError::TooMany { what: "HTLC signatures", got: parts.len(), limit });
    }
    parts.iter().map(|part| signature(FIELD, part)).collect()
}

/// To the wire: the discriminants of both enums are the same.
pub fn reason_out(reason: FailureReason) -> pb::FailureReason {
    i32::try_from(reason.code())
        .ok()
        .and_then(|code| pb::FailureReason::try_from(code).ok())
        .unwrap_or(pb::FailureReason::Unspecified)
}

/// From the wire.
pub fn reason_in(field: &'static str, code: i32) -> Result<FailureReason, WireError> {
    u32::try_from(code)
        .ok()
        .and_then(FailureReason::from_code)
        .ok_or(WireError::UnknownValue { field, got: code.into() })
}
