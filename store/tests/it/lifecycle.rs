//! Staging, committing, taking back, and opening again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tenure_store::{Backend, Batch, Change, MemoryBackend, Store, StoreError, StoreOptions, View};

use crate::support::{cases, contents, key, open, Model, STORES};

fn put(store: &'static str, key: &[u8], new: &[u8]) -> Change {
    Change {
        store,
        key: key.to_vec(),
        old: None,
        new: Some(new.to_vec()),
    }
}

fn commit(store: &Store, changes: Vec<Change>, height: u64) -> Arc<View> {
    store.commit(store.stage(changes).unwrap(), height).unwrap()
}

/// Everything the backend holds.
fn dump(backend: &MemoryBackend) -> Vec<(Vec<u8>, Vec<u8>)> {
    backend
        .view()
        .unwrap()
        .range(&[], None, false)
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn an_empty_database_has_height_0_and_the_placeholder_as_app_hash() {
    let backend = MemoryBackend::new();
    let view = open(&backend).latest();
    assert_eq!(
        (view.height(), view.app_hash()),
        (0, *b"SPARSE_MERKLE_PLACEHOLDER_HASH__")
    );
    assert_eq!(view.get("bank", b"k").unwrap(), None);
    assert_eq!(view.range("bank", &[], None, false).count(), 0);
    assert!(dump(&backend).is_empty());
}

#[test]
fn staging_touches_nothing_and_two_candidates_may_be_staged_at_once() {
    let backend = MemoryBackend::new();
    let store = open(&backend);
    commit(&store, vec![put("bank", b"a", b"1")], 1);
    let before = (dump(&backend), store.latest().app_hash());
    let one = store.stage(vec![put("bank", b"b", b"2")]).unwrap();
    let two = store.stage(vec![put("bank", b"b", b"3")]).unwrap();
    assert_ne!(one.app_hash(), two.app_hash());
    assert_eq!((one.len(), one.is_empty()), (1, false));
    let dropped = store
        .stage((0..1000).map(|n| put("auth", &key(n), b"x")).collect())
        .unwrap();
    drop(dropped);
    assert_eq!((dump(&backend), store.latest().app_hash()), before);
    let hash = two.app_hash();
    let view = store.commit(two, 2).unwrap();
    assert_eq!(
        (view.app_hash(), view.get("bank", b"b").unwrap().unwrap()),
        (hash, b"3".to_vec())
    );
    // The other was made on a state that is gone.
    let stale = store.commit(one, 3).unwrap_err();
    assert!(
        matches!(
            stale,
            StoreError::StaleCandidate {
                staged_on: 1,
                latest: 2
            }
        ),
        "{stale}"
    );
    assert_eq!(store.latest().height(), 2);
}

#[test]
fn a_candidate_of_a_state_that_was_taken_back_and_made_again_is_stale() {
    let store = open(&MemoryBackend::new());
    commit(&store, vec![put("bank", b"a", b"1")], 1);
    let staged = store.stage(vec![]).unwrap();
    store.rollback(1).unwrap();
    commit(&store, vec![put("bank", b"a", b"1")], 1);
    assert!(matches!(
        store.commit(staged, 2),
        Err(StoreError::StaleCandidate { .. })
    ));
}

#[test]
fn heights_follow_each_other_from_any_first_one() {
    let store = open(&MemoryBackend::new());
    let refused = |height, expected_height| {
        let staged = store.stage(vec![]).unwrap();
        match store.commit(staged, height) {
            Err(StoreError::WrongHeight { expected, .. }) => assert_eq!(expected, expected_height),
            other => panic!("{other:?}"),
        }
    };
    refused(0, 1);
    commit(&store, vec![], 41);
    for height in [0, 1, 40, 41, 43, u64::MAX] {
        refused(height, 42);
    }
    assert_eq!(commit(&store, vec![], 42).height(), 42);
}

#[test]
fn bad_changes_are_refused_by_name() {
    let store = open(&MemoryBackend::new());
    commit(&store, vec![put("bank", b"a", b"1")], 1);
    let error = |changes: Vec<Change>| store.stage(changes).unwrap_err().to_string();
    assert!(error(vec![put("gov", b"k", b"v")]).contains("unknown store \"gov\"; this node knows auth, bank, market"));
    assert!(error(vec![put("bank", b"", b"v")]).contains("empty key in store \"bank\""));
    let twice = vec![
        put("bank", b"k", b"v"),
        put("auth", b"k", b"v"),
        put("bank", b"k", b"w"),
    ];
    assert!(error(twice).contains("two changes to one key in a block: store \"bank\", key 6B"));
    assert!(error(vec![put("bank", &[1; 5000], b"v")])
        .contains("key of 5000 bytes in store \"bank\" is over the limit of 4096"));
    assert!(error(vec![put("bank", b"k", &vec![1; (8 << 20) + 1])]).contains("value of 8388609 bytes"));
    // The old value is what the undo record will say, so it must be right.
    let with = |key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>| {
        vec![Change {
            store: "bank",
            key: key.to_vec(),
            old: old.map(Into::into),
            new: new.map(Into::into),
        }]
    };
    assert!(error(with(b"a", None, Some(b"2"))).contains("key 61 is not the committed one: there is a committed value"));
    assert!(error(with(b"a", Some(b"0"), Some(b"2"))).contains("the committed value is another"));
    assert!(error(with(b"a", Some(b"0"), None)).contains("the committed value is another"));
    assert!(error(with(b"b", Some(b"0"), None)).contains("there is no committed value"));
    assert!(error(with(b"b", Some(b"0"), Some(b"0"))).contains("there is no committed value"));
    assert!(store.stage(with(b"a", Some(b"1"), None)).is_ok());
}

#[test]
fn changes_without_effect_write_nothing() {
    let store = open(&MemoryBackend::new());
    let view = commit(&store, vec![put("bank", b"a", b"1")], 1);
    let same = Change {
        store: "bank",
        key: b"a".to_vec(),
        old: Some(b"1".to_vec()),
        new: Some(b"1".to_vec()),
    };
    let never = Change {
        store: "bank",
        key: b"b".to_vec(),
        old: None,
        new: None,
    };
    let staged = store.stage(vec![same, never]).unwrap();
    assert_eq!(
        (staged.len(), staged.is_empty(), staged.app_hash()),
        (0, true, view.app_hash())
    );
}

#[test]
fn ranges_are_in_byte_order_and_stay_in_their_store() {
    let store = open(&MemoryBackend::new());
    let keys: [&[u8]; 6] = [&[0], &[0, 0], b"a", b"ab", &[0xFF], &[0xFF, 0xFF]];
    let mut changes: Vec<Change> = keys.iter().map(|key| put("bank", key, key)).collect();
    changes.extend([put("auth", &[0xFF; 9], b"x"), put("market", &[0], b"x")]);
    let view = commit(&store, changes, 1);
    let list = |from: &[u8], to: Option<&[u8]>, reverse| -> Vec<Vec<u8>> {
        view.range("bank", from, to, reverse)
            .map(|entry| entry.unwrap().0)
            .collect()
    };
    assert_eq!(list(&[], None, false), keys);
    let mut reversed = keys;
    reversed.reverse();
    assert_eq!(list(&[], None, true), reversed);
    assert_eq!(list(b"a", Some(&[0xFF]), false), [&b"a"[..], b"ab"]);
    assert_eq!(list(b"a", Some(&[0xFF]), true), [&b"ab"[..], b"a"]);
    assert!(list(b"b", Some(b"b"), false).is_empty() && list(b"c", Some(b"b"), true).is_empty());
    assert!(matches!(
        view.range("gov", &[], None, false).next(),
        Some(Err(StoreError::UnknownStore { .. }))
    ));
    assert!(matches!(view.get("gov", b"k"), Err(StoreError::UnknownStore { .. })));
}

#[test]
fn views_of_the_last_heights_are_kept_and_older_ones_let_go() {
    let options = StoreOptions {
        keep_views: 3,
        keep_undo: 100,
    };
    let store = Store::open(Arc::new(MemoryBackend::new()), &STORES, options).unwrap();
    let held = store.latest();
    for height in 1..=10u64 {
        commit(&store, vec![put("bank", &height.to_be_bytes(), b"v")], height);
        assert_eq!(store.latest().height(), height);
    }
    let kept: Vec<u64> = (0..12).filter(|height| store.view_at(*height).is_some()).collect();
    assert_eq!(kept, [8, 9, 10]);
    assert_eq!(store.view_at(8).unwrap().range("bank", &[], None, false).count(), 8);
    assert_eq!(held.range("bank", &[], None, false).count(), 0);
    store.rollback(1).unwrap();
    let kept: Vec<u64> = (0..12).filter(|height| store.view_at(*height).is_some()).collect();
    assert_eq!(kept, [8, 9]);
}

#[test]
fn readers_see_whole_states_while_blocks_are_committed() {
    let store = open(&MemoryBackend::new());
    let blocks = cases(150) as u64;
    let mut rng = StdRng::seed_from_u64(5);
    let (mut model, mut models, mut changes) = (Model::default(), vec![Model::default()], Vec::new());
    for _ in 0..blocks {
        changes.push(model.random_block(&mut rng, 60, 150, 0.3));
        models.push(model.clone());
    }
    let done = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                let (store, models, done) = (&store, &models, &done);
                scope.spawn(move || {
                    let mut rng = StdRng::seed_from_u64(reader);
                    let (mut reads, mut height) = (0, 0);
                    while !done.load(Ordering::Relaxed) || reads == 0 {
                        let view = store.latest();
                        assert!(view.height() >= height, "latest never goes back");
                        height = view.height();
                        let back = height.saturating_sub(rng.gen_range(0..20));
                        // An older one, if it is still there: its values and proofs are those of its own height.
                        let view = store.view_at(back).unwrap_or(view);
                        let model = &models[view.height() as usize];
                        for _ in 0..10 {
                            let (name, key) = (STORES[rng.gen_range(0..3)], key(rng.gen_range(0..150)));
                            assert_eq!(view.get(name, &key).unwrap().as_ref(), model.get(name, &key));
                            if !model.entries(name).is_empty() {
                                let proof = view.prove(name, &key).unwrap();
                                assert_eq!(proof.value.as_ref(), model.get(name, &key));
                                proof.verify(&view.app_hash(), name, &key).unwrap();
                            }
                            reads += 1;
                        }
                    }
                    reads
                })
            })
            .collect();
        for (height, changes) in (1..).zip(changes) {
            commit(&store, changes, height);
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<usize>()
    });
    println!("{reads} reads and proofs on views during {blocks} commits");
    assert_eq!(contents(&store.latest()), model);
}

