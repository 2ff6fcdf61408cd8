//! What a provider attested while one of its leases is followed.

use serde_json::json;
use tenure_client::{chain::Client, Error, Result};
use tenure_proto::tenure::{
    escrow::v1::{Payment, Segment},
    market::v1::Lease,
    provider::v1::Gap,
};

use crate::{show::seconds, ui::Ui};

/// Tells of a provider's attestations while one of its leases is followed.
#[derive(Default)]
pub(crate) struct Attested {
    /// Up to which instant outcomes were final, and missed time before it, at the last look; `None` before the first.
    last: Option<(u64, u64)>,
    /// Which rate was in force from when on, in order of time. The chain forgets what is settled, so it is remembered here until it is told.
    rates: Vec<Segment>,
    /// Excepted time that was told already.
    excepted_ms: u64,
}

/// What has become final of a lease since the last look, milliseconds. The four are disjoint.
#[derive(Debug, PartialEq, Eq)]
struct News {
    attested: u64,
    missed: u64,
    excepted: u64,
    paused: u64,
}

impl Attested {
    /// Looks once, and tells what has become final since the last look within the lease.
    pub(crate) async fn look(&mut self, ui: &Ui, client: &Client, lease: &Lease) -> Result<()> {
        if lease.ready_ms == 0 {
            return Ok(());
        }
        // The payment after the provider: what is final by the first answer is excepted and paused in the second.
        let provider = client.provider(&lease.provider).await?;
        let payment = match client.payment(lease.id).await {
            Ok(payment) => payment,
            Err(Error::NotFound(_)) => Payment::default(),
            Err(error) => return Err(error),
        };
        let now = (provider.final_until_ms, provider.missed_total_ms);
        let gaps = if self.last.map_or(0, |(_, missed)| missed) < now.1 {
            client.gaps(&lease.provider).await?
        } else {
            Vec::new()
        };
        let Some(news) = self.news(lease, now, &payment, &gaps) else {
            return Ok(());
        };
        let fields = json!({
            "lease_id": lease.id,
            "final_until_ms": now.0.to_string(),
            "attested_ms": news.attested.to_string(),
            "missed_ms": news.missed.to_string(),
            "excepted_ms": news.excepted.to_string(),
            "paused_ms": news.paused.to_string(),
        });
        let mut text = format!("attested: {} of this lease more", seconds(news.attested));
        for (what, ms) in [
            ("missed", news.missed),
            ("reported down", news.excepted),
            ("paused", news.paused),
        ] {
            if ms > 0 {
                text += &format!("; {what} and not paid: {}", seconds(ms));
            }
        }
        ui.step("attested", fields, text);
        Ok(())
    }

    /// `now`: up to where outcomes are final, and missed time before it; `payment`: the lease's, perhaps of a moment later; `gaps`: the provider's, at
    /// least if there are new ones. `None`: nothing of the lease has become final.
    fn news(&mut self, lease: &Lease, now: (u64, u64), payment: &Payment, gaps: &[Gap]) -> Option<News> {
        if let Some(first) = payment.segments.first() {
            self.rates.retain(|known| known.from_ms < first.from_ms);
            self.rates.extend_from_slice(&payment.segments);
        }
        let before = self.last.replace(now).map_or(0, |(until, _)| until).max(lease.ready_ms);
        // The payment may have its last segment already, which has no rate and is no pause.
        let end = match (lease.ended_ms, payment.segments.last()) {
            (0, Some(last)) if payment.closing => last.from_ms,
            (0, _) => u64::MAX,
            (ended_ms, _) => ended_ms,
        };
        let until = now.0.min(end);
        if until <= before {
            return None;
        }
        let running = self.running(before, until);
        let ran: u64 = running.iter().map(|(from, to)| to - from).sum();
        let missed = running.iter().map(|(from, to)| missed(gaps, *from, *to)).sum();
        // What was excepted a moment later stays to be told.
        let excepted = payment
            .excepted_ms_total
            .saturating_sub(self.excepted_ms)
            .min(ran.saturating_sub(missed));
        self.excepted_ms += excepted;
        let begun = self.rates.partition_point(|segment| segment.from_ms <= until);
        self.rates.drain(..begun.saturating_sub(1));
        Some(News {
            attested: ran.saturating_sub(missed).saturating_sub(excepted),
            missed,
            excepted,
            paused: until - before - ran,
        })
    }

    /// The parts of a span in which the lease had a price.
    fn running(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        if self.rates.is_empty() {
            return vec![(from, to)];
        }
        let ends = self.rates.iter().skip(1).map(|next| next.from_ms).chain([u64::MAX]);
        let priced = self.rates.iter().zip(ends).filter(|(segment, _)| segment.rate > 0);
        priced
            .map(|(segment, end)| (segment.from_ms.max(from), end.min(to)))
            .filter(|(from, to)| from < to)
            .collect()
    }
}

