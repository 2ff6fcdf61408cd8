//! The node's own queries over ABCI: Hermes and others ask `GetNodeInfo` and `Config` through `abci_query`.

use std::sync::{Arc, OnceLock};

use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{RequestQuery, ResponseQuery};
use tenure_types::sdk;
use tonic::{Code, Status};

use crate::grpc::registry::Registry;
use crate::grpc::services::{find, Kind};

/// A registry that is there only once the engine is: the engine needs the application first.
pub type LateRegistry = Arc<OnceLock<Registry>>;

/// An application whose ABCI Query also answers the node's own queries.
#[derive(Clone)]
pub struct WithNodeQueries<A> {
    app: A,
    registry: LateRegistry,
}

impl<A> WithNodeQueries<A> {
    /// Until `registry` is set, the application alone answers.
    pub fn new(app: A, registry: LateRegistry) -> Self {
        Self { app, registry }
    }

    /// The node's answer, if the path is one of its own.
    fn own(&self, request: &RequestQuery) -> Option<ResponseQuery> {
        let method = find(&request.path)?;
        let registry = self.registry.get()?;
        let answer = match method.kind {
            Kind::Read => registry.answer(method.path, &request.data, None),
            // The engine would wait for itself.
            Kind::Send => Err(Status::unimplemented(format!(
                "{} is not answered over ABCI: use gRPC, or the engine's broadcast_tx_sync",
                method.path
            ))),
        };
        Some(match answer {
            Ok(answer) => ResponseQuery {
                value: answer.value.into(),
                height: i64::try_from(answer.height).unwrap_or(i64::MAX),
                ..Default::default()
            },
            Err(status) => refusal(&status),
        })
    }
}

/// A status as the application's own refusals look: a code of codespace `sdk`, and the words that clients look for.
fn refusal(status: &Status) -> ResponseQuery {
    let (codespace, code) = match status.code() {
        Code::NotFound => ("sdk", sdk::NOT_FOUND),
        Code::InvalidArgument => ("sdk", sdk::INVALID_REQUEST),
        Code::Unimplemented => ("sdk", sdk::UNKNOWN_REQUEST),
        _ => (tenure_types::error::INTERNAL, 1),
    };
    ResponseQuery {
        code,
        codespace: codespace.to_owned(),
        log: format!("rpc error: code = {:?} desc = {}", status.code(), status.message()),
        ..Default::default()
    }
}

impl<A: Application> Application for WithNodeQueries<A> {
    tenure_abci::forward!(
        app: echo, info, init_chain, check_tx, flush, commit, list_snapshots, offer_snapshot, load_snapshot_chunk,
        apply_snapshot_chunk, prepare_proposal, process_proposal, extend_vote, verify_vote_extension, finalize_block
    );

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        match self.own(&request) {
            Some(response) => response,
            None => self.app.query(request),
        }
    }
}
