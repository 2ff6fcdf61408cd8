//! Questions to a CometBFT JSON-RPC, whichever engine serves it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::{json, Value};
use tenure_comet::rpc::{Rpc, RpcError};
use tenure_types::sdk;

/// How long a server that is no JSON-RPC may take to show what it is.
const PROBE: Duration = Duration::from_secs(2);
/// A query that only REST answers.
const REST_PROBE: &[u8] = b"GET /cosmos/base/tendermint/v1beta1/node_info HTTP/1.0\r\nHost: tenured\r\n\r\n";
/// What a client of HTTP/2, which gRPC is, begins with: the preface and its settings, none (RFC 9113, sections 3.4 and 6.5).
const HTTP2_PROBE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The type of the frame that a server of HTTP/2 begins with, and its place in the frame.
const HTTP2_SETTINGS: (usize, u8) = (3, 4);

/// The address is that of a node's other server.
#[derive(Debug, thiserror::Error)]
#[error("{address} speaks {speaks}, not CometBFT's JSON-RPC: pass that port, as a rule tcp://{}:26657", address.ip())]
pub(super) struct OtherServer {
    address: SocketAddr,
    speaks: &'static str,
}

/// What JSON-RPC answered in place of a result.
#[derive(Debug, thiserror::Error)]
#[error("the node refuses {method}: {text}")]
pub(super) struct Refused {
    method: &'static str,
    /// Its words.
    pub(super) text: String,
}

/// What a query answered in place of a result.
#[derive(Debug, thiserror::Error)]
#[error("{log} ({codespace}/{code})")]
pub(super) struct Refusal {
    log: String,
    codespace: String,
    code: u64,
}

/// Whether a query was refused because what it asks for is not there.
pub(super) fn is_not_found(error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<Refusal>();
    refusal.is_some_and(|refusal| refusal.codespace == "sdk" && refusal.code == u64::from(sdk::NOT_FOUND))
}

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

/// The result of a method. Error: nobody answers; [`Refused`]; [`OtherServer`] if something else listens there.
pub(super) fn call(address: SocketAddr, method: &'static str, params: &Value) -> Result<Value> {
    let error = match Rpc::new(address).ask(method, params.clone()) {
        Ok(answer) => return Ok(answer),
        Err(RpcError::Refused { text, .. }) => return Err(Refused { method, text }.into()),
        Err(error) => error,
    };
    if let Some(speaks) = spoken(address) {
        return Err(OtherServer { address, speaks }.into());
    }
    match error {
        // Its own words name CometBFT, which this node may not be.
        RpcError::Unreachable { address, reason } => bail!("no answer from {address}: {reason}"),
        other => Err(other.into()),
    }
}

/// What a server that does not speak JSON-RPC speaks, if it is one of a node's.
fn spoken(address: SocketAddr) -> Option<&'static str> {
    let begins = |probe: &[u8], most: usize| {
        let deadline = Instant::now() + PROBE;
        let mut stream = TcpStream::connect_timeout(&address, PROBE).ok()?;
        stream.set_write_timeout(Some(PROBE)).ok()?;
        stream.write_all(probe).ok()?;
        let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
        // What came before it stopped, or the time was over, tells enough.
        while answer.len() < most {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
                break;
            }
            match stream.read(&mut chunk) {
                Ok(read @ 1..) => answer.extend_from_slice(chunk.get(..read)?),
                Ok(0) | Err(_) => break,
            }
        }
        Some(answer)
    };
    // Its words are near the answer's beginning, and no other server has them.
    let rest = begins(REST_PROBE, 64 << 10)?;
    if String::from_utf8_lossy(&rest).contains("\"default_node_info\"") {
        return Some("REST");
    }
    let (place, settings) = HTTP2_SETTINGS;
    let frame = begins(HTTP2_PROBE, 9)?;
    (frame.get(place) == Some(&settings)).then_some("gRPC")
}

/// The node's `status`.
pub(super) fn status(address: SocketAddr) -> Result<Value> {
    call(address, "status", &json!({}))
}

/// [`status`] for a person, who is told what to do if nobody answers.
pub(super) fn status_or(address: SocketAddr, silent: impl FnOnce() -> String) -> Result<Value> {
    match status(address) {
        Err(error) if !error.is::<OtherServer>() => Err(error.context(silent())),
        answer => answer,
    }
}

/// The answer of an ABCI query. Error: a [`Refusal`] of its own, or as [`call`].
pub(super) fn query(address: SocketAddr, path: &str, request: &[u8], height: u64) -> Result<Vec<u8>> {
    let params = json!({ "path": path, "data": hex::encode(request), "height": height.to_string(), "prove": false });
    let answer = call(address, "abci_query", &params)?;
    let response = &answer["response"];
    let code = response["code"].as_u64().unwrap_or(0);
    if code != 0 {
        let text = |key: &str| response[key].as_str().unwrap_or_default().to_owned();
        let (log, codespace) = (text("log"), text("codespace"));
        return Err(Refusal { log, codespace, code }.into());
    }
    let value = response["value"].as_str().unwrap_or_default();
    BASE64.decode(value).context("the node's answer is not base64")
}
