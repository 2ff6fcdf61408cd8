//! Snapshots for state sync: the flat values of one view as chunks that every node cuts alike.
//!
//! ```text
//! chunk     records until its end: store name (u8 length, bytes), key (u32 length, bytes), value (u32 length, bytes)
//! manifest  format u32, height u64, app hash 32 bytes, number of chunks u32, sha256 of each chunk; integers big endian
//! ```
//!
//! Records are ordered by store name, then key, across all chunks, and a chunk is closed when the next record would not fit: the bytes
//! are a function of the state and the limit alone. The only thing a restoring node must trust is the app hash.

use std::sync::Arc;

use crate::backend::{Backend, Batch};
use crate::error::HexBytes;
use crate::sha256::{sha256, Hash};
use crate::undo::{length, take};
use crate::{keys, rebuild, Store, StoreError, StoreOptions, View};

/// The format this build writes and reads.
pub const FORMAT: u32 = 1;
/// The largest chunk accepted, CometBFT's own limit; 10 MB is advised.
pub const MAX_CHUNK_BYTES: usize = 16 << 20;
/// The most chunks of a snapshot: its manifest then fits the 4 MiB CometBFT allows for metadata.
pub const MAX_CHUNKS: usize = 100_000;

/// Entries removed in one batch when an unfinished restore is wiped.
const WIPE_ENTRIES: usize = 10_000;

/// What a snapshot consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Format of the chunks, [`FORMAT`].
    pub format: u32,
    /// Height of the state, at least 1.
    pub height: u64,
    /// App hash of the state.
    pub app_hash: [u8; 32],
    /// SHA-256 of each chunk in order.
    pub chunks: Vec<[u8; 32]>,
}

impl Manifest {
    /// The manifest as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.chunks.len()).expect("at most MAX_CHUNKS chunks");
        let mut bytes = Vec::with_capacity(48 + 32 * self.chunks.len());
        bytes.extend_from_slice(&self.format.to_be_bytes());
        bytes.extend_from_slice(&self.height.to_be_bytes());
        bytes.extend_from_slice(&self.app_hash);
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend(self.chunks.iter().flatten());
        bytes
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`StoreError::Manifest`] unless the bytes are exactly what [`Manifest::encode`] writes for a supported format.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, StoreError> {
        let mut rest = bytes;
        Manifest::read(&mut rest)
            .ok_or_else(|| refuse("it is cut short, or has bytes too many".to_owned()))?
            .checked()
    }

    fn read(rest: &mut &[u8]) -> Option<Manifest> {
        let format = u32::from_be_bytes(take(rest, 4)?.try_into().ok()?);
        let height = u64::from_be_bytes(take(rest, 8)?.try_into().ok()?);
        let app_hash = take(rest, 32)?.try_into().ok()?;
        let count = length(rest)?;
        if rest.len() != count.checked_mul(32)? {
            return None;
        }
        let chunks = rest
            .chunks_exact(32)
            .map(|hash| hash.try_into().expect("exactly 32 bytes"))
            .collect();
        Some(Manifest {
            format,
            height,
            app_hash,
            chunks,
        })
    }

    fn checked(self) -> Result<Manifest, StoreError> {
        if self.format != FORMAT {
            return Err(refuse(format!("format {}, this build reads {FORMAT}", self.format)));
        }
        if self.height == 0 {
            return Err(refuse("height 0".to_owned()));
        }
        if self.chunks.len() > MAX_CHUNKS {
            return Err(refuse(format!(
                "{} chunks, the limit is {MAX_CHUNKS}",
                self.chunks.len()
            )));
        }
        Ok(self)
    }
}

fn refuse(detail: String) -> StoreError {
    StoreError::Manifest { detail }
}

/// Writes a snapshot of one view, chunk by chunk, while the chain goes on.
pub struct Export {
    view: Arc<View>,
    limit: usize,
    /// Where the next chunk begins: index of the store, and the first key not yet written.
    store: usize,
    from: Vec<u8>,
    chunks: Vec<Hash>,
}

impl Export {
    /// A snapshot of `view` in chunks of at most `limit` bytes ([`MAX_CHUNK_BYTES`] if that is less).
    ///
    /// # Errors
    /// [`StoreError::Manifest`] for the state before the first block.
    pub fn new(view: Arc<View>, limit: usize) -> Result<Export, StoreError> {
        if view.height() == 0 {
            return Err(refuse("there is no block to take a snapshot of".to_owned()));
        }
        Ok(Export {
            view,
            limit: limit.min(MAX_CHUNK_BYTES),
            store: 0,
            from: Vec::new(),
            chunks: Vec::new(),
        })
    }

