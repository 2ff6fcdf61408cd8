//! Visibility, searches, pruning, gaps.

use std::path::Path;
use std::time::Duration;

use tendermint_abci::Application;
use tenure_archive::{tx_hash, Archive, ArchiveError, ArchiveOptions, Page, Recorder, SearchError};

use crate::toy::{record, request, response, Counter};

const ALL: Page = Page {
    skip: 0,
    limit: 1000,
    descending: false,
};

fn open(dir: &Path) -> Archive {
    Archive::open(dir, ArchiveOptions::default()).unwrap()
}

fn append(archive: &Archive, height: i64) {
    let request = request(height);
    archive.append(&request, &response(&request)).unwrap();
}

fn fill(archive: &Archive, heights: std::ops::RangeInclusive<i64>) {
    for height in heights {
        append(archive, height);
        archive.publish(height);
    }
}

fn places(archive: &Archive, query: &str) -> Vec<(i64, u32)> {
    let (found, total) = archive.search_txs(query, ALL).unwrap();
    assert_eq!(found.len(), total, "{query}");
    found.iter().map(|t| (t.height, t.index)).collect()
}

#[test]
fn readers_see_a_height_when_it_is_committed_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let archive = open(dir.path());
    let mut heads = archive.heads();
    fill(&archive, 1..=4);
    append(&archive, 5);
    assert!(archive.record(5).unwrap().is_none());
    assert!(archive.tx(&tx_hash(b"tx5.0")).unwrap().is_none());
    assert_eq!(places(&archive, "tx.height>=4"), [(4, 0), (4, 1)]);
    assert_eq!(*heads.borrow_and_update(), 4);
    archive.publish(5);
    assert!(heads.has_changed().unwrap());
    assert_eq!(*archive.record(5).unwrap().unwrap(), record(5));
    assert_eq!(archive.tx(&tx_hash(b"tx5.1")).unwrap().unwrap().index, 1);
    assert_eq!((archive.range(), archive.earliest()), (Some((1, 5)), 1));
}

#[test]
fn searches_find_what_events_say() {
    let dir = tempfile::tempdir().unwrap();
    let archive = open(dir.path());
    fill(&archive, 1..=9);
    assert_eq!(places(&archive, "app.tx='tx5.1'"), [(5, 1)]);
    assert_eq!(
        places(&archive, "app.parity='even' AND tx.height<5"),
        [(2, 0), (2, 1), (2, 2), (4, 0), (4, 1)]
    );
    assert_eq!(places(&archive, "app.tx CONTAINS '.1' AND tx.height>5"), [(8, 1)]);
    assert_eq!(places(&archive, "app.secret='x'"), [], "not indexed");
    assert_eq!(places(&archive, "app.tx EXISTS AND tx.height=3"), [(3, 0)]);
    assert_eq!(places(&archive, "tx.height=7"), [(7, 0), (7, 1)]);
    let again = hex::encode_upper(tx_hash(b"again"));
    assert_eq!(
        places(&archive, &format!("tx.hash='{again}'")),
        [(8, 2)],
        "the newest success, not the failure after it"
    );
    let blocks = |query: &str| archive.search_blocks(query, ALL).unwrap().0;
    assert_eq!(blocks("block.height>7"), [8, 9]);
    assert_eq!(blocks("block.height=4 AND block.mode='BeginBlock'"), [4]);
    let page = Page {
        skip: 1,
        limit: 2,
        descending: true,
    };
    assert_eq!(archive.search_blocks("block.height>0", page).unwrap(), (vec![8, 7], 9));
    assert!(matches!(
        archive.search_txs("app.tx <", ALL),
        Err(SearchError::Query(_))
    ));
}

#[test]
fn what_was_withdrawn_is_in_no_answer_and_may_come_back_different() {
    let dir = tempfile::tempdir().unwrap();
    let archive = open(dir.path());
    fill(&archive, 1..=8);
    archive.align(5).unwrap();
    assert_eq!((archive.head(), archive.range()), (5, Some((1, 5))));
    assert_eq!(places(&archive, "app.tx='again'").last(), Some(&(5, 2)));
    let again = hex::encode_upper(tx_hash(b"again"));
    assert_eq!(
        places(&archive, &format!("tx.hash='{again}'")),
        [(4, 1)],
        "the copy that a withdrawn one had replaced"
    );
    let mut other = request(6);
    other.txs = vec![b"other".to_vec().into()];
    archive.append(&other, &response(&other)).unwrap();
    archive.publish(6);
    assert_eq!(places(&archive, "tx.height=6"), [(6, 0)]);
    drop(archive);
    let archive = open(dir.path());
    assert_eq!(archive.record(6).unwrap().unwrap().request, other);
    assert_eq!(archive.record(7).unwrap(), None);
}

#[test]
fn pruning_keeps_what_was_asked_for_and_frees_files() {
    let dir = tempfile::tempdir().unwrap();
    let options = ArchiveOptions {
        keep_heights: Some(20),
        segment_bytes: 2_000,
        sync_interval: Duration::from_millis(5),
    };
    let archive = Archive::open(dir.path(), options.clone()).unwrap();
    fill(&archive, 1..=300);
    archive.sync().unwrap();
    assert_eq!((archive.range(), archive.earliest()), (Some((281, 300)), 281));
    assert!(archive.record(280).unwrap().is_none());
    assert_eq!(*archive.record(281).unwrap().unwrap(), record(281));
    assert_eq!(places(&archive, "app.tx='again'").len(), 20);
    assert!(archive.tx(&tx_hash(b"tx100.0")).unwrap().is_none());
    let logs = || {
        let names = std::fs::read_dir(dir.path()).unwrap();
        names
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "log"))
            .count()
    };
    assert!(logs() <= 8, "{} files", logs());
    drop(archive);
    let archive = Archive::open(dir.path(), options).unwrap();
    assert_eq!(archive.range(), Some((281, 300)));
    fill(&archive, 301..=305);
    archive.sync().unwrap();
    assert_eq!(archive.range(), Some((286, 305)));
}

