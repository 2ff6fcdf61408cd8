//! The gRPC face of a chain in memory, through which a client's transactions can be refused and its answers lost.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use base64::{engine::general_purpose::STANDARD, Engine};
use bytes::Bytes;
use prost::Message;
use serde_json::json;
use tenure_client::rpc::{HttpNode, Node};
use tenure_proto::cosmos::{
    base::abci::v1beta1::TxResponse,
    tx::v1beta1::{BroadcastTxRequest, BroadcastTxResponse, GetTxRequest, GetTxResponse},
};
use tenure_rest::BytesCodec;
use tenure_solo::SoloClient;
use tonic::{
    body::Body,
    codegen::Service,
    server::{Grpc, NamedService, UnaryService},
    Request, Response, Status,
};

use crate::chain::Chain;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Infallible>> + Send>>;

/// What happens to a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The mempool has no room.
    Full,
    /// The node never has it.
    RequestLost,
    /// The node has it and nobody is told.
    AnswerLost,
}

/// A node's gRPC.
#[derive(Clone)]
pub(crate) struct Face {
    engine: SoloClient,
    rpc: HttpNode,
    /// What happens to the next broadcasts.
    pub(crate) faults: Arc<Mutex<VecDeque<Fault>>>,
    /// How often something was broadcast.
    pub(crate) broadcasts: Arc<Mutex<usize>>,
    /// Where it listens.
    pub(crate) address: String,
}

impl Face {
    /// Serves a chain until the test's runtime ends.
    pub(crate) async fn of(chain: &Chain) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let face = Self {
            engine: chain.engine.client(),
            rpc: chain.node(),
            faults: Arc::default(),
            broadcasts: Arc::default(),
            address: format!("http://{}", listener.local_addr().unwrap()),
        };
        let server = tonic::transport::Server::builder()
            .add_service(ChainQuery(face.clone()))
            .add_service(AuthQuery(face.clone()))
            .add_service(BankQuery(face.clone()))
            .add_service(ProviderQuery(face.clone()))
            .add_service(Tx(face.clone()))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        tokio::spawn(server);
        face
    }

    async fn answer(&self, path: &str, message: &[u8]) -> Result<Vec<u8>, Status> {
        match path.rsplit('/').next().unwrap() {
            "BroadcastTx" => {
                let tx = BroadcastTxRequest::decode(message).unwrap().tx_bytes;
                let response = BroadcastTxResponse {
                    tx_response: Some(self.broadcast(&tx)?),
                };
                Ok(response.encode_to_vec())
            }
            "GetTx" => {
                let hash = hex::decode(GetTxRequest::decode(message).unwrap().hash).unwrap();
                let found = self.engine.tx(&hash).unwrap();
                let record = found.ok_or_else(|| Status::not_found("tx not found"))?;
                let response = TxResponse {
                    height: record.height,
                    txhash: hex::encode_upper(hash),
                    codespace: record.result.codespace,
                    code: record.result.code,
                    raw_log: record.result.log,
                    data: hex::encode_upper(&record.result.data),
                    gas_used: record.result.gas_used,
                    ..Default::default()
                };
                let response = GetTxResponse {
                    tx: None,
                    tx_response: Some(response),
                };
                Ok(response.encode_to_vec())
            }
            _ => {
                let params = json!({ "path": path, "data": hex::encode(message) });
                let answer = self.rpc.call("abci_query", params).await.unwrap();
                let response = &answer["response"];
                match response["code"].as_u64().unwrap_or_default() {
                    0 => Ok(STANDARD.decode(response["value"].as_str().unwrap_or_default()).unwrap()),
                    code => {
                        let mut status = Status::failed_precondition(response["log"].as_str().unwrap());
                        let codespace = response["codespace"].as_str().unwrap().parse().unwrap();
                        status.metadata_mut().insert("tenure-codespace", codespace);
                        status.metadata_mut().insert("tenure-code", code.into());
                        Err(status)
                    }
                }
            }
        }
    }

    #[allow(clippy::result_large_err, reason = "tonic's own error")]
    fn broadcast(&self, tx: &[u8]) -> Result<TxResponse, Status> {
        *self.broadcasts.lock().unwrap() += 1;
        let fault = self.faults.lock().unwrap().pop_front();
        let refused = |code| TxResponse {
            codespace: "sdk".to_owned(),
            code,
            ..Default::default()
        };
        if fault == Some(Fault::Full) {
            return Ok(refused(20));
        }
        if fault == Some(Fault::RequestLost) {
            return Err(Status::unavailable("lost"));
        }
        let answer = match self.engine.broadcast_tx_sync(tx) {
            Ok(sent) => TxResponse {
                codespace: sent.check_tx.codespace,
                code: sent.check_tx.code,
                raw_log: sent.check_tx.log,
                ..Default::default()
            },
            Err(error) => refused(error.sdk_code().expect("a code")),
        };
        match fault {
            Some(Fault::AnswerLost) => Err(Status::unavailable("lost")),
            _ => Ok(answer),
        }
    }
}

macro_rules! served {
    ($($service:ident = $name:literal),+) => {$(
        #[derive(Clone)]
        struct $service(Face);

        impl NamedService for $service {
            const NAME: &'static str = $name;
        }

        impl Service<http::Request<Body>> for $service {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Answer<Self::Response>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                let call = Call(self.0.clone(), request.uri().path().to_owned());
                Box::pin(async move { Ok(Grpc::new(BytesCodec).unary(call, request).await) })
            }
        }
    )+};
}

served!(
    ChainQuery = "tenure.chain.v1.Query",
    AuthQuery = "cosmos.auth.v1beta1.Query",
    BankQuery = "cosmos.bank.v1beta1.Query",
    ProviderQuery = "tenure.provider.v1.Query",
    Tx = "cosmos.tx.v1beta1.Service"
);

struct Call(Face, String);

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (face, path) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            let answer = face.answer(&path, &request.into_inner()).await?;
            Ok(Response::new(answer.into()))
        })
    }
}
