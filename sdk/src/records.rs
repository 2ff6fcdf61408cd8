//! Typed records: prost messages at keys.

use prost::Message;
use tenure_types::{Error, Result};

use crate::Ctx;

impl Ctx {
    /// The record at a key, decoded. Error (internal): it does not decode.
    pub fn load<M: Message + Default>(&mut self, store: &'static str, key: &[u8]) -> Result<Option<M>> {
        self.peek(store, key)?
            .map(|bytes| decode(store, key, bytes))
            .transpose()
    }

    /// Encodes and writes a record.
    pub fn save<M: Message>(&mut self, store: &'static str, key: &[u8], record: &M) -> Result<()> {
        self.set(store, key, record.encode_to_vec())
    }
}

/// A stored record, decoded. Error (internal): it does not decode, so the store is not what this program wrote.
pub fn decode<M: Message + Default>(store: &str, key: &[u8], bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|e| Error::internal(format!("record {store}/{} does not decode: {e}", hex::encode(key))))
}

/// A required part of a stored record. Error (internal): it is absent.
pub fn required<T>(part: Option<T>, what: &str) -> Result<T> {
    part.ok_or_else(|| Error::internal(format!("stored record lacks {what}")))
}
