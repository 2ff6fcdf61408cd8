//! The gRPC face: every query of the application's registry, transactions, the faucet, reflection and health.
//!
//! ```text
//!   connection (limited)          module `incoming`
//!     └─ router
//!          ├─ tenure.faucet.v1.Faucet       if enabled                            module `faucet`
//!          ├─ tenure.stream.v1.Stream       if blocks are archived                module `stream`
//!          ├─ grpc.reflection v1, v1alpha   the services that are really served
//!          ├─ grpc.health.v1.Health         SERVING while the engine makes blocks module `health`
//!          └─ everything else               /pkg.Service/Method → registry        module `registry`
//! ```
//!
//! Handlers run on blocking threads ([`workers::Workers`]): bounded in number and time, and a panic in one is an `INTERNAL` answer to one
//! request. They read committed state only and never wait for a block.

#![allow(
    clippy::result_large_err,
    reason = "the error of every handler is tonic's Status, as it is"
)]

pub mod abci;
mod comet;
pub mod faucet;
pub mod health;
pub mod incoming;
mod node_info;
pub mod registry;
pub mod services;
pub mod status;
pub mod stream;
pub mod tx;
pub mod workers;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tenure_proto::tenure::faucet::v1::faucet_server::FaucetServer;
use tenure_proto::tenure::stream::v1::stream_server::StreamServer;
use tenure_rest::Gateway;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_web::GrpcWebLayer;
use tower_http::cors::{Any, CorsLayer};

use crate::chain::Chain;
use crate::config::{ApiConfig, GrpcConfig};
use crate::engine::Engine;
use crate::grpc::abci::LateRegistry;
use crate::grpc::faucet::Faucet;
use crate::grpc::registry::{Dispatch, Registry};
use crate::grpc::services::Sources;
use crate::grpc::stream::StreamService;
use crate::grpc::workers::Workers;
use crate::metrics::grpc::GrpcMetrics;
use crate::metrics::Metrics;

/// How long requests under way may finish at stop.
const DRAIN: Duration = Duration::from_secs(2);
/// Most requests to the faucet at a time; it sends one after the other.
const MAX_DRIPS: usize = 8;
/// Longest request to the faucet, bytes.
const MAX_DRIP_BYTES: usize = 4 << 10;
/// How many times longer than its message the JSON of an answer may be.
const JSON_GROWTH: usize = 8;
/// Most requests of one connection at a time.
const MAX_STREAMS: u32 = 128;

/// What the server serves.
pub struct Services {
    /// The application's queries.
    pub chain: Arc<dyn Chain>,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Heights whose state is kept for queries.
    pub query_heights: u64,
    /// Where the application's ABCI side finds the node's own queries; set once they are there.
    pub abci: LateRegistry,
    /// Where REST listens, and its limits, if there is one.
    pub api: Option<(TcpListener, ApiConfig)>,
    /// The faucet, if there is one.
    pub faucet: Option<Faucet>,
    /// No block for this long means not serving; see [`health::run`].
    pub stall: Duration,
    /// Where requests are counted, if anywhere.
    pub metrics: Option<Arc<Metrics>>,
}

/// Threads that a runtime needs for the blocking work of [`serve`].
pub fn blocking_threads(config: &GrpcConfig) -> usize {
    config
        .max_concurrent_requests
        .saturating_mul(3)
        .saturating_add(MAX_DRIPS)
        .saturating_add(4)
}

/// Names of every service that a server of these paths offers, in order.
fn service_names<'a>(paths: impl Iterator<Item = &'a str>, faucet: bool, stream: bool) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = paths
        .filter_map(|path| Some(path.strip_prefix('/')?.split_once('/')?.0.to_owned()))
        .collect();
    if faucet {
        names.insert("tenure.faucet.v1.Faucet".to_owned());
    }
    if stream {
        names.insert("tenure.stream.v1.Stream".to_owned());
    }
    for name in [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ] {
        names.insert(name.to_owned());
    }
    names
}

/// `/pkg.Service/Method` of every method of ours in these services.
fn method_paths(names: &BTreeSet<String>) -> Vec<String> {
    let services = names
        .iter()
        .filter_map(|name| tenure_proto::pool().get_service_by_name(name));
    services
        .flat_map(|service| {
            let paths = service
                .methods()
                .map(|m| format!("/{}/{}", service.full_name(), m.name()));
            paths.collect::<Vec<_>>()
        })
        .collect()
}

