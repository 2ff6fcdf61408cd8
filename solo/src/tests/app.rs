//! A key-value application with a disk that outlives it.
//!
//! Transactions are `key=value`; `!power=N` sets the validator's power, `!gas=N` the block gas limit, `!foreign=1` names another
//! validator, `!age=N` the age of evidence, `!retain=N` what Commit retains, `!panic=1` panics in FinalizeBlock, `!reject=1` makes ProcessProposal refuse, `!fail=N` fails when executed, and
//! `!short=1` loses a result. A key can be set once: `CheckTx` and recheck refuse a committed one.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::response_process_proposal::ProposalStatus;
use tendermint_proto::v0_38::abci::{
    Event, EventAttribute, ExecTxResult, Misbehavior, RequestCheckTx, RequestFinalizeBlock, RequestInfo,
    RequestInitChain, RequestProcessProposal, RequestQuery, ResponseCheckTx, ResponseCommit, ResponseFinalizeBlock,
    ResponseInfo, ResponseInitChain, ResponseProcessProposal, ResponseQuery, ValidatorUpdate,
};
use tendermint_proto::v0_38::types::{BlockParams, ConsensusParams, EvidenceParams};

/// One committed state.
#[derive(Clone, Default, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub height: i64,
    pub pairs: BTreeMap<String, String>,
    pub executed: u64,
}

impl Snapshot {
    pub(super) fn hash(&self) -> Vec<u8> {
        crate::merkle::sha256(format!("{:?} {}", self.pairs, self.executed).as_bytes()).to_vec()
    }
}

/// What survives; every committed state is kept so that tests can roll back.
#[derive(Default)]
pub(super) struct Disk {
    pub history: Vec<Snapshot>,
    pub init_chains: u64,
    /// Everything the application was told of.
    pub misbehavior: Vec<Misbehavior>,
    /// What Commit tells to retain.
    pub retain: i64,
    /// Makes replay differ, as a changed binary would.
    pub salt: u64,
}

impl Disk {
    pub(super) fn last(&self) -> Snapshot {
        self.history.last().cloned().unwrap_or_default()
    }
}

#[derive(Clone)]
pub(super) struct Kv {
    disk: Arc<Mutex<Disk>>,
    /// InitChain's or FinalizeBlock's state, until Commit.
    pending: Arc<Mutex<Snapshot>>,
    key: Arc<Mutex<Option<ValidatorUpdate>>>,
    committing: Arc<AtomicBool>,
    checking: Arc<AtomicBool>,
    pub overlaps: Arc<AtomicU64>,
}

impl Kv {
    pub(super) fn open(disk: Arc<Mutex<Disk>>) -> Self {
        let pending = Arc::new(Mutex::new(disk.lock().last()));
        Self {
            disk,
            pending,
            key: Arc::default(),
            committing: Arc::default(),
            checking: Arc::default(),
            overlaps: Arc::default(),
        }
    }
}

fn parse(tx: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(tx)
        .ok()?
        .split_once('=')
        .filter(|(k, _)| !k.is_empty())
}

fn event(kind: &str, pairs: &[(&str, &str, bool)]) -> Event {
    let attributes = pairs
        .iter()
        .map(|(k, v, index)| EventAttribute {
            key: (*k).into(),
            value: (*v).into(),
            index: *index,
        })
        .collect();
    Event {
        r#type: kind.into(),
        attributes,
    }
}

impl Application for Kv {
    fn info(&self, _: RequestInfo) -> ResponseInfo {
        let last = self.disk.lock().last();
        let app_hash = if last.height == 0 { Vec::new() } else { last.hash() };
        ResponseInfo {
            data: "kv".into(),
            version: "1".into(),
            app_version: 1,
            last_block_height: last.height,
            last_block_app_hash: app_hash.into(),
        }
    }

