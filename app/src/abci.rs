//! ABCI 2.0: each call goes to the file that is about it.

use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain,
    RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal, RequestQuery,
    ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit, ResponseFinalizeBlock, ResponseInfo,
    ResponseInitChain, ResponseListSnapshots, ResponseLoadSnapshotChunk, ResponseOfferSnapshot,
    ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery,
};

use crate::{App, APP_VERSION, SOFTWARE_VERSION};

impl Application for App {
    /// Height and app hash of the last commit; 0 and nothing before the first, so that the engine sends InitChain again.
    fn info(&self, _request: RequestInfo) -> ResponseInfo {
        let (height, _, _, app_hash) = self.committed();
        ResponseInfo {
            data: "tenure".to_owned(),
            version: SOFTWARE_VERSION.to_owned(),
            app_version: APP_VERSION,
            last_block_height: i64::try_from(height).unwrap_or(i64::MAX),
            last_block_app_hash: if height == 0 {
                Default::default()
            } else {
                app_hash.to_vec().into()
            },
        }
    }

    fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        self.0.init_chain(request)
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        self.0.abci_query(&request)
    }

    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        self.0.check_tx(&request)
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        self.0.prepare_proposal(request)
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        App::process_proposal(self, request)
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        self.0.finalize_block(request)
    }

    fn list_snapshots(&self) -> ResponseListSnapshots {
        self.0.list_snapshots()
    }

    fn offer_snapshot(&self, request: RequestOfferSnapshot) -> ResponseOfferSnapshot {
        self.0.offer_snapshot(&request)
    }

    fn load_snapshot_chunk(&self, request: RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk {
        self.0.load_chunk(&request)
    }

    fn apply_snapshot_chunk(&self, request: RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk {
        self.0.apply_chunk(&request)
    }

    fn commit(&self) -> ResponseCommit {
        self.0.commit()
    }
}
