//! Immutable views: a RocksDB snapshot that keeps its database alive.

use std::sync::Arc;

use rocksdb::{DBRawIterator, ReadOptions, SnapshotWithThreadMode, DB};
use self_cell::self_cell;
use tenure_store::{BackendView, Entries, Entry, StoreError};

use crate::errors;

type Snapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell!(
    struct OwnedSnapshot {
        owner: Arc<DB>,

        #[covariant]
        dependent: Snapshot,
    }
);

pub(crate) struct RocksView {
    snapshot: OwnedSnapshot,
}

impl RocksView {
    pub(crate) fn of(db: Arc<DB>) -> RocksView {
        RocksView {
            snapshot: OwnedSnapshot::new(db, |db| db.snapshot()),
        }
    }
}

impl BackendView for RocksView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.snapshot
            .borrow_dependent()
            .get(key)
            .map_err(|error| errors::at("reading the database", &error))
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Entries<'a> {
        if to.is_some_and(|to| to <= from) {
            return Box::new(std::iter::empty());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut cursor = self.snapshot.borrow_dependent().raw_iterator_opt(options);
        if reverse {
            cursor.seek_to_last();
        } else {
            cursor.seek_to_first();
        }
        Box::new(Range {
            cursor,
            reverse,
            ended: false,
        })
    }
}

struct Range<'a> {
    cursor: DBRawIterator<'a>,
    reverse: bool,
    ended: bool,
}

impl Iterator for Range<'_> {
    type Item = Result<Entry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let Some((key, value)) = self.cursor.item() else {
            // Either the end or a failure: an unread table must not look like a short list.
            self.ended = true;
            let status = self.cursor.status();
            return status
                .err()
                .map(|error| Err(errors::at("reading the database", &error)));
        };
        let entry = (key.to_vec(), value.to_vec());
        if self.reverse {
            self.cursor.prev();
        } else {
            self.cursor.next();
        }
        Some(Ok(entry))
    }
}
