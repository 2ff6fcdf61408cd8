//! `cosmos.base.tendermint.v1beta1.Service`: blocks, validators and raw ABCI queries.

use prost::Message;
use tendermint_proto::v0_38::abci::RequestQuery;
use tendermint_proto::v0_38::crypto::public_key::Sum;
use tendermint_proto::v0_38::types::Validator as EngineValidator;
use tenure_proto::cosmos::base::query::v1beta1::PageRequest;
use tenure_proto::cosmos::base::tendermint::v1beta1::{
    AbciQueryRequest, AbciQueryResponse, Block as SdkBlock, GetBlockByHeightRequest, GetBlockByHeightResponse,
    GetLatestBlockRequest, GetLatestBlockResponse, GetLatestValidatorSetRequest, GetLatestValidatorSetResponse,
    GetValidatorSetByHeightRequest, GetValidatorSetByHeightResponse, Header as SdkHeader, ProofOp, ProofOps, Validator,
};
use tenure_proto::cosmos::crypto::{ed25519, secp256k1};
use tenure_proto::tendermint::types::{Block, BlockId};
use tenure_proto::Any;
use tenure_types::address::VALCONS_PREFIX;
use tenure_types::Address;
use tonic::Status;

use crate::engine::{BlockRecord, Engine};
use crate::grpc::services::{page, recode, request, unanswered, Sources};

/// A height that is asked for. Status: it is not one, in the words of the Cosmos SDK.
pub(super) fn height(engine: &dyn Engine, height: i64) -> Result<i64, Status> {
    let latest = engine.head().map_or(0, |head| head.height);
    if height < 1 || height > latest {
        return Err(Status::invalid_argument(format!(
            "requested block height {height} is not between 1 and the chain's {latest}"
        )));
    }
    Ok(height)
}

/// A block that must be there. Status (NOT_FOUND): it is not kept any more, or there is none yet.
pub(super) fn block(engine: &dyn Engine, height: Option<i64>) -> Result<BlockRecord, Status> {
    let missing = || match height {
        Some(height) => Status::not_found(format!("block {height} is not kept on this node any more")),
        None => Status::not_found("the chain has no block yet: ask again after the first"),
    };
    engine.block(height).map_err(unanswered)?.ok_or_else(missing)
}

/// A block in the three forms in which clients read it.
struct Shown {
    id: BlockId,
    block: Block,
    sdk: SdkBlock,
}

fn shown(record: &BlockRecord) -> Result<Shown, Status> {
    let block: Block = recode(&record.block)?;
    let header = block.header.clone().unwrap_or_default();
    let sdk = SdkBlock {
        header: Some(SdkHeader {
            version: header.version,
            chain_id: header.chain_id,
            height: header.height,
            time: header.time,
            last_block_id: header.last_block_id,
            last_commit_hash: header.last_commit_hash,
            data_hash: header.data_hash,
            validators_hash: header.validators_hash,
            next_validators_hash: header.next_validators_hash,
            consensus_hash: header.consensus_hash,
            app_hash: header.app_hash,
            last_results_hash: header.last_results_hash,
            evidence_hash: header.evidence_hash,
            proposer_address: bech32(&header.proposer_address)?,
        }),
        data: block.data.clone(),
        evidence: block.evidence.clone(),
        last_commit: block.last_commit.clone(),
    };
    let id = recode(&record.block_id)?;
    Ok(Shown { id, block, sdk })
}

/// The address of a consensus key.
fn bech32(address: &[u8]) -> Result<String, Status> {
    let address: [u8; 20] = address
        .try_into()
        .map_err(|_| Status::internal(format!("a validator's address has {} bytes", address.len())))?;
    Ok(Address::new(address).to_bech32(VALCONS_PREFIX))
}

pub(super) fn latest_block(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    request::<GetLatestBlockRequest>(bytes)?;
    let Shown { id, block, sdk } = shown(&block(&*sources.engine, None)?)?;
    let response = GetLatestBlockResponse {
        block_id: Some(id),
        block: Some(block),
        sdk_block: Some(sdk),
    };
    Ok(response.encode_to_vec())
}

pub(super) fn block_by_height(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let engine = &*sources.engine;
    let height = height(engine, request::<GetBlockByHeightRequest>(bytes)?.height)?;
    let Shown { id, block, sdk } = shown(&block(engine, Some(height))?)?;
    let response = GetBlockByHeightResponse {
        block_id: Some(id),
        block: Some(block),
        sdk_block: Some(sdk),
    };
    Ok(response.encode_to_vec())
}

/// One page of a height's validators.
fn validators(
    engine: &dyn Engine,
    height: Option<i64>,
    request: Option<&PageRequest>,
) -> Result<GetValidatorSetByHeightResponse, Status> {
    let set = engine.validators(height).map_err(unanswered)?;
    let set = set.ok_or_else(|| match height {
        Some(height) => Status::not_found(format!("the validators of height {height} are not kept on this node")),
        None => Status::not_found("the chain has no block yet: ask again after the first"),
    })?;
    let (picked, pagination) = page(&set.validators, request)?;
    Ok(GetValidatorSetByHeightResponse {
        block_height: set.height,
        validators: picked.iter().map(validator).collect::<Result<_, _>>()?,
        pagination: Some(pagination),
    })
}

fn validator(validator: &EngineValidator) -> Result<Validator, Status> {
    Ok(Validator {
        address: bech32(&validator.address)?,
        pub_key: validator.pub_key.as_ref().and_then(|key| key.sum.as_ref()).map(key),
        voting_power: validator.voting_power,
        proposer_priority: validator.proposer_priority,
    })
}

fn key(sum: &Sum) -> Any {
    match sum {
        Sum::Ed25519(key) => tenure_proto::any(&ed25519::PubKey { key: key.clone() }),
        Sum::Secp256k1(key) => tenure_proto::any(&secp256k1::PubKey { key: key.clone() }),
    }
}

pub(super) fn latest_validators(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let asked: GetLatestValidatorSetRequest = request(bytes)?;
    let found = validators(&*sources.engine, None, asked.pagination.as_ref())?;
    let response = GetLatestValidatorSetResponse {
        block_height: found.block_height,
        validators: found.validators,
        pagination: found.pagination,
    };
    Ok(response.encode_to_vec())
}

pub(super) fn validators_by_height(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let asked: GetValidatorSetByHeightRequest = request(bytes)?;
    let engine = &*sources.engine;
    let height = height(engine, asked.height)?;
    Ok(validators(engine, Some(height), asked.pagination.as_ref())?.encode_to_vec())
}

pub(super) fn abci_query(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let asked: AbciQueryRequest = request(bytes)?;
    let answer = sources.chain.abci_query(RequestQuery {
        data: asked.data.into(),
        path: asked.path,
        height: asked.height,
        prove: asked.prove,
    });
    let op = |op: tendermint_proto::v0_38::crypto::ProofOp| ProofOp {
        r#type: op.r#type,
        key: op.key,
        data: op.data,
    };
    let response = AbciQueryResponse {
        code: answer.code,
        log: answer.log,
        info: answer.info,
        index: answer.index,
        key: answer.key.into(),
        value: answer.value.into(),
        proof_ops: answer.proof_ops.map(|ops| ProofOps {
            ops: ops.ops.into_iter().map(op).collect(),
        }),
        height: answer.height,
        codespace: answer.codespace,
    };
    Ok(response.encode_to_vec())
}
