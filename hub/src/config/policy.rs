//! The configured prices and limits, as the channels take them.

use channel::amount::Msat;
use channel::policy::Policy;

use super::PolicyConfig;

impl PolicyConfig {
    /// The policy that `check` applies.
    pub fn channel_policy(&self) -> Policy {
        let msat = |amount: u64| Msat::new(amount).unwrap_or(Msat::MAX);
        Policy {
            fee_base_msat: self.fee_base_msat,
            fee_ppm: self.fee_ppm,
            cltv_expiry_delta: self.cltv_expiry_delta,
            max_cltv_expiry_delta: self.max_cltv_expiry_delta,
            min_cltv_expiry_ahead: self.min_cltv_expiry_ahead,
            htlc_minimum_msat: msat(self.htlc_minimum_msat),
            max_in_flight_percent: self.max_in_flight_percent,
            max_accepted_htlcs: self.max_accepted_htlcs,
            max_accepted_dust_htlcs: self.max_accepted_dust_htlcs,
            max_dust_htlc_exposure_msat: msat(self.max_dust_htlc_exposure_msat),
            dust_limit_sat: self.dust_limit_sat,
            to_self_delay_blocks: self.to_self_delay_blocks,
            max_to_self_delay_blocks: self.max_to_self_delay_blocks,
            minimum_depth: self.minimum_depth,
            min_capacity_sat: self.min_capacity_sat,
            max_capacity_sat: self.max_capacity_sat,
            // The hub pays closing fees out of the wallets' agreed ones; this limit is the wallets'.
            max_closing_fee_sat: 0,
        }
    }
}
