//! Rows of the index, each a pure function of one record.
//!
//! ```text
//! 'm'                                                                          meta, module `index::meta`
//! 'r' ‖ height u64                                                             → segment u32 ‖ offset u64 ‖ len u32 ‖ transactions u32
//! 's' ‖ segment u32                                                            → highest height in it, u64
//! 't' ‖ sha256(tx) ‖ height u64 ‖ index u32                                    → 1 if it succeeded, else 0
//! 'e' ‖ len(key) u16 ‖ key ‖ len(value) u32 ‖ value ‖ height u64               → indices of the transactions
//! 'b' ‖ len(key) u16 ‖ key ‖ len(value) u32 ‖ value ‖ height u64               → index 0: the block itself
//! ```
//!
//! Numbers are big-endian; `key` is `<event type>.<attribute key>`. The lengths keep one attribute from being a prefix of another. Only
//! attributes with `index: true` are kept, as in CometBFT, and never the reserved keys. All transactions of a block with the same attribute
//! share one row: what every transfer says of itself costs a byte a transfer. Indices are ascending, each as the difference from the one
//! before in LEB128.

use crate::log::Location;
use crate::record::{tx_hash, Record};
use tendermint_proto::v0_38::abci::Event;

pub(crate) const META: [u8; 1] = *b"m";
pub(crate) const RECORD: u8 = b'r';
pub(crate) const SEGMENT: u8 = b's';
pub(crate) const TX: u8 = b't';
/// Bytes of a transaction's rows that its hash decides: tag and hash.
pub(crate) const TX_PREFIX: usize = 33;

/// Keys that queries answer from the chain itself; an event of that name would lie about it.
const RESERVED: [&str; 3] = ["tx.height", "tx.hash", "block.height"];

/// Which events a search reads: the tag of their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Events {
    Tx = b'e',
    Block = b'b',
}

/// Everything the index holds of one record, but where it is.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    txs: Vec<(Vec<u8>, bool)>,
    /// The keys of `events`, one behind the other.
    bytes: Vec<u8>,
    /// Begin and end of a key in `bytes`, and the index of the transaction it is of; sorted by key and index, without duplicates.
    events: Vec<(usize, usize, u32)>,
}

impl Rows {
    /// The rows of a record at a height.
    pub(crate) fn of(height: u64, record: &Record) -> Self {
        let mut out = Self::default();
        let txs = record.request.txs.iter().zip(&record.response.tx_results);
        for (i, (tx, result)) in (0u32..).zip(txs) {
            out.txs.push((tx_key(&tx_hash(tx), height, i), result.code == 0));
            out.take(Events::Tx, &result.events, height, i);
        }
        out.take(Events::Block, &record.response.events, height, 0);
        let bytes = &out.bytes;
        let key = |(from, to, i): (usize, usize, u32)| (bytes.get(from..to), i);
        out.events.sort_unstable_by(|a, b| key(*a).cmp(&key(*b)));
        out.events.dedup_by(|a, b| key(*a) == key(*b));
        out
    }

    fn take(&mut self, of: Events, events: &[Event], height: u64, index: u32) {
        for (kind, key, value) in indexed(events) {
            let from = self.bytes.len();
            put_name(&mut self.bytes, of, kind, key);
            put_value(&mut self.bytes, value);
            self.bytes.extend_from_slice(&height.to_be_bytes());
            self.events.push((from, self.bytes.len(), index));
        }
    }

    /// How many transactions there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.txs.len()).unwrap_or(u32::MAX)
    }

    /// Calls `f` with every row: the key and what it holds.
    pub(crate) fn each(&self, mut f: impl FnMut(&[u8], &[u8])) {
        for (key, succeeded) in &self.txs {
            f(key, &[u8::from(*succeeded)]);
        }
        let mut indices = Vec::new();
        let key = |(from, to, _): &(usize, usize, u32)| self.bytes.get(*from..*to).unwrap_or_default();
        for row in self.events.chunk_by(|a, b| key(a) == key(b)) {
            indices.clear();
            let mut before = 0;
            for (_, _, index) in row {
                put_leb128(&mut indices, index.saturating_sub(before));
                before = *index;
            }
            f(row.first().map(key).unwrap_or_default(), &indices);
        }
    }
}

