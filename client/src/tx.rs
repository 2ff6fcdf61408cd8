//! Transactions as bytes: body, fee, signers, signatures. No I/O.
//!
//! They are Cosmos SDK transactions. A transaction of one account goes through [`crate::sender::TxSender`] with `SIGN_MODE_DIRECT`; one that
//! needs several signatures is a [`Draft`] that each signer signs. `SIGN_MODE_LEGACY_AMINO_JSON` lets a signer sign before the other signers'
//! sequences are known: [`crate::amendment`].

use prost::Message;
use sha2::{Digest, Sha256};
use tenure_proto::{
    any,
    cosmos::{
        base::v1beta1::Coin,
        crypto::secp256k1::PubKey,
        tx::{
            signing::v1beta1::SignMode,
            v1beta1::{mode_info, AuthInfo, Fee, ModeInfo, SignDoc, SignerInfo, TxBody, TxRaw},
        },
    },
    Any,
};
use tenure_types::BASE_DENOM;

use crate::{keys::Key, Error, Result};

/// One signer of a transaction, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Compressed public key, 33 bytes; empty where only a simulation is asked for and nobody here has the key.
    pub public_key: Vec<u8>,
    /// Its account's next sequence.
    pub sequence: u64,
    /// How it signs: `Direct` or `LegacyAminoJson`.
    pub mode: SignMode,
}

impl Signer {
    /// The signer that has this key and signs with `SIGN_MODE_DIRECT`.
    pub fn new(key: &Key, sequence: u64) -> Self {
        Self {
            public_key: key.public_key().to_vec(),
            sequence,
            mode: SignMode::Direct,
        }
    }
}

/// A transaction that is complete but for its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Encoded `TxBody`.
    pub body_bytes: Vec<u8>,
    /// Encoded `AuthInfo`.
    pub auth_info_bytes: Vec<u8>,
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTx {
    /// Encoded `TxRaw`.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, upper-case hex: its name on the chain.
    pub hash: String,
}

impl Draft {
    /// A transaction of these messages. `signers` are in the order in which the messages name them; the first pays `fee`, base units.
    pub fn new(messages: Vec<Any>, memo: &str, timeout_height: u64, signers: &[Signer], gas: u64, fee: u128) -> Self {
        let body = TxBody {
            messages,
            memo: memo.to_owned(),
            timeout_height,
            ..Default::default()
        };
        let auth_info = AuthInfo {
            signer_infos: signers.iter().map(|s| signer_info(s, s.mode)).collect(),
            fee: Some(fee_of(gas, fee)),
            ..Default::default()
        };
        Self {
            body_bytes: body.encode_to_vec(),
            auth_info_bytes: auth_info.encode_to_vec(),
        }
    }

    /// One signer's signature over the chain's `SignDoc`.
    pub fn sign(&self, key: &Key, chain_id: &str, account_number: u64) -> [u8; 64] {
        let document = SignDoc {
            body_bytes: self.body_bytes.clone(),
            auth_info_bytes: self.auth_info_bytes.clone(),
            chain_id: chain_id.to_owned(),
            account_number,
        };
        key.sign(&document.encode_to_vec())
    }

    /// The transaction with its signatures, in the order of its signers.
    pub fn assemble(self, signatures: Vec<[u8; 64]>) -> SignedTx {
        let signatures = signatures.into_iter().map(|s| s.to_vec()).collect();
        let raw = TxRaw {
            body_bytes: self.body_bytes,
            auth_info_bytes: self.auth_info_bytes,
            signatures,
        };
        SignedTx::from_bytes(raw.encode_to_vec())
    }
}

impl SignedTx {
    /// A transaction that is encoded already.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            hash: hash(&bytes),
            bytes,
        }
    }
}

/// The bytes by which a node simulates these messages: no fee, an empty signature for each signer.
pub fn simulation(messages: Vec<Any>, memo: &str, signers: &[Signer]) -> Vec<u8> {
    let body = TxBody {
        messages,
        memo: memo.to_owned(),
        ..Default::default()
    };
    let auth_info = AuthInfo {
        signer_infos: signers.iter().map(|s| signer_info(s, SignMode::Unspecified)).collect(),
        fee: Some(Fee::default()),
        ..Default::default()
    };
    let signatures = signers.iter().map(|_| Vec::new()).collect();
    TxRaw {
        body_bytes: body.encode_to_vec(),
        auth_info_bytes: auth_info.encode_to_vec(),
        signatures,
    }
    .encode_to_vec()
}

