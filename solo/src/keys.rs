//! The validator's key, its sign state and the node key, in CometBFT's file formats (`privval/file.go`, `p2p/key.go`).

use crate::error::SoloError;
use crate::files;
use crate::merkle::{sha256, Hash32};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use ed25519_consensus::SigningKey;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};

/// CometBFT's number for the precommit step; propose is 1, prevote 2.
const STEP_PRECOMMIT: u8 = 3;

/// The address of an ed25519 key: the first 20 bytes of its SHA-256.
pub(crate) fn address(pub_key: &Hash32) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(&sha256(pub_key)[..20]);
    out
}

/// A public key in CometBFT's JSON.
pub(crate) fn pub_key_json(pub_key: &Hash32) -> Value {
    json!({"type": "tendermint/PubKeyEd25519", "value": BASE64.encode(pub_key)})
}

/// Reads the JSON of [`pub_key_json`].
pub(crate) fn pub_key_from_json(value: &Value) -> Result<Hash32, String> {
    match value["type"].as_str() {
        Some("tendermint/PubKeyEd25519") => {}
        Some(other) => return Err(format!("key type {other:?} is not tendermint/PubKeyEd25519")),
        None => return Err("key has no type".into()),
    }
    let bytes = BASE64
        .decode(value["value"].as_str().unwrap_or_default())
        .map_err(|e| format!("key value: {e}"))?;
    bytes
        .try_into()
        .map_err(|b: Vec<u8>| format!("key has {} bytes, must have 32", b.len()))
}

/// CometBFT stores 64 bytes: the seed and the public key.
fn priv_key_json(key: &SigningKey) -> Value {
    let mut bytes = key.to_bytes().to_vec();
    bytes.extend_from_slice(key.verification_key().as_bytes());
    json!({"type": "tendermint/PrivKeyEd25519", "value": BASE64.encode(bytes)})
}

fn priv_key_from_json(path: &Path, value: &Value) -> Result<SigningKey, SoloError> {
    let bad = |reason: String| SoloError::KeyFile {
        path: path.to_path_buf(),
        reason,
    };
    match value["type"].as_str() {
        Some("tendermint/PrivKeyEd25519") => {}
        other => {
            return Err(bad(format!(
                "priv_key.type is {other:?}, must be \"tendermint/PrivKeyEd25519\""
            )))
        }
    }
    let bytes = BASE64
        .decode(value["value"].as_str().unwrap_or_default())
        .map_err(|e| bad(format!("priv_key.value: {e}")))?;
    let seed: [u8; 32] = match bytes.len() {
        64 => bytes[..32]
            .try_into()
            .map_err(|_| bad("priv_key.value is too short".into()))?,
        n => return Err(bad(format!("priv_key.value has {n} bytes, must have 64"))),
    };
    let key = SigningKey::from(seed);
    if key.verification_key().as_bytes() != &bytes[32..] {
        return Err(bad("priv_key.value: its two halves are not one key pair".into()));
    }
    Ok(key)
}

fn new_key() -> SigningKey {
    SigningKey::new(rand::rngs::OsRng)
}

fn pretty(value: &Value) -> Vec<u8> {
    // A Value built here always serialises.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn parse(path: &Path) -> Result<Value, SoloError> {
    serde_json::from_slice(&files::read(path)?).map_err(|e| SoloError::KeyFile {
        path: path.to_path_buf(),
        reason: format!("not JSON: {e}"),
    })
}

/// The key that signs blocks.
#[derive(Clone)]
pub struct ValidatorKey {
    key: SigningKey,
    public: Hash32,
}

impl std::fmt::Debug for ValidatorKey {
    /// Prints the address only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ValidatorKey({})", hex::encode_upper(self.address()))
    }
}

impl ValidatorKey {
    /// Reads `priv_validator_key.json`. Errors if the file is unreadable, is not an ed25519 key, or its halves disagree.
    pub fn load(path: &Path) -> Result<Self, SoloError> {
        Ok(Self::new(priv_key_from_json(path, &parse(path)?["priv_key"])?))
    }

