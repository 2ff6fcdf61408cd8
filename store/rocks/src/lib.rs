//! The RocksDB backend of the store.
//!
//! One column family holds everything, so the write-ahead log is one line of batches and any recovery is a prefix of it: with several
//! families, a damaged log could leave one family ahead of another. A batch is synced to the log before [`Backend::write`] returns.
//! What recovery cannot tell (a lost table file, say) the store finds when it opens, because it recomputes the app hash from the values.

mod errors;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options, WriteBatch, WriteOptions, DB,
};
use tenure_store::{Backend, BackendView, Batch, Op, StoreError};

use crate::view::RocksView;

/// Values from this size on lie in files of their own. No record of the state comes near it; the undo record of a busy block does.
const UNDO_BYTES: u64 = 128 << 10;

/// Sizes an operator may want to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocksOptions {
    /// Block cache in bytes. Reads of the state come from here or from the page cache.
    pub cache_bytes: usize,
    /// Memtable in bytes; up to three exist at a time. Also about the length of the log to replay after a crash.
    pub write_buffer_bytes: usize,
}

impl Default for RocksOptions {
    /// 256 MiB of cache, memtables of 64 MiB.
    fn default() -> Self {
        RocksOptions {
            cache_bytes: 256 << 20,
            write_buffer_bytes: 64 << 20,
        }
    }
}

/// A RocksDB database as the store's [`Backend`].
pub struct RocksBackend {
    db: Arc<DB>,
    path: PathBuf,
}

impl RocksBackend {
    /// Opens or creates the database in the directory `path` with default sizes.
    ///
    /// # Errors
    /// [`StoreError::Backend`] with advice if another process has it open, if it is damaged, or if the directory cannot be used.
    pub fn open(path: impl AsRef<Path>) -> Result<Arc<RocksBackend>, StoreError> {
        RocksBackend::open_with(path, RocksOptions::default())
    }

    /// As [`RocksBackend::open`], with sizes.
    ///
    /// # Errors
    /// As [`RocksBackend::open`].
    pub fn open_with(path: impl AsRef<Path>, sizes: RocksOptions) -> Result<Arc<RocksBackend>, StoreError> {
        let path = path.as_ref().to_owned();
        refuse_headless(&path)?;
        let db = DB::open(&options(sizes), &path).map_err(|error| errors::at("opening the database", &error))?;
        Ok(Arc::new(RocksBackend { db: Arc::new(db), path }))
    }

    /// The database's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Backend for RocksBackend {
    fn view(&self) -> Result<Arc<dyn BackendView>, StoreError> {
        Ok(Arc::new(RocksView::of(self.db.clone())))
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        // RocksDB's batch is one string: an operation adds a tag and two lengths of at most five bytes.
        let mut rocks_batch = WriteBatch::with_capacity_bytes(batch.bytes() + 11 * batch.len() + 12);
        for op in batch.ops() {
            match op {
                Op::Put(key, value) => rocks_batch.put(key, value),
                Op::Delete(key) => rocks_batch.delete(key),
            }
        }
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.db
            .write_opt(rocks_batch, &synced)
            .map_err(|error| errors::at("writing to the database", &error))
    }
}

fn options(sizes: RocksOptions) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(sizes.cache_bytes));
    table.set_bloom_filter(10.0, false); // 1 % false positives: a read of an absent key seldom touches a table
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(sizes.write_buffer_bytes);
    options.set_max_write_buffer_number(3);
    // Tables as large as a memtable, so that small memtables make small tables and compactions stay short.
    options.set_target_file_size_base(sizes.write_buffer_bytes as u64);
    options.set_max_bytes_for_level_base(4 * sizes.write_buffer_bytes as u64);
    // The newest tables are merged when they are as large as the level below them, not when there are four: where undo records fill half a
    // memtable, its table is half as large, and the values would be merged twice as often.
    options.set_level_zero_file_num_compaction_trigger(8);
    options.set_max_background_jobs(2);
    // Undo records are large, never changed and soon removed: beside the tables no compaction copies them.
    options.set_enable_blob_files(true);
    options.set_min_blob_size(UNDO_BYTES);
    options.set_enable_blob_gc(true);
    options.set_blob_compression_type(DBCompressionType::Lz4);
    options.set_bytes_per_sync(1 << 20); // spreads the write-back of new tables, so that the log's sync does not wait behind it
                                         // Damage is an error, never a guess.
    options.set_paranoid_checks(true);
    // After power loss the log's tail may be torn: keep the whole batches before the tear, drop everything after it.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A closed log that has become shorter or vanished is not a torn tail, it is damage.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(4 << 20);
    options.set_keep_log_file_num(4);
    options
}

/// Refuses a directory with tables or logs but without `CURRENT`: RocksDB would create an empty database over them.
fn refuse_headless(path: &Path) -> Result<(), StoreError> {
    if path.join("CURRENT").exists() {
        return Ok(());
    }
    let Ok(entries) = std::fs::read_dir(path) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let extension = Path::new(&name).extension().unwrap_or_default();
        let filled = entry.metadata().is_ok_and(|metadata| metadata.len() > 0);
        if filled && (extension == "sst" || extension == "log") {
            return Err(StoreError::Backend {
                action: "opening the database",
                detail: format!("{} has {} but no CURRENT file", path.display(), name.to_string_lossy()),
                advice: errors::DAMAGED,
            });
        }
    }
    Ok(())
}
