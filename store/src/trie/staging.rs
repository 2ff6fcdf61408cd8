//! What a block changes in a shard, beside the committed nodes: first the shape, from the root down, then the hashes, from the leaves up.

use super::arena::{LeafKey, Link, Links, Sides, Unused};
use super::{bit, inner_preimage, At, Child, Hash};
use crate::sha256;

/// The slot of a node that has none yet.
pub(super) const NEW: u32 = u32::MAX;
/// The slot of a node that was there on the way down and is not on the way up: one leaf was left of its subtree, or nothing.
pub(super) const GONE: u32 = u32::MAX - 1;

/// A side of a staged node, or the shard's root.
#[derive(Clone, Copy)]
pub(super) struct Place {
    node: u32,
    right: bool,
}

impl Place {
    pub(super) const ROOT: Place = Place {
        node: u32::MAX,
        right: false,
    };

    pub(super) fn side(node: u32, right: bool) -> Place {
        Place { node, right }
    }

    fn index(self) -> (usize, usize) {
        (self.node as usize, usize::from(self.right))
    }
}

/// A staged inner node; its hashes are apart.
pub(super) struct Node {
    pub(super) slot: u32,
    pub(super) links: Links,
    /// The node above it.
    above: u32,
    /// Which side of it.
    right: bool,
    /// Below the whole trie's root; there are at most 256 levels.
    depth: u8,
}

/// A leaf that has its place, on its way into a subtree.
pub(super) struct Placed {
    pub(super) key_hash: Hash,
    pub(super) leaf: Child,
}

/// What a block changes in a shard. A node's children come after it.
pub(super) struct Staging {
    pub(super) root: Child,
    pub(super) nodes: Vec<Node>,
    pub(super) sides: Vec<Sides>,
    pub(super) leaves: Vec<LeafKey>,
    pub(super) unused: Unused,
    /// Whether any link changes. New values of keys that are there change none.
    pub(super) reshaped: bool,
}

impl Staging {
    /// No change yet to a shard with this root, and room for so many nodes.
    pub(super) fn new(root: Child, nodes: usize) -> Staging {
        Staging {
            root,
            nodes: Vec::with_capacity(nodes),
            sides: Vec::with_capacity(nodes),
            leaves: Vec::new(),
            unused: Unused::default(),
            reshaped: false,
        }
    }

    /// Stages a node, committed or [`NEW`], at its place. What is in it comes after.
    pub(super) fn add(&mut self, slot: u32, place: Place, depth: usize) -> u32 {
        let index = u32::try_from(self.nodes.len()).expect("a block changes fewer than 2^30 nodes of a shard");
        self.nodes.push(Node {
            slot,
            links: [Link::NOWHERE; 2],
            above: place.node,
            right: place.right,
            depth: u8::try_from(depth).expect("keys with one hash would be a collision of SHA-256"),
        });
        index
    }

    pub(super) fn add_leaf(&mut self, key: LeafKey) -> At {
        self.leaves.push(key);
        At::StagedLeaf(u32::try_from(self.leaves.len() - 1).expect("a block adds fewer than 2^30 leaves"))
    }

    /// Says that the next version does not use a committed leaf.
    pub(super) fn remove_leaf(&mut self, at: At) {
        if let At::Leaf(slot) = at {
            self.unused.leaves.push(slot);
        }
    }

    /// The subtree at a place.
    pub(super) fn child(&self, place: Place) -> Child {
        let (node, side) = place.index();
        match self.nodes.get(node) {
            None => self.root,
            Some(node_) => Child {
                at: node_.links[side].at(),
                hash: self.sides[node].0[side],
            },
        }
    }

    pub(super) fn set_hash(&mut self, place: Place, hash: Hash) {
        let (node, side) = place.index();
        match self.sides.get_mut(node) {
            None => self.root.hash = hash,
            Some(sides) => sides.0[side] = hash,
        }
    }

    pub(super) fn set(&mut self, place: Place, child: Child) {
        let (node, side) = place.index();
        self.reshaped = true;
        match self.nodes.get_mut(node) {
            None => self.root = child,
            Some(node_) => {
                node_.links[side] = child.at.into();
                self.sides[node].0[side] = child.hash;
            }
        }
    }

    /// Puts a subtree at its place: that over leaves sorted by key hash that agree in the first `depth` bits.
    pub(super) fn assemble(&mut self, place: Place, leaves: &[Placed], depth: usize) {
        match leaves {
            [] => self.set(place, Child::EMPTY),
            [only] => self.set(place, only.leaf),
            _ => {
                let node = self.add(NEW, place, depth);
                self.sides.push(Sides::EMPTY);
                // Its hash comes on the way up.
                self.set(
                    place,
                    Child {
                        at: At::StagedInner(node),
                        ..Child::EMPTY
                    },
                );
                let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key_hash, depth)));
                self.assemble(Place::side(node, false), left, depth + 1);
                self.assemble(Place::side(node, true), right, depth + 1);
            }
        }
    }

    fn place_of(&self, node: u32) -> Place {
        let Node { above, right, .. } = self.nodes[node as usize];
        Place::side(above, right)
    }

    /// Whether the node stays. If no more than a lone leaf is below it, that takes its place.
    fn stays(&mut self, index: u32) -> bool {
        let node = &self.nodes[index as usize];
        let up = match node.links.map(Link::at) {
            [At::Nowhere, at] if at.is_leaf() || at == At::Nowhere => true,
            [at, At::Nowhere] if at.is_leaf() => false,
            _ => return true,
        };
        let child = self.child(Place::side(index, up));
        self.set(self.place_of(index), child);
        let node = &mut self.nodes[index as usize];
        let slot = std::mem::replace(&mut node.slot, GONE);
        if slot != NEW {
            self.unused.inners.push(slot);
        }
        false
    }
}

/// The way up of several shards: all nodes of a level are hashed together.
pub(super) fn hash(shards: &mut [Staging]) {
    let Some(deepest) = shards
        .iter()
        .flat_map(|shard| &shard.nodes)
        .map(|node| node.depth)
        .max()
    else {
        return;
    };
    // A counting sort by depth: first `starts[d]` is the number of nodes above d, then where the next of depth d goes, then where d ends.
    let mut starts = vec![0; usize::from(deepest) + 2];
    for node in shards.iter().flat_map(|shard| &shard.nodes) {
        starts[usize::from(node.depth) + 1] += 1;
    }
    let mut all = 0;
    for start in &mut starts {
        all += *start;
        *start = all;
    }
    let mut order = vec![(0u32, 0u32); all];
    for (shard, number) in shards.iter().zip(0..) {
        for (node, index) in shard.nodes.iter().zip(0..) {
            let next = &mut starts[usize::from(node.depth)];
            order[*next] = (number, index);
            *next += 1;
        }
    }
    let mut rest = order.as_mut_slice();
    for depth in (0..=usize::from(deepest)).rev() {
        let above = if depth == 0 { 0 } else { starts[depth - 1] };
        let (shallower, level) = rest.split_at_mut(above);
        rest = shallower;
        let mut staying = 0;
        for index in 0..level.len() {
            let (shard, node) = level[index];
            if shards[shard as usize].stays(node) {
                level[staying] = (shard, node);
                staying += 1;
            }
        }
        sha256::for_each(
            shards,
            &level[..staying],
            |shards, (shard, node)| inner_preimage(&shards[*shard as usize].sides[*node as usize].0),
            |shards, (shard, node), hash| {
                let shard = &mut shards[*shard as usize];
                shard.set_hash(shard.place_of(*node), hash);
            },
        );
    }
}
