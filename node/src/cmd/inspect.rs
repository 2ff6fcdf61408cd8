//! Commands that only look.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use tenure_solo::{load_node_id, ValidatorKey};
use tenure_types::{address::VALCONS_PREFIX, Address};

use crate::config::Env;
use crate::home::Home;
use crate::{node, version};

const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest status that is read, bytes.
const MAX_STATUS: u64 = 1 << 20;

/// Prints the answer of the node's `status`.
pub(super) fn status(home: &Home, env: &Env, node: Option<&str>) -> Result<()> {
    let address: SocketAddr = match node {
        None => node::rpc_address(home, env)?,
        Some(text) => text
            .trim_start_matches("tcp://")
            .trim_start_matches("http://")
            .parse()
            .ok()
            .with_context(|| format!("--node {text:?} must be tcp://<IP address>:<port>"))?,
    };
    let answer = get(address, "/status").with_context(|| {
        format!(
            "no node answers at {address}. Is it running? `tenured start --home {}`",
            home.root().display()
        )
    })?;
    let answer: Value = serde_json::from_slice(&answer).context("the node's answer is not JSON")?;
    match answer.get("result") {
        Some(result) => println!("{result:#}"),
        None => bail!("the node answered {answer}"),
    }
    Ok(())
}

/// One HTTP/1.0 request to a node of ours: no redirects, no TLS, the connection ends with the answer.
fn get(address: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_STATUS).read_to_end(&mut answer)?;
    let at = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .context("the answer is not HTTP")?;
    Ok(answer.split_off(at + 4))
}

pub(super) fn show_node_id(home: &Home) -> Result<()> {
    println!("{}", load_node_id(&home.node_key())?);
    Ok(())
}

pub(super) fn show_validator(home: &Home) -> Result<()> {
    use base64::Engine as _;
    let key = ValidatorKey::load(&home.validator_key())?;
    let text = base64::engine::general_purpose::STANDARD.encode(key.public_key());
    println!("{}", json!({ "@type": "/cosmos.crypto.ed25519.PubKey", "key": text }));
    Ok(())
}

pub(super) fn show_address(home: &Home) -> Result<()> {
    let key = ValidatorKey::load(&home.validator_key())?;
    println!("{}", Address::new(key.address()).to_bech32(VALCONS_PREFIX));
    Ok(())
}

pub(super) fn version(long: bool, json: bool) {
    match (long, json) {
        (false, false) => println!("{}", version::VERSION),
        (false, true) => println!("{}", json!({ "version": version::VERSION })),
        (true, true) => println!("{}", version::long()),
        (true, false) => {
            for (key, value) in version::long().as_object().into_iter().flatten() {
                println!(
                    "{key}: {}",
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                );
            }
        }
    }
}
