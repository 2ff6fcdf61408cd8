//! Snapshots of a node that CometBFT drives: made while the chain goes on, kept beside pruning, and a way back. A node that joins from one is
//! in `testnet/faults`: it needs other nodes.

use std::path::Path;

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::engine::{cometbft, height, init, number, until};
use crate::support::{finish, rpc, tenured, Node};
use tenure_node::account_key::AccountKey;

/// Heights and app hashes of the snapshots of a home, the oldest first.
fn listed(home: &Path) -> Result<Vec<(i64, String)>> {
    let (ok, out, err) = finish(tenured(home).args(["snapshots", "list", "-o", "json"]))?;
    ensure!(ok, "{err}");
    let listed: Vec<Value> = serde_json::from_str(&out)?;
    let entry = |s: &Value| Some((number(&s["height"])?, s["app_hash"].as_str()?.to_owned()));
    listed.iter().map(|s| entry(s).context("a snapshot")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_made_beside_the_chain_old_blocks_go_and_a_restored_state_goes_on() -> Result<()> {
    let Some(program) = cometbft() else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let home = directory.path().join("home");
    init(&home, &AccountKey::random())?;
    let start = || {
        let mut command = tenured(&home);
        command
            .args(["start", "--engine", "comet", "--auto-ports", "--comet-bin"])
            .arg(&program)
            .env("TENURED_CONSENSUS_TIMEOUT_COMMIT", "50ms")
            .env("TENURED_STATE_SYNC_SNAPSHOT_INTERVAL", "5")
            .env("TENURED_STORE_MIN_RETAIN_BLOCKS", "2");
        Node::start(&home, &mut command)
    };
    let node = start()?;
    let earliest = |node: &Node| number(&rpc(node.run.rpc, "/status").ok()?["sync_info"]["earliest_block_height"]);
    until("block 22", || height(node.run.rpc).filter(|h| *h >= 22)).await?;
    let first = until("pruning", || earliest(&node).filter(|first| *first > 1)).await?;
    let there = listed(&home)?;
    ensure!((2..=3).contains(&there.len()), "two are kept: {there:?}");
    ensure!(there.iter().all(|(height, _)| height % 5 == 0), "{there:?}");
    ensure!(
        first <= there[0].0,
        "the first block is {first}: those after the snapshot of height {} are gone",
        there[0].0
    );
    let header = rpc(node.run.rpc, &format!("/block?height={}", there[0].0 + 1))?;
    assert_eq!(header["block"]["header"]["app_hash"], there[0].1.as_str());
    assert_eq!(node.terminate()?, Some(0));

    // The state of a snapshot, on which CometBFT executes the blocks after it again; it refuses an app hash that differs.
    let (restored, hash) = listed(&home)?.pop().context("a snapshot")?;
    let (ok, out, err) = finish(tenured(&home).args(["snapshots", "restore", &restored.to_string(), "--yes"]))?;
    ensure!(ok && out.contains(&hash), "{out}{err}");
    let node = start()?;
    until("a new block", || height(node.run.rpc).filter(|h| *h > restored + 5)).await?;
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}
