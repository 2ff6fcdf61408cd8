//! The application as CometBFT drives it, watched: who drives it is checked, and what it committed becomes the head.

use std::sync::Arc;

use parking_lot::Mutex;
use tendermint::Time;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    RequestFinalizeBlock, RequestInfo, RequestPrepareProposal, RequestProcessProposal, ResponseCommit,
    ResponseFinalizeBlock, ResponseInfo, ResponsePrepareProposal, ResponseProcessProposal,
};
use tenure_comet::{binary, ABCI_VERSION};
use tokio::sync::watch;

use super::fail_point::FailPoints;
use super::Head;

/// What is seen of a driven application.
pub(super) struct Watch {
    /// The last committed block.
    pub(super) heads: watch::Sender<Option<Head>>,
    /// Why the engine that connected is not served.
    pub(super) refusal: watch::Sender<Option<String>>,
    /// Executed, not yet committed.
    executed: Mutex<Option<Head>>,
}

impl Watch {
    /// Begins with the last committed block.
    pub(super) fn new(head: Option<Head>) -> Self {
        Self {
            heads: watch::Sender::new(head),
            refusal: watch::Sender::new(None),
            executed: Mutex::new(None),
        }
    }
}

/// An application that is watched; every call goes to the one inside.
#[derive(Clone)]
pub(super) struct Observed<A> {
    app: A,
    watch: Arc<Watch>,
    fail_points: FailPoints,
}

impl<A> Observed<A> {
    pub(super) fn new(app: A, watch: Arc<Watch>, fail_points: FailPoints) -> Self {
        Self {
            app,
            watch,
            fail_points,
        }
    }
}

/// Why an engine cannot drive this application.
fn refusal(request: &RequestInfo) -> Option<String> {
    if request.abci_version != ABCI_VERSION {
        return Some(format!(
            "the engine speaks ABCI {:?}, this node {ABCI_VERSION} (CometBFT v0.38)",
            request.abci_version
        ));
    }
    if !binary::accepted_text(&request.version) {
        return Some(format!(
            "the engine is CometBFT {:?}; {} up to but without {} work with this node",
            request.version,
            binary::FIRST,
            binary::END
        ));
    }
    None
}

impl<A: Application> Application for Observed<A> {
    tenure_abci::forward!(
        app: echo, init_chain, query, check_tx, flush, list_snapshots, offer_snapshot, load_snapshot_chunk,
        apply_snapshot_chunk, extend_vote, verify_vote_extension
    );

    fn info(&self, request: RequestInfo) -> ResponseInfo {
        // abci-cli and other tools send no version and only look.
        let is_engine = !request.version.is_empty() || !request.abci_version.is_empty();
        if let Some(reason) = refusal(&request).filter(|_| is_engine) {
            // Whoever runs the node ends it; until then the engine gets no answer, so it cannot begin a chain.
            self.watch.refusal.send_replace(Some(reason));
            loop {
                std::thread::park();
            }
        }
        self.app.info(request)
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        let height = request.height;
        let response = self.app.prepare_proposal(request);
        self.fail_points.reach("prepared", height);
        response
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        let height = request.height;
        let response = self.app.process_proposal(request);
        self.fail_points.reach("processed", height);
        response
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let (height, block_hash) = (request.height, request.hash.to_vec());
        let time = request.time.and_then(|t| Time::try_from(t).ok());
        let response = self.app.finalize_block(request);
        self.fail_points.reach("finalized", height);
        *self.watch.executed.lock() = Some(Head {
            height,
            time: time.unwrap_or_else(Time::unix_epoch),
            block_hash,
            app_hash: response.app_hash.to_vec(),
        });
        response
    }

    fn commit(&self) -> ResponseCommit {
        let head = self.watch.executed.lock().take();
        let height = head.as_ref().map_or(0, |h| h.height);
        self.fail_points.reach("committing", height);
        let response = self.app.commit();
        self.fail_points.reach("committed", height);
        self.watch.heads.send_replace(head);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_nobody_tested_are_named() {
        let ask = |version: &str, abci_version: &str| {
            refusal(&RequestInfo {
                version: version.to_owned(),
                abci_version: abci_version.to_owned(),
                ..Default::default()
            })
        };
        assert_eq!(ask("0.38.25", "2.0.0"), None);
        assert!(ask("0.37.2", "1.0.0").is_some_and(|r| r.contains("\"1.0.0\"")));
        assert!(ask("0.39.4", "2.0.0").is_some_and(|r| r.contains("0.39.4") && r.contains("0.38.21")));
    }
}
