//! JSON-RPC 2.0 as CometBFT speaks it (`rpc/jsonrpc/types`).

use super::methods;
use axum::http::StatusCode;
use serde_json::{json, Value};

/// Most calls in one batch (CometBFT's `max_request_batch_size`).
const MAX_BATCH: usize = 10;

/// An error answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Error {
    pub code: i32,
    pub message: &'static str,
    pub data: String,
}

impl Error {
    fn parse(data: impl Into<String>) -> Self {
        Self {
            code: -32700,
            message: "Parse error. Invalid JSON",
            data: data.into(),
        }
    }

    pub(crate) fn invalid_request(data: impl Into<String>) -> Self {
        Self {
            code: -32600,
            message: "Invalid Request",
            data: data.into(),
        }
    }

    pub(crate) fn method_not_found() -> Self {
        Self {
            code: -32601,
            message: "Method not found",
            data: String::new(),
        }
    }

    pub(crate) fn invalid_params(data: impl Into<String>) -> Self {
        Self {
            code: -32602,
            message: "Invalid params",
            data: data.into(),
        }
    }

    pub(crate) fn server(data: impl Into<String>) -> Self {
        Self {
            code: -32000,
            message: "Server error",
            data: data.into(),
        }
    }

    pub(crate) fn internal(data: impl ToString) -> Self {
        Self {
            code: -32603,
            message: "Internal error",
            data: data.to_string(),
        }
    }
}

/// One call; no id makes it a notification.
#[derive(Debug, PartialEq)]
pub(crate) struct Call {
    pub id: Option<Value>,
    pub method: String,
    pub params: Value,
}

fn call(value: &Value) -> Result<Call, String> {
    let Value::Object(fields) = value else {
        return Err("a request must be an object".into());
    };
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(s)) => Ok(s.clone()),
        Some(other) => Err(format!("{name} must be a string, got {other}")),
    };
    text("jsonrpc")?;
    let id = match fields.get("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(s)) => Some(Value::from(s.clone())),
        // CometBFT reads ids as integers and drops decimals.
        Some(Value::Number(n)) => Some(match n.as_i64() {
            Some(i) => Value::from(i),
            None => Value::from(n.as_f64().unwrap_or_default() as i64),
        }),
        Some(other) => return Err(format!("json-rpc ID ({other}) is of unknown type")),
    };
    Ok(Call {
        id,
        method: text("method")?,
        params: fields.get("params").cloned().unwrap_or(Value::Null),
    })
}

/// Parses a websocket message, which holds one call.
pub(crate) fn parse_one(bytes: &[u8]) -> Result<Call, Error> {
    let bad = |e: String| Error::parse(format!("error unmarshaling request: {e}"));
    let value: Value = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
    call(&value).map_err(bad)
}

/// Parses a body into calls; the error comes with its HTTP status.
pub(crate) fn parse(body: &[u8]) -> Result<Vec<Call>, (StatusCode, Error)> {
    let bad = |e: String| {
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            Error::parse(format!("error unmarshaling request: {e}")),
        )
    };
    let value: Value = serde_json::from_slice(body).map_err(|e| bad(e.to_string()))?;
    match value {
        Value::Array(items) if items.len() > MAX_BATCH => Err((
            StatusCode::OK,
            Error::invalid_request(format!(
                "batch request exceeds maximum ({MAX_BATCH}) allowed number of requests"
            )),
        )),
        Value::Array(items) => items.iter().map(|v| call(v).map_err(bad)).collect(),
        one => Ok(vec![call(&one).map_err(bad)?]),
    }
}

/// An answer.
pub(crate) fn response(id: Option<&Value>, outcome: Result<Value, Error>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(e) => failure(id, &e),
    }
}

/// An error answer; CometBFT leaves out an unknown id and empty data.
pub(crate) fn failure(id: Option<&Value>, e: &Error) -> Value {
    let mut error = json!({"code": e.code, "message": e.message});
    if !e.data.is_empty() {
        error["data"] = Value::String(e.data.clone());
    }
    match id {
        Some(id) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
        None => json!({"jsonrpc": "2.0", "error": error}),
    }
}

/// The page a browser gets on `/`.
pub(crate) fn endpoint_list() -> String {
    let mut page = String::from("<html><body><br>Available endpoints:<br>");
    for method in methods::METHODS {
        let args: Vec<String> = method.args.iter().map(|(name, _)| format!("{name}=_")).collect();
        let query = if args.is_empty() {
            String::new()
        } else {
            format!("?{}", args.join("&"))
        };
        page.push_str(&format!("<a href=\"/{0}{1}\">/{0}{1}</a></br>", method.name, query));
    }
    page.push_str("</body></html>");
    page
}
