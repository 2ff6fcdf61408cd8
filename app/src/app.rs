//! The application's state and how it is opened.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tenure_sdk::{
    clock, Base, Block, Changed, Committed, Ctx, DeriveTable, Derived, DerivedMap, Error, Mode, Module, QueryRoute,
    RecordCache, Result, State,
};
use tenure_store::{snapshot::discard_unfinished, Backend, Staged, Store, StoreError, StoreOptions, View};

use crate::{
    check::{CheckState, MempoolLimits},
    identity,
    modules::{self, modules},
    restore::Restoring,
    snapshots::{SnapshotOptions, Snapshots},
    staging::{Candidates, Counters},
    tx::{Routes, Signatures, Transactions},
};

/// What a broken node does: a read failed, a stored record does not decode, an invariant does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBroken {
    /// Ends the process at once, so that nothing is signed or committed on a state that cannot be trusted.
    #[default]
    Abort,
    /// Panics: for tests.
    Panic,
}

/// How an application runs.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// Whether the invariants of all modules are checked after every block. Costs a scan of the state.
    pub invariants_every_block: bool,
    /// What happens when the node is broken.
    pub on_broken: OnBroken,
    /// Verified signatures that are remembered, some 120 bytes each; 0 for none.
    pub signature_cache: usize,
    /// Bytes of transactions from the mempool that are remembered decoded, which takes some five times as many; 0 for none.
    pub transaction_cache: usize,
    /// What the engine's mempool holds at most, of which an eighth is kept for free attestations; without it none is.
    pub mempool: Option<MempoolLimits>,
    /// Records of the latest state that are kept in memory beside the database, some 250 bytes each; 0 for none.
    pub record_cache: usize,
    /// Heights that queries are answered for, the latest included, at least 1. Not more than the store keeps views.
    pub query_heights: usize,
    /// Blocks that the engine is asked to keep, besides those that snapshots need; 0 for all.
    pub retain_blocks: u64,
    /// Whether a proposal is executed while the validators vote on it. Outcomes do not depend on it.
    pub optimistic: bool,
    /// Snapshots for nodes that join; none are made without.
    pub snapshots: Option<SnapshotOptions>,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            invariants_every_block: false,
            on_broken: OnBroken::Abort,
            signature_cache: 200_000,
            // The transactions of two full blocks.
            transaction_cache: 8 << 20,
            mempool: None,
            record_cache: 200_000,
            query_heights: 16,
            retain_blocks: 0,
            optimistic: true,
            snapshots: None,
        }
    }
}

/// Why an application did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store could not be read.
    #[error("cannot read the state: {0}")]
    Store(#[from] StoreError),
    /// The directory of the snapshots cannot be used.
    #[error("cannot use the directory of the snapshots {}: {error}", .dir.display())]
    Snapshots {
        /// The directory.
        dir: std::path::PathBuf,
        /// What failed.
        error: std::io::Error,
    },
    /// The state is not one that this program wrote.
    #[error("cannot use the state of height {height}: {reason}")]
    State {
        /// Height of the state.
        height: u64,
        /// What is wrong with it.
        reason: Error,
    },
}

/// The application. Clones share everything; engine, queries and mempool each hold one.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// Replaced once, when a state sync ends.
    pub(crate) store: ArcSwap<Store>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) store_options: StoreOptions,
    pub(crate) options: AppOptions,
    pub(crate) modules: &'static [&'static dyn Module],
    pub(crate) table: Arc<DeriveTable>,
    pub(crate) msg_routes: Routes,
    pub(crate) query_routes: BTreeMap<&'static str, QueryRoute>,
    pub(crate) signatures: Signatures,
    pub(crate) transactions: Transactions,
    /// Stands at the height of the last of `heads`.
    pub(crate) records: Arc<RecordCache>,
    /// Committed states by height, the latest last; there is always one.
    pub(crate) heads: ArcSwap<Vec<Arc<Head>>>,
    pub(crate) consensus: Mutex<Consensus>,
    /// Never locked while `consensus` is held: CheckTx takes `consensus` under it.
    pub(crate) check: Mutex<Option<CheckState>>,
    pub(crate) restoring: Mutex<Option<Restoring>>,
    pub(crate) snapshots: Option<Snapshots>,
    pub(crate) counters: Counters,
}

