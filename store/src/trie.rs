//! The commitment: a binary Merkle trie over SHA-256 of the keys, held in memory, persistent by path copying.
//!
//! Its root is, bit for bit, that of a Jellyfish Merkle tree (crate `jmt` 0.12, which is the oracle in the tests; Diem's paper
//! "Jellyfish Merkle Tree", 2021, §3 and §4), because that root is a function of the key set alone:
//!
//! ```text
//! root(∅)          = "SPARSE_MERKLE_PLACEHOLDER_HASH__"
//! root({(k, v)})   = sha256("JMT::LeafNode" ‖ sha256(k) ‖ sha256(v))
//! root(S), |S| ≥ 2 = sha256("JMT::IntrnalNode" ‖ root(S with next bit 0) ‖ root(S with next bit 1))
//! ```
//!
//! Nodes are immutable and shared between versions, so a staged candidate, the committed trie and every older view are each one
//! pointer, and dropping one frees exactly the nodes that no other version uses. An inner node takes one 64-byte allocation, a leaf
//! with a key of up to 30 bytes one of 80; n keys need about 1.44 n inner nodes: some 172 bytes a key in all.

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use triomphe::{Arc, ArcUnion, ArcUnionBorrow};

/// A SHA-256 digest.
pub(crate) type Hash = [u8; 32];

/// Root of the empty set.
pub(crate) const PLACEHOLDER: Hash = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";
/// Prefix of a leaf's preimage.
pub(crate) const LEAF_DOMAIN: &[u8; 13] = b"JMT::LeafNode";
/// Prefix of an inner node's preimage.
pub(crate) const INNER_DOMAIN: &[u8; 16] = b"JMT::IntrnalNode";

/// Below this many updates or leaves a subtree is done on one thread: a join costs about as much as hashing fifty nodes.
const PARALLEL_ABOVE: usize = 512;

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

fn leaf_hash(key_hash: &Hash, value_hash: &Hash) -> Hash {
    let mut preimage = [0; 13 + 32 + 32];
    preimage[..13].copy_from_slice(LEAF_DOMAIN);
    preimage[13..45].copy_from_slice(key_hash);
    preimage[45..].copy_from_slice(value_hash);
    sha256(&preimage)
}

fn inner_hash(left: &Hash, right: &Hash) -> Hash {
    let mut preimage = [0; 16 + 32 + 32];
    preimage[..16].copy_from_slice(INNER_DOMAIN);
    preimage[16..48].copy_from_slice(left);
    preimage[48..].copy_from_slice(right);
    sha256(&preimage)
}

/// The bit of `hash` that chooses the side at `depth`, most significant first; true is right.
fn bit(hash: &Hash, depth: usize) -> bool {
    hash[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// The raw key of a leaf: non-existence proofs show their neighbours' keys, and a key tells its own hash.
enum LeafKey {
    Inline { len: u8, bytes: [u8; LeafKey::INLINE] },
    Heap(Box<[u8]>),
}

impl LeafKey {
    const INLINE: usize = 30;

    fn new(key: &[u8]) -> LeafKey {
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= LeafKey::INLINE => {
                let mut bytes = [0; LeafKey::INLINE];
                bytes[..key.len()].copy_from_slice(key);
                LeafKey::Inline { len, bytes }
            }
            _ => LeafKey::Heap(key.into()),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            LeafKey::Inline { len, bytes } => &bytes[..usize::from(*len)],
            LeafKey::Heap(bytes) => bytes,
        }
    }
}

/// One key and the hash of its leaf. The value is in the database; its hash is inside the leaf's.
pub(crate) struct Leaf {
    hash: Hash,
    key: LeafKey,
}

impl Leaf {
    pub(crate) fn key(&self) -> &[u8] {
        self.key.as_slice()
    }
}

/// A subtree of two keys or more.
pub(crate) struct Inner {
    hash: Hash,
    left: Option<Node>,
    right: Option<Node>,
}

/// A shared pointer to an inner node or a leaf, one word wide.
#[derive(Clone)]
struct Node(ArcUnion<Inner, Leaf>);

enum NodeRef<'a> {
    Inner(&'a Inner),
    Leaf(&'a Leaf),
}

impl Node {
    fn leaf(key: &[u8], hash: Hash) -> Node {
        Node(ArcUnion::from_second(Arc::new(Leaf {
            hash,
            key: LeafKey::new(key),
        })))
    }

    /// The node over two subtrees. A lone leaf stands for its whole subtree, so it moves up.
    fn join(left: Option<Node>, right: Option<Node>) -> Option<Node> {
        match (left, right) {
            (None, None) => None,
            (Some(only), None) | (None, Some(only)) if only.0.is_second() => Some(only),
            (left, right) => {
                let hash = inner_hash(&hash_of(left.as_ref()), &hash_of(right.as_ref()));
                Some(Node(ArcUnion::from_first(Arc::new(Inner { hash, left, right }))))
            }
        }
    }

    fn get(&self) -> NodeRef<'_> {
        match self.0.borrow() {
            ArcUnionBorrow::First(inner) => NodeRef::Inner(inner.get()),
            ArcUnionBorrow::Second(leaf) => NodeRef::Leaf(leaf.get()),
        }
    }

    fn hash(&self) -> &Hash {
        match self.get() {
            NodeRef::Inner(inner) => &inner.hash,
            NodeRef::Leaf(leaf) => &leaf.hash,
        }
    }
}

fn hash_of(node: Option<&Node>) -> Hash {
    node.map_or(PLACEHOLDER, |node| *node.hash())
}

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
    key_hash: Hash,
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

    fn check_present(&self, leaf: &Leaf) -> Result<(), Mismatch<'a>> {
        match self.before {
            Before::Unknown => Ok(()),
            Before::Known(None) => Err(Mismatch {
                key: self.key,
                detail: "there is a committed value",
            }),
            Before::Known(Some(old)) if leaf_hash(&self.key_hash, &sha256(old)) == leaf.hash => Ok(()),
            Before::Known(Some(_)) => Err(Mismatch {
                key: self.key,
                detail: "the committed value is another",
            }),
        }
    }
}

