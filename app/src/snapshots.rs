//! Snapshots of committed states, for nodes that join by state sync.
//!
//! They lie under one directory, each in a folder named after its height: `manifest` and the chunks `00000`, `00001`, … A folder appears whole,
//! by a rename, so an unfinished snapshot is never offered. They are written by a thread of their own from an immutable view, while the chain
//! goes on. Their bytes are a function of the state and the size of the chunks alone, so nodes with equal settings offer the same snapshot.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tendermint_proto::v0_38::abci::{
    RequestLoadSnapshotChunk, ResponseListSnapshots, ResponseLoadSnapshotChunk, Snapshot,
};
use tenure_store::{
    snapshot::{Export, Manifest, Restore, FORMAT},
    Backend, StoreError, StoreOptions, View,
};

use crate::app::{App, Inner, OpenError};

/// Largest chunk, bytes: what CometBFT advises.
pub const MAX_CHUNK_BYTES: usize = 10_000_000;
/// Most snapshots that are offered: CometBFT looks at ten of each peer.
const MAX_LISTED: usize = 10;
const MANIFEST: &str = "manifest";

/// Which snapshots a node offers and makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Where they lie; created if need be.
    pub dir: PathBuf,
    /// One is made at every multiple of this height; 0: none is, those that are there are offered. Nodes of a chain should agree on it, so that
    /// a joining node finds several peers.
    pub every_blocks: u64,
    /// How many are offered, and left when one has been made, at least 1.
    pub keep: usize,
    /// Largest chunk, bytes, at most [`MAX_CHUNK_BYTES`]. Nodes of a chain must agree on it to offer equal snapshots.
    pub chunk_bytes: usize,
}

impl SnapshotOptions {
    /// Two snapshots, one every 1,000 blocks, in the largest chunks.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            every_blocks: 1_000,
            keep: 2,
            chunk_bytes: MAX_CHUNK_BYTES,
        }
    }
}

/// A finished snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Height of the state.
    pub height: u64,
    /// Format of the chunks.
    pub format: u32,
    /// Number of chunks.
    pub chunks: u32,
    /// Bytes of all chunks.
    pub bytes: u64,
    /// App hash of the state.
    pub app_hash: [u8; 32],
    /// SHA-256 of the manifest, by which peers tell snapshots of one height apart.
    pub hash: [u8; 32],
}

/// Why a snapshot could not be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The directory.
    #[error("cannot use the snapshot in {}: {error}", .path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// What failed.
        error: io::Error,
    },
    /// The snapshot or the state.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The finished snapshots in a directory, the oldest first; none if there is no directory. Folders that hold no readable manifest are left out.
pub fn list(dir: &Path) -> Result<Vec<SnapshotInfo>, SnapshotError> {
    let heights = heights(dir).map_err(|error| disk(dir, error))?;
    Ok(heights.into_iter().filter_map(|height| info(dir, height)).collect())
}

/// Writes a snapshot of a state, in the place of one of the same height.
pub fn export(dir: &Path, view: &Arc<View>, chunk_bytes: usize) -> Result<SnapshotInfo, SnapshotError> {
    let mut export = Export::new(view.clone(), chunk_bytes.min(MAX_CHUNK_BYTES))?;
    place(dir, view.height(), |folder| {
        let mut index: usize = 0;
        while let Some(chunk) = export.next_chunk()? {
            write_synced(&folder.join(chunk_name(index)), &chunk)?;
            index = index.saturating_add(1);
        }
        write_synced(&folder.join(MANIFEST), &export.manifest().encode())
    })
}

/// Takes in a snapshot from elsewhere, in the place of one of the same height: the bytes of its manifest, and from `chunk` each chunk in order.
/// Error: the manifest is malformed, or a chunk is not the one that it names; nothing is left behind then.
pub fn import<E: From<SnapshotError>>(
    dir: &Path,
    manifest: &[u8],
    mut chunk: impl FnMut(usize) -> Result<Vec<u8>, E>,
) -> Result<SnapshotInfo, E> {
    let Manifest { height, chunks, .. } = Manifest::decode(manifest).map_err(SnapshotError::from)?;
    place(dir, height, |folder| {
        for (index, expected) in chunks.iter().enumerate() {
            let bytes = chunk(index)?;
            check(index, &bytes, expected).map_err(SnapshotError::from)?;
            write_synced(&folder.join(chunk_name(index)), &bytes)?;
        }
        Ok(write_synced(&folder.join(MANIFEST), manifest)?)
    })
}

