//! `cosmos.tx.v1beta1.Service`: broadcast, look up, search. `Simulate` is the application's.

use std::collections::BTreeMap;

use prost::Message;
use tendermint_proto::v0_38::abci::{Event, ExecTxResult};
use tenure_proto::cosmos::base::abci::v1beta1::TxResponse;
use tenure_proto::cosmos::base::query::v1beta1::PageResponse;
use tenure_proto::cosmos::tx::v1beta1::{
    BroadcastMode, BroadcastTxRequest, BroadcastTxResponse, GetBlockWithTxsRequest, GetBlockWithTxsResponse,
    GetTxRequest, GetTxResponse, GetTxsEventRequest, GetTxsEventResponse, OrderBy, Tx,
};
use tenure_proto::tendermint::abci as proto_abci;
use tenure_proto::Any;
use tonic::Status;

use crate::engine::{BroadcastError, Engine, EngineError, SearchError, SearchPage, TxRecord};
use crate::grpc::comet;
use crate::grpc::services::{page, recode, request, unanswered, Sources};

/// Most transactions of a page of a search, CometBFT's limit; also what is given if the request does not say.
const MAX_FOUND: u64 = 100;

/// Hands a transaction to the engine. A refusal by `CheckTx`, or by the mempool for a reason that the Cosmos SDK has a code for, is
/// an answer with that code. Status: any other refusal.
pub fn broadcast(engine: &dyn Engine, tx: &[u8]) -> Result<TxResponse, Status> {
    let error = match engine.broadcast_tx_sync(tx) {
        Ok(sent) => {
            let check = sent.check_tx;
            return Ok(TxResponse {
                txhash: hex::encode_upper(sent.hash),
                codespace: check.codespace,
                code: check.code,
                data: hex::encode_upper(&check.data),
                raw_log: check.log,
                info: check.info,
                gas_wanted: check.gas_wanted,
                gas_used: check.gas_used,
                ..Default::default()
            });
        }
        Err(error) => error,
    };
    match error {
        BroadcastError::Refused {
            text,
            sdk_code: Some(code),
        } => Ok(TxResponse {
            txhash: hash(tx),
            codespace: "sdk".to_owned(),
            code,
            raw_log: text,
            ..Default::default()
        }),
        BroadcastError::Refused { text, sdk_code: None } => Err(Status::invalid_argument(text)),
        BroadcastError::Unavailable(reason) => Err(Status::unavailable(reason)),
    }
}

fn hash(tx: &[u8]) -> String {
    use sha2::Digest;
    hex::encode_upper(sha2::Sha256::digest(tx))
}

fn event(event: Event) -> proto_abci::Event {
    let attribute = |a: tendermint_proto::v0_38::abci::EventAttribute| proto_abci::EventAttribute {
        key: a.key,
        value: a.value,
        index: a.index,
    };
    proto_abci::Event {
        r#type: event.r#type,
        attributes: event.attributes.into_iter().map(attribute).collect(),
    }
}

/// A committed transaction as clients read it; `timestamp` is its block's time.
fn committed(record: TxRecord, timestamp: String) -> GetTxResponse {
    // TxRaw and Tx differ only in how much is decoded; their bytes are the same. What a faulty proposer put into a block need not decode.
    let tx = Tx::decode(record.tx.as_slice()).unwrap_or_default();
    let ExecTxResult {
        code,
        data,
        log,
        info,
        gas_wanted,
        gas_used,
        events,
        codespace,
    } = record.result;
    let response = TxResponse {
        height: record.height,
        txhash: hex::encode_upper(record.hash),
        codespace,
        code,
        data: hex::encode_upper(&data),
        raw_log: log,
        logs: Vec::new(),
        info,
        gas_wanted,
        gas_used,
        tx: Some(Any {
            type_url: "/cosmos.tx.v1beta1.Tx".to_owned(),
            value: record.tx,
        }),
        timestamp,
        events: events.into_iter().map(event).collect(),
    };
    GetTxResponse {
        tx: Some(tx),
        tx_response: Some(response),
    }
}

/// Time of a block, RFC 3339; empty if neither the archive nor the engine keeps the block.
fn block_time(engine: &dyn Engine, height: i64) -> Result<String, Status> {
    // What tells of a transaction tells its time, too, also when the block has been pruned or is not yet the engine's last.
    let archived = engine.archive().map(|archive| archive.record(height)).transpose();
    let archived = archived.map_err(|error| unanswered(EngineError::Broken(error.to_string())))?;
    let time = match archived.flatten() {
        Some(record) => record.time(),
        None => {
            let block = engine.block(Some(height)).map_err(unanswered)?;
            block.and_then(|b| b.block.header).and_then(|h| h.time)
        }
    };
    let time = time.and_then(|t| tendermint::Time::try_from(t).ok());
    Ok(time.map(|t| t.to_rfc3339()).unwrap_or_default())
}

