//! A plain model of the state, and random blocks over it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::Rng;
use tenure_store::{Change, MemoryBackend, Store, StoreOptions, View};

pub(crate) const STORES: [&str; 3] = ["auth", "bank", "market"];

/// What the store should hold.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Model(pub(crate) BTreeMap<(&'static str, Vec<u8>), Vec<u8>>);

impl Model {
    /// A change of one key, applied to the model.
    pub(crate) fn set(&mut self, store: &'static str, key: &[u8], new: Option<Vec<u8>>) -> Change {
        let at = (store, key.to_vec());
        let old = match &new {
            Some(value) => self.0.insert(at, value.clone()),
            None => self.0.remove(&at),
        };
        Change {
            store,
            key: key.to_vec(),
            old,
            new,
        }
    }

    /// A block of up to `most` changes over `space` keys a store: inserts, updates, deletes, and changes without effect; unsorted.
    pub(crate) fn random_block(&mut self, rng: &mut StdRng, most: usize, space: u32, delete: f64) -> Vec<Change> {
        let mut changes: BTreeMap<(&'static str, Vec<u8>), Change> = BTreeMap::new();
        for _ in 0..rng.gen_range(0..=most) {
            let store = STORES[rng.gen_range(0..STORES.len())];
            let key = key(rng.gen_range(0..space));
            let new = (!rng.gen_bool(delete)).then(|| {
                let mut value = vec![0; rng.gen_range(1..40)];
                rng.fill(value.as_mut_slice());
                value
            });
            if changes.contains_key(&(store, key.clone())) {
                continue;
            }
            let change = self.set(store, &key, new);
            changes.insert((store, key), change);
        }
        let mut changes: Vec<Change> = changes.into_values().collect();
        let rotation = if changes.is_empty() {
            0
        } else {
            rng.gen_range(0..changes.len())
        };
        changes.rotate_left(rotation);
        changes
    }

    pub(crate) fn get(&self, store: &'static str, key: &[u8]) -> Option<&Vec<u8>> {
        self.0.get(&(store, key.to_vec()))
    }

    /// The entries of one store.
    pub(crate) fn entries(&self, store: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let of_store = self.0.iter().filter(|((name, _), _)| *name == store);
        of_store.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }
}

/// Keys of one to forty bytes, some longer than a leaf holds inline.
pub(crate) fn key(number: u32) -> Vec<u8> {
    let mut key = number.to_be_bytes()[1..].to_vec();
    key.resize(3 + (number % 38) as usize, 0xEE);
    key
}

pub(crate) fn open(backend: &MemoryBackend) -> Store {
    Store::open(Arc::new(backend.clone()), &STORES, StoreOptions::default()).unwrap()
}

/// Everything in a view.
pub(crate) fn contents(view: &View) -> Model {
    let mut model = Model::default();
    for store in STORES {
        for entry in view.range(store, &[], None, false) {
            let (key, value) = entry.unwrap();
            model.set(store, &key, Some(value));
        }
    }
    model
}

/// More cases when asked for.
pub(crate) fn cases(normal: usize) -> usize {
    if std::env::var_os("TENURE_TEST_LONG").is_some_and(|value| value == "1") {
        normal * 20
    } else {
        normal
    }
}
