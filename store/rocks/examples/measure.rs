//! Prints what the store costs next to a plain sorted RocksDB batch: `cargo run -p tenure-store-rocks --example measure -- [keys]`.
//!
//! Interleaved in one process on two databases of the same keys (24 bytes) and values (100 bytes); CPU time of all threads.

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use tenure_store::{Backend, Batch, Change, Store, StoreError, StoreOptions};
use tenure_store_rocks::{RocksBackend, RocksOptions};

const STORES: [&str; 1] = ["bank"];
const UPDATES: usize = 10_000;
const ROUNDS: usize = 15;
/// Small, so that resident memory is the trie's and not the cache's.
const SIZES: RocksOptions = RocksOptions {
    cache_bytes: 32 << 20,
    write_buffer_bytes: 64 << 20,
};

/// CPU seconds of this process, user and system: fields 14 and 15 of proc(5), in ticks of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// A line of /proc/self/status or io in bytes.
fn figure(file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let number: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0.0);
    if line.ends_with("kB") {
        number * 1024.0
    } else {
        number
    }
}

fn key(index: usize) -> Vec<u8> {
    let mut key = (index as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .to_be_bytes()
        .to_vec();
    key.resize(24, 7);
    key
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), StoreError> {
    let keys: usize = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(1_000_000);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut rng = StdRng::seed_from_u64(1);
    let mut value = move || (0..100).map(|_| rng.gen()).collect::<Vec<u8>>();
    let mut values: Vec<Vec<u8>> = (0..keys).map(|_| value()).collect();

    let plain = RocksBackend::open_with(directory.path().join("plain"), SIZES)?;
    let ours = RocksBackend::open_with(directory.path().join("ours"), SIZES)?;
    let options = StoreOptions {
        keep_views: 1,
        keep_undo: 10,
    };
    let store = Store::open(ours.clone(), &STORES, options)?;
    let mut height = 0;
    for from in (0..keys).step_by(20_000) {
        let range = from..(from + 20_000).min(keys);
        let mut batch = Batch::new();
        range
            .clone()
            .for_each(|index| batch.put(key(index), values[index].clone()));
        plain.write(batch)?;
        let change = |index| Change {
            store: "bank",
            key: key(index),
            old: None,
            new: Some(values[index].clone()),
        };
        height += 1;
        store.commit(store.stage(range.map(change).collect())?, height)?;
    }
    drop(store);

    let before = figure("/proc/self/status", "VmRSS");
    let (start, start_cpu) = (Instant::now(), cpu());
    let store = Store::open(ours, &STORES, options)?;
    let grown = figure("/proc/self/status", "VmRSS") - before;
    println!(
        "{keys} keys: rebuilt and checked in {:.2?} wall, {:.2} s CPU",
        start.elapsed(),
        cpu() - start_cpu
    );
    println!(
        "  resident memory grew by {:.0} bytes a key (what an earlier trie left free included)",
        grown / keys as f64
    );

    let mut picker = StdRng::seed_from_u64(2);
    for updates in [UPDATES, 1000, 100] {
        let rounds = if updates == UPDATES { ROUNDS } else { 100 };
        let (mut plain_cpu, mut stage_cpu, mut ours_cpu, mut plain_bytes, mut ours_bytes) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (mut plain_wall, mut stage_wall, mut commit_wall) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut chosen = sample(&mut picker, keys, updates.min(keys)).into_vec();
            chosen.sort_by_key(|index| key(*index));
            let new: Vec<Vec<u8>> = chosen.iter().map(|_| value()).collect();
            let mut batch = Batch::with_capacity(updates);
            chosen
                .iter()
                .zip(&new)
                .for_each(|(index, new)| batch.put(key(*index), new.clone()));
            let changes: Vec<Change> = chosen
                .iter()
                .zip(new)
                .map(|(index, new)| Change {
                    store: "bank",
                    key: key(*index),
                    old: Some(std::mem::replace(&mut values[*index], new.clone())),
                    new: Some(new),
                })
                .collect();

            let (start, start_cpu, start_bytes) = (Instant::now(), cpu(), figure("/proc/self/io", "write_bytes"));
            plain.write(batch)?;
            plain_wall.push(start.elapsed().as_secs_f64());
            plain_cpu += cpu() - start_cpu;
            plain_bytes += figure("/proc/self/io", "write_bytes") - start_bytes;

            let (start, start_cpu, start_bytes) = (Instant::now(), cpu(), figure("/proc/self/io", "write_bytes"));
            let staged = store.stage(changes)?;
            stage_wall.push(start.elapsed().as_secs_f64());
            stage_cpu += cpu() - start_cpu;
            height += 1;
            store.commit(staged, height)?;
            commit_wall.push(start.elapsed().as_secs_f64() - stage_wall[stage_wall.len() - 1]);
            ours_cpu += cpu() - start_cpu;
            ours_bytes += figure("/proc/self/io", "write_bytes") - start_bytes;
        }
        let per_update = 1e6 / (rounds * updates) as f64;
        println!(
            "  {updates} updates a block: plain batch {:.2} us CPU an update, the store with undo {:.2}, of it the app hash {:.2} ({:.2} times), bytes {:.2} times",
            plain_cpu * per_update,
            ours_cpu * per_update,
            stage_cpu * per_update,
            ours_cpu / plain_cpu,
            ours_bytes / plain_bytes
        );
        println!(
            "    wall, median: plain batch {:.1} ms; app hash {:.1} ms, commit {:.1} ms",
            median(plain_wall) * 1e3,
            median(stage_wall) * 1e3,
            median(commit_wall) * 1e3
        );
    }
    let view = store.latest();
    let start = Instant::now();
    for index in 0..20_000 {
        view.prove("bank", &key(index * 37 % keys))?;
    }
    println!(
        "  existence proof: {:.1} us each",
        start.elapsed().as_secs_f64() * 1e6 / 20_000.0
    );
    let backend: Arc<dyn Backend> = plain;
    drop(backend);
    Ok(())
}
