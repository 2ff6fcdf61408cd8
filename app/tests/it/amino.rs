//! SIGN_MODE_LEGACY_AMINO_JSON: what a Ledger signs is executed, and only in the one form that was signed.

use prost::Message;
use tenure_proto::{
    amino::SignDoc,
    any,
    cosmos::tx::{
        signing::v1beta1::SignMode,
        v1beta1::{mode_info, ModeInfo, TxRaw},
    },
    tenure::{
        base::v1::Resources,
        market::v1::{MsgAmendLease, MsgPostBid},
    },
};
use tenure_types::sdk;

use crate::{
    chain::Chain,
    world::{coin, draft, send, Draft, Person, World},
};

fn chain() -> (Chain, World) {
    let world = World::new(1);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    (chain, world)
}

pub(crate) fn use_amino(draft: &mut Draft, signer: usize) {
    let single = mode_info::Single {
        mode: SignMode::LegacyAminoJson.into(),
    };
    draft.auth_info.signer_infos[signer].mode_info = Some(ModeInfo {
        sum: Some(mode_info::Sum::Single(single)),
    });
}

/// A signer's signature over its amino JSON document.
fn sign(draft: &Draft, person: &Person, signer: usize) -> Vec<u8> {
    let document = SignDoc {
        chain_id: &draft.chain_id,
        account_number: draft.account_numbers[signer],
        sequence: draft.auth_info.signer_infos[signer].sequence,
        timeout_height: draft.body.timeout_height,
        fee: draft.auth_info.fee.as_ref().unwrap(),
        memo: &draft.body.memo,
        messages: &draft.body.messages,
    };
    person.sign(&document.bytes().unwrap())
}

fn signed(mut draft: Draft, person: &Person) -> TxRaw {
    use_amino(&mut draft, 0);
    TxRaw {
        body_bytes: draft.body.encode_to_vec(),
        auth_info_bytes: draft.auth_info.encode_to_vec(),
        signatures: vec![sign(&draft, person, 0)],
    }
}

#[test]
fn transfers_and_bids_signed_in_amino_json_are_executed() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let mut transfer = draft(&chain, alice, vec![send(alice, &bob.address, 7)]);
    transfer.body.memo = "<rent> & \"lease\" \u{2028}".to_owned();
    transfer.body.timeout_height = 1_000;
    let bid = MsgPostBid {
        tenant: bob.address.to_string(),
        resources: Some(Resources {
            cpu_milli: 500,
            memory_bytes: 1 << 26,
            storage_bytes: 0,
        }),
        max_rate: 3_600_000,
        duration_ms: 60_000,
        deposit: Some(coin("uten", 1_000_000)),
        manifest_hash: vec![0xfb; 32],
        claim_window: None,
        expiry: None,
        auto_top_up: None,
    };
    let bid = draft(&chain, bob, vec![any(&bid)]);
    for (what, tx) in [("transfer", signed(transfer, alice)), ("bid", signed(bid, bob))] {
        let result = chain.deliver(tx.encode_to_vec());
        assert_eq!((result.code, result.log.as_str()), (0, ""), "{what}");
    }
}

#[test]
fn one_signer_may_use_a_ledger_and_the_other_not() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let (a, b) = (alice.account(&chain).unwrap(), bob.account(&chain).unwrap());
    let amend = MsgAmendLease {
        tenant: alice.address.to_string(),
        provider: bob.address.to_string(),
        lease_id: 9,
        rate: 1,
    };
    let mut draft = Draft::new(vec![any(&amend)], &[(alice, a.0, a.1), (bob, b.0, b.1)]);
    use_amino(&mut draft, 1);
    let mut raw = draft.signed(&[alice, bob]);
    let result = chain.deliver(raw.encode_to_vec());
    assert!(result.log.contains("signature verification failed"), "{}", result.log);
    raw.signatures[1] = sign(&draft, bob, 1);
    let result = chain.deliver(raw.encode_to_vec());
    // Past the signatures: the lease does not exist.
    assert_eq!(result.codespace, "market", "{}", result.log);
}

