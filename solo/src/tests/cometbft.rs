//! Comparison with a recording of CometBFT 0.38.25 (`cometbft-0.38.25.json`): the same blocks give the same bytes, and every
//! method answers in the same shape.

use super::http::{Rpc, Served};
use super::send;
use crate::block;
use crate::merkle::Hash32;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use ed25519_consensus::{Signature, VerificationKey};
use prost::Message;
use serde_json::{json, Value};
use tendermint::Time;
use tendermint_proto::v0_38::abci::ExecTxResult;
use tendermint_proto::v0_38::types::{BlockId, Commit, Header};

fn recording() -> Value {
    serde_json::from_str(include_str!("cometbft-0.38.25.json")).unwrap()
}

fn header(v: &Value) -> Header {
    let header: tendermint::block::Header = serde_json::from_value(v.clone()).unwrap();
    let mut raw = Header::from(header);
    // tendermint's domain type forgets that the first block's parent is an empty id rather than none.
    raw.last_block_id.get_or_insert_with(block::nil_block_id);
    raw
}

fn commit(v: &Value) -> Commit {
    if v["height"] == "0" {
        return block::empty_commit();
    }
    let commit: tendermint::block::Commit = serde_json::from_value(v.clone()).unwrap();
    commit.into()
}

fn id(v: &Value) -> BlockId {
    let id: tendermint::block::Id = serde_json::from_value(v.clone()).unwrap();
    id.into()
}

#[test]
fn recorded_blocks_have_the_same_bytes_hashes_and_signatures() {
    let recording = recording();
    let key: Hash32 = BASE64
        .decode(recording["pub_key"].as_str().unwrap())
        .unwrap()
        .try_into()
        .unwrap();
    let power: i64 = recording["power"].as_str().unwrap().parse().unwrap();
    let verifier = VerificationKey::try_from(key).unwrap();
    let mut results_before: Option<(i64, Hash32)> = None;
    for recorded in recording["blocks"].as_array().unwrap() {
        let header = header(&recorded["header"]);
        let height = header.height;
        let txs: Vec<Vec<u8>> = recorded["txs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tx| match tx.as_str().unwrap() {
                "big" => format!("big={}", "x".repeat(150_000)).into_bytes(),
                text => BASE64.decode(text).unwrap(),
            })
            .collect();
        let last_commit = commit(&recorded["last_commit"]);
        assert_eq!(header.data_hash, block::data_hash(&txs), "data of {height}");
        assert_eq!(
            header.last_commit_hash,
            block::commit_hash(&last_commit),
            "commit in {height}"
        );
        assert_eq!(header.validators_hash, block::validators_hash(&key, power));
        assert_eq!(
            header.consensus_hash,
            block::params_hash(&crate::default_consensus_params())
        );
        assert_eq!(header.evidence_hash, crate::evidence::list_hash(&Default::default()));
        assert_eq!(header.proposer_address, crate::keys::address(&key));
        if let Some((_, hash)) = results_before.filter(|(h, _)| *h + 1 == height) {
            assert_eq!(header.last_results_hash, hash, "results before {height}");
        }
        let encoded = block::assemble(header.clone(), txs, Default::default(), last_commit).encode_to_vec();
        assert_eq!(
            encoded.len().to_string(),
            recorded["block_size"].as_str().unwrap(),
            "size of {height}"
        );
        let block_id = id(&recorded["block_id"]);
        assert_eq!(crate::block_id(&header, &encoded), block_id, "id of {height}");

        let commit = commit(&recorded["commit"]);
        let vote = &commit.signatures[0];
        let time: Time = vote.timestamp.unwrap().try_into().unwrap();
        let bytes = crate::vote_sign_bytes(&header.chain_id, height, &block_id, time);
        let signature = Signature::try_from(vote.signature.as_slice()).unwrap();
        verifier
            .verify(&signature, &bytes)
            .unwrap_or_else(|_| panic!("CometBFT's own signature of {height}"));

        let results: Vec<ExecTxResult> = recorded["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|_| ExecTxResult::default())
            .collect();
        results_before = Some((height, block::results_hash(&results)));
    }
}

