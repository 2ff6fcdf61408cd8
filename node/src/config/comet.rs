//! CometBFT's `config.toml`, one file for both engines: what the solo engine uses of it, what a start of CometBFT needs to know, and a
//! check of all key names, because CometBFT itself ignores a misspelt key.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{bail, ensure, Context, Result};

use super::{read, within, Env, ENV_PREFIX};
use crate::home::Home;

/// Keys outside sections.
const TOP: &[&str] = &[
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
    "event_bus_buffer_capacity",
];
/// Sections and their keys, as of v0.38.25.
const SECTIONS: &[(&str, &[&str])] = &[
    (
        "rpc",
        &[
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
        ],
    ),
    (
        "p2p",
        &[
            "laddr",
            "external_address",
            "seeds",
            "persistent_peers",
            "addr_book_file",
            "addr_book_strict",
            "max_num_inbound_peers",
            "max_num_outbound_peers",
            "unconditional_peer_ids",
            "persistent_peers_max_dial_period",
            "flush_throttle_timeout",
            "max_packet_msg_payload_size",
            "send_rate",
            "recv_rate",
            "pex",
            "seed_mode",
            "private_peer_ids",
            "allow_duplicate_ip",
            "handshake_timeout",
            "dial_timeout",
        ],
    ),
    (
        "mempool",
        &[
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
        ],
    ),
    (
        "statesync",
        &[
            "enable",
            "rpc_servers",
            "trust_height",
            "trust_hash",
            "trust_period",
            "discovery_time",
            "temp_dir",
            "chunk_request_timeout",
            "chunk_fetchers",
            "max_snapshot_chunks",
        ],
    ),
    ("blocksync", &["version"]),
    (
        "consensus",
        &[
            "wal_file",
            "timeout_propose",
            "timeout_propose_delta",
            "timeout_prevote",
            "timeout_prevote_delta",
            "timeout_precommit",
            "timeout_precommit_delta",
            "timeout_commit",
            "double_sign_check_height",
            "skip_timeout_commit",
            "create_empty_blocks",
            "create_empty_blocks_interval",
            "peer_gossip_sleep_duration",
            "peer_query_maj23_sleep_duration",
            "block_time_tolerance",
        ],
    ),
    ("storage", &["discard_abci_responses"]),
    ("tx_index", &["indexer", "psql-conn"]),
    (
        "instrumentation",
        &[
            "prometheus",
            "prometheus_listen_addr",
            "max_open_connections",
            "namespace",
        ],
    ),
];
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
        Ok(config)
    }
}

fn check_names(table: &toml::Table) -> Result<()> {
    for (key, value) in table {
        let inner = value.as_table();
        let known = match inner {
            None => TOP.contains(&key.as_str()),
            Some(_) => keys(key).is_some(),
        };
        ensure!(known, "unknown key {key}: CometBFT v0.38 has none of this name");
        let odd = inner.and_then(|t| {
            t.keys()
                .find(|k| keys(key).is_some_and(|keys| !keys.contains(&k.as_str())))
        });
        if let Some(odd) = odd {
            bail!("unknown key {key}.{odd}: CometBFT v0.38 has none of this name");
        }
    }
    Ok(())
}

fn keys(section: &str) -> Option<&'static [&'static str]> {
    SECTIONS
        .iter()
        .find(|(name, _)| *name == section)
        .map(|(_, keys)| *keys)
}

/// The environment variable of a key.
fn variable(section: &str, key: &str) -> String {
    dotted(section, key).replace(['.', '-'], "_").to_uppercase()
}

/// What the environment sets. Error: a variable that begins like a section's and names none of its keys.
fn overrides(env: &Env) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for key in TOP.iter().filter(|key| !NOT_IN_ENV.contains(key)) {
        if let Some(value) = env.get(&format!("{ENV_PREFIX}{}", variable("", key))) {
            found.push(((*key).to_owned(), value.clone()));
        }
    }
    for (section, keys) in SECTIONS {
        let prefix = format!("{ENV_PREFIX}{}_", section.to_uppercase());
        for (name, value) in env.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            let key = keys
                .iter()
                .find(|key| format!("{ENV_PREFIX}{}", variable(section, key)) == *name);
            let Some(key) = key else {
                bail!(
                    "environment variable {name}: section {section} of config.toml has no such key; it has {}",
                    keys.join(", ")
                );
            };
            found.push((dotted(section, key), value.clone()));
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
    fn in_env(&self, section: &str, key: &str) -> Option<&String> {
        self.env.get(&format!("{ENV_PREFIX}{}", variable(section, key)))
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

    fn flag(&self, section: &str, key: &str, default: bool) -> Result<bool> {
        let name = dotted(section, key);
        match (self.in_env(section, key), self.in_file(section, key)) {
            (Some(text), _) => text
                .parse()
                .ok()
                .with_context(|| format!("{name} is {text:?}, must be true or false")),
            (None, None) => Ok(default),
            (None, Some(toml::Value::Boolean(value))) => Ok(*value),
            (None, Some(other)) => bail!("{name} is {other}, must be true or false"),
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
