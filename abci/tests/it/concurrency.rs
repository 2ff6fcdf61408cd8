//! Connections beside each other: reads while a block is executed, one engine at a time, and what a panic ends.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc,
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tendermint_proto::v0_38::abci::{
    request::Value as Ask, RequestCommit, RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestQuery,
};
use tenure_abci::{AppPanic, Checked, Client, ClientError, OnViolation, ServerOptions};

use crate::{
    app::Kv,
    eventually, on_both_transports, serve,
    sockets::{wire, Raw},
};

fn block(height: i64, tx: &'static str) -> RequestFinalizeBlock {
    RequestFinalizeBlock {
        height,
        txs: vec![tx.into()],
        ..Default::default()
    }
}

#[test]
fn transactions_and_queries_do_not_wait_for_a_block() {
    on_both_transports(|address| {
        let app = Kv::new();
        let handle = serve(&address, ServerOptions::default(), app.clone());
        let addr = handle.local_addr().clone();
        let mut consensus = Client::connect(&addr).unwrap();
        let executing = thread::spawn(move || consensus.finalize_block(block(1, "gate=1")).unwrap());
        eventually("the block is being executed", || app.is_executing());
        // Were they behind one lock, these would never return.
        let mut mempool = Client::connect(&addr).unwrap();
        assert_eq!(mempool.check_txs(["a=b".into()], false).unwrap()[0].code, 0);
        let mut query = Client::connect(&addr).unwrap();
        assert_eq!(query.query(RequestQuery::default()).unwrap().height, 0);
        assert!(!executing.is_finished());
        app.open_gate();
        assert_eq!(executing.join().unwrap().tx_results.len(), 1);
    });
}