/// Missed time in a span. Gaps do not overlap.
fn missed(gaps: &[Gap], from: u64, to: u64) -> u64 {
    let parts = gaps
        .iter()
        .map(|gap| gap.end_ms.min(to).saturating_sub(gap.start_ms.max(from)));
    parts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(start_ms: u64, end_ms: u64) -> Gap {
        Gap {
            start_ms,
            end_ms,
            ..Gap::default()
        }
    }

    /// Rates from these instants on, and excepted time.
    fn payment(segments: &[(u64, u64)], excepted_ms_total: u64) -> Payment {
        Payment {
            segments: segments
                .iter()
                .map(|&(from_ms, rate)| Segment { from_ms, rate })
                .collect(),
            excepted_ms_total,
            ..Payment::default()
        }
    }

    fn news(attested: u64, missed: u64, excepted: u64, paused: u64) -> Option<News> {
        Some(News {
            attested,
            missed,
            excepted,
            paused,
        })
    }

    fn ready(ready_ms: u64) -> Lease {
        Lease {
            ready_ms,
            ..Lease::default()
        }
    }

    #[test]
    fn what_was_missed_or_excepted_is_not_told_as_attested() {
        let mut lease = ready(1_000);
        let mut attested = Attested::default();
        let mut told = |lease: &Lease, now, excepted, gaps: &[Gap]| {
            attested.news(lease, now, &payment(&[(1_000, 7)], excepted), gaps)
        };
        let gaps = [gap(850, 900), gap(3_500, 4_500)];
        assert_eq!(told(&lease, (900, 50), 0, &gaps[..1]), None, "before it was ready");
        assert_eq!(told(&lease, (3_000, 50), 0, &[]), news(2_000, 0, 0, 0));
        assert_eq!(told(&lease, (6_000, 1_050), 0, &gaps), news(2_000, 1_000, 0, 0));
        assert_eq!(told(&lease, (9_000, 1_050), 3_000, &[]), news(0, 0, 3_000, 0));
        // The payment was read after the next exception: that is told with the time it is of.
        assert_eq!(told(&lease, (9_000, 1_050), 4_000, &[]), None);
        lease.ended_ms = 10_000;
        assert_eq!(told(&lease, (12_000, 1_050), 4_000, &[]), news(0, 0, 1_000, 0));
    }

    #[test]
    fn a_pause_is_told_as_a_pause_though_the_provider_attested_it() {
        let lease = ready(1_000);
        let mut attested = Attested::default();
        let running = [(1_000, 7)];
        assert_eq!(
            attested.news(&lease, (2_000, 0), &payment(&running, 0), &[]),
            news(1_000, 0, 0, 0)
        );
        // It began at 3 s and goes on.
        let paused = [(1_000, 7), (3_000, 0)];
        assert_eq!(
            attested.news(&lease, (4_000, 0), &payment(&paused, 0), &[]),
            news(1_000, 0, 0, 1_000)
        );
        // It ended at 6 s. The chain has settled what was before and forgotten it.
        let resumed = [(3_000, 0), (6_000, 9)];
        assert_eq!(
            attested.news(&lease, (8_000, 0), &payment(&resumed, 0), &[]),
            news(2_000, 0, 0, 2_000)
        );
        // One that began and was settled between two looks is remembered from the look before.
        let next = [(6_000, 9), (9_000, 0), (9_500, 9)];
        assert_eq!(
            attested.news(&lease, (8_500, 0), &payment(&next, 0), &[]),
            news(500, 0, 0, 0)
        );
        assert_eq!(
            attested.news(&lease, (10_000, 0), &payment(&[(9_500, 9)], 0), &[]),
            news(1_000, 0, 0, 500)
        );
        // It has ended; the lease that was read before does not say so yet.
        let mut ended = payment(&[(9_500, 9), (10_400, 0)], 0);
        ended.closing = true;
        assert_eq!(attested.news(&lease, (10_200, 0), &ended, &[]), news(200, 0, 0, 0));
        assert_eq!(attested.news(&lease, (11_000, 0), &ended, &[]), news(200, 0, 0, 0));
        assert_eq!(attested.news(&lease, (12_000, 0), &ended, &[]), None);
    }

    #[test]
    fn a_payment_that_is_gone_hides_nothing() {
        let lease = ready(1_000);
        let mut attested = Attested::default();
        let running = payment(&[(1_000, 7)], 0);
        assert_eq!(attested.news(&lease, (2_000, 0), &running, &[]), news(1_000, 0, 0, 0));
        assert_eq!(
            attested.news(&lease, (3_000, 0), &Payment::default(), &[]),
            news(1_000, 0, 0, 0)
        );
    }

    #[test]
    fn what_was_missed_in_a_pause_is_paused_and_a_late_look_knows_what_was_missed() {
        let lease = ready(1_000);
        let mut attested = Attested::default();
        let rates = payment(&[(1_000, 7), (3_000, 0), (5_000, 7)], 0);
        // Half of the gap lies in the pause. The first look is long after the lease began.
        let gaps = [gap(4_000, 6_000)];
        assert_eq!(
            attested.news(&lease, (9_000, 2_000), &rates, &gaps),
            news(5_000, 1_000, 0, 2_000)
        );
    }
}
