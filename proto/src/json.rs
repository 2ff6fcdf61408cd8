//! Messages as JSON: the proto3 mapping with the field names of the .proto files and 64-bit integers as strings, as Cosmos writes it.

use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;

/// Why there is no JSON of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// No .proto file of this crate has a message of this name.
    #[error("message {0:?} is not known")]
    Unknown(String),
    /// The bytes are not this message, or an `Any` inside is of a type that is not known.
    #[error("{name}: {detail}")]
    Malformed {
        /// Full name of the message.
        name: String,
        /// What is wrong.
        detail: String,
    },
}

/// An encoded message of this full name as JSON, every field present.
///
/// # Errors
/// The name is not known, or the bytes are not such a message.
pub fn of_bytes(name: &str, bytes: &[u8]) -> Result<Value, JsonError> {
    let descriptor = crate::pool()
        .get_message_by_name(name)
        .ok_or_else(|| JsonError::Unknown(name.to_owned()))?;
    let message = DynamicMessage::decode(descriptor, bytes).map_err(|e| malformed(name, &e))?;
    of_dynamic(&message)
}

/// A message as JSON, every field present.
///
/// # Errors
/// An `Any` inside is of a type that is not known or does not decode.
pub fn of_dynamic(message: &DynamicMessage) -> Result<Value, JsonError> {
    use prost_reflect::ReflectMessage as _;

    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|e| malformed(message.descriptor().full_name(), &e))
}

fn malformed(name: &str, detail: &dyn std::fmt::Display) -> JsonError {
    JsonError::Malformed {
        name: name.to_owned(),
        detail: detail.to_string(),
    }
}
