//! How much a wallet may do in a time: a bucket that fills steadily and holds one period's worth.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket. Times are handed in.
#[derive(Debug, Clone)]
pub struct Bucket {
    capacity: u64,
    period: Duration,
    tokens: u64,
    /// When the bucket last gained a whole token.
    filled_at: Instant,
}

impl Bucket {
    /// `capacity` tokens in each `period`, all there at first.
    pub fn new(capacity: u32, period: Duration, now: Instant) -> Self {
        let capacity = u64::from(capacity.max(1));
        Bucket { capacity, period, tokens: capacity, filled_at: now }
    }

    /// Takes the tokens if they are there.
    pub fn take(&mut self, count: u64, now: Instant) -> bool {
        self.fill(now);
        if self.tokens < count {
            return false;
        }
        self.tokens -= count;
        true
    }

    /// Takes the tokens now and says how long to wait before going on. More than the capacity is never waited for, so
    /// that one large request gets through.
    pub fn take_later(&mut self, count: u64, now: Instant) -> Duration {
        self.fill(now);
        let count = count.min(self.capacity);
        let missing = count.saturating_sub(self.tokens);
        self.tokens = self.tokens.saturating_sub(count);
        if missing == 0 {
            return Duration::ZERO;
        }
        let wait = self.time_of(missing);
        // The tokens waited for are spent: the bucket starts to fill again after the wait.
        self.filled_at = now + wait;
        wait
    }

    /// Whether nothing was taken for a whole period: such a bucket can be forgotten.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens == self.capacity
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let gained =
            elapsed.as_nanos().saturating_mul(u128::from(self.capacity)) / self.period.as_nanos().max(1);
        if gained == 0 {
            return;
        }
        let room = self.capacity - self.tokens;
        if gained >= u128::from(room) {
            self.tokens = self.capacity;
            self.filled_at = now;
        } else {
            let gained = u64::try_from(gained).unwrap_or(room);
            self.tokens += gained;
            self.filled_at += self.time_of(gained);
        }
    }

    fn time_of(&self, tokens: u64) -> Duration {
        let nanos = self.period.as_nanos().saturating_mul(u128::from(tokens)) / u128::from(self.capacity);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_capacity_at_once_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, Duration::from_secs(1), start);
        assert!(bucket.take(10, start));
        assert!(!bucket.take(1, start));
        assert!(!bucket.take(1, start + Duration::from_millis(99)));
        assert!(bucket.take(1, start + Duration::from_millis(100)));
        assert!(bucket.take(10, start + Duration::from_secs(10)));
        assert!(!bucket.take(1, start + Duration::from_secs(10)));
    }

    #[test]
    fn who_is_too_fast_waits_for_exactly_what_is_missing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, Duration::from_secs(1), start);
        assert_eq!(bucket.take_later(1000, start), Duration::ZERO);
        assert_eq!(bucket.take_later(500, start), Duration::from_millis(500));
        let later = start + Duration::from_millis(500);
        assert_eq!(bucket.take_later(100, later), Duration::from_millis(100));
    }

    #[test]
    fn slow_drips_are_not_lost_to_rounding() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, Duration::from_secs(1), start);
        assert!(bucket.take(3, start));
        let taken = (1..=1000u64).filter(|ms| bucket.take(1, start + Duration::from_millis(*ms))).count();
        assert_eq!(taken, 3);
    }
}
