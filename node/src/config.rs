//! Settings: `app.toml` (this node) and the keys of CometBFT's `config.toml` that the solo engine uses.
//!
//! Precedence: environment, file, default. Errors name the key, the value and the limit.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tenure_types::Coin;

use crate::home::Home;

/// What `tenured init` writes as `app.toml`.
pub const APP_TOML: &str = include_str!("templates/app.toml");
/// What `tenured init` writes as `config.toml`, with `{moniker}` to fill in.
pub const CONFIG_TOML: &str = include_str!("templates/config.toml");
/// What `tenured init` writes as `client.toml`, with `{chain_id}` to fill in.
pub const CLIENT_TOML: &str = include_str!("templates/client.toml");
/// Environment variables that set a key begin with this.
pub const ENV_PREFIX: &str = "TENURED_";

/// `app.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppConfig {
    /// The gRPC server.
    pub grpc: GrpcConfig,
    /// The solo engine.
    pub solo: SoloSettings,
    /// The application's store.
    pub store: StoreConfig,
    /// The faucet.
    pub faucet: FaucetConfig,
}

/// Section `grpc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrpcConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Longest request or answer, bytes.
    pub max_message_bytes: usize,
    /// Connections served at a time.
    pub max_connections: usize,
    /// Requests worked on at a time.
    pub max_concurrent_requests: usize,
    /// Longest time for one request.
    pub request_timeout: Span,
}

/// Section `solo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SoloSettings {
    /// Time between blocks when nothing waits.
    pub block_interval: Span,
    /// Least time between blocks when transactions wait.
    pub min_block_gap: Span,
}

/// Section `store`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreConfig {
    /// Memory for RocksDB's block cache, MiB.
    pub cache_mib: usize,
    /// Heights that queries are answered for, the latest included.
    pub query_heights: usize,
    /// Blocks that can be rolled back.
    pub keep_undo: usize,
}

/// Section `faucet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FaucetConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// What one request gets.
    #[serde(with = "as_text")]
    pub amount: Coin,
    /// How long an address waits for its next request.
    pub interval: Span,
    /// The key of the account that pays, relative to the home.
    pub key_file: String,
}

/// What the solo engine uses of CometBFT's `config.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct CometConfig {
    /// The node's name.
    pub moniker: String,
    /// Where JSON-RPC listens.
    pub rpc: SocketAddr,
    /// The mempool's limits.
    pub mempool: MempoolSettings,
}

/// Section `mempool` of `config.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolSettings {
    /// Most transactions that wait.
    pub size: usize,
    /// Most bytes of all waiting transactions.
    pub max_txs_bytes: u64,
    /// Most bytes of one transaction.
    pub max_tx_bytes: usize,
    /// Hashes of seen transactions that are remembered.
    pub cache_size: usize,
}

/// A length of time in a settings file: an integer and one of `ms`, `s`, `m`, `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// This many milliseconds.
    pub const fn ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a duration: an integer followed by ms, s, m or h, for example \"250ms\"");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let scale = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        let ms = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(scale))
            .ok_or_else(bad)?;
        Ok(Self::ms(ms))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            _ if ms == 0 || !ms.is_multiple_of(1_000) => write!(f, "{ms}ms"),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) && ms > 60_000 => write!(f, "{}m", ms / 60_000),
            _ => write!(f, "{}s", ms / 1_000),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Values that are written as `Display` and read as `FromStr`.
mod as_text {
    use super::*;

    pub(super) fn serialize<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9090)),
            max_message_bytes: 4 << 20,
            max_connections: 512,
            max_concurrent_requests: 64,
            request_timeout: Span::ms(10_000),
        }
    }
}

impl Default for SoloSettings {
    fn default() -> Self {
        Self {
            block_interval: Span::ms(1_000),
            min_block_gap: Span::ms(100),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache_mib: 128,
            query_heights: 16,
            keep_undo: 100,
        }
    }
}

impl Default for FaucetConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            amount: Coin::base(10_000_000),
            interval: Span::ms(60_000),
            key_file: "config/faucet_key.json".to_owned(),
        }
    }
}

