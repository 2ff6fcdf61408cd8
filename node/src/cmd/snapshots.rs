//! `tenured snapshots`: the state as files, under simd's verbs.
//!
//! A snapshot is the folder `data/snapshots/<height>` that state sync serves: `manifest` and chunks. An archive of one is a `.tar.gz` with that
//! folder's files, which another machine can load.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use clap::Subcommand;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use flate2::Compression;
use serde_json::{json, Value};
use tenure_store::snapshot::{Manifest, FORMAT};

use super::keys::confirm;
use super::{operate, out};
use crate::application::snapshots::{self, SnapshotInfo};
use crate::application::Application;
use crate::client_config::Output;
use crate::config::{AppConfig, Env};
use crate::home::Home;

/// The most of an archive's manifest that is read.
const MAX_MANIFEST: u64 = 64 << 20;

#[derive(Subcommand)]
pub(super) enum SnapshotsCommand {
    /// List the snapshots of this home
    #[command(after_help = "Examples:\n  tenured snapshots list\n  tenured snapshots list -o json")]
    List {
        /// What is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Take a snapshot of a stopped node's last state
    #[command(after_help = "Example:\n  tenured snapshots export")]
    Export,
    /// Make the state anew from a snapshot of this home
    #[command(after_help = "\
The state is removed first and comes back verified against the snapshot's app hash. Blocks stay: at the next start the engine executes those above
the snapshot again. Blocks older than that are needed from the engine, so restore a snapshot that its blocks reach back to.

Example:
  tenured snapshots restore 1000 1 --yes")]
    Restore {
        /// Its height
        height: u64,
        /// Its format
        #[arg(default_value_t = FORMAT)]
        format: u32,
        /// Restore only if the app hash is this one, hex
        #[arg(long, value_name = "HEX")]
        app_hash: Option<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Write a snapshot into an archive
    #[command(after_help = "Example:\n  tenured snapshots dump 1000 1 --output-file state-1000.tar.gz")]
    Dump {
        /// Its height
        height: u64,
        /// Its format
        #[arg(default_value_t = FORMAT)]
        format: u32,
        /// Where to [default: <height>-<format>.tar.gz]
        #[arg(short, long, value_name = "FILE")]
        output_file: Option<PathBuf>,
    },
    /// Take a snapshot from an archive into this home
    #[command(after_help = "Example:\n  tenured snapshots load state-1000.tar.gz && tenured snapshots restore 1000")]
    Load {
        /// What `dump` wrote
        archive: PathBuf,
    },
    /// Remove a snapshot
    Delete {
        /// Its height
        height: u64,
        /// Its format
        #[arg(default_value_t = FORMAT)]
        format: u32,
    },
}

pub(super) fn run(home: &Home, env: &Env, command: SnapshotsCommand) -> Result<()> {
    home.require_initialised()?;
    let all = home.snapshots();
    let told = |verb: &str, s: &SnapshotInfo| {
        out(format!(
            "{verb} height {}, format {}, chunks {}",
            s.height, s.format, s.chunks
        ));
    };
    match command {
        SnapshotsCommand::List { output } => list(&all, output),
        SnapshotsCommand::Export => {
            let _lock = home.lock()?;
            let view = operate::open_begun(home, env)?.latest();
            let info = snapshots::export(&all, &view, snapshots::MAX_CHUNK_BYTES)?;
            told("Snapshot created at", &info);
            Ok(())
        }
        SnapshotsCommand::Restore {
            height,
            format,
            app_hash,
            yes,
        } => {
            let _lock = home.lock()?;
            let info = find(&all, height, format)?;
            let hash = hex::encode_upper(info.app_hash);
            if let Some(wanted) = app_hash {
                ensure!(
                    wanted.eq_ignore_ascii_case(&hash),
                    "the snapshot is of app hash {hash}, --app-hash is {wanted}"
                );
            }
            let database = home.application_db();
            if database.exists() {
                let question = format!(
                    "Replace the state in {} by that of height {height}? [y/N] ",
                    database.display()
                );
                confirm(yes, &question)?;
            }
            Application::restore(home, &AppConfig::load(home, env)?.store, &info)?;
            out(format!("Restored height {height}, app hash {hash}"));
            Ok(())
        }
        SnapshotsCommand::Dump {
            height,
            format,
            output_file,
        } => {
            find(&all, height, format)?;
            let path = output_file.unwrap_or_else(|| PathBuf::from(format!("{height}-{format}.tar.gz")));
            dump(&snapshots::files(&all, height)?, &path)?;
            out(path.display());
            Ok(())
        }
        SnapshotsCommand::Load { archive } => {
            let info = load(&all, &archive).with_context(|| archive.display().to_string())?;
            told("Loaded", &info);
            Ok(())
        }
        SnapshotsCommand::Delete { height, format } => {
            find(&all, height, format)?;
            snapshots::delete(&all, height)?;
            out(format!("deleted height {height}, format {format}"));
            Ok(())
        }
    }
}

fn list(all: &Path, output: Output) -> Result<()> {
    let there = snapshots::list(all)?;
    match output {
        Output::Json => {
            let record = |s: &SnapshotInfo| {
                json!({
                    "height": s.height.to_string(), "format": s.format, "chunks": s.chunks, "bytes": s.bytes.to_string(),
                    "hash": hex::encode_upper(s.hash), "app_hash": hex::encode_upper(s.app_hash),
                })
            };
            out(Value::Array(there.iter().map(record).collect()));
        }
        Output::Text if there.is_empty() => eprintln!("there are no snapshots in {}", all.display()),
        Output::Text => {
            for s in there {
                out(format!(
                    "height: {} format: {} chunks: {}",
                    s.height, s.format, s.chunks
                ));
            }
        }
    }
    Ok(())
}

fn find(all: &Path, height: u64, format: u32) -> Result<SnapshotInfo> {
    let there = snapshots::list(all)?;
    match there.iter().find(|s| s.height == height && s.format == format) {
        Some(info) => Ok(info.clone()),
        None => {
            let heights: Vec<String> = there.iter().map(|s| s.height.to_string()).collect();
            let heights = if heights.is_empty() {
                "none; `tenured snapshots export` takes one".to_owned()
            } else {
                heights.join(", ")
            };
            bail!(
                "there is no snapshot of height {height}, format {format} in {}; there are {heights}",
                all.display()
            )
        }
    }
}

fn dump(files: &[PathBuf], path: &Path) -> Result<()> {
    let file = File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut archive = tar::Builder::new(GzEncoder::new(BufWriter::new(file), Compression::default()));
    for file in files {
        archive.append_path_with_name(file, file.file_name().unwrap_or_default())?;
    }
    archive.into_inner()?.finish()?.into_inner()?.sync_all()?;
    Ok(())
}

/// Reads an archive, the manifest first. Nothing in it is trusted: sizes are bounded, names do not matter, every chunk has the hash of the manifest.
fn load(all: &Path, archive: &Path) -> Result<SnapshotInfo> {
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(File::open(archive)?)));
    let mut entries = archive.entries()?;
    let first = entries.next().context("it is empty")??;
    let mut bytes = Vec::new();
    first.take(MAX_MANIFEST).read_to_end(&mut bytes)?;
    let height = Manifest::decode(&bytes)
        .context("it is not an archive of a snapshot")?
        .height;
    let is_there = snapshots::list(all)?.iter().any(|s| s.height == height);
    ensure!(
        !is_there,
        "there is a snapshot of height {height} already in {}; `tenured snapshots delete {height}` removes it",
        all.display()
    );
    let most = u64::try_from(snapshots::MAX_CHUNK_BYTES).unwrap_or(u64::MAX);
    snapshots::import(all, &bytes, |index| {
        let entry = entries.next().with_context(|| format!("chunk {index} is missing"))??;
        let mut chunk = Vec::new();
        entry.take(most.saturating_add(1)).read_to_end(&mut chunk)?;
        Ok(chunk)
    })
}