/// A committed state.
pub(crate) struct Head {
    pub(crate) view: Arc<View>,
    pub(crate) derived: DerivedMap,
    /// The block that made it; height 0 before the first.
    pub(crate) block: Block,
}

/// What the engine's consensus side has done since the last commit.
#[derive(Default)]
pub(crate) struct Consensus {
    /// From InitChain until the first commit.
    pub(crate) genesis: Option<Genesis>,
    /// Proposals that are executed ahead of a decision.
    pub(crate) candidates: Candidates,
    /// The executed block that is not committed.
    pub(crate) pending: Option<Pending>,
}

/// The state of the genesis file. It is not persisted: the first commit carries it.
#[derive(Clone)]
pub(crate) struct Genesis {
    pub(crate) state: State,
    pub(crate) block: Block,
}

/// A block between FinalizeBlock and Commit.
pub(crate) struct Pending {
    /// Hashes of its transactions.
    pub(crate) txs: Vec<[u8; 32]>,
    pub(crate) staged: Staged,
    pub(crate) changed: Changed,
    pub(crate) derived: DerivedMap,
    pub(crate) block: Block,
}

impl Head {
    /// A state over it, for queries.
    pub(crate) fn state(&self, table: &Arc<DeriveTable>) -> State {
        self.state_over(self.view.clone(), table)
    }

    /// A state over it whose reads and writes blocks to come will meet again: for execution.
    pub(crate) fn execution_state(&self, records: &Arc<RecordCache>, table: &Arc<DeriveTable>) -> State {
        self.state_over(records.over(self.block.height, self.view.clone()), table)
    }

    fn state_over(&self, base: Arc<dyn Base>, table: &Arc<DeriveTable>) -> State {
        let derived = self.derived.clone();
        State::new(Committed { base, derived }, table.clone())
    }
}

