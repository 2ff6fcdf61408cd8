//! The store: staging a block's changes, committing them, taking them back.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rayon::prelude::*;

use crate::backend::{Backend, BackendView, Batch};
use crate::error::HexBytes;
use crate::sha256::Hash;
use crate::trie::{Before, Delta, Update, PLACEHOLDER};
use crate::undo::{Undo, UndoWriter};
use crate::view::{Tries, TriesDelta, View};
use crate::{keys, rebuild, StoreError};

/// What a block does to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// One of the names the store was opened with.
    pub store: &'static str,
    /// The key inside the store, not empty.
    pub key: Vec<u8>,
    /// The committed value, as the execution cache knows it: it goes into the undo record and is not read again from the database,
    /// but its hash is checked against the trie.
    pub old: Option<Vec<u8>>,
    /// The value after the block; `None` removes the key.
    pub new: Option<Vec<u8>>,
}

/// How much of the past a [`Store`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// Heights that [`Store::view_at`] answers, the latest included; at least 1. A view costs the trie nodes its block replaced
    /// (some 700 bytes a changed key) and a database snapshot. Views do not outlive the process.
    pub keep_views: usize,
    /// Blocks that [`Store::rollback`] can take back, 0 for none. Kept in the database.
    pub keep_undo: usize,
}

impl Default for StoreOptions {
    /// 16 views and 100 undo records.
    fn default() -> Self {
        StoreOptions {
            keep_views: 16,
            keep_undo: 100,
        }
    }
}

/// An authenticated store of several modules' keys and values on a flat [`Backend`].
///
/// One thread at a time commits; any number stage and read, and no reader of values ever waits for a commit.
pub struct Store {
    backend: Arc<dyn Backend>,
    names: Arc<[&'static str]>,
    options: StoreOptions,
    /// The kept views by height; the last is the latest, and there is always one.
    views: ArcSwap<Vec<Arc<View>>>,
    writer: Mutex<Writer>,
}

const _: () = {
    const fn is_shared_between_threads<T: Send + Sync>() {}
    is_shared_between_threads::<Store>();
    is_shared_between_threads::<View>();
};

#[derive(Default)]
struct Writer {
    /// Why nothing can be written any more.
    stopped: Option<String>,
    /// Heights whose undo records are in the database, ascending.
    undo_heights: VecDeque<u64>,
}

/// The outcome of a block that is not committed. Dropping it costs nothing and leaves no trace.
pub struct Staged {
    base: Arc<View>,
    tries: TriesDelta,
    app_hash: Hash,
    /// The flat writes; height, hash and undo record join them at the commit.
    batch: Batch,
    /// If this store keeps any.
    undo: Option<UndoWriter>,
}

impl Staged {
    /// The app hash of the state after the block.
    pub fn app_hash(&self) -> [u8; 32] {
        self.app_hash
    }

