//! The home directory: where its files are, and the lock that keeps two processes out of one home.
//!
//! ```text
//! <home>/tenured.lock                       held while a process uses the home
//! <home>/run.json                           pid, chain id and ports of the running node; removed at a clean stop
//! <home>/config/app.toml                    this node's settings
//! <home>/config/config.toml                 CometBFT's settings
//! <home>/config/client.toml                 settings of the `tenure` command
//! <home>/config/genesis.json
//! <home>/config/node_key.json
//! <home>/config/priv_validator_key.json
//! <home>/config/faucet_key.json             only with a faucet
//! <home>/data/priv_validator_state.json     what the key signed last
//! <home>/data/application.db/               the application's RocksDB
//! <home>/data/snapshots/                    states for nodes that join
//! <home>/data/solo.redb                     the solo engine's blocks
//! <home>/data/blockstore.db/, state.db/, cs.wal/, evidence.db/, tx_index.db/   CometBFT's
//! <home>/data/app.sock                      where CometBFT finds the application
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};

/// A home directory; nothing is read or created until asked for.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// What a running node writes into `run.json` for scripts and for `tenured status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// The process.
    pub pid: u32,
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where CometBFT's JSON-RPC is served.
    pub rpc: SocketAddr,
    /// Where REST listens, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<SocketAddr>,
    /// Where Prometheus finds metrics, if they are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// The chain.
    pub chain_id: String,
    /// What makes the blocks: `solo`, `comet` or `external`.
    #[serde(default)]
    pub engine: String,
    /// Where other nodes connect, if they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p2p: Option<SocketAddr>,
    /// The process of a CometBFT that this node runs; changes when it is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cometbft: Option<u32>,
}

/// The exclusive use of a home; ends when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct HomeLock {
    /// Keeps the lock.
    _file: File,
}

impl Home {
    /// The home at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// A file in `config/`.
    pub fn config(&self, name: &str) -> PathBuf {
        self.0.join("config").join(name)
    }

    /// A file in `data/`.
    pub fn data(&self, name: &str) -> PathBuf {
        self.0.join("data").join(name)
    }

    /// `config/genesis.json`.
    pub fn genesis(&self) -> PathBuf {
        self.config("genesis.json")
    }

    /// `config/priv_validator_key.json`.
    pub fn validator_key(&self) -> PathBuf {
        self.config("priv_validator_key.json")
    }

    /// `data/priv_validator_state.json`.
    pub fn validator_state(&self) -> PathBuf {
        self.data("priv_validator_state.json")
    }

    /// `config/node_key.json`.
    pub fn node_key(&self) -> PathBuf {
        self.config("node_key.json")
    }

    /// `data/application.db`.
    pub fn application_db(&self) -> PathBuf {
        self.data("application.db")
    }

    /// `data/snapshots`, in it a folder for each height.
    pub fn snapshots(&self) -> PathBuf {
        self.data("snapshots")
    }

    /// A path from a settings file: absolute, or relative to the home.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Whether `tenured init` has made this home.
    pub fn is_initialised(&self) -> bool {
        self.genesis().exists()
    }

    /// Error: there is no genesis; says how to make one.
    pub fn require_initialised(&self) -> Result<()> {
        if !self.is_initialised() {
            bail!(
                "{} has no config/genesis.json. Make a home with `tenured init <moniker> --chain-id <id> --home {}`",
                self.0.display(),
                self.0.display()
            );
        }
        Ok(())
    }

    /// Takes the home for this process. Error: another process has it; names its pid.
    pub fn lock(&self) -> Result<HomeLock> {
        create_dir(&self.0)?;
        let path = self.0.join("tenured.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The owner writes its pid right after locking; without it the message is only less helpful.
                let _ = file.read_to_string(&mut pid);
                let pid = pid.trim();
                let who = if pid.is_empty() {
                    "another tenured".to_owned()
                } else {
                    format!("tenured with pid {pid}")
                };
                bail!(
                    "{} is in use by {who}. Stop it first (`kill {}`), or give this one another home with --home",
                    self.0.display(),
                    if pid.is_empty() { "<pid>" } else { pid }
                );
            }
            Err(TryLockError::Error(e)) => {
                return Err(e).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        file.set_len(0)
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(HomeLock { _file: file })
    }

    /// `run.json`.
    pub fn run_file(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// Writes `run.json`, whole or not at all.
    pub fn write_run_file(&self, run: &RunFile) -> Result<()> {
        let mut text = serde_json::to_string_pretty(run)?;
        text.push('\n');
        let temporary = self.0.join(".run.json.tmp");
        fs::write(&temporary, text).with_context(|| format!("cannot write {}", temporary.display()))?;
        fs::rename(&temporary, self.run_file()).with_context(|| format!("cannot write {}", self.run_file().display()))
    }

    /// What the running node wrote; `None` if none runs, or the last one was killed and its process is gone.
    pub fn running(&self) -> Option<RunFile> {
        let run: RunFile = serde_json::from_slice(&fs::read(self.run_file()).ok()?).ok()?;
        // The lock, not the file, is the truth: a killed node leaves the file behind.
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.0.join("tenured.lock"))
            .ok()?;
        matches!(lock.try_lock(), Err(TryLockError::WouldBlock)).then_some(run)
    }
}

/// Creates a directory and its parents, readable by the owner alone. Error: names it.
pub fn create_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Creates a file that must not exist yet; `mode` as in chmod. Error: it exists, or cannot be written.
pub fn create_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_locks_on_one_home_are_refused_with_the_owners_pid() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let home = Home::new(dir.path().join("h"));
        let lock = home.lock()?;
        let error = home.lock().expect_err("locked").to_string();
        assert!(
            error.contains(&format!("pid {}", std::process::id())) && error.contains("--home"),
            "{error}"
        );
        drop(lock);
        home.lock()?;
        Ok(())
    }

    #[test]
    fn a_run_file_counts_only_while_its_node_holds_the_lock() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let home = Home::new(dir.path());
        let lock = home.lock()?;
        let run = RunFile {
            pid: 1,
            grpc: "127.0.0.1:1".parse()?,
            rpc: "127.0.0.1:2".parse()?,
            api: None,
            metrics: None,
            chain_id: "c-1".into(),
            engine: "comet".into(),
            p2p: None,
            cometbft: Some(3),
        };
        home.write_run_file(&run)?;
        assert_eq!(home.running(), Some(run));
        drop(lock);
        assert_eq!(home.running(), None);
        Ok(())
    }

    #[test]
    fn files_are_never_overwritten() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a/b");
        create_file(&path, b"1", 0o600)?;
        assert!(create_file(&path, b"2", 0o600).is_err());
        assert_eq!(fs::read(&path)?, b"1");
        Ok(())
    }
}
