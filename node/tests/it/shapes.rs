//! The JSON of the embedded engine beside CometBFT's own, for the same transactions: same keys in the same order, same types, same
//! encodings, null where it is null; and a light client over every block of both. Without CometBFT the test says so and passes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::{json, Value};
use tendermint::block::signed_header::SignedHeader;
use tendermint::validator;
use tendermint_light_client_verifier::options::Options;
use tendermint_light_client_verifier::types::{TrustThreshold, TrustedBlockState, UntrustedBlockState};
use tendermint_light_client_verifier::{ProdVerifier, Verdict, Verifier};
use tenure_comet::binary::CometBft;
use tenure_node::account_key::AccountKey;
use tenure_proto::cosmos::tx::v1beta1::service_client::ServiceClient;
use tenure_proto::cosmos::tx::v1beta1::{BroadcastMode, BroadcastTxRequest};
use tenure_types::Address;

use crate::support::{account, connect, finish, tenured, transfer, Node, CHAIN_ID, OWN_PORTS};

const LIMIT: Duration = Duration::from_secs(60);
/// What two nodes may differ in: who and where they are, and the one field that is ours.
const OWN: &[&str] = &[
    "status.node_info.id",
    "status.node_info.listen_addr",
    "status.node_info.channels",
    "status.node_info.moniker",
    "status.node_info.other.rpc_address",
    "net_info.listening",
    "net_info.listeners",
];

struct Engine {
    node: Node,
    /// Heights and hashes of the two transfers.
    txs: Vec<(i64, String)>,
}

