//! The index: a RocksDB directory beside the log, made from it and from nothing else.
//!
//! **One batch an entry, no write-ahead log.** The log beside it is one already. Each entry of it is applied in order, in one batch together
//! with its place in the log; one column family makes what RocksDB flushes a prefix of those batches. So after any death the index is
//! whole up to some entry, says which, and the rest is applied again: at most [`FLUSH_BYTES`] of rows or two files of the log.
//!
//! **Never ahead of the log.** A machine that loses power must not keep rows of a record that the log lost. Therefore flushes happen here,
//! each after a sync of the log, and not when a memtable of RocksDB happens to be full.
//!
//! **Pruning writes one number.** Rows below the floor are invisible from then on; compactions leave them out as they come by, but only
//! below a floor that is itself on disk.

mod files;
mod meta;
mod read;

use crate::error::ArchiveError;
use crate::keys::{self, Events, Rows, META, RECORD, TX};
use crate::log::{self, Entry, Kind, Location};
use crate::ranges::{self, Ranges};
use crate::record::Record;
use meta::Meta;
use parking_lot::Mutex;
use rocksdb::{FlushOptions, WriteBatch, DB};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

pub(crate) use read::{Place, View};

/// Memory of rows that are not flushed: what a killed process' successor makes again.
const FLUSH_BYTES: u64 = 16 << 20;
/// What a row takes in a memtable over its bytes in a batch, at most.
const ROW_OVERHEAD: usize = 64;

pub(crate) struct Index {
    db: DB,
    dir: PathBuf,
    meta: Mutex<Meta>,
    /// Compactions may drop rows of heights below this: the floor of the newest flush.
    droppable: Arc<AtomicU64>,
    /// The file of the log that was being applied at the newest flush.
    flushed: AtomicU64,
}

/// Syncs the log up to its end.
pub(crate) type SyncLog<'a> = &'a dyn Fn() -> Result<(), ArchiveError>;

impl Index {
    /// Opens the index of the log in `dir`, which no other process has open. One that cannot be used is removed and begun again.
    pub(crate) fn open(dir: &Path) -> Result<Self, ArchiveError> {
        let droppable = Arc::new(AtomicU64::new(0));
        let (mut db, mut meta) = files::open(dir, &droppable)?;
        if let Some((segment, offset)) = meta.applied {
            if !log::reaches(dir, segment, offset)? {
                drop(db);
                let path = log::segment_path(dir, segment);
                let reason = format!("it goes beyond the log: {} ends before byte {offset}", path.display());
                files::remove(dir, &reason)?;
                (db, meta) = files::open(dir, &droppable)?;
            }
        }
        droppable.store(meta.floor, Ordering::Relaxed);
        let flushed = meta.applied.map_or(0, |(segment, _)| u64::from(segment));
        Ok(Self {
            db,
            dir: dir.to_path_buf(),
            meta: Mutex::new(meta),
            droppable,
            flushed: AtomicU64::new(flushed),
        })
    }

    fn fail(&self, e: &rocksdb::Error) -> ArchiveError {
        files::failed(&self.dir, e)
    }

    /// A row that nobody here wrote.
    fn foreign(&self, key: &[u8]) -> ArchiveError {
        ArchiveError::Store {
            path: files::path(&self.dir),
            reason: format!(
                "row {} is no row of an index; stop the node, remove this directory and start again: it is made again from the log beside it",
                hex::encode(key)
            ),
        }
    }

    /// Where in the log the first entry is that is not applied.
    pub(crate) fn applied(&self) -> Option<(u32, u64)> {
        self.meta.lock().applied
    }

    /// The lowest height that pruning left.
    pub(crate) fn floor(&self) -> u64 {
        self.meta.lock().floor
    }

    /// The heights there are.
    pub(crate) fn ranges(&self) -> Ranges {
        self.meta.lock().ranges.clone()
    }

    // -- writing: one thread ----------------------------------------------------------------------------------------------------------

