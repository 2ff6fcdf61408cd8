//! The arithmetic of escrow: plain values, no store. The tests hold it to an exact oracle over random histories.
//!
//! A [`Stream`] is one lease's payment: rates in base units per hour, each from an instant on. Its exact due is Σ rate · attested milliseconds,
//! in units of 1/D with D = 3,600,000; whole base units are paid and the remainder is carried in `acc`, so that whatever the pattern of
//! settlements, `paid = floor(Σ rateᵢ · attested_msᵢ / D)`.
//!
//! A [`Pool`] is the money that several streams draw on. What stream l can owe by an instant t, were every millisecond attested, is
//! `r·t − k` after its last segment began ([`Contribution`]). With R = Σ r and K = Σ k the pool covers everything until
//! `X = floor((balance·D + K) / R)`: constant work for each stream that changes. All streams stop at X, so the balance never goes below zero
//! and there is no other rule of division among them.
//!
//! Numbers: rates below 2^60, instants below 2^43 ms, balances below 2^90, at most 64 streams; so all intermediate values are below 2^113 and
//! i128 holds them. Every operation is checked all the same.

use tenure_types::{Error, Result, MS_PER_HOUR};

/// Most unsettled segments of a stream. The last place is kept for a segment of rate 0: a pause, an exhaustion or the end always fit.
pub const MAX_SEGMENTS: usize = 8;
/// Greatest rate, base units per hour.
pub const MAX_RATE: u64 = (1 << 60) - 1;
/// Greatest balance of a pool, base units.
pub const MAX_BALANCE: u128 = (1 << 90) - 1;
/// The instant until which a pool without running streams is funded, and one with so much money that the instant has no number.
pub const FOREVER: u64 = u64::MAX;

const D: i128 = MS_PER_HOUR as i128;

/// From this instant on, this rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Instant, milliseconds.
    pub from_ms: u64,
    /// Base units per hour; 0 while paused or ended.
    pub rate: u64,
}

/// One lease's unsettled due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Time before this is settled.
    pub settled_to_ms: u64,
    /// Carried remainder, in [0, D).
    pub acc: u64,
    /// Segments in order of time; all but the first begin after `settled_to_ms`. Never empty.
    pub segments: Vec<Segment>,
}

/// What a stream adds to its pool's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contribution {
    /// Current rate.
    pub rate: u64,
    /// K: after the last segment began, the stream owes at most `rate·t − k` by instant t (in 1/D).
    pub k: i128,
}

impl Stream {
    /// A stream that begins.
    pub fn start(now_ms: u64, rate: u64) -> Self {
        Self {
            settled_to_ms: now_ms,
            acc: 0,
            segments: vec![Segment { from_ms: now_ms, rate }],
        }
    }

    /// The last segment: what holds now and from now on.
    pub fn last(&self) -> Result<Segment> {
        self.segments
            .last()
            .copied()
            .ok_or_else(|| Error::internal("a stream has no segment"))
    }

    /// Whether a segment fits. One of rate 0 always does while the stream runs.
    pub fn has_room_for(&self, at_ms: u64, rate: u64) -> bool {
        let overwrites = self.segments.last().is_some_and(|last| last.from_ms == at_ms);
        let most = if rate == 0 {
            MAX_SEGMENTS
        } else {
            MAX_SEGMENTS.saturating_sub(1)
        };
        overwrites || self.segments.len() < most
    }

    /// Adds a segment; at the instant of the last one it takes its place. The same rate again adds nothing. Error (internal): it begins
    /// before the last one, or there is no room.
    pub fn push(&mut self, at_ms: u64, rate: u64) -> Result<()> {
        let last = self.last()?;
        if at_ms < last.from_ms {
            return Err(Error::internal(format!(
                "segment at {at_ms} ms before the last one at {} ms",
                last.from_ms
            )));
        }
        if last.rate == rate {
            return Ok(());
        }
        if !self.has_room_for(at_ms, rate) {
            return Err(Error::internal(format!(
                "no room for a segment at {at_ms} ms in {:?}",
                self.segments
            )));
        }
        if last.from_ms == at_ms {
            self.segments.pop();
        }
        self.segments.push(Segment { from_ms: at_ms, rate });
        self.trim();
        Ok(())
    }

