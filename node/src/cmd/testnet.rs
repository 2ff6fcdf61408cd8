//! `tenured testnet`: homes of a network of several validators, under simd's flags.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use clap::{Args, Subcommand};
use serde_json::{json, Value};
use tendermint::Time;
use tenure_client::keyring::{Backend, Keyring};
use tenure_client::keys::{new_mnemonic, Key};
use tenure_client::passphrase::Passphrase;
use tenure_solo::ValidatorKey;
use tenure_types::{Address, Amount, Coin, Coins};

use super::{devnet, genesis as genesis_cmd, out};
use crate::application::Profile;
use crate::client_config::Output;
use crate::config::{AppConfig, Span};
use crate::genesis;
use crate::gentx::{self, Commission, Description, GenTx, NewValidator};
use crate::home::{create_dir, create_file, Home};
use crate::init::{init, NewHome};
use crate::settings_file::{self, SettingsFile};

/// Most nodes of one network here: ports and addresses have room for them.
const MAX_NODES: u16 = 100;
/// With `--single-host` the ports of node i are the usual ones plus this times i.
const PORT_STEP: u16 = 10;
/// What every validator's account begins with, base units: a million TEN.
const BALANCE: u128 = 1_000_000_000_000;
/// What it delegates to itself, base units: 100 TEN, a power of 100.
const STAKE: u128 = 100_000_000;

#[derive(Subcommand)]
pub(super) enum TestnetCommand {
    /// Write the homes of a network: keys, settings, one genesis with all validators
    InitFiles(Box<InitFilesArgs>),
}

#[derive(Args)]
#[command(after_help = "\
Every node gets <output-dir>/node<i>: settings, keys, the same genesis, persistent_peers, and the validator's account key `node<i>` in a test
keyring (its words are in key_seed.json). Genesis transactions are in <output-dir>/gentxs.
With --single-host all nodes are on 127.0.0.1 and node i has the usual ports plus 10*i: P2P 26656, JSON-RPC 26657, gRPC 9090, REST 1317.
Otherwise node i has --starting-ip-address plus i, the usual ports, and its servers listen on all interfaces.

Examples:
  tenured testnet init-files -v 4 --single-host
  tenured testnet init-files -v 4 --full-nodes 1 --starting-ip-address 10.77.0.1 -o net
Then, on each: tenured start --engine comet --home .testnets/node0")]
pub(super) struct InitFilesArgs {
    /// How many validators
    #[arg(
        short = 'v',
        long = "validator-count",
        visible_alias = "v",
        default_value_t = 4,
        value_name = "N"
    )]
    validators: u16,
    /// How many nodes beside them that do not validate
    #[arg(long, default_value_t = 0, value_name = "N")]
    full_nodes: u16,
    /// Where the homes go
    #[arg(
        short,
        long,
        visible_short_alias = 'd',
        default_value = ".testnets",
        value_name = "DIR"
    )]
    output_dir: PathBuf,
    /// What the homes' names begin with
    #[arg(long, default_value = "node", value_name = "PREFIX")]
    node_dir_prefix: String,
    /// A folder inside each, as simd has it; none by default
    #[arg(long, default_value = "", value_name = "NAME")]
    node_daemon_home: String,
    /// The chain's id
    #[arg(long, default_value = "tenure-testnet-1")]
    chain_id: String,
    /// Address of the first node; the others follow
    #[arg(long, default_value = "192.168.0.1", value_name = "IP")]
    starting_ip_address: Ipv4Addr,
    /// All nodes on this machine, with ports of their own
    #[arg(long, visible_alias = "single-machine", conflicts_with = "starting_ip_address")]
    single_host: bool,
    /// How the validators' account keys are stored
    #[arg(long, default_value = "test", value_name = "BACKEND")]
    keyring_backend: Backend,
    /// Time between blocks that CometBFT waits for late votes, for example 500ms
    #[arg(long, default_value = "1s", value_name = "DURATION")]
    commit_timeout: Span,
    /// Parameters with short times, for demonstrations and tests
    #[arg(long)]
    fast: bool,
    /// An account with money from the beginning; may be repeated
    #[arg(long = "account", value_name = "ADDRESS=COINS")]
    accounts: Vec<String>,
    /// A faucet at the first node
    #[arg(long)]
    faucet: bool,
    /// Time of the first block, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    genesis_time: Option<String>,
    /// What is printed; -o is the directory, as in simd
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Where one node listens.
struct Ports {
    /// At which others reach it.
    ip: IpAddr,
    /// On which its servers listen.
    bind: IpAddr,
    offset: u16,
}

impl Ports {
    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.bind, port + self.offset)
    }

    fn peer(&self, node_id: &str) -> String {
        format!("{node_id}@{}", SocketAddr::new(self.ip, 26656 + self.offset))
    }
}

