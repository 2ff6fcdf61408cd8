//! The application on its store: the only file that knows `tenure_app`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;
use tendermint::Time;
use tendermint_proto::v0_38::abci::{RequestQuery, ResponseQuery};
use tenure_app::{genesis, App, AppOptions};
use tenure_solo::Genesis;
use tenure_store::snapshot::{Manifest, Restore};
use tenure_store::{Backend, StoreOptions, View};
use tenure_store_rocks::{RocksBackend, RocksOptions};

use crate::chain::{Answer, Chain};
use crate::config::StoreConfig;
use crate::engine::Head;

pub use tenure_app::genesis::Profile;
pub use tenure_app::APP_VERSION;

/// The application on its store.
#[derive(Clone)]
pub struct Application {
    app: App,
}

impl Application {
    /// Opens the state in a RocksDB directory, creating it if absent. Error: it is damaged, or of another program; says what to do.
    pub fn open(path: &Path, config: &StoreConfig) -> Result<Self> {
        let sizes = RocksOptions {
            cache_bytes: config.cache_mib.saturating_mul(1 << 20),
            ..RocksOptions::default()
        };
        let backend =
            RocksBackend::open_with(path, sizes).with_context(|| format!("the state in {}", path.display()))?;
        Self::over(backend, config).with_context(|| format!("the state in {}", path.display()))
    }

    /// Opens the state on any backend.
    pub fn over(backend: Arc<dyn Backend>, config: &StoreConfig) -> Result<Self> {
        let store = StoreOptions {
            keep_views: config.query_heights,
            keep_undo: config.keep_undo,
        };
        let options = AppOptions {
            query_heights: config.query_heights,
            ..AppOptions::default()
        };
        let app = App::open(backend, store, options)?;
        Ok(Self { app })
    }

    /// What an engine drives.
    pub fn abci(&self) -> App {
        self.app.clone()
    }

    /// Height and app hash of the last committed block; 0 before the first.
    pub fn head(&self) -> (u64, [u8; 32]) {
        let (height, _, _, app_hash) = self.app.committed();
        (height, app_hash)
    }

    /// The last committed block as far as the application knows it: without its hash, its time cut to milliseconds. `None` before the first.
    pub fn last_block(&self) -> Option<Head> {
        let (height, header_ms, _, app_hash) = self.app.committed();
        let seconds = i64::try_from(header_ms / 1_000).ok()?;
        let nanos = u32::try_from(header_ms % 1_000).ok()? * 1_000_000;
        (height > 0).then_some(Head {
            height: i64::try_from(height).ok()?,
            time: Time::from_unix_timestamp(seconds, nanos).ok()?,
            block_hash: Vec::new(),
            app_hash: app_hash.to_vec(),
        })
    }

    /// Drops what was executed and not committed: for a new engine, which repeats it, and before the end.
    pub fn reset_uncommitted(&self) {
        self.app.reset_uncommitted();
    }

    /// Takes back blocks and returns the new height and app hash. The value is not usable afterwards: open it again. Error: fewer can be
    /// taken back, or the store fails.
    pub fn rollback(self, blocks: u64) -> Result<(u64, [u8; 32])> {
        let view = self.app.store().rollback(blocks)?;
        Ok((view.height(), view.app_hash()))
    }

    /// The last committed state as the store has it.
    pub fn latest(&self) -> Arc<View> {
        self.app.store().latest()
    }

    /// Makes the state in a new RocksDB directory from a snapshot's chunks and verifies it against the snapshot's app hash. Error: a chunk is not
    /// what the manifest says, or the state does not have the app hash.
    pub fn restore(
        path: &Path,
        config: &StoreConfig,
        manifest: Manifest,
        chunk: impl Fn(usize) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let backend = RocksBackend::open(path).with_context(|| format!("the state in {}", path.display()))?;
        let options = StoreOptions {
            keep_views: config.query_heights,
            keep_undo: config.keep_undo,
        };
        let (chunks, app_hash) = (manifest.chunks.len(), manifest.app_hash);
        let mut restore = Restore::begin(backend, &tenure_app::stores(), options, manifest, app_hash)?;
        for index in 0..chunks {
            restore.apply(index, &chunk(index)?)?;
        }
        restore.finish()?;
        Ok(())
    }

    /// The committed state as an `app_state`.
    pub fn export(&self) -> Result<Value> {
        Ok(self.app.export_genesis()?)
    }
}

impl Chain for Application {
    fn query(&self, path: &str, request: &[u8], height: Option<u64>) -> tenure_types::Result<Answer> {
        let answer = self.app.query(path, request, height)?;
        Ok(Answer {
            value: answer.value,
            height: answer.height,
        })
    }

    fn abci_query(&self, request: RequestQuery) -> ResponseQuery {
        tendermint_abci::Application::query(&self.app, request)
    }

    fn query_paths(&self) -> Vec<String> {
        self.app.query_paths().into_iter().map(str::to_owned).collect()
    }
}

/// The `app_state` of a new chain, without money.
pub fn app_state(profile: Profile) -> Result<Value> {
    Ok(genesis::default_app_state(profile, &[])?)
}

/// Checks the application's part of a genesis. Error: names section and field.
pub fn check_genesis(document: &Genesis) -> Result<()> {
    let state: Value = serde_json::from_slice(&document.app_state).context("app_state is missing or not JSON")?;
    let ms = document.genesis_time.unix_timestamp_nanos() / 1_000_000;
    let ms = u64::try_from(ms).context("genesis_time is before 1970")?;
    Ok(genesis::validate(&document.chain_id, ms, &state)?)
}
