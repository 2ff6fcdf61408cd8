//! CometBFT as an [`Engine`]: it drives the application over ABCI, we ask it over JSON-RPC.
//!
//! New blocks are seen where they are made, in the application's `Commit`, so nothing polls and no subscription can be lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail, Context, Result};
use sha2::{Digest, Sha256};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{RequestFinalizeBlock, ResponseFinalizeBlock};
use tendermint_proto::v0_38::types::{Block, BlockId, Commit};
use tenure_abci::{Address, Server, ServerHandle, ServerOptions};
use tenure_archive::{Archive, ArchiveOptions, Recorder};
use tenure_comet::binary::CometBft;
use tenure_comet::log::FORMAT_ENV;
use tenure_comet::rpc::{CommittedTx, Rpc, RpcError};
use tenure_comet::supervise::{Launch, Life, Restart, Supervisor};
use tokio::sync::watch;

use super::fail_point::FailPoints;
use super::observed::{Observed, Watch};
use super::{
    BlockRecord, Broadcast, BroadcastError, Ended, Engine, EngineError, FoundTxs, Head, SearchError, SearchPage,
    Started, Status, TxRecord, Validators, Waiting,
};
use crate::config::{AppAddress, CometConfig};
use crate::home::Home;

/// CometBFT closes its stores and its peers' connections in this time.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long a start waits for CometBFT's JSON-RPC before it says where it is anyway: a long replay comes first.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long it then waits for the first block, which queries need: without other validators there may be none.
const FIRST_BLOCK: Duration = Duration::from_secs(5);
/// Most heights that are archived again at a start, newest first: seconds of blocks are lost with power, not hours. Who lost a whole archive gets as many
/// back with every start.
const MAX_FILLED: usize = 10_000;
/// Rounds of a network with faults take a while: no block for this long is a stall.
const STALL: Duration = Duration::from_secs(30);
/// The longest path of a unix socket that every system takes, bytes.
const MAX_SOCKET_PATH: usize = 103;

/// What a start with CometBFT needs beside the application.
pub struct Setup<'a> {
    /// The home, which is CometBFT's home too.
    pub home: &'a Home,
    /// `config.toml`, with the addresses as they will really be.
    pub config: &'a CometConfig,
    /// How the archive is kept.
    pub archive: ArchiveOptions,
    /// The chain.
    pub chain_id: String,
    /// The last committed block.
    pub head: Option<Head>,
    /// Drops what the application has executed and not committed; called when a new consensus connection begins.
    pub reset: Arc<dyn Fn() + Send + Sync>,
}

/// CometBFT, wherever it runs.
pub struct CometEngine {
    chain_id: String,
    /// Id of the CometBFT that must answer; `None` if somebody else runs it, with a node key of its own perhaps.
    node_id: Option<String>,
    rpc: Rpc,
    archive: Archive,
    watch: Arc<Watch>,
    life: watch::Receiver<Life>,
    /// Keeps the channel open where nobody supervises.
    _alive: Option<watch::Sender<Life>>,
}

/// Serves ABCI and runs CometBFT on the home. `started` is told the process id at each start of it.
pub fn supervised<A: Application>(
    app: A,
    setup: Setup<'_>,
    binary: &CometBft,
    started: impl FnMut(u32) + Send + 'static,
) -> Result<Started> {
    let launch = launch(setup.home, setup.config, binary)?;
    let node_id = tenure_solo::load_node_id(&setup.home.node_key())?;
    tracing::info!(version = %binary.version, program = %binary.path.display(), "CometBFT found");
    let (server, watch, archive) = serve(app, &setup)?;
    let supervisor = Supervisor::start(launch, started).context("cannot start the thread of CometBFT")?;
    let engine = Arc::new(CometEngine {
        chain_id: setup.chain_id,
        node_id: Some(node_id),
        rpc: Rpc::new(setup.config.rpc),
        archive,
        watch,
        life: supervisor.life(),
        _alive: None,
    });
    let ready = engine.clone();
    Ok(Started {
        name: format!("CometBFT {}", binary.version),
        stall: STALL,
        ready: Box::pin(async move { ready.answers().await }),
        engine,
        stop: Box::new(move || {
            // CometBFT first: it ends its block, and no call of it meets a closed application.
            let life = supervisor.stop(STOP_LIMIT);
            end(&server);
            match life {
                Life::Failed(reason) => Err(anyhow!(reason)),
                Life::Running | Life::Stopped => Ok(()),
            }
        }),
    })
}

