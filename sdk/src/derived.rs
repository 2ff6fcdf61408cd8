//! Derived state: indexes and timers that follow from records.
//!
//! Each entry is a pure function of one record ([`DeriveFn`]). It is not authenticated, no handler writes it, and at start it is rebuilt from
//! the records. Timers form the chain's one queue of what must happen later: `set(queue) = ⋃ timers(record)`, ordered by class, then instant,
//! then object.

use std::collections::BTreeMap;

use tenure_types::{Deadline, Error, Result};

/// What one record implies: must depend on nothing but the record.
pub type DeriveFn = fn(key: &[u8], value: &[u8], out: &mut Derived) -> Result<()>;

/// Nothing is derived from a store's records.
pub fn nothing(_key: &[u8], _value: &[u8], _out: &mut Derived) -> Result<()> {
    Ok(())
}

/// The derive function of every store.
pub struct DeriveTable(BTreeMap<&'static str, DeriveFn>);

impl DeriveTable {
    /// From (store, function) pairs.
    pub fn new(entries: impl IntoIterator<Item = (&'static str, DeriveFn)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// The function of a store. Error (internal): the store is not registered.
    pub fn of(&self, store: &str) -> Result<DeriveFn> {
        self.0
            .get(store)
            .copied()
            .ok_or_else(|| Error::internal(format!("store {store:?} is not registered")))
    }

    /// The registered stores in order of name.
    pub fn stores(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }
}

/// Timers of a class have a quota per block, so that cheap ones cannot delay those that protect rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TimerClass {
    /// Ends of attestation windows, exhaustion, defaults.
    Safety = 1,
    /// Ends of leases, of bids and of start windows.
    Market = 2,
    /// Housekeeping.
    Archive = 3,
}

impl TimerClass {
    /// All classes in the order in which they are handled.
    pub const ALL: [Self; 3] = [Self::Safety, Self::Market, Self::Archive];
}

/// Something that must happen later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Whose quota it counts against.
    pub class: TimerClass,
    /// Not before both parts of this have passed; the instant is what the effect is dated at.
    pub due: Deadline,
    /// Module that handles it.
    pub module: String,
    /// Which of the object's timers, in the module's own numbering.
    pub kind: u8,
    /// Key of the object in the module's own form.
    pub id: Vec<u8>,
}

/// Space of the timers; no index may be called so.
const TIMERS: &[u8] = b"\0timer/";

impl Timer {
    /// Range of all timers of a class that are due at an instant, the height not considered.
    pub fn due_range(class: TimerClass, now_ms: u64) -> (Vec<u8>, Vec<u8>) {
        let from = [TIMERS, &[class as u8]].concat();
        let to = [from.as_slice(), &now_ms.saturating_add(1).to_be_bytes()].concat();
        (from, to)
    }

    /// `\0timer/` · class · instant (8 bytes, big-endian) · module · `/` · kind · id; the value is the height (8 bytes, big-endian).
    fn entry(&self) -> (Vec<u8>, Vec<u8>) {
        let key = [
            TIMERS,
            &[self.class as u8],
            &self.due.ms.to_be_bytes(),
            self.module.as_bytes(),
            b"/",
            &[self.kind],
            &self.id,
        ]
        .concat();
        (key, self.due.height.to_be_bytes().to_vec())
    }

    /// The timer of a derived entry. Error (internal): the entry is not a timer.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self> {
        let parse = || {
            let rest = key.strip_prefix(TIMERS)?;
            let (class, rest) = rest.split_first()?;
            let class = *TimerClass::ALL.iter().find(|c| **c as u8 == *class)?;
            let (ms, rest) = rest.split_first_chunk::<8>()?;
            let slash = rest.iter().position(|b| *b == b'/')?;
            let (module, rest) = rest.split_at(slash);
            let (kind, id) = rest.get(1..)?.split_first()?;
            Some(Self {
                class,
                due: Deadline {
                    height: u64::from_be_bytes(value.try_into().ok()?),
                    ms: u64::from_be_bytes(*ms),
                },
                module: String::from_utf8(module.to_vec()).ok()?,
                kind: *kind,
                id: id.to_vec(),
            })
        };
        parse().ok_or_else(|| Error::internal(format!("derived entry {} is not a timer", hex::encode(key))))
    }
}

/// Collects what one record implies.
#[derive(Default)]
pub struct Derived(Vec<(Vec<u8>, Vec<u8>)>);

impl Derived {
    /// An index entry: `space/key`. `space` is a short constant name, unique over all modules.
    pub fn index(&mut self, space: &'static str, key: &[u8], value: &[u8]) {
        self.0.push((index_key(space, key), value.to_vec()));
    }

    /// A timer.
    pub fn timer(&mut self, timer: &Timer) {
        self.0.push(timer.entry());
    }

    /// All entries.
    pub fn into_entries(self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.0.into_iter()
    }
}

/// The derived key of an index entry.
pub fn index_key(space: &str, key: &[u8]) -> Vec<u8> {
    [space.as_bytes(), b"/", key].concat()
}

/// The least key greater than every key that begins with `prefix`; `None` if there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_sort_by_class_then_instant_then_object_and_decode_to_themselves() -> Result<()> {
        let timer = |class, ms, id: &[u8]| Timer {
            class,
            due: Deadline { height: 7, ms },
            module: "market".to_owned(),
            kind: 2,
            id: id.to_vec(),
        };
        let ordered = [
            timer(TimerClass::Safety, 5, b"b"),
            timer(TimerClass::Safety, 300, b"a"),
            timer(TimerClass::Market, 1, b"a/x"),
            timer(TimerClass::Market, 1, b"b"),
        ];
        let keys: Vec<_> = ordered.iter().map(|t| t.entry().0).collect();
        assert!(keys.is_sorted());
        for timer in &ordered {
            let (key, value) = timer.entry();
            assert_eq!(&Timer::decode(&key, &value)?, timer);
        }
        let (from, to) = Timer::due_range(TimerClass::Safety, 5);
        assert!(from <= keys[0] && keys[0] < to && keys[1] >= to);
        Ok(())
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_of_its_length() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(&[1, 0xff]), Some(vec![2]));
        assert_eq!(prefix_end(&[0xff]), None);
    }
}
