//! How full the mempool is, in the node's own figures, whichever engine keeps it.

use anyhow::{Context, Result};
use tenure_node::account_key::AccountKey;
use tenure_types::Address;

use crate::engine::{cometbft, height, init, until};
use crate::support::{account, connect, http, rpc, tenured, transfer, Node, CHAIN_ID, OWN_PORTS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_in_the_metrics_on_both_engines() -> Result<()> {
    let program = cometbft().map(|p| p.display().to_string());
    let comet = program.as_ref().map(|p| vec!["--engine", "comet", "--comet-bin", p]);
    for args in std::iter::once(vec!["--engine", "solo"]).chain(comet) {
        let dir = tempfile::tempdir()?;
        let home = dir.path().join("home");
        let alice = AccountKey::random();
        init(&home, &alice)?;
        let mut command = tenured(&home);
        command.args(["start", "--auto-ports"]).args(&args).envs(OWN_PORTS);
        // One block, and no other while the test looks. CometBFT waits as long before its first one, too.
        for (name, value) in [
            ("TENURED_SOLO_BLOCK_INTERVAL", "1h"),
            ("TENURED_SOLO_MIN_BLOCK_GAP", "1h"),
            ("TENURED_CONSENSUS_TIMEOUT_COMMIT", "8s"),
            ("TENURED_TELEMETRY_ENABLED", "true"),
        ] {
            command.env(name, value);
        }
        let node = Node::start(&home, &mut command)?;
        until("the first block", || height(node.run.rpc).filter(|h| *h >= 1)).await?;
        let channel = connect(node.run.grpc).await?;
        let (number, sequence) = account(&channel, &alice.address()).await?;
        let mut bytes = 0;
        for i in 0..3 {
            let tx = transfer(&alice, CHAIN_ID, number, sequence + i, &Address::new([0x44; 20]), 5);
            let sent = rpc(node.run.rpc, &format!("/broadcast_tx_sync?tx=0x{}", hex::encode(&tx)))?;
            assert_eq!(sent["code"], 0, "{sent}");
            bytes += tx.len();
        }
        let metrics = node.run.metrics.context("metrics")?;
        let wanted = [
            "mempool_size 3".to_owned(),
            format!("mempool_size_bytes {bytes}"),
            "mempool_checks_total{kind=\"new\",result=\"accepted\"} 3".to_owned(),
        ];
        let mut seen = String::new();
        for _ in 0..200 {
            let (_, _, body) = http(metrics, "GET /metrics", &[], b"").await?;
            seen = String::from_utf8(body)?;
            if wanted.iter().all(|line| seen.lines().any(|l| l == line)) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        for line in &wanted {
            assert!(seen.lines().any(|l| l == line), "{args:?}: {line} is not in\n{seen}");
        }
        assert_eq!(node.terminate()?, Some(0));
    }
    Ok(())
}
