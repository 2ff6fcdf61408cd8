//! Optimistic execution: a proposal is executed while the validators vote on it, so that its result is there when it is decided.
//!
//! ProcessProposal answers at once; a thread of its own executes the block on the committed state and stages the outcome, which leaves no
//! trace unless it is committed. FinalizeBlock takes the outcome of a candidate whose whole proposal (hash, height, time, transactions, last
//! commit, misbehaviour, next validators' hash, proposer) is the decided one, and otherwise executes the block itself: the answers are the same.
//! There are at most [`MOST`] candidates. A decision, a commit or a new consensus connection ends them all.
//!
//! A candidate that fails is only dropped. It may never be decided, and if it is, FinalizeBlock meets the same failure where it counts.

use std::{
    collections::VecDeque,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc,
    },
    thread::{Builder, JoinHandle},
};

use tendermint_proto::v0_38::abci::{RequestFinalizeBlock, RequestProcessProposal, ResponseFinalizeBlock};
use tenure_sdk::Result;

use crate::{
    app::{App, Inner, Pending},
    tx::Tx,
};

/// Most candidates at a time: that of this round, and that of the one before, on which the validators may be locked.
const MOST: usize = 2;

/// A block that was executed.
pub(crate) struct Executed {
    pub(crate) response: ResponseFinalizeBlock,
    pub(crate) pending: Pending,
}

/// Proposals that are being executed or were.
#[derive(Default)]
pub(crate) struct Candidates(VecDeque<Candidate>);

struct Candidate {
    /// As FinalizeBlock will ask for it.
    proposal: RequestFinalizeBlock,
    stop: Arc<AtomicBool>,
    executing: JoinHandle<Result<Option<Executed>>>,
}

/// How blocks were executed since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StagingCounts {
    /// Proposals that were executed before they were decided, to the end or not.
    pub staged: u64,
    /// Decided blocks whose result was there already, or being made.
    pub reused: u64,
    /// Decided blocks that FinalizeBlock had to execute itself.
    pub executed: u64,
}

/// The counters behind [`StagingCounts`].
#[derive(Default)]
pub(crate) struct Counters {
    staged: AtomicU64,
    reused: AtomicU64,
    executed: AtomicU64,
}

impl App {
    /// Forgets what was executed and not committed: to be called when the engine makes a new consensus connection, and before the
    /// application is closed. Waits until no candidate is executed any more. The engine repeats InitChain or FinalizeBlock as it needs.
    pub fn reset_uncommitted(&self) {
        let mut dropped = std::mem::take(&mut *self.0.consensus.lock());
        let candidates = std::mem::take(&mut dropped.candidates.0);
        candidates.iter().for_each(Candidate::stop);
        for candidate in candidates {
            drop(candidate.executing.join());
        }
        // The state of the genesis, over which it was made, may be gone.
        *self.0.check.lock() = None;
    }

    /// How blocks were executed since the start.
    pub fn staging(&self) -> StagingCounts {
        let counters = &self.0.counters;
        StagingCounts {
            staged: counters.staged.load(Ordering::Relaxed),
            reused: counters.reused.load(Ordering::Relaxed),
            executed: counters.executed.load(Ordering::Relaxed),
        }
    }

    /// Begins to execute a proposal that was accepted.
    pub(crate) fn stage(&self, request: RequestProcessProposal, txs: Vec<Result<Arc<Tx>>>) {
        let proposal = RequestFinalizeBlock {
            txs: request.txs,
            decided_last_commit: request.proposed_last_commit,
            misbehavior: request.misbehavior,
            hash: request.hash,
            height: request.height,
            time: request.time,
            next_validators_hash: request.next_validators_hash,
            proposer_address: request.proposer_address,
        };
        let mut consensus = self.0.consensus.lock();
        let candidates = &mut consensus.candidates.0;
        if candidates.iter().any(|candidate| candidate.proposal == proposal) {
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (inner, stopped) = (self.0.clone(), stop.clone());
        let (height, time) = (proposal.height, proposal.time);
        let execute = move || inner.execute(height, time, &txs, &stopped);
        match Builder::new().name("optimistic".to_owned()).spawn(execute) {
            Ok(executing) => candidates.push_back(Candidate {
                proposal,
                stop,
                executing,
            }),
            // FinalizeBlock executes it then.
            Err(error) => tracing::warn!(%error, "a proposal is not executed ahead: no thread"),
        }
        while candidates.len() > MOST {
            candidates.pop_front().inspect(Candidate::stop);
        }
        self.0.counters.staged.fetch_add(1, Ordering::Relaxed);
    }
}

impl Inner {
    /// The outcome of a decided block, if it was staged. Ends all candidates: there is nothing left to vote on.
    pub(crate) fn staged(&self, decided: &RequestFinalizeBlock) -> Option<Executed> {
        let candidates = std::mem::take(&mut self.consensus.lock().candidates.0);
        let mut found = None;
        for candidate in candidates {
            if candidate.proposal == *decided {
                found = Some(candidate);
            } else {
                candidate.stop();
            }
        }
        let outcome = found.and_then(|candidate| match candidate.executing.join() {
            Ok(Ok(executed)) => executed,
            Ok(Err(error)) => {
                tracing::warn!(height = decided.height, %error, "the block failed when it was executed ahead");
                None
            }
            Err(_) => {
                tracing::warn!(height = decided.height, "the execution of the block ahead panicked");
                None
            }
        });
        let counter = match outcome {
            Some(_) => &self.counters.reused,
            None => &self.counters.executed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }
}

impl Candidate {
    /// Asks the thread to end; nobody waits for it.
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Candidates {
    fn drop(&mut self) {
        self.0.iter().for_each(Candidate::stop);
    }
}
