//! Undo records: what a block changed, as it was before, so that the block can be taken back.
//!
//! ```text
//! parent height  u64 big endian      0 for the first block
//! parent hash    32 bytes            app hash before the block
//! app hash       32 bytes            app hash after it
//! entries        until the end: store name (u8 length, bytes), key (u32 length, bytes),
//!                old value (u32 length + 1, bytes; 0 if the key did not exist); integers big endian
//! ```

use crate::sha256::Hash;

const HEADER_BYTES: usize = 8 + 32 + 32;

/// Builds a record; entries first, because the hashes are known last.
pub(crate) struct UndoWriter {
    bytes: Vec<u8>,
}

impl UndoWriter {
    /// A writer with room for entries of so many bytes in all, by [`UndoWriter::entry_bytes`].
    pub(crate) fn with_capacity(entry_bytes: usize) -> UndoWriter {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + entry_bytes);
        bytes.resize(HEADER_BYTES, 0);
        UndoWriter { bytes }
    }

    /// What an entry takes.
    pub(crate) fn entry_bytes(store: &str, key: &[u8], old: Option<&[u8]>) -> usize {
        1 + store.len() + 4 + key.len() + 4 + old.map_or(0, <[u8]>::len)
    }

    /// Adds a key's value before the block. Lengths are bounded by `keys::MAX_*`, far below the fields' ranges.
    pub(crate) fn entry(&mut self, store: &str, key: &[u8], old: Option<&[u8]>) {
        self.bytes
            .push(u8::try_from(store.len()).expect("store names are at most 32 bytes"));
        self.bytes.extend_from_slice(store.as_bytes());
        self.length(key.len());
        self.bytes.extend_from_slice(key);
        match old {
            None => self.length(0),
            Some(old) => {
                self.length(old.len() + 1);
                self.bytes.extend_from_slice(old);
            }
        }
    }

    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).expect("keys and values are under 4 GiB");
        self.bytes.extend_from_slice(&length.to_be_bytes());
    }

    pub(crate) fn finish(mut self, parent_height: u64, parent_hash: &Hash, app_hash: &Hash) -> Vec<u8> {
        self.bytes[..8].copy_from_slice(&parent_height.to_be_bytes());
        self.bytes[8..40].copy_from_slice(parent_hash);
        self.bytes[40..72].copy_from_slice(app_hash);
        self.bytes
    }
}

/// A parsed record.
pub(crate) struct Undo<'a> {
    pub(crate) parent_height: u64,
    pub(crate) parent_hash: Hash,
    pub(crate) app_hash: Hash,
    pub(crate) entries: Vec<UndoEntry<'a>>,
}

/// One key as it was before the block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UndoEntry<'a> {
    pub(crate) store: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) old: Option<&'a [u8]>,
}

impl<'a> Undo<'a> {
    /// Parses a record; `None` if it is damaged.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Undo<'a>> {
        let mut rest = bytes;
        let parent_height = u64::from_be_bytes(take(&mut rest, 8)?.try_into().ok()?);
        let parent_hash = take(&mut rest, 32)?.try_into().ok()?;
        let app_hash = take(&mut rest, 32)?.try_into().ok()?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let name_len = take(&mut rest, 1)?[0];
            let store = std::str::from_utf8(take(&mut rest, usize::from(name_len))?).ok()?;
            let key_len = length(&mut rest)?;
            let key = take(&mut rest, key_len)?;
            let old = match length(&mut rest)? {
                0 => None,
                more => Some(take(&mut rest, more - 1)?),
            };
            entries.push(UndoEntry { store, key, old });
        }
        Some(Undo {
            parent_height,
            parent_hash,
            app_hash,
            entries,
        })
    }
}

/// The next `count` bytes.
pub(crate) fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

/// The next four bytes as a length.
pub(crate) fn length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(take(rest, 4)?.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut undo = UndoWriter::with_capacity(0);
        undo.entry("bank", b"k", Some(b"old"));
        undo.entry("auth", b"absent", None);
        undo.entry("auth", b"empty", Some(b""));
        undo.finish(7, &[1; 32], &[2; 32])
    }

    #[test]
    fn a_record_reads_back() {
        let bytes = record();
        let undo = Undo::parse(&bytes).unwrap();
        assert_eq!(
            (undo.parent_height, undo.parent_hash, undo.app_hash),
            (7, [1; 32], [2; 32])
        );
        let entries = [
            ("bank", &b"k"[..], Some(&b"old"[..])),
            ("auth", b"absent", None),
            ("auth", b"empty", Some(b"")),
        ];
        assert_eq!(
            undo.entries,
            entries.map(|(store, key, old)| UndoEntry { store, key, old })
        );
    }

    #[test]
    fn a_cut_record_is_refused_except_between_entries() {
        let bytes = record();
        // 72 is the bare header, 72 + 17 ends the first entry, + 19 the second.
        let ends = [72, 72 + 1 + 4 + 4 + 1 + 4 + 3, 89 + 1 + 4 + 4 + 6 + 4, bytes.len()];
        for cut in 0..=bytes.len() {
            assert_eq!(
                Undo::parse(&bytes[..cut]).is_some(),
                ends.contains(&cut),
                "cut at {cut}"
            );
        }
    }
}
