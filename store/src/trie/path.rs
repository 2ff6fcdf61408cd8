//! Ways through a version: from the root to a key, and to its neighbours.

use super::arena::Reader;
use super::{bit, At, Child, Trie, SHARDS};
use crate::sha256::{sha256, Hash};

/// One inner node passed on the way to a key hash.
pub(crate) struct Step {
    /// Whether the way went right.
    pub(crate) right: bool,
    /// Hash of the other side.
    pub(crate) sibling: Hash,
    other: Place,
}

/// A subtree and where it is.
#[derive(Clone, Copy)]
enum Place {
    /// Node of the levels above the shards, by its heap index.
    Top(usize),
    /// In a shard.
    Shard(usize, Child),
}

/// What is at a key.
pub(crate) enum Found {
    /// The key.
    Present,
    /// Not the key; the keys before and after it by order of key hashes.
    Absent {
        left: Option<Vec<u8>>,
        right: Option<Vec<u8>>,
    },
}

impl Trie {
    /// The inner nodes from the root towards a key hash.
    pub(crate) fn path(&self, key_hash: &Hash) -> Vec<Step> {
        self.walk(key_hash).0
    }

    /// The leaf of `key`, or its neighbours.
    pub(crate) fn find(&self, key: &[u8]) -> Found {
        let key_hash = sha256(key);
        let (steps, end) = self.walk(&key_hash);
        let found = end.map(|end| self.outermost(end, false));
        if found.as_deref() == Some(key) {
            return Found::Present;
        }
        let beside = |right: bool| {
            let step = steps
                .iter()
                .rev()
                .find(|step| step.right != right && !self.is_nothing(step.other));
            step.map(|step| self.outermost(step.other, !right))
        };
        match found {
            Some(other) if sha256(&other) < key_hash => Found::Absent {
                left: Some(other),
                right: beside(true),
            },
            Some(other) => Found::Absent {
                left: beside(false),
                right: Some(other),
            },
            None => Found::Absent {
                left: beside(false),
                right: beside(true),
            },
        }
    }

    /// The steps towards a key hash and the leaf at their end, if there is one; it may be another key's.
    fn walk(&self, key_hash: &Hash) -> (Vec<Step>, Option<Place>) {
        let mut steps = Vec::new();
        let mut index = 1;
        while index < SHARDS {
            let node = self.top.node(index);
            if node.at != At::Above {
                return (steps, (!node.is_empty()).then_some(Place::Top(index)));
            }
            let right = bit(key_hash, steps.len());
            let (next, other) = (2 * index + usize::from(right), 2 * index + usize::from(!right));
            steps.push(Step {
                right,
                sibling: self.top.node(other).hash,
                other: Place::Top(other),
            });
            index = next;
        }
        let shard = index - SHARDS;
        let arena = self.forest.shards[shard].read();
        let nodes = arena.at(self.version);
        let mut node = self.top.shard(shard);
        while let At::Inner(slot) = node.at {
            let right = bit(key_hash, steps.len());
            let [other, next] = sides(nodes, slot, right);
            steps.push(Step {
                right,
                sibling: other.hash,
                other: Place::Shard(shard, other),
            });
            node = next;
        }
        (steps, (!node.is_empty()).then_some(Place::Shard(shard, node)))
    }

    fn is_nothing(&self, place: Place) -> bool {
        match place {
            Place::Top(index) => self.top.node(index).is_empty(),
            Place::Shard(_, child) => child.is_empty(),
        }
    }

    /// Key of the last leaf of a subtree that is not empty if `right`, else of the first.
    fn outermost(&self, place: Place, right: bool) -> Vec<u8> {
        let (shard, mut node) = match place {
            Place::Shard(shard, child) => (shard, child),
            Place::Top(mut index) => {
                // A lone leaf stands at every level from its shard up, so this ends at its shard.
                while index < SHARDS {
                    let (wanted, other) = (2 * index + usize::from(right), 2 * index + usize::from(!right));
                    index = if self.top.node(wanted).is_empty() {
                        other
                    } else {
                        wanted
                    };
                }
                (index - SHARDS, self.top.shard(index - SHARDS))
            }
        };
        let arena = self.forest.shards[shard].read();
        let nodes = arena.at(self.version);
        loop {
            match node.at {
                At::Inner(slot) => {
                    let [other, wanted] = sides(nodes, slot, right);
                    node = if wanted.is_empty() { other } else { wanted };
                }
                At::Leaf(slot) => return nodes.leaf(slot).to_vec(),
                at => unreachable!("a committed subtree that is not empty ends in a leaf, not {at:?}"),
            }
        }
    }
}

/// The two sides of an inner node, the wanted one last.
fn sides(nodes: Reader<'_>, slot: u32, right: bool) -> [Child; 2] {
    let (links, hashes) = (nodes.links(slot), nodes.sides(slot));
    [!right, right].map(usize::from).map(|side| Child {
        at: links[side].at(),
        hash: hashes.0[side],
    })
}
