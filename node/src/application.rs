//! The application on its store: the only file that knows `tenure_app`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;
use tenure_app::{genesis, App, AppOptions};
use tenure_solo::Genesis;
use tenure_store::{Backend, Store, StoreOptions};
use tenure_store_rocks::{RocksBackend, RocksOptions};

use crate::chain::{Answer, Chain};
use crate::config::StoreConfig;

pub use tenure_app::genesis::Profile;

/// The application and the store under it.
#[derive(Clone)]
pub struct Application {
    app: App,
    store: Arc<Store>,
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
        let options = StoreOptions {
            keep_views: config.query_heights,
            keep_undo: config.keep_undo,
        };
        let store = Arc::new(Store::open(backend, &tenure_app::stores(), options)?);
        let options = AppOptions {
            query_heights: config.query_heights,
            ..AppOptions::default()
        };
        let app = App::open(store.clone(), options)?;
        Ok(Self { app, store })
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

    /// Takes back blocks and returns the new height and app hash. The value is not usable afterwards: open it again. Error: fewer can be
    /// taken back, or the store fails.
    pub fn rollback(self, blocks: u64) -> Result<(u64, [u8; 32])> {
        let view = self.store.rollback(blocks)?;
        Ok((view.height(), view.app_hash()))
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

    fn query_paths(&self) -> Vec<String> {
        self.app.query_paths().into_iter().map(str::to_owned).collect()
    }
}

/// The `app_state` of a new chain, without money.
pub fn app_state(profile: Profile) -> Result<Value> {
    Ok(genesis::default_app_state(profile, &[])?)
}

/// The most gas of one block that the application allows, for the consensus parameters.
pub fn max_block_gas() -> u64 {
    tenure_sdk::clock::default_params().max_block_gas
}

/// Checks the application's part of a genesis. Error: names section and field.
pub fn check_genesis(document: &Genesis) -> Result<()> {
    let state: Value = serde_json::from_slice(&document.app_state).context("app_state is missing or not JSON")?;
    let ms = document.genesis_time.unix_timestamp_nanos() / 1_000_000;
    let ms = u64::try_from(ms).context("genesis_time is before 1970")?;
    Ok(genesis::validate(&document.chain_id, ms, &state)?)
}
