//! ABCI 2.0 over sockets, for CometBFT v0.38.
//!
//! [`Server`] drives any [`tendermint_abci::Application`] from a unix socket or TCP; [`Client`] is its blocking counterpart for tests
//! and benchmarks; [`grammar`] is the order in which an engine may call, as a state machine, and [`Checked`] an application that
//! holds its engine (and itself) to it.
//!
//! ```text
//!   CometBFT ── query ─────┐   thread per connection, each with its clone of the application
//!            ── snapshot ──┤
//!            ── mempool ───┼─► frame ─► dispatch ─► Application      replies buffered, flushed when the peer waits for them
//!            ── consensus ─┘   (a panic here ends the process)
//! ```
//!
//! Invariants:
//! - no input makes the server panic, or set aside more than about twice the bytes that arrived, of which a message has at most
//!   `max_frame_bytes` on each of `max_connections`;
//! - a connection's fault ends that connection only, except a panic where state is decided, which ends the process;
//! - at most one connection makes blocks, and the application has dropped its uncommitted state before that connection's first call;
//! - after [`ServerHandle::wait`] no clone of the application is left.

mod address;
mod checked;
mod client;
mod connection;
mod dispatch;
mod forward;
pub mod frame;
pub mod grammar;
mod listener;
mod server;
mod stream;

/// The messages of the calls, for [`forward!`].
#[doc(hidden)]
pub use tendermint_proto::v0_38::abci as proto;

pub use address::{Address, AddressError};
pub use checked::{Checked, OnViolation};
pub use client::{Client, ClientError};
pub use dispatch::{AppPanic, ConnectionKind, SERVER_PANIC};
pub use listener::BindError;
pub use server::{ConnectionInfo, OnConsensusConnection, OnPanic, Server, ServerHandle, ServerOptions};
