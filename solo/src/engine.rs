//! The engine thread: makes one block after another.

#![allow(clippy::disallowed_methods)] // Pace is wall time by nature; block time comes from `Clock`.

use crate::block;
use crate::clock::Clock;
use crate::config::CrashPoint;
use crate::core::{Core, Head, Life};
use crate::error::SoloError;
use crate::evidence;
use crate::keys::{SignState, ValidatorKey};
use crate::mempool::BlockLimits;
use crate::state::{self, State};
use prost::Message;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tendermint::Time;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::response_process_proposal::ProposalStatus;
use tendermint_proto::v0_38::abci::{
    RequestFinalizeBlock, RequestPrepareProposal, RequestProcessProposal, ResponseFinalizeBlock,
};
use tendermint_proto::v0_38::types::{Block, BlockIdFlag, Commit, CommitSig};

/// How long the engine sleeps at most before it looks at the clock again while the genesis time is in the future.
const GENESIS_POLL: Duration = Duration::from_millis(200);

/// What other threads ask of the engine.
pub(crate) enum Command {
    /// Make a block now and tell its head.
    Produce(Sender<Result<Head, Arc<SoloError>>>),
    /// A transaction waits.
    Wake,
    /// End the thread.
    Stop,
}

/// When blocks are made and how large they may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Zero is manual.
    pub interval: Duration,
    pub gap: Duration,
    pub max_bytes: Option<i64>,
    pub max_gas: Option<i64>,
}

/// Everything the thread owns.
pub(crate) struct Engine<A> {
    pub app: A,
    pub core: Arc<Core>,
    pub key: ValidatorKey,
    pub sign_state: SignState,
    pub clock: Arc<dyn Clock>,
    pub state: State,
    pub pace: Pace,
    pub crash_at: Option<(i64, CrashPoint)>,
    /// Blocks below this height the application does not need any more.
    pub retain_height: i64,
}

