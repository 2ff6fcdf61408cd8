//! The archive: the log's writer, the index's thread, and what readers ask.

#![allow(clippy::disallowed_methods)] // When to sync, and how long a reader waits, is wall time; nothing here decides what is kept.

use crate::cache::Cache;
use crate::error::ArchiveError;
use crate::index::Index;
use crate::lock::Lock;
use crate::log::{self, Entry, Kind, Location, Log};
use crate::ranges::{self, Ranges};
use crate::record::{Record, TxRecord};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tendermint_proto::v0_38::abci::{RequestFinalizeBlock, ResponseFinalizeBlock};
use tokio::sync::watch;

/// Most entries that wait for the index; a block waits for room rather than the memory growing.
const MAX_QUEUE: usize = 4_096;
/// Most entries that are applied before those who wait hear of it, or without a sync.
const BATCH: usize = 256;
/// How long a search waits for the index to reach the newest block.
const INDEX_WAIT: Duration = Duration::from_secs(10);

/// How an archive is kept.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// Heights kept, counted from the newest; `None` keeps all. Disk is freed a segment at a time.
    pub keep_heights: Option<u64>,
    /// Bytes of one file of the log, more or less.
    pub segment_bytes: u64,
    /// Longest time between an entry and its sync. A killed process loses nothing; a machine that loses power may lose this much, which
    /// is then made again from the engine or said to be absent.
    pub sync_interval: Duration,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self {
            keep_heights: None,
            segment_bytes: 64 << 20,
            sync_interval: Duration::from_secs(5),
        }
    }
}

struct Tail {
    queue: VecDeque<Entry>,
    /// Where records are that the index does not know yet.
    waiting: BTreeMap<u64, Location>,
    ranges: Ranges,
    appended: u64,
    applied: u64,
    synced: u64,
    /// Every record up to this height that was appended in order is on disk.
    synced_height: u64,
    floor: u64,
    sync_now: bool,
    stop: bool,
    failed: Option<String>,
}

pub(crate) struct Inner {
    dir: PathBuf,
    options: ArchiveOptions,
    pub(crate) index: Index,
    log: Mutex<Log>,
    tail: Mutex<Tail>,
    changed: Condvar,
    head: watch::Sender<i64>,
    cache: Mutex<Cache>,
    /// Let go after everything above it.
    _lock: Lock,
}

struct Handle {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

/// What every block did, by height, transaction hash and event. Cheap to clone; the last clone to go syncs and closes it.
///
/// Readers see heights up to [`head`](Self::head), which moves when the application has committed.
#[derive(Clone)]
pub struct Archive(Arc<Handle>);

/// ABCI heights are positive; a negative one from outside is below everything.
pub(crate) fn key(height: i64) -> u64 {
    u64::try_from(height).unwrap_or(0)
}

pub(crate) fn height(key: u64) -> i64 {
    i64::try_from(key).unwrap_or(i64::MAX)
}

impl Archive {
    /// Opens or creates the archive in a directory and brings its index up to date. Error: another process has it, or a file cannot be
    /// read.
    pub fn open(dir: &Path, options: ArchiveOptions) -> Result<Self, ArchiveError> {
        std::fs::create_dir_all(dir).map_err(|e| ArchiveError::Store {
            path: dir.to_path_buf(),
            reason: e.to_string(),
        })?;
        let lock = Lock::take(dir)?;
        let index = Index::open(dir)?;
        let from = index.applied();
        let first = from.map_or(0, |(segment, _)| segment);
        let scanned: Vec<u32> = log::segments(dir)?.into_iter().filter(|s| *s >= first).collect();
        // What a killed process left in the system's cache may be lost with the machine: the index must not be on disk before it.
        log::sync(dir, &scanned)?;
        let mut count = 0usize;
        let end = log::scan(dir, from, |entry| {
            if count.is_multiple_of(64 * BATCH) && (from.is_none() || count > 0) {
                tracing::info!(
                    entries = count,
                    height = entry.height,
                    "making the archive's index from its log"
                );
            }
            count = count.saturating_add(1);
            index.apply(&entry, &|| Ok(()))
        })?;
        let log = Log::open(dir, end, options.segment_bytes)?;
        let ranges = index.ranges();
        let last = ranges.last_key_value().map_or(0, |(_, last)| *last);
        let floor = index.floor();
        let inner = Arc::new(Inner {
            dir: dir.to_path_buf(),
            options,
            index,
            log: Mutex::new(log),
            tail: Mutex::new(Tail {
                queue: VecDeque::new(),
                waiting: BTreeMap::new(),
                ranges,
                appended: 0,
                applied: 0,
                synced: 0,
                synced_height: 0,
                floor,
                sync_now: false,
                stop: false,
                failed: None,
            }),
            changed: Condvar::new(),
            head: watch::Sender::new(height(last)),
            cache: Mutex::default(),
            _lock: lock,
        });
        let indexer = inner.clone();
        let thread = std::thread::Builder::new()
            .name("archive".into())
            .spawn(move || indexer.run())
            .map_err(|e| ArchiveError::Store {
                path: dir.to_path_buf(),
                reason: format!("cannot start a thread: {e}"),
            })?;
        Ok(Self(Arc::new(Handle {
            inner,
            thread: Some(thread),
        })))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0.inner
    }