impl InitFilesArgs {
    fn ports(&self, index: u16) -> Result<Ports> {
        if self.single_host {
            let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
            return Ok(Ports {
                ip,
                bind: ip,
                offset: PORT_STEP * index,
            });
        }
        let first = u32::from(self.starting_ip_address);
        let ip = first.checked_add(u32::from(index)).map(Ipv4Addr::from);
        let ip = ip.with_context(|| {
            format!(
                "--starting-ip-address {} has no {index} addresses after it",
                self.starting_ip_address
            )
        })?;
        Ok(Ports {
            ip: ip.into(),
            bind: Ipv4Addr::UNSPECIFIED.into(),
            offset: 0,
        })
    }

    fn directory(&self, index: u16) -> PathBuf {
        self.output_dir.join(format!("{}{index}", self.node_dir_prefix))
    }

    fn home(&self, index: u16) -> Home {
        let dir = self.directory(index);
        // Joining nothing would leave a slash at the end.
        Home::new(if self.node_daemon_home.is_empty() {
            dir
        } else {
            dir.join(&self.node_daemon_home)
        })
    }

    fn settings(&self, ports: &Ports, faucet: bool) -> AppConfig {
        let mut config = AppConfig::default();
        config.grpc.address = ports.address(9090);
        if faucet {
            config.faucet = devnet::faucet();
        }
        config
    }
}

/// One node of the network.
struct Node {
    name: String,
    home: Home,
    ports: Ports,
    id: String,
}

