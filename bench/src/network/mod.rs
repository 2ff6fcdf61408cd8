//! Committed transactions and their latency through real validators, beside CometBFT's built-in kvstore: same CometBFT, configuration,
//! length of transactions, generator and way of measuring.

mod cleanup;
mod load;
mod nodes;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tenure_bench_workload::cost::median;
use tenure_comet::binary::CometBft;
use tenure_testkit::chain::Chain;
use tenure_testkit::history::percentile;
use tenure_testkit::load::{accounts, senders};

use crate::report::{Section, Table};
use cleanup::Cleanup;
use load::{pairs, transfers, Outcome, Queues};
use nodes::{App, Nodes, Plan, Programs};

/// Time that CometBFT waits for late votes, as in the measurements of the testkit.
const COMMIT_TIMEOUT: Duration = Duration::from_millis(300);
/// Accounts, connections and threads that send. Many, because each waits for the answer of `CheckTx`, which CometBFT asks over a socket up to 20 ms
/// late.
const SENDERS: usize = 128;
/// More than any node here accepts in a second: so many transactions are prepared for the run without a rate.
const MOST_A_SECOND: usize = 6_000;

/// How the measurement runs.
#[derive(clap::Args)]
pub(crate) struct Choices {
    /// The node to measure
    #[arg(long, value_name = "FILE")]
    tenured: PathBuf,
    /// Numbers of validators
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    validators: Vec<u16>,
    /// Chains of each kind, in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    rounds: u16,
    /// Transactions a second of the run that measures latency
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=5_000))]
    rate: u32,
    /// CometBFT's index of transactions is off, for both applications
    #[arg(long)]
    without_index: bool,
    /// Seconds of each run
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(6..=120))]
    seconds: u64,
}

/// One chain's two runs.
struct Trial {
    steady: Outcome,
    flood: Outcome,
    /// CPU microseconds of all nodes for each transaction of the run without a rate: the application's process, where it has one, and CometBFT's.
    application_us: f64,
    cometbft_us: f64,
    /// Memory of all nodes in the end, bytes.
    memory: u64,
}

/// Measures.
pub(crate) fn run(choices: &Choices) -> Result<Section> {
    let comet = CometBft::find(None)?;
    let programs = Programs {
        tenured: std::path::absolute(&choices.tenured)?,
        cometbft: comet.path.clone(),
    };
    let cleanup = Cleanup::on_signals()?;
    let mut latency = Table::new([
        "application",
        "validators",
        "committed a second",
        "latency p50 ms",
        "p95 ms",
        "block interval p50 ms",
    ]);
    let mut flood = Table::new([
        "application",
        "validators",
        "committed a second",
        "latency p50 ms",
        "p95 ms",
        "block interval p50 ms",
        "CPU µs a transaction: application",
        "CometBFT",
        "memory MiB, all nodes",
    ]);
    let mut length = 0;
    for validators in &choices.validators {
        let mut trials = [(App::Ours, Vec::new()), (App::Kvstore, Vec::new())];
        for round in 1..=choices.rounds {
            for (app, trials) in &mut trials {
                eprintln!("{validators} validators, {app:?}: round {round} of {}", choices.rounds);
                trials.push(trial(choices, &programs, *app, *validators, &mut length, &cleanup)?);
            }
        }
        for (app, trials) in &trials {
            let head = || vec![app.name().to_owned(), validators.to_string()];
            let steady: Vec<&Outcome> = trials.iter().map(|trial| &trial.steady).collect();
            latency.row([head(), outcome_cells(&steady)].concat());
            let flooded: Vec<&Outcome> = trials.iter().map(|trial| &trial.flood).collect();
            let middle = |figure: fn(&Trial) -> f64| median(trials.iter().map(figure)).unwrap_or(f64::NAN);
            let used = vec![
                format!("{:.0}", middle(|trial| trial.application_us)),
                format!("{:.0}", middle(|trial| trial.cometbft_us)),
                format!("{:.0}", middle(|trial| trial.memory as f64 / f64::from(1 << 20))),
            ];
            flood.row([head(), outcome_cells(&flooded), used].concat());
        }
    }
    Ok(Section {
        method: format!(
            "CometBFT {} with `timeout_commit` {} ms{} and otherwise what `tenured testnet init-files` writes, for both applications; all nodes and the generator on \
             this one machine, each node in a network namespace of its own where that is possible. Transactions of {length} bytes: signed transfers for ours, `key=value` \
             for the kvstore, made before the run; {SENDERS} senders spread over the nodes call `broadcast_tx_sync`, with at most {} transactions in flight. Committed is what the first node's \
             application has committed. {} chains of each kind in turn, two runs of {} s on each, the first two seconds of a run not counted; rates are medians of the chains, \
             latencies of all transactions.\n\n\
             The kvstore verifies no signature, keeps its state in memory inside CometBFT's process and syncs nothing: it is what CometBFT itself can do here. Ours \
             verifies every transaction on every node, speaks over a socket and syncs every commit.",
            comet.version,
            COMMIT_TIMEOUT.as_millis(),
            if choices.without_index { ", its index of transactions off" } else { "" },
            load::IN_FLIGHT,
            choices.rounds,
            choices.seconds
        ),
        tables: vec![
            (format!("**{} transactions a second offered**", choices.rate), latency),
            ("**As many as the nodes take**".to_owned(), flood),
        ],
        ..Section::default()
    })
}

