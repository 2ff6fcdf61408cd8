//! State during execution: what a block has read and written, over an immutable committed base.
//!
//! Every record that a block meets is in one map, with its committed value and what the block made of it, so that a read searches once and a
//! commit knows every old value without reading (see `tenure_store::Change`). A journal takes writes back: to the beginning of a message, of a
//! transaction. The authenticated records and everything derived from them share it, so that a failed message takes both back.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use indexmap::{Equivalent, IndexMap};
use smallvec::SmallVec;
use tenure_types::{Error, Result};

use crate::derived::{DeriveTable, Derived};

/// Records of a range as they come.
pub type Records<'a> = Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + 'a>;

/// Committed records, as of one height. `tenure_store::View` is one; tests use an empty one.
pub trait Base: Send + Sync {
    /// The record at a key of a module's store.
    fn get(&self, store: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Records of a module's store with `from <= key` and, if given, `key < to`, in byte order or in reverse.
    fn range<'a>(&'a self, store: &'static str, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Records<'a>;
}

impl Base for tenure_store::View {
    fn get(&self, store: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        tenure_store::View::get(self, store, key).map_err(|e| Error::internal(e.to_string()))
    }

    fn range<'a>(&'a self, store: &'static str, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Records<'a> {
        Box::new(
            tenure_store::View::range(self, store, from, to, reverse)
                .map(|entry| entry.map_err(|e| Error::internal(e.to_string()))),
        )
    }
}

/// Derived entries (indexes and timers) of a committed state. Cloning costs nothing.
pub type DerivedMap = imbl::OrdMap<Vec<u8>, Vec<u8>>;

/// A committed state: records and what follows from them.
#[derive(Clone)]
pub struct Committed {
    /// Records.
    pub base: Arc<dyn Base>,
    /// What follows from them.
    pub derived: DerivedMap,
}

/// Names a record. Keys are short: most lie in the map's own entry, and comparing them goes nowhere else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) store: &'static str,
    pub(crate) key: SmallVec<[u8; 40]>,
}

impl Key {
    pub(crate) fn new(store: &'static str, key: &[u8]) -> Self {
        let key = SmallVec::from_slice(key);
        Self { store, key }
    }
}

/// Names a record that is looked for. Hashes as [`Key`] does.
#[derive(Hash)]
pub(crate) struct Sought<'a> {
    pub(crate) store: &'static str,
    pub(crate) key: &'a [u8],
}

impl Equivalent<Key> for Sought<'_> {
    fn equivalent(&self, found: &Key) -> bool {
        self.key == found.key.as_slice() && (std::ptr::eq(self.store, found.store) || self.store == found.store)
    }
}

/// A record that was read from the base, and what the block made of it.
#[derive(Clone)]
struct Record {
    committed: Option<Vec<u8>>,
    /// `None` while the block has not written it.
    written: Option<Option<Vec<u8>>>,
}

impl Record {
    fn value(&self) -> Option<&[u8]> {
        self.written.as_ref().unwrap_or(&self.committed).as_deref()
    }
}

/// What a write took the place of.
#[derive(Clone)]
enum Before {
    /// Of a record, by its place in [`State::records`].
    Record(usize, Option<Option<Vec<u8>>>),
    /// Of a derived entry.
    Derived(Vec<u8>, Option<Option<Vec<u8>>>),
}

/// What a block changed, ready for `tenure_store::Store::stage`.
pub struct Writes {
    /// Changed records in order of store and key, with their old values; unchanged ones are left out.
    pub changes: Vec<tenure_store::Change>,
    /// The derived entries after the block.
    pub derived: DerivedMap,
}

/// Places of a store's records that a block has written. Most blocks ask most stores for no range, and need no order before their end.
#[derive(Clone, Default)]
struct Written {
    /// By key: those that the last range went over.
    ordered: BTreeMap<Vec<u8>, usize>,
    /// Those written since.
    unordered: Vec<usize>,
}

/// Execution state.
#[derive(Clone)]
pub struct State {
    committed: Committed,
    table: Arc<DeriveTable>,
    /// Every record that the block has met, in the order in which it met them: no outcome can depend on their hashes.
    records: IndexMap<Key, Record>,
    /// Places in `records` of what the block has written, perhaps to take it back again.
    written: BTreeMap<&'static str, Written>,
    /// The block's derived entries.
    derived: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// What the writes since the first open checkpoint took the place of.
    journal: Vec<Before>,
    /// Lengths of the journal at the open checkpoints.
    checkpoints: Vec<usize>,
}

