//! Optimistic execution, the replay table of the handshake, and that nothing waits for a block.

use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex},
};

use prost::Message;
use rand::Rng;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    CheckTxType, CommitInfo, Misbehavior, RequestFinalizeBlock, RequestInfo, RequestQuery,
};
use tenure_app::{App, AppOptions, StagingCounts};
use tenure_proto::cosmos::auth::v1beta1::QueryAccountRequest;
use tenure_store::{Backend, BackendView, Batch, Entries, MemoryBackend, StoreError, StoreOptions};

use crate::{
    chain::{init_chain, options, timestamp, Chain},
    world::{send, tx, World},
};

#[test]
fn blocks_give_the_same_whether_they_were_executed_ahead_or_not() {
    for seed in 20..23 {
        let mut world = World::new(seed);
        let state = world.app_state();
        let without = AppOptions {
            optimistic: false,
            ..options()
        };
        let (mut plain, mut ahead) = (Chain::with(&state, without), Chain::new(&state));
        for height in 1..=40 {
            let txs = world.block(&plain);
            let ms = world.rng.gen_range(1..2_500);
            // What is voted on: the block itself, its beginning, the same at another time. None, some, or all of them, in any order.
            let mut rounds = [
                ahead.next(ms, &txs),
                ahead.next(ms, &txs[..txs.len() / 2]),
                ahead.next(ms + 1, &txs),
            ];
            let first = world.rng.gen_range(0..3);
            rounds.rotate_left(first);
            for round in &rounds[..world.rng.gen_range(0..=3)] {
                ahead.propose(round);
            }
            // And now and then the engine comes back and knows nothing of it.
            if world.rng.gen_ratio(1, 8) {
                ahead.app.reset_uncommitted();
                if height == 1 {
                    init_chain(&ahead.app, &state);
                }
            }
            assert_eq!(
                ahead.block(ms, &txs),
                plain.block(ms, &txs),
                "seed {seed}, height {height}"
            );
        }
        let (with, without) = (ahead.app.staging(), plain.app.staging());
        assert!(
            with.reused > 5 && with.executed > 5 && with.staged > with.reused,
            "{with:?}"
        );
        assert_eq!((without.staged, without.executed), (0, 40));
    }
}

/// The counters after a block was voted on, `others` before and after it, and then decided.
fn decided(chain: &mut Chain, voted: &[&RequestFinalizeBlock], decided: &RequestFinalizeBlock) -> StagingCounts {
    let before = chain.app.staging();
    for block in voted {
        assert!(chain.propose(block));
    }
    chain.app.finalize_block(decided.clone());
    let after = chain.app.staging();
    StagingCounts {
        staged: after.staged - before.staged,
        reused: after.reused - before.reused,
        executed: after.executed - before.executed,
    }
}

#[test]
fn at_most_two_candidates_are_kept_and_only_the_very_same_block_is_reused() {
    let world = World::new(5);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let sent = tx(&chain, alice, vec![send(alice, &bob.address, 1)]);
    let block = RequestFinalizeBlock {
        hash: vec![1; 32].into(),
        ..chain.next(1_000, &[sent])
    };
    let other = |i: u8| RequestFinalizeBlock {
        hash: vec![i; 32].into(),
        ..block.clone()
    };
    let counts = |staged, reused, executed| StagingCounts {
        staged,
        reused,
        executed,
    };
    assert_eq!(decided(&mut chain, &[], &block), counts(0, 0, 1));
    assert_eq!(decided(&mut chain, &[&block], &block), counts(1, 1, 0));
    assert_eq!(
        decided(&mut chain, &[&block, &block, &other(2)], &block),
        counts(2, 1, 0)
    );
    assert_eq!(
        decided(&mut chain, &[&block, &other(2), &other(3)], &block),
        counts(3, 0, 1)
    );
    // A decision ends them all: the block may be executed again, as after a crash.
    assert_eq!(decided(&mut chain, &[], &block), counts(0, 0, 1));
    for different in [
        other(9),
        RequestFinalizeBlock {
            txs: vec![],
            ..block.clone()
        },
        RequestFinalizeBlock {
            time: timestamp(chain.time_ms + 1_001),
            ..block.clone()
        },
        RequestFinalizeBlock {
            decided_last_commit: Some(CommitInfo {
                round: 1,
                votes: vec![],
            }),
            ..block.clone()
        },
        RequestFinalizeBlock {
            misbehavior: vec![Misbehavior::default()],
            ..block.clone()
        },
        RequestFinalizeBlock {
            next_validators_hash: vec![1].into(),
            ..block.clone()
        },
        RequestFinalizeBlock {
            proposer_address: vec![1].into(),
            ..block.clone()
        },
    ] {
        assert_eq!(
            decided(&mut chain, &[&block], &different),
            counts(1, 0, 1),
            "{different:?}"
        );
    }
}

#[test]
fn a_new_connection_forgets_what_was_not_committed() {
    let world = World::new(5);
    let state = world.app_state();
    let mut chain = Chain::new(&state);
    chain.block(1_000, &[]);
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let sent = tx(&chain, alice, vec![send(alice, &bob.address, 1)]);
    let block = chain.next(1_000, &[sent]);
    assert!(chain.propose(&block));
    let first = chain.app.finalize_block(block.clone());
    chain.app.reset_uncommitted();
    let commit = catch_unwind(AssertUnwindSafe(|| chain.app.commit()));
    assert!(commit.is_err(), "Commit without FinalizeBlock ends the node");
    // The engine replays the block: its results are byte for byte the same, and it can be committed once.
    assert_eq!(chain.app.finalize_block(block.clone()), first);
    assert_eq!(chain.app.finalize_block(block.clone()), first);
    chain.app.commit();
    assert!(catch_unwind(AssertUnwindSafe(|| chain.app.commit())).is_err());
    assert!(
        catch_unwind(AssertUnwindSafe(|| chain.app.finalize_block(block))).is_err(),
        "a block below the next one is not executed"
    );
    assert_eq!(chain.app.info(RequestInfo::default()).last_block_height, 2);
}

