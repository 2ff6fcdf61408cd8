//! The chain's .proto sources and the Rust code generated from them.
//!
//! Messages are in modules named after their packages, for example [`tenure::market::v1::Bid`] or [`cosmos::tx::v1beta1::TxRaw`].
//! The Cosmos packages are the subset that the chain speaks, wire-compatible field by field. With the feature `grpc` each service also has a
//! client and a server. [`pool`] answers questions about any message by name: JSON, reflection, refusal of unknown fields.

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

pub mod amino;
pub mod json;

pub use generated::{cosmos, tendermint, tenure};
pub use prost_types::Any;

use std::sync::LazyLock;

/// The encoded `FileDescriptorSet` of every .proto file of the chain, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The descriptors of every message and service of the chain.
#[allow(
    clippy::expect_used,
    reason = "the bytes are made by this crate's build script from the same compiler"
)]
pub fn pool() -> &'static prost_reflect::DescriptorPool {
    static POOL: LazyLock<prost_reflect::DescriptorPool> = LazyLock::new(|| {
        prost_reflect::DescriptorPool::decode(FILE_DESCRIPTOR_SET)
            .expect("the descriptor set compiled with this crate decodes")
    });
    &POOL
}

/// A message wrapped as `google.protobuf.Any` with its type URL, `/package.Name`.
pub fn any<M: prost::Message + prost::Name>(message: &M) -> Any {
    Any {
        type_url: type_url::<M>(),
        value: message.encode_to_vec(),
    }
}

/// The type URL by which a message travels in transactions: `/package.Name`.
pub fn type_url<M: prost::Name>() -> String {
    format!("/{}", M::full_name())
}
