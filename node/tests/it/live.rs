//! A chain of one validator as people run it: `tenured start` in a process of its own, blocks by themselves, on either engine. What a client sees of it
//! must not depend on the engine, so every test of a client runs on both; without CometBFT its half says so and passes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use tempfile::TempDir;
use tenure_node::account_key::AccountKey;
use tenure_node::engine::EngineKind;
use tenure_proto::cosmos::tx::v1beta1::service_client::ServiceClient;
use tenure_proto::cosmos::tx::v1beta1::{BroadcastMode, BroadcastTxRequest, GetTxRequest};
use tenure_types::Address;
use tonic::transport::Channel;

use crate::engine::{cometbft, height, init, number, until};
use crate::support::{account, connect, rpc, tenured, transfer, Node, CHAIN_ID, OWN_PORTS};

/// What alice has at genesis, base units.
pub(crate) const START: u128 = 1_000_000_000;
/// For one thing to happen; a loaded machine needs it.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs each of these functions, `async fn(&Live) -> Result<()>`, as a test on the solo engine and as one on CometBFT.
macro_rules! on_both_engines {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            use tenure_node::engine::EngineKind;

            use crate::live::Live;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_solo() -> anyhow::Result<()> {
                Live::run(EngineKind::Solo, super::$test).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_cometbft() -> anyhow::Result<()> {
                Live::run(EngineKind::Comet, super::$test).await
            }
        }
    )+ };
}
pub(crate) use on_both_engines;

pub(crate) struct Live {
    pub(crate) node: Node,
    pub(crate) alice: AccountKey,
    _dir: TempDir,
}

impl Live {
    /// Runs a test on an engine, with the node's log if it fails.
    pub(crate) async fn run(engine: EngineKind, test: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let Some(live) = Self::start(engine).await? else {
            return Ok(());
        };
        let outcome = test(&live).await;
        if outcome.is_err() {
            eprintln!("{}", live.node.log_text());
        }
        outcome
    }

    /// `None` where there is no CometBFT, which has been said then.
    async fn start(engine: EngineKind) -> Result<Option<Self>> {
        let dir = tempfile::tempdir()?;
        let home = dir.path().join("home");
        let mut start = tenured(&home);
        start.args(["start", "--auto-ports", "--engine", engine.name()]);
        start.envs(OWN_PORTS);
        if engine == EngineKind::Comet {
            let Some(program) = cometbft() else { return Ok(None) };
            start.arg("--comet-bin").arg(program);
        }
        for (name, value) in [
            ("TENURED_CONSENSUS_TIMEOUT_COMMIT", "50ms"),
            ("TENURED_SOLO_BLOCK_INTERVAL", "50ms"),
            ("TENURED_API_ENABLE", "true"),
            ("TENURED_TELEMETRY_ENABLED", "true"),
        ] {
            start.env(name, value);
        }
        let alice = AccountKey::random();
        init(&home, &alice)?;
        let live = Self {
            node: Node::start(&home, &mut start)?,
            alice,
            _dir: dir,
        };
        assert_eq!(live.node.run.engine, engine.name());
        live.reach(1).await?;
        Ok(Some(live))
    }

    pub(crate) fn api(&self) -> Result<SocketAddr> {
        self.node.run.api.context("REST is not served")
    }

    pub(crate) async fn channel(&self) -> Result<Channel> {
        connect(self.node.run.grpc).await
    }

    /// Waits until this block is committed; the height then, which may be higher.
    pub(crate) async fn reach(&self, wanted: i64) -> Result<i64> {
        until(&format!("block {wanted}"), || {
            // CometBFT tells of a block a moment before the application has committed it.
            let info = rpc(self.node.run.rpc, "/abci_info").ok()?;
            let applied = number(&info["response"]["last_block_height"])?;
            height(self.node.run.rpc)
                .map(|h| h.min(applied))
                .filter(|h| *h >= wanted)
        })
        .await
    }

    /// Sends a transaction; its hash. Error: it is refused.
    pub(crate) async fn send(&self, tx_bytes: Vec<u8>) -> Result<String> {
        let request = BroadcastTxRequest {
            tx_bytes,
            mode: BroadcastMode::Sync as i32,
        };
        let sent = ServiceClient::new(self.channel().await?).broadcast_tx(request).await?;
        let response = sent.into_inner().tx_response.context("tx_response")?;
        ensure!(response.code == 0, "code {}: {}", response.code, response.raw_log);
        Ok(response.txhash)
    }

    /// Waits until a transaction is in a block and has succeeded there; the height.
    pub(crate) async fn committed(&self, hash: &str) -> Result<i64> {
        let mut service = ServiceClient::new(self.channel().await?);
        let deadline = Instant::now() + LIMIT;
        loop {
            let ask = GetTxRequest { hash: hash.to_owned() };
            if let Ok(found) = service.get_tx(ask).await {
                let response = found.into_inner().tx_response.context("tx_response")?;
                ensure!(response.code == 0, "code {}: {}", response.code, response.raw_log);
                return Ok(response.height);
            }
            ensure!(Instant::now() < deadline, "{hash} is in no block after {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// A signed transfer of alice's, with the sequence that she has now.
    pub(crate) async fn transfer(&self, to: &Address, amount: u64) -> Result<Vec<u8>> {
        let (number, sequence) = account(&self.channel().await?, &self.alice.address()).await?;
        Ok(transfer(&self.alice, CHAIN_ID, number, sequence, to, amount))
    }
}
