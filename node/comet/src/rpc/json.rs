//! CometBFT's answers as they are written: integers of 64 bits as text, bytes in base64 or hex, empty lists as null.

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tendermint::block::signed_header::SignedHeader;
use tendermint_proto::google::protobuf::Duration;
use tendermint_proto::v0_38::abci::{Event, EventAttribute, ExecTxResult, ResponseFinalizeBlock, ValidatorUpdate};
use tendermint_proto::v0_38::crypto::{public_key, PublicKey};
use tendermint_proto::v0_38::p2p::{DefaultNodeInfo, DefaultNodeInfoOther, ProtocolVersion};
use tendermint_proto::v0_38::types::{
    AbciParams, Block, BlockId, BlockParams, ConsensusParams, EvidenceParams, Validator, ValidatorParams, VersionParams,
};

use super::{CommittedTx, NodeStatus, RpcError};

/// Integers as text.
fn int<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|e| D::Error::custom(format!("{text:?}: {e}")))
}

/// Bytes in base64, or null.
fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    BASE64.decode(text).map_err(D::Error::custom)
}

/// Bytes in hex.
fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    hex::decode(text).map_err(D::Error::custom)
}

/// Lists whose empty form is null.
fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
pub(super) struct Status {
    node_info: NodeInfo,
    sync_info: SyncInfo,
    validator_info: ValidatorInfo,
}

#[derive(Deserialize)]
struct NodeInfo {
    protocol_version: Versions,
    id: String,
    listen_addr: String,
    network: String,
    version: String,
    #[serde(deserialize_with = "hex")]
    channels: Vec<u8>,
    moniker: String,
    other: Other,
}

#[derive(Deserialize)]
struct Versions {
    #[serde(deserialize_with = "int")]
    p2p: u64,
    #[serde(deserialize_with = "int")]
    block: u64,
    #[serde(deserialize_with = "int")]
    app: u64,
}

#[derive(Deserialize)]
struct Other {
    tx_index: String,
    rpc_address: String,
}

#[derive(Deserialize)]
struct SyncInfo {
    #[serde(deserialize_with = "hex")]
    latest_block_hash: Vec<u8>,
    #[serde(deserialize_with = "int")]
    latest_block_height: i64,
    latest_block_time: String,
    #[serde(deserialize_with = "int")]
    earliest_block_height: i64,
    catching_up: bool,
}

/// The answer of `abci_info`. CometBFT leaves out what is 0.
#[derive(Deserialize)]
pub(super) struct AppInfo {
    pub(super) response: AppState,
}

#[derive(Deserialize)]
pub(super) struct AppState {
    #[serde(default, deserialize_with = "int")]
    pub(super) last_block_height: i64,
}

/// The answer of `num_unconfirmed_txs`; `n_txs` is how many it lists, none.
#[derive(Deserialize)]
pub(super) struct Unconfirmed {
    #[serde(deserialize_with = "int")]
    pub(super) total: u64,
    #[serde(deserialize_with = "int")]
    pub(super) total_bytes: u64,
}

/// An entry of `validators`, and `validator_info` of `status`, which has no priority.
#[derive(Deserialize)]
pub(super) struct ValidatorInfo {
    #[serde(deserialize_with = "hex")]
    address: Vec<u8>,
    pub_key: Key,
    #[serde(deserialize_with = "int")]
    voting_power: i64,
    #[serde(default, deserialize_with = "int")]
    proposer_priority: i64,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "value")]
enum Key {
    #[serde(rename = "tendermint/PubKeyEd25519", deserialize_with = "base64")]
    Ed25519(Vec<u8>),
    #[serde(rename = "tendermint/PubKeySecp256k1", deserialize_with = "base64")]
    Secp256k1(Vec<u8>),
}

impl ValidatorInfo {
    pub(super) fn decode(self) -> Validator {
        let sum = match self.pub_key {
            Key::Ed25519(bytes) => public_key::Sum::Ed25519(bytes),
            Key::Secp256k1(bytes) => public_key::Sum::Secp256k1(bytes),
        };
        Validator {
            address: self.address,
            pub_key: Some(PublicKey { sum: Some(sum) }),
            voting_power: self.voting_power,
            proposer_priority: self.proposer_priority,
        }
    }
}

