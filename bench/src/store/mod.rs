//! The store beside other stores: the same keys, values and blocks, each store in a process of its own, in turn.

mod contenders;
mod jmt;
mod nomt;

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use clap::ValueEnum;
use tenure_bench_workload::contest::{self, Answer, Request, Wire};
use tenure_bench_workload::cost::{median, Cost};
use tenure_bench_workload::{KEY_BYTES, VALUE_BYTES};

pub(crate) use contenders::{options, SIZES as OURS_SIZES, STORE};

use crate::report::{Bound, Goal, Section, Table};

/// How the measurement runs.
#[derive(clap::Args)]
pub(crate) struct Choices {
    /// Numbers of keys
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    keys: Vec<usize>,
    /// Rounds in which every store commits in turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(5..=99))]
    rounds: u16,
    /// The program of bench/peers; without it cnidarium is left out
    #[arg(long, value_name = "FILE")]
    cnidarium: Option<PathBuf>,
    /// These stores only [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
}

/// A store under measurement.
#[derive(clap::Args)]
pub(crate) struct Contender {
    #[arg(value_enum)]
    kind: Kind,
    keys: usize,
    directory: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Sorted batches on RocksDB, no commitment.
    Plain,
    /// The chain's store with undo records of ten blocks.
    Ours,
    /// The chain's store without undo records.
    OursNoUndo,
    /// Jellyfish Merkle tree of the crate jmt, nodes in RocksDB.
    Jmt,
    /// NOMT.
    Nomt,
    /// cnidarium, a program of its own.
    Cnidarium,
}

impl Kind {
    const ALL: [Kind; 6] = [
        Kind::Plain,
        Kind::Ours,
        Kind::OursNoUndo,
        Kind::Jmt,
        Kind::Nomt,
        Kind::Cnidarium,
    ];

    fn name(self) -> &'static str {
        match self {
            Kind::Plain => "sorted RocksDB batch",
            Kind::Ours => "**ours**, undo of 10 blocks",
            Kind::OursNoUndo => "ours, no undo",
            Kind::Jmt => "`jmt` 0.12 on RocksDB, all versions kept",
            Kind::Nomt => "NOMT 1.0.5, SHA-256",
            Kind::Cnidarium => "cnidarium 0.84",
        }
    }

    /// Blocks of one turn, where a peer commits so many.
    fn blocks(self, updates: usize, of_a_peer: usize) -> usize {
        match self {
            Kind::Plain | Kind::Ours | Kind::OursNoUndo => FLAT_UPDATES / updates,
            Kind::Jmt | Kind::Nomt | Kind::Cnidarium => of_a_peer,
        }
    }
}

/// Updates of a block, and the blocks of one turn of a peer.
const BLOCKS: [(usize, usize); 3] = [(10_000, 6), (1_000, 40), (100, 60)];

/// Updates in one turn of a store that writes values only: in seven turns each fills some twenty memtables and merges its tables several times,
/// so that the bytes of two such stores can be compared. Peers write so much more that theirs are even in fewer blocks.
const FLAT_UPDATES: usize = 300_000;

/// Fills a store and serves it over the standard streams.
pub(crate) fn serve(contender: &Contender) -> Result<()> {
    let directory = &contender.directory;
    let mut store: Box<dyn contest::Contestant> = match contender.kind {
        Kind::Plain => Box::new(contenders::Plain::open(directory)?),
        Kind::Ours => Box::new(contenders::Ours::open(directory, 10)?),
        Kind::OursNoUndo => Box::new(contenders::Ours::open(directory, 0)?),
        Kind::Jmt => Box::new(jmt::Jmt::open(directory)?),
        Kind::Nomt => Box::new(nomt::NomtStore::open(directory, contender.keys)?),
        Kind::Cnidarium => anyhow::bail!("cnidarium is a program of its own: bench/peers"),
    };
    contest::serve(store.as_mut(), contender.keys)
}

/// Fills the chain's store in `directory` with this many keys, in a process of its own that has ended when this returns.
pub(crate) fn fill_ours(directory: &Path, keys: usize) -> Result<()> {
    Running::start(Kind::Ours, keys, directory, None).map(drop)
}

/// A store in its process.
struct Running {
    kind: Kind,
    wire: Option<Wire<BufReader<ChildStdout>, ChildStdin>>,
    child: Child,
}

impl Running {
    /// Starts and fills it.
    fn start(kind: Kind, keys: usize, directory: &Path, cnidarium: Option<&Path>) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut command = match (kind, cnidarium) {
            (Kind::Cnidarium, Some(program)) => Command::new(program),
            _ => {
                let mut command = Command::new(std::env::current_exe()?);
                let value = kind.to_possible_value().context("a store without a name")?;
                command.args(["contestant", value.get_name()]);
                command
            }
        };
        command.arg(keys.to_string()).arg(directory);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let streams = child.stdout.take().zip(child.stdin.take());
        let (answers, requests) = streams.context("a child without streams")?;
        let mut wire = Wire::new(BufReader::new(answers), requests);
        let filled: Result<Answer> = wire.answer();
        let running = Self {
            kind,
            wire: Some(wire),
            child,
        };
        filled.with_context(|| format!("{} was not filled", kind.name()))?;
        Ok(running)
    }

    fn ask(&mut self, request: Request) -> Result<Answer> {
        let wire = self.wire.as_mut().context("a store that has ended")?;
        wire.ask(request).with_context(|| self.kind.name())
    }
}

