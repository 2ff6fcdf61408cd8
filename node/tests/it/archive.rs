//! The archive of a node: what is lost of it, or all of it, comes back from CometBFT at the next start, the same to the byte; and how much is kept of it and of
//! the blocks.

use std::path::Path;

use anyhow::{ensure, Result};
use tenure_archive::{Archive, ArchiveOptions, Record};
use tenure_node::account_key::AccountKey;
use tenure_types::Address;

use crate::engine::{cometbft, height, init, number, until};
use crate::support::{account, connect, rpc, tenured, transfer, Node, CHAIN_ID, OWN_PORTS};

fn start(home: &Path, args: &[&str], settings: &[(&str, &str)]) -> Result<Node> {
    let mut command = tenured(home);
    command.args(["start", "--auto-ports"]).args(args);
    command.envs([
        ("TENURED_CONSENSUS_TIMEOUT_COMMIT", "20ms"),
        ("TENURED_SOLO_BLOCK_INTERVAL", "20ms"),
        ("TENURED_SOLO_MIN_BLOCK_GAP", "10ms"),
    ]);
    command.envs(OWN_PORTS).envs(settings.iter().copied());
    Node::start(home, &mut command)
}

async fn reach(node: &Node, wanted: i64) -> Result<i64> {
    until(&format!("block {wanted}"), || {
        height(node.run.rpc).filter(|h| *h >= wanted)
    })
    .await
}

/// Every record of a stopped node, from the first height on. Error: one is missing.
fn records(home: &Path) -> Result<Vec<Record>> {
    let archive = Archive::open(&home.join("data/archive"), ArchiveOptions::default())?;
    archive.align(i64::MAX)?;
    let (first, last) = archive.range().unwrap_or((1, 0));
    ensure!(first == 1, "the first height is {first}");
    let mut all = Vec::new();
    for height in 1..=last {
        let record = archive.record(height)?;
        ensure!(record.is_some(), "height {height} of {last} is missing");
        all.extend(record.map(|r| (*r).clone()));
    }
    Ok(all)
}

/// As the archive writes it again from what CometBFT serves: a block does not tell the powers behind its last commit.
fn servable(record: &Record) -> Record {
    let mut record = record.clone();
    record.request.decided_last_commit = None;
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_archive_lost_comes_back_from_cometbft() -> Result<()> {
    let Some(program) = cometbft() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let alice = AccountKey::random();
    init(&home, &alice)?;
    let program = program.display().to_string();
    let run = |more: &[(&str, &str)]| start(&home, &["--engine", "comet", "--comet-bin", &program], more);
    // Transfers in some of the blocks, so that there is something to get wrong.
    let node = run(&[])?;
    let channel = connect(node.run.grpc).await?;
    let (own, mut sequence) = account(&channel, &alice.address()).await?;
    for _ in 0..6 {
        let tx = transfer(&alice, CHAIN_ID, own, sequence, &Address::new([0x44; 20]), 5 + sequence);
        rpc(node.run.rpc, &format!("/broadcast_tx_commit?tx=0x{}", hex::encode(&tx)))?;
        sequence += 1;
    }
    let old = dir.path().join("old-archive");
    let at = reach(&node, 12).await?;
    assert_eq!(node.terminate()?, Some(0));
    copy(&home.join("data/archive"), &old)?;
    let node = run(&[])?;
    reach(&node, at + 12).await?;
    for _ in 0..4 {
        let tx = transfer(&alice, CHAIN_ID, own, sequence, &Address::new([0x44; 20]), 5 + sequence);
        rpc(node.run.rpc, &format!("/broadcast_tx_commit?tx=0x{}", hex::encode(&tx)))?;
        sequence += 1;
    }
    assert_eq!(node.terminate()?, Some(0));
    let truth = records(&home)?;
    let transfers: usize = truth.iter().map(|r| r.request.txs.len()).sum();
    ensure!(
        truth.len() > 24 && transfers == 10,
        "{} heights, {transfers} transfers",
        truth.len()
    );

    let data = home.join("data/archive");
    for lost in ["its last blocks", "all of it"] {
        std::fs::remove_dir_all(&data)?;
        if lost == "its last blocks" {
            copy(&old, &data)?;
        }
        let node = run(&[])?;
        // It was filled before the node said that it is up; every client sees it.
        let hash = hex::encode(transfer_hash(&truth, 9));
        let found = rpc(node.run.rpc, &format!("/block_results?height={}", truth.len()))?;
        ensure!(number(&found["height"]) == i64::try_from(truth.len()).ok(), "{found}");
        let channel = connect(node.run.grpc).await?;
        let answer = get_tx(&channel, &hash).await?;
        ensure!(answer.code == 0, "{}", answer.raw_log);
        assert_eq!(node.terminate()?, Some(0));
        let filled = records(&home)?;
        ensure!(
            filled.len() >= truth.len(),
            "{lost}: {} of {}",
            filled.len(),
            truth.len()
        );
        for (was, is) in truth.iter().zip(&filled) {
            ensure!(
                servable(was) == servable(is),
                "{lost}: height {}\n{was:?}\n{is:?}",
                was.request.height
            );
        }
    }

    // Heights that nobody wants are not filled in.
    std::fs::remove_dir_all(&data)?;
    let node = run(&[("TENURED_ARCHIVE_KEEP_HEIGHTS", "5")])?;
    let log = node.log_text();
    ensure!(log.contains("archived again what was missing"), "{log}");
    assert_eq!(node.terminate()?, Some(0));
    let archive = Archive::open(&data, ArchiveOptions::default())?;
    archive.align(i64::MAX)?;
    let first = archive.range().map_or(0, |(first, _)| first);
    ensure!(
        first > i64::try_from(truth.len())? - 6,
        "the first height is {first} of {}",
        truth.len()
    );
    Ok(())
}

/// Hash of the transfer with this number.
fn transfer_hash(records: &[Record], number: usize) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let tx = records.iter().flat_map(|r| &r.request.txs).nth(number);
    Sha256::digest(tx.map_or(&[][..], |tx| tx.as_ref())).into()
}

