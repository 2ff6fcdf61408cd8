//! Stopping: calls that run are finished and answered, nothing is left behind.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc, Arc,
    },
    thread,
    time::{Duration, Instant},
};

use tendermint_proto::v0_38::abci::{
    request::Value as Ask, response::Value as Answer, RequestEcho, RequestFinalizeBlock, RequestFlush, RequestInfo,
};
use tenure_abci::{Client, ServerOptions};

use crate::{
    app::Kv,
    eventually, on_both_transports, serve,
    sockets::{wire, Raw},
    PATIENCE,
};

#[test]
fn an_idle_server_stops_at_once_and_leaves_no_clone() {
    on_both_transports(|address| {
        let app = Kv::new();
        let handle = serve(&address, ServerOptions::default(), app.clone());
        let mut spoken = Client::connect(handle.local_addr()).unwrap();
        spoken.info(RequestInfo::default()).unwrap();
        let _silent = Raw::connect(handle.local_addr());
        eventually("both are admitted", || handle.connections().len() == 2);
        let began = Instant::now();
        handle.stop();
        handle.wait();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(app.clones(), 1);
        assert!(spoken.info(RequestInfo::default()).is_err());
        assert!(Client::connect(handle.local_addr()).is_err());
    });
}

#[test]
fn a_call_that_runs_is_finished_and_answered() {
    on_both_transports(|address| {
        let app = Kv::new();
        let handle = serve(&address, ServerOptions::default(), app.clone());
        // Larger than the server's read buffer, so that the Flush is still in the socket when the call runs.
        let txs = vec!["gate=1".into(), "x".repeat(100_000).into()];
        let height = 1;
        let block = RequestFinalizeBlock {
            txs,
            height,
            ..Default::default()
        };
        let mut raw = Raw::connect(handle.local_addr());
        raw.send(&[wire(Ask::FinalizeBlock(block)), wire(Ask::Flush(RequestFlush {}))].concat());
        eventually("the block is being executed", || app.is_executing());
        handle.stop();
        let opening = thread::spawn({
            let app = app.clone();
            move || {
                thread::sleep(Duration::from_millis(50));
                app.open_gate();
            }
        });
        handle.wait();
        opening.join().unwrap();
        assert!(matches!(raw.reply(), Some(Answer::FinalizeBlock(_))));
        assert!(matches!(raw.reply(), Some(Answer::Flush(_))));
        assert!(raw.reply().is_none());
        assert_eq!(app.clones(), 1);
    });
}

#[test]
fn a_reader_that_takes_nothing_cannot_hold_up_the_end() {
    on_both_transports(|address| {
        let options = ServerOptions {
            stop_grace: Duration::from_millis(200),
            ..Default::default()
        };
        let app = Kv::new();
        let handle = serve(&address, options, app.clone());
        let addr = handle.local_addr().clone();
        let message = "x".repeat(1 << 20);
        let request = wire(Ask::Echo(RequestEcho { message }));
        // Replies nobody reads fill both sockets, so that the server's thread is stuck in a write.
        let sent = Arc::new(AtomicUsize::new(0));
        let (end, ended) = mpsc::channel::<()>();
        let stuck = thread::spawn({
            let sent = sent.clone();
            move || {
                let mut raw = Raw::connect(&addr);
                while raw.try_send(&request).is_ok() {
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                // Stays connected until the test is over.
                let _ = ended.recv();
            }
        });
        let mut before = 0;
        eventually("both sides are stuck", || {
            thread::sleep(Duration::from_millis(300));
            let now = sent.load(Ordering::SeqCst);
            std::mem::replace(&mut before, now) == now && now > 0
        });
        let began = Instant::now();
        handle.stop();
        handle.wait();
        assert!(began.elapsed() < PATIENCE);
        assert_eq!(app.clones(), 1);
        drop(end);
        stuck.join().unwrap();
    });
}
