//! A chain whose every block can be computed from its height, and an application whose disk is one number in a file.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    Event, EventAttribute, ExecTxResult, RequestFinalizeBlock, RequestInfo, ResponseCommit, ResponseFinalizeBlock,
    ResponseInfo,
};
use tenure_archive::Record;

pub(crate) fn event(kind: &str, pairs: &[(&str, &str)]) -> Event {
    let attributes = pairs.iter().map(|(key, value)| EventAttribute {
        key: (*key).into(),
        value: (*value).into(),
        index: *key != "secret",
    });
    Event {
        r#type: kind.into(),
        attributes: attributes.collect(),
    }
}

/// Block `height`: `height % 3` transactions of its own, then one that is the same in every block and succeeds in even ones.
pub(crate) fn request(height: i64) -> RequestFinalizeBlock {
    let own = (0..height % 3).map(|i| format!("tx{height}.{i}"));
    RequestFinalizeBlock {
        height,
        txs: own.chain(["again".into()]).map(|tx| tx.into_bytes().into()).collect(),
        hash: vec![u8::try_from(height % 251).unwrap(); 32].into(),
        ..Default::default()
    }
}

pub(crate) fn response(request: &RequestFinalizeBlock) -> ResponseFinalizeBlock {
    let height = request.height.to_string();
    let result = |tx: &[u8]| ExecTxResult {
        code: u32::from(tx == b"again" && request.height % 2 == 1),
        events: vec![event(
            "app",
            &[
                ("tx", std::str::from_utf8(tx).unwrap()),
                ("parity", if request.height % 2 == 0 { "even" } else { "odd" }),
                ("secret", "x"),
            ],
        )],
        ..Default::default()
    };
    ResponseFinalizeBlock {
        events: vec![event("block", &[("height", &height), ("mode", "BeginBlock")])],
        tx_results: request.txs.iter().map(|tx| result(tx)).collect(),
        app_hash: request.hash.clone(),
        ..Default::default()
    }
}

pub(crate) fn record(height: i64) -> Record {
    let request = request(height);
    let response = response(&request);
    Record { request, response }
}

/// Its committed height is in a file; `Commit` writes it.
#[derive(Clone)]
pub(crate) struct Counter {
    pub(crate) path: PathBuf,
}

impl Counter {
    pub(crate) fn height(path: &Path) -> i64 {
        std::fs::read(path)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, i64::from_le_bytes)
    }

    pub(crate) fn set(path: &Path, height: i64) {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        file.write_all_at(&height.to_le_bytes(), 0).unwrap();
    }
}

impl Application for Counter {
    fn info(&self, _: RequestInfo) -> ResponseInfo {
        ResponseInfo {
            last_block_height: Self::height(&self.path),
            ..Default::default()
        }
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        response(&request)
    }

    fn commit(&self) -> ResponseCommit {
        Self::set(&self.path, Self::height(&self.path) + 1);
        ResponseCommit::default()
    }
}
