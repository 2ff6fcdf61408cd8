//! The index killed while RocksDB writes it, and an index whose files are not what was written: no answer is ever wrong, and the log makes
//! it whole again.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::Rng;
use tenure_archive::{tx_hash, Archive, ArchiveOptions, Page};

use crate::toy::{event, record, request, response};

const DIR: &str = "TENURE_ARCHIVE_FLUSHER";

/// Every sync finds another file of the log in use and flushes: RocksDB writes tables all the time, and merges every eighth of them.
fn options() -> ArchiveOptions {
    ArchiveOptions {
        keep_heights: None,
        segment_bytes: 1_000,
        sync_interval: Duration::from_millis(1),
    }
}

fn open(dir: &Path) -> Archive {
    Archive::open(dir, options()).unwrap()
}

/// What an index answers, one line a question.
fn answers(archive: &Archive) -> Result<Vec<String>, String> {
    let all = Page {
        skip: 0,
        limit: 0,
        descending: false,
    };
    let (_, last) = archive.range().unwrap_or((1, 0));
    let mut out = Vec::new();
    for query in [
        "app.tx='again'",
        "app.parity='even'",
        "app.parity='odd' AND app.tx='again'",
        "app.tx CONTAINS '.1'",
        "tx.height>0",
    ] {
        let found = archive.search_txs(query, all).map_err(|e| e.to_string())?;
        out.push(format!("{query}: {}", found.1));
    }
    for query in ["block.mode EXISTS", "block.height>0"] {
        let page = Page {
            limit: usize::MAX,
            ..all
        };
        let found = archive.search_blocks(query, page).map_err(|e| e.to_string())?;
        out.push(format!("{query}: {found:?}"));
    }
    for height in (1..=last).filter(|h| h % 3 > 0) {
        let hash = tx_hash(format!("tx{height}.0").as_bytes());
        let found = archive.tx(&hash).map_err(|e| e.to_string())?;
        out.push(format!("{height}: {:?}", found.map(|t| (t.height, t.index))));
    }
    Ok(out)
}

fn fill(archive: &Archive, heights: std::ops::RangeInclusive<i64>) {
    for height in heights {
        let request = request(height);
        archive.append(&request, &response(&request)).unwrap();
        archive.publish(height);
    }
}

/// The files of the index of one kind, by the beginning or the end of their names.
fn files(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("index"))
        .unwrap()
        .flatten()
        .map(|e| e.path());
    let mut out: Vec<_> = entries
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(kind) || name.ends_with(kind)
        })
        .collect();
    out.sort();
    out
}

/// Not a test by itself: what `an_index_killed_while_it_is_written_answers_as_one_made_again` runs and kills.
#[test]
#[ignore = "the child of an_index_killed_while_it_is_written_answers_as_one_made_again"]
fn flusher() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let archive = open(Path::new(&dir));
    println!("ready");
    std::io::stdout().flush().unwrap();
    let mut height = archive.range().map_or(1, |(_, last)| last + 1);
    loop {
        let request = request(height);
        let mut response = response(&request);
        // Long enough that a table is not written in one go.
        for i in 0..40 {
            let value = format!("{height} {i} {}", "x".repeat(200));
            response.events.push(event("wide", &[("value", &value)]));
        }
        archive.append(&request, &response).unwrap();
        archive.publish(height);
        height += 1;
        std::thread::sleep(Duration::from_micros(500));
    }
}

#[test]
fn an_index_killed_while_it_is_written_answers_as_one_made_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let mut rng = rand::thread_rng();
    let (mut reached, mut tables) = (0, 0);
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["damage::flusher", "--exact", "--ignored", "--nocapture"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("ready")), "round {round}");
        std::thread::sleep(Duration::from_micros(rng.gen_range(0..80_000)));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());

        tables += files(dir, ".sst").len();
        let archive = open(dir);
        let found = answers(&archive).unwrap();
        let last = archive.range().map_or(0, |(_, last)| last);
        assert!(last >= reached, "round {round}: {last} after {reached}");
        assert_eq!(archive.missing(1, 1), [0i64; 0], "round {round}");
        reached = last;
        drop(archive);
        std::fs::rename(dir.join("index"), dir.join("old")).unwrap();
        let archive = open(dir);
        assert_eq!(answers(&archive).unwrap(), found, "round {round}");
        drop(archive);
        // The next round goes on with the one that was killed.
        std::fs::remove_dir_all(dir.join("index")).unwrap();
        std::fs::rename(dir.join("old"), dir.join("index")).unwrap();
    }
    assert!(reached > 100 && tables > 12, "{reached} heights, {tables} tables");
}

