//! The server: who may connect, how many, which of them makes blocks, and how all of it ends.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::Shutdown,
    panic::{catch_unwind, AssertUnwindSafe},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex, RwLock};
use tendermint_abci::Application;

use crate::{
    connection::Connection,
    dispatch::{AppPanic, ConnectionKind, SERVER_PANIC},
    frame::DEFAULT_MAX_FRAME_BYTES,
    listener::{BindError, Listener, Waker},
    stream::{Origin, Stream},
    Address,
};

/// Same as a main thread's: the application's depth must not depend on who calls it.
const STACK_BYTES: usize = 8 << 20;

/// Pause after the system refused to accept, for example because it has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is done when a new engine takes over the consensus connection.
pub type OnConsensusConnection = Arc<dyn Fn() + Send + Sync>;

/// What is done when the application panics in consensus. If it returns, the connection is closed with an exception.
pub type OnPanic = Arc<dyn Fn(&AppPanic) + Send + Sync>;

/// Limits and callbacks; the default is right for a node.
#[derive(Clone)]
pub struct ServerOptions {
    /// Cap of one request in bytes, 128 MiB by default.
    pub max_frame_bytes: usize,
    /// Cap of connections, 16 by default; CometBFT opens four. When it is reached, the oldest that never said anything makes room,
    /// unless another connection from the same host has: an engine's connections may be silent for hours.
    pub max_connections: usize,
    /// Longest pause within a connection's first request once it is begun, 10 s by default. Afterwards there is no timeout.
    pub first_request_timeout: Duration,
    /// How long a new consensus connection waits for the one before it to end, 10 s by default: the application may still be in the
    /// last call of an engine that was killed.
    pub consensus_handover: Duration,
    /// How long [`ServerHandle::wait`] gives replies to reach their readers once stopped, 5 s by default.
    pub stop_grace: Duration,
    /// Called before the first request of every consensus connection. The application drops what it has not committed: the engine
    /// replays from what `Info` said.
    pub on_consensus_connection: OnConsensusConnection,
    /// Called when the application panics in a call that decides its state. The default ends the process with
    /// [`std::process::abort`]: half a node that still answers queries is the classic failure.
    pub on_panic: OnPanic,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_frame_bytes: DEFAULT_MAX_FRAME_BYTES,
            max_connections: 16,
            first_request_timeout: Duration::from_secs(10),
            consensus_handover: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
            on_consensus_connection: Arc::new(|| ()),
            on_panic: Arc::new(|panic| {
                tracing::error!("{panic}; the process ends, because its state may differ from every other node's");
                std::process::abort()
            }),
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("max_frame_bytes", &self.max_frame_bytes)
            .field("max_connections", &self.max_connections)
            .field("first_request_timeout", &self.first_request_timeout)
            .field("consensus_handover", &self.consensus_handover)
            .field("stop_grace", &self.stop_grace)
            .finish_non_exhaustive()
    }
}

/// A server that listens and does not serve yet; the system queues who connects.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    waker: Waker,
    local: Address,
    options: ServerOptions,
}

impl Server {
    /// Listens. A unix socket that nobody listens on is replaced; its file has mode 0600 and goes when the server ends.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(address: &Address, options: ServerOptions) -> Result<Self, BindError> {
        let (listener, local, waker) = Listener::bind(address)?;
        Ok(Self {
            listener,
            waker,
            local,
            options,
        })
    }

    /// Where it listens; a TCP port 0 has become the one the system chose.
    #[must_use]
    pub fn local_addr(&self) -> &Address {
        &self.local
    }

    /// Serves in threads of its own, one for each connection, each with its own clone of the application.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn serve<A: Application>(self, app: A) -> io::Result<ServerHandle> {
        let shared = Arc::new(Shared {
            options: self.options,
            stopping: AtomicBool::new(false),
            connections: Mutex::new(BTreeMap::new()),
            connection_ended: Condvar::new(),
            consensus: Mutex::new(None),
            consensus_free: Condvar::new(),
            height: RwLock::new(()),
        });
        let accepting = {
            let (shared, listener) = (shared.clone(), self.listener);
            thread::Builder::new()
                .name("abci-accept".to_owned())
                .spawn(move || accept(&listener, &shared, &app))?
        };
        tracing::info!(address = %self.local, "ABCI server listens");
        Ok(ServerHandle {
            local: self.local,
            waker: self.waker,
            shared,
            accepting: Mutex::new(Some(accepting)),
        })
    }
}

/// A running server. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct ServerHandle {
    local: Address,
    waker: Waker,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// One open connection, as [`ServerHandle::connections`] tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Counts from 0 in order of arrival.
    pub id: u64,
    /// What it is for, as far as its requests have told.
    pub kind: Option<ConnectionKind>,
    /// Whether a whole request has arrived.
    pub spoken: bool,
}

impl ServerHandle {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> &Address {
        &self.local
    }

