//! The heart of the tests: replicas that were never restarted, restarted at every block, and restored from a snapshot agree on everything.

use std::collections::BTreeSet;

use prost::Message;
use rand::Rng;
use tendermint_proto::v0_38::abci::CheckTxType;
use tenure_proto::cosmos::tx::v1beta1::{TxBody, TxRaw};

use crate::{chain::Chain, world::World};

#[test]
fn replicas_agree_whatever_happened_to_them() {
    let mut succeeded = BTreeSet::new();
    let (mut blocks, mut txs_total, mut ok) = (0, 0, 0);
    for seed in 0..seeds() {
        let mut world = World::new(seed);
        let state = world.app_state();
        let mut steady = Chain::new(&state);
        let mut restarted = Chain::new(&state);
        let mut restored: Option<Chain> = None;
        assert_eq!(steady.genesis_hash, restarted.genesis_hash);
        for height in 1..=100 {
            let txs = world.block(&steady);
            // Now and then a halt; mostly a block a second.
            let ms = if world.rng.gen_ratio(1, 20) {
                7_200_000
            } else {
                world.rng.gen_range(1..2_500)
            };
            for tx in &txs {
                if world.rng.gen() {
                    steady.check(tx, CheckTxType::New);
                }
            }
            // A candidate that is not decided on leaves no trace.
            if world.rng.gen_ratio(1, 4) {
                steady.finalize(ms, &txs[..txs.len() / 2]);
            }
            let expected = steady.block(ms, &txs);
            restarted.restart(&state);
            assert_eq!(
                restarted.block(ms, &txs),
                expected,
                "seed {seed}, height {height}: restarted"
            );
            if let Some(restored) = &mut restored {
                assert_eq!(
                    restored.block(ms, &txs),
                    expected,
                    "seed {seed}, height {height}: restored"
                );
            }
            if height == 30 || height == 70 {
                restored = Some(steady.restored());
            }
            blocks += 1;
            txs_total += txs.len();
            for (tx, result) in txs.iter().zip(&expected.tx_results) {
                if result.code == 0 {
                    ok += 1;
                    succeeded.extend(type_urls(tx));
                }
            }
        }
    }
    let all = tenure_app::modules()
        .iter()
        .flat_map(|m| m.messages())
        .map(|route| route.type_url);
    let missing: Vec<String> = all.filter(|type_url| !succeeded.contains(type_url)).collect();
    println!("{blocks} blocks, {txs_total} transactions, {ok} of them succeeded");
    assert!(
        missing.is_empty(),
        "no transaction with {missing:?} ever succeeded: the world does not reach that code"
    );
    assert!(
        ok * 3 > txs_total,
        "most of what the world makes should be meaningful: {ok} of {txs_total}"
    );
}

/// How many random chains are made: `TENURE_SEEDS`, for long runs, or a few.
fn seeds() -> u64 {
    std::env::var("TENURE_SEEDS").map_or(5, |seeds| seeds.parse().expect("TENURE_SEEDS is a number"))
}

fn type_urls(tx: &[u8]) -> Vec<String> {
    let raw = TxRaw::decode(tx).unwrap();
    let body = TxBody::decode(raw.body_bytes.as_slice()).unwrap();
    body.messages.into_iter().map(|message| message.type_url).collect()
}
