//! The JSON of messages, against what a Cosmos SDK gateway writes.

use proptest::prelude::*;
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{json, Value};
use tenure_proto::cosmos::auth::v1beta1::{BaseAccount, ModuleAccount, QueryAccountResponse};
use tenure_proto::cosmos::bank::v1beta1::MsgSend;
use tenure_proto::cosmos::base::node::v1beta1::StatusResponse;
use tenure_proto::cosmos::base::v1beta1::Coin;
use tenure_proto::cosmos::crypto::secp256k1;
use tenure_proto::cosmos::tx::v1beta1::mode_info::{Single, Sum};
use tenure_proto::cosmos::tx::v1beta1::*;
use tenure_proto::{any as wrapped, Any};
use tenure_rest::json::{render, RenderError};

fn dynamic<M: Message + prost::Name>(message: &M) -> DynamicMessage {
    let kind = tenure_proto::pool()
        .get_message_by_name(&M::full_name())
        .expect("known");
    DynamicMessage::decode(kind, message.encode_to_vec().as_slice()).expect("decodes")
}

fn shown<M: Message + prost::Name>(message: &M) -> Value {
    let bytes = render(&dynamic(message), 1 << 20).expect("renders");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn a_transaction_looks_as_on_any_cosmos_chain() {
    let send = MsgSend {
        from_address: "a".into(),
        to_address: "b".into(),
        amount: vec![Coin {
            denom: "uten".into(),
            amount: "5".into(),
        }],
    };
    let tx = Tx {
        body: Some(TxBody {
            messages: vec![wrapped(&send)],
            memo: "quote \" and \u{1}".into(),
            timeout_height: u64::MAX,
            ..TxBody::default()
        }),
        auth_info: Some(AuthInfo {
            signer_infos: vec![SignerInfo {
                public_key: Some(wrapped(&secp256k1::PubKey { key: vec![2; 3] })),
                mode_info: Some(ModeInfo {
                    sum: Some(Sum::Single(Single { mode: 127 })),
                }),
                sequence: 3,
            }],
            fee: Some(Fee::default()),
            ..AuthInfo::default()
        }),
        signatures: vec![vec![0xff, 0xfe], vec![]],
    };
    let expected = json!({
        "body": {
            "messages": [{
                "@type": "/cosmos.bank.v1beta1.MsgSend", "from_address": "a", "to_address": "b",
                "amount": [{ "denom": "uten", "amount": "5" }],
            }],
            "memo": "quote \" and \u{1}", "timeout_height": "18446744073709551615",
            "extension_options": [], "non_critical_extension_options": [],
        },
        "auth_info": {
            "signer_infos": [{
                "public_key": { "@type": "/cosmos.crypto.secp256k1.PubKey", "key": "AgIC" },
                "mode_info": { "single": { "mode": "SIGN_MODE_LEGACY_AMINO_JSON" } },
                "sequence": "3",
            }],
            "fee": { "amount": [], "gas_limit": "0", "payer": "", "granter": "" },
            "tip": null,
        },
        "signatures": ["//4=", ""],
    });
    assert_eq!(shown(&tx), expected);
}

#[test]
fn absent_messages_and_empty_bytes_are_null_and_times_are_text() {
    let status = StatusResponse {
        timestamp: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 5_000_000,
        }),
        height: 7,
        ..StatusResponse::default()
    };
    let expected = json!({
        "earliest_store_height": "0", "height": "7", "timestamp": "2023-11-14T22:13:20.005Z", "app_hash": null,
        "validator_hash": null,
    });
    assert_eq!(shown(&status), expected);
    assert_eq!(shown(&StatusResponse::default())["timestamp"], Value::Null);
    // CometBFT's zero time, in the commits of absent validators.
    let zero = StatusResponse {
        timestamp: Some(prost_types::Timestamp {
            seconds: -62_135_596_800,
            nanos: 0,
        }),
        ..StatusResponse::default()
    };
    assert_eq!(shown(&zero)["timestamp"], "0001-01-01T00:00:00Z");
    let nonsense = StatusResponse {
        timestamp: Some(prost_types::Timestamp {
            seconds: i64::MIN,
            nanos: -1,
        }),
        ..StatusResponse::default()
    };
    assert_eq!(shown(&nonsense)["timestamp"], Value::Null);
}

