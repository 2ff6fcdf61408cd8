//! Every way in which a transaction is refused before its messages run: code, text, and that nothing changed.

use prost::Message;
use tendermint_proto::v0_38::abci::CheckTxType;
use tenure_proto::{
    any,
    cosmos::{
        bank::v1beta1::{MsgSend, QueryBalanceRequest, QueryBalanceResponse},
        crypto::secp256k1::PubKey,
        tx::{
            signing::v1beta1::SignMode,
            v1beta1::{mode_info, ModeInfo, Tip},
        },
    },
    Any,
};
use tenure_types::sdk;

use crate::{
    chain::Chain,
    world::{coin, draft, send, tx, Draft, Person, World, FUNDS, GAS},
};

fn chain() -> (Chain, World) {
    let world = World::new(1);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    (chain, world)
}

pub(crate) fn balance(chain: &Chain, person: &Person) -> u128 {
    let request = QueryBalanceRequest {
        address: person.address.to_string(),
        denom: "uten".into(),
    };
    let response: QueryBalanceResponse = chain.query("/cosmos.bank.v1beta1.Query/Balance", &request).unwrap();
    response.balance.unwrap().amount.parse().unwrap()
}

/// Bytes, code, and words that the text must hold.
type Case = (&'static str, Vec<u8>, u32, &'static str);

