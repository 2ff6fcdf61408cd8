//! Keys in the client's home.
//!
//! ```text
//! <home>/keyring-file/<name>.json   sealed with a passphrase (crate::sealed)
//! <home>/keyring-test/<name>.json   the words in clear, for development networks
//! ```
//! Every file is written whole, synced, readable only by its owner, and never replaced.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    files::{self, Existing},
    keys::{parse_mnemonic, Key},
    passphrase::Passphrase,
    sealed::{SealError, Sealed},
    Error, Result,
};

/// Longest name of a key, bytes.
pub const MAX_NAME: usize = 64;

/// How keys are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Backend {
    /// Sealed with a passphrase.
    File,
    /// In clear, for development networks.
    Test,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Test => "test",
        })
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "file" => Ok(Self::File),
            "test" => Ok(Self::Test),
            // The Cosmos SDK's others. They need a desktop session or a key agent, which a server does not have; a keyring that works only
            // where somebody is logged in would fail at the next restart.
            "os" | "kwallet" | "keychain" | "pass" | "memory" => Err(format!(
                "keyring {other:?} is the Cosmos SDK's and is not here, because it does not work on a server without a desktop session; use file \
                 (sealed with a passphrase; TENURE_KEYRING_PASSPHRASE holds it where nobody can type) or test (in clear)",
                other = text
            )),
            other => Err(format!(
                "keyring {other:?} is not known; it is file (sealed with a passphrase) or test (in clear)"
            )),
        }
    }
}

impl TryFrom<String> for Backend {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// What is readable of a key without its passphrase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its name.
    pub name: String,
    /// Its account.
    pub address: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clear {
    version: u32,
    name: String,
    address: String,
    mnemonic: String,
}

/// Keys in one directory.
#[derive(Debug, Clone)]
pub struct Keyring {
    directory: PathBuf,
    backend: Backend,
    passphrase: Passphrase,
}

impl Keyring {
    /// The keyring of a home directory. Nothing is made or read before it is used.
    pub fn new(home: &Path, backend: Backend, passphrase: Passphrase) -> Self {
        Self {
            directory: home.join(format!("keyring-{backend}")),
            backend,
            passphrase,
        }
    }

    /// How keys are stored here.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Stores the key of a mnemonic. Errors: the name is malformed or taken; no passphrase; the file cannot be written.
    pub fn add(&self, name: &str, mnemonic: &bip39::Mnemonic) -> Result<Key> {
        check_name(name)?;
        let path = self.path(name);
        if path.exists() {
            return Err(Error::Key(format!(
                "key {name:?} exists already in {}; keys are never replaced: choose another name, or `tenure keys delete {name}` first",
                self.directory.display()
            )));
        }
        let key = Key::from_mnemonic(mnemonic)?;
        let address = key.address().to_string();
        let words = Zeroizing::new(mnemonic.to_string());
        let text = match self.backend {
            Backend::File => {
                let passphrase = self.passphrase.chosen(name)?;
                let sealed = Sealed::seal(name, &address, &words, &passphrase)
                    .map_err(|e| Error::Key(format!("key {name:?} was not sealed: {e}")))?;
                serde_json::to_string_pretty(&sealed)
            }
            Backend::Test => {
                let clear = Clear {
                    version: 1,
                    name: name.to_owned(),
                    address,
                    mnemonic: words.to_string(),
                };
                serde_json::to_string_pretty(&clear)
            }
        };
        let text = Zeroizing::new(text.map_err(|e| Error::Key(format!("key {name:?} was not encoded: {e}")))? + "\n");
        files::write(&path, text.as_bytes(), Existing::Refuse)?;
        Ok(key)
    }

    /// The key of a name, ready to sign. Errors: there is none; the passphrase is wrong; the file is damaged.
    pub fn load(&self, name: &str) -> Result<Key> {
        let (words, address) = self.words(name)?;
        let damaged = |detail: String| Error::Damaged {
            path: self.path(name),
            detail,
        };
        let key = parse_mnemonic(&words)
            .and_then(|m| Key::from_mnemonic(&m))
            .map_err(|e| damaged(e.to_string()))?;
        let derived = key.address().to_string();
        if derived != address {
            return Err(damaged(format!(
                "it says address {address} and its words give {derived}"
            )));
        }
        Ok(key)
    }

    /// The words of a key. Errors: as [`Self::load`].
    pub fn export(&self, name: &str) -> Result<Zeroizing<String>> {
        self.words(name).map(|(words, _)| words)
    }

    /// The account of a key, without its passphrase. Errors: there is none; the file is damaged.
    pub fn show(&self, name: &str) -> Result<KeyInfo> {
        let text = self.read(name)?;
        let address = match self.backend {
            Backend::File => self.parse::<Sealed>(name, &text)?.address,
            Backend::Test => self.parse::<Clear>(name, &text)?.address,
        };
        Ok(KeyInfo {
            name: name.to_owned(),
            address,
        })
    }

    /// All keys in order of name. Error: a file is damaged, named.
    pub fn list(&self) -> Result<Vec<KeyInfo>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::file(&self.directory)(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::file(&self.directory))?;
            if let Some(name) = entry.file_name().to_str().and_then(|n| n.strip_suffix(".json")) {
                if check_name(name).is_ok() {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort();
        names.iter().map(|name| self.show(name)).collect()
    }

    /// Removes a key. With the `file` keyring its passphrase is asked for, so that nobody deletes what they could not use.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.words(name)?;
        let path = self.path(name);
        fs::remove_file(&path).map_err(Error::file(&path))?;
        files::sync_dir(&self.directory)
    }

