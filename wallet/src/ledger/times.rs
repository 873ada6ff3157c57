//! How long ticks take, measured and not recorded: from the round that sent each until its preimage was here.

use std::collections::VecDeque;

use proto::tick_times::bucket;

use super::runs::Run;

/// Runs of ticks whose sending is remembered; older ones are measured no more.
const MAX_RUNS: usize = 8_192;

/// One stream's measurements.
#[derive(Clone, Debug, Default)]
pub struct TickTimes {
    /// Ticks sent together, and when, in the order of their indices.
    runs: VecDeque<(Run, u64)>,
    counts: Vec<u64>,
}

impl TickTimes {
    /// These ticks are sent now.
    pub fn sent(&mut self, run: Run, now_us: u64) {
        if self.runs.len() >= MAX_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back((run, now_us));
    }

    /// A tick's preimage is here. Ticks sent before this process began are not known, and not counted.
    pub fn settled(&mut self, index: u64, now_us: u64) {
        let at = self.runs.partition_point(|(run, _)| run.numbers().end <= index);
        let Some((run, sent_us)) = self.runs.get(at) else { return };
        if !run.numbers().contains(&index) {
            return;
        }
        let place = bucket(now_us.saturating_sub(*sent_us));
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
    }

    /// Counts by bucket, without trailing zeros.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_counts_in_the_bucket_of_its_time() {
        let mut times = TickTimes::default();
        times.sent(Run { first: 10, count: 5 }, 100);
        times.sent(Run { first: 15, count: 1 }, 200);
        times.settled(12, 107);
        times.settled(15, 203);
        times.settled(14, 107);
        times.settled(9, 300);
        times.settled(16, 300);
        let mut expected = vec![0; 8];
        (expected[7], expected[3]) = (2, 1);
        assert_eq!(times.counts(), expected);
    }

    #[test]
    fn memory_is_bounded() {
        let mut times = TickTimes::default();
        for index in 0..20_000 {
            times.sent(Run::one(index), index);
        }
        assert_eq!(times.runs.len(), MAX_RUNS);
        times.settled(0, 1);
        assert!(times.counts().is_empty(), "too old to be measured");
    }
}
