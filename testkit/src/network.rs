//! A network of real nodes, and the file by which another process takes it up again.

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
use crate::wait::until;

/// The chain of every network made here.
pub const CHAIN_ID: &str = "tenure-testnet-1";
/// The state file's name in the network's directory.
const STATE: &str = "network.json";
/// A node finishes its block and closes its stores in this time.
const STOP_LIMIT: Duration = Duration::from_secs(45);
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
    process: Option<ProcessId>,
}

/// A program beside the nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Service {
    name: String,
    process: ProcessId,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    boot: String,
    namespaces: Option<Namespaces>,
    nodes: Vec<Node>,
    services: Vec<Service>,
    settings: Vec<(String, String)>,
}

/// A network and the right to change it. One that was made with [`Lifetime::Ours`] ends when dropped.
#[derive(Debug)]
pub struct Network {
    directory: PathBuf,
    state: State,
    programs: Programs,
    lifetime: Lifetime,
}

/// The state in a directory; `None` if there is no network.
fn load(directory: &Path) -> Result<Option<State>> {
    let path = directory.join(STATE);
    match fs::read(&path) {
        Ok(bytes) => {
            let state = serde_json::from_slice(&bytes);
            state
                .map(Some)
                .with_context(|| format!("{} is damaged", path.display()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

impl State {
    fn processes(&self) -> impl Iterator<Item = ProcessId> + '_ {
        let services = self.services.iter().rev().map(|s| s.process);
        services.chain(self.nodes.iter().filter_map(|n| n.process))
    }

    /// Whether anything of it runs. Nothing survives the machine's restart.
    fn running(&self) -> Result<bool> {
        Ok(self.boot == boot_id()? && self.processes().any(|p| p.alive()))
    }

    /// Ends what runs, the newest first, and removes the namespaces. Returns how many processes were ended.
    fn end(&mut self) -> Result<usize> {
        if self.boot != boot_id()? {
            return Ok(0);
        }
        let mut ended = 0;
        for service in self.services.drain(..).rev() {
            ended += usize::from(service.process.alive());
            service.process.end(STOP_LIMIT)?;
        }
        let nodes: Vec<ProcessId> = self.nodes.iter_mut().filter_map(|n| n.process.take()).collect();
        // All are asked before any is waited for: a chain stops faster than one node after the other.
        for process in &nodes {
            ended += usize::from(process.signal(rustix::process::Signal::TERM)?);
        }
        for process in &nodes {
            if !process.wait(STOP_LIMIT)? {
                process.kill()?;
            }
        }
        if let Some(namespaces) = self.namespaces.take() {
            namespaces.remove()?;
        }
        Ok(ended)
    }
}

/// Ends the network of a directory, however its starter ended. `None`: there is none; else how many processes were ended.
pub fn down(directory: &Path) -> Result<Option<usize>> {
    let Some(mut state) = load(directory)? else {
        return Ok(None);
    };
    let had = state.namespaces.is_some() || state.running()?;
    let ended = state.end()?;
    save(directory, &state)?;
    Ok(had.then_some(ended))
}

fn save(directory: &Path, state: &State) -> Result<()> {
    let (path, partial) = (directory.join(STATE), directory.join(".network.json.tmp"));
    fs::write(&partial, serde_json::to_vec_pretty(state)?).with_context(|| partial.display().to_string())?;
    fs::rename(&partial, &path).with_context(|| path.display().to_string())
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

/// Makes room for a new network. Error: there is a running one, or something else.
fn clear(directory: &Path) -> Result<()> {
    match load(directory)? {
        Some(mut state) => {
            ensure!(
                !state.running()?,
                "a network is running in {}. testnet/down ends it",
                directory.display()
            );
            state.end()?;
            fs::remove_dir_all(directory).with_context(|| directory.display().to_string())
        }
        None => {
            let empty = match fs::read_dir(directory) {
                Ok(mut entries) => entries.next().is_none(),
                Err(e) => e.kind() == std::io::ErrorKind::NotFound,
            };
            ensure!(
                empty,
                "{} is not empty and no network of ours; nothing was changed. Choose another --dir",
                directory.display()
            );
            Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A state file of another process's network: one program beside no nodes.
    fn left_behind(directory: &Path) -> Result<ProcessId> {
        let process = spawn(
            &["sleep".into(), "60".into()],
            &[],
            &directory.join("log"),
            Lifetime::Its,
        )?;
        let state = State {
            boot: boot_id()?,
            namespaces: None,
            nodes: Vec::new(),
            services: vec![Service {
                name: "sleep".to_owned(),
                process,
            }],
            settings: Vec::new(),
        };
        save(directory, &state)?;
        Ok(process)
    }

    #[test]
    fn a_running_network_is_not_replaced_and_ends_with_down() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let directory = scratch.path().join("net");
        fs::create_dir(&directory)?;
        let process = left_behind(&directory)?;
        let refusal = clear(&directory).expect_err("it runs").to_string();
        assert!(
            refusal.contains("is running") && refusal.contains("testnet/down"),
            "{refusal}"
        );
        assert!(process.alive());
        assert_eq!(down(&directory)?, Some(1));
        assert!(!process.alive());
        assert_eq!(down(&directory)?, None, "nothing is left to end");
        clear(&directory)?;
        assert!(!directory.exists());
        Ok(())
    }

    #[test]
    fn a_state_file_from_before_a_restart_of_the_machine_ends_nobody() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let process = left_behind(scratch.path())?;
        let mut state = load(scratch.path())?.context("state")?;
        state.boot = "another run".to_owned();
        save(scratch.path(), &state)?;
        assert_eq!(down(scratch.path())?, None);
        assert!(process.alive(), "it only looks like ours");
        process.kill()
    }

    #[test]
    fn a_directory_with_something_else_is_left_alone() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let file = scratch.path().join("thesis.txt");
        fs::write(&file, "years of work")?;
        let refusal = clear(scratch.path()).expect_err("not ours").to_string();
        assert!(refusal.contains("not empty"), "{refusal}");
        assert!(file.exists());
        assert_eq!(down(scratch.path())?, None);
        Ok(())
    }
}
