//! The nodes of a shard: numbered slots that are reused when no version needs them.

use std::collections::VecDeque;

use super::{At, Child};

/// Slots allocated at a time: no slot ever moves, and a growing shard wastes at most one chunk.
const CHUNK: usize = 512;

/// A subtree of two keys or more. The hashes of both sides are here, so that reading it is enough to know its own.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    pub(super) left: Child,
    pub(super) right: Child,
}

/// The raw key of a leaf: non-existence proofs show their neighbours' keys, and a key tells its own hash. The leaf's hash is with its
/// parent, so that a new value of a key needs no new leaf.
pub(super) enum LeafKey {
    Inline { len: u8, bytes: [u8; LeafKey::INLINE] },
    Heap(Box<[u8]>),
}

impl LeafKey {
    const INLINE: usize = 30;
    const NONE: LeafKey = LeafKey::Inline {
        len: 0,
        bytes: [0; LeafKey::INLINE],
    };

    pub(super) fn new(key: &[u8]) -> LeafKey {
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= LeafKey::INLINE => {
                let mut bytes = [0; LeafKey::INLINE];
                bytes[..key.len()].copy_from_slice(key);
                LeafKey::Inline { len, bytes }
            }
            _ => LeafKey::Heap(key.into()),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            LeafKey::Inline { len, bytes } => &bytes[..usize::from(*len)],
            LeafKey::Heap(bytes) => bytes,
        }
    }
}

/// Slots of one kind.
struct Slots<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    fn get(&self, index: u32) -> &T {
        let index = index as usize;
        &self.chunks[index / CHUNK][index % CHUNK]
    }

    fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.chunks[index as usize / CHUNK][index as usize % CHUNK] = value;
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let last = self.chunks.last_mut().expect("there is one");
        let index = full + last.len();
        last.push(value);
        u32::try_from(index).expect("a shard has fewer than 2^32 nodes: memory ends before")
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        let all: usize = self.chunks.iter().map(Vec::len).sum();
        all - self.free.len()
    }
}

/// Slots that a version no longer uses. Versions before it do.
struct Retired {
    version: u64,
    inners: Vec<u32>,
    leaves: Vec<u32>,
}

/// The nodes of a shard, of all versions that are held.
#[derive(Default)]
pub(super) struct Arena {
    inners: Slots<Inner>,
    leaves: Slots<LeafKey>,
    retired: VecDeque<Retired>,
}

impl Arena {
    pub(super) fn inner(&self, index: u32) -> &Inner {
        self.inners.get(index)
    }

    pub(super) fn leaf(&self, index: u32) -> &[u8] {
        self.leaves.get(index).as_slice()
    }

    /// Takes in what a block added and replaced, as of `version`, and returns the root with its place here. Slots that only versions
    /// before `oldest` used are reused.
    pub(super) fn absorb(&mut self, staging: Staging, root: Child, version: u64, oldest: u64) -> Child {
        while self.retired.front().is_some_and(|retired| retired.version <= oldest) {
            let Some(retired) = self.retired.pop_front() else { break };
            for leaf in &retired.leaves {
                // A long key is on the heap.
                self.leaves.chunks[*leaf as usize / CHUNK][*leaf as usize % CHUNK] = LeafKey::NONE;
            }
            self.inners.free.extend(retired.inners);
            self.leaves.free.extend(retired.leaves);
        }
        let leaves: Vec<u32> = staging
            .leaves
            .into_iter()
            .map(|leaf| self.leaves.insert(leaf))
            .collect();
        // A staged node's children were staged before it.
        let mut inners: Vec<u32> = Vec::with_capacity(staging.inners.len());
        let placed = |child: Child, inners: &[u32]| Child {
            at: match child.at {
                At::StagedInner(index) => At::Inner(inners[index as usize]),
                At::StagedLeaf(index) => At::Leaf(leaves[index as usize]),
                at => at,
            },
            ..child
        };
        for Inner { left, right } in staging.inners {
            let node = Inner {
                left: placed(left, &inners),
                right: placed(right, &inners),
            };
            inners.push(self.inners.insert(node));
        }
        if !(staging.retired_inners.is_empty() && staging.retired_leaves.is_empty()) {
            self.retired.push_back(Retired {
                version,
                inners: staging.retired_inners,
                leaves: staging.retired_leaves,
            });
        }
        placed(root, &inners)
    }

    /// Nodes that are not free, and free ones.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let free = self.inners.free.len() + self.leaves.free.len();
        (self.inners.used() + self.leaves.used(), free)
    }
}

/// What a block adds to a shard and what it replaces there.
#[derive(Default)]
pub(super) struct Staging {
    inners: Vec<Inner>,
    leaves: Vec<LeafKey>,
    retired_inners: Vec<u32>,
    retired_leaves: Vec<u32>,
}

impl Staging {
    pub(super) fn add_inner(&mut self, inner: Inner) -> At {
        self.inners.push(inner);
        At::StagedInner(u32::try_from(self.inners.len() - 1).expect("a block adds fewer than 2^32 nodes"))
    }

    pub(super) fn add_leaf(&mut self, key: LeafKey) -> At {
        self.leaves.push(key);
        At::StagedLeaf(u32::try_from(self.leaves.len() - 1).expect("a block adds fewer than 2^32 leaves"))
    }

    /// Says that the next version does not use a committed node.
    pub(super) fn retire(&mut self, at: At) {
        match at {
            At::Inner(index) => self.retired_inners.push(index),
            At::Leaf(index) => self.retired_leaves.push(index),
            _ => {}
        }
    }
}