impl Drop for Running {
    /// The end of its input ends it.
    fn drop(&mut self) {
        drop(self.wire.take());
        if let Err(e) = self.child.wait() {
            eprintln!("{}: {e}", self.kind.name());
        }
    }
}

/// What one store cost at one size of blocks.
struct Figures {
    kind: Kind,
    /// CPU microseconds of an update, while blocks are committed: median of the rounds.
    commit_us: f64,
    /// The same outside of blocks, compactions mostly: mean of all rounds.
    background_us: f64,
    /// CPU microseconds of an update until the root is known, where that is before the end.
    root_us: Option<f64>,
    /// Milliseconds on the wall of a block, median.
    wall_ms: f64,
    root_wall_ms: Option<f64>,
    /// Bytes written for each byte of keys and values updated.
    amplification: f64,
    resident: u64,
}

impl Figures {
    fn of(kind: Kind, turns: &[Answer], rest: &Answer, updates: usize) -> Self {
        let blocks = || turns.iter().flat_map(|turn| &turn.blocks);
        let count = blocks().count() * updates;
        let of_turn = |turn: &Answer, cost: fn(&contest::Block) -> Option<Cost>| {
            let costs: Option<Vec<Cost>> = turn.blocks.iter().map(cost).collect();
            let cpu: u64 = costs?.iter().map(|cost| cost.cpu_ns).sum();
            Some(cpu as f64 / 1e3 / (turn.blocks.len() * updates) as f64)
        };
        let cpu = |cost| median(turns.iter().filter_map(|turn| of_turn(turn, cost)));
        let wall = |cost: fn(&contest::Block) -> Option<Cost>| {
            median(blocks().filter_map(cost).map(|cost| cost.wall_ns as f64 / 1e6))
        };
        let all = || turns.iter().chain([rest]);
        let background: u64 = all().map(|answer| answer.background_cpu_ns).sum();
        let written: u64 = all().map(|answer| answer.written).sum();
        Self {
            kind,
            commit_us: cpu(|block| Some(block.whole)).unwrap_or(f64::NAN),
            background_us: background as f64 / 1e3 / count as f64,
            root_us: cpu(|block| block.root),
            wall_ms: wall(|block| Some(block.whole)).unwrap_or(f64::NAN),
            root_wall_ms: wall(|block| block.root),
            amplification: written as f64 / (count * (KEY_BYTES + VALUE_BYTES)) as f64,
            resident: rest.resident,
        }
    }

    fn cpu_us(&self) -> f64 {
        self.commit_us + self.background_us
    }

    fn cells(&self, plain: Option<&Figures>) -> Vec<String> {
        let times = plain.map_or("–".to_owned(), |plain| {
            format!("{:.2}", self.cpu_us() / plain.cpu_us())
        });
        let bytes = plain.map_or("–".to_owned(), |plain| {
            format!("{:.2}", self.amplification / plain.amplification)
        });
        let or_none = |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |v| format!("{v:.digits$}"));
        vec![
            self.kind.name().to_owned(),
            format!("{:.2}", self.cpu_us()),
            format!("{:.2}", self.background_us),
            or_none(self.root_us, 2),
            times,
            format!("{:.1}", self.wall_ms),
            or_none(self.root_wall_ms, 1),
            format!("{:.2}", self.amplification),
            bytes,
            (self.resident >> 20).to_string(),
        ]
    }
}

/// Runs the contest.
pub(crate) fn run(choices: &Choices) -> Result<Section> {
    let mut section = Section {
        method: format!(
            "Keys of {KEY_BYTES} bytes with values of {VALUE_BYTES}, random; blocks update distinct existing keys chosen at random, sorted, old values known. \
             Each store is a process of its own, so that its threads are charged to it alone; {} rounds in which all commit in turn. All that is \
             RocksDB here is one library (11.8.1); ours, the plain batch and `jmt` use the node's settings with memtables of {} MiB and sync every block, NOMT \
             syncs too, cnidarium has its own settings and does not. CPU is that of all threads, microseconds an update: the median of the rounds while blocks are \
             committed, plus flushes and compactions between them. Bytes are those written for each byte updated, compactions included. \
             Ours and the plain batch commit {FLAT_UPDATES} updates a round, so that each merges its tables several times; the peers commit fewer blocks, and with \
             100 updates a block their background and bytes are partly chance.",
            choices.rounds,
            contenders::SIZES.write_buffer_bytes >> 20,
        ),
        ..Section::default()
    };
    let chosen = |kind: &Kind| {
        let asked = choices.only.is_empty() || choices.only.contains(kind);
        asked && (*kind != Kind::Cnidarium || choices.cnidarium.is_some())
    };
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(chosen).collect();
    if choices.cnidarium.is_none() {
        section.remarks.push("cnidarium was left out.".to_owned());
    }
    for keys in &choices.keys {
        contest(choices, &kinds, *keys, &mut section)?;
    }
    Ok(section)
}

