use super::*;
use crate::log::Log;
use crate::query;
use tendermint_proto::v0_38::abci::{Event, EventAttribute, ExecTxResult, RequestFinalizeBlock, ResponseFinalizeBlock};

const NO_SYNC: SyncLog<'_> = &|| Ok(());

/// Appends a block with one transaction, which says `app.n='<value>'`.
fn append(log: &mut Log, height: u64, value: &str) -> Entry {
    let attribute = EventAttribute {
        key: "n".into(),
        value: value.into(),
        index: true,
    };
    let event = Event {
        r#type: "app".into(),
        attributes: vec![attribute],
    };
    let request = RequestFinalizeBlock {
        height: i64::try_from(height).unwrap(),
        txs: vec![height.to_be_bytes().to_vec().into()],
        ..Default::default()
    };
    let response = ResponseFinalizeBlock {
        events: vec![event.clone()],
        tx_results: vec![ExecTxResult {
            events: vec![event],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut bytes = Vec::new();
    Record::encode(&request, &response, &mut bytes);
    Entry {
        kind: Kind::Record,
        height,
        at: log.append(Kind::Record, height, &bytes).unwrap(),
    }
}

/// The heights that rows of the database are of, whatever is visible.
fn stored(index: &Index) -> Vec<u64> {
    let mut heights: Vec<u64> = index
        .db
        .full_iterator(rocksdb::IteratorMode::Start)
        .filter_map(|row| keys::height_of(&row.unwrap().0))
        .collect();
    heights.sort_unstable();
    heights.dedup();
    heights
}

fn found(index: &Index, text: &str) -> Vec<u64> {
    let conditions = query::parse(text).unwrap();
    let places = index
        .view()
        .matching(Events::Tx, &conditions, (index.floor(), u64::MAX))
        .unwrap();
    places.into_iter().map(|(height, _)| height).collect()
}

#[test]
fn compactions_drop_what_is_below_a_floor_that_is_on_disk_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), None, 1 << 20).unwrap();
    let index = Index::open(dir.path()).unwrap();
    for height in 1..=20 {
        index.apply(&append(&mut log, height, "x"), NO_SYNC).unwrap();
    }
    index.flush().unwrap();
    index.prune(8, NO_SYNC).unwrap();
    assert_eq!(found(&index, "app.n='x'"), (8..=20).collect::<Vec<_>>());
    // Without this flush a power cut brings back an index that thinks it has the heights below 8.
    let compact = || index.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    let before = stored(&index);
    compact();
    assert_eq!((before.len(), stored(&index).len()), (20, 20));
    index.flush().unwrap();
    index.apply(&append(&mut log, 21, "x"), NO_SYNC).unwrap();
    index.flush().unwrap();
    compact();
    assert_eq!(stored(&index), (8..=21).collect::<Vec<_>>());
    assert_eq!(found(&index, "app.n='x'"), (8..=21).collect::<Vec<_>>());
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    assert_eq!((index.floor(), index.ranges()), (8, [(8, 21)].into()));
}

#[test]
fn the_log_is_synced_before_rows_of_it_can_reach_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), None, 1 << 30).unwrap();
    let index = Index::open(dir.path()).unwrap();
    let synced = std::cell::Cell::new(0);
    let at = std::cell::Cell::new(0);
    let sync = || {
        synced.set(at.get());
        Ok(())
    };
    let tables = || {
        let files = index.db.live_files().unwrap();
        (files.len(), files.iter().map(|f| f.num_entries).sum::<u64>())
    };
    for height in 1..=120 {
        // From 20 kB to more than a whole memtable.
        let size = if height % 50 == 0 {
            40 << 20
        } else {
            20_000 * usize::try_from(height % 13).unwrap()
        };
        at.set(height);
        index
            .apply(&append(&mut log, height, &"x".repeat(size)), &sync)
            .unwrap();
        // Every height has four rows and the meta row; a table never has more heights than were synced.
        assert!(
            tables().1 <= 6 * synced.get(),
            "{:?} at {height}, synced {}",
            tables(),
            synced.get()
        );
    }
    // Those that went to disk did so in several tables.
    index.flush().unwrap();
    assert!(synced.get() >= 100 && tables().0 > 1, "{} {:?}", synced.get(), tables());
}

#[test]
fn another_layout_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), None, 1 << 20).unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.apply(&append(&mut log, 1, "x"), NO_SYNC).unwrap();
    let mut row = index.meta.lock().encode();
    row[3] += 1;
    index.db.put(META, row).unwrap();
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    assert_eq!((index.applied(), stored(&index)), (None, vec![]));
    index.apply(&append(&mut log, 2, "y"), NO_SYNC).unwrap();
    assert_eq!(found(&index, "app.n EXISTS"), [2]);
}

#[test]
fn a_view_is_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), None, 1 << 20).unwrap();
    let index = Index::open(dir.path()).unwrap();
    for height in 1..=5 {
        index.apply(&append(&mut log, height, "x"), NO_SYNC).unwrap();
    }
    let view = index.view();
    let withdraw = Entry {
        kind: Kind::Withdraw,
        height: 2,
        at: log.append(Kind::Withdraw, 2, &[]).unwrap(),
    };
    index.apply(&withdraw, NO_SYNC).unwrap();
    index.apply(&append(&mut log, 3, "y"), NO_SYNC).unwrap();
    index.flush().unwrap();
    let conditions = query::parse("app.n='x'").unwrap();
    assert_eq!(view.matching(Events::Tx, &conditions, (1, u64::MAX)).unwrap().len(), 5);
    assert_eq!(view.counts((1, u64::MAX)).unwrap().len(), 5);
    assert_eq!(
        (found(&index, "app.n='x'"), found(&index, "app.n='y'")),
        (vec![1, 2], vec![3])
    );
}

/// A rare attribute beside one that every transaction has: the common list is not walked row by row.
#[test]
fn lists_meet_wherever_they_are_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), None, 1 << 20).unwrap();
    let index = Index::open(dir.path()).unwrap();
    for height in 1..=300u64 {
        index
            .apply(
                &append(&mut log, height, if height % 97 == 0 { "rare" } else { "common" }),
                NO_SYNC,
            )
            .unwrap();
        if height % 40 == 0 {
            index.flush().unwrap();
        }
    }
    assert_eq!(found(&index, "app.n='rare'"), [97, 194, 291]);
    assert_eq!(found(&index, "app.n='rare' AND app.n='rare'"), [97, 194, 291]);
    assert_eq!(found(&index, "app.n='common' AND app.n='rare'"), [0u64; 0]);
    assert_eq!(found(&index, "app.n='rare' AND app.n CONTAINS 'a'"), [97, 194, 291]);
    assert_eq!(found(&index, "app.n EXISTS").len(), 300);
}
