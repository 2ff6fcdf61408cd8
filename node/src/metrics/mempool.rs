//! How full the mempool is, looked at beside everything else: neither a block nor a reader of metrics waits for the engine's answer.

use std::sync::Arc;
use std::time::Duration;

use super::Metrics;
use crate::engine::Engine;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks again and again, until it is dropped. An engine that does not answer leaves the figures as they were.
pub async fn watch(metrics: Arc<Metrics>, engine: Arc<dyn Engine>) {
    loop {
        let asked = engine.clone();
        if let Ok(Ok(waiting)) = tokio::task::spawn_blocking(move || asked.mempool()).await {
            metrics.mempool_txs.set(i64::try_from(waiting.txs).unwrap_or(i64::MAX));
            metrics
                .mempool_bytes
                .set(i64::try_from(waiting.bytes).unwrap_or(i64::MAX));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