#[test]
fn what_a_machine_lost_is_missing_until_it_is_filled_in() {
    let dir = tempfile::tempdir().unwrap();
    let archive = open(dir.path());
    fill(&archive, 1..=10);
    drop(archive);
    // Power was lost: the last records did not reach the disk, but the application's commit of height 12 did.
    let log = dir.path().join("0000000001.log");
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 150]).unwrap();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let archive = open(dir.path());
    let last = archive.range().unwrap().1;
    assert!((8..10).contains(&last), "{last}");
    archive.align(12).unwrap();
    let lost: Vec<i64> = (last + 1..=12).rev().collect();
    assert_eq!((archive.missing(1, 100), archive.earliest()), (lost.clone(), 13));
    fill(&archive, 13..=14);
    assert_eq!((archive.missing(1, 100), archive.earliest()), (lost.clone(), 13));
    assert_eq!((archive.missing(1, 1), archive.range()), (vec![12], Some((1, 14))));
    assert_eq!((archive.missing(12, 100), archive.missing(13, 100)), (vec![12], vec![]));
    for height in &lost {
        let request = request(*height);
        assert!(archive.backfill(&request, &response(&request)).unwrap());
        assert!(!archive.backfill(&request, &response(&request)).unwrap(), "once");
    }
    let ahead = request(15);
    assert!(!archive.backfill(&ahead, &response(&ahead)).unwrap(), "not committed");
    assert_eq!((archive.missing(1, 100), archive.earliest()), (vec![], 1));
    assert_eq!(places(&archive, "app.tx='again'").len(), 14);
    drop(archive);
    let archive = open(dir.path());
    assert_eq!((archive.missing(1, 100), archive.range()), (vec![], Some((1, 14))));
    assert_eq!(*archive.record(11).unwrap().unwrap(), record(11));
}

#[test]
fn a_lost_archive_misses_everything_that_it_would_keep() {
    let dir = tempfile::tempdir().unwrap();
    for (keep_heights, expected) in [
        (None, (3..=12).rev().collect::<Vec<i64>>()),
        (Some(4), vec![12, 11, 10, 9]),
    ] {
        let options = ArchiveOptions {
            keep_heights,
            ..ArchiveOptions::default()
        };
        let archive = Archive::open(&dir.path().join(expected.len().to_string()), options).unwrap();
        archive.align(12).unwrap();
        // The engine has nothing below 3.
        assert_eq!(archive.missing(3, 100), expected);
        let mut earliest = 13;
        for height in archive.missing(3, 100) {
            let request = request(height);
            assert!(archive.backfill(&request, &response(&request)).unwrap());
            earliest -= 1;
            assert_eq!(archive.earliest(), earliest);
        }
        assert_eq!(archive.missing(3, 100), [0i64; 0]);
        assert_eq!(*archive.record(12).unwrap().unwrap(), record(12));
    }
}

/// The writer waits for the index's thread, which syncs while it makes room.
#[test]
fn a_burst_longer_than_the_queue_goes_through() {
    let dir = tempfile::tempdir().unwrap();
    let options = ArchiveOptions {
        segment_bytes: 20_000,
        ..ArchiveOptions::default()
    };
    let archive = Archive::open(dir.path(), options).unwrap();
    fill(&archive, 1..=6_000);
    assert_eq!(places(&archive, "tx.height=6000"), [(6000, 0)]);
    assert_eq!(archive.missing(1, 1), [0i64; 0]);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let archive = open(dir.path());
    assert!(matches!(
        Archive::open(dir.path(), ArchiveOptions::default()),
        Err(ArchiveError::Busy(_))
    ));
    drop(archive);
    open(dir.path());
}

#[test]
fn an_application_that_lost_everything_begins_an_empty_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("height");
    let archive = open(dir.path());
    let app = Recorder::new(Counter { path: path.clone() }, archive.clone()).unwrap();
    for height in 1..=5 {
        app.finalize_block(request(height));
        assert_eq!(archive.head(), height - 1);
        app.commit();
        assert_eq!(archive.head(), height);
    }
    // Of several executions of a height, the one before Commit counts.
    let mut other = request(6);
    other.txs.clear();
    app.finalize_block(other);
    app.finalize_block(request(6));
    app.commit();
    assert_eq!(*archive.record(6).unwrap().unwrap(), record(6));
    Counter::set(&path, 0);
    let _app = Recorder::new(Counter { path }, archive.clone()).unwrap();
    assert_eq!((archive.range(), archive.head(), archive.earliest()), (None, 0, 1));
}

#[test]
fn an_application_that_begins_again_below_what_was_pruned_is_archived_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = ArchiveOptions {
        keep_heights: Some(3),
        ..ArchiveOptions::default()
    };
    let archive = Archive::open(dir.path(), options.clone()).unwrap();
    fill(&archive, 1..=30);
    archive.sync().unwrap();
    assert_eq!(archive.range(), Some((28, 30)));
    archive.align(0).unwrap();
    fill(&archive, 1..=2);
    archive.sync().unwrap();
    assert_eq!((archive.range(), archive.earliest()), (Some((1, 2)), 1));
    assert_eq!(places(&archive, "app.tx='again'"), [(1, 1), (2, 2)]);
    drop(archive);
    let archive = Archive::open(dir.path(), options).unwrap();
    assert_eq!(*archive.record(2).unwrap().unwrap(), record(2));
    assert_eq!(places(&archive, "app.tx='again'"), [(1, 1), (2, 2)]);
}