    // -- writing --------------------------------------------------------------------------------------------------------------------

    /// Appends the record of a height that is about to be committed. It is safe from the death of this process when this returns, and
    /// readers see it after [`publish`](Self::publish).
    pub fn append(&self, request: &RequestFinalizeBlock, response: &ResponseFinalizeBlock) -> Result<(), ArchiveError> {
        let mut bytes = Vec::new();
        Record::encode(request, response, &mut bytes);
        self.append_encoded(request.height, &bytes)
    }

    pub(crate) fn append_encoded(&self, at: i64, record: &[u8]) -> Result<(), ArchiveError> {
        if at <= 0 {
            return Err(ArchiveError::Height {
                height: at,
                reason: "heights begin at 1".into(),
            });
        }
        self.inner().write(Kind::Record, key(at), record)
    }

    /// Adds a height that is missing below the newest. Heights already there, pruned or above the newest are left as they are: `false`.
    pub fn backfill(
        &self,
        request: &RequestFinalizeBlock,
        response: &ResponseFinalizeBlock,
    ) -> Result<bool, ArchiveError> {
        let at = key(request.height);
        let wanted = {
            let tail = self.inner().tail.lock();
            at >= tail.floor.max(1) && at <= key(self.head()) && !ranges::contains(&tail.ranges, at)
        };
        if wanted {
            self.append(request, response)?;
        }
        Ok(wanted)
    }

    /// Makes heights up to this one visible: the application has committed it.
    pub fn publish(&self, height: i64) {
        self.inner().head.send_if_modified(|head| {
            let higher = height > *head;
            if higher {
                *head = height;
            }
            higher
        });
    }

    /// Withdraws everything above the application's height and publishes what is left: what was recorded but never committed will be
    /// executed again. For start, before an engine drives the application.
    pub fn align(&self, committed: i64) -> Result<(), ArchiveError> {
        let inner = self.inner();
        // First, so that no round of pruning counts from a head that is given up.
        inner.head.send_replace(committed.max(0));
        let (last, floor) = {
            let tail = inner.tail.lock();
            (tail.ranges.last_key_value().map_or(0, |(_, last)| *last), tail.floor)
        };
        // Nothing is above it either if all was pruned; then heights from here on are kept again.
        if last > key(committed) || floor > key(committed).saturating_add(1) {
            tracing::info!(
                from = committed.saturating_add(1),
                to = last,
                "withdrawing archived heights that the application did not commit"
            );
            inner.write(Kind::Withdraw, key(committed), &[])?;
            *inner.cache.lock() = Cache::default();
            self.indexed()?;
        }
        Ok(())
    }