/// The files of a snapshot: the manifest, then the chunks in order. Error: one cannot be read, or a chunk was changed.
pub fn files(dir: &Path, height: u64) -> Result<Vec<PathBuf>, SnapshotError> {
    let folder = dir.join(height.to_string());
    let manifest = folder.join(MANIFEST);
    let chunks = Manifest::decode(&read(&manifest)?)?.chunks;
    let mut files = vec![manifest];
    for (index, expected) in chunks.iter().enumerate() {
        let path = folder.join(chunk_name(index));
        check(index, &read(&path)?, expected)?;
        files.push(path);
    }
    Ok(files)
}

/// Restores a snapshot into an empty database, which can then be opened. `trusted` is the app hash of its height, from a source that the
/// operator trusts: the header of the next height. Error: the snapshot is not of it, is damaged, or the database holds something.
pub fn restore(
    dir: &Path,
    height: u64,
    backend: Arc<dyn Backend>,
    options: StoreOptions,
    trusted: [u8; 32],
) -> Result<(), SnapshotError> {
    let folder = dir.join(height.to_string());
    let manifest = Manifest::decode(&read(&folder.join(MANIFEST))?)?;
    let count = manifest.chunks.len();
    let mut restore = Restore::begin(backend, &crate::stores(), options, manifest, trusted)?;
    for index in 0..count {
        restore.apply(index, &read(&folder.join(chunk_name(index)))?)?;
    }
    restore.finish()?;
    Ok(())
}

/// Removes a snapshot; whether there was one.
pub fn delete(dir: &Path, height: u64) -> Result<bool, SnapshotError> {
    let folder = dir.join(height.to_string());
    let existed = folder.exists();
    remove(&folder).map_err(|error| disk(&folder, error))?;
    Ok(existed)
}

/// The snapshots that this node makes.
pub(crate) struct Snapshots {
    options: SnapshotOptions,
    state: Arc<Mutex<Progress>>,
}

#[derive(Default)]
struct Progress {
    /// Height of the one that is being written.
    running: Option<u64>,
    /// Height of the oldest finished one.
    oldest: Option<u64>,
}

impl Snapshots {
    /// Opens the directory, and removes what a process that ended early left unfinished.
    pub(crate) fn open(options: SnapshotOptions) -> Result<Self, OpenError> {
        let oldest = tidy(&options.dir).map_err(|error| OpenError::Snapshots {
            dir: options.dir.clone(),
            error,
        })?;
        let state = Progress { running: None, oldest };
        Ok(Self {
            options,
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Height of the oldest snapshot, the one that is being written included.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let state = self.state.lock();
        state.oldest.into_iter().chain(state.running).min()
    }

    /// Begins to write a snapshot of a view that was just committed, if one is due and none is being written.
    pub(crate) fn begin_if_due(&self, view: &Arc<View>) {
        let height = view.height();
        if height.checked_rem(self.options.every_blocks) != Some(0) {
            return;
        }
        let mut state = self.state.lock();
        if let Some(running) = state.running {
            tracing::warn!(height, running, "no snapshot: the one before is still being written");
            return;
        }
        state.running = Some(height);
        drop(state);
        let (options, view, running) = (self.options.clone(), view.clone(), Running(self.state.clone()));
        let write = move || {
            let running = running;
            match export(&options.dir, &view, options.chunk_bytes) {
                Ok(info) => tracing::info!(height, chunks = info.chunks, bytes = info.bytes, "snapshot written"),
                Err(error) => tracing::error!(height, %error, "snapshot failed"),
            }
            drop(view);
            match prune(&options) {
                Ok(oldest) => running.0.lock().oldest = oldest,
                Err(error) => tracing::error!(dir = %options.dir.display(), %error, "old snapshots cannot be removed"),
            }
        };
        if let Err(error) = std::thread::Builder::new().name("snapshot".to_owned()).spawn(write) {
            tracing::error!(%error, "snapshot failed: no thread");
        }
    }
}

/// Clears the mark when the thread ends, however it ends.
struct Running(Arc<Mutex<Progress>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running = None;
    }
}

impl App {
    /// Height of the snapshot that is being written, if one is.
    pub fn snapshot_in_progress(&self) -> Option<u64> {
        self.0.snapshots.as_ref()?.state.lock().running
    }
}

impl Inner {
    /// ListSnapshots: the youngest first.
    pub(crate) fn list_snapshots(&self) -> ResponseListSnapshots {
        let Some(Snapshots { options, .. }) = &self.snapshots else {
            return ResponseListSnapshots::default();
        };
        // One more is there while the oldest is being removed.
        let most = options.keep.clamp(1, MAX_LISTED);
        // Peers are not told of a broken disk; the operator is.
        let heights = heights(&options.dir).unwrap_or_else(|error| {
            tracing::warn!(dir = %options.dir.display(), %error, "the snapshots cannot be listed");
            Vec::new()
        });
        let snapshot = |height: &u64| {
            let metadata = fs::read(options.dir.join(height.to_string()).join(MANIFEST)).ok()?;
            let manifest = Manifest::decode(&metadata).ok()?;
            Some(Snapshot {
                height: manifest.height,
                format: manifest.format,
                chunks: u32::try_from(manifest.chunks.len()).ok()?,
                hash: Sha256::digest(&metadata).to_vec().into(),
                metadata: metadata.into(),
            })
        };
        ResponseListSnapshots {
            snapshots: heights.iter().rev().filter_map(snapshot).take(most).collect(),
        }
    }

