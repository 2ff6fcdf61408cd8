//! A block's changes, and the way down: which nodes of a shard they reach.

use std::ops::Range;

use super::arena::{LeafKey, Reader};
use super::staging::{Place, Placed, Staging};
use super::{bit, leaf_preimage, At, Child, Hash, KeyedLeaf, SHARD_BITS};
use crate::sha256::{self, sha256};

/// What an update may assume about the key before it.
#[derive(Clone, Copy)]
pub(crate) enum Before<'a> {
    /// The caller knows the value (or the absence); the trie checks it.
    Known(Option<&'a [u8]>),
    /// Not known: an undo, whose result is checked by its root.
    Unknown,
}

/// One key to set or to remove.
#[derive(Clone, Copy)]
pub(crate) struct Update<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) before: Before<'a>,
    /// The value after it; `None` removes the key.
    pub(crate) new: Option<&'a [u8]>,
}

/// The state before an update is not what its caller said.
#[derive(Debug)]
pub(crate) struct Mismatch<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) detail: &'static str,
}

/// What must be at a key before its update.
#[derive(Clone, Copy)]
enum Expected {
    Anything,
    Nothing,
    /// A leaf of this hash.
    Leaf(Hash),
}

/// An update in hashes.
pub(super) struct Hashed<'a> {
    pub(super) key_hash: Hash,
    key: &'a [u8],
    expected: Expected,
    /// Hash of the new leaf; `None` removes the key.
    new_leaf: Option<Hash>,
}

impl<'a> Hashed<'a> {
    fn check_absent(&self) -> Result<(), Mismatch<'a>> {
        match self.expected {
            Expected::Leaf(_) => Err(Mismatch {
                key: self.key,
                detail: "there is no committed value",
            }),
            _ => Ok(()),
        }
    }

    fn check_present(&self, leaf: &Hash) -> Result<(), Mismatch<'a>> {
        match self.expected {
            Expected::Anything => Ok(()),
            Expected::Nothing => Err(Mismatch {
                key: self.key,
                detail: "there is a committed value",
            }),
            Expected::Leaf(expected) if expected == *leaf => Ok(()),
            Expected::Leaf(_) => Err(Mismatch {
                key: self.key,
                detail: "the committed value is another",
            }),
        }
    }
}

/// The hashes of updates, in their order.
pub(super) fn hashed<'a>(updates: &[Update<'a>]) -> Vec<Hashed<'a>> {
    /// A value that an update speaks of.
    struct Value {
        update: usize,
        is_new: bool,
        hash: Hash,
    }
    let keys: Vec<&[u8]> = updates.iter().map(|update| update.key).collect();
    let with_key = |(update, key_hash): (&Update<'a>, Hash)| Hashed {
        key_hash,
        key: update.key,
        expected: match update.before {
            Before::Unknown => Expected::Anything,
            Before::Known(_) => Expected::Nothing,
        },
        new_leaf: None,
    };
    let mut hashed: Vec<Hashed<'a>> = updates.iter().zip(sha256::digests(&keys)).map(with_key).collect();
    let mut values = Vec::with_capacity(2 * updates.len());
    let mut bytes = Vec::with_capacity(2 * updates.len());
    for (index, update) in updates.iter().enumerate() {
        let old = match update.before {
            Before::Known(old) => old,
            Before::Unknown => None,
        };
        for (value, is_new) in [(old, false), (update.new, true)] {
            if let Some(value) = value {
                bytes.push(value);
                values.push((index, is_new));
            }
        }
    }
    let values: Vec<Value> = values
        .into_iter()
        .zip(sha256::digests(&bytes))
        .map(|((update, is_new), hash)| Value { update, is_new, hash })
        .collect();
    sha256::for_each(
        &mut hashed,
        &values,
        |hashed, value| leaf_preimage(&hashed[value.update].key_hash, &value.hash),
        |hashed, value, leaf| match value.is_new {
            true => hashed[value.update].new_leaf = Some(leaf),
            false => hashed[value.update].expected = Expected::Leaf(leaf),
        },
    );
    hashed
}

/// An update by its key hash, whose first bits are here: they nearly always decide, and are moved in place of the update.
#[derive(Clone, Copy)]
pub(super) struct Sorted<'u, 'a> {
    first: u64,
    pub(super) update: &'u Hashed<'a>,
}

impl Sorted<'_, '_> {
    fn bit(&self, depth: usize) -> bool {
        match depth {
            0..64 => self.first >> (63 - depth) & 1 == 1,
            _ => bit(&self.update.key_hash, depth),
        }
    }
}

/// The updates in the order of the key hashes.
pub(super) fn sorted<'u, 'a>(updates: impl Iterator<Item = &'u Hashed<'a>>) -> Vec<Sorted<'u, 'a>> {
    let first = |hash: &Hash| hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    let mut sorted: Vec<Sorted<'u, 'a>> = updates
        .map(|update| Sorted {
            first: first(&update.key_hash),
            update,
        })
        .collect();
    sorted.sort_unstable_by(|a, b| (a.first.cmp(&b.first)).then_with(|| a.update.key_hash.cmp(&b.update.key_hash)));
    sorted
}

/// Where some of the updates go: through a staged node, or to what is at an end of the inner nodes.
struct Way<T> {
    to: T,
    updates: Range<usize>,
}