impl Status {
    pub(super) fn decode(self) -> Result<NodeStatus, String> {
        let Self {
            node_info: node,
            sync_info: sync,
            validator_info,
        } = self;
        let time = &sync.latest_block_time;
        Ok(NodeStatus {
            node: DefaultNodeInfo {
                protocol_version: Some(ProtocolVersion {
                    p2p: node.protocol_version.p2p,
                    block: node.protocol_version.block,
                    app: node.protocol_version.app,
                }),
                default_node_id: node.id,
                listen_addr: node.listen_addr,
                network: node.network,
                version: node.version,
                channels: node.channels,
                moniker: node.moniker,
                other: Some(DefaultNodeInfoOther {
                    tx_index: node.other.tx_index,
                    rpc_address: node.other.rpc_address,
                }),
            },
            latest_height: sync.latest_block_height,
            latest_block_hash: sync.latest_block_hash,
            latest_block_time: tendermint::Time::parse_from_rfc3339(time)
                .map_err(|e| format!("latest_block_time {time:?}: {e}"))?,
            earliest_height: sync.earliest_block_height,
            catching_up: sync.catching_up,
            validator: validator_info.decode(),
        })
    }
}

#[derive(Deserialize)]
pub(super) struct NetInfo {
    #[serde(deserialize_with = "int")]
    pub n_peers: u64,
}

#[derive(Deserialize)]
pub(super) struct Sent {
    pub code: u32,
    #[serde(deserialize_with = "hex")]
    pub data: Vec<u8>,
    pub log: String,
    pub codespace: String,
}

#[derive(Deserialize)]
pub(super) struct BlockAnswer {
    block_id: serde_json::Value,
    block: Option<tendermint::Block>,
}

impl BlockAnswer {
    /// A block with its id; the id of no block is empty, which is no valid id.
    pub(super) fn decode(self, method: &'static str) -> Result<Option<(BlockId, Block)>, RpcError> {
        let Some(block) = self.block else { return Ok(None) };
        let id: tendermint::block::Id = serde_json::from_value(self.block_id).map_err(|e| RpcError::Malformed {
            method,
            reason: e.to_string(),
        })?;
        Ok(Some((id.into(), block.into())))
    }
}

#[derive(Deserialize)]
pub(super) struct CommitAnswer {
    pub signed_header: SignedHeader,
}

#[derive(Deserialize)]
pub(super) struct Validators {
    #[serde(deserialize_with = "int")]
    pub block_height: i64,
    #[serde(deserialize_with = "list")]
    pub validators: Vec<ValidatorInfo>,
    #[serde(deserialize_with = "int")]
    pub total: usize,
}

#[derive(Deserialize)]
pub(super) struct FoundTxs {
    #[serde(deserialize_with = "list")]
    pub txs: Vec<TxAnswer>,
    #[serde(rename = "total_count", deserialize_with = "int")]
    pub total: u64,
}

#[derive(Deserialize)]
pub(super) struct TxAnswer {
    #[serde(deserialize_with = "int")]
    height: i64,
    index: u32,
    tx_result: TxResult,
    #[serde(deserialize_with = "base64")]
    tx: Vec<u8>,
}

impl TxAnswer {
    pub(super) fn decode(self) -> CommittedTx {
        CommittedTx {
            height: self.height,
            index: self.index,
            tx: self.tx,
            result: self.tx_result.decode(),
        }
    }
}

#[derive(Deserialize)]
struct TxResult {
    code: u32,
    #[serde(deserialize_with = "base64")]
    data: Vec<u8>,
    log: String,
    info: String,
    #[serde(deserialize_with = "int")]
    gas_wanted: i64,
    #[serde(deserialize_with = "int")]
    gas_used: i64,
    #[serde(deserialize_with = "list")]
    events: Vec<EventJson>,
    codespace: String,
}

#[derive(Deserialize)]
struct EventJson {
    r#type: String,
    #[serde(default, deserialize_with = "list")]
    attributes: Vec<AttributeJson>,
}

#[derive(Deserialize)]
struct AttributeJson {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    index: bool,
}

impl EventJson {
    fn decode(self) -> Event {
        let attribute = |a: AttributeJson| EventAttribute {
            key: a.key,
            value: a.value,
            index: a.index,
        };
        Event {
            r#type: self.r#type,
            attributes: self.attributes.into_iter().map(attribute).collect(),
        }
    }
}

