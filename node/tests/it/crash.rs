//! Kills and full disks, against the real process on RocksDB.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use tenure_node::account_key::AccountKey;
use tenure_proto::cosmos::tx::v1beta1::service_client::ServiceClient;
use tenure_proto::cosmos::tx::v1beta1::{BroadcastMode, BroadcastTxRequest, GetTxRequest};
use tenure_proto::tenure::chain::v1::query_client::QueryClient;
use tenure_proto::tenure::chain::v1::StatusRequest;
use tenure_types::Address;
use tonic::transport::Channel;

use crate::support::{account, balance, connect, rpc, tenured, transfer, Node};

const KILLS: usize = 22;
const LIMIT: Duration = Duration::from_secs(60);

/// What clients were told before a kill; it must stay true.
#[derive(Default)]
struct Told {
    /// App hash by height.
    app_hashes: BTreeMap<u64, Vec<u8>>,
    /// Height by hash of committed transactions.
    committed: BTreeMap<String, i64>,
    /// Accepted, not yet seen in a block.
    waiting: Vec<String>,
}

impl Told {
    /// Sends transfers and watches until `until`; errors end it early, as the node may die at any moment.
    async fn load(&mut self, channel: &Channel, alice: &AccountKey, chain_id: &str, until: Instant) -> Result<()> {
        let mut txs = ServiceClient::new(channel.clone());
        let mut status = QueryClient::new(channel.clone());
        let (number, mut sequence) = account(channel, &alice.address()).await?;
        while Instant::now() < until {
            for _ in 0..5 {
                let tx_bytes = transfer(alice, chain_id, number, sequence, &receiver(), 1);
                let request = BroadcastTxRequest {
                    tx_bytes,
                    mode: BroadcastMode::Sync as i32,
                };
                let answer = txs
                    .broadcast_tx(request)
                    .await?
                    .into_inner()
                    .tx_response
                    .context("response")?;
                match answer.code {
                    0 => sequence += 1,
                    // Sequences start over from what is committed after a restart; the rest is the mempool's to say.
                    _ => (_, sequence) = account(channel, &alice.address()).await?,
                }
                if answer.code == 0 {
                    self.waiting.push(answer.txhash);
                }
            }
            let seen = status.status(StatusRequest {}).await?.into_inner();
            let known = self
                .app_hashes
                .entry(seen.height)
                .or_insert_with(|| seen.app_hash.clone());
            assert_eq!(*known, seen.app_hash, "app hash of height {} changed", seen.height);
            if let Some(hash) = self.waiting.first().cloned() {
                if let Ok(found) = txs.get_tx(GetTxRequest { hash: hash.clone() }).await {
                    let response = found.into_inner().tx_response.context("response")?;
                    assert_eq!(response.code, 0, "{}", response.raw_log);
                    self.committed.insert(hash, response.height);
                    self.waiting.remove(0);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Everything told is still so.
    async fn check(&self, node: &Node, channel: &Channel) -> Result<()> {
        let mut txs = ServiceClient::new(channel.clone());
        for (hash, height) in self.committed.iter().rev().take(40) {
            let found = txs
                .get_tx(GetTxRequest { hash: hash.clone() })
                .await
                .with_context(|| format!("{hash} is lost"))?;
            assert_eq!(found.into_inner().tx_response.context("response")?.height, *height);
        }
        for (height, app_hash) in self
            .app_hashes
            .iter()
            .rev()
            .take(20)
            .chain(self.app_hashes.iter().take(3))
        {
            // The header of the next block carries it. The last one may not have a next yet.
            let Ok(block) = rpc(node.run.rpc, &format!("/block?height={}", height + 1)) else {
                continue;
            };
            assert_eq!(
                block["block"]["header"]["app_hash"],
                hex::encode_upper(app_hash),
                "height {height}"
            );
        }
        Ok(())
    }
}

fn receiver() -> Address {
    Address::new([0x77; 20])
}

fn devnet(home: &Path, alice: &AccountKey) -> Command {
    let mut command = tenured(home);
    command
        .args([
            "devnet",
            "--fast",
            "--auto-ports",
            "--account",
            &format!("{}=1000ten", alice.address()),
        ])
        .env("TENURED_SOLO_BLOCK_INTERVAL", "40ms")
        .env("TENURED_SOLO_MIN_BLOCK_GAP", "10ms");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_and_double_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let alice = AccountKey::random();
    let mut told = Told::default();
    let started = Instant::now();
    let mut kills = 0;
    while kills < KILLS {
        ensure!(started.elapsed() < LIMIT, "only {kills} kills in {LIMIT:?}");
        let node = Node::start(&home, &mut devnet(&home, &alice))?;
        let channel = connect(node.run.grpc).await?;
        told.check(&node, &channel).await?;
        // Kill at different places of a block's life: the load goes on while the process dies.
        let lives = Duration::from_millis(250 + (kills as u64 * 137) % 500);
        let until = Instant::now() + lives;
        let chain_id = node.run.chain_id.clone();
        let killer = tokio::task::spawn_blocking(move || {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            node.kill()
        });
        // The error is the death of the node.
        let _ = told
            .load(&channel, &alice, &chain_id, until + Duration::from_secs(5))
            .await;
        killer.await??;
        kills += 1;
    }
    let node = Node::start(&home, &mut devnet(&home, &alice))?;
    let channel = connect(node.run.grpc).await?;
    told.check(&node, &channel).await?;
    // Each transfer moves one unit and takes one sequence: equal counts mean none was applied twice.
    let (_, sequence) = account(&channel, &alice.address()).await?;
    assert_eq!(balance(&channel, &receiver()).await?, u128::from(sequence));
    assert!(
        told.committed.len() >= KILLS && sequence >= told.committed.len() as u64,
        "{} {sequence}",
        told.committed.len()
    );
    eprintln!(
        "{kills} kills in {:?}: {} heights and {} transactions told, {sequence} committed",
        started.elapsed(),
        told.app_hashes.len(),
        told.committed.len()
    );
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}

/// A small file system in memory; unmounted when dropped.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    /// `None` where mounting is not allowed.
    fn mount(path: &Path, size: &str) -> Result<Option<Self>> {
        std::fs::create_dir_all(path)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(path)
            .output();
        Ok(mounted.is_ok_and(|m| m.status.success()).then(|| Self(path.to_owned())))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_node_with_a_reason_and_costs_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mount = dir.path().join("disk");
    let Some(_disk) = Tmpfs::mount(&mount, "48m")? else {
        eprintln!("SKIPPED: a tmpfs cannot be mounted here (needs root)");
        return Ok(());
    };
    let home = mount.join("home");
    let alice = AccountKey::random();
    let mut node = Node::start(&home, &mut devnet(&home, &alice))?;
    let channel = connect(node.run.grpc).await?;
    let mut told = Told::default();
    let chain_id = node.run.chain_id.clone();
    told.load(&channel, &alice, &chain_id, Instant::now() + Duration::from_millis(800))
        .await?;
    assert!(!told.committed.is_empty());

    // Fill what is left to the last byte.
    let filler = mount.join("filler");
    let mut file = std::fs::File::create(&filler)?;
    while std::io::Write::write(&mut file, &[0; 65_536]).is_ok_and(|n| n > 0) {}
    drop(file);
    let load = told
        .load(&channel, &alice, &chain_id, Instant::now() + Duration::from_secs(20))
        .await;
    let code = node.wait(Duration::from_secs(20))?;
    assert!(load.is_err() && code != Some(0), "{code:?}");
    let log = node.log_text();
    assert!(
        log.contains("No space left") || log.contains("no space") || log.contains("os error 28"),
        "{log}"
    );

    std::fs::remove_file(&filler)?;
    let node = Node::start(&home, &mut devnet(&home, &alice))?;
    let channel = connect(node.run.grpc).await?;
    told.check(&node, &channel).await?;
    let (_, sequence) = account(&channel, &alice.address()).await?;
    assert_eq!(balance(&channel, &receiver()).await?, u128::from(sequence));
    told.load(&channel, &alice, &chain_id, Instant::now() + Duration::from_millis(500))
        .await?;
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}
