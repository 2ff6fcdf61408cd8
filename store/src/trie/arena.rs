//! The nodes of a shard: numbered slots that hold the latest version, and what the versions before it had in them.

use std::collections::VecDeque;
use std::sync::OnceLock;

use super::staging::{Node, Staging, GONE, NEW};
use super::{At, Child, Hash, PLACEHOLDER};

/// Slots allocated at a time: no slot ever moves, and a growing shard wastes at most one chunk.
const CHUNK: usize = 512;

/// The hashes of a node's two sides: what its own hash is made of. One cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Sides(pub(super) [Hash; 2]);

impl Sides {
    pub(super) const EMPTY: Sides = Sides([PLACEHOLDER; 2]);
}

/// An [`At`] in four bytes: two bits say which kind, the others which slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(u32);

/// Where the two sides of a node lie.
pub(super) type Links = [Link; 2];

impl Link {
    const KIND: u32 = 3 << 30;
    const LEAF: u32 = 1 << 30;
    const STAGED_INNER: u32 = 2 << 30;
    const STAGED_LEAF: u32 = 3 << 30;
    const ABOVE: u32 = u32::MAX - 1;
    pub(super) const NOWHERE: Link = Link(u32::MAX);

    pub(super) fn at(self) -> At {
        let index = self.0 & !Link::KIND;
        match self.0 & Link::KIND {
            _ if self == Link::NOWHERE => At::Nowhere,
            _ if self.0 == Link::ABOVE => At::Above,
            Link::LEAF => At::Leaf(index),
            Link::STAGED_INNER => At::StagedInner(index),
            Link::STAGED_LEAF => At::StagedLeaf(index),
            _ => At::Inner(index),
        }
    }
}

impl From<At> for Link {
    fn from(at: At) -> Link {
        let (kind, index) = match at {
            At::Nowhere => return Link::NOWHERE,
            At::Above => return Link(Link::ABOVE),
            At::Inner(index) => (0, index),
            At::Leaf(index) => (Link::LEAF, index),
            At::StagedInner(index) => (Link::STAGED_INNER, index),
            At::StagedLeaf(index) => (Link::STAGED_LEAF, index),
        };
        assert!(
            index < !Link::KIND - 1,
            "a shard has fewer than 2^30 nodes: memory ends before"
        );
        Link(kind | index)
    }
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
struct Slots<T>(Vec<Vec<T>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots(Vec::new())
    }
}

impl<T> Slots<T> {
    fn get(&self, index: u32) -> &T {
        let index = index as usize;
        &self.0[index / CHUNK][index % CHUNK]
    }

    fn get_mut(&mut self, index: u32) -> &mut T {
        let index = index as usize;
        &mut self.0[index / CHUNK][index % CHUNK]
    }

    fn push(&mut self, value: T) -> u32 {
        if self.0.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.0.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.0.len() - 1) * CHUNK;
        let last = self.0.last_mut().expect("there is one");
        let index = full + last.len();
        last.push(value);
        u32::try_from(index).expect("a shard has fewer than 2^30 nodes: memory ends before")
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

/// What a version changed in a shard, as it was before.
struct Replaced {
    version: u64,
    /// Slots of inner nodes, each with what it held.
    nodes: Vec<Node>,
    sides: Vec<Sides>,
    /// Slots that this version no longer uses; versions before it do, so they still hold what they did.
    unused: Unused,
    /// The places in `nodes` by slot, made when the first reader of an older version comes: a commit does not pay for it.
    by_slot: OnceLock<Vec<(u32, u32)>>,
}

impl Replaced {
    fn find(&self, slot: u32) -> Option<(&Links, &Sides)> {
        let by_slot = self.by_slot.get_or_init(|| {
            let slots = self.nodes.iter().map(|node| node.slot).zip(0..);
            let mut by_slot: Vec<(u32, u32)> = slots.filter(|(slot, _)| *slot != GONE).collect();
            by_slot.sort_unstable();
            by_slot
        });
        let found = by_slot.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        let place = by_slot[found].1 as usize;
        Some((&self.nodes[place].links, &self.sides[place]))
    }
}

/// Slots to reuse once no version needs them.
#[derive(Default)]
pub(super) struct Unused {
    pub(super) inners: Vec<u32>,
    pub(super) leaves: Vec<u32>,
}

/// The nodes of a shard. The latest version is in the slots, so that an update is written where it was read. A held version before it is
/// read through what the versions after it replaced.
#[derive(Default)]
pub(super) struct Arena {
    links: Slots<Links>,
    sides: Slots<Sides>,
    leaves: Slots<LeafKey>,
    free: Unused,
    /// By version, ascending.
    replaced: VecDeque<Replaced>,
}

/// A shard as a version has it.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    arena: &'a Arena,
    /// The first of `arena.replaced` that is younger than the version.
    younger: usize,
}

