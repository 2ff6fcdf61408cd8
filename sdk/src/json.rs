//! Messages as JSON: the proto3 mapping with the field names of the .proto files and 64-bit integers as strings, as Cosmos writes it.

use prost::{Message, Name};
use prost_reflect::{DeserializeOptions, DynamicMessage};
use serde_json::Value;
use tenure_proto::json;
use tenure_types::{sdk, Error, Result};

/// A message as JSON, every field present.
pub fn to_json<M: Message + Name>(message: &M) -> Result<Value> {
    json::of_bytes(&M::full_name(), &message.encode_to_vec()).map_err(|e| Error::internal(e.to_string()))
}

/// Any message of the chain as JSON, every field present.
pub fn dynamic_to_json(message: &DynamicMessage) -> Result<Value> {
    json::of_dynamic(message).map_err(|e| Error::internal(e.to_string()))
}

/// A message from JSON. Error (invalid request): names the field that is unknown or malformed.
pub fn from_json<M: Message + Default + Name>(value: &Value) -> Result<M> {
    let name = M::full_name();
    let invalid = |e: &dyn std::fmt::Display| Error::sdk(sdk::INVALID_REQUEST, format!("{name}: {e}"));
    let descriptor = tenure_proto::pool()
        .get_message_by_name(&name)
        .ok_or_else(|| Error::internal(format!("{name} has no descriptor")))?;
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let dynamic =
        DynamicMessage::deserialize_with_options(descriptor, value.clone(), &options).map_err(|e| invalid(&e))?;
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(|e| invalid(&e))
}

/// A field of a genesis section. Error: it is absent.
pub fn field<'a>(section: &'a Value, name: &str) -> Result<&'a Value> {
    section
        .get(name)
        .ok_or_else(|| Error::sdk(sdk::INVALID_REQUEST, format!("genesis: field {name:?} is missing")))
}

/// A list field of a genesis section, each entry read as a message. An absent list is empty. Error: names field and index.
pub fn list<M: Message + Default + Name>(section: &Value, name: &str) -> Result<Vec<M>> {
    let Some(value) = section.get(name) else {
        return Ok(Vec::new());
    };
    let entries = value
        .as_array()
        .ok_or_else(|| Error::sdk(sdk::INVALID_REQUEST, format!("genesis: field {name:?} must be a list")))?;
    entries
        .iter()
        .enumerate()
        .map(|(i, entry)| from_json(entry).map_err(|e| e.context(format!("genesis: {name}[{i}]"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use tenure_proto::tenure::base::v1::Window;

    use super::*;

    #[test]
    fn json_round_trips_with_64_bit_integers_as_strings() -> Result<()> {
        let window = Window {
            blocks: 3,
            ms: u64::MAX,
        };
        let json = to_json(&window)?;
        assert_eq!(json, serde_json::json!({"blocks": "3", "ms": "18446744073709551615"}));
        assert_eq!(from_json::<Window>(&json)?, window);
        Ok(())
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error = from_json::<Window>(&serde_json::json!({"blokcs": 3})).expect_err("unknown");
        assert!(error.message.contains("blokcs"), "{error}");
    }
}
