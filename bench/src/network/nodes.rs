//! Validators as processes: ours, or CometBFT with its built-in kvstore on the very same configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use rustix::process::Signal;
use serde_json::Value;
use tenure_comet::rpc::Rpc;
use tenure_testkit::netns::Namespaces;
use tenure_testkit::network::{output, CHAIN_ID};
use tenure_testkit::process::{spawn, Lifetime, ProcessId};
use tenure_testkit::wait::until;

use super::cleanup::Cleanup;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
/// Blocks that every node has before anything is measured.
const FIRST_BLOCKS: i64 = 3;

/// The application under CometBFT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum App {
    /// `tenured start --engine comet`: over a unix socket, on disk, every commit synced.
    Ours,
    /// CometBFT's example, in CometBFT's own process and in memory.
    Kvstore,
}

impl App {
    pub(super) fn name(self) -> &'static str {
        match self {
            App::Ours => "**ours**",
            App::Kvstore => "`kvstore`",
        }
    }
}

/// What is run.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) tenured: PathBuf,
    pub(super) cometbft: PathBuf,
}

/// What a chain starts with.
pub(super) struct Plan<'a> {
    pub(super) app: App,
    pub(super) validators: u16,
    /// Time that CometBFT waits for late votes.
    pub(super) commit_timeout: Duration,
    /// Accounts with money: address and coins.
    pub(super) accounts: &'a [String],
    /// Whether CometBFT indexes transactions and their events, as it does unless told otherwise.
    pub(super) index: bool,
}

/// What processes have used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// CPU time of the processes that were started, seconds.
    pub(super) cpu_seconds: f64,
    /// CPU time of the CometBFTs that are children of those.
    pub(super) child_cpu_seconds: f64,
    /// Memory in use by all, bytes.
    pub(super) memory: u64,
}

/// Running validators. They end with this value.
pub(super) struct Nodes {
    nodes: Vec<Node>,
    cleanup: Cleanup,
}

struct Node {
    home: PathBuf,
    rpc: SocketAddr,
    grpc: SocketAddr,
    process: Option<ProcessId>,
    log: PathBuf,
}

impl Nodes {
    /// Makes homes in `directory` and starts what is planned; returns when every node has its first blocks.
    pub(super) fn start(programs: &Programs, plan: &Plan<'_>, directory: &Path, cleanup: &Cleanup) -> Result<Self> {
        let namespaces = match Namespaces::create(plan.validators) {
            Ok(made) => Some(made),
            Err(e) => {
                eprintln!("No network namespaces here ({e:#}): the nodes share 127.0.0.1.");
                None
            }
        };
        cleanup.keep(namespaces.clone());
        let mut nodes = Self {
            nodes: Vec::new(),
            cleanup: cleanup.clone(),
        };
        nodes.write_homes(programs, plan, directory, namespaces.as_ref())?;
        for (index, node) in (0..).zip(&mut nodes.nodes) {
            if !plan.index {
                node.switch_index_off()?;
            }
            let mut argv = namespaces.as_ref().map_or_else(Vec::new, |n| n.run_in(index));
            let text = |path: &Path| path.display().to_string();
            let (tenured, cometbft, home) = (text(&programs.tenured), text(&programs.cometbft), text(&node.home));
            let command = match plan.app {
                App::Ours => vec![
                    &*tenured,
                    "start",
                    "--engine",
                    "comet",
                    "--comet-bin",
                    &cometbft,
                    "--home",
                    &home,
                ],
                App::Kvstore => vec![&*cometbft, "start", "--proxy_app", "kvstore", "--home", &home],
            };
            argv.extend(command.into_iter().map(str::to_owned));
            node.process = Some(spawn(&argv, &[], &node.log, Lifetime::Ours)?);
        }
        for node in &nodes.nodes {
            node.wait()?;
        }
        Ok(nodes)
    }

