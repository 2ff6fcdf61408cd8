//! Attestations without a fee: what they may be, that they cost nothing, and that they cannot be abused.

use prost::Message;
use tendermint_proto::v0_38::abci::CheckTxType;
use tenure_app::{AppOptions, MempoolLimits};
use tenure_proto::{
    any,
    cosmos::bank::v1beta1::{QueryBalanceRequest, QueryBalanceResponse},
    tenure::provider::v1::{EpochRoot, MsgAttest},
    Any,
};
use tenure_types::sdk;

use crate::{
    chain::{options, Chain},
    market::{claim, lease, lease_ready, post_bid, provider, register, report_down},
    proposals::prepare,
    world::{draft, send, tx, Draft, Person, World},
};

/// The codespace of providers and the code of "outcomes are final".
const ALREADY_FINAL: u32 = 9;
const NOT_FOUND: u32 = 1;

/// A chain on which these people are providers, each with an epoch to attest now.
fn chain(world: &World, providers: &[usize]) -> Chain {
    chain_with(options(), world, providers)
}

fn chain_with(options: AppOptions, world: &World, providers: &[usize]) -> Chain {
    let mut chain = Chain::with(&world.app_state(), options);
    chain.block(1_000, &[]);
    for i in providers {
        let host = &world.people[*i];
        let tx = tx(&chain, host, vec![register(host)]);
        assert_eq!(chain.deliver(tx).code, 0);
    }
    until_attestable(&mut chain, world, providers);
    chain
}

fn until_attestable(chain: &mut Chain, world: &World, providers: &[usize]) {
    for _ in 0..40 {
        if providers.iter().all(|i| attest(chain, &world.people[*i]).is_some()) {
            return;
        }
        chain.block(500, &[]);
    }
    panic!("the epochs of all never end at about the same time");
}

/// Attests the last epoch that has ended, if that was a moment ago.
fn attest(chain: &Chain, person: &Person) -> Option<Any> {
    let provider = provider(chain, person)?;
    let (_, _, now_ms, _) = chain.app.committed();
    let epoch = ((now_ms - provider.grid_offset_ms) / provider.epoch_ms).checked_sub(1)?;
    let end_ms = (epoch + 1) * provider.epoch_ms + provider.grid_offset_ms;
    let root = vec![9; 32];
    (end_ms > provider.final_until_ms && now_ms - end_ms < 1_600).then(|| {
        any(&MsgAttest {
            provider: person.address.to_string(),
            epochs: vec![EpochRoot { epoch, root }],
        })
    })
}

fn free(chain: &Chain, person: &Person, messages: Vec<Any>) -> Draft {
    let mut draft = draft(chain, person, messages);
    assert!(draft.make_free());
    draft.fee().gas_limit = 100_000;
    draft
}

fn balance(chain: &Chain, person: &Person) -> String {
    let request = QueryBalanceRequest {
        address: person.address.to_string(),
        denom: "uten".into(),
    };
    let answer: QueryBalanceResponse = chain.query("/cosmos.bank.v1beta1.Query/Balance", &request).unwrap();
    answer.balance.unwrap().amount
}

