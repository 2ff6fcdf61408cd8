//! A layer that counts gRPC requests by the status that they end with, which is known only when the last byte of the answer is: gRPC sends it in trailers.
//! It therefore sits right around the services, inside of gRPC-web, which writes trailers into the body.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::Status;
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

impl InFlight {
    /// The request has ended with the status that these headers or trailers have.
    fn end(mut self, headers: &HeaderMap) {
        let status = headers.get(STATUS).and_then(|value| value.to_str().ok());
        self.code = status.unwrap_or(NO_STATUS).to_owned();
    }
}

const STATUS: &str = "grpc-status";
/// Code of an answer that ended without a status: HTTP that is not gRPC.
const NO_STATUS: &str = "?";

/// An answer's body, watched for its end.
struct Watched {
    inner: Body,
    request: Option<InFlight>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    if let Some(request) = self.request.take() {
                        request.end(trailers);
                    }
                }
            }
            Some(Err(status)) => {
                if let Some(mut request) = self.request.take() {
                    request.code = (status.code() as i32).to_string();
                }
            }
            None => {
                if let Some(request) = self.request.take() {
                    request.end(&HeaderMap::new());
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let counted = self.layer.metrics.clone().map(|metrics| {
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
            let Some(counted) = counted else { return answer.await };
            let response = answer.await?;
            // An answer that is a refusal and nothing else has its status in the headers.
            if response.headers().contains_key(STATUS) {
                counted.end(response.headers());
                return Ok(response);
            }
            Ok(response.map(|inner| {
                Body::new(Watched {
                    inner,
                    request: Some(counted),
                })
            }))
        })
    }
}

#[cfg(test)]
#[allow(clippy::result_large_err, reason = "the error of a body is tonic's Status, as it is")]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use anyhow::Result;
    use http_body::Body as _;
    use tower::service_fn;

    use super::*;

    /// Frames as they are given, then the end.
    struct Frames(VecDeque<Result<Frame<Bytes>, Status>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn trailers(code: &'static str) -> Frame<Bytes> {
        let mut map = HeaderMap::new();
        map.insert(STATUS, http::HeaderValue::from_static(code));
        Frame::trailers(map)
    }

    /// Sends one request whose answer has this header and these frames, and reads as many of them.
    async fn answered(
        metrics: &Arc<Metrics>,
        header: Option<&'static str>,
        frames: Vec<Result<Frame<Bytes>, Status>>,
        read: usize,
    ) -> Result<()> {
        let layer = GrpcMetrics::new(Some(metrics.clone()), ["/a.B/C".to_owned()]);
        let mut frames = Some(frames);
        let mut service = layer.layer(service_fn(move |_: Request<()>| {
            let mut response = Response::new(Body::new(Frames(frames.take().unwrap_or_default().into())));
            if let Some(code) = header {
                response
                    .headers_mut()
                    .insert(STATUS, http::HeaderValue::from_static(code));
            }
            std::future::ready(Ok::<_, Infallible>(response))
        }));
        let response = service.call(Request::builder().uri("http://x/a.B/C").body(())?).await?;
        let mut body = response.into_body();
        for _ in 0..read {
            std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_request_is_counted_once_by_the_status_that_it_ends_with() -> Result<()> {
        let data = || Ok(Frame::data(Bytes::from_static(b"x")));
        for (header, frames, read, code) in [
            (None, vec![data(), Ok(trailers("0"))], 2, "0"),
            // Read to the end, beyond the trailers.
            (None, vec![data(), Ok(trailers("0"))], 4, "0"),
            // A stream that fails after it has given something.
            (None, vec![data(), data(), Ok(trailers("11"))], 3, "11"),
            (None, vec![data(), Err(Status::data_loss("gone"))], 2, "15"),
            // The client went away.
            (None, vec![data(), Ok(trailers("0"))], 1, "1"),
            (Some("5"), vec![], 0, "5"),
            (None, vec![data()], 2, NO_STATUS),
        ] {
            let metrics = Arc::new(Metrics::new()?);
            answered(&metrics, header, frames, read).await?;
            let text = metrics.text()?;
            let counted: Vec<&str> = text.lines().filter(|l| l.starts_with("grpc_requests_total{")).collect();
            assert_eq!(
                counted,
                [format!("grpc_requests_total{{code=\"{code}\",method=\"a.B/C\"}} 1")]
            );
            assert!(text.contains("\ngrpc_requests_in_flight 0\n"), "{text}");
            assert!(text.contains("\ngrpc_request_seconds_count 1\n"), "{text}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_stream_is_in_flight_until_it_ends() -> Result<()> {
        let metrics = Arc::new(Metrics::new()?);
        let layer = GrpcMetrics::new(Some(metrics.clone()), []);
        let mut service = layer.layer(service_fn(|_: Request<()>| {
            let body = Frames([Ok(Frame::data(Bytes::new())), Ok(trailers("0"))].into());
            std::future::ready(Ok::<_, Infallible>(Response::new(Body::new(body))))
        }));
        let mut body = service.call(Request::new(())).await?.into_body();
        for in_flight in [1, 0] {
            std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            assert!(metrics
                .text()?
                .contains(&format!("\ngrpc_requests_in_flight {in_flight}\n")));
        }
        assert!(metrics.text()?.contains("{code=\"0\",method=\"other\"} 1"));
        Ok(())
    }
}
