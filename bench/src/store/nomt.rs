//! NOMT: its own trie and value store, through io_uring.

use std::path::Path;

use ::nomt::hasher::Sha2Hasher;
use ::nomt::trie::KeyPath;
use ::nomt::{KeyReadWrite, Nomt, Options, SessionParams};
use anyhow::Result;
use sha2::{Digest, Sha256};
use tenure_bench_workload::contest::{Commit, Contestant};
use tenure_bench_workload::cost::Stamp;
use tenure_bench_workload::{Update, KEY_BYTES};

/// Hash table pages for each key: at 10⁶ keys half a million, of which it then uses about a third.
const KEYS_A_BUCKET: usize = 2;
/// Fewer than these are not worth a table of their own.
const LEAST_BUCKETS: u32 = 64_000;

/// One database, rollback off as by default.
pub(super) struct NomtStore(Nomt<Sha2Hasher>);

impl NomtStore {
    pub(super) fn open(directory: &Path, keys: usize) -> Result<Self> {
        let buckets = u32::try_from(keys / KEYS_A_BUCKET)?.max(LEAST_BUCKETS);
        let mut options = Options::new();
        options.path(directory.join("db"));
        options.commit_concurrency(std::thread::available_parallelism()?.get());
        options.hashtable_buckets(buckets);
        // The same hash table in every run.
        options.bitbox_seed([7; 16]);
        Ok(Self(Nomt::open(options)?))
    }
}

/// NOMT wants keys spread evenly: it leaves the hashing to its user.
fn path(key: &[u8]) -> KeyPath {
    Sha256::digest(key).into()
}

impl Contestant for NomtStore {
    fn prepare(&mut self, updates: Vec<Update>) -> Result<Commit<'_>> {
        Ok(Box::new(|| {
            let write = |update: Update| (path(&update.key), KeyReadWrite::Write(Some(update.new)));
            let mut writes: Vec<_> = updates.into_iter().map(write).collect();
            writes.sort_unstable_by_key(|(path, _)| *path);
            let finished = self.0.begin_session(SessionParams::default()).finish(writes)?;
            let known = Stamp::now();
            finished.commit(&self.0)?;
            Ok(Some(known))
        }))
    }

    fn get(&mut self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        self.0.begin_session(SessionParams::default()).read(path(key))
    }
}
