//! Roots and proofs against the `jmt` crate.

use std::collections::BTreeMap;

use jmt::mock::MockTreeStore;
use jmt::{KeyHash, Sha256Jmt};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::Sha256;
use tenure_store::{Change, MemoryBackend};

use crate::support::{cases, key, open, Model, STORES};

/// One Jellyfish Merkle tree; a version for each set of changes.
struct Oracle {
    db: MockTreeStore,
    version: Option<u64>,
    live: usize,
}

impl Oracle {
    fn new() -> Oracle {
        Oracle {
            db: MockTreeStore::default(),
            version: None,
            live: 0,
        }
    }

    fn apply(&mut self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>, live: usize) {
        self.live = live;
        if changes.is_empty() {
            return;
        }
        let version = self.version.map_or(0, |version| version + 1);
        for (key, _) in &changes {
            self.db.put_key_preimage(KeyHash::with::<Sha256>(key), key);
        }
        let set = changes
            .into_iter()
            .map(|(key, value)| (KeyHash::with::<Sha256>(key), value));
        let (_, batch) = Sha256Jmt::new(&self.db).put_value_set(set, version).unwrap();
        self.db.write_tree_update_batch(batch).unwrap();
        self.version = Some(version);
    }

    fn root(&self) -> [u8; 32] {
        match self.version {
            None => *b"SPARSE_MERKLE_PLACEHOLDER_HASH__",
            Some(version) => Sha256Jmt::new(&self.db).get_root_hash(version).unwrap().0,
        }
    }

    fn prove(&self, key: &[u8]) -> (Option<Vec<u8>>, ics23::CommitmentProof) {
        Sha256Jmt::new(&self.db)
            .get_with_ics23_proof(key.to_vec(), self.version.unwrap())
            .unwrap()
    }
}

/// The two levels of trees.
struct Oracles {
    stores: BTreeMap<&'static str, Oracle>,
    main: Oracle,
    named: BTreeMap<&'static str, [u8; 32]>,
}

impl Oracles {
    fn new() -> Oracles {
        let stores = STORES.into_iter().map(|name| (name, Oracle::new())).collect();
        Oracles {
            stores,
            main: Oracle::new(),
            named: BTreeMap::new(),
        }
    }

    fn apply(&mut self, changes: &[Change], model: &Model) {
        let mut roots = Vec::new();
        for (name, oracle) in &mut self.stores {
            let changes = changes.iter().filter(|change| change.store == *name);
            // The oracle does not take deletes of absent keys for nothing.
            let effective = changes.filter(|change| change.old.is_some() || change.new.is_some());
            let set = effective
                .map(|change| (change.key.clone(), change.new.clone()))
                .collect();
            oracle.apply(set, model.entries(name).len());
            let root = oracle.root();
            match (oracle.live > 0, self.named.get(name)) {
                (true, before) if before != Some(&root) => {
                    self.named.insert(name, root);
                    roots.push((name.as_bytes().to_vec(), Some(root.to_vec())));
                }
                (false, Some(_)) => {
                    self.named.remove(name);
                    roots.push((name.as_bytes().to_vec(), None));
                }
                _ => {}
            }
        }
        self.main.apply(roots, self.named.len());
    }
}

/// Runs blocks on the store and on the oracle, comparing every app hash and, at the end of each block, some proofs.
fn run(blocks: Vec<Vec<Change>>, models: &[Model], rng: &mut StdRng, space: u32) {
    let store = open(&MemoryBackend::new());
    let mut oracles = Oracles::new();
    for (height, (changes, model)) in (1..).zip(blocks.into_iter().zip(models)) {
        oracles.apply(&changes, model);
        let staged = store.stage(changes).unwrap();
        assert_eq!(
            hex::encode(staged.app_hash()),
            hex::encode(oracles.main.root()),
            "height {height}"
        );
        let view = store.commit(staged, height).unwrap();
        for _ in 0..4 {
            let name = STORES[rng.gen_range(0..STORES.len())];
            if oracles.stores[name].live == 0 {
                continue;
            }
            let key = key(rng.gen_range(0..space * 2));
            let proof = view.prove(name, &key).unwrap();
            let (value, inner) = oracles.stores[name].prove(&key);
            assert_eq!(proof.value, value);
            assert_eq!(proof.inner, inner);
            assert_eq!(proof.outer, oracles.main.prove(name.as_bytes()).1);
        }
    }
}

#[test]
fn roots_and_proofs_are_those_of_the_jellyfish_merkle_tree() {
    let mut blocks_run = 0;
    for seed in 0..cases(40) as u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        // From a handful of keys, where subtrees collapse and stores run empty, to thousands.
        let space = [2, 5, 40, 3000][(seed % 4) as usize];
        let delete = [0.2, 0.5, 0.8][(seed % 3) as usize];
        let most = if space < 100 { 12 } else { 1500 };
        let mut model = Model::default();
        let (mut blocks, mut models) = (Vec::new(), Vec::new());
        for _ in 0..if space < 100 { 40 } else { 8 } {
            blocks.push(model.random_block(&mut rng, most, space, delete));
            models.push(model.clone());
        }
        blocks_run += blocks.len();
        run(blocks, &models, &mut rng, space);
    }
    println!("{blocks_run} random blocks have the oracle's roots and proofs");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(64) as u32, ..ProptestConfig::default() })]
    #[test]
    fn any_history_has_the_oracles_roots(
        history in proptest::collection::vec(
            proptest::collection::btree_map((0usize..3, 0u32..12), proptest::option::of(1u8..4), 0..10),
            1..12,
        ),
        seed in any::<u64>(),
    ) {
        let mut model = Model::default();
        let (mut blocks, mut models) = (Vec::new(), Vec::new());
        for block in history {
            let change = |((store, number), value): ((usize, u32), Option<u8>)| {
                model.set(STORES[store], &key(number), value.map(|byte| vec![byte]))
            };
            blocks.push(block.into_iter().map(change).collect());
            models.push(model.clone());
        }
        run(blocks, &models, &mut StdRng::seed_from_u64(seed), 12);
    }
}

#[test]
fn the_app_hash_of_a_known_state_should_not_change() {
    let store = open(&MemoryBackend::new());
    assert_eq!(store.latest().app_hash(), *b"SPARSE_MERKLE_PLACEHOLDER_HASH__");
    let mut model = Model::default();
    let changes = (0..100).map(|number| model.set(STORES[number as usize % 3], &key(number), Some(vec![7; 5])));
    let staged = store.stage(changes.collect()).unwrap();
    assert_eq!(
        hex::encode(staged.app_hash()),
        "d96bcb96e157b37b0ca1ae64234e93d18bbeff87c9d4a7ddea0063c1a268af99"
    );
}