#[test]
fn it_costs_neither_money_nor_a_sequence_and_counts_once() {
    let world = World::new(5);
    let mut chain = chain(&world, &[0]);
    let host = &world.people[0];
    let before = (balance(&chain, host), host.account(&chain).unwrap());
    let attestation = attest(&chain, host).unwrap();
    let tx = free(&chain, host, vec![attestation.clone()]).bytes(&[host]);
    let checked = chain.check(&tx, CheckTxType::New);
    assert_eq!(checked.code, 0, "{}", checked.log);
    // The same, and another one for the same epoch, do not wait beside it.
    let other_root = {
        let mut message = MsgAttest::decode(attestation.value.as_slice()).unwrap();
        message.epochs.iter_mut().for_each(|epoch| epoch.root = vec![4; 32]);
        free(&chain, host, vec![any(&message)]).bytes(&[host])
    };
    for second in [&tx, &other_root] {
        let refused = chain.check(second, CheckTxType::New);
        assert_eq!((refused.codespace.as_str(), refused.code), ("provider", ALREADY_FINAL));
    }
    // What the account does otherwise goes on beside it, in any order.
    let sent = self::tx(&chain, host, vec![send(host, &world.people[1].address, 1)]);
    let final_until = provider(&chain, host).unwrap().final_until_ms;
    let proposed = prepare(&chain, &[sent.clone(), tx.clone(), other_root.clone()], 1 << 20);
    assert_eq!(
        proposed,
        [tx.clone(), sent],
        "the reserve first; of two for an epoch one"
    );
    let results = chain
        .block(1_000, &[tx.clone(), other_root.clone(), tx.clone()])
        .tx_results;
    assert_eq!(
        [results[0].code, results[1].code, results[2].code],
        [0, ALREADY_FINAL, ALREADY_FINAL]
    );
    assert!(
        results[0].gas_used > 0 && results[0].gas_used < 20_000,
        "{}",
        results[0].gas_used
    );
    assert_eq!(results[0].gas_used, checked.gas_used, "CheckTx has executed it whole");
    assert!(results[1].events.is_empty());
    assert!(provider(&chain, host).unwrap().final_until_ms > final_until);
    assert_eq!((balance(&chain, host), host.account(&chain).unwrap()), before);
    // Nor does it come back later.
    assert_ne!(chain.check(&tx, CheckTxType::Recheck).code, 0);
    assert!(prepare(&chain, &[tx.clone(), other_root], 1 << 20).is_empty());
    assert_ne!(chain.deliver(tx).code, 0);
}

#[test]
fn one_that_fails_in_a_block_changes_nothing() {
    let world = World::new(5);
    let (mut with, mut without) = (chain(&world, &[0]), chain(&world, &[0]));
    let host = &world.people[0];
    let nobody = &world.people[1];
    let good = attest(&with, host).unwrap();
    let too_early = any(&MsgAttest {
        provider: host.address.to_string(),
        epochs: vec![EpochRoot {
            epoch: u64::MAX / 10_000,
            root: vec![1; 32],
        }],
    });
    let mut out_of_gas = free(&with, host, vec![good.clone()]);
    out_of_gas.fee().gas_limit = 4_000;
    let by_nobody = any(&MsgAttest {
        provider: nobody.address.to_string(),
        ..MsgAttest::decode(good.value.as_slice()).unwrap()
    });
    // Its report succeeds only if the attestation does.
    let report = report_down(&with, host, vec![99]).unwrap();
    let txs = [
        free(&with, host, vec![too_early]).bytes(&[host]),
        out_of_gas.bytes(&[host]),
        free(&with, nobody, vec![by_nobody]).bytes(&[nobody]),
        free(&with, host, vec![report, good.clone()]).bytes(&[host]),
        free(&with, host, vec![good]).bytes(&[nobody]),
    ];
    for tx in &txs {
        assert_ne!(with.check(tx, CheckTxType::New).code, 0);
    }
    assert!(prepare(&with, &txs, 1 << 20).is_empty());
    assert!(with.propose(&with.next(1_000, &txs)), "but no reason to refuse a block");
    let response = with.block(1_000, &txs);
    assert!(response
        .tx_results
        .iter()
        .all(|result| result.code != 0 && result.events.is_empty()));
    assert_eq!(response.app_hash, without.block(1_000, &[]).app_hash);
}

