//! `GET /metrics` over HTTP/1.1, on a thread of its own: a node whose other threads hang can still be read.
//!
//! One connection at a time, closed after one answer, within [`LIMIT`] and [`MAX_HEAD`]: a reader that is slow or hostile delays the next one by two
//! seconds at most, and holds nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Metrics;

/// How long one connection may take to ask.
const LIMIT: Duration = Duration::from_secs(2);
/// Longest head of a request, bytes.
const MAX_HEAD: usize = 8 << 10;
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves metrics until the process ends. Error: no thread.
pub fn start(listener: TcpListener, metrics: Arc<Metrics>) -> Result<()> {
    listener.set_nonblocking(false).context("the listener for metrics")?;
    let serve = move || loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = answer(stream, &metrics) {
                    tracing::debug!(%error, "a reader of metrics got no answer");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a reader of metrics");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    };
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(serve)
        .context("cannot start the thread for metrics")?;
    Ok(())
}

fn answer(mut stream: TcpStream, metrics: &Metrics) -> Result<()> {
    stream.set_write_timeout(Some(LIMIT))?;
    let head = head(&mut stream)?;
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", TEXT, metrics.text()?),
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()?;
    // Before what may still be unread makes the system reset the connection and throw the answer away.
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(())
}

/// The request's first line; reads to the end of the head.
fn head(stream: &mut TcpStream) -> Result<String> {
    let deadline = Instant::now() + LIMIT;
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        anyhow::ensure!(
            !left.is_zero() && head.len() < MAX_HEAD,
            "the request is not complete in time and bounds"
        );
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => anyhow::bail!("the connection ended early"),
            Ok(n) => head.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn ask(address: SocketAddr, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn readers_get_text_and_bad_ones_hold_nobody_up() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        start(listener, Arc::new(Metrics::new()?))?;
        // One that says nothing, one that says too much, one that says something else.
        let _silent = TcpStream::connect(address)?;
        let _ = ask(address, &"x".repeat(MAX_HEAD * 2));
        assert!(ask(address, "POST /metrics HTTP/1.1\r\n\r\n")?.starts_with("HTTP/1.1 405"));
        assert!(ask(address, "GET / HTTP/1.1\r\n\r\n")?.contains("/metrics"));
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\napp_height 0\n"),
            "{answer}"
        );
        Ok(())
    }
}