impl<'a> Reader<'a> {
    /// What an older version has in a slot, if that is not what the slot holds.
    fn before(&self, slot: u32) -> Option<(&'a Links, &'a Sides)> {
        self.arena
            .replaced
            .range(self.younger..)
            .find_map(|replaced| replaced.find(slot))
    }

    #[inline]
    pub(super) fn links(&self, slot: u32) -> Links {
        if self.younger < self.arena.replaced.len() {
            if let Some((links, _)) = self.before(slot) {
                return *links;
            }
        }
        *self.arena.links.get(slot)
    }

    #[inline]
    pub(super) fn sides(&self, slot: u32) -> &'a Sides {
        if self.younger < self.arena.replaced.len() {
            if let Some((_, sides)) = self.before(slot) {
                return sides;
            }
        }
        self.arena.sides.get(slot)
    }

    pub(super) fn leaf(&self, slot: u32) -> &'a [u8] {
        self.arena.leaves.get(slot).as_slice()
    }

    /// Inner nodes of the shard, about.
    pub(super) fn inners(&self) -> usize {
        self.arena.links.0.len() * CHUNK
    }
}

impl Arena {
    /// The shard as `version` has it, which is held.
    pub(super) fn at(&self, version: u64) -> Reader<'_> {
        Reader {
            arena: self,
            younger: self.replaced.partition_point(|replaced| replaced.version <= version),
        }
    }

    /// Takes in what a block changed, as of `version`, and returns the root with its place here. What only versions before `oldest` had is
    /// forgotten.
    pub(super) fn absorb(&mut self, staging: Staging, version: u64, oldest: u64) -> Child {
        while self.replaced.front().is_some_and(|replaced| replaced.version <= oldest) {
            let Some(replaced) = self.replaced.pop_front() else {
                break;
            };
            for leaf in &replaced.unused.leaves {
                // A long key is on the heap.
                *self.leaves.get_mut(*leaf) = LeafKey::NONE;
            }
            self.free.inners.extend(replaced.unused.inners);
            self.free.leaves.extend(replaced.unused.leaves);
        }
        let Staging {
            mut root,
            mut nodes,
            mut sides,
            leaves,
            unused,
            reshaped,
        } = staging;
        let replaces = nodes.iter().any(|node| node.slot != NEW && node.slot != GONE);
        if reshaped {
            self.place(&mut root, &mut nodes, leaves);
        }
        // The slots are no longer in the nearest caches: ask for all at once, not for one after another.
        for node in nodes.iter().filter(|node| node.slot != GONE) {
            std::hint::black_box(self.sides.get(node.slot).0[0][0]);
        }
        // From here on the staged nodes are what the slots held before.
        for (node, sides) in nodes.iter_mut().zip(&mut sides) {
            if node.slot != GONE {
                std::mem::swap(sides, self.sides.get_mut(node.slot));
                if reshaped {
                    std::mem::swap(&mut node.links, self.links.get_mut(node.slot));
                }
            }
        }
        if replaces || !(unused.inners.is_empty() && unused.leaves.is_empty()) {
            self.replaced.push_back(Replaced {
                version,
                nodes,
                sides,
                unused,
                by_slot: OnceLock::new(),
            });
        }
        root
    }

    /// Finds slots for new nodes and leaves, and says so to who links to them.
    fn place(&mut self, root: &mut Child, nodes: &mut [Node], leaves: Vec<LeafKey>) {
        let leaves: Vec<u32> = leaves.into_iter().map(|leaf| self.new_leaf(leaf)).collect();
        let placed = |at: At, nodes: &[Node]| match at {
            At::StagedInner(index) => At::Inner(nodes[index as usize].slot),
            At::StagedLeaf(index) => At::Leaf(leaves[index as usize]),
            at => at,
        };
        // A staged node's children were staged after it.
        for index in (0..nodes.len()).rev() {
            let links = nodes[index].links.map(|link| Link::from(placed(link.at(), nodes)));
            nodes[index].links = links;
            if nodes[index].slot == NEW {
                nodes[index].slot = self.new_inner();
            }
        }
        root.at = placed(root.at, nodes);
    }

    fn new_inner(&mut self) -> u32 {
        self.free.inners.pop().unwrap_or_else(|| {
            self.sides.push(Sides::EMPTY);
            self.links.push([Link::NOWHERE; 2])
        })
    }

    fn new_leaf(&mut self, key: LeafKey) -> u32 {
        match self.free.leaves.pop() {
            Some(slot) => {
                *self.leaves.get_mut(slot) = key;
                slot
            }
            None => self.leaves.push(key),
        }
    }

    /// Nodes that are not free, and what is kept for versions before the latest.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let slots = self.links.len() + self.leaves.len();
        let free = self.free.inners.len() + self.free.leaves.len();
        let kept = self
            .replaced
            .iter()
            .map(|replaced| replaced.nodes.len() + replaced.unused.inners.len() + replaced.unused.leaves.len());
        (slots - free, kept.sum())
    }
}