    /// The next chunk, or `None` after the last.
    ///
    /// # Errors
    /// [`StoreError::RecordOverChunk`] if a record alone is over the limit; [`StoreError::Manifest`] beyond [`MAX_CHUNKS`] chunks;
    /// [`StoreError::Backend`] when the database cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let view = self.view.clone();
        let mut chunk = Vec::new();
        'fill: while let Some(store) = view.stores().get(self.store) {
            for entry in view.range(store, &self.from, None, false) {
                let (key, value) = entry?;
                let bytes = 1 + store.len() + 4 + key.len() + 4 + value.len();
                if bytes > self.limit {
                    let (store, key) = ((*store).to_owned(), key.as_slice().into());
                    return Err(StoreError::RecordOverChunk {
                        store,
                        key,
                        bytes,
                        limit: self.limit,
                    });
                }
                if chunk.len() + bytes > self.limit {
                    self.from = key;
                    break 'fill;
                }
                put_record(&mut chunk, store, &key, &value);
            }
            self.store += 1;
            self.from.clear();
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        if self.chunks.len() == MAX_CHUNKS {
            return Err(refuse(format!(
                "over {MAX_CHUNKS} chunks of {} bytes: raise the chunk size",
                self.limit
            )));
        }
        self.chunks.push(sha256(&chunk));
        Ok(Some(chunk))
    }

    /// The manifest of the chunks given out; complete once [`Export::next_chunk`] has returned `None`.
    pub fn manifest(&self) -> Manifest {
        Manifest {
            format: FORMAT,
            height: self.view.height(),
            app_hash: self.view.app_hash(),
            chunks: self.chunks.clone(),
        }
    }
}

fn put_record(chunk: &mut Vec<u8>, store: &str, key: &[u8], value: &[u8]) {
    chunk.push(u8::try_from(store.len()).expect("store names are at most 32 bytes"));
    chunk.extend_from_slice(store.as_bytes());
    for bytes in [key, value] {
        let length = u32::try_from(bytes.len()).expect("keys and values are under 4 GiB");
        chunk.extend_from_slice(&length.to_be_bytes());
        chunk.extend_from_slice(bytes);
    }
}

/// Restores a snapshot into an empty backend. Until [`Restore::finish`] succeeds, the backend cannot be opened as a store.
pub struct Restore {
    backend: Arc<dyn Backend>,
    names: Vec<&'static str>,
    options: StoreOptions,
    manifest: Manifest,
    /// Chunks applied.
    applied: usize,
    /// The last record applied: index of its store and its key.
    last: Option<(usize, Vec<u8>)>,
}

