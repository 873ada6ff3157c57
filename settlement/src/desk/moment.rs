//! The world at a request: what the machine must not read by itself.

use bitcoin::FeeRate;

use crate::limits;

/// Time, fees and chance.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub unix_seconds: u64,
    /// For what has a few blocks' time; held within the bounds.
    pub feerate: FeeRate,
    pub estimates: Estimates,
    pub randomness: [u8; 32],
}

/// What bitcoind estimates, held within the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimates {
    /// Within [`limits::URGENT_TARGET_BLOCKS`].
    pub urgent: FeeRate,
    /// Within [`limits::FEE_TARGET_BLOCKS`].
    pub usual: FeeRate,
    /// Within [`limits::PATIENT_TARGET_BLOCKS`].
    pub patient: FeeRate,
}

impl Estimates {
    /// The same for every target.
    pub fn flat(feerate: FeeRate) -> Self {
        Self { urgent: feerate, usual: feerate, patient: feerate }
    }

    /// A feerate that confirms within as many blocks.
    pub fn within(&self, blocks: u16) -> FeeRate {
        if blocks < limits::FEE_TARGET_BLOCKS {
            self.urgent
        } else if blocks < limits::PATIENT_TARGET_BLOCKS {
            self.usual
        } else {
            self.patient
        }
    }
}
