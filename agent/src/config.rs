//! `config.toml`: what the owner decided. Sizes and amounts are written as people write them.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use tenure_client::{
    chain::DEFAULT_NODE,
    files::{self, Existing},
    keyring::Backend,
    units::{parse_duration, parse_size, show_size},
};
use tenure_types::{Coin, Resources, BASE_DENOM};

use crate::{capacity, pricing::Prices};

/// Where the gateway listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9191";

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// gRPC address of a node.
    pub node: String,
    /// Name of the key in the keyring.
    pub key: String,
    /// How the key is stored.
    pub keyring: Backend,
    /// Name for people.
    pub moniker: String,
    /// Where the gateway listens.
    pub listen: SocketAddr,
    /// Where tenants reach it.
    pub endpoint: String,
    /// What is offered.
    pub capacity: Capacity,
    /// What it costs.
    pub price: Price,
    /// Bounds.
    pub limits: Limits,
}

/// What is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Thousandths of one core.
    pub cpu_milli: u64,
    /// Memory, for example `8GiB`.
    pub memory: String,
    /// Disk, for example `50GiB`.
    pub storage: String,
}

/// What it costs per hour, for example `0.1ten`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// One core.
    pub cpu_core: String,
    /// One GiB of memory.
    pub memory_gib: String,
    /// One GiB of storage.
    pub storage_gib: String,
    /// Least price of a lease.
    pub floor: String,
}

/// Bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Longest module.
    pub module: String,
    /// Longest log; what comes after is dropped.
    pub log: String,
    /// How long a closed lease's files are kept.
    pub retention: String,
    /// Below this balance nothing new is claimed.
    pub reserve: String,
    /// Earnings from which on they are withdrawn while leases run; 0 leaves it to the close of each lease.
    pub withdraw_from: String,
}

/// An amount of the chain's own token, base units.
pub fn base_units(field: &str, text: &str) -> Result<u128> {
    let coin: Coin = text.parse().map_err(|e| anyhow::anyhow!("{field}: {e}"))?;
    if coin.denom != BASE_DENOM {
        bail!("{field}: {text:?} is in {}, must be in ten or {BASE_DENOM}", coin.denom);
    }
    Ok(coin.amount.get())
}

impl Config {
    /// Defaults for this machine: all cores, three quarters of the free memory, half of the free disk.
    pub fn suggest(home: &Path) -> Result<Self> {
        let free = capacity::measure(home).context("this machine could not be measured")?;
        let listen: SocketAddr = DEFAULT_LISTEN.parse().context("DEFAULT_LISTEN")?;
        let mib = |bytes: u64| format!("{}MiB", bytes >> 20);
        Ok(Self {
            node: DEFAULT_NODE.to_owned(),
            key: "provider".to_owned(),
            keyring: Backend::File,
            moniker: "my-provider".to_owned(),
            listen,
            endpoint: format!("http://{listen}"),
            capacity: Capacity {
                cpu_milli: free.cpu_milli,
                memory: mib(free.memory_bytes / 4 * 3),
                storage: mib(free.storage_bytes / 2),
            },
            price: Price {
                cpu_core: "0.1ten".to_owned(),
                memory_gib: "0.05ten".to_owned(),
                storage_gib: "0.001ten".to_owned(),
                floor: "0.01ten".to_owned(),
            },
            limits: Limits {
                module: "16MiB".to_owned(),
                log: "8MiB".to_owned(),
                retention: "1h".to_owned(),
                reserve: "1ten".to_owned(),
                withdraw_from: "10ten".to_owned(),
            },
        })
    }

    /// Reads and checks the file. Error: what is wrong in it, with the field.
    pub fn load(home: &Path) -> Result<Self> {
        let path = home.join("config.toml");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: not readable; make one with: tenure-agent init", path.display()))?;
        let config: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        config.check().with_context(|| path.display().to_string())?;
        Ok(config)
    }

    /// Writes the file.
    pub fn save(&self, home: &Path) -> Result<()> {
        self.check()?;
        Ok(files::write(
            &home.join("config.toml"),
            toml::to_string_pretty(self)?.as_bytes(),
            Existing::Replace,
        )?)
    }

    /// Error: a field does not read.
    pub fn check(&self) -> Result<()> {
        let (_, _, _) = (self.resources()?, self.prices()?, self.module_bytes()?);
        let (_, _, _, _) = (
            self.log_bytes()?,
            self.retention_ms()?,
            self.reserve()?,
            self.withdraw_from()?,
        );
        if self.moniker.is_empty() || self.moniker.len() > 64 {
            bail!(
                "moniker: {:?} has {} bytes, must have 1 to 64",
                self.moniker,
                self.moniker.len()
            );
        }
        let authority = self.endpoint.strip_prefix("http://").unwrap_or_default();
        let port = authority
            .rsplit_once(':')
            .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
        if port.is_none_or(|port| port == 0) || self.endpoint.len() > 256 {
            bail!(
                "endpoint: {:?} must be http://host:port, as tenants reach this machine",
                self.endpoint
            );
        }
        if authority.starts_with("0.0.0.0:") || authority.starts_with("[::]:") {
            bail!(
                "endpoint: {:?} is no address that tenants could reach; give this machine's name or address",
                self.endpoint
            );
        }
        Ok(())
    }

