//! `tenured comet state-sync`: lets a new node begin with another's snapshot.

use std::net::SocketAddr;

use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use tenure_comet::rpc::Rpc;
use tenure_solo::Genesis;

use super::{operate, out, rpc};
use crate::config::{CometConfig, Env};
use crate::home::Home;
use crate::settings_file;

/// How far below the latest block that all have the trusted one is unless it is named: snapshots are usually younger, and the light client begins there.
const BEHIND: i64 = 2_000;

#[derive(Args)]
#[command(after_help = "\
The servers are asked for one block, must agree on its hash, and are written into [statesync] of config.toml with it. From then on all is
verified against that block: compare the hash with a source that you believe, or give it with --trust-hash.
Only a node without blocks joins so; `tenured comet unsafe-reset-all` makes it one.

Examples:
  tenured comet state-sync --rpc-servers rpc.example.com:26657,rpc.example.org:26657
  tenured comet state-sync --rpc-servers 10.0.0.1:26657,10.0.0.2:26657 --trust-height 120000 --trust-hash 4C0A...")]
pub(super) struct StateSyncArgs {
    /// JSON-RPC of two different nodes or more, with commas between them
    #[arg(long, value_delimiter = ',', required = true, value_name = "HOST:PORT")]
    rpc_servers: Vec<String>,
    /// Height of a block that you trust [default: 2000 below the latest that all servers have]
    #[arg(long, value_name = "HEIGHT")]
    trust_height: Option<i64>,
    /// Its hash, which the servers must give too
    #[arg(long, value_name = "HEX", requires = "trust_height")]
    trust_hash: Option<String>,
}

pub(super) fn run(home: &Home, env: &Env, args: &StateSyncArgs) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    operate::require_not_begun(home, env)?;
    let genesis = std::fs::read(home.genesis()).with_context(|| home.genesis().display().to_string())?;
    let chain_id = Genesis::from_json(&genesis)?.chain_id;
    ensure!(
        args.rpc_servers.len() >= 2,
        "--rpc-servers names {} server, must name at least 2: one shows what the other hides",
        args.rpc_servers.len()
    );
    let servers: Vec<Server> = args
        .rpc_servers
        .iter()
        .map(|name| Server::ask(name, &chain_id))
        .collect::<Result<_>>()?;
    if let Some((first, second)) = twice(&servers) {
        bail!("--rpc-servers names one server twice, as {first} and {second}: one shows what another hides");
    }
    let height = args.trust_height.unwrap_or_else(|| suggested(&servers));
    let mut agreed = match &args.trust_hash {
        Some(hash) if hash.len() != 64 || hex::decode(hash).is_err() => {
            bail!("--trust-hash is {hash:?}, must be the block's hash, 64 hex digits")
        }
        given => given.as_ref().map(|hash| ("--trust-hash", hash.to_uppercase())),
    };
    for server in &servers {
        let hash = server.hash(height)?;
        let (by, known) = agreed.get_or_insert_with(|| (server.name, hash.clone()));
        ensure!(
            *known == hash,
            "block {height} has hash {known} according to {by} and {hash} according to {}: one of them is wrong or on another chain. Trust neither \
             until a source that you believe says which; --trust-hash gives it",
            server.name
        );
    }
    let Some((_, hash)) = agreed else {
        bail!("--rpc-servers is empty");
    };
    let urls: Vec<String> = servers.iter().map(|server| url(server.name)).collect();
    settings_file::edit(&home.config("config.toml"), |file| {
        file.set("statesync.enable", true)?;
        file.set("statesync.rpc_servers", urls.join(","))?;
        file.set("statesync.trust_height", height)?;
        file.set("statesync.trust_hash", hash.as_str())?;
        CometConfig::parse(&file.to_string(), env).map(drop)
    })?;
    out(format!("trusted block: height {height}, hash {hash}"));
    out("`tenured start --engine comet` fetches a snapshot now; it needs peers (p2p.persistent_peers in config.toml).");
    Ok(())
}

/// A node that is asked.
struct Server<'a> {
    /// As it was typed.
    name: &'a str,
    address: SocketAddr,
    rpc: Rpc,
    /// Heights of the blocks that it has.
    first: i64,
    latest: i64,
}

impl<'a> Server<'a> {
    /// Error: it cannot be asked, does not answer, or is of another chain.
    fn ask(name: &'a str, chain_id: &str) -> Result<Self> {
        ensure!(
            !name.starts_with("https://"),
            "{name} is asked over TLS, which this command does not speak. Name another server, or set statesync.trust_height and \
             statesync.trust_hash by `tenured config set config`"
        );
        let address = rpc::address(name)?;
        let rpc = Rpc::new(address);
        let status = rpc.status().with_context(|| format!("RPC server {name}"))?;
        ensure!(
            status.node.network == chain_id,
            "{name} is a node of chain {:?}, this home is one of {chain_id:?}",
            status.node.network
        );
        Ok(Self {
            name,
            address,
            rpc,
            first: status.earliest_height.max(1),
            latest: status.latest_height,
        })
    }

    /// Hash of its block of this height, upper-case hex. Error: it has none.
    fn hash(&self, height: i64) -> Result<String> {
        let found = self.rpc.block(Some(height));
        match found.with_context(|| format!("RPC server {}", self.name))? {
            Some((id, _)) => Ok(hex::encode_upper(id.hash)),
            None => bail!(
                "{} has no block {height}, only {} to {}. Choose one that all servers have with --trust-height, or name another server",
                self.name,
                self.first,
                self.latest
            ),
        }
    }
}

/// Two names of one server.
fn twice<'a>(servers: &[Server<'a>]) -> Option<(&'a str, &'a str)> {
    servers.iter().enumerate().find_map(|(index, server)| {
        let before = servers[..index].iter().find(|other| other.address == server.address)?;
        Some((before.name, server.name))
    })
}

/// A height that every server has, if there is one: [`BEHIND`] the slowest.
fn suggested(servers: &[Server<'_>]) -> i64 {
    let latest = servers.iter().map(|server| server.latest).min().unwrap_or_default();
    let first = servers.iter().map(|server| server.first).max().unwrap_or_default();
    (latest - BEHIND).max(first)
}

/// A server as CometBFT has it.
fn url(server: &str) -> String {
    let bare = server.strip_prefix("tcp://").unwrap_or(server);
    if bare.contains("://") {
        bare.to_owned()
    } else {
        format!("http://{bare}")
    }
}
