//! Transactions as files: the JSON that Cosmos' `tx sign` and `--generate-only` write, and the bytes as base64.
//!
//! A signature is over bytes that the JSON does not hold, so what is written is read back and encoded again before it is given out: a transaction
//! that its own file does not give back to the byte is never written.

use std::io::Read as _;

use anyhow::{bail, ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde_json::Value;
use tenure_client::tx::SignedTx;
use tenure_proto::cosmos::tx::v1beta1::{Tx, TxRaw};

use super::sign;
use crate::cmd::query::json_of;

/// Longest file that is read, bytes: the longest transaction of the chain as JSON, many times over.
const MAX_FILE: u64 = 16 << 20;

fn descriptor() -> Result<MessageDescriptor> {
    let found = tenure_proto::pool().get_message_by_name("cosmos.tx.v1beta1.Tx");
    found.context("cosmos.tx.v1beta1.Tx is not among this binary's descriptors")
}

/// An encoded transaction, signed or not, as JSON. Error: it is none, or JSON would not give its bytes back.
pub(super) fn document(bytes: &[u8]) -> Result<Value> {
    // TxRaw and Tx are the same on the wire, but for how far they are decoded.
    let message = DynamicMessage::decode(descriptor()?, bytes).context("it is not a transaction of this chain")?;
    let document = json_of(&message).context("it is not a transaction of this chain")?;
    ensure!(
        encoded(&parse(document.clone())?) == bytes,
        "this transaction cannot be written as JSON: it has unknown fields or is not in canonical encoding, so its bytes would change, and what was \
         signed with them"
    );
    Ok(document)
}

/// The bytes that travel.
pub(super) fn encoded(tx: &Tx) -> Vec<u8> {
    let raw = TxRaw {
        body_bytes: tx.body.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default(),
        auth_info_bytes: tx
            .auth_info
            .as_ref()
            .map(prost::Message::encode_to_vec)
            .unwrap_or_default(),
        signatures: tx.signatures.clone(),
    };
    raw.encode_to_vec()
}

/// What a file holds. `-` is standard input.
fn text(file: &str) -> Result<String> {
    let source: Box<dyn std::io::Read> = match file {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(std::fs::File::open(path).with_context(|| format!("cannot read {path}"))?),
    };
    let mut text = String::new();
    let read = source.take(MAX_FILE + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read {file}"))?;
    ensure!(
        text.len() as u64 <= MAX_FILE,
        "{file} is longer than {MAX_FILE} bytes, which no transaction is"
    );
    Ok(text)
}

/// Reads the JSON of a transaction, signed or not.
pub(super) fn read(file: &str) -> Result<Tx> {
    let document = serde_json::from_str(&text(file)?).with_context(|| format!("{file} is not JSON"))?;
    parse(document).with_context(|| file.to_owned())
}

/// Reads the JSON of a transaction that everybody has signed, and the gas that it asks for. Error: names whoever has not.
pub(super) fn read_signed(file: &str) -> Result<(SignedTx, u64)> {
    let tx = read(file)?;
    ensure!(
        tx.signatures.iter().any(|signature| !signature.is_empty()),
        "{file} has no signature: `tenured tx sign {file} --from <key>` adds one"
    );
    for (index, signer) in sign::signers(&tx).with_context(|| file.to_owned())?.iter().enumerate() {
        ensure!(
            tx.signatures.get(index).is_some_and(|signature| !signature.is_empty()),
            "{signer} has not signed {file} yet: `tenured tx sign {file} --from <key>`"
        );
    }
    let fee = tx.auth_info.as_ref().and_then(|auth_info| auth_info.fee.as_ref());
    let gas = fee.map_or(0, |fee| fee.gas_limit);
    Ok((SignedTx::from_bytes(encoded(&tx)), gas))
}

/// A transaction's bytes as base64 or hex; `-` is standard input.
pub(super) fn bytes(given: &str, hexadecimal: bool) -> Result<Vec<u8>> {
    let given = if given == "-" { text(given)? } else { given.to_owned() };
    let given = given.trim();
    if hexadecimal {
        return hex::decode(given).context("the transaction must be hex digits with --hex");
    }
    match BASE64.decode(given) {
        Ok(bytes) => Ok(bytes),
        Err(_) if hex::decode(given).is_ok() => bail!("the transaction is hex: read it with --hex"),
        Err(error) => Err(error).context("the transaction must be base64, or hex digits with --hex"),
    }
}

fn parse(document: Value) -> Result<Tx> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(descriptor()?, document, &options)
        .context("it is not a transaction of this chain")?;
    Ok(Tx::decode(message.encode_to_vec().as_slice())?)
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
            let document = document(&signed.bytes)?;
            assert_eq!(document["body"]["messages"][0]["@type"], "/cosmos.bank.v1beta1.MsgSend");
            assert_eq!(encoded(&parse(document)?), signed.bytes);
            // Text on the way.
            let base64 = BASE64.encode(&signed.bytes);
            assert_eq!(bytes(&format!(" {base64}\n"), false)?, signed.bytes);
            assert_eq!(bytes(&hex::encode(&signed.bytes), true)?, signed.bytes);
            let error = bytes(&hex::encode_upper(&signed.bytes), false).map(drop);
            // An even number of hex digits may be base64 by chance; it is no transaction then.
            if let Err(error) = error {
                assert!(error.to_string().contains("--hex"), "{error}");
            }
        }
        Ok(())
    }

    #[test]
    fn bytes_that_json_would_change_are_not_written() -> Result<()> {
        // A field that no transaction has, and a body in an encoding of two that mean the same.
        let unknown = [0x78, 1];
        let long = [0x0a, 3, 0x12, 0x80 | 1, 0, b'm'];
        for bytes in [&unknown[..], &long] {
            let error = document(bytes).expect_err("its bytes would change");
            assert!(
                error.to_string().contains("canonical") || error.to_string().contains("not a transaction"),
                "{error:#}"
            );
        }
        assert!(document(&[0xff, 0xff]).is_err());
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
            let error = read_signed(file.to_str().context("path")?).expect_err(text);
            assert!(format!("{error:#}").contains(word), "{error:#}");
        }
        Ok(())
    }
}
