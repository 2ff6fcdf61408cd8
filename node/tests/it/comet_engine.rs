//! CometBFT as the node's servers see it: blocks and heads are what the application has committed, not what CometBFT has already. The CometBFT here is the
//! JSON-RPC of a chain that is further than the application, and this test, which drives the application over ABCI.

use std::path::Path;
use std::sync::{Arc, Barrier};

use anyhow::{Context, Result};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    RequestCommit, RequestFinalizeBlock, RequestInfo, ResponseCommit, ResponseFinalizeBlock, ResponseInfo,
};
use tendermint_proto::v0_38::types::{Block, BlockId};
use tenure_abci::{Address, Client};
use tenure_comet::rpc::Rpc;
use tenure_node::account_key::AccountKey;
use tenure_node::config::{AppAddress, CometConfig};
use tenure_node::engine::comet::{external, Setup};
use tenure_node::engine::{Engine, Head, Started};
use tenure_node::home::Home;
use tenure_proto::cosmos::base::node::v1beta1::service_client::ServiceClient;
use tenure_proto::cosmos::base::node::v1beta1::StatusRequest;

use crate::engine::{cometbft, height, init, until};
use crate::support::{connect, rpc, tenured, Net, NetOptions, Node, CHAIN_ID, OWN_PORTS};

/// The application's last block at the start.
const COMMITTED: i64 = 5;
/// CometBFT's.
const MADE: i64 = 7;
const APP_HASH: [u8; 32] = [6; 32];

/// An application whose `Commit` takes until the test lets it end.
#[derive(Clone)]
struct Slow(Arc<Barrier>);

impl Application for Slow {
    fn info(&self, _: RequestInfo) -> ResponseInfo {
        ResponseInfo {
            last_block_height: COMMITTED,
            ..Default::default()
        }
    }

    fn finalize_block(&self, _: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        ResponseFinalizeBlock {
            app_hash: APP_HASH.to_vec().into(),
            ..Default::default()
        }
    }

    fn commit(&self) -> ResponseCommit {
        self.0.wait();
        self.0.wait();
        ResponseCommit::default()
    }
}

/// The application behind the gate and the chain's JSON-RPC as its CometBFT, from this head on.
fn begin(dir: &Path, net: &Net, gate: Arc<Barrier>, head: Head) -> Result<Started> {
    let home = Home::new(dir.to_owned());
    let mut config = CometConfig::parse("", &Default::default())?;
    config.rpc = net.rpc;
    config.proxy_app = AppAddress::Unix("app.sock".to_owned());
    let setup = Setup {
        home: &home,
        config: &config,
        archive: Default::default(),
        chain_id: CHAIN_ID.to_owned(),
        head: Some(head),
        reset: Arc::new(|| {}),
    };
    external(Slow(gate), setup)
}

fn time(block: &Block) -> Result<tendermint::Time> {
    let time = block.header.as_ref().and_then(|header| header.time);
    Ok(time.context("time")?.try_into()?)
}

