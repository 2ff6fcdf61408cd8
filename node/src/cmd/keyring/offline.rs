//! Keys of which only the public half is here, the Cosmos SDK's `offline` keys: they give addresses names, and sign nothing.
//!
//! ```text
//! <keyring-dir>/keyring-<backend>/<name>.pub    the public key, as Cosmos tools write one
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::{json, Value};
use tenure_client::keyring::check_name;

use crate::files;
use crate::home::create_dir;

const TYPE: &str = "/cosmos.crypto.secp256k1.PubKey";
const SUFFIX: &str = ".pub";

/// A compressed public key.
pub(in crate::cmd) type PublicKey = [u8; 33];

/// A public key as Cosmos tools print it.
pub(in crate::cmd) fn shown(key: &PublicKey) -> Value {
    json!({ "@type": TYPE, "key": BASE64.encode(key) })
}

/// Reads what [`shown`] gives. Error: names what is wrong.
pub(in crate::cmd) fn parse(text: &str) -> Result<PublicKey> {
    let wanted = || {
        format!("a public key must be like {{\"@type\":\"{TYPE}\",\"key\":\"<33 bytes in base64>\"}}, and not {text}")
    };
    let value: Value = serde_json::from_str(text).with_context(wanted)?;
    ensure!(value["@type"] == TYPE, wanted());
    let bytes = value["key"].as_str().and_then(|key| BASE64.decode(key).ok());
    let key: PublicKey = bytes.and_then(|bytes| bytes.try_into().ok()).with_context(wanted)?;
    k256::PublicKey::from_sec1_bytes(&key)
        .ok()
        .with_context(|| format!("{}: these bytes are no point of secp256k1", wanted()))?;
    Ok(key)
}

/// Those of one keyring.
pub(super) struct Offline {
    directory: PathBuf,
}

impl Offline {
    pub(super) fn new(keyring: PathBuf) -> Self {
        Self { directory: keyring }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}{SUFFIX}"))
    }

    /// All, in order of name. Error: a file is damaged, named.
    pub(super) fn list(&self) -> Result<Vec<(String, PublicKey)>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", self.directory.display())),
        };
        let mut all = Vec::new();
        for entry in entries {
            let file = entry?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(SUFFIX));
            if let Some(name) = name.filter(|name| check_name(name).is_ok()) {
                all.push((name.to_owned(), read(&self.path(name))?));
            }
        }
        all.sort();
        Ok(all)
    }

    /// Stores one. The name must be free.
    pub(super) fn add(&self, name: &str, key: &PublicKey) -> Result<()> {
        check_name(name)?;
        create_dir(&self.directory)?;
        files::replace(&self.path(name), format!("{}\n", shown(key)).as_bytes())
    }

    /// Removes one. Error: there is none.
    pub(super) fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

fn read(path: &Path) -> Result<PublicKey> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(text.trim()).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_client::keys::Key;

    #[test]
    fn a_public_key_comes_back_and_what_is_none_is_refused() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let offline = Offline::new(dir.path().join("keyring-test"));
        assert!(offline.list()?.is_empty());
        let (a, b) = (*Key::random().public_key(), *Key::random().public_key());
        offline.add("b", &b)?;
        offline.add("a", &a)?;
        assert_eq!(offline.list()?, [("a".to_owned(), a), ("b".to_owned(), b)]);
        offline.delete("a")?;
        assert_eq!(offline.list()?.len(), 1);
        assert_eq!(parse(&shown(&b).to_string())?, b);
        for bad in [
            "tenurepub1xyz".to_owned(),
            "{}".to_owned(),
            shown(&b).to_string().replace("secp256k1", "ed25519"),
            json!({ "@type": TYPE, "key": BASE64.encode([2; 32]) }).to_string(),
            json!({ "@type": TYPE, "key": BASE64.encode([9; 33]) }).to_string(),
        ] {
            let error = parse(&bad).expect_err(&bad);
            assert!(format!("{error:#}").contains(TYPE), "{error:#}");
        }
        fs::write(dir.path().join("keyring-test/c.pub"), "x")?;
        let error = offline.list().expect_err("damaged");
        assert!(format!("{error:#}").contains("c.pub"), "{error:#}");
        Ok(())
    }
}
