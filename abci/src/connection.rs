//! The life of one connection: read a request, call the application, buffer the reply, flush when the peer waits for it.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    panic::{catch_unwind, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use prost::Message;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{request::Value, response::Value as Reply, Request, Response};

use crate::{
    dispatch::{self, AppPanic, ConnectionKind},
    frame::{append_frame, is_complete, read_frame, FrameError},
    server::Shared,
    stream::Stream,
};

/// A server that stops still answers until the peer has its Flush, for so many requests at most.
const LAST_REQUESTS: usize = 1000;

const READ_BUFFER: usize = 64 << 10;

/// Replies are written early when they grow beyond this, so that a peer that never flushes cannot fill the memory.
const WRITE_BUFFER: usize = 256 << 10;

/// CometBFT refuses messages over `MaxInt32` bytes (`abci/types/messages.go`).
const MAX_REPLY_BYTES: usize = i32::MAX as usize;

/// After an exception the peer gets this long, and this many bytes, to stop sending: closing a TCP socket with unread input resets
/// it, and the reset can overtake the exception.
const LINGER: Duration = Duration::from_millis(200);
const LINGER_BYTES: u64 = 1 << 20;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("closed by the peer")]
    Peer,
    #[error("the server stops")]
    Stop,
    #[error("{0}")]
    Frame(#[source] FrameError),
    #[error("no complete request within {} s of its first byte", .0.as_secs())]
    Slow(Duration),
    #[error("undecodable request of {len} bytes: {source}")]
    Undecodable { len: usize, source: prost::DecodeError },
    #[error("unknown request of {0} bytes: none of the methods of ABCI 2.0")]
    Unknown(usize),
    #[error("another engine holds the consensus connection and did not leave within {} s", .0.as_secs())]
    SecondEngine(Duration),
    #[error("reply to {method} has {len} bytes, CometBFT takes {MAX_REPLY_BYTES}")]
    LongReply { method: &'static str, len: usize },
    #[error(transparent)]
    Panic(AppPanic),
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
}

impl End {
    /// Whether the peer is told why, with a `ResponseException`. CometBFT stops when it gets one.
    fn is_told(&self) -> bool {
        match self {
            Self::Frame(e) => matches!(e, FrameError::Prefix | FrameError::TooLarge { .. }),
            Self::Undecodable { .. }
            | Self::Unknown(_)
            | Self::SecondEngine(_)
            | Self::LongReply { .. }
            | Self::Panic(_) => true,
            Self::Peer | Self::Stop | Self::Slow(_) | Self::Write(_) => false,
        }
    }
}

pub(crate) struct Connection<'a> {
    id: u64,
    shared: &'a Shared,
    stream: &'a Stream,
    input: BufReader<&'a Stream>,
    output: Vec<u8>,
    /// Requests answered since the last Flush.
    unflushed: usize,
    spoken: bool,
    kind: Option<ConnectionKind>,
    /// Releases the consensus slot when the connection ends.
    consensus: Option<crate::server::ConsensusGuard<'a>>,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(id: u64, shared: &'a Shared, stream: &'a Arc<Stream>) -> Self {
        Self {
            id,
            shared,
            stream,
            input: BufReader::with_capacity(READ_BUFFER, stream),
            output: Vec::new(),
            unflushed: 0,
            spoken: false,
            kind: None,
            consensus: None,
        }
    }

    /// Serves until the peer leaves, errs, or the server stops. Says why in the log, and where that helps, to the peer.
    pub(crate) fn run<A: Application>(mut self, app: A) {
        let end = match self.serve(&app) {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let (id, kind) = (self.id, self.kind.map_or("unnamed".to_owned(), |k| k.to_string()));
        if end.is_told() {
            append_frame(
                &mut self.output,
                &Response {
                    value: Some(dispatch::exception(&end)),
                },
            );
        }
        let sent = self.flush();
        match end {
            End::Peer | End::Stop => tracing::info!(id, kind, "ABCI connection ended: {end}"),
            End::Panic(_) => tracing::error!(id, kind, "ABCI connection ended: {end}"),
            _ => tracing::warn!(id, kind, "ABCI connection ended: {end}"),
        }
        if end.is_told() && sent.is_ok() {
            self.linger();
        }
        self.stream.shutdown(Shutdown::Both);
    }

    fn serve<A: Application>(&mut self, app: &A) -> Result<std::convert::Infallible, End> {
        let timeout = self.shared.options.first_request_timeout;
        self.stream
            .set_read_timeout(Some(timeout))
            .map_err(|e| End::Frame(e.into()))?;
        loop {
            if self.shared.is_stopping() && (self.unflushed == 0 || self.unflushed > LAST_REQUESTS) {
                return Err(End::Stop);
            }
            // Nothing more can be answered without waiting for the peer, and the peer may be waiting for us.
            if !self.output.is_empty() && !is_complete(self.input.buffer()) {
                self.flush().map_err(End::Write)?;
            }
            if !self.spoken {
                self.await_first_byte()?;
            }
            let frame = match read_frame(&mut self.input, self.shared.options.max_frame_bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) if self.shared.is_stopping() => return Err(End::Stop),
                Ok(None) => return Err(End::Peer),
                Err(FrameError::Io(e)) if is_timeout(&e) => return Err(End::Slow(timeout)),
                Err(e) => return Err(End::Frame(e)),
            };
            let len = frame.len();
            let request = Request::decode(frame)
                .map_err(|source| End::Undecodable { len, source })?
                .value
                .ok_or(End::Unknown(len))?;
            self.heard(&request)?;
            let method = dispatch::method(&request);
            let flush = matches!(request, Value::Flush(_));
            let reply = self.call(app, request)?;
            self.append(method, reply)?;
            self.unflushed = if flush { 0 } else { self.unflushed + 1 };
            if flush || self.output.len() >= WRITE_BUFFER {
                self.flush().map_err(End::Write)?;
            }
        }
    }

    /// Waits for as long as the peer is silent: three of CometBFT's four connections are, on a quiet chain for hours. A request that
    /// was begun must be finished in time.
    fn await_first_byte(&mut self) -> Result<(), End> {
        loop {
            match self.input.fill_buf() {
                Ok(_) => return Ok(()),
                Err(e) if is_timeout(&e) || e.kind() == io::ErrorKind::Interrupted => {
                    if self.shared.is_stopping() {
                        return Err(End::Stop);
                    }
                }
                Err(e) => return Err(End::Frame(e.into())),
            }
        }
    }

    /// Learns from a request: the peer speaks ABCI, what the connection is for, and that it makes blocks.
    fn heard(&mut self, request: &Value) -> Result<(), End> {
        if !self.spoken {
            self.spoken = true;
            self.stream.set_read_timeout(None).map_err(|e| End::Frame(e.into()))?;
            self.shared.mark_spoken(self.id);
        }
        let Some(kind) = ConnectionKind::of(request) else {
            return Ok(());
        };
        if self.kind.is_none() {
            self.kind = Some(kind);
            self.shared.mark_kind(self.id, kind);
            tracing::info!(id = self.id, "ABCI {kind} connection");
        }
        if kind == ConnectionKind::Consensus && self.consensus.is_none() {
            let guard = self.shared.acquire_consensus(self.id);
            self.consensus = Some(guard.ok_or(End::SecondEngine(self.shared.options.consensus_handover))?);
            // Stopping frees the slot; whoever waited for it must not begin now.
            if self.shared.is_stopping() {
                return Err(End::Stop);
            }
            let begin = || (self.shared.options.on_consensus_connection)();
            catch_unwind(AssertUnwindSafe(begin))
                .map_err(|payload| self.fatal(AppPanic::new("on_consensus_connection", &*payload)))?;
        }
        Ok(())
    }

    fn call<A: Application>(&self, app: &A, request: Value) -> Result<Reply, End> {
        let (_changes, _reads);
        match &request {
            Value::Commit(_) | Value::ApplySnapshotChunk(_) => _changes = self.shared.height.write(),
            Value::Info(_) => _reads = self.shared.height.read(),
            _ => {}
        }
        dispatch::call(app, request).map_err(|panic| self.fatal(panic))
    }

    fn fatal(&self, panic: AppPanic) -> End {
        (self.shared.options.on_panic)(&panic);
        End::Panic(panic)
    }

    fn append(&mut self, method: &'static str, reply: Reply) -> Result<(), End> {
        let response = Response { value: Some(reply) };
        let len = response.encoded_len();
        if len > MAX_REPLY_BYTES {
            return Err(End::LongReply { method, len });
        }
        append_frame(&mut self.output, &response);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stream = self.stream;
        let written = stream.write_all(&self.output);
        if self.output.capacity() > 2 * WRITE_BUFFER {
            self.output = Vec::new();
        } else {
            self.output.clear();
        }
        written
    }

    fn linger(&mut self) {
        self.stream.shutdown(Shutdown::Write);
        if self.stream.set_read_timeout(Some(LINGER)).is_ok() {
            let _ = io::copy(&mut self.input.by_ref().take(LINGER_BYTES), &mut io::sink());
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
