//! Attested time as a plain value: what a provider's record says of the past, handed to whoever pays for it.
//!
//! `F(t) = t − missed(t)` is a function of past time, never a snapshot: the attested time of `[a, b)` is `F(b) − F(a)` whenever it is asked for.

/// A stretch of missed time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapSpan {
    /// First missed instant.
    pub start_ms: u64,
    /// First instant after it.
    pub end_ms: u64,
    /// Missed time of all earlier gaps together, milliseconds.
    pub missed_before_ms: u64,
}

/// A provider's attested time, exact at the instants it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttestedTime {
    /// The instant up to which outcomes (attested or missed) are final.
    pub final_until_ms: u64,
    /// Missed time in order, disjoint: for each instant asked for, the last gap that begins at or before it.
    pub gaps: Vec<GapSpan>,
}

impl AttestedTime {
    /// The instant up to which outcomes are final, milliseconds.
    pub const fn final_until(&self) -> u64 {
        self.final_until_ms
    }

    /// F(t): milliseconds of attested time before `t`. Only differences mean something, and only between instants that this value was asked
    /// for. What is not final is not attested: an instant after [`Self::final_until`] gives the same as that.
    pub fn attested_before(&self, t: u64) -> u64 {
        let t = t.min(self.final_until_ms);
        let after = self.gaps.partition_point(|gap| gap.start_ms <= t);
        let missed = match after.checked_sub(1).and_then(|last| self.gaps.get(last)) {
            Some(gap) => gap
                .missed_before_ms
                .saturating_add(t.min(gap.end_ms).saturating_sub(gap.start_ms)),
            // Before the first gap that is known here, all earlier ones have passed.
            None => self.gaps.first().map_or(0, |gap| gap.missed_before_ms),
        };
        t.saturating_sub(missed)
    }

    /// Milliseconds of attested time in `[from, to)`; 0 if the interval is empty.
    pub fn attested_between(&self, from: u64, to: u64) -> u64 {
        self.attested_before(to).saturating_sub(self.attested_before(from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Outcomes of epochs of `epoch_ms` from `start_ms` on, as a provider's record would hold them: adjacent misses merged.
    fn of_outcomes(start_ms: u64, epoch_ms: u64, outcomes: &[bool]) -> AttestedTime {
        let (mut gaps, mut at, mut missed) = (Vec::<GapSpan>::new(), start_ms, 0);
        for attested in outcomes {
            let end = at + epoch_ms;
            if !attested {
                match gaps.last_mut().filter(|gap| gap.end_ms == at) {
                    Some(gap) => gap.end_ms = end,
                    None => gaps.push(GapSpan {
                        start_ms: at,
                        end_ms: end,
                        missed_before_ms: missed,
                    }),
                }
                missed += epoch_ms;
            }
            at = end;
        }
        AttestedTime {
            final_until_ms: at,
            gaps,
        }
    }

    proptest! {
        #[test]
        fn differences_count_the_attested_milliseconds_one_by_one(
            outcomes in proptest::collection::vec(any::<bool>(), 0..40),
            epoch_ms in 1_u64..20,
            a in 0_u64..900,
            b in 0_u64..900,
        ) {
            let start = 100;
            let time = of_outcomes(start, epoch_ms, &outcomes);
            let (a, b) = (start + a.min(b), start + a.max(b));
            let naive = (a..b)
                .filter(|t| {
                    let epoch = usize::try_from((t - start) / epoch_ms).expect("small");
                    outcomes.get(epoch).copied().unwrap_or(false)
                })
                .count();
            prop_assert_eq!(time.attested_between(a, b), naive as u64);
            // Leaving out gaps that ended before `a` changes no difference from there on.
            let late = AttestedTime {
                final_until_ms: time.final_until_ms,
                gaps: time.gaps.iter().copied().filter(|gap| gap.end_ms > a).collect(),
            };
            prop_assert_eq!(late.attested_between(a, b), naive as u64);
        }

        #[test]
        fn nothing_panics_whatever_it_holds(
            final_until_ms in any::<u64>(),
            gaps in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..5),
            t in any::<u64>(),
        ) {
            let gaps = gaps
                .into_iter()
                .map(|(start_ms, end_ms, missed_before_ms)| GapSpan { start_ms, end_ms, missed_before_ms })
                .collect();
            let time = AttestedTime { final_until_ms, gaps };
            prop_assert!(time.attested_before(t) <= t);
            prop_assert!(time.attested_between(t, t) == 0);
        }
    }
}