/// Reflection knows the chain's files, health and itself, and lists what is served.
fn reflection(names: &BTreeSet<String>) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tenure_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
    names
        .iter()
        .fold(builder, |builder, name| builder.with_service_name(name))
}

/// Serves until `stop` holds true, then lets requests under way finish for a short while. Errors if the listener cannot be used or
/// the server ends by itself.
pub async fn serve(
    listener: TcpListener,
    config: &GrpcConfig,
    services: Services,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let Services {
        chain,
        engine,
        query_heights,
        abci,
        api,
        faucet,
        stall,
        metrics,
    } = services;
    let registry = Registry::new(Sources {
        chain,
        engine: engine.clone(),
        query_heights,
    });
    // Set before only if a node is served twice, which would be the same registry.
    let _ = abci.set(registry.clone());
    let archive = engine.archive();
    let names = service_names(registry.paths(), faucet.is_some(), archive.is_some());

    let (reporter, health_service) = tonic_health::server::health_reporter();
    health::announce(&reporter, &names, false).await;
    let health = tokio::spawn(health::run(reporter, names.clone(), engine, stall));

    let workers = |most| Workers::new(most, config.request_timeout.0);
    let dispatch = Dispatch {
        registry,
        readers: workers(config.max_concurrent_requests),
        senders: workers(config.max_concurrent_requests),
        limit: config.max_message_bytes,
    };
    let mut routes = Routes::from(dispatch.into_router());
    if let Some(faucet) = faucet {
        let service = FaucetServer::new(faucet.service(workers(MAX_DRIPS)));
        routes = routes.add_service(service.max_decoding_message_size(MAX_DRIP_BYTES));
    }
    if let Some(archive) = archive {
        let readers = workers(config.max_concurrent_requests);
        routes = routes.add_service(StreamServer::new(StreamService::new(archive, readers, stop.clone())));
    }
    routes = routes
        .add_service(reflection(&names).build_v1().context("reflection")?)
        .add_service(reflection(&names).build_v1alpha().context("reflection")?)
        .add_service(health_service);

    let routes = routes.prepare();
    let (drain, mut draining) = watch::channel(false);
    let rest = match api {
        None => None,
        Some((listener, api)) => {
            let router = rest(config, &api, &names)?.into_router(routes.clone().into_axum_router());
            let limits = tenure_rest::Limits {
                connections: api.max_open_connections,
                head: config.request_timeout.0,
            };
            Some(tokio::spawn(tenure_rest::serve(
                listener,
                router,
                limits,
                drain.subscribe(),
            )))
        }
    };
    let counted = GrpcMetrics::new(metrics, method_paths(&names));
    let serving = Server::builder()
        // The workers keep the limit and say so; this one is for requests that never finish arriving.
        .timeout(config.request_timeout.0 + Duration::from_secs(1))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_header_list_size(16 << 10)
        .accept_http1(true)
        .layer(cors())
        .layer(GrpcWebLayer::new())
        .layer(counted)
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            incoming::limited(listener, config.max_connections, config.request_timeout.0)?,
            async move {
                // Ends too if the sender is gone.
                let _ = draining.wait_for(|drain| *drain).await;
            },
        );
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let result = match ended {
        Some(ended) => ended
            .context("the gRPC server ended")
            .and_then(|()| anyhow::bail!("the gRPC server ended")),
        None => {
            drain.send_replace(true);
            // A client that holds a stream open does not hold up the stop.
            let _ = tokio::time::timeout(DRAIN, serving).await;
            if let Some(rest) = rest {
                let _ = tokio::time::timeout(DRAIN, rest).await;
            }
            Ok(())
        }
    };
    health.abort();
    result
}

/// REST for every service of ours that is served.
fn rest(grpc: &GrpcConfig, api: &ApiConfig, names: &BTreeSet<String>) -> Result<Gateway> {
    let pool = tenure_proto::pool();
    let described = |name: &&String| pool.get_service_by_name(name).is_some();
    let options = tenure_rest::Options {
        max_body_bytes: api.max_body_bytes,
        max_message_bytes: grpc.max_message_bytes,
        // JSON is longer than what it shows.
        max_json_bytes: grpc.max_message_bytes.saturating_mul(JSON_GROWTH),
        timeout: grpc.request_timeout.0 + Duration::from_secs(1),
        title: "Tenure".to_owned(),
        version: crate::version::VERSION.to_owned(),
    };
    Ok(Gateway::new(
        pool,
        &names.iter().filter(described).cloned().collect(),
        options,
    )?)
}

/// Pages of any origin may call: the node has no sessions that they could misuse.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers(Any)
        .expose_headers(Any)
}