    /// Applies an entry.
    pub(crate) fn apply(&self, entry: &Entry, sync_log: SyncLog<'_>) -> Result<(), ArchiveError> {
        let mut meta = self.meta.lock().clone();
        let mut batch = WriteBatch::default();
        match entry.kind {
            Kind::Record if entry.height >= meta.floor => {
                if let Some(record) = self.record_at(entry.height, entry.at)? {
                    if ranges::contains(&meta.ranges, entry.height) {
                        self.take_out(&mut batch, entry.height)?;
                    }
                    let rows = Rows::of(entry.height, &record);
                    rows.each(|key, value| batch.put(key, value));
                    batch.put(keys::record_key(entry.height), keys::record_row(entry.at, rows.count()));
                    self.raise(&mut batch, entry)?;
                    ranges::add(&mut meta.ranges, entry.height);
                }
            }
            Kind::Record => {}
            Kind::Withdraw => meta = self.withdraw(&mut batch, meta, entry.height, sync_log)?,
        }
        meta.applied = Some(entry.at.end());
        self.write(batch, meta, sync_log)
    }

    fn write(&self, mut batch: WriteBatch, meta: Meta, sync_log: SyncLog<'_>) -> Result<(), ArchiveError> {
        batch.put(META, meta.encode());
        let size = batch
            .size_in_bytes()
            .saturating_add(ROW_OVERHEAD.saturating_mul(batch.len()));
        let pending = self
            .db
            .property_int_value(rocksdb::properties::CUR_SIZE_ACTIVE_MEM_TABLE)
            .map_err(|e| self.fail(&e))?
            .unwrap_or(FLUSH_BYTES);
        let full = pending.saturating_add(size as u64) > FLUSH_BYTES;
        if full {
            // The log has the entry already: from here on RocksDB may flush when it likes.
            sync_log()?;
        }
        self.db.write_without_wal(batch).map_err(|e| self.fail(&e))?;
        *self.meta.lock() = meta;
        if full {
            // The next batches go on meanwhile.
            let mut options = FlushOptions::default();
            options.set_wait(false);
            self.db.flush_opt(&options).map_err(|e| self.fail(&e))?;
            self.note_flush();
        }
        Ok(())
    }

    fn note_flush(&self) {
        let segment = self.applied().map_or(0, |(segment, _)| segment);
        self.flushed.store(u64::from(segment), Ordering::Relaxed);
    }

    /// Brings everything applied to disk. For callers who have synced the log.
    pub(crate) fn flush(&self) -> Result<(), ArchiveError> {
        let floor = self.floor();
        self.db.flush().map_err(|e| self.fail(&e))?;
        self.droppable.store(floor, Ordering::Relaxed);
        self.note_flush();
        Ok(())
    }

    /// Whether so much of the log is not flushed that opening would take long.
    pub(crate) fn is_flush_due(&self) -> bool {
        let flushed = self.flushed.load(Ordering::Relaxed);
        self.applied().is_some_and(|(segment, _)| u64::from(segment) > flushed)
    }

    fn record_at(&self, height: u64, at: Location) -> Result<Option<Record>, ArchiveError> {
        let Some(bytes) = log::read(&self.dir, height, at)? else {
            return Ok(None);
        };
        Record::decode(&bytes).map(Some).map_err(|e| ArchiveError::Corrupt {
            path: log::segment_path(&self.dir, at.segment),
            offset: at.offset,
            reason: e.to_string(),
        })
    }

    /// Removes everything of a height: the names of its rows are read back from the log. A record that cannot be read has lost them; its
    /// rows stay, and searches pass over places without a record.
    fn take_out(&self, batch: &mut WriteBatch, height: u64) -> Result<(), ArchiveError> {
        let Some((at, _)) = self.row(height)? else {
            return Ok(());
        };
        match self.record_at(height, at) {
            Ok(Some(record)) => Rows::of(height, &record).each(|key, _| batch.delete(key)),
            Ok(None) => {}
            Err(e) => tracing::warn!(height, reason = %e, "a record cannot be read; its index entries stay"),
        }
        batch.delete(keys::record_key(height));
        Ok(())
    }