#[test]
fn rollback_and_reopening_give_back_every_earlier_state() {
    let mut steps = 0;
    for seed in 0..cases(30) as u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let backend = MemoryBackend::new();
        let mut store = open(&backend);
        let first = rng.gen_range(1..100u64);
        // States by height; the first entry is the empty one.
        let mut history = vec![(0, store.latest().app_hash(), Model::default())];
        for _ in 0..60 {
            steps += 1;
            match rng.gen_range(0..10) {
                0..7 => {
                    let mut model = history.last().unwrap().2.clone();
                    let changes = model.random_block(&mut rng, 20, 30, 0.4);
                    let height = if history.len() == 1 {
                        first
                    } else {
                        history.last().unwrap().0 + 1
                    };
                    let view = commit(&store, changes, height);
                    history.push((height, view.app_hash(), model));
                }
                7..9 => {
                    let blocks = rng.gen_range(0..5.min(history.len()));
                    history.truncate(history.len() - blocks);
                    let view = store.rollback(blocks as u64).unwrap();
                    assert_eq!(view.height(), history.last().unwrap().0);
                }
                _ => store = open(&backend),
            }
            let (height, app_hash, model) = history.last().unwrap();
            let latest = store.latest();
            assert_eq!((latest.height(), latest.app_hash()), (*height, *app_hash));
            assert_eq!(contents(&latest), *model);
        }
        let available = history.len() as u64 - 1;
        let too_far = store.rollback(available + 1).unwrap_err();
        assert!(
            matches!(too_far, StoreError::RollbackTooFar { available: has, .. } if has == available),
            "{too_far}"
        );
        store.rollback(available).unwrap();
        assert_eq!(contents(&store.latest()), Model::default());
    }
    println!("{steps} random commits, rollbacks and reopenings agree with the model");
}

