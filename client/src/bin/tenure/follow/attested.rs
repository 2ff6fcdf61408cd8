//! What a provider attested while one of its leases is followed.

use serde_json::json;
use tenure_client::{chain::Client, Result};
use tenure_proto::tenure::market::v1::Lease;

use crate::ui::Ui;

/// Tells of a provider's attestations while one of its leases is followed.
#[derive(Default)]
pub(crate) struct Attested {
    /// Up to which instant outcomes were final, and missed time before it, at the last look; `None` before the first.
    last: Option<(u64, u64)>,
}

impl Attested {
    /// Looks once, and tells what has become final since the last look within the lease.
    pub(crate) async fn look(&mut self, ui: &Ui, client: &Client, lease: &Lease) -> Result<()> {
        if lease.ready_ms == 0 {
            return Ok(());
        }
        let provider = client.provider(&lease.provider).await?;
        let now = (provider.final_until_ms, provider.missed_total_ms);
        let (before, missed_before) = self.last.replace(now).unwrap_or((lease.ready_ms, now.1));
        let end = if lease.ended_ms == 0 { u64::MAX } else { lease.ended_ms };
        let span_ms = now.0.min(end).saturating_sub(before.max(lease.ready_ms));
        if span_ms == 0 {
            return Ok(());
        }
        let missed_ms = now.1.saturating_sub(missed_before).min(span_ms);
        let fields = json!({
            "lease_id": lease.id,
            "final_until_ms": now.0.to_string(),
            "attested_ms": (span_ms - missed_ms).to_string(),
            "missed_ms": missed_ms.to_string(),
        });
        let seconds = |ms: u64| format!("{}.{:03} s", ms / 1000, ms % 1000);
        let mut text = format!("attested: {} of this lease more", seconds(span_ms - missed_ms));
        if missed_ms > 0 {
            text += &format!("; missed and not paid: {}", seconds(missed_ms));
        }
        ui.step("attested", fields, text);
        Ok(())
    }
}