    /// Returns when everything appended before the call is on disk.
    pub fn sync(&self) -> Result<(), ArchiveError> {
        let inner = self.inner();
        let mut tail = inner.tail.lock();
        let target = tail.appended;
        tail.sync_now = true;
        inner.changed.notify_all();
        while tail.synced < target {
            tail.check()?;
            inner.changed.wait(&mut tail);
        }
        Ok(())
    }

    /// The height up to which a machine that loses power now keeps what was appended; 0 until the first sync after opening.
    pub fn synced(&self) -> i64 {
        height(self.inner().tail.lock().synced_height)
    }

    // -- reading --------------------------------------------------------------------------------------------------------------------

    /// The newest committed height; 0 before the first.
    pub fn head(&self) -> i64 {
        *self.inner().head.borrow()
    }

    /// A channel that holds the newest committed height. A slow receiver skips heights, it never delays a block.
    pub fn heads(&self) -> watch::Receiver<i64> {
        self.inner().head.subscribe()
    }

    /// The first and last height there are, with or without gaps between; `None` if there are none.
    pub fn range(&self) -> Option<(i64, i64)> {
        let head = key(self.head());
        let tail = self.inner().tail.lock();
        let first = tail.ranges.first_key_value().map(|(first, _)| *first)?;
        let last = tail
            .ranges
            .range(..=head)
            .next_back()
            .map(|(_, last)| (*last).min(head))?;
        Some((height(first), height(last)))
    }

    /// As [`range`](Self::range), for searches: empty if there are no heights.
    pub(crate) fn visible(&self) -> (u64, u64) {
        self.range().map_or((1, 0), |(first, last)| (key(first), key(last)))
    }

    /// All heights there are up to the newest committed one.
    pub(crate) fn heights(&self) -> Ranges {
        let mut heights = self.inner().tail.lock().ranges.clone();
        ranges::clip(&mut heights, 0, key(self.head()));
        heights
    }

    /// The earliest height from which on nothing is missing; the next height if the newest itself is missing.
    pub fn earliest(&self) -> i64 {
        let head = key(self.head());
        let tail = self.inner().tail.lock();
        match tail.ranges.range(..=head).next_back() {
            Some((first, last)) if *last >= head => height(*first),
            _ => height(head.saturating_add(1)),
        }
    }

    /// At most `most` heights from `from` to the newest that are neither here nor pruned, newest first: what was lost with a machine's power or with the
    /// archive's files, and [`backfill`](Self::backfill) can restore. In this order each of them moves [`earliest`](Self::earliest) back.
    pub fn missing(&self, from: i64, most: usize) -> Vec<i64> {
        let head = key(self.head());
        let tail = self.inner().tail.lock();
        let kept = self.inner().options.keep_heights.unwrap_or(u64::MAX);
        let from = key(from)
            .max(1)
            .max(tail.floor)
            .max(head.saturating_add(1).saturating_sub(kept));
        let (mut gaps, mut above) = (Vec::new(), head);
        for (first, last) in tail.ranges.range(..=head).rev() {
            gaps.push((last.saturating_add(1), above));
            above = first.saturating_sub(1);
        }
        gaps.push((from, above));
        let heights = gaps.into_iter().flat_map(|(low, high)| (low.max(from)..=high).rev());
        heights.take(most).map(height).collect()
    }

    /// What a height did; `None` if it is not here.
    pub fn record(&self, at: i64) -> Result<Option<Arc<Record>>, ArchiveError> {
        if at <= 0 || at > self.head() {
            return Ok(None);
        }
        self.inner().record(key(at))
    }

