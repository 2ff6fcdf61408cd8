//! State during execution: sorted overlays (block > transaction > message) over an immutable committed base.
//!
//! The authenticated records and everything derived from them live in the same overlays, so that a failed message takes both back. What was
//! read from the base is remembered: a commit then knows every old value without reading (see `tenure_store::Change`).

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

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

/// Something for each record, by store and key. Two levels, so that a search compares keys of one store and borrows the key it looks for.
type ByRecord<T> = BTreeMap<&'static str, BTreeMap<Vec<u8>, T>>;

/// What a transaction or a message changed.
#[derive(Clone, Default)]
struct Layer {
    records: ByRecord<Option<Vec<u8>>>,
    derived: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// A record that was read from the base, and what the block made of it.
#[derive(Clone)]
struct Cached {
    committed: Option<Vec<u8>>,
    /// `None` while the block has not written it.
    written: Option<Option<Vec<u8>>>,
}

/// What a block changed, ready for `tenure_store::Store::stage`.
pub struct Writes {
    /// Changed records in order of store and key, with their old values; unchanged ones are left out.
    pub changes: Vec<tenure_store::Change>,
    /// The derived entries after the block.
    pub derived: DerivedMap,
}

/// Execution state. Reads see all layers; writes go to the topmost.
#[derive(Clone)]
pub struct State {
    committed: Committed,
    table: Arc<DeriveTable>,
    /// The block's layer: its records with what was read from the base, in one map so that a read searches once.
    records: ByRecord<Cached>,
    /// The block's derived entries.
    derived: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The layers above the block's.
    layers: Vec<Layer>,
}

impl State {
    /// A state over a committed one, with one layer (the block's).
    pub fn new(committed: Committed, table: Arc<DeriveTable>) -> Self {
        Self {
            committed,
            table,
            records: ByRecord::new(),
            derived: BTreeMap::new(),
            layers: Vec::new(),
        }
    }

    /// The derive functions in use.
    pub fn table_handle(&self) -> Arc<DeriveTable> {
        self.table.clone()
    }

    /// Opens a layer: writes from here on can be taken back.
    pub fn checkpoint(&mut self) {
        self.layers.push(Layer::default());
    }

    /// Keeps the topmost layer's writes.
    pub fn keep(&mut self) -> Result<()> {
        let above = self.layers.pop();
        let above = above.ok_or_else(|| Error::internal("state: keep without a checkpoint"))?;
        match self.layers.last_mut() {
            Some(below) => {
                for (store, records) in above.records {
                    below.records.entry(store).or_default().extend(records);
                }
                below.derived.extend(above.derived);
            }
            None => {
                for (store, records) in above.records {
                    for (key, value) in records {
                        self.write(store, &key, value)?;
                    }
                }
                self.derived.extend(above.derived);
            }
        }
        Ok(())
    }

    /// Takes the topmost layer's writes back.
    pub fn revert(&mut self) -> Result<()> {
        match self.layers.pop() {
            Some(_) => Ok(()),
            None => Err(Error::internal("state: revert without a checkpoint")),
        }
    }

    /// The record at a key of a module's store.
    pub fn get(&mut self, store: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        for layer in self.layers.iter().rev() {
            if let Some(value) = layer.records.get(store).and_then(|records| records.get(key)) {
                return Ok(value.clone());
            }
        }
        let records = self.records.entry(store).or_default();
        if let Some(cached) = records.get(key) {
            return Ok(cached.written.as_ref().unwrap_or(&cached.committed).clone());
        }
        let committed = self.committed.base.get(store, key)?;
        let cached = Cached {
            committed: committed.clone(),
            written: None,
        };
        records.insert(key.to_vec(), cached);
        Ok(committed)
    }

