//! Double votes, from the RPC to the application; and blocks that the application lets go.

use super::http::Served;
use super::*;
use crate::keys::ValidatorKey;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::Value;

/// A vote of the chain's validator for some block of its own invention.
fn vote(key: &ValidatorKey, height: i64, hash: u8) -> Value {
    use tendermint_proto::v0_38::types::{BlockId, PartSetHeader};
    let time = Time::parse_from_rfc3339(GENESIS).unwrap();
    let id = BlockId {
        hash: vec![hash; 32],
        part_set_header: Some(PartSetHeader {
            total: 1,
            hash: vec![9; 32],
        }),
    };
    let signature = key.sign(&crate::vote_sign_bytes("solo-test", height, &id, time));
    json!({
        "type": 2, "height": height.to_string(), "round": 0,
        "block_id": {"hash": hex::encode_upper(&id.hash), "parts": {"total": 1, "hash": "09".repeat(32)}},
        "timestamp": GENESIS,
        "validator_address": hex::encode_upper(key.address()), "validator_index": 0,
        "signature": BASE64.encode(signature), "extension": null, "extension_signature": null,
    })
}

fn evidence(key: &ValidatorKey, height: i64, time: &Value) -> Value {
    json!({"type": "tendermint/DuplicateVoteEvidence", "value": {
        "vote_a": vote(key, height, 1), "vote_b": vote(key, height, 2),
        "TotalVotingPower": "10", "ValidatorPower": "10", "Timestamp": time,
    }})
}

#[test]
fn a_double_vote_reaches_the_application_once() {
    let served = Served::new();
    let rpc = &served.rpc;
    let key = ValidatorKey::load(&key_path(served.world.dir.path())).unwrap();
    for _ in 0..3 {
        served.world.tick();
        served.node.produce_block().unwrap();
    }
    let time = rpc.call("header", &json!({"height": "2"}))["header"]["time"].clone();
    let good = evidence(&key, 2, &time);
    let refused = |change: &dyn Fn(&mut Value), words: &str| {
        let mut bad = good.clone();
        change(&mut bad["value"]);
        let e = rpc.error("broadcast_evidence", &json!({ "evidence": bad }));
        assert!(
            e["code"] == -32603 && e["data"].as_str().unwrap().contains(words),
            "{words}: {e}"
        );
    };
    refused(&|v| v["ValidatorPower"] = json!("11"), "does not match");
    refused(&|v| v["Timestamp"] = json!("2026-03-01T00:00:09Z"), "different time");
    refused(&|v| v["vote_b"] = v["vote_a"].clone(), "invalid order");
    refused(&|v| v["vote_b"]["round"] = json!(1), "h/r/s does not match");
    refused(
        &|v| v["vote_a"]["signature"] = json!(BASE64.encode([7u8; 64])),
        "verifying VoteA",
    );
    refused(
        &|v| v["vote_a"]["validator_address"] = json!("AA".repeat(20)),
        "was not a validator",
    );
    // The address is not signed: without this the same votes would be other evidence, and counted again.
    refused(
        &|v| v["vote_b"]["validator_address"] = json!("AA".repeat(20)),
        "addresses do not match",
    );
    refused(&|v| v["vote_a"]["height"] = json!("99"), "don't have header #99");
    refused(
        &|v| v["vote_a"]["block_id"]["hash"] = json!("AA"),
        "either empty or complete",
    );
    for (bad, words) in [
        (json!(null), "no evidence"),
        (json!({"type": "x"}), "not supported"),
        (json!(5), "no type"),
    ] {
        let e = rpc.error("broadcast_evidence", &json!({ "evidence": bad }));
        assert!(e["data"].as_str().unwrap().contains(words), "{e}");
    }

    let hash = rpc.call("broadcast_evidence", &json!({ "evidence": good }))["hash"].clone();
    assert_eq!(
        rpc.call("broadcast_evidence", &json!({ "evidence": good }))["hash"],
        hash,
        "known already"
    );
    assert_eq!(served.world.disk.lock().misbehavior, []);
    for _ in 0..2 {
        served.world.tick();
        served.node.produce_block().unwrap();
    }
    assert_eq!(
        rpc.call("block", &json!({"height": "4"}))["block"]["evidence"]["evidence"],
        json!([good])
    );
    assert_eq!(
        rpc.call("block", &json!({"height": "5"}))["block"]["evidence"]["evidence"],
        json!([])
    );
    rpc.call("broadcast_evidence", &json!({ "evidence": good }));
    served.world.tick();
    served.node.produce_block().unwrap();
    let told = served.world.disk.lock().misbehavior.clone();
    assert_eq!(told.len(), 1, "once");
    assert_eq!((told[0].height, told[0].total_voting_power), (2, 10));
    assert_eq!(told[0].validator.as_ref().unwrap().address, key.address().to_vec());
    verify_chain(&served.node);
    // tendermint's own types read such a block.
    let block = rpc.call("block", &json!({"height": "4"}))["block"].clone();
    let _: tendermint::Block = serde_json::from_value(block).unwrap();

    // Replay tells the same again.
    served.node.stop().unwrap();
    served.world.disk.lock().history.truncate(3);
    served.world.disk.lock().misbehavior.clear();
    let node = served.world.start();
    assert_eq!(served.world.disk.lock().misbehavior, told);
    verify_chain(&node);
}