#[test]
fn before_the_first_commit_the_engine_may_begin_again_and_again() {
    let world = World::new(5);
    let state = world.app_state();
    let mut chain = Chain::new(&state);
    let first = chain.finalize(1_000, &[]);
    for _ in 0..2 {
        chain.app.reset_uncommitted();
        assert_eq!(init_chain(&chain.app, &state), chain.genesis_hash);
        assert_eq!(chain.app.info(RequestInfo::default()).last_block_height, 0);
        assert!(chain.propose(&chain.next(1_000, &[])));
        assert_eq!(chain.finalize(1_000, &[]), first);
        chain.restart(&state);
    }
    assert_eq!(chain.block(1_000, &[]), first);
}

/// A database in which reads of one key can be made to take as long as a test likes.
#[derive(Clone)]
struct Gated {
    inner: MemoryBackend,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Default)]
struct Gate {
    /// The end of the keys that are not read while it is closed.
    closed: Option<Vec<u8>>,
    waiting: usize,
}

struct GatedView {
    inner: Arc<dyn BackendView>,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

impl Gated {
    fn close(&self, key: &[u8]) {
        self.gate.0.lock().unwrap().closed = Some(key.to_vec());
    }

    /// Waits until somebody waits.
    fn await_reader(&self) {
        let (gate, changed) = &*self.gate;
        drop(
            changed
                .wait_while(gate.lock().unwrap(), |gate| gate.waiting == 0)
                .unwrap(),
        );
    }

    fn open(&self) {
        self.gate.0.lock().unwrap().closed = None;
        self.gate.1.notify_all();
    }
}

impl Backend for Gated {
    fn view(&self) -> Result<Arc<dyn BackendView>, StoreError> {
        Ok(Arc::new(GatedView {
            inner: self.inner.view()?,
            gate: self.gate.clone(),
        }))
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.inner.write(batch)
    }
}

impl BackendView for GatedView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let (gate, changed) = &*self.gate;
        let mut gate = gate.lock().unwrap();
        let closed = |gate: &Gate| gate.closed.as_ref().is_some_and(|end| key.ends_with(end));
        if closed(&gate) {
            gate.waiting += 1;
            changed.notify_all();
            gate = changed.wait_while(gate, |gate| closed(gate)).unwrap();
            gate.waiting -= 1;
        }
        drop(gate);
        self.inner.get(key)
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Entries<'a> {
        self.inner.range(from, to, reverse)
    }
}

#[test]
fn check_tx_and_queries_do_not_wait_for_a_block_nor_a_vote_for_its_execution() {
    let world = World::new(5);
    let state = world.app_state();
    let backend = Gated {
        inner: MemoryBackend::new(),
        gate: Arc::default(),
    };
    let options = AppOptions {
        record_cache: 0, // every read meets the gate
        ..options()
    };
    let app = App::open(Arc::new(backend.clone()), StoreOptions::default(), options).unwrap();
    init_chain(&app, &state);
    let mut chain = Chain::new(&state).with_app(app);
    chain.block(1_000, &[]);
    let [alice, bob, carol, nobody] = [0, 1, 2, 6].map(|i| &world.people[i]);
    for ahead in [false, true] {
        let slow = chain.next(1_000, &[tx(&chain, alice, vec![send(alice, &nobody.address, 1)])]);
        backend.close(nobody.address.as_bytes());
        if ahead {
            assert!(chain.propose(&slow), "answered while the block is being executed");
            backend.await_reader();
        }
        let app = chain.app.clone();
        let executing = std::thread::spawn(move || app.finalize_block(slow));
        backend.await_reader();
        let waiting = tx(&chain, bob, vec![send(bob, &carol.address, 1)]);
        assert_eq!(chain.check(&waiting, CheckTxType::New).code, 0);
        assert!(chain.app.simulate(&waiting).is_ok());
        let request = QueryAccountRequest {
            address: carol.address.to_string(),
        };
        let path = "/cosmos.auth.v1beta1.Query/Account";
        assert!(chain.app.query(path, &request.encode_to_vec(), None).is_ok());
        let key = [b"a".as_slice(), carol.address.as_bytes()].concat();
        let proven = chain.app.query(path, &request.encode_to_vec(), Some(chain.height));
        assert_eq!(proven.unwrap().height, chain.height);
        let stored = Application::query(
            &chain.app,
            RequestQuery {
                data: key.into(),
                path: "/store/auth/key".into(),
                height: 0,
                prove: true,
            },
        );
        assert!(stored.proof_ops.is_some());
        assert_eq!(
            chain.app.info(RequestInfo::default()).last_block_height as u64,
            chain.height
        );
        assert!(!executing.is_finished());
        backend.open();
        let response = executing.join().unwrap();
        assert_eq!(response.tx_results[0].code, 0, "{}", response.tx_results[0].log);
        chain.app.commit();
        (chain.height, chain.time_ms) = (chain.height + 1, chain.time_ms + 1_000);
        assert_eq!(chain.app.staging().reused, u64::from(ahead));
    }
}
