//! The index's directory: opening it, how RocksDB is set up, and what is done about damage.
//!
//! Everything in it is made from the log, so damage has one cure: the directory is removed and made again. What opening finds is cured at
//! once; what a later read or write finds is marked, and cured at the next start.

use crate::error::ArchiveError;
use crate::index::meta::Meta;
use crate::keys::{self, META, TX_PREFIX};
use rocksdb::compaction_filter::{CompactionFilter, Decision};
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, Env, ErrorKind, LogLevel, Options,
    SliceTransform, DB,
};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// Where the rows are.
const NAME: &str = "index";
/// Beside it: a file that says what was found to be damaged.
const DAMAGED: &str = "index.damaged";
/// What held the index of layout 1.
const REDB: &str = "index.redb";

/// Blocks of tables in memory. Hot ones of a long index are few: filters, and the newest of each attribute.
const CACHE_BYTES: usize = 32 << 20;
/// The module's flushes come at half of this (`FLUSH_BYTES`), RocksDB's own only after a block larger than the other half.
const MEMTABLE_BYTES: usize = 32 << 20;
/// Tables that no newer row has touched for this long are rewritten, so that pruned rows go from them too.
const REWRITE_SECONDS: u64 = 24 * 60 * 60;

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Whether an error means that the files are not what was written, rather than that the system refuses something.
fn is_damage(e: &rocksdb::Error) -> bool {
    let text = e.as_ref();
    match e.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::InvalidArgument | ErrorKind::NotSupported => true,
        // A file that the database names is gone.
        _ => text.contains("No such file or directory") || text.contains("Corruption"),
    }
}

/// RocksDB's error as the archive's. Damage is marked.
pub(super) fn failed(dir: &Path, e: &rocksdb::Error) -> ArchiveError {
    let mut reason = e.to_string();
    if is_damage(e) {
        let marked = std::fs::write(dir.join(DAMAGED), &reason);
        reason += match marked {
            Ok(()) => "; it is damaged: start the node again, and it is made again from the log beside it",
            Err(_) => {
                "; it is damaged: stop the node, remove it and start again, and it is made again from the log beside it"
            }
        };
    }
    ArchiveError::Store {
        path: path(dir),
        reason,
    }
}

fn io(path: PathBuf) -> impl FnOnce(std::io::Error) -> ArchiveError {
    move |e| ArchiveError::Store {
        path,
        reason: e.to_string(),
    }
}

/// Removes the index, to be made again from the log.
pub(super) fn remove(dir: &Path, reason: &str) -> Result<(), ArchiveError> {
    let path = path(dir);
    tracing::warn!(path = %path.display(), reason, "the archive's index is of no use; making it again from the log");
    match std::fs::remove_dir_all(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(path)(e)),
        _ => Ok(()),
    }
}

/// Removes a file; `false` if there was none.
fn remove_file(path: PathBuf) -> Result<bool, ArchiveError> {
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io(path)(e)),
    }
}

/// Opens or creates the index of the archive in `dir`, which no other process has open. One that is of no use is removed and begun again.
/// Compactions drop rows of heights below `droppable`.
pub(super) fn open(dir: &Path, droppable: &Arc<AtomicU64>) -> Result<(DB, Meta), ArchiveError> {
    if let Ok(reason) = std::fs::read_to_string(dir.join(DAMAGED)) {
        remove(dir, &reason)?;
        remove_file(dir.join(DAMAGED))?;
    }
    if remove_file(dir.join(REDB))? {
        tracing::info!("the archive's index is no longer a redb file; making it again from the log");
    }
    match try_open(dir, droppable) {
        Ok(opened) => Ok(opened),
        Err(Unopened::Damaged(reason)) => {
            remove(dir, &reason)?;
            try_open(dir, droppable).map_err(|e| match e {
                Unopened::Damaged(reason) => ArchiveError::Store {
                    path: path(dir),
                    reason,
                },
                Unopened::Refused(e) => e,
            })
        }
        Err(Unopened::Refused(e)) => Err(e),
    }
}

enum Unopened {
    /// It must be made again.
    Damaged(String),
    /// The system does not let us.
    Refused(ArchiveError),
}

fn try_open(dir: &Path, droppable: &Arc<AtomicU64>) -> Result<(DB, Meta), Unopened> {
    let sort = |e: rocksdb::Error| match is_damage(&e) {
        true => Unopened::Damaged(e.to_string()),
        false => Unopened::Refused(failed(dir, &e)),
    };
    let mut options = options(droppable);
    options.set_env(&env().map_err(sort)?);
    let db = DB::open(&options, path(dir)).map_err(sort)?;
    let meta = match db.get(META).map_err(sort)? {
        Some(row) => Meta::decode(&row).map_err(Unopened::Damaged)?,
        None => Meta::default(),
    };
    Ok((db, meta))
}

/// Where RocksDB's threads come from. All databases of a process share them: there is one for the application's merges and one for ours, so
/// that blocks do not wait behind an index.
fn env() -> Result<Env, rocksdb::Error> {
    let mut env = Env::new()?;
    env.set_background_threads(2);
    env.set_high_priority_background_threads(2);
    Ok(env)
}

fn options(droppable: &Arc<AtomicU64>) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    // Indices and filters count as blocks, and are as small as others: memory stays bounded however long the index is, and one that was
    // pushed out is read again without the rest of its table's.
    table.set_cache_index_and_filter_blocks(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(4 << 10);
    table.set_pin_top_level_index_and_filter(true);
    // A transaction is looked for by its hash, the beginning of its key: 1 % of the tables that do not have it are read.
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(TX_PREFIX));
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(MEMTABLE_BYTES as u64);
    options.set_max_bytes_for_level_base(4 * MEMTABLE_BYTES as u64);
    options.set_level_zero_file_num_compaction_trigger(8);
    options.set_max_background_jobs(2); // one flush and one merge at a time
    options.set_bytes_per_sync(1 << 20);
    options.set_paranoid_checks(true);
    options.set_compaction_filter_factory(Pruning(droppable.clone()));
    options.set_periodic_compaction_seconds(REWRITE_SECONDS);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(1 << 20);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options
}

/// Makes the filter of each compaction: what is below the floor when it begins is not written again.
struct Pruning(Arc<AtomicU64>);

impl CompactionFilterFactory for Pruning {
    type Filter = BelowFloor;

    fn create(&mut self, _: CompactionFilterContext) -> BelowFloor {
        BelowFloor(self.0.load(Ordering::Relaxed))
    }

    fn name(&self) -> &CStr {
        c"tenure-archive-pruning"
    }
}

struct BelowFloor(u64);

impl CompactionFilter for BelowFloor {
    fn filter(&mut self, _: u32, key: &[u8], _: &[u8]) -> Decision {
        match keys::height_of(key) {
            Some(height) if height < self.0 => Decision::Remove,
            _ => Decision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        c"tenure-archive-pruning"
    }
}
