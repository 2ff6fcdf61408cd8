//! The faults of `testnet/faults`: four validators under load, broken and healed, and held to [`crate::history`] throughout.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use rand::Rng;
use tenure_comet::binary::BinaryError;

use crate::chain::{runtime, Chain};
use crate::history::{percentile, reread, Readers};
use crate::load::{self, Load};
use crate::network::{output, Network, Plan};
use crate::process::Lifetime;
use crate::programs::Programs;
use crate::state::down;
use crate::wait::until;

/// Validators of the network: the least that survives the loss of one.
const VALIDATORS: u16 = 4;
/// The node that joins later and fetches every block.
const LATE: u16 = VALIDATORS;
/// The node that joins later from a snapshot.
const FROM_SNAPSHOT: u16 = VALIDATORS + 1;
/// Time that CometBFT waits for late votes.
const COMMIT_TIMEOUT: Duration = Duration::from_millis(300);
/// Time that it waits for a proposal; a dead validator costs it at every turn of its own.
const PROPOSE_TIMEOUT: &str = "1s";
/// Transfers a second, all senders together.
const RATE: u32 = 30;
/// Whatever was cut off or dead has all blocks again within this.
const HEALED: Duration = Duration::from_secs(30);
/// A start on a loaded machine comes on top.
const RESTARTED: Duration = Duration::from_secs(60);
/// The longest a block takes while a third of the power is not there, on a loaded machine.
const LONGEST_BLOCK_MS: i64 = 15_000;
/// Blocks between snapshots, so that there is one when the fifth node comes.
const SNAPSHOT_EVERY: i64 = 20;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// kill -9 of one validator: the others go on, it comes back
    Kill,
    /// Two and two: nobody commits; joined again, all do
    Halves,
    /// Three and one: three go on, the one catches up
    Minority,
    /// kill -9 of all four at once: the chain goes on where it was
    All,
    /// A fifth node joins and fetches every block
    Late,
    /// A node joins from a snapshot (state sync)
    Join,
    /// Kills and cuts at random, a minute long (with --long)
    Random,
}

const DEFAULT: &[Scenario] = &[
    Scenario::Kill,
    Scenario::Halves,
    Scenario::Minority,
    Scenario::All,
    Scenario::Late,
    Scenario::Join,
];
/// Those that may come several times.
const BREAKS: usize = 4;
/// Of `--long`.
const LONG_ROUNDS: usize = 4;

