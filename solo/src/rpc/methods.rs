//! The methods (CometBFT `rpc/core`).

use super::args::{Args, Kind, Spec};
use super::wire::Error;
use super::{render, search};
use crate::core::{BlockRecord, Life, SoloClient};
use crate::error::SoloError;
use crate::evidence;
use crate::{block, keys, merkle, params, replay, BLOCK_PROTOCOL, COMETBFT_VERSION, P2P_PROTOCOL};
use serde_json::{json, Value};
use std::time::Duration;
use tendermint_proto::v0_38::abci::{ExecTxResult, RequestQuery};
use tenure_archive::TxRecord;
use Kind::{Bool, Bytes, Hex, Int, Json, Text};

/// How long `broadcast_tx_commit` waits for the block (CometBFT's `timeout_broadcast_tx_commit`).
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most block metas `blockchain` returns.
const MAX_METAS: i64 = 20;
/// Bytes of genesis in one chunk.
const CHUNK_BYTES: usize = 16 << 20;

pub(crate) type Outcome = Result<Value, Error>;

/// A method: its name, its arguments, and what answers it. `broadcast_tx_commit` waits, so [`call`] treats it apart.
pub(crate) struct Method {
    pub name: &'static str,
    pub args: Spec,
    answer: fn(&SoloClient, &Args) -> Outcome,
}

const HEIGHT: Spec = &[("height", Int)];
const TX: Spec = &[("tx", Bytes)];
const PAGED_QUERY: Spec = &[
    ("query", Text),
    ("prove", Bool),
    ("page", Int),
    ("per_page", Int),
    ("order_by", Text),
];

/// Every method, in alphabetical order.
pub(crate) const METHODS: &[Method] = &[
    Method {
        name: "abci_info",
        args: &[],
        answer: abci_info,
    },
    Method {
        name: "abci_query",
        args: &[("path", Text), ("data", Hex), ("height", Int), ("prove", Bool)],
        answer: abci_query,
    },
    Method {
        name: "block",
        args: HEIGHT,
        answer: block_at,
    },
    Method {
        name: "block_by_hash",
        args: &[("hash", Bytes)],
        answer: block_by_hash,
    },
    Method {
        name: "block_results",
        args: HEIGHT,
        answer: block_results,
    },
    Method {
        name: "block_search",
        args: &[("query", Text), ("page", Int), ("per_page", Int), ("order_by", Text)],
        answer: search::blocks,
    },
    Method {
        name: "blockchain",
        args: &[("minHeight", Int), ("maxHeight", Int)],
        answer: blockchain,
    },
    Method {
        name: "broadcast_evidence",
        args: &[("evidence", Json)],
        answer: broadcast_evidence,
    },
    Method {
        name: "broadcast_tx_async",
        args: TX,
        answer: broadcast_async,
    },
    Method {
        name: "broadcast_tx_commit",
        args: TX,
        answer: broadcast_sync,
    },
    Method {
        name: "broadcast_tx_sync",
        args: TX,
        answer: broadcast_sync,
    },
    Method {
        name: "commit",
        args: HEIGHT,
        answer: commit,
    },
    Method {
        name: "consensus_params",
        args: HEIGHT,
        answer: consensus_params,
    },
    Method {
        name: "genesis",
        args: &[],
        answer: genesis,
    },
    Method {
        name: "genesis_chunked",
        args: &[("chunk", Int)],
        answer: genesis_chunked,
    },
    Method {
        name: "header",
        args: HEIGHT,
        answer: header,
    },
    Method {
        name: "header_by_hash",
        args: &[("hash", Hex)],
        answer: header_by_hash,
    },
    Method {
        name: "health",
        args: &[],
        answer: health,
    },
    Method {
        name: "net_info",
        args: &[],
        answer: net_info,
    },
    Method {
        name: "num_unconfirmed_txs",
        args: &[],
        answer: num_unconfirmed,
    },
    Method {
        name: "status",
        args: &[],
        answer: status,
    },
    Method {
        name: "tx",
        args: &[("hash", Bytes), ("prove", Bool)],
        answer: tx,
    },
    Method {
        name: "tx_search",
        args: PAGED_QUERY,
        answer: search::txs,
    },
    Method {
        name: "unconfirmed_txs",
        args: &[("limit", Int)],
        answer: unconfirmed,
    },
    Method {
        name: "validators",
        args: &[("height", Int), ("page", Int), ("per_page", Int)],
        answer: validators,
    },
];