#[test]
fn every_rejection_has_its_code_and_text_and_changes_nothing() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let good = draft(&chain, alice, vec![send(alice, &bob.address, 1)]);
    let spoilt = |spoil: &dyn Fn(&mut Draft)| {
        let mut draft = good.clone();
        spoil(&mut draft);
        draft.bytes(&[alice])
    };
    let raw = good.signed(&[alice]);
    let single = |mode: SignMode| {
        Some(ModeInfo {
            sum: Some(mode_info::Sum::Single(mode_info::Single { mode: mode.into() })),
        })
    };
    let any_of = |type_url: &str| Any {
        type_url: type_url.into(),
        value: vec![],
    };
    let mut high_s = raw.clone();
    high_s.signatures[0] = negated(&raw.signatures[0]);
    let mut non_canonical = raw.encode_to_vec();
    // The last signature's length as a varint of two bytes: decodes to the same.
    let at = non_canonical.len() - 65;
    assert_eq!(non_canonical[at], 64);
    non_canonical.splice(at..=at, [0xc0, 0x00]);
    let mut unknown_in_raw = raw.encode_to_vec();
    unknown_in_raw.extend_from_slice(&[0x98, 0x06, 1]);
    let mut unknown_in_body = raw.clone();
    unknown_in_body.body_bytes.extend_from_slice(&[0x98, 0x06, 1]);
    let mut unknown_in_auth = raw.clone();
    unknown_in_auth.auth_info_bytes.extend_from_slice(&[0x98, 0x06, 1]);
    let (bob_number, bob_sequence) = bob.account(&chain).unwrap();
    let many: Vec<Person> = (100..108).map(Person::new).collect();
    let cases: Vec<Case> = vec![
        ("garbage", vec![0xff; 40], sdk::TX_DECODE, "TxRaw"),
        ("empty", vec![], sdk::INVALID_REQUEST, "messages is empty"),
        (
            "too long",
            spoilt(&|d| d.body.memo = "m".repeat(300_000)),
            sdk::TX_TOO_LARGE,
            "the limit is 262144",
        ),
        ("not canonical", non_canonical, sdk::TX_DECODE, "canonical"),
        ("unknown field in TxRaw", unknown_in_raw, sdk::TX_DECODE, "canonical"),
        (
            "unknown field in TxBody",
            unknown_in_body.encode_to_vec(),
            sdk::TX_DECODE,
            "TxBody has the unknown field 99",
        ),
        (
            "unknown field in AuthInfo",
            unknown_in_auth.encode_to_vec(),
            sdk::TX_DECODE,
            "AuthInfo has the unknown field 99",
        ),
        (
            "unknown field in a message",
            spoilt(&|d| d.body.messages[0].value.extend_from_slice(&[0x98, 0x06, 1])),
            sdk::TX_DECODE,
            "MsgSend has the unknown field 99",
        ),
        (
            "unknown message",
            spoilt(&|d| d.body.messages.push(any_of("/a.b.MsgC"))),
            sdk::UNKNOWN_REQUEST,
            "messages[1]: message type \"/a.b.MsgC\"",
        ),
        (
            "a nest of Any",
            spoilt(&|d| d.body.messages[0] = nested_any(5_000)),
            sdk::UNKNOWN_REQUEST,
            "google.protobuf.Any",
        ),
        (
            "extension option",
            spoilt(&|d| d.body.extension_options.push(any_of("/a.B"))),
            sdk::UNKNOWN_EXTENSION_OPTIONS,
            "unknown extension options",
        ),
        (
            "non-critical extension option",
            spoilt(&|d| d.body.non_critical_extension_options.push(any_of("/a.B"))),
            sdk::UNKNOWN_EXTENSION_OPTIONS,
            "unknown extension options",
        ),
        (
            "no message",
            spoilt(&|d| d.body.messages.clear()),
            sdk::INVALID_REQUEST,
            "messages is empty",
        ),
        (
            "memo",
            spoilt(&|d| d.body.memo = "m".repeat(257)),
            sdk::MEMO_TOO_LARGE,
            "maximum number of characters is 256 but received 257 characters: memo too large",
        ),
        (
            "timeout",
            spoilt(&|d| d.body.timeout_height = 1),
            sdk::TX_TIMEOUT_HEIGHT,
            "timeout height: 1",
        ),
        (
            "tip",
            spoilt(&|d| {
                #[allow(deprecated, reason = "to see it refused")]
                {
                    d.auth_info.tip = Some(Tip::default())
                }
            }),
            sdk::NOT_SUPPORTED,
            "tips are not supported",
        ),
        (
            "granter",
            spoilt(&|d| d.fee().granter = bob.address.to_string()),
            sdk::NOT_SUPPORTED,
            "fee grants are not supported",
        ),
        (
            "a message that can never be valid",
            spoilt(&|d| {
                d.body.messages = vec![any(&MsgSend {
                    from_address: alice.address.to_string(),
                    ..Default::default()
                })]
            }),
            sdk::INVALID_ADDRESS,
            "messages[0]: to_address",
        ),
        (
            "fee of zero",
            spoilt(&|d| d.fee().amount = vec![coin("uten", 0)]),
            sdk::INVALID_COINS,
            "fee.amount",
        ),
        (
            "fee in another denom",
            spoilt(&|d| d.fee().amount = vec![coin("abc", 5_000)]),
            sdk::INSUFFICIENT_FEE,
            "fees are paid in uten",
        ),
        (
            "gas above a block's",
            spoilt(&|d| d.fee().gas_limit = 200_000_001),
            sdk::INVALID_GAS_LIMIT,
            "a block holds 200000000",
        ),
        (
            "fee too low",
            spoilt(&|d| d.fee().amount = vec![coin("uten", 999)]),
            sdk::INSUFFICIENT_FEE,
            "insufficient fees; got: 999uten required: 1000uten: insufficient fee",
        ),
        (
            "no gas",
            spoilt(&|d| d.fee().gas_limit = 0),
            sdk::OUT_OF_GAS,
            "out of gas in transaction bytes",
        ),
        (
            "gas for no signature",
            spoilt(&|d| d.fee().gas_limit = 7_000),
            sdk::OUT_OF_GAS,
            "out of gas",
        ),
        (
            "fee above the balance",
            spoilt(&|d| d.fee().amount = vec![coin("uten", FUNDS + 1)]),
            sdk::INSUFFICIENT_FUNDS,
            "spendable balance 1000000000000uten is smaller than 1000000000001uten: insufficient funds",
        ),
        (
            "payer without an account",
            Draft::new(vec![send(&many[0], &bob.address, 1)], &[(&many[0], 0, 0)]).bytes(&[&many[0]]),
            sdk::UNKNOWN_ADDRESS,
            "does not exist: unknown address",
        ),
        (
            "payer is no address",
            spoilt(&|d| d.fee().payer = "nobody".into()),
            sdk::INVALID_ADDRESS,
            "fee.payer",
        ),
        (
            "no signature",
            {
                let mut raw = raw.clone();
                raw.signatures.clear();
                raw.encode_to_vec()
            },
            sdk::NO_SIGNATURES,
            "no signatures supplied",
        ),
        (
            "two signatures",
            {
                let mut raw = raw.clone();
                raw.signatures.push(vec![1; 64]);
                raw.encode_to_vec()
            },
            sdk::UNAUTHORIZED,
            "wrong number of signers; expected 1, got 2: unauthorized",
        ),
        (
            "no signer info",
            spoilt(&|d| d.auth_info.signer_infos.clear()),
            sdk::UNAUTHORIZED,
            "wrong number of signer_infos; expected 1, got 0",
        ),
        (
            "too many signers",
            {
                let messages = [alice]
                    .into_iter()
                    .chain(&many[..7])
                    .map(|p| send(p, &bob.address, 1))
                    .collect();
                let infos: Vec<_> = [alice].into_iter().chain(&many[..7]).map(|p| (p, 0, 0)).collect();
                Draft::new(messages, &infos).bytes(&infos.iter().map(|i| i.0).collect::<Vec<_>>())
            },
            sdk::TOO_MANY_SIGNATURES,
            "signatures: 8, limit: 7: maximum number of signatures exceeded",
        ),
        (
            "a payer who did not sign",
            spoilt(&|d| d.fee().payer = bob.address.to_string()),
            sdk::UNAUTHORIZED,
            "wrong number of signer_infos; expected 2, got 1",
        ),
        (
            "textual",
            spoilt(&|d| d.auth_info.signer_infos[0].mode_info = single(SignMode::Textual)),
            sdk::NOT_SUPPORTED,
            "mode_info.single.mode is SIGN_MODE_TEXTUAL, SIGN_MODE_DIRECT and SIGN_MODE_LEGACY_AMINO_JSON are supported",
        ),
        (
            "another mode than was signed",
            spoilt(&|d| d.auth_info.signer_infos[0].mode_info = single(SignMode::LegacyAminoJson)),
            sdk::UNAUTHORIZED,
            "signature verification failed",
        ),
        (
            "mode not said",
            spoilt(&|d| d.auth_info.signer_infos[0].mode_info = None),
            sdk::NOT_SUPPORTED,
            "SIGN_MODE_UNSPECIFIED",
        ),
        (
            "multi-signature",
            spoilt(&|d| {
                d.auth_info.signer_infos[0].mode_info = Some(ModeInfo {
                    sum: Some(mode_info::Sum::Multi(mode_info::Multi::default())),
                })
            }),
            sdk::NOT_SUPPORTED,
            "multi-signature keys are not supported",
        ),
        (
            "key of another kind",
            spoilt(&|d| d.auth_info.signer_infos[0].public_key = Some(any_of("/cosmos.crypto.ed25519.PubKey"))),
            sdk::INVALID_PUBKEY,
            "signer_infos[0].public_key is \"/cosmos.crypto.ed25519.PubKey\"",
        ),
        (
            "unknown field in a key",
            spoilt(&|d| {
                let key = d.auth_info.signer_infos[0].public_key.as_mut().unwrap();
                key.value.extend_from_slice(&[0x98, 0x06, 1]);
            }),
            sdk::TX_DECODE,
            "PubKey has the unknown field 99",
        ),
        (
            "key of another length",
            spoilt(&|d| d.auth_info.signer_infos[0].public_key = Some(any(&PubKey { key: vec![2; 32] }))),
            sdk::INVALID_PUBKEY,
            "public_key has 32 bytes",
        ),
        (
            "no key",
            spoilt(&|d| d.auth_info.signer_infos[0].public_key = None),
            sdk::INVALID_PUBKEY,
            "public_key is missing",
        ),
        (
            "somebody else's key",
            spoilt(&|d| {
                d.auth_info.signer_infos[0].public_key = Some(any(&PubKey {
                    key: bob.compressed.to_vec(),
                }))
            }),
            sdk::INVALID_PUBKEY,
            "does not match signer address",
        ),
        (
            "sequence",
            spoilt(&|d| d.auth_info.signer_infos[0].sequence = 7),
            sdk::WRONG_SEQUENCE,
            "account sequence mismatch, expected 0, got 7: incorrect account sequence",
        ),
        (
            "another chain's signature",
            spoilt(&|d| d.chain_id = "tenure-2".into()),
            sdk::UNAUTHORIZED,
            "signature verification failed; please verify account number (",
        ),
        (
            "another account's signature",
            spoilt(&|d| d.account_numbers[0] += 1),
            sdk::UNAUTHORIZED,
            "signature verification failed",
        ),
        (
            "somebody else's signature",
            good.bytes(&[bob]),
            sdk::UNAUTHORIZED,
            "signature verification failed",
        ),
        (
            "high S",
            high_s.encode_to_vec(),
            sdk::UNAUTHORIZED,
            "signature verification failed",
        ),
        (
            "a short signature",
            {
                let mut raw = raw.clone();
                raw.signatures[0].pop();
                raw.encode_to_vec()
            },
            sdk::UNAUTHORIZED,
            "signature verification failed",
        ),
        (
            "the second signer's signature",
            Draft::new(
                vec![send(alice, &bob.address, 1), send(bob, &alice.address, 1)],
                &[(alice, good.account_numbers[0], 0), (bob, bob_number, bob_sequence)],
            )
            .bytes(&[alice, alice]),
            sdk::UNAUTHORIZED,
            "signer_infos[1]: signature verification failed",
        ),
    ];
    for (name, bytes, code, text) in cases {
        let checked = chain.check(&bytes, CheckTxType::New);
        assert_eq!(
            (checked.code, checked.codespace.as_str()),
            (code, "sdk"),
            "{name}: {}",
            checked.log
        );
        assert!(
            checked.log.contains(text),
            "{name}: {:?} does not say {text:?}",
            checked.log
        );
        let before = records(&chain);
        let result = chain.deliver(bytes);
        assert_eq!(
            (result.code, result.log.as_str()),
            (code, checked.log.as_str()),
            "{name}: block and mempool agree"
        );
        assert!(result.events.is_empty() && result.data.is_empty(), "{name}");
        assert_eq!(records(&chain), before, "{name}: nothing is charged");
    }
    // The draft that all were made of is good.
    let result = chain.deliver(good.bytes(&[alice]));
    assert_eq!((result.code, result.log.as_str()), (0, ""));
}

