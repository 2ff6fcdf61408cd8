//! An application that counts what is asked of another.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::*;

use super::{Method, Metrics};

/// Passes every call on to `A` and measures it. It changes no request and no answer.
#[derive(Clone)]
pub struct Measured<A> {
    inner: A,
    metrics: Arc<Metrics>,
    block: Arc<Mutex<Block>>,
}

/// The block between FinalizeBlock and Commit.
#[derive(Default)]
struct Block {
    /// Its height, its header's time in seconds, and when FinalizeBlock began.
    open: Option<(i64, f64, Instant)>,
    /// The time of the committed one before.
    previous: Option<f64>,
}

impl<A> Measured<A> {
    /// Measures `inner`, which has committed this height.
    pub fn new(inner: A, metrics: Arc<Metrics>, height: u64) -> Self {
        metrics.height.set(i64::try_from(height).unwrap_or(i64::MAX));
        Self {
            inner,
            metrics,
            block: Arc::default(),
        }
    }

    fn timed<T>(&self, method: Method, call: impl FnOnce(&A) -> T) -> T {
        let _timer = self.metrics.abci(method).start_timer();
        call(&self.inner)
    }

    fn executed(&self, response: &ResponseFinalizeBlock) {
        for result in &response.tx_results {
            let label = if result.code == 0 { "ok" } else { "failed" };
            self.metrics.txs.with_label_values(&[label]).inc();
            self.metrics.gas.inc_by(u64::try_from(result.gas_used).unwrap_or(0));
        }
        let in_txs = response.tx_results.iter().flat_map(|result| &result.events);
        for event in response.events.iter().chain(in_txs) {
            if let Some(name) = lease_event(&event.r#type) {
                self.metrics.leases.with_label_values(&[name.as_str()]).inc();
            }
        }
    }

    fn committed(&self) {
        let mut block = self.block.lock();
        let Some((height, time, begun)) = block.open.take() else {
            return;
        };
        self.metrics.block.observe(begun.elapsed().as_secs_f64());
        self.metrics.height.set(height);
        self.metrics.block_time.set(time);
        if let Some(previous) = block.previous.replace(time) {
            self.metrics.interval.observe(time - previous);
        }
    }
}

/// `created` for `tenure.market.v1.EventLeaseCreated`; nothing for events that are not about leases. The application decides which names there
/// are, so their number is bounded.
fn lease_event(event: &str) -> Option<String> {
    let name = event
        .strip_prefix("tenure.")?
        .rsplit('.')
        .next()?
        .strip_prefix("EventLease")?;
    let mut label = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            label.push('_');
        }
        label.push(c.to_ascii_lowercase());
    }
    Some(label)
}

impl<A: Application> Application for Measured<A> {
    fn echo(&self, request: RequestEcho) -> ResponseEcho {
        self.inner.echo(request)
    }

    fn info(&self, request: RequestInfo) -> ResponseInfo {
        self.timed(Method::Info, |app| app.info(request))
    }

    fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        self.timed(Method::InitChain, |app| app.init_chain(request))
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        self.timed(Method::Query, |app| app.query(request))
    }

    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        let kind = if request.r#type == CheckTxType::Recheck as i32 {
            "recheck"
        } else {
            "new"
        };
        let response = self.timed(Method::CheckTx, |app| app.check_tx(request));
        let result = if response.code == 0 { "accepted" } else { "refused" };
        self.metrics.checks.with_label_values(&[kind, result]).inc();
        if response.code != 0 {
            // Codes and codespaces are the application's: their number is bounded.
            let labels = [response.codespace.as_str(), &response.code.to_string()];
            self.metrics.rejected.with_label_values(&labels).inc();
        }
        response
    }

    fn flush(&self) -> ResponseFlush {
        self.inner.flush()
    }

    fn commit(&self) -> ResponseCommit {
        let response = self.timed(Method::Commit, Application::commit);
        self.committed();
        response
    }

    fn list_snapshots(&self) -> ResponseListSnapshots {
        self.timed(Method::ListSnapshots, Application::list_snapshots)
    }

    fn offer_snapshot(&self, request: RequestOfferSnapshot) -> ResponseOfferSnapshot {
        let response = self.timed(Method::OfferSnapshot, |app| app.offer_snapshot(request));
        self.metrics
            .offers
            .with_label_values(&[&label(response.result().as_str_name())])
            .inc();
        response
    }

    fn load_snapshot_chunk(&self, request: RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk {
        let response = self.timed(Method::LoadSnapshotChunk, |app| app.load_snapshot_chunk(request));
        if !response.chunk.is_empty() {
            self.metrics.chunks_served.inc();
            self.metrics
                .bytes_served
                .inc_by(u64::try_from(response.chunk.len()).unwrap_or(u64::MAX));
        }
        response
    }

    fn apply_snapshot_chunk(&self, request: RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk {
        let response = self.timed(Method::ApplySnapshotChunk, |app| app.apply_snapshot_chunk(request));
        self.metrics
            .chunks_applied
            .with_label_values(&[&label(response.result().as_str_name())])
            .inc();
        response
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        self.timed(Method::PrepareProposal, |app| app.prepare_proposal(request))
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        self.timed(Method::ProcessProposal, |app| app.process_proposal(request))
    }

    fn extend_vote(&self, request: RequestExtendVote) -> ResponseExtendVote {
        self.timed(Method::ExtendVote, |app| app.extend_vote(request))
    }

    fn verify_vote_extension(&self, request: RequestVerifyVoteExtension) -> ResponseVerifyVoteExtension {
        self.timed(Method::VerifyVoteExtension, |app| app.verify_vote_extension(request))
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let (height, begun) = (request.height, Instant::now());
        let time = request
            .time
            .as_ref()
            .map_or(0.0, |t| t.seconds as f64 + f64::from(t.nanos) / 1e9);
        let response = self.timed(Method::FinalizeBlock, |app| app.finalize_block(request));
        self.executed(&response);
        self.block.lock().open = Some((height, time, begun));
        response
    }
}

/// A result of protobuf as a label: `REJECT_SENDER` is `reject_sender`.
fn label(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use tendermint_proto::google::protobuf::Timestamp;

    use super::*;

    #[derive(Clone)]
    struct App;

    impl Application for App {
        fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
            let result = |code| ExecTxResult {
                code,
                gas_used: 7,
                events: vec![Event {
                    r#type: "tenure.market.v1.EventLeaseCreated".to_owned(),
                    attributes: Vec::new(),
                }],
                ..Default::default()
            };
            ResponseFinalizeBlock {
                tx_results: request.txs.iter().map(|tx| result(u32::from(tx[0]))).collect(),
                ..Default::default()
            }
        }

        fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
            ResponseCheckTx {
                code: u32::from(request.tx[0]),
                codespace: "sdk".to_owned(),
                ..Default::default()
            }
        }
    }

    #[test]
    fn a_block_is_counted_when_it_is_committed() -> Result<()> {
        let metrics = Arc::new(Metrics::new()?);
        let app = Measured::new(App, metrics.clone(), 4);
        let has = |line: &str| -> Result<()> {
            let text = metrics.text()?;
            anyhow::ensure!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
            Ok(())
        };
        has("app_height 4")?;
        let block = |height: i64, nanos: i32| RequestFinalizeBlock {
            height,
            time: Some(Timestamp {
                seconds: 100 + height,
                nanos,
            }),
            txs: vec![vec![0].into(), vec![0].into(), vec![5].into()],
            ..Default::default()
        };
        app.finalize_block(block(5, 0));
        has("app_height 4")?;
        app.commit();
        has("app_height 5")?;
        app.finalize_block(block(6, 500_000_000));
        app.commit();
        for line in [
            "app_height 6",
            "app_last_block_timestamp_seconds 106.5",
            "app_block_interval_seconds_sum 1.5",
            "app_block_seconds_count 2",
            "abci_commit_seconds_count 2",
            "abci_finalize_block_seconds_count 2",
            "app_txs_total{result=\"ok\"} 4",
            "app_txs_total{result=\"failed\"} 2",
            "app_gas_used_total 42",
            "lease_events_total{event=\"created\"} 6",
        ] {
            has(line)?;
        }
        // A commit without a block, as after a restart of the engine, counts none.
        app.commit();
        has("app_block_seconds_count 2")?;
        app.check_tx(RequestCheckTx {
            tx: vec![9].into(),
            r#type: CheckTxType::Recheck as i32,
        });
        has("mempool_checks_total{kind=\"recheck\",result=\"refused\"} 1")?;
        app.check_tx(RequestCheckTx {
            tx: vec![0].into(),
            ..Default::default()
        });
        has("mempool_checks_total{kind=\"new\",result=\"accepted\"} 1")?;
        has("mempool_rejected_total{code=\"9\",codespace=\"sdk\"} 1")?;
        anyhow::ensure!(
            !metrics.text()?.contains("code=\"0\""),
            "what is accepted is not rejected"
        );
        Ok(())
    }

    #[test]
    fn events_of_leases_have_short_names() {
        assert_eq!(
            lease_event("tenure.market.v1.EventLeaseCreated").as_deref(),
            Some("created")
        );
        assert_eq!(lease_event("tenure.x.v2.EventLeaseRunOut").as_deref(), Some("run_out"));
        assert_eq!(lease_event("tenure.market.v1.EventBidPosted"), None);
        assert_eq!(lease_event("transfer"), None);
    }
}
