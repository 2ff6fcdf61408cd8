//! Bounds on connections: how many in all and of one peer, how long a request may take to come, how long one may be silent.
//!
//! And one kindness of CometBFT's: `curl 'http://…/block?height="3"'`, as its documentation writes calls, is no request line by RFC 9112, and hyper
//! refuses it; so the quotes and angle brackets of a connection's first request line are percent-encoded before hyper sees them.

use crate::peers::{OfPeer, Peers};
use axum::serve::Listener;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, Instant, Sleep};

/// Most connections at once (CometBFT's `max_open_connections`); more wait in the system's backlog.
const MAX_CONNECTIONS: usize = 900;
/// Most connections of one address.
const MAX_OF_A_PEER: usize = Peers::share(MAX_CONNECTIONS);
/// How long the head of a connection's first request may take to come, however it drips (CometBFT's read timeout).
const HEAD: Duration = Duration::from_secs(10);
/// A connection to which nothing was answered for so long is closed. Longer than any answer takes.
const IDLE: Duration = Duration::from_secs(60);
/// What ends the head of a request.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A TCP listener with these bounds.
pub(super) struct Bounded {
    inner: TcpListener,
    places: Arc<Semaphore>,
    peers: Arc<Peers>,
}

impl Bounded {
    pub(super) fn new(inner: TcpListener) -> Self {
        Self {
            inner,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            peers: Arc::default(),
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; if it were, connections would be unbounded rather than refused.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, addr, peer) = loop {
            let (stream, addr) = Listener::accept(&mut self.inner).await;
            if let Some(peer) = self.peers.admit(addr.ip(), MAX_OF_A_PEER) {
                break (stream, addr, peer);
            }
            tracing::debug!(%addr, "closed: its address has {MAX_OF_A_PEER} connections");
        };
        // Answers are small: waiting to fill a segment would only add delay. A failure costs that delay, nothing else.
        let _ = stream.set_nodelay(true);
        (
            Connection {
                stream,
                idle: Box::pin(sleep(HEAD)),
                head: Some(0),
                line: true,
                _place: place,
                _peer: peer,
            },
            addr,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that holds its place and a timer.
pub(super) struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    /// While the first head comes: how many bytes of its end were the last ones.
    head: Option<usize>,
    /// Whether the first request line is still coming.
    line: bool,
    _place: Option<OwnedSemaphorePermit>,
    _peer: OfPeer,
}

impl Connection {
    fn restart(&mut self) {
        self.idle.as_mut().reset(Instant::now() + IDLE);
    }

    /// Follows the first head. When it is there, the answer has its time.
    fn follow(&mut self, bytes: &[u8]) {
        let Some(mut matched) = self.head else { return };
        for byte in bytes {
            matched = match END_OF_HEAD.get(matched) {
                Some(expected) if expected == byte => matched + 1,
                _ => usize::from(*byte == b'\r'),
            };
            if matched == END_OF_HEAD.len() {
                self.head = None;
                return self.restart();
            }
        }
        self.head = Some(matched);
    }

    /// Reads a part of the first request line that has room when it is encoded.
    fn poll_line(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut raw = [0u8; 1024];
        let room = raw.len().min(buf.remaining() / 3);
        let mut part = ReadBuf::new(&mut raw[..room]);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        for byte in part.filled() {
            match byte {
                b'"' if self.line => buf.put_slice(b"%22"),
                b'<' if self.line => buf.put_slice(b"%3C"),
                b'>' if self.line => buf.put_slice(b"%3E"),
                _ => {
                    self.line = self.line && *byte != b'\n';
                    buf.put_slice(&[*byte]);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = if self.line && buf.remaining() >= 3 {
            self.poll_line(cx, buf)
        } else {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        };
        match polled {
            Poll::Ready(done) => {
                self.follow(&buf.filled()[before..]);
                Poll::Ready(done)
            }
            // What comes byte by byte is no reason to wait longer.
            Poll::Pending => match self.idle.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        if done.is_ready() {
            self.restart();
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn pair() -> (Bounded, TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut bounded = Bounded::new(listener);
        let peer = TcpStream::connect(addr).await.unwrap();
        let (connection, _) = bounded.accept().await;
        (bounded, peer, connection)
    }

    /// Takes what the peer has sent.
    async fn take(connection: &mut Connection, most: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; most];
        let read = connection.read(&mut bytes).await.unwrap();
        bytes.truncate(read);
        bytes
    }

    #[tokio::test]
    async fn a_head_has_ten_seconds_an_answer_a_minute_and_dripping_gains_nothing() {
        let (bounded, mut peer, mut connection) = pair().await;
        let deadline = connection.idle.deadline();
        assert!(deadline <= Instant::now() + HEAD);
        for byte in b"GET /health HTTP/1.1\r\nhost: a\r\n\r" {
            peer.write_all(&[*byte]).await.unwrap();
            assert_eq!(take(&mut connection, 100).await, [*byte]);
            assert_eq!(connection.idle.deadline(), deadline);
        }
        peer.write_all(b"\n").await.unwrap();
        take(&mut connection, 100).await;
        let answer = connection.idle.deadline();
        assert!(answer > deadline + (IDLE - HEAD) / 2, "the head is there");
        // Nor does what comes after it, a body or frames, without an answer.
        peer.write_all(b"body\r\n\r\n").await.unwrap();
        take(&mut connection, 100).await;
        assert_eq!(connection.idle.deadline(), answer);
        sleep(Duration::from_millis(2)).await;
        connection.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        assert!(connection.idle.deadline() > answer);
        connection.idle.as_mut().reset(Instant::now());
        let e = connection.read_exact(&mut [0]).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut);
        let before = bounded.places.available_permits();
        drop(connection);
        assert_eq!(
            (before, bounded.places.available_permits()),
            (MAX_CONNECTIONS - 1, MAX_CONNECTIONS)
        );
        assert!(bounded.peers.is_empty());
    }

    #[tokio::test]
    async fn quotes_of_the_first_request_line_are_encoded_and_nothing_else_is() {
        let (_bounded, mut peer, mut connection) = pair().await;
        let rest = "\r\nhost: \"<a>\"\r\n\r\n{\"b\":\"<c>\"}";
        let sent = format!("GET /tx_search?query=\"tx.height>1\"&x=<1 HTTP/1.1{rest}");
        peer.write_all(sent.as_bytes()).await.unwrap();
        drop(peer);
        // Whatever room there is at a time.
        let mut read = Vec::new();
        for most in (3..).step_by(4) {
            let part = take(&mut connection, most).await;
            if part.is_empty() {
                break;
            }
            read.extend(part);
        }
        let expected = format!("GET /tx_search?query=%22tx.height%3E1%22&x=%3C1 HTTP/1.1{rest}");
        assert_eq!(String::from_utf8(read).unwrap(), expected);
    }
}