/// Errors unless `min <= value <= max`; names all of them.
fn within<T: PartialOrd + fmt::Display>(key: &str, value: T, min: T, max: T) -> Result<()> {
    if value < min || value > max {
        bail!("{key} is {value}, must be {min} to {max}");
    }
    Ok(())
}

/// Environment variables by name.
pub type Env = BTreeMap<String, String>;

/// The environment variables of this process that may set a key.
pub fn process_env() -> Env {
    std::env::vars()
        .filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .collect()
}

fn read(path: &std::path::Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        // All keys have defaults.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

impl AppConfig {
    /// Reads `app.toml` of a home, then the environment. A missing file is all defaults.
    pub fn load(home: &Home, env: &Env) -> Result<Self> {
        let path = home.config("app.toml");
        Self::parse(&read(&path)?, env).with_context(|| path.display().to_string())
    }

    /// From a file's text and the environment. Error: an unknown key, a malformed value, or one beyond its limit; names it.
    pub fn parse(text: &str, env: &Env) -> Result<Self> {
        let mut config: Self = toml::from_str(text)?;
        let mut table = toml::Table::try_from(&config)?;
        let sections: Vec<String> = table.keys().cloned().collect();
        for section in sections {
            let prefix = format!("{ENV_PREFIX}{}_", section.to_uppercase());
            for (name, value) in env.iter().filter(|(name, _)| name.starts_with(&prefix)) {
                let key = name[prefix.len()..].to_lowercase().replace('_', "-");
                set(&mut table, &section, &key, value).with_context(|| format!("environment variable {name}"))?;
                config = from_table(&table).with_context(|| format!("environment variable {name}={value}"))?;
            }
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        within("grpc.max-message-bytes", self.grpc.max_message_bytes, 1 << 10, 64 << 20)?;
        within("grpc.max-connections", self.grpc.max_connections, 1, 65_536)?;
        within(
            "grpc.max-concurrent-requests",
            self.grpc.max_concurrent_requests,
            1,
            4_096,
        )?;
        within(
            "grpc.request-timeout",
            self.grpc.request_timeout,
            Span::ms(100),
            Span::ms(300_000),
        )?;
        within(
            "solo.block-interval",
            self.solo.block_interval,
            Span::ms(10),
            Span::ms(3_600_000),
        )?;
        within(
            "solo.min-block-gap",
            self.solo.min_block_gap,
            Span::ms(1),
            Span::ms(3_600_000),
        )?;
        within("store.cache-mib", self.store.cache_mib, 8, 65_536)?;
        within("store.query-heights", self.store.query_heights, 1, 10_000)?;
        within("store.keep-undo", self.store.keep_undo, 1, 100_000)?;
        within(
            "faucet.interval",
            self.faucet.interval,
            Span::ms(1_000),
            Span::ms(86_400_000),
        )?;
        if self.faucet.amount.amount.is_zero() {
            bail!("faucet.amount is {}, must be above zero", self.faucet.amount);
        }
        if self.faucet.key_file.is_empty() {
            bail!("faucet.key-file is empty, must name a file");
        }
        Ok(())
    }

    /// The settings as a file: the template with the values that differ from it put in.
    pub fn to_toml(&self) -> Result<String> {
        let table = toml::Table::try_from(self)?;
        let mut section = String::new();
        let mut out = String::new();
        for line in APP_TOML.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            }
            let value = line
                .split_once(" = ")
                .filter(|_| !line.starts_with('#'))
                .and_then(|(key, _)| Some((key, table.get(&section)?.get(key)?)));
            match value {
                Some((key, value)) => out.push_str(&format!("{key} = {value}")),
                None => out.push_str(line),
            }
            out.push('\n');
        }
        Ok(out)
    }
}

