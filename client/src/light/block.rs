//! Headers with their commits and validators, as a node's JSON-RPC hands them out, and who signed one.

use serde::de::DeserializeOwned;
use serde_json::{json, Value};
use tendermint::{
    block::{signed_header::SignedHeader, CommitSig},
    crypto::default::signature::Verifier as Ed25519,
    node,
    validator::{Info, Set},
    vote::{SignedVote, Type, ValidatorIndex, Vote},
};
use tendermint_light_client_verifier::types::LightBlock;

use crate::{
    rpc::{malformed, Node},
    Error, Result,
};

/// Most validators that are fetched for one height: CometBFT allows no more.
pub const MAX_VALIDATORS: usize = 10_000;
const PAGE: usize = 100;

/// A validator whose signature is under a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Consensus address, upper-case hex.
    pub address: String,
    /// Its voting power.
    pub power: u64,
}

pub(super) async fn latest_height<N: Node>(node: &N) -> Result<u64> {
    let status = node.call("status", json!({})).await?;
    let height = &status["sync_info"]["latest_block_height"];
    let height = height.as_str().and_then(|h| h.parse().ok());
    height.ok_or_else(|| malformed("status: sync_info.latest_block_height is no number".to_owned()))
}

/// Header, commit and validators of a height and the validators of the next. Nothing is verified.
pub(super) async fn fetch<N: Node>(node: &N, height: u64) -> Result<LightBlock> {
    let next = height.saturating_add(1);
    let (signed_header, validators, next_validators) =
        tokio::try_join!(commit(node, height), validators(node, height), validators(node, next))?;
    let found = signed_header.header.height;
    if found.value() != height {
        return Err(Error::Verification(format!(
            "the node was asked for header {height} and gave header {found}"
        )));
    }
    // The peer is of no use to us: a light block carries one so that clients with several sources can tell them apart.
    Ok(LightBlock::new(
        signed_header,
        validators,
        next_validators,
        node::Id::new([0; 20]),
    ))
}

async fn commit<N: Node>(node: &N, height: u64) -> Result<SignedHeader> {
    let mut answer = node.call("commit", json!({ "height": height.to_string() })).await?;
    parse("commit: signed_header", answer["signed_header"].take())
}

async fn validators<N: Node>(node: &N, height: u64) -> Result<Set> {
    let mut all: Vec<Info> = Vec::new();
    for page in 1.. {
        let params = json!({ "height": height.to_string(), "page": page.to_string(), "per_page": PAGE.to_string() });
        let mut answer = node.call("validators", params).await?;
        let found: Vec<Info> = parse("validators: validators", answer["validators"].take())?;
        let total = answer["total"].as_str().and_then(|t| t.parse::<usize>().ok());
        let total = total.ok_or_else(|| malformed("validators: total is no number".to_owned()))?;
        if total > MAX_VALIDATORS {
            return Err(malformed(format!(
                "validators: total is {total}, at most {MAX_VALIDATORS} are possible"
            )));
        }
        let empty = found.is_empty();
        all.extend(found);
        if all.len() >= total || empty {
            break;
        }
    }
    Ok(Set::without_proposer(all))
}

pub(super) fn parse<T: DeserializeOwned>(what: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| malformed(format!("{what}: {e}")))
}

/// Who signed a block, each signature verified, in order of power; and the power of all its validators.
pub(super) fn signers(block: &LightBlock) -> Result<(Vec<Signer>, u64)> {
    let (header, commit) = (&block.signed_header.header, &block.signed_header.commit);
    let mut signers = Vec::new();
    for (index, signature) in commit.signatures.iter().enumerate() {
        let CommitSig::BlockIdFlagCommit {
            validator_address,
            timestamp,
            signature,
        } = signature
        else {
            continue;
        };
        let wrong = || {
            Error::Verification(format!(
                "the signature of {validator_address} under header {} is wrong",
                header.height
            ))
        };
        let info = block.validators.validator(*validator_address).ok_or_else(wrong)?;
        let vote = Vote {
            vote_type: Type::Precommit,
            height: commit.height,
            round: commit.round,
            block_id: Some(commit.block_id),
            timestamp: Some(*timestamp),
            validator_address: *validator_address,
            validator_index: ValidatorIndex::try_from(index).map_err(|_| wrong())?,
            signature: signature.clone(),
            extension: Vec::new(),
            extension_signature: None,
        };
        let vote = SignedVote::from_vote(vote, header.chain_id.clone()).ok_or_else(wrong)?;
        info.verify_signature::<Ed25519>(&vote.sign_bytes(), vote.signature())
            .map_err(|_| wrong())?;
        signers.push(Signer {
            address: info.address.to_string(),
            power: info.power(),
        });
    }
    signers.sort_by(|a, b| b.power.cmp(&a.power).then_with(|| a.address.cmp(&b.address)));
    Ok((signers, block.validators.total_voting_power().value()))
}
