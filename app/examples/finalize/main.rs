//! What a block of transfers costs, warm and cold, beside a bare loop of libsecp256k1 verifications. CPU time of the whole process.
//!
//! ```text
//! cargo run -p tenure-app --example finalize [transfers a block] [blocks] [accounts]
//! ```

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a measurement may panic")]
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

mod transfers;

use std::{sync::Arc, time::Instant};

use rustix::time::{clock_gettime, ClockId};
use secp256k1::Secp256k1;
use tenure_app::AppOptions;
use tenure_store::{MemoryBackend, StoreOptions};
use transfers::{signatures, Transfers};

/// CPU time of the process and wall time, microseconds.
fn now(start: Instant) -> (f64, f64) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec as f64 * 1e6 + cpu.tv_nsec as f64 / 1e3;
    (cpu, start.elapsed().as_secs_f64() * 1e6)
}

/// CPU and wall time of `work`, microseconds for each of `count`.
fn timed(start: Instant, count: usize, work: impl FnOnce()) -> (f64, f64) {
    let (cpu, wall) = now(start);
    work();
    let (cpu_after, wall_after) = now(start);
    ((cpu_after - cpu) / count as f64, (wall_after - wall) / count as f64)
}

fn median(mut values: Vec<(f64, f64)>) -> (f64, f64) {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    values[values.len() / 2]
}

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse::<usize>().expect("a number"));
    let (count, blocks) = (args.next().unwrap_or(5_000), args.next().unwrap_or(7));
    let accounts = args.next().unwrap_or(5_000);
    let chain = || {
        let options = AppOptions {
            signature_cache: 4 * count,
            ..AppOptions::default()
        };
        Transfers::new(
            Arc::new(MemoryBackend::new()),
            StoreOptions::default(),
            options,
            accounts,
        )
    };
    let (mut warm, mut cold) = (chain(), chain());
    let start = Instant::now();
    let bare = signatures(count);
    let context = Secp256k1::verification_only();
    let mut rows: [Vec<(f64, f64)>; 6] = Default::default();
    // Interleaved, so that whatever else the machine does falls on all alike.
    for _ in 0..blocks {
        let txs = warm.sign(count);
        rows[0].push(timed(start, count, || {
            for (message, signature, key) in &bare {
                context.verify_ecdsa(*message, signature, key).expect("good");
            }
        }));
        rows[1].push(timed(start, count, || {
            txs.iter().for_each(|tx| assert!(warm.check(tx)))
        }));
        rows[2].push(timed(start, count, || drop(warm.finalize(&txs))));
        rows[3].push(timed(start, count, || warm.commit()));
        let txs = cold.sign(count);
        rows[4].push(timed(start, count, || drop(cold.finalize(&txs))));
        rows[5].push(timed(start, count, || cold.commit()));
    }
    let names = [
        "libsecp256k1 loop",
        "CheckTx",
        "FinalizeBlock, warm",
        "Commit",
        "FinalizeBlock, cold",
        "Commit",
    ];
    println!("{count} transfers a block, {accounts} accounts, {blocks} blocks, median; microseconds a transfer");
    println!("{:24}{:>10}{:>10}", "", "CPU", "wall");
    let rows: Vec<(f64, f64)> = rows.into_iter().map(median).collect();
    for (name, (cpu, wall)) in names.iter().zip(&rows) {
        println!("{name:24}{cpu:>10.2}{wall:>10.2}");
    }
    let ratio = |finalize: usize| rows[0].0 / (rows[finalize].0 + rows[finalize + 1].0);
    println!(
        "FinalizeBlock+Commit beside the loop, transfers per CPU second: warm {:.2} times, cold {:.2}",
        ratio(2),
        ratio(4)
    );
    println!("cold on the wall: {:.2} times", rows[0].1 / (rows[4].1 + rows[5].1));
}