/// One chain from genesis, both runs.
fn trial(
    choices: &Choices,
    programs: &Programs,
    app: App,
    validators: u16,
    length: &mut usize,
    cleanup: &Cleanup,
) -> Result<Trial> {
    let scratch = tempfile::Builder::new().prefix("tenure-bench.").tempdir()?;
    let people = senders(SENDERS);
    let plan = Plan {
        app,
        validators,
        commit_timeout: COMMIT_TIMEOUT,
        accounts: &accounts(&people),
        index: !choices.without_index,
    };
    let nodes = Nodes::start(programs, &plan, &scratch.path().join("net"), cleanup)?;
    let rpcs = nodes.rpcs();
    let time = Duration::from_secs(choices.seconds);
    let seconds = usize::try_from(choices.seconds)?;
    let mut queues = |run: u64, each: usize| -> Result<Queues> {
        match app {
            App::Ours => {
                let queues = transfers(&people, &Chain::lazy(nodes.grpc()?)?, each)?;
                *length = queues[0].first().context("no transactions")?.len();
                Ok(queues)
            }
            App::Kvstore => Ok(pairs(SENDERS, run << 32, each, *length)),
        }
    };
    let offered = queues(0, seconds * choices.rate as usize / SENDERS + 1)?;
    let steady = load::run(&rpcs, offered, Some(choices.rate), time)?;
    let offered = queues(1, seconds * MOST_A_SECOND / SENDERS)?;
    let before = nodes.used()?;
    let flood = load::run(&rpcs, offered, None, time)?;
    let after = nodes.used()?;
    let first = rpcs.first().context("no nodes")?;
    load::all_succeeded(first, &steady)?;
    load::all_succeeded(first, &flood)?;
    let each = |before: f64, after: f64| (after - before) * 1e6 / flood.sent as f64;
    let started = each(before.cpu_seconds, after.cpu_seconds);
    let (application_us, cometbft_us) = match app {
        App::Ours => (started, each(before.child_cpu_seconds, after.child_cpu_seconds)),
        App::Kvstore => (0.0, started),
    };
    Ok(Trial {
        application_us,
        cometbft_us,
        steady,
        flood,
        memory: after.memory,
    })
}

/// Rate, latencies and interval of several runs.
fn outcome_cells(outcomes: &[&Outcome]) -> Vec<String> {
    let pooled = |values: fn(&Outcome) -> &Vec<i64>| {
        let mut all: Vec<i64> = outcomes.iter().flat_map(|outcome| values(outcome)).copied().collect();
        all.sort_unstable();
        all
    };
    let latencies = pooled(|outcome| &outcome.latencies_us);
    let ms = |percent| format!("{:.0}", percentile(&latencies, percent) as f64 / 1e3);
    let rate = median(outcomes.iter().map(|outcome| outcome.committed_a_second)).unwrap_or(f64::NAN);
    let interval = percentile(&pooled(|outcome| &outcome.intervals_ms), 50);
    vec![format!("{rate:.0}"), ms(50), ms(95), interval.to_string()]
}
