//! Blocks of signed transfers beside a bare loop of libsecp256k1 verifications of the same signatures.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tenure_app::AppOptions;
use tenure_bench_workload::cost::{median, of, Cost};
use tenure_store::StoreOptions;
use tenure_store_rocks::RocksBackend;

use crate::report::{Bound, Goal, Section, Table};
use crate::transfers::{verify_all, Signed, Transfers};

/// How the measurement runs.
#[derive(clap::Args)]
pub(crate) struct Choices {
    /// Transfers of a block
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    transfers: u32,
    /// Accounts, two keys of state each
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    accounts: u32,
    /// Blocks of each chain
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(5..))]
    blocks: u16,
}

/// One round: everything once.
struct Round {
    verify: Cost,
    check: Cost,
    warm: [Cost; 2],
    staged: [Cost; 2],
    cold: [Cost; 2],
}

/// While votes travel: more than the execution of a block takes.
const VOTES: Duration = Duration::from_millis(600);

/// A chain on RocksDB as a node has it.
fn chain(directory: &Path, accounts: usize) -> Result<Transfers> {
    let backend = RocksBackend::open(directory)?;
    let (store, options) = (StoreOptions::default(), AppOptions::default());
    Ok(Transfers::new(backend, store, options, accounts).with_numbers())
}

/// Measures.
pub(crate) fn run(choices: &Choices) -> Result<Section> {
    let (transfers, accounts) = (choices.transfers as usize, choices.accounts as usize);
    let scratch = tempfile::Builder::new().prefix("tenure-bench.").tempdir()?;
    eprintln!("three chains of {accounts} accounts");
    let mut warm = chain(&scratch.path().join("warm"), accounts)?;
    let mut cold = chain(&scratch.path().join("cold"), accounts)?;
    let mut staged = chain(&scratch.path().join("staged"), accounts)?;
    let mut rounds = Vec::new();
    for block in 1..=choices.blocks {
        eprintln!("block {block} of {}", choices.blocks);
        let txs = warm.sign(transfers);
        let (verify, ()) = of(|| verify_all(&txs));
        let (check, ()) = of(|| txs.iter().for_each(|tx| warm.check(tx)));
        let warm = end(&mut warm, &txs);
        let txs = staged.sign(transfers);
        txs.iter().for_each(|tx| staged.check(tx));
        staged.propose(&staged.block(&txs));
        std::thread::sleep(VOTES);
        let staged = end(&mut staged, &txs);
        let cold_txs = cold.sign(transfers);
        let cold = end(&mut cold, &cold_txs);
        rounds.push(Round {
            verify,
            check,
            warm,
            staged,
            cold,
        });
    }
    Ok(section(choices, &rounds))
}

/// FinalizeBlock and Commit.
fn end(chain: &mut Transfers, txs: &[Signed]) -> [Cost; 2] {
    let block = chain.block(txs);
    [of(|| drop(chain.finalize(block))).0, of(|| chain.commit()).0]
}

fn section(choices: &Choices, rounds: &[Round]) -> Section {
    let transfers = choices.transfers as usize;
    let middle = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure)).unwrap_or(f64::NAN);
    let mut table = Table::new(["work", "CPU µs a transfer", "wall µs"]);
    let mut add = |name: &str, of: &dyn Fn(&Round) -> Cost| {
        let cpu = middle(&|round| of(round).cpu_us_each(transfers));
        let wall = middle(&|round| of(round).wall_us_each(transfers));
        table.row([name.to_owned(), format!("{cpu:.2}"), format!("{wall:.2}")]);
    };
    add("libsecp256k1, one thread, parsed keys", &|round| round.verify);
    add("CheckTx", &|round| round.check);
    add("FinalizeBlock, warm", &|round| round.warm[0]);
    add("Commit", &|round| round.warm[1]);
    add("FinalizeBlock, executed while it was voted on", &|round| {
        round.staged[0]
    });
    add("Commit", &|round| round.staged[1]);
    add("FinalizeBlock, cold", &|round| round.cold[0]);
    add("Commit", &|round| round.cold[1]);
    let cpu = |costs: &[Cost; 2]| (costs[0].cpu_ns + costs[1].cpu_ns) as f64;
    let wall = |costs: &[Cost; 2]| (costs[0].wall_ns + costs[1].wall_ns) as f64;
    let warm = middle(&|round| round.verify.cpu_ns as f64 / cpu(&round.warm));
    let cold = middle(&|round| round.verify.wall_ns as f64 / wall(&round.cold));
    let cold_cpu = middle(&|round| round.verify.cpu_ns as f64 / cpu(&round.cold));
    let a_second = |each: f64| format!("{:.0}", 1e9 * transfers as f64 / each);
    Section {
        method: format!(
            "{transfers} signed transfers a block between {} accounts (two keys of state each), on RocksDB with the node's settings, every commit synced; {} blocks of \
             three chains in one process, in turn with the loop, medians. Warm: the signatures are remembered from CheckTx, as on a node that had the \
             transactions in its mempool. Executed while it was voted on: the same on a validator, whose ProcessProposal began to execute the block; what \
             that cost is not counted again, the line says what is left between decision and commit. Cold: nothing is remembered, as on a node that \
             replays blocks; the signatures are verified on all cores while the block is executed.",
            choices.accounts, choices.blocks
        ),
        tables: vec![("**A transfer**".to_owned(), table)],
        goals: vec![
            Goal::new("transfers a CPU second, warm, beside the loop", warm, Bound::AtLeast(3.0)),
            Goal::new("transfers a second on the wall, cold, beside the loop on one core", cold, Bound::AtLeast(1.2)),
        ],
        remarks: vec![format!(
            "FinalizeBlock and Commit together: {} transfers a CPU second warm, {} cold ({cold_cpu:.2} times the loop).",
            a_second(middle(&|round| cpu(&round.warm))),
            a_second(middle(&|round| cpu(&round.cold))),
        )],
    }
}
