//! The backend behaves like the one in memory, and its errors say what to do.

use std::sync::Arc;

use proptest::prelude::*;
use tenure_store::snapshot::{Export, Restore};
use tenure_store::{Backend, Batch, MemoryBackend, Store, StoreError, StoreOptions};
use tenure_store_rocks::RocksBackend;

use crate::chain::{commit_next, contents, open, Reference, State, SIZES, STORES};

fn small_key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![0u8..3, Just(0xFF)], 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn answers_like_the_memory_backend(
        batches in proptest::collection::vec(
            proptest::collection::vec((small_key(), proptest::option::of(0u8..9)), 0..12), 1..12,
        ),
        queries in proptest::collection::vec((small_key(), proptest::option::of(small_key()), any::<bool>()), 1..12),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (rocks, memory) = (RocksBackend::open_with(directory.path(), SIZES).unwrap(), MemoryBackend::new());
        let mut views = Vec::new();
        for operations in batches {
            let mut batch = Batch::new();
            for (key, value) in operations {
                match value {
                    Some(value) => batch.put(key, vec![value]),
                    None => batch.delete(key),
                }
            }
            rocks.write(batch.clone()).unwrap();
            memory.write(batch).unwrap();
            views.push((rocks.view().unwrap(), memory.view().unwrap()));
        }
        // Every view, old ones too, and after the backend is gone.
        drop(rocks);
        for (rocks, memory) in &views {
            for (from, to, reverse) in &queries {
                prop_assert_eq!(rocks.get(from).unwrap(), memory.get(from).unwrap());
                let list = |view: &Arc<dyn tenure_store::BackendView>| {
                    view.range(from, to.as_deref(), *reverse).collect::<Result<Vec<_>, _>>().unwrap()
                };
                prop_assert_eq!(list(rocks), list(memory));
            }
        }
    }
}

#[test]
fn a_second_opener_is_told_who_is_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let first = RocksBackend::open(directory.path()).unwrap();
    assert_eq!(first.path(), directory.path());
    let error = RocksBackend::open(directory.path()).err().unwrap();
    assert!(
        error.to_string().contains("has the database open: stop the other node"),
        "{error}"
    );
    drop(first);
    RocksBackend::open(directory.path()).unwrap();
}

#[test]
fn a_path_that_cannot_be_a_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    assert!(matches!(RocksBackend::open(&file), Err(StoreError::Backend { .. })));
}

#[test]
fn a_database_without_its_current_file_is_not_started_afresh() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    commit_next(&store, &mut State::new()).unwrap();
    drop(store);
    std::fs::remove_file(directory.path().join("CURRENT")).unwrap();
    let error = open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("no CURRENT file") && error.contains("restore a snapshot or a backup"),
        "{error}"
    );
}

#[test]
fn a_view_outlives_commits_and_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let mut reference = Reference::new();
    let store = open(directory.path()).unwrap();
    let mut state = State::new();
    let views: Vec<_> = (0..200).map(|_| commit_next(&store, &mut state).unwrap()).collect();
    drop(store);
    for view in views {
        reference.check(&view);
    }
}

#[test]
fn a_snapshot_goes_from_one_database_to_another() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(from.path()).unwrap();
    let mut state = State::new();
    for _ in 0..100 {
        commit_next(&store, &mut state).unwrap();
    }
    let view = store.latest();
    let mut export = Export::new(view.clone(), 32 << 10).unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = export.next_chunk().unwrap() {
        chunks.push(chunk);
    }
    let backend = RocksBackend::open_with(to.path(), SIZES).unwrap();
    let options = StoreOptions::default();
    let mut restore = Restore::begin(backend, &STORES, options, export.manifest(), view.app_hash()).unwrap();
    for (index, chunk) in chunks.iter().enumerate() {
        restore.apply(index, chunk).unwrap();
    }
    drop(restore.finish().unwrap());
    let backend = RocksBackend::open_with(to.path(), SIZES).unwrap();
    let restored = Store::open(backend, &STORES, options).unwrap();
    assert_eq!(restored.latest().app_hash(), view.app_hash());
    assert_eq!(contents(&restored.latest()), state);
}
