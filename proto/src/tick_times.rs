//! The histogram of `TickTimes`: which bucket a time belongs to, and which times a bucket holds.

/// Times below this have a bucket each; it is two times the buckets of a doubling.
const EXACT: u64 = 32;

/// The last bucket holds everything from here on, in microseconds: 19 hours.
const LONGEST_US: u64 = 1 << 36;

/// The bucket of a time in microseconds: 0 to 528.
pub fn bucket(us: u64) -> usize {
    let us = us.min(LONGEST_US);
    // From EXACT on, the five highest bits place a time: the number of doublings, then where it lies in its own.
    let shift = us.max(EXACT).ilog2() - (EXACT / 2).ilog2();
    let place = if us < EXACT { us } else { u64::from(shift) * (EXACT / 2) + (us >> shift) };
    usize::try_from(place).expect("at most 528 fits any usize")
}

/// The longest time that a bucket holds, in microseconds.
pub fn longest_us(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    if bucket < EXACT {
        return bucket;
    }
    let half = EXACT / 2;
    let shift = bucket / half - 1;
    let within = bucket % half + half;
    if shift >= 40 { u64::MAX } else { ((within + 1) << shift) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_bucket_and_buckets_follow_each_other() {
        let mut times: Vec<u64> = (0..5_000).collect();
        times.extend((13..36).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]));
        for us in times {
            let place = bucket(us);
            assert!(us <= longest_us(place), "{us}");
            assert!(place == 0 || us > longest_us(place - 1), "{us}");
        }
        assert_eq!(bucket(u64::MAX), bucket(LONGEST_US));
    }

    #[test]
    fn a_bucket_tells_a_time_to_six_percent() {
        for us in [40_u64, 999, 12_345, 1_000_000, 60_000_000] {
            let found = longest_us(bucket(us));
            assert!(found >= us && (found - us) * 16 <= us, "{us} became {found}");
        }
    }
}
