//! What a call costs on each transport, beside the server that comes with `tendermint-abci`. Runs about ten seconds:
//!
//! ```text
//! cargo run -p tenure-abci --example bench
//! ```
#![allow(clippy::disallowed_methods, reason = "measures wall time")]

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tendermint_abci::{Application, ServerBuilder};
use tendermint_proto::v0_38::abci::{
    ExecTxResult, RequestCheckTx, RequestEcho, RequestFinalizeBlock, RequestQuery, ResponseCheckTx,
    ResponseFinalizeBlock,
};
use tenure_abci::{Address, Client, Server, ServerOptions};

/// Does nothing, so that what is measured is the way there and back.
#[derive(Clone)]
struct Nothing;

impl Application for Nothing {
    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        let gas_wanted = request.tx.len() as i64;
        ResponseCheckTx {
            gas_wanted,
            ..Default::default()
        }
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let results = request.txs.iter().map(|tx| ExecTxResult {
            gas_used: tx.len() as i64,
            ..Default::default()
        });
        ResponseFinalizeBlock {
            tx_results: results.collect(),
            ..Default::default()
        }
    }
}

type Failure = Box<dyn std::error::Error>;

/// Repeats a call for at most `budget` or `most` times; the times in order of length.
fn times(
    budget: Duration,
    most: usize,
    mut call: impl FnMut() -> Result<(), Failure>,
) -> Result<Vec<Duration>, Failure> {
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < most && (times.len() < 3 || began.elapsed() < budget) {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times)
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn measure(name: &str, address: &Address) -> Result<(), Failure> {
    let mut client = Client::connect(address)?;
    let budget = Duration::from_millis(1500);
    let tx = Bytes::from(vec![7_u8; 250]);

    for _ in 0..10 {
        client.echo(RequestEcho::default())?;
    }
    let echo = times(budget, 20_000, || {
        Ok(client.echo(RequestEcho::default()).map(|_| ())?)
    })?;
    let query = times(budget / 3, 20_000, || {
        Ok(client.query(RequestQuery::default()).map(|_| ())?)
    })?;
    let batch: Vec<Bytes> = vec![tx; 200];
    let batches = times(budget / 3, 2_000, || {
        Ok(client.check_txs(batch.clone(), false).map(|_| ())?)
    })?;
    let rate = 200.0 / percentile(&batches, 50).as_secs_f64();
    // 16 MiB in transactions of 4 KiB.
    let block = RequestFinalizeBlock {
        txs: vec![Bytes::from(vec![7; 4096]); 4096],
        height: 1,
        ..Default::default()
    };
    let blocks = times(budget, 20, || Ok(client.finalize_block(block.clone()).map(|_| ())?))?;

    println!(
        "{name:<24} {:>9.1} {:>9.1} {:>9.1} {:>12.0} {:>10.1} {:>10.1}",
        percentile(&echo, 50).as_secs_f64() * 1e6,
        percentile(&echo, 99).as_secs_f64() * 1e6,
        percentile(&query, 50).as_secs_f64() * 1e6,
        rate,
        percentile(&blocks, 0).as_secs_f64() * 1e3,
        percentile(&blocks, 50).as_secs_f64() * 1e3,
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    println!(
        "{:<24} {:>9} {:>9} {:>9} {:>12} {:>10} {:>10}",
        "", "sync p50", "sync p99", "query p50", "CheckTx/s", "16 MiB", "16 MiB"
    );
    println!(
        "{:<24} {:>9} {:>9} {:>9} {:>12} {:>10} {:>10}",
        "server", "us", "us", "us", "200 + Flush", "best ms", "p50 ms"
    );
    let socket = std::env::temp_dir().join(format!("tenure-abci-bench-{}.sock", std::process::id()));
    for (name, address) in [
        ("tenure-abci, unix", Address::Unix(socket.clone())),
        ("tenure-abci, TCP", "tcp://127.0.0.1:0".parse()?),
    ] {
        let handle = Server::bind(&address, ServerOptions::default())?.serve(Nothing)?;
        measure(name, handle.local_addr())?;
        handle.stop();
        handle.wait();
    }
    std::fs::remove_file(socket.with_added_extension("lock"))?;

    let server = ServerBuilder::default().bind("127.0.0.1:0", Nothing)?;
    let addr: SocketAddr = server.local_addr().parse()?;
    // It cannot be stopped; it ends with this process.
    thread::spawn(move || {
        let _ = server.listen();
    });
    measure("tendermint-abci 0.40, TCP", &Address::Tcp(addr))
}
