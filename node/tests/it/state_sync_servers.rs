//! `comet state-sync` before servers that lie, forget or are gone. Each stands before a real chain and changes its answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use serde_json::{json, Value};

use crate::support::{finish, tenured, Net, NetOptions, CHAIN_ID};

/// What a server makes of an answer of the chain to a method.
type Change = fn(&str, Value) -> Value;

/// Serves a chain's JSON-RPC with changed answers until the test's process ends.
fn standing_before(rpc: SocketAddr, change: Change) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is its own affair.
            std::thread::spawn(move || serve(stream, rpc, change));
        }
    });
    Ok(address)
}

/// Answers the requests of one connection.
fn serve(stream: TcpStream, rpc: SocketAddr, change: Change) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(request) = body(&mut reader)? {
        let mut upstream = TcpStream::connect(rpc)?;
        upstream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let head = format!(
            "POST / HTTP/1.0\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            request.len()
        );
        upstream.write_all(head.as_bytes())?;
        upstream.write_all(&request)?;
        let mut answer = String::new();
        upstream.read_to_string(&mut answer)?;
        let (_, answer) = answer.split_once("\r\n\r\n").context("HTTP")?;
        let request: Value = serde_json::from_slice(&request)?;
        let method = request["method"].as_str().context("method")?;
        let answer = change(method, serde_json::from_str(answer)?).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// The body of the next request; `None`: there is no next one.
fn body(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim().is_empty() {
            break;
        }
        let line = line.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = Some(value.trim().parse()?);
        }
    }
    let mut body = vec![0; length.context("content-length")?];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

fn honest(_: &str, answer: Value) -> Value {
    answer
}

const OTHER_HASH: &str = "00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF";

/// Has another block at every height.
fn lies(method: &str, mut answer: Value) -> Value {
    if method == "block" {
        answer["result"]["block_id"]["hash"] = OTHER_HASH.into();
    }
    answer
}

/// Has kept nothing before block 5.
fn forgets(method: &str, mut answer: Value) -> Value {
    match method {
        "status" => answer["result"]["sync_info"]["earliest_block_height"] = "5".into(),
        "block" => {
            let height = answer["result"]["block"]["header"]["height"].as_str();
            if height.and_then(|h| h.parse::<u64>().ok()).is_some_and(|h| h < 5) {
                let text = "height 3 is not available, lowest height is 5";
                return json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32603, "message": "Internal error", "data": text } });
            }
        }
        _ => {}
    }
    answer
}

/// Is a node of another chain.
fn elsewhere(method: &str, mut answer: Value) -> Value {
    if method == "status" {
        answer["result"]["node_info"]["network"] = "tenure-other-1".into();
    }
    answer
}

/// A home that could join, and what is asked of it.
struct Joining {
    dir: tempfile::TempDir,
}

impl Joining {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (ok, _, err) = finish(tenured(dir.path()).args(["init", "new", "--chain-id", CHAIN_ID]))?;
        ensure!(ok, "{err}");
        Ok(Self { dir })
    }

    fn config(&self) -> Result<String> {
        Ok(std::fs::read_to_string(
            Path::new(self.dir.path()).join("config/config.toml"),
        )?)
    }

    fn ask(&self, servers: &[SocketAddr], more: &[&str]) -> Result<(bool, String, String)> {
        let servers: Vec<String> = servers.iter().map(SocketAddr::to_string).collect();
        let mut command = tenured(self.dir.path());
        command.args(["comet", "state-sync", "--rpc-servers", &servers.join(",")]);
        finish(command.args(more))
    }

    /// It must be refused with all of these words, and leave the settings as they were.
    fn refused(&self, servers: &[SocketAddr], more: &[&str], words: &[&str]) -> Result<()> {
        let before = self.config()?;
        let (ok, out, err) = self.ask(servers, more)?;
        ensure!(!ok, "accepted: {out}");
        for word in words {
            ensure!(err.contains(word), "{word:?} is not in: {err}");
        }
        ensure!(self.config()? == before, "config.toml was changed");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_lie_forget_or_are_gone_are_named_and_nothing_is_set() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    for _ in 0..7 {
        net.block()?;
    }
    let server = |change: Change| standing_before(net.rpc, change);
    let (good, liar, forgetful, other) = (server(honest)?, server(lies)?, server(forgets)?, server(elsewhere)?);
    let named = |address: SocketAddr| address.to_string();
    let joining = Joining::new()?;

    // Two hashes of one block: both servers are named, and both hashes.
    let at = ["--trust-height", "3"];
    let block = crate::support::rpc(net.rpc, "/block?height=3")?;
    let hash = block["block_id"]["hash"].as_str().context("hash")?.to_owned();
    for servers in [[net.rpc, liar], [liar, net.rpc]] {
        let words = [&named(net.rpc), &named(liar), hash.as_str(), OTHER_HASH, "block 3"];
        joining.refused(&servers, &at, &words)?;
    }
    // Servers that agree with each other and not with whom the operator believes.
    let given = [&at[..], &["--trust-hash", OTHER_HASH]].concat();
    joining.refused(&[net.rpc, good], &given, &["--trust-hash", &named(net.rpc), &hash])?;

    // One has pruned the block.
    joining.refused(
        &[net.rpc, forgetful],
        &at,
        &[&named(forgetful), "no block 3", "5 to 7", "--trust-height"],
    )?;
    // One is gone.
    let gone = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    joining.refused(&[net.rpc, gone], &at, &[&named(gone), "does not answer"])?;
    joining.refused(&[net.rpc, other], &at, &[&named(other), "tenure-other-1", CHAIN_ID])?;
    // Who is asked twice cannot contradict.
    joining.refused(&[net.rpc, net.rpc], &at, &["twice"])?;
    joining.refused(&[net.rpc], &at, &["at least 2"])?;

    // Without a height one is chosen that also those have who have forgotten the most.
    let (ok, out, err) = joining.ask(&[net.rpc, forgetful], &[])?;
    ensure!(ok && out.contains("height 5"), "{out}{err}");
    let config = joining.config()?;
    let block = crate::support::rpc(net.rpc, "/block?height=5")?;
    let hash = block["block_id"]["hash"].as_str().context("hash")?;
    for line in [
        format!("trust_hash = \"{hash}\""),
        "trust_height = 5".to_owned(),
        format!("rpc_servers = \"http://{},http://{}\"", net.rpc, forgetful),
    ] {
        ensure!(config.contains(&line), "{line} is not in: {config}");
    }
    Ok(())
}
