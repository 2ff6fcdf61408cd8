//! Refusal of unknown fields.
//!
//! prost drops fields it does not know. In a signed transaction that would make two different byte strings mean the same, and let a signer be
//! shown less than what was signed. Every byte of a transaction must therefore belong to a known field.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};
use tenure_types::{sdk, Error, Result};

/// Refuses unknown fields anywhere in an encoded message, `google.protobuf.Any` values of known types included. Error (tx decode): names the
/// message and the field number; or the bytes do not decode.
pub fn refuse_unknown_fields(type_name: &str, bytes: &[u8]) -> Result<()> {
    refuse(type_name, bytes, 0)
}

/// Refuses unknown fields in the bytes that a message was decoded from; values of `google.protobuf.Any` inside it may be skipped. Error: as
/// [`refuse_unknown_fields`].
///
/// What encodes again to the same bytes has none, because decoding drops them; only other encodings take the slow way over descriptors.
pub fn refuse_in<M: Message + Name>(decoded: &M, bytes: &[u8]) -> Result<()> {
    if decoded.encode_to_vec() == bytes {
        return Ok(());
    }
    refuse_unknown_fields(&M::full_name(), bytes)
}

/// How deep messages may lie inside `google.protobuf.Any` inside each other: prost's own limit ends at an `Any`, whose value is only bytes.
const MAX_ANY_DEPTH: u32 = 8;

fn refuse(type_name: &str, bytes: &[u8], depth: u32) -> Result<()> {
    if depth > MAX_ANY_DEPTH {
        let message = format!("{type_name} lies inside more than {MAX_ANY_DEPTH} google.protobuf.Any");
        return Err(Error::sdk(sdk::TX_DECODE, message));
    }
    let descriptor = tenure_proto::pool()
        .get_message_by_name(type_name)
        .ok_or_else(|| Error::sdk(sdk::UNKNOWN_REQUEST, format!("message type {type_name:?} is not known")))?;
    check(descriptor, bytes, depth)
}

fn check(descriptor: MessageDescriptor, bytes: &[u8], depth: u32) -> Result<()> {
    let name = descriptor.full_name().to_owned();
    let message = DynamicMessage::decode(descriptor, bytes)
        .map_err(|e| Error::sdk(sdk::TX_DECODE, format!("{name} does not decode: {e}")))?;
    walk(&message, depth)
}

fn walk(message: &DynamicMessage, depth: u32) -> Result<()> {
    let descriptor = message.descriptor();
    if let Some(field) = message.unknown_fields().next() {
        return Err(Error::sdk(
            sdk::TX_DECODE,
            format!("{} has the unknown field {}", descriptor.full_name(), field.number()),
        ));
    }
    if descriptor.full_name() == "google.protobuf.Any" {
        let text = |name: &str| message.get_field_by_name(name).map(std::borrow::Cow::into_owned);
        if let (Some(Value::String(url)), Some(Value::Bytes(bytes))) = (text("type_url"), text("value")) {
            let type_name = url
                .strip_prefix('/')
                .ok_or_else(|| Error::sdk(sdk::TX_DECODE, format!("type URL {url:?} must begin with a slash")))?;
            return refuse(type_name, &bytes, depth.saturating_add(1));
        }
        return Ok(());
    }
    for (field, value) in message.fields() {
        if matches!(field.kind(), Kind::Message(_)) {
            match value {
                Value::Message(inner) => walk(inner, depth)?,
                Value::List(items) => {
                    for item in items {
                        if let Value::Message(inner) = item {
                            walk(inner, depth)?;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tenure_proto::{
        any,
        cosmos::{bank::v1beta1::MsgSend, tx::v1beta1::TxBody},
    };

    use super::*;

    #[test]
    fn any_inside_any_has_a_depth_limit() {
        let nested = |levels: usize| {
            let mut message = any(&MsgSend::default());
            for _ in 0..levels {
                message = any(&TxBody {
                    messages: vec![message],
                    ..Default::default()
                });
            }
            refuse_unknown_fields("google.protobuf.Any", &message.encode_to_vec())
        };
        assert_eq!(nested(6), Ok(()));
        assert!(nested(5_000).is_err_and(|e| e.message.contains("more than 8")));
    }

    #[test]
    fn an_unknown_field_is_refused_at_any_depth() {
        let body = |inner: &[u8]| {
            let mut message = any(&MsgSend {
                from_address: "a".into(),
                ..Default::default()
            });
            message.value.extend_from_slice(inner);
            TxBody {
                messages: vec![message],
                ..Default::default()
            }
            .encode_to_vec()
        };
        assert_eq!(refuse_unknown_fields("cosmos.tx.v1beta1.TxBody", &body(&[])), Ok(()));
        // Field 99, varint 1.
        let error = refuse_unknown_fields("cosmos.tx.v1beta1.TxBody", &body(&[0x98, 0x06, 1])).expect_err("unknown");
        assert!(error.message.contains("MsgSend has the unknown field 99"), "{error}");
        let mut outer = body(&[]);
        outer.extend_from_slice(&[0x98, 0x06, 1]);
        assert!(refuse_unknown_fields("cosmos.tx.v1beta1.TxBody", &outer).is_err());
        assert!(refuse_unknown_fields("cosmos.tx.v1beta1.TxBody", &[0xff]).is_err());
    }
}
