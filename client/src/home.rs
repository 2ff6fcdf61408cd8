//! The client's home: `~/.tenure`, or what `TENURE_HOME` names.
//!
//! ```text
//! <home>/config.toml      node, chain_id, keyring, key
//! <home>/keyring-*/       crate::keyring
//! ```

use std::path::{Path, PathBuf};

use serde::{de::IgnoredAny, Deserialize, Serialize};

use crate::{
    chain::DEFAULT_NODE,
    files::{self, Existing},
    keyring::Backend,
    Error, Result,
};

/// Environment variable that names the home directory.
pub const HOME_ENV: &str = "TENURE_HOME";
/// Name of the key that commands sign with unless told otherwise.
pub const DEFAULT_KEY: &str = "default";

/// What `config.toml` says. Flags and environment variables take precedence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node's gRPC address.
    pub node: String,
    /// The chain that transactions are for. A node of another chain is refused. Empty: the node's.
    pub chain_id: String,
    /// How keys are stored.
    pub keyring: Backend,
    /// Key that commands sign with.
    pub key: String,
}

/// What of `tenure-agent`'s file concerns a client. The endpoint tells it from a client's own, which has none.
#[derive(Deserialize)]
struct AgentConfig {
    node: String,
    key: String,
    keyring: Backend,
    #[serde(rename = "endpoint")]
    _endpoint: IgnoredAny,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: DEFAULT_NODE.to_owned(),
            chain_id: String::new(),
            keyring: Backend::File,
            key: DEFAULT_KEY.to_owned(),
        }
    }
}

/// The home directory where none is named: `~/.tenure`. Error: the environment has no `HOME`.
pub fn default_home() -> Result<PathBuf> {
    std::env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .map(|home| home.join(".tenure"))
        .ok_or_else(|| Error::Usage(format!("no home directory is known: set {HOME_ENV} or pass --home")))
}

impl Config {
    /// Where the configuration of a home lies.
    pub fn path(home: &Path) -> PathBuf {
        home.join("config.toml")
    }

    /// The configuration of a home, or none. Error: it is malformed, with line and key. A provider's home serves too: its agent's file says where
    /// node and key are under the same names, and much else that is of no use here.
    pub fn load(home: &Path) -> Result<Option<Self>> {
        let path = Self::path(home);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::file(path)(e)),
        };
        let malformed = |e: toml::de::Error| Error::Usage(format!("{}: {}", path.display(), e.to_string().trim_end()));
        if let Ok(agent) = toml::from_str::<AgentConfig>(&text) {
            return Ok(Some(Self {
                node: agent.node,
                keyring: agent.keyring,
                key: agent.key,
                ..Self::default()
            }));
        }
        toml::from_str(&text).map(Some).map_err(malformed)
    }

    /// Writes the configuration of a home in one step.
    pub fn save(&self, home: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::Usage(format!("config.toml cannot be written: {e}")))?;
        let text = format!("# The tenure client. Flags and TENURE_* variables take precedence.\n{text}");
        files::write(&Self::path(home), text.as_bytes(), Existing::Replace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_comes_back_and_its_mistakes_are_named() -> Result<()> {
        let home = tempfile::tempdir().expect("temporary directory");
        assert_eq!(Config::load(home.path())?, None);
        let config = Config {
            chain_id: "tenure-1".to_owned(),
            keyring: Backend::Test,
            ..Config::default()
        };
        config.save(home.path())?;
        assert_eq!(Config::load(home.path())?, Some(config));
        let agent = "node = \"http://127.0.0.1:1\"\nkey = \"provider\"\nkeyring = \"test\"\nmoniker = \"attic\"\nlisten = \"127.0.0.1:2\"\n\
                     endpoint = \"http://127.0.0.1:2\"\n\n[limits]\nlog = \"8MiB\"\n";
        std::fs::write(Config::path(home.path()), agent).expect("write");
        let found = Config::load(home.path())?.expect("a provider's home");
        assert_eq!(
            (found.node.as_str(), found.key.as_str()),
            ("http://127.0.0.1:1", "provider")
        );
        assert_eq!((found.keyring, found.chain_id.as_str()), (Backend::Test, ""));
        std::fs::write(Config::path(home.path()), "nod = \"x\"\n").expect("write");
        let error = Config::load(home.path()).expect_err("unknown key").to_string();
        assert!(error.contains("nod") && error.contains("line 1"), "{error}");
        Ok(())
    }
}