impl<A: Application> Engine<A> {
    /// Runs until told to stop or a fatal error.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) -> Result<(), Arc<SoloError>> {
        let mut last: Option<Instant> = None;
        // Whether something waits that the next block can be expected to take.
        let mut hungry = self.core.mempool.size().0 > 0;
        if self.before_genesis() {
            tracing::info!(genesis_time = %self.state.next_time.to_rfc3339(), "the first block is not made before genesis_time");
        }
        loop {
            let command = match self.wait(last, hungry) {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => commands.recv_timeout(wait),
            };
            let reply = match command {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Command::Wake) => {
                    hungry = true;
                    continue;
                }
                Ok(Command::Produce(reply)) => Some(reply),
                Err(RecvTimeoutError::Timeout) if self.before_genesis() => continue,
                Err(RecvTimeoutError::Timeout) => None,
            };
            let started = Instant::now();
            match self.produce() {
                Ok((head, more)) => {
                    last = Some(started);
                    hungry = more;
                    if let Some(reply) = reply {
                        // The asker may have gone; the block stands.
                        let _ = reply.send(Ok(head));
                    }
                }
                Err(e) => {
                    let e = Arc::new(e);
                    // Before the answer: whoever gets it finds the engine dead.
                    self.core.end(Life::Failed(e.clone()));
                    if let Some(reply) = reply {
                        let _ = reply.send(Err(e.clone()));
                    }
                    return Err(e);
                }
            }
        }
    }

    fn before_genesis(&self) -> bool {
        self.state.at_genesis() && self.clock.now() < self.state.next_time
    }

    /// How long until the next block is due; `None` in manual mode.
    fn wait(&self, last: Option<Instant>, hungry: bool) -> Option<Duration> {
        if self.pace.interval.is_zero() {
            return None;
        }
        if self.before_genesis() {
            return Some(GENESIS_POLL);
        }
        let Some(last) = last else { return Some(Duration::ZERO) };
        let pause = if hungry {
            self.pace.gap.min(self.pace.interval)
        } else {
            self.pace.interval
        };
        Some((last + pause).saturating_duration_since(Instant::now()))
    }

    fn limits(&self) -> BlockLimits {
        self.state.limits(self.pace.max_bytes, self.pace.max_gas)
    }

    fn crash(&self, height: i64, point: CrashPoint) -> Result<(), SoloError> {
        if self.crash_at == Some((height, point)) {
            return Err(SoloError::CrashPoint(format!("{point:?} of height {height}")));
        }
        Ok(())
    }

    /// Makes one block. The flag tells whether waiting transactions justify another one soon.
    fn produce(&mut self) -> Result<(Head, bool), SoloError> {
        let height = self.state.next_height();
        let fail = |reason: String| SoloError::App { height, reason };
        self.sign_state.check_new(height)?;

        let (block, encoded) = self.propose(height)?;
        let header = block.header.clone().unwrap_or_default();
        let block_id = block::block_id(&header, &encoded);

        let vote_time = self
            .state
            .vote_time(self.clock.now())
            .ok_or_else(|| fail("block time would leave the range of a timestamp (year 9999)".into()))?;
        let sign_bytes = block::vote_sign_bytes(&self.state.chain_id, height, &block_id, vote_time);
        let signature = self.key.sign(&sign_bytes);
        let commit = Commit {
            height,
            round: 0,
            block_id: Some(block_id.clone()),
            signatures: vec![CommitSig {
                block_id_flag: BlockIdFlag::Commit as i32,
                validator_address: self.key.address().to_vec(),
                timestamp: Some(vote_time.into()),
                signature: signature.to_vec(),
            }],
        };
        self.crash(height, CrashPoint::Signed)?;

        // Block first, sign state second, publication last: a crash in between leaves either no trace of the signature, or the
        // block it is for, and start raises the sign state to it.
        self.core.store.save_block(
            height,
            &encoded,
            &block_id.hash,
            &commit,
            &block.evidence.as_ref().map(evidence::hashes).unwrap_or_default(),
            self.retain_height,
        )?;
        self.crash(height, CrashPoint::BlockSaved)?;
        self.sign_state.record(height, &sign_bytes, &signature)?;
        self.crash(height, CrashPoint::SignStateSaved)?;

        let txs = block.data.clone().unwrap_or_default().txs;
        let request = finalize_request(
            self.state.initial_height,
            &self.key,
            &block,
            &block_id.hash,
            self.state.powers[0],
        );
        let response = self.app.finalize_block(request);
        let changes = state::changes(&self.key, &self.state.params, height, txs.len(), &response)?;
        self.crash(height, CrashPoint::Finalized)?;
        let archived = self.core.archive.synced();
        self.core.store.save_results(height, &response, &changes, archived)?;
        self.crash(height, CrashPoint::ResultsSaved)?;

        let core = Arc::clone(&self.core);
        let mut guard = core.mempool.lock_for_commit();
        self.retain(height, self.app.commit().retain_height)?;
        self.crash(height, CrashPoint::Committed)?;

        self.advance(height, block_id, header.time, commit, vote_time, &response, changes)?;
        let left = guard.update(&txs, &response.tx_results, self.limits());
        drop(guard);
        let head = self.core.publish(&self.state);
        tracing::debug!(
            height,
            txs = txs.len(),
            waiting = left,
            app_hash = %hex::encode_upper(&self.state.app_hash),
            "block committed"
        );
        // What an empty block left behind the application does not want now; the interval tries again.
        Ok((head, left > 0 && !txs.is_empty()))
    }

    /// Takes note of what the application told to retain. Never takes back what an earlier Commit allowed.
    fn retain(&mut self, height: i64, retain: i64) -> Result<(), SoloError> {
        if retain < 0 || retain > height {
            return Err(SoloError::App {
                height,
                reason: format!("Commit returned retain_height {retain}; it must be between 0 and the block's height"),
            });
        }
        self.retain_height = self.retain_height.max(retain);
        Ok(())
    }

    /// Asks the application for a block and for its consent to it.
    fn propose(&self, height: i64) -> Result<(Block, Vec<u8>), SoloError> {
        let fail = |reason: String| SoloError::App { height, reason };
        let mut limits = self.limits();
        let (evidence, evidence_bytes) = evidence::propose(&self.core, &self.state.params)?;
        limits.data_bytes = limits.data_bytes.saturating_sub(evidence_bytes).max(0);
        let reaped = self.core.mempool.reap(limits);
        let empty = self.state.header(&self.key, &[], &evidence);
        let response = self.app.prepare_proposal(RequestPrepareProposal {
            max_tx_bytes: limits.data_bytes,
            txs: reaped.into_iter().map(Into::into).collect(),
            local_last_commit: Some(self.state.extended_commit_info(&self.key)),
            misbehavior: evidence::misbehavior(&evidence),
            height,
            time: empty.time,
            next_validators_hash: empty.next_validators_hash.into(),
            proposer_address: empty.proposer_address.into(),
        });
        let txs: Vec<Vec<u8>> = response.txs.into_iter().map(|tx| tx.to_vec()).collect();
        let size = txs
            .iter()
            .fold(0i64, |sum, tx| sum.saturating_add(block::tx_proto_size(tx.len())));
        if size > limits.data_bytes {
            return Err(fail(format!(
                "PrepareProposal returned {size} bytes of transactions, max_tx_bytes was {}",
                limits.data_bytes
            )));
        }
        let header = self.state.header(&self.key, &txs, &evidence);
        let block = block::assemble(header, txs, evidence, self.state.last_commit.clone());
        let encoded = block.encode_to_vec();
        let header = block.header.clone().unwrap_or_default();
        let hash = block::header_hash(&header);
        let request = finalize_request(
            self.state.initial_height,
            &self.key,
            &block,
            &hash,
            self.state.powers[0],
        );
        let verdict = self.app.process_proposal(RequestProcessProposal {
            txs: request.txs,
            proposed_last_commit: request.decided_last_commit,
            misbehavior: request.misbehavior,
            hash: request.hash,
            height,
            time: request.time,
            next_validators_hash: request.next_validators_hash,
            proposer_address: request.proposer_address,
        });
        if verdict.status != ProposalStatus::Accept as i32 {
            return Err(fail(format!(
                "ProcessProposal rejected the block that PrepareProposal made (status {})",
                verdict.status
            )));
        }
        Ok((block, encoded))
    }

    #[allow(clippy::too_many_arguments)] // One call site; these are the fields of the state it replaces.
    fn advance(
        &mut self,
        height: i64,
        block_id: tendermint_proto::v0_38::types::BlockId,
        time: Option<tendermint_proto::google::protobuf::Timestamp>,
        commit: Commit,
        next_time: Time,
        response: &ResponseFinalizeBlock,
        changes: crate::store::Changes,
    ) -> Result<(), SoloError> {
        let state = &mut self.state;
        state.last_height = height;
        state.last_block_id = block_id;
        state.last_block_time =
            block::time_of(time).ok_or_else(|| SoloError::Corrupt(format!("block {height} has no time")))?;
        state.last_commit = commit;
        state.next_time = next_time;
        let [_, current, next] = state.powers;
        state.powers = [current, next, changes.power.unwrap_or(next)];
        if let Some(params) = changes.params {
            state.app_version = params.version.unwrap_or_default().app;
            state.params = params;
        }
        state.app_hash = response.app_hash.to_vec();
        state.last_results_hash = block::results_hash(&response.tx_results).to_vec();
        Ok(())
    }
}

/// The request that executes a block; `power` is the validator's at the height before.
pub(crate) fn finalize_request(
    initial_height: i64,
    key: &ValidatorKey,
    block: &Block,
    hash: &[u8],
    power: i64,
) -> RequestFinalizeBlock {
    let header = block.header.clone().unwrap_or_default();
    RequestFinalizeBlock {
        txs: block
            .data
            .iter()
            .flat_map(|d| &d.txs)
            .map(|tx| tx.clone().into())
            .collect(),
        decided_last_commit: Some(state::commit_info(initial_height, header.height, key.address(), power)),
        misbehavior: block.evidence.as_ref().map(evidence::misbehavior).unwrap_or_default(),
        hash: hash.to_vec().into(),
        height: header.height,
        time: header.time,
        next_validators_hash: header.next_validators_hash.into(),
        proposer_address: header.proposer_address.into(),
    }
}
