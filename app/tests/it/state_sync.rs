//! State sync over ABCI: one node makes snapshots, another restores one and goes on.

use std::{sync::Arc, time::Duration};

use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    response_apply_snapshot_chunk::Result as Applied, response_offer_snapshot::Result as Offered,
    RequestApplySnapshotChunk, RequestInfo, RequestLoadSnapshotChunk, RequestOfferSnapshot, Snapshot,
};
use tenure_app::{App, AppOptions, SnapshotOptions};
use tenure_store::{MemoryBackend, Store, StoreOptions};

use crate::{
    chain::{options, Chain},
    world::World,
};

fn empty() -> App {
    let backend = Arc::new(MemoryBackend::new());
    let store = Store::open(backend.clone(), &tenure_app::stores(), StoreOptions::default()).unwrap();
    let app = App::open(Arc::new(store), options()).unwrap();
    app.allow_restore(backend, StoreOptions::default());
    app
}

fn offer(app: &App, snapshot: &Snapshot, app_hash: &[u8]) -> Offered {
    let request = RequestOfferSnapshot {
        snapshot: Some(snapshot.clone()),
        app_hash: app_hash.to_vec().into(),
    };
    Offered::try_from(app.offer_snapshot(request).result).unwrap()
}

fn apply(app: &App, index: u32, chunk: Vec<u8>) -> Applied {
    let request = RequestApplySnapshotChunk {
        index,
        chunk: chunk.into(),
        sender: "peer".into(),
    };
    Applied::try_from(app.apply_snapshot_chunk(request).result).unwrap()
}

#[test]
fn a_node_that_joins_by_state_sync_agrees_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = SnapshotOptions {
        dir: dir.path().join("snapshots"),
        every_blocks: 5,
        keep: 2,
        chunk_bytes: 4_096,
    };
    let mut world = World::new(8);
    let mut source = Chain::with(
        &world.app_state(),
        AppOptions {
            snapshots: Some(snapshots),
            ..options()
        },
    );
    assert!(source.app.list_snapshots().snapshots.is_empty());
    let mut hash_at_20 = Vec::new();
    for height in 1..=20 {
        let txs = world.block(&source);
        hash_at_20 = source.block(1_000, &txs).app_hash.to_vec();
        if height % 5 == 0 {
            let made = || {
                source
                    .app
                    .list_snapshots()
                    .snapshots
                    .first()
                    .is_some_and(|s| s.height == height)
            };
            assert!(
                (0..6_000).any(|_| made() || {
                    std::thread::sleep(Duration::from_millis(10));
                    false
                }),
                "a snapshot is made"
            );
        }
    }
    let heights: Vec<u64> = source.app.list_snapshots().snapshots.iter().map(|s| s.height).collect();
    assert!(heights == [20, 15], "two are kept, the youngest first: {heights:?}");
    let snapshot = source.app.list_snapshots().snapshots.remove(0);
    assert!(snapshot.chunks > 2, "{} chunks", snapshot.chunks);
    let load = |chunk| {
        let request = RequestLoadSnapshotChunk {
            height: snapshot.height,
            format: snapshot.format,
            chunk,
        };
        source.app.load_snapshot_chunk(request).chunk.to_vec()
    };
    assert!(load(snapshot.chunks).is_empty());

    let joined = empty();
    assert_eq!(apply(&joined, 0, load(0)), Applied::Abort, "nothing was offered");
    assert_eq!(
        offer(
            &joined,
            &Snapshot {
                format: 9,
                ..snapshot.clone()
            },
            &hash_at_20
        ),
        Offered::RejectFormat
    );
    assert_eq!(
        offer(
            &joined,
            &Snapshot {
                metadata: vec![1].into(),
                ..snapshot.clone()
            },
            &hash_at_20
        ),
        Offered::RejectSender
    );
    assert_eq!(
        offer(&joined, &snapshot, &[7; 32]),
        Offered::Reject,
        "another app hash than the light client's"
    );
    assert_eq!(offer(&joined, &snapshot, &hash_at_20), Offered::Accept);
    let mut damaged = load(0);
    damaged[9] ^= 1;
    assert_eq!(apply(&joined, 0, damaged), Applied::Retry);
    assert_eq!(
        offer(&joined, &snapshot, &hash_at_20),
        Offered::Accept,
        "it may begin again"
    );
    for chunk in 0..snapshot.chunks {
        assert_eq!(joined.info(RequestInfo::default()).last_block_height, 0);
        assert_eq!(apply(&joined, chunk, load(chunk)), Applied::Accept);
    }
    let info = joined.info(RequestInfo::default());
    assert_eq!(
        (info.last_block_height, info.last_block_app_hash.to_vec()),
        (20, hash_at_20.clone())
    );
    assert_eq!(
        offer(&joined, &snapshot, &hash_at_20),
        Offered::Abort,
        "a node with a state is not overwritten"
    );
    joined.check_invariants().unwrap();

    let mut joined = source.with_app(joined);
    for _ in 0..10 {
        let txs = world.block(&source);
        let expected = source.block(1_000, &txs);
        assert_eq!(joined.block(1_000, &txs), expected);
    }
}
