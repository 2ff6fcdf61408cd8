//! CometBFT v0.38's JSON-RPC over HTTP: POST (single and batch) on `/`, URI calls on `/<method>`, all of it and subscriptions on
//! `/websocket`.
//!
//! [`wire`] speaks JSON-RPC, [`args`] decodes arguments with CometBFT's conventions, [`methods`] answers, [`render`] draws its
//! JSON, [`ws`] serves websockets, [`events`] describes what they are told, [`listener`] bounds connections. Every application or store call runs on a blocking thread; a panic there is an internal error of that request only.

mod args;
mod events;
mod listener;
mod methods;
mod render;
mod search;
mod wire;
mod ws;

pub(crate) use render::{base64, block_id, nullable, time};

use crate::core::SoloClient;
use crate::error::SoloError;
use axum::body::{to_bytes, Body};
use axum::extract::{Path, Query, State};
use axum::http::{header, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::Router;
use serde_json::Value;
use std::future::IntoFuture as _;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tower_http::cors::{Any, CorsLayer};

/// The largest request body, bytes (CometBFT's `max_body_bytes`).
const MAX_BODY_BYTES: usize = 1_000_000;
/// How long a body may take to arrive (CometBFT's read timeout).
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests under way may finish at stop.
const DRAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) const WS_PATIENCE: Duration = ws::PATIENCE;
#[cfg(test)]
pub(crate) const WS_MAX_CLIENTS: usize = ws::MAX_CLIENTS;

/// What handlers share.
#[derive(Clone)]
struct Rpc {
    client: SoloClient,
    clients: ws::Clients,
}

/// The RPC thread.
pub(crate) struct Server {
    shutdown: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Serves on `listener` from a thread with its own runtime, so that callers with and without one are alike.
    pub(crate) fn start(listener: TcpListener, client: SoloClient) -> Result<Self, SoloError> {
        let fail = |e: std::io::Error| SoloError::Config(format!("cannot start the RPC server: {e}"));
        listener.set_nonblocking(true).map_err(fail)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(64)
            .thread_name("solo-rpc")
            .enable_all()
            .build()
            .map_err(fail)?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(fail)?
        };
        let (shutdown, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("solo-rpc".into())
            .spawn(move || {
                runtime.block_on(async move {
                    let (drain, draining) = oneshot::channel::<()>();
                    let serving =
                        axum::serve(listener::Bounded::new(listener), router(client)).with_graceful_shutdown(async {
                            let _ = draining.await;
                        });
                    let mut serving = std::pin::pin!(serving.into_future());
                    tokio::select! {
                        _ = stopped => {}
                        // Accept errors are retried inside; serving ends only when told to.
                        _ = &mut serving => return,
                    }
                    let _ = drain.send(());
                    let _ = tokio::time::timeout(DRAIN, serving).await;
                });
                runtime.shutdown_timeout(DRAIN);
            })
            .map_err(fail)?;
        Ok(Self { shutdown, thread })
    }

    /// Closes the listener, lets requests under way finish for a second, joins the thread.
    pub(crate) fn stop(self) {
        // An error means the thread has ended already.
        let _ = self.shutdown.send(());
        let _ = self.thread.join();
    }
}

fn router(client: SoloClient) -> Router {
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any);
    Router::new()
        .route("/", any(root))
        .route("/websocket", get(ws::upgrade))
        .route("/{method}", any(uri_call))
        .layer(cors)
        .with_state(Rpc {
            client,
            clients: ws::Clients::default(),
        })
}

fn json(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// `/`: JSON-RPC if there is a body, else the list of methods for a person with a browser.
async fn root(State(Rpc { client, .. }): State<Rpc>, body: Body) -> Response {
    let refuse = |why: String| {
        let e = wire::Error::invalid_request(format!("error reading request body: {why}"));
        json(StatusCode::BAD_REQUEST, &wire::failure(None, &e))
    };
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(e)) => return refuse(format!("{e} (limit {MAX_BODY_BYTES} bytes)")),
        Err(_) => return refuse(format!("not complete after {} s", BODY_TIMEOUT.as_secs())),
    };
    if bytes.is_empty() {
        return ([(header::CONTENT_TYPE, "text/html")], wire::endpoint_list()).into_response();
    }
    let calls = match wire::parse(&bytes) {
        Ok(calls) => calls,
        Err((status, e)) => return json(status, &wire::failure(None, &e)),
    };
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        // A call without an id is a notification: no answer, and CometBFT does not run it.
        let Some(id) = call.id else { continue };
        let outcome = match methods::find(&call.method) {
            None => Err(wire::Error::method_not_found()),
            Some(method) => match args::from_json(method.args, &call.params) {
                Err(e) => Err(e),
                Ok(args) => methods::call(client.clone(), method, args).await,
            },
        };
        answers.push(wire::response(Some(&id), outcome));
    }
    match answers.len() {
        0 => StatusCode::OK.into_response(),
        1 => json(StatusCode::OK, &answers[0]),
        _ => json(StatusCode::OK, &Value::Array(answers)),
    }
}

/// `/<method>?name=value&…`.
async fn uri_call(State(Rpc { client, .. }): State<Rpc>, Path(name): Path<String>, uri: Uri) -> Response {
    let id = Value::from(-1);
    let Some(method) = methods::find(&name) else {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    };
    let outcome = match Query::<Vec<(String, String)>>::try_from_uri(&uri) {
        Err(e) => Err(wire::Error::invalid_params(format!(
            "error converting http params to arguments: {e}"
        ))),
        Ok(Query(pairs)) => match args::from_query(method.args, &pairs) {
            Err(e) => Err(e),
            Ok(args) => methods::call(client, method, args).await,
        },
    };
    let status = if outcome.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    json(status, &wire::response(Some(&id), outcome))
}
