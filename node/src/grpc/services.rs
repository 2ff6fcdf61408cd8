//! The node's own queries: what the engine knows and the application does not. Each is a row of one table, answered alike over gRPC,
//! REST and ABCI.

use std::sync::Arc;

use prost::{Message, Name};
use tenure_proto::cosmos::base::query::v1beta1::{PageRequest, PageResponse};
use tonic::Status;

use crate::chain::Chain;
use crate::engine::{Engine, EngineError};
use crate::grpc::{comet, node_info, tx};

/// Entries of a page if the request does not say.
const DEFAULT_LIMIT: u64 = 100;
/// Most entries of a page.
const MAX_LIMIT: u64 = 1_000;

/// What the services answer from.
#[derive(Clone)]
pub struct Sources {
    /// The application.
    pub chain: Arc<dyn Chain>,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Heights whose state is kept for queries.
    pub query_heights: u64,
}

/// What a method waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads what is committed; never waits for a block. Also answered over ABCI.
    Read,
    /// Hands something to the engine, which may wait for `Commit`. Never over ABCI: the engine would wait for itself.
    Send,
}

/// One method.
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// What it waits for.
    pub kind: Kind,
    /// Encoded request to encoded response. May block.
    pub answer: fn(&Sources, &[u8]) -> Result<Vec<u8>, Status>,
}

/// Every method of the node's own services.
pub const METHODS: &[Method] = &[
    read("/cosmos.base.node.v1beta1.Service/Config", node_info::config),
    read("/cosmos.base.node.v1beta1.Service/Status", node_info::status),
    read("/cosmos.base.tendermint.v1beta1.Service/ABCIQuery", comet::abci_query),
    read(
        "/cosmos.base.tendermint.v1beta1.Service/GetBlockByHeight",
        comet::block_by_height,
    ),
    read(
        "/cosmos.base.tendermint.v1beta1.Service/GetLatestBlock",
        comet::latest_block,
    ),
    read(
        "/cosmos.base.tendermint.v1beta1.Service/GetLatestValidatorSet",
        comet::latest_validators,
    ),
    read(
        "/cosmos.base.tendermint.v1beta1.Service/GetNodeInfo",
        node_info::node_info,
    ),
    read("/cosmos.base.tendermint.v1beta1.Service/GetSyncing", node_info::syncing),
    read(
        "/cosmos.base.tendermint.v1beta1.Service/GetValidatorSetByHeight",
        comet::validators_by_height,
    ),
    Method {
        path: "/cosmos.tx.v1beta1.Service/BroadcastTx",
        kind: Kind::Send,
        answer: tx::broadcast_tx,
    },
    read("/cosmos.tx.v1beta1.Service/GetBlockWithTxs", tx::block_with_txs),
    read("/cosmos.tx.v1beta1.Service/GetTx", tx::get_tx),
    read("/cosmos.tx.v1beta1.Service/GetTxsEvent", tx::txs_by_events),
];

const fn read(path: &'static str, answer: fn(&Sources, &[u8]) -> Result<Vec<u8>, Status>) -> Method {
    Method {
        path,
        kind: Kind::Read,
        answer,
    }
}

/// The method of a path.
pub fn find(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

/// Decodes a request. Status (INVALID_ARGUMENT): it does not decode.
pub(super) fn request<M: Message + Default + Name>(bytes: &[u8]) -> Result<M, Status> {
    M::decode(bytes).map_err(|e| Status::invalid_argument(format!("{}: {e}", M::full_name())))
}

/// A message of one crate as the same message of another: their bytes are the same. Status (INTERNAL): they are not.
pub(super) fn recode<A: Message, B: Message + Default>(message: &A) -> Result<B, Status> {
    B::decode(message.encode_to_vec().as_slice()).map_err(|e| Status::internal(format!("the engine's message: {e}")))
}

/// The status of an engine that did not answer.
pub(super) fn unanswered(error: EngineError) -> Status {
    match error {
        EngineError::Unavailable(reason) => Status::unavailable(reason),
        EngineError::Broken(reason) => Status::internal(reason),
    }
}

/// One page of a list in memory, and where the next begins; `next_key` is the place of its first entry. Status (INVALID_ARGUMENT): key
/// and offset together, or a key that is none.
pub(super) fn page<T: Clone>(all: &[T], request: Option<&PageRequest>) -> Result<(Vec<T>, PageResponse), Status> {
    let default = PageRequest::default();
    let request = request.unwrap_or(&default);
    let from = match (request.key.as_slice(), request.offset) {
        ([], offset) => offset,
        (_, 1..) => {
            return Err(Status::invalid_argument(
                "pagination: key and offset exclude each other",
            ))
        }
        (key, 0) => <[u8; 8]>::try_from(key).map(u64::from_be_bytes).map_err(|_| {
            Status::invalid_argument(format!(
                "pagination.key has {} bytes, must be the next_key of the page before: 8 bytes",
                key.len()
            ))
        })?,
    };
    let limit = match request.limit {
        0 => DEFAULT_LIMIT,
        limit => limit.min(MAX_LIMIT),
    };
    let to = from.saturating_add(limit);
    let place = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(all.len());
    let picked = if request.reverse {
        all.iter().rev().skip(place(from)).take(place(limit)).cloned().collect()
    } else {
        all[place(from)..place(to)].to_vec()
    };
    let response = PageResponse {
        next_key: if place(to) < all.len() {
            to.to_be_bytes().to_vec()
        } else {
            Vec::new()
        },
        total: if request.count_total || request.key.is_empty() {
            u64::try_from(all.len()).unwrap_or(u64::MAX)
        } else {
            0
        },
    };
    Ok((picked, response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_list_follow_each_other() {
        let all: Vec<u32> = (0..5).collect();
        let mut request = PageRequest {
            limit: 2,
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let (entries, next) = page(&all, Some(&request)).expect("page");
            seen.extend(entries);
            if next.next_key.is_empty() {
                break;
            }
            request.key = next.next_key;
        }
        assert_eq!(seen, all);
        let reversed = PageRequest {
            reverse: true,
            offset: 1,
            limit: 2,
            ..Default::default()
        };
        assert_eq!(page(&all, Some(&reversed)).expect("page").0, [3, 2]);
        let beyond = PageRequest {
            offset: u64::MAX,
            ..Default::default()
        };
        assert!(page(&all, Some(&beyond)).expect("page").0.is_empty());
        for (key, offset) in [(vec![1; 8], 1), (vec![1; 3], 0)] {
            let bad = PageRequest {
                key,
                offset,
                ..Default::default()
            };
            assert_eq!(
                page(&all, Some(&bad)).expect_err("bad").code(),
                tonic::Code::InvalidArgument
            );
        }
    }

    #[test]
    fn every_method_is_in_the_descriptors() {
        for method in METHODS {
            let (service, name) = method.path[1..].split_once('/').expect("path");
            let service = tenure_proto::pool().get_service_by_name(service).expect(service);
            assert!(service.methods().any(|m| m.name() == name), "{}", method.path);
        }
    }
}