    fn new(key: SigningKey) -> Self {
        let public = key.verification_key().to_bytes();
        Self { key, public }
    }

    /// The ed25519 public key.
    pub fn public_key(&self) -> Hash32 {
        self.public
    }

    /// The validator's address.
    pub fn address(&self) -> [u8; 20] {
        address(&self.public)
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(bytes).to_bytes()
    }
}

/// Creates `priv_validator_key.json` with a new random key and an empty `priv_validator_state.json`. Refuses to overwrite either;
/// parent directories are created.
pub fn create_validator_key(key_path: &Path, state_path: &Path) -> Result<ValidatorKey, SoloError> {
    write_validator_key(new_key(), key_path, state_path)
}

/// As [`create_validator_key`], with the key that CometBFT makes from this secret (`ed25519.GenPrivKeyFromSecret`: the seed is its SHA-256). Cosmos chains'
/// `init --recover` uses it on the words of a mnemonic, so the same words give the same validator there and here.
///
/// The sign state is empty: a key that has signed elsewhere must not be used before the chain is past all that it signed.
pub fn recover_validator_key(secret: &[u8], key_path: &Path, state_path: &Path) -> Result<ValidatorKey, SoloError> {
    write_validator_key(SigningKey::from(sha256(secret)), key_path, state_path)
}

fn write_validator_key(key: SigningKey, key_path: &Path, state_path: &Path) -> Result<ValidatorKey, SoloError> {
    if state_path.exists() {
        return Err(SoloError::KeyFile {
            path: state_path.to_path_buf(),
            reason: "already exists; a sign state is never overwritten, move it away first".into(),
        });
    }
    let key = ValidatorKey::new(key);
    let document = json!({
        "address": hex::encode_upper(key.address()),
        "pub_key": pub_key_json(&key.public),
        "priv_key": priv_key_json(&key.key),
    });
    files::create_new(key_path, &pretty(&document))?;
    files::create_new(state_path, &pretty(&json!({"height": "0", "round": 0, "step": 0})))?;
    Ok(key)
}

/// Creates `node_key.json` with a new random key and returns the node id: 40 lower-case hex digits. Refuses to overwrite.
pub fn create_node_key(path: &Path) -> Result<String, SoloError> {
    let key = new_key();
    files::create_new(path, &pretty(&json!({"priv_key": priv_key_json(&key)})))?;
    Ok(hex::encode(address(&key.verification_key().to_bytes())))
}

/// The node id of an existing `node_key.json`.
pub fn load_node_id(path: &Path) -> Result<String, SoloError> {
    let key = priv_key_from_json(path, &parse(path)?["priv_key"])?;
    Ok(hex::encode(address(&key.verification_key().to_bytes())))
}

/// The last height, round and step signed, on disk: what keeps the key from signing twice even if the chain's data is lost or
/// restored from an old copy.
#[derive(Debug)]
pub struct SignState {
    path: PathBuf,
    height: i64,
    round: i64,
    step: u8,
    sign_bytes: Vec<u8>,
}

impl SignState {
    /// Reads `priv_validator_state.json`. A missing file is an error: silently starting from zero would defeat its purpose.
    pub fn load(path: &Path) -> Result<Self, SoloError> {
        if !path.exists() {
            return Err(SoloError::KeyFile {
                path: path.to_path_buf(),
                reason: "is missing; without it the key could sign a height twice. Restore it, or, if this key never signed \
                         anything, write {\"height\":\"0\",\"round\":0,\"step\":0} there"
                    .into(),
            });
        }
        let doc = parse(path)?;
        let bad = |reason: String| SoloError::KeyFile {
            path: path.to_path_buf(),
            reason,
        };
        let number = |field: &str| {
            crate::params::int(&doc[field], field)
                .map_err(bad)?
                .filter(|n| *n >= 0)
                .ok_or_else(|| bad(format!("{field} is missing or negative")))
        };
        let step = u8::try_from(number("step")?).map_err(|_| bad("step is greater than 255".into()))?;
        let sign_bytes =
            hex::decode(doc["signbytes"].as_str().unwrap_or_default()).map_err(|e| bad(format!("signbytes: {e}")))?;
        Ok(Self {
            path: path.to_path_buf(),
            height: number("height")?,
            round: number("round")?,
            step,
            sign_bytes,
        })
    }

