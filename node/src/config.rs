//! Settings: `app.toml` (this node), and CometBFT's `config.toml` in the module `comet`.
//!
//! Precedence: environment, file, default. Errors name the key, the value and the limit.

mod comet;

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

pub use comet::{AppAddress, CometConfig, MempoolSettings};

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
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AppConfig {
    /// The gRPC server.
    pub grpc: GrpcConfig,
    /// The REST server.
    pub api: ApiConfig,
    /// The solo engine.
    pub solo: SoloSettings,
    /// The application's store.
    pub store: StoreConfig,
    /// Snapshots.
    pub state_sync: StateSyncConfig,
    /// What every block did.
    pub archive: ArchiveConfig,
    /// The faucet.
    pub faucet: FaucetConfig,
    /// Metrics.
    pub telemetry: TelemetryConfig,
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

/// Section `api`, named as in the Cosmos SDK. Its messages, requests and times are limited by section `grpc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApiConfig {
    /// Whether there is one.
    pub enable: bool,
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections served at a time.
    pub max_open_connections: usize,
    /// Longest request body.
    pub max_body_bytes: usize,
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
    /// Blocks that the engine keeps, those that snapshots need besides; 0 for all.
    pub min_retain_blocks: u64,
}

/// Section `state-sync`, named as in the Cosmos SDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StateSyncConfig {
    /// Blocks from one snapshot to the next; 0: none is made.
    pub snapshot_interval: u64,
    /// How many are kept.
    pub snapshot_keep_recent: usize,
}

/// Section `archive`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArchiveConfig {
    /// Heights whose results and events are kept, counted from the newest; 0 for all.
    pub keep_heights: u64,
}

impl ArchiveConfig {
    /// As the archive takes it.
    pub fn options(&self) -> tenure_archive::ArchiveOptions {
        tenure_archive::ArchiveOptions {
            keep_heights: (self.keep_heights > 0).then_some(self.keep_heights),
            ..tenure_archive::ArchiveOptions::default()
        }
    }
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

/// Section `telemetry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TelemetryConfig {
    /// Whether metrics are served.
    pub enabled: bool,
    /// Where Prometheus finds them.
    pub address: SocketAddr,
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

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            enable: false,
            address: SocketAddr::from(([127, 0, 0, 1], 1317)),
            max_open_connections: 1_000,
            max_body_bytes: 4 << 20,
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
            min_retain_blocks: 0,
        }
    }
}

impl Default for StateSyncConfig {
    fn default() -> Self {
        Self {
            snapshot_interval: 1_000,
            snapshot_keep_recent: 2,
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

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            address: SocketAddr::from(([127, 0, 0, 1], 26661)),
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
            let prefix = format!("{ENV_PREFIX}{}_", section.replace('-', "_").to_uppercase());
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
        within("api.max-open-connections", self.api.max_open_connections, 1, 65_536)?;
        within("api.max-body-bytes", self.api.max_body_bytes, 1 << 10, 64 << 20)?;
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
            "store.min-retain-blocks",
            self.store.min_retain_blocks,
            0,
            u64::MAX >> 1,
        )?;
        within(
            "state-sync.snapshot-interval",
            self.state_sync.snapshot_interval,
            0,
            1_000_000_000,
        )?;
        within(
            "state-sync.snapshot-keep-recent",
            self.state_sync.snapshot_keep_recent,
            1,
            10,
        )?;
        within("archive.keep-heights", self.archive.keep_heights, 0, u64::MAX >> 1)?;
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

#[cfg(test)]
mod tests;
