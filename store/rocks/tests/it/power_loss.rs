//! Lost power, imitated: the directory as a kill left it, with a file cut short.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tenure_store::StoreError;

use crate::chain::{cases, open, Committer, Reference};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Files of a kind in the order they were made.
fn files(path: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match kind {
                "log" => name.ends_with(".log"),
                "sst" => name.ends_with(".sst"),
                start => name.starts_with(start),
            }
        })
        .collect();
    found.sort();
    found
}

#[derive(Default, Debug)]
struct Tally {
    whole: usize,
    older: usize,
    refused: usize,
}

#[test]
fn a_file_cut_short_gives_a_committed_height_or_a_refusal_never_a_mix() {
    let started = Instant::now();
    let mut rng = StdRng::seed_from_u64(12);
    let mut reference = Reference::new();
    let directory = tempfile::tempdir().unwrap();
    let (live, image, cut) = (
        directory.path().join("live"),
        directory.path().join("image"),
        directory.path().join("cut"),
    );
    let mut tallies: BTreeMap<(&str, &str), Tally> = BTreeMap::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    for _ in 0..cases(10) {
        let delay = Duration::from_millis(rng.gen_range(150..500));
        let acknowledged = Committer::start(&live, None).kill_after(delay);
        let _ = fs::remove_dir_all(&image);
        copy(&live, &image);
        for case in 0..18 {
            let kind = ["log", "first log", "MANIFEST", "sst", "CURRENT", "gone"][case % 6];
            let of_kind = match kind {
                // Not cut but lost: any file the database needs.
                "gone" => ["log", "MANIFEST", "sst", "CURRENT"]
                    .iter()
                    .flat_map(|kind| files(&image, kind))
                    .collect(),
                // Of two logs the older: cut between batches it reads as whole, and the newer one goes on after the hole.
                "first log" => files(&image, "log"),
                kind => files(&image, kind),
            };
            let Some(target) = (match kind {
                "gone" => of_kind.get(rng.gen_range(0..of_kind.len())),
                "first log" => of_kind.first(),
                _ => of_kind.last(),
            }) else {
                continue;
            };
            let _ = fs::remove_dir_all(&cut);
            copy(&image, &cut);
            let name = target.file_name().unwrap();
            let length = fs::metadata(target).unwrap().len();
            let mut untouched = false;
            if kind == "gone" {
                fs::remove_file(cut.join(name)).unwrap();
            } else {
                let keep = rng.gen_range(0..=length);
                untouched = keep == length;
                fs::OpenOptions::new()
                    .write(true)
                    .open(cut.join(name))
                    .unwrap()
                    .set_len(keep)
                    .unwrap();
            }
            count += 1;
            let is_log = name.to_string_lossy().ends_with(".log");
            let tally = tallies.entry((kind, if is_log { "log" } else { "other" })).or_default();
            match open(&cut) {
                Ok(store) => {
                    let latest = store.latest();
                    reference.check(&latest);
                    if latest.height() >= acknowledged {
                        tally.whole += 1;
                    } else {
                        assert!(
                            is_log,
                            "{name:?} of {length} bytes was damaged and height {acknowledged} lost"
                        );
                        assert!(!untouched);
                        tally.older += 1;
                    }
                }
                Err(error) => {
                    assert!(!untouched, "{error}");
                    let shown = match &error {
                        StoreError::Backend { detail, advice, .. } => {
                            assert!(advice.contains("restore"), "{error}");
                            let plain = detail
                                .replace(|digit: char| digit.is_ascii_digit(), "")
                                .replace("  ", " ");
                            plain.split(&[':', '/'][..]).take(2).collect::<Vec<_>>().join(":")
                        }
                        StoreError::RootMismatch { .. } => "root mismatch found by the store".to_owned(),
                        StoreError::Malformed { .. } => "malformed layout found by the store".to_owned(),
                        other => panic!("{other}"),
                    };
                    *reasons.entry(shown).or_default() += 1;
                    tally.refused += 1;
                }
            }
        }
        // The original, undamaged, goes on.
        let store = open(&live).unwrap();
        assert!(store.latest().height() >= acknowledged);
        reference.check(&store.latest());
    }
    println!("{count} damaged directories in {:.0?}", started.elapsed());
    for ((kind, file), tally) in &tallies {
        println!("  {kind} ({file}): {tally:?}");
    }
    for (reason, count) in &reasons {
        println!("  refused {count} times: {reason}");
    }
    assert!(count >= 100);
    assert!(tallies.values().any(|tally| tally.older > 0) && tallies.values().any(|tally| tally.refused > 0));
}
