//! ICS23 proofs against the `ics23` crate, and hostile ones against our verifier.

use ics23::commitment_proof::Proof;
use ics23::{CommitmentProof, HostFunctionsManager};
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tenure_store::proof::{ics23_spec, verify, ProofError};
use tenure_store::{MemoryBackend, StateProof, StoreError, View};

use crate::support::{cases, key, open, Model};

/// Checks both levels with the `ics23` crate alone, as an IBC client would.
fn check_with_ics23(view: &View, store: &str, key: &[u8], proof: &StateProof) {
    let spec = ics23_spec();
    let Some(Proof::Exist(outer)) = &proof.outer.proof else {
        panic!("the second level is an existence proof")
    };
    let (root, app_hash) = (outer.value.clone(), view.app_hash().to_vec());
    let name = store.as_bytes();
    assert!(ics23::verify_membership::<HostFunctionsManager>(
        &proof.outer,
        &spec,
        &app_hash,
        name,
        &root
    ));
    let shown = match &proof.value {
        Some(value) => ics23::verify_membership::<HostFunctionsManager>(&proof.inner, &spec, &root, key, value),
        None => ics23::verify_non_membership::<HostFunctionsManager>(&proof.inner, &spec, &root, key),
    };
    assert!(shown, "{store} {key:02x?} {:?}", proof.value);
}

#[test]
fn presence_and_absence_verify_at_both_levels() {
    let (mut present, mut absent) = (0, 0);
    for size in [1usize, 2, 3, 10, 1000, 20_000] {
        for seed in 0..if size < 100 { 20 } else { 1 } {
            let mut rng = StdRng::seed_from_u64(seed);
            let store = open(&MemoryBackend::new());
            let mut model = Model::default();
            let mut changes: Vec<_> = (0..size)
                .map(|_| key(rng.gen_range(0..1 << 24)))
                .collect::<std::collections::BTreeSet<_>>()
                .iter()
                .map(|key| model.set("bank", key, Some(vec![1, 2, 3])))
                .collect();
            changes.push(model.set("auth", b"alone", Some(b"x".to_vec())));
            let staged = store.stage(changes).unwrap();
            let view = store.commit(staged, 1).unwrap();
            let known: Vec<Vec<u8>> = model.entries("bank").into_iter().map(|(key, _)| key).collect();
            for _ in 0..cases(50) {
                for key in [
                    known[rng.gen_range(0..known.len())].clone(),
                    key(rng.gen_range(0..1 << 24)),
                ] {
                    let proof = view.prove("bank", &key).unwrap();
                    assert_eq!(proof.value.as_ref(), model.get("bank", &key));
                    assert_eq!(proof.height, 1);
                    check_with_ics23(&view, "bank", &key, &proof);
                    proof.verify(&view.app_hash(), "bank", &key).unwrap();
                    if proof.value.is_some() {
                        present += 1
                    } else {
                        absent += 1
                    }
                }
            }
        }
    }
    println!("{present} existence and {absent} non-existence proofs verified at both levels");
    assert!(present > 1000 && absent > 1000);
}

fn some_view() -> (std::sync::Arc<View>, Model) {
    let store = open(&MemoryBackend::new());
    let mut model = Model::default();
    let mut changes: Vec<_> = (0..200)
        .map(|n| model.set("bank", &key(n), Some(n.to_be_bytes().to_vec())))
        .collect();
    changes.push(model.set("auth", b"empty value", Some(Vec::new())));
    let staged = store.stage(changes).unwrap();
    (store.commit(staged, 1).unwrap(), model)
}

#[test]
fn a_proof_of_one_statement_shows_no_other() {
    let (view, _) = some_view();
    let app_hash = view.app_hash();
    let present = view.prove("bank", &key(5)).unwrap();
    let absent = view.prove("bank", &key(500)).unwrap();
    present.verify(&app_hash, "bank", &key(5)).unwrap();
    absent.verify(&app_hash, "bank", &key(500)).unwrap();
    let claim = |key: &[u8], value: Option<&[u8]>, proof: &StateProof, store: &str| {
        verify(&app_hash, store, key, value, &proof.inner, &proof.outer)
    };
    let at_store = Err(ProofError::Invalid { level: "store" });
    assert_eq!(claim(&key(5), Some(b"other"), &present, "bank"), at_store);
    assert_eq!(claim(&key(6), present.value.as_deref(), &present, "bank"), at_store);
    assert_eq!(claim(&key(5), None, &present, "bank"), at_store);
    assert_eq!(claim(&key(5), None, &absent, "bank"), at_store);
    assert_eq!(claim(&key(500), Some(b"x"), &absent, "bank"), at_store);
    assert_eq!(
        claim(&key(5), present.value.as_deref(), &present, "auth"),
        Err(ProofError::Invalid { level: "main" })
    );
    let other = verify(
        &[1; 32],
        "bank",
        &key(5),
        present.value.as_deref(),
        &present.inner,
        &present.outer,
    );
    assert_eq!(other, Err(ProofError::Invalid { level: "main" }));
}