    /// Removes every height above `last`; what is left to write is in the batch, and what it makes of the index is returned.
    fn withdraw(
        &self,
        batch: &mut WriteBatch,
        mut meta: Meta,
        last: u64,
        sync_log: SyncLog<'_>,
    ) -> Result<Meta, ArchiveError> {
        if meta.ranges.first_key_value().is_none_or(|(first, _)| *first > last) {
            // All of it, however much that is.
            for tag in [RECORD, TX, Events::Tx as u8, Events::Block as u8] {
                batch.delete_range([tag], [tag.saturating_add(1)]);
            }
            meta.ranges.clear();
            // An application that begins again below what was pruned is archived again from there.
            meta.floor = meta.floor.min(last.saturating_add(1));
            self.droppable.fetch_min(meta.floor, Ordering::Relaxed);
            return Ok(meta);
        }
        while let Some(height) = meta.ranges.last_key_value().map(|(_, to)| *to).filter(|to| *to > last) {
            // A batch each: a process killed between two of them finds the rest still there and this entry not applied.
            let mut batch = WriteBatch::default();
            self.take_out(&mut batch, height)?;
            ranges::clip(&mut meta.ranges, 0, height.saturating_sub(1));
            self.write(batch, meta.clone(), sync_log)?;
        }
        Ok(meta)
    }

    /// Notes that a file of the log has a record of this height.
    fn raise(&self, batch: &mut WriteBatch, entry: &Entry) -> Result<(), ArchiveError> {
        let key = keys::segment_key(entry.at.segment);
        let highest = self.db.get(key).map_err(|e| self.fail(&e))?;
        let highest = highest.and_then(|row| row.try_into().ok()).map(u64::from_be_bytes);
        if highest.is_none_or(|highest| highest < entry.height) {
            batch.put(key, entry.height.to_be_bytes());
        }
        Ok(())
    }

    /// Drops heights below `floor`: from now on they are in no answer, from the next compactions on they are not on disk.
    pub(crate) fn prune(&self, floor: u64, sync_log: SyncLog<'_>) -> Result<(), ArchiveError> {
        let mut meta = self.meta.lock().clone();
        if floor <= meta.floor {
            return Ok(());
        }
        meta.floor = floor;
        ranges::clip(&mut meta.ranges, floor, u64::MAX);
        self.write(WriteBatch::default(), meta, sync_log)
    }

    /// Forgets the oldest files in which nothing at or above the floor is left and returns the oldest file that is still needed; `open` is
    /// the newest. Files below it can be deleted after the next [`flush`](Self::flush).
    pub(crate) fn retire(&self, open: u32, sync_log: SyncLog<'_>) -> Result<u32, ArchiveError> {
        let meta = self.meta.lock().clone();
        let applied = meta.applied.map_or(0, |(segment, _)| segment);
        let mut batch = WriteBatch::default();
        let mut first = open;
        for row in self.view().segments()? {
            let (segment, highest) = row;
            if segment >= open || highest >= meta.floor {
                first = segment;
                break;
            }
            batch.delete(keys::segment_key(segment));
        }
        if !batch.is_empty() {
            self.write(batch, meta, sync_log)?;
        }
        Ok(first.min(open).min(applied))
    }

    // -- reading ----------------------------------------------------------------------------------------------------------------------

    /// The index as it is now, whatever is written meanwhile.
    pub(crate) fn view(&self) -> View<'_> {
        View::of(self)
    }

    fn row(&self, height: u64) -> Result<Option<(Location, u32)>, ArchiveError> {
        let key = keys::record_key(height);
        match self.db.get_pinned(key).map_err(|e| self.fail(&e))? {
            Some(row) => keys::split_record(&row).map(Some).ok_or_else(|| self.foreign(&key)),
            None => Ok(None),
        }
    }

    /// Where the record of a height is.
    pub(crate) fn location(&self, height: u64) -> Result<Option<Location>, ArchiveError> {
        Ok(self.row(height)?.map(|(at, _)| at))
    }
}

#[cfg(test)]
mod tests;
