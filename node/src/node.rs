//! Starting and stopping everything, in one readable function.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, Context, Result};
use tenure_solo::{load_node_id, Genesis, GenesisSource, MempoolConfig, SoloConfig, SoloError, SoloHandle};
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::watch;

use crate::application::{check_genesis, Application};
use crate::chain::Chain;
use crate::config::{AppConfig, CometConfig, Env};
use crate::grpc::faucet::Faucet;
use crate::grpc::{self, Services};
use crate::home::{Home, HomeLock, RunFile};
use crate::ports;

/// Health says NOT_SERVING after this many block intervals without a block, and never earlier than [`MIN_STALL`].
const STALL_INTERVALS: u32 = 3;
const MIN_STALL: Duration = Duration::from_secs(10);
/// How long a start waits for the first block before it says where it is.
const FIRST_BLOCK: Duration = Duration::from_secs(2);
/// A stop that takes longer than this is given up: the store survives it like a kill.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Choices of one start.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// Take free ports in place of busy ones.
    pub auto_ports: bool,
    /// Let the solo engine run a chain id that looks like a main network's.
    pub force: bool,
}

/// Runs a node until SIGTERM, SIGINT or a fatal error. `Ok` is a clean stop.
pub fn start(home: &Home, _lock: HomeLock, env: &Env, options: StartOptions) -> Result<()> {
    home.require_initialised()?;
    let config = AppConfig::load(home, env)?;
    let comet = CometConfig::load(home, env)?;
    let genesis_bytes =
        std::fs::read(home.genesis()).with_context(|| format!("cannot read {}", home.genesis().display()))?;
    let genesis = Genesis::from_json(&genesis_bytes)?;
    let chain_id = genesis.chain_id.clone();
    // Before anything is opened: a busy port leaves no trace.
    let grpc_listener = ports::bind("gRPC", "grpc.address", config.grpc.address, options.auto_ports)?;
    let rpc_listener = ports::bind("JSON-RPC", "rpc.laddr", comet.rpc, options.auto_ports)?;
    let run = RunFile {
        pid: std::process::id(),
        grpc: grpc_listener.local_addr()?,
        rpc: rpc_listener.local_addr()?,
        chain_id: chain_id.clone(),
    };

    let application = Application::open(&home.application_db(), &config.store)?;
    if application.head().0 == 0 {
        // The application would stop the process in InitChain; here the mistake has a place and the exit is an ordinary one.
        check_genesis(&genesis).with_context(|| home.genesis().display().to_string())?;
    }
    let mut solo = SoloConfig::at_home(chain_id, home.root());
    solo.genesis = GenesisSource::Document(Box::new(genesis));
    solo.node_id = load_node_id(&home.node_key())?;
    solo.moniker = comet.moniker.clone();
    solo.rpc_listener = Some(rpc_listener);
    solo.block_interval = config.solo.block_interval.0;
    solo.min_block_gap = config.solo.min_block_gap.0;
    solo.mempool = MempoolConfig {
        size: comet.mempool.size,
        max_txs_bytes: comet.mempool.max_txs_bytes,
        max_tx_bytes: comet.mempool.max_tx_bytes,
        cache_size: comet.mempool.cache_size,
    };
    solo.force = options.force;
    let engine = tenure_solo::start(application.abci(), solo).map_err(|e| match e {
        SoloError::MainNet(id) => anyhow!(
            "chain id {id:?} looks like a main network's, and the solo engine has one validator and tolerates no fault. Choose another \
             chain id, or, for a trial by one operator, say `tenured start --force`"
        ),
        other => other.into(),
    })?;

    let chain: Arc<dyn Chain> = Arc::new(application);
    let faucet = open_faucet(home, &config, &chain, &engine)?;
    banner(&run, &engine, faucet.as_ref(), &comet.moniker);
    let services = Services {
        chain,
        engine: engine.client(),
        faucet,
        stall: (config.solo.block_interval.0 * STALL_INTERVALS).max(MIN_STALL),
    };
    let result = serve(home, &run, grpc_listener, &config, services, &engine);
    give_up_after(STOP_LIMIT, result.is_ok());
    // Finishes the block under way.
    let stopped = engine.stop();
    // Only what this process wrote; the next start writes it again.
    let _ = std::fs::remove_file(home.run_file());
    result?;
    stopped.map_err(|e| anyhow!("{e}"))?;
    tracing::info!("stopped");
    Ok(())
}

fn open_faucet(home: &Home, config: &AppConfig, chain: &Arc<dyn Chain>, engine: &SoloHandle) -> Result<Option<Faucet>> {
    let faucet = &config.faucet;
    if !faucet.enabled {
        return Ok(None);
    }
    let key = home.resolve(&faucet.key_file);
    let open = Faucet::open(
        &key,
        faucet.amount.clone(),
        faucet.interval.0,
        chain.clone(),
        engine.client(),
    );
    open.context("faucet.enabled is true, but the faucet cannot be opened")
        .map(Some)
}

fn banner(run: &RunFile, engine: &SoloHandle, faucet: Option<&Faucet>, moniker: &str) {
    tracing::info!(
        chain_id = %run.chain_id,
        height = engine.latest_height(),
        moniker,
        engine = "solo: not BFT",
        grpc = %run.grpc,
        rpc = %run.rpc,
        faucet = %faucet.map_or_else(|| "off".to_owned(), |f| f.address().to_string()),
        "tenured {} is up",
        crate::version::VERSION
    );
}

/// Serves gRPC until a signal (`Ok`) or until the engine or the server ends (the reason).
fn serve(
    home: &Home,
    run: &RunFile,
    listener: std::net::TcpListener,
    config: &AppConfig,
    services: Services,
    engine: &SoloHandle,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(grpc::blocking_threads(&config.grpc))
        .thread_name("grpc")
        .enable_all()
        .build()
        .context("cannot start the gRPC threads")?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let (stop, stopping) = watch::channel(false);
        let client = engine.client();
        let mut server = std::pin::pin!(grpc::serve(listener, &config.grpc, services, stopping));
        // Whoever finds the file finds a node that answers: queries need a first block. A genesis time in the future is not waited for.
        let announced = async {
            let _ = tokio::time::timeout(FIRST_BLOCK, client.wait_for_height(1)).await;
            home.write_run_file(run)
        };
        tokio::select! {
            ended = &mut server => return ended,
            written = announced => written?,
        }
        let outcome = tokio::select! {
            ended = &mut server => return ended,
            ended = client.ended() => match ended {
                Ok(()) => Err(anyhow!("the engine stopped by itself")),
                Err(reason) => Err(anyhow!("the engine died: {reason}")),
            },
            _ = terminate.recv() => {
                tracing::info!("SIGTERM: stopping");
                Ok(())
            }
            _ = interrupt.recv() => {
                tracing::info!("SIGINT: stopping");
                Ok(())
            }
        };
        stop.send_replace(true);
        outcome.and(server.await)
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

/// Ends the process if a stop hangs (a disk that never answers): a node that neither works nor ends is worse than a killed one.
fn give_up_after(limit: Duration, clean: bool) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        tracing::error!("the stop took longer than {limit:?}; ending the process, no committed block is lost");
        std::process::exit(if clean { 3 } else { 1 });
    });
}

/// Where a node listens, for other commands: what the running one wrote, else the settings.
pub fn rpc_address(home: &Home, env: &Env) -> Result<SocketAddr> {
    match home.running() {
        Some(run) => Ok(run.rpc),
        None => Ok(CometConfig::load(home, env)?.rpc),
    }
}