/// A method by name.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|m| m.name == name)
}

/// Runs a method on a blocking thread.
pub(crate) async fn call(client: SoloClient, method: &'static Method, args: Args) -> Outcome {
    if method.name == "broadcast_tx_commit" {
        return broadcast_commit(client, args.bytes("tx").to_vec()).await;
    }
    blocking(move || (method.answer)(&client, &args)).await
}

pub(crate) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| {
        tracing::error!(error = %e, "panic while answering an RPC call");
        Err(Error::internal("panic while answering; see the node's log"))
    })
}

fn internal(e: SoloError) -> Error {
    Error::internal(e)
}

/// The height asked for, checked against what there is (`getHeight`).
fn height_arg(client: &SoloClient, args: &Args, latest: i64) -> Result<i64, Error> {
    let Some(height) = args.int("height") else {
        return Ok(latest);
    };
    if height <= 0 {
        return Err(Error::internal(format!(
            "height must be greater than 0, but got {height}"
        )));
    }
    if height > latest {
        return Err(Error::internal(format!(
            "height {height} must be less than or equal to the current blockchain height {latest}"
        )));
    }
    let base = client.earliest_height().map_err(internal)?;
    if height < base {
        return Err(Error::internal(format!(
            "height {height} is not available, lowest height is {base}"
        )));
    }
    Ok(height)
}

/// The height whose validators and parameters are the newest known: one above the last block.
fn next_height(client: &SoloClient) -> i64 {
    client.latest_height().max(client.genesis().initial_height - 1) + 1
}

/// Entries on one page: 30 unless told, 100 at most.
pub(crate) fn per_page(args: &Args) -> usize {
    limit(args.int("per_page"))
}

fn limit(given: Option<i64>) -> usize {
    match given {
        Some(n) if n >= 1 => usize::try_from(n.min(100)).unwrap_or(100),
        _ => 30,
    }
}

/// Errors if the page asked for, counted from 1, does not exist.
pub(crate) fn page(asked: Option<i64>, per_page: usize, total: usize) -> Result<(), Error> {
    let pages = total.div_ceil(per_page).max(1);
    match asked {
        Some(page) if !usize::try_from(page).is_ok_and(|p| (1..=pages).contains(&p)) => Err(Error::internal(format!(
            "page should be within [1, {pages}] range, given {page}"
        ))),
        _ => Ok(()),
    }
}

// -- info -----------------------------------------------------------------------------------------------------------------

fn health(client: &SoloClient, _: &Args) -> Outcome {
    match &*client.0.life.borrow() {
        Life::Running => Ok(json!({})),
        Life::Stopped => Err(Error::internal(SoloError::Stopped)),
        Life::Failed(e) => Err(Error::internal(e)),
    }
}

fn sync_side(client: &SoloClient, height: i64) -> Result<[Value; 4], Error> {
    let record = client.block(height).map_err(internal)?;
    let header = record.as_ref().and_then(|r| r.block.header.clone()).unwrap_or_default();
    let time = if record.is_some() {
        render::time(header.time)
    } else {
        "1970-01-01T00:00:00Z".into()
    };
    let shown = if record.is_some() { height } else { 0 };
    Ok([
        render::hex(&record.map(|r| r.block_id.hash).unwrap_or_default()),
        render::hex(&header.app_hash),
        shown.to_string().into(),
        time,
    ])
}