    /// A committed transaction by its hash. The newest copy counts, but a failed copy never hides a success, as in CometBFT.
    pub fn tx(&self, hash: &[u8]) -> Result<Option<TxRecord>, ArchiveError> {
        self.indexed()?;
        match self.inner().index.view().tx_place(hash, self.visible())? {
            Some((at, index)) => self.tx_at(height(at), index),
            None => Ok(None),
        }
    }

    /// A committed transaction by its place.
    pub fn tx_at(&self, at: i64, index: u32) -> Result<Option<TxRecord>, ArchiveError> {
        Ok(self.record(at)?.and_then(|record| record.tx(index)))
    }

    /// Waits until the index holds everything appended before the call.
    pub(crate) fn indexed(&self) -> Result<(), ArchiveError> {
        let inner = self.inner();
        let mut tail = inner.tail.lock();
        let target = tail.appended;
        let deadline = Instant::now() + INDEX_WAIT;
        while tail.applied < target {
            tail.check()?;
            if inner.changed.wait_until(&mut tail, deadline).timed_out() {
                return Err(ArchiveError::Behind(INDEX_WAIT.as_secs()));
            }
        }
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.tail.lock().stop = true;
        self.inner.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // Its failure is in the log.
            let _ = thread.join();
        }
    }
}

impl Tail {
    fn check(&self) -> Result<(), ArchiveError> {
        match &self.failed {
            Some(reason) => Err(ArchiveError::Stopped(reason.clone())),
            None => Ok(()),
        }
    }
}

impl Inner {
    fn write(&self, kind: Kind, at: u64, payload: &[u8]) -> Result<(), ArchiveError> {
        {
            // Before the log is locked: the thread that makes room locks it too, to sync.
            let mut tail = self.tail.lock();
            while tail.queue.len() >= MAX_QUEUE {
                tail.check()?;
                self.changed.wait(&mut tail);
            }
            tail.check()?;
        }
        let mut log = self.log.lock();
        let location = log.append(kind, at, payload).inspect_err(|e| {
            // What is behind the last entry is unknown now.
            self.tail.lock().failed.get_or_insert_with(|| e.to_string());
        })?;
        let mut tail = self.tail.lock();
        match kind {
            Kind::Record => {
                tail.waiting.insert(at, location);
                ranges::add(&mut tail.ranges, at);
            }
            Kind::Withdraw => {
                tail.waiting.retain(|height, _| *height <= at);
                ranges::clip(&mut tail.ranges, 0, at);
                tail.floor = tail.floor.min(at.saturating_add(1));
            }
        }
        tail.queue.push_back(Entry {
            kind,
            height: at,
            at: location,
        });
        tail.appended = tail.appended.saturating_add(1);
        self.changed.notify_all();
        Ok(())
    }

    fn record(&self, at: u64) -> Result<Option<Arc<Record>>, ArchiveError> {
        let waiting = {
            let tail = self.tail.lock();
            if at < tail.floor {
                return Ok(None);
            }
            tail.waiting.get(&at).copied()
        };
        if let Some(cached) = self.cache.lock().get(at) {
            return Ok(Some(cached));
        }
        // The index commits before a record leaves `waiting`, so what is not there any more is here.
        let location = match waiting {
            Some(location) => Some(location),
            None => self.index.location(at)?,
        };
        let Some(location) = location else { return Ok(None) };
        let Some(bytes) = log::read(&self.dir, at, location)? else {
            return Ok(None);
        };
        let record = Record::decode(&bytes).map_err(|e| ArchiveError::Corrupt {
            path: log::segment_path(&self.dir, location.segment),
            offset: location.offset,
            reason: e.to_string(),
        })?;
        let record = Arc::new(record);
        self.cache.lock().put(record.clone(), bytes.len());
        Ok(Some(record))
    }

    /// The index's thread.
    fn run(&self) {
        if let Err(e) = self.index_until_stopped() {
            tracing::error!(reason = %e, "the archive stopped; the next block will not be committed without it");
            self.tail.lock().failed.get_or_insert_with(|| e.to_string());
            self.changed.notify_all();
        }
    }

