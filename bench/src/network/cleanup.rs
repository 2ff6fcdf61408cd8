//! Leaving nothing behind, also after Ctrl-C: processes die with this one, network namespaces do not.

use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use tenure_testkit::chain::runtime;
use tenure_testkit::netns::Namespaces;
use tokio::signal::unix::{signal, SignalKind};

/// The namespaces that are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Cleanup(Arc<Mutex<Option<Namespaces>>>);

impl Cleanup {
    /// Begins to watch for signals.
    pub(super) fn on_signals() -> Result<Self> {
        let cleanup = Self::default();
        let watched = cleanup.clone();
        let runtime = runtime()?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let came = runtime.block_on(async {
                let (mut interrupt, mut terminate) =
                    (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                std::io::Result::Ok(())
            });
            if came.is_ok() {
                eprintln!("interrupted");
                watched.now();
                std::process::exit(130);
            }
        })?;
        Ok(cleanup)
    }

    /// Remembers what is to be removed.
    pub(super) fn keep(&self, namespaces: Option<Namespaces>) {
        *self.0.lock() = namespaces;
    }

    /// Removes it.
    pub(super) fn now(&self) {
        if let Some(namespaces) = self.0.lock().take() {
            if let Err(e) = namespaces.remove() {
                eprintln!("network namespaces were not removed: {e:#}");
            }
        }
    }
}
