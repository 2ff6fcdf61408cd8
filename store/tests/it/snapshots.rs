//! Snapshots: round trips, and everything a hostile or broken peer may send.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::SeedableRng;
use tenure_store::snapshot::{Export, Manifest, Restore};
use tenure_store::{Backend, Batch, Change, MemoryBackend, Store, StoreError, StoreOptions, View};

use crate::support::{contents, open, Model, STORES};

fn some_state() -> (Store, Model) {
    let store = open(&MemoryBackend::new());
    let (mut rng, mut model) = (StdRng::seed_from_u64(3), Model::default());
    for height in 10..20 {
        let staged = store.stage(model.random_block(&mut rng, 200, 300, 0.2)).unwrap();
        store.commit(staged, height).unwrap();
    }
    (store, model)
}

fn export(view: &Arc<View>, limit: usize) -> (Manifest, Vec<Vec<u8>>) {
    let mut export = Export::new(view.clone(), limit).unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = export.next_chunk().unwrap() {
        assert!(!chunk.is_empty() && chunk.len() <= limit);
        chunks.push(chunk);
    }
    (export.manifest(), chunks)
}

fn begin(backend: &MemoryBackend, manifest: &Manifest, app_hash: [u8; 32]) -> Result<Restore, StoreError> {
    Restore::begin(
        Arc::new(backend.clone()),
        &STORES,
        StoreOptions::default(),
        manifest.clone(),
        app_hash,
    )
}

fn open_result(backend: &MemoryBackend) -> Result<Store, StoreError> {
    Store::open(Arc::new(backend.clone()), &STORES, StoreOptions::default())
}

#[test]
fn a_snapshot_restores_the_same_state_and_the_chain_goes_on() {
    let (source, mut model) = some_state();
    let view = source.latest();
    for limit in [100, 300, 5000, 1 << 20] {
        let (manifest, chunks) = export(&view, limit);
        assert_eq!(
            export(&view, limit),
            (manifest.clone(), chunks.clone()),
            "the bytes depend on the state alone"
        );
        assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
        let backend = MemoryBackend::new();
        let mut restore = begin(&backend, &manifest, view.app_hash()).unwrap();
        for (index, chunk) in chunks.iter().enumerate() {
            assert_eq!(restore.next_index(), index);
            restore.apply(index, chunk).unwrap();
            assert!(matches!(open_result(&backend), Err(StoreError::RestoreUnfinished)));
        }
        let restored = restore.finish().unwrap();
        assert_eq!(
            (restored.latest().height(), restored.latest().app_hash()),
            (19, view.app_hash())
        );
        assert_eq!(contents(&restored.latest()), model);
        // No undo records come with it.
        assert!(matches!(
            restored.rollback(1),
            Err(StoreError::RollbackTooFar { available: 0, .. })
        ));
        let changes = model.clone().random_block(&mut StdRng::seed_from_u64(9), 50, 300, 0.2);
        let staged = restored.stage(changes.clone()).unwrap();
        assert_eq!(staged.app_hash(), source.stage(changes).unwrap().app_hash());
        restored.commit(staged, 20).unwrap();
        assert_eq!(open(&backend).latest().height(), 20);
    }
    let change = model.set("bank", b"big", Some(vec![1; 100]));
    let staged = source.stage(vec![change]).unwrap();
    let view = source.commit(staged, 20).unwrap();
    let mut export = Export::new(view, 100).unwrap();
    let error = loop {
        match export.next_chunk() {
            Ok(chunk) => assert!(chunk.is_some()),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        error.contains("store \"bank\", key 626967: the record needs 116 bytes, over the chunk limit of 100"),
        "{error}"
    );
}

#[test]
fn an_empty_state_has_a_snapshot_too() {
    let store = open(&MemoryBackend::new());
    assert!(Export::new(store.latest(), 100).is_err());
    let staged = store.stage(vec![]).unwrap();
    let view = store.commit(staged, 5).unwrap();
    let (manifest, chunks) = export(&view, 100);
    assert!(chunks.is_empty());
    let restored = begin(&MemoryBackend::new(), &manifest, view.app_hash())
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(restored.latest().height(), 5);
}

#[test]
fn a_bad_chunk_is_refused_with_its_index_and_can_be_fetched_again() {
    let view = some_state().0.latest();
    let (manifest, chunks) = export(&view, 2000);
    assert!(chunks.len() > 3);
    let backend = MemoryBackend::new();
    let mut restore = begin(&backend, &manifest, view.app_hash()).unwrap();
    restore.apply(0, &chunks[0]).unwrap();
    let mut damaged = chunks[1].clone();
    damaged[100] ^= 1;
    for (index, chunk) in [
        (1, &damaged),
        (1, &chunks[2]),
        (1, &chunks[1][1..].to_vec()),
        (2, &chunks[2]),
        (0, &chunks[0]),
        (99, &chunks[1]),
    ] {
        match restore.apply(index, chunk) {
            Err(StoreError::Chunk { index: named, .. }) => assert_eq!(named, index),
            other => panic!("{other:?}"),
        }
    }
    restore.apply(1, &chunks[1]).unwrap();
    // A missing chunk is named, and nothing is visible.
    assert!(matches!(restore.finish(), Err(StoreError::Chunk { index: 2, .. })));
    assert!(matches!(open_result(&backend), Err(StoreError::RestoreUnfinished)));
    // An interrupted restore starts afresh, even with another snapshot; nothing of the first remains.
    let other = open(&MemoryBackend::new());
    let staged = other
        .stage(vec![Model::default().set("bank", b"one key", Some(b"v".to_vec()))])
        .unwrap();
    let other = other.commit(staged, 7).unwrap();
    let (small, one) = export(&other, 2000);
    let second = MemoryBackend::new();
    begin(&second, &manifest, view.app_hash())
        .unwrap()
        .apply(0, &chunks[0])
        .unwrap();
    let mut restore = begin(&second, &small, other.app_hash()).unwrap();
    restore.apply(0, &one[0]).unwrap();
    assert_eq!(contents(&restore.finish().unwrap().latest()), contents(&other));
    let mut restore = begin(&backend, &manifest, view.app_hash()).unwrap();
    for (index, chunk) in chunks.iter().enumerate() {
        restore.apply(index, chunk).unwrap();
    }
    assert_eq!(contents(&restore.finish().unwrap().latest()), contents(&view));
}

#[test]
fn well_formed_chunks_of_another_state_are_refused_at_the_end() {
    let (store, mut model) = some_state();
    let view = store.latest();
    let (_, honest) = export(&view, 2000);
    let hash = |chunk: &Vec<u8>| <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(chunk));
    let restore_all = |chunks: &[Vec<u8>]| {
        let manifest = Manifest {
            format: 1,
            height: 19,
            app_hash: view.app_hash(),
            chunks: chunks.iter().map(hash).collect(),
        };
        let backend = MemoryBackend::new();
        let mut restore = begin(&backend, &manifest, view.app_hash()).unwrap();
        for (index, chunk) in chunks.iter().enumerate() {
            if let Err(error) = restore.apply(index, chunk) {
                return (error, backend);
            }
        }
        (restore.finish().unwrap_err(), backend)
    };
    // A liar's state, consistent in itself.
    let change = model.set("bank", b"rich", Some(b"1000000000uten".to_vec()));
    let staged = store.stage(vec![change]).unwrap();
    let (_, lie) = export(&store.commit(staged, 20).unwrap(), 2000);
    let (error, backend) = restore_all(&lie);
    assert!(matches!(error, StoreError::RestoredRoot { height: 19, .. }), "{error}");
    assert_eq!(
        open_result(&backend).unwrap().latest().height(),
        0,
        "the backend is empty again"
    );
    // One chunk left out; chunks out of order, twice, cut inside a record, of an unknown store.
    assert!(matches!(restore_all(&honest[1..]).0, StoreError::RestoredRoot { .. }));
    let swapped = [&honest[1..2], &honest[..1]].concat();
    let twice = [&honest[..1], &honest[..1]].concat();
    let cut = vec![honest[0].clone(), honest[1][..honest[1].len() - 1].to_vec()];
    let unknown = vec![honest[0].clone(), b"\x03gov\0\0\0\x01k\0\0\0\x01v".to_vec()];
    for (chunks, reason) in [
        (swapped, "not in order"),
        (twice, "not in order"),
        (cut, "cut short"),
        (unknown, "unknown store \"gov\""),
    ] {
        let (error, _) = restore_all(&chunks);
        assert!(
            matches!(error, StoreError::Chunk { index: 1, .. }) && error.to_string().contains(reason),
            "{error}"
        );
    }
}

