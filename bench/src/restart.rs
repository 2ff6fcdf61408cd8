//! Opening the state: the tries from the values and the app hash checked, and for the application all that is derived from its records.

use std::path::Path;

use anyhow::{ensure, Result};
use tenure_app::{App, AppOptions};
use tenure_bench_workload::cost::{median, of, resident_bytes, Cost};
use tenure_bench_workload::key;
use tenure_store::{Store, StoreOptions};
use tenure_store_rocks::RocksBackend;

use crate::report::{Bound, Goal, Section, Table};
use crate::store::{fill_ours, OURS_SIZES, STORE};
use crate::transfers::Transfers;

/// Proofs made to time one.
const PROOFS: usize = 20_000;

/// How the measurement runs.
#[derive(clap::Args)]
pub(crate) struct Choices {
    /// Keys of state
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    keys: u32,
    /// How often each is opened
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(5..))]
    opens: u16,
}

/// Measures.
pub(crate) fn run(choices: &Choices) -> Result<Section> {
    let keys = choices.keys as usize;
    let scratch = tempfile::Builder::new().prefix("tenure-bench.").tempdir()?;
    // By another process, so that what this one grows by is the opened store and not what filling it left behind.
    eprintln!("filling a store with {keys} keys");
    let directory = scratch.path().join("store");
    fill_ours(&directory, keys)?;
    let directory = directory.join("db");
    let before = resident_bytes()?;
    let store = open_store(&directory)?;
    let grown = resident_bytes()?.saturating_sub(before);
    ensure!(
        store.latest().get(STORE, &key(keys - 1))?.is_some(),
        "the store was not filled"
    );
    let (proofs, result) = of(|| prove(&store, keys));
    result?;
    drop(store);
    let store = opened(choices.opens, || open_store(&directory))?;

    eprintln!("a chain of {} accounts", keys / 2);
    let directory = scratch.path().join("chain");
    let backend = RocksBackend::open(&directory)?;
    drop(Transfers::new(
        backend,
        StoreOptions::default(),
        AppOptions::default(),
        keys / 2,
    ));
    let app = opened(choices.opens, || {
        let backend = RocksBackend::open(&directory)?;
        Ok(App::open(backend, StoreOptions::default(), AppOptions::default())?)
    })?;

    let mut table = Table::new(["opened", "wall s", "CPU s"]);
    let mut goals = Vec::new();
    for (name, costs) in [("the store", &store), ("the application, half as many accounts", &app)] {
        let seconds = |ns: fn(&Cost) -> u64| median(costs.iter().map(|cost| ns(cost) as f64 / 1e9)).unwrap_or(f64::NAN);
        let (wall, cpu) = (seconds(|cost| cost.wall_ns), seconds(|cost| cost.cpu_ns));
        table.row([name.to_owned(), format!("{wall:.2}"), format!("{cpu:.2}")]);
        goals.push(Goal::new(format!("seconds to open {name}"), wall, Bound::AtMost(1.0)));
    }
    Ok(Section {
        method: format!(
            "A database of {keys} keys, in the page cache, closed and opened {} times, medians: RocksDB is opened, every value is read and hashed, the tries are built on \
             all cores and their root is compared with the recorded app hash. The application has {} accounts with a balance each, and derives its \
             indexes as well.",
            choices.opens,
            keys / 2
        ),
        tables: vec![(format!("**{keys} keys**"), table)],
        goals,
        remarks: vec![format!(
            "The opened store needs {:.0} bytes of memory a key, RocksDB's included. An existence proof takes {:.1} µs.",
            grown as f64 / keys as f64,
            proofs.wall_us_each(PROOFS)
        )],
    })
}

fn open_store(directory: &Path) -> Result<Store> {
    let backend = RocksBackend::open_with(directory, OURS_SIZES)?;
    Ok(Store::open(backend, &[STORE], crate::store::options(10))?)
}

fn prove(store: &Store, keys: usize) -> Result<()> {
    let view = store.latest();
    for index in 0..PROOFS {
        view.prove(STORE, &key(index * 37 % keys))?;
    }
    Ok(())
}

/// What opening costs, each time; closing is not counted.
fn opened<T>(times: u16, mut open: impl FnMut() -> Result<T>) -> Result<Vec<Cost>> {
    (0..times)
        .map(|_| {
            let (cost, opened) = of(&mut open);
            drop(opened?);
            Ok(cost)
        })
        .collect()
}