/// Everything stored but the clock, which moves with each block.
fn records(chain: &Chain) -> Vec<(Vec<u8>, Vec<u8>)> {
    let view = chain.app.store().latest();
    let stores = tenure_app::stores()
        .into_iter()
        .filter(|store| *store != tenure_sdk::clock::NAME);
    stores
        .flat_map(|store| {
            view.range(store, &[], None, false)
                .map(|e| e.unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The other signature that plain ECDSA would accept.
fn negated(signature: &[u8]) -> Vec<u8> {
    let parsed = k256::ecdsa::Signature::from_slice(signature).unwrap();
    let (r, s) = parsed.split_scalars();
    k256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes())
        .unwrap()
        .to_bytes()
        .to_vec()
}

fn nested_any(depth: usize) -> Any {
    (0..depth).fold(Any::default(), |inner, _| Any {
        type_url: "/google.protobuf.Any".into(),
        value: inner.encode_to_vec(),
    })
}

#[test]
fn a_message_that_fails_keeps_fee_and_sequence_and_leaves_nothing_else() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let messages = vec![send(alice, &bob.address, 5), send(alice, &bob.address, FUNDS)];
    let result = chain.deliver(tx(&chain, alice, messages));
    assert_eq!(
        (result.code, result.codespace.as_str()),
        (sdk::INSUFFICIENT_FUNDS, "sdk")
    );
    assert!(
        result
            .log
            .starts_with("failed to execute message; message index: 1: spendable balance"),
        "{}",
        result.log
    );
    assert_eq!(balance(&chain, alice), FUNDS - u128::from(GAS / 1_000));
    assert_eq!(balance(&chain, bob), FUNDS);
    assert_eq!(alice.account(&chain).unwrap().1, 1);
    let kinds: Vec<_> = result.events.iter().map(|e| e.r#type.as_str()).collect();
    assert_eq!(
        kinds,
        ["coin_spent", "coin_received", "transfer", "message", "tx", "tx", "tx"],
        "the fee's events stay"
    );
    assert!(result.data.is_empty());
}

#[test]
fn a_transaction_that_runs_out_of_gas_pays_and_changes_nothing_else() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let used = chain
        .deliver(tx(&chain, bob, vec![send(bob, &alice.address, 1)]))
        .gas_used;
    let mut draft = draft(&chain, alice, vec![send(alice, &bob.address, 1)]);
    draft.fee().gas_limit = used as u64 - 1;
    let before = balance(&chain, bob);
    let result = chain.deliver(draft.bytes(&[alice]));
    assert_eq!(result.code, sdk::OUT_OF_GAS, "{}", result.log);
    assert_eq!((result.gas_wanted, result.gas_used), (used - 1, used - 1));
    assert_eq!(balance(&chain, bob), before);
    assert_eq!(alice.account(&chain).unwrap().1, 1);
}

#[test]
fn the_payer_pays_and_signs_after_the_others() {
    let (mut chain, world) = chain();
    let [alice, bob, carol] = [&world.people[0], &world.people[1], &world.people[2]];
    let infos = [alice, carol].map(|p| (p, p.account(&chain).unwrap().0, 0));
    let mut draft = Draft::new(vec![send(alice, &bob.address, 1)], &infos);
    draft.fee().payer = carol.address.to_string();
    let result = chain.deliver(draft.bytes(&[alice, carol]));
    assert_eq!(result.code, 0, "{}", result.log);
    assert_eq!(balance(&chain, alice), FUNDS - 1);
    assert_eq!(balance(&chain, carol), FUNDS - u128::from(GAS / 1_000));
}

#[test]
fn a_key_is_needed_once_and_then_must_be_the_same() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    assert_eq!(
        chain
            .deliver(tx(&chain, alice, vec![send(alice, &bob.address, 1)]))
            .code,
        0
    );
    let mut without = draft(&chain, alice, vec![send(alice, &bob.address, 1)]);
    without.auth_info.signer_infos[0].public_key = None;
    let result = chain.deliver(without.bytes(&[alice]));
    assert_eq!(result.code, 0, "{}", result.log);
    let mut other = draft(&chain, alice, vec![send(alice, &bob.address, 1)]);
    other.auth_info.signer_infos[0].public_key = Some(any(&PubKey {
        key: bob.compressed.to_vec(),
    }));
    let result = chain.deliver(other.bytes(&[bob]));
    assert_eq!(result.code, sdk::INVALID_PUBKEY, "{}", result.log);
    assert!(result.log.contains("is not the one"), "{}", result.log);
}

#[test]
fn a_transaction_is_applied_once() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let tx = tx(&chain, alice, vec![send(alice, &bob.address, 1)]);
    let results = chain.block(1_000, &[tx.clone(), tx.clone()]).tx_results;
    assert_eq!((results[0].code, results[1].code), (0, sdk::WRONG_SEQUENCE));
    assert_eq!(chain.deliver(tx).code, sdk::WRONG_SEQUENCE);
    assert_eq!(balance(&chain, bob), FUNDS + 1);
}

