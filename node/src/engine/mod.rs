//! What makes the blocks, behind one trait: the servers do not know which engine runs.
//!
//! [`solo`] is the embedded engine, [`comet`] is CometBFT, which drives the application over ABCI.

pub mod comet;
pub mod fail_point;
mod observed;
pub mod solo;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use tendermint_proto::v0_38::abci::ResponseFinalizeBlock;
use tendermint_proto::v0_38::p2p::DefaultNodeInfo;
use tendermint_proto::v0_38::types::{Commit, Validator};
use tokio::sync::watch;

use crate::home::Home;

pub use tenure_solo::{BlockRecord, Broadcast, Head, TxRecord};

/// Which engine makes the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    /// Embedded: one validator, one process, not Byzantine fault tolerant
    Solo,
    /// CometBFT, run and watched by this process
    Comet,
    /// CometBFT, run by something else (a systemd unit); this process only serves the application
    External,
}

impl EngineKind {
    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Solo => "solo",
            Self::Comet => "comet",
            Self::External => "external",
        }
    }
}

/// The engine that made this home's blocks: CometBFT if it has a block store here, else the embedded one.
pub fn of_home(home: &Home) -> EngineKind {
    if has_comet_blocks(home) {
        EngineKind::Comet
    } else {
        EngineKind::Solo
    }
}

fn has_comet_blocks(home: &Home) -> bool {
    home.data("blockstore.db").exists()
}

/// Errors if `kind` cannot go on where another engine has been: engines do not read each other's blocks. `height` is the application's;
/// the first block of the genesis is at `initial_height`.
pub fn check_home(kind: EngineKind, home: &Home, height: u64, initial_height: u64) -> Result<()> {
    let path = home.root().display();
    match kind {
        EngineKind::Solo if has_comet_blocks(home) => bail!(
            "CometBFT has made blocks in {path}, and the solo engine cannot continue them. Go on with `tenured start --engine comet --home {path}`, \
             or begin a new chain from the state with `tenured export`"
        ),
        EngineKind::Comet | EngineKind::External if !has_comet_blocks(home) && height > 0 && home.data("solo.redb").exists() => {
            // A genesis that begins right after the last block hands the chain over: CometBFT then compares app hashes and goes on.
            if initial_height == height.saturating_add(1) {
                return Ok(());
            }
            bail!(
                "the solo engine has made {height} blocks in {path}, and CometBFT cannot continue them from a genesis whose initial_height is \
                 {initial_height}. Go on with `tenured start --engine solo --home {path}`, or begin a new chain from the state with \
                 `tenured export`"
            );
        }
        _ => Ok(()),
    }
}

/// A started engine.
pub struct Started {
    /// What it is, for the log.
    pub name: String,
    /// No block for this long is a stall.
    pub stall: Duration,
    /// Resolves when whoever finds the node finds one that answers, or when waiting longer makes no sense.
    pub ready: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Stops it: no block is under way afterwards. Error: what it had died of.
    pub stop: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// Resolves when the engine ends: `Ok` if it was stopped, else the reason it died of.
pub type Ended = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// An engine as the node's servers see it. Reads show committed blocks only. Apart from [`ended`](Self::ended) and the channel of
/// [`heads`](Self::heads) every method may block on a disk or a socket: call them on blocking threads.
pub trait Engine: Send + Sync + 'static {
    /// The chain.
    fn chain_id(&self) -> &str;

    /// Runs `CheckTx` and, if its code is 0, queues the transaction. Error: the mempool refuses it, or the engine does not answer.
    fn broadcast_tx_sync(&self, tx: &[u8]) -> Result<Broadcast, BroadcastError>;

    /// A channel that holds the last committed block (`None` before the first, and until the engine is up) and wakes on every new one.
    /// A slow receiver skips heights.
    fn heads(&self) -> watch::Receiver<Option<Head>>;

    /// A future that tells when and why the engine ended; ready at once if it has.
    fn ended(&self) -> Ended;

    /// The node and how far it is.
    fn status(&self) -> Result<Status, EngineError>;

    /// A committed block, the latest for `None`. `None`: there is none at this height, or it is pruned.
    fn block(&self, height: Option<i64>) -> Result<Option<BlockRecord>, EngineError>;

    /// A committed block by its header hash.
    fn block_by_hash(&self, hash: &[u8]) -> Result<Option<BlockRecord>, EngineError>;

