//! A blocking client that talks as CometBFT does: a request and a Flush in one write, replies in order.
//!
//! For tests and benchmarks; the engines that make blocks have their own.

use std::io::{self, BufReader, Write};

use bytes::Bytes;
use prost::Message;
use tendermint_proto::v0_38::abci::{
    request::Value as Ask, response::Value as Answer, Request, RequestApplySnapshotChunk, RequestCheckTx,
    RequestCommit, RequestEcho, RequestFinalizeBlock, RequestFlush, RequestInfo, RequestInitChain,
    RequestListSnapshots, RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery, Response, ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit,
    ResponseEcho, ResponseFinalizeBlock, ResponseInfo, ResponseInitChain, ResponseListSnapshots,
    ResponseLoadSnapshotChunk, ResponseOfferSnapshot, ResponsePrepareProposal, ResponseProcessProposal, ResponseQuery,
};

use crate::{
    frame::{append_frame, read_frame, FrameError},
    stream::Stream,
    Address,
};

/// CometBFT's own cap.
const MAX_REPLY_BYTES: usize = i32::MAX as usize;

/// Requests on the way at a time, as in CometBFT (`reqQueueSize`). More than the sockets hold would block both sides for ever.
const WINDOW: usize = 256;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused the request; it closes the connection.
    #[error("the server answered with an exception: {0}")]
    Exception(String),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The reply is of another method than the request.
    #[error("the reply to {0} is of another method")]
    Mismatch(&'static str),
    /// The reply is no message of the protocol.
    #[error("undecodable reply: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The connection failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Frame(error.into())
    }
}

/// A connection to an ABCI server.
#[derive(Debug)]
pub struct Client {
    input: BufReader<Stream>,
    output: Vec<u8>,
}

/// A method that sends one request and takes the reply of the same name.
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($request:ty) -> $response:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// See [`ClientError`].
            pub fn $name(&mut self, request: $request) -> Result<$response, ClientError> {
                match self.call(Ask::$variant(request))? {
                    Answer::$variant(response) => Ok(response),
                    _ => Err(ClientError::Mismatch(stringify!($variant))),
                }
            }
        )*
    };
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(address: &Address) -> io::Result<Self> {
        Ok(Self {
            input: BufReader::with_capacity(64 << 10, Stream::connect(address)?),
            output: Vec::new(),
        })
    }

    /// One synchronous call.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call(&mut self, ask: Ask) -> Result<Answer, ClientError> {
        self.push(ask);
        self.push(Ask::Flush(RequestFlush {}));
        self.write()?;
        let answer = self.read()?;
        self.read_flush()?;
        Ok(answer)
    }

    /// Many `CheckTx` on the way at once, as the mempool sends them: up to 256 and a Flush in one write.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn check_txs<I: IntoIterator<Item = Bytes>>(
        &mut self,
        txs: I,
        recheck: bool,
    ) -> Result<Vec<ResponseCheckTx>, ClientError> {
        let mut txs = txs.into_iter().peekable();
        let mut answers = Vec::new();
        while txs.peek().is_some() {
            let mut sent = 0;
            for tx in txs.by_ref().take(WINDOW) {
                let r#type = i32::from(recheck);
                self.push(Ask::CheckTx(RequestCheckTx { tx, r#type }));
                sent += 1;
            }
            self.push(Ask::Flush(RequestFlush {}));
            self.write()?;
            for _ in 0..sent {
                match self.read()? {
                    Answer::CheckTx(answer) => answers.push(answer),
                    _ => return Err(ClientError::Mismatch("CheckTx")),
                }
            }
            self.read_flush()?;
        }
        Ok(answers)
    }

    methods! {
        /// Sends `Echo`.
        echo: Echo(RequestEcho) -> ResponseEcho;
        /// Sends `Info`.
        info: Info(RequestInfo) -> ResponseInfo;
        /// Sends `InitChain`.
        init_chain: InitChain(RequestInitChain) -> ResponseInitChain;
        /// Sends `Query`.
        query: Query(RequestQuery) -> ResponseQuery;
        /// Sends `CheckTx`.
        check_tx: CheckTx(RequestCheckTx) -> ResponseCheckTx;
        /// Sends `PrepareProposal`.
        prepare_proposal: PrepareProposal(RequestPrepareProposal) -> ResponsePrepareProposal;
        /// Sends `ProcessProposal`.
        process_proposal: ProcessProposal(RequestProcessProposal) -> ResponseProcessProposal;
        /// Sends `FinalizeBlock`.
        finalize_block: FinalizeBlock(RequestFinalizeBlock) -> ResponseFinalizeBlock;
        /// Sends `Commit`.
        commit: Commit(RequestCommit) -> ResponseCommit;
        /// Sends `ListSnapshots`.
        list_snapshots: ListSnapshots(RequestListSnapshots) -> ResponseListSnapshots;
        /// Sends `OfferSnapshot`.
        offer_snapshot: OfferSnapshot(RequestOfferSnapshot) -> ResponseOfferSnapshot;
        /// Sends `LoadSnapshotChunk`.
        load_snapshot_chunk: LoadSnapshotChunk(RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk;
        /// Sends `ApplySnapshotChunk`.
        apply_snapshot_chunk: ApplySnapshotChunk(RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk;
    }

    fn push(&mut self, ask: Ask) {
        append_frame(&mut self.output, &Request { value: Some(ask) });
    }

    fn write(&mut self) -> io::Result<()> {
        let mut stream: &Stream = self.input.get_ref();
        let written = stream.write_all(&self.output);
        self.output.clear();
        written
    }

    fn read(&mut self) -> Result<Answer, ClientError> {
        let frame = read_frame(&mut self.input, MAX_REPLY_BYTES)?.ok_or(ClientError::Closed)?;
        match Response::decode(frame)?.value {
            Some(Answer::Exception(exception)) => Err(ClientError::Exception(exception.error)),
            Some(answer) => Ok(answer),
            None => Err(ClientError::Mismatch("any request")),
        }
    }

    fn read_flush(&mut self) -> Result<(), ClientError> {
        match self.read()? {
            Answer::Flush(_) => Ok(()),
            _ => Err(ClientError::Mismatch("Flush")),
        }
    }
}