    /// Ends the stream at an instant: nothing accrues from there on. What had been said of later time is void; what is settled stays settled.
    /// Returns the instant at which it ended, which is earlier if it had stopped before.
    pub fn end(&mut self, at_ms: u64) -> Result<u64> {
        let at_ms = at_ms.max(self.settled_to_ms);
        let first = *self
            .segments
            .first()
            .ok_or_else(|| Error::internal("a stream has no segment"))?;
        self.segments.retain(|segment| segment.from_ms < at_ms);
        if self.segments.is_empty() {
            self.segments.push(Segment {
                from_ms: first.from_ms,
                rate: 0,
            });
        }
        let last = self.last()?;
        if last.rate == 0 {
            return Ok(last.from_ms.min(at_ms));
        }
        self.push(at_ms, 0)?;
        Ok(at_ms)
    }

    /// What it adds to its pool's sums.
    pub fn contribution(&self) -> Result<Contribution> {
        let last = self.last()?;
        let to = last.from_ms.max(self.settled_to_ms);
        let before = self.due(self.settled_to_ms, to, |t| t)?;
        let k = product(last.rate, to)?
            .checked_sub(before)
            .and_then(|k| k.checked_sub(self.acc.into()));
        Ok(Contribution {
            rate: last.rate,
            k: in_range(k, "k")?,
        })
    }

    /// Most that it can owe by an instant at or after its last segment began, in 1/D, were every millisecond attested.
    pub fn owed_max(&self, t: u64) -> Result<i128> {
        let due = self.due(self.settled_to_ms, t.max(self.settled_to_ms), |t| t)?;
        in_range(due.checked_add(self.acc.into()), "owed")
    }

    /// Settles up to `to_ms` and returns the whole base units due; the remainder stays in `acc`. `attested_before` is F: attested time before
    /// an instant. An instant that is settled already settles nothing.
    pub fn settle(&mut self, to_ms: u64, attested_before: impl Fn(u64) -> u64) -> Result<u128> {
        if to_ms <= self.settled_to_ms {
            return Ok(0);
        }
        let due = self.due(self.settled_to_ms, to_ms, attested_before)?;
        let due = in_range(due.checked_add(self.acc.into()), "due")?;
        let (paid, acc) = (
            in_range(due.checked_div_euclid(D), "paid")?,
            in_range(due.checked_rem_euclid(D), "acc")?,
        );
        self.acc = u64::try_from(acc).map_err(|_| Error::internal(format!("remainder {acc} out of range")))?;
        self.skip_to(to_ms);
        u128::try_from(paid).map_err(|_| Error::internal(format!("negative due {due}")))
    }

    /// Leaves time before `to_ms` unpaid, whatever its outcome.
    pub fn skip_to(&mut self, to_ms: u64) {
        self.settled_to_ms = self.settled_to_ms.max(to_ms);
        self.trim();
    }

    /// Milliseconds of `[from, to)` in which it accrues.
    pub fn running_ms(&self, from: u64, to: u64) -> u64 {
        let ends = self.segments.iter().skip(1).map(|next| next.from_ms).chain([u64::MAX]);
        let running = self.segments.iter().zip(ends).filter(|(segment, _)| segment.rate > 0);
        let lengths = running.map(|(segment, end)| end.min(to).saturating_sub(segment.from_ms.max(from)));
        lengths.fold(0, u64::saturating_add)
    }

