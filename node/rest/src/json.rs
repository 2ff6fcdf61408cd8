//! Messages as JSON, the way the Cosmos SDK's gateway writes it: every field present under its .proto name, 64-bit integers as strings, bytes
//! in base64, enums by name, `Any` with `@type`, `null` for absent messages and empty bytes, nothing for the unset members of a oneof.
//!
//! Written straight into the output: a message of a few bytes can be a hundred times as long in JSON, so the length is bounded while it
//! grows, and an `Any` inside an `Any` is only opened so often.

use base64::prelude::{Engine, BASE64_STANDARD};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

/// How many `Any` inside each other are opened; one that is deeper is shown with its bytes.
const MAX_ANY: usize = 16;

/// Why a message cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The JSON would be longer than the limit, bytes.
    #[error("the answer is longer than {0} bytes as JSON: ask for smaller pages, or use gRPC")]
    TooLong(usize),
    /// A value has no JSON form.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
}

/// The JSON of a message, at most `limit` bytes.
pub fn render(message: &DynamicMessage, limit: usize) -> Result<Vec<u8>, RenderError> {
    let mut writer = Writer {
        out: Vec::new(),
        limit,
        opened: 0,
    };
    writer.message(message)?;
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
    limit: usize,
    /// `Any` that are open around what is written.
    opened: usize,
}

type Written = Result<(), RenderError>;

impl Writer {
    fn raw(&mut self, text: &str) -> Written {
        if self.out.len().saturating_add(text.len()) > self.limit {
            return Err(RenderError::TooLong(self.limit));
        }
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn string(&mut self, text: &str) -> Written {
        self.raw(&serde_json::to_string(text)?)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Written {
        self.raw("\"")?;
        self.raw(&BASE64_STANDARD.encode(bytes))?;
        self.raw("\"")
    }

    /// `"name":`, after a comma unless it is the first of its object.
    fn name(&mut self, first: &mut bool, name: &str) -> Written {
        self.raw(if *first { "" } else { "," })?;
        *first = false;
        self.string(name)?;
        self.raw(":")
    }

    fn message(&mut self, message: &DynamicMessage) -> Written {
        let kind = message.descriptor();
        match kind.full_name() {
            "google.protobuf.Any" => self.any(message),
            name if name.starts_with("google.protobuf.") => {
                // Timestamps and the like have forms of their own. An instant that has none (CometBFT's zero time is in the year 1, others
                // may be anything) is no instant.
                let json = serde_json::to_string(message).unwrap_or_else(|_| "null".to_owned());
                self.raw(&json)
            }
            _ => {
                self.raw("{")?;
                self.fields(message, &mut true)?;
                self.raw("}")
            }
        }
    }

    fn fields(&mut self, message: &DynamicMessage, first: &mut bool) -> Written {
        for field in message.descriptor().fields() {
            let set = message.has_field(&field);
            let in_oneof = field.containing_oneof().is_some() && !field.field_descriptor_proto().proto3_optional();
            if in_oneof && !set {
                continue;
            }
            self.name(first, field.name())?;
            if !set && (field.supports_presence() || is_bytes(&field)) {
                self.raw("null")?;
                continue;
            }
            self.field(&field, &message.get_field(&field))?;
        }
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value) -> Written {
        match value {
            Value::List(values) => {
                self.raw("[")?;
                for (n, value) in values.iter().enumerate() {
                    self.raw(if n == 0 { "" } else { "," })?;
                    self.value(&field.kind(), value)?;
                }
                self.raw("]")
            }
            Value::Map(entries) => {
                let kind = match field.kind() {
                    Kind::Message(entry) => entry.map_entry_value_field().kind(),
                    other => other,
                };
                // The same bytes for the same map.
                let mut entries: Vec<(String, &Value)> = entries.iter().map(|(key, v)| (map_key(key), v)).collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                self.raw("{")?;
                let mut first = true;
                for (key, value) in entries {
                    self.name(&mut first, &key)?;
                    self.value(&kind, value)?;
                }
                self.raw("}")
            }
            value => self.value(&field.kind(), value),
        }
    }

    fn value(&mut self, kind: &Kind, value: &Value) -> Written {
        match value {
            Value::Bool(v) => self.raw(if *v { "true" } else { "false" }),
            Value::I32(v) => self.raw(&v.to_string()),
            Value::U32(v) => self.raw(&v.to_string()),
            Value::I64(v) => self.raw(&format!("\"{v}\"")),
            Value::U64(v) => self.raw(&format!("\"{v}\"")),
            Value::F32(v) => self.float(f64::from(*v)),
            Value::F64(v) => self.float(*v),
            Value::String(v) => self.string(v),
            Value::Bytes(v) => self.bytes(v),
            Value::EnumNumber(number) => {
                let known = match kind {
                    Kind::Enum(kind) => kind.get_value(*number),
                    _ => None,
                };
                match known {
                    Some(value) => self.string(value.name()),
                    None => self.raw(&number.to_string()),
                }
            }
            Value::Message(message) => self.message(message),
            // Lists and maps are fields, never values.
            Value::List(_) | Value::Map(_) => self.raw("null"),
        }
    }

    fn float(&mut self, value: f64) -> Written {
        if value.is_finite() {
            return self.raw(&serde_json::to_string(&value)?);
        }
        self.string(match value {
            v if v.is_nan() => "NaN",
            v if v > 0.0 => "Infinity",
            _ => "-Infinity",
        })
    }

    /// `{"@type": "/package.Message", its fields}`; if the type is not known or does not decode, its bytes as `value`.
    fn any(&mut self, any: &DynamicMessage) -> Written {
        let url = any.get_field_by_name("type_url");
        let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let value = any.get_field_by_name("value");
        let value = value.as_deref().and_then(Value::as_bytes).cloned().unwrap_or_default();
        self.raw("{")?;
        let mut first = true;
        self.name(&mut first, "@type")?;
        self.string(url)?;
        let inner = (self.opened < MAX_ANY)
            .then(|| inner_kind(&any.descriptor(), url))
            .flatten()
            .and_then(|kind| DynamicMessage::decode(kind, value.clone()).ok());
        match inner {
            Some(message) if message.descriptor().package_name() == "google.protobuf" => {
                self.name(&mut first, "value")?;
                self.opened = self.opened.saturating_add(1);
                self.message(&message)?;
                self.opened = self.opened.saturating_sub(1);
            }
            Some(message) => {
                self.opened = self.opened.saturating_add(1);
                self.fields(&message, &mut first)?;
                self.opened = self.opened.saturating_sub(1);
            }
            None => {
                self.name(&mut first, "value")?;
                self.bytes(&value)?;
            }
        }
        self.raw("}")
    }
}

fn inner_kind(any: &MessageDescriptor, url: &str) -> Option<MessageDescriptor> {
    let name = url.rsplit('/').next()?;
    any.parent_pool().get_message_by_name(name)
}

fn is_bytes(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Bytes) && !field.is_list()
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(v) => v.to_string(),
        MapKey::I32(v) => v.to_string(),
        MapKey::I64(v) => v.to_string(),
        MapKey::U32(v) => v.to_string(),
        MapKey::U64(v) => v.to_string(),
        MapKey::String(v) => v.clone(),
    }
}
