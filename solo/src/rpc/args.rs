//! Arguments, with CometBFT's conventions (`rpc/jsonrpc/server`, `libs/json`).
//!
//! In JSON: 64-bit integers are strings, bytes are base64, hashes declared as hex are hex. In a URI: integers are bare or quoted,
//! bytes are `0x` hex or a quoted text, text is a JSON string.

use super::wire::Error;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::Value;
use std::collections::BTreeMap;

/// The type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A 64-bit integer.
    Int,
    /// Bytes, base64 in JSON.
    Bytes,
    /// Bytes, hex in JSON.
    Hex,
    Text,
    Bool,
    /// Anything; its method reads it.
    Json,
}

#[derive(Clone, Debug, PartialEq)]
enum Arg {
    Int(i64),
    Bytes(Vec<u8>),
    Text(String),
    Bool(bool),
    Json(Value),
}

/// Name and type of every argument of a method, in positional order.
pub(crate) type Spec = &'static [(&'static str, Kind)];

/// Decoded arguments; what is absent has its zero value, except [`int`](Self::int), which tells.
#[derive(Debug, Default)]
pub(crate) struct Args(BTreeMap<&'static str, Arg>);

impl Args {
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Arg::Int(i)) => Some(*i),
            _ => None,
        }
    }

    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        match self.0.get(name) {
            Some(Arg::Bytes(b)) => b,
            _ => &[],
        }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(Arg::Text(t)) => t,
            _ => "",
        }
    }

    pub(crate) fn json(&self, name: &str) -> &Value {
        match self.0.get(name) {
            Some(Arg::Json(v)) => v,
            _ => &Value::Null,
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Arg::Bool(true)))
    }
}

fn json_arg(kind: Kind, value: &Value) -> Result<Option<Arg>, String> {
    Ok(Some(match (kind, value) {
        (_, Value::Null) => return Ok(None),
        (Kind::Int, Value::String(s)) => Arg::Int(s.parse().map_err(|_| format!("{s:?} is not a 64-bit integer"))?),
        // The words are CometBFT's, which quotes the JSON.
        (Kind::Int, other) => {
            let text = other.to_string();
            return Err(format!("invalid 64-bit integer encoding {text:?}, expected string"));
        }
        (Kind::Bytes, Value::String(s)) => {
            Arg::Bytes(BASE64.decode(s).map_err(|e| format!("illegal base64 data: {e}"))?)
        }
        (Kind::Hex, Value::String(s)) => Arg::Bytes(hex::decode(s).map_err(|e| format!("encoding/hex: {e}"))?),
        (Kind::Text, Value::String(s)) => Arg::Text(s.clone()),
        (Kind::Bool, Value::Bool(b)) => Arg::Bool(*b),
        (Kind::Json, any) => Arg::Json(any.clone()),
        (kind, other) => return Err(format!("cannot read {other} as {kind:?}")),
    }))
}

/// Arguments of a POST call: an object by name, an array by position, or nothing.
pub(crate) fn from_json(spec: Spec, params: &Value) -> Result<Args, Error> {
    let fail = |e: String| Error::invalid_params(format!("error converting json params to arguments: {e}"));
    let mut out = Args::default();
    match params {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, kind) in spec {
                if let Some(arg) = fields
                    .get(*name)
                    .map(|v| json_arg(*kind, v))
                    .transpose()
                    .map_err(fail)?
                    .flatten()
                {
                    out.0.insert(name, arg);
                }
            }
        }
        Value::Array(items) => {
            if items.len() != spec.len() {
                let names: Vec<&str> = spec.iter().map(|(name, _)| *name).collect();
                return Err(fail(format!(
                    "expected {} parameters ({names:?}), got {}",
                    spec.len(),
                    items.len()
                )));
            }
            for ((name, kind), value) in spec.iter().zip(items) {
                if let Some(arg) = json_arg(*kind, value).map_err(fail)? {
                    out.0.insert(name, arg);
                }
            }
        }
        other => {
            return Err(fail(format!(
                "unknown type for JSON params: {other}. Expected map or array"
            )))
        }
    }
    Ok(out)
}

