//! One replica: an application on a store in memory, fed block by block.

use std::sync::Arc;

use prost::Message;
use serde_json::Value;
use tendermint_abci::Application;
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::abci::{
        response_process_proposal::ProposalStatus, CheckTxType, ExecTxResult, RequestCheckTx, RequestFinalizeBlock,
        RequestInitChain, RequestProcessProposal, ResponseCheckTx, ResponseFinalizeBlock,
    },
};
use tenure_app::{App, AppOptions, OnBroken};
use tenure_store::{
    snapshot::{Export, Restore},
    MemoryBackend, StoreOptions,
};

pub(crate) const CHAIN_ID: &str = "tenure-test-1";
/// Time of the genesis, ms since 1970: 2026-11-22.
pub(crate) const GENESIS_MS: u64 = 1_795_305_600_000;

/// A replica of a chain.
pub(crate) struct Chain {
    backend: MemoryBackend,
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

pub(crate) fn open(backend: &MemoryBackend, options: &AppOptions) -> App {
    App::open(Arc::new(backend.clone()), StoreOptions::default(), options.clone()).unwrap()
}

impl Chain {
    /// A chain after InitChain, before its first block.
    pub(crate) fn new(app_state: &Value) -> Self {
        Self::with(app_state, options())
    }

    pub(crate) fn with(app_state: &Value, options: AppOptions) -> Self {
        let backend = MemoryBackend::new();
        let app = open(&backend, &options);
        let genesis_hash = init_chain(&app, app_state);
        Self {
            backend,
            app,
            height: 0,
            time_ms: GENESIS_MS,
            genesis_hash,
            options,
        }
    }

    /// Stops and starts again on the same data. Before the first commit InitChain is repeated, as engines do.
    pub(crate) fn restart(&mut self, app_state: &Value) {
        let app = open(&self.backend, &self.options);
        self.app = app;
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
        let mut export = Export::new(self.app.store().latest(), 4_096).unwrap();
        let mut chunks = Vec::new();
        while let Some(chunk) = export.next_chunk().unwrap() {
            chunks.push(chunk);
        }
        let backend = MemoryBackend::new();
        let options = StoreOptions::default();
        let manifest = export.manifest();
        let trusted = self.app.store().latest().app_hash();
        let target = Arc::new(backend.clone());
        let mut restore = Restore::begin(target, &tenure_app::stores(), options, manifest, trusted).unwrap();
        for (i, chunk) in chunks.iter().enumerate() {
            restore.apply(i, chunk).unwrap();
        }
        drop(restore.finish().unwrap());
        let app = open(&backend, &self.options);
        Self {
            backend,
            app,
            height: self.height,
            time_ms: self.time_ms,
            genesis_hash: self.genesis_hash.clone(),
            options: self.options.clone(),
        }
    }

    /// The same chain as another application sees it.
    pub(crate) fn with_app(&self, app: App) -> Self {
        let backend = self.backend.clone();
        let (genesis_hash, options) = (self.genesis_hash.clone(), self.options.clone());
        Self {
            backend,
            app,
            height: self.height,
            time_ms: self.time_ms,
            genesis_hash,
            options,
        }
    }

    /// FinalizeBlock's question about the next block, `ms` after the last.
    pub(crate) fn next(&self, ms: u64, txs: &[Vec<u8>]) -> RequestFinalizeBlock {
        RequestFinalizeBlock {
            txs: txs.iter().map(|tx| tx.clone().into()).collect(),
            height: (self.height + 1) as i64,
            time: timestamp(self.time_ms + ms),
            ..Default::default()
        }
    }

    /// ProcessProposal of a block; whether it was accepted.
    pub(crate) fn propose(&self, block: &RequestFinalizeBlock) -> bool {
        let block = block.clone();
        let response = Application::process_proposal(
            &self.app,
            RequestProcessProposal {
                txs: block.txs,
                proposed_last_commit: block.decided_last_commit,
                misbehavior: block.misbehavior,
                hash: block.hash,
                height: block.height,
                time: block.time,
                next_validators_hash: block.next_validators_hash,
                proposer_address: block.proposer_address,
            },
        );
        response.status == ProposalStatus::Accept as i32
    }

    /// FinalizeBlock of the next block, `ms` after the last. Nothing is committed.
    pub(crate) fn finalize(&self, ms: u64, txs: &[Vec<u8>]) -> ResponseFinalizeBlock {
        let response = self.app.finalize_block(self.next(ms, txs));
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

pub(crate) fn init_chain(app: &App, app_state: &Value) -> Vec<u8> {
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
