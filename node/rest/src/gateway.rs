//! The HTTP service.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{to_bytes, Body};
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::Router;
use bytes::Bytes;
use http::{header, HeaderName, HeaderValue, Method, Request, StatusCode};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::Status;
use tower_http::cors::{Any, CorsLayer};

use crate::call::{self, told};
use crate::rule::{routes, Route};
use crate::template::Bound;
use crate::{error, json, openapi, request, HEIGHT};

/// Why a gateway cannot serve these services: a rule is wrong. Names the RPC.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GatewayError(pub(crate) String);

/// Limits and names of a gateway.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest request body, bytes.
    pub max_body_bytes: usize,
    /// Longest encoded message to or from a service, bytes.
    pub max_message_bytes: usize,
    /// Longest JSON of an answer, bytes.
    pub max_json_bytes: usize,
    /// Longest time for one request, its body included.
    pub timeout: Duration,
    /// Title of the OpenAPI document.
    pub title: String,
    /// Its version.
    pub version: String,
}

/// REST in front of a gRPC router.
pub struct Gateway {
    options: Options,
    routes: Arc<[Route]>,
    document: Bytes,
    page: String,
}

impl Gateway {
    /// Routes of every unary RPC of `services`. Error: a service is not in the pool, a rule cannot be served, or two rules are the same.
    pub fn new(pool: &DescriptorPool, services: &BTreeSet<String>, options: Options) -> Result<Self, GatewayError> {
        let mut all = Vec::new();
        for service in services {
            all.extend(routes(pool, service)?);
        }
        all.sort_by(|a, b| (&a.template, a.verb.as_str()).cmp(&(&b.template, b.verb.as_str())));
        if let Some(pair) = all
            .windows(2)
            .find(|pair| pair[0].verb == pair[1].verb && pair[0].template == pair[1].template)
        {
            return Err(GatewayError(format!(
                "{} and {} have the same rule: {} {}",
                pair[0].rpc.full_name(),
                pair[1].rpc.full_name(),
                pair[0].verb,
                pair[0].template.plain()
            )));
        }
        let document = openapi::document(&all, &options.title, &options.version);
        Ok(Self {
            page: openapi::page(&all, &options.title, &options.version),
            document: Bytes::from(document.to_string()),
            routes: all.into(),
            options,
        })
    }

    /// The OpenAPI document.
    pub fn openapi(&self) -> &[u8] {
        &self.document
    }

    /// The HTTP service. Calls go to `grpc`, a router of gRPC services.
    pub fn into_router(self, grpc: Router) -> Router {
        let cors = CorsLayer::new()
            .allow_origin(Any)
            .allow_methods(Any)
            .allow_headers(Any)
            .expose_headers([HeaderName::from_static(HEIGHT)]);
        let Self {
            options,
            routes,
            document,
            page,
        } = self;
        let shared = Arc::new(Shared { options, routes, grpc });
        Router::new()
            .route("/", get(|| async move { Html(page) }))
            .route(
                "/openapi.json",
                get(|| async move { ([(header::CONTENT_TYPE, "application/json")], document).into_response() }),
            )
            .fallback(answer)
            .with_state(shared)
            .layer(cors)
    }
}

struct Shared {
    options: Options,
    routes: Arc<[Route]>,
    grpc: Router,
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let limit = shared.options.timeout;
    let answered = tokio::time::timeout(limit, shared.answer(request)).await;
    let answered = answered.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))));
    answered.unwrap_or_else(|status| error::response(&status))
}

impl Shared {
    async fn answer(&self, request: Request<Body>) -> Result<Response, Status> {
        let (head, body) = request.into_parts();
        let (route, bound) = self.find(&head.method, head.uri.path())?;
        let body = to_bytes(body, self.options.max_body_bytes).await.map_err(|e| {
            Status::invalid_argument(format!(
                "the body cannot be read: {e} (limit {} bytes)",
                self.options.max_body_bytes
            ))
        })?;
        let query = head.uri.query().unwrap_or_default();
        let message = request::build(route, &bound, query, &body).map_err(Status::invalid_argument)?;
        let height =
            match head.headers.get(HEIGHT) {
                None => None,
                Some(value) => Some(value.to_str().map_err(|_| {
                    Status::invalid_argument(format!("header {HEIGHT} is not ASCII, must be a height"))
                })?),
            };
        let (bytes, metadata) = call::unary(
            &self.grpc,
            route.grpc.clone(),
            message.encode_to_vec(),
            height,
            self.options.max_message_bytes,
        )
        .await?;
        let answer = DynamicMessage::decode(route.rpc.output(), bytes)
            .map_err(|e| Status::internal(format!("{} does not decode: {e}", route.rpc.output().full_name())))?;
        let rendered = json::render(&answer, self.options.max_json_bytes).map_err(|e| match e {
            json::RenderError::TooLong(_) => Status::resource_exhausted(e.to_string()),
            json::RenderError::Malformed(_) => Status::internal(e.to_string()),
        })?;
        let mut response = error::json(StatusCode::OK, rendered);
        for (name, value) in told(&metadata) {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        }
        Ok(response)
    }

    /// The route of a request and the fields in its path. Status (UNIMPLEMENTED, in grpc-gateway's words): there is none.
    fn find(&self, verb: &Method, path: &str) -> Result<(&Route, Bound<'_>), Status> {
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let mut others = BTreeSet::new();
        for route in &*self.routes {
            match route.template.matches(&segments) {
                Some(bound) if route.verb == *verb => {
                    return Ok((route, bound.map_err(Status::invalid_argument)?));
                }
                Some(_) => {
                    others.insert(route.verb.as_str());
                }
                None => {}
            }
        }
        if others.is_empty() {
            return Err(Status::unimplemented("Not Implemented"));
        }
        let others: Vec<&str> = others.into_iter().collect();
        Err(Status::unimplemented(format!(
            "Method Not Allowed: use {}",
            others.join(" or ")
        )))
    }
}