fn query_arg(kind: Kind, text: &str) -> Result<Option<Arg>, String> {
    let quoted = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    let bytes = matches!(kind, Kind::Bytes | Kind::Hex);
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let value = || hex::decode(digits).map_err(|e| format!("encoding/hex: {e}"));
        return match kind {
            Kind::Bytes | Kind::Hex => Ok(Some(Arg::Bytes(value()?))),
            Kind::Text => String::from_utf8(value()?)
                .map(|s| Some(Arg::Text(s)))
                .map_err(|_| "hex text is not UTF-8".into()),
            Kind::Int | Kind::Bool | Kind::Json => Err(format!("got a hex string arg, but expected '{kind:?}'")),
        };
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if kind == Kind::Int && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return text
            .parse()
            .map(|i| Some(Arg::Int(i)))
            .map_err(|_| format!("{text} does not fit 64 bits"));
    }
    let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    match value {
        // In a URI a quoted text for a bytes argument is those very bytes, not base64.
        Value::String(s) if bytes && quoted => Ok(Some(Arg::Bytes(s.into_bytes()))),
        other => json_arg(kind, &other),
    }
}

/// Arguments of a URI call. Unknown names are ignored, the first of several equal names counts, an empty value is absent.
pub(crate) fn from_query(spec: Spec, pairs: &[(String, String)]) -> Result<Args, Error> {
    let mut out = Args::default();
    for (name, kind) in spec {
        let Some((_, text)) = pairs.iter().find(|(n, _)| n == name) else {
            continue;
        };
        if text.is_empty() {
            continue;
        }
        let arg = query_arg(*kind, text)
            .map_err(|e| Error::invalid_params(format!("error converting http params to arguments: {name}: {e}")))?;
        if let Some(arg) = arg {
            out.0.insert(name, arg);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const SPEC: Spec = &[
        ("n", Kind::Int),
        ("b", Kind::Bytes),
        ("h", Kind::Hex),
        ("t", Kind::Text),
        ("f", Kind::Bool),
    ];

    fn uri(name: &str, text: &str) -> Result<Args, Error> {
        from_query(SPEC, &[(name.into(), text.into())])
    }

    #[test]
    fn json_conventions() {
        let a = from_json(
            SPEC,
            &json!({"n": "-5", "b": "AAE=", "h": "0aFF", "t": "x", "f": true, "other": 1}),
        )
        .unwrap();
        assert_eq!(
            (a.int("n"), a.bytes("b"), a.bytes("h")),
            (Some(-5), [0u8, 1].as_slice(), [10u8, 255].as_slice())
        );
        assert_eq!((a.text("t"), a.flag("f")), ("x", true));
        let a = from_json(SPEC, &json!(["7", null, "", "", false])).unwrap();
        assert_eq!((a.int("n"), a.bytes("b").len()), (Some(7), 0));
        assert_eq!(from_json(SPEC, &Value::Null).unwrap().int("n"), None);
        for bad in [
            json!({"n": 5}),
            json!({"b": "*"}),
            json!({"h": "0x00"}),
            json!({"f": "true"}),
            json!(["1"]),
            json!(3),
        ] {
            assert_eq!(from_json(SPEC, &bad).unwrap_err().code, -32602, "{bad}");
        }
    }

    #[test]
    fn uri_conventions() {
        assert_eq!(uri("n", "5").unwrap().int("n"), Some(5));
        assert_eq!(uri("n", "\"5\"").unwrap().int("n"), Some(5));
        assert_eq!(uri("b", "0x0aFF").unwrap().bytes("b"), [10, 255]);
        assert_eq!(uri("b", "\"raw\"").unwrap().bytes("b"), b"raw");
        assert_eq!(uri("h", "\"raw\"").unwrap().bytes("h"), b"raw");
        assert_eq!(uri("t", "\"a b\"").unwrap().text("t"), "a b");
        assert!(uri("f", "true").unwrap().flag("f"));
        assert_eq!(uri("n", "").unwrap().int("n"), None);
        for (name, bad) in [
            ("n", "0x05"),
            ("n", "99999999999999999999"),
            ("b", "raw"),
            ("t", "raw"),
            ("b", "0xz"),
            ("f", "1"),
        ] {
            assert_eq!(uri(name, bad).unwrap_err().code, -32602, "{name}={bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(name in "[nbhtf]", text in ".{0,40}") {
            let _ = uri(&name, &text);
        }
    }
}
