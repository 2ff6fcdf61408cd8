//! Evidence of misbehaviour: what is accepted, how it enters blocks, and what the application is told (CometBFT's package `evidence`).
//!
//! Of one validator's faults only the double vote can be shown: an attack on light clients needs a second chain whose signers this engine
//! would have to know.

use crate::block;
use crate::core::Core;
use crate::error::SoloError;
use crate::merkle::{sha256, Hash32};
use ed25519_consensus::{Signature, VerificationKey};
use prost::Message;
use serde_json::{json, Value};
use tendermint::Time;
use tendermint_proto::v0_38::abci::{Misbehavior, MisbehaviorType, Validator};
use tendermint_proto::v0_38::types::evidence::Sum;
use tendermint_proto::v0_38::types::{
    CanonicalBlockId, CanonicalPartSetHeader, CanonicalVote, ConsensusParams, DuplicateVoteEvidence, Evidence,
    EvidenceList, SignedMsgType, Vote,
};

/// What the evidence of one block can take at most, counted as CometBFT does, is a consensus parameter; this many pieces wait at most.
pub(crate) const MAX_PENDING: usize = 1_000;
const TYPE: &str = "tendermint/DuplicateVoteEvidence";

/// Reads evidence as clients send it in JSON.
pub(crate) fn from_json(value: &Value) -> Result<DuplicateVoteEvidence, String> {
    if value.is_null() {
        return Err("no evidence was provided".into());
    }
    match value["type"].as_str() {
        Some(TYPE) => {}
        Some(other) => return Err(format!("evidence of type {other:?} is not supported; only {TYPE:?} is")),
        None => return Err("evidence has no type".into()),
    }
    let mut value = value.clone();
    for vote in ["vote_a", "vote_b"] {
        for absent in ["extension", "extension_signature"] {
            if let Some(vote) = value["value"][vote].as_object_mut() {
                vote.entry(absent).or_insert(Value::Null);
            }
        }
    }
    match serde_json::from_value(value) {
        Ok(Sum::DuplicateVoteEvidence(evidence)) => Ok(evidence),
        Ok(Sum::LightClientAttackEvidence(_)) => Err(format!("only {TYPE:?} is supported")),
        Err(e) => Err(format!("evidence cannot be read: {e}")),
    }
}

/// Evidence as CometBFT writes it in JSON.
pub(crate) fn to_json(evidence: &Evidence) -> Value {
    let Some(Sum::DuplicateVoteEvidence(e)) = &evidence.sum else {
        return Value::Null;
    };
    let vote = |vote: &Option<Vote>| {
        vote.as_ref().map(|v| {
            json!({
                "type": v.r#type,
                "height": v.height.to_string(),
                "round": v.round,
                "block_id": crate::rpc::block_id(v.block_id.as_ref()),
                "timestamp": crate::rpc::time(v.timestamp),
                "validator_address": hex::encode_upper(&v.validator_address),
                "validator_index": v.validator_index,
                "signature": crate::rpc::base64(&v.signature),
                "extension": crate::rpc::nullable(&v.extension),
                "extension_signature": crate::rpc::nullable(&v.extension_signature),
            })
        })
    };
    json!({
        "type": TYPE,
        "value": {
            "vote_a": vote(&e.vote_a),
            "vote_b": vote(&e.vote_b),
            "TotalVotingPower": e.total_voting_power.to_string(),
            "ValidatorPower": e.validator_power.to_string(),
            "Timestamp": crate::rpc::time(e.timestamp),
        },
    })
}

/// Its name: SHA-256 of its encoding.
pub(crate) fn hash(evidence: &DuplicateVoteEvidence) -> Hash32 {
    sha256(&evidence.encode_to_vec())
}

/// As a block carries it.
pub(crate) fn wrap(evidence: DuplicateVoteEvidence) -> Evidence {
    Evidence {
        sum: Some(Sum::DuplicateVoteEvidence(evidence)),
    }
}

fn pieces(list: &EvidenceList) -> impl Iterator<Item = &DuplicateVoteEvidence> {
    list.evidence.iter().filter_map(|e| match &e.sum {
        Some(Sum::DuplicateVoteEvidence(e)) => Some(e),
        _ => None,
    })
}

/// The Merkle root over a block's evidence (`types.EvidenceList.Hash`).
pub(crate) fn list_hash(list: &EvidenceList) -> Hash32 {
    let items: Vec<Vec<u8>> = pieces(list).map(Message::encode_to_vec).collect();
    crate::merkle::root(&items)
}

