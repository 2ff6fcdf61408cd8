//! What the agent keeps on disk, each file written whole or not at all.
//!
//! ```text
//! <home>/config.toml
//! <home>/keyring-*/                 the provider's key
//! <home>/lock                       held while the daemon runs: two would sign with one key
//! <home>/epochs/<epoch>.json        what was signed for an epoch, leaves included
//! <home>/leases/<id>/manifest.pb    the manifest as it was hashed
//! <home>/leases/<id>/module.wasm
//! <home>/leases/<id>/in/            the inputs
//! <home>/leases/<id>/out/           what the program wrote
//! <home>/leases/<id>/log            standard output and error
//! <home>/leases/<id>/state.json     [`LeaseRecord`]
//! <home>/incoming/<id>-<random>/    a hand-over that is not complete; emptied at start
//! ```
//! A lease's directory appears by one rename when its hand-over is complete, so whatever is under `leases/` is whole.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use prost::Message;
use serde::{Deserialize, Serialize};
use tenure_client::files::{self, Existing};
use tenure_proto::tenure::market::v1::{Manifest, OutputFile, OutputList};

use crate::attest::EpochRecord;

/// The agent's directory.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

/// Where a workload stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// It runs, or ran when the agent stopped: then it starts again from the beginning.
    Running,
    /// It ended.
    Ended(Ended),
}

/// How a workload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Exit code.
    pub exit_code: i32,
    /// Whether the program ended by itself, as against having been ended from outside.
    pub by_itself: bool,
    /// In words.
    pub detail: String,
    /// Live time of the last block seen before, milliseconds.
    pub live_ms: u64,
    /// Live time from which on the last run counted, if it began counting: see [`crate::attest::Service::from_ms`].
    pub ran_from_ms: Option<u64>,
    /// Its outputs in order of name.
    pub outputs: Vec<Output>,
}

/// An output file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Name under `/out`.
    pub name: String,
    /// Length, bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

impl Ended {
    /// The list whose hash is the lease's output root.
    pub fn output_list(&self) -> OutputList {
        let file = |o: &Output| OutputFile {
            name: o.name.clone(),
            size: o.size,
            sha256: hex::decode(&o.sha256).unwrap_or_default(),
        };
        OutputList {
            exit_code: self.exit_code,
            files: self.outputs.iter().map(file).collect(),
        }
    }
}

/// What is known of a lease beside its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The lease.
    pub lease_id: u64,
    /// The tenant's address.
    pub tenant: String,
    /// SHA-256 of the manifest, hex.
    pub manifest_hash: String,
    /// The tenant's signature over the receipt, hex.
    pub receipt_signature: String,
    /// Where the workload stands.
    #[serde(flatten)]
    pub phase: Phase,
    /// Wall-clock milliseconds at which the chain was seen to have closed the lease; from then on retention counts.
    pub retired_ms: Option<u64>,
}

/// A lease found on disk.
#[derive(Debug)]
pub struct Found {
    /// Its record.
    pub record: LeaseRecord,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Home {
    /// The agent's directory at this path; made if missing, for its owner alone.
    pub fn open(path: &Path) -> Result<Self> {
        let home = Self(path.to_owned());
        for dir in [home.0.clone(), home.leases(), home.0.join("epochs")] {
            files::create_private_dir(&dir)?;
        }
        Ok(home)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn leases(&self) -> PathBuf {
        self.0.join("leases")
    }

    /// A lease's directory.
    pub fn lease(&self, id: u64) -> PathBuf {
        self.leases().join(id.to_string())
    }

    /// A new directory for a hand-over.
    pub fn incoming(&self, id: u64) -> Result<PathBuf> {
        let dir = self
            .0
            .join("incoming")
            .join(format!("{id}-{:016x}", rand::random::<u64>()));
        for part in ["files", "in", "out"] {
            files::create_private_dir(&dir.join(part))?;
        }
        Ok(dir)
    }

    /// Drops hand-overs that a former process did not complete.
    pub fn clear_incoming(&self) -> Result<()> {
        match fs::remove_dir_all(self.0.join("incoming")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("incoming/"),
            _ => Ok(()),
        }
    }

    /// Makes a complete hand-over the lease's directory, in one step.
    pub fn accept(&self, incoming: &Path, record: &LeaseRecord, manifest: &Manifest) -> Result<()> {
        files::write(
            &incoming.join("manifest.pb"),
            &manifest.encode_to_vec(),
            Existing::Replace,
        )?;
        files::write(
            &incoming.join("state.json"),
            &serde_json::to_vec_pretty(record)?,
            Existing::Replace,
        )?;
        files::sync_dir(&incoming.join("in"))?;
        let target = self.lease(record.lease_id);
        fs::rename(incoming, &target).with_context(|| target.display().to_string())?;
        Ok(files::sync_dir(&self.leases())?)
    }

    /// Writes a lease's record.
    pub fn save(&self, record: &LeaseRecord) -> Result<()> {
        let path = self.lease(record.lease_id).join("state.json");
        Ok(files::write(
            &path,
            &serde_json::to_vec_pretty(record)?,
            Existing::Replace,
        )?)
    }

    /// Every lease on disk in order of id. One that cannot be read is reported and left alone: a person may still want its files.
    pub fn scan(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.leases())? {
            let dir = entry?.path();
            match read_lease(&dir) {
                Ok(lease) => found.push(lease),
                Err(error) => tracing::error!(dir = %dir.display(), "unreadable lease is left alone: {error:#}"),
            }
        }
        found.sort_by_key(|lease| lease.record.lease_id);
        Ok(found)
    }

