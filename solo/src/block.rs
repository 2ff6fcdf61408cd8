//! Blocks, their hashes and the bytes a validator signs: CometBFT v0.38's `types` package, on the protobuf types.

use crate::merkle::{self, Hash32};
use prost::Message;
use tendermint::Time;
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::v0_38::abci::ExecTxResult;
use tendermint_proto::v0_38::crypto::{public_key, PublicKey};
use tendermint_proto::v0_38::types::{
    Block, BlockId, CanonicalBlockId, CanonicalPartSetHeader, CanonicalVote, Commit, ConsensusParams, Data,
    EvidenceList, HashedParams, Header, PartSetHeader, SignedMsgType, SimpleValidator,
};

/// Bytes in one part of a block (`types.BlockPartSizeBytes`).
pub(crate) const PART_BYTES: usize = 65_536;
/// The largest block the protocol allows, bytes (`types.MaxBlockSizeBytes`).
pub(crate) const MAX_BLOCK_BYTES: i64 = 104_857_600;
/// Everything of a one-validator block that is not transactions, at most: `MaxOverheadForBlock` 11 + `MaxHeaderBytes` 626 +
/// `MaxCommitBytes(1)` = 94 + 111.
const MAX_OVERHEAD_BYTES: i64 = 11 + 626 + 94 + 111;

/// `google.protobuf.BytesValue`, `StringValue` and `Int64Value` in one: field 1 holding a value. Header fields are hashed in
/// this wrapping (`types/encoding_helper.go`), and an empty value encodes to nothing.
fn wrapped_bytes(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec().encode_to_vec()
}

/// The Merkle root over a header's fields (`types.Header.Hash`).
pub fn header_hash(header: &Header) -> Hash32 {
    let fields = [
        header.version.unwrap_or_default().encode_to_vec(),
        header.chain_id.encode_to_vec(),
        header.height.encode_to_vec(),
        header.time.unwrap_or_default().encode_to_vec(),
        header
            .last_block_id
            .clone()
            .unwrap_or_else(nil_block_id)
            .encode_to_vec(),
        wrapped_bytes(&header.last_commit_hash),
        wrapped_bytes(&header.data_hash),
        wrapped_bytes(&header.validators_hash),
        wrapped_bytes(&header.next_validators_hash),
        wrapped_bytes(&header.consensus_hash),
        wrapped_bytes(&header.app_hash),
        wrapped_bytes(&header.last_results_hash),
        wrapped_bytes(&header.evidence_hash),
        wrapped_bytes(&header.proposer_address),
    ];
    merkle::root(&fields)
}

/// The block id that means "no block": the parent of the first block. Its part set header is present because the field is not
/// nullable in CometBFT's encoding.
pub(crate) fn nil_block_id() -> BlockId {
    BlockId {
        hash: Vec::new(),
        part_set_header: Some(PartSetHeader::default()),
    }
}

/// The commit inside the first block: of nothing, by nobody.
pub(crate) fn empty_commit() -> Commit {
    Commit {
        height: 0,
        round: 0,
        block_id: Some(nil_block_id()),
        signatures: Vec::new(),
    }
}

/// Part count and root over the 64 KiB parts of an encoded block (`types.NewPartSetFromData`).
pub(crate) fn part_set_header(encoded: &[u8]) -> PartSetHeader {
    let parts: Vec<&[u8]> = encoded.chunks(PART_BYTES).collect();
    // MAX_BLOCK_BYTES / PART_BYTES is 1600, far inside u32.
    PartSetHeader {
        total: parts.len() as u32,
        hash: merkle::root(&parts).to_vec(),
    }
}

/// The id of a block: header hash and part set header over its encoding.
pub fn block_id(header: &Header, encoded_block: &[u8]) -> BlockId {
    BlockId {
        hash: header_hash(header).to_vec(),
        part_set_header: Some(part_set_header(encoded_block)),
    }
}

/// Hash of a transaction list: Merkle root over the transactions' own hashes (`types.Txs.Hash`).
pub(crate) fn data_hash<T: AsRef<[u8]>>(txs: &[T]) -> Hash32 {
    let hashes: Vec<Hash32> = txs.iter().map(|tx| merkle::sha256(tx.as_ref())).collect();
    merkle::root(&hashes)
}

/// Hash of a commit: Merkle root over its signatures (`types.Commit.Hash`).
pub(crate) fn commit_hash(commit: &Commit) -> Hash32 {
    let items: Vec<Vec<u8>> = commit.signatures.iter().map(Message::encode_to_vec).collect();
    merkle::root(&items)
}

/// Hash of results: code, data, gas wanted and gas used only (`types.NewResults(..).Hash`).
pub(crate) fn results_hash(results: &[ExecTxResult]) -> Hash32 {
    let items: Vec<Vec<u8>> = results
        .iter()
        .map(|r| {
            ExecTxResult {
                code: r.code,
                data: r.data.clone(),
                gas_wanted: r.gas_wanted,
                gas_used: r.gas_used,
                ..Default::default()
            }
            .encode_to_vec()
        })
        .collect();
    merkle::root(&items)
}

/// Hash of the consensus parameters: of block size and gas only (`types.ConsensusParams.Hash`).
pub(crate) fn params_hash(params: &ConsensusParams) -> Hash32 {
    let block = params.block.unwrap_or_default();
    merkle::sha256(
        &HashedParams {
            block_max_bytes: block.max_bytes,
            block_max_gas: block.max_gas,
        }
        .encode_to_vec(),
    )
}

