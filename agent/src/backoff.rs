//! When to try again what failed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Remembers failures by what failed; each doubles the wait up to a limit, with up to a quarter of jitter.
#[derive(Debug)]
pub struct Backoff<K> {
    first: Duration,
    longest: Duration,
    failures: BTreeMap<K, (u32, Instant)>,
}

impl<K: Ord> Backoff<K> {
    /// Waits from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: BTreeMap::new(),
        }
    }

    /// Whether it may be tried at an instant.
    pub fn ready(&self, key: &K, now: Instant) -> bool {
        self.failures.get(key).is_none_or(|(_, until)| *until <= now)
    }

    /// It failed: gives the wait.
    pub fn failed(&mut self, key: K, now: Instant) -> Duration {
        self.failed_in_haste(key, now, self.longest)
    }

    /// It failed, and cannot wait longer than this whatever the limit: gives the wait.
    pub fn failed_in_haste(&mut self, key: K, now: Instant, longest: Duration) -> Duration {
        let (count, until) = self.failures.entry(key).or_insert((0, now));
        let wait = self
            .first
            .saturating_mul(1 << (*count).min(16))
            .min(self.longest)
            .min(longest);
        let wait = wait + wait.mul_f64(rand::random::<f64>() / 4.0);
        *count += 1;
        *until = now + wait;
        wait
    }

    /// It worked.
    pub fn worked(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// Drops what is not worth remembering.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.failures.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_end_with_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let now = Instant::now();
        assert!(backoff.ready(&1, now));
        let waits: Vec<u64> = (0..6)
            .map(|_| backoff.failed(1, now).as_millis() as u64 / 1_000)
            .collect();
        for (wait, least) in waits.iter().zip([1, 2, 4, 8, 10, 10]) {
            assert!((least..=least * 5 / 4).contains(wait), "{waits:?}");
        }
        assert!(!backoff.ready(&1, now) && backoff.ready(&2, now));
        backoff.worked(&1);
        assert!(backoff.ready(&1, now));
        let hasty = (0..6)
            .map(|_| backoff.failed_in_haste(2, now, Duration::from_secs(3)))
            .max();
        assert!(
            hasty.is_some_and(|wait| wait <= Duration::from_millis(3_750)),
            "{hasty:?}"
        );
    }
}
