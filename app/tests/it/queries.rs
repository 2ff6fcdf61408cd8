//! Queries: the faces, heights, errors and proofs.

use ics23::{
    calculate_existence_root, commitment_proof::Proof, verify_membership, verify_non_membership, CommitmentProof,
    HostFunctionsManager,
};
use prost::Message;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{RequestInfo, RequestQuery, ResponseQuery};
use tenure_proto::{
    cosmos::{
        auth::v1beta1::QueryAccountRequest,
        bank::v1beta1::{QueryBalanceRequest, QueryBalanceResponse},
        tx::v1beta1::{SimulateRequest, SimulateResponse},
    },
    tenure::chain::v1::{StatusRequest, StatusResponse},
};
use tenure_types::{sdk, Address};

use crate::{
    chain::{Chain, CHAIN_ID},
    world::{draft, send, tx, World},
};

fn chain() -> (Chain, World) {
    let world = World::new(4);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    (chain, world)
}

fn ask(chain: &Chain, path: &str, data: Vec<u8>, height: i64, prove: bool) -> ResponseQuery {
    Application::query(
        &chain.app,
        RequestQuery {
            data: data.into(),
            path: path.to_owned(),
            height,
            prove,
        },
    )
}

#[test]
fn every_registered_query_answers_or_says_why_not() {
    let (chain, _) = chain();
    let paths = chain.app.query_paths();
    assert!(paths.contains(&"/cosmos.tx.v1beta1.Service/Simulate") && paths.contains(&"/tenure.chain.v1.Query/Status"));
    for path in paths {
        for request in [vec![], vec![0xff; 9]] {
            let response = ask(&chain, path, request, 0, false);
            assert_ne!(response.height, 0, "{path}: CosmJS refuses a height of 0");
            assert_ne!(response.codespace, "internal", "{path}: {}", response.log);
        }
        let known = tenure_proto::pool().services().any(|service| {
            service
                .methods()
                .any(|method| format!("/{}/{}", service.full_name(), method.name()) == path)
        });
        assert!(known, "{path} is in no .proto file");
    }
}

#[test]
fn the_status_and_info_are_those_of_the_last_commit() {
    let (mut chain, _) = chain();
    for height in 1..4 {
        let status: StatusResponse = chain.query("/tenure.chain.v1.Query/Status", &StatusRequest {}).unwrap();
        let info = chain.app.info(RequestInfo::default());
        assert_eq!((status.height, info.last_block_height), (height, height as i64));
        assert_eq!(status.app_hash, info.last_block_app_hash);
        assert_eq!((status.chain_id.as_str(), status.header_ms), (CHAIN_ID, chain.time_ms));
        // A block that is executed but not committed does not show.
        chain.finalize(500, &[]);
        assert_eq!(chain.app.info(RequestInfo::default()), info);
        chain.block(1_000, &[]);
    }
}

#[test]
fn before_the_first_block_there_is_no_answer_and_no_height() {
    let world = World::new(4);
    let chain = Chain::new(&world.app_state());
    let info = chain.app.info(RequestInfo::default());
    assert_eq!((info.last_block_height, info.last_block_app_hash.len()), (0, 0));
    let response = ask(&chain, "/tenure.chain.v1.Query/Status", vec![], 0, false);
    assert_eq!(response.code, sdk::INVALID_REQUEST);
    // But for what has nothing to do with a state.
    assert_eq!(
        ask(&chain, "/app/version", vec![], 0, false).value,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(ask(&chain, "/p2p/filter/id/abc", vec![], 0, false).code, 0);
}

#[test]
fn past_heights_are_answered_from_their_own_state() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let request = QueryBalanceRequest {
        address: bob.address.to_string(),
        denom: "uten".into(),
    }
    .encode_to_vec();
    let path = "/cosmos.bank.v1beta1.Query/Balance";
    let at = |chain: &Chain, height| -> u128 {
        let answer = chain.app.query(path, &request, Some(height)).unwrap();
        assert_eq!(answer.height, height);
        QueryBalanceResponse::decode(answer.value.as_slice())
            .unwrap()
            .balance
            .unwrap()
            .amount
            .parse()
            .unwrap()
    };
    let first = at(&chain, 1);
    for _ in 0..20 {
        let tx = tx(&chain, alice, vec![send(alice, &bob.address, 10)]);
        assert_eq!(chain.deliver(tx).code, 0);
    }
    for height in 6..=21 {
        assert_eq!(at(&chain, height), first + 10 * u128::from(height - 1));
    }
    let error = chain.app.query(path, &request, Some(5)).unwrap_err();
    assert!(error.message.contains("answers for heights 6 to 21"), "{error}");
    assert_eq!(ask(&chain, path, request.clone(), -1, false).code, sdk::INVALID_REQUEST);
    assert_eq!(ask(&chain, path, request, 22, false).code, sdk::INVALID_REQUEST);
}

