//! What the published design of a Jellyfish Merkle tree costs: the crate `jmt` with its nodes in RocksDB, on the same backend as ours.
//!
//! Nodes and values of every version stay, as they do without a pruner: that is less work than pruning.

use std::path::Path;
use std::sync::Arc;

use ::jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use ::jmt::{KeyHash, OwnedValue, RootHash, Sha256Jmt, Version};
use anyhow::{bail, Result};
use sha2::Sha256;
use tenure_bench_workload::contest::{Commit, Contestant};
use tenure_bench_workload::cost::Stamp;
use tenure_bench_workload::{Update, KEY_BYTES};
use tenure_store::{Backend, BackendView, Batch};
use tenure_store_rocks::RocksBackend;

use super::contenders::SIZES;

/// One tree in RocksDB.
pub(super) struct Jmt {
    backend: Arc<RocksBackend>,
    next: Version,
}

/// The tree as of the last commit.
struct Reader(Arc<dyn BackendView>);

/// `n`, the version big-endian, the path: nodes of one version lie together.
fn node_key(key: &NodeKey) -> Result<Vec<u8>> {
    let mut bytes = vec![b'n'];
    bytes.extend(key.version().to_be_bytes());
    borsh::to_writer(&mut bytes, key.nibble_path())?;
    Ok(bytes)
}

/// `v`, the key's hash, the version big-endian: versions of one value lie together.
fn value_key(key: KeyHash, version: Version) -> Vec<u8> {
    [b"v".as_slice(), &key.0, &version.to_be_bytes()].concat()
}

impl TreeReader for Reader {
    fn get_node_option(&self, key: &NodeKey) -> Result<Option<Node>> {
        let bytes = self.0.get(&node_key(key)?)?;
        Ok(bytes.map(|bytes| borsh::from_slice(&bytes)).transpose()?)
    }

    fn get_value_option(&self, max_version: Version, key: KeyHash) -> Result<Option<OwnedValue>> {
        let end = value_key(key, max_version.saturating_add(1));
        let newest = self.0.range(&value_key(key, 0), Some(&end), true).next();
        match newest {
            Some(entry) => Ok(borsh::from_slice(&entry?.1)?),
            None => Ok(None),
        }
    }

    fn get_rightmost_leaf(&self) -> Result<Option<(NodeKey, LeafNode)>> {
        bail!("only a restore asks for the rightmost leaf")
    }
}

impl Jmt {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let backend = RocksBackend::open_with(directory.join("db"), SIZES)?;
        Ok(Self { backend, next: 0 })
    }

    /// Commits the next version; its root, and when that was known.
    pub(super) fn apply(&mut self, changes: Vec<(KeyHash, Option<OwnedValue>)>) -> Result<(RootHash, Stamp)> {
        let reader = Reader(self.backend.view()?);
        let (root, update) = Sha256Jmt::new(&reader).put_value_set(changes, self.next)?;
        let known = Stamp::now();
        let (nodes, values) = (update.node_batch.nodes(), update.node_batch.values());
        let mut batch = Batch::with_capacity(nodes.len() + values.len(), 0);
        for (key, node) in nodes {
            batch.put(node_key(key)?, borsh::to_vec(node)?);
        }
        // By key of the database: a sorted batch is what the others write, too.
        let mut values: Vec<_> = values
            .iter()
            .map(|((version, key), value)| (value_key(*key, *version), value))
            .collect();
        values.sort_unstable();
        for (key, value) in values {
            batch.put(key, borsh::to_vec(value)?);
        }
        self.backend.write(batch)?;
        self.next += 1;
        Ok((root, known))
    }

    /// The root of the last version.
    #[cfg(test)]
    pub(super) fn root(&self) -> Result<RootHash> {
        let reader = Reader(self.backend.view()?);
        Sha256Jmt::new(&reader).get_root_hash(self.next - 1)
    }
}

impl Contestant for Jmt {
    fn prepare(&mut self, updates: Vec<Update>) -> Result<Commit<'_>> {
        Ok(Box::new(|| {
            let hashed = |update: Update| (KeyHash::with::<Sha256>(update.key), Some(update.new));
            let (_, known) = self.apply(updates.into_iter().map(hashed).collect())?;
            Ok(Some(known))
        }))
    }

    fn get(&mut self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        let reader = Reader(self.backend.view()?);
        reader.get_value_option(self.next.saturating_sub(1), KeyHash::with::<Sha256>(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_at_their_version() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let mut tree = Jmt::open(scratch.path())?;
        let (one, two) = (KeyHash::with::<Sha256>("one"), KeyHash::with::<Sha256>("two"));
        tree.apply(vec![(one, Some(b"a".to_vec())), (two, Some(b"b".to_vec()))])?;
        let (root, _) = tree.apply(vec![(one, Some(b"c".to_vec()))])?;
        let reader = Reader(tree.backend.view()?);
        let read = |version, key| reader.get_value_option(version, key);
        assert_eq!(read(0, one)?.as_deref(), Some(b"a".as_slice()));
        assert_eq!(read(1, one)?.as_deref(), Some(b"c".as_slice()));
        assert_eq!(read(1, two)?.as_deref(), Some(b"b".as_slice()));
        assert_eq!(Sha256Jmt::new(&reader).get_root_hash(1)?, root);
        Ok(())
    }
}