#[test]
fn what_is_not_exactly_one_pays_like_everything_else() {
    let world = World::new(5);
    let chain = chain(&world, &[0, 1]);
    let [host, other] = [&world.people[0], &world.people[1]];
    let attestation = attest(&chain, host).unwrap();
    let base = free(&chain, host, vec![attestation.clone()]);
    let code = |draft: &Draft, people: &[&Person]| {
        let response = chain.check(&draft.bytes(people), CheckTxType::New);
        assert_ne!(response.code, 0);
        (response.codespace, response.code)
    };
    let sdk_code = |code: u32| ("sdk".to_owned(), code);
    // The account's sequence, or any other number, is not its nonce.
    let mut draft = base.clone();
    draft.auth_info.signer_infos[0].sequence = host.account(&chain).unwrap().1;
    let response = chain.check(&draft.bytes(&[host]), CheckTxType::New);
    assert_eq!(response.code, sdk::WRONG_SEQUENCE);
    let nonce = base.auth_info.signer_infos[0].sequence;
    assert!(
        response
            .log
            .starts_with(&format!("account sequence mismatch, expected {nonce}, got 1")),
        "{}",
        response.log
    );
    let mut draft = base.clone();
    draft.fee().gas_limit = tenure_app::tx::MAX_FREE_GAS + 1;
    assert_eq!(code(&draft, &[host]), sdk_code(sdk::INVALID_GAS_LIMIT));
    // With something else in it, twice, or before its report, it is no free one: the fee is too small.
    let beside = send(host, &other.address, 1);
    let report = report_down(&chain, host, vec![1]).unwrap();
    let others_report = report_down(&chain, other, vec![1]).unwrap();
    for messages in [
        vec![beside.clone(), attestation.clone()],
        vec![attestation.clone(), beside],
        vec![attestation.clone(), attestation.clone()],
        vec![attestation.clone(), report.clone()],
        vec![report],
        vec![],
    ] {
        let mut draft = base.clone();
        draft.body.messages = messages;
        let expected = match draft.body.messages.len() {
            0 => sdk::INVALID_REQUEST,
            _ => sdk::INSUFFICIENT_FEE,
        };
        assert_eq!(code(&draft, &[host]), sdk_code(expected));
    }
    let mut draft = base.clone();
    draft.body.messages = vec![others_report, attestation];
    assert_eq!(code(&draft, &[host]), sdk_code(sdk::INSUFFICIENT_FEE));
    let mut draft = base.clone();
    draft.fee().payer = other.address.to_string();
    assert_eq!(code(&draft, &[host, other]).1, sdk::INSUFFICIENT_FEE);
    let stranger = &world.people[2];
    let by_stranger = any(&MsgAttest {
        provider: stranger.address.to_string(),
        ..MsgAttest::decode(base.body.messages[0].value.as_slice()).unwrap()
    });
    let draft = free(&chain, stranger, vec![by_stranger]);
    assert_eq!(code(&draft, &[stranger]), ("provider".to_owned(), NOT_FOUND));
    // And the free one itself may wait.
    assert_eq!(chain.check(&base.bytes(&[host]), CheckTxType::New).code, 0);
}

#[test]
fn its_gas_can_be_estimated() {
    let world = World::new(5);
    let mut chain = chain(&world, &[0]);
    let host = &world.people[0];
    let draft = free(&chain, host, vec![attest(&chain, host).unwrap()]);
    let mut raw = draft.signed(&[host]);
    raw.signatures = vec![vec![]];
    let estimate = chain
        .app
        .simulate(&raw.encode_to_vec())
        .unwrap()
        .gas_info
        .unwrap()
        .gas_used;
    let used = chain.deliver(draft.bytes(&[host])).gas_used as u64;
    assert!(estimate >= used && estimate < used * 13 / 10, "{estimate} for {used}");
}