    /// Deletes a lease's directory.
    pub fn remove(&self, id: u64) -> Result<()> {
        fs::remove_dir_all(self.lease(id)).with_context(|| format!("lease {id}"))
    }

    fn epoch(&self, epoch: u64) -> PathBuf {
        self.0.join("epochs").join(format!("{epoch}.json"))
    }

    /// What was signed for an epoch, if anything.
    pub fn load_epoch(&self, epoch: u64) -> Result<Option<EpochRecord>> {
        match fs::read(self.epoch(epoch)) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).with_context(|| self.epoch(epoch).display().to_string())?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| self.epoch(epoch).display().to_string()),
        }
    }

    /// Keeps what is about to be signed for an epoch.
    pub fn save_epoch(&self, record: &EpochRecord) -> Result<()> {
        Ok(files::write(
            &self.epoch(record.epoch),
            &serde_json::to_vec(record)?,
            Existing::Replace,
        )?)
    }

    /// Deletes records of epochs before this one.
    pub fn prune_epochs(&self, before: u64) -> Result<()> {
        for entry in fs::read_dir(self.0.join("epochs"))? {
            let path = entry?.path();
            let epoch = path
                .file_stem()
                .and_then(|s| s.to_str())
                .and_then(|s| s.parse::<u64>().ok());
            if epoch.is_some_and(|epoch| epoch < before) {
                fs::remove_file(&path).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Takes the lock that only one daemon can hold; it is free again when the file is dropped or the process ends.
    pub fn lock(&self) -> Result<fs::File> {
        let path = self.0.join("lock");
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        fs2::FileExt::try_lock_exclusive(&file)
            .with_context(|| format!("{} is held: another tenure-agent runs with this home", path.display()))?;
        Ok(file)
    }
}

fn read_lease(dir: &Path) -> Result<Found> {
    let record = serde_json::from_slice::<LeaseRecord>(&fs::read(dir.join("state.json")).context("state.json")?)?;
    let manifest = Manifest::decode(fs::read(dir.join("manifest.pb")).context("manifest.pb")?.as_slice())?;
    Ok(Found { record, manifest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_two_daemons_exclude_each_other() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path()).expect("home");
        let record = LeaseRecord {
            lease_id: 7,
            tenant: "t".into(),
            manifest_hash: "ab".into(),
            receipt_signature: "cd".into(),
            phase: Phase::Ended(Ended {
                exit_code: 3,
                by_itself: true,
                detail: "d".into(),
                live_ms: 5,
                ran_from_ms: Some(4),
                outputs: vec![Output {
                    name: "o".into(),
                    size: 1,
                    sha256: "ff".into(),
                }],
            }),
            retired_ms: None,
        };
        let manifest = Manifest {
            name: "job".into(),
            ..Default::default()
        };
        let incoming = home.incoming(7).expect("incoming");
        home.accept(&incoming, &record, &manifest).expect("accept");
        assert!(!incoming.exists());
        let found = home.scan().expect("scan");
        assert_eq!((found[0].record.clone(), found[0].manifest.clone()), (record, manifest));
        home.incoming(8).expect("incoming");
        home.clear_incoming().expect("clear");
        assert_eq!(home.scan().expect("scan").len(), 1);

        let held = home.lock().expect("lock");
        assert!(home.lock().is_err());
        drop(held);
        assert!(home.lock().is_ok());
    }

    #[test]
    fn epochs_are_kept_until_pruned() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path()).expect("home");
        let record = |epoch| EpochRecord {
            epoch,
            leaves: [(1, vec![2])].into(),
            down: vec![3],
        };
        for epoch in [9, 10, 11] {
            home.save_epoch(&record(epoch)).expect("save");
        }
        home.prune_epochs(10).expect("prune");
        assert_eq!(home.load_epoch(9).expect("load"), None);
        assert_eq!(home.load_epoch(10).expect("load"), Some(record(10)));
    }
}
