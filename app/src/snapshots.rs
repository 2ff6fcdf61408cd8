//! State sync: snapshots of committed states for other nodes, and the restore of theirs.
//!
//! Snapshots lie under one directory, each in a folder named after its height: `manifest` and the chunks `00000`, `00001`, … A folder appears
//! whole, by a rename, so an unfinished snapshot is never offered. They are written by a thread of their own from an immutable view, while the
//! chain goes on. What a restoring node trusts is the app hash alone (`tenure_store::snapshot`).

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
};

use sha2::{Digest, Sha256};
use tendermint_proto::v0_38::abci::{
    response_apply_snapshot_chunk::Result as Applied, response_offer_snapshot::Result as Offered,
    RequestApplySnapshotChunk, RequestLoadSnapshotChunk, RequestOfferSnapshot, ResponseApplySnapshotChunk,
    ResponseListSnapshots, ResponseLoadSnapshotChunk, ResponseOfferSnapshot, Snapshot,
};
use tenure_store::{
    snapshot::{Export, Manifest, Restore, FORMAT},
    Backend, StoreError, StoreOptions, View,
};

use crate::app::{head_of, App, Consensus, Inner};

/// Most snapshots that are offered: CometBFT looks at ten of each peer.
const MAX_LISTED: usize = 10;
const MANIFEST: &str = "manifest";

/// Which snapshots a node makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Where they lie; created if need be.
    pub dir: PathBuf,
    /// One at every multiple of this height, at least 1.
    pub every_blocks: u64,
    /// How many are kept, at least 1.
    pub keep: usize,
    /// Largest chunk, bytes; CometBFT advises 10 MB.
    pub chunk_bytes: usize,
}

/// A restore, and where it goes.
#[derive(Default)]
pub(crate) struct Restoring {
    target: Option<(Arc<dyn Backend>, StoreOptions)>,
    /// With the number of its chunks.
    running: Option<(Restore, usize)>,
}

impl App {
    /// Allows a restore by state sync into the backend of the store that the application was opened with, as long as it is empty. After a
    /// restore the application works on a new `Store` over it; the one it was opened with must not be used any more.
    pub fn allow_restore(&self, backend: Arc<dyn Backend>, options: StoreOptions) {
        self.0.restoring.lock().target = Some((backend, options));
    }
}

