//! Builds the tries from the flat values: at start, and when a snapshot has been restored.

use parking_lot::Mutex;
use rayon::prelude::*;

use crate::backend::{BackendView, Entry};
use crate::trie::{KeyedLeaf, Trie};
use crate::view::Tries;
use crate::{keys, StoreError};

/// Entries hashed by one task: large enough to hide the hand-over, small enough to keep both cores busy.
const TASK_ENTRIES: usize = 4096;

/// The tries over everything in `data`, using all threads of the rayon pool. A million keys take about half a second on two cores.
pub(crate) fn tries(data: &dyn BackendView, names: &[&'static str]) -> Result<Tries, StoreError> {
    let stores: Vec<Result<Trie, StoreError>> = names.par_iter().map(|name| store_trie(data, name)).collect();
    Ok(Tries::new(names, stores.into_iter().collect::<Result<_, _>>()?))
}

fn store_trie(data: &dyn BackendView, name: &str) -> Result<Trie, StoreError> {
    let prefix = keys::store_prefix(name);
    let end = keys::prefix_end(&prefix);
    let hashed: Mutex<Vec<Vec<KeyedLeaf>>> = Mutex::default();
    let hash = |entries: Vec<Entry>| {
        let leaves = KeyedLeaf::all(
            entries
                .iter()
                .map(|(key, value)| (&key[prefix.len()..], value.as_slice())),
        );
        hashed.lock().push(leaves);
    };
    // This thread reads in order, the others hash behind it.
    rayon::in_place_scope(|scope| {
        let mut entries = Vec::with_capacity(TASK_ENTRIES);
        for entry in data.range(&prefix, end.as_deref(), false) {
            let entry = entry?;
            if entry.0.len() == prefix.len() {
                return Err(StoreError::Malformed {
                    detail: format!("store \"{name}\" has an entry with an empty key"),
                });
            }
            entries.push(entry);
            if entries.len() == TASK_ENTRIES {
                let full = std::mem::replace(&mut entries, Vec::with_capacity(TASK_ENTRIES));
                scope.spawn(move |_| hash(full));
            }
        }
        hash(entries);
        Ok(())
    })?;
    Ok(Trie::build(hashed.into_inner().into_iter().flatten().collect()))
}