    fn init_chain(&self, r: RequestInitChain) -> ResponseInitChain {
        assert_eq!(&r.app_state_bytes[..], br#"{"seed":"1"}"#);
        *self.key.lock() = r.validators.first().cloned();
        self.disk.lock().init_chains += 1;
        let start = Snapshot::default();
        let app_hash = start.hash().into();
        *self.pending.lock() = start;
        ResponseInitChain {
            app_hash,
            ..Default::default()
        }
    }

    fn query(&self, r: RequestQuery) -> ResponseQuery {
        let last = self.disk.lock().last();
        let key = String::from_utf8_lossy(&r.data).into_owned();
        assert_ne!(key, "panic", "asked to");
        let value = last.pairs.get(&key).cloned();
        ResponseQuery {
            log: if value.is_some() { "exists" } else { "does not exist" }.into(),
            key: r.data,
            value: value.unwrap_or_default().into_bytes().into(),
            height: last.height,
            ..Default::default()
        }
    }

    fn check_tx(&self, r: RequestCheckTx) -> ResponseCheckTx {
        if self.checking.swap(true, Ordering::SeqCst) || self.committing.load(Ordering::SeqCst) {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        let code = match parse(&r.tx) {
            None => 2,
            Some((key, _)) if self.disk.lock().last().pairs.contains_key(key) => 3,
            Some(_) => 0,
        };
        if self.committing.load(Ordering::SeqCst) {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        self.checking.store(false, Ordering::SeqCst);
        ResponseCheckTx {
            code,
            gas_wanted: 1,
            ..Default::default()
        }
    }

    fn process_proposal(&self, r: RequestProcessProposal) -> ResponseProcessProposal {
        let reject = r.txs.iter().any(|tx| tx.starts_with(b"!reject"));
        let status = if reject {
            ProposalStatus::Reject
        } else {
            ProposalStatus::Accept
        };
        ResponseProcessProposal { status: status as i32 }
    }

    fn finalize_block(&self, r: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let (mut next, salt) = {
            let disk = self.disk.lock();
            (disk.last(), disk.salt)
        };
        next.height = r.height;
        self.disk.lock().misbehavior.extend(r.misbehavior);
        let mut out = ResponseFinalizeBlock::default();
        for tx in &r.txs {
            let Some((key, value)) = parse(tx) else {
                out.tx_results.push(ExecTxResult {
                    code: 2,
                    ..Default::default()
                });
                continue;
            };
            next.executed += 1 + salt;
            let mut result = ExecTxResult {
                gas_wanted: 1,
                gas_used: 1,
                ..Default::default()
            };
            match key {
                "!power" => {
                    let update = self.key.lock().clone().expect("set by InitChain");
                    out.validator_updates.push(ValidatorUpdate {
                        power: value.parse().unwrap_or(0),
                        ..update
                    });
                }
                "!foreign" => out.validator_updates.push(ValidatorUpdate {
                    pub_key: Some(crate::block::proto_key(&[7; 32])),
                    power: 1,
                }),
                "!gas" => {
                    let block = BlockParams {
                        max_bytes: 1 << 20,
                        max_gas: value.parse().unwrap_or(-1),
                    };
                    out.consensus_param_updates = Some(ConsensusParams {
                        block: Some(block),
                        ..Default::default()
                    });
                }
                "!retain" => self.disk.lock().retain = value.parse().unwrap_or(0),
                "!age" => {
                    let evidence = EvidenceParams {
                        max_age_num_blocks: value.parse().unwrap_or(1),
                        max_age_duration: Some(tendermint_proto::google::protobuf::Duration { seconds: 60, nanos: 0 }),
                        max_bytes: 10_000,
                    };
                    out.consensus_param_updates = Some(ConsensusParams {
                        evidence: Some(evidence),
                        ..Default::default()
                    });
                }
                "!panic" => panic!("asked to"),
                "!fail" => result.code = 7,
                "!short" => continue,
                _ => {
                    next.pairs.insert(key.into(), value.into());
                }
            }
            result.events = vec![
                event(
                    "app",
                    &[("key", key, true), ("value", value, true), ("secret", value, false)],
                ),
                event("app", &[("creator", "kv", true)]),
            ];
            out.tx_results.push(result);
        }
        if r.height % 5 == 0 {
            out.events
                .push(event("fifth", &[("height", &r.height.to_string(), true)]));
        }
        out.app_hash = next.hash().into();
        *self.pending.lock() = next;
        out
    }

    fn commit(&self) -> ResponseCommit {
        self.committing.store(true, Ordering::SeqCst);
        if self.checking.load(Ordering::SeqCst) {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_micros(300));
        let pending = self.pending.lock().clone();
        self.disk.lock().history.push(pending);
        self.committing.store(false, Ordering::SeqCst);
        ResponseCommit {
            retain_height: self.disk.lock().retain,
        }
    }
}
