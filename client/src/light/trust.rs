//! Where trust begins: a header that a person named, or the newest one verified before.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tendermint_light_client_verifier::types::LightBlock;

use crate::{
    files::{self, Existing},
    Error, Result,
};

/// A header that a person trusts, because they have its hash from somebody they trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl Anchor {
    /// A height and a hash in hex. Error: the height is 0 or the hash is not 64 hex digits.
    pub fn new(height: u64, hash: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(hash, &mut bytes)
            .map_err(|_| Error::Usage(format!("--trust-hash {hash:?} must be 64 hex digits: a block's hash")))?;
        if height == 0 {
            return Err(Error::Usage("--trust-height must be at least 1".to_owned()));
        }
        Ok(Self { height, hash: bytes })
    }
}

/// The newest verified header of each chain, in files of a home directory.
#[derive(Debug, Clone)]
pub struct TrustStore {
    directory: PathBuf,
}

impl TrustStore {
    /// In `<home>/light`. Nothing is read or written yet.
    pub fn new(home: &Path) -> Self {
        Self {
            directory: home.join("light"),
        }
    }

    /// The file of a chain.
    pub fn path(&self, chain_id: &str) -> PathBuf {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let name = if !chain_id.is_empty() && chain_id.len() <= 50 && chain_id.chars().all(plain) {
            chain_id.to_owned()
        } else {
            hex::encode(&Sha256::digest(chain_id)[..16])
        };
        self.directory.join(format!("{name}.json"))
    }

    /// The newest verified header of a chain, or none. Error: the file is damaged.
    pub fn load(&self, chain_id: &str) -> Result<Option<LightBlock>> {
        let path = self.path(chain_id);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::file(path)(e)),
        };
        let damaged = |detail: String| Error::Damaged {
            path: path.clone(),
            detail: format!("{detail}. Remove it and begin anew with --trust-height and --trust-hash"),
        };
        let block: LightBlock = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let header = &block.signed_header.header;
        // The verifier takes this from its caller.
        if block.next_validators.hash() != header.next_validators_hash || header.chain_id.as_str() != chain_id {
            return Err(damaged("its parts do not belong together".to_owned()));
        }
        Ok(Some(block))
    }

    /// Keeps a verified header in place of the one before.
    pub fn save(&self, block: &LightBlock) -> Result<()> {
        let path = self.path(block.signed_header.header.chain_id.as_str());
        let text = serde_json::to_vec_pretty(block).map_err(|e| Error::Damaged {
            path: path.clone(),
            detail: e.to_string(),
        })?;
        files::write(&path, &text, Existing::Replace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_and_file_names_are_checked() {
        assert!(Anchor::new(1, &"ab".repeat(32)).is_ok());
        assert!(Anchor::new(0, &"ab".repeat(32)).is_err());
        assert!(Anchor::new(1, "ab").is_err());
        let store = TrustStore::new(Path::new("/h"));
        assert_eq!(store.path("tenure-1"), Path::new("/h/light/tenure-1.json"));
        let odd = store.path("../../etc/passwd");
        assert!(odd.starts_with("/h/light") && !odd.to_string_lossy().contains(".."));
    }
}
