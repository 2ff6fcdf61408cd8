//! What every part of a running engine shares, and the client other crates hold.

#![allow(clippy::disallowed_methods)] // Timeouts of waiters are wall time.

use crate::engine::Command;
use crate::error::{MempoolError, SoloError};
use crate::genesis::Genesis;
use crate::keys::ValidatorKey;
use crate::mempool::Mempool;
use crate::merkle::{sha256, Hash32};
use crate::state::State;
use crate::store::Store;
use parking_lot::{Condvar, Mutex};
use prost::Message;
use std::sync::mpsc::Sender;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tendermint::Time;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    RequestInfo, RequestQuery, ResponseCheckTx, ResponseFinalizeBlock, ResponseInfo, ResponseQuery,
};
use tendermint_proto::v0_38::types::{Block, BlockId, Commit};
use tenure_archive::{Archive, Page, SearchError, TxRecord};
use tokio::sync::watch;

/// The last committed block.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Its height.
    pub height: i64,
    /// Its block time.
    pub time: Time,
    /// Its header hash.
    pub block_hash: Vec<u8>,
    /// The application's hash after it; the header of the next block carries it.
    pub app_hash: Vec<u8>,
}

/// Whether the engine runs, and why not.
#[derive(Clone, Debug)]
pub enum Life {
    /// It makes blocks.
    Running,
    /// It was stopped.
    Stopped,
    /// It died; the process should end with this reason.
    Failed(Arc<SoloError>),
}

/// The answer to a broadcast: what `CheckTx` said. Code 0 means the transaction waits in the mempool.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// SHA-256 of the transaction.
    pub hash: Hash32,
    /// The application's answer.
    pub check_tx: ResponseCheckTx,
}

/// A committed block.
#[derive(Clone, Debug)]
pub struct BlockRecord {
    /// Header hash and part set header.
    pub block_id: BlockId,
    /// The block.
    pub block: Block,
    /// Its encoded size, bytes.
    pub size: usize,
}

/// The part of an application that readers call; each call works on its own clone, so queries run side by side.
pub(crate) trait QueryApp: Send + Sync {
    fn info(&self, request: RequestInfo) -> ResponseInfo;
    fn query(&self, request: RequestQuery) -> ResponseQuery;
}

/// An application as [`QueryApp`]; the lock is held only while it is cloned.
pub(crate) struct Clones<A>(pub Mutex<A>);

impl<A: Application> QueryApp for Clones<A> {
    fn info(&self, request: RequestInfo) -> ResponseInfo {
        let app = self.0.lock().clone();
        app.info(request)
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        let app = self.0.lock().clone();
        app.query(request)
    }
}

/// What `status` tells besides the chain itself.
#[derive(Clone, Debug)]
pub(crate) struct NodeInfo {
    pub node_id: String,
    pub moniker: String,
    pub rpc_addr: String,
    pub app_version: u64,
}

/// Shared by the engine thread, the RPC and every client.
pub(crate) struct Core {
    pub genesis: Genesis,
    pub key: ValidatorKey,
    pub node: NodeInfo,
    pub store: Store,
    pub archive: Archive,
    pub mempool: Mempool,
    pub query: Box<dyn QueryApp>,
    pub commands: Sender<Command>,
    pub head: watch::Sender<Option<Head>>,
    pub life: watch::Sender<Life>,
    /// For waiters without an async runtime: notified after every change of head or life.
    pub changed: (Mutex<()>, Condvar),
}

impl Core {
    /// Makes a state visible to readers and wakes waiters.
    pub(crate) fn publish(&self, state: &State) -> Head {
        let head = Head {
            height: state.last_height,
            time: state.last_block_time,
            block_hash: state.last_block_id.hash.clone(),
            app_hash: state.app_hash.clone(),
        };
        self.head.send_replace(Some(head.clone()));
        self.notify();
        head
    }

    /// Records how the engine ended; the first word counts.
    pub(crate) fn end(&self, life: Life) {
        self.mempool.close();
        let first = self.life.send_if_modified(|now| {
            let running = matches!(now, Life::Running);
            if running {
                *now = life;
            }
            running
        });
        if first {
            self.notify();
        }
    }

    fn notify(&self) {
        let _guard = self.changed.0.lock();
        self.changed.1.notify_all();
    }

    /// Height of the last committed block; 0 before the first, as CometBFT reports it.
    pub(crate) fn height(&self) -> i64 {
        self.head.borrow().as_ref().map_or(0, |h| h.height)
    }
}

/// A handle to a running engine for any number of users: cheap to clone, keeps nothing alive but memory and the database. Reads
/// see only committed heights. Nothing here needs an async runtime except where marked `async`.
#[derive(Clone)]
pub struct SoloClient(pub(crate) Arc<Core>);

impl SoloClient {
    /// Runs `CheckTx` and, if the code is 0, queues the transaction; a block follows within the minimum gap. Blocks while
    /// `Commit` runs. Errors are refusals by the mempool, with CometBFT's texts.
    pub fn broadcast_tx_sync(&self, tx: &[u8]) -> Result<Broadcast, MempoolError> {
        let (check_tx, wake) = self.0.mempool.check_tx(tx)?;
        if wake {
            // A stopped engine needs no waking.
            let _ = self.0.commands.send(Command::Wake);
        }
        Ok(Broadcast {
            hash: sha256(tx),
            check_tx,
        })
    }

    /// The last committed block; `None` before the first.
    pub fn head(&self) -> Option<Head> {
        self.0.head.borrow().clone()
    }

    /// Height of the last committed block; 0 before the first.
    pub fn latest_height(&self) -> i64 {
        self.0.height()
    }