#[test]
fn old_evidence_is_refused() {
    let served = Served::new();
    let key = ValidatorKey::load(&key_path(served.world.dir.path())).unwrap();
    send(&served.node, "!age=5");
    for _ in 0..12 {
        served.world.clock.advance(Duration::from_secs(3600));
        served.node.produce_block().unwrap();
    }
    let time = served.rpc.call("header", &json!({"height": "2"}))["header"]["time"].clone();
    let e = served
        .rpc
        .error("broadcast_evidence", &json!({"evidence": evidence(&key, 2, &time)}));
    assert!(e["data"].as_str().unwrap().contains("too old"), "{e}");
}

#[test]
fn blocks_below_the_retain_height_go_and_nothing_else() {
    let served = Served::new();
    let mut hashes = Vec::new();
    for height in 1..=12 {
        if height == 8 {
            send(&served.node, "!retain=6");
        }
        send(&served.node, &format!("k{height}=v"));
        served.world.tick();
        let head = served.node.produce_block().unwrap();
        hashes.push(head.block_hash);
    }
    let rpc = &served.rpc;
    // Nothing of a block stays, its name neither: that would be a leak that nobody sees.
    for (hash, height) in hashes.iter().zip(1..) {
        let expected = (height >= 6).then_some(height);
        assert_eq!(served.node.0.store.height_of(hash).unwrap(), expected);
    }
    let status = rpc.call("status", &json!({}));
    assert_eq!(status["sync_info"]["earliest_block_height"], "6");
    assert_eq!(served.node.earliest_height().unwrap(), 6);
    let e = rpc.error("block", &json!({"height": "5"}));
    assert_eq!(e["data"], "height 5 is not available, lowest height is 6");
    assert_eq!(
        rpc.call("blockchain", &json!({}))["block_metas"]
            .as_array()
            .unwrap()
            .len(),
        7
    );
    assert!(served.node.commit(5).unwrap().is_none() && served.node.commit(6).unwrap().is_some());
    // What the blocks did is the archive's, which keeps by its own rule.
    assert_eq!(
        served.node.tx(&crate::merkle::sha256(b"k2=v")).unwrap().unwrap().height,
        2
    );

    served.node.stop().unwrap();
    served.world.disk.lock().history.truncate(6);
    let node = served.world.start();
    assert_eq!(
        node.latest_height(),
        12,
        "what is left is enough to replay from height 7"
    );
    node.stop().unwrap();
    served.world.disk.lock().history.clear();
    let said = served.world.try_start().err().expect("refused").to_string();
    assert!(said.contains("blocks below 6 are pruned"), "{said}");
}

#[test]
fn a_retain_height_above_the_block_is_a_broken_application() {
    let world = World::new();
    let node = world.start();
    send(&node, "!retain=9");
    let e = node.produce_block().unwrap_err().to_string();
    assert!(e.contains("retain_height 9"), "{e}");
}
