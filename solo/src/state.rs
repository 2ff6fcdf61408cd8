//! What the next block is built from: CometBFT's `state.State` for one validator, read back from the store.

use crate::block;
use crate::error::SoloError;
use crate::genesis::{Genesis, MAX_TOTAL_POWER};
use crate::keys::ValidatorKey;
use crate::mempool::BlockLimits;
use crate::store::{Changes, Initial, Store};
use crate::{merkle, BLOCK_PROTOCOL};
use std::time::Duration;
use tendermint::Time;
use tendermint_proto::v0_38::abci::{
    CommitInfo, ExtendedCommitInfo, ExtendedVoteInfo, ResponseFinalizeBlock, Validator, ValidatorUpdate, VoteInfo,
};
use tendermint_proto::v0_38::crypto::public_key;
use tendermint_proto::v0_38::types::{BlockId, BlockIdFlag, Commit, ConsensusParams, EvidenceList, Header};
use tendermint_proto::v0_38::version::Consensus;

/// Least time between a block and the vote for it (`voteTime` in CometBFT's consensus): what keeps block time strictly increasing.
const TIME_IOTA: Duration = Duration::from_millis(1);

/// The chain after its last executed block.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub chain_id: String,
    pub initial_height: i64,
    /// `initial_height - 1` before the first block.
    pub last_height: i64,
    pub last_block_id: BlockId,
    /// The genesis time before the first block.
    pub last_block_time: Time,
    /// The commit for the last block; empty before the first.
    pub last_commit: Commit,
    /// The time of the next block: the vote time of the last commit, or the genesis time.
    pub next_time: Time,
    /// The validator's power at the last height, the next, and the one after.
    pub powers: [i64; 3],
    pub params: ConsensusParams,
    pub app_version: u64,
    pub app_hash: Vec<u8>,
    pub last_results_hash: Vec<u8>,
}

fn missing(what: &str, height: i64) -> SoloError {
    SoloError::Corrupt(format!("{what} of height {height} is missing"))
}

impl State {
    /// The state before the first block.
    pub(crate) fn initial(genesis: &Genesis, initial: &Initial) -> Self {
        Self {
            chain_id: genesis.chain_id.clone(),
            initial_height: genesis.initial_height,
            last_height: genesis.initial_height - 1,
            last_block_id: block::nil_block_id(),
            last_block_time: genesis.genesis_time,
            last_commit: block::empty_commit(),
            next_time: genesis.genesis_time,
            powers: [initial.power; 3],
            params: initial.params.clone(),
            app_version: initial.app_version,
            app_hash: initial.app_hash.clone(),
            last_results_hash: merkle::root::<&[u8]>(&[]).to_vec(),
        }
    }

    /// The state after block `height`, whose results must be stored.
    pub(crate) fn load(store: &Store, genesis: &Genesis, height: i64) -> Result<Self, SoloError> {
        let block = store.block(height)?.ok_or_else(|| missing("block", height))?;
        let header = block.header.ok_or_else(|| missing("header", height))?;
        let commit = store.commit(height)?.ok_or_else(|| missing("commit", height))?;
        let (app_hash, last_results_hash) = store.outcome(height)?.ok_or_else(|| missing("results", height))?;
        let power = |at| store.power(at)?.ok_or_else(|| missing("validator power", at));
        Ok(Self {
            chain_id: genesis.chain_id.clone(),
            initial_height: genesis.initial_height,
            last_height: height,
            last_block_id: commit.block_id.clone().ok_or_else(|| missing("block id", height))?,
            last_block_time: block::time_of(header.time).ok_or_else(|| missing("block time", height))?,
            next_time: vote_time(&commit).ok_or_else(|| missing("vote time", height))?,
            last_commit: commit,
            powers: [power(height)?, power(height + 1)?, power(height + 2)?],
            params: store
                .params(height + 1)?
                .ok_or_else(|| missing("consensus params", height + 1))?,
            app_version: store
                .app_version(height + 1)?
                .ok_or_else(|| missing("app version", height + 1))?,
            app_hash,
            last_results_hash,
        })
    }

    /// Height of the next block.
    pub(crate) fn next_height(&self) -> i64 {
        self.last_height + 1
    }

    /// Whether the next block is the chain's first.
    pub(crate) fn at_genesis(&self) -> bool {
        self.last_height < self.initial_height
    }

    /// The header of the next block with these transactions and this evidence.
    pub(crate) fn header(&self, key: &ValidatorKey, txs: &[Vec<u8>], evidence: &EvidenceList) -> Header {
        let public = key.public_key();
        Header {
            version: Some(Consensus {
                block: BLOCK_PROTOCOL,
                app: self.app_version,
            }),
            chain_id: self.chain_id.clone(),
            height: self.next_height(),
            time: Some(self.next_time.into()),
            last_block_id: Some(self.last_block_id.clone()),
            last_commit_hash: block::commit_hash(&self.last_commit).to_vec(),
            data_hash: block::data_hash(txs).to_vec(),
            validators_hash: block::validators_hash(&public, self.powers[1]).to_vec(),
            next_validators_hash: block::validators_hash(&public, self.powers[2]).to_vec(),
            consensus_hash: block::params_hash(&self.params).to_vec(),
            app_hash: self.app_hash.clone(),
            last_results_hash: self.last_results_hash.clone(),
            evidence_hash: crate::evidence::list_hash(evidence).to_vec(),
            proposer_address: key.address().to_vec(),
        }
    }