/// Serves ABCI for a CometBFT that something else runs.
pub fn external<A: Application>(app: A, setup: Setup<'_>) -> Result<Started> {
    let (server, watch, archive) = serve(app, &setup)?;
    let alive = watch::Sender::new(Life::Running);
    let engine = Arc::new(CometEngine {
        chain_id: setup.chain_id,
        node_id: None,
        rpc: Rpc::new(setup.config.rpc),
        archive,
        watch,
        life: alive.subscribe(),
        _alive: Some(alive),
    });
    let later = engine.clone();
    Ok(Started {
        name: format!("external CometBFT at {}", server.local_addr()),
        stall: STALL,
        // It may be started after us, or not today: nobody waits for it.
        ready: Box::pin(async move {
            tokio::spawn(later.caught_up(Duration::from_secs(1)));
        }),
        engine,
        stop: Box::new(move || {
            end(&server);
            Ok(())
        }),
    })
}

fn end(server: &ServerHandle) {
    server.stop();
    server.wait();
}

fn serve<A: Application>(app: A, setup: &Setup<'_>) -> Result<(ServerHandle, Arc<Watch>, Archive)> {
    let address = match &setup.config.proxy_app {
        AppAddress::Tcp(address) => Address::Tcp(*address),
        AppAddress::Unix(path) => Address::Unix(socket(setup.home, path)?),
    };
    let watch = Arc::new(Watch::new(setup.head.clone()));
    let options = ServerOptions {
        on_consensus_connection: setup.reset.clone(),
        ..ServerOptions::default()
    };
    let server = Server::bind(&address, options).context("cannot serve ABCI (setting proxy_app in config.toml)")?;
    let archive = Archive::open(&setup.home.data("archive"), setup.archive.clone())?;
    let app = Recorder::new(app, archive.clone())?;
    let app = Observed::new(app, watch.clone(), FailPoints::from_env()?);
    Ok((server.serve(app).context("cannot serve ABCI")?, watch, archive))
}

/// The socket's file. Error: its path is longer than the system allows.
fn socket(home: &Home, path: &str) -> Result<PathBuf> {
    let path = home.resolve(path);
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        bail!(
            "the path of the ABCI socket, {}, has {length} bytes, must have at most {MAX_SOCKET_PATH}. Choose a home with a shorter path, or set \
             proxy_app in config.toml to a shorter absolute one",
            path.display()
        );
    }
    Ok(path)
}

/// CometBFT on our home: its files as they are, addresses as we chose them.
fn launch(home: &Home, config: &CometConfig, binary: &CometBft) -> Result<Launch> {
    let file = home.config("config.toml");
    if !file.exists() {
        bail!(
            "{} is missing; CometBFT cannot run without it. `tenured init` makes one",
            file.display()
        );
    }
    let root = std::path::absolute(home.root()).with_context(|| format!("the path {}", home.root().display()))?;
    let program = std::path::absolute(&binary.path).with_context(|| binary.path.display().to_string())?;
    let mut args = vec!["start".into(), "--home".into(), root.clone().into_os_string()];
    for (flag, value) in [
        ("--proxy_app", config.proxy_app.to_string()),
        ("--rpc.laddr", format!("tcp://{}", config.rpc)),
        ("--p2p.laddr", format!("tcp://{}", config.p2p)),
    ] {
        args.extend([flag.into(), value.into()]);
    }
    // Viper reads CMT_<SECTION>_<KEY> for every key that the file has.
    let mut env: Vec<(String, String)> = config
        .overrides
        .iter()
        .map(|(key, value)| {
            let name = format!("CMT_{}", key.replace(['.', '-'], "_").to_uppercase());
            (name, value.clone())
        })
        .collect();
    if let Some(address) = config.prometheus {
        let name = "CMT_INSTRUMENTATION_PROMETHEUS_LISTEN_ADDR";
        env.push((name.to_owned(), address.to_string()));
    }
    env.push((FORMAT_ENV.0.to_owned(), FORMAT_ENV.1.to_owned()));
    Ok(Launch {
        program,
        args,
        dir: root,
        env,
        restart: Restart::default(),
    })
}

