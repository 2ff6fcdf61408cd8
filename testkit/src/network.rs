//! A network of real nodes.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenure_comet::rpc::Rpc;

use crate::netns::Namespaces;
use crate::process::{boot_id, spawn, Lifetime, ProcessId};
use crate::programs::Programs;
use crate::state::{clear, save, Service, State, STOP_LIMIT};
use crate::wait::until;

/// The chain of every network made here.
pub const CHAIN_ID: &str = "tenure-testnet-1";
/// The longest a start takes on a loaded machine, replay included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many validators, each with the same power.
    pub validators: u16,
    /// How many nodes beside them.
    pub full_nodes: u16,
    /// Time that CometBFT waits for late votes: most of the time between blocks.
    pub commit_timeout: Duration,
    /// Accounts with money from the beginning: address and coins, as the command line has them.
    pub accounts: Vec<String>,
    /// Settings of every node by the names of their environment variables (`TENURED_API_ENABLE`).
    pub settings: Vec<(String, String)>,
    /// Whether each node gets a network namespace, where that is possible.
    pub namespaces: bool,
}

/// One node, running or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Its moniker.
    pub name: String,
    /// Its home.
    pub home: PathBuf,
    /// Whether it validates.
    pub validator: bool,
    /// CometBFT's JSON-RPC.
    pub rpc: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
    /// REST, if it is switched on.
    pub api: SocketAddr,
    pub(crate) process: Option<ProcessId>,
}

/// A network and the right to change it. One that was made with [`Lifetime::Ours`] ends when dropped.
#[derive(Debug)]
pub struct Network {
    directory: PathBuf,
    state: State,
    programs: Programs,
    lifetime: Lifetime,
}

impl Network {
    /// Makes the homes and the namespaces in `directory`; nothing runs yet. A network that lies there from before and does not run is
    /// replaced. Error: one runs, the directory has something else, or a home cannot be made.
    pub fn make(directory: &Path, plan: &Plan, programs: Programs, lifetime: Lifetime) -> Result<Self> {
        clear(directory)?;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let count = plan.validators + plan.full_nodes;
        let namespaces = match plan.namespaces.then(|| Namespaces::create(count)).transpose() {
            Ok(made) => made,
            Err(e) => {
                eprintln!("No network namespaces here ({e:#}): all nodes share 127.0.0.1, and links cannot be cut.");
                None
            }
        };
        let mut network = Self {
            directory: directory.to_owned(),
            state: State {
                boot: boot_id()?,
                namespaces,
                nodes: Vec::new(),
                services: Vec::new(),
                settings: plan.settings.clone(),
            },
            programs,
            lifetime,
        };
        // From here on `down` finds what there is to remove.
        network.save()?;
        if let Err(e) = network.write_homes(plan) {
            network.end()?;
            return Err(e);
        }
        network.save()?;
        Ok(network)
    }

    fn write_homes(&mut self, plan: &Plan) -> Result<()> {
        let mut command = Command::new(self.programs.tenured());
        command
            .args(["testnet", "init-files", "--fast", "--faucet", "--output", "json"])
            .args(["--chain-id", CHAIN_ID])
            .args(["-v", &plan.validators.to_string()])
            .args(["--full-nodes", &plan.full_nodes.to_string()])
            .args(["--commit-timeout", &format!("{}ms", plan.commit_timeout.as_millis())])
            .arg("--output-dir")
            .arg(&self.directory);
        match &self.state.namespaces {
            Some(namespaces) => command.args(["--starting-ip-address", &namespaces.address(0).to_string()]),
            None => command.arg("--single-host"),
        };
        for account in &plan.accounts {
            command.args(["--account", account]);
        }
        let answer: Value = serde_json::from_slice(&output(&mut command)?).context("tenured testnet init-files")?;
        let nodes = answer["nodes"].as_array().context("init-files names no nodes")?;
        for node in nodes {
            let text = |key: &str| node[key].as_str().with_context(|| format!("a node without {key}"));
            let address = |key: &str, scheme: &str| -> Result<SocketAddr> {
                let text = text(key)?;
                let address = text.strip_prefix(scheme).and_then(|a| a.parse().ok());
                address.with_context(|| format!("{key} is {text:?}"))
            };
            let rpc = address("rpc", "tcp://")?;
            // init-files moves all ports of a node by the same step.
            let step = rpc.port() - 26657;
            self.state.nodes.push(Node {
                name: text("name")?.to_owned(),
                home: text("home")?.into(),
                validator: node["validator"] == true,
                rpc,
                grpc: address("grpc", "http://")?,
                api: SocketAddr::new(rpc.ip(), 1317 + step),
                process: None,
            });
        }
        Ok(())
    }