    /// The open connections, oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let connections = self.shared.connections.lock();
        let open = connections.iter().filter(|(_, entry)| !entry.closing);
        open.map(|(id, entry)| ConnectionInfo {
            id: *id,
            kind: entry.kind,
            spoken: entry.spoken,
        })
        .collect()
    }

    /// Takes no more connections and no more requests. Calls that run are finished and answered; see [`Self::wait`].
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.waker.wake();
        for entry in self.shared.connections.lock().values() {
            entry.stream.shutdown(Shutdown::Read);
        }
    }

    /// Returns when the server has ended: no thread of it runs, no clone of the application is left, the socket's file is gone. It
    /// ends after [`Self::stop`], as soon as the calls that run have returned; a reader that does not take its replies is cut off after
    /// `stop_grace`.
    pub fn wait(&self) {
        if let Some(accepting) = self.accepting.lock().take() {
            if accepting.join().is_err() {
                tracing::error!("the ABCI accept thread panicked");
            }
        }
        // The accept thread ends only after `stop`, and nobody is admitted any more.
        let mut connections = self.shared.connections.lock();
        let ended = &self.shared.connection_ended;
        let late = ended
            .wait_while_for(
                &mut connections,
                |open| !open.is_empty(),
                self.shared.options.stop_grace,
            )
            .timed_out();
        if late {
            for entry in connections.values() {
                entry.stream.shutdown(Shutdown::Both);
            }
            ended.wait_while(&mut connections, |open| !open.is_empty());
        }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Entry {
    stream: Arc<Stream>,
    origin: Origin,
    kind: Option<ConnectionKind>,
    spoken: bool,
    /// Was told to make room; its thread is about to end.
    closing: bool,
}

/// What the threads of a server have in common.
pub(crate) struct Shared {
    pub(crate) options: ServerOptions,
    stopping: AtomicBool,
    /// One entry for each thread, removed as its last act.
    connections: Mutex<BTreeMap<u64, Entry>>,
    connection_ended: Condvar,
    /// The connection that makes blocks.
    consensus: Mutex<Option<u64>>,
    consensus_free: Condvar,
    /// Held for writing by a call that changes what `Info` says, for reading by `Info`. An engine that was killed during Commit may
    /// be started again before that Commit is over; told the height before it, it would replay a block that is there.
    pub(crate) height: RwLock<()>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Holds the consensus slot; the next engine gets it when this is dropped.
pub(crate) struct ConsensusGuard<'a>(&'a Shared);

impl Drop for ConsensusGuard<'_> {
    fn drop(&mut self) {
        *self.0.consensus.lock() = None;
        self.0.consensus_free.notify_one();
    }
}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn mark_spoken(&self, id: u64) {
        if let Some(entry) = self.connections.lock().get_mut(&id) {
            entry.spoken = true;
        }
    }

    pub(crate) fn mark_kind(&self, id: u64, kind: ConnectionKind) {
        if let Some(entry) = self.connections.lock().get_mut(&id) {
            entry.kind = Some(kind);
        }
    }

    /// Waits for the engine before to leave. Two engines on one application would tear its state apart, so the second is refused if
    /// the first stays.
    pub(crate) fn acquire_consensus(&self, id: u64) -> Option<ConsensusGuard<'_>> {
        let mut holder = self.consensus.lock();
        let wait = self.options.consensus_handover;
        self.consensus_free
            .wait_while_for(&mut holder, |holder| holder.is_some(), wait);
        if holder.is_some() {
            return None;
        }
        *holder = Some(id);
        Some(ConsensusGuard(self))
    }

    /// Enters a connection, making room if need be; `false` if there is none.
    fn admit(&self, id: u64, stream: &Arc<Stream>) -> io::Result<bool> {
        let origin = stream.origin()?;
        let mut connections = self.connections.lock();
        // `stop` sets the flag before it walks the map under this lock, so no connection is missed by both.
        if self.is_stopping() {
            return Ok(false);
        }
        if connections.values().filter(|entry| !entry.closing).count() >= self.options.max_connections {
            let engines: Vec<Origin> = connections.values().filter(|e| e.spoken).map(|e| e.origin).collect();
            let silent = connections
                .iter_mut()
                .find(|(_, e)| !e.closing && !e.spoken && !engines.contains(&e.origin));
            let Some((silent_id, silent)) = silent else {
                return Ok(false);
            };
            tracing::warn!(
                id = silent_id,
                "ABCI connection closed: it never said anything and others wait"
            );
            silent.closing = true;
            silent.stream.shutdown(Shutdown::Both);
        }
        let entry = Entry {
            stream: stream.clone(),
            origin,
            kind: None,
            spoken: false,
            closing: false,
        };
        connections.insert(id, entry);
        Ok(true)
    }

    fn remove(&self, id: u64) {
        self.connections.lock().remove(&id);
        self.connection_ended.notify_all();
    }
}

fn accept<A: Application>(listener: &Listener, shared: &Arc<Shared>, app: &A) {
    for id in 0.. {
        let stream = match listener.accept() {
            Ok(Some(stream)) => Arc::new(stream),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an ABCI connection");
                thread::sleep(ACCEPT_PAUSE);
                continue;
            }
        };
        match shared.admit(id, &stream) {
            Ok(true) => {}
            Ok(false) => {
                let max = shared.options.max_connections;
                tracing::warn!(id, max, "ABCI connection refused: as many as max_connections are open");
                continue;
            }
            // The peer is gone already.
            Err(error) => {
                tracing::warn!(id, %error, "ABCI connection lost");
                continue;
            }
        }
        let spawned = {
            let (shared, app) = (shared.clone(), app.clone());
            thread::Builder::new()
                .name(format!("abci-{id}"))
                .stack_size(STACK_BYTES)
                .spawn(move || serve(id, &shared, stream, app))
        };
        if let Err(error) = spawned {
            tracing::warn!(id, %error, "ABCI connection refused: no thread for it");
            shared.remove(id);
        }
    }
}

fn serve<A: Application>(id: u64, shared: &Shared, stream: Arc<Stream>, app: A) {
    // The application's own panics are caught nearer to it; one that arrives here is a defect of this crate.
    let served = catch_unwind(AssertUnwindSafe(|| Connection::new(id, shared, &stream).run(app)));
    if let Err(payload) = served {
        (shared.options.on_panic)(&AppPanic::new(SERVER_PANIC, &*payload));
    }
    drop(stream);
    shared.remove(id);
}
