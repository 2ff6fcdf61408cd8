//! A mnemonic sealed with a passphrase: Argon2id (RFC 9106) and ChaCha20-Poly1305 (RFC 8439) in a versioned JSON file.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{engine::general_purpose::STANDARD as BASE64, Engine};
use chacha20poly1305::{
    aead::{Aead, Payload},
    ChaCha20Poly1305, KeyInit, Nonce,
};
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Version of the format that is written.
pub const VERSION: u32 = 1;
// RFC 9106, second recommendation, with one lane: 64 MiB, three passes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
// A damaged or hostile file must not make the client take all memory or time.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;

/// A sealed mnemonic as it lies in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the key. Bound to the sealed text.
    pub name: String,
    /// Account address, readable without the passphrase. Bound to the sealed text.
    pub address: String,
    kdf: Kdf,
    /// 12 bytes, base64.
    nonce: String,
    /// The mnemonic and a 16-byte tag, base64.
    ciphertext: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    algorithm: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    /// 16 bytes, base64.
    salt: String,
}

/// Why a sealed mnemonic does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The tag does not agree.
    #[error("the passphrase is wrong, or the file was altered")]
    Passphrase,
    /// A field is out of its bounds.
    #[error("field {field}: {detail}")]
    Field {
        /// Which.
        field: &'static str,
        /// The value and its limit.
        detail: String,
    },
}

fn field(field: &'static str, detail: impl ToString) -> SealError {
    SealError::Field {
        field,
        detail: detail.to_string(),
    }
}

impl Sealed {
    /// Seals a mnemonic under a passphrase, with fresh salt and nonce.
    pub fn seal(name: &str, address: &str, mnemonic: &str, passphrase: &str) -> Result<Self, SealError> {
        let (mut salt, mut nonce) = ([0; 16], [0; 12]);
        OsRng.fill_bytes(&mut salt);
        OsRng.fill_bytes(&mut nonce);
        let kdf = Kdf {
            algorithm: "argon2id".to_owned(),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: BASE64.encode(salt),
        };
        let mut sealed = Self {
            version: VERSION,
            name: name.to_owned(),
            address: address.to_owned(),
            kdf,
            nonce: BASE64.encode(nonce),
            ciphertext: String::new(),
        };
        let cipher = sealed.cipher(passphrase)?;
        let payload = Payload {
            msg: mnemonic.as_bytes(),
            aad: &sealed.bound(),
        };
        let ciphertext = cipher
            .encrypt(Nonce::from_slice(&nonce), payload)
            .map_err(|_| field("ciphertext", "too long to seal"))?;
        sealed.ciphertext = BASE64.encode(ciphertext);
        Ok(sealed)
    }

    /// The mnemonic. Errors: the passphrase is wrong; the file is damaged.
    pub fn open(&self, passphrase: &str) -> Result<Zeroizing<String>, SealError> {
        if self.version != VERSION {
            return Err(field(
                "version",
                format!("{} is not known to this client; it knows {VERSION}", self.version),
            ));
        }
        let nonce: [u8; 12] = bytes("nonce", &self.nonce)?;
        let ciphertext = BASE64.decode(&self.ciphertext).map_err(|e| field("ciphertext", e))?;
        let cipher = self.cipher(passphrase)?;
        let payload = Payload {
            msg: &ciphertext,
            aad: &self.bound(),
        };
        let plain = cipher
            .decrypt(Nonce::from_slice(&nonce), payload)
            .map_err(|_| SealError::Passphrase)?;
        String::from_utf8(plain)
            .map(Zeroizing::new)
            .map_err(|_| field("ciphertext", "does not hold text"))
    }

    /// What is readable in the file and must not be exchanged under the sealed text.
    fn bound(&self) -> Vec<u8> {
        format!("tenure keyring v{}\n{}\n{}", self.version, self.name, self.address).into_bytes()
    }

    fn cipher(&self, passphrase: &str) -> Result<ChaCha20Poly1305, SealError> {
        let Kdf {
            algorithm,
            memory_kib,
            passes,
            lanes,
            salt,
        } = &self.kdf;
        if algorithm != "argon2id" {
            return Err(field("kdf.algorithm", format!("{algorithm:?} must be \"argon2id\"")));
        }
        for (name, value, most) in [
            ("kdf.memory_kib", *memory_kib, MAX_MEMORY_KIB),
            ("kdf.passes", *passes, MAX_PASSES),
            ("kdf.lanes", *lanes, MAX_LANES),
        ] {
            if value > most {
                return Err(field(name, format!("{value} exceeds {most}")));
            }
        }
        let salt: [u8; 16] = bytes("kdf.salt", salt)?;
        let params = Params::new(*memory_kib, *passes, *lanes, Some(32)).map_err(|e| field("kdf", e))?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &salt, key.as_mut_slice())
            .map_err(|e| field("kdf", e))?;
        Ok(ChaCha20Poly1305::new(key.as_slice().into()))
    }
}

fn bytes<const N: usize>(name: &'static str, text: &str) -> Result<[u8; N], SealError> {
    let decoded = BASE64.decode(text).map_err(|e| field(name, e))?;
    let found = decoded.len();
    decoded
        .try_into()
        .map_err(|_| field(name, format!("{found} bytes, expected {N}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_and_nothing_readable_can_be_exchanged() -> Result<(), SealError> {
        let sealed = Sealed::seal("me", "tenure1x", "some words", "correct horse")?;
        assert_eq!(*sealed.open("correct horse")?, "some words");
        assert_eq!(sealed.open("correct horsf").map(|_| ()), Err(SealError::Passphrase));
        let renamed = Sealed {
            name: "you".to_owned(),
            ..sealed.clone()
        };
        assert_eq!(renamed.open("correct horse").map(|_| ()), Err(SealError::Passphrase));
        let redirected = Sealed {
            address: "tenure1y".to_owned(),
            ..sealed
        };
        assert_eq!(redirected.open("correct horse").map(|_| ()), Err(SealError::Passphrase));
        Ok(())
    }

    #[test]
    fn damaged_fields_are_named_and_bounded() -> Result<(), SealError> {
        let good = Sealed::seal("me", "tenure1x", "some words", "correct horse")?;
        let names = |sealed: Sealed| match sealed.open("correct horse") {
            Err(SealError::Field { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            names(Sealed {
                version: 2,
                ..good.clone()
            }),
            "version"
        );
        assert_eq!(
            names(Sealed {
                nonce: "AAAA".to_owned(),
                ..good.clone()
            }),
            "nonce"
        );
        assert_eq!(
            names(Sealed {
                ciphertext: "?".to_owned(),
                ..good.clone()
            }),
            "ciphertext"
        );
        let kdf = |change: fn(&mut Kdf)| {
            let mut sealed = good.clone();
            change(&mut sealed.kdf);
            sealed
        };
        assert_eq!(names(kdf(|k| k.memory_kib = u32::MAX)), "kdf.memory_kib");
        assert_eq!(names(kdf(|k| k.passes = u32::MAX)), "kdf.passes");
        assert_eq!(names(kdf(|k| k.algorithm = "none".to_owned())), "kdf.algorithm");
        assert_eq!(names(kdf(|k| k.salt.clear())), "kdf.salt");
        Ok(())
    }
}
