//! The layout of the flat database. Everything the node stores is here:
//!
//! ```text
//! m/layout                       version of this layout, u32 big endian
//! m/head                         height (u64 big endian), app hash (32 bytes) of the last committed block
//! m/restore                      present only while a snapshot is being restored; its app hash
//! u/<height: u64 big endian>     undo record of the block of that height (see `undo.rs`)
//! v/<store>/<key>                the value of a key of a module's store, as the module wrote it
//! ```
//!
//! For example, with store `bank`, key `62 61 6C 01` and height 258:
//!
//! ```text
//! 6D 2F 68 65 61 64                               m/head
//! 75 2F 00 00 00 00 00 00 01 02                   u/<258>
//! 76 2F 62 61 6E 6B 2F 62 61 6C 01                v/bank/<bal 01>
//! ```
//!
//! A store's name has no `/`, so no store's range contains another's, and keys keep their byte order inside their store: a list of a
//! module is one range scan. The tries are not stored at all; they are rebuilt from the values when the store is opened.

use crate::StoreError;

/// The layout this build reads and writes.
pub const LAYOUT_VERSION: u32 = 2;

/// `6D 2F 6C 61 79 6F 75 74`
pub(crate) const LAYOUT: &[u8] = b"m/layout";
/// `6D 2F 68 65 61 64`
pub(crate) const HEAD: &[u8] = b"m/head";
/// `6D 2F 72 65 73 74 6F 72 65`
pub(crate) const RESTORE: &[u8] = b"m/restore";
/// `75 2F`, first byte after the undo records' range is `75 30`
pub(crate) const UNDO_PREFIX: &[u8] = b"u/";
/// `76 2F`
pub(crate) const VALUE_PREFIX: &[u8] = b"v/";

/// Longest store name in bytes.
pub const MAX_STORE_NAME_BYTES: usize = 32;
/// Longest key in bytes. Keys of modules are tens of bytes; this bounds a record, it is not a target.
pub const MAX_KEY_BYTES: usize = 4096;
/// Longest value in bytes: what a snapshot chunk of the customary 10 MB can hold with room to spare.
pub const MAX_VALUE_BYTES: usize = 8 << 20;

/// Undo record of a height: height 258 is `75 2F 00 00 00 00 00 00 01 02`.
pub(crate) fn undo(height: u64) -> Vec<u8> {
    [UNDO_PREFIX, &height.to_be_bytes()].concat()
}

/// The height in an undo record's key.
pub(crate) fn undo_height(key: &[u8]) -> Option<u64> {
    let bytes = key.strip_prefix(UNDO_PREFIX)?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// What every key of a store begins with: `bank` is `76 2F 62 61 6E 6B 2F`.
pub(crate) fn store_prefix(store: &str) -> Vec<u8> {
    [VALUE_PREFIX, store.as_bytes(), b"/"].concat()
}

/// A key of a store: `bank`, `62 61 6C 01` is `76 2F 62 61 6E 6B 2F 62 61 6C 01`.
pub(crate) fn value(store: &str, key: &[u8]) -> Vec<u8> {
    [VALUE_PREFIX, store.as_bytes(), b"/", key].concat()
}

/// The first key after all keys that begin with `prefix`; `None` if there is none (all bytes are `FF`).
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Checks the names a store is opened with and returns them sorted.
pub(crate) fn store_names(stores: &[&'static str]) -> Result<Vec<&'static str>, StoreError> {
    let mut names = stores.to_vec();
    names.sort_unstable();
    for (index, name) in names.iter().enumerate() {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        let twice = index > 0 && names[index - 1] == *name;
        if name.is_empty() || name.len() > MAX_STORE_NAME_BYTES || twice || !name.bytes().all(allowed) {
            return Err(StoreError::StoreName {
                name: (*name).to_owned(),
            });
        }
    }
    Ok(names)
}

/// The head record: `<height: u64 big endian> <app hash: 32 bytes>`.
pub(crate) fn encode_head(height: u64, app_hash: &[u8; 32]) -> Vec<u8> {
    [height.to_be_bytes().as_slice(), app_hash].concat()
}

/// Reads a head record; `None` if it is not one.
pub(crate) fn decode_head(bytes: &[u8]) -> Option<(u64, [u8; 32])> {
    let (height, app_hash) = bytes.split_at_checked(8)?;
    Some((u64::from_be_bytes(height.try_into().ok()?), app_hash.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_should_not_change() {
        assert_eq!(hex::encode_upper(LAYOUT), "6D2F6C61796F7574");
        assert_eq!(hex::encode_upper(HEAD), "6D2F68656164");
        assert_eq!(hex::encode_upper(RESTORE), "6D2F726573746F7265");
        assert_eq!(hex::encode_upper(undo(258)), "752F0000000000000102");
        assert_eq!(hex::encode_upper(store_prefix("bank")), "762F62616E6B2F");
        assert_eq!(hex::encode_upper(value("bank", b"bal\x01")), "762F62616E6B2F62616C01");
        let head = encode_head(258, &[0xAB; 32]);
        assert_eq!(hex::encode_upper(&head), format!("0000000000000102{}", "AB".repeat(32)));
        assert_eq!(decode_head(&head), Some((258, [0xAB; 32])));
        assert_eq!(decode_head(&head[1..]), None);
        assert_eq!(undo_height(&undo(u64::MAX)), Some(u64::MAX));
        assert_eq!(undo_height(b"u/short"), None);
        assert_eq!(LAYOUT_VERSION, 2);
    }

    #[test]
    fn a_store_range_ends_where_the_next_begins() {
        assert_eq!(prefix_end(b"v/bank/").unwrap(), b"v/bank0");
        assert_eq!(prefix_end(&[1, 0xFF, 0xFF]).unwrap(), [2]);
        assert_eq!(prefix_end(&[0xFF]), None);
        // `bank` and `bank-2`: the longer name sorts before '/', so the ranges are apart.
        assert!(prefix_end(&store_prefix("bank-2")).unwrap() <= store_prefix("bank"));
        // `bank` and `bank2`: after it.
        assert!(prefix_end(&store_prefix("bank")).unwrap() <= store_prefix("bank2"));
    }

    #[test]
    fn bad_store_names_are_refused() {
        for names in [
            &["a/b"][..],
            &[""],
            &["Bank"],
            &["x", "x"],
            &["a23456789012345678901234567890123"],
        ] {
            assert!(
                matches!(store_names(names), Err(StoreError::StoreName { .. })),
                "{names:?}"
            );
        }
        assert_eq!(store_names(&["b", "a-1", "c_2"]).unwrap(), ["a-1", "b", "c_2"]);
    }
}
