//! Undo records: what a block changed, as it was before, so that the block can be taken back.
//!
//! ```text
//! parent height  u64 big endian      0 for the first block
//! parent hash    32 bytes            app hash before the block
//! app hash       32 bytes            app hash after it
//! stores         until the end: name (u8 length, bytes), number of entries, entries
//! entry          key (length, bytes), old value (length + 1, bytes; 0 if the key did not exist)
//! ```
//!
//! Numbers and lengths without a width are LEB128: a record is nearly as long as what it takes back, and is written to the log and again to
//! a file of its own.

use crate::sha256::Hash;

const HEADER_BYTES: usize = 8 + 32 + 32;

/// Builds a record; entries first, because the hashes are known last.
pub(crate) struct UndoWriter {
    bytes: Vec<u8>,
}

impl UndoWriter {
    /// A writer with room for so many bytes of keys and values, in so many entries.
    pub(crate) fn with_capacity(bytes: usize, entries: usize) -> UndoWriter {
        let mut record = Vec::with_capacity(HEADER_BYTES + bytes + 4 * entries);
        record.resize(HEADER_BYTES, 0);
        UndoWriter { bytes: record }
    }

    /// Says that the next so many entries are a store's.
    pub(crate) fn store(&mut self, name: &str, entries: usize) {
        self.bytes
            .push(u8::try_from(name.len()).expect("store names are at most 32 bytes"));
        self.bytes.extend_from_slice(name.as_bytes());
        self.number(entries);
    }

    /// Adds a key's value before the block.
    pub(crate) fn entry(&mut self, key: &[u8], old: Option<&[u8]>) {
        self.number(key.len());
        self.bytes.extend_from_slice(key);
        match old {
            None => self.number(0),
            Some(old) => {
                self.number(old.len() + 1);
                self.bytes.extend_from_slice(old);
            }
        }
    }

    fn number(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// Bytes of the record.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
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
            for _ in 0..number(&mut rest)? {
                let key_len = number(&mut rest)?;
                let key = take(&mut rest, key_len)?;
                let old = match number(&mut rest)? {
                    0 => None,
                    more => Some(take(&mut rest, more - 1)?),
                };
                entries.push(UndoEntry { store, key, old });
            }
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

/// The next number in LEB128, of at most four bytes: lengths are under 2^28.
fn number(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in [0, 7, 14, 21] {
        let byte = take(rest, 1)?[0];
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut undo = UndoWriter::with_capacity(0, 0);
        undo.store("bank", 1);
        undo.entry(b"k", Some(b"old"));
        undo.store("auth", 2);
        undo.entry(b"absent", None);
        undo.entry(b"empty", Some(b""));
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
    fn a_cut_record_is_refused_except_between_stores() {
        let bytes = record();
        // 72 is the bare header, 72 + 6 + 6 ends the first store's entries.
        let ends = [72, 72 + (1 + 4 + 1) + (1 + 1 + 1 + 3), bytes.len()];
        for cut in 0..=bytes.len() {
            assert_eq!(
                Undo::parse(&bytes[..cut]).is_some(),
                ends.contains(&cut),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn long_keys_and_values_read_back() {
        for len in [0, 1, 126, 127, 128, 16_382, 16_383, 16_384, 1 << 21, 8 << 20] {
            let old = vec![7; len];
            let mut undo = UndoWriter::with_capacity(0, 0);
            undo.store("bank", 1);
            undo.entry(&old, Some(&old));
            let bytes = undo.finish(0, &[1; 32], &[2; 32]);
            let entry = &Undo::parse(&bytes).unwrap().entries[0];
            assert_eq!((entry.key, entry.old), (&old[..], Some(&old[..])), "{len} bytes");
        }
        assert_eq!(number(&mut &[0xff; 9][..]), None);
    }
}
