//! State sync: the restore of another node's snapshot. What a restoring node trusts is the app hash alone, which the engine's light client
//! has verified (`tenure_store::snapshot`); everything else, the chain id and the parameters included, is in the state.
//!
//! A restore goes into the database that the application was opened on, as long as it is empty. When the last chunk has been applied and the
//! root is the trusted one, the application stands on a new store over it. One that is cut short leaves nothing: the next open clears it away.

use sha2::{Digest, Sha256};
use tendermint_proto::v0_38::abci::{
    response_apply_snapshot_chunk::Result as Applied, response_offer_snapshot::Result as Offered,
    RequestApplySnapshotChunk, RequestOfferSnapshot, ResponseApplySnapshotChunk, ResponseOfferSnapshot,
};
use tenure_store::{
    snapshot::{Manifest, Restore, FORMAT},
    Store, StoreError,
};

use crate::app::{head_of, Consensus, Inner};

/// A restore in progress.
pub(crate) struct Restoring {
    restore: Restore,
    chunks: usize,
}

impl Inner {
    /// OfferSnapshot: begins a restore, in the place of one that was begun before. `app_hash` comes from the light client.
    pub(crate) fn offer_snapshot(&self, request: &RequestOfferSnapshot) -> ResponseOfferSnapshot {
        ResponseOfferSnapshot {
            result: self.begin_restore(request).into(),
        }
    }

    fn begin_restore(&self, request: &RequestOfferSnapshot) -> Offered {
        let Some(offered) = &request.snapshot else {
            return Offered::Reject;
        };
        if offered.format != FORMAT {
            return Offered::RejectFormat;
        }
        let mut restoring = self.restoring.lock();
        if self.head().block.height > 0 || self.consensus.lock().genesis.is_some() {
            tracing::error!(
                "a snapshot was offered, but this node has a state already: state sync needs an empty database"
            );
            return Offered::Abort;
        }
        let (Ok(manifest), Ok(trusted)) = (
            Manifest::decode(&offered.metadata),
            request.app_hash.as_ref().try_into(),
        ) else {
            return Offered::RejectSender;
        };
        let chunks = manifest.chunks.len();
        // What peers say beside the manifest must be what it says: the engine fetches that many chunks, and goes by that hash.
        let consistent = manifest.height == offered.height
            && u32::try_from(chunks) == Ok(offered.chunks)
            && offered.hash == Sha256::digest(&offered.metadata).as_slice();
        if !consistent || chunks == 0 {
            return Offered::RejectSender;
        }
        *restoring = None;
        let backend = self.backend.clone();
        match Restore::begin(backend, &crate::stores(), self.store_options, manifest, trusted) {
            Ok(restore) => {
                *restoring = Some(Restoring { restore, chunks });
                Offered::Accept
            }
            Err(StoreError::Manifest { detail }) => {
                tracing::warn!(height = offered.height, detail, "a snapshot was refused");
                Offered::Reject
            }
            Err(error) => {
                tracing::error!(%error, "cannot restore a snapshot");
                Offered::Abort
            }
        }
    }

    /// ApplySnapshotChunk: after the last one the restored state is the application's. A bad chunk is fetched again from somebody else.
    pub(crate) fn apply_chunk(&self, request: &RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk {
        let result = |result: Applied| ResponseApplySnapshotChunk {
            result: result.into(),
            ..Default::default()
        };
        let mut slot = self.restoring.lock();
        let Some(Restoring { restore, chunks }) = slot.as_mut() else {
            tracing::error!(index = request.index, "a chunk came, but no snapshot is being restored");
            return result(Applied::Abort);
        };
        match restore.apply(usize::try_from(request.index).unwrap_or(usize::MAX), &request.chunk) {
            Ok(()) if restore.next_index() < *chunks => return result(Applied::Accept),
            Ok(()) => {}
            Err(StoreError::Chunk { detail, .. }) => {
                let (index, sender) = (request.index, &request.sender);
                tracing::warn!(index, sender, detail, "a chunk was refused");
                return ResponseApplySnapshotChunk {
                    result: Applied::Retry.into(),
                    refetch_chunks: vec![index],
                    reject_senders: Some(sender).filter(|id| !id.is_empty()).cloned().into_iter().collect(),
                };
            }
            Err(error) => {
                tracing::error!(%error, "cannot restore a snapshot");
                *slot = None;
                return result(Applied::Abort);
            }
        }
        let Some(Restoring { restore, .. }) = slot.take() else {
            return result(Applied::Abort);
        };
        match restore.finish() {
            Ok(store) => {
                self.adopt(store);
                result(Applied::Accept)
            }
            Err(error @ StoreError::RestoredRoot { .. }) => {
                tracing::error!(%error, "the snapshot was not what it promised");
                result(Applied::RejectSnapshot)
            }
            Err(error) => {
                tracing::error!(%error, "cannot restore a snapshot");
                result(Applied::Abort)
            }
        }
    }

    /// Makes a restored store the application's.
    fn adopt(&self, store: Store) {
        let head = self.must("restored state", head_of(store.latest(), &self.table));
        tracing::info!(
            height = head.block.height,
            chain_id = head.block.chain_id,
            "state restored"
        );
        *self.consensus.lock() = Consensus::default();
        self.store.store(store.into());
        self.records.reset(head.block.height);
        self.heads.store(vec![head.into()].into());
        *self.check.lock() = None;
    }
}
