//! CometBFT v0.38's JSON for chain objects (`libs/json` and the ABCI types' `jsonpb` form).
//!
//! 64-bit integers are strings; hashes and addresses upper-case hex; other bytes base64. Two encoders are at work in CometBFT:
//! results and attributes go through `jsonpb`, which writes every field; the rest leaves out what its tags mark `omitempty`.

use crate::keys;
use crate::merkle::Hash32;
use crate::params;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::{json, Map, Value};
use tendermint::Time;
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::v0_38::abci::{
    Event, ExecTxResult, ResponseCheckTx, ResponseFinalizeBlock, ResponseInfo, ResponseQuery, ValidatorUpdate,
};
use tendermint_proto::v0_38::crypto::{public_key, Proof};
use tendermint_proto::v0_38::types::{Block, BlockId, Commit, ConsensusParams, Header};

pub(crate) fn hex(bytes: &[u8]) -> Value {
    Value::String(hex::encode_upper(bytes))
}

pub(crate) fn base64(bytes: &[u8]) -> Value {
    Value::String(BASE64.encode(bytes))
}

/// Bytes that Go holds as a nil slice when empty.
pub(crate) fn nullable(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        Value::Null
    } else {
        base64(bytes)
    }
}

fn int(n: impl ToString) -> Value {
    Value::String(n.to_string())
}

/// A list that Go holds as a nil slice when empty.
pub(crate) fn nullable_list(items: Vec<Value>) -> Value {
    if items.is_empty() {
        Value::Null
    } else {
        Value::Array(items)
    }
}

/// A timestamp; what is absent is Go's zero time.
pub(crate) fn time(t: Option<Timestamp>) -> Value {
    let time = t.and_then(|t| Time::try_from(t).ok());
    Value::String(time.map_or_else(|| "0001-01-01T00:00:00Z".into(), |t| t.to_rfc3339()))
}

pub(crate) fn block_id(id: Option<&BlockId>) -> Value {
    let id = id.cloned().unwrap_or_default();
    let parts = id.part_set_header.unwrap_or_default();
    json!({"hash": hex(&id.hash), "parts": {"total": parts.total, "hash": hex(&parts.hash)}})
}

pub(crate) fn header(h: &Header) -> Value {
    let version = h.version.unwrap_or_default();
    let mut v = Map::new();
    for (name, n) in [("block", version.block), ("app", version.app)] {
        if n != 0 {
            v.insert(name.into(), int(n));
        }
    }
    json!({
        "version": v,
        "chain_id": h.chain_id,
        "height": int(h.height),
        "time": time(h.time),
        "last_block_id": block_id(h.last_block_id.as_ref()),
        "last_commit_hash": hex(&h.last_commit_hash),
        "data_hash": hex(&h.data_hash),
        "validators_hash": hex(&h.validators_hash),
        "next_validators_hash": hex(&h.next_validators_hash),
        "consensus_hash": hex(&h.consensus_hash),
        "app_hash": hex(&h.app_hash),
        "last_results_hash": hex(&h.last_results_hash),
        "evidence_hash": hex(&h.evidence_hash),
        "proposer_address": hex(&h.proposer_address),
    })
}

pub(crate) fn commit(c: &Commit) -> Value {
    let signatures: Vec<Value> = c
        .signatures
        .iter()
        .map(|s| {
            json!({
                "block_id_flag": s.block_id_flag,
                "validator_address": hex(&s.validator_address),
                "timestamp": time(s.timestamp),
                "signature": base64(&s.signature),
            })
        })
        .collect();
    json!({
        "height": int(c.height),
        "round": c.round,
        "block_id": block_id(c.block_id.as_ref()),
        "signatures": signatures,
    })
}

pub(crate) fn block(b: &Block) -> Value {
    let txs: Vec<Value> = b.data.iter().flat_map(|d| &d.txs).map(|tx| base64(tx)).collect();
    json!({
        "header": header(&b.header.clone().unwrap_or_default()),
        "data": {"txs": txs},
        "evidence": {"evidence": b.evidence.iter().flat_map(|e| &e.evidence).map(crate::evidence::to_json).collect::<Vec<_>>()},
        "last_commit": b.last_commit.as_ref().map(commit),
    })
}