#[test]
fn what_ics23_cannot_prove_is_an_error() {
    let (view, _) = some_view();
    let reason = |store: &str, key: &[u8]| match view.prove(store, key) {
        Err(StoreError::Unprovable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason("market", b"k"), "the store is empty");
    assert_eq!(reason("auth", b"empty value"), "its value is empty");
    assert_eq!(
        reason("auth", b"another"),
        "the value of its neighbour in the trie is empty"
    );
    assert!(matches!(view.prove("bank", b""), Err(StoreError::EmptyKey { .. })));
    assert!(matches!(view.prove("gov", b"k"), Err(StoreError::UnknownStore { .. })));
}

#[test]
fn hostile_proofs_are_refused_without_a_panic() {
    let (view, _) = some_view();
    let app_hash = view.app_hash();
    let mut rng = StdRng::seed_from_u64(1);
    let mut decoded = 0;
    for case in 0..cases(4000) {
        let key = key(if case % 2 == 0 { 5 } else { 500 });
        let proof = view.prove("bank", &key).unwrap();
        let damage = |proof: &CommitmentProof, rng: &mut StdRng| {
            let mut bytes = proof.encode_to_vec();
            for _ in 0..rng.gen_range(1..4) {
                let at = rng.gen_range(0..bytes.len());
                bytes[at] = rng.gen();
            }
            CommitmentProof::decode(bytes.as_slice()).ok()
        };
        let (mut inner, mut outer) = (proof.inner.clone(), proof.outer.clone());
        let target = if case % 4 < 2 { &mut inner } else { &mut outer };
        let Some(damaged) = damage(target, &mut rng) else {
            continue;
        };
        *target = damaged;
        decoded += 1;
        let result = verify(&app_hash, "bank", &key, proof.value.as_deref(), &inner, &outer);
        assert_eq!(result.is_ok(), inner == proof.inner && outer == proof.outer);
    }
    println!("{decoded} damaged proofs were refused");
    assert!(decoded > 200);

    // Paths that never part make the ics23 crate pop an empty vector.
    let absent = view.prove("bank", &key(500)).unwrap();
    let Some(Proof::Nonexist(shape)) = absent.inner.proof else {
        panic!("absent")
    };
    let refused = |change: &dyn Fn(&mut ics23::NonExistenceProof)| {
        let mut shape = shape.clone();
        change(&mut shape);
        let inner = CommitmentProof {
            proof: Some(Proof::Nonexist(shape)),
        };
        verify(&app_hash, "bank", &key(500), None, &inner, &absent.outer).unwrap_err()
    };
    refused(&|shape| shape.left = shape.right.clone());
    refused(&|shape| (shape.left, shape.right) = (None, None));
    refused(&|shape| shape.left = None);
    refused(&|shape| shape.right = None);
    refused(&|shape| std::mem::swap(&mut shape.left, &mut shape.right));
    refused(&|shape| shape.left.as_mut().unwrap().path.clear());
    refused(&|shape| {
        shape.left.as_mut().unwrap().path.clear();
        shape.right.as_mut().unwrap().path.clear();
    });
    let long = refused(&|shape| {
        let left = shape.left.as_mut().unwrap();
        left.path = vec![left.path[0].clone(); 257];
    });
    assert!(long.to_string().contains("256"));
    refused(&|shape| shape.left.as_mut().unwrap().leaf = None);
    for proof in [
        None,
        Some(Proof::Batch(Default::default())),
        Some(Proof::Compressed(Default::default())),
    ] {
        let hostile = CommitmentProof { proof };
        assert!(verify(&app_hash, "bank", &key(500), None, &hostile, &absent.outer).is_err());
        assert!(verify(&app_hash, "bank", &key(500), Some(b"x"), &hostile, &absent.outer).is_err());
        let present = view.prove("bank", &key(5)).unwrap();
        let value = present.value.as_deref();
        assert!(verify(&app_hash, "bank", &key(5), value, &present.inner, &hostile).is_err());
    }
}

#[test]
fn the_spec_is_the_one_the_jmt_crate_publishes() {
    assert_eq!(ics23_spec(), jmt::ics23_spec());
}
