//! Keys: BIP-39 words, BIP-32 derivation at the path every Cosmos wallet uses, and low-S signatures.

use bip39::{Language, Mnemonic};
use cosmrs::bip32::{DerivationPath, XPrv};
use k256::ecdsa::{signature::Signer, signature::Verifier, Signature, SigningKey, VerifyingKey};
use tenure_types::Address;
use zeroize::Zeroizing;

use crate::{Error, Result};

/// SLIP-44 coin type 118, first account: what Keplr, Ledger and CosmJS derive by default.
pub const DERIVATION_PATH: &str = "m/44'/118'/0'/0/0";
/// Words of a new mnemonic: 256 bits of entropy.
pub const WORDS: usize = 24;

/// A secp256k1 key that can sign. Its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Key {
    signing: SigningKey,
    public: [u8; 33],
    address: Address,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.address)
    }
}

impl Key {
    /// The key of a mnemonic at [`DERIVATION_PATH`], without a BIP-39 passphrase.
    pub fn from_mnemonic(mnemonic: &Mnemonic) -> Result<Self> {
        let failed = |e: cosmrs::bip32::Error| Error::Key(format!("the mnemonic does not derive a key: {e}"));
        let path: DerivationPath = DERIVATION_PATH.parse().map_err(failed)?;
        let seed = Zeroizing::new(mnemonic.to_seed_normalized(""));
        let extended = XPrv::derive_from_path(seed.as_slice(), &path).map_err(failed)?;
        Ok(Self::from_signing(extended.private_key().clone()))
    }

    /// A fresh random key without a mnemonic, for tests and throw-away sessions.
    pub fn random() -> Self {
        Self::from_signing(SigningKey::random(&mut rand_core::OsRng))
    }

    fn from_signing(signing: SigningKey) -> Self {
        let mut public = [0; 33];
        public.copy_from_slice(signing.verifying_key().to_encoded_point(true).as_bytes());
        Self {
            address: Address::of_secp256k1(&public),
            public,
            signing,
        }
    }

    /// The account it controls.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its compressed public key.
    pub fn public_key(&self) -> &[u8; 33] {
        &self.public
    }

    /// The signature over SHA-256 of these bytes: r and s, 32 bytes each, low S, deterministic (RFC 6979).
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let signature: Signature = self.signing.sign(bytes);
        signature.normalize_s().unwrap_or(signature).to_bytes().into()
    }
}

/// Whether this is the signature, with low S, of this compressed key over SHA-256 of these bytes.
pub fn verify(public_key: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (
        VerifyingKey::from_sec1_bytes(public_key),
        Signature::from_slice(signature),
    ) else {
        return false;
    };
    // k256 refuses a high S by itself; the test below holds it to that.
    public_key.len() == 33 && key.verify(bytes, &signature).is_ok()
}

/// A new random mnemonic of [`WORDS`] English words.
pub fn new_mnemonic() -> Result<Mnemonic> {
    Mnemonic::generate_in(Language::English, WORDS).map_err(|e| Error::Key(format!("no new mnemonic: {e}")))
}

/// Reads a mnemonic of 12 or 24 English words; case and spaces do not matter. Error: says which word or that the checksum is wrong.
pub fn parse_mnemonic(text: &str) -> Result<Mnemonic> {
    let normalized = Zeroizing::new(text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
    Mnemonic::parse_in_normalized(Language::English, &normalized).map_err(|e| {
        let why = match e {
            bip39::Error::BadWordCount(n) => format!("it has {n} words; it must have 12, 15, 18, 21 or 24"),
            bip39::Error::UnknownWord(i) => format!("word {} is not in the BIP-39 English list", i + 1),
            bip39::Error::InvalidChecksum => "its checksum is wrong: a word is mistyped or out of order".to_owned(),
            other => other.to_string(),
        };
        Error::Key(format!("that is not a mnemonic: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABANDON: &str =
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

    #[test]
    fn a_known_mnemonic_gives_the_account_that_every_cosmos_wallet_derives() -> Result<()> {
        let key = Key::from_mnemonic(&parse_mnemonic(ABANDON)?)?;
        // Keplr and CosmJS show cosmos19rl4cm2hmr8afy4kldpxz3fka4jguq0auqdal4 for these words.
        assert_eq!(
            key.address().to_bech32("cosmos"),
            "cosmos19rl4cm2hmr8afy4kldpxz3fka4jguq0auqdal4"
        );
        assert!(key.address().to_string().starts_with("tenure1"));
        Ok(())
    }

    #[test]
    fn mnemonics_are_read_leniently_and_refused_precisely() -> Result<()> {
        let shouted = format!("  {}\n", ABANDON.to_uppercase().replace(' ', "  "));
        assert_eq!(parse_mnemonic(&shouted)?, parse_mnemonic(ABANDON)?);
        let message = |text: &str| parse_mnemonic(text).expect_err("malformed").to_string();
        assert!(message("abandon").contains("1 words"));
        assert!(message(&ABANDON.replacen("abandon", "abandom", 1)).contains("word 1 "));
        assert!(message(&ABANDON.replace("about", "abandon")).contains("checksum"));
        assert_eq!(new_mnemonic()?.word_count(), WORDS);
        Ok(())
    }

    #[test]
    fn signatures_are_low_s_and_bound_to_bytes_and_key() {
        let (key, other) = (Key::random(), Key::random());
        for i in 0..32_u8 {
            let signature = key.sign(&[i]);
            assert!(verify(key.public_key(), &[i], &signature));
            assert!(!verify(key.public_key(), &[i, 0], &signature));
            assert!(!verify(other.public_key(), &[i], &signature));
            let parsed = Signature::from_slice(&signature).expect("64 bytes");
            let (r, s) = parsed.split_scalars();
            let high = Signature::from_scalars(r, -s).expect("in range").to_bytes();
            assert!(!verify(key.public_key(), &[i], &high), "high S");
        }
    }
}