    fn index_until_stopped(&self) -> Result<(), ArchiveError> {
        let mut unsynced = 0usize;
        let mut since = Instant::now();
        loop {
            let (batch, stop, sync_now) = {
                let mut tail = self.tail.lock();
                while tail.queue.is_empty() && !tail.stop && !tail.sync_now {
                    if unsynced == 0 {
                        self.changed.wait(&mut tail);
                    } else if self
                        .changed
                        .wait_until(&mut tail, since + self.options.sync_interval)
                        .timed_out()
                    {
                        break;
                    }
                }
                let most = tail.queue.len().min(BATCH);
                let batch: Vec<Entry> = tail.queue.iter().take(most).copied().collect();
                let last = tail.queue.len() == most;
                let sync_now = tail.sync_now && last;
                if sync_now {
                    tail.sync_now = false;
                }
                (batch, tail.stop && last, sync_now)
            };
            if !batch.is_empty() {
                if unsynced == 0 {
                    since = Instant::now();
                }
                unsynced += batch.len();
                for entry in &batch {
                    self.index.apply(entry, &|| self.sync_log())?;
                }
                self.applied(&batch);
            }
            let due = unsynced >= BATCH || since.elapsed() >= self.options.sync_interval;
            if sync_now || stop || (unsynced > 0 && due) {
                self.sync_and_prune(stop)?;
                unsynced = 0;
            }
            if stop {
                return Ok(());
            }
        }
    }

    fn applied(&self, batch: &[Entry]) {
        let mut tail = self.tail.lock();
        for entry in batch {
            tail.queue.pop_front();
            tail.applied = tail.applied.saturating_add(1);
            if tail.waiting.get(&entry.height) == Some(&entry.at) {
                tail.waiting.remove(&entry.height);
            }
        }
        self.changed.notify_all();
    }

    /// Syncs the log, for a flush of the index.
    fn sync_log(&self) -> Result<(), ArchiveError> {
        let unsynced = self.log.lock().take_unsynced();
        log::sync(&self.dir, &unsynced)
    }

    /// Prunes and syncs the log; then, if `flush` says so, if files of the log can go or if many are not in the index that is on disk, brings
    /// the index to disk too, and deletes the files that it has left.
    fn sync_and_prune(&self, flush: bool) -> Result<(), ArchiveError> {
        let (applied, last) = {
            let tail = self.tail.lock();
            (tail.applied, tail.ranges.last_key_value().map_or(0, |(_, last)| *last))
        };
        let sync_log = || self.sync_log();
        self.index.prune(self.floor(), &sync_log)?;
        let open = self.log.lock().segment();
        let needed = self.index.retire(open, &sync_log)?;
        self.sync_log()?;
        let mut left = log::segments(&self.dir)?;
        left.retain(|segment| *segment < needed);
        if flush || !left.is_empty() || self.index.is_flush_due() {
            self.index.flush()?;
        }
        for segment in left {
            let path = log::segment_path(&self.dir, segment);
            std::fs::remove_file(&path).map_err(|e| ArchiveError::Store {
                path,
                reason: e.to_string(),
            })?;
        }
        let mut tail = self.tail.lock();
        tail.synced = tail.synced.max(applied);
        tail.synced_height = last;
        self.changed.notify_all();
        Ok(())
    }

    /// The lowest height to keep, from now on invisible below it.
    fn floor(&self) -> u64 {
        let mut tail = self.tail.lock();
        let head = key(*self.head.borrow());
        if let Some(keep) = self.options.keep_heights {
            let floor = head.saturating_add(1).saturating_sub(keep.max(1));
            if floor > tail.floor {
                tail.floor = floor;
                ranges::clip(&mut tail.ranges, floor, u64::MAX);
            }
        }
        tail.floor
    }
}
