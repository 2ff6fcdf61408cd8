//! Messages as JSON for `-o json`: see [`tenure_proto::json`].

use prost::{Message, Name};
use serde_json::Value;
use tenure_proto::json::{of_bytes, JsonError};

use crate::{Error, Result};

/// A message as JSON, every field present.
pub fn to_json<M: Message + Name>(message: &M) -> Result<Value> {
    named(&M::full_name(), &message.encode_to_vec())
}

/// An encoded message of a known name as JSON, every field present. Error: the chain has no such message, or the bytes are not one.
pub fn named(name: &str, bytes: &[u8]) -> Result<Value> {
    of_bytes(name, bytes).map_err(|error| Error::Malformed {
        what: "the node",
        detail: match error {
            JsonError::Unknown(_) => format!("{error} to this client"),
            JsonError::Malformed { .. } => error.to_string(),
        },
    })
}
