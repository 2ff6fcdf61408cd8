//! Figures of a chain on this machine: time between blocks, from a bid to its lease, and memory, on solo, one and four validators.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use tenure_client::chain::Client;
use tenure_client::job::Job;
use tenure_client::keys::Key;
use tenure_client::sender::{TxOptions, TxSender};
use tenure_comet::rpc::Rpc;
use tenure_proto::tenure::market::v1::{LeaseState, MsgCloseLease, MsgPostBidResponse};

use crate::chain::runtime;
use crate::demo::provider;
use crate::history::{percentile, read_block, History};
use crate::load::{accounts, senders};
use crate::network::{Network, Plan};
use crate::process::{spawn, Lifetime, ProcessId};
use crate::programs::Programs;
use crate::wait::until;

/// Time that CometBFT waits for late votes; solo's blocks come as often with `devnet --fast`.
const COMMIT_TIMEOUT: Duration = Duration::from_millis(300);
/// How often the lease is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// Until a bid has a lease, at the most.
const LEASED: Duration = Duration::from_secs(30);
const START: Duration = Duration::from_secs(60);

/// Measures all three and prints one table.
pub fn run(bids: u32, job: &Path) -> Result<()> {
    let programs = Programs::find()?;
    let job = Job::load(job).map_err(|e| anyhow::anyhow!("{e}"))?;
    println!("| chain | block interval p50 / p95 | bid to lease p50 / p95 | blocks from bid to lease p50 / p95 | memory (RSS, MiB) |");
    println!("|---|---|---|---|---|");
    println!("{}", solo(bids, &job, &programs)?);
    for validators in [1, 4] {
        println!("{}", comet(bids, &job, &programs, validators)?);
    }
    Ok(())
}

/// What was measured on one chain.
struct Figures {
    /// Milliseconds, sorted.
    intervals: Vec<i64>,
    /// Milliseconds as the tenant waits, sorted.
    waits: Vec<i64>,
    /// Heights between the bid's block and the lease's, sorted.
    blocks: Vec<i64>,
}

fn row(chain: &str, figures: &Figures, memory: &[(String, u64)]) -> String {
    let both = |values: &[i64]| format!("{} / {}", percentile(values, 50), percentile(values, 95));
    let memory: Vec<String> = memory
        .iter()
        .map(|(name, bytes)| format!("{name} {}", bytes >> 20))
        .collect();
    format!(
        "| {chain} | {} ms | {} ms | {} | {} |",
        both(&figures.intervals),
        both(&figures.waits),
        both(&figures.blocks),
        memory.join(", ")
    )
}

fn comet(bids: u32, job: &Job, programs: &Programs, validators: u16) -> Result<String> {
    let scratch = tempfile::Builder::new().prefix("tenure-latency.").tempdir()?;
    let tenant = senders(1);
    let plan = Plan {
        validators,
        full_nodes: 0,
        commit_timeout: COMMIT_TIMEOUT,
        accounts: accounts(&tenant),
        settings: Vec::new(),
        namespaces: true,
    };
    let mut network = Network::make(&scratch.path().join("net"), &plan, programs.clone(), Lifetime::Ours)?;
    for index in 0..validators {
        network.start(index, &[])?;
    }
    for index in 0..validators {
        network.wait_ready(index)?;
        network.wait_height(index, 2, START)?;
    }
    // The provider behind another node than the tenant, where there is one.
    provider(&mut network, "provider", validators - 1, "cpu=0.1ten")?;
    let address = network.node(0).grpc;
    let figures = measure(bids, job, tenant[0].key(), address, &network.rpc(0))?;
    let name = if validators == 1 {
        "one validator".to_owned()
    } else {
        format!("{validators} validators")
    };
    Ok(row(&name, &figures, &network.memory()))
}

