//! Transactions that are sent again: the node knows them while they wait, in a block, and after a restart.

use std::process::Command;

use anyhow::{ensure, Context, Result};
use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::{json, Value};
use tempfile::TempDir;
use tenure_node::account_key::AccountKey;
use tenure_node::engine::EngineKind;

use crate::cosmos_cli::{text, Operator};
use crate::engine::{cometbft, height, init, until};
use crate::support::{account, connect, finish, tenured, transfer, Net, NetOptions, Node, CHAIN_ID, OWN_PORTS};

/// A node with a pause between blocks that the test chooses, stopped and started by it.
struct Own {
    dir: TempDir,
    alice: AccountKey,
    start: Command,
}

impl Own {
    /// `None` where there is no CometBFT, which has been said then.
    fn new(engine: EngineKind, pause: &str) -> Result<Option<Self>> {
        let dir = tempfile::tempdir()?;
        let (home, alice) = (dir.path().join("home"), AccountKey::random());
        let mut start = tenured(&home);
        start.args(["start", "--auto-ports", "--engine", engine.name()]);
        start.envs(OWN_PORTS);
        start.env("TENURED_CONSENSUS_TIMEOUT_COMMIT", pause);
        start.env("TENURED_SOLO_BLOCK_INTERVAL", pause);
        if engine == EngineKind::Comet {
            let Some(program) = cometbft() else { return Ok(None) };
            start.arg("--comet-bin").arg(program);
        }
        init(&home, &alice)?;
        Ok(Some(Self { dir, alice, start }))
    }

    /// Starts it, and waits until it has a block.
    async fn node(&mut self) -> Result<Node> {
        let node = Node::start(&self.dir.path().join("home"), &mut self.start)?;
        until("a block", || height(node.run.rpc).filter(|height| *height > 0)).await?;
        Ok(node)
    }

    /// A signed transfer as a file of the operator's.
    async fn transfer(&self, node: &Node, operator: &Operator) -> Result<String> {
        let (number, sequence) = account(&connect(node.run.grpc).await?, &self.alice.address()).await?;
        let tx = transfer(&self.alice, CHAIN_ID, number, sequence, &operator.address, 7);
        written(operator, &tx)
    }
}

/// A transaction as a file of the operator's.
fn written(operator: &Operator, tx: &[u8]) -> Result<String> {
    let file = operator.file("tx.json");
    let document = operator.run(&["tx", "decode", &BASE64_STANDARD.encode(tx)])?;
    std::fs::write(&file, document)?;
    Ok(file)
}

/// Sends again what the node has already: exit code 0, and these words. The `TxResponse`.
fn sent_again(operator: &Operator, file: &str, words: &str) -> Result<Value> {
    let (ok, known, err) = finish(&mut operator.command(&["tx", "broadcast", file, "-o", "json"]))?;
    ensure!(ok && err.contains(words), "{words}: {known}{err}");
    let known: Value = serde_json::from_str(&known)?;
    assert_eq!((&known["code"], &known["codespace"]), (&json!(19), &json!("sdk")));
    Ok(known)
}

/// Sends a transaction, again while it waits, and again when it is in a block, which `block` lets come.
fn known_while_it_waits(me: &Operator, file: &str, block: impl FnOnce() -> Result<()>) -> Result<()> {
    let first = me.json(&["tx", "broadcast", file])?;
    assert_eq!(first["code"], 0);
    let known = sent_again(me, file, "waits in the node's mempool already")?;
    assert_eq!(
        (&known["txhash"], &known["raw_log"]),
        (&first["txhash"], &json!("tx already exists in cache"))
    );
    let hash = text(&first["txhash"])?;
    me.refused(&["q", "wait-tx", hash, "--timeout", "300ms"], &["timed out"])?;
    block()?;
    let found = me.json(&["q", "wait-tx", hash, "--timeout", "25s"])?;
    let words = format!("is in block {} already", text(&found["height"])?);
    assert_eq!(sent_again(me, file, &words)?["txhash"], first["txhash"]);
    Ok(())
}

/// Solo makes a block as soon as a transaction waits, so here blocks are made by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_waits_is_known_on_solo() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    net.block()?;
    let me = Operator::poor(net.rpc)?;
    let (number, sequence) = account(&net.channel().await?, &net.alice.address()).await?;
    let file = written(&me, &net.transfer(number, sequence, &me.address, 7))?;
    known_while_it_waits(&me, &file, || net.block().map(drop))
}

/// CometBFT makes none before its pause is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_waits_is_known_on_cometbft() -> Result<()> {
    let Some(mut own) = Own::new(EngineKind::Comet, "6s")? else {
        return Ok(());
    };
    let node = own.node().await?;
    let me = Operator::poor(node.run.rpc)?;
    let file = own.transfer(&node, &me).await?;
    // Behind a block there is time until the next one.
    let begun = height(node.run.rpc).context("height")?;
    until("the next block", || {
        height(node.run.rpc).filter(|height| *height > begun)
    })
    .await?;
    known_while_it_waits(&me, &file, || Ok(()))
}

/// A restart makes the mempool forget what it has seen, and the chain not: `CheckTx` refuses the sequence then.
async fn what_is_in_a_block_is_known_after_a_restart(engine: EngineKind) -> Result<()> {
    let Some(mut own) = Own::new(engine, "50ms")? else {
        return Ok(());
    };
    let node = own.node().await?;
    let mut me = Operator::poor(node.run.rpc)?;
    let file = own.transfer(&node, &me).await?;
    let sent = me.json(&["tx", "broadcast", &file, "-b", "block"])?;
    node.terminate()?;

    let node = own.node().await?;
    me.node = format!("tcp://{}", node.run.rpc);
    let words = format!("is in block {} already", text(&sent["height"])?);
    let known = sent_again(&me, &file, &words)?;
    assert_eq!(
        (&known["txhash"], &known["raw_log"]),
        (&sent["txhash"], &json!(format!("tx {words}")))
    );
    assert_eq!(me.json(&["tx", "broadcast", &file, "-b", "block"])?, sent);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_block_is_known_after_a_restart_on_solo() -> Result<()> {
    what_is_in_a_block_is_known_after_a_restart(EngineKind::Solo).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_block_is_known_after_a_restart_on_cometbft() -> Result<()> {
    what_is_in_a_block_is_known_after_a_restart(EngineKind::Comet).await
}