#[test]
fn manifests_are_read_strictly() {
    let view = some_state().0.latest();
    let (manifest, _) = export(&view, 2000);
    let bytes = manifest.encode();
    for cut in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(Manifest::decode(&[bytes.clone(), vec![0]].concat()).is_err());
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut changed = manifest.clone();
        change(&mut changed);
        let error = begin(&MemoryBackend::new(), &changed, view.app_hash()).err().unwrap();
        assert!(matches!(error, StoreError::Manifest { .. }));
        error.to_string()
    };
    assert!(with(&|manifest| manifest.format = 2).contains("format 2, this build reads 1"));
    assert!(with(&|manifest| manifest.height = 0).contains("height 0"));
    assert!(with(&|manifest| manifest.chunks = vec![[0; 32]; 100_001]).contains("limit is 100000"));
    assert!(with(&|manifest| manifest.app_hash[0] ^= 1).contains("the trusted one is"));
}

#[test]
fn a_restore_never_touches_a_database_in_use() {
    let backend = MemoryBackend::new();
    let store = open(&backend);
    let change = Change {
        store: "bank",
        key: b"k".to_vec(),
        old: None,
        new: Some(b"v".to_vec()),
    };
    let staged = store.stage(vec![change]).unwrap();
    let view = store.commit(staged, 1).unwrap();
    let (manifest, _) = export(&view, 100);
    assert!(matches!(
        begin(&backend, &manifest, view.app_hash()),
        Err(StoreError::NotEmpty)
    ));
    let foreign = MemoryBackend::new();
    let mut batch = Batch::new();
    batch.put(&b"other"[..], &b"x"[..]);
    foreign.write(batch).unwrap();
    assert!(matches!(
        begin(&foreign, &manifest, view.app_hash()),
        Err(StoreError::NotEmpty)
    ));
    assert_eq!(
        contents(&open(&backend).latest()).get("bank", b"k"),
        Some(&b"v".to_vec())
    );
}