impl Inner {
    /// Begins to write a snapshot of a view that was just committed, if one is due and none is being written.
    pub(crate) fn snapshot_if_due(&self, view: &Arc<View>) {
        let Some(options) = self.options.snapshots.clone() else {
            return;
        };
        if view.height().checked_rem(options.every_blocks.max(1)) != Some(0) {
            return;
        }
        if self.snapshot_running.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                height = view.height(),
                "no snapshot: the one before is still being written"
            );
            return;
        }
        let (view, running) = (view.clone(), Running(self.snapshot_running.clone()));
        let write = move || {
            let _running = running;
            match write(&options, &view) {
                Ok(chunks) => tracing::info!(height = view.height(), chunks, "snapshot written"),
                Err(error) => tracing::error!(height = view.height(), %error, "snapshot failed"),
            }
        };
        if let Err(error) = std::thread::Builder::new().name("snapshot".to_owned()).spawn(write) {
            tracing::error!(%error, "snapshot failed: no thread");
        }
    }

    /// ListSnapshots: the youngest first.
    pub(crate) fn list_snapshots(&self) -> ResponseListSnapshots {
        let Some(options) = &self.options.snapshots else {
            return ResponseListSnapshots::default();
        };
        // Peers are not told of a broken disk; the operator is.
        let heights = heights(&options.dir).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(dir = %options.dir.display(), %error, "the snapshots cannot be listed");
            }
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
            snapshots: heights.iter().rev().filter_map(snapshot).take(MAX_LISTED).collect(),
        }
    }

    /// LoadSnapshotChunk: empty if there is no such chunk any more.
    pub(crate) fn load_chunk(&self, request: &RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk {
        let path = match &self.options.snapshots {
            Some(options) if request.format == FORMAT => options
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

    /// OfferSnapshot: begins a restore, in the place of one that was begun before. `app_hash` comes from the light client.
    pub(crate) fn offer_snapshot(&self, request: &RequestOfferSnapshot) -> ResponseOfferSnapshot {
        let result = |result: Offered| ResponseOfferSnapshot { result: result.into() };
        let Some(offered) = &request.snapshot else {
            return result(Offered::Reject);
        };
        if offered.format != FORMAT {
            return result(Offered::RejectFormat);
        }
        let mut restoring = self.restoring.lock();
        let Some((backend, options)) = restoring.target.clone().filter(|_| self.head().block.height == 0) else {
            tracing::error!(
                "a snapshot was offered, but this node has a state already or was not opened for a restore"
            );
            return result(Offered::Abort);
        };
        let (Ok(manifest), Ok(trusted)) = (
            Manifest::decode(&offered.metadata),
            request.app_hash.as_ref().try_into(),
        ) else {
            return result(Offered::RejectSender);
        };
        if manifest.height != offered.height {
            return result(Offered::RejectSender);
        }
        restoring.running = None;
        let chunks = manifest.chunks.len();
        match Restore::begin(backend, &crate::stores(), options, manifest, trusted) {
            Ok(restore) => {
                restoring.running = Some((restore, chunks));
                result(Offered::Accept)
            }
            Err(StoreError::Manifest { detail }) => {
                tracing::warn!(detail, "a snapshot was refused");
                result(Offered::Reject)
            }
            Err(error) => {
                tracing::error!(%error, "cannot restore a snapshot");
                result(Offered::Abort)
            }
        }
    }

    /// ApplySnapshotChunk: after the last one the restored state is the application's.
    pub(crate) fn apply_chunk(&self, request: &RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk {
        let result = |result: Applied| ResponseApplySnapshotChunk {
            result: result.into(),
            ..Default::default()
        };
        let mut restoring = self.restoring.lock();
        let Some((mut restore, chunks)) = restoring.running.take() else {
            return result(Applied::Abort);
        };
        match restore.apply(usize::try_from(request.index).unwrap_or(usize::MAX), &request.chunk) {
            Ok(()) => {}
            Err(StoreError::Chunk { detail, .. }) => {
                tracing::warn!(
                    index = request.index,
                    sender = request.sender,
                    detail,
                    "a chunk was refused"
                );
                restoring.running = Some((restore, chunks));
                return ResponseApplySnapshotChunk {
                    result: Applied::Retry.into(),
                    refetch_chunks: vec![request.index],
                    reject_senders: vec![request.sender.clone()],
                };
            }
            Err(error) => {
                tracing::error!(%error, "cannot restore a snapshot");
                return result(Applied::Abort);
            }
        }
        if restore.next_index() < chunks {
            restoring.running = Some((restore, chunks));
            return result(Applied::Accept);
        }
        match restore.finish() {
            Ok(store) => {
                let head = self.must("restored state", head_of(store.latest(), &self.table));
                *self.consensus.lock() = Consensus::default();
                self.store.store(Arc::new(store));
                self.heads.store(Arc::new(vec![Arc::new(head)]));
                *self.check.lock() = None;
                result(Applied::Accept)
            }
            Err(error) => {
                tracing::error!(%error, "the snapshot was not what it promised");
                result(Applied::RejectSnapshot)
            }
        }
    }
}

/// Clears the mark when the thread ends, however it ends.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn chunk_name(index: u32) -> String {
    format!("{index:05}")
}

/// Writes a snapshot and removes what is too old. Returns the number of chunks.
fn write(options: &SnapshotOptions, view: &Arc<View>) -> Result<u32, Box<dyn std::error::Error>> {
    let name = view.height().to_string();
    let (unfinished, finished) = (options.dir.join(format!(".{name}")), options.dir.join(&name));
    remove(&unfinished)?;
    remove(&finished)?;
    fs::create_dir_all(&unfinished)?;
    let mut export = Export::new(view.clone(), options.chunk_bytes)?;
    let mut chunks: u32 = 0;
    while let Some(chunk) = export.next_chunk()? {
        fs::write(unfinished.join(chunk_name(chunks)), chunk)?;
        chunks = chunks.saturating_add(1);
    }
    fs::write(unfinished.join(MANIFEST), export.manifest().encode())?;
    fs::rename(&unfinished, &finished)?;
    let heights = heights(&options.dir)?;
    for old in heights.iter().take(heights.len().saturating_sub(options.keep.max(1))) {
        remove(&options.dir.join(old.to_string()))?;
    }
    Ok(chunks)
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Heights of the finished snapshots, ascending.
fn heights(dir: &Path) -> io::Result<Vec<u64>> {
    let mut heights = Vec::new();
    for entry in fs::read_dir(dir)? {
        heights.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    heights.sort_unstable();
    Ok(heights)
}