#[test]
fn accounts_are_opened_and_unknown_messages_keep_their_bytes() {
    let module = ModuleAccount {
        base_account: Some(BaseAccount {
            address: "x".into(),
            account_number: 9,
            ..BaseAccount::default()
        }),
        name: "escrow".into(),
        permissions: vec![],
    };
    let response = QueryAccountResponse {
        account: Some(wrapped(&module)),
    };
    let expected = json!({ "account": {
        "@type": "/cosmos.auth.v1beta1.ModuleAccount",
        "base_account": { "address": "x", "pub_key": null, "account_number": "9", "sequence": "0" },
        "name": "escrow", "permissions": [],
    }});
    assert_eq!(shown(&response), expected);
    for type_url in ["/no.Such", "", "/"] {
        let account = Some(Any {
            type_url: type_url.to_owned(),
            value: vec![1, 2, 3],
        });
        let shown = shown(&QueryAccountResponse { account });
        assert_eq!(shown["account"], json!({ "@type": type_url, "value": "AQID" }));
    }
}

#[test]
fn any_in_any_is_opened_only_so_often() {
    let mut inner = wrapped(&TxBody::default());
    for _ in 0..2_000 {
        inner = wrapped(&TxBody {
            messages: vec![inner],
            ..TxBody::default()
        });
    }
    let shown = shown(&QueryAccountResponse { account: Some(inner) });
    let mut depth = 0;
    let mut at = &shown["account"];
    while at["messages"].is_array() {
        at = &at["messages"][0];
        depth += 1;
    }
    assert_eq!(depth, 16);
    assert!(at["value"].is_string());
}

#[test]
fn json_much_longer_than_its_message_is_refused() {
    let signers = AuthInfo {
        signer_infos: vec![SignerInfo::default(); 10_000],
        ..AuthInfo::default()
    };
    assert!(signers.encoded_len() < 30_000);
    let refused = render(&dynamic(&signers), 100_000);
    assert!(matches!(refused, Err(RenderError::TooLong(100_000))), "{refused:?}");
}

prop_compose! {
    fn coins()(denom in ".{0,8}", amount in "[0-9]{0,4}") -> Coin { Coin { denom, amount } }
}

fn txs() -> impl Strategy<Value = Tx> {
    let send =
        (".{0,9}", ".{0,9}", prop::collection::vec(coins(), 0..3)).prop_map(|(from_address, to_address, amount)| {
            wrapped(&MsgSend {
                from_address,
                to_address,
                amount,
            })
        });
    let signer =
        (any::<u64>(), prop::option::of(any::<[u8; 5]>()), 0..4_i32).prop_map(|(sequence, key, mode)| SignerInfo {
            public_key: key.map(|key| wrapped(&secp256k1::PubKey { key: key.to_vec() })),
            mode_info: Some(ModeInfo {
                sum: (mode > 0).then_some(Sum::Single(Single { mode })),
            }),
            sequence,
        });
    (
        prop::collection::vec(send, 0..3),
        ".{0,20}",
        any::<u64>(),
        prop::collection::vec(signer, 0..3),
        prop::option::of((any::<u64>(), prop::collection::vec(coins(), 0..3))),
        any::<Vec<Vec<u8>>>(),
    )
        .prop_map(|(messages, memo, timeout_height, signer_infos, fee, signatures)| Tx {
            body: Some(TxBody {
                messages,
                memo,
                timeout_height,
                ..TxBody::default()
            }),
            auth_info: Some(AuthInfo {
                signer_infos,
                fee: fee.map(|(gas_limit, amount)| Fee {
                    amount,
                    gas_limit,
                    ..Fee::default()
                }),
                ..AuthInfo::default()
            }),
            signatures,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Read by a parser that is not ours: nothing is lost and nothing is invented.
    #[test]
    fn json_reads_back_as_the_same_message(tx in txs()) {
        let kind = tenure_proto::pool().get_message_by_name("cosmos.tx.v1beta1.Tx").expect("known");
        let json = render(&dynamic(&tx), 1 << 20).expect("renders");
        let mut reader = serde_json::Deserializer::from_slice(&json);
        let back = DynamicMessage::deserialize(kind, &mut reader).expect("reads back");
        prop_assert_eq!(Tx::decode(back.encode_to_vec().as_slice()).expect("decodes"), tx);
    }
}