impl CometEngine {
    /// Whether the CometBFT that answers is the one on our home, not another that took the port first.
    fn is_ours(&self) -> Result<bool, RpcError> {
        let found = self.rpc.status()?.node.default_node_id;
        match &self.node_id {
            Some(own) if *own != found => {
                tracing::warn!(
                    own,
                    found,
                    "another node answers where our CometBFT should; its port was taken"
                );
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// Waits until our CometBFT's JSON-RPC answers, the engine ends or the limit has passed, and completes what the start knew.
    async fn answers(self: Arc<Self>) {
        let engine: Arc<dyn Engine> = self.clone();
        let asked = async {
            self.clone().caught_up(Duration::from_millis(50)).await;
            let _ = tokio::time::timeout(FIRST_BLOCK, engine.wait_for_height(1)).await;
        };
        tokio::select! {
            () = asked => {}
            _ = self.ended() => {}
            () = tokio::time::sleep(READY_LIMIT) => {
                tracing::warn!("CometBFT's JSON-RPC does not answer after {READY_LIMIT:?}: it may be replaying blocks");
            }
        }
    }

    /// Asks our CometBFT, with a pause between, until it has told what the application does not remember of its last block, and what the archive lacks.
    async fn caught_up(self: Arc<Self>, pause: Duration) {
        loop {
            let engine = self.clone();
            let answer = tokio::task::spawn_blocking(move || {
                if !engine.is_ours()? {
                    return Ok(false);
                }
                engine.complete_head()?;
                engine.fill_archive();
                Ok::<_, RpcError>(true)
            });
            let pause = match answer.await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => Duration::from_secs(1),
                Ok(Err(_)) | Err(_) => pause,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Archives again what a machine that lost power, or somebody who removed files, took from the archive: newest first, as far back as CometBFT has blocks.
    /// What it has not kept stays missing, and readers are told so.
    fn fill_archive(&self) {
        let earliest = match self.rpc.status() {
            Ok(status) => status.earliest_height,
            Err(error) => {
                tracing::warn!("what the archive lacks is not filled in before the next start: {error}");
                return;
            }
        };
        let missing = self.archive.missing(earliest, MAX_FILLED);
        if missing.len() > 1 {
            tracing::info!(heights = missing.len(), "archiving again what is missing");
        }
        let mut filled_in = 0_usize;
        for height in missing {
            let filled = (|| {
                let (Some((id, block)), Some(results)) =
                    (self.rpc.block(Some(height))?, self.rpc.block_results(Some(height))?)
                else {
                    return anyhow::Ok(false);
                };
                Ok(self.archive.backfill(&finalize_request(id, block), &results)?)
            })();
            match filled {
                Ok(true) => filled_in += 1,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        height,
                        "a block that the archive lacks cannot be had from CometBFT: {error:#}"
                    );
                    break;
                }
            }
        }
        if filled_in > 0 {
            tracing::info!(
                heights = filled_in,
                earliest = self.archive.earliest(),
                "archived again what was missing"
            );
        }
    }

    /// The application remembers its last block's height and time, not its hash nor the time's nanoseconds; CometBFT does.
    fn complete_head(&self) -> Result<(), RpcError> {
        let head = self.watch.heads.borrow().clone();
        let Some(known) = head.filter(|h| h.block_hash.is_empty()) else {
            return Ok(());
        };
        let Some((id, block)) = self.rpc.block(Some(known.height))? else {
            return Ok(());
        };
        let time = block.header.and_then(|h| h.time).and_then(|t| t.try_into().ok());
        self.watch.heads.send_if_modified(|head| match head {
            Some(head) if head.height == known.height => {
                head.block_hash = id.hash;
                head.time = time.unwrap_or(head.time);
                true
            }
            _ => false,
        });
        Ok(())
    }
}

impl From<RpcError> for EngineError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Unreachable { .. } => Self::Unavailable(error.to_string()),
            // CometBFT refuses while it starts, and for settings such as a switched-off index.
            RpcError::Refused { .. } => Self::Unavailable(format!("CometBFT: {error}")),
            RpcError::Malformed { .. } => Self::Broken(error.to_string()),
        }
    }
}