impl App {
    /// Opens the application on a database: opens the store in it and rebuilds all derived state from the records. What a state sync that
    /// was cut short left behind is removed first; the engine begins it again.
    pub fn open(
        backend: Arc<dyn Backend>,
        store_options: StoreOptions,
        options: AppOptions,
    ) -> Result<Self, OpenError> {
        if discard_unfinished(&*backend)? {
            tracing::warn!("removed what a state sync that was cut short had left behind");
        }
        let store = Store::open(backend.clone(), &modules::stores(), store_options)?;
        let table = Arc::new(modules::derive_table());
        let head = head_of(store.latest(), &table).map_err(|reason| OpenError::State {
            height: store.latest().height(),
            reason,
        })?;
        let snapshots = options.snapshots.clone().map(Snapshots::open).transpose()?;
        let inner = Inner {
            store: ArcSwap::from_pointee(store),
            backend,
            store_options,
            modules: modules(),
            table,
            msg_routes: modules::msg_routes(),
            query_routes: modules::query_routes(),
            signatures: Signatures::new(options.signature_cache),
            transactions: Transactions::new(options.transaction_cache),
            records: Arc::new(RecordCache::new(options.record_cache, head.block.height)),
            heads: ArcSwap::from_pointee(vec![Arc::new(head)]),
            consensus: Mutex::default(),
            check: Mutex::default(),
            restoring: Mutex::default(),
            snapshots,
            counters: Counters::default(),
            options,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The store that holds the committed state. After a state sync it is another one, so ask again instead of keeping it.
    pub fn store(&self) -> Arc<Store> {
        self.0.store.load_full()
    }

    /// Height, header time (ms since 1970), live time (ms) and app hash of the last committed block; all zero before the first.
    pub fn committed(&self) -> (u64, u64, u64, [u8; 32]) {
        let head = self.head();
        let hash = if head.block.height == 0 {
            [0; 32]
        } else {
            head.view.app_hash()
        };
        (head.block.height, head.block.header_ms, head.block.now_ms, hash)
    }

    /// The chain id; empty before the first commit.
    pub fn chain_id(&self) -> String {
        self.head().block.chain_id.clone()
    }

    /// Checks every invariant of every module on the last committed state. Error: names the module and says what does not hold.
    pub fn check_invariants(&self) -> Result<()> {
        let head = self.head();
        let mut ctx = Ctx::new(head.state(&self.0.table), head.block.clone(), Mode::Query);
        self.0.invariants(&mut ctx)
    }

    pub(crate) fn head(&self) -> Arc<Head> {
        self.0.head()
    }
}

impl Inner {
    /// The last committed state. Never waits.
    #[allow(clippy::expect_used, reason = "the list is made with one entry and never emptied")]
    pub(crate) fn head(&self) -> Arc<Head> {
        self.heads.load().last().expect("there is always a head").clone()
    }

    /// Publishes a committed state.
    pub(crate) fn publish(&self, head: Head) {
        let mut heads = self.heads.load().as_ref().clone();
        heads.push(Arc::new(head));
        let excess = heads.len().saturating_sub(self.options.query_heights.max(1));
        heads.drain(..excess);
        self.heads.store(Arc::new(heads));
    }

    /// Every invariant. Error: names the module.
    pub(crate) fn invariants(&self, ctx: &mut Ctx) -> Result<()> {
        for module in self.modules {
            module
                .invariants(ctx)
                .map_err(|e| e.context(format!("invariant of module {}", module.name())))?;
        }
        Ok(())
    }

    /// Ends a node that is broken. It must not go on: what it would sign or commit could differ from every other node's.
    pub(crate) fn abort(&self, reason: &str) -> ! {
        tracing::error!(reason, "the node is broken and stops");
        match self.options.on_broken {
            OnBroken::Panic => panic!("the node is broken and stops: {reason}"),
            OnBroken::Abort => {
                // The log may be switched off or buffered; the last words must not be lost.
                eprintln!("the node is broken and stops: {reason}");
                std::process::abort()
            }
        }
    }

    /// The value, or the end of the node.
    pub(crate) fn must<T, E: std::fmt::Display>(&self, what: &str, result: Result<T, E>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => self.abort(&format!("{what}: {error}")),
        }
    }
}

/// A committed state with everything that is derived from it.
pub(crate) fn head_of(view: Arc<View>, table: &DeriveTable) -> Result<Head> {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for store in table.stores() {
        let derive = table.of(store)?;
        let mut derived = Derived::default();
        for record in view.range(store, &[], None, false) {
            let (key, value) = record.map_err(|e| Error::internal(e.to_string()))?;
            derive(&key, &value, &mut derived)?;
        }
        entries.extend(derived.into_entries());
    }
    let derived: DerivedMap = entries.into_iter().collect();
    let mut block = Block::default();
    if view.height() > 0 {
        let chain_id = identity::chain_id(view.as_ref())?;
        let base: Arc<dyn Base> = view.clone();
        let state = State::new(
            Committed {
                base,
                derived: derived.clone(),
            },
            Arc::new(modules::derive_table()),
        );
        let mut ctx = Ctx::new(state, Block::default(), Mode::Query);
        let clock = clock::clock(&mut ctx)?;
        if clock.height != view.height() {
            let message = format!(
                "the clock stands at height {}, the state at {}",
                clock.height,
                view.height()
            );
            return Err(Error::internal(message));
        }
        let now_ms = clock.header_ms.saturating_sub(clock.halted_ms);
        block = Block {
            chain_id,
            height: clock.height,
            now_ms,
            header_ms: clock.header_ms,
        };
    }
    Ok(Head { view, derived, block })
}
