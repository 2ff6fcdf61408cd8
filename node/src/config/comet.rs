//! CometBFT's `config.toml`, one file for both engines: what the solo engine uses of it, what a start of CometBFT needs to know, and a
//! check of all else, so that what CometBFT would end over is refused before it is started.

mod keys;

use std::fmt;
use std::net::SocketAddr;

use anyhow::{anyhow, bail, ensure, Context, Result};
use toml::Value;

use super::{read, within, Env, ENV_PREFIX};
use crate::home::Home;

/// Keys outside sections whose variable means something else to this program.
const NOT_IN_ENV: &[&str] = &["log_format", "version"];

/// What this program uses of CometBFT's `config.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct CometConfig {
    /// The node's name.
    pub moniker: String,
    /// Where the application serves ABCI for CometBFT.
    pub proxy_app: AppAddress,
    /// Where JSON-RPC listens.
    pub rpc: SocketAddr,
    /// Where other nodes connect.
    pub p2p: SocketAddr,
    /// Where Prometheus asks CometBFT, if it may.
    pub prometheus: Option<SocketAddr>,
    /// The mempool's limits.
    pub mempool: MempoolSettings,
    /// Keys (dotted) that the environment sets, with their values, for handing on to CometBFT.
    pub overrides: Vec<(String, String)>,
}

/// Where an application serves ABCI, in CometBFT's notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAddress {
    /// `unix://<path>`, relative to the home unless absolute.
    Unix(String),
    /// `tcp://<IP>:<port>`.
    Tcp(SocketAddr),
}

impl fmt::Display for AppAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Section `mempool`.
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
        check_names(&table)?;
        let settings = Settings { table: &table, env };
        let config = Self {
            moniker: settings.text("", "moniker", "tenure")?,
            proxy_app: app_address(&settings.text("", "proxy_app", "unix://data/app.sock")?)?,
            rpc: listen_address("rpc.laddr", &settings.text("rpc", "laddr", "tcp://127.0.0.1:26657")?)?,
            p2p: listen_address("p2p.laddr", &settings.text("p2p", "laddr", "tcp://0.0.0.0:26656")?)?,
            prometheus: if settings.flag("instrumentation", "prometheus", true)? {
                let text = settings.text("instrumentation", "prometheus_listen_addr", "127.0.0.1:26660")?;
                // Go's `:26660` means all interfaces.
                let full = if text.starts_with(':') {
                    format!("0.0.0.0{text}")
                } else {
                    text
                };
                Some(listen_address("instrumentation.prometheus_listen_addr", &full)?)
            } else {
                None
            },
            mempool: MempoolSettings {
                size: settings.number("mempool", "size", 5_000, 1, 1_000_000)? as usize,
                max_txs_bytes: settings.number("mempool", "max_txs_bytes", 64 << 20, 1 << 10, 4 << 30)?,
                max_tx_bytes: settings.number("mempool", "max_tx_bytes", 1 << 20, 1 << 10, 22_020_096)? as usize,
                cache_size: settings.number("mempool", "cache_size", 10_000, 0, 10_000_000)? as usize,
            },
            overrides: overrides(env)?,
        };
        if config.moniker.is_empty() || config.moniker.len() > 70 {
            bail!(
                "moniker {:?} has {} bytes, must have 1 to 70",
                config.moniker,
                config.moniker.len()
            );
        }
        // This program looks for these files itself.
        for (key, only) in [
            ("genesis_file", "config/genesis.json"),
            ("db_dir", "data"),
            ("abci", "socket"),
        ] {
            let value = settings.text("", key, only)?;
            ensure!(
                value == only,
                "{key} is {value:?}, must be {only:?}: tenured reads no other"
            );
        }
        check_values(&settings)?;
        Ok(config)
    }
}

fn check_names(table: &toml::Table) -> Result<()> {
    for (key, value) in table {
        let (section, inner) = match value.as_table() {
            None => ("", None),
            Some(inner) => (key.as_str(), Some(inner)),
        };
        let unknown = |name: String| anyhow!("unknown key {name}: CometBFT v0.38 has none of this name");
        let keys = keys::of(section).ok_or_else(|| unknown(key.clone()))?;
        let is_known = |key: &str| keys.iter().any(|(known, _)| *known == key);
        match inner {
            None => ensure!(is_known(key), unknown(key.clone())),
            Some(inner) => {
                if let Some(odd) = inner.keys().find(|key| !is_known(key)) {
                    return Err(unknown(dotted(section, odd)));
                }
            }
        }
    }
    Ok(())
}

/// Error: a value with which CometBFT would not start; names it.
fn check_values(settings: &Settings<'_>) -> Result<()> {
    for (section, keys) in keys::SECTIONS {
        for (key, kind) in *keys {
            if let Some(value) = settings.value(section, key) {
                kind.check(&value)
                    .map_err(|must| anyhow!("{} is {value}, must be {must}", dotted(section, key)))?;
            }
        }
    }
    check_together(settings)
}