/// The engine shows the blocks up to `last`, though CometBFT has more.
fn shows(engine: &dyn Engine, blocks: &[(BlockId, Block)], last: i64) -> Result<()> {
    let of = |found: Option<tenure_node::engine::BlockRecord>| found.and_then(|b| b.block.header).map(|h| h.height);
    assert_eq!(engine.head().map(|head| head.height), Some(last));
    assert_eq!(engine.status()?.latest.map(|head| head.height), Some(last));
    assert_eq!(of(engine.block(None)?), Some(last), "the latest");
    assert_eq!(engine.commit(None)?.map(|commit| commit.height), Some(last));
    for (id, block) in blocks {
        let height = block.header.as_ref().context("header")?.height;
        let shown = (height <= last).then_some(height);
        assert_eq!(of(engine.block(Some(height))?), shown, "block {height} at {last}");
        assert_eq!(
            of(engine.block_by_hash(&id.hash)?),
            shown,
            "by hash: {height} at {last}"
        );
        assert_eq!(engine.commit(Some(height))?.map(|commit| commit.height), shown);
        let results = engine.block_results(Some(height))?.is_some();
        assert_eq!(results, shown.is_some(), "results of {height} at {last}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_shown_when_it_is_committed_and_not_when_cometbft_has_it() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    for _ in 0..MADE {
        net.block()?;
    }
    let chain = Rpc::new(net.rpc);
    let blocks: Vec<(BlockId, Block)> = (1..=MADE)
        .map(|height| chain.block(Some(height))?.with_context(|| format!("block {height}")))
        .collect::<Result<_>>()?;
    let head_of = |height: i64, app_hash: &[u8]| {
        let (id, block) = &blocks[usize::try_from(height - 1)?];
        anyhow::Ok(Head {
            height,
            time: time(block)?,
            block_hash: id.hash.clone(),
            app_hash: app_hash.to_vec(),
        })
    };

    let dir = tempfile::tempdir()?;
    let gate = Arc::new(Barrier::new(2));
    let started = begin(dir.path(), &net, gate.clone(), head_of(COMMITTED, &[5; 32])?)?;
    let engine = started.engine.clone();
    let mut heads = engine.heads();
    let seen = heads.borrow_and_update().clone();
    assert_eq!(seen, Some(head_of(COMMITTED, &[5; 32])?));
    shows(&*engine, &blocks, COMMITTED)?;

    let (id, block) = &blocks[usize::try_from(COMMITTED)?];
    let next = RequestFinalizeBlock {
        height: COMMITTED + 1,
        hash: id.hash.clone().into(),
        time: block.header.as_ref().and_then(|header| header.time),
        ..Default::default()
    };
    let mut client = Client::connect(&Address::Unix(dir.path().join("app.sock")))?;
    client.finalize_block(next)?;
    shows(&*engine, &blocks, COMMITTED)?;

    // In the middle of Commit it is not committed; with its answer CometBFT may show it, and so do we.
    let committing = std::thread::spawn(move || client.commit(RequestCommit {}).map(|_| client));
    gate.wait();
    shows(&*engine, &blocks, COMMITTED)?;
    assert!(!heads.has_changed()?, "woken before the block is committed");
    gate.wait();
    let client = committing.join().expect("no panic")?;
    shows(&*engine, &blocks, COMMITTED + 1)?;
    assert!(heads.has_changed()?, "not woken");
    assert_eq!(
        heads.borrow_and_update().clone(),
        Some(head_of(COMMITTED + 1, &APP_HASH)?)
    );
    let reached = engine.wait_for_height(COMMITTED + 1).await?;
    assert_eq!(reached.height, COMMITTED + 1);
    drop(client);
    (started.stop)()
}

/// The application remembers its last block's time in milliseconds and not its hash; after a restart the node has both from CometBFT, before a new block
/// tells them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_is_whole_after_a_restart_without_a_new_block() -> Result<()> {
    let Some(program) = cometbft() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    init(&home, &AccountKey::random())?;
    let start = |pause: &str| {
        let mut command = tenured(&home);
        command
            .args(["start", "--engine", "comet", "--auto-ports", "--comet-bin"])
            .arg(&program)
            .envs(OWN_PORTS)
            .env("TENURED_CONSENSUS_TIMEOUT_COMMIT", pause);
        Node::start(&home, &mut command)
    };
    let node = start("50ms")?;
    until("block 3", || height(node.run.rpc).filter(|h| *h >= 3)).await?;
    assert_eq!(node.terminate()?, Some(0));

    // An hour to the next block.
    let node = start("1h")?;
    let sync = rpc(node.run.rpc, "/status")?["sync_info"].clone();
    let said = tendermint::Time::parse_from_rfc3339(sync["latest_block_time"].as_str().context("time")?)?;
    let mut service = ServiceClient::new(connect(node.run.grpc).await?);
    let status = service.status(StatusRequest {}).await?.into_inner();
    assert_eq!(
        status.height.to_string(),
        sync["latest_block_height"].as_str().context("height")?
    );
    let found = status.timestamp.context("timestamp")?;
    assert_eq!(
        (found.seconds, i128::from(found.nanos)),
        (
            said.unix_timestamp(),
            said.unix_timestamp_nanos().rem_euclid(1_000_000_000)
        ),
        "{sync}"
    );
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}

/// As above, where somebody else runs CometBFT and starts it when it suits him.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_is_completed_by_an_external_engine_too() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    for _ in 0..MADE {
        net.block()?;
    }
    let (id, block) = Rpc::new(net.rpc).block(Some(COMMITTED))?.context("a block")?;
    let whole = Head {
        height: COMMITTED,
        time: time(&block)?,
        block_hash: id.hash,
        app_hash: vec![5; 32],
    };
    let remembered = Head {
        time: tendermint::Time::unix_epoch(),
        block_hash: Vec::new(),
        ..whole.clone()
    };
    let dir = tempfile::tempdir()?;
    let started = begin(dir.path(), &net, Arc::new(Barrier::new(2)), remembered)?;
    started.ready.await;
    let mut heads = started.engine.heads();
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, heads.wait_for(|head| *head == Some(whole.clone()))).await??;
    (started.stop)()
}