impl State {
    /// A state over a committed one.
    pub fn new(committed: Committed, table: Arc<DeriveTable>) -> Self {
        Self {
            committed,
            table,
            records: IndexMap::new(),
            written: BTreeMap::new(),
            derived: BTreeMap::new(),
            journal: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    /// The derive functions in use.
    pub fn table_handle(&self) -> Arc<DeriveTable> {
        self.table.clone()
    }

    /// Makes room for so many more records at once: a map that grows is copied again and again.
    pub fn reserve(&mut self, records: usize) {
        self.records.reserve(records);
    }

    /// Begins what [`State::revert`] takes back and [`State::keep`] keeps. Checkpoints nest.
    pub fn checkpoint(&mut self) {
        self.checkpoints.push(self.journal.len());
    }

    /// Keeps the writes since the last open checkpoint, as part of what the checkpoint before it may take back.
    pub fn keep(&mut self) -> Result<()> {
        self.close("keep")?;
        if self.checkpoints.is_empty() {
            self.journal.clear();
        }
        Ok(())
    }

    /// Takes the writes since the last open checkpoint back.
    pub fn revert(&mut self) -> Result<()> {
        let begin = self.close("revert")?;
        for before in self.journal.drain(begin..).rev() {
            match before {
                Before::Record(place, written) => {
                    if let Some((_, record)) = self.records.get_index_mut(place) {
                        record.written = written;
                    }
                }
                Before::Derived(key, Some(entry)) => {
                    self.derived.insert(key, entry);
                }
                Before::Derived(key, None) => {
                    self.derived.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// Closes the last open checkpoint, which began at this length of the journal.
    fn close(&mut self, what: &str) -> Result<usize> {
        let begin = self.checkpoints.pop();
        begin.ok_or_else(|| Error::internal(format!("state: {what} without a checkpoint")))
    }

    /// The record at a key of a module's store.
    pub fn get(&mut self, store: &'static str, key: &[u8]) -> Result<Option<&[u8]>> {
        let (_, record) = self.meet(store, key)?;
        Ok(record.value())
    }

    /// A record with its place, read from the base when the block meets it first.
    fn meet(&mut self, store: &'static str, key: &[u8]) -> Result<(usize, &mut Record)> {
        let place = match self.records.get_index_of(&Sought { store, key }) {
            Some(place) => place,
            None => {
                let committed = self.committed.base.get(store, key)?;
                let written = None;
                let record = Record { committed, written };
                self.records.insert_full(Key::new(store, key), record).0
            }
        };
        let found = self.records.get_index_mut(place);
        let (_, record) = found.ok_or_else(no_place)?;
        Ok((place, record))
    }

    /// Writes or deletes a record, and with it whatever is derived from it.
    pub fn set(&mut self, store: &'static str, key: &[u8], value: Option<Vec<u8>>) -> Result<()> {
        if key.is_empty() {
            return Err(Error::internal(format!("store {store}: a key must not be empty")));
        }
        // ICS23 cannot prove that a key has an empty value. A module whose record may have no bytes stores none.
        if value.as_ref().is_some_and(Vec::is_empty) {
            let key = hex::encode(key);
            return Err(Error::internal(format!(
                "store {store}: the record {key} must not be empty"
            )));
        }
        let derive = self.table.of(store)?;
        let (place, record) = self.meet(store, key)?;
        let old = record.value();
        if old == value.as_deref() {
            return Ok(());
        }
        let (mut before, mut after) = (Derived::default(), Derived::default());
        if let Some(old) = old {
            derive(key, old, &mut before)?;
        }
        if let Some(new) = &value {
            derive(key, new, &mut after)?;
        }
        let written = record.written.replace(value);
        if written.is_none() {
            self.written.entry(store).or_default().unordered.push(place);
        }
        if !self.checkpoints.is_empty() {
            self.journal.push(Before::Record(place, written));
        }
        for (key, _) in before.into_entries() {
            self.set_derived(key, None);
        }
        for (key, value) in after.into_entries() {
            self.set_derived(key, Some(value));
        }
        Ok(())
    }

    fn set_derived(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        if self.checkpoints.is_empty() {
            self.derived.insert(key, value);
        } else {
            let before = self.derived.insert(key.clone(), value);
            self.journal.push(Before::Derived(key, before));
        }
    }

    /// Records of a module's store with `from <= key < to`, at most `limit`, in byte order or in reverse.
    pub fn range(
        &mut self,
        store: &'static str,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if to.is_some_and(|to| to <= from) {
            return Ok(Vec::new());
        }
        if let Some(written) = self.written.get_mut(store) {
            for place in written.unordered.drain(..) {
                let (key, _) = self.records.get_index(place).ok_or_else(no_place)?;
                written.ordered.insert(key.key.to_vec(), place);
            }
        }
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let written = self.written.get(store);
        let places = written.map(|written| written.ordered.range::<[u8], _>(bounds));
        let overlay = places.into_iter().flatten().filter_map(|(key, place)| {
            let (_, record) = self.records.get_index(*place)?;
            Some((key.as_slice(), record.written.as_ref()?.as_deref()))
        });
        let base = self.committed.base.range(store, from, to, reverse);
        merge(base, overlay, reverse, limit)
    }

    /// Derived entries with `from <= key < to`, at most `limit`, in byte order or in reverse.
    pub fn derived_range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if to.is_some_and(|to| to <= from) {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let overlay = self.derived.range::<[u8], _>(bounds);
        let overlay = overlay.map(|(key, value)| (key.as_slice(), value.as_deref()));
        let owned = |(k, v): (&Vec<u8>, &Vec<u8>)| Ok((k.clone(), v.clone()));
        let range = self.committed.derived.range::<_, [u8]>(bounds);
        let base: Box<dyn Iterator<Item = _>> = if reverse {
            Box::new(range.rev().map(owned))
        } else {
            Box::new(range.map(owned))
        };
        merge(base, overlay, reverse, limit)
    }

    /// What the block changed. Error: a checkpoint is still open.
    pub fn into_writes(mut self) -> Result<Writes> {
        if !self.checkpoints.is_empty() {
            return Err(Error::internal(
                "state: a transaction is still open at the end of the block",
            ));
        }
        let mut changes = Vec::new();
        for (store, written) in std::mem::take(&mut self.written) {
            let places = written.ordered.into_values().chain(written.unordered);
            for place in in_order(&self.records, places) {
                let (key, record) = self.records.get_index_mut(place).ok_or_else(no_place)?;
                let old = record.committed.take();
                // A place comes twice if its record was written, taken back and written again: by then nothing is left to take.
                if let Some(new) = record.written.take().filter(|new| *new != old) {
                    let key = key.key.to_vec();
                    changes.push(tenure_store::Change { store, key, old, new });
                }
            }
        }
        let mut derived = self.committed.derived;
        for (key, value) in self.derived {
            match value {
                Some(value) => derived.insert(key, value),
                None => derived.remove(&key),
            };
        }
        Ok(Writes { changes, derived })
    }
}

/// Places of a store's records in order of their keys. The first eight bytes nearly always decide, and are moved in place of the keys.
fn in_order(records: &IndexMap<Key, Record>, places: impl Iterator<Item = usize>) -> Vec<usize> {
    let key = |place: usize| records.get_index(place).map_or(&[][..], |(key, _)| key.key.as_slice());
    let first = |key: &[u8]| {
        let mut first = [0; 8];
        first.iter_mut().zip(key).for_each(|(first, byte)| *first = *byte);
        u64::from_be_bytes(first)
    };
    let mut order: Vec<(u64, usize)> = places.map(|place| (first(key(place)), place)).collect();
    order.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| key(*x).cmp(key(*y))));
    order.into_iter().map(|(_, place)| place).collect()
}

/// Places are given once and never taken back: the program is wrong.
fn no_place() -> Error {
    Error::internal("state: a record has no place")
}

/// Lays overlay entries (deletions are `None`) over a sorted base and takes the first `limit`.
fn merge<'a>(
    base: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + 'a,
    overlay: impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a [u8]>)> + 'a,
    reverse: bool,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut base = base.peekable();
    let mut over: Box<dyn Iterator<Item = _>> = if reverse {
        Box::new(overlay.rev())
    } else {
        Box::new(overlay)
    };
    let mut pending = over.next();
    let mut out = Vec::new();
    while out.len() < limit {
        let order = match (base.peek(), &pending) {
            (None, None) => break,
            (Some(Err(_)), _) | (Some(Ok(_)), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(Ok((b, _))), Some((o, _))) => {
                let order = b.as_slice().cmp(o);
                if reverse {
                    order.reverse()
                } else {
                    order
                }
            }
        };
        if order.is_le() {
            let entry = base.next().transpose()?;
            if order.is_lt() {
                out.extend(entry);
                continue;
            }
        }
        if let Some((key, value)) = pending {
            out.extend(value.map(|v| (key.to_vec(), v.to_vec())));
        }
        pending = over.next();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn index_by_value(key: &[u8], value: &[u8], out: &mut Derived) -> Result<()> {
        out.index("by_value", &[value, b"/", key].concat(), &[]);
        Ok(())
    }

    fn state() -> State {
        testing::state(DeriveTable::new([
            ("a", index_by_value as _),
            ("b", crate::derived::nothing as _),
        ]))
    }

    #[test]
    fn what_is_reverted_leaves_neither_record_nor_derived_entry() -> Result<()> {
        let mut state = state();
        state.set("a", b"k", Some(b"1".to_vec()))?;
        state.checkpoint();
        state.set("a", b"k", Some(b"2".to_vec()))?;
        state.set("a", b"l", Some(b"3".to_vec()))?;
        assert_eq!(state.derived_range(b"", None, false, 9)?.len(), 2);
        state.revert()?;
        assert_eq!(state.get("a", b"k")?, Some(b"1".as_slice()));
        assert_eq!(state.get("a", b"l")?, None);
        let derived = state.derived_range(b"", None, false, 9)?;
        assert_eq!(derived.len(), 1);
        assert!(derived[0].0.ends_with(b"1/k"));
        Ok(())
    }

    #[test]
    fn empty_keys_and_empty_records_are_refused() -> Result<()> {
        let mut state = state();
        assert!(state.set("b", b"", Some(b"1".to_vec())).is_err_and(|e| e.is_internal()));
        assert!(state.set("b", b"k", Some(Vec::new())).is_err_and(|e| e.is_internal()));
        assert_eq!(state.get("b", b"k")?, None);
        state.set("b", b"k", None)
    }

    proptest! {
        #[test]
        fn writes_over_a_base_read_like_one_map(
            ops in proptest::collection::vec((0_u8..12, proptest::option::of(0_u8..4), 0_u8..8), 1..80),
        ) {
            let mut state = state();
            // One model per open layer: the top one is what reads must show.
            let mut models: Vec<BTreeMap<Vec<u8>, Vec<u8>>> = vec![BTreeMap::new()];
            for (key, value, action) in ops {
                match action {
                    0 => { state.checkpoint(); models.push(models[models.len() - 1].clone()); }
                    1 if models.len() > 1 => { state.revert().expect("open"); models.pop(); }
                    2 if models.len() > 1 => {
                        state.keep().expect("open");
                        let top = models.pop().expect("open");
                        *models.last_mut().expect("block") = top;
                    }
                    3 => {
                        // Commit the block layer when it alone is open and go on over it.
                        if models.len() == 1 { state = testing::recommit(state).expect("commits"); }
                    }
                    _ => {
                        let value = value.map(|v| vec![v]);
                        state.set("a", &[key], value.clone()).expect("sets");
                        let model = models.last_mut().expect("block");
                        match value { Some(v) => model.insert(vec![key], v), None => model.remove(&vec![key]) };
                    }
                }
                let model = models.last().expect("block");
                for reverse in [false, true] {
                    for limit in [3, 100] {
                        let got = state.range("a", &[2], Some(&[9]), reverse, limit).expect("ranges");
                        let all = model.range(vec![2]..vec![9]).map(|(k, v)| (k.clone(), v.clone()));
                        let want: Vec<_> = if reverse { all.rev().take(limit).collect() } else { all.take(limit).collect() };
                        prop_assert_eq!(got, want);
                    }
                }
                let derived: Vec<_> = state.derived_range(b"", None, false, 100).expect("ranges");
                let mut want: Vec<Vec<u8>> =
                    model.iter().map(|(k, v)| [b"by_value/".as_slice(), v, b"/", k].concat()).collect();
                want.sort();
                prop_assert_eq!(derived.into_iter().map(|(k, _)| k).collect::<Vec<_>>(), want);
            }
        }
    }
}