pub(super) fn init_files(args: &InitFilesArgs) -> Result<()> {
    ensure!(args.validators >= 1, "-v is 0, must be at least 1");
    let count = args.validators.saturating_add(args.full_nodes);
    ensure!(count <= MAX_NODES, "{count} nodes are too many, at most {MAX_NODES}");
    let genesis_time = super::time(args.genesis_time.as_deref())?;
    let accounts = args
        .accounts
        .iter()
        .map(|text| genesis::parse_account(text))
        .collect::<Result<Vec<_>>>()?;
    for index in 0..count {
        let root = args.directory(index);
        ensure!(
            !root.exists(),
            "{} exists already; nothing was changed. Choose another --output-dir, or remove this one first",
            root.display()
        );
    }
    // A network that is half made is of no use.
    let made = write(args, count, genesis_time, accounts);
    if made.is_err() {
        let roots = (0..count)
            .map(|index| args.directory(index))
            .chain([args.output_dir.join("gentxs")]);
        for root in roots.filter(|root| root.exists()) {
            std::fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
    }
    let (nodes, keys) = made?;
    report(args, &nodes, &keys);
    Ok(())
}

fn write(
    args: &InitFilesArgs,
    count: u16,
    genesis_time: Time,
    mut accounts: Vec<(Address, Coins)>,
) -> Result<(Vec<Node>, Vec<Key>)> {
    let nodes = (0..count)
        .map(|index| make(args, index, genesis_time))
        .collect::<Result<Vec<_>>>()?;
    let validators = &nodes[..usize::from(args.validators)];

    // Node 0's genesis has the faucet's account, if there is a faucet; all others get the same.
    let mut document = genesis::read(&nodes[0].home.genesis())?;
    let keys = validators
        .iter()
        .map(|node| account_key(args, node))
        .collect::<Result<Vec<_>>>()?;
    accounts.extend(keys.iter().map(|key| (key.address(), Coins::from(Coin::base(BALANCE)))));
    for (address, coins) in &accounts {
        genesis::add_account(&mut document, address, coins)?;
    }
    let gentxs = args.output_dir.join("gentxs");
    create_dir(&gentxs)?;
    for (node, key) in validators.iter().zip(&keys) {
        let new = NewValidator {
            description: Description {
                moniker: node.name.clone(),
                ..Description::default()
            },
            commission: Commission::default(),
            min_self_delegation: Amount::new(1),
            consensus_key: ValidatorKey::load(&node.home.validator_key())?.public_key(),
            stake: Coin::base(STAKE),
            peer: node.ports.peer(&node.id),
        };
        let bytes = GenTx::sign(new, &args.chain_id, key)?.to_bytes()?;
        create_file(&gentxs.join(format!("{}.json", node.name)), &bytes, 0o644)?;
    }
    let candidates = genesis_cmd::read_gentxs(&gentxs, &args.chain_id)?;
    gentx::collect(&mut document, &candidates)?;
    let bytes = genesis::bytes(&document);
    genesis::validate(&bytes)?;
    for node in &nodes {
        crate::files::replace(&node.home.genesis(), &bytes)?;
        configure(args, node, &genesis_cmd::peers(&candidates, &node.id))?;
    }
    Ok((nodes, keys))
}

fn make(args: &InitFilesArgs, index: u16, genesis_time: Time) -> Result<Node> {
    let (home, ports) = (args.home(index), args.ports(index)?);
    let name = format!("{}{index}", args.node_dir_prefix);
    let faucet = args.faucet && index == 0;
    let new = NewHome {
        moniker: name.clone(),
        chain_id: args.chain_id.clone(),
        genesis_time,
        profile: if args.fast { Profile::Fast } else { Profile::Normal },
        accounts: Vec::new(),
        faucet: faucet.then(devnet::faucet_funds),
        config: args.settings(&ports, faucet),
        validator_words: None,
    };
    let made = init(&home, new)?;
    Ok(Node {
        name,
        id: made.node_id,
        home,
        ports,
    })
}

/// The validator's account: a key of the node's name in its home, its words beside it as simd leaves them.
fn account_key(args: &InitFilesArgs, node: &Node) -> Result<Key> {
    let ring = Keyring::new(node.home.root(), args.keyring_backend, Passphrase::EnvOrPrompt);
    let words = new_mnemonic()?;
    let key = ring.add(&node.name, &words)?;
    if args.keyring_backend == Backend::Test {
        let seed = format!("{}\n", json!({ "secret": words.to_string() }));
        create_file(&node.home.root().join("key_seed.json"), seed.as_bytes(), 0o600)?;
    }
    Ok(key)
}

/// The settings that make the node one of this network.
fn configure(args: &InitFilesArgs, node: &Node, peers: &str) -> Result<()> {
    let tcp = |port: u16| format!("tcp://{}", node.ports.address(port));
    settings_file::edit(&node.home.config("config.toml"), |file| {
        file.set("p2p.laddr", tcp(26656))?;
        file.set(
            "p2p.external_address",
            SocketAddr::new(node.ports.ip, 26656 + node.ports.offset).to_string(),
        )?;
        file.set("p2p.persistent_peers", peers)?;
        // Private addresses are all there are.
        file.set("p2p.addr_book_strict", false)?;
        file.set("p2p.allow_duplicate_ip", args.single_host)?;
        file.set("rpc.laddr", tcp(26657))?;
        file.set("consensus.timeout_commit", args.commit_timeout.to_string())?;
        file.set(
            "instrumentation.prometheus_listen_addr",
            node.ports.address(26660).to_string(),
        )
    })?;
    settings_file::edit(&node.home.config("app.toml"), |file| {
        set_address(file, "api.address", node.ports.address(1317))?;
        set_address(file, "telemetry.address", node.ports.address(26661))
    })?;
    settings_file::edit(&node.home.config("client.toml"), |file| {
        let reached = |port: u16| SocketAddr::new(node.ports.ip, port + node.ports.offset);
        file.set("keyring-backend", args.keyring_backend.to_string())?;
        file.set("node", format!("tcp://{}", reached(26657)))?;
        file.set("grpc", format!("http://{}", reached(9090)))
    })
}

/// Sets an address in the form that the file has it in: `host:port` or `tcp://host:port`.
fn set_address(file: &mut SettingsFile, key: &str, address: SocketAddr) -> Result<()> {
    let Some(there) = file.get(key).and_then(|item| item.as_str()) else {
        bail!("there is no key {key}");
    };
    let scheme = there.find("://").map_or("", |end| &there[..end + 3]).to_owned();
    file.set(key, format!("{scheme}{address}"))
}

fn report(args: &InitFilesArgs, nodes: &[Node], keys: &[Key]) {
    let path = |path: &Path| path.display().to_string();
    let records: Vec<Value> = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| {
            json!({
                "name": node.name,
                "home": path(node.home.root()),
                "node_id": node.id,
                "validator": index < keys.len(),
                "account": keys.get(index).map(|key| key.address().to_string()),
                "p2p": node.ports.peer(&node.id),
                "rpc": format!("tcp://{}", SocketAddr::new(node.ports.ip, 26657 + node.ports.offset)),
                "grpc": format!("http://{}", SocketAddr::new(node.ports.ip, 9090 + node.ports.offset)),
            })
        })
        .collect();
    match args.output {
        Output::Json => out(json!({ "chain_id": args.chain_id, "nodes": records })),
        Output::Text => {
            out(format!(
                "Successfully initialized {} node directories in {}",
                nodes.len(),
                path(&args.output_dir)
            ));
            for node in nodes {
                out(format!("{}  {}", node.name, node.ports.peer(&node.id)));
            }
            out(format!(
                "Next, for each: tenured start --engine comet --home {}",
                path(nodes[0].home.root())
            ));
        }
    }
}
