//! What both sides fix when a channel is opened, and the essentials that bring it back: to and from the wire.

use bitcoin::Amount;
use channel::keys::{Basepoints, Point};
use channel::message::{ClosingTerms, Essentials, SideParameters};

use crate::fields::{at_most, bytes, height, msat, outpoint, outpoint_out, point, present, sat, small};
use crate::hub::v1 as pb;
use crate::limits;
use crate::wire_error::WireError;

fn out(point: &Point) -> ::bytes::Bytes {
    bytes(point.as_bytes())
}

/// To the wire.
pub fn side_out(side: &SideParameters) -> pb::SideParameters {
    let points = &side.basepoints;
    pb::SideParameters {
        basepoints: Some(pb::Basepoints {
            funding: out(&points.funding),
            revocation: out(&points.revocation),
            payment: out(&points.payment),
            delayed_payment: out(&points.delayed_payment),
            htlc: out(&points.htlc),
        }),
        first_point: out(&side.first_point),
        second_point: out(&side.second_point),
        to_self_delay_blocks: side.to_self_delay_blocks.into(),
        htlc_minimum_msat: side.htlc_minimum_msat.to_u64(),
        max_htlc_value_in_flight_msat: side.max_htlc_value_in_flight_msat.to_u64(),
        max_accepted_htlcs: side.max_accepted_htlcs.into(),
        max_accepted_dust_htlcs: side.max_accepted_dust_htlcs.into(),
    }
}

/// From the wire.
pub fn side_in(field: &'static str, side: Option<pb::SideParameters>) -> Result<SideParameters, WireError> {
    let side = present(field, side)?;
    let points = present("basepoints", side.basepoints)?;
    Ok(SideParameters {
        basepoints: Basepoints {
            funding: point("basepoints.funding", &points.funding)?,
            revocation: point("basepoints.revocation", &points.revocation)?,
            payment: point("basepoints.payment", &points.payment)?,
            delayed_payment: point("basepoints.delayed_payment", &points.delayed_payment)?,
            htlc: point("basepoints.htlc", &points.htlc)?,
        },
        first_point: point("first_point", &side.first_point)?,
        second_point: point("second_point", &side.second_point)?,
        to_self_delay_blocks: small("to_self_delay_blocks", side.to_self_delay_blocks, 1)?,
        htlc_minimum_msat: msat("htlc_minimum_msat", side.htlc_minimum_msat, 0)?,
        max_htlc_value_in_flight_msat: msat(
            "max_htlc_value_in_flight_msat",
            side.max_htlc_value_in_flight_msat,
            0,
        )?,
        max_accepted_htlcs: small("max_accepted_htlcs", side.max_accepted_htlcs, 0)?,
        max_accepted_dust_htlcs: small("max_accepted_dust_htlcs", side.max_accepted_dust_htlcs, 0)?,
    })
}

/// A commitment format's name.
pub fn format_in(format: String) -> Result<String, WireError> {
    if format.len() > limits::MAX_FORMAT_BYTES {
        return Err(WireError::TooLong {
            field: "format",
            got: format.len(),
            limit: limits::MAX_FORMAT_BYTES,
        });
    }
    Ok(format)
}

/// To the wire.
pub fn essentials_out(essentials: &Essentials) -> pb::Essentials {
    pb::Essentials {
        outpoint: Some(outpoint_out(&essentials.outpoint)),
        capacity_sat: essentials.capacity_sat,
        format: essentials.format.clone(),
        receiver_is_opener: essentials.receiver_is_opener,
        sender: Some(side_out(&essentials.sender)),
        receiver: Some(side_out(&essentials.receiver)),
        sealed: bytes(&essentials.sealed),
    }
}

/// From the wire.
pub fn essentials_in(essentials: pb::Essentials) -> Result<Essentials, WireError> {
    Ok(Essentials {
        outpoint: outpoint("outpoint", essentials.outpoint)?,
        capacity_sat: sat("capacity_sat", essentials.capacity_sat)?,
        format: format_in(essentials.format)?,
        receiver_is_opener: essentials.receiver_is_opener,
        sender: side_in("sender", essentials.sender)?,
        receiver: side_in("receiver", essentials.receiver)?,
        sealed: at_most("sealed", &essentials.sealed, limits::MAX_SEALED_BYTES)?,
    })
}

/// To the wire.
pub fn terms_out(terms: &ClosingTerms) -> pb::ClosingTerms {
    pb::ClosingTerms { fee_sat: terms.fee.to_sat(), publish_by_height: terms.publish_by_height }
}

/// From the wire.
pub fn terms_in(terms: pb::ClosingTerms) -> Result<ClosingTerms, WireError> {
    Ok(ClosingTerms {
        fee: Amount::from_sat(sat("fee_sat", terms.fee_sat)?),
        publish_by_height: height("publish_by_height", terms.publish_by_height)?,
    })
}