#[test]
fn no_provider_fills_the_reserve_before_every_other_had_a_turn() {
    let world = World::new(5);
    let mut chain = chain(&world, &[0, 1]);
    let [greedy, modest, tenant] = [0, 1, 3].map(|i| &world.people[i]);
    let bid = tx(
        &chain,
        tenant,
        vec![post_bid(tenant, 20_000_000, 60_000, 400_000, None)],
    );
    assert_eq!(chain.deliver(bid).code, 0);
    let claim = tx(&chain, greedy, vec![claim(greedy, 1, 10_000_000)]);
    assert_eq!(chain.deliver(claim).code, 0);
    for _ in 0..12 {
        chain.block(500, &[]);
    }
    let lease = lease(&chain, 1).lease;
    let ready = tx(&chain, greedy, vec![lease_ready(greedy, tenant, &lease.unwrap())]);
    assert_eq!(chain.deliver(ready).code, 0);
    until_attestable(&mut chain, &world, &[0, 1]);
    // A report and an attestation that pay, both of which would succeed, and somebody else's free attestation behind them.
    let (number, first) = greedy.account(&chain).unwrap();
    let own = |i, message| Draft::new(vec![message], &[(greedy, number, first + i)]).bytes(&[greedy]);
    let waiting = [
        own(0, report_down(&chain, greedy, vec![1]).unwrap()),
        own(1, attest(&chain, greedy).unwrap()),
        free(&chain, modest, vec![attest(&chain, modest).unwrap()]).bytes(&[modest]),
    ];
    let room = |txs: &[Vec<u8>]| txs.iter().map(|tx| tx.len() as i64 + 3).sum::<i64>();
    // The reserve holds two of them.
    let limit = 4 * (room(&waiting) - 20);
    let proposed = prepare(&chain, &waiting, limit);
    let order: Vec<_> = proposed
        .iter()
        .map(|tx| waiting.iter().position(|w| w == tx).unwrap())
        .collect();
    assert_eq!(order, [0, 2, 1]);
    let results = chain.block(400, &proposed).tx_results;
    assert!(results.iter().all(|result| result.code == 0), "{results:?}");
}

#[test]
fn a_flood_leaves_room_for_them_in_the_mempool() {
    let world = World::new(5);
    let [host, alice] = [&world.people[0], &world.people[1]];
    let bytes = {
        let chain = chain(&world, &[0]);
        let mut draft = draft(&chain, alice, vec![send(alice, &host.address, 1)]);
        draft.auth_info.signer_infos[0].sequence = 1;
        draft.bytes(&[alice]).len() as u64
    };
    // Sixteen places, and the bytes of sixteen transactions.
    for (txs, bytes) in [(16, 1 << 20), (1_000, 16 * bytes)] {
        let mempool = Some(MempoolLimits { txs, bytes });
        let options = AppOptions { mempool, ..options() };
        let mut chain = chain_with(options, &world, &[0]);
        let (_, first) = alice.account(&chain).unwrap();
        let mut draft = draft(&chain, alice, vec![send(alice, &host.address, 1)]);
        let flood: Vec<_> = (first..first + 30)
            .map(|sequence| {
                draft.auth_info.signer_infos[0].sequence = sequence;
                draft.bytes(&[alice])
            })
            .collect();
        let accepted = |chain: &Chain, txs: &[Vec<u8>]| {
            let answers = txs.iter().map(|tx| chain.check(tx, CheckTxType::New));
            answers.take_while(|answer| answer.code == 0).count()
        };
        assert_eq!(accepted(&chain, &flood), 14);
        let refused = chain.check(&flood[14], CheckTxType::New);
        assert_eq!(
            (refused.codespace.as_str(), refused.code),
            ("sdk", sdk::MEMPOOL_IS_FULL)
        );
        assert!(
            refused.log.ends_with("mempool is full"),
            "the words that brokers look for: {}",
            refused.log
        );
        // An attestation that pays waits like all others; only the chain decides which are free.
        let attestation = attest(&chain, host).unwrap();
        let paid = tx(&chain, host, vec![attestation.clone()]);
        assert_eq!(chain.check(&paid, CheckTxType::New).code, sdk::MEMPOOL_IS_FULL);
        let attestation = free(&chain, host, vec![attestation]).bytes(&[host]);
        let answer = chain.check(&attestation, CheckTxType::New);
        assert_eq!(answer.code, 0, "{}", answer.log);
        // A block takes the attestation and three of the flood; what still waits is checked again, and counts.
        let mut block = vec![attestation];
        block.extend_from_slice(&flood[..3]);
        assert!(chain
            .block(500, &block)
            .tx_results
            .iter()
            .all(|result| result.code == 0));
        for tx in &flood[3..14] {
            assert_eq!(chain.check(tx, CheckTxType::Recheck).code, 0);
        }
        assert_eq!(accepted(&chain, &flood[14..]), 3);
    }
}