/// All stores on this many keys.
fn contest(choices: &Choices, kinds: &[Kind], keys: usize, section: &mut Section) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("tenure-bench.").tempdir()?;
    let mut stores = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        eprintln!("{keys} keys: filling {}", kind.name());
        let directory = scratch.path().join(index.to_string());
        let store = Running::start(*kind, keys, &directory, choices.cnidarium.as_deref())?;
        stores.push(store);
    }
    for (updates, blocks) in BLOCKS {
        let mut turns: Vec<Vec<Answer>> = vec![Vec::new(); stores.len()];
        for round in 1..=choices.rounds {
            eprintln!(
                "{keys} keys, {updates} updates a block: round {round} of {}",
                choices.rounds
            );
            for (store, turns) in stores.iter_mut().zip(&mut turns) {
                let blocks = store.kind.blocks(updates, blocks);
                turns.push(store.ask(Request::Turn { blocks, updates })?);
            }
        }
        let mut figures = Vec::new();
        for (store, turns) in stores.iter_mut().zip(&turns) {
            let rest = store.ask(Request::Settle)?;
            figures.push(Figures::of(store.kind, turns, &rest, updates));
        }
        add(section, keys, updates, &figures);
    }
    Ok(())
}

/// A table, and what it says about the goals: those are for 10⁶ keys.
fn add(section: &mut Section, keys: usize, updates: usize, figures: &[Figures]) {
    let of = |kind: Kind| figures.iter().find(|figures| figures.kind == kind);
    let mut table = Table::new([
        "store",
        "CPU µs",
        "of it background",
        "of it root",
        "× plain",
        "wall ms a block",
        "root ms",
        "bytes",
        "× plain",
        "memory MiB",
    ]);
    figures
        .iter()
        .for_each(|figures| table.row(figures.cells(of(Kind::Plain))));
    let title = format!("**{keys} keys, {updates} updates a block**");
    section.tables.push((title, table));
    if keys < 1_000_000 {
        return;
    }
    let Some(ours) = of(Kind::Ours) else { return };
    let mut goal = |what: &str, measured: f64, bound: Bound| {
        let what = format!("{what}, {keys} keys, {updates} updates");
        section.goals.push(Goal::new(what, measured, bound));
    };
    if let (Some(plain), 10_000) = (of(Kind::Plain), updates) {
        goal(
            "CPU beside a sorted batch",
            ours.cpu_us() / plain.cpu_us(),
            Bound::AtMost(2.6),
        );
        goal(
            "bytes beside a sorted batch",
            ours.amplification / plain.amplification,
            Bound::AtMost(1.7),
        );
        if let Some(bare) = of(Kind::OursNoUndo) {
            goal(
                "CPU beside a sorted batch, no undo",
                bare.cpu_us() / plain.cpu_us(),
                Bound::AtMost(2.3),
            );
            goal(
                "bytes beside a sorted batch, no undo",
                bare.amplification / plain.amplification,
                Bound::AtMost(1.15),
            );
        }
    }
    if let Some(nomt) = of(Kind::Nomt) {
        let bound = if updates == 100 { 5.0 } else { 4.0 };
        goal(
            "updates a CPU second beside NOMT",
            nomt.cpu_us() / ours.cpu_us(),
            Bound::AtLeast(bound),
        );
    }
    for (kind, what) in [
        (Kind::Jmt, "updates a CPU second beside `jmt` on RocksDB"),
        (Kind::Cnidarium, "updates a CPU second beside cnidarium"),
    ] {
        if let (Some(peer), 10_000) = (of(kind), updates) {
            goal(what, peer.cpu_us() / ours.cpu_us(), Bound::AtLeast(8.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_per_update_and_count_what_happens_between_blocks() {
        let cost = |us: u64| Cost {
            cpu_ns: us * 1_000,
            wall_ns: us * 2_000,
        };
        let turn = |us: u64| Answer {
            blocks: vec![
                contest::Block {
                    whole: cost(us),
                    root: Some(cost(us / 2)),
                };
                2
            ],
            background_cpu_ns: 100_000,
            written: 124 * 100,
            resident: 0,
        };
        let turns = [turn(1_000), turn(3_000), turn(2_000)];
        let rest = Answer {
            background_cpu_ns: 300_000,
            ..Answer::default()
        };
        let figures = Figures::of(Kind::Ours, &turns, &rest, 100);
        // 2 ms for 100 updates in the median turn; 600 µs beside 600 updates; 300 times 124 bytes for 600 updates.
        assert_eq!((figures.commit_us, figures.background_us), (20.0, 1.0));
        assert_eq!((figures.root_us, figures.wall_ms), (Some(10.0), 4.0));
        assert_eq!(figures.amplification, 0.5);
    }
}
