//! Connections, limited in number, in all and of one address: file descriptors are also what the database and the engine need, and no one client may
//! keep the others out.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tenure_solo::peers::{OfPeer, Peers};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How an HTTP/2 connection begins. One that has not sent as many bytes by its deadline is closed: hyper would wait for ever.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An HTTP/1 connection (gRPC-web) on which nothing was answered for this many times the opening's limit, and at least [`MIN_QUIET`], is
/// closed: whoever sends a request byte by byte would hold its place for ever. HTTP/2 connections are pinged instead.
const QUIET: u32 = 3;
const MIN_QUIET: Duration = Duration::from_secs(60);

/// What a connection still has to do to stay.
enum Patience {
    /// To send as much as a preface: bytes so far, whether they are those of HTTP/2, and until when.
    Opening(usize, bool, Pin<Box<Sleep>>),
    /// To be answered now and then.
    Http1(Pin<Box<Sleep>>),
    /// Nothing: HTTP/2 looks after itself.
    Http2,
}

/// A connection that counts until it is dropped.
pub struct Connection {
    stream: TcpStream,
    patience: Patience,
    quiet: Duration,
    _permit: OwnedSemaphorePermit,
    _peer: OfPeer,
}

/// Connections accepted on `listener`, at most `most` at a time; others wait in the system's backlog. One of an address that has its share of them
/// already is closed, and one that says nothing for `opening`. Accept errors (no file
/// descriptors) are retried after a pause.
pub fn limited(
    listener: TcpListener,
    most: usize,
    opening: Duration,
) -> Result<impl Stream<Item = io::Result<Connection>>> {
    listener.set_nonblocking(true).context("the gRPC listener")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("the gRPC listener")?;
    let (permits, peers) = (Arc::new(Semaphore::new(most)), Arc::new(Peers::default()));
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            // Never closed.
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    let Some(peer) = peers.admit(address.ip(), Peers::share(most)) else {
                        tracing::debug!(%address, "closed: its address has its share of the connections");
                        continue;
                    };
                    // Only latency suffers without it.
                    let _ = stream.set_nodelay(true);
                    let connection = Connection {
                        stream,
                        patience: Patience::Opening(0, true, Box::pin(tokio::time::sleep(opening))),
                        quiet: opening.saturating_mul(QUIET).max(MIN_QUIET),
                        _permit: permit,
                        _peer: peer,
                    };
                    if sender.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a gRPC connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl Connection {
    /// Notes what was read; true if there is patience left.
    fn bears(&mut self, bytes: &[u8], pending: bool, cx: &mut Context<'_>) -> bool {
        if let Patience::Opening(read, http2, _) = &mut self.patience {
            let expected = &PREFACE[(*read).min(PREFACE.len())..];
            *http2 = *http2 && bytes.iter().zip(expected).all(|(a, b)| a == b);
            *read = read.saturating_add(bytes.len());
            if *read >= PREFACE.len() {
                self.patience = if *http2 {
                    Patience::Http2
                } else {
                    Patience::Http1(Box::pin(tokio::time::sleep(self.quiet)))
                };
            }
        }
        match &mut self.patience {
            Patience::Opening(_, _, until) | Patience::Http1(until) => !(pending && until.as_mut().poll(cx).is_ready()),
            Patience::Http2 => true,
        }
    }

    /// An answer went out.
    fn written(&mut self, polled: &Poll<io::Result<usize>>) {
        if let (Patience::Http1(until), Poll::Ready(Ok(_))) = (&mut self.patience, polled) {
            until.as_mut().reset(tokio::time::Instant::now() + self.quiet);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.bears(&buf.filled()[before..], polled.is_pending(), cx) {
            polled
        } else {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;

    use super::*;

    async fn pair(opening: Duration) -> Result<(TcpStream, Connection)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mut connections = Box::pin(limited(listener, 1, opening)?);
        let peer = TcpStream::connect(address).await?;
        let connection = connections.next().await.context("a connection")??;
        Ok((peer, connection))
    }

    /// Sends a byte now and then; how long the connection bears it.
    async fn drip(peer: &mut TcpStream, connection: &mut Connection, ticks: u32) -> io::Result<()> {
        for _ in 0..ticks {
            peer.write_all(b"x").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut byte = [0];
            // Until there is nothing to read, as every server does: only one that waits loses patience.
            while let Ok(read) = tokio::time::timeout(Duration::from_millis(20), connection.read(&mut byte)).await {
                read?;
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn http1_byte_by_byte_is_closed_unless_it_is_answered() -> Result<()> {
        let (mut peer, mut connection) = pair(Duration::from_secs(5)).await?;
        connection.quiet = Duration::from_millis(300);
        peer.write_all(b"POST / HTTP/1.1\r\nhost: somewhere\r\n").await?;
        let mut head = [0; 34];
        AsyncReadExt::read_exact(&mut connection, &mut head).await?;
        // Answers keep it.
        for _ in 0..4 {
            drip(&mut peer, &mut connection, 4).await?;
            connection.write_all(b"y").await?;
        }
        let ended = drip(&mut peer, &mut connection, 50).await;
        assert_eq!(ended.map_err(|e| e.kind()), Err(io::ErrorKind::TimedOut));
        Ok(())
    }

    #[tokio::test]
    async fn http2_may_be_quiet() -> Result<()> {
        let (mut peer, mut connection) = pair(Duration::from_millis(200)).await?;
        connection.quiet = Duration::from_millis(200);
        peer.write_all(PREFACE).await?;
        let mut preface = [0; 24];
        AsyncReadExt::read_exact(&mut connection, &mut preface).await?;
        let mut more = [0];
        let quiet = tokio::time::timeout(Duration::from_millis(600), connection.read(&mut more)).await;
        assert!(quiet.is_err(), "{quiet:?}");
        Ok(())
    }
}
