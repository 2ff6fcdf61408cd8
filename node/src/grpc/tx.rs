//! `cosmos.tx.v1beta1.Service`: simulate, broadcast, look up.

use std::sync::Arc;

use prost::Message;
use tendermint_proto::v0_38::abci::{Event, ExecTxResult};
use tenure_proto::cosmos::base::abci::v1beta1::TxResponse;
use tenure_proto::cosmos::tx::v1beta1::service_server::Service;
use tenure_proto::cosmos::tx::v1beta1::{
    BroadcastMode, BroadcastTxRequest, BroadcastTxResponse, GetTxRequest, GetTxResponse, SimulateRequest,
    SimulateResponse, Tx,
};
use tenure_proto::tendermint::abci as proto_abci;
use tenure_proto::Any;
use tenure_solo::{MempoolError, SoloClient, TxRecord};
use tonic::{Request, Response, Status};

use crate::chain::Chain;
use crate::grpc::status::status;
use crate::grpc::workers::Workers;

const SIMULATE: &str = "/cosmos.tx.v1beta1.Service/Simulate";

/// The service.
pub struct TxService {
    chain: Arc<dyn Chain>,
    engine: SoloClient,
    readers: Workers,
    senders: Workers,
}

impl TxService {
    /// Reads through `chain` with the one workers, sends to `engine` with the other: sending waits for `Commit`, reading must not.
    pub fn new(chain: Arc<dyn Chain>, engine: SoloClient, readers: Workers, senders: Workers) -> Self {
        Self {
            chain,
            engine,
            readers,
            senders,
        }
    }
}

/// Hands a transaction to the engine. A refusal by `CheckTx`, or by the mempool for a reason that the Cosmos SDK has a code for, is
/// an answer with that code. Status: any other refusal.
pub fn broadcast(engine: &SoloClient, tx: &[u8]) -> Result<TxResponse, Status> {
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
    match (error.sdk_code(), &error) {
        (Some(code), _) => Ok(TxResponse {
            txhash: hash(tx),
            codespace: "sdk".to_owned(),
            code,
            raw_log: error.to_string(),
            ..Default::default()
        }),
        (None, MempoolError::Stopped) => Err(Status::unavailable(error.to_string())),
        (None, _) => Err(Status::invalid_argument(error.to_string())),
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
fn committed(record: TxRecord, timestamp: String) -> Result<GetTxResponse, Status> {
    // TxRaw and Tx differ only in how much is decoded; their bytes are the same.
    let tx = Tx::decode(record.tx.as_slice()).map_err(|e| {
        Status::internal(format!(
            "transaction {} does not decode: {e}",
            hex::encode_upper(record.hash)
        ))
    })?;
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
    Ok(GetTxResponse {
        tx: Some(tx),
        tx_response: Some(response),
    })
}

fn get(engine: &SoloClient, text: &str) -> Result<GetTxResponse, Status> {
    let hash = hex::decode(text)
        .ok()
        .filter(|bytes| bytes.len() == 32)
        .ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Status::invalid_argument(format!("hash {shown:?} must be 64 hexadecimal digits"))
        })?;
    let broken = |e: tenure_solo::SoloError| Status::internal(e.to_string());
    let record = engine.tx(&hash).map_err(broken)?;
    let record = record.ok_or_else(|| Status::not_found(format!("tx not found: {text}")))?;
    let block = engine.block(record.height).map_err(broken)?;
    let time = block
        .and_then(|b| b.block.header)
        .and_then(|h| h.time)
        .and_then(|t| tendermint::Time::try_from(t).ok());
    committed(record, time.map(|t| t.to_rfc3339()).unwrap_or_default())
}

#[tonic::async_trait]
impl Service for TxService {
    async fn simulate(&self, request: Request<SimulateRequest>) -> Result<Response<SimulateResponse>, Status> {
        let bytes = request.into_inner().encode_to_vec();
        let chain = self.chain.clone();
        let answer = self
            .readers
            .run(move || chain.query(SIMULATE, &bytes, None))
            .await?
            .map_err(|e| status(&e))?;
        let response = SimulateResponse::decode(answer.value.as_slice())
            .map_err(|e| Status::internal(format!("the simulation's answer does not decode: {e}")))?;
        Ok(Response::new(response))
    }

    async fn get_tx(&self, request: Request<GetTxRequest>) -> Result<Response<GetTxResponse>, Status> {
        let engine = self.engine.clone();
        self.readers
            .run(move || get(&engine, &request.into_inner().hash))
            .await?
            .map(Response::new)
    }

    async fn broadcast_tx(
        &self,
        request: Request<BroadcastTxRequest>,
    ) -> Result<Response<BroadcastTxResponse>, Status> {
        let BroadcastTxRequest { tx_bytes, mode } = request.into_inner();
        if tx_bytes.is_empty() {
            return Err(Status::invalid_argument("tx_bytes is empty"));
        }
        let engine = self.engine.clone();
        let tx_response = match BroadcastMode::try_from(mode) {
            Ok(BroadcastMode::Sync | BroadcastMode::Unspecified) => {
                self.senders.run(move || broadcast(&engine, &tx_bytes)).await??
            }
            // Waits for CheckTx too, so that a flood feels back pressure, but tells nothing of it.
            Ok(BroadcastMode::Async) => {
                let answer = TxResponse {
                    txhash: hash(&tx_bytes),
                    ..Default::default()
                };
                let sent = self.senders.run(move || broadcast(&engine, &tx_bytes)).await?;
                tracing::debug!(?sent, "asynchronous broadcast");
                answer
            }
            Ok(BroadcastMode::Block) => {
                return Err(Status::invalid_argument(
                    "BROADCAST_MODE_BLOCK is not supported: use BROADCAST_MODE_SYNC, then ask GetTx for the hash",
                ))
            }
            Err(_) => return Err(Status::invalid_argument(format!("mode {mode} is not a BroadcastMode"))),
        };
        Ok(Response::new(BroadcastTxResponse {
            tx_response: Some(tx_response),
        }))
    }
}