/// The Cosmos SDK's code for a refusal of CometBFT's mempool, found by its words as the SDK's broadcast service does.
pub(crate) fn sdk_code(text: &str) -> Option<u32> {
    let text = text.to_lowercase();
    [
        ("tx already exists in cache", tenure_types::sdk::TX_IN_MEMPOOL),
        ("mempool is full", tenure_types::sdk::MEMPOOL_IS_FULL),
        ("tx too large", tenure_types::sdk::TX_TOO_LARGE),
        ("tx size is too big", tenure_types::sdk::TX_TOO_LARGE),
    ]
    .into_iter()
    .find_map(|(words, code)| text.contains(words).then_some(code))
}

fn broken(error: tenure_archive::ArchiveError) -> EngineError {
    EngineError::Broken(error.to_string())
}

fn hash(tx: &[u8]) -> [u8; 32] {
    Sha256::digest(tx).into()
}

/// What the application was asked to execute, as far as a block tells: not the powers behind its last commit, nor what evidence proves.
fn finalize_request(id: BlockId, block: Block) -> RequestFinalizeBlock {
    let header = block.header.unwrap_or_default();
    RequestFinalizeBlock {
        txs: block.data.unwrap_or_default().txs.into_iter().map(Into::into).collect(),
        decided_last_commit: None,
        misbehavior: Vec::new(),
        hash: id.hash.into(),
        height: header.height,
        time: header.time,
        next_validators_hash: header.next_validators_hash.into(),
        proposer_address: header.proposer_address.into(),
    }
}

fn tx_record(found: CommittedTx) -> TxRecord {
    TxRecord {
        hash: hash(&found.tx),
        height: found.height,
        index: found.index,
        tx: found.tx,
        result: found.result,
    }
}

fn record((block_id, block): (BlockId, Block)) -> BlockRecord {
    use prost::Message as _;
    let size = block.encoded_len();
    BlockRecord { block_id, block, size }
}

impl Engine for CometEngine {
    fn chain_id(&self) -> &str {
        &self.chain_id
    }

    fn broadcast_tx_sync(&self, tx: &[u8]) -> Result<Broadcast, BroadcastError> {
        match self.rpc.broadcast_tx_sync(tx) {
            Ok(check_tx) => Ok(Broadcast {
                hash: hash(tx),
                check_tx,
            }),
            Err(RpcError::Refused { text, .. }) => Err(BroadcastError::Refused {
                sdk_code: sdk_code(&text),
                text,
            }),
            Err(e) => Err(BroadcastError::Unavailable(e.to_string())),
        }
    }

    fn heads(&self) -> watch::Receiver<Option<Head>> {
        self.watch.heads.subscribe()
    }

    fn ended(&self) -> Ended {
        let (mut life, mut refusal) = (self.life.clone(), self.watch.refusal.subscribe());
        Box::pin(async move {
            tokio::select! {
                ended = life.wait_for(|life| *life != Life::Running) => match ended.map(|life| life.clone()) {
                    Ok(Life::Failed(reason)) => Err(reason),
                    Ok(Life::Running | Life::Stopped) => Ok(()),
                    Err(_) => Err("the thread of CometBFT is gone".to_owned()),
                },
                refused = refusal.wait_for(Option::is_some) => match refused.map(|reason| reason.clone()) {
                    Ok(Some(reason)) => Err(reason),
                    Ok(None) | Err(_) => Ok(()),
                },
            }
        })
    }