impl Engine {
    async fn start(home: &Path, alice: &AccountKey, engine: &[&str]) -> Result<Self> {
        let mut init = tenured(home);
        init.args(["init", "test", "--chain-id", CHAIN_ID, "--fast", "--account"]);
        init.arg(format!("{}=1000ten", alice.address()));
        let (ok, _, err) = finish(&mut init)?;
        ensure!(ok, "{err}");
        let mut start = tenured(home);
        start.args(["start", "--auto-ports"]).args(engine).envs(OWN_PORTS);
        start.env("TENURED_CONSENSUS_TIMEOUT_COMMIT", "100ms");
        let node = Node::start(home, &mut start)?;
        let channel = connect(node.run.grpc).await?;
        let deadline = Instant::now() + LIMIT;
        let (number, sequence) = loop {
            match account(&channel, &alice.address()).await {
                Ok(found) => break found,
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let mut txs = Vec::new();
        for i in 0..2 {
            let tx_bytes = transfer(alice, CHAIN_ID, number, sequence + i, &Address::new([0x55; 20]), 5 + i);
            let request = BroadcastTxRequest {
                tx_bytes,
                mode: BroadcastMode::Sync as i32,
            };
            let sent = ServiceClient::new(channel.clone())
                .broadcast_tx(request)
                .await?
                .into_inner();
            let sent = sent.tx_response.context("tx_response")?;
            ensure!(sent.code == 0, "{}", sent.raw_log);
            let hash = BASE64.encode(hex::decode(&sent.txhash)?);
            let height = loop {
                let answer = post(node.run.rpc, "tx", &json!({ "hash": hash }))?;
                if let Some(height) = answer["result"]["height"].as_str() {
                    break height.parse()?;
                }
                ensure!(Instant::now() < deadline, "{answer}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            txs.push((height, sent.txhash));
        }
        // The transfers' results are in the header after theirs, and some empty blocks follow.
        let wanted = txs[1].0 + 3;
        while height(node.run.rpc)? < wanted {
            ensure!(Instant::now() < deadline, "no block {wanted}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Self { node, txs })
    }

    fn call(&self, method: &str, params: &Value) -> Result<Value> {
        let answer = post(self.node.run.rpc, method, params)?;
        ensure!(answer.get("result").is_some(), "{method} {params}: {answer}");
        Ok(answer["result"].clone())
    }
}

/// The answer to a JSON-RPC call, whole.
fn post(rpc: SocketAddr, method: &str, params: &Value) -> Result<Value> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let mut stream = TcpStream::connect_timeout(&rpc, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "POST / HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").context("HTTP")?;
    serde_json::from_str(body).with_context(|| format!("{method} {params}: {body}"))
}

fn height(rpc: SocketAddr) -> Result<i64> {
    let status = post(rpc, "status", &json!({}))?;
    let text = status["result"]["sync_info"]["latest_block_height"].as_str();
    Ok(text.context("height")?.parse()?)
}

/// How a text is encoded, as far as a text can tell.
fn encoding(text: &str) -> &'static str {
    let is = |f: fn(&u8) -> bool| text.bytes().all(|b| f(&b));
    if text.is_empty() {
        "empty"
    } else if is(u8::is_ascii_digit) || (text.starts_with('-') && text.len() > 1) {
        "number"
    } else if text.len() >= 40 && is(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b)) {
        "HEX"
    } else if text.ends_with('Z') && text.get(4..5) == Some("-") && text.get(10..11) == Some("T") {
        "time"
    } else if text.len() >= 24 && text.len().is_multiple_of(4) && BASE64.decode(text).is_ok() {
        "base64"
    } else {
        "text"
    }
}

/// Adds to `found` every place where `ours` differs in shape from `theirs`.
fn compare(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    if OWN.contains(&path) {
        return;
    }
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let names = |m: &serde_json::Map<String, Value>| -> Vec<String> {
                // The order of a map's keys is chance in Go.
                let mut names: Vec<String> = m.keys().filter(|k| *k != "engine").cloned().collect();
                if path.ends_with(".events") {
                    names.sort();
                }
                names
            };
            if names(a) != names(b) {
                found.push(format!("{path}: fields {:?}, ours {:?}", names(a), names(b)));
            }
            for (name, value) in a {
                if let Some(other) = b.get(name) {
                    compare(&format!("{path}.{name}"), value, other, found);
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if a.is_empty() != b.is_empty() {
                found.push(format!("{path}: {} entries, ours {}", a.len(), b.len()));
            }
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{i}]"), x, y, found);
            }
        }
        (Value::String(a), Value::String(b)) if encoding(a) == encoding(b) => {}
        (Value::Number(a), Value::Number(b)) if a.is_f64() == b.is_f64() => {}
        (Value::Bool(_), Value::Bool(_)) | (Value::Null, Value::Null) => {}
        (a, b) => found.push(format!("{path}: {a}, ours {b}")),
    }
}

/// Every method with the arguments that lead to the same things on an engine with these transfers.
fn calls(engine: &Engine) -> Vec<(&'static str, Value)> {
    let (height, hash) = (engine.txs[0].0, &engine.txs[0].1);
    let at = json!({"height": height.to_string()});
    let by_hash = BASE64.encode(hex::decode(hash).unwrap_or_default());
    let found =
        json!({"query": format!("tx.hash='{hash}'"), "prove": true, "page": "1", "per_page": "5", "order_by": "asc"});
    vec![
        ("health", json!({})),
        ("status", json!({})),
        ("net_info", json!({})),
        ("genesis", json!({})),
        ("genesis_chunked", json!({"chunk": "0"})),
        ("abci_info", json!({})),
        (
            "abci_query",
            json!({"path": "/cosmos.bank.v1beta1.Query/Params", "data": "", "prove": false}),
        ),
        ("abci_query", json!({"path": "/no.such/Query", "data": ""})),
        ("block", at.clone()),
        ("block", json!({"height": "1"})),
        ("block_results", at.clone()),
        ("block_results", json!({"height": (engine.txs[1].0 + 1).to_string()})),
        (
            "block_search",
            json!({"query": format!("block.height={height}"), "page": "1", "per_page": "5", "order_by": "desc"}),
        ),
        (
            "blockchain",
            json!({"minHeight": height.to_string(), "maxHeight": height.to_string()}),
        ),
        ("commit", at.clone()),
        ("header", at.clone()),
        ("validators", at.clone()),
        ("validators", json!({})),
        ("consensus_params", at),
        ("tx", json!({"hash": by_hash, "prove": true})),
        ("tx", json!({"hash": by_hash})),
        ("tx_search", found),
        ("tx_search", json!({"query": "transfer.recipient='nobody'"})),
        ("num_unconfirmed_txs", json!({})),
        ("unconfirmed_txs", json!({})),
        ("broadcast_tx_sync", json!({"tx": BASE64.encode("not a transaction")})),
        ("broadcast_tx_async", json!({"tx": BASE64.encode("nor this")})),
        ("broadcast_tx_commit", json!({"tx": BASE64.encode("nor that")})),
    ]
}

/// Mistakes with the same words on both.
fn mistakes() -> Vec<(&'static str, Value)> {
    vec![
        ("no_such_method", json!({})),
        ("block", json!({"height": "0"})),
        ("block", json!({"height": "-3"})),
        ("block", json!({"height": 1})),
        ("tx", json!({"hash": BASE64.encode([7u8; 32])})),
        ("tx_search", json!({"query": "tx.height=1", "page": "9"})),
        ("tx_search", json!({"query": "tx.height=1", "order_by": "up"})),
        ("tx_search", json!({"query": "x".repeat(600)})),
        ("validators", json!({"height": "1", "page": "4"})),
        ("genesis_chunked", json!({"chunk": "7"})),
        ("blockchain", json!({"minHeight": "-1", "maxHeight": "5"})),
    ]
}

/// What the application says does not depend on the engine.
fn same_values(comet: &Engine, solo: &Engine) -> Result<()> {
    for (theirs, ours) in comet.txs.iter().zip(&solo.txs) {
        ensure!(theirs.1 == ours.1, "the same bytes have the same hash");
        let get = |engine: &Engine, hash: &str| engine.call("tx", &json!({"hash": BASE64.encode(hex::decode(hash)?)}));
        let (a, b) = (get(comet, &theirs.1)?, get(solo, &ours.1)?);
        ensure!(a["tx"] == b["tx"] && a["hash"] == b["hash"]);
        ensure!(
            a["tx_result"] == b["tx_result"],
            "{}\n{}",
            a["tx_result"],
            b["tx_result"]
        );
    }
    let params = json!({"height": "1"});
    let (a, b) = (
        comet.call("consensus_params", &params)?,
        solo.call("consensus_params", &params)?,
    );
    ensure!(a == b, "{a}\n{b}");
    Ok(())
}

/// Verifies every block against the one before it, as a light client that began at the first.
fn light_client(engine: &Engine) -> Result<i64> {
    let options = Options {
        trust_threshold: TrustThreshold::TWO_THIRDS,
        trusting_period: Duration::from_secs(3600 * 24),
        clock_drift: Duration::from_secs(60),
    };
    let validators = |height: i64| -> Result<validator::Set> {
        let found = engine.call("validators", &json!({"height": height.to_string()}))?;
        let infos: Vec<validator::Info> = serde_json::from_value(found["validators"].clone())?;
        Ok(validator::Set::without_proposer(infos))
    };
    let mut trusted: Option<(SignedHeader, validator::Set)> = None;
    let last = engine.txs[1].0 + 2;
    for height in 1..=last {
        let answer = engine.call("commit", &json!({"height": height.to_string()}))?;
        let signed: SignedHeader = serde_json::from_value(answer["signed_header"].clone())?;
        let (now, next) = (validators(height)?, validators(height + 1)?);
        let untrusted = UntrustedBlockState {
            signed_header: &signed,
            validators: &now,
            next_validators: Some(&next),
        };
        let verifier = ProdVerifier::default();
        let verdict = match &trusted {
            None => verifier.verify_commit(&untrusted),
            Some((before, set)) => {
                let state = TrustedBlockState {
                    chain_id: &before.header.chain_id,
                    header_time: before.header.time,
                    height: before.header.height,
                    next_validators: set,
                    next_validators_hash: before.header.next_validators_hash,
                };
                verifier.verify_update_header(untrusted, state, &options, tendermint::Time::now())
            }
        };
        ensure!(verdict == Verdict::Success, "height {height}: {verdict:?}");
        trusted = Some((signed, next));
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_engines_speak_the_same_json() -> Result<()> {
    let program = match CometBft::find(None) {
        Ok(found) => found.path,
        Err(e) => {
            eprintln!("**** SKIPPED: {e}");
            return Ok(());
        }
    };
    let dir = tempfile::tempdir()?;
    let alice = AccountKey::random();
    let program = program.to_str().context("path")?;
    let solo = Engine::start(&dir.path().join("solo"), &alice, &["--engine", "solo"]).await?;
    let comet = Engine::start(
        &dir.path().join("comet"),
        &alice,
        &["--engine", "comet", "--comet-bin", program],
    )
    .await?;

    let mut found = Vec::new();
    for ((method, theirs), (_, ours)) in calls(&comet).into_iter().zip(calls(&solo)) {
        compare(
            method,
            &comet.call(method, &theirs)?,
            &solo.call(method, &ours)?,
            &mut found,
        );
    }
    for (method, params) in mistakes() {
        let (theirs, ours) = (
            post(comet.node.run.rpc, method, &params)?,
            post(solo.node.run.rpc, method, &params)?,
        );
        if theirs != ours {
            found.push(format!("{method} {params}: {theirs}, ours {ours}"));
        }
    }
    if !found.is_empty() {
        bail!("{} differences:\n{}", found.len(), found.join("\n"));
    }
    same_values(&comet, &solo)?;
    for engine in [&comet, &solo] {
        ensure!(light_client(engine)? >= 4);
    }
    Ok(())
}

#[test]
fn differences_are_found() {
    let theirs = json!({"a": "1", "b": [{"c": "2026-01-01T00:00:00Z"}], "d": null, "e": "AB".repeat(20)});
    for ours in [
        json!({"a": 1, "b": [{"c": "2026-01-01T00:00:00Z"}], "d": null, "e": "AB".repeat(20)}),
        json!({"a": "1", "b": [], "d": null, "e": "AB".repeat(20)}),
        json!({"a": "1", "b": [{"c": "2026-01-01T00:00:00Z"}], "d": [], "e": "AB".repeat(20)}),
        json!({"a": "1", "b": [{"c": "2026-01-01T00:00:00Z"}], "d": null, "e": "ab".repeat(20)}),
        json!({"a": "1", "b": [{"c": "1"}], "d": null, "e": "AB".repeat(20)}),
        json!({"b": [{"c": "2026-01-01T00:00:00Z"}], "a": "1", "d": null, "e": "AB".repeat(20)}),
    ] {
        let mut found = Vec::new();
        compare("x", &theirs, &ours, &mut found);
        assert_eq!(found.len(), 1, "{ours}: {found:?}");
    }
}
