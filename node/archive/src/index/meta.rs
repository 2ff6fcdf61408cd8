//! What the index says of itself, one row: of which layout it is, how much of the log is in it, and which heights.
//!
//! ```text
//! schema u32 ‖ segment u32 ‖ offset u64 ‖ floor u64 ‖ (first u64 ‖ last u64)…
//! ```
//!
//! It is written in the batch of every entry, so what RocksDB has after any recovery agrees with itself, and opening reads one row.

use crate::ranges::Ranges;

/// The layout of the rows here and in the module `keys`. 1 was a redb file.
const SCHEMA: u32 = 2;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Meta {
    /// The next entry of the log to apply; `None` before the first.
    pub applied: Option<(u32, u64)>,
    /// The lowest height kept.
    pub floor: u64,
    /// The heights that have a record.
    pub ranges: Ranges,
}

impl Meta {
    pub(super) fn encode(&self) -> Vec<u8> {
        // Files of the log are numbered from 1.
        let (segment, offset) = self.applied.unwrap_or((0, 0));
        let mut out = Vec::with_capacity(24 + 16 * self.ranges.len());
        out.extend_from_slice(&SCHEMA.to_be_bytes());
        out.extend_from_slice(&segment.to_be_bytes());
        for number in [offset, self.floor] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for (first, last) in &self.ranges {
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&last.to_be_bytes());
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote. The error says why it is not of use.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let words = |bytes: &[u8]| -> Option<Self> {
            let (segment, rest) = bytes.split_first_chunk()?;
            let (offset, rest) = rest.split_first_chunk()?;
            let (floor, rest) = rest.split_first_chunk()?;
            let (pairs, tail) = rest.as_chunks::<16>();
            let mut ranges = Ranges::new();
            for pair in pairs {
                let (first, last) = pair.split_first_chunk()?;
                ranges.insert(u64::from_be_bytes(*first), u64::from_be_bytes(last.try_into().ok()?));
            }
            let segment = u32::from_be_bytes(*segment);
            tail.is_empty().then(|| Self {
                applied: (segment > 0).then(|| (segment, u64::from_be_bytes(*offset))),
                floor: u64::from_be_bytes(*floor),
                ranges,
            })
        };
        let (schema, rest) = bytes.split_first_chunk().ok_or("what it says of itself is cut short")?;
        match u32::from_be_bytes(*schema) {
            SCHEMA => words(rest).ok_or_else(|| "what it says of itself is cut short".to_owned()),
            other => Err(format!(
                "its layout is version {other}, this program's is version {SCHEMA}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_comes_back_and_other_versions_do_not() {
        for meta in [
            Meta::default(),
            Meta {
                applied: Some((3, 70)),
                floor: 5,
                ranges: [(5, 9), (11, 11)].into(),
            },
        ] {
            let mut bytes = meta.encode();
            assert_eq!(Meta::decode(&bytes), Ok(meta));
            assert!(Meta::decode(&bytes[..bytes.len() - 1]).is_err());
            bytes[3] += 1;
            assert!(Meta::decode(&bytes).unwrap_err().contains("version 3"));
        }
        assert!(Meta::decode(&[]).is_err());
    }
}