    /// LoadSnapshotChunk: empty if there is no such chunk any more.
    pub(crate) fn load_chunk(&self, request: &RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk {
        let path = match &self.snapshots {
            Some(Snapshots { options, .. }) if request.format == FORMAT => options
                .dir
                .join(request.height.to_string())
                .join(chunk_name(request.chunk)),
            _ => return ResponseLoadSnapshotChunk::default(),
        };
        let chunk = fs::read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "a snapshot's chunk cannot be read");
            }
            Vec::new()
        });
        ResponseLoadSnapshotChunk { chunk: chunk.into() }
    }
}

fn disk(path: &Path, error: io::Error) -> SnapshotError {
    SnapshotError::Disk {
        path: path.to_owned(),
        error,
    }
}

fn chunk_name(index: impl Display) -> String {
    format!("{index:05}")
}

/// Error: a chunk is not the one of this hash.
fn check(index: usize, chunk: &[u8], expected: &[u8; 32]) -> Result<(), StoreError> {
    let found: [u8; 32] = Sha256::digest(chunk).into();
    if found == *expected {
        return Ok(());
    }
    let detail = format!(
        "it has hash {}, the manifest says {}",
        hex::encode(found),
        hex::encode(expected)
    );
    Err(StoreError::Chunk { index, detail })
}

/// Makes the folder of a snapshot. `write` fills one of another name; after a loss of power the folder is whole or absent.
fn place<E: From<SnapshotError>>(
    dir: &Path,
    height: u64,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<SnapshotInfo, E> {
    let (unfinished, finished) = (dir.join(format!(".{height}")), dir.join(height.to_string()));
    let in_dir = |error| disk(&unfinished, error);
    remove(&unfinished).map_err(in_dir)?;
    fs::create_dir_all(&unfinished).map_err(in_dir)?;
    let swap = || {
        File::open(&unfinished)?.sync_all()?;
        remove(&finished)?;
        fs::rename(&unfinished, &finished)?;
        File::open(dir)?.sync_all()
    };
    let placed = write(&unfinished).and_then(|()| Ok(swap().map_err(in_dir)?));
    if let Err(error) = placed {
        // What is left of it now is removed at the next start.
        let _ = remove(&unfinished);
        return Err(error);
    }
    Ok(info(dir, height).ok_or_else(|| disk(&finished, io::ErrorKind::NotFound.into()))?)
}

fn info(dir: &Path, height: u64) -> Option<SnapshotInfo> {
    let folder = dir.join(height.to_string());
    let metadata = fs::read(folder.join(MANIFEST)).ok()?;
    let manifest = Manifest::decode(&metadata).ok()?;
    let chunks = u32::try_from(manifest.chunks.len()).ok()?;
    let bytes = (0..chunks).map(|i| fs::metadata(folder.join(chunk_name(i))).map_or(0, |file| file.len()));
    Some(SnapshotInfo {
        height,
        format: manifest.format,
        chunks,
        bytes: bytes.fold(0, u64::saturating_add),
        app_hash: manifest.app_hash,
        hash: Sha256::digest(&metadata).into(),
    })
}

/// Makes the directory if need be and removes unfinished snapshots. Returns the height of the oldest finished one.
fn tidy(dir: &Path) -> io::Result<Option<u64>> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let unfinished = |name: &str| {
            name.strip_prefix('.')
                .is_some_and(|height| height.parse::<u64>().is_ok())
        };
        if entry.file_name().to_str().is_some_and(unfinished) {
            remove(&entry.path())?;
        }
    }
    Ok(heights(dir)?.first().copied())
}

/// Removes the snapshots that are too old. Returns the height of the oldest that is left.
fn prune(options: &SnapshotOptions) -> io::Result<Option<u64>> {
    let heights = heights(&options.dir)?;
    let (old, kept) = heights.split_at(heights.len().saturating_sub(options.keep.max(1)));
    for old in old {
        remove(&options.dir.join(old.to_string()))?;
    }
    Ok(kept.first().copied())
}

fn read(path: &Path) -> Result<Vec<u8>, SnapshotError> {
    fs::read(path).map_err(|error| disk(path, error))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), SnapshotError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| disk(path, error))
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Heights of the finished snapshots, ascending; none if there is no directory.
fn heights(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut heights = Vec::new();
    for entry in entries {
        heights.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    heights.sort_unstable();
    Ok(heights)
}