fn status(client: &SoloClient, _: &Args) -> Outcome {
    let node = &client.0.node;
    let key = client.validator_key();
    let [latest_hash, latest_app, latest_height, latest_time] = sync_side(client, client.latest_height())?;
    let [first_hash, first_app, first_height, first_time] =
        sync_side(client, client.earliest_height().map_err(internal)?)?;
    let power = client
        .0
        .store
        .power(next_height(client))
        .map_err(internal)?
        .unwrap_or_default();
    Ok(json!({
        "node_info": {
            "protocol_version": {
                "p2p": P2P_PROTOCOL.to_string(),
                "block": BLOCK_PROTOCOL.to_string(),
                "app": node.app_version.to_string(),
            },
            "id": node.node_id,
            "listen_addr": "tcp://0.0.0.0:0",
            "network": client.genesis().chain_id,
            "version": COMETBFT_VERSION,
            "channels": "",
            "moniker": node.moniker,
            // "engine" is ours: clients ignore what they do not know, people see what they talk to.
            "other": {"tx_index": "on", "rpc_address": node.rpc_addr, "engine": "solo"},
        },
        "sync_info": {
            "latest_block_hash": latest_hash,
            "latest_app_hash": latest_app,
            "latest_block_height": latest_height,
            "latest_block_time": latest_time,
            "earliest_block_hash": first_hash,
            "earliest_app_hash": first_app,
            "earliest_block_height": first_height,
            "earliest_block_time": first_time,
            "catching_up": false,
        },
        "validator_info": {
            "address": render::hex(&keys::address(&key)),
            "pub_key": keys::pub_key_json(&key),
            "voting_power": power.to_string(),
        },
    }))
}

fn net_info(_: &SoloClient, _: &Args) -> Outcome {
    Ok(json!({"listening": false, "listeners": [], "n_peers": "0", "peers": []}))
}

fn genesis(client: &SoloClient, _: &Args) -> Outcome {
    let doc = client.genesis().to_json();
    if doc.to_string().len() > CHUNK_BYTES {
        return Err(Error::internal(
            "genesis response is large, please use the genesis_chunked API instead",
        ));
    }
    Ok(json!({ "genesis": doc }))
}

fn genesis_chunked(client: &SoloClient, args: &Args) -> Outcome {
    let text = client.genesis().to_json().to_string();
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(CHUNK_BYTES).collect();
    let asked = args.int("chunk").unwrap_or(0);
    match usize::try_from(asked).ok().and_then(|i| chunks.get(i)) {
        Some(chunk) => Ok(json!({
            "chunk": asked.to_string(),
            "total": chunks.len().to_string(),
            "data": render::base64(chunk),
        })),
        None => Err(Error::internal(format!(
            "there are {} chunks, {asked} is invalid",
            chunks.len().saturating_sub(1)
        ))),
    }
}

// -- application ------------------------------------------------------------------------------------------------------------

fn abci_info(client: &SoloClient, _: &Args) -> Outcome {
    Ok(json!({"response": render::info(&client.0.query.info(replay::info_request()))}))
}

fn abci_query(client: &SoloClient, args: &Args) -> Outcome {
    let response = client.0.query.query(RequestQuery {
        data: args.bytes("data").to_vec().into(),
        path: args.text("path").to_string(),
        height: args.int("height").unwrap_or_default(),
        prove: args.flag("prove"),
    });
    Ok(json!({"response": render::query(&response)}))
}

// -- blocks -----------------------------------------------------------------------------------------------------------------

/// A block with its id, or CometBFT's form of "none".
pub(crate) fn block_result(record: Option<BlockRecord>) -> Value {
    match record {
        Some(r) => json!({"block_id": render::block_id(Some(&r.block_id)), "block": render::block(&r.block)}),
        None => json!({"block_id": render::block_id(None), "block": null}),
    }
}

fn block_at(client: &SoloClient, args: &Args) -> Outcome {
    let height = height_arg(client, args, client.latest_height())?;
    Ok(block_result(client.block(height).map_err(internal)?))
}

fn block_by_hash(client: &SoloClient, args: &Args) -> Outcome {
    Ok(block_result(
        client.block_by_hash(args.bytes("hash")).map_err(internal)?,
    ))
}

fn header_result(record: Option<BlockRecord>) -> Value {
    json!({"header": record.and_then(|r| r.block.header).as_ref().map(render::header)})
}

fn header(client: &SoloClient, args: &Args) -> Outcome {
    let height = height_arg(client, args, client.latest_height())?;
    Ok(header_result(client.block(height).map_err(internal)?))
}

fn header_by_hash(client: &SoloClient, args: &Args) -> Outcome {
    Ok(header_result(
        client.block_by_hash(args.bytes("hash")).map_err(internal)?,
    ))
}

