//! A key-value application whose committed state is one file.
//!
//! Transactions are `key=value`. Some keys make it misbehave: `panic` in FinalizeBlock, `panic_check` in CheckTx; a query for
//! `panic` panics. `gate` makes FinalizeBlock wait until [`Kv::open_gate`], `gate_commit` makes Commit.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
};

use parking_lot::{Condvar, Mutex};
use serde_json::{json, Value};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    response_process_proposal::ProposalStatus, ExecTxResult, RequestCheckTx, RequestFinalizeBlock, RequestInfo,
    RequestInitChain, RequestProcessProposal, RequestQuery, ResponseCheckTx, ResponseCommit, ResponseFinalizeBlock,
    ResponseInfo, ResponseInitChain, ResponseProcessProposal, ResponseQuery,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) height: i64,
    pub(crate) pairs: BTreeMap<String, String>,
    /// Transactions executed in all, which a block applied twice would show.
    pub(crate) executed: i64,
}

impl State {
    /// Enough of a hash: any difference in state shows.
    fn hash(&self) -> Vec<u8> {
        let text = format!("{:?} {}", self.pairs, self.executed);
        let mut hash = [0_u8; 32];
        for (index, byte) in text.bytes().enumerate() {
            hash[index % 32] = hash[index % 32].rotate_left(3) ^ byte;
            hash[(index * 7 + 1) % 32] = hash[(index * 7 + 1) % 32].wrapping_add(byte);
        }
        hash.to_vec()
    }
}

#[derive(Debug, Default)]
struct Shared {
    committed: Mutex<State>,
    pending: Mutex<Option<State>>,
    file: Option<PathBuf>,
    gate: Mutex<bool>,
    committing: AtomicBool,
    gate_changed: Condvar,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Kv(Arc<Shared>);

impl Kv {
    /// State in memory.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Continues from the file, if it is there.
    pub(crate) fn open(file: PathBuf) -> Self {
        let committed = match fs::read(&file) {
            Err(_) => State::default(),
            Ok(bytes) => {
                let value: Value = serde_json::from_slice(&bytes).unwrap();
                let pairs = value["pairs"].as_object().unwrap().iter();
                State {
                    height: value["height"].as_i64().unwrap(),
                    pairs: pairs
                        .map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()))
                        .collect(),
                    executed: value["executed"].as_i64().unwrap(),
                }
            }
        };
        Self(Arc::new(Shared {
            committed: Mutex::new(committed),
            file: Some(file),
            ..Shared::default()
        }))
    }

    pub(crate) fn committed(&self) -> State {
        self.0.committed.lock().clone()
    }

    pub(crate) fn reset_uncommitted(&self) {
        *self.0.pending.lock() = None;
    }

    pub(crate) fn is_executing(&self) -> bool {
        self.0.pending.lock().is_some()
    }

    pub(crate) fn is_committing(&self) -> bool {
        self.0.committing.load(Ordering::SeqCst)
    }

    fn wait_at_gate(&self) {
        let mut open = self.0.gate.lock();
        self.0.gate_changed.wait_while(&mut open, |open| !*open);
    }

    pub(crate) fn open_gate(&self) {
        *self.0.gate.lock() = true;
        self.0.gate_changed.notify_all();
    }

    /// How many clones are alive, this one included.
    pub(crate) fn clones(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

fn parse(tx: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(tx).ok()?.split_once('=')
}

impl Application for Kv {
    fn info(&self, _request: RequestInfo) -> ResponseInfo {
        let committed = self.committed();
        ResponseInfo {
            data: "kv".to_owned(),
            version: "1".to_owned(),
            app_version: 1,
            last_block_height: committed.height,
            last_block_app_hash: if committed.height == 0 {
                Default::default()
            } else {
                committed.hash().into()
            },
        }
    }

    fn init_chain(&self, _request: RequestInitChain) -> ResponseInitChain {
        assert_eq!(self.committed().height, 0, "InitChain on a chain that has blocks");
        ResponseInitChain {
            app_hash: State::default().hash().into(),
            ..Default::default()
        }
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        let key = String::from_utf8_lossy(&request.data).into_owned();
        assert_ne!(key, "panic", "asked to panic in Query");
        let committed = self.committed();
        ResponseQuery {
            value: committed.pairs.get(&key).cloned().unwrap_or_default().into(),
            key: request.data,
            height: committed.height,
            ..Default::default()
        }
    }

    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        let parsed = parse(&request.tx);
        assert_ne!(
            parsed.map(|(key, _)| key),
            Some("panic_check"),
            "asked to panic in CheckTx"
        );
        ResponseCheckTx {
            code: u32::from(parsed.is_none()),
            ..Default::default()
        }
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        let status = match request.txs.iter().all(|tx| parse(tx).is_some()) {
            true => ProposalStatus::Accept,
            false => ProposalStatus::Reject,
        };
        ResponseProcessProposal { status: status as i32 }
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let mut state = self.committed();
        state.height = request.height;
        for tx in &request.txs {
            if let Some((key, value)) = parse(tx) {
                assert_ne!(key, "panic", "asked to panic in FinalizeBlock");
                state.pairs.insert(key.to_owned(), value.to_owned());
                state.executed += 1;
                if key == "gate" {
                    *self.0.pending.lock() = Some(state.clone());
                    self.wait_at_gate();
                }
            }
        }
        let answer = ResponseFinalizeBlock {
            tx_results: request.txs.iter().map(|_| ExecTxResult::default()).collect(),
            app_hash: state.hash().into(),
            ..Default::default()
        };
        *self.0.pending.lock() = Some(state);
        answer
    }

    fn commit(&self) -> ResponseCommit {
        let state = self.0.pending.lock().take().expect("FinalizeBlock comes before Commit");
        if state.pairs.contains_key("gate_commit") {
            self.0.committing.store(true, Ordering::SeqCst);
            self.wait_at_gate();
        }
        if let Some(path) = &self.0.file {
            let pairs: serde_json::Map<String, Value> =
                state.pairs.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
            let text = json!({"height": state.height, "executed": state.executed, "pairs": pairs}).to_string();
            // The state before this commit, for tests that lose one.
            if path.exists() {
                fs::copy(path, path.with_extension("old")).unwrap();
            }
            let new = path.with_extension("new");
            let mut file = fs::File::create(&new).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.sync_all().unwrap();
            fs::rename(new, path).unwrap();
        }
        *self.0.committed.lock() = state;
        ResponseCommit::default()
    }
}
