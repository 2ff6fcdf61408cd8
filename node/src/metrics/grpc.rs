//! A layer that counts gRPC requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use tower::{Layer, Service};

use super::Metrics;

/// Counts what passes through; `None` counts nothing.
#[derive(Clone)]
pub struct GrpcMetrics {
    metrics: Option<Arc<Metrics>>,
    known: Arc<std::collections::BTreeSet<String>>,
}

impl GrpcMetrics {
    /// Counts requests of these paths, `/pkg.Service/Method`, by name, and all others as `other`: a client cannot fill the registry with names that
    /// it made up.
    pub fn new(metrics: Option<Arc<Metrics>>, paths: impl IntoIterator<Item = String>) -> Self {
        Self {
            metrics,
            known: Arc::new(paths.into_iter().collect()),
        }
    }
}

impl<S> Layer<S> for GrpcMetrics {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service whose requests are counted.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    layer: GrpcMetrics,
}

/// Counts one request, also if it is dropped because the client went away.
struct InFlight {
    metrics: Arc<Metrics>,
    method: String,
    begun: Instant,
    code: String,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.grpc_in_flight.dec();
        self.metrics.grpc_seconds.observe(self.begun.elapsed().as_secs_f64());
        let labels = [self.method.as_str(), self.code.as_str()];
        self.metrics.grpc_requests.with_label_values(&labels).inc();
    }
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut counted = self.layer.metrics.clone().map(|metrics| {
            metrics.grpc_in_flight.inc();
            let path = request.uri().path();
            let method = if self.layer.known.contains(path) {
                &path[1..]
            } else {
                "other"
            };
            InFlight {
                metrics,
                method: method.to_owned(),
                begun: Instant::now(),
                code: (tonic::Code::Cancelled as i32).to_string(),
            }
        });
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(counted) = &mut counted {
                counted.code = match &answer {
                    // Without the header the status is in the trailers: an answer has begun.
                    Ok(response) => response
                        .headers()
                        .get("grpc-status")
                        .map_or("0", |v| v.to_str().unwrap_or("?"))
                        .to_owned(),
                    Err(_) => "?".to_owned(),
                };
            }
            answer
        })
    }
}
