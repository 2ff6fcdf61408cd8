//! CheckTx: the scratch state, its reset, rechecks, and that the signature cache decides nothing.

use tendermint_proto::v0_38::abci::CheckTxType;
use tenure_app::AppOptions;
use tenure_types::sdk;

use crate::{
    chain::{options, Chain},
    world::{draft, send, World},
};

fn chain() -> (Chain, World) {
    let world = World::new(2);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    (chain, world)
}

#[test]
fn several_transactions_of_one_account_wait_until_the_commit() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let mut draft = draft(&chain, alice, vec![send(alice, &bob.address, 1)]);
    let mut waiting = Vec::new();
    for sequence in 0..4 {
        draft.auth_info.signer_infos[0].sequence = sequence;
        let tx = draft.bytes(&[alice]);
        let response = chain.check(&tx, CheckTxType::New);
        assert_eq!(response.code, 0, "{}", response.log);
        assert!(response.gas_wanted > 0 && response.gas_used > 0);
        waiting.push(tx);
    }
    assert_eq!(chain.check(&waiting[1], CheckTxType::New).code, sdk::WRONG_SEQUENCE);
    chain.block(1_000, &waiting[..2]);
    // After the commit the scratch state begins anew: what was included is refused, the rest stands.
    assert_eq!(chain.check(&waiting[0], CheckTxType::Recheck).code, sdk::WRONG_SEQUENCE);
    assert_eq!(chain.check(&waiting[2], CheckTxType::Recheck).code, 0);
    assert_eq!(chain.check(&waiting[3], CheckTxType::Recheck).code, 0);
    chain.block(1_000, &waiting[2..]);
    assert_eq!(alice.account(&chain).unwrap().1, 4);
}

#[test]
fn a_refused_transaction_leaves_no_trace_in_the_scratch_state() {
    let (chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let draft = draft(&chain, alice, vec![send(alice, &bob.address, 1)]);
    // The fee is taken and the sequence used before the signature is found to be bad.
    assert_eq!(
        chain.check(&draft.bytes(&[bob]), CheckTxType::New).code,
        sdk::UNAUTHORIZED
    );
    assert_eq!(chain.check(&draft.bytes(&[alice]), CheckTxType::New).code, 0);
}

#[test]
fn transactions_wait_before_the_first_block_too() {
    let world = World::new(2);
    let mut chain = Chain::new(&world.app_state());
    let [alice, bob] = [&world.people[0], &world.people[1]];
    // Account 0 is the fee collector; accounts of the bank's genesis follow in order.
    let numbers = (0..12).map(|number| {
        let draft = crate::world::Draft::new(vec![send(alice, &bob.address, 1)], &[(alice, number, 0)]);
        draft.bytes(&[alice])
    });
    let good: Vec<_> = numbers
        .filter(|tx| chain.check(tx, CheckTxType::New).code == 0)
        .collect();
    assert_eq!(good.len(), 1, "one account number is right");
    assert_eq!(
        chain.deliver(good[0].clone()).code,
        0,
        "and the first block may hold the transaction"
    );
}

#[test]
fn the_mempool_is_told_no_events() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let tx = draft(&chain, alice, vec![send(alice, &bob.address, 1)]).bytes(&[alice]);
    for kind in [CheckTxType::New, CheckTxType::Recheck] {
        let answer = chain.check(&tx, kind);
        assert_eq!((answer.code, answer.events.len()), (0, 0), "{kind:?}: {}", answer.log);
        assert!(answer.gas_used > 0);
        chain.block(1_000, &[]);
    }
    // In its block it tells them.
    assert!(!chain.deliver(tx).events.is_empty());
}

#[test]
fn warm_and_cold_caches_give_equal_results() {
    let mut world = World::new(11);
    let state = world.app_state();
    let mut warm = Chain::new(&state);
    let mut cold = Chain::with(
        &state,
        AppOptions {
            signature_cache: 0,
            transaction_cache: 0,
            record_cache: 0,
            ..options()
        },
    );
    let mut tiny = Chain::with(
        &state,
        AppOptions {
            signature_cache: 2,
            // Room for one or two.
            transaction_cache: 1_500,
            record_cache: 2,
            ..options()
        },
    );
    for _ in 0..25 {
        let txs = world.block(&warm);
        for tx in &txs {
            warm.check(tx, CheckTxType::New);
        }
        let (a, b, c) = (
            warm.block(1_000, &txs),
            cold.block(1_000, &txs),
            tiny.block(1_000, &txs),
        );
        assert_eq!(a, b);
        assert_eq!(a, c);
    }
}

/// A block of several hundred transactions that no mempool has seen: its signatures are verified while it is executed.
#[test]
fn signatures_that_are_verified_beside_the_execution_decide_the_same() {
    let world = World::new(11);
    let state = world.app_state();
    let without = AppOptions {
        signature_cache: 0,
        ..options()
    };
    let mut chains = [Chain::new(&state), Chain::with(&state, without)];
    chains.iter_mut().for_each(|chain| drop(chain.block(1_000, &[])));
    let (rich, new) = world.people[..6].split_at(5);
    let mut txs = Vec::new();
    for round in 0..80 {
        for person in rich {
            let mut draft = draft(&chains[0], person, vec![send(person, &world.people[7].address, 1)]);
            draft.auth_info.signer_infos[0].sequence += round;
            draft.fee().gas_limit = 200_000;
            txs.push(draft.bytes(&[person]));
        }
    }
    // Some are signed by somebody else; all that follows of the same account fails then.
    let mut forged = draft(&chains[0], &rich[0], vec![send(&rich[0], &new[0].address, 1)]);
    forged.auth_info.signer_infos[0].sequence += 60;
    forged.fee().gas_limit = 200_000;
    txs[60 * 5] = forged.bytes(&[&rich[1]]);
    let [a, b] = chains.each_mut().map(|chain| chain.block(1_000, &txs));
    assert!(a == b, "the answers differ");
    let failed: Vec<_> = a
        .tx_results
        .iter()
        .map(|result| result.code)
        .filter(|code| *code != 0)
        .collect();
    assert_eq!(failed.len(), 20, "{failed:?}");
    assert_eq!(failed[0], sdk::UNAUTHORIZED);
    assert!(failed[1..].iter().all(|code| *code == sdk::WRONG_SEQUENCE));
}
