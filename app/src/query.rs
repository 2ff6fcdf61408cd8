//! Questions about committed states, answered from immutable snapshots: no query waits for a block, and no block for a query.

use std::sync::Arc;

use prost::Message;
use tendermint_proto::v0_38::{
    abci::{RequestQuery, ResponseQuery},
    crypto::{ProofOp, ProofOps},
};
use tenure_proto::{
    cosmos::tx::v1beta1::{SimulateRequest, SimulateResponse},
    tenure::chain::v1::{StatusRequest, StatusResponse},
};
use tenure_sdk::{module::request, Ctx, Error, Mode, Result};
use tenure_store::StoreError;
use tenure_types::sdk;

use crate::{
    app::{App, Head, Inner},
    tx::{decode, simulate, Rules},
    SOFTWARE_VERSION,
};

const SIMULATE: &str = "/cosmos.tx.v1beta1.Service/Simulate";
const STATUS: &str = "/tenure.chain.v1.Query/Status";
/// Type of both levels of a proof of the store: an ICS23 commitment proof under the Jellyfish Merkle tree's spec.
const PROOF_TYPE: &str = "ics23:jmt";

/// An answer and the height of the state it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryAnswer {
    /// The encoded response.
    pub value: Vec<u8>,
    /// Height of the state.
    pub height: u64,
}

impl App {
    /// Answers a query `/package.Service/Method`: encoded request to encoded response, on the state of a height or, without one, the latest.
    /// Never waits for a block. Errors: an unknown path (6), a height that is not kept (18), and whatever the query says.
    pub fn query(&self, path: &str, request: &[u8], height: Option<u64>) -> Result<QueryAnswer> {
        let head = self.0.head_at(height)?;
        let value = self.0.answer(&head, path, request)?;
        Ok(QueryAnswer {
            value,
            height: head.block.height,
        })
    }

    /// The paths of all queries.
    pub fn query_paths(&self) -> Vec<&'static str> {
        self.0.query_routes.keys().copied().chain([SIMULATE, STATUS]).collect()
    }

    /// Executes an encoded transaction on a scratch copy of the latest state to learn its gas and what it would do. Signatures are not
    /// checked; a missing signature, key, mode or fee is tolerated. Error: why the transaction would fail.
    pub fn simulate(&self, tx_bytes: &[u8]) -> Result<SimulateResponse> {
        self.0.simulate(tx_bytes)
    }
}

impl Inner {
    /// The committed state of a height. Error (invalid request): it is not kept, or there is none yet.
    pub(crate) fn head_at(&self, height: Option<u64>) -> Result<Arc<Head>> {
        let heads = self.heads.load();
        let refused = |message: String| Err(Error::sdk(sdk::INVALID_REQUEST, message));
        let (Some(first), Some(last)) = (heads.first(), heads.last()) else {
            return Err(Error::internal("there is no committed state"));
        };
        if last.block.height == 0 {
            return refused("the chain has no block yet: ask again after the first".to_owned());
        }
        match height.filter(|height| *height > 0) {
            None => Ok(last.clone()),
            Some(height) => match heads.iter().find(|head| head.block.height == height) {
                Some(head) => Ok(head.clone()),
                None => refused(format!(
                    "height {height} is not available: this node answers for heights {} to {}",
                    first.block.height.max(1),
                    last.block.height
                )),
            },
        }
    }

    fn answer(&self, head: &Head, path: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        if let Some(route) = self.query_routes.get(path) {
            let mut ctx = Ctx::new(head.state(&self.table), head.block.clone(), Mode::Query);
            return (route.answer)(&mut ctx, bytes);
        }
        match path {
            SIMULATE => {
                let request: SimulateRequest = request(bytes)?;
                Ok(self.simulate(&request.tx_bytes)?.encode_to_vec())
            }
            STATUS => {
                request::<StatusRequest>(bytes)?;
                Ok(status(head).encode_to_vec())
            }
            _ => Err(Error::sdk(
                sdk::UNKNOWN_REQUEST,
                format!("unknown query path {path:?}: unknown request"),
            )),
        }
    }

    fn simulate(&self, tx_bytes: &[u8]) -> Result<SimulateResponse> {
        let mut ctx = self.simulate_scratch();
        let rules = Rules::load(&mut ctx)?;
        let tx = decode(&self.msg_routes, &self.transactions, rules.chain.max_tx_bytes, tx_bytes)?;
        simulate(&mut ctx, &tx, &rules, &self.signatures)
    }