fn commit(client: &SoloClient, args: &Args) -> Outcome {
    let latest = client.latest_height();
    let height = height_arg(client, args, latest)?;
    let (record, commit) = (
        client.block(height).map_err(internal)?,
        client.commit(height).map_err(internal)?,
    );
    let (Some(header), Some(commit)) = (record.and_then(|r| r.block.header), commit) else {
        return Ok(Value::Null);
    };
    Ok(json!({
        "signed_header": {"header": render::header(&header), "commit": render::commit(&commit)},
        // The newest commit is not in a block yet.
        "canonical": height < latest,
    }))
}

fn block_results(client: &SoloClient, args: &Args) -> Outcome {
    let height = height_arg(client, args, client.latest_height())?;
    match client.block_results(height).map_err(internal)? {
        Some(results) => Ok(render::block_results(height, &results)),
        None => Err(Error::internal(format!("could not find results for height #{height}"))),
    }
}

fn blockchain(client: &SoloClient, args: &Args) -> Outcome {
    let (min, max) = (args.int("minHeight").unwrap_or(0), args.int("maxHeight").unwrap_or(0));
    if min < 0 || max < 0 {
        return Err(Error::internal("heights must be non-negative"));
    }
    let latest = client.latest_height();
    let max = if max == 0 { latest } else { max.min(latest) };
    let min = min
        .max(client.earliest_height().map_err(internal)?)
        .max(max.saturating_sub(MAX_METAS - 1));
    if min > max {
        return Err(Error::internal(format!(
            "min height {min} can't be greater than max height {max}"
        )));
    }
    let mut metas = Vec::new();
    for height in (min..=max).rev() {
        let Some(r) = client.block(height).map_err(internal)? else {
            continue;
        };
        metas.push(json!({
            "block_id": render::block_id(Some(&r.block_id)),
            "block_size": r.size.to_string(),
            "header": render::header(&r.block.header.clone().unwrap_or_default()),
            "num_txs": r.block.data.map_or(0, |d| d.txs.len()).to_string(),
        }));
    }
    Ok(json!({"last_height": latest.to_string(), "block_metas": metas}))
}

fn validators(client: &SoloClient, args: &Args) -> Outcome {
    let height = height_arg(client, args, next_height(client))?;
    page(args.int("page"), per_page(args), 1)?;
    let power = client.0.store.power(height).map_err(internal)?;
    let power = power.ok_or_else(|| Error::internal(format!("no validators for height {height}")))?;
    Ok(json!({
        "block_height": height.to_string(),
        "validators": [render::validator(&client.validator_key(), power)],
        "count": "1",
        "total": "1",
    }))
}

fn consensus_params(client: &SoloClient, args: &Args) -> Outcome {
    let height = height_arg(client, args, next_height(client))?;
    let found = client.0.store.params(height).map_err(internal)?;
    let found = found.ok_or_else(|| Error::internal(format!("no consensus params for height {height}")))?;
    Ok(json!({"block_height": height.to_string(), "consensus_params": params::to_json(&found)}))
}

// -- transactions -----------------------------------------------------------------------------------------------------------

/// A committed transaction, with a proof of its place in the block's data hash if asked.
pub(crate) fn tx_result(client: &SoloClient, record: &TxRecord, prove: bool) -> Outcome {
    let mut out = json!({
        "hash": render::hex(&record.hash),
        "height": record.height.to_string(),
        "index": record.index,
        "tx_result": render::exec_result(&record.result),
        "tx": render::base64(&record.tx),
    });
    if prove {
        let block = client.block(record.height).map_err(internal)?;
        let txs = block.and_then(|b| b.block.data).unwrap_or_default().txs;
        let hashes: Vec<_> = txs.iter().map(|tx| merkle::sha256(tx)).collect();
        if let Some((root, proof)) = merkle::proof(&hashes, record.index as usize) {
            debug_assert_eq!(root, block::data_hash(&txs));
            out["proof"] = render::tx_proof(&root, &record.tx, &proof);
        }
    }
    Ok(out)
}

fn tx(client: &SoloClient, args: &Args) -> Outcome {
    let hash = args.bytes("hash");
    match client.tx(hash).map_err(internal)? {
        Some(record) => tx_result(client, &record, args.flag("prove")),
        None => Err(Error::internal(format!("tx ({}) not found", hex::encode_upper(hash)))),
    }
}