/// Puts an environment variable's text where the key is, with the type that the key has.
fn set(table: &mut toml::Table, section: &str, key: &str, text: &str) -> Result<()> {
    use toml::Value;
    let slot = table.get_mut(section).and_then(|s| s.get_mut(key));
    let Some(slot) = slot else {
        bail!("there is no key {section}.{key}")
    };
    *slot = match slot {
        Value::Integer(_) => match text.parse() {
            Ok(n) => Value::Integer(n),
            Err(_) => bail!("{section}.{key} is {text:?}, must be an integer"),
        },
        Value::Boolean(_) => match text.parse() {
            Ok(b) => Value::Boolean(b),
            Err(_) => bail!("{section}.{key} is {text:?}, must be true or false"),
        },
        _ => Value::String(text.to_owned()),
    };
    Ok(())
}

fn from_table<T: DeserializeOwned>(table: &toml::Table) -> Result<T> {
    Ok(T::deserialize(table.clone())?)
}

/// Keys of CometBFT v0.38's `config.toml` outside sections.
const COMET_KEYS: &[&str] = &[
    "version",
    "proxy_app",
    "moniker",
    "db_backend",
    "db_dir",
    "log_level",
    "log_format",
    "genesis_file",
    "priv_validator_key_file",
    "priv_validator_state_file",
    "priv_validator_laddr",
    "node_key_file",
    "abci",
    "filter_peers",
];
/// Its sections; those that the solo engine reads have their keys listed below.
const COMET_SECTIONS: &[&str] = &[
    "rpc",
    "p2p",
    "mempool",
    "statesync",
    "blocksync",
    "consensus",
    "storage",
    "tx_index",
    "instrumentation",
];
const COMET_RPC_KEYS: &[&str] = &[
    "laddr",
    "cors_allowed_origins",
    "cors_allowed_methods",
    "cors_allowed_headers",
    "grpc_laddr",
    "grpc_max_open_connections",
    "unsafe",
    "max_open_connections",
    "max_subscription_clients",
    "max_subscriptions_per_client",
    "experimental_subscription_buffer_size",
    "experimental_websocket_write_buffer_size",
    "experimental_close_on_slow_client",
    "timeout_broadcast_tx_commit",
    "max_request_batch_size",
    "max_body_bytes",
    "max_header_bytes",
    "tls_cert_file",
    "tls_key_file",
    "pprof_laddr",
];
const COMET_MEMPOOL_KEYS: &[&str] = &[
    "type",
    "recheck",
    "recheck_timeout",
    "broadcast",
    "wal_dir",
    "size",
    "max_txs_bytes",
    "cache_size",
    "keep-invalid-txs-in-cache",
    "max_tx_bytes",
    "max_batch_bytes",
    "experimental_max_gossip_connections_to_persistent_peers",
    "experimental_max_gossip_connections_to_non_persistent_peers",
];

/// Environment variables that set keys of the sections that the solo engine reads.
const COMET_ENV: &[&str] = &[
    "TENURED_RPC_LADDR",
    "TENURED_MEMPOOL_SIZE",
    "TENURED_MEMPOOL_MAX_TXS_BYTES",
    "TENURED_MEMPOOL_MAX_TX_BYTES",
    "TENURED_MEMPOOL_CACHE_SIZE",
];

impl CometConfig {
    /// Reads `config.toml` of a home, then the environment. A missing file is all defaults.
    pub fn load(home: &Home, env: &Env) -> Result<Self> {
        let path = home.config("config.toml");
        Self::parse(&read(&path)?, env).with_context(|| path.display().to_string())
    }

