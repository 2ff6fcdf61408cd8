//! REST for any gRPC service, driven by the `google.api.http` rules of its descriptors alone.
//!
//! ```text
//!   HTTP request
//!     │ rule      which RPC: method and path template                    modules `rule`, `template`
//!     │ request   path, query and body → request message                 module  `request`
//!     │ call      the gRPC router of this process, no socket             module  `call`
//!     │ json      response message → JSON as Cosmos chains write it      module  `json`
//!   HTTP response
//! ```
//!
//! The gateway knows no service: whatever the gRPC router answers, REST answers, with the same checks, limits and errors. An RPC without a
//! rule is reached by `POST /package.Service/Method` with the request as its body. [`openapi`] describes the same routes.
//!
//! JSON is that of the Cosmos SDK's gateway: field names as in the .proto files, 64-bit integers as strings, bytes in base64, enums by
//! name, `Any` with `@type`, every field present, `null` for absent messages and empty bytes. Errors are `{code, message, details}` with gRPC's
//! code. A query parameter that is no field of the request is ignored, as there.

#![allow(
    clippy::result_large_err,
    reason = "the error of every call is tonic's Status, as it is"
)]

mod call;
mod error;
mod gateway;
pub mod json;
pub mod openapi;
mod request;
mod rule;
mod server;
mod template;

pub use call::BytesCodec;
pub use gateway::{Gateway, GatewayError, Options};
pub use server::{serve, Limits};

/// Header and metadata key of the height a query is about: asked for in requests, told in answers.
pub const HEIGHT: &str = "x-cosmos-block-height";
