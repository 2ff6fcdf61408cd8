//! An application that holds its engine to the call grammar, and itself to what the engine expects of its answers.

use std::{
    collections::BTreeSet,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
};

use parking_lot::Mutex;
use prost::Message;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    response_offer_snapshot, response_process_proposal::ProposalStatus, RequestApplySnapshotChunk, RequestExtendVote,
    RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestOfferSnapshot, RequestPrepareProposal,
    RequestProcessProposal, RequestVerifyVoteExtension, ResponseApplySnapshotChunk, ResponseCommit, ResponseExtendVote,
    ResponseFinalizeBlock, ResponseInfo, ResponseInitChain, ResponseOfferSnapshot, ResponsePrepareProposal,
    ResponseProcessProposal, ResponseVerifyVoteExtension, ValidatorUpdate,
};

use crate::grammar::{Call, Grammar};

/// What follows a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// Panic: for tests, and for debug runs, where the server ends the process.
    Panic,
    /// Write an error to the log and go on.
    Log,
}

/// Wraps an application; its clones share one grammar. Each call is checked before the application sees it, each answer after.
#[derive(Clone, Debug)]
pub struct Checked<A> {
    app: A,
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct Rules {
    grammar: Mutex<Grammar>,
    /// A call that decides state is running.
    busy: AtomicBool,
    on: OnViolation,
}

/// Says that a call that decides state is over.
struct Turn<'a>(&'a Rules);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::SeqCst);
    }
}

impl<A> Checked<A> {
    /// Begins a run.
    pub fn new(app: A, on: OnViolation) -> Self {
        let rules = Rules {
            grammar: Mutex::new(Grammar::new()),
            busy: AtomicBool::new(false),
            on,
        };
        Self {
            app,
            rules: Arc::new(rules),
        }
    }

    /// The application.
    pub fn inner(&self) -> &A {
        &self.app
    }

    /// A new engine took over; belongs in [`crate::ServerOptions::on_consensus_connection`].
    pub fn restart(&self) {
        self.rules.grammar.lock().restart();
    }

    /// Where the run stands.
    #[must_use]
    pub fn grammar(&self) -> Grammar {
        self.rules.grammar.lock().clone()
    }

    fn violated(&self, violation: &str) {
        match self.rules.on {
            OnViolation::Panic => panic!("{violation}"),
            OnViolation::Log => tracing::error!("{violation}"),
        }
    }

    fn observe(&self, call: Call) {
        let observed = self.rules.grammar.lock().observe(call);
        if let Err(violation) = observed {
            self.violated(&violation.to_string());
        }
    }

    /// Begins a call that decides state: the engine makes one at a time.
    fn turn(&self, call: Call) -> Turn<'_> {
        if self.rules.busy.swap(true, Ordering::SeqCst) {
            self.violated(&format!(
                "ABCI grammar: {call} while another call that decides state is running"
            ));
        }
        let turn = Turn(&self.rules);
        self.observe(call);
        turn
    }

    fn promise(&self, kept: bool, broken: impl FnOnce() -> String) {
        if !kept {
            self.violated(&format!("ABCI answer: {}", broken()));
        }
    }

    fn check_updates(&self, method: &str, updates: &[ValidatorUpdate]) {
        let mut seen = BTreeSet::new();
        for update in updates {
            let key = update.pub_key.as_ref().map(Message::encode_to_vec);
            self.promise(key.is_some(), || format!("{method} updates a validator without a key"));
            self.promise(seen.insert(key), || format!("{method} updates a validator twice"));
            self.promise(update.power >= 0, || {
                format!("{method} gives a validator the power {}, less than 0", update.power)
            });
        }
    }
}

/// The bytes that transactions take in a block, by which CometBFT holds a proposal to its limit (`types.ComputeProtoSizeForTxs`).
fn block_bytes(txs: &[bytes::Bytes]) -> u64 {
    txs.iter()
        .map(|tx| prost::encoding::bytes::encoded_len(1, tx) as u64)
        .sum()
}

impl<A: Application> Application for Checked<A> {
    crate::forward!(
        app: echo, query, check_tx, flush, list_snapshots, load_snapshot_chunk
    );

    fn info(&self, request: RequestInfo) -> ResponseInfo {
        let answer = self.app.info(request);
        self.observe(Call::Info {
            height: answer.last_block_height,
        });
        answer
    }

    fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        let _turn = self.turn(Call::InitChain {
            initial_height: request.initial_height,
        });
        let answer = self.app.init_chain(request);
        self.check_updates("InitChain", &answer.validators);
        answer
    }

    fn commit(&self) -> ResponseCommit {
        let _turn = self.turn(Call::Commit);
        let answer = self.app.commit();
        let height = self.rules.grammar.lock().committed().unwrap_or(0);
        self.promise((0..=height).contains(&answer.retain_height), || {
            format!("Commit of height {height} retains from height {}", answer.retain_height)
        });
        answer
    }

    fn offer_snapshot(&self, request: RequestOfferSnapshot) -> ResponseOfferSnapshot {
        let height = request.snapshot.as_ref().map_or(0, |snapshot| snapshot.height);
        let answer = self.app.offer_snapshot(request);
        self.observe(Call::OfferSnapshot {
            height,
            accepted: answer.result == response_offer_snapshot::Result::Accept as i32,
        });
        answer
    }

    fn apply_snapshot_chunk(&self, request: RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk {
        let _turn = self.turn(Call::ApplySnapshotChunk);
        self.app.apply_snapshot_chunk(request)
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        let _turn = self.turn(Call::PrepareProposal { height: request.height });
        let (height, max) = (request.height, request.max_tx_bytes);
        let answer = self.app.prepare_proposal(request);
        let size = block_bytes(&answer.txs);
        self.promise(u64::try_from(max).is_ok_and(|max| size <= max), || {
            format!("PrepareProposal of height {height} gives {size} bytes of transactions, the limit is {max}")
        });
        answer
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        let _turn = self.turn(Call::ProcessProposal { height: request.height });
        let height = request.height;
        let answer = self.app.process_proposal(request);
        let known = [ProposalStatus::Accept as i32, ProposalStatus::Reject as i32].contains(&answer.status);
        self.promise(known, || {
            format!(
                "ProcessProposal of height {height} gives status {}, neither accept nor reject",
                answer.status
            )
        });
        answer
    }

    fn extend_vote(&self, request: RequestExtendVote) -> ResponseExtendVote {
        let _turn = self.turn(Call::ExtendVote { height: request.height });
        self.app.extend_vote(request)
    }

    fn verify_vote_extension(&self, request: RequestVerifyVoteExtension) -> ResponseVerifyVoteExtension {
        let _turn = self.turn(Call::VerifyVoteExtension { height: request.height });
        self.app.verify_vote_extension(request)
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let _turn = self.turn(Call::FinalizeBlock { height: request.height });
        let (height, txs) = (request.height, request.txs.len());
        let answer = self.app.finalize_block(request);
        let results = answer.tx_results.len();
        self.promise(results == txs, || {
            format!("FinalizeBlock of height {height} gives {results} results for {txs} transactions")
        });
        self.check_updates("FinalizeBlock", &answer.validator_updates);
        answer
    }
}
