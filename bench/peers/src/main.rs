//! cnidarium (Penumbra's store: Jellyfish Merkle trees in RocksDB) as a contestant of `tenure-bench store`, which starts this program with
//! a number of keys and a directory and drives it over standard input.

use std::path::PathBuf;

use anyhow::{Context, Result};
use cnidarium::{StateDelta, StateRead, StateWrite, Storage};
use tenure_bench_workload::contest::{serve, Commit, Contestant};
use tenure_bench_workload::cost::Stamp;
use tenure_bench_workload::{Update, KEY_BYTES};
use tokio::runtime::Runtime;

struct Cnidarium {
    runtime: Runtime,
    storage: Storage,
}

impl Contestant for Cnidarium {
    fn prepare(&mut self, updates: Vec<Update>) -> Result<Commit<'_>> {
        let mut delta = StateDelta::new(self.storage.latest_snapshot());
        for update in updates {
            delta.put_raw(String::from_utf8(update.key.to_vec())?, update.new);
        }
        Ok(Box::new(|| {
            let staged = self.runtime.block_on(self.storage.prepare_commit(delta))?;
            let known = Stamp::now();
            self.storage.commit_batch(staged)?;
            Ok(Some(known))
        }))
    }

    fn get(&mut self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        let (key, snapshot) = (std::str::from_utf8(key)?, self.storage.latest_snapshot());
        // It begins a task when it is called, so it is called in the runtime.
        self.runtime.block_on(async { snapshot.get_raw(key).await })
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let keys = args.next().and_then(|keys| keys.parse().ok());
    let directory = args.next().map(PathBuf::from);
    let (keys, directory) = keys.zip(directory).context("usage: <keys> <directory>")?;
    let runtime = Runtime::new()?;
    let storage = runtime.block_on(Storage::load(directory.join("db"), Vec::new()))?;
    serve(&mut Cnidarium { runtime, storage }, keys)
}