/// The state before an update is not what its caller said.
#[derive(Debug)]
pub(crate) struct Mismatch<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) detail: &'static str,
}

/// A leaf on its way into a new subtree.
pub(crate) struct KeyedLeaf {
    key_hash: Hash,
    node: Node,
}

impl KeyedLeaf {
    pub(crate) fn new(key: &[u8], value: &[u8]) -> KeyedLeaf {
        let key_hash = sha256(key);
        KeyedLeaf {
            key_hash,
            node: Node::leaf(key, leaf_hash(&key_hash, &sha256(value))),
        }
    }
}

/// A trie. Cloning it is one reference count.
#[derive(Clone, Default)]
pub(crate) struct Trie(Option<Node>);

impl Trie {
    /// The trie over these leaves, whose keys are distinct, in any order.
    pub(crate) fn build(mut leaves: Vec<KeyedLeaf>) -> Trie {
        leaves.par_sort_unstable_by_key(|leaf| leaf.key_hash);
        Trie(assemble(&leaves, 0))
    }

    pub(crate) fn root(&self) -> Hash {
        hash_of(self.0.as_ref())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The trie after these updates, whose keys are distinct, in any order. `self` is untouched and shares what did not change.
    pub(crate) fn updated<'a>(&self, mut updates: Vec<Update<'a>>) -> Result<Trie, Mismatch<'a>> {
        if updates.len() > PARALLEL_ABOVE {
            updates.par_sort_unstable_by_key(|update| update.key_hash);
        } else {
            updates.sort_unstable_by_key(|update| update.key_hash);
        }
        Ok(match update(self.0.as_ref(), &updates, 0)? {
            Outcome::Same => self.clone(),
            Outcome::New(node) => Trie(node),
        })
    }

    /// Walks from the root towards `key_hash`.
    pub(crate) fn walk(&self, key_hash: &Hash) -> Walk<'_> {
        let mut steps = Vec::new();
        let mut node = self.0.as_ref();
        loop {
            match node.map(Node::get) {
                None => return Walk { steps, leaf: None },
                Some(NodeRef::Leaf(leaf)) => {
                    return Walk {
                        steps,
                        leaf: Some(leaf),
                    }
                }
                Some(NodeRef::Inner(inner)) => {
                    let right = bit(key_hash, steps.len());
                    let (next, sibling) = if right {
                        (&inner.right, &inner.left)
                    } else {
                        (&inner.left, &inner.right)
                    };
                    steps.push(Step {
                        right,
                        sibling: sibling.as_ref(),
                    });
                    node = next.as_ref();
                }
            }
        }
    }
}

/// One inner node passed on a [`Walk`].
struct Step<'a> {
    right: bool,
    sibling: Option<&'a Node>,
}

/// The way from the root towards a key hash, and the leaf at its end, which may be another key's.
pub(crate) struct Walk<'a> {
    steps: Vec<Step<'a>>,
    pub(crate) leaf: Option<&'a Leaf>,
}

impl<'a> Walk<'a> {
    /// From the leaf up: whether the path came from the right, and the sibling's hash.
    pub(crate) fn siblings(&self) -> impl Iterator<Item = (bool, Hash)> + '_ {
        self.steps.iter().rev().map(|step| (step.right, hash_of(step.sibling)))
    }

    /// The leaves just before and just after `key_hash`, which is in no leaf, by order of key hashes.
    pub(crate) fn neighbours(&self, key_hash: &Hash) -> (Option<&'a Leaf>, Option<&'a Leaf>) {
        let beside = |right: bool| {
            let step = self
                .steps
                .iter()
                .rev()
                .find(|step| step.right != right && step.sibling.is_some())?;
            step.sibling.map(|node| outermost(node, !right))
        };
        match self.leaf {
            Some(leaf) if sha256(leaf.key()) < *key_hash => (Some(leaf), beside(true)),
            Some(leaf) => (beside(false), Some(leaf)),
            None => (beside(false), beside(true)),
        }
    }
}

