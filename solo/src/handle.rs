//! Starting and stopping.

use crate::config::SoloConfig;
use crate::core::{Clones, Core, Head, Life, NodeInfo, SoloClient};
use crate::engine::{Command, Engine, Pace};
use crate::error::SoloError;
use crate::keys::{SignState, ValidatorKey};
use crate::mempool::Mempool;
use crate::replay;
use crate::rpc;
use crate::store::Store;
use parking_lot::{Condvar, Mutex};
use std::net::{SocketAddr, TcpListener};
use std::ops::Deref;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver};
use std::sync::Arc;
use std::thread::JoinHandle;
use tendermint_abci::Application;
use tenure_archive::{Archive, Recorder};
use tokio::sync::watch;

/// Starts the engine: checks the configuration, opens the database, brings application and engine together (handshake and
/// replay), then makes blocks on its own thread and serves JSON-RPC on another. Returns once the handshake is done.
///
/// Errors are final and say what to do; nothing keeps running after one. A panic of the application during the handshake goes
/// through to the caller.
pub fn start<A: Application>(app: A, mut config: SoloConfig) -> Result<SoloHandle, SoloError> {
    config.check_chain_id()?;
    let genesis = config.genesis.load()?;
    if genesis.chain_id != config.chain_id {
        return Err(SoloError::Config(format!(
            "chain id is {:?} in the configuration but {:?} in the genesis document",
            config.chain_id, genesis.chain_id
        )));
    }
    let key = ValidatorKey::load(&config.validator_key)?;
    let mut sign_state = SignState::load(&config.validator_state)?;
    // Bind before anything is written: a busy port should leave no trace.
    let listener = listen(&mut config)?;
    let rpc_addr = listener.as_ref().and_then(|l| l.local_addr().ok());
    let store = Store::open(&config.data_dir)?;

    tracing::warn!(
        chain_id = %genesis.chain_id,
        validator = %hex::encode_upper(key.address()),
        "solo engine: NOT Byzantine fault tolerant. One process, one key; for development, tests and single-operator trials"
    );
    let archive = Archive::open(&config.archive_dir, config.archive.clone())?;
    let app = Recorder::new(app, archive.clone())?;
    replay::backfill(&store, &archive, &genesis, &key)?;
    let (state, app_version) = replay::handshake(&app, &store, &genesis, &key, &mut sign_state)?;

    let pace = Pace {
        interval: config.block_interval,
        gap: config.min_block_gap,
        max_bytes: config.max_block_bytes,
        max_gas: config.max_block_gas,
    };
    let limits = state.limits(pace.max_bytes, pace.max_gas);
    let (commands, inbox) = mpsc::channel();
    let core = Arc::new(Core {
        node: NodeInfo {
            node_id: config.node_id.clone(),
            moniker: config.moniker.clone(),
            rpc_addr: rpc_addr.map(|a| format!("tcp://{a}")).unwrap_or_default(),
            app_version,
        },
        genesis,
        key: key.clone(),
        store,
        archive,
        mempool: Mempool::new(Box::new(app.clone()), config.mempool.clone(), limits),
        query: Box::new(Clones(Mutex::new(app.clone()))),
        commands,
        head: watch::Sender::new(None),
        life: watch::Sender::new(Life::Running),
        changed: (Mutex::new(()), Condvar::new()),
    });
    if !state.at_genesis() {
        core.publish(&state);
    }
    let client = SoloClient(core.clone());
    let rpc = listener.map(|l| rpc::Server::start(l, client.clone())).transpose()?;
    let engine = Engine {
        app,
        core,
        key,
        sign_state,
        clock: config.clock,
        state,
        pace,
        crash_at: config.crash_at,
        retain_height: 0,
    };
    let thread = spawn(engine, inbox)?;
    Ok(SoloHandle {
        client,
        engine: Some(thread),
        rpc,
        rpc_addr,
    })
}

fn listen(config: &mut SoloConfig) -> Result<Option<TcpListener>, SoloError> {
    if let Some(listener) = config.rpc_listener.take() {
        return Ok(Some(listener));
    }
    let Some(addr) = config.rpc_addr else { return Ok(None) };
    TcpListener::bind(addr).map(Some).map_err(|source| SoloError::Listen {
        addr: addr.to_string(),
        source,
    })
}

/// A panic's message, if it has one.
fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

fn spawn<A: Application>(engine: Engine<A>, inbox: Receiver<Command>) -> Result<JoinHandle<()>, SoloError> {
    let core = engine.core.clone();
    std::thread::Builder::new()
        .name("solo-engine".into())
        .spawn(move || {
            // The engine is consumed: nothing of a half-done block outlives a panic.
            let life = match catch_unwind(AssertUnwindSafe(|| engine.run(&inbox))) {
                Ok(Ok(())) => Life::Stopped,
                Ok(Err(e)) => Life::Failed(e),
                Err(payload) => Life::Failed(Arc::new(SoloError::Panic(panic_text(payload.as_ref())))),
            };
            if let Life::Failed(reason) = &life {
                tracing::error!(%reason, "solo engine died");
            }
            core.end(life);
        })
        .map_err(|e| SoloError::Config(format!("cannot start the engine thread: {e}")))
}

/// A running engine; stops it when dropped. Everything a [`SoloClient`] can do, this can.
pub struct SoloHandle {
    client: SoloClient,
    engine: Option<JoinHandle<()>>,
    rpc: Option<rpc::Server>,
    rpc_addr: Option<SocketAddr>,
}

impl Deref for SoloHandle {
    type Target = SoloClient;

    fn deref(&self) -> &SoloClient {
        &self.client
    }
}

impl SoloHandle {
    /// A client that can be cloned and moved.
    pub fn client(&self) -> SoloClient {
        self.client.clone()
    }

    /// Where JSON-RPC is served, if it is.
    pub fn rpc_addr(&self) -> Option<SocketAddr> {
        self.rpc_addr
    }

    /// Makes one block now and returns its head; in manual mode (block interval zero) the only way to get one. Errors with the
    /// reason if the engine dies of it or is dead.
    pub fn produce_block(&self) -> Result<Head, Arc<SoloError>> {
        let (reply, answer) = mpsc::channel();
        let dead = || match &*self.client.0.life.borrow() {
            Life::Failed(e) => e.clone(),
            _ => Arc::new(SoloError::Stopped),
        };
        self.client
            .0
            .commands
            .send(Command::Produce(reply))
            .map_err(|_| dead())?;
        answer.recv().map_err(|_| {
            // The thread ended without an answer; its reason follows at once.
            self.client
                .wait_for_height_blocking(i64::MAX, std::time::Duration::from_secs(5));
            dead()
        })?
    }

    /// Stops: no new blocks, RPC closed, both threads joined, files closed once the last [`SoloClient`] is gone. Blocks up to a
    /// few seconds. Returns the reason if the engine had died before.
    pub fn stop(mut self) -> Result<(), Arc<SoloError>> {
        self.shut_down();
        let life = self.client.0.life.borrow().clone();
        match life {
            Life::Failed(e) => Err(e),
            Life::Running | Life::Stopped => Ok(()),
        }
    }

    fn shut_down(&mut self) {
        self.client.0.mempool.close();
        // Fails only if the thread is gone already.
        let _ = self.client.0.commands.send(Command::Stop);
        if let Some(thread) = self.engine.take() {
            // Panics were caught inside.
            let _ = thread.join();
        }
        if let Some(rpc) = self.rpc.take() {
            rpc.stop();
        }
    }
}

impl Drop for SoloHandle {
    fn drop(&mut self) {
        self.shut_down();
    }
}
