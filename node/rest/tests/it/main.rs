//! The gateway from outside: HTTP requests over the chain's descriptors and a real gRPC router.
#![allow(missing_docs, unreachable_pub, clippy::disallowed_methods, reason = "tests")]

mod http_face;
mod json;
mod openapi;
mod server;
mod support;