/// Hashes of a block's evidence.
pub(crate) fn hashes(list: &EvidenceList) -> Vec<Hash32> {
    pieces(list).map(hash).collect()
}

/// What the application is told of a block's evidence.
pub(crate) fn misbehavior(list: &EvidenceList) -> Vec<Misbehavior> {
    let told = |e: &DuplicateVoteEvidence| {
        let vote = e.vote_a.clone().unwrap_or_default();
        Misbehavior {
            r#type: MisbehaviorType::DuplicateVote as i32,
            validator: Some(Validator {
                address: vote.validator_address.into(),
                power: e.validator_power,
            }),
            height: vote.height,
            time: e.timestamp,
            total_voting_power: e.total_voting_power,
        }
    };
    pieces(list).map(told).collect()
}

/// What two block ids are ordered by: hash, then the encoded part set header (`types.BlockID.Key`).
fn order(vote: &Vote) -> Vec<u8> {
    let id = vote.block_id.clone().unwrap_or_default();
    let mut out = id.hash;
    out.extend_from_slice(&id.part_set_header.unwrap_or_default().encode_to_vec());
    out
}

/// What a validator signed: the length-delimited canonical vote; a vote for no block has no block id.
fn sign_bytes(chain_id: &str, vote: &Vote) -> Vec<u8> {
    let id = vote.block_id.clone().filter(|id| !id.hash.is_empty());
    CanonicalVote {
        r#type: vote.r#type,
        height: vote.height,
        round: i64::from(vote.round),
        block_id: id.map(|id| {
            let parts = id.part_set_header.unwrap_or_default();
            CanonicalBlockId {
                hash: id.hash,
                part_set_header: Some(CanonicalPartSetHeader {
                    total: parts.total,
                    hash: parts.hash,
                }),
            }
        }),
        timestamp: vote.timestamp,
        chain_id: chain_id.to_owned(),
    }
    .encode_length_delimited_to_vec()
}

fn check_vote(name: &str, vote: Option<&Vote>) -> Result<Vote, String> {
    let vote = vote.ok_or_else(|| format!("{name} is empty"))?;
    let refuse = |why: String| Err(format!("invalid {name}: {why}"));
    let kinds = [SignedMsgType::Prevote as i32, SignedMsgType::Precommit as i32];
    if !kinds.contains(&vote.r#type) {
        return refuse(format!("type {} is no vote", vote.r#type));
    }
    if vote.height <= 0 || vote.round < 0 || vote.validator_index < 0 {
        return refuse("negative Height, Round or ValidatorIndex".into());
    }
    let id = vote.block_id.clone().unwrap_or_default();
    let parts = id.part_set_header.unwrap_or_default();
    let nil = id.hash.is_empty() && parts.hash.is_empty() && parts.total == 0;
    let complete = id.hash.len() == 32 && parts.hash.len() == 32 && parts.total > 0;
    if !nil && !complete {
        return refuse("block_id must be either empty or complete".into());
    }
    if vote.validator_address.len() != 20 {
        return refuse(format!(
            "expected ValidatorAddress size to be 20 bytes, got {} bytes",
            vote.validator_address.len()
        ));
    }
    if vote.signature.is_empty() || vote.signature.len() > 64 {
        return refuse(format!("signature has {} bytes, must have 64", vote.signature.len()));
    }
    Ok(vote.clone())
}

/// Whether evidence of a height and time is too old to count at `head`, a height and its time.
pub(crate) fn expired(params: &ConsensusParams, head: (i64, Time), height: i64, time: Time) -> bool {
    let limits = params.evidence.unwrap_or_default();
    let limit = limits.max_age_duration.unwrap_or_default();
    let age = head.1.duration_since(time).map_or(0, |age| age.as_nanos());
    let limit_ns = i128::from(limit.seconds) * 1_000_000_000 + i128::from(limit.nanos);
    head.0.saturating_sub(height) > limits.max_age_num_blocks && i128::try_from(age).unwrap_or(i128::MAX) > limit_ns
}

/// Checks evidence against the chain (`evidence/verify.go`). The inner error says what is wrong with it.
fn verify(core: &Core, evidence: &DuplicateVoteEvidence) -> Result<Result<(), String>, SoloError> {
    let (a, b) = match (
        check_vote("VoteA", evidence.vote_a.as_ref()),
        check_vote("VoteB", evidence.vote_b.as_ref()),
    ) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(e), _) | (_, Err(e)) => return Ok(Err(e)),
    };
    if order(&a) >= order(&b) {
        return Ok(Err("duplicate votes in invalid order".into()));
    }
    let height = a.height;
    let Some(header) = core.store.block(height)?.and_then(|b| b.header) else {
        return Ok(Err(format!("don't have header #{height}")));
    };
    let (time, head) = (block::time_of(header.time), core.head.borrow().clone());
    let (Some(time), Some(head)) = (time, head.filter(|h| height <= h.height)) else {
        return Ok(Err(format!("don't have header #{height}")));
    };
    if block::time_of(evidence.timestamp) != Some(time) {
        return Ok(Err(format!(
            "evidence has a different time to the block it is associated with ({time})"
        )));
    }
    let params = core.store.params(head.height.saturating_add(1))?.unwrap_or_default();
    if expired(&params, (head.height, head.time), height, time) {
        return Ok(Err(format!(
            "evidence from height {height} (created at: {time}) is too old"
        )));
    }
    let power = core.store.power(height)?.unwrap_or_default();
    let address = core.key.address();
    Ok(compare(
        &core.genesis.chain_id,
        &core.key.public_key(),
        &address,
        power,
        evidence,
        &a,
        &b,
    ))
}

