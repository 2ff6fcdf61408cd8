//! What a node tells of itself: `cosmos.base.node.v1beta1.Service`, and the node's part of `cosmos.base.tendermint.v1beta1.Service`.

use prost::Message;
use tenure_proto::cosmos::base::node::v1beta1::{ConfigRequest, ConfigResponse, StatusRequest, StatusResponse};
use tenure_proto::cosmos::base::tendermint::v1beta1::{
    GetNodeInfoRequest, GetNodeInfoResponse, GetSyncingRequest, GetSyncingResponse, Module, VersionInfo,
};
use tenure_proto::tenure::chain::v1::{ParamsRequest, ParamsResponse};
use tenure_types::BASE_DENOM;
use tonic::Status;

use crate::grpc::services::{recode, request, unanswered, Sources};
use crate::grpc::status::status as refused;

/// The Cosmos SDK whose services, messages and error texts this chain keeps to; explorers choose their dialect by it.
const COSMOS_SDK: &str = "v0.50.0";
/// Micro-units of a price in one unit.
const MICRO: u64 = 1_000_000;
const PARAMS: &str = "/tenure.chain.v1.Query/Params";

pub(super) fn config(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    request::<ConfigRequest>(bytes)?;
    let params = sources.chain.query(PARAMS, &ParamsRequest {}.encode_to_vec(), None);
    let params = params.map_err(|e| refused(&e))?;
    let params = ParamsResponse::decode(params.value.as_slice())
        .map_err(|e| Status::internal(format!("the answer of {PARAMS}: {e}")))?;
    let response = ConfigResponse {
        minimum_gas_price: price(params.params.unwrap_or_default().min_gas_price_micro),
        pruning_keep_recent: sources.query_heights.to_string(),
        pruning_interval: "1".to_owned(),
        halt_height: 0,
    };
    Ok(response.encode_to_vec())
}

/// A gas price as a decimal amount: `0.005000uten`.
fn price(micro: u64) -> String {
    format!("{}.{:06}{BASE_DENOM}", micro / MICRO, micro % MICRO)
}

pub(super) fn status(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    request::<StatusRequest>(bytes)?;
    let head = sources
        .engine
        .head()
        .ok_or_else(|| Status::not_found("the chain has no block yet: ask again after the first"))?;
    let block = super::comet::block(&*sources.engine, Some(head.height))?;
    let height = u64::try_from(head.height).unwrap_or_default();
    let kept = height.saturating_sub(sources.query_heights).saturating_add(1);
    let time: tendermint_proto::google::protobuf::Timestamp = head.time.into();
    let response = StatusResponse {
        earliest_store_height: kept.max(1),
        height,
        timestamp: Some(recode(&time)?),
        app_hash: head.app_hash,
        validator_hash: block.block.header.map(|h| h.next_validators_hash).unwrap_or_default(),
    };
    Ok(response.encode_to_vec())
}

pub(super) fn syncing(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    request::<GetSyncingRequest>(bytes)?;
    let syncing = sources.engine.status().map_err(unanswered)?.catching_up;
    Ok(GetSyncingResponse { syncing }.encode_to_vec())
}

pub(super) fn node_info(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    request::<GetNodeInfoRequest>(bytes)?;
    let node = sources.engine.status().map_err(unanswered)?.node;
    let comet_version = node.version.clone();
    let response = GetNodeInfoResponse {
        default_node_info: Some(recode(&node)?),
        application_version: Some(VersionInfo {
            name: "tenure".to_owned(),
            app_name: "tenured".to_owned(),
            version: crate::version::VERSION.to_owned(),
            git_commit: crate::version::commit().to_owned(),
            build_tags: String::new(),
            go_version: concat!("rust ", env!("CARGO_PKG_RUST_VERSION")).to_owned(),
            build_deps: build_deps(&comet_version),
            cosmos_sdk_version: COSMOS_SDK.to_owned(),
        }),
    };
    Ok(response.encode_to_vec())
}

/// What this node is made of. Relayers look here, under the paths of Go, for the versions of the Cosmos SDK and of CometBFT: Hermes refuses a chain without
/// the second. The one is the SDK whose interfaces this chain keeps to, as `cosmos_sdk_version` says, and has no checksum because its code is not in here; the
/// other is the version that the engine says it has. Behind them are the libraries that really are in this binary.
fn build_deps(comet_version: &str) -> Vec<Module> {
    let spoken = [
        ("github.com/cosmos/cosmos-sdk", COSMOS_SDK.to_owned()),
        ("github.com/cometbft/cometbft", format!("v{comet_version}")),
    ];
    let spoken = spoken.into_iter().map(|(path, version)| Module {
        path: path.to_owned(),
        version,
        sum: String::new(),
    });
    let built_in = crate::version::libraries().map(|library| Module {
        path: library.name.to_owned(),
        version: format!("v{}", library.version),
        sum: match library.sha256 {
            "" => String::new(),
            sha256 => format!("sha256:{sha256}"),
        },
    });
    spoken.chain(built_in).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_price_is_a_decimal_amount() {
        assert_eq!(super::price(5_000), "0.005000uten");
        assert_eq!(super::price(12_000_001), "12.000001uten");
    }
}
