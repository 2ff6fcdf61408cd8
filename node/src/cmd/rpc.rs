//! Questions to a CometBFT JSON-RPC, whichever engine serves it.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{bail, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::{json, Value};
use tenure_comet::rpc::{Rpc, RpcError};

/// An address as operators write it: `tcp://host:port`, `http://host:port` or `host:port`. Names are looked up.
pub(super) fn address(text: &str) -> Result<SocketAddr> {
    let bare = text
        .strip_prefix("tcp://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or(text);
    let found = bare.trim_end_matches('/').to_socket_addrs();
    let found = found.ok().and_then(|mut all| all.next());
    found.with_context(|| format!("{text:?} must be tcp://<host>:<port>, for example tcp://127.0.0.1:26657"))
}

/// The result of a method. Error: nobody answers, or the answer is an error.
pub(super) fn call(address: SocketAddr, method: &'static str, params: &Value) -> Result<Value> {
    match Rpc::new(address).ask(method, params.clone()) {
        // Its own words name CometBFT, which this node may not be.
        Err(RpcError::Unreachable { address, reason }) => bail!("no answer from {address}: {reason}"),
        Err(RpcError::Refused { text, .. }) => bail!("the node refuses {method}: {text}"),
        answer => Ok(answer?),
    }
}

/// The node's `status`.
pub(super) fn status(address: SocketAddr) -> Result<Value> {
    call(address, "status", &json!({}))
}

/// The answer of an ABCI query and the height of the state it was read from. Error: the query's own.
pub(super) fn query(address: SocketAddr, path: &str, request: &[u8], height: u64) -> Result<(Vec<u8>, String)> {
    let params = json!({ "path": path, "data": hex::encode(request), "height": height.to_string(), "prove": false });
    let answer = call(address, "abci_query", &params)?;
    let response = &answer["response"];
    let code = response["code"].as_u64().unwrap_or(0);
    if code != 0 {
        let text = |key: &str| response[key].as_str().unwrap_or_default();
        bail!("{} ({}/{code})", text("log"), text("codespace"));
    }
    let value = response["value"].as_str().unwrap_or_default();
    let value = BASE64.decode(value).context("the node's answer is not base64")?;
    Ok((value, response["height"].as_str().unwrap_or_default().to_owned()))
}