    /// Σ rate · time over `[from, to)`, where `clock` measures time: F for what is due, the identity for what can be.
    fn due(&self, from: u64, to: u64, clock: impl Fn(u64) -> u64) -> Result<i128> {
        let mut sum = 0_i128;
        let ends = self.segments.iter().skip(1).map(|next| next.from_ms).chain([to]);
        for (segment, end) in self.segments.iter().zip(ends) {
            let (x, y) = (segment.from_ms.max(from), end.min(to));
            if x < y {
                let length = clock(y).saturating_sub(clock(x));
                sum = in_range(sum.checked_add(product(segment.rate, length)?), "due")?;
            }
        }
        Ok(sum)
    }

    /// Drops segments that settled time has left behind.
    fn trim(&mut self) {
        let begun = self
            .segments
            .partition_point(|segment| segment.from_ms <= self.settled_to_ms);
        self.segments.drain(..begun.saturating_sub(1));
    }
}

/// Money that streams draw on, with the sums over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Base units.
    pub balance: u128,
    /// R: sum of the current rates.
    pub rate_sum: u64,
    /// K: sum of the streams' k.
    pub k_sum: i128,
}

impl Pool {
    /// Takes a stream's old contribution out and its new one in. Error (internal): a sum leaves its range.
    pub fn replace(&mut self, old: Contribution, new: Contribution) -> Result<()> {
        let rate = self
            .rate_sum
            .checked_sub(old.rate)
            .and_then(|r| r.checked_add(new.rate));
        self.rate_sum = in_range(rate, "sum of rates")?;
        let k = self.k_sum.checked_sub(old.k).and_then(|k| k.checked_add(new.k));
        self.k_sum = in_range(k, "sum of k")?;
        Ok(())
    }

    /// X: the last instant until which every stream is funded, [`FOREVER`] if none runs.
    pub fn funded_until(&self) -> Result<u64> {
        if self.rate_sum == 0 {
            return Ok(FOREVER);
        }
        let x = in_range(self.means()?.checked_div_euclid(self.rate_sum.into()), "funded until")?;
        Ok(u64::try_from(x.max(0)).unwrap_or(FOREVER))
    }

    /// Whether every stream is funded until an instant, even if none runs: what stopped streams may still be owed is covered.
    pub fn covers(&self, t: u64) -> Result<bool> {
        Ok(self.means()? >= product(self.rate_sum, t)?)
    }

    /// How much more money would fund every stream until an instant.
    pub fn shortfall(&self, t: u64) -> Result<u128> {
        let short = in_range(product(self.rate_sum, t)?.checked_sub(self.means()?), "shortfall")?;
        let short = u128::try_from(short.max(0)).map_err(|_| Error::internal("negative shortfall"))?;
        Ok(short.div_ceil(MS_PER_HOUR.into()))
    }

    /// Most that stopped streams may still be owed together, base units, rounded up. Only for a pool in which none runs.
    pub fn owed_stopped(&self) -> Result<u128> {
        let owed = in_range(self.k_sum.checked_neg(), "owed")?.max(0);
        let owed = u128::try_from(owed).map_err(|_| Error::internal("negative sum"))?;
        Ok(owed.div_ceil(MS_PER_HOUR.into()))
    }

    /// balance · D + K.
    fn means(&self) -> Result<i128> {
        let balance = i128::try_from(self.balance).ok();
        in_range(
            balance
                .and_then(|b| b.checked_mul(D))
                .and_then(|b| b.checked_add(self.k_sum)),
            "means",
        )
    }
}

/// rate · time.
fn product(rate: u64, ms: u64) -> Result<i128> {
    in_range(i128::from(rate).checked_mul(ms.into()), "product")
}

