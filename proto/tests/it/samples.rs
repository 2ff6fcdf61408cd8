//! Messages filled by rule, so that a message or field added later is covered without anybody thinking of it.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use tenure_proto::{amino, pool, Any};

/// How fields are filled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Each field a value of its own.
    Counting,
    /// Greatest numbers, characters that need escaping, empty inner messages, lists of one default.
    Odd,
}

/// The messages that may stand in an amino-signed transaction.
pub(crate) fn named() -> Vec<MessageDescriptor> {
    let is_named = |m: &MessageDescriptor| amino::name(&format!("/{}", m.full_name())).is_some();
    pool().all_messages().filter(is_named).collect()
}

/// An empty, a counting and an odd one of each message.
pub(crate) fn messages() -> Vec<Any> {
    let of = |m: &MessageDescriptor| {
        let mut counter = 0;
        [
            DynamicMessage::new(m.clone()),
            filled(m, Fill::Counting, &mut counter),
            filled(m, Fill::Odd, &mut counter),
        ]
    };
    named().iter().flat_map(of).map(|m| wrapped(&m)).collect()
}

pub(crate) fn wrapped(message: &DynamicMessage) -> Any {
    use prost_reflect::ReflectMessage as _;

    Any {
        type_url: format!("/{}", message.descriptor().full_name()),
        value: message.encode_to_vec(),
    }
}

pub(crate) fn filled(message: &MessageDescriptor, fill: Fill, counter: &mut u64) -> DynamicMessage {
    let mut out = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let value = if field.is_list() {
            let items = if fill == Fill::Odd { 1 } else { 2 };
            Value::List((0..items).map(|_| one(&field, fill, counter)).collect())
        } else {
            one(&field, fill, counter)
        };
        out.set_field(&field, value);
    }
    out
}

fn one(field: &FieldDescriptor, fill: Fill, counter: &mut u64) -> Value {
    *counter += 1;
    let n = *counter;
    let odd = fill == Fill::Odd;
    match field.kind() {
        Kind::Message(inner) if odd => Value::Message(DynamicMessage::new(inner)),
        Kind::Message(inner) => Value::Message(filled(&inner, fill, counter)),
        Kind::String if odd => Value::String(format!("{n} <a&b> \"\\/ é𝄞\u{1}\n\r\t\u{7f}\u{2028}\u{2029}")),
        Kind::String => Value::String(n.to_string()),
        Kind::Bytes => Value::Bytes((0..n % 40).map(|i| (i * 37) as u8).collect::<Vec<_>>().into()),
        Kind::Bool => Value::Bool(true),
        Kind::Enum(kind) => Value::EnumNumber(if odd { kind.values().len() as i32 - 1 } else { 1 }),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(if odd { u64::MAX } else { n }),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(if odd { i64::MIN } else { n as i64 }),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(if odd { u32::MAX } else { n as u32 }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(if odd { i32::MIN } else { n as i32 }),
        Kind::Float | Kind::Double => unreachable!("a message with a {:?} has no amino name", field.kind()),
    }
}

/// Another value than the one the field has.
pub(crate) fn changed(field: &FieldDescriptor, value: &Value) -> Value {
    match value {
        Value::Bool(value) => Value::Bool(!value),
        Value::I32(value) => Value::I32(value.wrapping_add(2)),
        Value::EnumNumber(value) => Value::EnumNumber(value + 1),
        Value::I64(value) => Value::I64(value.wrapping_add(2)),
        Value::U32(value) => Value::U32(value.wrapping_add(2)),
        Value::U64(value) => Value::U64(value.wrapping_add(2)),
        Value::String(value) => Value::String(format!("{value}x")),
        Value::Bytes(value) => Value::Bytes([value.as_ref(), &[0]].concat().into()),
        Value::List(items) => {
            let mut items = items.clone();
            items.push(one(field, Fill::Odd, &mut 1));
            Value::List(items)
        }
        Value::Message(inner) => {
            let mut inner = inner.clone();
            use prost_reflect::ReflectMessage as _;
            let first = inner.descriptor().fields().next().expect("no empty inner message");
            let value = changed(&first, &inner.get_field(&first));
            inner.set_field(&first, value);
            Value::Message(inner)
        }
        Value::F32(_) | Value::F64(_) | Value::Map(_) => unreachable!("no amino name"),
    }
}