impl TxResult {
    fn decode(self) -> ExecTxResult {
        ExecTxResult {
            code: self.code,
            data: self.data.into(),
            log: self.log,
            info: self.info,
            gas_wanted: self.gas_wanted,
            gas_used: self.gas_used,
            events: self.events.into_iter().map(EventJson::decode).collect(),
            codespace: self.codespace,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct BlockResults {
    #[serde(deserialize_with = "list")]
    txs_results: Vec<TxResult>,
    #[serde(deserialize_with = "list")]
    finalize_block_events: Vec<EventJson>,
    #[serde(deserialize_with = "list")]
    validator_updates: Vec<UpdateJson>,
    consensus_param_updates: Option<ParamsJson>,
    #[serde(deserialize_with = "base64")]
    app_hash: Vec<u8>,
}

#[derive(Deserialize)]
struct UpdateJson {
    pub_key: SumJson,
    /// Left out at zero.
    #[serde(default, deserialize_with = "int")]
    power: i64,
}

#[derive(Deserialize)]
struct SumJson {
    #[serde(rename = "Sum")]
    sum: OneOf,
}

#[derive(Deserialize)]
struct OneOf {
    value: KeyBytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeyBytes {
    #[serde(deserialize_with = "base64")]
    Ed25519(Vec<u8>),
    #[serde(deserialize_with = "base64")]
    Secp256k1(Vec<u8>),
}

impl UpdateJson {
    fn decode(self) -> ValidatorUpdate {
        let sum = match self.pub_key.sum.value {
            KeyBytes::Ed25519(bytes) => public_key::Sum::Ed25519(bytes),
            KeyBytes::Secp256k1(bytes) => public_key::Sum::Secp256k1(bytes),
        };
        ValidatorUpdate {
            pub_key: Some(PublicKey { sum: Some(sum) }),
            power: self.power,
        }
    }
}

/// Sections and fields that are zero are left out.
#[derive(Deserialize)]
struct ParamsJson {
    block: Option<BlockParamsJson>,
    evidence: Option<EvidenceParamsJson>,
    validator: Option<ValidatorParams>,
    version: Option<VersionJson>,
    abci: Option<AbciJson>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BlockParamsJson {
    #[serde(deserialize_with = "int")]
    max_bytes: i64,
    #[serde(deserialize_with = "int")]
    max_gas: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EvidenceParamsJson {
    #[serde(deserialize_with = "int")]
    max_age_num_blocks: i64,
    /// Nanoseconds.
    #[serde(deserialize_with = "int")]
    max_age_duration: i64,
    #[serde(deserialize_with = "int")]
    max_bytes: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VersionJson {
    #[serde(deserialize_with = "int")]
    app: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AbciJson {
    #[serde(deserialize_with = "int")]
    vote_extensions_enable_height: i64,
}

impl ParamsJson {
    fn decode(self) -> ConsensusParams {
        const NANOS: i64 = 1_000_000_000;
        ConsensusParams {
            block: self.block.map(|b| BlockParams {
                max_bytes: b.max_bytes,
                max_gas: b.max_gas,
            }),
            evidence: self.evidence.map(|e| EvidenceParams {
                max_age_num_blocks: e.max_age_num_blocks,
                max_age_duration: Some(Duration {
                    seconds: e.max_age_duration / NANOS,
                    // A remainder of 10⁹ fits 32 bits.
                    nanos: i32::try_from(e.max_age_duration % NANOS).unwrap_or_default(),
                }),
                max_bytes: e.max_bytes,
            }),
            validator: self.validator,
            version: self.version.map(|v| VersionParams { app: v.app }),
            abci: self.abci.map(|a| AbciParams {
                vote_extensions_enable_height: a.vote_extensions_enable_height,
            }),
        }
    }
}

impl BlockResults {
    pub(super) fn decode(self) -> ResponseFinalizeBlock {
        ResponseFinalizeBlock {
            events: self.finalize_block_events.into_iter().map(EventJson::decode).collect(),
            tx_results: self.txs_results.into_iter().map(TxResult::decode).collect(),
            validator_updates: self.validator_updates.into_iter().map(UpdateJson::decode).collect(),
            consensus_param_updates: self.consensus_param_updates.map(ParamsJson::decode),
            app_hash: self.app_hash.into(),
        }
    }
}
