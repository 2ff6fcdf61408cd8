//! Requests: path, query parameters and JSON body to a message. Errors name field and value.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::Engine;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};

use crate::rule::{BodyRule, Route};

/// Longest value shown in an error, characters.
const SHOWN: usize = 80;
/// Most values of one repeated query parameter.
const MAX_VALUES: usize = 1_000;

/// Builds the request message of a route. Error: which field or value is wrong, and what it must be.
pub(crate) fn build(
    route: &Route,
    bound: &[(&str, String)],
    query: &str,
    body: &[u8],
) -> Result<DynamicMessage, String> {
    let input = route.rpc.input();
    let mut message = match &route.body {
        BodyRule::All if body.is_empty() => DynamicMessage::new(input),
        BodyRule::All => from_json(&input, body)?,
        BodyRule::Field(_) | BodyRule::None => DynamicMessage::new(input),
    };
    if let BodyRule::Field(name) = &route.body {
        if !body.is_empty() {
            let text = std::str::from_utf8(body).map_err(|e| format!("the body is not UTF-8: {e}"))?;
            let name = serde_json::Value::from(name.as_str());
            message = from_json(&route.rpc.input(), format!("{{{name}:{text}}}").as_bytes())?;
        }
    }
    if route.body != BodyRule::All {
        from_query(&mut message, query)?;
    }
    for (path, text) in bound {
        set(&mut message, path, path, std::slice::from_ref(text))?;
    }
    Ok(message)
}

/// The field of a path such as `pagination.limit`; names as in the .proto file or in JSON.
pub(crate) fn find_path(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let field = find(message, first)?;
    match rest {
        None => Some(field),
        Some(_) if field.is_list() || field.is_map() => None,
        Some(rest) => find_path(field.kind().as_message()?, rest),
    }
}

fn find(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message
        .get_field_by_name(name)
        .or_else(|| message.get_field_by_json_name(name))
}

/// Query parameters, `pagination.limit=5&state=BID_STATE_OPEN`; repeated fields by repeated names. A name that is no field is ignored: wallets and
/// proxies add some.
fn from_query(message: &mut DynamicMessage, query: &str) -> Result<(), String> {
    let mut values: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, list)) if list.len() >= MAX_VALUES => {
                return Err(format!(
                    "parameter {} is given more than {MAX_VALUES} times",
                    shown(&name)
                ));
            }
            Some((_, list)) => list.push(value.into_owned()),
            None if find_path(&message.descriptor(), &name).is_some() => {
                values.push((name.into_owned(), vec![value.into_owned()]));
            }
            None => {}
        }
    }
    for (name, texts) in values {
        set(message, &name, &name, &texts)?;
    }
    Ok(())
}

/// Sets the field at `path` below `message`; `name` is the whole path, for errors.
fn set(message: &mut DynamicMessage, path: &str, name: &str, texts: &[String]) -> Result<(), String> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let field = find(&message.descriptor(), first).ok_or_else(|| format!("{name} is no field of the request"))?;
    if let Some(rest) = rest {
        let inner = message.get_field_mut(&field).as_message_mut();
        return set(
            inner.ok_or_else(|| format!("{name} is no field of the request"))?,
            rest,
            name,
            texts,
        );
    }
    if field.is_map() {
        return Err(format!("{name} is a map: it can only be given in a body"));
    }
    let values: Result<Vec<Value>, String> = texts.iter().map(|text| scalar(&field.kind(), name, text)).collect();
    let mut values = values?;
    let value = if field.is_list() {
        Value::List(values)
    } else {
        match (values.pop(), values.is_empty()) {
            (Some(value), true) => value,
            _ => return Err(format!("{name} is given {} times, must be given once", texts.len())),
        }
    };
    message.set_field(&field, value);
    Ok(())
}

fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    format!("{short:?}")
}

fn parse<T: std::str::FromStr>(name: &str, text: &str, what: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{name} is {}, must be {what}", shown(text)))
}

fn scalar(kind: &Kind, name: &str, text: &str) -> Result<Value, String> {
    Ok(match kind {
        Kind::String => Value::String(text.to_owned()),
        Kind::Bool => Value::Bool(parse(name, text, "true or false")?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(parse(name, text, "a 32-bit integer")?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(parse(name, text, "a 64-bit integer")?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(parse(name, text, "an integer from 0 to 4294967295")?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(parse(name, text, "an integer from 0 to 18446744073709551615")?),
        Kind::Float => Value::F32(parse(name, text, "a number")?),
        Kind::Double => Value::F64(parse(name, text, "a number")?),
        Kind::Bytes => Value::Bytes(
            bytes(text)
                .ok_or_else(|| format!("{name} is {}, must be base64", shown(text)))?
                .into(),
        ),
        Kind::Enum(kind) => {
            let number = match kind.get_value_by_name(text) {
                Some(value) => value.number(),
                None => text.parse().map_err(|_| {
                    let names: Vec<String> = kind.values().map(|v| v.name().to_owned()).collect();
                    format!("{name} is {}, must be one of {}", shown(text), names.join(", "))
                })?,
            };
            Value::EnumNumber(number)
        }
        // Timestamps, durations and the like have a form as one string.
        Kind::Message(kind) if kind.package_name() == "google.protobuf" => {
            let json = serde_json::Value::String(text.to_owned());
            let message = DynamicMessage::deserialize(kind.clone(), json)
                .map_err(|e| format!("{name} is {}: {e}", shown(text)))?;
            Value::Message(message)
        }
        Kind::Message(kind) => {
            return Err(format!(
                "{name} is a message: give its fields, for example {name}.{}",
                kind.fields().next().map_or("field".to_owned(), |f| f.name().to_owned())
            ))
        }
    })
}

/// Base64 in any of its alphabets and paddings; a space was a plus sign that was not escaped.
fn bytes(text: &str) -> Option<Vec<u8>> {
    const EITHER: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text = text.replace(' ', "+");
    let alphabet = if text.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    GeneralPurpose::new(alphabet, EITHER).decode(text).ok()
}

/// A JSON object as a message.
fn from_json(kind: &MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, String> {
    let read = |body: &[u8]| -> Result<DynamicMessage, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let options = DeserializeOptions::new();
        let message = DynamicMessage::deserialize_with_options(kind.clone(), &mut deserializer, &options)?;
        deserializer.end()?;
        Ok(message)
    };
    read(body).map_err(|whole| {
        // Which field is it? The first that is refused alone.
        let fields: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(body) {
            Ok(fields) => fields,
            Err(_) => return format!("the body is not a JSON object of {}: {whole}", kind.full_name()),
        };
        for (name, value) in fields {
            let text = value.to_string();
            let alone = serde_json::Value::Object([(name.clone(), value)].into_iter().collect());
            if let Err(e) = read(alone.to_string().as_bytes()) {
                let reason = e.to_string();
                let reason = reason.split(" at line ").next().unwrap_or_default();
                return format!("{name} is {}: {reason}", text.chars().take(SHOWN).collect::<String>());
            }
        }
        format!("the body is not {}: {whole}", kind.full_name())
    })
}
