//! A block's changes, computed beside the committed nodes of a shard.

use super::arena::{Arena, Inner, LeafKey, Staging};
use super::{bit, joined, leaf_hash, sha256, At, Child, Hash, Joined, KeyedLeaf, SHARD_BITS};

/// What an update may assume about the key before it.
#[derive(Clone, Copy)]
pub(crate) enum Before<'a> {
    /// The caller knows the value (or the absence); the trie checks it.
    Known(Option<&'a [u8]>),
    /// Not known: an undo, whose result is checked by its root.
    Unknown,
}

/// One key to set or to remove.
pub(crate) struct Update<'a> {
    pub(super) key_hash: Hash,
    key: &'a [u8],
    before: Before<'a>,
    /// Hash of the new leaf; `None` removes the key.
    new_leaf: Option<Hash>,
}

impl<'a> Update<'a> {
    pub(crate) fn new(key: &'a [u8], before: Before<'a>, new: Option<&[u8]>) -> Update<'a> {
        let key_hash = sha256(key);
        Update {
            key_hash,
            key,
            before,
            new_leaf: new.map(|value| leaf_hash(&key_hash, &sha256(value))),
        }
    }

    fn check_absent(&self) -> Result<(), Mismatch<'a>> {
        match self.before {
            Before::Known(Some(_)) => Err(Mismatch {
                key: self.key,
                detail: "there is no committed value",
            }),
            _ => Ok(()),
        }
    }

    fn check_present(&self, leaf: &Hash) -> Result<(), Mismatch<'a>> {
        match self.before {
            Before::Unknown => Ok(()),
            Before::Known(None) => Err(Mismatch {
                key: self.key,
                detail: "there is a committed value",
            }),
            Before::Known(Some(old)) if leaf_hash(&self.key_hash, &sha256(old)) == *leaf => Ok(()),
            Before::Known(Some(_)) => Err(Mismatch {
                key: self.key,
                detail: "the committed value is another",
            }),
        }
    }
}

/// References in the order of the key hashes. The first eight bytes nearly always decide, and are moved in place of the updates.
pub(super) fn sorted<'u, 'a>(updates: &'u [Update<'a>]) -> Vec<&'u Update<'a>> {
    let first = |hash: &Hash| hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    let mut order: Vec<(u64, &Update<'a>)> = updates.iter().map(|update| (first(&update.key_hash), update)).collect();
    order.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.key_hash.cmp(&y.key_hash)));
    order.into_iter().map(|(_, update)| update).collect()
}

/// The state before an update is not what its caller said.
#[derive(Debug)]
pub(crate) struct Mismatch<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) detail: &'static str,
}

/// A leaf that has its place, on its way into a subtree.
struct Placed {
    key_hash: Hash,
    leaf: Child,
}

/// The shard's root after sorted updates to one whose root is `root`.
pub(super) fn update<'a>(
    arena: &Arena,
    staging: &mut Staging,
    root: Child,
    updates: &[&Update<'a>],
) -> Result<Child, Mismatch<'a>> {
    fetch(arena, root, updates);
    subtree(arena, staging, root, updates, SHARD_BITS)
}

/// Reads every node that the updates will visit, level by level. The reads of a level do not wait for each other, while the recursion would
/// wait for each of its own: nearly all of an update's time would be that.
fn fetch(arena: &Arena, root: Child, updates: &[&Update<'_>]) {
    let mut ways: Vec<(At, &Hash)> = updates.iter().map(|update| (root.at, &update.key_hash)).collect();
    let mut depth = SHARD_BITS;
    while !ways.is_empty() {
        ways.retain_mut(|(at, key_hash)| match *at {
            At::Inner(index) => {
                let inner = arena.inner(index);
                *at = if bit(key_hash, depth) {
                    inner.right.at
                } else {
                    inner.left.at
                };
                true
            }
            At::Leaf(index) => {
                std::hint::black_box(arena.leaf(index).first());
                false
            }
            _ => false,
        });
        depth += 1;
    }
}

/// A shard of sorted leaves.
pub(super) fn build(leaves: Vec<KeyedLeaf>, staging: &mut Staging) -> Child {
    let place = |KeyedLeaf { key_hash, hash, key }| Placed {
        key_hash,
        leaf: Child {
            at: staging.add_leaf(key),
            hash,
        },
    };
    let placed: Vec<Placed> = leaves.into_iter().map(place).collect();
    assemble(staging, &placed, SHARD_BITS)
}

fn join(staging: &mut Staging, left: Child, right: Child) -> Child {
    match joined(&left, &right) {
        Joined::Up(child) => child,
        Joined::Inner(hash) => Child {
            at: staging.add_inner(Inner { left, right }),
            hash,
        },
    }
}

fn subtree<'a>(
    arena: &Arena,
    staging: &mut Staging,
    node: Child,
    updates: &[&Update<'a>],
    depth: usize,
) -> Result<Child, Mismatch<'a>> {
    if updates.is_empty() {
        return Ok(node);
    }
    let At::Inner(index) = node.at else {
        return replace(arena, staging, node, updates, depth);
    };
    let Inner { left, right } = *arena.inner(index);
    let (to_left, to_right) = updates.split_at(updates.partition_point(|update| !bit(&update.key_hash, depth)));
    let new_left = subtree(arena, staging, left, to_left, depth + 1)?;
    let new_right = subtree(arena, staging, right, to_right, depth + 1)?;
    if new_left == left && new_right == right {
        return Ok(node);
    }
    staging.retire(node.at);
    Ok(join(staging, new_left, new_right))
}

/// Updates a subtree of no leaf or one.
fn replace<'a>(
    arena: &Arena,
    staging: &mut Staging,
    node: Child,
    updates: &[&Update<'a>],
    depth: usize,
) -> Result<Child, Mismatch<'a>> {
    let present = match node.at {
        At::Leaf(index) => Some(arena.leaf(index)),
        _ => None,
    };
    // By far the most frequent case, without the list: one key that is there. Its leaf stays where it is.
    if let ([update], Some(key)) = (updates, present) {
        if key == update.key {
            update.check_present(&node.hash)?;
            return Ok(match update.new_leaf {
                Some(hash) => Child { hash, ..node },
                None => {
                    staging.retire(node.at);
                    Child::EMPTY
                }
            });
        }
    }
    let mut leaves = Vec::with_capacity(updates.len() + 1);
    // The present leaf as long as no update has met it.
    let mut kept = present;
    for update in updates {
        let mut at = None;
        if present == Some(update.key) {
            update.check_present(&node.hash)?;
            kept = None;
            match update.new_leaf {
                Some(_) => at = Some(node.at),
                None => staging.retire(node.at),
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
    Ok(assemble(staging, &leaves, depth))
}

/// The subtree over leaves sorted by key hash that agree in the first `depth` bits.
fn assemble(staging: &mut Staging, leaves: &[Placed], depth: usize) -> Child {
    match leaves {
        [] => Child::EMPTY,
        [only] => only.leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key_hash, depth)));
            let left = assemble(staging, left, depth + 1);
            let right = assemble(staging, right, depth + 1);
            join(staging, left, right)
        }
    }
}