    /// From a file's text and the environment. Error: a key that CometBFT v0.38 does not know, a malformed value, or one beyond
    /// its limit; names it.
    pub fn parse(text: &str, env: &Env) -> Result<Self> {
        let table: toml::Table = toml::from_str(text)?;
        for (key, value) in &table {
            let (known, keys): (bool, &[&str]) = match (key.as_str(), value.as_table()) {
                ("rpc", Some(_)) => (true, COMET_RPC_KEYS),
                ("mempool", Some(_)) => (true, COMET_MEMPOOL_KEYS),
                (section, Some(_)) => (COMET_SECTIONS.contains(&section), &[]),
                (key, None) => (COMET_KEYS.contains(&key), &[]),
            };
            if !known {
                bail!("unknown key {key}: CometBFT v0.38 has none of this name");
            }
            let inner = value.as_table().filter(|_| !keys.is_empty());
            if let Some(odd) = inner.and_then(|t| t.keys().find(|k| !keys.contains(&k.as_str()))) {
                bail!("unknown key {key}.{odd}: CometBFT v0.38 has none of this name");
            }
        }
        for section in ["RPC", "MEMPOOL"] {
            let prefix = format!("{ENV_PREFIX}{section}_");
            let odd = env
                .keys()
                .find(|n| n.starts_with(&prefix) && !COMET_ENV.contains(&n.as_str()));
            if let Some(odd) = odd {
                bail!(
                    "environment variable {odd}: there is no such key; known are {}",
                    COMET_ENV.join(", ")
                );
            }
        }
        let settings = CometSettings { table: &table, env };
        let config = Self {
            moniker: settings.text("", "moniker", "tenure")?,
            rpc: listen_address("rpc.laddr", &settings.text("rpc", "laddr", "tcp://127.0.0.1:26657")?)?,
            mempool: MempoolSettings {
                size: settings.number("mempool", "size", 5_000, 1, 1_000_000)? as usize,
                max_txs_bytes: settings.number("mempool", "max_txs_bytes", 64 << 20, 1 << 10, 4 << 30)?,
                max_tx_bytes: settings.number("mempool", "max_tx_bytes", 1 << 20, 1 << 10, 22_020_096)? as usize,
                cache_size: settings.number("mempool", "cache_size", 10_000, 0, 10_000_000)? as usize,
            },
        };
        if config.moniker.is_empty() || config.moniker.len() > 70 {
            bail!(
                "moniker {:?} has {} bytes, must have 1 to 70",
                config.moniker,
                config.moniker.len()
            );
        }
        Ok(config)
    }
}

/// Keys by section and name, the environment first.
struct CometSettings<'a> {
    table: &'a toml::Table,
    env: &'a Env,
}

impl CometSettings<'_> {
    fn in_env(&self, section: &str, key: &str) -> Option<&String> {
        let name = if section.is_empty() {
            key.to_owned()
        } else {
            format!("{section}_{key}")
        };
        self.env.get(&format!("{ENV_PREFIX}{}", name.to_uppercase()))
    }

    fn in_file(&self, section: &str, key: &str) -> Option<&toml::Value> {
        if section.is_empty() {
            self.table.get(key)
        } else {
            self.table.get(section)?.get(key)
        }
    }

    fn text(&self, section: &str, key: &str, default: &str) -> Result<String> {
        if let Some(text) = self.in_env(section, key) {
            return Ok(text.clone());
        }
        match self.in_file(section, key) {
            None => Ok(default.to_owned()),
            Some(toml::Value::String(text)) => Ok(text.clone()),
            Some(other) => bail!("{} is {other}, must be a string", dotted(section, key)),
        }
    }

    fn number(&self, section: &str, key: &str, default: u64, min: u64, max: u64) -> Result<u64> {
        let name = dotted(section, key);
        let value = match (self.in_env(section, key), self.in_file(section, key)) {
            (Some(text), _) => text
                .parse()
                .ok()
                .with_context(|| format!("{name} is {text:?}, must be an integer"))?,
            (None, None) => default,
            (None, Some(toml::Value::Integer(n))) => u64::try_from(*n)
                .ok()
                .with_context(|| format!("{name} is {n}, must be {min} to {max}"))?,
            (None, Some(other)) => bail!("{name} is {other}, must be an integer"),
        };
        within(&name, value, min, max)?;
        Ok(value)
    }
}

fn dotted(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

/// An address in CometBFT's form, `tcp://host:port`; the scheme may be left out.
fn listen_address(key: &str, text: &str) -> Result<SocketAddr> {
    text.strip_prefix("tcp://")
        .unwrap_or(text)
        .parse()
        .ok()
        .with_context(|| {
            format!("{key} is {text:?}, must be tcp://<IP address>:<port>, for example tcp://127.0.0.1:26657")
        })
}

#[cfg(test)]
mod tests;