/// A development chain on the embedded engine with a provider; ends with this value.
struct Solo(Vec<(&'static str, ProcessId)>);

impl Drop for Solo {
    fn drop(&mut self) {
        for (name, process) in self.0.iter().rev() {
            if let Err(e) = process.end(START) {
                eprintln!("{name} was not ended: {e:#}");
            }
        }
    }
}

fn solo(bids: u32, job: &Job, programs: &Programs) -> Result<String> {
    let scratch = tempfile::Builder::new().prefix("tenure-latency.").tempdir()?;
    let (home, agent_home) = (scratch.path().join("node"), scratch.path().join("provider"));
    let tenant = senders(1);
    let text = |path: &Path| path.display().to_string();
    let mut argv: Vec<String> = vec![
        text(&programs.tenured()),
        "devnet".into(),
        "--fast".into(),
        "--auto-ports".into(),
    ];
    argv.extend([
        "--home".into(),
        text(&home),
        "--account".into(),
        accounts(&tenant).remove(0),
    ]);
    let mut chain = Solo(Vec::new());
    let node = spawn(&argv, &[], &scratch.path().join("node.log"), Lifetime::Ours)?;
    chain.0.push(("tenured", node));
    let (grpc, rpc) = until("the solo chain", START, || {
        ensure!(node.alive(), "tenured devnet ended");
        let Ok(run) = std::fs::read(home.join("run.json")) else {
            return Ok(None);
        };
        let run: Value = serde_json::from_slice(&run)?;
        let address = |key: &str| run[key].as_str().and_then(|a| a.parse::<SocketAddr>().ok());
        Ok(address("grpc").zip(address("rpc")))
    })?;
    let url = format!("http://{grpc}");
    let argv: Vec<String> = [
        &text(&programs.agent()),
        "--home",
        &text(&agent_home),
        "--node",
        &url,
        "run",
        "--join",
    ]
    .into_iter()
    .chain(["--auto-ports", "--bond", "500ten", "--faucet", "--keyring", "test"])
    .map(str::to_owned)
    .collect();
    let agent = spawn(&argv, &[], &scratch.path().join("agent.log"), Lifetime::Ours)?;
    chain.0.push(("tenure-agent", agent));
    let figures = measure(bids, job, tenant[0].key(), grpc, &Rpc::new(rpc))?;
    let memory: Vec<_> = chain
        .0
        .iter()
        .filter_map(|(name, process)| Some(((*name).to_owned(), process.memory()?)))
        .collect();
    Ok(row("solo", &figures, &memory))
}

/// Posts bids one after the other as a tenant would, waits for each lease and closes it.
fn measure(bids: u32, job: &Job, key: &Key, grpc: SocketAddr, rpc: &Rpc) -> Result<Figures> {
    let runtime = runtime()?;
    let first = rpc.status()?.latest_height;
    let (mut waits, mut blocks) = runtime.block_on(async {
        let client = Client::connect(&format!("http://{grpc}")).await?;
        let deadline = Instant::now() + START;
        while client.providers().await?.is_empty() {
            ensure!(Instant::now() < deadline, "no provider within {START:?}");
            tokio::time::sleep(LOOK).await;
        }
        // The provider that has just registered has to be seen to claim before anything is measured.
        let options = TxOptions {
            poll: LOOK,
            ..TxOptions::default()
        };
        let sender = TxSender::new(client.clone(), key.clone(), options).await?;
        bid(&sender, &client, job).await?;
        let (mut waits, mut blocks) = (Vec::new(), Vec::new());
        for _ in 0..bids {
            let (wait, height) = bid(&sender, &client, job).await?;
            waits.push(i64::try_from(wait.as_millis())?);
            blocks.push(height);
        }
        anyhow::Ok((waits, blocks))
    })?;
    waits.sort_unstable();
    blocks.sort_unstable();
    Ok(Figures {
        intervals: intervals(rpc, first.max(1))?,
        waits,
        blocks,
    })
}

/// One bid to its lease, which is closed at once: the wait, and the blocks from the bid's to the lease's.
async fn bid(sender: &TxSender, client: &Client, job: &Job) -> Result<(Duration, i64)> {
    let tenant = sender.address();
    let began = Instant::now();
    let posted = sender
        .send_and_confirm(vec![tenure_proto::any(&job.post_bid(&tenant))])
        .await?;
    let id = posted.response::<MsgPostBidResponse>(0)?.bid_id;
    let lease = loop {
        let open = client.leases(&tenant, "", LeaseState::Unspecified, true).await?;
        if let Some(lease) = open.into_iter().find(|lease| lease.bid_id == id) {
            break lease;
        }
        if began.elapsed() > LEASED {
            bail!("bid {id} has no lease after {LEASED:?}");
        }
        tokio::time::sleep(LOOK).await;
    };
    let waited = began.elapsed();
    let close = MsgCloseLease {
        tenant,
        lease_id: lease.id,
    };
    sender.send_and_confirm(vec![tenure_proto::any(&close)]).await?;
    Ok((
        waited,
        i64::try_from(lease.created_height.saturating_sub(posted.height))?,
    ))
}

/// Times between the blocks from `first` on, sorted.
fn intervals(rpc: &Rpc, first: i64) -> Result<Vec<i64>> {
    let last = rpc.status()?.latest_height;
    let mut history = History::default();
    for height in first..=last {
        let facts = read_block(rpc, height)?.with_context(|| format!("block {height} is not there"))?;
        history.record("node", height, facts)?;
    }
    Ok(history.intervals(first, last))
}
