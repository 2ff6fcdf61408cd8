//! The engine's database: one redb file, `solo.redb`.
//!
//! ```text
//! meta         "schema" → u8 version              "genesis" → 32-byte digest of the genesis document
//!              "initial_app_hash" → bytes
//! blocks       height u64 → tendermint.types.Block
//! commits      height u64 → tendermint.types.Commit     the precommit of this height, made when the block was
//! results      height u64 → tendermint.abci.ResponseFinalizeBlock        of the last block, and of those the archive has not synced
//! powers       height u64 → i64                         the validator's power from this height on
//! params       height u64 → tendermint.types.ConsensusParams   from this height on
//! app_versions height u64 → u64                         header field version.app from this height on
//! block_hashes 32-byte header hash → height u64
//! evidence     32-byte hash → tendermint.types.DuplicateVoteEvidence that waits for a block; empty once it is in one
//! ```
//!
//! Blocks exist for every height from the first that pruning left to the last; their results are in the archive, which is not synced with
//! every block: those it may still lose with the machine's power are here too. Results exist for the last block or the one before it.
//! Both writes of a height are one synced transaction each.

#![allow(clippy::result_large_err)] // redb's error type; boxing it would only move the cost to every `?`.

use crate::block;
use crate::error::SoloError;
use crate::files;
use crate::merkle::Hash32;
use prost::Message;
use redb::{Database, Durability, ReadableTable, TableDefinition};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use tendermint_proto::v0_38::abci::ResponseFinalizeBlock;
use tendermint_proto::v0_38::types::{Block, Commit, ConsensusParams};

const FILE: &str = "solo.redb";
const SCHEMA: u8 = 2;
/// What to do about a damaged file.
const DAMAGED: &str = "the file is damaged. Restore data/ from a backup that has engine and application together; without one, `tenured export` \
                       carries the application's state, which is not in this file, into a new chain";
/// Memory for pages: the working set is the newest blocks.
const CACHE_BYTES: usize = 64 << 20;
/// Most old blocks deleted along with one new one.
const PRUNE_BATCH: usize = 100;
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const COMMITS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("commits");
const RESULTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("results");
const POWERS: TableDefinition<'_, u64, i64> = TableDefinition::new("powers");
const PARAMS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("params");
const APP_VERSIONS: TableDefinition<'_, u64, u64> = TableDefinition::new("app_versions");
const EVIDENCE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("evidence");
const BLOCK_HASHES: TableDefinition<'_, &[u8], u64> = TableDefinition::new("block_hashes");

/// What the genesis and `InitChain` decided for the first block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Initial {
    pub app_hash: Vec<u8>,
    pub power: i64,
    pub params: ConsensusParams,
    /// Header field `version.app`: from `Info`, unless `InitChain` returned parameters.
    pub app_version: u64,
}

/// What `FinalizeBlock` of one height changes for later ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// Power from height + 2 on.
    pub power: Option<i64>,
    /// Parameters from height + 1 on.
    pub params: Option<ConsensusParams>,
}

/// The database. Reads see the last finished write and never wait for one.
pub(crate) struct Store {
    db: Database,
    path: PathBuf,
}

/// Runs what calls redb, which panics over some kinds of damage. Error: says what to do about them.
fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, SoloError> {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    let reason = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => {
            "is open in another process; stop that one first, two engines with one key would sign twice".to_owned()
        }
        Ok(Err(redb::Error::Corrupted(what))) => format!("{what}; {DAMAGED}"),
        Ok(Err(redb::Error::Io(e))) if matches!(e.kind(), InvalidData | UnexpectedEof) => format!("{e}; {DAMAGED}"),
        Ok(Err(other)) => other.to_string(),
        Err(_) => DAMAGED.to_owned(),
    };
    Err(SoloError::Store {
        path: path.to_path_buf(),
        reason,
    })
}

/// The first and the last height whose blocks are in a data directory; `None` if there are none. Errors: a node has it open; it is damaged.
pub fn stored_blocks(dir: &Path) -> Result<Option<(i64, i64)>, SoloError> {
    if !dir.join(FILE).exists() {
        return Ok(None);
    }
    Store::open(dir)?.block_range()
}

/// Heights are positive everywhere inside; a negative one from outside finds nothing.
fn key(height: i64) -> u64 {
    u64::try_from(height).unwrap_or(u64::MAX)
}

fn height(key: u64) -> i64 {
    i64::try_from(key).unwrap_or(i64::MAX)
}