async fn get_tx(
    channel: &tonic::transport::Channel,
    hash: &str,
) -> Result<tenure_proto::cosmos::base::abci::v1beta1::TxResponse> {
    use anyhow::Context;
    use tenure_proto::cosmos::tx::v1beta1::service_client::ServiceClient;
    use tenure_proto::cosmos::tx::v1beta1::GetTxRequest;
    let ask = GetTxRequest { hash: hash.to_owned() };
    let answer = ServiceClient::new(channel.clone()).get_tx(ask).await?.into_inner();
    answer.tx_response.context("tx_response")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        match path.is_dir() {
            true => copy(&path, &to.join(name))?,
            false => drop(std::fs::copy(&path, to.join(name))?),
        }
    }
    Ok(())
}

/// On the solo engine: results go, blocks stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heights_beyond_keep_heights_go_at_a_stop_at_the_latest() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    init(&home, &AccountKey::random())?;
    let node = start(&home, &[], &[("TENURED_ARCHIVE_KEEP_HEIGHTS", "7")])?;
    let last = reach(&node, 30).await?;
    assert_eq!(node.terminate()?, Some(0));
    let node = start(&home, &[], &[("TENURED_ARCHIVE_KEEP_HEIGHTS", "7")])?;
    let refused = rpc(node.run.rpc, "/block_results?height=3");
    ensure!(refused.is_err(), "{refused:?}");
    ensure!(rpc(node.run.rpc, &format!("/block_results?height={last}")).is_ok());
    ensure!(rpc(node.run.rpc, "/block?height=3")?["block"]["header"]["height"] == "3");
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}

/// On both engines: blocks go, the oldest kept is told, and what the blocks did stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_beyond_min_retain_blocks_go_and_their_results_stay() -> Result<()> {
    let program = cometbft().map(|p| p.display().to_string());
    let comet = program.as_ref().map(|p| vec!["--engine", "comet", "--comet-bin", p]);
    for args in std::iter::once(vec!["--engine", "solo"]).chain(comet) {
        let dir = tempfile::tempdir()?;
        let home = dir.path().join("home");
        let alice = AccountKey::random();
        init(&home, &alice)?;
        let settings = [
            ("TENURED_STORE_MIN_RETAIN_BLOCKS", "8"),
            ("TENURED_STATE_SYNC_SNAPSHOT_INTERVAL", "0"),
        ];
        let node = start(&home, &args, &settings)?;
        let channel = connect(node.run.grpc).await?;
        let (own, sequence) = account(&channel, &alice.address()).await?;
        let tx = transfer(&alice, CHAIN_ID, own, sequence, &Address::new([0x44; 20]), 5);
        let sent = rpc(node.run.rpc, &format!("/broadcast_tx_sync?tx=0x{}", hex::encode(&tx)))?;
        let hash = sent["hash"].as_str().unwrap_or_default().to_owned();
        let last = reach(&node, height(node.run.rpc).unwrap_or(0) + 40).await?;
        let status = rpc(node.run.rpc, "/status")?;
        let earliest = number(&status["sync_info"]["earliest_block_height"]).unwrap_or(-1);
        ensure!(
            (last - 8..last + 30).contains(&earliest),
            "{args:?}: {earliest} of {last}"
        );
        ensure!(rpc(node.run.rpc, "/block?height=2").is_err(), "{args:?}");
        let found = get_tx(&channel, &hash).await?;
        ensure!(found.code == 0 && found.height < earliest, "{args:?}: {found:?}");
        ensure!(found.timestamp.ends_with('Z'), "{args:?}: {:?}", found.timestamp);
        assert_eq!(node.terminate()?, Some(0));
    }
    Ok(())
}