    /// Writes a record of the block's layer. It has been read before, so its committed value is known.
    fn write(&mut self, store: &'static str, key: &[u8], value: Option<Vec<u8>>) -> Result<()> {
        match self.records.get_mut(store).and_then(|records| records.get_mut(key)) {
            Some(cached) => {
                cached.written = Some(value);
                Ok(())
            }
            None => {
                let key = hex::encode(key);
                Err(Error::internal(format!(
                    "state: {store}/{key} is written before it is read"
                )))
            }
        }
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
        let old = self.get(store, key)?;
        if old == value {
            return Ok(());
        }
        let derive = self.table.of(store)?;
        let (mut before, mut after) = (Derived::default(), Derived::default());
        if let Some(old) = &old {
            derive(key, old, &mut before)?;
        }
        if let Some(new) = &value {
            derive(key, new, &mut after)?;
        }
        let derived = match self.layers.last_mut() {
            Some(top) => &mut top.derived,
            None => &mut self.derived,
        };
        for entry in before.into_entries() {
            derived.insert(entry.0, None);
        }
        for entry in after.into_entries() {
            derived.insert(entry.0, Some(entry.1));
        }
        match self.layers.last_mut() {
            Some(top) => {
                top.records.entry(store).or_default().insert(key.to_vec(), value);
                Ok(())
            }
            None => self.write(store, key, value),
        }
    }

    /// Records of a module's store with `from <= key < to`, at most `limit`, in byte order or in reverse.
    pub fn range(
        &self,
        store: &'static str,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut overlay: BTreeMap<&[u8], Option<&Vec<u8>>> = BTreeMap::new();
        if to.is_none_or(|to| from < to) {
            let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
            if let Some(records) = self.records.get(store) {
                for (key, cached) in records.range::<[u8], _>(bounds) {
                    overlay.extend(cached.written.as_ref().map(|value| (key.as_slice(), value.as_ref())));
                }
            }
            for records in self.layers.iter().filter_map(|layer| layer.records.get(store)) {
                let written = records.range::<[u8], _>(bounds);
                overlay.extend(written.map(|(key, value)| (key.as_slice(), value.as_ref())));
            }
        }
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
        let upper = to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.to_vec()));
        if to.is_some_and(|to| to <= from) {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included(from.to_vec()), upper);
        let mut overlay: BTreeMap<&[u8], Option<&Vec<u8>>> = BTreeMap::new();
        let layers = self.layers.iter().map(|layer| &layer.derived);
        for derived in std::iter::once(&self.derived).chain(layers) {
            for (key, value) in derived.range(bounds.clone()) {
                overlay.insert(key, value.as_ref());
            }
        }
        let owned = |(k, v): (&Vec<u8>, &Vec<u8>)| Ok((k.clone(), v.clone()));
        let range = self.committed.derived.range(bounds);
        let base: Box<dyn Iterator<Item = _>> = if reverse {
            Box::new(range.rev().map(owned))
        } else {
            Box::new(range.map(owned))
        };
        merge(base, overlay, reverse, limit)
    }

    /// What all layers together changed. Error: a layer above the block's is still open.
    pub fn into_writes(self) -> Result<Writes> {
        if !self.layers.is_empty() {
            return Err(Error::internal(
                "state: a transaction is still open at the end of the block",
            ));
        }
        let mut changes = Vec::new();
        for (store, records) in self.records {
            for (key, Cached { committed, written }) in records {
                if let Some(new) = written.filter(|new| *new != committed) {
                    changes.push(tenure_store::Change {
                        store,
                        key,
                        old: committed,
                        new,
                    });
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

/// Lays overlay entries (deletions are `None`) over a sorted base and takes the first `limit`.
fn merge<'a>(
    base: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + 'a,
    overlay: BTreeMap<&'a [u8], Option<&'a Vec<u8>>>,
    reverse: bool,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut base = base.peekable();
    let mut over: Box<dyn Iterator<Item = _>> = if reverse {
        Box::new(overlay.into_iter().rev())
    } else {
        Box::new(overlay.into_iter())
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
            out.extend(value.map(|v| (key.to_vec(), v.clone())));
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
    fn a_reverted_layer_leaves_neither_record_nor_derived_entry() -> Result<()> {
        let mut state = state();
        state.set("a", b"k", Some(b"1".to_vec()))?;
        state.checkpoint();
        state.set("a", b"k", Some(b"2".to_vec()))?;
        state.set("a", b"l", Some(b"3".to_vec()))?;
        assert_eq!(state.derived_range(b"", None, false, 9)?.len(), 2);
        state.revert()?;
        assert_eq!(state.get("a", b"k")?, Some(b"1".to_vec()));
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
        fn overlays_over_a_base_read_like_one_map(
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
