//! The chain's store, and what it is measured by: the same flat values in a sorted batch.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use tenure_bench_workload::contest::{Commit, Contestant};
use tenure_bench_workload::cost::Stamp;
use tenure_bench_workload::{Update, KEY_BYTES, VALUE_BYTES};
use tenure_store::{Backend, Batch, Change, Store, StoreOptions};
use tenure_store_rocks::{RocksBackend, RocksOptions};

/// The one module that is written.
pub(crate) const STORE: &str = "bank";

/// The node's cache; memtables a quarter of the node's, so that a run of a minute sees the flushes and compactions that a node sees in
/// four.
pub(crate) const SIZES: RocksOptions = RocksOptions {
    cache_bytes: 128 << 20,
    write_buffer_bytes: 16 << 20,
};

/// Sorted batches, synced.
pub(super) struct Plain(Arc<RocksBackend>);

impl Plain {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        Ok(Self(RocksBackend::open_with(directory.join("db"), SIZES)?))
    }
}

impl Contestant for Plain {
    fn prepare(&mut self, updates: Vec<Update>) -> Result<Commit<'_>> {
        let mut batch = Batch::with_capacity(updates.len(), updates.len() * (KEY_BYTES + VALUE_BYTES));
        for update in updates {
            batch.put(update.key, update.new);
        }
        Ok(Box::new(|| {
            self.0.write(batch)?;
            Ok(None)
        }))
    }

    fn get(&mut self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.view()?.get(key)?)
    }
}

/// The chain's store.
pub(super) struct Ours {
    store: Store,
    height: u64,
}

/// One view, so that memory is the trie's; as many undo records as asked.
pub(crate) fn options(keep_undo: usize) -> StoreOptions {
    StoreOptions {
        keep_views: 1,
        keep_undo,
    }
}

impl Ours {
    pub(super) fn open(directory: &Path, keep_undo: usize) -> Result<Self> {
        let backend = RocksBackend::open_with(directory.join("db"), SIZES)?;
        let store = Store::open(backend, &[STORE], options(keep_undo))?;
        let height = store.latest().height();
        Ok(Self { store, height })
    }
}

impl Contestant for Ours {
    fn prepare(&mut self, updates: Vec<Update>) -> Result<Commit<'_>> {
        let change = |update: Update| Change {
            store: STORE,
            key: update.key.to_vec(),
            old: update.old,
            new: Some(update.new),
        };
        let changes: Vec<Change> = updates.into_iter().map(change).collect();
        Ok(Box::new(|| {
            let staged = self.store.stage(changes)?;
            let root = Stamp::now();
            self.height += 1;
            self.store.commit(staged, self.height)?;
            Ok(Some(root))
        }))
    }

    fn get(&mut self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        Ok(self.store.latest().get(STORE, key)?)
    }
}

#[cfg(test)]
mod tests {
    use ::jmt::KeyHash;
    use sha2::Sha256;
    use tenure_bench_workload::Workload;

    use super::super::{jmt::Jmt, nomt::NomtStore};
    use super::*;

    /// Every block of a small workload, and whether all of it is there.
    fn play(store: &mut dyn Contestant) -> Result<()> {
        let mut workload = Workload::new(3_000);
        let fill: Vec<_> = workload.fill().collect();
        let blocks: Vec<_> = (0..5).map(|_| workload.block(500)).collect();
        for block in fill.into_iter().chain(blocks) {
            store.prepare(block)?()?;
        }
        for (key, value) in workload.sample(3_000) {
            assert_eq!(store.get(&key)?, Some(value));
        }
        assert_eq!(store.get(&[b'z'; KEY_BYTES])?, None);
        Ok(())
    }

    #[test]
    fn the_chains_trie_and_the_jmt_peer_have_the_same_root() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let mut ours = Ours::open(&scratch.path().join("ours"), 10)?;
        let mut jmt = Jmt::open(&scratch.path().join("jmt"))?;
        play(&mut ours)?;
        play(&mut jmt)?;
        // The app hash is the root of a tree over the modules' roots; here that has one leaf.
        let root = jmt.root()?;
        let mut main = Jmt::open(&scratch.path().join("main"))?;
        let (app_hash, _) = main.apply(vec![(KeyHash::with::<Sha256>(STORE), Some(root.0.to_vec()))])?;
        assert_eq!(app_hash.0, ours.store.latest().app_hash());
        Ok(())
    }

    #[test]
    fn stores_without_such_a_root_have_what_was_committed() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        play(&mut NomtStore::open(&scratch.path().join("nomt"), 3_000)?)?;
        play(&mut Plain::open(&scratch.path().join("plain"))?)
    }
}
