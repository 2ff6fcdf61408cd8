//! State sync over ABCI: one node makes snapshots, another restores one and goes on.

use std::{path::Path, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    response_apply_snapshot_chunk::Result as Applied, response_offer_snapshot::Result as Offered,
    RequestApplySnapshotChunk, RequestInfo, RequestLoadSnapshotChunk, RequestOfferSnapshot, Snapshot,
};
use tenure_app::{snapshots, App, AppOptions, SnapshotOptions};
use tenure_store::{snapshot::Manifest, MemoryBackend, StoreOptions};

use crate::{
    chain::{open, options, Chain, CHAIN_ID},
    world::World,
};

fn empty() -> App {
    App::open(Arc::new(MemoryBackend::new()), StoreOptions::default(), options()).unwrap()
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
            wait_for(&source.app, height);
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
    for contradiction in [
        Snapshot {
            chunks: snapshot.chunks + 1,
            ..snapshot.clone()
        },
        Snapshot {
            hash: vec![0; 32].into(),
            ..snapshot.clone()
        },
        Snapshot {
            height: 15,
            ..snapshot.clone()
        },
    ] {
        assert_eq!(offer(&joined, &contradiction, &hash_at_20), Offered::RejectSender);
    }
    let mut damaged = load(0);
    damaged[9] ^= 1;
    let request = RequestApplySnapshotChunk {
        index: 0,
        chunk: damaged.into(),
        sender: "peer".into(),
    };
    let response = joined.apply_snapshot_chunk(request);
    assert_eq!(
        (response.result, response.refetch_chunks, response.reject_senders),
        (Applied::Retry as i32, vec![0], vec!["peer".to_owned()])
    );
    assert_eq!(
        apply(&joined, 0, load(0)),
        Applied::Accept,
        "the same chunk from somebody else"
    );
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
    assert_eq!(
        (joined.chain_id().as_str(), joined.store().latest().height()),
        (CHAIN_ID, 20)
    );

    let mut joined = source.with_app(joined);
    for _ in 0..10 {
        let txs = world.block(&source);
        let expected = source.block(1_000, &txs);
        assert_eq!(joined.block(1_000, &txs), expected);
    }
}

/// A chain that makes snapshots of small chunks, with this many blocks.
fn source(dir: &Path, every_blocks: u64, blocks: u64) -> Chain {
    let snapshots = SnapshotOptions {
        every_blocks,
        keep: 2,
        chunk_bytes: 1_024,
        ..SnapshotOptions::new(dir.to_owned())
    };
    let mut world = World::new(8);
    let with = AppOptions {
        snapshots: Some(snapshots),
        retain_blocks: 1,
        ..options()
    };
    let mut chain = Chain::with(&world.app_state(), with);
    for _ in 0..blocks {
        let txs = world.block(&chain);
        chain.block(1_000, &txs);
        if every_blocks > 0 && chain.height.is_multiple_of(every_blocks) {
            wait_for(&chain.app, chain.height);
        }
    }
    chain
}

/// Waits until the snapshot of a height is there and its thread has ended.
fn wait_for(app: &App, height: u64) {
    for _ in 0..6_000 {
        let listed = app.list_snapshots().snapshots;
        if app.snapshot_in_progress().is_none() && listed.first().is_some_and(|s| s.height == height) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no snapshot of height {height}");
}

#[test]
fn nodes_with_equal_settings_make_the_same_snapshot_to_the_byte() {
    let [a, b] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let chains = [&a, &b].map(|dir| source(dir.path(), 5, 10));
    let [first, second] = chains.each_ref().map(|chain| chain.app.list_snapshots().snapshots);
    assert_eq!(first, second);
    assert_eq!((first.len(), first[0].height), (2, 10));
    for chunk in 0..first[0].chunks {
        let load = |chain: &Chain| {
            let request = RequestLoadSnapshotChunk {
                height: 10,
                format: first[0].format,
                chunk,
            };
            chain.app.load_snapshot_chunk(request).chunk
        };
        assert!(load(&chains[0]).len() <= 1_024 && load(&chains[0]) == load(&chains[1]));
    }
}

#[test]
fn blocks_that_a_snapshot_needs_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = source(dir.path(), 5, 9);
    for height in 10_u64..=29 {
        // Two are kept; a third is while it is being written.
        let oldest = snapshots::list(dir.path()).unwrap()[0].height;
        chain.finalize(1_000, &[]);
        let retain = chain.app.commit().retain_height as u64;
        (chain.height, chain.time_ms) = (height, chain.time_ms + 1_000);
        assert_eq!(retain, oldest, "height {height}");
        if height.is_multiple_of(5) {
            wait_for(&chain.app, height);
        }
    }
    // Without snapshots only the last block is asked for.
    let options = AppOptions {
        retain_blocks: 1,
        ..options()
    };
    let mut plain = Chain::with(&World::new(8).app_state(), options);
    plain.block(1_000, &[]);
    plain.finalize(1_000, &[]);
    assert_eq!(plain.app.commit().retain_height, 2);
}

