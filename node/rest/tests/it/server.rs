//! Connections: their number, their patience, their end.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tenure_rest::{serve, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::router;

fn start(
    limits: Limits,
) -> (
    SocketAddr,
    watch::Sender<bool>,
    tokio::task::JoinHandle<std::io::Result<()>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let (stop, stopping) = watch::channel(false);
    let server = tokio::spawn(serve(listener, router(), limits, stopping));
    (address, stop, server)
}

const PATIENT: Limits = Limits {
    connections: 8,
    head: Duration::from_secs(5),
};

/// Sends a request on a connection of its own; the whole answer.
async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answer");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_for_people_and_programs_are_served() {
    let (address, _stop, _) = start(PATIENT);
    let page = ask(address, "/").await;
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("/tenure/faucet/v1/drip"),
        "{page}"
    );
    assert!(page.contains("Test &lt;chain&gt;") && !page.contains("Test <chain>"));
    let document = ask(address, "/openapi.json").await;
    assert!(
        document.starts_with("HTTP/1.1 200") && document.contains("\"openapi\":\"3.0.3\""),
        "{document}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_arrive_ends_its_connection() {
    let limits = Limits {
        connections: 1,
        head: Duration::from_millis(300),
    };
    let (address, _stop, _) = start(limits);
    let started = Instant::now();
    let mut slow = TcpStream::connect(address).await.expect("connect");
    slow.write_all(b"GET / HTTP/1.1\r\nho").await.expect("send");
    // It held the only place; then it is closed, and others come in.
    let next = timeout(Duration::from_secs(5), ask(address, "/"))
        .await
        .expect("in time");
    assert!(next.starts_with("HTTP/1.1 200"), "{next}");
    assert!(
        started.elapsed() >= Duration::from_millis(250),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_wait() {
    let limits = Limits {
        connections: 1,
        ..PATIENT
    };
    let (address, _stop, _) = start(limits);
    let first = TcpStream::connect(address).await.expect("connect");
    let mut second = std::pin::pin!(ask(address, "/"));
    assert!(
        timeout(Duration::from_millis(300), &mut second).await.is_err(),
        "served at once"
    );
    drop(first);
    let answer = timeout(Duration::from_secs(5), second).await.expect("in time");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_idle_connections() {
    let (address, stop, server) = start(PATIENT);
    let mut idle = TcpStream::connect(address).await.expect("connect");
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("send");
    let mut some = [0; 16];
    idle.read_exact(&mut some).await.expect("an answer");
    stop.send_replace(true);
    let ended = timeout(Duration::from_secs(5), server)
        .await
        .expect("in time")
        .expect("task");
    assert!(ended.is_ok());
}