/// Writes a file again, otherwise.
fn change(path: &Path, f: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    f(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_index_is_made_again_and_never_answers_wrong() {
    type Damage = fn(&Path);
    let kinds: [(&str, Damage); 12] = [
        ("a table cut short", |dir| {
            change(&files(dir, ".sst")[0], |b| b.truncate(b.len() / 2))
        }),
        ("the newest table empty", |dir| {
            change(files(dir, ".sst").last().unwrap(), Vec::clear)
        }),
        ("a table gone", |dir| {
            std::fs::remove_file(&files(dir, ".sst")[0]).unwrap()
        }),
        ("a bit of a table", |dir| change(&files(dir, ".sst")[0], |b| b[40] ^= 4)),
        ("a bit of the newest table", |dir| {
            change(files(dir, ".sst").last().unwrap(), |b| {
                let at = b.len() / 3;
                b[at] ^= 1;
            });
        }),
        ("no MANIFEST", |dir| {
            std::fs::remove_file(&files(dir, "MANIFEST")[0]).unwrap()
        }),
        ("MANIFEST cut short", |dir| {
            change(&files(dir, "MANIFEST")[0], |b| b.truncate(b.len() * 2 / 3))
        }),
        ("a bit of MANIFEST", |dir| {
            change(&files(dir, "MANIFEST")[0], |b| {
                let at = b.len() / 2;
                b[at] ^= 1;
            });
        }),
        ("no CURRENT", |dir| {
            std::fs::remove_file(dir.join("index/CURRENT")).unwrap()
        }),
        ("CURRENT empty", |dir| change(&dir.join("index/CURRENT"), Vec::clear)),
        ("CURRENT names another", |dir| {
            std::fs::write(dir.join("index/CURRENT"), "MANIFEST-999999\n").unwrap();
        }),
        ("an empty directory", |dir| {
            std::fs::remove_dir_all(dir.join("index")).unwrap();
            std::fs::create_dir(dir.join("index")).unwrap();
        }),
    ];
    for (name, damage) in kinds {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        for end in [20, 40, 60] {
            let archive = open(dir);
            fill(&archive, end - 19..=end);
            archive.sync().unwrap();
        }
        let archive = open(dir);
        let expected = answers(&archive).unwrap();
        drop(archive);
        damage(dir);
        // What opening does not see, reading does, and says so; the next start is whole.
        let found = answers(&open(dir));
        match found {
            Ok(found) => assert_eq!(found, expected, "{name}"),
            Err(e) => assert!(
                e.contains("damaged") && e.contains("start the node again"),
                "{name}: {e}"
            ),
        }
        let archive = open(dir);
        assert_eq!(answers(&archive).unwrap(), expected, "{name}, then opened again");
        fill(&archive, 61..=63);
        assert_eq!(*archive.record(63).unwrap().unwrap(), record(63), "{name}");
        assert!(!dir.join("index.damaged").exists(), "{name}");
    }
}

#[test]
fn an_index_of_redb_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let archive = open(dir);
    fill(&archive, 1..=9);
    let expected = answers(&archive).unwrap();
    drop(archive);
    std::fs::remove_dir_all(dir.join("index")).unwrap();
    std::fs::write(dir.join("index.redb"), b"redb").unwrap();
    assert_eq!(answers(&open(dir)).unwrap(), expected);
    assert!(!dir.join("index.redb").exists());
}

/// The log lost what the index has: power failed in a way that its syncs did not hold, or somebody removed files.
#[test]
fn an_index_beyond_its_log_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let options = ArchiveOptions::default();
    let archive = Archive::open(dir, options.clone()).unwrap();
    fill(&archive, 1..=10);
    drop(archive);
    let log = dir.join("0000000001.log");
    change(&log, |b| b.truncate(b.len() - 150));
    let archive = Archive::open(dir, options.clone()).unwrap();
    let last = archive.range().unwrap().1;
    assert!((8..10).contains(&last), "{last}");
    let page = Page {
        skip: 0,
        limit: 100,
        descending: true,
    };
    assert_eq!(
        archive.search_txs("app.tx='again'", page).unwrap().1,
        usize::try_from(last).unwrap()
    );
    drop(archive);
    std::fs::remove_file(&log).unwrap();
    std::fs::remove_file(dir.join("0000000002.log")).unwrap();
    let archive = Archive::open(dir, options).unwrap();
    assert_eq!(
        (archive.range(), archive.search_txs("tx.height>0", page).unwrap().1),
        (None, 0)
    );
}