/// Event type, attribute key and value of every indexed attribute.
pub(crate) fn indexed(events: &[Event]) -> impl Iterator<Item = (&str, &str, &str)> {
    events.iter().filter(|e| !e.r#type.is_empty()).flat_map(|e| {
        let kept = e.attributes.iter().filter(|a| a.index && !a.key.is_empty());
        let named = kept.map(|a| (e.r#type.as_str(), a.key.as_str(), a.value.as_str()));
        named.filter(|(kind, key, _)| {
            let reserved = |name: &&str| name.split_once('.') == Some((*kind, *key));
            kind.len().saturating_add(key.len()) < usize::from(u16::MAX) && !RESERVED.iter().any(reserved)
        })
    })
}

fn put_name(out: &mut Vec<u8>, of: Events, kind: &str, key: &str) {
    out.push(of as u8);
    // `indexed` admits no longer name.
    let len = u16::try_from(kind.len().saturating_add(key.len()).saturating_add(1)).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(kind.as_bytes());
    out.push(b'.');
    out.extend_from_slice(key.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}

fn put_leb128(out: &mut Vec<u8>, mut value: u32) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the indices that a row holds; `None` for bytes that are none.
pub(crate) fn indices(mut bytes: &[u8], out: &mut Vec<u32>) -> Option<()> {
    let mut index = 0u32;
    while !bytes.is_empty() {
        let (mut difference, mut shift) = (0u32, 0u32);
        loop {
            let (byte, rest) = bytes.split_first()?;
            bytes = rest;
            let low = u32::from(byte & 0x7f);
            difference |= low.checked_shl(shift).filter(|high| high >> shift == low)?;
            shift = shift.saturating_add(7);
            if byte & 0x80 == 0 {
                break;
            }
        }
        index = index.checked_add(difference)?;
        out.push(index);
    }
    Some(())
}

fn tx_key(hash: &[u8; 32], height: u64, index: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(TX_PREFIX + 12);
    out.push(TX);
    out.extend_from_slice(hash);
    out.extend_from_slice(&height.to_be_bytes());
    out.extend_from_slice(&index.to_be_bytes());
    out
}

/// The key of a height's record.
pub(crate) fn record_key(height: u64) -> [u8; 9] {
    let mut out = [RECORD; 9];
    out[1..].copy_from_slice(&height.to_be_bytes());
    out
}

/// What is kept of a record: where it is, and how many transactions it has.
pub(crate) fn record_row(at: Location, txs: u32) -> [u8; 20] {
    let mut out = [0; 20];
    out[..4].copy_from_slice(&at.segment.to_be_bytes());
    out[4..12].copy_from_slice(&at.offset.to_be_bytes());
    out[12..16].copy_from_slice(&at.len.to_be_bytes());
    out[16..].copy_from_slice(&txs.to_be_bytes());
    out
}

/// Reads what [`record_row`] wrote; `None` for other bytes.
pub(crate) fn split_record(row: &[u8]) -> Option<(Location, u32)> {
    let (segment, rest) = row.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (len, txs) = rest.split_first_chunk()?;
    let at = Location {
        segment: u32::from_be_bytes(*segment),
        offset: u64::from_be_bytes(*offset),
        len: u32::from_be_bytes(*len),
    };
    Some((at, u32::from_be_bytes(txs.try_into().ok()?)))
}

/// The key of a file of the log.
pub(crate) fn segment_key(segment: u32) -> [u8; 5] {
    let mut out = [SEGMENT; 5];
    out[1..].copy_from_slice(&segment.to_be_bytes());
    out
}

/// What every row of a transaction begins with.
pub(crate) fn tx_prefix(hash: &[u8]) -> Vec<u8> {
    [&[TX], hash].concat()
}

/// Height and index at the end of a transaction's key.
pub(crate) fn tx_place(key: &[u8]) -> Option<(u64, u32)> {
    let (height, index) = key.get(TX_PREFIX..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*height), u32::from_be_bytes(index.try_into().ok()?)))
}

/// What every row of an attribute begins with.
pub(crate) fn name_prefix(of: Events, name: &str) -> Vec<u8> {
    let mut out = vec![of as u8];
    // `indexed` admits no longer name; a longer one in a query matches nothing because no row has its bytes.
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(name.as_bytes());
    out
}

/// What every row of an attribute with this value begins with.
pub(crate) fn value_prefix(of: Events, name: &str, value: &str) -> Vec<u8> {
    let mut out = name_prefix(of, name);
    put_value(&mut out, value);
    out
}

/// The height at the end of an event's key.
pub(crate) fn event_height(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|height| u64::from_be_bytes(*height))
}

/// Splits what follows an event's name into value and height; `None` for bytes that are no row.
pub(crate) fn split_value(rest: &[u8]) -> Option<(&str, u64)> {
    let (len, rest) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (value, height) = rest.split_at_checked(len)?;
    Some((
        std::str::from_utf8(value).ok()?,
        u64::from_be_bytes(height.try_into().ok()?),
    ))
}

