//! Calls into the gRPC router of this process.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::Status;

use crate::HEIGHT;

/// Metadata of answers that become HTTP headers.
const TOLD: &[&str] = &[HEIGHT, "retry-after"];

/// Calls a unary RPC with an encoded request; gives the encoded response and the metadata that clients are told. Status: as the service
/// says, or the response is longer than `limit` bytes.
pub(crate) async fn unary(
    router: &axum::Router,
    path: PathAndQuery,
    message: Vec<u8>,
    height: Option<&str>,
    limit: usize,
) -> Result<(Bytes, MetadataMap), Status> {
    let mut request = tonic::Request::new(Bytes::from(message));
    if let Some(height) = height {
        let value = MetadataValue::try_from(height)
            .map_err(|_| Status::invalid_argument(format!("header {HEIGHT} is {height:?}, must be a height")))?;
        request.metadata_mut().insert(HEIGHT, value);
    }
    let mut grpc = tonic::client::Grpc::new(router.clone())
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    // A router is always ready.
    let ready: Result<(), std::convert::Infallible> = grpc.ready().await;
    let Ok(()) = ready;
    let response = grpc.unary(request, path, BytesCodec).await?;
    let (metadata, bytes, _) = response.into_parts();
    Ok((bytes, metadata))
}

/// The pairs of metadata that become HTTP headers.
pub(crate) fn told(metadata: &MetadataMap) -> impl Iterator<Item = (&'static str, &str)> {
    TOLD.iter()
        .filter_map(|name| Some((*name, metadata.get(*name)?.to_str().ok()?)))
}

/// Messages as the bytes they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}
