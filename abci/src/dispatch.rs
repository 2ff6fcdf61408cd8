//! One request to one method of the application, and what a panic in it means.

use std::{
    any::Any,
    fmt,
    panic::{catch_unwind, AssertUnwindSafe},
};

use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    request::Value as Request, response::Value as Response, ResponseCheckTx, ResponseException, ResponseFlush,
    ResponseListSnapshots, ResponseLoadSnapshotChunk, ResponseQuery,
};

/// What a connection is for. CometBFT opens one of each, in this order, and never says which: the first request that only one kind
/// carries tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// `Info` at the handshake and from RPC, `Query`.
    Query,
    /// Snapshots, served and restored.
    Snapshot,
    /// `CheckTx`.
    Mempool,
    /// Everything that makes blocks.
    Consensus,
}

impl ConnectionKind {
    /// The kind that carries this request; `None` for `Echo`, `Flush` and `Info`, which any tool may send.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        match request {
            Request::Echo(_) | Request::Flush(_) | Request::Info(_) => None,
            Request::Query(_) => Some(Self::Query),
            Request::ListSnapshots(_)
            | Request::OfferSnapshot(_)
            | Request::LoadSnapshotChunk(_)
            | Request::ApplySnapshotChunk(_) => Some(Self::Snapshot),
            Request::CheckTx(_) => Some(Self::Mempool),
            Request::InitChain(_)
            | Request::PrepareProposal(_)
            | Request::ProcessProposal(_)
            | Request::ExtendVote(_)
            | Request::VerifyVoteExtension(_)
            | Request::FinalizeBlock(_)
            | Request::Commit(_) => Some(Self::Consensus),
        }
    }
}

impl fmt::Display for ConnectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Query => "query",
            Self::Snapshot => "snapshot",
            Self::Mempool => "mempool",
            Self::Consensus => "consensus",
        })
    }
}

/// The method's name in the ABCI specification.
pub(crate) fn method(request: &Request) -> &'static str {
    match request {
        Request::Echo(_) => "Echo",
        Request::Flush(_) => "Flush",
        Request::Info(_) => "Info",
        Request::InitChain(_) => "InitChain",
        Request::Query(_) => "Query",
        Request::CheckTx(_) => "CheckTx",
        Request::Commit(_) => "Commit",
        Request::ListSnapshots(_) => "ListSnapshots",
        Request::OfferSnapshot(_) => "OfferSnapshot",
        Request::LoadSnapshotChunk(_) => "LoadSnapshotChunk",
        Request::ApplySnapshotChunk(_) => "ApplySnapshotChunk",
        Request::PrepareProposal(_) => "PrepareProposal",
        Request::ProcessProposal(_) => "ProcessProposal",
        Request::ExtendVote(_) => "ExtendVote",
        Request::VerifyVoteExtension(_) => "VerifyVoteExtension",
        Request::FinalizeBlock(_) => "FinalizeBlock",
    }
}

/// [`AppPanic::method`] of a panic that is a defect of this crate, in a connection's own code.
pub const SERVER_PANIC: &str = "the ABCI server";

/// The application panicked where its state may now differ from every other node's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panic in {method}: {message}")]
pub struct AppPanic {
    /// The ABCI method, `on_consensus_connection`, or [`SERVER_PANIC`].
    pub method: &'static str,
    /// What the panic said.
    pub message: String,
}

impl AppPanic {
    pub(crate) fn new(method: &'static str, payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self {
            method,
            message: text.unwrap_or("(no message)").to_owned(),
        }
    }
}

/// The Cosmos SDK's registered code for a panic, which its clients know.
const PANIC_CODE: u32 = 111_222;
const PANIC_CODESPACE: &str = "undefined";

/// Calls the application.
///
/// # Errors
/// The panic of a call that makes blocks, restores state or starts the handshake. A panic in a call that only reads or only feeds the
/// mempool is answered with a code instead: an RPC client must not be able to end a validator.
pub(crate) fn call<A: Application>(app: &A, request: Request) -> Result<Response, AppPanic> {
    let method = method(&request);
    let harmless = match &request {
        Request::Query(q) => Some(Response::Query(ResponseQuery {
            code: PANIC_CODE,
            codespace: PANIC_CODESPACE.to_owned(),
            log: "panic in the application; its log says more".to_owned(),
            height: q.height,
            ..Default::default()
        })),
        Request::CheckTx(_) => Some(Response::CheckTx(ResponseCheckTx {
            code: PANIC_CODE,
            codespace: PANIC_CODESPACE.to_owned(),
            log: "panic in the application; its log says more".to_owned(),
            ..Default::default()
        })),
        Request::ListSnapshots(_) => Some(Response::ListSnapshots(ResponseListSnapshots::default())),
        Request::LoadSnapshotChunk(_) => Some(Response::LoadSnapshotChunk(ResponseLoadSnapshotChunk::default())),
        _ => None,
    };
    // A panic either ends the process or leaves only what the next Commit replaces, so nothing broken is seen afterwards.
    match catch_unwind(AssertUnwindSafe(|| route(app, request))) {
        Ok(response) => Ok(response),
        Err(payload) => {
            let panic = AppPanic::new(method, &*payload);
            match harmless {
                Some(response) => {
                    tracing::error!(%panic, "answered with an error");
                    Ok(response)
                }
                None => Err(panic),
            }
        }
    }
}

fn route<A: Application>(app: &A, request: Request) -> Response {
    match request {
        Request::Echo(r) => Response::Echo(app.echo(r)),
        // The server flushes; there is nothing in the application to flush.
        Request::Flush(_) => Response::Flush(ResponseFlush {}),
        Request::Info(r) => Response::Info(app.info(r)),
        Request::InitChain(r) => Response::InitChain(app.init_chain(r)),
        Request::Query(r) => Response::Query(app.query(r)),
        Request::CheckTx(r) => Response::CheckTx(app.check_tx(r)),
        Request::Commit(_) => Response::Commit(app.commit()),
        Request::ListSnapshots(_) => Response::ListSnapshots(app.list_snapshots()),
        Request::OfferSnapshot(r) => Response::OfferSnapshot(app.offer_snapshot(r)),
        Request::LoadSnapshotChunk(r) => Response::LoadSnapshotChunk(app.load_snapshot_chunk(r)),
        Request::ApplySnapshotChunk(r) => Response::ApplySnapshotChunk(app.apply_snapshot_chunk(r)),
        Request::PrepareProposal(r) => Response::PrepareProposal(app.prepare_proposal(r)),
        Request::ProcessProposal(r) => Response::ProcessProposal(app.process_proposal(r)),
        Request::ExtendVote(r) => Response::ExtendVote(app.extend_vote(r)),
        Request::VerifyVoteExtension(r) => Response::VerifyVoteExtension(app.verify_vote_extension(r)),
        Request::FinalizeBlock(r) => Response::FinalizeBlock(app.finalize_block(r)),
    }
}

pub(crate) fn exception(error: impl fmt::Display) -> Response {
    Response::Exception(ResponseException {
        error: error.to_string(),
    })
}