/// Errors with a path where `ours` has other fields, another order of fields, or another type than `theirs`. Null and empty lists
/// say nothing about what they would hold; `engine` is the one field that is ours.
fn same_shape(path: &str, theirs: &Value, ours: &Value) -> Result<(), String> {
    match (theirs, ours) {
        (Value::Null, _) | (_, Value::Null) => Ok(()),
        (Value::Object(a), Value::Object(b)) => {
            let names = |m: &serde_json::Map<String, Value>| -> Vec<String> {
                m.keys().filter(|k| *k != "engine").cloned().collect()
            };
            if names(a) != names(b) {
                return Err(format!("{path}: fields {:?}, ours {:?}", names(a), names(b)));
            }
            a.iter()
                .try_for_each(|(k, v)| same_shape(&format!("{path}.{k}"), v, &b[k]))
        }
        (Value::Array(a), Value::Array(b)) => match (a.first(), b.first()) {
            (Some(x), Some(y)) => same_shape(&format!("{path}[0]"), x, y),
            _ => Ok(()),
        },
        (a, b) if std::mem::discriminant(a) == std::mem::discriminant(b) => Ok(()),
        (a, b) => Err(format!("{path}: {a}, ours {b}")),
    }
}

/// Null on one side must be null or absent content on the other in the answers where CometBFT's null is part of the shape.
fn nulls(path: &str, v: &Value, out: &mut Vec<String>) {
    match v {
        Value::Null => out.push(path.into()),
        Value::Object(m) => m.iter().for_each(|(k, v)| nulls(&format!("{path}.{k}"), v, out)),
        Value::Array(items) => items.iter().take(1).for_each(|v| nulls(&format!("{path}[0]"), v, out)),
        _ => {}
    }
}

#[test]
fn every_answer_has_cometbfts_shape() {
    let recording = recording();
    let served = Served::new();
    let (node, rpc) = (&served.node, &served.rpc);
    send(node, "name=satoshi");
    served.world.tick();
    node.produce_block().unwrap();
    let sum = crate::merkle::sha256(b"name=satoshi");
    let (hash, hash_hex) = (BASE64.encode(sum), hex::encode_upper(sum));
    let asked = [
        ("status", json!({})),
        ("health", json!({})),
        ("abci_info", json!({})),
        ("abci_query", json!({"path": "/store", "data": hex::encode("name")})),
        ("block", json!({"height": "1"})),
        ("block_results", json!({"height": "1"})),
        ("blockchain", json!({"minHeight": "1", "maxHeight": "1"})),
        ("commit", json!({"height": "1"})),
        ("header", json!({"height": "1"})),
        ("validators", json!({})),
        ("consensus_params", json!({})),
        ("genesis_chunked", json!({"chunk": "0"})),
        ("tx", json!({"hash": hash, "prove": true})),
        (
            "tx_search",
            json!({"query": format!("tx.hash='{hash_hex}'"), "prove": true}),
        ),
        ("block_search", json!({"query": "block.height=1"})),
        ("num_unconfirmed_txs", json!({})),
        ("unconfirmed_txs", json!({})),
        ("net_info", json!({})),
        ("broadcast_tx_sync", json!({"tx": BASE64.encode("a=b")})),
        ("broadcast_tx_async", json!({"tx": BASE64.encode("c=d")})),
    ];
    for (method, params) in asked {
        let theirs = &recording["responses"][method];
        let ours = rpc.call(method, &params);
        same_shape(method, theirs, &ours).unwrap();
        // Where values are alike, null must be null too.
        if matches!(
            method,
            "tx" | "tx_search" | "abci_query" | "block_results" | "num_unconfirmed_txs"
        ) {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            nulls(method, theirs, &mut a);
            nulls(method, &ours, &mut b);
            assert_eq!(a, b, "{method}");
        }
    }
    let ours = rpc.call("genesis", &json!({}));
    let mut theirs = recording["responses"]["genesis"].clone();
    theirs["genesis"]["app_state"] = json!({"seed": "1"});
    same_shape("genesis", &theirs, &ours).unwrap();
    let committed = served.commit_in_background("w=1");
    same_shape(
        "broadcast_tx_commit",
        &recording["responses"]["broadcast_tx_commit"],
        &committed,
    )
    .unwrap();
}

#[test]
fn shapes_are_told_apart() {
    let theirs = json!({"a": "1", "b": [{"c": 1}]});
    for ours in [
        json!({"a": 1, "b": []}),
        json!({"b": [], "a": "1"}),
        json!({"a": "1"}),
        json!({"a": "1", "b": [{"d": 1}]}),
    ] {
        assert!(same_shape("x", &theirs, &ours).is_err(), "{ours}");
    }
}

/// Keeps the signature of [`Rpc`] honest: errors come back as errors.
#[test]
fn unknown_methods_are_errors_in_both() {
    let served = Served::new();
    let rpc: &Rpc = &served.rpc;
    assert_eq!(
        rpc.error("nope", &json!({})),
        json!({"code": -32601, "message": "Method not found"})
    );
}