    /// A channel that holds the last committed block and wakes on every new one. A slow receiver skips heights, it never delays
    /// the engine.
    pub fn heads(&self) -> watch::Receiver<Option<Head>> {
        self.0.head.subscribe()
    }

    /// A channel that tells when and why the engine ended.
    pub fn life(&self) -> watch::Receiver<Life> {
        self.0.life.subscribe()
    }

    /// Waits until the engine has ended. `Ok` if it was stopped, the reason if it died.
    pub async fn ended(&self) -> Result<(), Arc<SoloError>> {
        let mut life = self.life();
        loop {
            match &*life.borrow_and_update() {
                Life::Running => {}
                Life::Stopped => return Ok(()),
                Life::Failed(e) => return Err(e.clone()),
            }
            if life.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Waits until `height` is committed and returns the head then, which may be higher. Errors if the engine ends first.
    pub async fn wait_for_height(&self, height: i64) -> Result<Head, SoloError> {
        let (mut heads, mut life) = (self.heads(), self.life());
        loop {
            if let Some(head) = heads.borrow_and_update().as_ref().filter(|h| h.height >= height) {
                return Ok(head.clone());
            }
            if !matches!(&*life.borrow_and_update(), Life::Running) {
                return Err(SoloError::Stopped);
            }
            tokio::select! {
                _ = heads.changed() => {}
                _ = life.changed() => {}
            }
        }
    }

    /// [`wait_for_height`](Self::wait_for_height) for threads without a runtime. `None` if `timeout` passes or the engine ends.
    pub fn wait_for_height_blocking(&self, height: i64, timeout: Duration) -> Option<Head> {
        let deadline = Instant::now() + timeout;
        let (lock, signal) = &self.0.changed;
        let mut guard = lock.lock();
        loop {
            if let Some(head) = self.head().filter(|h| h.height >= height) {
                return Some(head);
            }
            if !matches!(&*self.0.life.borrow(), Life::Running) || signal.wait_until(&mut guard, deadline).timed_out() {
                return self.head().filter(|h| h.height >= height);
            }
        }
    }

    fn committed(&self, height: i64) -> bool {
        height >= self.0.genesis.initial_height && height <= self.0.height()
    }

    /// A committed block; `None` if there is none at this height.
    pub fn block(&self, height: i64) -> Result<Option<BlockRecord>, SoloError> {
        if !self.committed(height) {
            return Ok(None);
        }
        let Some(bytes) = self.0.store.block_bytes(height)? else {
            return Ok(None);
        };
        let block = Block::decode(bytes.as_slice()).map_err(|e| SoloError::Corrupt(format!("block {height}: {e}")))?;
        let commit = self.0.store.commit(height)?.and_then(|c| c.block_id);
        let block_id = commit.ok_or_else(|| SoloError::Corrupt(format!("commit {height} is missing")))?;
        Ok(Some(BlockRecord {
            block_id,
            block,
            size: bytes.len(),
        }))
    }

    /// A committed block by its header hash.
    pub fn block_by_hash(&self, hash: &[u8]) -> Result<Option<BlockRecord>, SoloError> {
        match self.0.store.height_of(hash)? {
            Some(height) => self.block(height),
            None => Ok(None),
        }
    }

    /// The commit for a committed block.
    pub fn commit(&self, height: i64) -> Result<Option<Commit>, SoloError> {
        if !self.committed(height) {
            return Ok(None);
        }
        self.0.store.commit(height)
    }

    /// The lowest height whose block is kept; the chain's first height before there is one.
    pub fn earliest_height(&self) -> Result<i64, SoloError> {
        let kept = self.0.store.block_range()?.map(|(first, _)| first);
        Ok(kept.unwrap_or(self.0.genesis.initial_height))
    }

    /// What every block did: results, transactions, events.
    pub fn archive(&self) -> &Archive {
        &self.0.archive
    }

    /// What `FinalizeBlock` returned for a committed block; `None` if the archive does not have it any more.
    pub fn block_results(&self, height: i64) -> Result<Option<ResponseFinalizeBlock>, SoloError> {
        Ok(self.0.archive.record(height)?.map(|record| record.response.clone()))
    }

    /// A committed transaction by its hash.
    pub fn tx(&self, hash: &[u8]) -> Result<Option<TxRecord>, SoloError> {
        Ok(self.0.archive.tx(hash)?)
    }

    /// A committed transaction by its place.
    pub fn tx_at(&self, height: i64, index: u32) -> Result<Option<TxRecord>, SoloError> {
        Ok(self.0.archive.tx_at(height, index)?)
    }

    /// See [`Archive::search_txs`].
    pub fn search_txs(&self, query: &str, page: Page) -> Result<(Vec<TxRecord>, usize), SearchError> {
        self.0.archive.search_txs(query, page)
    }

    /// See [`Archive::search_blocks`].
    pub fn search_blocks(&self, query: &str, page: Page) -> Result<(Vec<i64>, usize), SearchError> {
        self.0.archive.search_blocks(query, page)
    }

    /// Transactions and bytes waiting in the mempool.
    pub fn mempool_size(&self) -> (usize, u64) {
        self.0.mempool.size()
    }

    /// Up to `limit` waiting transactions, oldest first.
    pub fn mempool_txs(&self, limit: usize) -> Vec<Vec<u8>> {
        self.0.mempool.peek(limit)
    }

    /// The genesis document.
    pub fn genesis(&self) -> &Genesis {
        &self.0.genesis
    }

    /// The validator's ed25519 public key.
    pub fn validator_key(&self) -> Hash32 {
        self.0.key.public_key()
    }
}
