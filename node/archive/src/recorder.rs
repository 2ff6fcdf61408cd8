//! An application that archives what it executes.

use crate::archive::Archive;
use crate::error::ArchiveError;
use crate::record::Record;
use parking_lot::Mutex;
use std::sync::Arc;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestEcho, RequestExtendVote, RequestFinalizeBlock, RequestInfo,
    RequestInitChain, RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal,
    RequestQuery, RequestVerifyVoteExtension, ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit,
    ResponseEcho, ResponseExtendVote, ResponseFinalizeBlock, ResponseFlush, ResponseInfo, ResponseInitChain,
    ResponseListSnapshots, ResponseLoadSnapshotChunk, ResponseOfferSnapshot, ResponsePrepareProposal,
    ResponseProcessProposal, ResponseQuery, ResponseVerifyVoteExtension,
};

/// An [`Application`] around another that keeps request and answer of `FinalizeBlock` and appends them to the archive *before* the inner
/// application's `Commit`. So whatever instant a process dies at, no committed height is missing; a recorded one that was not committed
/// is withdrawn at the next start and recorded again when the engine executes it again.
///
/// Panics in `Commit` if the archive cannot be written: a height that is committed and not archived could never be told from one that
/// did nothing.
#[derive(Clone)]
pub struct Recorder<A> {
    app: A,
    archive: Archive,
    /// The last executed block, encoded; only one is ever committed of those executed at a height.
    executed: Arc<Mutex<Option<Executed>>>,
}

/// A block's height and its record, encoded.
type Executed = (i64, Vec<u8>);

impl<A: Application> Recorder<A> {
    /// Asks the application for its height (`Info`) and brings the archive in line with it.
    pub fn new(app: A, archive: Archive) -> Result<Self, ArchiveError> {
        archive.align(app.info(RequestInfo::default()).last_block_height)?;
        Ok(Self {
            app,
            archive,
            executed: Arc::default(),
        })
    }

    /// The archive that is written.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }
}

impl<A: Application> Application for Recorder<A> {
    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        // Transactions are shared buffers: this copies no bytes of them.
        let asked = request.clone();
        let response = self.app.finalize_block(request);
        let mut bytes = Vec::new();
        Record::encode(&asked, &response, &mut bytes);
        *self.executed.lock() = Some((asked.height, bytes));
        response
    }

    #[allow(
        clippy::panic,
        reason = "a block that is committed without its record would leave the archive lying; the process ends instead"
    )]
    fn commit(&self) -> ResponseCommit {
        let executed = self.executed.lock().take();
        if let Some((height, bytes)) = &executed {
            if let Err(e) = self.archive.append_encoded(*height, bytes) {
                panic!("block {height} is not committed because it cannot be archived: {e}");
            }
        }
        let response = self.app.commit();
        if let Some((height, _)) = executed {
            self.archive.publish(height);
        }
        response
    }

    fn echo(&self, request: RequestEcho) -> ResponseEcho {
        self.app.echo(request)
    }

    fn info(&self, request: RequestInfo) -> ResponseInfo {
        self.app.info(request)
    }

    fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        self.app.init_chain(request)
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        self.app.query(request)
    }

    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        self.app.check_tx(request)
    }

    fn flush(&self) -> ResponseFlush {
        self.app.flush()
    }

    fn list_snapshots(&self) -> ResponseListSnapshots {
        self.app.list_snapshots()
    }

    fn offer_snapshot(&self, request: RequestOfferSnapshot) -> ResponseOfferSnapshot {
        self.app.offer_snapshot(request)
    }

    fn load_snapshot_chunk(&self, request: RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk {
        self.app.load_snapshot_chunk(request)
    }

    fn apply_snapshot_chunk(&self, request: RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk {
        self.app.apply_snapshot_chunk(request)
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        self.app.prepare_proposal(request)
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        self.app.process_proposal(request)
    }

    fn extend_vote(&self, request: RequestExtendVote) -> ResponseExtendVote {
        self.app.extend_vote(request)
    }

    fn verify_vote_extension(&self, request: RequestVerifyVoteExtension) -> ResponseVerifyVoteExtension {
        self.app.verify_vote_extension(request)
    }
}