#[test]
fn errors_have_the_words_clients_look_for() {
    let (chain, _) = chain();
    let address = Address::new([9; 20]).to_string();
    let request = QueryAccountRequest {
        address: address.clone(),
    }
    .encode_to_vec();
    let response = ask(&chain, "/cosmos.auth.v1beta1.Query/Account", request, 0, false);
    assert_ne!(response.code, 0);
    assert_eq!(
        response.log,
        format!("rpc error: code = NotFound desc = account {address} not found: key not found")
    );
    let response = ask(&chain, "/a.b.C/D", vec![], 0, false);
    assert_eq!((response.code, response.codespace.as_str()), (6, "sdk"));
    assert_eq!(ask(&chain, "/p2p/filter/addr/1.2.3.4", vec![], 0, false).code, 0);
    assert_eq!(
        ask(&chain, "/app/version", vec![], 0, false).value,
        env!("CARGO_PKG_VERSION")
    );
}

/// Checks both levels with nothing but the `ics23` crate: the record, or its absence, in its store, and the store in the app hash.
fn proven(response: &ResponseQuery, store: &str, key: &[u8], app_hash: &[u8]) -> bool {
    let spec = tenure_store::proof::ics23_spec();
    let ops = &response.proof_ops.as_ref().unwrap().ops;
    assert_eq!(
        (ops.len(), ops[0].key.as_slice(), ops[1].key.as_slice()),
        (2, key, store.as_bytes())
    );
    assert!(ops.iter().all(|op| op.r#type == "ics23:jmt"));
    let [inner, outer] = [0, 1].map(|i| CommitmentProof::decode(ops[i].data.as_slice()).unwrap());
    let root = calculate_existence_root_of(&inner);
    let absent = response.value.is_empty();
    let in_store = match absent {
        true => verify_non_membership::<HostFunctionsManager>(&inner, &spec, &root, key),
        false => verify_membership::<HostFunctionsManager>(&inner, &spec, &root, key, &response.value),
    };
    let app_hash = app_hash.to_vec();
    in_store && verify_membership::<HostFunctionsManager>(&outer, &spec, &app_hash, store.as_bytes(), &root)
}

/// The root that a proof leads to.
fn calculate_existence_root_of(proof: &CommitmentProof) -> Vec<u8> {
    let exist = match proof.proof.as_ref().unwrap() {
        Proof::Exist(exist) => exist,
        Proof::Nonexist(nonexist) => nonexist.left.as_ref().or(nonexist.right.as_ref()).unwrap(),
        other => panic!("{other:?}"),
    };
    calculate_existence_root::<HostFunctionsManager>(exist).unwrap()
}

#[test]
fn stored_records_come_with_proofs_that_the_ics23_crate_verifies() {
    let (mut chain, world) = chain();
    let mut hashes = vec![chain.app.committed().3];
    let [alice, bob] = [&world.people[0], &world.people[1]];
    for _ in 0..3 {
        let tx = tx(&chain, alice, vec![send(alice, &bob.address, 10)]);
        assert_eq!(chain.deliver(tx).code, 0);
        hashes.push(chain.app.committed().3);
    }
    let key = [b"a".as_slice(), alice.address.as_bytes()].concat();
    let plain = ask(&chain, "/store/auth/key", key.clone(), 0, false);
    assert!(!plain.value.is_empty() && plain.proof_ops.is_none() && plain.key == key);
    let mut values = std::collections::BTreeSet::new();
    for height in 1..=4_i64 {
        let response = ask(&chain, "/store/auth/key", key.clone(), height, true);
        assert_eq!(
            response.height, height,
            "the app hash is in the header of the next height"
        );
        values.insert(response.value.clone());
        for (i, hash) in hashes.iter().enumerate() {
            assert_eq!(proven(&response, "auth", &key, hash), i as i64 + 1 == height);
        }
        let absent = ask(&chain, "store/auth/key", b"a-nobody".to_vec(), height, true);
        assert!(absent.value.is_empty());
        assert!(proven(&absent, "auth", b"a-nobody", &hashes[height as usize - 1]));
        let mut lie = response;
        lie.value = vec![1].into();
        assert!(!proven(&lie, "auth", &key, &hashes[height as usize - 1]));
    }
    assert_eq!(values.len(), 4, "each height answers from its own state");
    assert_eq!(ask(&chain, "/store/auth/key", key.clone(), 0, true).height, 4);
}

#[test]
fn store_queries_that_cannot_be_answered_say_why() {
    let (chain, _) = chain();
    let coded = |path: &str, data: &[u8], prove| {
        let response = ask(&chain, path, data.to_vec(), 0, prove);
        assert!(response.value.is_empty() && response.proof_ops.is_none() && !response.log.is_empty());
        (response.codespace, response.code)
    };
    let sdk_code = |code: u32| ("sdk".to_owned(), code);
    assert_eq!(coded("/store/nothing/key", b"k", false), sdk_code(sdk::UNKNOWN_REQUEST));
    assert_eq!(coded("/store/nothing/key", b"k", true), sdk_code(sdk::UNKNOWN_REQUEST));
    assert_eq!(coded("/store/auth/key", b"", true), sdk_code(sdk::INVALID_REQUEST));
    assert_eq!(
        coded("/store/auth/subspace", b"a", false),
        sdk_code(sdk::UNKNOWN_REQUEST)
    );
    assert_eq!(coded("/nothing", b"", false), sdk_code(sdk::UNKNOWN_REQUEST));
    assert_eq!(coded("", b"", false), sdk_code(sdk::UNKNOWN_REQUEST));
}

#[test]
fn an_estimate_without_signature_key_and_fee_covers_the_real_transaction() {
    let (mut chain, world) = chain();
    let [alice, bob, carol] = [&world.people[0], &world.people[1], &world.people[6]];
    for (round, to) in [&bob.address, &carol.address, &carol.address].into_iter().enumerate() {
        let full = draft(&chain, alice, vec![send(alice, to, 1_000)]);
        let mut bare = full.clone();
        bare.fee().amount.clear();
        bare.fee().gas_limit = 0;
        bare.auth_info.signer_infos[0].public_key = None;
        bare.auth_info.signer_infos[0].mode_info = None;
        let mut raw = bare.signed(&[alice]);
        raw.signatures = vec![vec![]];
        let request = SimulateRequest {
            tx_bytes: raw.encode_to_vec(),
            ..Default::default()
        };
        let estimate: SimulateResponse = chain.query("/cosmos.tx.v1beta1.Service/Simulate", &request).unwrap();
        let estimated = estimate.gas_info.unwrap().gas_used as i64;
        assert_eq!(estimate.result.unwrap().msg_responses.len(), 1);
        let used = chain.deliver(full.bytes(&[alice])).gas_used;
        assert!(
            estimated >= used && estimated < used * 13 / 10,
            "round {round}: {estimated} for {used}"
        );
    }
    // Keplr sends 64 zero bytes and the amino mode.
    let mut keplr = draft(&chain, alice, vec![send(alice, &bob.address, 1)]);
    keplr.auth_info.signer_infos[0].public_key = None;
    let mut raw = keplr.signed(&[alice]);
    raw.signatures = vec![vec![0; 64]];
    assert!(chain.app.simulate(&raw.encode_to_vec()).is_ok());
    let error = chain
        .app
        .simulate(&tx(&chain, alice, vec![send(alice, &bob.address, u128::MAX)]))
        .unwrap_err();
    assert_eq!(error.code, sdk::INSUFFICIENT_FUNDS);
    assert!(chain.app.simulate(b"garbage").is_err());
}