/// The ways of a shard: through the nodes of a level, through those of the next, and that have ended. Empty between shards, which share its
/// memory.
#[derive(Default)]
pub(super) struct Ways {
    level: Vec<Way<u32>>,
    next: Vec<Way<u32>>,
    ends: Vec<Way<(Place, usize)>>,
}

/// Stages what sorted updates reach in a shard whose root is `root`: copies of the inner nodes on their ways, the new leaves, and the new
/// nodes above those. The hashes of inner nodes are [`staging::hash`](super::staging::hash)'s work.
///
/// Nearly all time goes into waiting for memory. So all ways go down a level at a time, by the links alone, and the hashes are copied when
/// all nodes are known: the reads of each of these loops do not wait for each other.
pub(super) fn stage<'a>(
    shard: Reader<'_>,
    root: Child,
    updates: &[Sorted<'_, 'a>],
    ways: &mut Ways,
) -> Result<Staging, Mismatch<'a>> {
    // An update has as many levels to itself as there are between so many updates and so many nodes, and two and a half shared ones. The
    // logarithm is to half a level: growing would copy all.
    let nodes_each = shard.inners() / updates.len().max(1);
    let half_levels = nodes_each.saturating_mul(nodes_each).checked_ilog2().unwrap_or(0) as usize;
    let mut staging = Staging::new(root, (half_levels + 6) * updates.len() / 2 + 1);
    let Ways { level, next, ends } = ways;
    let mut depth = SHARD_BITS;
    let whole = 0..updates.len();
    match root.at {
        At::Inner(slot) => level.push(Way {
            to: staging.add(slot, Place::ROOT, depth),
            updates: whole,
        }),
        _ => ends.push(Way {
            to: (Place::ROOT, depth),
            updates: whole,
        }),
    }
    while !level.is_empty() {
        for way in &*level {
            let node = &mut staging.nodes[way.to as usize];
            node.links = shard.links(node.slot);
        }
        for Way {
            to: node,
            updates: through,
        } in level.drain(..)
        {
            let links = staging.nodes[node as usize].links;
            let Range { start, end } = through;
            let middle = match end - start {
                1 => start + usize::from(!updates[start].bit(depth)),
                _ => start + updates[start..end].partition_point(|update| !update.bit(depth)),
            };
            for (right, updates) in [(false, start..middle), (true, middle..end)] {
                let place = Place::side(node, right);
                match links[usize::from(right)].at() {
                    _ if updates.is_empty() => {}
                    At::Inner(slot) => next.push(Way {
                        to: staging.add(slot, place, depth + 1),
                        updates,
                    }),
                    _ => ends.push(Way {
                        to: (place, depth + 1),
                        updates,
                    }),
                }
            }
        }
        depth += 1;
        std::mem::swap(level, next);
    }
    let Staging { nodes, sides, .. } = &mut staging;
    sides.extend(nodes.iter().map(|node| *shard.sides(node.slot)));
    for Way {
        to: (place, depth),
        updates: here,
    } in ends.drain(..)
    {
        replace(shard, &mut staging, place, &updates[here], depth)?;
    }
    Ok(staging)
}

/// Updates a subtree of no leaf or one.
fn replace<'a>(
    shard: Reader<'_>,
    staging: &mut Staging,
    place: Place,
    updates: &[Sorted<'_, 'a>],
    depth: usize,
) -> Result<(), Mismatch<'a>> {
    let node = staging.child(place);
    // By far the most frequent case: one key that is there, as its leaf's hash shows. The key itself need not be read.
    if let [Sorted { update, .. }] = updates {
        if matches!(update.expected, Expected::Leaf(leaf) if leaf == node.hash) {
            match update.new_leaf {
                Some(leaf) => staging.set_hash(place, leaf),
                None => {
                    staging.remove_leaf(node.at);
                    staging.set(place, Child::EMPTY);
                }
            }
            return Ok(());
        }
    }
    let present = match node.at {
        At::Leaf(slot) => Some(shard.leaf(slot)),
        _ => None,
    };
    let mut leaves = Vec::with_capacity(updates.len() + 1);
    // The present leaf as long as no update has met it.
    let mut kept = present;
    for Sorted { update, .. } in updates {
        let mut at = None;
        if present == Some(update.key) {
            update.check_present(&node.hash)?;
            kept = None;
            match update.new_leaf {
                Some(_) => at = Some(node.at),
                None => staging.remove_leaf(node.at),
            }
        } else {
            update.check_absent()?;
        }
        if let Some(hash) = update.new_leaf {
            let at = at.unwrap_or_else(|| staging.add_leaf(LeafKey::new(update.key)));
            leaves.push(Placed {
                key_hash: update.key_hash,
                leaf: Child { at, hash },
            });
        }
    }
    if let Some(key) = kept {
        let key_hash = sha256(key);
        let kept = Placed { key_hash, leaf: node };
        leaves.insert(leaves.partition_point(|leaf| leaf.key_hash < key_hash), kept);
    }
    staging.assemble(place, &leaves, depth);
    Ok(())
}

/// A shard of sorted leaves.
pub(super) fn build(leaves: Vec<KeyedLeaf>) -> Staging {
    let mut staging = Staging::new(Child::EMPTY, leaves.len() * 3 / 2);
    let place = |KeyedLeaf { key_hash, hash, key }| Placed {
        key_hash,
        leaf: Child {
            at: staging.add_leaf(key),
            hash,
        },
    };
    let placed: Vec<Placed> = leaves.into_iter().map(place).collect();
    staging.assemble(Place::ROOT, &placed, SHARD_BITS);
    staging
}