#[test]
fn a_new_engine_waits_for_the_one_before_and_finds_nothing_uncommitted() {
    on_both_transports(|address| {
        let app = Checked::new(Kv::new(), OnViolation::Panic);
        let takeovers = Arc::new(AtomicUsize::new(0));
        let options = ServerOptions {
            on_consensus_connection: {
                let (app, takeovers) = (app.clone(), takeovers.clone());
                Arc::new(move || {
                    app.inner().reset_uncommitted();
                    app.restart();
                    takeovers.fetch_add(1, Ordering::SeqCst);
                })
            },
            ..Default::default()
        };
        let handle = serve(&address, options, app.clone());
        let addr = handle.local_addr().clone();
        Client::connect(&addr).unwrap().info(RequestInfo::default()).unwrap();
        // The engine is killed while the application executes its block.
        let mut first = Raw::connect(&addr);
        first.send(&wire(Ask::InitChain(RequestInitChain::default())));
        first.send(&wire(Ask::FinalizeBlock(block(1, "gate=lost"))));
        eventually("the block is being executed", || app.inner().is_executing());
        drop(first);
        let second = thread::spawn(move || {
            let mut client = Client::connect(&addr).unwrap();
            client.init_chain(RequestInitChain::default()).unwrap();
            client.finalize_block(block(1, "a=b")).unwrap();
            client.commit(RequestCommit {}).unwrap();
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!second.is_finished(), "two engines at once");
        assert_eq!(takeovers.load(Ordering::SeqCst), 1);
        app.inner().open_gate();
        second.join().unwrap();
        assert_eq!(takeovers.load(Ordering::SeqCst), 2);
        let committed = app.inner().committed();
        assert_eq!(
            committed.pairs.into_keys().collect::<Vec<_>>(),
            ["a"],
            "the first engine's block is void"
        );
    });
}

#[test]
fn a_handshake_learns_of_a_commit_that_is_still_running() {
    on_both_transports(|address| {
        let app = Kv::new();
        let handle = serve(&address, ServerOptions::default(), app.clone());
        let addr = handle.local_addr().clone();
        let mut first = Raw::connect(&addr);
        first.send(&wire(Ask::FinalizeBlock(block(1, "gate_commit=1"))));
        first.send(&wire(Ask::Commit(RequestCommit {})));
        eventually("the block is being committed", || app.is_committing());
        // The engine is killed and started again.
        drop(first);
        let handshake = thread::spawn(move || Client::connect(&addr).unwrap().info(RequestInfo::default()).unwrap());
        thread::sleep(Duration::from_millis(50));
        app.open_gate();
        let height = handshake.join().unwrap().last_block_height;
        assert_eq!(height, 1, "the engine would replay a block that is committed");
    });
}

#[test]
fn a_second_engine_beside_a_living_one_is_refused() {
    on_both_transports(|address| {
        let options = ServerOptions {
            consensus_handover: Duration::from_millis(50),
            ..Default::default()
        };
        let handle = serve(&address, options, Kv::new());
        let mut first = Client::connect(handle.local_addr()).unwrap();
        first.init_chain(RequestInitChain::default()).unwrap();
        let mut second = Client::connect(handle.local_addr()).unwrap();
        second.info(RequestInfo::default()).unwrap();
        let error = second.init_chain(RequestInitChain::default()).unwrap_err();
        assert!(
            matches!(&error, ClientError::Exception(e) if e.contains("another engine")),
            "{error}"
        );
        first.finalize_block(block(1, "a=b")).unwrap();
        first.commit(RequestCommit {}).unwrap();
    });
}

#[test]
fn a_panic_in_a_read_is_answered_and_one_in_consensus_is_fatal() {
    on_both_transports(|address| {
        let panics: Arc<Mutex<Vec<AppPanic>>> = Arc::default();
        let options = ServerOptions {
            on_panic: {
                let panics = panics.clone();
                Arc::new(move |panic| panics.lock().push(panic.clone()))
            },
            ..Default::default()
        };
        let handle = serve(&address, options, Kv::new());
        let mut reads = Client::connect(handle.local_addr()).unwrap();
        let query = RequestQuery {
            data: "panic".into(),
            ..Default::default()
        };
        assert_eq!(reads.query(query).unwrap().code, 111_222);
        let answers = reads.check_txs(["panic_check=1".into(), "a=b".into()], false).unwrap();
        assert_eq!((answers[0].code, answers[1].code), (111_222, 0));
        assert!(panics.lock().is_empty());

        let mut consensus = Client::connect(handle.local_addr()).unwrap();
        let error = consensus.finalize_block(block(1, "panic=1")).unwrap_err();
        assert!(
            matches!(&error, ClientError::Exception(e) if e.contains("FinalizeBlock")),
            "{error}"
        );
        let panic = panics.lock().pop().unwrap();
        assert_eq!(panic.method, "FinalizeBlock");
        assert!(panic.message.contains("asked to panic in FinalizeBlock"), "{panic}");
        reads.info(RequestInfo::default()).unwrap();
    });
}

#[test]
fn a_violation_of_the_grammar_is_a_panic_in_consensus() {
    on_both_transports(|address| {
        let panics: Arc<Mutex<Vec<AppPanic>>> = Arc::default();
        let options = ServerOptions {
            on_panic: {
                let panics = panics.clone();
                Arc::new(move |panic| panics.lock().push(panic.clone()))
            },
            ..Default::default()
        };
        let handle = serve(&address, options, Checked::new(Kv::new(), OnViolation::Panic));
        let mut client = Client::connect(handle.local_addr()).unwrap();
        client.init_chain(RequestInitChain::default()).unwrap();
        let error = client.commit(RequestCommit {}).unwrap_err();
        assert!(error.to_string().contains("Commit after InitChain"), "{error}");
        assert_eq!(panics.lock().len(), 1);
    });
}

/// The default policy, in a process of its own: this test starts itself.
#[test]
fn a_panic_in_consensus_ends_the_process() {
    const CHILD: &str = "TENURE_ABCI_TEST_SOCKET";
    if let Ok(path) = std::env::var(CHILD) {
        let handle = serve(&path.parse().unwrap(), ServerOptions::default(), Kv::new());
        let mut client = Client::connect(handle.local_addr()).unwrap();
        let _ = client.finalize_block(block(1, "panic=1"));
        // The process is gone before this; were it not, the parent would see success.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "concurrency::a_panic_in_consensus_ends_the_process"])
        .env(CHILD, format!("unix://{}/app.sock", dir.path().display()))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(6), "{status}: not SIGABRT");
}
