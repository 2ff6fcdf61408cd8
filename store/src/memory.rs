//! The backend in memory: for tests, light tools and chains that need not survive their process.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use parking_lot::RwLock;

use crate::backend::{Backend, BackendView, Batch, Entries, Op};
use crate::StoreError;

// Shared slices: a path copy in the map then copies pointers, not data.
type Map = OrdMap<Arc<[u8]>, Arc<[u8]>>;

/// An ordered map in memory. A clone shares the same data, so a test can drop a store and "restart" another on the clone.
#[derive(Clone, Default)]
pub struct MemoryBackend {
    map: Arc<RwLock<Map>>,
}

impl MemoryBackend {
    /// An empty backend.
    pub fn new() -> Self {
        MemoryBackend::default()
    }
}

impl Backend for MemoryBackend {
    fn view(&self) -> Result<Arc<dyn BackendView>, StoreError> {
        Ok(Arc::new(MemoryView {
            map: self.map.read().clone(),
        }))
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut map = self.map.write();
        for op in batch.ops() {
            match op {
                Op::Put(key, value) => {
                    map.insert(key.into(), value.into());
                }
                Op::Delete(key) => {
                    map.remove(key);
                }
            }
        }
        Ok(())
    }
}

struct MemoryView {
    map: Map,
}

impl BackendView for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.map.get(key).map(|value| value.to_vec()))
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Entries<'a> {
        if to.is_some_and(|to| to <= from) {
            return Box::new(std::iter::empty());
        }
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let range = self.map.range::<_, [u8]>(bounds);
        let owned = |(key, value): (&Arc<[u8]>, &Arc<[u8]>)| Ok((key.to_vec(), value.to_vec()));
        if reverse {
            Box::new(range.rev().map(owned))
        } else {
            Box::new(range.map(owned))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn small_key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..4, 0..4)
    }

    proptest! {
        #[test]
        fn behaves_like_an_ordered_map(
            ops in proptest::collection::vec((small_key(), proptest::option::of(0u8..9)), 0..200),
            queries in proptest::collection::vec((small_key(), proptest::option::of(small_key()), any::<bool>()), 1..20),
        ) {
            let backend = MemoryBackend::new();
            let empty = backend.view().unwrap();
            let mut model = BTreeMap::new();
            for chunk in ops.chunks(7) {
                let mut batch = Batch::new();
                for (key, value) in chunk {
                    match value {
                        Some(value) => { batch.put(key, [*value]); model.insert(key.clone(), vec![*value]); }
                        None => { batch.delete(key); model.remove(key); }
                    }
                }
                backend.write(batch).unwrap();
            }
            let view = backend.view().unwrap();
            for (from, to, reverse) in queries {
                prop_assert_eq!(view.get(&from).unwrap(), model.get(&from).cloned());
                let mut expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| **key >= from && to.as_ref().is_none_or(|to| *key < to))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                if reverse { expected.reverse(); }
                let found: Result<Vec<_>, _> = view.range(&from, to.as_deref(), reverse).collect();
                prop_assert_eq!(found.unwrap(), expected);
            }
            prop_assert_eq!(empty.range(&[], None, false).count(), 0);
        }
    }
}
