//! `kill -9` at random instants: every committed height has its record, no other is seen, and the index agrees.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::Rng;
use tendermint_abci::Application;
use tenure_archive::{tx_hash, Archive, ArchiveOptions, Page, Recorder};

use crate::toy::{record, request, Counter};

const DIR: &str = "TENURE_ARCHIVE_CHILD";

fn options() -> ArchiveOptions {
    ArchiveOptions {
        keep_heights: None,
        // Small, so that deaths fall between files too.
        segment_bytes: 4_000,
        sync_interval: Duration::from_millis(20),
    }
}

/// Not a test by itself: what `deaths_at_random_instants` runs and kills.
#[test]
#[ignore = "the child of deaths_at_random_instants"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let path = dir.join("height");
    let archive = Archive::open(&dir.join("archive"), options()).unwrap();
    let app = Recorder::new(Counter { path: path.clone() }, archive).unwrap();
    println!("ready");
    for height in Counter::height(&path) + 1.. {
        app.finalize_block(request(height));
        app.commit();
    }
}

#[test]
fn deaths_at_random_instants_lose_no_committed_height_and_show_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("height");
    let mut rng = rand::thread_rng();
    let mut deaths = 0;
    for round in 0..40 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().contains("ready"));
        assert!(ready, "round {round}: the child did not come up");
        std::thread::sleep(Duration::from_micros(rng.gen_range(0..30_000)));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        deaths += 1;

        // The application may also have lost its last commits: it need not sync each of them.
        let committed = Counter::height(&path) - rng.gen_range(0..3).min(Counter::height(&path));
        Counter::set(&path, committed);
        if round % 7 == 3 {
            std::fs::remove_dir_all(dir.path().join("archive/index")).unwrap();
        }
        let archive = Archive::open(&dir.path().join("archive"), options()).unwrap();
        let app = Recorder::new(Counter { path: path.clone() }, archive.clone()).unwrap();
        drop(app);
        assert_eq!(archive.head(), committed, "round {round}");
        assert_eq!(archive.missing(1, 5), [0i64; 0], "round {round}");
        assert_eq!(archive.range(), (committed > 0).then_some((1, committed)));
        // All of the newest, samples of the rest: every height is checked in some round.
        let step = (committed / 60).max(1);
        let sample = (0..=committed).step_by(usize::try_from(step).unwrap());
        for height in sample.chain((committed - 20).max(1)..=committed).filter(|h| *h > 0) {
            assert_eq!(
                *archive.record(height).unwrap().unwrap(),
                record(height),
                "round {round}"
            );
            if height % 3 > 0 {
                let found = archive.tx(&tx_hash(format!("tx{height}.0").as_bytes())).unwrap();
                assert_eq!(found.map(|t| (t.height, t.index)), Some((height, 0)), "round {round}");
            }
        }
        assert!(archive.record(committed + 1).unwrap().is_none());
        assert!(archive
            .tx(&tx_hash(format!("tx{}.0", committed + 1).as_bytes()))
            .unwrap()
            .is_none());
        let page = Page {
            skip: 0,
            limit: 1,
            descending: true,
        };
        let (newest, total) = archive.search_txs("app.tx='again'", page).unwrap();
        assert_eq!(
            i64::try_from(total).unwrap(),
            committed,
            "round {round}: each height once"
        );
        assert_eq!(newest.first().map_or(0, |t| t.height), committed);
    }
    assert!(
        deaths == 40 && Counter::height(&path) > 100,
        "the chain went on: {}",
        Counter::height(&path)
    );
}
