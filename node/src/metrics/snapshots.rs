//! Which snapshot is the newest, looked at where they lie: one that cannot be written changes nothing there, so a height that stands still while blocks go
//! on is what an alarm is for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Metrics;
use crate::application::snapshots;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks again and again, until it is dropped. A directory that cannot be read leaves the figure as it was.
pub async fn watch(metrics: Arc<Metrics>, directory: PathBuf) {
    loop {
        let looked_at = directory.clone();
        if let Ok(Ok(listed)) = tokio::task::spawn_blocking(move || snapshots::list(&looked_at)).await {
            let newest = listed.last().map_or(0, |snapshot| snapshot.height);
            metrics.snapshot_height.set(i64::try_from(newest).unwrap_or(i64::MAX));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
