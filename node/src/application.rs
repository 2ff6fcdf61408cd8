//! The application on its store: the only file that knows `tenure_app`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;
use tendermint::Time;
use tendermint_proto::v0_38::abci::{RequestQuery, ResponseQuery};
use tenure_app::snapshots::SnapshotInfo;
use tenure_app::{genesis, App, MempoolLimits, SnapshotOptions};
use tenure_proto::Any;
use tenure_solo::Genesis;
use tenure_store::{Backend, StoreOptions, View};
use tenure_store_rocks::{RocksBackend, RocksOptions};
use tenure_types::Address;

use crate::chain::{Answer, Chain};
use crate::config::{AppConfig, MempoolSettings, StoreConfig};
use crate::engine::Head;
use crate::home::Home;

pub use tenure_app::genesis::Profile;
pub use tenure_app::{snapshots, AppOptions, APP_VERSION};

/// The application on its store.
#[derive(Clone)]
pub struct Application {
    app: App,
}

impl Application {
    /// Opens the state in a RocksDB directory, creating it if absent. Error: it is damaged, or of another program; says what to do.
    pub fn open(path: &Path, config: &StoreConfig) -> Result<Self> {
        Self::open_with(path, config, AppOptions::default())
    }

    /// Opens the state of a home for a chain that goes on: snapshots are made and offered, old blocks given up, room kept in the mempool.
    pub fn open_to_run(home: &Home, config: &AppConfig, mempool: &MempoolSettings) -> Result<Self> {
        let snapshots = SnapshotOptions {
            every_blocks: config.state_sync.snapshot_interval,
            keep: config.state_sync.snapshot_keep_recent,
            ..SnapshotOptions::new(home.snapshots())
        };
        let options = AppOptions {
            snapshots: Some(snapshots),
            retain_blocks: config.store.min_retain_blocks,
            mempool: Some(MempoolLimits {
                txs: u64::try_from(mempool.size).unwrap_or(u64::MAX),
                bytes: mempool.max_txs_bytes,
            }),
            ..AppOptions::default()
        };
        Self::open_with(&home.application_db(), &config.store, options)
    }

    fn open_with(path: &Path, config: &StoreConfig, options: AppOptions) -> Result<Self> {
        let open = || Self::over(backend(path, config)?, config, options);
        open().with_context(|| format!("the state in {}", path.display()))
    }

    /// Opens the state on any backend.
    pub fn over(backend: Arc<dyn Backend>, config: &StoreConfig, options: AppOptions) -> Result<Self> {
        let options = AppOptions {
            query_heights: config.query_heights,
            ..options
        };
        let app = App::open(backend, store_options(config), options)?;
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

    /// Puts the state of a snapshot of the home, verified against the snapshot's app hash, in the place of the state that is there. Error: a chunk
    /// is not what the manifest says, or the state does not have the app hash; the old state is untouched then.
    pub fn restore(home: &Home, config: &StoreConfig, snapshot: &SnapshotInfo) -> Result<()> {
        let (database, restored) = (home.application_db(), home.data("application.db.restored"));
        remove_dir(&restored)?;
        let backend = backend(&restored, config)?;
        let done = snapshots::restore(
            &home.snapshots(),
            snapshot.height,
            backend,
            store_options(config),
            snapshot.app_hash,
        );
        if let Err(error) = done {
            remove_dir(&restored)?;
            return Err(error.into());
        }
        remove_dir(&database)?;
        fs::rename(&restored, &database)
            .with_context(|| format!("cannot rename {} to {}", restored.display(), database.display()))
    }

    /// The committed state as an `app_state`.
    pub fn export(&self) -> Result<Value> {
        Ok(self.app.export_genesis()?)
    }
}

fn backend(path: &Path, config: &StoreConfig) -> Result<Arc<RocksBackend>> {
    let sizes = RocksOptions {
        cache_bytes: config.cache_mib.saturating_mul(1 << 20),
        ..RocksOptions::default()
    };
    Ok(RocksBackend::open_with(path, sizes)?)
}

fn store_options(config: &StoreConfig) -> StoreOptions {
    StoreOptions {
        keep_views: config.query_heights,
        keep_undo: config.keep_undo,
    }
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
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

/// Who must sign a message, in order. Error: it is not of this chain, does not decode, or names an address that is none.
pub fn message_signers(message: &Any) -> Result<Vec<Address>> {
    let mut routes = tenure_app::modules().iter().flat_map(|module| module.messages());
    let route = routes.find(|route| route.type_url == message.type_url);
    let route = route.with_context(|| format!("message {:?} is none of this chain", message.type_url))?;
    Ok((route.decode)(&message.value)?.signers()?)
}

/// Checks the application's part of a genesis. Error: names section and field.
pub fn check_genesis(document: &Genesis) -> Result<()> {
    let state: Value = serde_json::from_slice(&document.app_state).context("app_state is missing or not JSON")?;
    let ms = document.genesis_time.unix_timestamp_nanos() / 1_000_000;
    let ms = u64::try_from(ms)
        .ok()
        .with_context(|| format!("genesis_time is {}, must be 1970 or later", document.genesis_time))?;
    Ok(genesis::validate(&document.chain_id, ms, &state)?)
}
