//! The levels above the shards: one small array per version.

use super::{inner_preimage, joined, At, Child, Joined, SHARDS, SHARD_BITS};
use crate::sha256;

/// A complete binary tree in heap order: the root is 1, the children of `i` are `2i` and `2i + 1`, shard `s` is `SHARDS + s`.
#[derive(Clone)]
pub(super) struct Top(Box<[Child; 2 * SHARDS]>);

impl Top {
    pub(super) fn new(shards: impl Iterator<Item = Child>) -> Top {
        Top(Box::new([Child::EMPTY; 2 * SHARDS])).with(shards.enumerate())
    }

    /// The levels with some shards' roots replaced.
    pub(super) fn with(&self, roots: impl Iterator<Item = (usize, Child)>) -> Top {
        let mut nodes = self.0.clone();
        let mut changed = [false; 2 * SHARDS];
        for (shard, root) in roots {
            nodes[SHARDS + shard] = root;
            changed[SHARDS + shard] = true;
        }
        for level in (0..SHARD_BITS).rev() {
            // Those whose hash changes; the nodes of a level are hashed together.
            let mut inner = Vec::with_capacity(1 << level);
            for index in 1 << level..2 << level {
                if changed[2 * index] || changed[2 * index + 1] {
                    changed[index] = true;
                    match joined(&nodes[2 * index], &nodes[2 * index + 1]) {
                        Joined::Up(child) => nodes[index] = child,
                        Joined::Inner => inner.push(index),
                    }
                }
            }
            sha256::for_each(
                &mut nodes,
                &inner,
                |nodes, index| inner_preimage(&[nodes[2 * index].hash, nodes[2 * index + 1].hash]),
                |nodes, index, hash| nodes[*index] = Child { at: At::Above, hash },
            );
        }
        Top(nodes)
    }

    /// Says where a shard's root lies, wherever it has moved up to. Its hash stays.
    pub(super) fn place(&mut self, shard: usize, root: Child) {
        let mut index = SHARDS + shard;
        let before = self.0[index];
        while index > 0 && self.0[index] == before && !before.is_empty() {
            self.0[index] = root;
            index /= 2;
        }
    }

    pub(super) fn root(&self) -> &Child {
        &self.0[1]
    }

    pub(super) fn node(&self, index: usize) -> &Child {
        &self.0[index]
    }

    pub(super) fn shard(&self, shard: usize) -> Child {
        self.0[SHARDS + shard]
    }
}
