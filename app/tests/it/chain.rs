//! One replica: an application on a store in memory, fed block by block.

use std::sync::Arc;

use prost::Message;
use serde_json::Value;
use tendermint_abci::Application;
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::abci::{
        CheckTxType, ExecTxResult, RequestCheckTx, RequestFinalizeBlock, RequestInitChain, ResponseCheckTx,
        ResponseFinalizeBlock,
    },
};
use tenure_app::{App, AppOptions, OnBroken};
use tenure_store::{
    snapshot::{Export, Restore},
    MemoryBackend, Store, StoreOptions,
};

pub(crate) const CHAIN_ID: &str = "tenure-test-1";
/// Time of the genesis, ms since 1970: 2026-11-22.
pub(crate) const GENESIS_MS: u64 = 1_795_305_600_000;

/// A replica of a chain.
pub(crate) struct Chain {
    backend: MemoryBackend,
    pub(crate) store: Arc<Store>,
    pub(crate) app: App,
    pub(crate) height: u64,
    pub(crate) time_ms: u64,
    pub(crate) genesis_hash: Vec<u8>,
    options: AppOptions,
}

pub(crate) fn options() -> AppOptions {
    AppOptions {
        invariants_every_block: true,
        on_broken: OnBroken::Panic,
        ..AppOptions::default()
    }
}

pub(crate) fn timestamp(ms: u64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: (ms / 1_000) as i64,
        nanos: (ms % 1_000 * 1_000_000) as i32,
    })
}

fn open(backend: &MemoryBackend, options: &AppOptions) -> (Arc<Store>, App) {
    let store = Store::open(
        Arc::new(backend.clone()),
        &tenure_app::stores(),
        StoreOptions::default(),
    )
    .unwrap();
    let store = Arc::new(store);
    let app = App::open(store.clone(), options.clone()).unwrap();
    (store, app)
}

impl Chain {
    /// A chain after InitChain, before its first block.
    pub(crate) fn new(app_state: &Value) -> Self {
        Self::with(app_state, options())
    }

    pub(crate) fn with(app_state: &Value, options: AppOptions) -> Self {
        let backend = MemoryBackend::new();
        let (store, app) = open(&backend, &options);
        let genesis_hash = init_chain(&app, app_state);
        Self {
            backend,
            store,
            app,
            height: 0,
            time_ms: GENESIS_MS,
            genesis_hash,
            options,
        }
    }

    /// Stops and starts again on the same data. Before the first commit InitChain is repeated, as engines do.
    pub(crate) fn restart(&mut self, app_state: &Value) {
        let (store, app) = open(&self.backend, &self.options);
        (self.store, self.app) = (store, app);
        if self.height == 0 {
            assert_eq!(
                init_chain(&self.app, app_state),
                self.genesis_hash,
                "InitChain is repeatable"
            );
        }
    }

    /// Another replica, restored from a snapshot of this one's last state. It never saw the genesis file.
    pub(crate) fn restored(&self) -> Self {
        let mut export = Export::new(self.store.latest(), 4_096).unwrap();
        let mut chunks = Vec::new();
        while let Some(chunk) = export.next_chunk().unwrap() {
            chunks.push(chunk);
        }
        let backend = MemoryBackend::new();
        let options = StoreOptions::default();
        let manifest = export.manifest();
        let trusted = self.store.latest().app_hash();
        let target = Arc::new(backend.clone());
        let mut restore = Restore::begin(target, &tenure_app::stores(), options, manifest, trusted).unwrap();
        for (i, chunk) in chunks.iter().enumerate() {
            restore.apply(i, chunk).unwrap();
        }
        drop(restore.finish().unwrap());
        let (store, app) = open(&backend, &self.options);
        Self {
            backend,
            store,
            app,
            height: self.height,
            time_ms: self.time_ms,
            genesis_hash: self.genesis_hash.clone(),
            options: self.options.clone(),
        }
    }

    /// The same chain as another application sees it.
    pub(crate) fn with_app(&self, app: App) -> Self {
        let (backend, store) = (self.backend.clone(), self.store.clone());
        let (genesis_hash, options) = (self.genesis_hash.clone(), self.options.clone());
        Self {
            backend,
            store,
            app,
            height: self.height,
            time_ms: self.time_ms,
            genesis_hash,
            options,
        }
    }

    /// FinalizeBlock of the next block, `ms` after the last. Nothing is committed.
    pub(crate) fn finalize(&self, ms: u64, txs: &[Vec<u8>]) -> ResponseFinalizeBlock {
        let response = self.app.finalize_block(RequestFinalizeBlock {
            txs: txs.iter().map(|tx| tx.clone().into()).collect(),
            height: (self.height + 1) as i64,
            time: timestamp(self.time_ms + ms),
            ..Default::default()
        });
        assert_eq!(
            response.tx_results.len(),
            txs.len(),
            "exactly one result for each transaction"
        );
        response
    }

    /// Makes and commits the next block, `ms` after the last.
    pub(crate) fn block(&mut self, ms: u64, txs: &[Vec<u8>]) -> ResponseFinalizeBlock {
        let response = self.finalize(ms, txs);
        self.app.commit();
        self.height += 1;
        self.time_ms += ms;
        let (height, header_ms, _, app_hash) = self.app.committed();
        assert_eq!((height, header_ms), (self.height, self.time_ms));
        assert_eq!(app_hash.as_slice(), response.app_hash.as_ref());
        response
    }

    /// The result of a single transaction in its own block.
    pub(crate) fn deliver(&mut self, tx: Vec<u8>) -> ExecTxResult {
        self.block(1_000, &[tx]).tx_results.remove(0)
    }

    pub(crate) fn check(&self, tx: &[u8], kind: CheckTxType) -> ResponseCheckTx {
        self.app.check_tx(RequestCheckTx {
            tx: tx.to_vec().into(),
            r#type: kind as i32,
        })
    }

    /// A query's decoded answer.
    pub(crate) fn query<R: Message + Default>(&self, path: &str, request: &impl Message) -> tenure_types::Result<R> {
        let answer = self.app.query(path, &request.encode_to_vec(), None)?;
        Ok(R::decode(answer.value.as_slice()).expect("the answer decodes"))
    }
}

fn init_chain(app: &App, app_state: &Value) -> Vec<u8> {
    // An exported chain goes on where it was.
    let last = |field: &str| -> u64 {
        let value = app_state["chain"]["clock"][field].as_str();
        value.map_or(0, |text| text.parse().unwrap())
    };
    let response = app.init_chain(RequestInitChain {
        time: timestamp(GENESIS_MS.max(last("header_ms") + 1)),
        chain_id: CHAIN_ID.to_owned(),
        initial_height: last("height") as i64 + 1,
        app_state_bytes: app_state.to_string().into_bytes().into(),
        ..Default::default()
    });
    response.app_hash.to_vec()
}
