//! The limits and prices `check` applies. Configured by the host; changes take effect with the next event.

use serde::{Deserialize, Serialize};

use crate::amount::Msat;

/// Policy of this side for its channels. Values of a channel's opening are frozen into it; the rest is read at each check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Forwarding fee: `fee_base_msat + amount * fee_ppm / 1_000_000`, rounded down (BOLT 7). Zero at the wallet.
    pub fee_base_msat: u64,
    pub fee_ppm: u32,
    /// Least difference between an incoming and its outgoing expiry, in blocks (BOLT 2 `cltv_expiry_delta`).
    pub cltv_expiry_delta: u16,
    /// Furthest an HTLC may expire from now, in blocks.
    pub max_cltv_expiry_delta: u32,
    /// Least number of blocks an HTLC's expiry must lie ahead for us to sign or accept it.
    pub min_cltv_expiry_ahead: u32,
    pub htlc_minimum_msat: Msat,
    /// As a share of the capacity, in percent.
    pub max_in_flight_percent: u8,
    pub max_accepted_htlcs: u16,
    pub max_accepted_dust_htlcs: u16,
    /// Most that trimmed HTLCs of one channel may put at risk, both directions together.
    pub max_dust_htlc_exposure_msat: Msat,
    pub dust_limit_sat: u64,
    /// What we impose on the counterparty, in blocks.
    pub to_self_delay_blocks: u16,
    /// Most we let the counterparty impose on us, in blocks.
    pub max_to_self_delay_blocks: u16,
    pub minimum_depth: u32,
    pub min_capacity_sat: u64,
    pub max_capacity_sat: u64,
    /// Wallet: the highest closing fee it agrees to, in satoshi.
    pub max_closing_fee_sat: u64,
}