fn in_range<T>(value: Option<T>, what: &str) -> Result<T> {
    value.ok_or_else(|| Error::internal(format!("accrual: {what} left its range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remainder_survives_settlements_and_changes_of_rate() -> Result<()> {
        // 1 unit an hour settled every millisecond for two hours: a floor at each settlement would pay nothing.
        let mut stream = Stream::start(0, 1);
        let mut paid = 0;
        for t in (0..=7_200_000).step_by(999) {
            paid += stream.settle(t, |t| t)?;
        }
        stream.push(7_200_000, 5)?;
        paid += stream.settle(10_800_000, |t| t)?;
        assert_eq!((paid, stream.acc), (2 + 5, 0));
        Ok(())
    }

    #[test]
    fn every_stream_of_a_pool_is_funded_until_the_same_instant() -> Result<()> {
        let mut pool = Pool {
            balance: 300,
            ..Default::default()
        };
        // A at 3600 and B at 7200 units an hour: 1 and 2 units a second.
        for rate in [3_600, 7_200] {
            pool.replace(Contribution::default(), Stream::start(1_000, rate).contribution()?)?;
        }
        assert_eq!(pool.funded_until()?, 101_000);
        assert!(pool.covers(101_000)? && !pool.covers(101_001)?);
        assert_eq!(
            (
                pool.shortfall(101_000)?,
                pool.shortfall(101_001)?,
                pool.shortfall(102_000)?
            ),
            (0, 1, 3)
        );
        Ok(())
    }

    #[test]
    fn missed_time_that_is_settled_extends_the_pool() -> Result<()> {
        let mut stream = Stream::start(0, 3_600);
        let mut pool = Pool {
            balance: 10,
            ..Default::default()
        };
        let old = stream.contribution()?;
        pool.replace(Contribution::default(), old)?;
        assert_eq!(pool.funded_until()?, 10_000);
        // [0, 5000) was missed.
        assert_eq!(stream.settle(5_000, |t| t.saturating_sub(5_000))?, 0);
        pool.replace(old, stream.contribution()?)?;
        assert_eq!(pool.funded_until()?, 15_000);
        Ok(())
    }

    #[test]
    fn a_stop_always_finds_room_and_a_rate_leaves_it() -> Result<()> {
        let mut stream = Stream::start(0, 1);
        let mut t = 0;
        while stream.has_room_for(t + 1, 2 + t) {
            t += 1;
            stream.push(t, 1 + t)?;
        }
        assert_eq!(stream.segments.len(), MAX_SEGMENTS - 1);
        assert!(stream.push(t + 1, 99).is_err_and(|e| e.is_internal()));
        // An equal instant overwrites, so it fits.
        stream.push(t, 99)?;
        stream.push(t + 1, 0)?;
        assert_eq!(stream.segments.len(), MAX_SEGMENTS);
        stream.settle(t, |t| t)?;
        assert_eq!(stream.segments.len(), 2);
        Ok(())
    }

    #[test]
    fn an_end_dated_in_the_past_voids_what_was_said_of_later_time() -> Result<()> {
        let segments = |list: &[(u64, u64)]| {
            list.iter()
                .map(|&(from_ms, rate)| Segment { from_ms, rate })
                .collect::<Vec<_>>()
        };
        let base = Stream {
            settled_to_ms: 5,
            acc: 0,
            segments: segments(&[(0, 7), (10, 0), (20, 7)]),
        };
        for (at, ended, left) in [
            (25, 25, segments(&[(0, 7), (10, 0), (20, 7), (25, 0)])),
            (20, 10, segments(&[(0, 7), (10, 0)])),
            (15, 10, segments(&[(0, 7), (10, 0)])),
            (8, 8, segments(&[(0, 7), (8, 0)])),
            // Settled time is not taken back.
            (3, 5, segments(&[(5, 0)])),
        ] {
            let mut stream = base.clone();
            assert_eq!((stream.end(at)?, stream.segments.clone()), (ended, left), "at {at}");
        }
        // A stream that ends where it began.
        let mut stream = Stream::start(7, 3);
        assert_eq!((stream.end(7)?, stream.segments.clone()), (7, segments(&[(7, 0)])));
        Ok(())
    }
}
