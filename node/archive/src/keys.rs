//! Keys of the index, each a pure function of one record.
//!
//! ```text
//! txs           sha256(tx) ‖ height u64 ‖ index u32                            → whether it succeeded
//! tx_events     len(key) u16 ‖ key ‖ len(value) u32 ‖ value ‖ height u64 ‖ index u32
//! block_events  len(key) u16 ‖ key ‖ len(value) u32 ‖ value ‖ height u64
//! ```
//!
//! Numbers are big-endian; `key` is `<event type>.<attribute key>`. The lengths keep one attribute from being a prefix of another. Only
//! attributes with `index: true` are kept, as in CometBFT, and never the reserved keys.

use crate::record::{tx_hash, Record};
use std::collections::BTreeSet;
use tendermint_proto::v0_38::abci::Event;

/// Keys that queries answer from the chain itself; an event of that name would lie about it.
const RESERVED: [&str; 3] = ["tx.height", "tx.hash", "block.height"];

/// Everything the index holds of one record.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub txs: Vec<(Vec<u8>, bool)>,
    pub tx_events: BTreeSet<Vec<u8>>,
    pub block_events: BTreeSet<Vec<u8>>,
}

impl Keys {
    /// The keys of a record at a height.
    pub(crate) fn of(height: u64, record: &Record) -> Self {
        let mut out = Self::default();
        let txs = record.request.txs.iter().zip(&record.response.tx_results);
        for (i, (tx, result)) in (0u32..).zip(txs) {
            out.txs.push((tx_entry_key(&tx_hash(tx), height, i), result.code == 0));
            for (name, value) in indexed(&result.events) {
                out.tx_events.insert(tx_entry(&name, value, height, i));
            }
        }
        for (name, value) in indexed(&record.response.events) {
            out.block_events.insert(block_entry(&name, value, height));
        }
        out
    }

    /// How many transactions there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.txs.len()).unwrap_or(u32::MAX)
    }
}

/// Composite key and value of every indexed attribute.
pub(crate) fn indexed(events: &[Event]) -> impl Iterator<Item = (String, &str)> {
    events.iter().filter(|e| !e.r#type.is_empty()).flat_map(|e| {
        e.attributes
            .iter()
            .filter(|a| a.index && !a.key.is_empty())
            .filter_map(|a| {
                let name = format!("{}.{}", e.r#type, a.key);
                (!RESERVED.contains(&name.as_str()) && name.len() <= usize::from(u16::MAX))
                    .then_some((name, a.value.as_str()))
            })
    })
}

fn tx_entry_key(hash: &[u8; 32], height: u64, index: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(44);
    out.extend_from_slice(hash);
    out.extend_from_slice(&height.to_be_bytes());
    out.extend_from_slice(&index.to_be_bytes());
    out
}

/// What every entry of an attribute begins with.
pub(crate) fn name_prefix(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    // `indexed` admits no longer name; a longer one in a query matches nothing because no entry has its bytes.
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(name.as_bytes());
    out
}

/// What every entry of an attribute with this value begins with.
pub(crate) fn value_prefix(name: &str, value: &str) -> Vec<u8> {
    let mut out = name_prefix(name);
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
    out
}

fn tx_entry(name: &str, value: &str, height: u64, index: u32) -> Vec<u8> {
    let mut out = block_entry(name, value, height);
    out.extend_from_slice(&index.to_be_bytes());
    out
}

fn block_entry(name: &str, value: &str, height: u64) -> Vec<u8> {
    let mut out = value_prefix(name, value);
    out.extend_from_slice(&height.to_be_bytes());
    out
}

/// The smallest byte string above every string with this prefix; `None` if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Splits what follows a name prefix into value and place; `None` for bytes that are no entry.
pub(crate) fn split_value(rest: &[u8], place: usize) -> Option<(&str, &[u8])> {
    let (len, rest) = rest.split_at_checked(4)?;
    let len = usize::try_from(u32::from_be_bytes(len.try_into().ok()?)).ok()?;
    let (value, tail) = rest.split_at_checked(len)?;
    (tail.len() == place).then_some((std::str::from_utf8(value).ok()?, tail))
}

/// Height and index at the end of an entry; entries of blocks have no index.
pub(crate) fn place(tail: &[u8]) -> Option<(u64, u32)> {
    let (height, index) = tail.split_at_checked(8)?;
    let height = u64::from_be_bytes(height.try_into().ok()?);
    let index = if index.is_empty() {
        0
    } else {
        u32::from_be_bytes(index.try_into().ok()?)
    };
    Some((height, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_should_not_change() {
        assert_eq!(
            hex::encode(tx_entry("a.b", "red", 5, 7)),
            "0003612e6200000003726564000000000000000500000007"
        );
        assert_eq!(
            hex::encode(block_entry("a.b", "", 5)),
            "0003612e62000000000000000000000005"
        );
        assert_eq!(
            hex::encode(tx_entry_key(&[0xAB; 32], 1, 2)),
            format!("{}000000000000000100000002", "ab".repeat(32))
        );
    }

    #[test]
    fn a_prefix_ends_above_everything_that_has_it() {
        assert_eq!(prefix_end(&[1, 255]), Some(vec![2]));
        assert_eq!(prefix_end(&[255]), None);
    }
}
