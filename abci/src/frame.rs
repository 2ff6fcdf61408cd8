//! The wire: each message is its length as an unsigned varint, then that many bytes of protobuf.
//!
//! CometBFT writes it with gogoproto's delimited writer (`abci/types/messages.go`) and accepts up to 2 GiB. What arrives here is read
//! under a cap, and memory grows with the bytes that arrive, never with the length that was announced.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use prost::Message;

/// Default cap of one message: 128 MiB. A block is at most 100 MiB in CometBFT (`MaxBlockSizeBytes`), a snapshot chunk 16 MiB.
pub const DEFAULT_MAX_FRAME_BYTES: usize = 128 << 20;

/// Longest encoding of a length: 64 bits in groups of 7.
const MAX_PREFIX_BYTES: usize = 10;

/// Memory that an announced length gets before its bytes arrive.
const FIRST_ALLOCATION: usize = 64 << 10;

/// Why a frame cannot be read. Nothing after it on the same connection can be understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length prefix is longer than 64 bits.
    #[error("length prefix is not a varint of at most {MAX_PREFIX_BYTES} bytes")]
    Prefix,
    /// The announced length is over the cap.
    #[error("message of {len} bytes exceeds the cap of {max} bytes (raise max_frame_bytes if the sender is right)")]
    TooLarge {
        /// The announced length in bytes.
        len: u64,
        /// The cap in bytes.
        max: usize,
    },
    /// The peer closed in the middle of a frame.
    #[error("connection ended after {got} of {len} bytes of a message")]
    Truncated {
        /// Bytes that arrived.
        got: usize,
        /// The announced length; 0 when the length itself was cut.
        len: u64,
    },
    /// The connection failed, or its time for a first request ran out.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads one message; `None` if the stream ended between two of them.
///
/// # Errors
/// See [`FrameError`]; a read timeout set on the stream comes back as [`FrameError::Io`].
pub fn read_frame<R: BufRead>(reader: &mut R, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(len) = read_prefix(reader)? else {
        return Ok(None);
    };
    let size = match usize::try_from(len) {
        Ok(size) if size <= max => size,
        _ => return Err(FrameError::TooLarge { len, max }),
    };
    let body = read_body(reader, len)?;
    if body.len() < size {
        let got = body.len();
        return Err(FrameError::Truncated { got, len });
    }
    Ok(Some(Bytes::from(body)))
}

/// Up to `len` bytes, fewer at the end of the stream. The memory grows geometrically with what arrives.
fn read_body<R: BufRead>(reader: &mut R, len: u64) -> io::Result<Vec<u8>> {
    let first = usize::try_from(len).map_or(FIRST_ALLOCATION, |len| len.min(FIRST_ALLOCATION));
    let mut body = Vec::with_capacity(first);
    reader.take(len).read_to_end(&mut body)?;
    Ok(body)
}

fn read_prefix<R: BufRead>(reader: &mut R) -> Result<Option<u64>, FrameError> {
    let mut prefix = [0; MAX_PREFIX_BYTES];
    for filled in 0..MAX_PREFIX_BYTES {
        match reader.read_exact(&mut prefix[filled..=filled]) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return match filled {
                    0 => Ok(None),
                    got => Err(FrameError::Truncated { got, len: 0 }),
                };
            }
            Err(e) => return Err(e.into()),
        }
        if let Some((len, _)) = decode_prefix(&prefix[..=filled])? {
            return Ok(Some(len));
        }
    }
    Err(FrameError::Prefix)
}

/// The length at the start of `bytes` and the size of its encoding; `None` if more bytes are needed.
fn decode_prefix(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut len = 0_u64;
    for (index, byte) in bytes.iter().take(MAX_PREFIX_BYTES).enumerate() {
        // The tenth byte holds one bit of the 64.
        if index == MAX_PREFIX_BYTES - 1 && *byte > 1 {
            return Err(FrameError::Prefix);
        }
        len |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((len, index + 1)));
        }
    }
    Ok(None)
}

/// Whether `buffered` starts with a whole message, so that the next read needs nothing from the peer.
pub(crate) fn is_complete(buffered: &[u8]) -> bool {
    match decode_prefix(buffered) {
        Ok(Some((len, prefix))) => u64::try_from(buffered.len() - prefix).is_ok_and(|rest| rest >= len),
        Ok(None) => false,
        Err(_) => true, // Reading it fails at once.
    }
}

