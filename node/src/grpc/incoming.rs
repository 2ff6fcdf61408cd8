//! Connections, limited in number: file descriptors are also what the database and the engine need.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Bytes of HTTP/2's client preface. A connection that has not sent as much by its deadline is closed: hyper would wait for ever.
const PREFACE: usize = 24;

/// A connection that counts until it is dropped.
pub struct Connection {
    stream: TcpStream,
    /// Bytes read, and by when they must be [`PREFACE`]; `None` once they are.
    opening: Option<(usize, Pin<Box<Sleep>>)>,
    _permit: OwnedSemaphorePermit,
}

/// Connections accepted on `listener`, at most `most` at a time; others wait in the system's backlog. One
/// that says nothing for `opening` is closed. Accept errors (no file
/// descriptors) are retried after a pause.
pub fn limited(
    listener: TcpListener,
    most: usize,
    opening: Duration,
) -> Result<impl Stream<Item = io::Result<Connection>>> {
    listener.set_nonblocking(true).context("the gRPC listener")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("the gRPC listener")?;
    let permits = Arc::new(Semaphore::new(most));
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
                Ok((stream, _)) => {
                    // Only latency suffers without it.
                    let _ = stream.set_nodelay(true);
                    let opening = Some((0, Box::pin(tokio::time::sleep(opening))));
                    if sender
                        .send(Ok(Connection {
                            stream,
                            opening,
                            _permit: permit,
                        }))
                        .await
                        .is_err()
                    {
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

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some((mut read, mut deadline)) = self.opening.take() else {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        };
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        read += buf.filled().len().saturating_sub(before);
        if read >= PREFACE {
            return polled;
        }
        if polled.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.opening = Some((read, deadline));
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