    fn words(&self, name: &str) -> Result<(Zeroizing<String>, String)> {
        let text = self.read(name)?;
        match self.backend {
            Backend::Test => {
                let clear: Clear = self.parse(name, &text)?;
                Ok((Zeroizing::new(clear.mnemonic), clear.address))
            }
            Backend::File => {
                let sealed: Sealed = self.parse(name, &text)?;
                if sealed.name != name {
                    let detail = format!("it holds key {:?}; a key's file must keep its name", sealed.name);
                    return Err(Error::Damaged {
                        path: self.path(name),
                        detail,
                    });
                }
                let words = sealed.open(&self.passphrase.existing(name)?).map_err(|e| match e {
                    SealError::Passphrase => Error::Key(format!("key {name:?}: {e}")),
                    SealError::Field { .. } => Error::Damaged {
                        path: self.path(name),
                        detail: e.to_string(),
                    },
                })?;
                Ok((words, sealed.address))
            }
        }
    }

    fn read(&self, name: &str) -> Result<Zeroizing<String>> {
        check_name(name)?;
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::Key(format!(
                "there is no key {name:?} in {}; `tenure keys list` shows those that are there, `tenure keys add {name}` makes it",
                self.directory.display()
            ))),
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                Err(Error::Damaged { path, detail: "it is not text".to_owned() })
            }
            Err(e) => Err(Error::file(path)(e)),
        }
    }

    fn parse<'a, T: Deserialize<'a>>(&self, name: &str, text: &'a str) -> Result<T> {
        serde_json::from_str(text).map_err(|e| Error::Damaged {
            path: self.path(name),
            detail: format!("it is not a {} key: {e}", self.backend),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}

/// Error: a name is empty, too long, or has something else than letters, digits, `-` and `_`.
pub fn check_name(name: &str) -> Result<()> {
    let ok = !name.is_empty()
        && name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if ok {
        return Ok(());
    }
    Err(Error::Key(format!(
        "key name {name:?} must be 1 to {MAX_NAME} letters, digits, - or _"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::new_mnemonic;

    fn ring(home: &Path, backend: Backend, passphrase: &str) -> Keyring {
        Keyring::new(home, backend, Passphrase::Given(Zeroizing::new(passphrase.to_owned())))
    }

    #[test]
    fn keys_come_back_and_are_never_replaced() -> Result<()> {
        let home = tempfile::tempdir().expect("temporary directory");
        for backend in [Backend::Test, Backend::File] {
            let ring = ring(home.path(), backend, "correct horse");
            assert_eq!(ring.list()?, []);
            let mnemonic = new_mnemonic()?;
            let key = ring.add("me", &mnemonic)?;
            assert_eq!(ring.load("me")?.address(), key.address());
            assert_eq!(*ring.export("me")?, mnemonic.to_string());
            assert!(ring
                .add("me", &new_mnemonic()?)
                .expect_err("taken")
                .to_string()
                .contains("exists already"));
            assert_eq!(
                ring.list()?,
                [KeyInfo {
                    name: "me".to_owned(),
                    address: key.address().to_string()
                }]
            );
            ring.delete("me")?;
            assert!(ring
                .load("me")
                .expect_err("deleted")
                .to_string()
                .contains("keys add me"));
        }
        Ok(())
    }

    #[test]
    fn a_wrong_passphrase_and_a_damaged_file_are_told_apart() -> Result<()> {
        let home = tempfile::tempdir().expect("temporary directory");
        let good = ring(home.path(), Backend::File, "correct horse");
        good.add("me", &new_mnemonic()?)?;
        let wrong = ring(home.path(), Backend::File, "wrong horse");
        assert!(matches!(wrong.load("me"), Err(Error::Key(text)) if text.contains("passphrase is wrong")));
        assert!(matches!(wrong.delete("me"), Err(Error::Key(_))));
        assert!(wrong.show("me").is_ok());
        let path = home.path().join("keyring-file/me.json");
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, &text[..text.len() / 2]).expect("write");
        assert!(matches!(good.load("me"), Err(Error::Damaged { .. })));
        fs::write(&path, [0xff, 0xfe]).expect("write");
        assert!(matches!(good.load("me"), Err(Error::Damaged { .. })));
        Ok(())
    }

    #[test]
    fn a_keyring_that_is_not_here_names_those_that_are() {
        for (text, word) in [
            ("os", "desktop session"),
            ("pass", "desktop session"),
            ("files", "not known"),
        ] {
            let error = text.parse::<Backend>().expect_err(text);
            assert!(
                error.contains(word) && error.contains("file") && error.contains("test"),
                "{error}"
            );
            let in_file = serde_json::from_value::<Backend>(text.into())
                .expect_err(text)
                .to_string();
            assert!(in_file.contains(word), "{in_file}");
        }
        assert_eq!(serde_json::from_str::<Backend>("\"file\"").ok(), Some(Backend::File));
        assert_eq!(serde_json::to_string(&Backend::Test).ok().as_deref(), Some("\"test\""));
    }

    #[test]
    fn names_cannot_leave_the_directory_and_passphrases_have_a_least_length() {
        let home = tempfile::tempdir().expect("temporary directory");
        let ring = ring(home.path(), Backend::File, "short");
        for name in ["", "../me", "a/b", "a b", ".me", "ä", &"x".repeat(65)] {
            assert!(
                ring.load(name)
                    .expect_err("malformed")
                    .to_string()
                    .contains("must be 1 to 64"),
                "{name:?}"
            );
        }
        let error = ring
            .add("me", &new_mnemonic().expect("mnemonic"))
            .expect_err("short")
            .to_string();
        assert!(error.contains("5 bytes") && error.contains("at least 8"), "{error}");
    }
}