    /// Number of keys whose value changes.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether the block changes no value.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let app_hash = HexBytes::from(self.app_hash);
        f.debug_struct("Staged")
            .field("app_hash", &app_hash)
            .field("changes", &self.len())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store on `backend`, which is empty or holds a store of the same layout. Rebuilds the tries from the values and
    /// compares their root to the app hash of the last committed block.
    ///
    /// # Errors
    /// [`StoreError::StoreName`] for names that cannot be used; [`StoreError::Layout`], [`StoreError::Malformed`],
    /// [`StoreError::RestoreUnfinished`] and [`StoreError::RootMismatch`] for a database that must not be used;
    /// [`StoreError::Backend`] for one that cannot be read.
    pub fn open(
        backend: Arc<dyn Backend>,
        stores: &[&'static str],
        options: StoreOptions,
    ) -> Result<Store, StoreError> {
        let names = keys::store_names(stores)?;
        let data = backend.view()?;
        if data.get(keys::RESTORE)?.is_some() {
            return Err(StoreError::RestoreUnfinished);
        }
        check_layout(&*data)?;
        check_ranges(&*data, &names)?;
        let head = match data.get(keys::HEAD)? {
            None => None,
            Some(bytes) => Some(keys::decode_head(&bytes).ok_or_else(|| malformed("the head record is damaged"))?),
        };
        let tries = rebuild::tries(&*data, &names)?;
        let (height, expected) = head.unwrap_or((0, PLACEHOLDER));
        if tries.app_hash() != expected {
            return Err(StoreError::RootMismatch {
                height,
                expected: expected.into(),
                found: tries.app_hash().into(),
            });
        }
        Store::with_state(backend, names, options, height, tries)
    }

    /// The store over a state whose tries are known to fit it.
    pub(crate) fn with_state(
        backend: Arc<dyn Backend>,
        names: Vec<&'static str>,
        options: StoreOptions,
        height: u64,
        tries: Tries,
    ) -> Result<Store, StoreError> {
        let data = backend.view()?;
        let mut undo_heights = VecDeque::new();
        for entry in data.range(keys::UNDO_PREFIX, keys::prefix_end(keys::UNDO_PREFIX).as_deref(), false) {
            let (key, _) = entry?;
            undo_heights.push_back(keys::undo_height(&key).ok_or_else(|| malformed("an undo record has a bad key"))?);
        }
        if undo_heights.back().is_some_and(|last| *last > height) {
            return Err(malformed(
                "an undo record is of a height above the last committed block",
            ));
        }
        let names: Arc<[&'static str]> = names.into();
        let view = Arc::new(View {
            height,
            names: names.clone(),
            tries,
            data,
        });
        Ok(Store {
            backend,
            names,
            options: StoreOptions {
                keep_views: options.keep_views.max(1),
                ..options
            },
            views: ArcSwap::from_pointee(vec![view]),
            writer: Mutex::new(Writer {
                stopped: None,
                undo_heights,
            }),
        })
    }

    /// The last committed state. Never waits, not even for a commit in progress.
    pub fn latest(&self) -> Arc<View> {
        self.views.load().last().expect("there is always a view").clone()
    }

    /// The state of a height, if it is among the last [`StoreOptions::keep_views`] committed by this process. Never waits.
    pub fn view_at(&self, height: u64) -> Option<Arc<View>> {
        let views = self.views.load();
        let index = views.binary_search_by_key(&height, |view| view.height).ok()?;
        Some(views[index].clone())
    }

    /// Computes the state after `changes` to the latest one, in any order, one per key. The committed state is untouched, and several
    /// candidates may be staged at once.
    ///
    /// # Errors
    /// [`StoreError::UnknownStore`], [`StoreError::EmptyKey`], [`StoreError::TooLarge`], [`StoreError::DuplicateChange`] and
    /// [`StoreError::OldValue`] name the change that is at fault; the first in order of store and key.
    pub fn stage(&self, mut changes: Vec<Change>) -> Result<Staged, StoreError> {
        let base = self.latest();
        if !changes.is_sorted_by(|a, b| (a.store, &a.key) < (b.store, &b.key)) {
            changes.sort_by(|a, b| (a.store, &a.key).cmp(&(b.store, &b.key)));
        }
        check_changes(&base, &changes)?;
        let writes = || {
            let undo = (self.options.keep_undo > 0).then(|| undo_entries(&changes));
            let room = undo.as_ref().map_or(0, UndoWriter::len);
            (flat_writes(&changes, room), undo)
        };
        let (tries, (batch, undo)) = rayon::join(|| self.updated(&base, &changes), writes);
        let tries = tries?;
        Ok(Staged {
            app_hash: tries.app_hash(),
            base,
            tries,
            batch,
            undo,
        })
    }

    /// What sorted changes do to the tries.
    fn updated(&self, base: &View, changes: &[Change]) -> Result<TriesDelta, StoreError> {
        let groups: Vec<&[Change]> = changes.chunk_by(|a, b| a.store == b.store).collect();
        let one_store = |group: &&[Change]| {
            let store = group[0].store;
            let index = base.index(store)?;
            let updates: Vec<Update<'_>> = group.iter().map(update_of).collect();
            let delta = base.tries.stores[index]
                .updated(&updates)
                .map_err(|mismatch| StoreError::OldValue {
                    store: store.to_owned(),
                    key: mismatch.key.into(),
                    detail: mismatch.detail,
                })?;
            Ok((index, delta))
        };
        let changed: Vec<Result<(usize, Delta), StoreError>> = groups.par_iter().map(one_store).collect();
        let changed = changed.into_iter().collect::<Result<_, _>>()?;
        Ok(base.tries.changed(&self.names, changed))
    }

    /// Makes a candidate the latest state, in one atomic and durable batch: its values, the height, the app hash, its undo record, and
    /// the removal of the undo record that is now too old.
    ///
    /// # Errors
    /// [`StoreError::StaleCandidate`] if something was committed or taken back since it was staged; [`StoreError::WrongHeight`] unless
    /// `height` is the next one (any from 1 on for the first block); [`StoreError::Backend`] if the write failed, after which this
    /// store answers every commit with [`StoreError::Stopped`]: the node must stop, and opening the store again finds a whole block.
    pub fn commit(&self, staged: Staged, height: u64) -> Result<Arc<View>, StoreError> {
        let mut writer = self.writer.lock();
        writer.check_running()?;
        let latest = self.latest();
        let Staged {
            base,
            tries,
            app_hash,
            mut batch,
            undo,
        } = staged;
        if !Arc::ptr_eq(&base, &latest) {
            return Err(StoreError::StaleCandidate {
                staged_on: base.height,
                latest: latest.height,
            });
        }
        let expected = latest.height.saturating_add(1);
        if height != expected && (latest.height != 0 || height == 0) {
            return Err(StoreError::WrongHeight { height, expected });
        }
        if latest.height == 0 {
            batch.put(keys::LAYOUT, keys::LAYOUT_VERSION.to_be_bytes());
        }
        batch.put(keys::HEAD, keys::encode_head(height, &app_hash));
        let mut undo_heights = writer.undo_heights.clone();
        if let Some(undo) = undo {
            batch.put(
                keys::undo(height),
                undo.finish(latest.height, &latest.app_hash(), &app_hash),
            );
            undo_heights.push_back(height);
        }
        while undo_heights.len() > self.options.keep_undo {
            batch.delete(
                undo_heights
                    .pop_front()
                    .map(keys::undo)
                    .expect("longer than a limit of at least 0"),
            );
        }
        let data = self.write(&mut writer, batch)?;
        writer.undo_heights = undo_heights;
        Ok(self.publish(View {
            height,
            names: self.names.clone(),
            tries: latest.tries.commit(tries),
            data,
        }))
    }

    /// Takes back the last `blocks` blocks by their undo records, in one atomic and durable batch. After each block the root is
    /// compared to the app hash recorded for its parent; nothing is written unless all agree.
    ///
    /// # Errors
    /// [`StoreError::RollbackTooFar`] beyond the kept records; [`StoreError::Malformed`] or [`StoreError::RootMismatch`] if a record
    /// is damaged; [`StoreError::Backend`] and [`StoreError::Stopped`] as for [`Store::commit`].
    pub fn rollback(&self, blocks: u64) -> Result<Arc<View>, StoreError> {
        let mut writer = self.writer.lock();
        writer.check_running()?;
        let latest = self.latest();
        let available = writer.undo_heights.len() as u64;
        if blocks > available {
            return Err(StoreError::RollbackTooFar {
                asked: blocks,
                available,
            });
        }
        if blocks == 0 {
            return Ok(latest);
        }
        // On tries of its own: until every root agrees nothing that is read may change.
        let (mut height, mut tries) = (latest.height, rebuild::tries(&*latest.data, &self.names)?);
        let mut restored: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        let mut batch = Batch::new();
        let mut undo_heights = writer.undo_heights.clone();
        for _ in 0..blocks {
            let key = keys::undo(height);
            let record = latest
                .data
                .get(&key)?
                .ok_or_else(|| malformed("an undo record is missing"))?;
            let undo = Undo::parse(&record).ok_or_else(|| malformed("an undo record is damaged"))?;
            let check = |expected: Hash, found: Hash, height| match expected == found {
                true => Ok(()),
                false => Err(StoreError::RootMismatch {
                    height,
                    expected: expected.into(),
                    found: found.into(),
                }),
            };
            check(undo.app_hash, tries.app_hash(), height)?;
            tries = taken_back(&latest, &tries, &undo)?;
            check(undo.parent_hash, tries.app_hash(), undo.parent_height)?;
            // Going back in time, the older value of a key replaces the younger one.
            restored.extend(
                undo.entries
                    .iter()
                    .map(|entry| (keys::value(entry.store, entry.key), entry.old.map(<[u8]>::to_vec))),
            );
            batch.delete(key);
            undo_heights.pop_back();
            height = undo.parent_height;
        }
        for (key, value) in restored {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch.put(keys::HEAD, keys::encode_head(height, &tries.app_hash()));
        let data = self.write(&mut writer, batch)?;
        writer.undo_heights = undo_heights;
        Ok(self.publish(View {
            height,
            names: self.names.clone(),
            tries,
            data,
        }))
    }

    /// Writes a batch and looks at the result; any failure stops the store, because what is on disk is then unknown.
    fn write(&self, writer: &mut Writer, batch: Batch) -> Result<Arc<dyn BackendView>, StoreError> {
        self.backend
            .write(batch)
            .and_then(|()| self.backend.view())
            .inspect_err(|failure| {
                writer.stopped = Some(failure.to_string());
            })
    }

    /// Makes `view` the latest.
    fn publish(&self, view: View) -> Arc<View> {
        let view = Arc::new(view);
        let old = self.views.load();
        let below = old.partition_point(|kept| kept.height < view.height);
        let first = (below + 1).saturating_sub(self.options.keep_views);
        let mut views = old[first..below].to_vec();
        views.push(view.clone());
        self.views.store(Arc::new(views));
        view
    }
}

impl Writer {
    fn check_running(&self) -> Result<(), StoreError> {
        match &self.stopped {
            None => Ok(()),
            Some(reason) => Err(StoreError::Stopped { reason: reason.clone() }),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("latest", &self.latest())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn malformed(detail: &str) -> StoreError {
    StoreError::Malformed {
        detail: detail.to_owned(),
    }
}

fn check_layout(data: &dyn BackendView) -> Result<(), StoreError> {
    match data.get(keys::LAYOUT)? {
        Some(bytes) => {
            let bytes = bytes
                .try_into()
                .map_err(|_| malformed("the layout version is not four bytes"))?;
            match u32::from_be_bytes(bytes) {
                keys::LAYOUT_VERSION => Ok(()),
                found => Err(StoreError::Layout {
                    found,
                    supported: keys::LAYOUT_VERSION,
                }),
            }
        }
        None => match data.range(&[], None, false).next().transpose()? {
            None => Ok(()),
            Some((key, _)) => Err(StoreError::Malformed {
                detail: format!(
                    "there is no layout version, but a key {}",
                    HexBytes::from(key.as_slice())
                ),
            }),
        },
    }
}

/// Refuses entries outside the ranges of the layout and of the known stores: they would not be in the app hash.
fn check_ranges(data: &dyn BackendView, names: &[&'static str]) -> Result<(), StoreError> {
    let mut prefixes = vec![keys::HEAD.to_vec(), keys::LAYOUT.to_vec(), keys::UNDO_PREFIX.to_vec()];
    prefixes.extend(names.iter().map(|name| keys::store_prefix(name)));
    prefixes.sort_unstable();
    let mut from = Vec::new();
    for prefix in &prefixes {
        if let Some(entry) = data.range(&from, Some(prefix), false).next() {
            return Err(stray(&entry?.0));
        }
        from = keys::prefix_end(prefix).expect("prefixes are ASCII");
    }
    match data.range(&from, None, false).next() {
        Some(entry) => Err(stray(&entry?.0)),
        None => Ok(()),
    }
}

fn stray(key: &[u8]) -> StoreError {
    let detail = match key
        .strip_prefix(keys::VALUE_PREFIX)
        .and_then(|rest| rest.split(|byte| *byte == b'/').next())
    {
        Some(name) => format!(
            "it holds values of store \"{}\", which this build does not know",
            name.escape_ascii()
        ),
        None => format!("it holds a key {} that is not part of the layout", HexBytes::from(key)),
    };
    StoreError::Malformed { detail }
}

/// Checks sorted changes.
fn check_changes(base: &View, changes: &[Change]) -> Result<(), StoreError> {
    for (index, change) in changes.iter().enumerate() {
        if index == 0 || changes[index - 1].store != change.store {
            base.index(change.store)?;
        }
        let store = || change.store.to_owned();
        if change.key.is_empty() {
            return Err(StoreError::EmptyKey { store: store() });
        }
        let too_large = |what, bytes, limit| StoreError::TooLarge {
            store: store(),
            what,
            bytes,
            limit,
        };
        if change.key.len() > keys::MAX_KEY_BYTES {
            return Err(too_large("key", change.key.len(), keys::MAX_KEY_BYTES));
        }
        if let Some(value) = change.new.as_ref().filter(|value| value.len() > keys::MAX_VALUE_BYTES) {
            return Err(too_large("value", value.len(), keys::MAX_VALUE_BYTES));
        }
        if index > 0 && changes[index - 1].store == change.store && changes[index - 1].key == change.key {
            return Err(StoreError::DuplicateChange {
                store: store(),
                key: change.key.as_slice().into(),
            });
        }
    }
    Ok(())
}

fn update_of(change: &Change) -> Update<'_> {
    Update {
        key: &change.key,
        before: Before::Known(change.old.as_deref()),
        new: change.new.as_deref(),
    }
}

/// What changes a value of sorted changes.
fn effective(changes: &[Change]) -> impl Iterator<Item = &Change> {
    changes.iter().filter(|change| change.old != change.new)
}

/// The values that sorted changes set and remove, with room for the block's own records, of which the undo record has a length.
fn flat_writes(changes: &[Change], undo: usize) -> Batch {
    const OWN_RECORDS: usize = 8;
    const OWN_BYTES: usize = 256;
    let bytes = |change: &Change| change.store.len() + 3 + change.key.len() + change.new.as_ref().map_or(0, Vec::len);
    let mut batch = Batch::with_capacity(
        changes.len() + OWN_RECORDS,
        changes.iter().map(bytes).sum::<usize>() + undo + OWN_BYTES,
    );
    for group in changes.chunk_by(|a, b| a.store == b.store) {
        let mut key = keys::store_prefix(group[0].store);
        let prefix = key.len();
        for change in effective(group) {
            key.truncate(prefix);
            key.extend_from_slice(&change.key);
            match &change.new {
                Some(value) => batch.put(&key, value),
                None => batch.delete(&key),
            }
        }
    }
    batch
}

fn undo_entries(changes: &[Change]) -> UndoWriter {
    let bytes = |change: &Change| change.key.len() + change.old.as_ref().map_or(0, Vec::len);
    let mut undo = UndoWriter::with_capacity(effective(changes).map(bytes).sum(), changes.len());
    for group in changes.chunk_by(|a, b| a.store == b.store) {
        let entries = effective(group).count();
        if entries > 0 {
            undo.store(group[0].store, entries);
        }
        for change in effective(group) {
            undo.entry(&change.key, change.old.as_deref());
        }
    }
    undo
}

/// The tries before a block.
fn taken_back(view: &View, tries: &Tries, undo: &Undo<'_>) -> Result<Tries, StoreError> {
    let mut by_store: BTreeMap<usize, Vec<Update<'_>>> = BTreeMap::new();
    for entry in &undo.entries {
        let index = view.index(entry.store)?;
        by_store.entry(index).or_default().push(Update {
            key: entry.key,
            before: Before::Unknown,
            new: entry.old,
        });
    }
    let mut changed = Vec::with_capacity(by_store.len());
    for (index, updates) in by_store {
        let delta = tries.stores[index]
            .updated(&updates)
            .map_err(|_| malformed("an undo record contradicts the state"))?;
        changed.push((index, delta));
    }
    Ok(tries.commit(tries.changed(&view.names, changed)))
}
