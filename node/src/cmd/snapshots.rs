//! `tenured snapshots`: the state as files, under simd's verbs.
//!
//! A snapshot is the folder `data/snapshots/<height>` that state sync serves: `manifest` and chunks. An archive of one is a `.tar.gz` with that
//! folder's files, which another machine can load.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use clap::Subcommand;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use flate2::Compression;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use tenure_store::snapshot::{Export, Manifest, FORMAT};

use super::keys::confirm;
use super::{operate, out};
use crate::application::Application;
use crate::client_config::Output;
use crate::config::{AppConfig, Env};
use crate::home::{create_dir, Home};

const MANIFEST: &str = "manifest";
/// Largest chunk, bytes, as CometBFT advises for state sync.
const MAX_CHUNK_BYTES: usize = 10_000_000;
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
    let all = home.data("snapshots");
    match command {
        SnapshotsCommand::List { output } => list(&all, output),
        SnapshotsCommand::Export => {
            let _lock = home.lock()?;
            let application = operate::open_begun(home, env)?;
            let manifest = export(&all, &application)?;
            out(format!(
                "Snapshot created at height {}, format {}, chunks {}",
                manifest.height,
                manifest.format,
                manifest.chunks.len()
            ));
            Ok(())
        }
        SnapshotsCommand::Restore {
            height,
            format,
            app_hash,
            yes,
        } => {
            let _lock = home.lock()?;
            let (dir, manifest) = find(&all, height, format)?;
            let hash = hex::encode_upper(manifest.app_hash);
            if let Some(wanted) = app_hash {
                ensure!(
                    wanted.eq_ignore_ascii_case(&hash),
                    "the snapshot is of app hash {hash}, --app-hash is {wanted}"
                );
            }
            verify(&dir, &manifest)?;
            let database = home.application_db();
            if database.exists() {
                confirm(
                    yes,
                    &format!(
                        "Replace the state in {} by that of height {height}? [y/N] ",
                        database.display()
                    ),
                )?;
                fs::remove_dir_all(&database).with_context(|| format!("cannot remove {}", database.display()))?;
            }
            let chunk = |index: usize| read_chunk(&dir, index);
            Application::restore(&database, &AppConfig::load(home, env)?.store, manifest, chunk)?;
            out(format!("Restored height {height}, app hash {hash}"));
            Ok(())
        }
        SnapshotsCommand::Dump {
            height,
            format,
            output_file,
        } => {
            let (dir, manifest) = find(&all, height, format)?;
            verify(&dir, &manifest)?;
            let path = output_file.unwrap_or_else(|| PathBuf::from(format!("{height}-{format}.tar.gz")));
            dump(&dir, &manifest, &path)?;
            out(path.display());
            Ok(())
        }
        SnapshotsCommand::Load { archive } => {
            let manifest = load(&all, &archive).with_context(|| archive.display().to_string())?;
            out(format!(
                "Loaded height {}, format {}, chunks {}",
                manifest.height,
                manifest.format,
                manifest.chunks.len()
            ));
            Ok(())
        }
        SnapshotsCommand::Delete { height, format } => {
            let (dir, _) = find(&all, height, format)?;
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
            out(format!("deleted {}", dir.display()));
            Ok(())
        }
    }
}

fn chunk_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("{index:05}"))
}

fn read_chunk(dir: &Path, index: usize) -> Result<Vec<u8>> {
    let path = chunk_path(dir, index);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_manifest(dir: &Path) -> Result<Manifest> {
    let path = dir.join(MANIFEST);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Manifest::decode(&bytes).with_context(|| path.display().to_string())
}

/// Snapshots in order of height; those that are unfinished or unreadable are left out.
fn snapshots(all: &Path) -> Result<Vec<Manifest>> {
    let entries = match fs::read_dir(all) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", all.display())),
    };
    let mut manifests = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let finished = path
            .file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.parse::<u64>().is_ok());
        if finished {
            manifests.push(read_manifest(&path)?);
        }
    }
    manifests.sort_by_key(|m| m.height);
    Ok(manifests)
}

fn list(all: &Path, output: Output) -> Result<()> {
    let manifests = snapshots(all)?;
    match output {
        Output::Json => {
            let record = |m: &Manifest| {
                json!({
                    "height": m.height.to_string(), "format": m.format, "chunks": m.chunks.len(),
                    "hash": hex::encode_upper(Sha256::digest(m.encode())), "app_hash": hex::encode_upper(m.app_hash),
                })
            };
            out(Value::Array(manifests.iter().map(record).collect()));
        }
        Output::Text if manifests.is_empty() => eprintln!("there are no snapshots in {}", all.display()),
        Output::Text => {
            for m in manifests {
                out(format!(
                    "height: {} format: {} chunks: {}",
                    m.height,
                    m.format,
                    m.chunks.len()
                ));
            }
        }
    }
    Ok(())
}

