//! The index: one redb file beside the log, made from it and from nothing else.
//!
//! ```text
//! meta      "schema" → u64    "segment", "offset" → the next entry of the log to apply    "floor" → lowest height kept
//! records   height u64 → (segment u32, offset u64, len u32, transactions u32)
//! segments  segment u32 → highest height in it
//! txs, tx_events, block_events                                     module `keys`
//! ```
//!
//! Entries of the log are applied in order. A transaction without sync is cheap and is lost with the process; then the entries after the
//! last synced one are applied again, which is why all of this must be a function of the log.

#![allow(clippy::result_large_err)] // redb's error type; boxing it would only move the cost to every `?`.

use crate::error::ArchiveError;
use crate::keys::{self, Keys};
use crate::log::{self, Entry, Kind, Location};
use crate::query::{Condition, Op};
use crate::record::Record;
use redb::{Database, Durability, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SCHEMA: u64 = 1;
/// Memory for pages of the index. Hot pages of a long index are few: the newest of each attribute.
const CACHE_BYTES: usize = 32 << 20;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Where a record is, and how many transactions it has.
type Row = (u32, u64, u32, u32);
const RECORDS: TableDefinition<'_, u64, Row> = TableDefinition::new("records");
const SEGMENTS: TableDefinition<'_, u32, u64> = TableDefinition::new("segments");
const TXS: TableDefinition<'_, &[u8], bool> = TableDefinition::new("txs");
const TX_EVENTS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("tx_events");
const BLOCK_EVENTS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("block_events");

/// Which events a search reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Events {
    Tx,
    Block,
}

pub(crate) struct Index {
    db: Database,
    dir: PathBuf,
    path: PathBuf,
}

/// Contiguous heights, first to last.
pub(crate) type Ranges = BTreeMap<u64, u64>;

fn location((segment, offset, len, _): Row) -> Location {
    Location { segment, offset, len }
}

impl Index {
    /// Opens the index of the log in `dir`. One that cannot be used is removed and begun again.
    pub(crate) fn open(dir: &Path) -> Result<Self, ArchiveError> {
        let path = dir.join("index.redb");
        let open = || Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let db = match open() {
            Ok(db) => db,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(ArchiveError::Busy(dir.to_path_buf())),
            Err(redb::DatabaseError::Storage(redb::StorageError::Io(e)))
                if e.kind() != std::io::ErrorKind::InvalidData && e.kind() != std::io::ErrorKind::UnexpectedEof =>
            {
                return Err(ArchiveError::Store {
                    path,
                    reason: e.to_string(),
                })
            }
            Err(e) => {
                tracing::warn!(path = %path.display(), reason = %e, "the archive's index is unusable; making it again from the log");
                Self::remove(&path)?;
                open().map_err(|e| ArchiveError::Store {
                    path: path.clone(),
                    reason: e.to_string(),
                })?
            }
        };
        let index = Self {
            db,
            dir: dir.to_path_buf(),
            path,
        };
        index.prepare()?;
        Ok(index)
    }

    fn remove(path: &Path) -> Result<(), ArchiveError> {
        std::fs::remove_file(path).map_err(|e| ArchiveError::Store {
            path: path.to_path_buf(),
            reason: e.to_string(),
        })
    }

    fn fail(&self, e: impl std::fmt::Display) -> ArchiveError {
        ArchiveError::Store {
            path: self.path.clone(),
            reason: e.to_string(),
        }
    }

    fn prepare(&self) -> Result<(), ArchiveError> {
        let found = self.write(true, |txn| {
            // Every table exists from the first moment, so that readers need no case for a missing one.
            txn.open_table(RECORDS)?;
            txn.open_table(SEGMENTS)?;
            txn.open_table(TXS)?;
            txn.open_table(TX_EVENTS)?;
            txn.open_table(BLOCK_EVENTS)?;
            let mut meta = txn.open_table(META)?;
            let found = meta.get("schema")?.map(|v| v.value());
            if found.is_none() {
                meta.insert("schema", SCHEMA)?;
            }
            Ok(found)
        })?;
        match found {
            None | Some(SCHEMA) => Ok(()),
            Some(other) => Err(self.fail(format!(
                "schema {other} is not {SCHEMA}; remove this file, it is made again from the log beside it"
            ))),
        }
    }