    /// What `FinalizeBlock` returned for a committed block, the latest for `None`.
    fn block_results(&self, height: Option<i64>) -> Result<Option<ResponseFinalizeBlock>, EngineError>;

    /// The commit for a committed block, the latest for `None`.
    fn commit(&self, height: Option<i64>) -> Result<Option<Commit>, EngineError>;

    /// A committed transaction by its hash.
    fn tx(&self, hash: &[u8]) -> Result<Option<TxRecord>, EngineError>;

    /// Committed transactions that satisfy a query in CometBFT's language (`tx.height=5 AND message.sender='..'`), one page of them.
    fn search_txs(&self, query: &str, page: SearchPage) -> Result<FoundTxs, SearchError>;

    /// The validators that sign the block at `height`, which may be the next one; those of the latest block for `None`.
    fn validators(&self, height: Option<i64>) -> Result<Option<Validators>, EngineError>;

    /// What waits in the mempool.
    fn mempool(&self) -> Result<Waiting, EngineError>;

    /// What every block did, if this engine's blocks are archived here.
    fn archive(&self) -> Option<tenure_archive::Archive> {
        None
    }

    /// The last committed block; `None` before the first.
    fn head(&self) -> Option<Head> {
        self.heads().borrow().clone()
    }
}

impl dyn Engine {
    /// Waits until `height` is committed and returns the head then, which may be higher. Error: the engine ends first.
    pub async fn wait_for_height(&self, height: i64) -> Result<Head, EngineError> {
        let (mut heads, mut ended) = (self.heads(), self.ended());
        loop {
            if let Some(head) = heads.borrow_and_update().as_ref().filter(|h| h.height >= height) {
                return Ok(head.clone());
            }
            let changed = tokio::select! {
                changed = heads.changed() => changed.is_ok(),
                _ = &mut ended => false,
            };
            if !changed {
                return Err(EngineError::Unavailable("the engine has stopped".to_owned()));
            }
        }
    }

    /// [`wait_for_height`](Self::wait_for_height) for threads outside a runtime; also ends after `timeout`, with what is the head then
    /// if it is high enough.
    pub fn wait_for_height_blocking(&self, height: i64, timeout: Duration) -> Option<Head> {
        const LOOK: Duration = Duration::from_millis(10);
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(head) = self.head().filter(|h| h.height >= height) {
                return Some(head);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

/// The node and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// What CometBFT tells its peers about a node: id, moniker, network, versions, addresses.
    pub node: DefaultNodeInfo,
    /// Whether it still fetches old blocks from others.
    pub catching_up: bool,
    /// The last committed block; `None` before the first.
    pub latest: Option<Head>,
    /// The first block that is kept; 0 before the first block.
    pub earliest_height: i64,
    /// This node's consensus key, with its voting power if it is a validator, else 0.
    pub validator: Validator,
    /// Connected peers.
    pub peers: u64,
}

/// What waits in a mempool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many transactions.
    pub txs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Which page of found transactions, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchPage {
    /// The page, from 1.
    pub number: u32,
    /// Transactions of a page, 1 to 100.
    pub size: u32,
    /// Newest first.
    pub newest_first: bool,
}

/// A page of found transactions.
#[derive(Clone, Debug)]
pub struct FoundTxs {
    /// This page's.
    pub txs: Vec<TxRecord>,
    /// How many there are on all pages.
    pub total: u64,
}

/// Why a search gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// The query cannot be understood; says where.
    #[error("{0}")]
    Query(String),
    /// The engine did not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A validator set.
#[derive(Clone, Debug, PartialEq)]
pub struct Validators {
    /// The height it signs.
    pub height: i64,
    /// Every member, in the engine's order.
    pub validators: Vec<Validator>,
}

/// Why a transaction was not queued without `CheckTx` having refused it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BroadcastError {
    /// The mempool refused it; the text is CometBFT's.
    #[error("{text}")]
    Refused {
        /// The mempool's words.
        text: String,
        /// The Cosmos SDK's code (codespace `sdk`) for this refusal, as its broadcast service translates it; `None` if it has none.
        sdk_code: Option<u32>,
    },
    /// The engine is starting, stopping or gone.
    #[error("{0}")]
    Unavailable(String),
}

/// Why an engine did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It is starting, stopping or gone; asking again later may work.
    #[error("{0}")]
    Unavailable(String),
    /// Its store or its answer is damaged.
    #[error("{0}")]
    Broken(String),
}