/// The last leaf of a subtree if `right`, else the first.
fn outermost(mut node: &Node, right: bool) -> &Leaf {
    loop {
        match node.get() {
            NodeRef::Leaf(leaf) => return leaf,
            NodeRef::Inner(inner) => {
                let (wanted, other) = if right {
                    (&inner.right, &inner.left)
                } else {
                    (&inner.left, &inner.right)
                };
                node = wanted.as_ref().or(other.as_ref()).expect("an inner node has a child");
            }
        }
    }
}

enum Outcome {
    Same,
    New(Option<Node>),
}

fn update<'a>(node: Option<&Node>, updates: &[Update<'a>], depth: usize) -> Result<Outcome, Mismatch<'a>> {
    if updates.is_empty() {
        return Ok(Outcome::Same);
    }
    let inner = match node.map(Node::get) {
        None => return replace(None, updates, depth),
        Some(NodeRef::Leaf(leaf)) => return replace(node.zip(Some(leaf)), updates, depth),
        Some(NodeRef::Inner(inner)) => inner,
    };
    let (left, right) = updates.split_at(updates.partition_point(|update| !bit(&update.key_hash, depth)));
    let on_left = || update(inner.left.as_ref(), left, depth + 1);
    let on_right = || update(inner.right.as_ref(), right, depth + 1);
    let (left, right) = if updates.len() > PARALLEL_ABOVE {
        rayon::join(on_left, on_right)
    } else {
        (on_left(), on_right())
    };
    Ok(match (left?, right?) {
        (Outcome::Same, Outcome::Same) => Outcome::Same,
        (Outcome::New(left), Outcome::Same) => Outcome::New(Node::join(left, inner.right.clone())),
        (Outcome::Same, Outcome::New(right)) => Outcome::New(Node::join(inner.left.clone(), right)),
        (Outcome::New(left), Outcome::New(right)) => Outcome::New(Node::join(left, right)),
    })
}

/// Updates a subtree of no leaf or one.
fn replace<'a>(present: Option<(&Node, &Leaf)>, updates: &[Update<'a>], depth: usize) -> Result<Outcome, Mismatch<'a>> {
    // By far the most frequent case, without the list: one key that is there.
    if let ([update], Some((_, leaf))) = (updates, present.filter(|(_, leaf)| leaf.key() == updates[0].key)) {
        update.check_present(leaf)?;
        return Ok(match update.new_leaf {
            Some(hash) if hash == leaf.hash => Outcome::Same,
            new => Outcome::New(new.map(|hash| Node::leaf(update.key, hash))),
        });
    }
    let mut changed = false;
    let mut leaves = Vec::with_capacity(updates.len() + 1);
    // The present leaf as long as no update has met it.
    let mut kept = present;
    for update in updates {
        match present.filter(|(_, leaf)| leaf.key() == update.key) {
            Some((_, leaf)) => {
                update.check_present(leaf)?;
                if update.new_leaf == Some(leaf.hash) {
                    continue;
                }
                kept = None;
                changed = true;
            }
            None => {
                update.check_absent()?;
                changed |= update.new_leaf.is_some();
            }
        }
        if let Some(hash) = update.new_leaf {
            leaves.push(KeyedLeaf {
                key_hash: update.key_hash,
                node: Node::leaf(update.key, hash),
            });
        }
    }
    if !changed {
        return Ok(Outcome::Same);
    }
    if let Some((node, leaf)) = kept {
        let kept = KeyedLeaf {
            key_hash: sha256(leaf.key()),
            node: node.clone(),
        };
        leaves.insert(leaves.partition_point(|leaf| leaf.key_hash < kept.key_hash), kept);
    }
    Ok(Outcome::New(assemble(&leaves, depth)))
}

/// The subtree over leaves sorted by key hash that agree in the first `depth` bits.
fn assemble(leaves: &[KeyedLeaf], depth: usize) -> Option<Node> {
    match leaves {
        [] => None,
        [only] => Some(only.node.clone()),
        _ => {
            let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key_hash, depth)));
            let (left, right) = if leaves.len() > PARALLEL_ABOVE {
                rayon::join(|| assemble(left, depth + 1), || assemble(right, depth + 1))
            } else {
                (assemble(left, depth + 1), assemble(right, depth + 1))
            };
            Node::join(left, right)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_the_size_their_budget_says() {
        // With the 8-byte count and malloc's 8-byte header: chunks of 64 and 80.
        assert_eq!(size_of::<Inner>(), 48);
        assert_eq!(size_of::<Leaf>(), 64);
        assert_eq!(size_of::<Option<Node>>(), 8);
    }

    #[test]
    fn an_update_without_effect_shares_the_whole_trie() {
        let keys: Vec<[u8; 4]> = (0..1000u32).map(u32::to_be_bytes).collect();
        let trie = Trie::build(keys.iter().map(|key| KeyedLeaf::new(key, b"v")).collect());
        let same = |before| {
            let again = trie
                .updated(keys.iter().map(|key| Update::new(key, before, Some(b"v"))).collect())
                .unwrap();
            ArcUnion::ptr_eq(&trie.0.as_ref().unwrap().0, &again.0.as_ref().unwrap().0)
        };
        assert!(same(Before::Unknown));
        assert!(same(Before::Known(Some(b"v"))));
    }
}