fn find(all: &Path, height: u64, format: u32) -> Result<(PathBuf, Manifest)> {
    let manifests = snapshots(all)?;
    match manifests.iter().find(|m| m.height == height && m.format == format) {
        Some(manifest) => Ok((all.join(height.to_string()), manifest.clone())),
        None => {
            let there: Vec<String> = manifests.iter().map(|m| m.height.to_string()).collect();
            let there = if there.is_empty() {
                "none; `tenured snapshots export` takes one".to_owned()
            } else {
                there.join(", ")
            };
            bail!(
                "there is no snapshot of height {height}, format {format} in {}; there are {there}",
                all.display()
            )
        }
    }
}

/// Error: a chunk is missing or was changed.
fn verify(dir: &Path, manifest: &Manifest) -> Result<()> {
    for (index, expected) in manifest.chunks.iter().enumerate() {
        let found = Sha256::digest(read_chunk(dir, index)?);
        ensure!(
            found.as_slice() == expected,
            "{} has hash {}, the manifest says {}; delete this snapshot",
            chunk_path(dir, index).display(),
            hex::encode(found),
            hex::encode(expected)
        );
    }
    Ok(())
}

/// Writes a snapshot of the last state; it appears whole, by a rename.
fn export(all: &Path, application: &Application) -> Result<Manifest> {
    let view = application.latest();
    let height = view.height();
    let (unfinished, finished) = (all.join(format!(".{height}")), all.join(height.to_string()));
    ensure!(
        !finished.exists(),
        "there is a snapshot of height {height} already in {}",
        finished.display()
    );
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    create_dir(&unfinished)?;
    let mut export = Export::new(view, MAX_CHUNK_BYTES)?;
    let mut index = 0;
    while let Some(chunk) = export.next_chunk()? {
        fs::write(chunk_path(&unfinished, index), chunk)?;
        index += 1;
    }
    let manifest = export.manifest();
    fs::write(unfinished.join(MANIFEST), manifest.encode())?;
    fs::rename(&unfinished, &finished).with_context(|| format!("cannot rename to {}", finished.display()))?;
    Ok(manifest)
}

fn dump(dir: &Path, manifest: &Manifest, path: &Path) -> Result<()> {
    let file = File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut archive = tar::Builder::new(GzEncoder::new(BufWriter::new(file), Compression::default()));
    archive.append_path_with_name(dir.join(MANIFEST), MANIFEST)?;
    for index in 0..manifest.chunks.len() {
        let chunk = chunk_path(dir, index);
        archive.append_path_with_name(&chunk, chunk.file_name().unwrap_or_default())?;
    }
    archive.into_inner()?.finish()?.into_inner()?.sync_all()?;
    Ok(())
}

/// Reads an archive. Nothing in it is trusted: names are those that a snapshot has, sizes are bounded, every chunk has the hash of the manifest.
fn load(all: &Path, archive: &Path) -> Result<Manifest> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(File::open(archive)?)));
    let mut entries = archive.entries()?;
    let mut first = entries.next().context("it is empty")??;
    ensure!(
        first.path()?.as_ref() == Path::new(MANIFEST),
        "it does not begin with {MANIFEST}: it is not an archive of a snapshot"
    );
    let mut bytes = Vec::new();
    (&mut first).take(MAX_MANIFEST).read_to_end(&mut bytes)?;
    let manifest = Manifest::decode(&bytes)?;
    let height = manifest.height;
    let (unfinished, finished) = (all.join(format!(".{height}")), all.join(height.to_string()));
    ensure!(
        !finished.exists(),
        "there is a snapshot of height {height} already in {}",
        finished.display()
    );
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    create_dir(&unfinished)?;
    let limit = u64::try_from(MAX_CHUNK_BYTES).unwrap_or(u64::MAX);
    let unpacked = (|| {
        for (index, expected) in manifest.chunks.iter().enumerate() {
            let mut entry = entries.next().with_context(|| format!("chunk {index} is missing"))??;
            let mut chunk = Vec::new();
            (&mut entry).take(limit + 1).read_to_end(&mut chunk)?;
            ensure!(
                Sha256::digest(&chunk).as_slice() == expected,
                "chunk {index} is not what the manifest says"
            );
            fs::write(chunk_path(&unfinished, index), &chunk)?;
        }
        fs::write(unfinished.join(MANIFEST), &bytes)?;
        fs::rename(&unfinished, &finished).with_context(|| format!("cannot rename to {}", finished.display()))
    })();
    if unpacked.is_err() && unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    unpacked.map(|()| manifest)
}