fn attributes(e: &Event) -> Vec<Value> {
    e.attributes
        .iter()
        .map(|a| json!({"key": a.key, "value": a.value, "index": a.index}))
        .collect()
}

/// Events inside a result: every field is written.
fn result_events(events: &[Event]) -> Vec<Value> {
    events
        .iter()
        .map(|e| json!({"type": e.r#type, "attributes": attributes(e)}))
        .collect()
}

/// Events of a block: empty fields are left out.
pub(crate) fn block_events(events: &[Event]) -> Vec<Value> {
    events
        .iter()
        .map(|e| {
            let mut out = Map::new();
            if !e.r#type.is_empty() {
                out.insert("type".into(), Value::String(e.r#type.clone()));
            }
            if !e.attributes.is_empty() {
                out.insert("attributes".into(), Value::Array(attributes(e)));
            }
            Value::Object(out)
        })
        .collect()
}

pub(crate) fn exec_result(r: &ExecTxResult) -> Value {
    json!({
        "code": r.code,
        "data": nullable(&r.data),
        "log": r.log,
        "info": r.info,
        "gas_wanted": int(r.gas_wanted),
        "gas_used": int(r.gas_used),
        "events": result_events(&r.events),
        "codespace": r.codespace,
    })
}

/// A result as an event carries it: what is empty is left out.
pub(crate) fn compact_result(r: &ExecTxResult) -> Value {
    let full = exec_result(r);
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Number(n) => n.as_u64() == Some(0),
        Value::String(s) => s.is_empty() || s == "0",
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    let Value::Object(fields) = full else { return full };
    // A log of "0" is a text and stays.
    let kept = fields
        .into_iter()
        .filter(|(name, v)| !empty(v) || (v == "0" && !name.starts_with("gas")))
        .map(|(name, v)| match name.as_str() {
            "events" => (name, Value::Array(block_events(&r.events))),
            _ => (name, v),
        });
    Value::Object(kept.collect())
}

/// The answer of `FinalizeBlock` as the event of a new block carries it.
pub(crate) fn finalize_block(r: &ResponseFinalizeBlock) -> Value {
    let mut out = Map::new();
    if !r.events.is_empty() {
        out.insert("events".into(), Value::Array(block_events(&r.events)));
    }
    if !r.tx_results.is_empty() {
        out.insert(
            "tx_results".into(),
            Value::Array(r.tx_results.iter().map(exec_result).collect()),
        );
    }
    out.insert(
        "validator_updates".into(),
        Value::Array(r.validator_updates.iter().map(validator_update).collect()),
    );
    if let Some(params) = &r.consensus_param_updates {
        out.insert("consensus_param_updates".into(), params_update(params));
    }
    if !r.app_hash.is_empty() {
        out.insert("app_hash".into(), base64(&r.app_hash));
    }
    Value::Object(out)
}

/// A validator as the event of an updated set carries it.
pub(crate) fn updated_validator(u: &ValidatorUpdate) -> Value {
    let key: Option<Hash32> = match u.pub_key.as_ref().and_then(|k| k.sum.as_ref()) {
        Some(public_key::Sum::Ed25519(b)) => b.as_slice().try_into().ok(),
        _ => None,
    };
    // The engine accepts no other keys.
    key.map_or(Value::Null, |key| validator(&key, u.power))
}

pub(crate) fn check_result(r: &ResponseCheckTx) -> Value {
    json!({
        "code": r.code,
        "data": nullable(&r.data),
        "log": r.log,
        "info": r.info,
        "gas_wanted": int(r.gas_wanted),
        "gas_used": int(r.gas_used),
        "events": result_events(&r.events),
        "codespace": r.codespace,
    })
}

pub(crate) fn query(r: &ResponseQuery) -> Value {
    let proof = r.proof_ops.as_ref().map(|p| {
        let ops: Vec<Value> = p
            .ops
            .iter()
            .map(|op| json!({"type": op.r#type, "key": nullable(&op.key), "data": nullable(&op.data)}))
            .collect();
        json!({"ops": ops})
    });
    json!({
        "code": r.code,
        "log": r.log,
        "info": r.info,
        "index": int(r.index),
        "key": nullable(&r.key),
        "value": nullable(&r.value),
        "proofOps": proof,
        "height": int(r.height),
        "codespace": r.codespace,
    })
}

pub(crate) fn info(r: &ResponseInfo) -> Value {
    let mut out = Map::new();
    for (name, text) in [("data", &r.data), ("version", &r.version)] {
        if !text.is_empty() {
            out.insert(name.into(), Value::String(text.clone()));
        }
    }
    if r.app_version != 0 {
        out.insert("app_version".into(), int(r.app_version));
    }
    if r.last_block_height != 0 {
        out.insert("last_block_height".into(), int(r.last_block_height));
    }
    if !r.last_block_app_hash.is_empty() {
        out.insert("last_block_app_hash".into(), base64(&r.last_block_app_hash));
    }
    Value::Object(out)
}

fn validator_update(u: &ValidatorUpdate) -> Value {
    let sum = match u.pub_key.as_ref().and_then(|k| k.sum.as_ref()) {
        Some(public_key::Sum::Ed25519(b)) => {
            json!({"type": "tendermint.crypto.PublicKey_Ed25519", "value": {"ed25519": base64(b)}})
        }
        Some(public_key::Sum::Secp256k1(b)) => {
            json!({"type": "tendermint.crypto.PublicKey_Secp256K1", "value": {"secp256k1": base64(b)}})
        }
        None => Value::Null,
    };
    let mut out = Map::new();
    out.insert("pub_key".into(), json!({ "Sum": sum }));
    if u.power != 0 {
        out.insert("power".into(), int(u.power));
    }
    Value::Object(out)
}

/// Parameters as ABCI carries them: absent sections and zero fields are left out.
fn params_update(p: &ConsensusParams) -> Value {
    let full = params::to_json(p);
    let present = [
        ("block", p.block.is_some()),
        ("evidence", p.evidence.is_some()),
        ("validator", p.validator.is_some()),
        ("version", p.version.is_some()),
        ("abci", p.abci.is_some()),
    ];
    let mut out = Map::new();
    for (section, is) in present {
        let Some(Value::Object(fields)) = full.get(section).filter(|_| is) else {
            continue;
        };
        // Only max_age_duration and evidence.max_bytes are written at zero in CometBFT's tags.
        let keep = |name: &str, v: &Value| {
            v != "0" || name == "max_age_duration" || (section == "evidence" && name == "max_bytes")
        };
        let kept: Map<String, Value> = fields
            .iter()
            .filter(|(name, v)| keep(name, v))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        out.insert(section.into(), Value::Object(kept));
    }
    Value::Object(out)
}

pub(crate) fn block_results(height: i64, r: &ResponseFinalizeBlock) -> Value {
    json!({
        "height": int(height),
        "txs_results": nullable_list(r.tx_results.iter().map(exec_result).collect()),
        "finalize_block_events": nullable_list(block_events(&r.events)),
        "validator_updates": nullable_list(r.validator_updates.iter().map(validator_update).collect()),
        "consensus_param_updates": r.consensus_param_updates.as_ref().map(params_update),
        "app_hash": nullable(&r.app_hash),
    })
}

pub(crate) fn validator(key: &Hash32, power: i64) -> Value {
    json!({
        "address": hex(&keys::address(key)),
        "pub_key": keys::pub_key_json(key),
        "voting_power": int(power),
        // The priorities of a set sum to zero, and this set has one member.
        "proposer_priority": "0",
    })
}

pub(crate) fn tx_proof(root: &Hash32, tx: &[u8], proof: &Proof) -> Value {
    let aunts: Vec<Value> = proof.aunts.iter().map(|a| base64(a)).collect();
    let p = json!({
        "total": int(proof.total),
        "index": int(proof.index),
        "leaf_hash": base64(&proof.leaf_hash),
        "aunts": aunts,
    });
    json!({"root_hash": hex(root), "data": base64(tx), "proof": p})
}
