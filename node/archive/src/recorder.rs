//! An application that archives what it executes.

use crate::archive::Archive;
use crate::error::ArchiveError;
use crate::record::Record;
use parking_lot::Mutex;
use std::sync::Arc;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{RequestFinalizeBlock, RequestInfo, ResponseCommit, ResponseFinalizeBlock};

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
    tenure_abci::forward!(
        app: echo, info, init_chain, query, check_tx, flush, list_snapshots, offer_snapshot, load_snapshot_chunk,
        apply_snapshot_chunk, prepare_proposal, process_proposal, extend_vote, verify_vote_extension
    );

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
}
