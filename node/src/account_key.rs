//! A secp256k1 account key in a file, and transactions signed by it: what the faucet needs.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use k256::ecdsa::signature::Signer;
use k256::ecdsa::{Signature, SigningKey};
use prost::Message;
use rand_core::OsRng;
use serde_json::{json, Value};
use tenure_proto::cosmos::base::v1beta1::Coin;
use tenure_proto::cosmos::crypto::secp256k1::PubKey;
use tenure_proto::cosmos::tx::signing::v1beta1::SignMode;
use tenure_proto::cosmos::tx::v1beta1::mode_info::{Single, Sum};
use tenure_proto::cosmos::tx::v1beta1::{AuthInfo, Fee, ModeInfo, SignDoc, SignerInfo, TxBody, TxRaw};
use tenure_proto::Any;
use tenure_types::Address;

use crate::home::create_file;

const PRIVATE: &str = "/cosmos.crypto.secp256k1.PrivKey";
const PUBLIC: &str = "/cosmos.crypto.secp256k1.PubKey";

/// A key.
pub struct AccountKey(SigningKey);

impl AccountKey {
    /// A new random key.
    pub fn random() -> Self {
        Self(SigningKey::random(&mut OsRng))
    }

    /// Writes the key into a new file that only the owner may read. Error: the file exists or cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let document = json!({
            "address": self.address().to_string(),
            "pub_key": { "@type": PUBLIC, "key": BASE64.encode(self.public()) },
            "priv_key": { "@type": PRIVATE, "key": BASE64.encode(self.0.to_bytes()) },
        });
        create_file(path, format!("{document:#}\n").as_bytes(), 0o600)
    }

    /// Reads what [`AccountKey::save`] wrote. Error: names the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&fs::read(path).context("cannot read it")?).with_context(|| format!("key file {}", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let document: Value = serde_json::from_slice(bytes).context("it is not JSON")?;
        let private = &document["priv_key"];
        ensure!(
            private["@type"] == PRIVATE,
            "priv_key.@type is {}, must be {PRIVATE:?}",
            private["@type"]
        );
        let bytes = BASE64
            .decode(private["key"].as_str().unwrap_or_default())
            .context("priv_key.key is not base64")?;
        let key = Self(
            SigningKey::from_slice(&bytes)
                .ok()
                .context("priv_key.key is not a secp256k1 key")?,
        );
        let address = key.address().to_string();
        ensure!(
            document["address"] == address,
            "address is {}, but the key has {address:?}",
            document["address"]
        );
        Ok(key)
    }

    /// The compressed public key, 33 bytes.
    pub fn public(&self) -> Vec<u8> {
        self.0.verifying_key().to_encoded_point(true).as_bytes().to_vec()
    }

    /// The account.
    pub fn address(&self) -> Address {
        Address::of_secp256k1(&self.public())
    }

    /// An encoded `TxRaw` with one signature, SIGN_MODE_DIRECT.
    pub fn sign_tx(
        &self,
        chain_id: &str,
        account_number: u64,
        sequence: u64,
        messages: &[Any],
        fee: Coin,
        gas_limit: u64,
    ) -> Vec<u8> {
        let body_bytes = TxBody {
            messages: messages.to_vec(),
            ..Default::default()
        }
        .encode_to_vec();
        let signer = SignerInfo {
            public_key: Some(tenure_proto::any(&PubKey { key: self.public() })),
            mode_info: Some(ModeInfo {
                sum: Some(Sum::Single(Single {
                    mode: SignMode::Direct as i32,
                })),
            }),
            sequence,
        };
        let fee = Fee {
            amount: vec![fee],
            gas_limit,
            ..Default::default()
        };
        let auth_info_bytes = AuthInfo {
            signer_infos: vec![signer],
            fee: Some(fee),
            ..Default::default()
        }
        .encode_to_vec();
        let document = SignDoc {
            body_bytes: body_bytes.clone(),
            auth_info_bytes: auth_info_bytes.clone(),
            chain_id: chain_id.to_owned(),
            account_number,
        };
        // Hashes with SHA-256 and gives low S, as the chain asks.
        let signature: Signature = self.0.sign(&document.encode_to_vec());
        TxRaw {
            body_bytes,
            auth_info_bytes,
            signatures: vec![signature.to_bytes().to_vec()],
        }
        .encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_file_and_damage_is_named() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("key.json");
        let made = AccountKey::random();
        made.save(&path)?;
        assert_eq!(AccountKey::load(&path)?.address(), made.address());
        assert!(made.save(&path).is_err());
        for (from, to, word) in [
            ("secp256k1.PrivKey", "ed25519.PrivKey", "priv_key.@type"),
            ("tenure1", "tenure2", "but the key has"),
            ("{", "[", "not JSON"),
        ] {
            let text = fs::read_to_string(&path)?.replace(from, to);
            let error = format!("{:#}", AccountKey::parse(text.as_bytes()).err().context("refused")?);
            assert!(error.contains(word), "{error}");
        }
        Ok(())
    }
}