fn compare(
    chain_id: &str,
    key: &Hash32,
    address: &[u8],
    power: i64,
    evidence: &DuplicateVoteEvidence,
    a: &Vote,
    b: &Vote,
) -> Result<(), String> {
    if a.validator_address != address {
        let shown = hex::encode_upper(&a.validator_address);
        return Err(format!("address {shown} was not a validator at height {}", a.height));
    }
    if (a.height, a.round, a.r#type) != (b.height, b.round, b.r#type) {
        return Err(format!(
            "h/r/s does not match: {}/{}/{} vs {}/{}/{}",
            a.height, a.round, a.r#type, b.height, b.round, b.r#type
        ));
    }
    if a.validator_address != b.validator_address {
        return Err("validator addresses do not match".into());
    }
    if evidence.validator_power != power || evidence.total_voting_power != power {
        return Err(format!(
            "voting power from evidence and our validator set does not match ({} of {} != {power} of {power})",
            evidence.validator_power, evidence.total_voting_power
        ));
    }
    let key = VerificationKey::try_from(*key).map_err(|e| e.to_string())?;
    for (name, vote) in [("VoteA", a), ("VoteB", b)] {
        let signature = Signature::try_from(vote.signature.as_slice());
        let valid = signature.is_ok_and(|s| key.verify(&s, &sign_bytes(chain_id, vote)).is_ok());
        if !valid {
            return Err(format!("verifying {name}: invalid signature"));
        }
    }
    Ok(())
}

/// Verifies evidence and keeps it for a block; its hash. What is known already is accepted again without effect. The inner error says
/// what is wrong with it.
pub(crate) fn add(core: &Core, evidence: &DuplicateVoteEvidence) -> Result<Result<Hash32, String>, SoloError> {
    let hash = hash(evidence);
    if core.store.knows_evidence(&hash)? {
        return Ok(Ok(hash));
    }
    if let Err(why) = verify(core, evidence)? {
        return Ok(Err(format!("failed to add evidence: invalid evidence: {why}")));
    }
    if core.store.pending_evidence()?.len() >= MAX_PENDING {
        return Ok(Err(format!(
            "failed to add evidence: {MAX_PENDING} pieces wait already"
        )));
    }
    core.store.add_evidence(&hash, &evidence.encode_to_vec())?;
    Ok(Ok(hash))
}

/// What the next block carries: pending evidence that still counts and fits, and its size in the block.
pub(crate) fn propose(core: &Core, params: &ConsensusParams) -> Result<(EvidenceList, i64), SoloError> {
    let max = params.evidence.unwrap_or_default().max_bytes;
    let Some(head) = core.head.borrow().clone() else {
        return Ok((EvidenceList::default(), 0));
    };
    let mut list = EvidenceList::default();
    for bytes in core.store.pending_evidence()? {
        let evidence = DuplicateVoteEvidence::decode(bytes.as_slice())
            .map_err(|e| SoloError::Corrupt(format!("pending evidence: {e}")))?;
        let height = evidence.vote_a.as_ref().map_or(0, |v| v.height);
        let time = block::time_of(evidence.timestamp).unwrap_or(head.time);
        if expired(params, (head.height, head.time), height, time) {
            core.store.drop_evidence(&hash(&evidence))?;
            continue;
        }
        list.evidence.push(wrap(evidence));
        if i64::try_from(list.encoded_len()).unwrap_or(i64::MAX) > max {
            list.evidence.pop();
            break;
        }
    }
    let size = i64::try_from(list.encoded_len()).unwrap_or(i64::MAX);
    Ok((list, size))
}