pub(super) fn get_tx(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let (engine, text) = (&*sources.engine, request::<GetTxRequest>(bytes)?.hash);
    let hash = hex::decode(&text)
        .ok()
        .filter(|bytes| bytes.len() == 32)
        .ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Status::invalid_argument(format!("hash {shown:?} must be 64 hexadecimal digits"))
        })?;
    let record = engine.tx(&hash).map_err(unanswered)?;
    let record = record.ok_or_else(|| Status::not_found(format!("tx not found: {text}")))?;
    let time = block_time(engine, record.height)?;
    Ok(committed(record, time).encode_to_vec())
}

#[allow(deprecated, reason = "old clients use the old fields")]
pub(super) fn txs_by_events(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let asked: GetTxsEventRequest = request(bytes)?;
    let query = if asked.query.is_empty() {
        asked.events.join(" AND ")
    } else {
        asked.query
    };
    if query.is_empty() {
        return Err(Status::invalid_argument(
            "query is empty, must hold at least one condition, for example tx.height=5",
        ));
    }
    let old = asked.pagination.unwrap_or_default();
    let size = [asked.limit, old.limit]
        .into_iter()
        .find(|limit| *limit > 0)
        .unwrap_or(MAX_FOUND)
        .min(MAX_FOUND);
    let number = match asked.page {
        0 => old.offset.checked_div(size).unwrap_or_default().saturating_add(1),
        page => page,
    };
    let number = u32::try_from(number)
        .map_err(|_| Status::invalid_argument(format!("page is {number}, must be at most {}", u32::MAX)))?;
    let order = OrderBy::try_from(asked.order_by)
        .map_err(|_| Status::invalid_argument(format!("order_by is {}, must be 0 to 2", asked.order_by)))?;
    let wanted = SearchPage {
        number,
        size: u32::try_from(size).unwrap_or(u32::MAX),
        newest_first: order == OrderBy::Desc || (order == OrderBy::Unspecified && old.reverse),
    };
    let engine = &*sources.engine;
    let found = engine.search_txs(&query, wanted).map_err(|e| match e {
        SearchError::Query(text) => Status::invalid_argument(format!("query {query:?}: {text}")),
        SearchError::Engine(error) => unanswered(error),
    })?;
    let mut response = GetTxsEventResponse {
        total: found.total,
        pagination: Some(PageResponse {
            next_key: Vec::new(),
            total: found.total,
        }),
        ..Default::default()
    };
    let mut times: BTreeMap<i64, String> = BTreeMap::new();
    for record in found.txs {
        let time = match times.get(&record.height) {
            Some(time) => time.clone(),
            None => {
                let time = block_time(engine, record.height)?;
                times.insert(record.height, time.clone());
                time
            }
        };
        let GetTxResponse { tx, tx_response } = committed(record, time);
        response.txs.extend(tx);
        response.tx_responses.extend(tx_response);
    }
    Ok(response.encode_to_vec())
}

pub(super) fn block_with_txs(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let asked: GetBlockWithTxsRequest = request(bytes)?;
    let engine = &*sources.engine;
    let record = comet::block(engine, Some(comet::height(engine, asked.height)?))?;
    let all = record
        .block
        .data
        .as_ref()
        .map(|data| data.txs.as_slice())
        .unwrap_or_default();
    let (picked, pagination) = page(all, asked.pagination.as_ref())?;
    let response = GetBlockWithTxsResponse {
        // What a faulty proposer put there need not decode; its place must stay.
        txs: picked
            .iter()
            .map(|tx| Tx::decode(tx.as_slice()).unwrap_or_default())
            .collect(),
        block_id: Some(recode(&record.block_id)?),
        block: Some(recode(&record.block)?),
        pagination: Some(pagination),
    };
    Ok(response.encode_to_vec())
}

pub(super) fn broadcast_tx(sources: &Sources, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let BroadcastTxRequest { tx_bytes, mode } = request(bytes)?;
    if tx_bytes.is_empty() {
        return Err(Status::invalid_argument("tx_bytes is empty"));
    }
    let tx_response = match BroadcastMode::try_from(mode) {
        Ok(BroadcastMode::Sync | BroadcastMode::Unspecified) => broadcast(&*sources.engine, &tx_bytes)?,
        // Waits for CheckTx too, so that a flood feels back pressure, but tells nothing of it.
        Ok(BroadcastMode::Async) => {
            let sent = broadcast(&*sources.engine, &tx_bytes);
            tracing::debug!(?sent, "asynchronous broadcast");
            TxResponse {
                txhash: hash(&tx_bytes),
                ..Default::default()
            }
        }
        #[allow(deprecated, reason = "refused by name")]
        Ok(BroadcastMode::Block) => {
            return Err(Status::invalid_argument(
                "BROADCAST_MODE_BLOCK is not supported: use BROADCAST_MODE_SYNC, then ask GetTx for the hash",
            ))
        }
        Err(_) => return Err(Status::invalid_argument(format!("mode {mode} is not a BroadcastMode"))),
    };
    let response = BroadcastTxResponse {
        tx_response: Some(tx_response),
    };
    Ok(response.encode_to_vec())
}
