//! Figures for Prometheus: what the engine asks of the application and how long it takes, what blocks hold, and the process.
//!
//! [`Metrics`] is one registry, [`measured::Measured`] an application that counts on its way through to another, [`server`] the HTTP that Prometheus
//! reads. CometBFT's own figures (peers, rounds) are CometBFT's: `[instrumentation]` of `config.toml`.
//!
//! ```text
//! app_height                                  height of the last committed block
//! app_last_block_timestamp_seconds            its header's time
//! app_block_seconds                           from the begin of FinalizeBlock to the end of Commit
//! app_block_interval_seconds                  between the times of two headers
//! app_txs_total{result}                       transactions in blocks: ok, failed
//! app_gas_used_total                          gas of all of them
//! abci_<method>_seconds                       one histogram for each ABCI call
//! mempool_size                                transactions that wait, whichever engine keeps them; a second old at most
//! mempool_size_bytes                          and their bytes
//! mempool_checks_total{kind,result}           CheckTx: new or recheck, accepted or refused
//! mempool_rejected_total{codespace,code}      CheckTx that refused, by the chain's codes; what a full mempool turns away is not checked
//! grpc_requests_total{method,code}            ended requests by their gRPC status: the trailers', 1 (cancelled) if the client went away before
//! grpc_request_seconds                        how long they took; a stream takes as long as it is open
//! grpc_requests_in_flight                     being answered
//! lease_events_total{event}                   what happened to leases: created, ready, paused, closed, …
//! snapshot_height                             height of the newest finished snapshot, 0 if there is none; a second old at most
//! snapshot_offers_total{result}               state sync: snapshots offered to this node
//! snapshot_chunks_applied_total{result}       and chunks of them
//! snapshot_chunks_served_total                chunks given to others
//! snapshot_served_bytes_total                 and their bytes
//! tenured_build_info{version,commit}          1
//! process_*                                   memory, CPU time, file descriptors of this process
//! ```

pub mod grpc;
pub mod measured;
pub mod mempool;
pub mod server;
pub mod snapshots;

use anyhow::Result;
use prometheus::{
    exponential_buckets, Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::version;

/// The ABCI calls, as they are named in metrics.
const METHODS: [&str; 14] = [
    "info",
    "query",
    "check_tx",
    "init_chain",
    "prepare_proposal",
    "process_proposal",
    "extend_vote",
    "verify_vote_extension",
    "finalize_block",
    "commit",
    "list_snapshots",
    "offer_snapshot",
    "load_snapshot_chunk",
    "apply_snapshot_chunk",
];

/// An ABCI call: an index into its histogram.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Method {
    Info,
    Query,
    CheckTx,
    InitChain,
    PrepareProposal,
    ProcessProposal,
    ExtendVote,
    VerifyVoteExtension,
    FinalizeBlock,
    Commit,
    ListSnapshots,
    OfferSnapshot,
    LoadSnapshotChunk,
    ApplySnapshotChunk,
}

/// All figures of a process. Counting never fails and never waits for a reader.
pub struct Metrics {
    registry: Registry,
    abci: Vec<Histogram>,
    height: IntGauge,
    block_time: prometheus::Gauge,
    block: Histogram,
    interval: Histogram,
    txs: IntCounterVec,
    gas: IntCounter,
    mempool_txs: IntGauge,
    mempool_bytes: IntGauge,
    checks: IntCounterVec,
    rejected: IntCounterVec,
    leases: IntCounterVec,
    snapshot_height: IntGauge,
    offers: IntCounterVec,
    chunks_applied: IntCounterVec,
    chunks_served: IntCounter,
    bytes_served: IntCounter,
    grpc_requests: IntCounterVec,
    grpc_seconds: Histogram,
    grpc_in_flight: IntGauge,
}

/// From 20 µs to 20 s.
fn call_buckets() -> Result<Vec<f64>> {
    Ok(exponential_buckets(20e-6, 3.0, 13)?)
}

impl Metrics {
    /// An empty registry, but for the process' own figures. Error: two figures have one name, which a test would have found.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| -> Result<Histogram> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec> {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let block_time = prometheus::Gauge::new(
            "app_last_block_timestamp_seconds",
            "Time of the last committed block's header",
        )?;
        registry.register(Box::new(block_time.clone()))?;
        let info = prometheus::IntGaugeVec::new(
            Opts::new("tenured_build_info", "What this binary is"),
            &["version", "commit"],
        )?;
        info.with_label_values(&[version::VERSION, version::commit()]).set(1);
        registry.register(Box::new(info))?;
        Ok(Self {
            abci: METHODS
                .iter()
                .map(|m| {
                    histogram(
                        &format!("abci_{m}_seconds"),
                        &format!("Time of the ABCI call {m}"),
                        call_buckets()?,
                    )
                })
                .collect::<Result<_>>()?,
            height: gauge("app_height", "Height of the last committed block")?,
            block_time,
            block: histogram(
                "app_block_seconds",
                "From the begin of FinalizeBlock to the end of Commit",
                call_buckets()?,
            )?,
            interval: histogram(
                "app_block_interval_seconds",
                "Between the times of two headers",
                vec![0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0],
            )?,
            txs: counters("app_txs_total", "Transactions in blocks by result", &["result"])?,
            gas: counter("app_gas_used_total", "Gas used by transactions in blocks")?,
            mempool_txs: gauge("mempool_size", "Transactions that wait in the mempool")?,
            mempool_bytes: gauge(
                "mempool_size_bytes",
                "Bytes of the transactions that wait in the mempool",
            )?,
            rejected: counters(
                "mempool_rejected_total",
                "Transactions that CheckTx refused, by code",
                &["codespace", "code"],
            )?,
            checks: counters(
                "mempool_checks_total",
                "Transactions checked for the mempool",
                &["kind", "result"],
            )?,
            leases: counters("lease_events_total", "What happened to leases", &["event"])?,
            snapshot_height: gauge("snapshot_height", "Height of the newest finished snapshot")?,
            offers: counters("snapshot_offers_total", "Snapshots offered to this node", &["result"])?,
            chunks_applied: counters(
                "snapshot_chunks_applied_total",
                "Chunks of snapshots given to this node",
                &["result"],
            )?,
            chunks_served: counter("snapshot_chunks_served_total", "Chunks of snapshots given to others")?,
            bytes_served: counter("snapshot_served_bytes_total", "Bytes of snapshots given to others")?,
            grpc_requests: counters(
                "grpc_requests_total",
                "Answered gRPC requests by method and code",
                &["method", "code"],
            )?,
            grpc_seconds: histogram("grpc_request_seconds", "Time to answer a gRPC request", call_buckets()?)?,
            grpc_in_flight: gauge("grpc_requests_in_flight", "gRPC requests being answered")?,
            registry,
        })
    }

    pub(crate) fn abci(&self, method: Method) -> &Histogram {
        &self.abci[method as usize]
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_own_name() -> Result<()> {
        let metrics = Metrics::new()?;
        metrics.abci(Method::ApplySnapshotChunk).observe(0.5);
        metrics.abci(Method::Info).observe(0.5);
        let text = metrics.text()?;
        for line in [
            "abci_apply_snapshot_chunk_seconds_count 1",
            "abci_info_seconds_count 1",
            "abci_commit_seconds_count 0",
            "app_height 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        Ok(())
    }
}
