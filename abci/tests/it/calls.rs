//! Every method reaches the application and its answer comes back, in order, on both transports.

use bytes::Bytes;
use tendermint_proto::v0_38::abci::{
    RequestCommit, RequestEcho, RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery,
};
use tenure_abci::{Checked, Client, OnViolation, ServerOptions};

use crate::{
    app::Kv,
    on_both_transports, serve,
    sockets::{echo, Raw},
};

fn finalize(height: i64, txs: &[&str]) -> RequestFinalizeBlock {
    RequestFinalizeBlock {
        height,
        txs: txs.iter().map(|tx| Bytes::from(tx.to_string())).collect(),
        ..Default::default()
    }
}

#[test]
fn a_chain_is_driven_through_the_socket() {
    on_both_transports(|address| {
        let app = Checked::new(Kv::new(), OnViolation::Panic);
        let handle = serve(&address, ServerOptions::default(), app.clone());
        let mut client = Client::connect(handle.local_addr()).unwrap();
        let echo = client
            .echo(RequestEcho {
                message: "hello".to_owned(),
            })
            .unwrap();
        assert_eq!(echo.message, "hello");
        assert_eq!(client.info(RequestInfo::default()).unwrap().last_block_height, 0);
        client
            .init_chain(RequestInitChain {
                initial_height: 1,
                ..Default::default()
            })
            .unwrap();
        for height in 1..=5 {
            let txs: Vec<Bytes> = vec![format!("k{height}=v{height}").into()];
            let proposal = RequestPrepareProposal {
                max_tx_bytes: 1000,
                txs,
                height,
                ..Default::default()
            };
            let txs = client.prepare_proposal(proposal).unwrap().txs;
            let proposal = RequestProcessProposal {
                txs: txs.clone(),
                height,
                ..Default::default()
            };
            assert_eq!(client.process_proposal(proposal).unwrap().status, 1);
            let block = RequestFinalizeBlock {
                txs,
                height,
                ..Default::default()
            };
            assert_eq!(client.finalize_block(block).unwrap().tx_results.len(), 1);
            client.commit(RequestCommit {}).unwrap();
        }
        let query = RequestQuery {
            data: "k3".into(),
            ..Default::default()
        };
        let answer = client.query(query).unwrap();
        assert_eq!((answer.value.as_ref(), answer.height), (b"v3".as_slice(), 5));
        assert_eq!(client.list_snapshots(Default::default()).unwrap().snapshots.len(), 0);
        assert_eq!(client.load_snapshot_chunk(Default::default()).unwrap().chunk.len(), 0);
        assert_eq!(app.inner().committed().executed, 5);
    });
}

#[test]
fn pipelined_transactions_are_answered_in_order() {
    on_both_transports(|address| {
        let handle = serve(&address, ServerOptions::default(), Kv::new());
        let mut client = Client::connect(handle.local_addr()).unwrap();
        // More than one window, and bodies larger than any buffer on the way.
        let txs = (0..1000).map(|n| match n % 3 {
            0 => Bytes::from(format!("k{n}={}", "v".repeat(n * 20))),
            _ => Bytes::from_static(b"no pair"),
        });
        let answers = client.check_txs(txs, false).unwrap();
        assert_eq!(answers.len(), 1000);
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer.code, u32::from(n % 3 != 0), "transaction {n}");
        }
    });
}

#[test]
fn a_large_block_passes() {
    on_both_transports(|address| {
        let handle = serve(&address, ServerOptions::default(), Kv::new());
        let mut client = Client::connect(handle.local_addr()).unwrap();
        let big = "x".repeat(20 << 20);
        let block = finalize(1, &[&format!("k={big}"), "a=b"]);
        assert_eq!(client.finalize_block(block).unwrap().tx_results.len(), 2);
        client.commit(RequestCommit {}).unwrap();
        let query = RequestQuery {
            data: "k".into(),
            ..Default::default()
        };
        assert_eq!(client.query(query).unwrap().value.len(), big.len());
    });
}

#[test]
fn replies_come_without_a_flush_when_the_peer_is_quiet() {
    on_both_transports(|address| {
        let handle = serve(&address, ServerOptions::default(), Kv::new());
        // Half of a second request: the reply to the first must not wait for the rest.
        let request = echo();
        let mut raw = Raw::connect(handle.local_addr());
        raw.send(&[&request, &request[..3]].concat());
        assert!(raw.reply().is_some());
        raw.send(&request[3..]);
        assert!(raw.reply().is_some());
    });
}