/// Runs scenarios one after the other on one network. Where there is no CometBFT or no namespaces it says so; that is not a failure.
pub fn run(asked: &[Scenario], long: bool, keep: bool) -> Result<()> {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(e) if matches!(e.downcast_ref(), Some(BinaryError::Missing { .. })) => {
            skipped("everything", &format!("{e:#}"));
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let mut scenarios = if asked.is_empty() {
        DEFAULT.to_vec()
    } else {
        asked.to_vec()
    };
    if long && asked.is_empty() {
        scenarios = (0..LONG_ROUNDS)
            .flat_map(|_| [&DEFAULT[..BREAKS], &[Scenario::Random]].concat())
            .chain(DEFAULT[BREAKS..].iter().copied())
            .collect();
    }
    let directory = tempfile::Builder::new().prefix("tenure-faults.").tempdir()?;
    let directory = directory.keep();
    let result = play(&scenarios, &directory.join("net"), programs);
    if result.is_ok() && !keep {
        std::fs::remove_dir_all(&directory)?;
    } else {
        println!("homes and logs: {}", directory.display());
    }
    result
}

fn skipped(what: &str, why: &str) {
    println!("****\n**** SKIPPED: {what}: {why}\n****");
}

fn play(scenarios: &[Scenario], directory: &Path, programs: Programs) -> Result<()> {
    end_on_signal(directory)?;
    let began = Instant::now();
    let mut arena = Arena::start(directory, programs)?;
    println!(
        "four validators under {RATE} transfers a second, up after {:.0} s",
        began.elapsed().as_secs_f32()
    );
    let mut not_run = 0;
    for scenario in scenarios {
        let (name, started) = (format!("{scenario:?}").to_lowercase(), Instant::now());
        match arena.play(*scenario).with_context(|| format!("scenario {name}"))? {
            Some(told) => println!("ok  {name:<9} {:>5.1} s  {told}", started.elapsed().as_secs_f32()),
            None => not_run += 1,
        }
    }
    let told = arena.finish().context("at the end")?;
    println!("ok  {:<9} {told}", "whole");
    println!(
        "{} scenarios passed, {not_run} skipped, {:.0} s",
        scenarios.len() - not_run,
        began.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Ctrl-C ends the network before this process.
fn end_on_signal(directory: &Path) -> Result<()> {
    use tokio::signal::unix::{signal, SignalKind};
    let directory = directory.to_owned();
    let runtime = runtime()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let came = runtime.block_on(async {
            let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::io::Result::Ok(())
        });
        if came.is_ok() {
            eprintln!("interrupted");
            if let Err(e) = down(&directory) {
                eprintln!("{e:#}");
            }
            std::process::exit(130);
        }
    })?;
    Ok(())
}

/// The network with its load and its readers.
struct Arena {
    // In this order they end: the load, then who reads, then the network.
    load: Load,
    readers: Readers,
    network: Network,
    supply: u128,
    /// Whether the nodes make snapshots.
    snapshots: bool,
}

impl Arena {
    fn start(directory: &Path, programs: Programs) -> Result<Self> {
        let senders = load::senders(usize::from(VALIDATORS));
        let plan = Plan {
            validators: VALIDATORS,
            full_nodes: 2,
            commit_timeout: COMMIT_TIMEOUT,
            accounts: load::accounts(&senders),
            settings: vec![(
                "TENURED_CONSENSUS_TIMEOUT_PROPOSE".to_owned(),
                PROPOSE_TIMEOUT.to_owned(),
            )],
            namespaces: true,
        };
        let mut network = Network::make(directory, &plan, programs, Lifetime::Ours)?;
        let snapshots = network.set_app("snapshot-interval", &SNAPSHOT_EVERY.to_string())?;
        for index in 0..VALIDATORS {
            network.start(index, &[])?;
        }
        let mut readers = Readers::new();
        for index in 0..VALIDATORS {
            network.wait_ready(index)?;
            readers.read(&network.node(index).name, network.rpc(index));
        }
        for index in 0..VALIDATORS {
            network.wait_height(index, 2, RESTARTED)?;
        }
        let chain = chain(&network, 0)?;
        let supply = chain.ask(|c| c.supply())?;
        let rpcs: Vec<_> = (0..VALIDATORS).map(|index| network.rpc(index)).collect();
        Ok(Self {
            load: Load::start(senders, &rpcs, &chain, RATE)?,
            readers,
            network,
            supply,
            snapshots,
        })
    }

    /// What was seen; `None`: it cannot be done here, as was said.
    fn play(&mut self, scenario: Scenario) -> Result<Option<String>> {
        let cuts = matches!(scenario, Scenario::Halves | Scenario::Minority);
        if cuts && self.network.namespaces().is_none() {
            skipped(
                &format!("{scenario:?}"),
                "links cannot be cut without network namespaces",
            );
            return Ok(None);
        }
        if scenario == Scenario::Join && !self.snapshots {
            skipped(
                "join",
                "this tenured makes no snapshots: app.toml has no snapshot-interval",
            );
            return Ok(None);
        }
        let told = match scenario {
            Scenario::Kill => self.kill(),
            Scenario::Halves => self.halves(),
            Scenario::Minority => self.minority(),
            Scenario::All => self.all(),
            Scenario::Late => self.late(),
            Scenario::Join => self.join(),
            Scenario::Random => self.random(),
        }?;
        Ok(Some(told))
    }

    fn last(&self) -> Result<i64> {
        Ok(self.readers.history()?.last())
    }

    /// Waits for so many more blocks than there are.
    fn blocks(&self, count: i64, limit: Duration) -> Result<i64> {
        let wanted = self.last()? + count;
        until(&format!("block {wanted}"), limit, || {
            Ok(Some(self.last()?).filter(|last| *last >= wanted))
        })
    }

    /// Waits until every node that runs has shown a block that nobody has yet, equal to everybody else's. Returns how long that took.
    fn all_go_on(&self, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        let wanted = self.last()? + 2;
        for index in self.network.running() {
            let name = &self.network.node(index).name;
            let left = limit.saturating_sub(began.elapsed());
            until(&format!("{name} at height {wanted} with the others"), left, || {
                Ok((self.readers.history()?.last_of(name) >= wanted).then_some(()))
            })?;
        }
        Ok(began.elapsed())
    }

    fn kill(&mut self) -> Result<String> {
        let victim = 3;
        let from = self.last()?;
        let steady = self.blocks(12, RESTARTED)?;
        let before = self.readers.history()?.intervals(from, steady);
        self.network.kill9(victim)?;
        let dead = self.last()?;
        let after = self.blocks(16, RESTARTED)?;
        let (during, carried) = {
            let history = self.readers.history()?;
            (history.intervals(dead, after), history.transactions_since(dead + 1))
        };
        let longest = percentile(&during, 100);
        ensure!(
            longest < LONGEST_BLOCK_MS,
            "a block took {longest} ms with one of four dead"
        );
        ensure!(carried > 0, "no transfer was committed with one of four dead");
        self.network.start(victim, &[])?;
        let back = self.all_go_on(RESTARTED)?;
        Ok(format!(
            "block interval {} ms, with one of four dead {} ms (longest {longest}: its turns to propose); back after {:.1} s",
            percentile(&before, 50),
            percentile(&during, 50),
            back.as_secs_f32()
        ))
    }

    fn halves(&mut self) -> Result<String> {
        const CUT: Duration = Duration::from_secs(8);
        self.network.partition(&[&[0, 1], &[2, 3]])?;
        // What was under way when the line broke may still end on one side.
        std::thread::sleep(Duration::from_secs(2));
        let stopped = self.heights()?;
        std::thread::sleep(CUT);
        let still = self.heights()?;
        self.network.heal()?;
        ensure!(
            stopped == still,
            "blocks were committed by halves: heights {stopped:?}, {} s later {still:?}",
            CUT.as_secs()
        );
        let healed = self.all_go_on(HEALED)?;
        Ok(format!(
            "no block in {} s; all equal again {:.1} s after healing",
            CUT.as_secs(),
            healed.as_secs_f32()
        ))
    }

    fn minority(&mut self) -> Result<String> {
        let alone = 3;
        self.network.partition(&[&[alone], &[0, 1, 2]])?;
        let at_cut = self.last()?;
        let majority = self.blocks(10, RESTARTED)?;
        let left = self.readers.history()?.last_of(&self.network.node(alone).name);
        self.network.heal()?;
        ensure!(
            left <= at_cut + 1,
            "the one that was cut off at {at_cut} got to {left} alone"
        );
        let healed = self.all_go_on(HEALED)?;
        Ok(format!(
            "three made {} blocks, the one none; all equal again {:.1} s after healing",
            majority - at_cut,
            healed.as_secs_f32()
        ))
    }

    fn all(&mut self) -> Result<String> {
        let everyone: Vec<u16> = self.network.running();
        let before = self.last()?;
        self.network.kill9_at_once(&everyone)?;
        for index in &everyone {
            self.network.start(*index, &[])?;
        }
        for index in &everyone {
            self.network.wait_ready(*index)?;
        }
        let back = self.all_go_on(RESTARTED)?;
        self.reread(&everyone, (before - 20).max(1), before)?;
        Ok(format!(
            "went on from block {before} {:.1} s after they answered",
            back.as_secs_f32()
        ))
    }

    fn late(&mut self) -> Result<String> {
        let behind = self.last()?;
        self.network.start(LATE, &[])?;
        let began = Instant::now();
        self.network.wait_ready(LATE)?;
        self.readers.read(&self.network.node(LATE).name, self.network.rpc(LATE));
        self.all_go_on(RESTARTED)?;
        Ok(format!(
            "all {behind} blocks and the new ones, with the others {:.1} s after its start",
            began.elapsed().as_secs_f32()
        ))
    }

    fn join(&mut self) -> Result<String> {
        let rpc = self.network.rpc(0);
        let height = until("a snapshot's height", RESTARTED, || {
            let last = rpc.status()?.latest_height;
            // The header after the snapshot's block has its app hash, and the one after that its results.
            let height = last - last % SNAPSHOT_EVERY;
            Ok((height > 0 && last > height + 2).then_some(height))
        })?;
        // As an operator would do it.
        let servers = [0, 1].map(|index| self.network.node(index).rpc.to_string()).join(",");
        let mut command = Command::new(self.network.programs().tenured());
        command
            .args(["comet", "state-sync", "--rpc-servers", &servers, "--home"])
            .arg(&self.network.node(FROM_SNAPSHOT).home);
        output(&mut command)?;
        let settings = [("TENURED_STATESYNC_DISCOVERY_TIME".to_owned(), "5s".to_owned())];
        self.network.start(FROM_SNAPSHOT, &settings)?;
        let began = Instant::now();
        self.network.wait_ready(FROM_SNAPSHOT)?;
        let name = self.network.node(FROM_SNAPSHOT).name.clone();
        let fifth = self.network.rpc(FROM_SNAPSHOT);
        let first = until("its first block", RESTARTED, || {
            Ok(fifth.status().ok().map(|s| s.earliest_height).filter(|h| *h > 0))
        })?;
        let snapshot = first - 1;
        ensure!(
            snapshot >= height && snapshot % SNAPSHOT_EVERY == 0,
            "the first block of {name} is {first}, which does not follow a snapshot of height {height} or a later one"
        );
        self.readers.read(&name, fifth);
        self.all_go_on(RESTARTED)?;
        Ok(format!(
            "from the snapshot of height {snapshot}; with the others {:.1} s after its start",
            began.elapsed().as_secs_f32()
        ))
    }

    fn random(&mut self) -> Result<String> {
        const ROUNDS: u32 = 6;
        let mut random = rand::thread_rng();
        for _ in 0..ROUNDS {
            let victim = random.gen_range(0..VALIDATORS);
            std::thread::sleep(Duration::from_millis(random.gen_range(200..5_000)));
            if self.network.namespaces().is_some() && random.gen_bool(0.4) {
                let others: Vec<u16> = (0..VALIDATORS).filter(|i| *i != victim).collect();
                self.network.partition(&[&[victim], &others])?;
                std::thread::sleep(Duration::from_millis(random.gen_range(500..6_000)));
                self.network.heal()?;
            } else {
                self.network.kill9(victim)?;
                std::thread::sleep(Duration::from_millis(random.gen_range(0..4_000)));
                self.network.start(victim, &[])?;
            }
        }
        let back = self.all_go_on(RESTARTED)?;
        Ok(format!(
            "{ROUNDS} faults; all equal again after {:.1} s",
            back.as_secs_f32()
        ))
    }

    fn heights(&self) -> Result<Vec<i64>> {
        let running = self.network.running();
        let heights = running.iter().map(|index| self.network.rpc(*index).status());
        heights.map(|status| Ok(status?.latest_height)).collect()
    }

    /// Reads blocks of these nodes again, all nodes at a time.
    fn reread(&self, nodes: &[u16], first: i64, last: i64) -> Result<()> {
        std::thread::scope(|scope| {
            let readers: Vec<_> = nodes
                .iter()
                .map(|index| {
                    let (name, rpc) = (&self.network.node(*index).name, self.network.rpc(*index));
                    scope.spawn(move || {
                        let first = first.max(rpc.status()?.earliest_height);
                        reread(self.readers.shared(), name, &rpc, first, last)
                    })
                })
                .collect();
            for reader in readers {
                match reader.join() {
                    Ok(result) => result?,
                    Err(_) => bail!("a reader panicked"),
                }
            }
            Ok(())
        })
    }

    /// Ends the load, waits until nothing is left to commit, and compares everything on every node.
    fn finish(&mut self) -> Result<String> {
        self.load.stop();
        // Transfers behind a lost one never commit; whatever can is in a block when two in a row are empty everywhere.
        until("two empty blocks", RESTARTED, || {
            let history = self.readers.history()?;
            let last = history.last();
            Ok((history.transactions_since(last - 1) == 0).then_some(()))
        })?;
        self.all_go_on(HEALED)?;
        let running = self.network.running();
        let last = self.last()?;
        self.reread(&running, 1, last)?;
        for index in &running {
            let chain = chain(&self.network, *index)?;
            self.load.check_balances(&*self.readers.history()?, &chain)?;
            let supply = chain.ask(|c| c.supply())?;
            ensure!(
                supply == self.supply,
                "the supply on {} is {supply}, it was {}",
                self.network.node(*index).name,
                self.supply
            );
        }
        let counts = self.load.counts(&*self.readers.history()?);
        ensure!(counts.committed > 0, "no transfer was committed");
        for (name, bytes) in self.network.memory() {
            println!("    {name:<16} {:>4} MiB", bytes >> 20);
        }
        Ok(format!(
            "{last} blocks equal on {} nodes; {} transfers accepted, {} in blocks, each in one and applied once; {} refused, {} unanswered; \
             supply as it was",
            running.len(),
            counts.accepted,
            counts.committed,
            counts.refused,
            counts.unanswered
        ))
    }
}

fn chain(network: &Network, index: u16) -> Result<Chain> {
    Chain::lazy(network.node(index).grpc)
}
