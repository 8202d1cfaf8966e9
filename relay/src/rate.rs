//! A token bucket. Pure: the caller says what time it is.

use std::time::Duration;

/// Tokens come at `rate` a second up to `burst`. A rate of zero means no limit.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: u64, burst: u64) -> Self {
        Self { rate: rate as f64, burst: burst as f64, tokens: burst as f64, at: Duration::ZERO }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
    }

    /// Takes `amount` when it is there.
    pub fn try_take(&mut self, amount: u64, now: Duration) -> bool {
        if self.rate == 0.0 {
            return true;
        }
        self.refill(now);
        let enough = self.tokens >= amount as f64;
        if enough {
            self.tokens -= amount as f64;
        }
        enough
    }

    /// Takes `amount` in any case and says how long to wait until the debt is paid.
    pub fn take(&mut self, amount: u64, now: Duration) -> Duration {
        if self.rate == 0.0 {
            return Duration::ZERO;
        }
        self.refill(now);
        self.tokens -= amount as f64;
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.tokens / self.rate) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::new(10, 5);
        let second = Duration::from_secs(1);
        assert_eq!((0..8).filter(|_| bucket.try_take(1, second)).count(), 5);
        assert!(!bucket.try_take(1, second + Duration::from_millis(50)));
        assert!(bucket.try_take(1, second + Duration::from_millis(101)));
        assert_eq!((0..100).filter(|_| bucket.try_take(1, second * 60)).count(), 5);
    }

    #[test]
    fn debt_is_waited_for() {
        let mut bucket = Bucket::new(1000, 500);
        let now = Duration::from_secs(3);
        assert_eq!(bucket.take(500, now), Duration::ZERO);
        assert_eq!(bucket.take(250, now), Duration::from_millis(250));
        assert_eq!(bucket.take(0, now + Duration::from_millis(250)), Duration::ZERO);
    }

    #[test]
    fn zero_is_no_limit_and_time_never_runs_back() {
        let mut free = Bucket::new(0, 0);
        assert!(free.try_take(u64::MAX, Duration::ZERO));
        let mut bucket = Bucket::new(10, 1);
        assert!(bucket.try_take(1, Duration::from_secs(9)));
        assert!(!bucket.try_take(1, Duration::from_secs(1)));
    }
}
