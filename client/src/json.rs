//! Messages as JSON for `-o json`: the proto3 mapping with the field names of the .proto files and 64-bit integers as strings, as Cosmos
//! writes it.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, ReflectMessage, SerializeOptions};
use serde_json::Value;

use crate::{Error, Result};

/// A message as JSON, every field present.
pub fn to_json<M: Message + Name>(message: &M) -> Result<Value> {
    named(&M::full_name(), &message.encode_to_vec())
}

/// An encoded message of a known name as JSON, every field present. Error: the chain has no such message, or the bytes are not one.
pub fn named(name: &str, bytes: &[u8]) -> Result<Value> {
    let malformed = |detail: String| Error::Malformed {
        what: "the node",
        detail,
    };
    let descriptor = tenure_proto::pool()
        .get_message_by_name(name)
        .ok_or_else(|| malformed(format!("message {name:?} is not known to this client")))?;
    let dynamic = DynamicMessage::decode(descriptor, bytes).map_err(|e| malformed(format!("{name}: {e}")))?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(true);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|e| malformed(format!("{} as JSON: {e}", dynamic.descriptor().full_name())))
}
