//! A node's JSON-RPC over HTTP: what light clients ask for. CometBFT and the solo engine answer alike.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use serde_json::{json, Value};

use crate::{Error, Result};

/// Where a node's JSON-RPC listens on this machine.
pub const DEFAULT_RPC: &str = "http://127.0.0.1:26657";
/// Environment variable that names the JSON-RPC address.
pub const RPC_ENV: &str = "TENURE_RPC";
/// What errors call it.
pub const RPC: &str = "the node's JSON-RPC";
/// Longest answer that is read, bytes: a page of 100 validators or the commit of 10,000 is far below.
const MAX_ANSWER: usize = 16 << 20;
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that answers JSON-RPC calls: a node, or in tests a node that lies.
pub trait Node: Sync {
    /// The result of a method.
    ///
    /// # Errors
    /// `Unreachable`: no answer. `Server`: the node says no. `Malformed`: its answer is not JSON-RPC.
    fn call(&self, method: &'static str, params: Value) -> impl Future<Output = Result<Value>> + Send;
}

/// A node's JSON-RPC over HTTP. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpNode {
    address: String,
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

impl HttpNode {
    /// The node at `http://host:port`; `tcp://` and no scheme mean the same. Nothing is sent yet. Error: the address is malformed.
    pub fn new(address: &str) -> Result<Self> {
        let host = address
            .strip_prefix("tcp://")
            .or_else(|| address.strip_prefix("http://"));
        let host = host.unwrap_or(address).trim_end_matches('/');
        let address = format!("http://{host}");
        let malformed = |detail: &dyn std::fmt::Display| {
            Error::Usage(format!(
                "{RPC}'s address {address:?} must be http://host:port: {detail}"
            ))
        };
        let uri: http::Uri = address.parse().map_err(|e| malformed(&e))?;
        if uri.authority().is_none() || host.contains("://") {
            return Err(malformed(&"it names no host"));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        Ok(Self {
            http: hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector),
            address,
        })
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn unreachable(&self, detail: &dyn std::fmt::Display) -> Error {
        Error::Unreachable {
            what: RPC,
            address: self.address.clone(),
            detail: detail.to_string(),
        }
    }

    async fn post(&self, body: String) -> Result<Bytes> {
        let request = http::Request::post(&self.address)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| self.unreachable(&e))?;
        let response = self.http.request(request).await.map_err(|e| {
            // The innermost cause says "Connection refused"; the outer ones only say that there was an error.
            let mut cause: &dyn std::error::Error = &e;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            self.unreachable(cause)
        })?;
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        body.map(|body| body.to_bytes()).map_err(|e| malformed(e.to_string()))
    }
}

impl Node for HttpNode {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let answer = tokio::time::timeout(CALL_TIMEOUT, self.post(body)).await;
        let answer =
            answer.map_err(|_| self.unreachable(&format!("no answer within {} s", CALL_TIMEOUT.as_secs())))??;
        let mut answer: Value = serde_json::from_slice(&answer)
            .map_err(|_| malformed(format!("{} answers and does not speak JSON-RPC", self.address)))?;
        if let Some(error) = answer.get("error").filter(|e| !e.is_null()) {
            let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
            return Err(Error::Server {
                what: RPC,
                code: tonic::Code::Unknown,
                message: format!("{method}: {} {}", text("message"), text("data"))
                    .trim_end()
                    .to_owned(),
                chain: None,
            });
        }
        match answer.get_mut("result").map(Value::take) {
            Some(result) if !result.is_null() => Ok(result),
            _ => Err(malformed(format!("{method}: neither result nor error"))),
        }
    }
}

pub(crate) fn malformed(detail: String) -> Error {
    Error::Malformed { what: RPC, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_leniently_and_refused_by_name() {
        let address = |text| HttpNode::new(text).map(|node| node.address().to_owned());
        for text in ["127.0.0.1:26657", "tcp://127.0.0.1:26657", "http://127.0.0.1:26657/"] {
            assert_eq!(address(text).ok().as_deref(), Some("http://127.0.0.1:26657"), "{text}");
        }
        for text in ["", "https://host", "http://"] {
            assert!(matches!(address(text), Err(Error::Usage(_))), "{text}");
        }
    }
}
