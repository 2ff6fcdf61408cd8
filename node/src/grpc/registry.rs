//! One registry of queries: `/pkg.Service/Method`, encoded request to encoded response. The application's own queries and the node's
//! ([`super::services`]) are rows of it; gRPC, REST and ABCI look up the same rows, so their answers are the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, UnaryService};
use tonic::Status;

use crate::chain::Answer;
use crate::grpc::services::{Kind, Method, Sources, METHODS};
use crate::grpc::status::status;
use crate::grpc::workers::Workers;

pub use tenure_rest::{BytesCodec, HEIGHT};

/// Who answers a method.
#[derive(Clone, Copy)]
enum Owner {
    Application,
    Node(&'static Method),
}

/// See the module's documentation.
#[derive(Clone)]
pub struct Registry {
    sources: Sources,
    methods: Arc<BTreeMap<String, Owner>>,
}

impl Registry {
    /// The application's queries and the node's.
    pub fn new(sources: Sources) -> Self {
        let own = METHODS.iter().map(|m| (m.path.to_owned(), Owner::Node(m)));
        let application = sources
            .chain
            .query_paths()
            .into_iter()
            .map(|path| (path, Owner::Application));
        let methods = Arc::new(own.chain(application).collect());
        Self { sources, methods }
    }

    /// Every method, `/package.Service/Method`, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.methods.keys().map(String::as_str)
    }

    /// Answers a method; may block. `height` asks for the state after that height, where the method reads state; `None` is the latest.
    /// Status: the method is unknown (UNIMPLEMENTED), or whatever it says.
    pub fn answer(&self, path: &str, request: &[u8], height: Option<u64>) -> Result<Answer, Status> {
        match self.methods.get(path) {
            Some(Owner::Application) => self.sources.chain.query(path, request, height).map_err(|e| status(&e)),
            Some(Owner::Node(method)) => {
                let value = (method.answer)(&self.sources, request)?;
                let head = self.sources.engine.head().map_or(0, |head| head.height);
                Ok(Answer {
                    value,
                    height: u64::try_from(head).unwrap_or_default(),
                })
            }
            None => Err(unknown(path)),
        }
    }

    /// What a method waits for; `None` if there is no such method.
    pub fn kind(&self, path: &str) -> Option<Kind> {
        self.methods.get(path).map(|owner| match owner {
            Owner::Application => Kind::Read,
            Owner::Node(method) => method.kind,
        })
    }
}

fn unknown(path: &str) -> Status {
    let shown: String = path.chars().take(200).collect();
    Status::unimplemented(format!("unknown method {shown}"))
}

/// The registry as one gRPC service for all methods: request and answer travel as the bytes they are.
#[derive(Clone)]
pub struct Dispatch {
    /// The methods.
    pub registry: Registry,
    /// Who runs those that read.
    pub readers: Workers,
    /// Who runs those that send: these wait for `Commit`, and reading must not wait behind them.
    pub senders: Workers,
    /// Longest message of either direction, bytes.
    pub limit: usize,
}

impl Dispatch {
    /// A router that answers every path; unknown ones with UNIMPLEMENTED.
    pub fn into_router(self) -> axum::Router {
        axum::Router::new().fallback(dispatch).with_state(self)
    }
}

async fn dispatch(State(dispatch): State<Dispatch>, request: http::Request<axum::body::Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let workers = match dispatch.registry.kind(&path) {
        Some(Kind::Read) => dispatch.readers,
        Some(Kind::Send) => dispatch.senders,
        None => return unknown(&path).into_http(),
    };
    let limit = dispatch.limit;
    let mut grpc = Grpc::new(BytesCodec).apply_max_message_size_config(Some(limit), Some(limit));
    let call = Call {
        registry: dispatch.registry,
        workers,
        path,
    };
    grpc.unary(call, request.map(Body::new)).await
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

struct Call {
    registry: Registry,
    workers: Workers,
    path: String,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = std::pin::Pin<Box<dyn std::future::Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (registry, workers, path) = (self.registry.clone(), self.workers.clone(), self.path.clone());
        Box::pin(async move {
            let height = height(request.metadata())?;
            let bytes = request.into_inner();
            let answer = workers.run(move || registry.answer(&path, &bytes, height)).await??;
            let mut response = tonic::Response::new(Bytes::from(answer.value));
            response.metadata_mut().insert(HEIGHT, answer.height.into());
            Ok(response)
        })
    }
}