/// The height that a row is of; `None` for rows that are of none.
pub(crate) fn height_of(key: &[u8]) -> Option<u64> {
    match key.split_first()? {
        (&RECORD, height) => Some(u64::from_be_bytes(height.try_into().ok()?)),
        (&TX, _) => tx_place(key).map(|(height, _)| height),
        (tag, _) if *tag == Events::Tx as u8 || *tag == Events::Block as u8 => event_height(key),
        _ => None,
    }
}

/// The smallest byte string above every string with this prefix; `None` if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
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
    use proptest::prelude::*;
    use tendermint_proto::v0_38::abci::{EventAttribute, ExecTxResult};

    fn event(kind: &str, key: &str, value: &str) -> Event {
        Event {
            r#type: kind.into(),
            attributes: vec![EventAttribute {
                key: key.into(),
                value: value.into(),
                index: true,
            }],
        }
    }

    /// The rows of block 5: one transaction for each list of events.
    fn rows(txs: &[Vec<Event>], block: Vec<Event>) -> Vec<(String, String)> {
        let mut record = Record::default();
        record.response.events = block;
        for events in txs {
            record.request.txs.push(vec![1].into());
            record.response.tx_results.push(ExecTxResult {
                events: events.clone(),
                ..Default::default()
            });
        }
        let mut out = Vec::new();
        Rows::of(5, &record).each(|key, value| out.push((hex::encode(key), hex::encode(value))));
        out
    }

    #[test]
    fn rows_should_not_change() {
        let red = || event("a", "b", "red");
        // The same attribute twice in a transaction is one; of three transactions, the first and the last have it.
        let found = rows(&[vec![red(), red()], vec![], vec![red()]], vec![event("a", "b", "")]);
        let hash = hex::encode(tx_hash(&[1]));
        let tx = |i: u32| (format!("74{hash}0000000000000005{i:08x}"), "01".to_owned());
        assert_eq!(
            found,
            [
                tx(0),
                tx(1),
                tx(2),
                ("620003612e62000000000000000000000005".into(), "00".into()),
                ("650003612e62000000037265640000000000000005".into(), "0002".into()),
            ]
        );
        let at = Location {
            segment: 1,
            offset: 2,
            len: 3,
        };
        assert_eq!(hex::encode(record_key(5)), "720000000000000005");
        assert_eq!(
            hex::encode(record_row(at, 4)),
            "0000000100000000000000020000000300000004"
        );
        assert_eq!(split_record(&record_row(at, 4)), Some((at, 4)));
        assert_eq!(hex::encode(segment_key(5)), "7300000005");
    }

    #[test]
    fn every_row_of_a_height_says_so() {
        let events = || vec![event("a", "b", "red")];
        let found = rows(&[events()], events());
        assert_eq!(found.len(), 3);
        for (key, _) in found {
            assert_eq!(height_of(&hex::decode(key).unwrap()), Some(5));
        }
        assert_eq!(height_of(&record_key(7)), Some(7));
        assert_eq!(
            (height_of(&META), height_of(&segment_key(7)), height_of(&[])),
            (None, None, None)
        );
    }

    #[test]
    fn events_about_what_the_chain_answers_itself_are_left_out() {
        let lies = vec![
            event("tx", "height", "1"),
            event("tx", "hash", "AB"),
            event("block", "height", "1"),
        ];
        assert_eq!(rows(&[], lies), []);
        assert_eq!(rows(&[], vec![event("tx.height", "", "1"), event("", "b", "1")]), []);
        assert_eq!(rows(&[], vec![event("tx", "heights", "1")]).len(), 1);
    }

    #[test]
    fn a_prefix_ends_above_everything_that_has_it() {
        assert_eq!(prefix_end(&[1, 255]), Some(vec![2]));
        assert_eq!(prefix_end(&[255]), None);
    }

    proptest! {
        #[test]
        fn indices_come_back(set in proptest::collection::btree_set(any::<u32>(), 0..20)) {
            let (mut bytes, mut before, mut found) = (Vec::new(), 0, Vec::new());
            for index in &set {
                put_leb128(&mut bytes, index - before);
                before = *index;
            }
            prop_assert_eq!(indices(&bytes, &mut found), Some(()));
            prop_assert_eq!(found, set.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = (indices(&bytes, &mut Vec::new()), height_of(&bytes), split_value(&bytes), split_record(&bytes));
        }
    }
}
