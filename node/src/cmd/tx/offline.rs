//! Signing where there is no node: what must be given then, and the signed transaction as a file that another machine sends.
//!
//! The file is the JSON that Cosmos' `tx sign` writes. The signature is over bytes that the file does not hold, so what is written is read back and encoded
//! again before it is given out: a transaction that its own file does not give back to the byte is never written.

use std::io::Read as _;

use anyhow::{bail, ensure, Context, Result};
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde_json::Value;
use tenure_client::tx::SignedTx;
use tenure_proto::cosmos::tx::v1beta1::{Tx, TxRaw};

use super::{payment_at, SendArgs};
use crate::client_config::ClientConfig;
use crate::cmd::query::json_of;

/// Longest file that is read, bytes: the longest transaction of the chain as JSON, many times over.
const MAX_FILE: u64 = 16 << 20;

/// What a node would have told.
pub(super) struct Given {
    pub(super) chain_id: String,
    pub(super) account_number: u64,
    pub(super) sequence: u64,
    pub(super) gas: u64,
    pub(super) fee: u128,
}

impl Given {
    /// Error: names every flag that is missing.
    pub(super) fn of(send: &SendArgs, config: &ClientConfig) -> Result<Self> {
        let chain_id = send.chain_id.clone().unwrap_or_else(|| config.chain_id.clone());
        let missing = [
            ("--account-number", send.account_number.is_none()),
            ("--sequence", send.sequence.is_none()),
            ("--chain-id", chain_id.is_empty()),
            ("--gas <number>", send.gas == "auto"),
            (
                "--fees or --gas-prices",
                send.fees.is_none() && send.gas_prices.is_none(),
            ),
        ];
        let missing: Vec<&str> = missing
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(flag, _)| flag)
            .collect();
        let (Some(account_number), Some(sequence), true) = (send.account_number, send.sequence, missing.is_empty())
        else {
            bail!(
                "--offline asks no node, so it needs {} too. `tenured query auth account-info <address>` tells number and sequence where there is \
                 a node",
                missing.join(", ")
            );
        };
        let gas = send
            .gas
            .parse()
            .with_context(|| format!("--gas is {:?}, must be a number with --offline", send.gas))?;
        Ok(Self {
            chain_id,
            account_number,
            sequence,
            gas,
            // Without a price the check above has refused; the chain's own is not known here.
            fee: payment_at(send, 0, gas)?,
        })
    }
}

fn descriptor() -> Result<MessageDescriptor> {
    let found = tenure_proto::pool().get_message_by_name("cosmos.tx.v1beta1.Tx");
    found.context("cosmos.tx.v1beta1.Tx is not among this binary's descriptors")
}

/// The transaction as JSON.
pub(super) fn document(signed: &SignedTx) -> Result<Value> {
    // TxRaw and Tx are the same on the wire, but for how far they are decoded.
    let message = DynamicMessage::decode(descriptor()?, signed.bytes.as_slice())?;
    let document = json_of(&message)?;
    let back = parse(document.clone())?;
    ensure!(
        back.bytes == signed.bytes,
        "this transaction cannot be written as JSON: its bytes would change, and the signature with them"
    );
    Ok(document)
}

/// Reads what [`document`] wrote. `-` is standard input.
pub(super) fn read(file: &str) -> Result<SignedTx> {
    let mut text = String::new();
    let source: Box<dyn std::io::Read> = match file {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(std::fs::File::open(path).with_context(|| format!("cannot read {path}"))?),
    };
    source
        .take(MAX_FILE)
        .read_to_string(&mut text)
        .with_context(|| file.to_owned())?;
    let document = serde_json::from_str(&text).with_context(|| format!("{file} is not JSON"))?;
    let signed = parse(document).with_context(|| file.to_owned())?;
    ensure!(
        TxRaw::decode(signed.bytes.as_slice())?
            .signatures
            .iter()
            .any(|s| !s.is_empty()),
        "{file} has no signature: `--offline` writes signed transactions, `--generate-only` does not"
    );
    Ok(signed)
}

fn parse(document: Value) -> Result<SignedTx> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(descriptor()?, document, &options)
        .context("it is not a transaction of this chain")?;
    let tx = Tx::decode(message.encode_to_vec().as_slice())?;
    let raw = TxRaw {
        body_bytes: tx.body.unwrap_or_default().encode_to_vec(),
        auth_info_bytes: tx.auth_info.unwrap_or_default().encode_to_vec(),
        signatures: tx.signatures,
    };
    Ok(SignedTx::from_bytes(raw.encode_to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_client::keys::Key;
    use tenure_client::tx::{Draft, Signer};
    use tenure_proto::cosmos::bank::v1beta1::MsgSend;
    use tenure_proto::cosmos::base::v1beta1::Coin;

    #[test]
    fn a_file_gives_back_the_bytes_that_were_signed() -> Result<()> {
        let key = Key::random();
        let send = MsgSend {
            from_address: key.address().to_string(),
            to_address: key.address().to_string(),
            amount: vec![Coin {
                denom: "uten".to_owned(),
                amount: "5".to_owned(),
            }],
        };
        for (memo, timeout, sequence) in [("", 0, 0), ("<b> \"é\" 𝄞", u64::MAX, u64::MAX)] {
            let signer = Signer::new(&key, sequence);
            let draft = Draft::new(vec![tenure_proto::any(&send)], memo, timeout, &[signer], 7, 0);
            let signature = draft.sign(&key, "tenure-1", 3);
            let signed = draft.assemble(vec![signature]);
            let document = document(&signed)?;
            assert_eq!(document["body"]["messages"][0]["@type"], "/cosmos.bank.v1beta1.MsgSend");
            assert_eq!(parse(document)?, signed);
        }
        Ok(())
    }

    #[test]
    fn what_is_no_signed_transaction_is_refused() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("tx.json");
        for (text, word) in [
            ("[", "not JSON"),
            ("{\"bodyy\": {}}", "not a transaction"),
            ("{\"body\": {}, \"auth_info\": {}, \"signatures\": []}", "no signature"),
        ] {
            std::fs::write(&file, text)?;
            let error = read(file.to_str().context("path")?).expect_err(text);
            assert!(format!("{error:#}").contains(word), "{error:#}");
        }
        Ok(())
    }
}
