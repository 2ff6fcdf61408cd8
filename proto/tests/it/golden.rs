//! Documents made by the Cosmos SDK's own encoder: `tests/amino-oracle`.

use prost::Message;
use serde_json::{json, Value};
use tenure_proto::{
    amino::{self, SignDoc},
    cosmos::{
        base::v1beta1::Coin,
        tx::v1beta1::{AuthInfo, Fee, TxBody},
    },
    Any, FILE_DESCRIPTOR_SET,
};

use crate::samples;

const GOLDEN: &str = include_str!("../golden/amino.json");

struct Document {
    body: TxBody,
    fee: Fee,
    chain_id: &'static str,
    account_number: u64,
    sequence: u64,
}

impl Document {
    fn bytes(&self) -> Vec<u8> {
        SignDoc {
            chain_id: self.chain_id,
            account_number: self.account_number,
            sequence: self.sequence,
            timeout_height: self.body.timeout_height,
            fee: &self.fee,
            memo: &self.body.memo,
            messages: &self.body.messages,
        }
        .bytes()
        .expect("representable")
    }

    fn inputs(&self) -> Value {
        let auth_info = AuthInfo {
            fee: Some(self.fee.clone()),
            ..Default::default()
        };
        json!({
            "body": hex(&self.body.encode_to_vec()),
            "auth_info": hex(&auth_info.encode_to_vec()),
            "chain_id": self.chain_id,
            "account_number": self.account_number,
            "sequence": self.sequence,
        })
    }
}

fn documents() -> Vec<Document> {
    let messages = samples::messages();
    let coin = |amount: &str, denom: &str| Coin {
        denom: denom.to_owned(),
        amount: amount.to_owned(),
    };
    let body = |messages: Vec<Any>, memo: &str, timeout_height| TxBody {
        messages,
        memo: memo.to_owned(),
        timeout_height,
        ..Default::default()
    };
    vec![
        Document {
            body: body(messages[..1].to_vec(), "", 0),
            fee: Fee::default(),
            chain_id: "tenure-1",
            account_number: 0,
            sequence: 0,
        },
        Document {
            body: body(messages.clone(), "<b>rent & \"lease\"</b>\n\u{2028}é", 77),
            fee: Fee {
                amount: vec![coin("25", "uten"), coin("7", "uusd")],
                gas_limit: u64::MAX,
                payer: "tenure1payer".to_owned(),
                granter: "tenure1granter".to_owned(),
            },
            chain_id: "tenure-<1>",
            account_number: u64::MAX,
            sequence: 9,
        },
        Document {
            body: body(messages[1..3].to_vec(), "memo", u64::MAX),
            fee: Fee {
                amount: vec![coin("1", "")],
                gas_limit: 200_000,
                payer: "tenure1payer".to_owned(),
                granter: String::new(),
            },
            chain_id: "",
            account_number: 3,
            sequence: u64::MAX,
        },
    ]
}

fn inputs() -> Value {
    let messages: Vec<_> = samples::messages()
        .iter()
        .map(|m| json!({"type_url": m.type_url, "value": hex(&m.value)}))
        .collect();
    let documents: Vec<_> = documents().iter().map(Document::inputs).collect();
    json!({"messages": messages, "documents": documents})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn every_message_and_document_is_written_as_the_cosmos_sdk_writes_it() {
    let golden: Value = serde_json::from_str(GOLDEN).expect("JSON");
    let expected = |list: &str, i: usize| golden[list][i]["json"].as_str().map(str::to_owned);
    let stale = "a message was added or changed: run proto/tests/amino-oracle/run";
    let mut asked = golden.clone();
    for list in ["messages", "documents"] {
        for entry in asked[list].as_array_mut().expect("a list") {
            entry.as_object_mut().expect("an object").remove("json");
        }
    }
    assert_eq!(asked, inputs(), "{stale}");
    for (i, message) in samples::messages().iter().enumerate() {
        let json = amino::message_json(message).expect("representable");
        assert_eq!(Some(json), expected("messages", i), "{}", message.type_url);
    }
    for (i, document) in documents().iter().enumerate() {
        let json = String::from_utf8(document.bytes()).expect("UTF-8");
        assert_eq!(Some(json), expected("documents", i), "document {i}");
    }
}

#[test]
#[ignore = "writes the oracle's input: proto/tests/amino-oracle/run"]
fn write_samples() {
    let dir = std::path::PathBuf::from(std::env::var_os("AMINO_SAMPLES").expect("AMINO_SAMPLES names a folder"));
    std::fs::write(dir.join("samples.json"), inputs().to_string()).expect("written");
    std::fs::write(dir.join("descriptors.bin"), FILE_DESCRIPTOR_SET).expect("written");
}