#[test]
fn undo_records_are_pruned_to_the_limit_even_when_it_is_lowered() {
    let backend = MemoryBackend::new();
    let records = |backend: &MemoryBackend| dump(backend).iter().filter(|(key, _)| key.starts_with(b"u/")).count();
    let with = |keep_undo| {
        Store::open(
            Arc::new(backend.clone()),
            &STORES,
            StoreOptions {
                keep_views: 1,
                keep_undo,
            },
        )
        .unwrap()
    };
    let store = with(8);
    for height in 1..=20u64 {
        commit(&store, vec![put("bank", &height.to_be_bytes(), b"v")], height);
        assert_eq!(records(&backend), height.min(8) as usize);
    }
    assert!(matches!(
        store.rollback(9),
        Err(StoreError::RollbackTooFar { asked: 9, available: 8 })
    ));
    commit(&with(3), vec![], 21);
    assert_eq!(records(&backend), 3);
    commit(&with(0), vec![], 22);
    assert_eq!(records(&backend), 0);
    // One block without a record cuts the chain of them.
    let store = with(5);
    commit(&store, vec![put("bank", b"last", b"v")], 23);
    assert!(matches!(
        store.rollback(2),
        Err(StoreError::RollbackTooFar { asked: 2, available: 1 })
    ));
    assert_eq!(store.rollback(1).unwrap().height(), 22);
}