/// Application hash and results hash after a block.
pub(crate) type Outcome = (Vec<u8>, Vec<u8>);

impl Store {
    /// Opens or creates `solo.redb` in `dir`. Errors: another process has it open; it is damaged.
    pub(crate) fn open(dir: &Path) -> Result<Self, SoloError> {
        std::fs::create_dir_all(dir).map_err(files::io(dir))?;
        let path = dir.join(FILE);
        if !path.exists() {
            // redb gives a new file its size before it writes a header, and takes one without for damaged: who is killed in between must not find
            // it under this name.
            let new = dir.join(format!("{FILE}.new"));
            match std::fs::remove_file(&new) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(files::io(&new)(e)),
                _ => {}
            }
            drop(Self::open_file(&new)?);
            files::rename(&new, &path)?;
        }
        Self::open_file(&path)
    }

    fn open_file(path: &Path) -> Result<Self, SoloError> {
        let open = || Ok(Database::builder().set_cache_size(CACHE_BYTES).create(path)?);
        let store = Self {
            db: guarded(path, open)?,
            path: path.to_path_buf(),
        };
        store.prepare()?;
        Ok(store)
    }

    pub(crate) fn fail(&self, e: impl std::fmt::Display) -> SoloError {
        SoloError::Store {
            path: self.path.clone(),
            reason: e.to_string(),
        }
    }

    fn prepare(&self) -> Result<(), SoloError> {
        let found = self.write(|txn| {
            // Every table exists from the first moment, so that readers need no case for a missing one.
            txn.open_table(BLOCKS)?;
            txn.open_table(COMMITS)?;
            txn.open_table(RESULTS)?;
            txn.open_table(POWERS)?;
            txn.open_table(PARAMS)?;
            txn.open_table(APP_VERSIONS)?;
            txn.open_table(BLOCK_HASHES)?;
            txn.open_table(EVIDENCE)?;
            let mut meta = txn.open_table(META)?;
            let found = meta.get("schema")?.map(|v| v.value().to_vec());
            if found.is_none() {
                meta.insert("schema", [SCHEMA].as_slice())?;
            }
            Ok(found)
        })?;
        match found.as_deref() {
            None | Some([SCHEMA]) => Ok(()),
            Some(other) => Err(self.fail(format!(
                "schema {other:?} is not {SCHEMA}: another version of this program made it. Run that version, or remove the data \
                 directories of engine and application to start over"
            ))),
        }
    }

    /// Runs `f` in one synced write transaction; on error nothing is written.
    fn write<T>(&self, f: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>) -> Result<T, SoloError> {
        let run = || -> Result<T, redb::Error> {
            let mut txn = self.db.begin_write()?;
            txn.set_durability(Durability::Immediate);
            let out = f(&txn)?;
            txn.commit()?;
            Ok(out)
        };
        guarded(&self.path, run)
    }

    /// Runs `f` over one consistent view.
    pub(crate) fn read<T>(
        &self,
        f: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, SoloError> {
        guarded(&self.path, || f(&self.db.begin_read()?))
    }

    fn bytes(&self, table: TableDefinition<'_, u64, &[u8]>, at: i64) -> Result<Option<Vec<u8>>, SoloError> {
        self.read(|txn| Ok(txn.open_table(table)?.get(key(at))?.map(|v| v.value().to_vec())))
    }

    fn message<M: Message + Default>(
        &self,
        table: TableDefinition<'_, u64, &[u8]>,
        at: i64,
        what: &str,
    ) -> Result<Option<M>, SoloError> {
        self.bytes(table, at)?
            .map(|b| M::decode(b.as_slice()).map_err(|e| SoloError::Corrupt(format!("{what} {at}: {e}"))))
            .transpose()
    }

    // -- genesis ------------------------------------------------------------------------------------------------------

    /// The digest of the genesis document this chain began with.
    pub(crate) fn genesis_digest(&self) -> Result<Option<Vec<u8>>, SoloError> {
        self.read(|txn| Ok(txn.open_table(META)?.get("genesis")?.map(|v| v.value().to_vec())))
    }

    /// Records what the chain starts from. Repeatable until the first block is saved: `InitChain` may run again after a crash.
    pub(crate) fn save_initial(&self, digest: &Hash32, at: i64, initial: &Initial) -> Result<(), SoloError> {
        self.write(|txn| {
            let mut meta = txn.open_table(META)?;
            meta.insert("genesis", digest.as_slice())?;
            meta.insert("initial_app_hash", initial.app_hash.as_slice())?;
            txn.open_table(POWERS)?.insert(key(at), initial.power)?;
            txn.open_table(PARAMS)?
                .insert(key(at), initial.params.encode_to_vec().as_slice())?;
            txn.open_table(APP_VERSIONS)?.insert(key(at), initial.app_version)?;
            Ok(())
        })
    }

    /// What [`save_initial`](Self::save_initial) recorded.
    pub(crate) fn initial(&self, at: i64) -> Result<Option<Initial>, SoloError> {
        let app_hash = self.read(|txn| {
            Ok(txn
                .open_table(META)?
                .get("initial_app_hash")?
                .map(|v| v.value().to_vec()))
        })?;
        Ok(
            match (app_hash, self.power(at)?, self.params(at)?, self.app_version(at)?) {
                (Some(app_hash), Some(power), Some(params), Some(app_version)) => Some(Initial {
                    app_hash,
                    power,
                    params,
                    app_version,
                }),
                _ => None,
            },
        )
    }

    // -- writes of one height -------------------------------------------------------------------------------------------

    /// Saves a block with the commit for it, and deletes some blocks below `retain` if there are any, synced, in one transaction.
    pub(crate) fn save_block(
        &self,
        at: i64,
        encoded: &[u8],
        hash: &[u8],
        commit: &Commit,
        evidence: &[Hash32],
        retain: i64,
    ) -> Result<(), SoloError> {
        self.write(|txn| {
            let mut known = txn.open_table(EVIDENCE)?;
            for hash in evidence {
                // Empty: it is in a block.
                known.insert(hash.as_slice(), [].as_slice())?;
            }
            let mut blocks = txn.open_table(BLOCKS)?;
            let mut commits = txn.open_table(COMMITS)?;
            let mut hashes = txn.open_table(BLOCK_HASHES)?;
            let mut old = Vec::new();
            for row in blocks.range(..key(retain.min(at)))?.take(PRUNE_BATCH) {
                old.push(row?.0.value());
            }
            for height in old {
                let id = commits
                    .remove(height)?
                    .and_then(|c| Commit::decode(c.value()).ok()?.block_id);
                if let Some(id) = id {
                    hashes.remove(id.hash.as_slice())?;
                }
                blocks.remove(height)?;
            }
            blocks.insert(key(at), encoded)?;
            commits.insert(key(at), commit.encode_to_vec().as_slice())?;
            hashes.insert(hash, key(at))?;
            Ok(())
        })
    }

    /// Keeps evidence for a block, synced.
    pub(crate) fn add_evidence(&self, hash: &Hash32, encoded: &[u8]) -> Result<(), SoloError> {
        self.write(|txn| {
            txn.open_table(EVIDENCE)?.insert(hash.as_slice(), encoded)?;
            Ok(())
        })
    }

    /// Forgets evidence that no longer counts.
    pub(crate) fn drop_evidence(&self, hash: &Hash32) -> Result<(), SoloError> {
        self.write(|txn| {
            txn.open_table(EVIDENCE)?.remove(hash.as_slice())?;
            Ok(())
        })
    }

    /// Saves what executing block `at` gave, and drops the results that the archive has synced (`archived` and below), synced, in one
    /// transaction.
    pub(crate) fn save_results(
        &self,
        at: i64,
        results: &ResponseFinalizeBlock,
        changes: &Changes,
        archived: i64,
    ) -> Result<(), SoloError> {
        self.write(|txn| {
            let mut table = txn.open_table(RESULTS)?;
            table.insert(key(at), results.encode_to_vec().as_slice())?;
            table.retain_in(..key(at.min(archived.saturating_add(1))), |_, _| false)?;
            if let Some(power) = changes.power {
                txn.open_table(POWERS)?.insert(key(at) + 2, power)?;
            }
            if let Some(params) = &changes.params {
                txn.open_table(PARAMS)?
                    .insert(key(at) + 1, params.encode_to_vec().as_slice())?;
                txn.open_table(APP_VERSIONS)?
                    .insert(key(at) + 1, params.version.unwrap_or_default().app)?;
            }
            Ok(())
        })
    }

    /// Whether evidence waits or is in a block.
    pub(crate) fn knows_evidence(&self, hash: &Hash32) -> Result<bool, SoloError> {
        self.read(|txn| Ok(txn.open_table(EVIDENCE)?.get(hash.as_slice())?.is_some()))
    }

    /// Evidence that waits for a block.
    pub(crate) fn pending_evidence(&self) -> Result<Vec<Vec<u8>>, SoloError> {
        self.read(|txn| {
            let mut out = Vec::new();
            for row in txn.open_table(EVIDENCE)?.iter()? {
                let bytes = row?.1.value().to_vec();
                if !bytes.is_empty() {
                    out.push(bytes);
                }
            }
            Ok(out)
        })
    }

    // -- reads ------------------------------------------------------------------------------------------------------------

    /// First and last height with a block; `None` before the first.
    pub(crate) fn block_range(&self) -> Result<Option<(i64, i64)>, SoloError> {
        self.read(|txn| {
            let blocks = txn.open_table(BLOCKS)?;
            let first = blocks.first()?.map(|(k, _)| height(k.value()));
            let last = blocks.last()?.map(|(k, _)| height(k.value()));
            Ok(first.zip(last))
        })
    }

    /// The last height with results; `None` before the first.
    pub(crate) fn results_height(&self) -> Result<Option<i64>, SoloError> {
        self.read(|txn| Ok(txn.open_table(RESULTS)?.last()?.map(|(k, _)| height(k.value()))))
    }

    /// The encoded block of a height.
    pub(crate) fn block_bytes(&self, at: i64) -> Result<Option<Vec<u8>>, SoloError> {
        self.bytes(BLOCKS, at)
    }

    /// The block of a height.
    pub(crate) fn block(&self, at: i64) -> Result<Option<Block>, SoloError> {
        self.message(BLOCKS, at, "block")
    }

    /// The commit made for a height's block.
    pub(crate) fn commit(&self, at: i64) -> Result<Option<Commit>, SoloError> {
        self.message(COMMITS, at, "commit")
    }

    /// Heights whose results are here, in order.
    pub(crate) fn results_heights(&self) -> Result<Vec<i64>, SoloError> {
        self.read(|txn| {
            let mut out = Vec::new();
            for row in txn.open_table(RESULTS)?.iter()? {
                out.push(height(row?.0.value()));
            }
            Ok(out)
        })
    }

    /// Application hash and results hash after an executed height: from its results, or from the header of the next block.
    pub(crate) fn outcome(&self, at: i64) -> Result<Option<Outcome>, SoloError> {
        if let Some(results) = self.results(at)? {
            let hash = block::results_hash(&results.tx_results).to_vec();
            return Ok(Some((results.app_hash.to_vec(), hash)));
        }
        let next = self.block(at.saturating_add(1))?.and_then(|b| b.header);
        Ok(next.map(|h| (h.app_hash, h.last_results_hash)))
    }

    /// What `FinalizeBlock` returned for a height, if it is still here.
    pub(crate) fn results(&self, at: i64) -> Result<Option<ResponseFinalizeBlock>, SoloError> {
        self.message(RESULTS, at, "results of block")
    }

    /// The height whose block has this header hash.
    pub(crate) fn height_of(&self, hash: &[u8]) -> Result<Option<i64>, SoloError> {
        self.read(|txn| Ok(txn.open_table(BLOCK_HASHES)?.get(hash)?.map(|v| height(v.value()))))
    }

    /// The validator's power at a height.
    pub(crate) fn power(&self, at: i64) -> Result<Option<i64>, SoloError> {
        self.read(|txn| {
            Ok(txn
                .open_table(POWERS)?
                .range(..=key(at))?
                .next_back()
                .transpose()?
                .map(|(_, v)| v.value()))
        })
    }

    /// Header field `version.app` at a height.
    pub(crate) fn app_version(&self, at: i64) -> Result<Option<u64>, SoloError> {
        self.read(|txn| {
            Ok(txn
                .open_table(APP_VERSIONS)?
                .range(..=key(at))?
                .next_back()
                .transpose()?
                .map(|(_, v)| v.value()))
        })
    }

    /// The consensus parameters at a height.
    pub(crate) fn params(&self, at: i64) -> Result<Option<ConsensusParams>, SoloError> {
        let bytes = self.read(|txn| {
            Ok(txn
                .open_table(PARAMS)?
                .range(..=key(at))?
                .next_back()
                .transpose()?
                .map(|(_, v)| v.value().to_vec()))
        })?;
        bytes
            .map(|b| ConsensusParams::decode(b.as_slice()).map_err(|e| SoloError::Corrupt(format!("params {at}: {e}"))))
            .transpose()
    }
}
