//! The gateway: where tenants hand workloads over, follow them and fetch their outputs.
//!
//! Every call but Info carries a token that the tenant's key signed for this lease at this provider; [`authorise`] judges it before the chain
//! is asked anything. Errors are gRPC statuses whose sentence names field, value and limit: `UNAUTHENTICATED` for the token,
//! `PERMISSION_DENIED` for somebody else's lease, `INVALID_ARGUMENT` for what was sent, `FAILED_PRECONDITION` for the lease's state,
//! `RESOURCE_EXHAUSTED` for too much at once.

#![allow(clippy::result_large_err, reason = "tonic's handlers return Result<_, Status>")]

pub mod manifest;
mod submit;

use std::{
    collections::BTreeSet,
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::Stream;
use parking_lot::Mutex;
use tenure_client::{
    auth::{check_bearer, parse_bearer, receipt_bytes, wall_ms, CLOCK_SKEW_MS},
    keys::verify,
};
use tenure_proto::tenure::{
    gateway::v1::{
        gateway_server::{Gateway as GatewayRpc, GatewayServer},
        submit_request::Part,
        FetchRequest, FetchResponse, InfoRequest, InfoResponse, LogsRequest, LogsResponse, StatusRequest,
        StatusResponse, SubmitHeader, SubmitRequest, SubmitResponse, WorkloadState,
    },
    market::v1::{Lease, LeaseState},
};
use tenure_types::Address;
use tokio::sync::{mpsc, OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{metadata::MetadataMap, Request, Response, Status, Streaming};

use self::submit::{Upload, MAX_CHUNK};
use crate::{
    chain::Chain,
    disk::{LeaseRecord, Phase},
    workloads::{open_regular, Workloads},
};

/// Longest message taken, bytes: one chunk, or a header with a large manifest.
pub const MAX_MESSAGE: usize = MAX_CHUNK + (64 << 10);
/// Hand-overs at a time.
const MOST_SUBMITS: usize = 8;
/// Log and output streams at a time.
const MOST_STREAMS: usize = 128;
/// Calls at a time on one connection.
const MOST_CALLS_PER_CONNECTION: usize = 32;
/// How long a hand-over may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest time a module may take to compile before the hand-over is refused.
const COMPILE_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of log in one message.
const LOG_PIECE: usize = 64 << 10;
/// How often a stream that follows looks whether the workload has ended.
const FOLLOW_TICK: Duration = Duration::from_millis(200);

type Reply<T> = Result<Response<T>, Status>;
type Pieces<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The gateway of one provider.
pub struct Gateway<C> {
    chain: Arc<C>,
    workloads: Workloads,
    chain_id: String,
    provider: String,
    max_module_bytes: usize,
    submitting: Arc<Mutex<BTreeSet<u64>>>,
    submits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// Who holds a token that was judged.
struct Caller {
    address: Address,
    public_key: Vec<u8>,
}

pub(crate) fn internal<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Status {
    move |error| {
        tracing::error!("{what}: {error}");
        Status::internal(format!("{what}: {error}"))
    }
}

/// Judges the token of a call: the signature and every claim but whose lease it is, without asking anybody.
fn authorise(
    metadata: &MetadataMap,
    chain_id: &str,
    lease_id: u64,
    provider: &str,
    now_ms: u64,
) -> Result<Caller, Status> {
    let unauthenticated = |e: &dyn ToString| Status::unauthenticated(e.to_string());
    let header = metadata
        .get("authorization")
        .ok_or_else(|| unauthenticated(&"the metadata `authorization` is missing"))?
        .to_str()
        .map_err(|e| unauthenticated(&e))?;
    let (token, claims) = parse_bearer(header).map_err(|e| unauthenticated(&e))?;
    let address = Address::of_secp256k1(&token.public_key);
    // Two honest clocks may differ by the skew: within it a token is judged as if it were its time.
    let skewed = if now_ms < claims.not_before_ms && claims.not_before_ms - now_ms <= CLOCK_SKEW_MS {
        claims.not_before_ms
    } else if now_ms >= claims.expires_ms && now_ms - claims.expires_ms < CLOCK_SKEW_MS {
        claims.expires_ms.saturating_sub(1)
    } else {
        now_ms
    };
    check_bearer(header, chain_id, lease_id, provider, &address, skewed).map_err(|e| unauthenticated(&e))?;
    Ok(Caller {
        address,
        public_key: token.public_key,
    })
}

impl<C: Chain> Gateway<C> {
    /// The gateway of `provider` on a chain.
    pub fn new(chain: Arc<C>, workloads: Workloads, chain_id: &str, provider: &str, max_module_bytes: usize) -> Self {
        Self {
            chain,
            workloads,
            chain_id: chain_id.to_owned(),
            provider: provider.to_owned(),
            max_module_bytes,
            submitting: Arc::default(),
            submits: Arc::new(Semaphore::new(MOST_SUBMITS)),
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        }
    }

    fn caller(&self, metadata: &MetadataMap, lease_id: u64) -> Result<Caller, Status> {
        authorise(metadata, &self.chain_id, lease_id, &self.provider, wall_ms())
    }

    /// Lets the lease's tenant in. A lease whose files are here is known without the chain, for as long as they are kept.
    async fn admit(&self, metadata: &MetadataMap, lease_id: u64) -> Result<(), Status> {
        let caller = self.caller(metadata, lease_id)?;
        let tenant = match self.workloads.view(lease_id) {
            Some(view) => view.record.tenant,
            None => self.lease(lease_id).await?.tenant,
        };
        is_tenant(&caller, &tenant, lease_id)
    }

    async fn lease(&self, id: u64) -> Result<Lease, Status> {
        let lease = self
            .chain
            .lease(id)
            .await
            .map_err(|e| Status::unavailable(format!("the chain: {e}")))?;
        let lease = lease.ok_or_else(|| Status::not_found(format!("lease {id} does not exist")))?;
        if lease.provider != self.provider {
            return Err(Status::permission_denied(format!(
                "lease {id} is with {}, this is {}",
                lease.provider, self.provider
            )));
        }
        Ok(lease)
    }

    fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        let exhausted =
            |_| Status::resource_exhausted(format!("{MOST_STREAMS} streams are open, the limit: try again"));
        self.streams.clone().try_acquire_owned().map_err(exhausted)
    }

    async fn receive(
        &self,
        caller: &Caller,
        header: SubmitHeader,
        parts: &mut Streaming<SubmitRequest>,
    ) -> Result<(), Status> {
        let id = header.lease_id;
        let lease = self.lease(id).await?;
        is_tenant(caller, &lease.tenant, id)?;
        let Some(manifest) = header.manifest else {
            return Err(Status::invalid_argument("header.manifest: missing"));
        };
        let receipt = receipt_bytes(&self.chain_id, id, &lease.manifest_hash);
        if !verify(&caller.public_key, &receipt, &header.receipt_signature) {
            return Err(Status::invalid_argument(format!(
                "header.receipt_signature is not {}'s over the receipt of lease {id} and its manifest hash",
                lease.tenant
            )));
        }
        let expected = manifest::check(&manifest, &lease, self.max_module_bytes).map_err(Status::invalid_argument)?;
        // The manifest is the lease's, so what is here already is the same: sending it twice is no error.
        if self.workloads.view(id).is_some() {
            return Ok(());
        }
        if lease.state() != LeaseState::Starting {
            return Err(Status::failed_precondition(format!(
                "lease {id} is {}, a workload is taken while it is STARTING",
                lease.state().as_str_name().trim_start_matches("LEASE_STATE_")
            )));
        }
        let _turn = Turn::take(&self.submitting, id)?;
        let dir = self
            .workloads
            .home()
            .incoming(id)
            .map_err(internal("the hand-over's directory"))?;
        let mut upload = Upload::new(dir, expected);
        while let Some(part) = next(parts).await? {
            let Some(Part::Chunk(chunk)) = part.part else {
                return Err(Status::invalid_argument("after the header every part must be a chunk"));
            };
            tokio::task::block_in_place(|| upload.chunk(&chunk))?;
        }
        tokio::task::block_in_place(|| upload.finish(&manifest))?;
        let module = tokio::fs::read(upload.dir().join("module.wasm"))
            .await
            .map_err(internal("the module"))?;
        let runtime = self.workloads.runtime().clone();
        let compile = tokio::task::spawn_blocking(move || runtime.prepare(&module));
        let program = tokio::time::timeout(COMPILE_LIMIT, compile)
            .await
            .map_err(|_| {
                Status::invalid_argument(format!(
                    "module: compiling took more than {} s",
                    COMPILE_LIMIT.as_secs()
                ))
            })?
            .map_err(internal("the compiler"))?
            .map_err(|refused| Status::invalid_argument(refused.to_string()))?;
        let record = LeaseRecord {
            lease_id: id,
            tenant: lease.tenant,
            manifest_hash: hex::encode(&lease.manifest_hash),
            receipt_signature: hex::encode(&header.receipt_signature),
            phase: Phase::Running,
            retired_ms: None,
        };
        let accepted = tokio::task::block_in_place(|| self.workloads.accept(upload.dir(), record, manifest, &*program));
        if self.workloads.home().lease(id).exists() {
            upload.keep();
        }
        accepted.map_err(|error| internal("the workload could not be started")(format!("{error:#}")))
    }
}

fn is_tenant(caller: &Caller, tenant: &str, lease_id: u64) -> Result<(), Status> {
    if caller.address.to_string() == tenant {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "the token is signed by {}, the tenant of lease {lease_id} is {tenant}",
        caller.address
    )))
}

