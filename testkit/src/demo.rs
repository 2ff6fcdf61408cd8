//! `testnet/up`: a network to look at, with providers and a job that runs over it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};

use crate::network::{output, Network, Plan};
use crate::process::Lifetime;
use crate::programs::Programs;

/// Time that CometBFT waits for late votes.
const COMMIT_TIMEOUT: Duration = Duration::from_millis(400);
/// The first blocks, on a loaded machine.
const FIRST_BLOCKS: Duration = Duration::from_secs(60);

/// What `up` is asked for.
#[derive(Debug)]
pub struct Choices<'a> {
    /// Where everything goes.
    pub directory: &'a Path,
    /// How many validators.
    pub validators: u16,
    /// The job that runs once over it: `job.toml` and its labels.
    pub job: Option<(&'a Path, &'a Path)>,
    /// Whether namespaces are tried.
    pub namespaces: bool,
}

/// Starts a network that stays up, and runs the job on it.
pub fn up(choices: &Choices<'_>) -> Result<()> {
    let directory = std::path::absolute(choices.directory)?;
    let parent = directory.parent().context("the network needs a directory of its own")?;
    std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    // Two at once would both find nothing running.
    let lock_path = directory.with_extension("lock");
    let lock = File::create(&lock_path).with_context(|| lock_path.display().to_string())?;
    if lock.try_lock().is_err() {
        bail!("another testnet/up is at work on {}", directory.display());
    }
    let plan = Plan {
        validators: choices.validators,
        full_nodes: 1,
        commit_timeout: COMMIT_TIMEOUT,
        accounts: Vec::new(),
        settings: vec![
            ("TENURED_API_ENABLE".to_owned(), "true".to_owned()),
            ("TENURED_TELEMETRY_ENABLED".to_owned(), "true".to_owned()),
        ],
        namespaces: choices.namespaces,
    };
    let mut network = Network::make(&directory, &plan, Programs::find()?, Lifetime::Its)?;
    let made = begin(&mut network, choices);
    if made.is_err() {
        // Half a network is of no use.
        network.end()?;
    } else {
        println!("{}", looks(&network, choices.validators));
    }
    made
}

fn begin(network: &mut Network, choices: &Choices<'_>) -> Result<()> {
    let full = choices.validators;
    println!(
        "{} validator{} and a full node{}",
        choices.validators,
        if choices.validators == 1 { "" } else { "s" },
        match network.namespaces() {
            Some(namespaces) => format!(
                ", each in a network namespace of its own ({} …)",
                namespaces.namespace(0)
            ),
            None => ", on ports of 127.0.0.1".to_owned(),
        }
    );
    for index in 0..=full {
        network.start(index, &[])?;
    }
    for index in 0..=full {
        network.wait_ready(index)?;
    }
    for index in 0..=full {
        network.wait_height(index, 2, FIRST_BLOCKS)?;
    }
    println!("two providers");
    // Behind different nodes: what one submits the other must see.
    let behind = [full, u16::from(full > 1)];
    for (number, node) in (0_u16..).zip(behind) {
        let price = format!("cpu=0.{}ten", number + 1);
        provider(network, &format!("provider{number}"), node, &price)?;
    }
    if let Some((job, labels)) = choices.job {
        tenant(network)?;
        wait_for_providers(network, behind.len())?;
        run_job(network, full, job, labels)?;
    }
    network.check_services()
}

/// A port of this machine that is free now.
fn free_port() -> Result<u16> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(probe.local_addr()?.port())
}

/// Registers a provider with play money of the first node's faucet, and serves it behind `node`.
pub fn provider(network: &mut Network, name: &str, node: u16, price: &str) -> Result<()> {
    let agent = network.programs().agent();
    let home = network.directory().join(name);
    let base = [agent.display().to_string(), "--home".into(), home.display().to_string()];
    let address = |index: u16| format!("http://{}", network.node(index).grpc);
    let (first, its) = (address(0), address(node));
    let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)).to_string();
    output(
        Command::new(&agent)
            .args(&base[1..])
            .args(["init", "--keyring", "test", "--moniker", name, "--listen", &gateway])
            .args(["--price", price, "--node", &its]),
    )?;
    output(
        Command::new(&agent)
            .args(&base[1..])
            .args(["join", "--bond", "500ten", "--faucet", "--node", &first]),
    )?;
    let argv: Vec<String> = base
        .into_iter()
        .chain(["run", "--node", &its].map(str::to_owned))
        .collect();
    network.serve(name, &argv)?;
    Ok(())
}

fn tenure(network: &Network, node: u16) -> Command {
    let mut command = Command::new(network.programs().tenure());
    command
        .arg("--home")
        .arg(network.directory().join("tenant"))
        .args(["--keyring", "test"])
        .args(["--node", &format!("http://{}", network.node(node).grpc)]);
    command
}

/// A tenant with a key and play money.
fn tenant(network: &Network) -> Result<()> {
    output(tenure(network, 0).arg("init"))?;
    output(tenure(network, 0).arg("faucet"))?;
    Ok(())
}

fn wait_for_providers(network: &Network, count: usize) -> Result<()> {
    crate::wait::until("both providers on the chain", Duration::from_secs(30), || {
        let listed = output(tenure(network, 0).args(["provider", "list", "-o", "json"]))?;
        let listed: serde_json::Value = serde_json::from_slice(&listed)?;
        Ok(listed.as_array().filter(|all| all.len() >= count).map(drop))
    })
}

fn run_job(network: &Network, node: u16, job: &Path, labels: &Path) -> Result<()> {
    println!("the job {}, posted at {}", job.display(), network.node(node).name);
    let mut command = tenure(network, node);
    command
        .arg("run")
        .arg(job)
        .arg("--out")
        .arg(network.directory().join("out"))
        .arg("--score")
        .arg(labels);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("TENURE") {
            command.env_remove(&key);
        }
    }
    let status = command.stdin(Stdio::null()).status().context("tenure run")?;
    ensure!(status.success(), "the job failed: {status}");
    Ok(())
}

/// Where everything listens and how to look.
fn looks(network: &Network, full: u16) -> String {
    let mut text = String::from("\nIt stays up. Every node and where it listens on this machine:\n");
    for (index, node) in network.nodes().iter().enumerate() {
        let role = if node.validator { "validator" } else { "full node" };
        let faucet = if index == 0 { ", faucet" } else { "" };
        text += &format!(
            "  {:<6} {role:<9}  gRPC {}  JSON-RPC http://{}  REST http://{}{faucet}\n",
            node.name, node.grpc, node.rpc, node.api
        );
    }
    text += "\nMemory (RSS):\n";
    for (name, bytes) in network.memory() {
        text += &format!("  {name:<16} {:>4} MiB\n", bytes >> 20);
    }
    let (directory, bin) = (network.directory().display(), network.programs().directory().display());
    let node = network.node(full);
    text += &format!(
        "
To look around:
  export PATH=$PATH:{bin} TENURE_NODE=http://{} TENURE_HOME={directory}/tenant TENURE_KEYRING=test
  tenure lease list; tenure provider list
  tenure run workloads/digits/job.toml
  tenured status --home {directory}/node0
  curl -s http://{}/net_info
",
        node.grpc, node.rpc
    );
    if let Some(namespaces) = network.namespaces() {
        text += &format!(
            "To break something:
  kill -9 $(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' {directory}/node3/run.json)
  ip -n {} link set eth0 down     # and up again
",
            namespaces.namespace(full.min(3))
        );
    }
    text += &format!("Logs: {directory}/*.log. testnet/down ends it all.");
    text
}