/// Appends one message with its length.
pub fn append_frame<M: Message>(out: &mut Vec<u8>, message: &M) {
    let len = message.encoded_len();
    out.reserve(len + MAX_PREFIX_BYTES);
    prost::encoding::encode_varint(len as u64, out);
    message.encode_raw(out);
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use proptest::prelude::*;
    use tendermint_proto::v0_38::abci::{request::Value, Request, RequestCheckTx, RequestEcho};

    use super::*;

    fn echo(message: &str) -> Request {
        Request {
            value: Some(Value::Echo(RequestEcho {
                message: message.to_owned(),
            })),
        }
    }

    /// Hands out `data` in pieces of `step` bytes, then ends.
    struct Dribble {
        data: Cursor<Vec<u8>>,
        step: usize,
    }

    impl Read for Dribble {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let step = self.step.min(buf.len());
            self.data.read(&mut buf[..step])
        }
    }

    #[test]
    fn frames_come_back_whole_however_the_bytes_arrive() {
        let mut wire = Vec::new();
        let sent: Vec<Request> = (0..50).map(|n| echo(&"x".repeat(n * 37))).collect();
        for request in &sent {
            append_frame(&mut wire, request);
        }
        for step in [1, 2, 3, 7, 64, 100_000] {
            let data = Cursor::new(wire.clone());
            let mut reader = BufReader::with_capacity(16, Dribble { data, step });
            for request in &sent {
                let frame = read_frame(&mut reader, 1 << 20).unwrap().unwrap();
                assert_eq!(Request::decode(frame).unwrap(), *request);
            }
            assert!(read_frame(&mut reader, 1 << 20).unwrap().is_none());
        }
    }

    #[test]
    fn an_announced_length_costs_no_memory_until_it_arrives() {
        let body = read_body(&mut Cursor::new([0; 10]), 100 << 20).unwrap();
        assert_eq!(body.len(), 10);
        assert!(body.capacity() <= FIRST_ALLOCATION, "{} bytes for 10", body.capacity());
        let body = read_body(&mut Cursor::new(vec![0; 1 << 20]), 100 << 20).unwrap();
        assert!(body.capacity() <= 4 << 20, "{} bytes for 1 MiB", body.capacity());
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_says_where() {
        let mut wire = Vec::new();
        append_frame(&mut wire, &echo(&"z".repeat(300)));
        for cut in 1..wire.len() {
            let error = read_frame(&mut Cursor::new(&wire[..cut]), 1000).unwrap_err();
            // The length takes two bytes.
            let (expected_got, expected_len) = if cut < 2 {
                (cut, 0)
            } else {
                (cut - 2, wire.len() as u64 - 2)
            };
            assert!(
                matches!(error, FrameError::Truncated { got, len } if got == expected_got && len == expected_len),
                "{error} after {cut} bytes"
            );
        }
    }

    #[test]
    fn lengths_over_the_cap_and_over_64_bits_are_refused() {
        let mut wire = Vec::new();
        prost::encoding::encode_varint(1001, &mut wire);
        let error = read_frame(&mut Cursor::new(wire), 1000).unwrap_err();
        assert!(
            matches!(error, FrameError::TooLarge { len: 1001, max: 1000 }),
            "{error}"
        );
        for prefix in [vec![0xff; 11], [vec![0xff; 9], vec![2]].concat()] {
            let error = read_frame(&mut Cursor::new(prefix), 1000).unwrap_err();
            assert!(matches!(error, FrameError::Prefix), "{error}");
        }
        let most = [vec![0xff; 9], vec![1]].concat();
        let error = read_frame(&mut Cursor::new(most), 1000).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { len: u64::MAX, .. }), "{error}");
    }

    #[test]
    fn a_whole_frame_is_told_from_a_part_of_one() {
        let mut wire = Vec::new();
        append_frame(&mut wire, &echo(&"y".repeat(300)));
        for cut in 0..wire.len() {
            assert!(!is_complete(&wire[..cut]), "{cut}");
        }
        assert!(is_complete(&wire));
        wire.push(1);
        assert!(is_complete(&wire));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("TENURE_TEST_LONG").is_some() { 200_000 } else { 2_000 }))]

        /// Random bytes: never a panic, never a frame over the cap, and every byte is accounted for.
        #[test]
        fn random_bytes_never_panic_nor_exceed_the_cap(
            data in proptest::collection::vec(any::<u8>(), 0..400),
            step in 1_usize..50,
            max in 0_usize..300,
        ) {
            let total = data.len();
            let mut reader = BufReader::with_capacity(8, Dribble { data: Cursor::new(data), step });
            let mut read = 0;
            loop {
                match read_frame(&mut reader, max) {
                    Ok(Some(frame)) => {
                        prop_assert!(frame.len() <= max);
                        read += frame.len() + 1;
                        // Whatever the bytes are, decoding gives a message or an error.
                        let _ = Request::decode(frame);
                    }
                    Ok(None) => break,
                    Err(FrameError::Truncated { got, .. }) => { prop_assert!(got <= total); break; }
                    Err(FrameError::TooLarge { len, max: cap }) => { prop_assert!(len > cap as u64); break; }
                    Err(FrameError::Prefix) => break,
                    Err(FrameError::Io(e)) => return Err(TestCaseError::fail(e.to_string())),
                }
            }
            prop_assert!(read <= total);
        }

        /// A valid message with one byte changed: decoded or refused, never a panic.
        #[test]
        fn damaged_messages_never_panic(tx in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut wire = Vec::new();
            append_frame(&mut wire, &Request { value: Some(Value::CheckTx(RequestCheckTx { tx: tx.into(), r#type: 1 })) });
            let at = at.index(wire.len());
            wire[at] = to;
            if let Ok(Some(frame)) = read_frame(&mut Cursor::new(wire), 10_000) {
                let _ = Request::decode(frame);
            }
        }
    }
}
