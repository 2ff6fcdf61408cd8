//! A snapshot that cannot be written: the chain goes on, says so, leaves nothing half behind, and writes the next one that there is room for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};
use tenure_node::account_key::AccountKey;

use crate::engine::{height, init, until};
use crate::support::{scraped, tenured, Node};

/// Blocks from one snapshot to the next.
const EVERY: i64 = 5;

/// A small file system; unmounted when it is dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None` where this process may not mount.
    fn of(path: &Path, size: &str) -> Result<Option<Self>> {
        std::fs::create_dir_all(path)?;
        let mut command = Command::new("mount");
        let done = command
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(path)
            .output();
        Ok(done
            .is_ok_and(|done| done.status.success())
            .then(|| Self(path.to_owned())))
    }

    fn grow(&self, size: &str) -> Result<()> {
        let mut command = Command::new("mount");
        let done = command
            .args(["-o", &format!("remount,size={size}")])
            .arg(&self.0)
            .status()?;
        ensure!(done.success(), "remount: {done}");
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// What lies in the directory of the snapshots.
fn entries(directory: &Path) -> Result<Vec<String>> {
    let read = std::fs::read_dir(directory)?;
    let names = read.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

fn newest(node: &Node) -> Option<i64> {
    let text = scraped(node.run.metrics?).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("snapshot_height "))?;
    value.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_goes_on_where_a_snapshot_has_no_room_and_writes_the_next_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    init(&home, &AccountKey::random())?;
    let snapshots = home.join("data/snapshots");
    // A page: less than the smallest state.
    let Some(mount) = Mount::of(&snapshots, "4k")? else {
        eprintln!("**** SKIPPED: mounting a small tmpfs needs root");
        return Ok(());
    };
    let mut command = tenured(&home);
    command
        .args(["start", "--engine", "solo", "--auto-ports"])
        .env("TENURED_SOLO_BLOCK_INTERVAL", "30ms")
        .env("TENURED_TELEMETRY_ENABLED", "true")
        .env("TENURED_STATE_SYNC_SNAPSHOT_INTERVAL", EVERY.to_string());
    let node = Node::start(&home, &mut command)?;
    let complaints = || {
        let log = node.log_text();
        let lines = log.lines().filter(|line| line.contains("snapshot failed"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let first = until("a snapshot that fails", || complaints().first().cloned()).await?;
    ensure!(
        first.contains("No space left on device") && first.contains(&snapshots.display().to_string()),
        "{first}"
    );
    // Blocks go on past several of them; each is told of once.
    let at = height(node.run.rpc).context("height")?;
    let later = until("blocks", || height(node.run.rpc).filter(|h| *h >= at + 3 * EVERY)).await?;
    let told = i64::try_from(complaints().len())?;
    ensure!(
        (2..=later / EVERY + 1).contains(&told),
        "{told} complaints by block {later}"
    );
    assert_eq!(newest(&node), Some(0));

    mount.grow("16m")?;
    until("the next snapshot", || newest(&node).filter(|newest| *newest > at)).await?;
    let failures = complaints().len();
    let there = entries(&snapshots)?;
    let whole = there.iter().filter(|name| name.parse::<i64>().is_ok());
    ensure!(whole.count() >= 1, "{there:?}");
    let on = height(node.run.rpc).context("height")?;
    until("two more", || newest(&node).filter(|newest| *newest > on + EVERY)).await?;
    assert_eq!(complaints().len(), failures, "one failed although there is room");
    assert_eq!(node.terminate()?, Some(0));
    // Nothing half is left, of those that failed either; one that the stop interrupted may be.
    let half: Vec<String> = entries(&snapshots)?
        .into_iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    ensure!(half.len() <= 1, "{half:?}");
    Ok(())
}