fn signer_info(signer: &Signer, mode: SignMode) -> SignerInfo {
    let key = (!signer.public_key.is_empty()).then(|| PubKey {
        key: signer.public_key.clone(),
    });
    SignerInfo {
        public_key: key.as_ref().map(any),
        mode_info: Some(ModeInfo {
            sum: Some(mode_info::Sum::Single(mode_info::Single { mode: mode.into() })),
        }),
        sequence: signer.sequence,
    }
}

pub(crate) fn fee_of(gas: u64, fee: u128) -> Fee {
    // A coin of zero is malformed: no fee is an empty list.
    let amount = if fee == 0 {
        Vec::new()
    } else {
        vec![Coin {
            denom: BASE_DENOM.to_owned(),
            amount: fee.to_string(),
        }]
    };
    Fee {
        amount,
        gas_limit: gas,
        ..Default::default()
    }
}

/// The name of a transaction: SHA-256 of its bytes, upper-case hex.
pub fn hash(bytes: &[u8]) -> String {
    hex::encode_upper(Sha256::digest(bytes))
}

/// The fee of this much gas at a price in millionths of a base unit, rounded up.
pub fn fee(gas: u64, price_micro: u64) -> u128 {
    (u128::from(gas) * u128::from(price_micro)).div_ceil(1_000_000)
}

/// Gas to ask for: what simulation used times an adjustment in hundredths, rounded up. Error: it exceeds 2^64 - 1.
pub fn adjusted_gas(used: u64, adjustment_percent: u64) -> Result<u64> {
    let gas = (u128::from(used) * u128::from(adjustment_percent)).div_ceil(100);
    u64::try_from(gas).map_err(|_| Error::Malformed {
        what: "the node",
        detail: format!("gas_used {used} is too large"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::verify;

    #[test]
    fn fees_and_gas_round_up() {
        assert_eq!(fee(0, 5), 0);
        assert_eq!(fee(1, 1), 1);
        assert_eq!(fee(1_000_000, 25_000), 25_000);
        assert_eq!(
            fee(u64::MAX, u64::MAX),
            (u128::from(u64::MAX) * u128::from(u64::MAX)).div_ceil(1_000_000)
        );
        assert_eq!(adjusted_gas(101, 130).expect("fits"), 132);
        assert!(adjusted_gas(u64::MAX, 130).is_err());
    }

    #[test]
    fn each_signer_signs_its_own_document_and_the_bytes_decode_as_they_were_signed() {
        let (a, b) = (Key::random(), Key::random());
        let signers = [Signer::new(&a, 3), Signer::new(&b, 9)];
        let draft = Draft::new(Vec::new(), "memo", 12, &signers, 100, 7);
        let signatures = vec![draft.sign(&a, "tenure-1", 1), draft.sign(&b, "tenure-1", 2)];
        let signed = draft.clone().assemble(signatures);
        let raw = TxRaw::decode(signed.bytes.as_slice()).expect("decodes");
        assert_eq!(
            (&raw.body_bytes, &raw.auth_info_bytes),
            (&draft.body_bytes, &draft.auth_info_bytes)
        );
        for (key, number, signature) in [(&a, 1, &raw.signatures[0]), (&b, 2, &raw.signatures[1])] {
            let document = SignDoc {
                body_bytes: raw.body_bytes.clone(),
                auth_info_bytes: raw.auth_info_bytes.clone(),
                chain_id: "tenure-1".to_owned(),
                account_number: number,
            };
            assert!(verify(key.public_key(), &document.encode_to_vec(), signature));
        }
        let auth = AuthInfo::decode(raw.auth_info_bytes.as_slice()).expect("decodes");
        assert_eq!(auth.signer_infos.iter().map(|s| s.sequence).collect::<Vec<_>>(), [3, 9]);
        assert_eq!(signed.hash, hash(&signed.bytes));
    }

    #[test]
    fn direct_sign_bytes_are_those_of_the_cosmos_sdk() {
        // The SignDoc's four fields in order: what CosmJS's makeSignBytes and the SDK's DIRECT handler produce.
        let document = SignDoc {
            body_bytes: vec![1, 2],
            auth_info_bytes: vec![3],
            chain_id: "c".to_owned(),
            account_number: 300,
        };
        assert_eq!(hex::encode(document.encode_to_vec()), "0a0201021201031a016320ac02");
    }
}