    fn save(&self) -> Result<()> {
        save(&self.directory, &self.state)
    }

    /// The nodes, validators first.
    pub fn nodes(&self) -> &[Node] {
        &self.state.nodes
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<u16> {
        let count = u16::try_from(self.state.nodes.len()).unwrap_or(u16::MAX);
        let runs = |index: &u16| self.process(*index).is_some_and(|p| p.alive());
        (0..count).filter(runs).collect()
    }

    /// Where the network's files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The programs it runs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Its namespaces, if it has any.
    pub fn namespaces(&self) -> Option<&Namespaces> {
        self.state.namespaces.as_ref()
    }

    /// The address by which nodes reach a program of this machine.
    pub fn host(&self) -> Ipv4Addr {
        self.namespaces().map_or(Ipv4Addr::LOCALHOST, Namespaces::host)
    }

    /// One node. Panics if there is none of this index.
    pub fn node(&self, index: u16) -> &Node {
        &self.state.nodes[usize::from(index)]
    }

    fn process(&self, index: u16) -> Option<ProcessId> {
        self.node(index).process
    }

    /// The file that a node's output goes to.
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// Puts a value where `app.toml` of every node has this key, in whichever section; `false` if this version of the node has no such key.
    pub fn set_app(&self, key: &str, value: &str) -> Result<bool> {
        let mut there = true;
        for node in &self.state.nodes {
            let path = node.home.join("config/app.toml");
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let is_key = |line: &str| line.split_once(" = ").is_some_and(|(name, _)| name == key);
            there &= text.lines().any(is_key);
            let set = |line: &str| match is_key(line) {
                true => format!("{key} = {value}\n"),
                false => format!("{line}\n"),
            };
            fs::write(&path, text.lines().map(set).collect::<String>()).with_context(|| path.display().to_string())?;
        }
        Ok(there)
    }

    /// Starts a node that does not run; does not wait for it. `settings` are this start's alone.
    pub fn start(&mut self, index: u16, settings: &[(String, String)]) -> Result<()> {
        let node = self.node(index);
        ensure!(!node.process.is_some_and(|p| p.alive()), "{} runs already", node.name);
        let mut argv = self.namespaces().map_or_else(Vec::new, |n| n.run_in(index));
        argv.extend(
            [
                self.programs.tenured().display().to_string().as_str(),
                "start",
                "--engine",
                "comet",
                "--comet-bin",
                &self.programs.cometbft.path.display().to_string(),
                "--home",
                &node.home.display().to_string(),
            ]
            .map(str::to_owned),
        );
        // What the last run wrote is not what this one does.
        let _ = fs::remove_file(node.home.join("run.json"));
        let env: Vec<_> = self.state.settings.iter().chain(settings).cloned().collect();
        let process = spawn(&argv, &env, &self.log(&node.name), self.lifetime)?;
        self.state.nodes[usize::from(index)].process = Some(process);
        self.save()
    }

    /// Starts a program beside the nodes.
    pub fn serve(&mut self, name: &str, argv: &[String]) -> Result<ProcessId> {
        let process = spawn(argv, &[], &self.log(name), self.lifetime)?;
        self.state.services.push(Service {
            name: name.to_owned(),
            process,
        });
        self.save()?;
        Ok(process)
    }

    /// Errors if a program beside the nodes has ended, with the end of its log.
    pub fn check_services(&self) -> Result<()> {
        for service in &self.state.services {
            let name = &service.name;
            ensure!(service.process.alive(), "{name} ended: {}", tail(&self.log(name)));
        }
        Ok(())
    }

    /// Waits until a node answers. Error: it ends first (the end of its log is in it), or does not within a minute.
    pub fn wait_ready(&self, index: u16) -> Result<()> {
        let (node, rpc) = (self.node(index), self.rpc(index));
        until(&format!("{} answers", node.name), START_LIMIT, || {
            if !node.process.is_some_and(|p| p.alive()) {
                bail!("{} ended: {}", node.name, tail(&self.log(&node.name)));
            }
            Ok(rpc.status().ok().map(drop))
        })
        .with_context(|| format!("log: {}", self.log(&node.name).display()))
    }

    /// Waits until a node has a block, and returns its latest height then.
    pub fn wait_height(&self, index: u16, height: i64, limit: Duration) -> Result<i64> {
        let (node, rpc) = (self.node(index), self.rpc(index));
        until(&format!("{} at height {height}", node.name), limit, || {
            if !node.process.is_some_and(|p| p.alive()) {
                bail!("{} ended: {}", node.name, tail(&self.log(&node.name)));
            }
            Ok(rpc.status().ok().map(|s| s.latest_height).filter(|h| *h >= height))
        })
    }

    /// CometBFT's JSON-RPC of a node.
    pub fn rpc(&self, index: u16) -> Rpc {
        Rpc::new(self.node(index).rpc)
    }

    /// The app hash after a block, as a node's `FinalizeBlock` gave it; `None` if the node does not have the block.
    pub fn app_hash_at(&self, index: u16, height: i64) -> Result<Option<Vec<u8>>> {
        let results = self.rpc(index).block_results(Some(height))?;
        Ok(results.map(|r| r.app_hash.to_vec()))
    }

    /// Kills a node with SIGKILL. Error: its CometBFT does not die with it.
    pub fn kill9(&mut self, index: u16) -> Result<()> {
        self.kill9_at_once(&[index])
    }

    /// Kills nodes with SIGKILL, as a power cut would. Error: the CometBFT of one does not die with it.
    pub fn kill9_at_once(&mut self, nodes: &[u16]) -> Result<()> {
        let comets: Vec<_> = nodes.iter().map(|index| self.cometbft(*index)).collect();
        let processes: Vec<_> = nodes.iter().filter_map(|index| self.process(*index)).collect();
        for process in &processes {
            process.signal(rustix::process::Signal::KILL)?;
        }
        for process in &processes {
            process.kill()?;
        }
        for (index, comet) in nodes.iter().zip(comets) {
            self.state.nodes[usize::from(*index)].process = None;
            if let Some(comet) = comet {
                ensure!(
                    comet.wait(Duration::from_secs(10))?,
                    "CometBFT of {} (process {}) outlives its node",
                    self.node(*index).name,
                    comet.pid
                );
            }
        }
        self.save()
    }

    /// Stops a node as systemd does. Error: it had to be killed.
    pub fn stop(&mut self, index: u16) -> Result<()> {
        let name = self.node(index).name.clone();
        if let Some(process) = self.state.nodes[usize::from(index)].process.take() {
            let clean = process.end(STOP_LIMIT)?;
            ensure!(clean, "{name} did not stop within {STOP_LIMIT:?} of SIGTERM");
        }
        self.save()
    }

    /// Cuts every link between nodes of different sets, for good until [`heal`](Self::heal). Error: there are no namespaces.
    pub fn partition(&self, sets: &[&[u16]]) -> Result<()> {
        self.cut(sets, true)
    }

    /// Joins all nodes again.
    pub fn heal(&self) -> Result<()> {
        let count = u16::try_from(self.state.nodes.len())?;
        let alone: Vec<Vec<u16>> = (0..count).map(|index| vec![index]).collect();
        let sets: Vec<&[u16]> = alone.iter().map(Vec::as_slice).collect();
        self.cut(&sets, false)
    }

    fn cut(&self, sets: &[&[u16]], cut: bool) -> Result<()> {
        let namespaces = self
            .namespaces()
            .context("links cannot be cut without network namespaces")?;
        for (i, left) in sets.iter().enumerate() {
            for right in &sets[i + 1..] {
                for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))) {
                    namespaces.cut(a, b, cut)?;
                    namespaces.cut(b, a, cut)?;
                }
            }
        }
        Ok(())
    }

    /// A node's CometBFT, if the node has said so.
    pub fn cometbft(&self, index: u16) -> Option<ProcessId> {
        let text = fs::read(self.node(index).home.join("run.json")).ok()?;
        let run: Value = serde_json::from_slice(&text).ok()?;
        let pid = u32::try_from(run["cometbft"].as_u64()?).ok()?;
        ProcessId::of(pid)
    }

    /// Memory in use by every process: name and bytes.
    pub fn memory(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        for index in self.running() {
            let name = &self.node(index).name;
            let parts = [("tenured", self.process(index)), ("cometbft", self.cometbft(index))];
            for (program, process) in parts {
                if let Some(bytes) = process.and_then(|p| p.memory()) {
                    found.push((format!("{name} {program}"), bytes));
                }
            }
        }
        let services = self.state.services.iter();
        found.extend(services.filter_map(|s| Some((s.name.clone(), s.process.memory()?))));
        found
    }

    /// Ends everything.
    pub fn end(&mut self) -> Result<()> {
        self.state.end()?;
        self.save()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Ours {
            if let Err(e) = self.end() {
                eprintln!("the network in {} was not ended: {e:#}", self.directory.display());
            }
        }
    }
}

/// What a program that ends by itself printed. Error: it failed; its words.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("TENURE") {
            command.env_remove(&key);
        }
    }
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {name}"))?;
    ensure!(
        output.status.success(),
        "{name} failed: {}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(output.stdout)
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    const LINES: usize = 12;
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(log) {
        let _ = file.read_to_string(&mut text);
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