#[test]
fn a_result_carries_what_clients_decode() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let result = chain.deliver(tx(&chain, alice, vec![send(alice, &bob.address, 1)]));
    let data = tenure_proto::cosmos::base::abci::v1beta1::TxMsgData::decode(result.data.clone()).unwrap();
    assert_eq!(data.msg_responses.len(), 1);
    assert_eq!(data.msg_responses[0].type_url, "/cosmos.bank.v1beta1.MsgSendResponse");
    let attribute = |kind: &str, key: &str| {
        let events = result.events.iter().filter(|e| e.r#type == kind);
        events
            .flat_map(|e| &e.attributes)
            .filter(|a| a.key == key)
            .map(|a| a.value.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(attribute("tx", "fee"), ["1000uten"]);
    assert_eq!(attribute("tx", "fee_payer"), [alice.address.to_string()]);
    assert_eq!(attribute("tx", "acc_seq"), [format!("{}/0", alice.address)]);
    assert_eq!(attribute("tx", "signature").len(), 1);
    assert_eq!(attribute("message", "action"), ["/cosmos.bank.v1beta1.MsgSend"]);
    assert_eq!(attribute("message", "module"), ["bank"]);
    assert_eq!(attribute("transfer", "msg_index"), ["0"]);
    assert_eq!(
        attribute("transfer", "recipient").last(),
        Some(&bob.address.to_string())
    );
}