    /// ABCI Query.
    pub(crate) fn abci_query(&self, request: &RequestQuery) -> ResponseQuery {
        match self.abci_answer(request) {
            Ok(response) => response,
            Err(error) => ResponseQuery {
                code: error.code,
                codespace: error.codespace.to_owned(),
                log: log_of(&error),
                height: i64::try_from(self.head().block.height).unwrap_or(i64::MAX),
                ..Default::default()
            },
        }
    }

    fn abci_answer(&self, request: &RequestQuery) -> Result<ResponseQuery> {
        // CometBFT's clients leave the first slash out for store queries.
        let segments: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match segments.as_slice() {
            // Every peer is welcome: filters are the engine's own settings.
            ["p2p", "filter", "addr" | "id", _] => return Ok(ResponseQuery::default()),
            // Operators and engines ask before the first block too.
            ["app", "version"] => {
                return Ok(ResponseQuery {
                    value: SOFTWARE_VERSION.into(),
                    height: i64::try_from(self.head().block.height).unwrap_or(i64::MAX),
                    ..Default::default()
                })
            }
            _ => {}
        }
        let height = u64::try_from(request.height).map_err(|_| {
            Error::sdk(
                sdk::INVALID_REQUEST,
                format!("height is {}, must not be negative", request.height),
            )
        })?;
        let head = self.head_at(Some(height))?;
        let answered = |value: Vec<u8>| ResponseQuery {
            value: value.into(),
            height: i64::try_from(head.block.height).unwrap_or(i64::MAX),
            ..Default::default()
        };
        match segments.as_slice() {
            ["app", "simulate"] => Ok(answered(self.simulate(&request.data)?.encode_to_vec())),
            ["store", store, "key"] => {
                let mut response = answered(Vec::new());
                self.stored(&head, store, request, &mut response)?;
                Ok(response)
            }
            _ => self.answer(&head, &request.path, &request.data).map(answered),
        }
    }

    /// One record as it is stored, with the two levels of its proof if asked for: the key in its store, then the store in the app hash, which
    /// is in the header of the next height.
    fn stored(&self, head: &Head, store: &str, request: &RequestQuery, response: &mut ResponseQuery) -> Result<()> {
        let refused = |e: StoreError| match e {
            StoreError::UnknownStore { .. } => {
                Error::sdk(sdk::UNKNOWN_REQUEST, format!("no such store: {e}: unknown request"))
            }
            StoreError::EmptyKey { .. } | StoreError::Unprovable { .. } => {
                Error::sdk(sdk::INVALID_REQUEST, e.to_string())
            }
            broken => Error::internal(broken.to_string()),
        };
        response.key = request.data.clone();
        if !request.prove {
            response.value = head
                .view
                .get(store, &request.data)
                .map_err(refused)?
                .unwrap_or_default()
                .into();
            return Ok(());
        }
        let proof = head.view.prove(store, &request.data).map_err(refused)?;
        let op = |key: &[u8], data: Vec<u8>| ProofOp {
            r#type: PROOF_TYPE.to_owned(),
            key: key.to_vec(),
            data,
        };
        let ops = vec![
            op(&request.data, proof.inner.encode_to_vec()),
            op(store.as_bytes(), proof.outer.encode_to_vec()),
        ];
        response.value = proof.value.unwrap_or_default().into();
        response.proof_ops = Some(ProofOps { ops });
        Ok(())
    }
}

fn status(head: &Head) -> StatusResponse {
    StatusResponse {
        chain_id: head.block.chain_id.clone(),
        height: head.block.height,
        header_ms: head.block.header_ms,
        live_ms: head.block.now_ms,
        app_hash: head.view.app_hash().to_vec(),
        version: SOFTWARE_VERSION.to_owned(),
    }
}

/// The words that CosmJS and others look for in the log of a failed query.
fn log_of(error: &Error) -> String {
    let name = match error.code {
        sdk::NOT_FOUND if error.codespace == "sdk" => "NotFound",
        sdk::INVALID_REQUEST | sdk::INVALID_ADDRESS | sdk::INVALID_COINS if error.codespace == "sdk" => {
            "InvalidArgument"
        }
        _ => return error.message.clone(),
    };
    format!("rpc error: code = {name} desc = {}", error.message)
}