fn broadcast_sync(client: &SoloClient, args: &Args) -> Outcome {
    let sent = client.broadcast_tx_sync(args.bytes("tx")).map_err(Error::internal)?;
    Ok(json!({
        "code": sent.check_tx.code,
        "data": render::hex(&sent.check_tx.data),
        "log": sent.check_tx.log,
        "codespace": sent.check_tx.codespace,
        "hash": render::hex(&sent.hash),
    }))
}

fn broadcast_async(client: &SoloClient, args: &Args) -> Outcome {
    let sent = client.broadcast_tx_sync(args.bytes("tx")).map_err(Error::internal)?;
    Ok(json!({"code": 0, "data": "", "log": "", "codespace": "", "hash": render::hex(&sent.hash)}))
}

fn broadcast_evidence(client: &SoloClient, args: &Args) -> Outcome {
    let evidence = evidence::from_json(args.json("evidence")).map_err(Error::internal)?;
    let hash = evidence::add(&client.0, &evidence).map_err(internal)?;
    Ok(json!({"hash": render::base64(&hash.map_err(Error::internal)?)}))
}

/// The first copy of a transaction in heights `from..=to`.
fn find_tx(client: &SoloClient, from: i64, to: i64, hash: &merkle::Hash32) -> Result<Option<TxRecord>, Error> {
    for height in from..=to {
        let record = client.archive().record(height).map_err(Error::internal)?;
        let Some(record) = record else { continue };
        let place = (0u32..)
            .zip(&record.request.txs)
            .find(|(_, tx)| merkle::sha256(tx) == *hash);
        if let Some((index, _)) = place {
            return Ok(record.tx(index));
        }
    }
    Ok(None)
}

async fn broadcast_commit(client: SoloClient, tx: Vec<u8>) -> Outcome {
    let mut heads = client.heads();
    // Earlier copies of the transaction are not this one.
    let mut seen = heads.borrow_and_update().as_ref().map_or(0, |h| h.height);
    let mut life = client.life();
    let sender = client.clone();
    let sent = blocking(move || {
        sender
            .broadcast_tx_sync(&tx)
            .map_err(|e| Error::internal(format!("error on broadcastTxCommit: {e}")))
    })
    .await?;
    let answer = |result: &ExecTxResult, height: i64| {
        json!({
            "check_tx": render::check_result(&sent.check_tx),
            "tx_result": render::exec_result(result),
            "hash": render::hex(&sent.hash),
            "height": height.to_string(),
        })
    };
    if sent.check_tx.code != 0 {
        return Ok(answer(&ExecTxResult::default(), 0));
    }
    let (reader, hash) = (client.clone(), sent.hash);
    let included = async {
        loop {
            let (reader, from, to) = (reader.clone(), seen + 1, reader.latest_height());
            let find = move || find_tx(&reader, from, to, &hash);
            if let Some(record) = blocking(find).await? {
                return Ok(record);
            }
            seen = seen.max(to);
            if !matches!(&*life.borrow_and_update(), Life::Running) {
                return Err(Error::internal("txSub was canceled (reason: the engine has stopped)"));
            }
            tokio::select! {
                _ = heads.changed() => {}
                _ = life.changed() => {}
            }
        }
    };
    match tokio::time::timeout(COMMIT_TIMEOUT, included).await {
        Ok(Ok(record)) => Ok(answer(&record.result, record.height)),
        Ok(Err(e)) => Err(e),
        Err(_) => Err(Error::internal("timed out waiting for tx to be included in a block")),
    }
}

fn unconfirmed_result(client: &SoloClient, count: usize, txs: Value) -> Value {
    let (total, bytes) = client.mempool_size();
    json!({"n_txs": count.to_string(), "total": total.to_string(), "total_bytes": bytes.to_string(), "txs": txs})
}

fn unconfirmed(client: &SoloClient, args: &Args) -> Outcome {
    let txs = client.mempool_txs(limit(args.int("limit")));
    let shown: Vec<Value> = txs.iter().map(|tx| render::base64(tx)).collect();
    Ok(unconfirmed_result(client, shown.len(), Value::Array(shown)))
}

fn num_unconfirmed(client: &SoloClient, _: &Args) -> Outcome {
    let (total, _) = client.mempool_size();
    Ok(unconfirmed_result(client, total, Value::Null))
}