    fn status(&self) -> Result<Status, EngineError> {
        let status = self.rpc.status()?;
        Ok(Status {
            node: status.node,
            catching_up: status.catching_up,
            latest: self.head(),
            earliest_height: status.earliest_height,
            validator: status.validator,
            peers: self.rpc.peers()?,
        })
    }

    fn block(&self, height: Option<i64>) -> Result<Option<BlockRecord>, EngineError> {
        // CometBFT has a block before the application has committed it; readers see what is committed.
        let latest = self.head().map_or(0, |h| h.height);
        let height = height.unwrap_or(latest);
        if height > latest {
            return Ok(None);
        }
        Ok(self.rpc.block(Some(height))?.map(record))
    }

    fn block_by_hash(&self, hash: &[u8]) -> Result<Option<BlockRecord>, EngineError> {
        let latest = self.head().map_or(0, |h| h.height);
        let found = self.rpc.block_by_hash(hash)?.map(record);
        Ok(found.filter(|b| b.block.header.as_ref().is_some_and(|h| h.height <= latest)))
    }

    fn block_results(&self, height: Option<i64>) -> Result<Option<ResponseFinalizeBlock>, EngineError> {
        let latest = self.head().map_or(0, |h| h.height);
        let height = height.unwrap_or(latest);
        if height > latest {
            return Ok(None);
        }
        match self.archive.record(height).map_err(broken)? {
            Some(record) => Ok(Some(record.response.clone())),
            None => Ok(self.rpc.block_results(Some(height))?),
        }
    }

    fn commit(&self, height: Option<i64>) -> Result<Option<Commit>, EngineError> {
        let latest = self.head().map_or(0, |h| h.height);
        let height = height.unwrap_or(latest);
        if height > latest {
            return Ok(None);
        }
        Ok(self.rpc.commit(Some(height))?)
    }

    fn tx(&self, hash: &[u8]) -> Result<Option<TxRecord>, EngineError> {
        // A chain that is older than its archive has transactions that only CometBFT's index knows, if it is on.
        match self.archive.tx(hash).map_err(broken)? {
            Some(found) => Ok(Some(found)),
            None if self.archive.earliest() <= 1 => Ok(None),
            None => Ok(self.rpc.tx(hash)?.map(tx_record)),
        }
    }

    fn archive(&self) -> Option<Archive> {
        Some(self.archive.clone())
    }

    fn search_txs(&self, query: &str, page: SearchPage) -> Result<FoundTxs, SearchError> {
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let before = usize::try_from(page.number.saturating_sub(1)).unwrap_or(usize::MAX);
        let wanted = tenure_archive::Page {
            skip: before.saturating_mul(size),
            limit: size,
            descending: page.newest_first,
        };
        let (txs, total) = self.archive.search_txs(query, wanted).map_err(|e| match e {
            tenure_archive::SearchError::Query(text) => SearchError::Query(text),
            other => SearchError::Engine(EngineError::Broken(other.to_string())),
        })?;
        Ok(FoundTxs {
            txs,
            total: u64::try_from(total).unwrap_or(u64::MAX),
        })
    }

    fn mempool(&self) -> Result<Waiting, EngineError> {
        let (txs, bytes) = self.rpc.mempool()?;
        Ok(Waiting { txs, bytes })
    }

    fn validators(&self, height: Option<i64>) -> Result<Option<Validators>, EngineError> {
        let height = height.or_else(|| self.head().map(|h| h.height));
        let Some(height) = height else { return Ok(None) };
        let found = self.rpc.validators(Some(height))?;
        Ok(found.map(|(height, validators)| Validators { height, validators }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_codes_of_the_sdk() {
        for (text, code) in [
            ("tx already exists in cache", Some(19)),
            (
                "mempool is full: number of txs 5000 (max: 5000), total txs bytes 1 (max: 2)",
                Some(20),
            ),
            ("Tx too large. Max size is 1, but got 2", Some(21)),
            ("tx pre check: tx size is too big: 3, max: 2", Some(21)),
            ("gas wanted 5 is greater than max gas 3", None),
        ] {
            assert_eq!(sdk_code(text), code, "{text}");
        }
    }
}