/// An ed25519 key in protobuf.
pub(crate) fn proto_key(key: &Hash32) -> PublicKey {
    PublicKey {
        sum: Some(public_key::Sum::Ed25519(key.to_vec())),
    }
}

/// Hash of a validator set with one member (`types.ValidatorSet.Hash`).
pub(crate) fn validators_hash(key: &Hash32, power: i64) -> Hash32 {
    merkle::root(&[SimpleValidator {
        pub_key: Some(proto_key(key)),
        voting_power: power,
    }
    .encode_to_vec()])
}

/// What a validator signs for a precommit of round 0: the length-delimited canonical vote (`types.VoteSignBytes`).
pub fn vote_sign_bytes(chain_id: &str, height: i64, block_id: &BlockId, time: Time) -> Vec<u8> {
    let parts = block_id.part_set_header.clone().unwrap_or_default();
    CanonicalVote {
        r#type: SignedMsgType::Precommit as i32,
        height,
        round: 0,
        block_id: Some(CanonicalBlockId {
            hash: block_id.hash.clone(),
            part_set_header: Some(CanonicalPartSetHeader {
                total: parts.total,
                hash: parts.hash,
            }),
        }),
        timestamp: Some(time.into()),
        chain_id: chain_id.to_string(),
    }
    .encode_length_delimited_to_vec()
}

/// Size of one transaction inside a block's data: its bytes, their length and the field tag.
pub(crate) fn tx_proto_size(len: usize) -> i64 {
    let size = len + prost::length_delimiter_len(len) + 1;
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The most bytes of transactions a block of `max_bytes` can carry (`types.MaxDataBytes` for one validator, no evidence); -1
/// means the protocol's own limit. Never negative.
pub(crate) fn max_data_bytes(max_bytes: i64) -> i64 {
    let max = if max_bytes < 0 { MAX_BLOCK_BYTES } else { max_bytes };
    (max - MAX_OVERHEAD_BYTES).max(0)
}

/// Assembles a block around `header`.
pub(crate) fn assemble(header: Header, txs: Vec<Vec<u8>>, evidence: EvidenceList, last_commit: Commit) -> Block {
    Block {
        header: Some(header),
        data: Some(Data { txs }),
        evidence: Some(evidence),
        last_commit: Some(last_commit),
    }
}

/// A timestamp as [`Time`]; `None` if it is absent or outside the years 1 to 9999.
pub(crate) fn time_of(timestamp: Option<Timestamp>) -> Option<Time> {
    timestamp.and_then(|t| Time::try_from(t).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tendermint::block::Header as DomainHeader;

    #[test]
    fn header_hash_matches_the_fixture_of_tendermint_rs() {
        // A header of a real Tendermint chain: tendermint 0.40.4, tests/support/serialization/block/header_with_known_hash.json.
        let header: DomainHeader = serde_json::from_str(
            r#"{"version":{"block":"11","app":"1"},"chain_id":"dockerchain","height":"1608","time":"2020-09-14T16:33:54.21191421Z",
            "last_block_id":{"hash":"D3B2CC7EDAFF87433A5DBCDCDF4077A56AACDE3606034262B0CDB120F62EB40B","part_set_header":
            {"total":1,"hash":"3AB411EAFE9A3B7AC013B0214990E5653112A39909289E3EA9211F07B8CD6EED"}},
            "last_commit_hash":"47071B86EFC28BEC17543967975F35191BA9BEC9C2AD77E86F63B149528D71A1",
            "data_hash":"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "validators_hash":"5E20520EC80B84044B64BA0C55B1C06D543BBD57955C27B8A9999EC526BF703C",
            "next_validators_hash":"5E20520EC80B84044B64BA0C55B1C06D543BBD57955C27B8A9999EC526BF703C",
            "consensus_hash":"048091BC7DDC283F77BFBF91D73C44DA58C3DF8A9CBC867405D8B7F3DAADA22F","app_hash":"0000000000000000",
            "last_results_hash":"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "evidence_hash":"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "proposer_address":"C8657A30D20C3BAD414624A1A963373DD500CCD3"}"#,
        )
        .unwrap();
        let raw: Header = header.clone().into();
        assert_eq!(
            hex::encode_upper(header_hash(&raw)),
            "F30A71F2409FB15AACAEDB6CC122DFA2525BEE9CAE521721B06BFDCA291B8D56"
        );
        // That chain ran on the default parameters, so its consensus hash is a fixture for HashedParams too.
        assert_eq!(
            params_hash(&crate::default_consensus_params()).as_slice(),
            raw.consensus_hash
        );
    }

    #[test]
    fn transaction_sizes_count_tag_and_length() {
        for len in [0usize, 1, 127, 128, 20_000] {
            let data = Data {
                txs: vec![vec![7; len]],
            };
            assert_eq!(tx_proto_size(len), data.encoded_len() as i64);
        }
    }

    #[test]
    fn parts_are_64_kib() {
        let one = part_set_header(&[1; 65_536]);
        let two = part_set_header(&[1; 65_537]);
        assert_eq!((one.total, two.total), (1, 2));
        assert_ne!(one.hash, two.hash);
    }
}