    /// The last height signed; 0 if none.
    pub fn height(&self) -> i64 {
        self.height
    }

    fn before(&self, height: i64) -> bool {
        (self.height, self.round, self.step) < (height, 0, STEP_PRECOMMIT)
    }

    /// Errors unless a precommit for (`height`, round 0) is new to this key.
    pub fn check_new(&self, height: i64) -> Result<(), SoloError> {
        if self.before(height) {
            return Ok(());
        }
        Err(SoloError::DoubleSign {
            height,
            reason: format!(
                "{} says height {} round {} step {} is signed already. The chain's data is older than the key's: restore the \
                 newest data directory, or start a new chain with a new key",
                self.path.display(),
                self.height,
                self.round,
                self.step
            ),
        })
    }

    /// Records, atomically and synced, that `sign_bytes` were signed for `height`. Recording the same bytes again is free, so a
    /// restart may repeat it; other bytes for the same height are refused.
    pub fn record(&mut self, height: i64, sign_bytes: &[u8], signature: &[u8]) -> Result<(), SoloError> {
        if !self.before(height) {
            if self.height == height && self.sign_bytes == sign_bytes {
                return Ok(());
            }
            self.check_new(height)?;
        }
        let doc = json!({
            "height": height.to_string(),
            "round": 0,
            "step": STEP_PRECOMMIT,
            "signature": BASE64.encode(signature),
            "signbytes": hex::encode_upper(sign_bytes),
        });
        files::write_atomic(&self.path, &pretty(&doc))?;
        (self.height, self.round, self.step) = (height, 0, STEP_PRECOMMIT);
        self.sign_bytes = sign_bytes.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (key, state) = (dir.path().join("config/k.json"), dir.path().join("data/s.json"));
        let made = create_validator_key(&key, &state).unwrap();
        assert_eq!(ValidatorKey::load(&key).unwrap().public_key(), made.public_key());
        assert_eq!(SignState::load(&state).unwrap().height(), 0);
        assert!(create_validator_key(&key, &state)
            .unwrap_err()
            .to_string()
            .contains("never overwritten"));
        let node = dir.path().join("config/node_key.json");
        let id = create_node_key(&node).unwrap();
        assert_eq!((id.len(), load_node_id(&node).unwrap()), (40, id));
        // tendermint's own reader accepts the files, so CometBFT's format is met.
        let text = std::fs::read_to_string(&key).unwrap();
        let theirs: tendermint::private_key::PrivateKey =
            serde_json::from_value(serde_json::from_str::<Value>(&text).unwrap()["priv_key"].clone()).unwrap();
        assert_eq!(theirs.public_key().to_bytes(), made.public_key().to_vec());
    }

    #[test]
    fn a_height_is_signed_once() {
        let dir = tempfile::tempdir().unwrap();
        let (key, path) = (dir.path().join("k.json"), dir.path().join("s.json"));
        create_validator_key(&key, &path).unwrap();
        let mut state = SignState::load(&path).unwrap();
        state.check_new(1).unwrap();
        state.record(1, b"vote", b"signature").unwrap();
        let mut state = SignState::load(&path).unwrap();
        state.record(1, b"vote", b"signature").unwrap();
        assert!(matches!(
            state.record(1, b"other", b"s"),
            Err(SoloError::DoubleSign { height: 1, .. })
        ));
        assert!(state.check_new(1).is_err());
        state.check_new(2).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(SignState::load(&path).unwrap_err().to_string().contains("is missing"));
    }
}
