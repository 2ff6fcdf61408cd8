//! The server over real sockets, with our client, with raw bytes, and with CometBFT.
#![allow(
    clippy::disallowed_methods,
    reason = "tests bound their waiting by the machine's clock"
)]

mod app;
mod calls;
mod checked;
mod comet;
mod concurrency;
mod sockets;
mod stop;

use std::time::{Duration, Instant};

use tendermint_abci::Application;
use tenure_abci::{Address, Server, ServerHandle, ServerOptions};

/// Longest wait for anything that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A server of each transport, in turn.
fn on_both_transports(test: impl Fn(Address)) {
    let dir = tempfile::tempdir().unwrap();
    test(Address::Unix(dir.path().join("app.sock")));
    test(Address::Tcp("127.0.0.1:0".parse().unwrap()));
}

fn serve<A: Application>(address: &Address, options: ServerOptions, app: A) -> ServerHandle {
    Server::bind(address, options).unwrap().serve(app).unwrap()
}
