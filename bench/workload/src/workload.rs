//! Keys, values and blocks. Everything follows from the number of keys, so that two processes see the same blocks.

use sha2::{Digest, Sha256};

/// Length of a key: text, because cnidarium's keys are.
pub const KEY_BYTES: usize = 24;
/// Length of a value. Random, so that no compression helps anybody.
pub const VALUE_BYTES: usize = 100;
/// Keys of one batch while a store is filled.
const FILL: usize = 20_000;

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Lower-case hexadecimal digits.
    pub key: [u8; KEY_BYTES],
    /// What the key had before; nothing while the store is filled.
    pub old: Option<Vec<u8>>,
    /// What it has afterwards.
    pub new: Vec<u8>,
}

/// Blocks of updates of existing keys, each key at most once a block, sorted by key as a chain's overlay has them.
#[derive(Debug)]
pub struct Workload {
    /// How often each key was written.
    versions: Vec<u32>,
    random: SplitMix,
}

impl Workload {
    /// The workload on this many keys, before any is written.
    pub fn new(keys: usize) -> Self {
        Self {
            versions: vec![0; keys],
            random: SplitMix(0x7e7e),
        }
    }

    /// Number of keys.
    pub fn keys(&self) -> usize {
        self.versions.len()
    }

    /// The batches that write every key for the first time.
    pub fn fill(&mut self) -> impl Iterator<Item = Vec<Update>> + '_ {
        let keys = self.keys();
        (0..keys)
            .step_by(FILL)
            .map(move |from| self.update(from..keys.min(from + FILL)))
    }

    /// The next block. Its keys are neighbours by index; as a key is a hash of its index, they are anywhere in the key space.
    pub fn block(&mut self, updates: usize) -> Vec<Update> {
        let keys = self.keys();
        let from = usize::try_from(self.random.next() % keys.max(1) as u64).unwrap_or_default();
        self.update(from..from + updates.min(keys))
    }

    /// Keys spread over all, with what each has after the blocks so far.
    pub fn sample(&self, count: usize) -> impl Iterator<Item = ([u8; KEY_BYTES], Vec<u8>)> + '_ {
        let indexes = (0..self.keys()).step_by(self.keys().div_ceil(count.max(1)).max(1));
        let written = indexes.filter(|index| self.versions[*index] > 0);
        written.map(|index| (key(index), value(index, self.versions[index])))
    }

    fn update(&mut self, indexes: std::ops::Range<usize>) -> Vec<Update> {
        let keys = self.keys();
        let mut updates: Vec<Update> = indexes
            .map(|index| {
                let index = index % keys;
                let version = self.versions[index];
                self.versions[index] += 1;
                Update {
                    key: key(index),
                    old: (version > 0).then(|| value(index, version)),
                    new: value(index, version + 1),
                }
            })
            .collect();
        updates.sort_unstable_by_key(|update| update.key);
        updates
    }
}

/// The key of an index.
pub fn key(index: usize) -> [u8; KEY_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let hash = Sha256::digest((index as u64).to_be_bytes());
    let mut key = [0; KEY_BYTES];
    for (digits, byte) in key.chunks_exact_mut(2).zip(hash) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    key
}

/// The value that a key has after it was written `version` times.
fn value(index: usize, version: u32) -> Vec<u8> {
    let mut random = SplitMix((index as u64) << 32 | u64::from(version));
    let mut value = Vec::with_capacity(VALUE_BYTES.next_multiple_of(8));
    while value.len() < VALUE_BYTES {
        value.extend(random.next().to_le_bytes());
    }
    value.truncate(VALUE_BYTES);
    value
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): the same numbers in every version of this program.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_block_knows_what_the_blocks_before_it_wrote() {
        let mut workload = Workload::new(50_000);
        let mut state = BTreeMap::new();
        let filled: Vec<_> = workload.fill().collect();
        let blocks = (0..10).map(|_| workload.block(7_000));
        for block in filled.into_iter().chain(blocks) {
            assert!(block.is_sorted_by(|a, b| a.key < b.key), "sorted, no key twice");
            for update in block {
                assert_ne!(update.old.as_ref(), Some(&update.new));
                assert_eq!(state.insert(update.key, update.new), update.old);
            }
        }
        assert_eq!(state.len(), 50_000);
        let sample: Vec<_> = workload.sample(100).collect();
        assert_eq!(sample.len(), 100);
        assert!(sample.into_iter().all(|(key, value)| state.get(&key) == Some(&value)));
    }

    #[test]
    fn keys_are_text_and_what_they_always_were() {
        assert_eq!(std::str::from_utf8(&key(0)), Ok("af5570f5a1810b7af78caf4b"));
        assert_eq!(Workload::new(10).block(99).len(), 10);
    }
}
