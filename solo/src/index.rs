//! Event indexes: what they hold and how searches read them.
//!
//! An entry is `len(key) u16 ‖ key ‖ len(value) u32 ‖ value ‖ height u64 [‖ index u32]`, big-endian, where `key` is
//! `<event type>.<attribute key>`. The lengths keep one attribute from being a prefix of another. Only attributes with
//! `index: true` are kept, as in CometBFT, and never the reserved keys.

#![allow(clippy::result_large_err)] // redb's error type; boxing it would only move the cost to every `?`.

use crate::error::SoloError;
use crate::query::{Condition, Op};
use crate::store::{Store, BLOCK_EVENTS, TX_EVENTS};
use redb::TableDefinition;
use std::collections::BTreeSet;
use tendermint_proto::v0_38::abci::Event;

/// Keys that queries answer from the chain itself; an event of that name would lie about it.
const RESERVED: [&str; 3] = ["tx.height", "tx.hash", "block.height"];

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

fn name_prefix(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    // `indexed` admits no longer name; a longer one in a query matches nothing because no entry has its bytes.
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(name.as_bytes());
    out
}

fn value_prefix(name: &str, value: &str) -> Vec<u8> {
    let mut out = name_prefix(name);
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
    out
}

/// The entry of a transaction's attribute.
pub(crate) fn tx_entry(name: &str, value: &str, height: u64, index: u32) -> Vec<u8> {
    let mut out = block_entry(name, value, height);
    out.extend_from_slice(&index.to_be_bytes());
    out
}

/// The entry of a block's attribute.
pub(crate) fn block_entry(name: &str, value: &str, height: u64) -> Vec<u8> {
    let mut out = value_prefix(name, value);
    out.extend_from_slice(&height.to_be_bytes());
    out
}

/// The smallest byte string above every string with this prefix; `None` if there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
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
fn parse(rest: &[u8], place: usize) -> Option<(&str, &[u8])> {
    let (len, rest) = rest.split_at_checked(4)?;
    let len = usize::try_from(u32::from_be_bytes(len.try_into().ok()?)).ok()?;
    let (value, tail) = rest.split_at_checked(len)?;
    (tail.len() == place).then_some((std::str::from_utf8(value).ok()?, tail))
}

fn place(tail: &[u8]) -> Option<(i64, u32)> {
    let (height, index) = tail.split_at_checked(8)?;
    let height = i64::try_from(u64::from_be_bytes(height.try_into().ok()?)).ok()?;
    let index = if index.is_empty() {
        0
    } else {
        u32::from_be_bytes(index.try_into().ok()?)
    };
    Some((height, index))
}

fn matching(
    store: &Store,
    table: TableDefinition<'_, &[u8], ()>,
    tail: usize,
    condition: &Condition,
) -> Result<BTreeSet<(i64, u32)>, SoloError> {
    let names = name_prefix(&condition.key);
    // Equality with a string is a point range; everything else reads all values of the key.
    let from = match (&condition.op, condition.text()) {
        (Op::Eq, Some(text)) => value_prefix(&condition.key, text),
        _ => names.clone(),
    };
    let to = prefix_end(&from);
    store.read(|txn| {
        let table = txn.open_table(table)?;
        let range = match &to {
            Some(to) => table.range(from.as_slice()..to.as_slice())?,
            None => table.range(from.as_slice()..)?,
        };
        let mut out = BTreeSet::new();
        for entry in range {
            let entry = entry?;
            let bytes = entry.0.value();
            let found = bytes.get(names.len()..).and_then(|rest| parse(rest, tail));
            if let Some((value, at)) = found {
                if condition.matches(value) {
                    out.extend(place(at));
                }
            }
        }
        Ok(out)
    })
}

/// Transactions of which some event satisfies the condition.
pub(crate) fn txs_matching(store: &Store, condition: &Condition) -> Result<BTreeSet<(i64, u32)>, SoloError> {
    matching(store, TX_EVENTS, 12, condition)
}

/// Heights of blocks of which some event satisfies the condition.
pub(crate) fn blocks_matching(store: &Store, condition: &Condition) -> Result<BTreeSet<i64>, SoloError> {
    Ok(matching(store, BLOCK_EVENTS, 8, condition)?
        .into_iter()
        .map(|(h, _)| h)
        .collect())
}