/// One hand-over of a lease at a time.
struct Turn(Arc<Mutex<BTreeSet<u64>>>, u64);

impl Turn {
    fn take(turns: &Arc<Mutex<BTreeSet<u64>>>, id: u64) -> Result<Self, Status> {
        if turns.lock().insert(id) {
            return Ok(Self(turns.clone(), id));
        }
        Err(Status::aborted(format!("another hand-over of lease {id} is under way")))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

async fn next(parts: &mut Streaming<SubmitRequest>) -> Result<Option<SubmitRequest>, Status> {
    tokio::time::timeout(SILENCE, parts.message())
        .await
        .map_err(|_| Status::deadline_exceeded(format!("the hand-over was silent for {} s", SILENCE.as_secs())))?
}

#[tonic::async_trait]
impl<C: Chain> GatewayRpc for Gateway<C> {
    async fn info(&self, _: Request<InfoRequest>) -> Reply<InfoResponse> {
        Ok(Response::new(InfoResponse {
            provider: self.provider.clone(),
            chain_id: self.chain_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn submit(&self, request: Request<Streaming<SubmitRequest>>) -> Reply<SubmitResponse> {
        let _permit = self.submits.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{MOST_SUBMITS} hand-overs are under way, the limit: try again"))
        })?;
        let (metadata, _, mut parts) = request.into_parts();
        let Some(SubmitRequest {
            part: Some(Part::Header(header)),
        }) = next(&mut parts).await?
        else {
            return Err(Status::invalid_argument(
                "the first part of a hand-over must be its header",
            ));
        };
        let caller = self.caller(&metadata, header.lease_id)?;
        self.receive(&caller, header, &mut parts).await?;
        Ok(Response::new(SubmitResponse {}))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Reply<StatusResponse> {
        let id = request.get_ref().lease_id;
        self.admit(request.metadata(), id).await?;
        let Some(view) = self.workloads.view(id) else {
            let detail = "nothing was handed over yet".to_owned();
            return Ok(Response::new(StatusResponse {
                state: WorkloadState::Waiting.into(),
                detail,
                ..Default::default()
            }));
        };
        let log_bytes = view.log_bytes;
        Ok(Response::new(match view.record.phase {
            Phase::Running => StatusResponse {
                state: WorkloadState::Running.into(),
                detail: if view.running { "running" } else { "waits to begin anew" }.to_owned(),
                log_bytes,
                ..Default::default()
            },
            Phase::Ended(ended) => StatusResponse {
                state: if ended.by_itself {
                    WorkloadState::Exited
                } else {
                    WorkloadState::Failed
                }
                .into(),
                exit_code: ended.exit_code,
                outputs: Some(ended.output_list()),
                detail: ended.detail,
                log_bytes,
            },
        }))
    }

    type LogsStream = Pieces<LogsResponse>;

    async fn logs(&self, request: Request<LogsRequest>) -> Reply<Self::LogsStream> {
        let LogsRequest {
            lease_id,
            offset,
            follow,
        } = *request.get_ref();
        self.admit(request.metadata(), lease_id).await?;
        let permit = self.stream_permit()?;
        let log = self.workloads.log(lease_id).ok_or_else(|| nothing_here(lease_id))?;
        if offset > log.length() {
            return Err(Status::out_of_range(format!(
                "offset {offset} is beyond the log's {} bytes",
                log.length()
            )));
        }
        let (pieces, receiver) = mpsc::channel(4);
        let workloads = self.workloads.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let mut offset = offset;
            let mut length = log.follow();
            loop {
                // Asked before the log is read: what is written later is not the last word.
                let running = workloads
                    .view(lease_id)
                    .is_some_and(|view| view.record.phase == Phase::Running);
                let reader = log.clone();
                let read = tokio::task::spawn_blocking(move || reader.read(offset, LOG_PIECE)).await;
                let piece = match read
                    .map_err(internal("the log"))
                    .and_then(|r| r.map_err(internal("the log")))
                {
                    Ok(data) if data.is_empty() => {
                        if !follow || !running || pieces.is_closed() {
                            return;
                        }
                        let _ = tokio::time::timeout(FOLLOW_TICK, length.wait_for(|length| *length > offset))
                            .await
                            .is_ok();
                        continue;
                    }
                    Ok(data) => {
                        let piece = LogsResponse { offset, data };
                        offset += piece.data.len() as u64;
                        Ok(piece)
                    }
                    Err(status) => Err(status),
                };
                let failed = piece.is_err();
                if pieces.send(piece).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type FetchStream = Pieces<FetchResponse>;

    async fn fetch(&self, request: Request<FetchRequest>) -> Reply<Self::FetchStream> {
        let FetchRequest { lease_id, name, offset } = request.get_ref().clone();
        self.admit(request.metadata(), lease_id).await?;
        let permit = self.stream_permit()?;
        let view = self.workloads.view(lease_id).ok_or_else(|| nothing_here(lease_id))?;
        let Phase::Ended(ended) = view.record.phase else {
            return Err(Status::failed_precondition(format!(
                "the workload of lease {lease_id} has not ended"
            )));
        };
        // Only names of the signed list reach the file system.
        let Some(output) = ended.outputs.into_iter().find(|output| output.name == name) else {
            return Err(Status::not_found(format!(
                "output {name:?} is not in the output list of lease {lease_id}"
            )));
        };
        if offset > output.size {
            return Err(Status::out_of_range(format!(
                "offset {offset} is beyond the file's {} bytes",
                output.size
            )));
        }
        let path = self.workloads.home().lease(lease_id).join("out").join(&output.name);
        let (pieces, receiver) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let send = |piece| pieces.blocking_send(piece).is_ok();
            let mut file = match open_regular(&path).and_then(|mut f| f.seek(SeekFrom::Start(offset)).map(|_| f)) {
                Ok(file) => file.take(output.size - offset),
                Err(error) => {
                    send(Err(internal("the output")(error)));
                    return;
                }
            };
            loop {
                let mut data = Vec::new();
                match file.by_ref().take(MAX_CHUNK as u64).read_to_end(&mut data) {
                    Ok(0) => return,
                    Ok(_) if send(Ok(FetchResponse { data })) => {}
                    Ok(_) => return,
                    Err(error) => {
                        send(Err(internal("the output")(error)));
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn nothing_here(lease_id: u64) -> Status {
    Status::failed_precondition(format!("nothing was handed over for lease {lease_id}"))
}

/// Binds the address and serves until `stop` resolves; open calls have five seconds to end. Gives the bound address first. Error: the address
/// cannot be bound.
pub async fn serve<C: Chain>(
    gateway: Gateway<C>,
    listen: SocketAddr,
    stop: impl std::future::Future<Output = ()> + Send + 'static,
) -> anyhow::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|error| anyhow::anyhow!("the gateway cannot listen on {listen}: {error}"))?;
    let bound = listener.local_addr()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let service = GatewayServer::new(gateway).max_decoding_message_size(MAX_MESSAGE);
    health.set_serving::<GatewayServer<Gateway<C>>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tenure_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let server = tonic::transport::Server::builder()
        .concurrency_limit_per_connection(MOST_CALLS_PER_CONNECTION)
        .max_concurrent_streams(MOST_CALLS_PER_CONNECTION as u32)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .tcp_nodelay(true)
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(service);
    let task = tokio::spawn(async move {
        let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let serving = server.serve_with_incoming_shutdown(incoming, async move {
            stop.await;
            let _ = stopping.send(());
        });
        let overdue = async {
            let _ = stopped.await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        };
        tokio::select! {
            ended = serving => if let Err(error) = ended {
                tracing::error!("the gateway stopped: {error}");
            },
            () = overdue => tracing::warn!("calls that did not end in time were cut off"),
        }
    });
    Ok((bound, task))
}

#[cfg(test)]
mod tests;
