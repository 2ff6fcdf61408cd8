//! One gRPC service for every query: `/pkg.Service/Method` is looked up in the application's registry, and request and answer
//! travel as the bytes they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::{Buf, BufMut, Bytes};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, UnaryService};
use tonic::Status;

use crate::chain::Chain;
use crate::grpc::status::status;
use crate::grpc::workers::Workers;

/// Metadata key of the height a query is about: asked for in requests, told in answers.
pub const HEIGHT: &str = "x-cosmos-block-height";

/// See the module's documentation.
#[derive(Clone)]
pub struct Registry {
    chain: Arc<dyn Chain>,
    paths: Arc<BTreeSet<String>>,
    workers: Workers,
    limit: usize,
}

impl Registry {
    /// Serves `paths` of `chain`; messages of either direction are at most `limit` bytes.
    pub fn new(chain: Arc<dyn Chain>, paths: &[String], workers: Workers, limit: usize) -> Self {
        Self {
            chain,
            paths: Arc::new(paths.iter().cloned().collect()),
            workers,
            limit,
        }
    }

    /// A router that answers every path; unknown ones with UNIMPLEMENTED.
    pub fn into_router(self) -> axum::Router {
        axum::Router::new().fallback(dispatch).with_state(self)
    }
}

async fn dispatch(State(registry): State<Registry>, request: http::Request<axum::body::Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if !registry.paths.contains(&path) {
        let shown: String = path.chars().take(200).collect();
        return Status::unimplemented(format!("unknown method {shown}")).into_http();
    }
    let limit = registry.limit;
    let mut grpc = Grpc::new(BytesCodec).apply_max_message_size_config(Some(limit), Some(limit));
    grpc.unary(Query { registry, path }, request.map(Body::new)).await
}

/// The height asked for; 0 and nothing mean the latest. Status: it is not a number.
fn height(metadata: &MetadataMap) -> Result<Option<u64>, Status> {
    let Some(value) = metadata.get(HEIGHT) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("(not ASCII)");
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(height) => Ok(Some(height)),
        Err(_) => Err(Status::invalid_argument(format!(
            "metadata {HEIGHT} is {text:?}, must be a height"
        ))),
    }
}

struct Query {
    registry: Registry,
    path: String,
}

impl UnaryService<Bytes> for Query {
    type Response = Bytes;
    type Future = std::pin::Pin<Box<dyn std::future::Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (registry, path) = (self.registry.clone(), self.path.clone());
        Box::pin(async move {
            let height = height(request.metadata())?;
            let bytes = request.into_inner();
            let chain = registry.chain;
            let answer = registry
                .workers
                .run(move || chain.query(&path, &bytes, height))
                .await?
                .map_err(|e| status(&e))?;
            let mut response = tonic::Response::new(Bytes::from(answer.value));
            response.metadata_mut().insert(HEIGHT, answer.height.into());
            Ok(response)
        })
    }
}

/// Messages as bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}
