//! Questions to a CometBFT JSON-RPC, whichever engine serves it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{bail, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::{json, Value};

const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer that is read, bytes.
const MAX_ANSWER: u64 = 32 << 20;

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
pub(super) fn call(address: SocketAddr, method: &str, params: &Value) -> Result<Value> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let body = post(address, &serde_json::to_vec(&request)?)?;
    let mut answer: Value = serde_json::from_slice(&body).context("the answer is not JSON")?;
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        let text = |key: &str| error[key].as_str().unwrap_or_default();
        bail!("the node refuses {method}: {} {}", text("message"), text("data"));
    }
    match answer.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => bail!("the node answers {method} with {answer}"),
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

/// One HTTP/1.0 request: no redirects, no TLS, the connection ends with the answer.
fn post(address: SocketAddr, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let head = format!(
        "POST / HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let at = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .context("the answer is not HTTP")?;
    Ok(answer.split_off(at + 4))
}