    /// Both applications get what `tenured testnet init-files` writes: same consensus settings, keys and genesis.
    fn write_homes(
        &mut self,
        programs: &Programs,
        plan: &Plan<'_>,
        directory: &Path,
        namespaces: Option<&Namespaces>,
    ) -> Result<()> {
        let mut command = Command::new(&programs.tenured);
        command
            .args(["testnet", "init-files", "--fast", "--output", "json"])
            .args(["--chain-id", CHAIN_ID])
            .args(["-v", &plan.validators.to_string()])
            .args(["--commit-timeout", &format!("{}ms", plan.commit_timeout.as_millis())])
            .arg("--output-dir")
            .arg(directory);
        match namespaces {
            Some(namespaces) => command.args(["--starting-ip-address", &namespaces.address(0).to_string()]),
            None => command.arg("--single-host"),
        };
        for account in plan.accounts {
            command.args(["--account", account]);
        }
        let answer: Value = serde_json::from_slice(&output(&mut command)?).context("tenured testnet init-files")?;
        for node in answer["nodes"].as_array().context("init-files names no nodes")? {
            let text = |key: &str| node[key].as_str().with_context(|| format!("a node without {key}"));
            let address = |key: &str, scheme: &str| -> Result<SocketAddr> {
                let address = text(key)?.strip_prefix(scheme).and_then(|a| a.parse().ok());
                address.with_context(|| format!("{key} is {}", node[key]))
            };
            self.nodes.push(Node {
                home: text("home")?.into(),
                rpc: address("rpc", "tcp://")?,
                grpc: address("grpc", "http://")?,
                process: None,
                log: directory.join(format!("{}.log", text("name")?)),
            });
        }
        Ok(())
    }

    /// JSON-RPC of each node.
    pub(super) fn rpcs(&self) -> Vec<Rpc> {
        self.nodes.iter().map(|node| Rpc::new(node.rpc)).collect()
    }

    /// gRPC of the first node, which only ours has.
    pub(super) fn grpc(&self) -> Result<SocketAddr> {
        let first = self.nodes.first().context("no nodes")?;
        Ok(first.grpc)
    }

    /// What all nodes have used so far.
    pub(super) fn used(&self) -> Result<Used> {
        let mut used = Used::default();
        for node in &self.nodes {
            let process = node.process.context("a node that has ended")?;
            used.cpu_seconds += cpu_seconds(process.pid)?;
            used.memory += process.memory().unwrap_or_default();
            if let Some(comet) = node.cometbft() {
                used.child_cpu_seconds += cpu_seconds(comet.pid)?;
                used.memory += comet.memory().unwrap_or_default();
            }
        }
        Ok(used)
    }
}

impl Node {
    fn switch_index_off(&self) -> Result<()> {
        let path = self.home.join("config/config.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let off = text.replace("\nindexer = \"kv\"\n", "\nindexer = \"null\"\n");
        ensure!(off != text, "{} has no line indexer = \"kv\"", path.display());
        std::fs::write(&path, off).with_context(|| path.display().to_string())
    }

    fn wait(&self) -> Result<()> {
        let rpc = Rpc::new(self.rpc);
        let first_blocks = || {
            if !self.process.is_some_and(|process| process.alive()) {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                bail!("a node ended: {}", lines[lines.len().saturating_sub(12)..].join("\n"));
            }
            Ok(rpc.status().ok().filter(|status| status.latest_height >= FIRST_BLOCKS))
        };
        until("a node's first blocks", START, first_blocks).map(drop)
    }

    /// The CometBFT that ours runs as its child.
    fn cometbft(&self) -> Option<ProcessId> {
        let run = std::fs::read(self.home.join("run.json")).ok()?;
        let run: Value = serde_json::from_slice(&run).ok()?;
        let pid = u32::try_from(run["cometbft"].as_u64()?).ok()?;
        ProcessId::of(pid)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // All are asked before any is waited for.
        let processes: Vec<ProcessId> = self.nodes.iter_mut().filter_map(|node| node.process.take()).collect();
        for process in &processes {
            let _ = process.signal(Signal::TERM);
        }
        for process in &processes {
            if let Err(e) = process.end(STOP) {
                eprintln!("a node was not ended: {e:#}");
            }
        }
        self.cleanup.now();
    }
}

/// Fields 14 and 15 of /proc/<pid>/stat, ticks of 10 ms: user and system time of all threads.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).context(path)?;
    let (_, fields) = stat.rsplit_once(')').context("a process without a name")?;
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    ensure!(ticks.len() == 2, "/proc/{pid}/stat has no CPU times");
    Ok((ticks[0] + ticks[1]) / 100.0)
}
