//! PrepareProposal and ProcessProposal.

use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::RequestPrepareProposal;

use tenure_app::genesis;
use tenure_proto::{
    any,
    cosmos::bank::v1beta1::{Input, MsgMultiSend},
    tenure::provider::v1::{EpochRoot, MsgAttest},
    Any,
};
use tenure_types::{Address, Coin};

use crate::{
    amino::use_amino,
    chain::{timestamp, Chain},
    market::{attest, register},
    world::{draft, send, tx, Person, World},
};

pub(crate) fn prepare(chain: &Chain, txs: &[Vec<u8>], max_tx_bytes: i64) -> Vec<Vec<u8>> {
    let request = RequestPrepareProposal {
        max_tx_bytes,
        txs: txs.iter().map(|tx| tx.clone().into()).collect(),
        height: (chain.height + 1) as i64,
        time: timestamp(chain.time_ms + 400),
        ..Default::default()
    };
    chain
        .app
        .prepare_proposal(request)
        .txs
        .iter()
        .map(|tx| tx.to_vec())
        .collect()
}

fn accepted(chain: &Chain, txs: &[Vec<u8>]) -> bool {
    chain.propose(&chain.next(1_000, txs))
}

#[test]
fn whatever_is_proposed_is_accepted_fits_and_changes_something() {
    let mut world = World::new(5);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    for _ in 0..20 {
        let waiting = world.block(&chain);
        for limit in [0, 500, 1_500, 1 << 20] {
            let proposed = prepare(&chain, &waiting, limit);
            let size: usize = proposed.iter().map(|tx| tx.len() + 1 + varint(tx.len())).sum();
            assert!(size <= limit as usize, "{size} bytes, limit {limit}");
            assert!(accepted(&chain, &proposed));
            let results = chain.finalize(1_000, &proposed).tx_results;
            assert!(
                results.iter().all(|r| r.events.iter().any(|e| e.r#type == "tx")),
                "every one pays its fee or is a free attestation that succeeded"
            );
        }
        let proposed = prepare(&chain, &waiting, 1 << 20);
        chain.block(1_000, &proposed);
    }
}

fn varint(n: usize) -> usize {
    prost::length_delimiter_len(n)
}

#[test]
fn gas_of_a_proposal_fits_a_block() {
    let world = World::new(5);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    let txs: Vec<_> = world.people[..6]
        .iter()
        .map(|person| {
            let mut draft = draft(&chain, person, vec![send(person, &world.people[0].address, 1)]);
            draft.fee().gas_limit = 60_000_000;
            draft.fee().amount[0].amount = "60000".into();
            draft.bytes(&[person])
        })
        .collect();
    let proposed = prepare(&chain, &txs, 1 << 20);
    assert_eq!(proposed.len(), 3, "3 × 60M fit in 200M");
    assert!(accepted(&chain, &proposed));
    assert!(!accepted(&chain, &txs), "6 × 60M do not");
    // Should the validators have decided on it all the same, the block's work stays bounded.
    let codes: Vec<_> = chain.block(1_000, &txs).tx_results.iter().map(|r| r.code).collect();
    assert_eq!(codes, [0, 0, 0, 11, 11, 11]);
}

#[test]
fn only_malformed_proposals_are_refused() {
    let world = World::new(5);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let good = tx(&chain, alice, vec![send(alice, &bob.address, 1)]);
    assert!(
        accepted(&chain, &[good.clone(), good.clone()]),
        "a transaction that fails is not malformed"
    );
    assert!(!accepted(&chain, &[good.clone(), vec![1, 2, 3]]));
    // What is no transaction of anybody's: a proposer could fill a block with two million empty ones.
    assert!(!accepted(&chain, &[good, Vec::new()]));
    let mut empty = draft(&chain, alice, Vec::new());
    assert!(!accepted(&chain, &[empty.bytes(&[alice])]), "without a message");
    assert!(
        !accepted(
            &chain,
            &[draft(&chain, alice, vec![send(alice, &bob.address, 1)]).bytes(&[])]
        ),
        "unsigned"
    );
    empty.body.memo = "m".repeat(100);
    assert!(!accepted(&chain, &[empty.bytes(&[])]));
    let mut long = draft(&chain, alice, vec![send(alice, &bob.address, 1)]);
    long.body.memo = "m".repeat(262_144);
    assert!(!accepted(&chain, &[long.bytes(&[alice])]));
}

/// Whoever proposes could otherwise keep every validator busy for a minute, for nothing: each signature of amino JSON is over all messages.
#[test]
#[allow(clippy::disallowed_methods, reason = "a hang is found by the clock")]
fn signatures_that_nobody_pays_for_are_not_looked_at() {
    let world = World::new(5);
    let numbered = |i: u32| {
        let mut address = [7; 20];
        address[..4].copy_from_slice(&i.to_be_bytes());
        Address::new(address)
    };
    let people = world.people.iter().map(|person| person.address);
    let balances: Vec<_> = people
        .chain((0..1_500).map(numbered))
        .map(|address| (address, Coin::base(1_000_000)))
        .collect();
    let state = genesis::default_app_state(genesis::Profile::Fast, &balances).unwrap();
    let input = |i| Input {
        address: numbered(i).to_string(),
        coins: Vec::new(),
    };
    let mut chain = Chain::new(&state);
    chain.block(1_000, &[]);
    let person = &world.people[0];
    let message = any(&MsgMultiSend {
        inputs: (0..1_500).map(input).collect(),
        outputs: Vec::new(),
    });
    let bombs: Vec<_> = (0..4)
        .map(|i| {
            let mut draft = draft(&chain, person, vec![message.clone()]);
            use_amino(&mut draft, 0);
            draft.body.memo = format!("{i}");
            draft.fee().gas_limit = 0;
            draft.fee().amount.clear();
            draft.auth_info.signer_infos = vec![draft.auth_info.signer_infos[0].clone(); 1_500];
            draft.bytes(&[person])
        })
        .collect();
    for bomb in &bombs {
        assert!(!accepted(&chain, std::slice::from_ref(bomb)));
    }
    assert!(prepare(&chain, &bombs, 4 << 20).is_empty());
    // Should the validators have decided on it all the same: not minutes, but what reading it takes.
    let began = std::time::Instant::now();
    let results = chain.block(1_000, &bombs).tx_results;
    assert!(results.iter().all(|result| result.code != 0 && result.gas_used == 0));
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn attestations_have_a_quarter_of_the_block_to_themselves() {
    let world = World::new(5);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    let host = &world.people[0];
    let tx_of_host = tx(&chain, host, vec![register(host)]);
    assert_eq!(chain.deliver(tx_of_host).code, 0);
    chain.block(3_000, &[]);
    let (number, sequence) = host.account(&chain).unwrap();
    let with = |sequence, message| crate::world::Draft::new(vec![message], &[(host, number, sequence)]).bytes(&[host]);
    let attestation = attest(&chain, host).unwrap();
    let flood: Vec<_> = world.people[1..6]
        .iter()
        .flat_map(|person| {
            let (number, first) = person.account(&chain).unwrap();
            let tx = |i| {
                crate::world::Draft::new(vec![send(person, &host.address, 1)], &[(person, number, first + i)])
                    .bytes(&[person])
            };
            (0..4).map(tx).collect::<Vec<_>>()
        })
        .collect();
    let limit = flood[0].len() as i64 * 8;
    // Behind a flood that would fill the block twice, the attestation is in, and first.
    let mut waiting = flood.clone();
    waiting.push(with(sequence, attestation.clone()));
    let proposed = prepare(&chain, &waiting, limit);
    assert_eq!(proposed.first(), waiting.last());
    assert!(proposed.len() > 5 && proposed.len() < 9, "{}", proposed.len());
    // Without one the others have the whole block.
    assert!(prepare(&chain, &flood, limit).len() >= 7);
    // The reserve does not reorder what one account sent.
    let earlier = with(sequence, send(host, &world.people[1].address, 1));
    let later = with(sequence + 1, attestation);
    let proposed = prepare(&chain, &[earlier.clone(), later.clone()], limit);
    assert_eq!(proposed, [earlier, later]);
    // Nor is it for sale: an attestation that fails pays like all others and waits like all others.
    let junk = &world.people[5];
    let mut draft = draft(&chain, junk, vec![attest_nothing(junk)]);
    draft.fee().gas_limit = 50_000_000;
    draft.fee().amount[0].amount = "50000".into();
    let mut waiting = vec![draft.bytes(&[junk])];
    waiting.extend(flood);
    waiting.push(with(sequence, attest(&chain, host).unwrap()));
    assert_eq!(prepare(&chain, &waiting, limit).first(), waiting.last());
}

/// An attestation by somebody who is no provider.
fn attest_nothing(person: &Person) -> Any {
    any(&MsgAttest {
        provider: person.address.to_string(),
        epochs: vec![EpochRoot {
            epoch: 1,
            root: vec![0; 32],
        }],
    })
}

#[test]
fn the_mempool_may_be_larger_than_a_block() {
    let world = World::new(5);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    // Long transactions, whose messages run out of gas at once.
    let long = |i: u64| {
        let person = &world.people[i as usize % 5];
        let (number, first) = person.account(&chain).unwrap();
        let messages = vec![send(person, &world.people[5].address, 1); 1_200];
        let mut draft = crate::world::Draft::new(messages, &[(person, number, first + i / 5)]);
        draft.fee().gas_limit = 2_500_000;
        draft.fee().amount[0].amount = "2500".into();
        draft.bytes(&[person])
    };
    let txs: Vec<_> = (0..40).map(long).collect();
    let size = |txs: &[Vec<u8>]| txs.iter().map(|tx| tx.len() as u64 + 4).sum::<u64>();
    assert!(size(&txs) > tenure_app::MAX_BLOCK_TX_BYTES, "{}", size(&txs));
    assert!(
        !accepted(&chain, &txs),
        "no honest proposer makes a block as long as this"
    );
    let proposed = prepare(&chain, &txs, 100 << 20);
    let (taken, most) = (size(&proposed), tenure_app::MAX_BLOCK_TX_BYTES);
    assert!(taken <= most && taken + size(&txs[..1]) > most, "{taken}");
    assert!(accepted(&chain, &proposed));
}