    fn size(field: &str, text: &str) -> Result<u64> {
        parse_size(text).map_err(|e| anyhow::anyhow!("{field}: {e}"))
    }

    /// What is offered.
    pub fn resources(&self) -> Result<Resources> {
        let resources = Resources {
            cpu_milli: self.capacity.cpu_milli,
            memory_bytes: Self::size("capacity.memory", &self.capacity.memory)?,
            storage_bytes: Self::size("capacity.storage", &self.capacity.storage)?,
        };
        if resources.cpu_milli == 0 || resources.memory_bytes == 0 {
            bail!("capacity: {resources}; CPU and memory must be above zero");
        }
        Ok(resources)
    }

    /// Unit prices.
    pub fn prices(&self) -> Result<Prices> {
        let price = |field: &str, text: &str| -> Result<u64> {
            u64::try_from(base_units(field, text)?).with_context(|| format!("{field}: {text:?} exceeds {}", u64::MAX))
        };
        Ok(Prices {
            cpu_core: price("price.cpu_core", &self.price.cpu_core)?,
            memory_gib: price("price.memory_gib", &self.price.memory_gib)?,
            storage_gib: price("price.storage_gib", &self.price.storage_gib)?,
            floor: price("price.floor", &self.price.floor)?,
        })
    }

    /// Takes `cpu=0.1ten,memory=0.05ten,storage=0.001ten,floor=0.01ten`, any of them.
    pub fn set_price(&mut self, text: &str) -> Result<()> {
        for part in text.split(',') {
            let (name, value) = part
                .split_once('=')
                .with_context(|| format!("--price: {part:?} must be name=amount"))?;
            let field = match name.trim() {
                "cpu" => &mut self.price.cpu_core,
                "memory" => &mut self.price.memory_gib,
                "storage" => &mut self.price.storage_gib,
                "floor" => &mut self.price.floor,
                other => bail!("--price: {other:?} must be cpu, memory, storage or floor"),
            };
            value.trim().clone_into(field);
        }
        self.prices().map(drop)
    }

    /// Longest module, bytes.
    pub fn module_bytes(&self) -> Result<usize> {
        Ok(usize::try_from(Self::size("limits.module", &self.limits.module)?)?)
    }

    /// Longest log, bytes.
    pub fn log_bytes(&self) -> Result<u64> {
        Self::size("limits.log", &self.limits.log)
    }

    /// Retention, milliseconds.
    pub fn retention_ms(&self) -> Result<u64> {
        parse_duration(&self.limits.retention).map_err(|e| anyhow::anyhow!("limits.retention: {e}"))
    }

    /// Reserve, base units.
    pub fn reserve(&self) -> Result<u128> {
        base_units("limits.reserve", &self.limits.reserve)
    }

    /// Earnings from which on they are withdrawn, base units.
    pub fn withdraw_from(&self) -> Result<u128> {
        base_units("limits.withdraw_from", &self.limits.withdraw_from)
    }

    /// The offer in one line.
    pub fn offer(&self) -> Result<String> {
        let r = self.resources()?;
        Ok(format!(
            "{} mCPU, {} memory, {} storage",
            r.cpu_milli,
            show_size(r.memory_bytes),
            show_size(r.storage_bytes)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suggestion_reads_back_and_mistakes_name_their_field() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut config = Config::suggest(dir.path()).expect("suggestion");
        config.save(dir.path()).expect("save");
        assert_eq!(Config::load(dir.path()).expect("load"), config);
        config.set_price("cpu=1ten,floor=5uten").expect("price");
        let prices = config.prices().expect("prices");
        assert_eq!((prices.cpu_core, prices.floor), (1_000_000, 5));
        assert!(config
            .set_price("gpu=1ten")
            .is_err_and(|e| e.to_string().contains("gpu")));
        let wrong = |change: &dyn Fn(&mut Config), field: &str| {
            let mut c = Config::suggest(dir.path()).expect("suggestion");
            change(&mut c);
            let error = c.check().expect_err(field).to_string();
            assert!(error.contains(field), "{error}");
        };
        wrong(&|c| c.price.floor = "1abc".into(), "price.floor");
        wrong(&|c| c.capacity.memory = "much".into(), "capacity.memory");
        wrong(&|c| c.endpoint = "http://0.0.0.0:1".into(), "endpoint");
        wrong(&|c| c.endpoint = "localhost:1".into(), "endpoint");
        wrong(&|c| c.moniker = String::new(), "moniker");
        let path = dir.path().join("config.toml");
        fs::write(&path, fs::read_to_string(&path).expect("read") + "\nsurprise = 1\n").expect("write");
        assert!(Config::load(dir.path()).is_err());
    }
}
