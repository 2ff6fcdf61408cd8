//! `client.toml`: how the commands that speak to a node or use keys do it, under the names that Cosmos operators know.

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use tenure_client::keyring::Backend;

use crate::config::{Env, ENV_PREFIX};
use crate::home::Home;

/// What a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// JSON for programs.
    Json,
}

/// `client.toml`. Flags and `TENURED_<KEY>` come first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClientConfig {
    /// The chain that transactions are for.
    pub chain_id: String,
    /// How keys are stored.
    pub keyring_backend: Backend,
    /// How results are printed.
    pub output: Output,
    /// The node's JSON-RPC.
    pub node: String,
    /// The node's gRPC.
    pub grpc: String,
    /// How transactions are sent: `sync` returns when the node has checked it, `block` when a block has executed it.
    pub broadcast_mode: BroadcastMode,
}

/// When sending a transaction is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BroadcastMode {
    /// When the node has checked it.
    Sync,
    /// When a block has executed it.
    Block,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            chain_id: String::new(),
            keyring_backend: Backend::File,
            output: Output::Text,
            node: "tcp://127.0.0.1:26657".to_owned(),
            grpc: "http://127.0.0.1:9090".to_owned(),
            broadcast_mode: BroadcastMode::Sync,
        }
    }
}

impl ClientConfig {
    /// Reads `client.toml` of a home, then the environment. A missing file is all defaults.
    pub fn load(home: &Home, env: &Env) -> Result<Self> {
        let path = home.config("client.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        Self::parse(&text, env).with_context(|| path.display().to_string())
    }

    /// From a file's text and the environment. Error: an unknown key or a malformed value; names it.
    pub fn parse(text: &str, env: &Env) -> Result<Self> {
        let given: Self = toml::from_str(text)?;
        let mut table = toml::Table::try_from(&given)?;
        for (key, value) in &mut table {
            let name = format!("{ENV_PREFIX}{}", key.replace('-', "_").to_uppercase());
            if let Some(text) = env.get(&name) {
                *value = toml::Value::String(text.clone());
            }
        }
        let config: Self = table.try_into().context("from the environment")?;
        for (key, address, scheme) in [("node", &config.node, "tcp://"), ("grpc", &config.grpc, "http://")] {
            if !address.starts_with(scheme) {
                bail!("{key} is {address:?}, must be {scheme}<host>:<port>");
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CLIENT_TOML;

    #[test]
    fn the_template_is_the_default_but_for_the_chain() -> Result<()> {
        let text = CLIENT_TOML.replace("{chain_id}", "");
        assert_eq!(ClientConfig::parse(&text, &Env::new())?, ClientConfig::default());
        Ok(())
    }

    #[test]
    fn the_environment_comes_first_and_mistakes_are_named() -> Result<()> {
        let env = |name: &str, value: &str| Env::from([(name.to_owned(), value.to_owned())]);
        let config = ClientConfig::parse("output = \"json\"", &env("TENURED_KEYRING_BACKEND", "test"))?;
        assert_eq!((config.output, config.keyring_backend), (Output::Json, Backend::Test));
        for (text, env, word) in [
            ("outputt = \"json\"", Env::new(), "outputt"),
            ("broadcast-mode = \"async\"", Env::new(), "async"),
            ("", env("TENURED_KEYRING_BACKEND", "os"), "os"),
            ("", env("TENURED_NODE", "localhost"), "tcp://"),
        ] {
            let error = format!("{:#}", ClientConfig::parse(text, &env).expect_err(word));
            assert!(error.contains(word), "{word}: {error}");
        }
        Ok(())
    }
}
