//! The gRPC face: every query of the application's registry, transactions, the faucet, reflection and health.
//!
//! ```text
//!   connection (limited)          module `incoming`
//!     └─ router
//!          ├─ cosmos.tx.v1beta1.Service     BroadcastTx, GetTx, Simulate          module `tx`
//!          ├─ tenure.faucet.v1.Faucet       if enabled                            module `faucet`
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

pub mod faucet;
pub mod health;
pub mod incoming;
pub mod registry;
pub mod status;
pub mod tx;
pub mod workers;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tenure_proto::cosmos::tx::v1beta1::service_server::{Service, ServiceServer};
use tenure_proto::tenure::faucet::v1::faucet_server::{Faucet as FaucetRpc, FaucetServer};
use tenure_solo::SoloClient;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::chain::Chain;
use crate::config::GrpcConfig;
use crate::grpc::faucet::Faucet;
use crate::grpc::registry::Registry;
use crate::grpc::tx::TxService;
use crate::grpc::workers::Workers;

/// How long requests under way may finish at stop.
const DRAIN: Duration = Duration::from_secs(2);
/// Most requests to the faucet at a time; it sends one after the other.
const MAX_DRIPS: usize = 8;
/// Most requests of one connection at a time.
const MAX_STREAMS: u32 = 128;

/// What the server serves.
pub struct Services {
    /// The application's queries.
    pub chain: Arc<dyn Chain>,
    /// The engine.
    pub engine: SoloClient,
    /// The faucet, if there is one.
    pub faucet: Option<Faucet>,
    /// No block for this long means not serving; see [`health::run`].
    pub stall: Duration,
}

/// Threads that a runtime needs for the blocking work of [`serve`].
pub fn blocking_threads(config: &GrpcConfig) -> usize {
    config
        .max_concurrent_requests
        .saturating_mul(2)
        .saturating_add(MAX_DRIPS)
        .saturating_add(4)
}

/// Names of every service that a server of these paths offers, in order.
fn service_names(paths: &[String], faucet: bool) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = paths
        .iter()
        .filter_map(|path| Some(path.strip_prefix('/')?.split_once('/')?.0.to_owned()))
        .collect();
    names.insert("cosmos.tx.v1beta1.Service".to_owned());
    if faucet {
        names.insert("tenure.faucet.v1.Faucet".to_owned());
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
        faucet,
        stall,
    } = services;
    let workers = Workers::new(config.max_concurrent_requests, config.request_timeout.0);
    // What is sent waits for `Commit`; queries must not wait behind it.
    let senders = Workers::new(config.max_concurrent_requests, config.request_timeout.0);
    let drips = Workers::new(MAX_DRIPS, config.request_timeout.0);
    let limit = config.max_message_bytes;
    let paths = chain.query_paths();
    let names = service_names(&paths, faucet.is_some());
    let registry = Registry::new(chain.clone(), &paths, workers.clone(), limit);

    let (reporter, health_service) = tonic_health::server::health_reporter();
    health::announce(&reporter, &names, false).await;
    let health = tokio::spawn(health::run(reporter, names.clone(), engine.clone(), stall));

    let mut routes = Routes::from(registry.into_router());
    let tx = TxService::new(chain, engine, workers, senders);
    routes = routes.add_service(sized(ServiceServer::new(tx), limit));
    if let Some(faucet) = faucet {
        routes = routes.add_service(sized_faucet(FaucetServer::new(faucet.service(drips)), limit));
    }
    routes = routes
        .add_service(reflection(&names).build_v1().context("reflection")?)
        .add_service(reflection(&names).build_v1alpha().context("reflection")?)
        .add_service(health_service);

    let (drain, mut draining) = watch::channel(false);
    let serving = Server::builder()
        // The workers keep the limit and say so; this one is for requests that never finish arriving.
        .timeout(config.request_timeout.0 + Duration::from_secs(1))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_header_list_size(16 << 10)
        .add_routes(routes.prepare())
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
            Ok(())
        }
    };
    health.abort();
    result
}

fn sized<T: Service>(service: ServiceServer<T>, limit: usize) -> ServiceServer<T> {
    service
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit)
}

fn sized_faucet<T: FaucetRpc>(service: FaucetServer<T>, limit: usize) -> FaucetServer<T> {
    service.max_decoding_message_size(limit.min(4 << 10))
}