/// Nobody who relays a transaction can turn it into another that the signature covers too.
#[test]
fn only_the_form_that_wallets_write_is_taken() {
    let (chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let mut good = draft(&chain, alice, vec![send(alice, &bob.address, 7)]);
    good.body.memo = "memo".to_owned();
    let raw = signed(good.clone(), alice);
    let check = |raw: &TxRaw| {
        let result = chain.finalize(2_000, &[raw.encode_to_vec()]).tx_results.remove(0);
        (result.code, result.log)
    };
    assert_eq!(check(&raw).0, 0);

    // The memo before the messages.
    let messages = tenure_proto::cosmos::tx::v1beta1::TxBody {
        memo: String::new(),
        ..good.body.clone()
    };
    let memo = tenure_proto::cosmos::tx::v1beta1::TxBody {
        messages: Vec::new(),
        ..good.body.clone()
    };
    let mut reordered = raw.clone();
    reordered.body_bytes = [memo.encode_to_vec(), messages.encode_to_vec()].concat();
    let (code, log) = check(&reordered);
    assert_eq!(code, sdk::TX_DECODE);
    assert!(log.contains("TxBody is absent or not in canonical encoding"), "{log}");

    // A field of the message written twice: the last one counts.
    let mut twice = good.clone();
    let doubled = twice.body.messages[0].value.clone();
    // Field 1 (from_address), as it stands at the beginning.
    let first = 2 + usize::from(doubled[1]);
    twice.body.messages[0].value = [&doubled[..first], &doubled[..]].concat();
    let mut twice_raw = raw.clone();
    twice_raw.body_bytes = twice.body.encode_to_vec();
    let (code, log) = check(&twice_raw);
    assert_eq!(code, sdk::TX_DECODE);
    assert!(
        log.contains("MsgSend has unknown fields or is not in canonical encoding"),
        "{log}"
    );

    // The key left away, which the chain would know after the first transaction.
    let mut keyless = good.clone();
    use_amino(&mut keyless, 0);
    keyless.auth_info.signer_infos[0].public_key = None;
    let mut keyless_raw = raw.clone();
    keyless_raw.auth_info_bytes = keyless.auth_info.encode_to_vec();
    let (code, log) = check(&keyless_raw);
    assert_ne!(code, 0, "{log}");

    // Everything that the document says is covered by the signature.
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Draft));
    let changes: [Change<'_>; 6] = [
        ("memo", &|d| d.body.memo = "other".to_owned()),
        ("timeout height", &|d| d.body.timeout_height = 900),
        ("amount", &|d| d.body.messages = vec![send(alice, &bob.address, 8)]),
        ("recipient", &|d| d.body.messages = vec![send(alice, &alice.address, 7)]),
        ("gas", &|d| d.fee().gas_limit -= 1),
        ("fee", &|d| d.fee().amount[0].amount.push('0')),
    ];
    for (what, change) in changes {
        let mut other = good.clone();
        change(&mut other);
        use_amino(&mut other, 0);
        let forged = TxRaw {
            body_bytes: other.body.encode_to_vec(),
            auth_info_bytes: other.auth_info.encode_to_vec(),
            signatures: raw.signatures.clone(),
        };
        let (code, log) = check(&forged);
        assert_eq!(code, sdk::UNAUTHORIZED, "{what}: {log}");
    }
}

/// The chain knows the key already; the transaction must show it all the same.
#[test]
fn a_known_key_must_be_shown() {
    let (mut chain, world) = chain();
    let [alice, bob] = [&world.people[0], &world.people[1]];
    let first = signed(draft(&chain, alice, vec![send(alice, &bob.address, 1)]), alice);
    assert_eq!(chain.deliver(first.encode_to_vec()).code, 0);
    let mut second = draft(&chain, alice, vec![send(alice, &bob.address, 1)]);
    use_amino(&mut second, 0);
    let signature = sign(&second, alice, 0);
    second.auth_info.signer_infos[0].public_key = None;
    let raw = TxRaw {
        body_bytes: second.body.encode_to_vec(),
        auth_info_bytes: second.auth_info.encode_to_vec(),
        signatures: vec![signature],
    };
    let result = chain.deliver(raw.encode_to_vec());
    assert_eq!(result.code, sdk::TX_DECODE);
    assert!(result.log.contains("public_key is absent"), "{}", result.log);
}