#[test]
fn a_restore_that_was_cut_short_or_was_of_a_false_snapshot_leaves_an_empty_node() {
    let dir = tempfile::tempdir().unwrap();
    let chain = source(dir.path(), 5, 10);
    let (_, _, _, app_hash) = chain.app.committed();
    let snapshot = chain.app.list_snapshots().snapshots.remove(0);
    let load = |height: u64, chunk| {
        let request = RequestLoadSnapshotChunk {
            height,
            format: snapshot.format,
            chunk,
        };
        chain.app.load_snapshot_chunk(request).chunk.to_vec()
    };
    let backend = MemoryBackend::new();
    let cut_short = open(&backend, &options());
    assert_eq!(offer(&cut_short, &snapshot, &app_hash), Offered::Accept);
    assert_eq!(apply(&cut_short, 0, load(10, 0)), Applied::Accept);
    // The process ends here. The next one begins with an empty state, and the engine with another peer, who lies: the chunks are those of
    // another height under the trusted hash.
    let app = open(&backend, &options());
    assert_eq!(app.info(RequestInfo::default()).last_block_height, 0);
    let older = chain.app.list_snapshots().snapshots.remove(1);
    let lie = Manifest {
        app_hash,
        height: 10,
        ..Manifest::decode(&older.metadata).unwrap()
    }
    .encode();
    let false_snapshot = Snapshot {
        height: 10,
        hash: Sha256::digest(&lie).to_vec().into(),
        metadata: lie.into(),
        ..older.clone()
    };
    assert_eq!(offer(&app, &false_snapshot, &app_hash), Offered::Accept);
    for chunk in 0..older.chunks {
        let expected = match chunk + 1 == older.chunks {
            true => Applied::RejectSnapshot,
            false => Applied::Accept,
        };
        assert_eq!(apply(&app, chunk, load(5, chunk)), expected);
    }
    assert_eq!(app.info(RequestInfo::default()).last_block_height, 0);
    // The third is honest.
    assert_eq!(offer(&app, &snapshot, &app_hash), Offered::Accept);
    for chunk in 0..snapshot.chunks {
        assert_eq!(apply(&app, chunk, load(10, chunk)), Applied::Accept);
    }
    assert_eq!(app.committed(), chain.app.committed());
}

#[test]
fn operators_list_export_restore_and_delete_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let chain = source(dir.path(), 5, 7);
    let made = snapshots::list(dir.path()).unwrap();
    assert_eq!(made.iter().map(|s| s.height).collect::<Vec<_>>(), [5]);
    let info = snapshots::export(dir.path(), &chain.app.store().latest(), 2_048).unwrap();
    assert_eq!((info.height, info.app_hash), (7, chain.app.committed().3));
    assert!(info.bytes > 2_048 && info.chunks > 1);
    assert_eq!(snapshots::list(dir.path()).unwrap().last(), Some(&info));
    let backend = MemoryBackend::new();
    let restore = |trusted| {
        snapshots::restore(
            dir.path(),
            7,
            Arc::new(backend.clone()),
            StoreOptions::default(),
            trusted,
        )
    };
    assert!(restore([7; 32]).is_err(), "of another app hash");
    restore(info.app_hash).unwrap();
    assert!(restore(info.app_hash).is_err(), "not over a state");
    assert_eq!(open(&backend, &options()).committed(), chain.app.committed());
    assert!(snapshots::delete(dir.path(), 7).unwrap());
    assert!(!snapshots::delete(dir.path(), 7).unwrap());
    assert_eq!(snapshots::list(dir.path()).unwrap(), made);
    // What a crash left unfinished is not listed, and gone after the next start.
    let unfinished = dir.path().join(".12");
    std::fs::create_dir(&unfinished).unwrap();
    assert_eq!(snapshots::list(dir.path()).unwrap(), made);
    let again = AppOptions {
        snapshots: Some(SnapshotOptions::new(dir.path().to_owned())),
        ..options()
    };
    open(&MemoryBackend::new(), &again);
    assert!(!unfinished.exists());
}

#[test]
fn a_node_that_makes_no_snapshots_offers_those_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let chain = source(dir.path(), 0, 6);
    assert!(chain.app.list_snapshots().snapshots.is_empty());
    let made = snapshots::export(dir.path(), &chain.app.store().latest(), 1_024).unwrap();
    let offered = chain.app.list_snapshots().snapshots;
    assert_eq!((offered.len(), offered[0].height, made.height), (1, 6, 6));
    assert_eq!(offered[0].hash.as_ref(), made.hash);
}

#[test]
fn a_snapshot_from_elsewhere_is_taken_whole_or_not_at_all() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let chain = source(from.path(), 0, 6);
    let made = snapshots::export(from.path(), &chain.app.store().latest(), 1_024).unwrap();
    let files = snapshots::files(from.path(), 6).unwrap();
    let manifest = std::fs::read(&files[0]).unwrap();
    let import = |bad: Option<usize>| {
        snapshots::import(to.path(), &manifest, |index| {
            let mut chunk = std::fs::read(&files[index + 1]).unwrap();
            chunk[3] ^= u8::from(bad == Some(index));
            Ok::<_, snapshots::SnapshotError>(chunk)
        })
    };
    assert!(made.chunks > 2);
    let error = import(Some(2)).unwrap_err().to_string();
    assert!(
        error.contains("chunk 2") && error.contains("the manifest says"),
        "{error}"
    );
    assert_eq!(
        std::fs::read_dir(to.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
    // Nor when all is written and only its name is taken.
    let name = to.path().join("6");
    std::fs::write(&name, "no snapshot").unwrap();
    assert!(import(None).is_err());
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1);
    std::fs::remove_file(name).unwrap();
    assert_eq!(import(None).unwrap(), made);
    assert_eq!(snapshots::list(to.path()).unwrap(), [made]);
    // What was changed on the disk since is found, too.
    let mut chunk = std::fs::read(&files[1]).unwrap();
    chunk[0] ^= 1;
    std::fs::write(&files[1], chunk).unwrap();
    assert!(snapshots::files(from.path(), 6).is_err());
}
