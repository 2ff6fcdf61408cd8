//! `grpc.health.v1`: SERVING only while the engine makes blocks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tonic_health::server::HealthReporter;
use tonic_health::ServingStatus;

use crate::engine::Engine;

/// Keeps the health of the whole (empty name) and of each service up to date, for ever: serving from the first block this process
/// sees, not serving when none came for `stall` or the engine has ended. A `stall` of zero (manual blocks) looks at the engine's life
/// alone.
pub async fn run(reporter: HealthReporter, names: BTreeSet<String>, engine: Arc<dyn Engine>, stall: Duration) {
    let (mut heads, mut ended) = (engine.heads(), engine.ended());
    // What was committed before this process started is no sign of life.
    heads.mark_unchanged();
    let mut serving = stall.is_zero();
    loop {
        announce(&reporter, &names, serving).await;
        tokio::select! {
            biased;
            _ = &mut ended => return announce(&reporter, &names, false).await,
            changed = heads.changed() => match changed {
                Ok(()) => serving = true,
                Err(_) => return announce(&reporter, &names, false).await,
            },
            () = tokio::time::sleep(stall), if serving && !stall.is_zero() => {
                tracing::error!("no block for {stall:?}: health is NOT_SERVING until the next one");
                serving = false;
            }
        }
    }
}

/// Sets the health of the whole and of each service.
pub(super) async fn announce(reporter: &HealthReporter, names: &BTreeSet<String>, serving: bool) {
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    reporter.set_service_status("", status).await;
    for name in names {
        reporter.set_service_status(name, status).await;
    }
}