    /// The vote timestamp for the next block: `now`, or just after the block's time if the clock is behind it. `None` if that
    /// would leave what a timestamp can hold.
    pub(crate) fn vote_time(&self, now: Time) -> Option<Time> {
        let least = self.next_time.checked_add(TIME_IOTA)?;
        Some(if now > least { now } else { least })
    }

    /// What `PrepareProposal` is told about the last commit.
    pub(crate) fn extended_commit_info(&self, key: &ValidatorKey) -> ExtendedCommitInfo {
        if self.at_genesis() {
            return ExtendedCommitInfo::default();
        }
        let vote = ExtendedVoteInfo {
            validator: Some(Validator {
                address: key.address().to_vec().into(),
                power: self.powers[0],
            }),
            block_id_flag: BlockIdFlag::Commit as i32,
            ..Default::default()
        };
        ExtendedCommitInfo {
            round: 0,
            votes: vec![vote],
        }
    }

    /// What a block of the next height can take, under the configured caps.
    pub(crate) fn limits(&self, max_bytes: Option<i64>, max_gas: Option<i64>) -> BlockLimits {
        let block = self.params.block.unwrap_or_default();
        let bytes = match max_bytes {
            Some(cap) if block.max_bytes < 0 || cap < block.max_bytes => cap.max(0),
            _ => block.max_bytes,
        };
        let gas = match max_gas {
            Some(cap) if cap >= 0 && (block.max_gas < 0 || cap < block.max_gas) => cap,
            _ => block.max_gas,
        };
        BlockLimits {
            data_bytes: block::max_data_bytes(bytes),
            gas,
        }
    }
}

/// The last commit as `ProcessProposal` and `FinalizeBlock` of block `height` see it. `power` is the validator's at `height - 1`.
pub(crate) fn commit_info(initial_height: i64, height: i64, address: [u8; 20], power: i64) -> CommitInfo {
    if height == initial_height {
        return CommitInfo::default();
    }
    let vote = VoteInfo {
        validator: Some(Validator {
            address: address.to_vec().into(),
            power,
        }),
        block_id_flag: BlockIdFlag::Commit as i32,
    };
    CommitInfo {
        round: 0,
        votes: vec![vote],
    }
}

/// The time of the block after a commit: the weighted median of its timestamps, of which there is one.
fn vote_time(commit: &Commit) -> Option<Time> {
    block::time_of(commit.signatures.first()?.timestamp)
}

/// The power that validator updates leave the local key with; `None` if they are empty. Errors if they would bring in another
/// key or remove this one: the solo engine signs with one key.
pub(crate) fn updated_power(key: &ValidatorKey, updates: &[ValidatorUpdate]) -> Result<Option<i64>, String> {
    let local = hex::encode_upper(key.public_key());
    let mut power = None;
    for update in updates {
        match update.pub_key.as_ref().and_then(|k| k.sum.as_ref()) {
            Some(public_key::Sum::Ed25519(bytes)) if bytes.as_slice() == key.public_key() => {}
            Some(public_key::Sum::Ed25519(bytes) | public_key::Sum::Secp256k1(bytes)) => {
                return Err(format!(
                    "validator update names key {}, but the solo engine signs with {local} alone; several validators need CometBFT",
                    hex::encode_upper(bytes)
                ))
            }
            None => return Err("validator update without a key".into()),
        }
        if update.power <= 0 {
            return Err(format!(
                "validator update sets the power of the only validator {local} to {}",
                update.power
            ));
        }
        if update.power > MAX_TOTAL_POWER {
            return Err(format!(
                "validator power {} exceeds the limit {}",
                update.power, MAX_TOTAL_POWER
            ));
        }
        if power.replace(update.power).is_some() {
            return Err(format!("two validator updates for key {local}"));
        }
    }
    Ok(power)
}

/// Checks the answer to `FinalizeBlock` and draws from it what later heights need.
pub(crate) fn changes(
    key: &ValidatorKey,
    params: &ConsensusParams,
    height: i64,
    txs: usize,
    response: &ResponseFinalizeBlock,
) -> Result<Changes, SoloError> {
    let fail = |reason| SoloError::App { height, reason };
    if response.tx_results.len() != txs {
        return Err(fail(format!(
            "FinalizeBlock returned {} results for {txs} transactions",
            response.tx_results.len()
        )));
    }
    let power = updated_power(key, &response.validator_updates).map_err(fail)?;
    let params = match &response.consensus_param_updates {
        None => None,
        Some(update) => {
            let next = crate::params::updated(params, update);
            crate::params::validate(&next).map_err(|e| fail(format!("consensus_param_updates: {e}")))?;
            Some(next)
        }
    };
    Ok(Changes { power, params })
}
