//! `tenured comet state-sync`: lets a new node begin with another's snapshot.

use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use tenure_comet::rpc::Rpc;
use tenure_solo::Genesis;

use super::{operate, out, rpc};
use crate::config::{CometConfig, Env};
use crate::home::Home;
use crate::settings_file;

/// How far below the latest block the trusted one is unless it is named: snapshots are usually younger, and the light client begins there.
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
    /// JSON-RPC of two nodes or more, with commas between them
    #[arg(long, value_delimiter = ',', required = true, value_name = "HOST:PORT")]
    rpc_servers: Vec<String>,
    /// Height of a block that you trust [default: 2000 below the latest]
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
    let mut trusted = args.trust_height;
    let mut agreed = args.trust_hash.as_ref().map(|hash| hash.to_uppercase());
    if let Some(hash) = agreed
        .as_ref()
        .filter(|hash| hash.len() != 64 || hex::decode(hash).is_err())
    {
        bail!("--trust-hash is {hash:?}, must be the block's hash, 64 hex digits");
    }
    for server in &args.rpc_servers {
        ensure!(
            !server.starts_with("https://"),
            "{server} is asked over TLS, which this command does not speak. Name another server, or set statesync.trust_height and \
             statesync.trust_hash by `tenured config set config`"
        );
        let asked = Rpc::new(rpc::address(server)?);
        let in_server = || format!("RPC server {server}");
        let status = asked.status().with_context(in_server)?;
        ensure!(
            status.node.network == chain_id,
            "{server} is a node of chain {:?}, this home is one of {chain_id:?}",
            status.node.network
        );
        let first = status.earliest_height.max(1);
        let height = *trusted.get_or_insert((status.latest_height - BEHIND).max(first));
        let Some((id, _)) = asked.block(Some(height)).with_context(in_server)? else {
            bail!(
                "{server} has no block {height}, only {first} to {}. Choose one of them with --trust-height",
                status.latest_height
            );
        };
        let hash = hex::encode_upper(id.hash);
        let known = agreed.get_or_insert_with(|| hash.clone());
        ensure!(
            *known == hash,
            "block {height} of {server} has hash {hash}, not {known}: do not trust these servers"
        );
    }
    let (Some(height), Some(hash)) = (trusted, agreed) else {
        bail!("--rpc-servers is empty");
    };
    let servers: Vec<String> = args.rpc_servers.iter().map(|server| url(server)).collect();
    settings_file::edit(&home.config("config.toml"), |file| {
        file.set("statesync.enable", true)?;
        file.set("statesync.rpc_servers", servers.join(","))?;
        file.set("statesync.trust_height", height)?;
        file.set("statesync.trust_hash", hash.as_str())?;
        CometConfig::parse(&file.to_string(), env).map(drop)
    })?;
    out(format!("trusted block: height {height}, hash {hash}"));
    out("`tenured start --engine comet` fetches a snapshot now; it needs peers (p2p.persistent_peers in config.toml).");
    Ok(())
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