impl Restore {
    /// Begins a restore. What an interrupted restore left in the backend is removed.
    ///
    /// # Errors
    /// [`StoreError::Manifest`] if the manifest is not of `trusted_app_hash` or cannot be read by this build;
    /// [`StoreError::NotEmpty`] if the backend holds anything else; [`StoreError::StoreName`]; [`StoreError::Backend`].
    pub fn begin(
        backend: Arc<dyn Backend>,
        stores: &[&'static str],
        options: StoreOptions,
        manifest: Manifest,
        trusted_app_hash: [u8; 32],
    ) -> Result<Restore, StoreError> {
        let names = keys::store_names(stores)?;
        let manifest = manifest.checked()?;
        if manifest.app_hash != trusted_app_hash {
            let (ours, theirs) = (HexBytes::from(trusted_app_hash), HexBytes::from(manifest.app_hash));
            return Err(refuse(format!("it is of app hash {theirs}, the trusted one is {ours}")));
        }
        let view = backend.view()?;
        let marked = view.get(keys::RESTORE)?.is_some();
        if !marked && view.range(&[], None, false).next().transpose()?.is_some() {
            return Err(StoreError::NotEmpty);
        }
        let mut batch = Batch::new();
        batch.put(keys::RESTORE, trusted_app_hash);
        backend.write(batch)?;
        wipe(&*backend)?;
        Ok(Restore {
            backend,
            names,
            options,
            manifest,
            applied: 0,
            last: None,
        })
    }

    /// Index of the chunk wanted next; the number of chunks when all are there.
    pub fn next_index(&self) -> usize {
        self.applied
    }

    /// Applies the chunk of the next index. A refused chunk changes nothing: fetch it again from somebody else.
    ///
    /// # Errors
    /// [`StoreError::Chunk`] with the index if it is not the next one, has another hash than the manifest says, or does not hold ordered
    /// records of known stores; [`StoreError::Backend`] when the database cannot be written.
    pub fn apply(&mut self, index: usize, chunk: &[u8]) -> Result<(), StoreError> {
        let refuse = |detail: String| StoreError::Chunk { index, detail };
        let Some(expected) = self.manifest.chunks.get(index) else {
            return Err(refuse(format!(
                "the snapshot has {} chunks",
                self.manifest.chunks.len()
            )));
        };
        if index != self.applied {
            return Err(refuse(format!("chunk {} is next", self.applied)));
        }
        if chunk.len() > MAX_CHUNK_BYTES {
            return Err(refuse(format!("{} bytes, the limit is {MAX_CHUNK_BYTES}", chunk.len())));
        }
        let found = sha256(chunk);
        if found != *expected {
            let (found, expected) = (HexBytes::from(found), HexBytes::from(*expected));
            return Err(refuse(format!("it has hash {found}, the manifest says {expected}")));
        }
        let mut last = self.last.clone();
        let mut batch = Batch::new();
        let mut rest = chunk;
        while !rest.is_empty() {
            let record = take_record(&mut rest).ok_or_else(|| refuse("a record is cut short".to_owned()))?;
            let (name, key, value) = record;
            let store = self.names.iter().position(|known| known.as_bytes() == name);
            let store = store.ok_or_else(|| refuse(format!("unknown store \"{}\"", name.escape_ascii())))?;
            if key.is_empty() || key.len() > keys::MAX_KEY_BYTES || value.len() > keys::MAX_VALUE_BYTES {
                return Err(refuse(
                    "a key or value has a size that the store does not allow".to_owned(),
                ));
            }
            if last
                .as_ref()
                .is_some_and(|(before, last)| (*before, last.as_slice()) >= (store, key))
            {
                return Err(refuse("its records are not in order".to_owned()));
            }
            batch.put(keys::value(self.names[store], key), value);
            last = Some((store, key.to_vec()));
        }
        self.backend.write(batch)?;
        self.last = last;
        self.applied += 1;
        Ok(())
    }

    /// Recomputes the root of what was restored and, if it is the trusted one, opens the store.
    ///
    /// # Errors
    /// [`StoreError::Chunk`] naming the first missing chunk; [`StoreError::RestoredRoot`] if the values are not those of the app hash,
    /// in which case the backend is empty again; [`StoreError::Backend`].
    pub fn finish(self) -> Result<Store, StoreError> {
        if self.applied < self.manifest.chunks.len() {
            return Err(StoreError::Chunk {
                index: self.applied,
                detail: "it is missing".to_owned(),
            });
        }
        let Manifest { height, app_hash, .. } = self.manifest;
        let tries = rebuild::tries(&*self.backend.view()?, &self.names)?;
        let found = tries.app_hash();
        if found != app_hash {
            empty(&*self.backend)?;
            return Err(StoreError::RestoredRoot {
                height,
                expected: app_hash.into(),
                found: found.into(),
            });
        }
        let mut batch = Batch::new();
        batch.put(keys::LAYOUT, keys::LAYOUT_VERSION.to_be_bytes());
        batch.put(keys::HEAD, keys::encode_head(height, &app_hash));
        batch.delete(keys::RESTORE);
        self.backend.write(batch)?;
        Store::with_state(self.backend, self.names, self.options, height, tries)
    }
}

/// Makes a backend empty again if it holds an unfinished restore, for a node that does not go on with it; whether it did.
///
/// # Errors
/// [`StoreError::Backend`].
pub fn discard_unfinished(backend: &dyn Backend) -> Result<bool, StoreError> {
    if backend.view()?.get(keys::RESTORE)?.is_none() {
        return Ok(false);
    }
    empty(backend)?;
    Ok(true)
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
    let name_len = usize::from(take(rest, 1)?[0]);
    let name = take(rest, name_len)?;
    let key_len = length(rest)?;
    let key = take(rest, key_len)?;
    let value_len = length(rest)?;
    let value = take(rest, value_len)?;
    Some((name, key, value))
}

/// Removes everything, the mark of the unfinished restore last.
fn empty(backend: &dyn Backend) -> Result<(), StoreError> {
    wipe(backend)?;
    let mut batch = Batch::new();
    batch.delete(keys::RESTORE);
    backend.write(batch)
}

/// Removes everything but the mark of an unfinished restore.
fn wipe(backend: &dyn Backend) -> Result<(), StoreError> {
    let view = backend.view()?;
    let mut batch = Batch::new();
    for entry in view.range(&[], None, false) {
        let (key, _) = entry?;
        if key != keys::RESTORE {
            batch.delete(key);
        }
        if batch.len() == WIPE_ENTRIES {
            backend.write(std::mem::take(&mut batch))?;
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    backend.write(batch)
}
