//! What a provider attested while one of its leases is followed.

use serde_json::json;
use tenure_client::{chain::Client, Error, Result};
use tenure_proto::tenure::market::v1::Lease;

use crate::{show::seconds, ui::Ui};

/// Tells of a provider's attestations while one of its leases is followed.
#[derive(Default)]
pub(crate) struct Attested {
    /// Up to which instant outcomes were final, and missed time before it, at the last look; `None` before the first.
    last: Option<(u64, u64)>,
    /// Excepted time that was told already.
    excepted_ms: u64,
}

/// What has become final of a lease since the last look, milliseconds.
#[derive(Debug, PartialEq, Eq)]
struct News {
    attested: u64,
    missed: u64,
    excepted: u64,
}

impl Attested {
    /// Looks once, and tells what has become final since the last look within the lease.
    pub(crate) async fn look(&mut self, ui: &Ui, client: &Client, lease: &Lease) -> Result<()> {
        if lease.ready_ms == 0 {
            return Ok(());
        }
        // The payment last: what is final by the first answer is excepted in the second.
        let provider = client.provider(&lease.provider).await?;
        let excepted_ms = match client.payment(lease.id).await {
            Ok(payment) => payment.excepted_ms_total,
            Err(Error::NotFound(_)) => 0,
            Err(error) => return Err(error),
        };
        let now = (provider.final_until_ms, provider.missed_total_ms);
        let Some(news) = self.news(lease, now, excepted_ms) else {
            return Ok(());
        };
        let fields = json!({
            "lease_id": lease.id,
            "final_until_ms": now.0.to_string(),
            "attested_ms": news.attested.to_string(),
            "missed_ms": news.missed.to_string(),
            "excepted_ms": news.excepted.to_string(),
        });
        let mut text = format!("attested: {} of this lease more", seconds(news.attested));
        if news.missed > 0 {
            text += &format!("; missed and not paid: {}", seconds(news.missed));
        }
        if news.excepted > 0 {
            text += &format!("; reported down and not paid: {}", seconds(news.excepted));
        }
        ui.step("attested", fields, text);
        Ok(())
    }

    /// `now`: up to where outcomes are final, and missed time before it; `excepted_ms`: the lease's in all, perhaps of a moment later. None: nothing
    /// of the lease has become final.
    fn news(&mut self, lease: &Lease, now: (u64, u64), excepted_ms: u64) -> Option<News> {
        let (before, missed_before) = self.last.replace(now).unwrap_or((lease.ready_ms, now.1));
        let end = if lease.ended_ms == 0 { u64::MAX } else { lease.ended_ms };
        let span = now.0.min(end).saturating_sub(before.max(lease.ready_ms));
        if span == 0 {
            return None;
        }
        let missed = now.1.saturating_sub(missed_before).min(span);
        // What was excepted a moment later stays to be told.
        let excepted = excepted_ms.saturating_sub(self.excepted_ms).min(span - missed);
        self.excepted_ms += excepted;
        Some(News {
            attested: span - missed - excepted,
            missed,
            excepted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_or_excepted_is_not_told_as_attested() {
        let mut lease = Lease {
            ready_ms: 1_000,
            ..Lease::default()
        };
        let mut attested = Attested::default();
        let news = |attested, missed, excepted| {
            Some(News {
                attested,
                missed,
                excepted,
            })
        };
        assert_eq!(attested.news(&lease, (900, 50), 0), None, "before it was ready");
        assert_eq!(attested.news(&lease, (3_000, 50), 0), news(2_000, 0, 0));
        assert_eq!(attested.news(&lease, (6_000, 1_050), 0), news(2_000, 1_000, 0));
        assert_eq!(attested.news(&lease, (9_000, 1_050), 3_000), news(0, 0, 3_000));
        // The payment was read after the next exception: that is told with the time it is of.
        assert_eq!(attested.news(&lease, (9_000, 1_050), 4_000), None);
        lease.ended_ms = 10_000;
        assert_eq!(attested.news(&lease, (12_000, 1_050), 4_000), news(0, 0, 1_000));
    }
}