    fn write<T>(
        &self,
        synced: bool,
        f: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, ArchiveError> {
        let run = || -> Result<T, redb::Error> {
            let mut txn = self.db.begin_write()?;
            if synced {
                txn.set_durability(Durability::Immediate);
                // A killed process then opens at once, however long the index is.
                txn.set_quick_repair(true);
            } else {
                txn.set_durability(Durability::None);
            }
            let out = f(&txn)?;
            txn.commit()?;
            Ok(out)
        };
        run().map_err(|e| self.fail(e))
    }

    fn read<T>(&self, f: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T, ArchiveError> {
        let run = || -> Result<T, redb::Error> { f(&self.db.begin_read()?) };
        run().map_err(|e| self.fail(e))
    }

    fn meta(&self, name: &str) -> Result<Option<u64>, ArchiveError> {
        self.read(|txn| Ok(txn.open_table(META)?.get(name)?.map(|v| v.value())))
    }

    /// Where in the log the first entry is that is not applied.
    pub(crate) fn applied(&self) -> Result<Option<(u32, u64)>, ArchiveError> {
        let segment = self.meta("segment")?.and_then(|s| u32::try_from(s).ok());
        Ok(segment.zip(self.meta("offset")?))
    }

    /// The lowest height that pruning left.
    pub(crate) fn floor(&self) -> Result<u64, ArchiveError> {
        Ok(self.meta("floor")?.unwrap_or(0))
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

    /// The keys that the index holds of a height, read back from the log. A record that cannot be read has lost its keys' names with it:
    /// they stay, and searches pass over places without a record.
    fn keys_at(&self, height: u64, at: Location) -> Keys {
        match self.record_at(height, at) {
            Ok(Some(record)) => Keys::of(height, &record),
            Ok(None) => Keys::default(),
            Err(e) => {
                tracing::warn!(height, reason = %e, "a record cannot be read; its index entries stay");
                Keys::default()
            }
        }
    }

    /// Applies entries in order, in one transaction.
    pub(crate) fn apply(&self, entries: &[Entry], synced: bool) -> Result<(), ArchiveError> {
        let floor = self.floor()?;
        // What must be read from the log is read before the transaction: its errors are ours, not the database's.
        let mut added: Vec<Option<Keys>> = Vec::with_capacity(entries.len());
        for entry in entries {
            let wanted = entry.kind == Kind::Record && entry.height >= floor;
            added.push(match wanted {
                true => self
                    .record_at(entry.height, entry.at)?
                    .map(|r| Keys::of(entry.height, &r)),
                false => None,
            });
        }
        self.write(synced, |txn| {
            for (entry, keys) in entries.iter().zip(&added) {
                match entry.kind {
                    Kind::Record => {
                        if let Some(keys) = keys {
                            self.take_out(txn, entry.height, entry.height)?;
                            put_in(txn, entry, keys)?;
                        }
                    }
                    Kind::Withdraw => self.take_out(txn, entry.height.saturating_add(1), u64::MAX)?,
                }
            }
            if let Some(last) = entries.last() {
                let (segment, offset) = last.at.end();
                let mut meta = txn.open_table(META)?;
                meta.insert("segment", u64::from(segment))?;
                meta.insert("offset", offset)?;
            }
            Ok(())
        })
    }

    /// Removes everything of heights `from..=to`.
    fn take_out(&self, txn: &WriteTransaction, from: u64, to: u64) -> Result<(), redb::Error> {
        let mut records = txn.open_table(RECORDS)?;
        let mut gone = Vec::new();
        for row in records.range(from..=to)? {
            let (height, at) = row?;
            gone.push((height.value(), location(at.value())));
        }
        if gone.is_empty() {
            return Ok(());
        }
        let (mut txs, mut tx_events, mut block_events) = (
            txn.open_table(TXS)?,
            txn.open_table(TX_EVENTS)?,
            txn.open_table(BLOCK_EVENTS)?,
        );
        for (height, at) in gone {
            let keys = self.keys_at(height, at);
            for (key, _) in &keys.txs {
                txs.remove(key.as_slice())?;
            }
            for key in &keys.tx_events {
                tx_events.remove(key.as_slice())?;
            }
            for key in &keys.block_events {
                block_events.remove(key.as_slice())?;
            }
            records.remove(height)?;
        }
        Ok(())
    }

    /// Syncs everything applied so far.
    pub(crate) fn sync(&self) -> Result<(), ArchiveError> {
        self.write(true, |_| Ok(()))
    }

    /// Drops heights below `floor`, at most `most` of them, without sync. Returns the lowest height left to keep: less than `floor` if
    /// there is more to do.
    pub(crate) fn prune(&self, floor: u64, most: usize) -> Result<u64, ArchiveError> {
        let victims: Vec<u64> = self.read(|txn| {
            let mut out = Vec::new();
            for row in txn.open_table(RECORDS)?.range(..floor)?.take(most) {
                out.push(row?.0.value());
            }
            Ok(out)
        })?;
        let reached = match victims.last() {
            Some(last) if victims.len() == most => last.saturating_add(1).min(floor),
            _ => floor,
        };
        self.write(false, |txn| {
            if let (Some(first), Some(last)) = (victims.first(), victims.last()) {
                self.take_out(txn, *first, *last)?;
            }
            txn.open_table(META)?.insert("floor", reached)?;
            Ok(())
        })?;
        Ok(reached)
    }

    /// Forgets the oldest files in which nothing at or above the floor is left, without sync, and returns the oldest file that is still
    /// needed; `open` is the newest. Files below it can be deleted once this is synced.
    pub(crate) fn retire(&self, open: u32) -> Result<u32, ArchiveError> {
        let floor = self.floor()?;
        let applied = self.applied()?.map_or(0, |(segment, _)| segment);
        self.write(false, |txn| {
            let mut segments = txn.open_table(SEGMENTS)?;
            let mut gone = Vec::new();
            for row in segments.range(..open)? {
                let (segment, highest) = row?;
                if highest.value() >= floor {
                    break;
                }
                gone.push(segment.value());
            }
            for segment in gone {
                segments.remove(segment)?;
            }
            let first = segments.first()?.map_or(open, |(segment, _)| segment.value());
            Ok(first.min(open).min(applied))
        })
    }

    // -- reads ----------------------------------------------------------------------------------------------------------------------

    /// Where the record of a height is.
    pub(crate) fn location(&self, height: u64) -> Result<Option<Location>, ArchiveError> {
        self.read(|txn| Ok(txn.open_table(RECORDS)?.get(height)?.map(|v| location(v.value()))))
    }

    /// The heights there are, as contiguous ranges.
    pub(crate) fn ranges(&self) -> Result<Ranges, ArchiveError> {
        self.read(|txn| {
            let records = txn.open_table(RECORDS)?;
            let first = records.first()?.map(|(k, _)| k.value());
            let last = records.last()?.map(|(k, _)| k.value());
            let mut out = Ranges::new();
            let (Some(first), Some(last)) = (first, last) else {
                return Ok(out);
            };
            if last.saturating_sub(first).saturating_add(1) == records.len()? {
                out.insert(first, last);
                return Ok(out);
            }
            for row in records.iter()? {
                crate::archive::add(&mut out, row?.0.value());
            }
            Ok(out)
        })
    }

    /// Where a transaction is, at or below `head`. As CometBFT's indexer: a later copy replaces an earlier one, but a failed copy never
    /// hides a success.
    pub(crate) fn tx_place(&self, hash: &[u8], head: u64) -> Result<Option<(u64, u32)>, ArchiveError> {
        if hash.len() != 32 {
            return Ok(None);
        }
        let mut from = hash.to_vec();
        from.extend_from_slice(&[0; 12]);
        let mut to = hash.to_vec();
        to.extend_from_slice(&[u8::MAX; 12]);
        self.read(|txn| {
            let mut found: Option<((u64, u32), bool)> = None;
            for row in txn.open_table(TXS)?.range(from.as_slice()..=to.as_slice())? {
                let (key, ok) = row?;
                let Some(at) = key.value().get(32..).and_then(keys::place) else {
                    continue;
                };
                let hides = found.is_some_and(|(_, success)| success) && !ok.value();
                if at.0 <= head && !hides {
                    found = Some((at, ok.value()));
                }
            }
            Ok(found.map(|(at, _)| at))
        })
    }

    /// Places within heights `from..=to` of which some event satisfies the condition.
    pub(crate) fn matching(
        &self,
        events: Events,
        condition: &Condition,
        (from, to): (u64, u64),
    ) -> Result<BTreeSet<(u64, u32)>, ArchiveError> {
        let (table, tail) = match events {
            Events::Tx => (TX_EVENTS, 12),
            Events::Block => (BLOCK_EVENTS, 8),
        };
        let names = keys::name_prefix(&condition.key);
        // Equality with a text is a range of places; everything else reads all values of the key.
        let (low, high) = match (&condition.op, condition.text()) {
            (Op::Eq, Some(text)) => {
                let prefix = keys::value_prefix(&condition.key, text);
                let mut low = prefix.clone();
                low.extend_from_slice(&from.to_be_bytes());
                let mut last = prefix.clone();
                last.extend_from_slice(&to.to_be_bytes());
                (low, keys::prefix_end(&last))
            }
            _ => (names.clone(), keys::prefix_end(&names)),
        };
        if from > to {
            return Ok(BTreeSet::new());
        }
        self.read(|txn| {
            let table = txn.open_table(table)?;
            let range = match &high {
                Some(high) => table.range(low.as_slice()..high.as_slice())?,
                None => table.range(low.as_slice()..)?,
            };
            let mut out = BTreeSet::new();
            for row in range {
                let row = row?;
                let bytes = row.0.value();
                let found = bytes.get(names.len()..).and_then(|rest| keys::split_value(rest, tail));
                let Some((value, at)) = found else { continue };
                let Some(at) = keys::place(at).filter(|(h, _)| (from..=to).contains(h)) else {
                    continue;
                };
                if condition.matches(value) {
                    out.insert(at);
                }
            }
            Ok(out)
        })
    }

    /// The places of all transactions of heights `from..=to`.
    pub(crate) fn tx_places(&self, from: u64, to: u64) -> Result<BTreeSet<(u64, u32)>, ArchiveError> {
        if from > to {
            return Ok(BTreeSet::new());
        }
        self.read(|txn| {
            let mut out = BTreeSet::new();
            for row in txn.open_table(RECORDS)?.range(from..=to)? {
                let (height, at) = row?;
                out.extend((0..at.value().3).map(|i| (height.value(), i)));
            }
            Ok(out)
        })
    }

    /// The heights within `from..=to` that have a record.
    pub(crate) fn heights(&self, from: u64, to: u64) -> Result<BTreeSet<u64>, ArchiveError> {
        if from > to {
            return Ok(BTreeSet::new());
        }
        self.read(|txn| {
            let mut out = BTreeSet::new();
            for row in txn.open_table(RECORDS)?.range(from..=to)? {
                out.insert(row?.0.value());
            }
            Ok(out)
        })
    }
}

fn put_in(txn: &WriteTransaction, entry: &Entry, keys: &Keys) -> Result<(), redb::Error> {
    let at = entry.at;
    txn.open_table(RECORDS)?
        .insert(entry.height, (at.segment, at.offset, at.len, keys.count()))?;
    let mut segments = txn.open_table(SEGMENTS)?;
    let highest = segments.get(at.segment)?.map_or(0, |v| v.value());
    segments.insert(at.segment, highest.max(entry.height))?;
    let mut txs = txn.open_table(TXS)?;
    for (key, ok) in &keys.txs {
        txs.insert(key.as_slice(), ok)?;
    }
    let mut tx_events = txn.open_table(TX_EVENTS)?;
    for key in &keys.tx_events {
        tx_events.insert(key.as_slice(), ())?;
    }
    let mut block_events = txn.open_table(BLOCK_EVENTS)?;
    for key in &keys.block_events {
        block_events.insert(key.as_slice(), ())?;
    }
    Ok(())
}