/// Error: values that CometBFT refuses beside one another.
fn check_together(settings: &Settings<'_>) -> Result<()> {
    let number = |section, key, default| settings.number(section, key, default, 0, u64::MAX);
    let (buffer, write) = (
        "experimental_subscription_buffer_size",
        "experimental_websocket_write_buffer_size",
    );
    let (buffered, written) = (number("rpc", buffer, 200)?, number("rpc", write, 200)?);
    ensure!(
        written >= buffered,
        "rpc.{write} is {written}, must be at least rpc.{buffer}, {buffered}"
    );
    ensure!(
        settings.text("mempool", "type", "flood")? != "nop"
            || settings.flag("consensus", "create_empty_blocks", true)?,
        "mempool.type is \"nop\", so consensus.create_empty_blocks must be true: without a mempool nothing tells that a block is wanted"
    );
    if !settings.flag("statesync", "enable", false)? {
        return Ok(());
    }
    let on = "with statesync.enable = true";
    let servers = match settings.value("statesync", "rpc_servers") {
        Some(Value::Array(servers)) => servers.len(),
        Some(Value::String(servers)) => keys::entries(&servers).count(),
        _ => 0,
    };
    ensure!(
        servers >= 2,
        "statesync.rpc_servers names {servers}, must name at least 2 {on}"
    );
    let hash = settings.text("statesync", "trust_hash", "")?;
    ensure!(
        hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
        "statesync.trust_hash is {hash:?}, must be a block's hash, 64 hex digits, {on}"
    );
    for (key, default) in [
        ("trust_height", 0),
        ("chunk_fetchers", 4),
        ("max_snapshot_chunks", 100_000),
    ] {
        ensure!(
            number("statesync", key, default)? > 0,
            "statesync.{key} is 0, must be at least 1 {on}"
        );
    }
    for (key, default, least, or_zero) in [
        ("trust_period", "168h", "1ns", false),
        ("discovery_time", "15s", "5s", true),
        ("chunk_request_timeout", "10s", "5s", false),
    ] {
        let text = settings.text("statesync", key, default)?;
        let (span, shortest) = (keys::nanoseconds(&text), keys::nanoseconds(least));
        ensure!(
            span >= shortest || or_zero && span == Some(0),
            "statesync.{key} is {text:?}, must be at least {least} {on}"
        );
    }
    Ok(())
}

/// The environment variable of a key.
fn variable(section: &str, key: &str) -> String {
    dotted(section, key).replace(['.', '-'], "_").to_uppercase()
}

/// What the environment sets. Error: a variable that begins like a section's and names none of its keys.
fn overrides(env: &Env) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (section, keys) in keys::SECTIONS {
        let named = |name: &str| {
            let is_it = |key: &&str| format!("{ENV_PREFIX}{}", variable(section, key)) == name;
            keys.iter().map(|(key, _)| *key).find(is_it)
        };
        let prefix = format!("{ENV_PREFIX}{}_", section.to_uppercase());
        for (name, value) in env {
            match named(name) {
                Some(key) if section.is_empty() && NOT_IN_ENV.contains(&key) => {}
                Some(key) => found.push((dotted(section, key), value.clone())),
                None if !section.is_empty() && name.starts_with(&prefix) => {
                    let keys: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
                    bail!(
                        "environment variable {name}: section {section} of config.toml has no such key; it has {}",
                        keys.join(", ")
                    );
                }
                None => {}
            }
        }
    }
    Ok(found)
}

/// Keys by section and name, the environment first.
struct Settings<'a> {
    table: &'a toml::Table,
    env: &'a Env,
}

impl Settings<'_> {
    fn value(&self, section: &str, key: &str) -> Option<Value> {
        let in_env = || self.env.get(&format!("{ENV_PREFIX}{}", variable(section, key)));
        if !(section.is_empty() && NOT_IN_ENV.contains(&key)) {
            if let Some(text) = in_env() {
                return Some(Value::String(text.clone()));
            }
        }
        match section {
            "" => self.table.get(key).cloned(),
            section => self.table.get(section)?.get(key).cloned(),
        }
    }

    fn text(&self, section: &str, key: &str, default: &str) -> Result<String> {
        match self.value(section, key) {
            None => Ok(default.to_owned()),
            Some(Value::String(text)) => Ok(text),
            Some(other) => bail!("{} is {other}, must be a string", dotted(section, key)),
        }
    }

    fn flag(&self, section: &str, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.value(section, key) else {
            return Ok(default);
        };
        keys::flag(&value).with_context(|| format!("{} is {value}, must be true or false", dotted(section, key)))
    }

    fn number(&self, section: &str, key: &str, default: u64, min: u64, max: u64) -> Result<u64> {
        let name = dotted(section, key);
        let Some(value) = self.value(section, key) else {
            return Ok(default);
        };
        let number = keys::integer(&value).with_context(|| format!("{name} is {value}, must be an integer"))?;
        let number = u64::try_from(number)
            .ok()
            .with_context(|| format!("{name} is {number}, must be {min} to {max}"))?;
        within(&name, number, min, max)?;
        Ok(number)
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

fn app_address(text: &str) -> Result<AppAddress> {
    let address = match text.strip_prefix("unix://") {
        Some(path) => (!path.is_empty()).then(|| AppAddress::Unix(path.to_owned())),
        None => text
            .strip_prefix("tcp://")
            .and_then(|rest| rest.parse().ok())
            .map(AppAddress::Tcp),
    };
    address.with_context(|| {
        format!(
            "proxy_app is {text:?}, must be unix://<path> or tcp://<IP address>:<port>, for example unix://data/app.sock"
        )
    })
}
