//! What searches read: a snapshot, so that all of one search is of one moment, whatever is written meanwhile.

use crate::error::ArchiveError;
use crate::index::Index;
use crate::keys::{self, Events, SEGMENT, TX_PREFIX};
use crate::query::{Condition, Op};
use rocksdb::{DBRawIterator, ReadOptions, SnapshotWithThreadMode, DB};

/// How far the next row of an attribute is looked for one by one; a seek costs about as much.
const STEPS: usize = 8;

/// Height, and index in the block.
pub(crate) type Place = (u64, u32);

/// The index at one moment.
pub(crate) struct View<'a> {
    index: &'a Index,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl<'a> View<'a> {
    pub(super) fn of(index: &'a Index) -> Self {
        Self {
            index,
            snapshot: index.db.snapshot(),
        }
    }

    /// A cursor at the first row of `from..to`.
    fn rows(&self, from: Vec<u8>, to: Option<Vec<u8>>, mut options: ReadOptions) -> DBRawIterator<'_> {
        options.set_iterate_lower_bound(from);
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut rows = self.snapshot.raw_iterator_opt(options);
        rows.seek_to_first();
        rows
    }

    /// A cursor that goes over rows of any beginning.
    fn range(&self, from: Vec<u8>, to: Option<Vec<u8>>) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        self.rows(from, to, options)
    }

    /// The end of a cursor: an unread table must not look like a short list.
    fn end(&self, rows: &DBRawIterator<'_>) -> Result<(), ArchiveError> {
        rows.status().map_err(|e| self.index.fail(&e))
    }

    /// Files of the log with the highest height in each, oldest first.
    pub(super) fn segments(&self) -> Result<Vec<(u32, u64)>, ArchiveError> {
        let mut rows = self.range(vec![SEGMENT], Some(vec![SEGMENT.saturating_add(1)]));
        let mut out = Vec::new();
        while let Some((key, row)) = rows.item() {
            let segment = key.last_chunk().map(|segment| u32::from_be_bytes(*segment));
            let highest = row.try_into().ok().map(u64::from_be_bytes);
            out.push(segment.zip(highest).ok_or_else(|| self.index.foreign(key))?);
            rows.next();
        }
        self.end(&rows)?;
        Ok(out)
    }

    /// Where a transaction is, within heights `from..=to`. As CometBFT's indexer: a later copy replaces an earlier one, but a failed copy
    /// never hides a success.
    pub(crate) fn tx_place(&self, hash: &[u8], (from, to): (u64, u64)) -> Result<Option<Place>, ArchiveError> {
        if hash.len() != TX_PREFIX - 1 {
            return Ok(None);
        }
        let prefix = keys::tx_prefix(hash);
        let mut options = ReadOptions::default();
        // Tables whose filter does not know the hash are passed over.
        options.set_prefix_same_as_start(true);
        let low = [prefix.as_slice(), &from.to_be_bytes(), &[0; 4]].concat();
        let mut rows = self.rows(low, keys::prefix_end(&prefix), options);
        let mut found: Option<(Place, bool)> = None;
        while let Some((key, row)) = rows.item() {
            let at = keys::tx_place(key).ok_or_else(|| self.index.foreign(key))?;
            let success = row == [1];
            let hides = !success && found.is_some_and(|(_, success)| success);
            if (from..=to).contains(&at.0) && !hides {
                found = Some((at, success));
            }
            rows.next();
        }
        self.end(&rows)?;
        Ok(found.map(|(at, _)| at))
    }

    /// The heights within `from..=to` that have a record, with how many transactions each.
    pub(crate) fn counts(&self, (from, to): (u64, u64)) -> Result<Vec<(u64, u32)>, ArchiveError> {
        let high = to
            .checked_add(1)
            .map_or(vec![keys::RECORD + 1], |end| keys::record_key(end).to_vec());
        let mut out = Vec::new();
        if from > to {
            return Ok(out);
        }
        let mut rows = self.range(keys::record_key(from).to_vec(), Some(high));
        while let Some((key, row)) = rows.item() {
            let height = keys::height_of(key);
            let row = height.zip(keys::split_record(row));
            let (height, (_, txs)) = row.ok_or_else(|| self.index.foreign(key))?;
            out.push((height, txs));
            rows.next();
        }
        self.end(&rows)?;
        Ok(out)
    }

    /// Places within heights `from..=to` that satisfy every one of some conditions, ascending. Without conditions there are none.
    pub(crate) fn matching(
        &self,
        events: Events,
        conditions: &[Condition],
        (mut from, mut to): (u64, u64),
    ) -> Result<Vec<Place>, ArchiveError> {
        // Equality with a text is a list of places; everything else reads all values of the key, of the heights that are left.
        let is_list = |c: &&Condition| c.op == Op::Eq && c.text().is_some();
        let (lists, scans): (Vec<_>, Vec<_>) = conditions.iter().partition(is_list);
        let mut found: Option<Vec<Place>> = None;
        if !lists.is_empty() && from <= to {
            found = Some(self.intersection(events, &lists, (from, to))?);
        }
        for condition in scans {
            if let Some(found) = &found {
                (from, to) = match (found.first(), found.last()) {
                    (Some((first, _)), Some((last, _))) => (*first, *last),
                    _ => break,
                };
            }
            let next = self.scan(events, condition, (from, to))?;
            found = Some(match found {
                None => next,
                Some(mut found) => {
                    found.retain(|place| next.binary_search(place).is_ok());
                    found
                }
            });
        }
        Ok(found.unwrap_or_default())
    }

    /// Places where every one of some texts is: their lists walked side by side, each going straight to the height that the others are at.
    /// So a rare one and a common one together cost what the rare one does.
    fn intersection(
        &self,
        events: Events,
        conditions: &[&Condition],
        (from, to): (u64, u64),
    ) -> Result<Vec<Place>, ArchiveError> {
        let mut lists = Vec::new();
        for condition in conditions {
            let prefix = keys::value_prefix(events, &condition.key, condition.text().unwrap_or_default());
            let low = [prefix.as_slice(), &from.to_be_bytes()].concat();
            let high = match to.checked_add(1) {
                Some(end) => Some([prefix.as_slice(), &end.to_be_bytes()].concat()),
                None => keys::prefix_end(&prefix),
            };
            let rows = self.range(low, high);
            lists.push(List { prefix, rows });
        }
        let (mut out, mut all, mut next) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = from;
        'heights: loop {
            // The lowest height from `at` on that all lists could have.
            let mut agreed = 0;
            while agreed < lists.len() {
                agreed = 0;
                for list in &mut lists {
                    let Some(height) = list.reach(at) else {
                        self.end(&list.rows)?;
                        break 'heights;
                    };
                    agreed += usize::from(height == at);
                    at = height;
                }
            }
            for (i, list) in lists.iter().enumerate() {
                let into = if i == 0 { &mut all } else { &mut next };
                into.clear();
                let (key, row) = list.rows.item().unwrap_or_default();
                keys::indices(row, into).ok_or_else(|| self.index.foreign(key))?;
                if i > 0 {
                    all.retain(|index| next.binary_search(index).is_ok());
                }
            }
            out.extend(all.iter().map(|index| (at, *index)));
            match at.checked_add(1) {
                Some(after) => at = after,
                None => break,
            }
        }
        Ok(out)
    }

    /// Places of which some value of the condition's key satisfies it.
    fn scan(&self, events: Events, condition: &Condition, (from, to): (u64, u64)) -> Result<Vec<Place>, ArchiveError> {
        let prefix = keys::name_prefix(events, &condition.key);
        let skip = prefix.len();
        let high = keys::prefix_end(&prefix);
        let mut out = Vec::new();
        if from > to {
            return Ok(out);
        }
        let mut indices = Vec::new();
        let mut rows = self.range(prefix, high);
        while let Some((key, row)) = rows.item() {
            let found = key.get(skip..).and_then(keys::split_value);
            let (value, height) = found.ok_or_else(|| self.index.foreign(key))?;
            if (from..=to).contains(&height) && condition.matches(value) {
                indices.clear();
                keys::indices(row, &mut indices).ok_or_else(|| self.index.foreign(key))?;
                out.extend(indices.iter().map(|index| (height, *index)));
            }
            rows.next();
        }
        self.end(&rows)?;
        out.sort_unstable();
        out.dedup();
        Ok(out)
    }
}

/// The rows of one attribute with one value: ascending heights.
struct List<'a> {
    prefix: Vec<u8>,
    rows: DBRawIterator<'a>,
}

impl List<'_> {
    /// Goes on to the first row at or above a height; returns its height. `None` at the end.
    fn reach(&mut self, height: u64) -> Option<u64> {
        for step in 0..=STEPS {
            let at = self.rows.key().and_then(keys::event_height)?;
            if at >= height {
                return Some(at);
            }
            if step < STEPS {
                self.rows.next();
            }
        }
        self.rows.seek([self.prefix.as_slice(), &height.to_be_bytes()].concat());
        self.rows.key().and_then(keys::event_height)
    }
}
