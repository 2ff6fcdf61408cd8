//! What a light client believes of an honest node, and that it believes nothing of a node that lies.

use std::{sync::Mutex, time::Duration};

use base64::{engine::general_purpose::STANDARD as BASE64, Engine};
use prost::Message;
use serde_json::{json, Value};
use tenure_client::{
    light::{balance_key, lease_key, Anchor, LightClient, TrustStore, TRUST_PERIOD},
    rpc::{HttpNode, Node},
    Error, Result,
};
use tenure_proto::{any, tenure::market::v1::Bid};
use tenure_types::Address;

use crate::chain::{bid, Chain};

async fn anchor(chain: &Chain, height: u64) -> Anchor {
    let commit = chain
        .node()
        .call("commit", json!({ "height": height.to_string() }))
        .await
        .unwrap();
    let hash = commit["signed_header"]["commit"]["block_id"]["hash"].as_str().unwrap();
    Anchor::new(height, hash).unwrap()
}

fn units(value: &[u8]) -> u128 {
    u128::from_be_bytes(value.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balances_and_bids_are_proven_present_and_absent_and_the_newest_header_is_kept() {
    let chain = Chain::start();
    let (bob, nobody) = (Address::new([8; 20]), Address::new([9; 20]));
    chain.block();
    let anchor = anchor(&chain, 1).await;
    chain.transfer(&chain.alice, &bob, 77).await;
    chain.send(&chain.alice, any(&bid(&chain.alice))).await;
    let newest = chain.block();

    let mut light = LightClient::from_anchor(chain.node(), &anchor, TRUST_PERIOD)
        .await
        .unwrap();
    let found = light.prove("bank", &balance_key(&bob, "uten")).await.unwrap();
    assert_eq!(found.value.as_deref().map(units), Some(77));
    // The header of the newest block holds the state after the one before.
    assert_eq!((found.height, light.trusted().height().value()), (newest - 1, newest));
    assert_eq!(light.path(), [1, newest]);
    let absent = light.prove("bank", &balance_key(&nobody, "uten")).await.unwrap();
    assert_eq!(absent.value, None);
    let bid_key = [b"b".as_slice(), &1_u64.to_be_bytes()].concat();
    let stored = light.prove("market", &bid_key).await.unwrap().value.unwrap();
    assert_eq!(Bid::decode(stored.as_slice()).unwrap().manifest_hash, [7; 32]);
    assert_eq!(light.prove("market", &lease_key(1)).await.unwrap().value, None);
    let (signers, total) = light.signers().unwrap();
    assert_eq!((signers.len(), signers[0].power, total), (1, 10, 10));

    let home = tempfile::tempdir().unwrap();
    let store = TrustStore::new(home.path());
    assert_eq!(store.load(crate::chain::CHAIN_ID).unwrap(), None);
    store.save(light.trusted()).unwrap();
    let trusted = store.load(crate::chain::CHAIN_ID).unwrap().unwrap();
    let newer = chain.block();
    let mut later = LightClient::from_trusted(chain.node(), trusted, TRUST_PERIOD);
    assert_eq!(
        later.prove("bank", &balance_key(&bob, "uten")).await.unwrap().height,
        newer - 1
    );
    // A damaged file is refused, not believed.
    let path = store.path(crate::chain::CHAIN_ID);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["next_validator_set"] = json!({ "validators": [], "proposer": null, "total_voting_power": "0" });
    std::fs::write(&path, json.to_string()).unwrap();
    assert!(matches!(store.load(crate::chain::CHAIN_ID), Err(Error::Damaged { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_ends_with_its_period_and_a_wrong_anchor_is_none() {
    let chain = Chain::start();
    chain.block();
    chain.block();
    let right = anchor(&chain, 1).await;
    let mut expired = LightClient::from_anchor(chain.node(), &right, Duration::from_nanos(1))
        .await
        .unwrap();
    let error = expired.prove("bank", b"p").await.unwrap_err();
    assert!(
        matches!(&error, Error::Verification(text) if text.contains("too old")),
        "{error}"
    );
    let wrong = Anchor { hash: [1; 32], ..right };
    let error = LightClient::from_anchor(chain.node(), &wrong, TRUST_PERIOD)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Verification(text) if text.contains("another chain")),
        "{error}"
    );
    // A node that goes back behind what was verified.
    let mut light = LightClient::from_anchor(chain.node(), &anchor(&chain, 2).await, TRUST_PERIOD)
        .await
        .unwrap();
    let error = light.verify_to(1).await.unwrap_err();
    assert!(
        matches!(&error, Error::Verification(text) if text.contains("behind")),
        "{error}"
    );
}

/// A change to a method's answer.
type Lie = (&'static str, &'static str, fn(&mut Value));

/// A node whose answers to one method are changed.
struct Liar {
    honest: HttpNode,
    lie: Mutex<Option<Lie>>,
}

impl Node for &Liar {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value> {
        let mut answer = self.honest.call(method, params).await?;
        if let Some((_, of, change)) = *self.lie.lock().unwrap() {
            if of == method {
                change(&mut answer);
            }
        }
        Ok(answer)
    }
}

/// Flips the lowest bit of a byte of a base64 text.
fn flip(value: &mut Value, at: usize) {
    let mut bytes = BASE64.decode(value.as_str().unwrap()).unwrap();
    bytes[at] ^= 1;
    *value = json!(BASE64.encode(bytes));
}

fn flip_hex(value: &mut Value) {
    let text = value.as_str().unwrap();
    let first = if text.starts_with('A') { "B" } else { "A" };
    *value = json!(format!("{first}{}", &text[1..]));
}

fn foreign_validator(answer: &mut Value) {
    // Another ed25519 key: that of RFC 8032's second test vector.
    let key = hex::decode("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c").unwrap();
    let address = hex::encode_upper(&<sha2::Sha256 as sha2::Digest>::digest(&key)[..20]);
    answer["validators"][0]["pub_key"]["value"] = json!(BASE64.encode(key));
    answer["validators"][0]["address"] = json!(address);
}

const LIES: &[Lie] = &[
    ("the value", "abci_query", |a| flip(&mut a["response"]["value"], 15)),
    ("the value left away", "abci_query", |a| {
        a["response"]["value"] = Value::Null
    }),
    ("the proof left away", "abci_query", |a| {
        a["response"]["proofOps"] = Value::Null
    }),
    ("the inner proof", "abci_query", |a| {
        flip(&mut a["response"]["proofOps"]["ops"][0]["data"], 40)
    }),
    ("the outer proof", "abci_query", |a| {
        flip(&mut a["response"]["proofOps"]["ops"][1]["data"], 40)
    }),
    ("the proofs exchanged", "abci_query", |a| {
        let ops = a["response"]["proofOps"]["ops"].as_array_mut().unwrap();
        ops.swap(0, 1);
    }),
    ("a proof that does not decode", "abci_query", |a| {
        a["response"]["proofOps"]["ops"][0]["data"] = json!("/////w==");
    }),
    ("the app hash", "commit", |a| {
        flip_hex(&mut a["signed_header"]["header"]["app_hash"])
    }),
    ("the time", "commit", |a| {
        a["signed_header"]["header"]["time"] = json!("2020-01-01T00:00:00Z");
    }),
    ("the header's chain", "commit", |a| {
        a["signed_header"]["header"]["chain_id"] = json!("other-1")
    }),
    ("the header's validators", "commit", |a| {
        flip_hex(&mut a["signed_header"]["header"]["validators_hash"]);
    }),
    ("the block id that was signed", "commit", |a| {
        flip_hex(&mut a["signed_header"]["commit"]["block_id"]["hash"]);
    }),
    ("the signature", "commit", |a| {
        flip(&mut a["signed_header"]["commit"]["signatures"][0]["signature"], 3);
    }),
    ("the signature left away", "commit", |a| {
        a["signed_header"]["commit"]["signatures"] = json!([]);
    }),
    ("the validators", "validators", foreign_validator),
    ("the validators' power", "validators", |a| {
        a["validators"][0]["voting_power"] = json!("11");
    }),
    ("no validators", "validators", |a| {
        a["validators"] = json!([]);
        a["total"] = json!("0");
    }),
    ("too many validators", "validators", |a| {
        a["total"] = json!("1000000000")
    }),
    ("no height", "status", |a| {
        a["sync_info"]["latest_block_height"] = Value::Null
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lies_is_found_out_whatever_it_changes() {
    let chain = Chain::start();
    let bob = Address::new([8; 20]);
    chain.block();
    let anchor = anchor(&chain, 1).await;
    chain.transfer(&chain.alice, &bob, 77).await;
    chain.block();
    let liar = Liar {
        honest: chain.node(),
        lie: Mutex::new(None),
    };
    let key = balance_key(&bob, "uten");
    for lie in LIES {
        *liar.lie.lock().unwrap() = None;
        let mut light = LightClient::from_anchor(&liar, &anchor, TRUST_PERIOD).await.unwrap();
        *liar.lie.lock().unwrap() = Some(*lie);
        let result = light.prove("bank", &key).await;
        assert!(
            matches!(result, Err(Error::Verification(_) | Error::Malformed { .. })),
            "{}: {result:?}",
            lie.0
        );
    }
    *liar.lie.lock().unwrap() = None;
    let mut light = LightClient::from_anchor(&liar, &anchor, TRUST_PERIOD).await.unwrap();
    assert_eq!(
        light.prove("bank", &key).await.unwrap().value.as_deref().map(units),
        Some(77)
    );
}

/// The answer to another question is no answer, however well it is proven.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_true_record_is_not_taken_for_another() {
    struct Swapper(HttpNode, String);
    impl Node for Swapper {
        async fn call(&self, method: &'static str, mut params: Value) -> Result<Value> {
            if method == "abci_query" {
                params["data"] = json!(self.1);
            }
            self.0.call(method, params).await
        }
    }
    let chain = Chain::start();
    let bob = Address::new([8; 20]);
    chain.block();
    let anchor = anchor(&chain, 1).await;
    chain.transfer(&chain.alice, &bob, 77).await;
    chain.block();
    let other = hex::encode(balance_key(&chain.alice.address(), "uten"));
    let absent = hex::encode(balance_key(&Address::new([9; 20]), "uten"));
    for data in [other, absent] {
        let mut light = LightClient::from_anchor(Swapper(chain.node(), data), &anchor, TRUST_PERIOD)
            .await
            .unwrap();
        let result = light.prove("bank", &balance_key(&bob, "uten")).await;
        assert!(matches!(result, Err(Error::Verification(_))), "{result:?}");
    }
}
