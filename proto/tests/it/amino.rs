//! What must hold for every message: a name that fits, no field lost, no second encoding, bounded length.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage};
use tenure_proto::{
    amino::{self, AminoError, SignDoc, MAX_NAME_BYTES},
    cosmos::tx::v1beta1::Fee,
    pool, Any,
};

use crate::samples::{changed, filled, messages, named, wrapped, Fill};

#[test]
fn every_message_of_a_transaction_has_a_name_of_its_own_that_ledger_can_show() {
    let mut names = BTreeSet::new();
    for service in pool().services().filter(|s| s.name() == "Msg") {
        let package = service.package_name().to_owned();
        for method in service.methods() {
            let input = method.input();
            let name = amino::name(&format!("/{}", input.full_name()));
            let name = name.unwrap_or_else(|| {
                panic!(
                    "{} has no (amino.name), or a field that amino JSON cannot write",
                    input.full_name()
                )
            });
            assert!(name.len() <= MAX_NAME_BYTES, "{name} is longer than {MAX_NAME_BYTES}");
            assert!(names.insert(name), "{name} is taken twice");
            if let Some(module) = package.strip_prefix("tenure.").and_then(|p| p.split('.').next()) {
                assert_eq!(name, format!("tenure/{module}/{}", input.name()));
            }
        }
    }
    assert_eq!(
        names.len(),
        named().len(),
        "a message that stands in no transaction has a name"
    );
}

/// Every field of a message and of the messages in it is changed and cleared in turn: what encodes differently is written differently.
#[test]
fn no_field_is_lost() {
    for message in named() {
        let mut seen = BTreeMap::new();
        let mut check = |variant: &DynamicMessage, what: &str| {
            let Ok(json) = amino::message_json(&wrapped(variant)) else {
                return;
            };
            let encoded = variant.encode_to_vec();
            let before = seen.entry(json).or_insert_with(|| encoded.clone());
            assert_eq!(*before, encoded, "{}: {what} and nobody sees it", message.full_name());
        };
        for fill in [Fill::Counting, Fill::Odd] {
            let original = filled(&message, fill, &mut 0);
            check(&original, "filled");
            for field in message.fields() {
                let mut other = original.clone();
                other.set_field(&field, changed(&field, &original.get_field(&field)));
                check(&other, &format!("{} changed", field.name()));
                other.clear_field(&field);
                check(&other, &format!("{} cleared", field.name()));
            }
        }
        let changes = seen.len();
        assert!(
            changes > 2 * message.fields().len(),
            "{}: {changes} seen",
            message.full_name()
        );
    }
}

#[test]
fn what_has_no_name_or_two_encodings_has_no_document() {
    let message = messages().remove(1);
    let with = |value: &[u8]| {
        amino::message_json(&Any {
            type_url: message.type_url.clone(),
            value: value.to_vec(),
        })
    };
    assert!(with(&message.value).is_ok());
    // Field 99, varint 1.
    let unknown = [message.value.as_slice(), &[0x98, 0x06, 1]].concat();
    assert!(matches!(with(&unknown), Err(AminoError::NotCanonical(_))));
    // The first field twice: the last one counts, the first is not shown.
    let twice = [message.value.as_slice(), message.value.as_slice()].concat();
    assert!(matches!(with(&twice), Err(AminoError::NotCanonical(_))));
    assert!(matches!(with(&[0xff]), Err(AminoError::Decode { .. })));
    for url in [
        "",
        "/",
        "tenure.market.v1.MsgPostBid",
        "/tenure.market.v1.Bid",
        "/cosmos.tx.v1beta1.TxBody",
        "/nobody.knows",
    ] {
        let any = Any {
            type_url: url.to_owned(),
            value: Vec::new(),
        };
        assert!(
            matches!(amino::message_json(&any), Err(AminoError::NoName(_))),
            "{url:?}"
        );
    }
}

/// An unknown field inside an inner message is as invisible as one outside.
#[test]
fn unknown_fields_of_inner_messages_are_refused() {
    let bid = pool()
        .get_message_by_name("tenure.market.v1.MsgPostBid")
        .expect("known");
    let mut value = DynamicMessage::new(bid).encode_to_vec();
    // Field 2 (resources): 3 bytes, field 99, varint 1.
    value.extend_from_slice(&[0x12, 3, 0x98, 0x06, 1]);
    let any = Any {
        type_url: "/tenure.market.v1.MsgPostBid".to_owned(),
        value,
    };
    assert!(matches!(amino::message_json(&any), Err(AminoError::NotCanonical(_))));
}

#[test]
fn messages_are_told_apart_from_each_other() {
    let mut seen = BTreeSet::new();
    for message in named() {
        let empty = DynamicMessage::new(message);
        let json = amino::message_json(&wrapped(&empty)).expect("representable");
        assert!(seen.insert(json), "{}", empty.descriptor().full_name());
    }
}

proptest! {
    /// Whatever bytes come: no panic, and if there is a document it is JSON, bounded, and only of the bytes that the message encodes to.
    #[test]
    fn any_bytes_give_a_bounded_document_or_an_error(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let all = messages();
        let mut message = all[pick.index(all.len())].clone();
        for (at, byte) in edits {
            if !message.value.is_empty() {
                let at = at.index(message.value.len());
                message.value[at] = byte;
            }
        }
        message.value.extend_from_slice(&tail);
        let document = SignDoc {
            chain_id: "c",
            account_number: 0,
            sequence: 0,
            timeout_height: 0,
            fee: &Fee::default(),
            memo: "",
            messages: std::slice::from_ref(&message),
        };
        if let Ok(bytes) = document.bytes() {
            prop_assert!(bytes.len() <= 8 * message.value.len() + 512, "{} from {}", bytes.len(), message.value.len());
            let json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            prop_assert!(json["msgs"][0]["value"].is_object());
            let descriptor = pool().get_message_by_name(&message.type_url[1..]).expect("known");
            let decoded = DynamicMessage::decode(descriptor, message.value.as_slice()).expect("decodes");
            prop_assert_eq!(decoded.encode_to_vec(), message.value);
        }
    }
}
