//! Bounded memory of what was met lately. Outcomes never depend on it: what it has forgotten is found again where it came from.

use std::{hash::Hash, sync::Arc};

use indexmap::{Equivalent, IndexMap};
use parking_lot::Mutex;
use tenure_types::Result;

use crate::state::{Base, Key, Records, Sought};

/// A bounded map that forgets what was put long ago, in about the order in which it came; what was put again gets a second round (the CLOCK
/// algorithm, F. J. Corbató, "A paging experiment with the Multics system", 1968, with puts in the place of uses).
///
/// An entry stays until about as many others as there is room for were put after it. One search finds it or finds that it is not there.
pub struct Recent<K, V> {
    capacity: usize,
    /// Weight of all entries.
    weight: usize,
    entries: IndexMap<K, Held<V>>,
    /// Place of the entry that is forgotten next.
    hand: usize,
}

struct Held<V> {
    value: V,
    weight: usize,
    /// It was put again since the hand went past it.
    again: bool,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// Remembers entries of this weight in all at most, which is their number where none is told; 0 for none.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            weight: 0,
            entries: IndexMap::new(),
            hand: 0,
        }
    }

    /// What was put last under a key, unless it is forgotten.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        self.entries.get(key).map(|held| &held.value)
    }

    /// Remembers a value.
    pub fn put(&mut self, key: K, value: V) {
        self.put_weighing(1, key, value);
    }

    /// Remembers a value of some weight, unless that is more than the capacity; whatever was under the key before is forgotten.
    pub fn put_weighing(&mut self, weight: usize, key: K, value: V) {
        if let Some(held) = self.entries.get_mut(&key).filter(|held| held.weight == weight) {
            held.value = value;
            held.again = true;
            return;
        }
        self.forget(&key);
        if weight > self.capacity {
            return;
        }
        while self.weight > self.capacity.saturating_sub(weight) {
            self.forget_one();
        }
        self.weight = self.weight.saturating_add(weight);
        let again = false;
        self.entries.insert(key, Held { value, weight, again });
    }

    /// Forgets an entry that was put long ago. Its place is the newest one's then, which was the last: behind the hand it stays for a whole round.
    fn forget_one(&mut self) {
        loop {
            // The last is the newest: a round ends before it.
            if self.hand.saturating_add(1) >= self.entries.len() {
                self.hand = 0;
            }
            let Some((_, held)) = self.entries.get_index_mut(self.hand) else {
                self.weight = 0;
                return;
            };
            if !std::mem::take(&mut held.again) {
                break;
            }
            self.hand = self.hand.saturating_add(1);
        }
        if let Some((_, held)) = self.entries.swap_remove_index(self.hand) {
            self.weight = self.weight.saturating_sub(held.weight);
        }
        self.hand = self.hand.saturating_add(1);
    }

    /// Forgets what was put under a key.
    pub fn forget<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) {
        if let Some(held) = self.entries.swap_remove(key) {
            self.weight = self.weight.saturating_sub(held.weight);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.weight = 0;
        self.hand = 0;
        self.entries.clear();
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Longest record that is remembered, bytes: bounds the memory of a full cache.
const MAX_REMEMBERED_BYTES: usize = 1 << 10;

/// A record as it is, or that it is absent; `None` if it is too long to be remembered.
type Remembered = Option<Option<Vec<u8>>>;

fn remembered(value: &Option<Vec<u8>>) -> Remembered {
    let short = value.as_ref().is_none_or(|value| value.len() <= MAX_REMEMBERED_BYTES);
    short.then(|| value.clone())
}

/// Records of the latest committed state that blocks have read or written lately, and keys that have none: a read of the database costs more
/// than all else that is done with a record.
///
/// It knows the state of one height and answers for no other, so whoever still executes on an older state reads that from the database.
pub struct RecordCache(Mutex<Latest>);

struct Latest {
    height: u64,
    records: Recent<Key, Remembered>,
}

/// What a block changed, as the cache takes it.
pub struct Changed(Vec<(Key, Remembered)>);

impl Changed {
    /// From the changes that are about to be staged.
    pub fn of(changes: &[tenure_store::Change]) -> Self {
        let entry = |change: &tenure_store::Change| (Key::new(change.store, &change.key), remembered(&change.new));
        Self(changes.iter().map(entry).collect())
    }
}

impl RecordCache {
    /// Remembers at most `capacity` records, of the state of `height` to begin with; 0 for none.
    pub fn new(capacity: usize, height: u64) -> Self {
        Self(Mutex::new(Latest {
            height,
            records: Recent::new(capacity),
        }))
    }

    /// The committed state of `height`, read through the cache.
    pub fn over(self: &Arc<Self>, height: u64, base: Arc<dyn Base>) -> Arc<dyn Base> {
        let cache = self.clone();
        Arc::new(Through { cache, height, base })
    }

    /// Goes on to the state of `height`, which differs from the one before in what a block changed.
    pub fn advance(&self, height: u64, changed: Changed) {
        let mut latest = self.0.lock();
        latest.height = height;
        for (key, value) in changed.0 {
            latest.records.put(key, value);
        }
    }

    /// Goes on to the state of `height`, of which nothing is known.
    pub fn reset(&self, height: u64) {
        let mut latest = self.0.lock();
        latest.height = height;
        latest.records.clear();
    }
}

struct Through {
    cache: Arc<RecordCache>,
    height: u64,
    base: Arc<dyn Base>,
}

impl Base for Through {
    fn get(&self, store: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let latest = self.cache.0.lock();
        if latest.height == self.height {
            if let Some(Some(value)) = latest.records.get(&Sought { store, key }) {
                return Ok(value.clone());
            }
        }
        // Nobody waits for a read of the database.
        drop(latest);
        let value = self.base.get(store, key)?;
        let mut latest = self.cache.0.lock();
        if latest.height == self.height {
            latest.records.put(Key::new(store, key), remembered(&value));
        }
        Ok(value)
    }

    fn range<'a>(&'a self, store: &'static str, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Records<'a> {
        self.base.range(store, from, to, reverse)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn a_recent_map_is_bounded_and_gives_what_was_put_last() {
        let mut recent = Recent::new(8);
        for i in 0..100_u32 {
            recent.put(i, i);
            recent.put(7, i);
            assert!(recent.len() <= 8);
            assert_eq!(
                (recent.get(&i), recent.get(&7)),
                (if i == 7 { Some(&7) } else { Some(&i) }, Some(&i))
            );
        }
        assert_eq!(recent.get(&1), None);
        recent.clear();
        assert!(recent.is_empty() && recent.get(&99).is_none());
        let mut none = Recent::new(0);
        none.put(1, 1);
        assert!(none.is_empty());
    }

    #[test]
    fn nothing_is_forgotten_before_a_round_of_others_came() {
        let mut recent = Recent::new(10);
        for i in 0..1_000_u32 {
            recent.put(i, i);
            for last in i.saturating_sub(8)..=i {
                assert_eq!(recent.get(&last), Some(&last), "put {} before", i - last);
            }
        }
        // What is put again and again stays through all rounds.
        for i in 1_000..2_000_u32 {
            recent.put(i, i);
            if i % 5 == 0 {
                recent.put(1_000, i);
            }
            assert!(recent.get(&1_000).is_some(), "{i}");
        }
        // Even if all were put again, one goes.
        for _ in 0..3 {
            (2_000..2_010_u32).for_each(|i| recent.put(i, i));
        }
        recent.put(3_000, 1);
        assert_eq!((recent.len(), recent.get(&3_000)), (10, Some(&1)));
    }

    #[test]
    fn weights_are_counted_through_every_change() {
        let mut weighed = Recent::new(100);
        for i in 0..100_u32 {
            weighed.put_weighing(20, i, i);
            assert!(weighed.len() <= 5, "more than its capacity");
            assert!(i < 3 || (i - 3..i).all(|last| weighed.get(&last).is_some()));
        }
        assert_eq!(weighed.len(), 5);
        // One that has become heavier takes the room of others; one that is too heavy is forgotten, not shown as it was.
        weighed.put_weighing(60, 99, 7);
        assert_eq!((weighed.get(&99), weighed.len()), (Some(&7), 3));
        weighed.put_weighing(101, 99, 8);
        assert_eq!((weighed.get(&99), weighed.len()), (None, 2));
        (90..99).for_each(|i| weighed.forget(&i));
        assert!(weighed.is_empty());
        (0..5).for_each(|i| weighed.put_weighing(20, i, i));
        assert_eq!(weighed.len(), 5, "what was forgotten weighs nothing");
    }

    /// A database that counts its reads.
    #[derive(Default)]
    struct Counted {
        records: BTreeMap<Vec<u8>, Vec<u8>>,
        reads: AtomicUsize,
    }

    impl Base for Counted {
        fn get(&self, _: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            Ok(self.records.get(key).cloned())
        }

        fn range<'a>(&'a self, _: &'static str, _: &[u8], _: Option<&[u8]>, _: bool) -> Records<'a> {
            Box::new(std::iter::empty())
        }
    }

    fn change(key: &[u8], new: Option<&[u8]>) -> tenure_store::Change {
        tenure_store::Change {
            store: "a",
            key: key.to_vec(),
            old: None,
            new: new.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn each_height_reads_its_own_state_and_the_latest_reads_it_once() -> Result<()> {
        let long = vec![1; MAX_REMEMBERED_BYTES + 1];
        let state = |pairs: &[(&[u8], &[u8])]| {
            let records = pairs.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            Arc::new(Counted {
                records,
                ..Default::default()
            })
        };
        let first = state(&[(b"k", b"1"), (b"l", b"1"), (b"m", b"1")]);
        let second = state(&[(b"k", b"2"), (b"m", b"1"), (b"n", &long)]);
        let cache = Arc::new(RecordCache::new(100, 1));
        let (old, new) = (cache.over(1, first.clone()), cache.over(2, second.clone()));
        for _ in 0..3 {
            assert_eq!(old.get("a", b"k")?, Some(b"1".to_vec()));
            assert_eq!(old.get("a", b"n")?, None);
            // Not the latest yet: neither answered nor remembered.
            assert_eq!(new.get("a", b"k")?, Some(b"2".to_vec()));
        }
        assert_eq!(
            (
                first.reads.load(Ordering::Relaxed),
                second.reads.load(Ordering::Relaxed)
            ),
            (2, 3)
        );
        let changed = [change(b"k", Some(b"2")), change(b"l", None), change(b"n", Some(&long))];
        cache.advance(2, Changed::of(&changed));
        for _ in 0..3 {
            for key in [b"k", b"l", b"m", b"n"] {
                assert_eq!(new.get("a", key)?, second.records.get(key.as_slice()).cloned());
                assert_eq!(old.get("a", key)?, first.records.get(key.as_slice()).cloned());
            }
        }
        // `m` was read once, `n` is read each time because it is too long.
        assert_eq!(second.reads.load(Ordering::Relaxed), 3 + 1 + 3);
        cache.reset(1);
        assert_eq!(old.get("a", b"l")?, Some(b"1".to_vec()));
        Ok(())
    }
}