#[test]
fn a_damaged_database_is_refused_with_its_reason() {
    let open_after = |key: &[u8], value: Option<&[u8]>| {
        let backend = MemoryBackend::new();
        commit(
            &open(&backend),
            vec![put("bank", b"a", b"1"), put("auth", b"b", b"2")],
            7,
        );
        let mut batch = Batch::new();
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
        backend.write(batch).unwrap();
        let stores: &[&str] = if key == b"drop a store" { &["bank"] } else { &STORES };
        Store::open(Arc::new(backend), stores, StoreOptions::default()).unwrap_err()
    };
    for (key, value) in [
        (&b"v/bank/a"[..], Some(&b"9"[..])),
        (b"v/bank/a", None),
        (b"v/market/new", Some(b"1")),
    ] {
        let error = open_after(key, value);
        let StoreError::RootMismatch {
            height: 7,
            expected,
            found,
        } = &error
        else {
            panic!("{error}")
        };
        assert!(expected != found && error.to_string().contains(&expected.to_string()));
        assert!(error.to_string().contains(&found.to_string()));
    }
    let layout = open_after(b"m/layout", Some(&[0, 0, 0, 9])).to_string();
    assert!(
        layout.contains("layout version 9, this build reads version 2"),
        "{layout}"
    );
    type Damage = (&'static [u8], Option<&'static [u8]>, &'static str);
    let malformed: [Damage; 8] = [
        (b"m/layout", None, "there is no layout version"),
        (b"m/layout", Some(&[1]), "not four bytes"),
        (b"m/head", Some(&[1]), "head record is damaged"),
        (b"m/other", Some(&[1]), "not part of the layout"),
        (b"v/gov/k", Some(b"1"), "store \"gov\", which this build does not know"),
        (b"zzz", Some(b"1"), "not part of the layout"),
        (b"v/bank/", Some(b"1"), "empty key"),
        (b"u/\0\0\0\0\0\0\0\x08", Some(b"1"), "above the last committed block"),
    ];
    for (key, value, reason) in malformed {
        let error = open_after(key, value);
        assert!(
            matches!(error, StoreError::Malformed { .. }) && error.to_string().contains(reason),
            "{error}"
        );
    }
    // A lost head makes the values those of no block.
    assert!(matches!(
        open_after(b"m/head", None),
        StoreError::Malformed { .. } | StoreError::RootMismatch { height: 0, .. }
    ));
    let backend = MemoryBackend::new();
    commit(&open(&backend), vec![put("auth", b"b", b"2")], 1);
    let error = Store::open(Arc::new(backend), &["bank"], StoreOptions::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("store \"auth\", which this build does not know"),
        "{error}"
    );
}

#[test]
fn a_new_empty_store_does_not_change_the_app_hash() {
    let backend = MemoryBackend::new();
    let one = Store::open(Arc::new(backend.clone()), &["bank"], StoreOptions::default()).unwrap();
    let hash = commit(&one, vec![put("bank", b"a", b"1")], 1).app_hash();
    assert_eq!(open(&backend).latest().app_hash(), hash);
}

#[test]
fn a_damaged_undo_record_takes_nothing_back() {
    for damage in 0..3 {
        let backend = MemoryBackend::new();
        let store = open(&backend);
        commit(&store, vec![put("bank", b"a", b"1")], 1);
        let change = Change {
            store: "bank",
            key: b"a".to_vec(),
            old: Some(b"1".to_vec()),
            new: Some(b"2".to_vec()),
        };
        commit(&store, vec![change], 2);
        let at = b"u/\0\0\0\0\0\0\0\x02";
        let mut record = backend.view().unwrap().get(at).unwrap().unwrap();
        match damage {
            0 => *record.last_mut().unwrap() ^= 1,
            1 => record.truncate(72),
            _ => record.truncate(80),
        }
        let mut batch = Batch::new();
        batch.put(&at[..], record);
        backend.write(batch).unwrap();
        let store = open(&backend);
        let before = dump(&backend);
        let error = store.rollback(1).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::RootMismatch { height: 1, .. } | StoreError::Malformed { .. }
            ),
            "{error}"
        );
        assert_eq!((dump(&backend), store.latest().height()), (before, 2));
    }
}
