//! Holds a run to its share of a core: a token bucket over the CPU time of its thread.

use std::time::Duration;

/// Longest time for which unused CPU time is kept: the sliding window over which the share holds.
pub const WINDOW: Duration = Duration::from_millis(200);

/// Decides how long a run must rest. Both clocks are counted from the run's beginning.
#[derive(Debug, Clone)]
pub struct Throttle {
    share_milli: u64,
    wall: Duration,
    cpu: Duration,
    // CPU nanoseconds that may still be used; negative after a tick that used more.
    tokens_ns: i128,
}

impl Throttle {
    /// For this many thousandths of one core. A WASI preview 1 program has one thread: 1,000 and more is never held back.
    pub fn new(share_milli: u64) -> Self {
        let mut throttle = Self {
            share_milli,
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            tokens_ns: 0,
        };
        throttle.tokens_ns = throttle.earned(WINDOW);
        throttle
    }

    fn earned(&self, wall: Duration) -> i128 {
        i128::try_from(wall.as_nanos())
            .unwrap_or(i128::MAX / 2_000)
            .saturating_mul(self.share_milli.into())
            / 1_000
    }

    /// Takes both clocks and gives how long the run must rest before it goes on.
    pub fn pause(&mut self, wall: Duration, cpu: Duration) -> Duration {
        if self.share_milli >= 1_000 {
            return Duration::ZERO;
        }
        let used = i128::try_from(cpu.saturating_sub(self.cpu).as_nanos()).unwrap_or(i128::MAX / 2);
        let earned = self.earned(wall.saturating_sub(self.wall));
        self.tokens_ns = (self.tokens_ns + earned).min(self.earned(WINDOW)) - used;
        (self.wall, self.cpu) = (wall, cpu);
        if self.tokens_ns >= 0 {
            return Duration::ZERO;
        }
        let rest = (-self.tokens_ns).saturating_mul(1_000) / i128::from(self.share_milli.max(1));
        Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX)).min(Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // A program that always wants the core gets its share and not more than one window besides.
        #[test]
        fn a_greedy_program_gets_its_share(share in 1_u64..1_000, tick_us in 100_u64..20_000) {
            let mut throttle = Throttle::new(share);
            let (mut wall, mut cpu) = (Duration::ZERO, Duration::ZERO);
            let tick = Duration::from_micros(tick_us);
            for _ in 0..2_000 {
                wall += tick;
                cpu += tick;
                wall += throttle.pause(wall, cpu);
            }
            let owed = wall.as_secs_f64() * share as f64 / 1_000.0;
            let window = WINDOW.as_secs_f64() * share as f64 / 1_000.0;
            prop_assert!(cpu.as_secs_f64() <= owed + window + tick.as_secs_f64() + 1e-6);
            prop_assert!(cpu.as_secs_f64() >= owed * 0.99 - 1e-6);
        }
    }

    #[test]
    fn rest_is_not_saved_up_beyond_the_window() {
        let mut throttle = Throttle::new(500);
        let hour = Duration::from_secs(3_600);
        assert_eq!(throttle.pause(hour, Duration::ZERO), Duration::ZERO);
        let burst = Duration::from_millis(300);
        assert_eq!(throttle.pause(hour + burst, burst), Duration::from_millis(400));
    }

    #[test]
    fn a_whole_core_is_never_held_back() {
        assert_eq!(
            Throttle::new(1_000).pause(Duration::from_secs(1), Duration::from_secs(2)),
            Duration::ZERO
        );
    }
}
