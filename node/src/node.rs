//! Starting and stopping everything, in one readable function.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, Context, Result};
use parking_lot::Mutex;
use tenure_comet::binary::CometBft;
use tenure_solo::Genesis;
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::watch;

use crate::application::{check_genesis, Application};
use crate::chain::Chain;
use crate::config::{AppConfig, CometConfig, Env};
use crate::engine::{self, comet, solo, Engine, EngineKind, Started};
use crate::grpc::abci::{LateRegistry, WithNodeQueries};
use crate::grpc::faucet::Faucet;
use crate::grpc::{self, Services};
use crate::home::{Home, HomeLock, RunFile};
use crate::metrics::measured::Measured;
use crate::metrics::{self, Metrics};
use crate::ports;

/// A stop that takes longer than this is given up: the store survives it like a kill.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Choices of one start.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// What makes the blocks; `None`: what made the ones that are there.
    pub engine: Option<EngineKind>,
    /// The program of CometBFT; `None`: found.
    pub comet_bin: Option<PathBuf>,
    /// Take free ports in place of busy ones.
    pub auto_ports: bool,
    /// Let the solo engine run a chain id that looks like a main network's.
    pub force: bool,
}

/// Runs a node until SIGTERM, SIGINT or a fatal error. `Ok` is a clean stop.
pub fn start(home: &Home, _lock: HomeLock, env: &Env, options: StartOptions) -> Result<()> {
    home.require_initialised()?;
    let config = AppConfig::load(home, env)?;
    let mut comet = CometConfig::load(home, env)?;
    let genesis_bytes =
        std::fs::read(home.genesis()).with_context(|| format!("cannot read {}", home.genesis().display()))?;
    let genesis = Genesis::from_json(&genesis_bytes)?;
    let kind = options.engine.unwrap_or_else(|| engine::of_home(home));
    // Before anything is opened: a missing program or a busy port leaves no trace.
    let binary = match kind {
        EngineKind::Comet => Some(CometBft::find(options.comet_bin.as_deref())?),
        EngineKind::Solo | EngineKind::External => None,
    };
    let auto = options.auto_ports;
    let grpc_listener = ports::bind("gRPC", "grpc.address", config.grpc.address, auto)?;
    let bind_api = || ports::bind("REST", "api.address", config.api.address, auto);
    let api_listener = config.api.enable.then(bind_api).transpose()?;
    let bind_metrics = || ports::bind("metrics", "telemetry.address", config.telemetry.address, auto);
    let metrics_listener = config.telemetry.enabled.then(bind_metrics).transpose()?;
    let rpc_listener = match kind {
        EngineKind::Solo => Some(ports::bind("JSON-RPC", "rpc.laddr", comet.rpc, auto)?),
        EngineKind::Comet => {
            comet.rpc = ports::free("JSON-RPC", "rpc.laddr", comet.rpc, auto)?;
            comet.p2p = ports::free("p2p", "p2p.laddr", comet.p2p, auto)?;
            let prometheus = comet.prometheus.map(|address| {
                ports::free(
                    "CometBFT's metrics",
                    "instrumentation.prometheus_listen_addr",
                    address,
                    auto,
                )
            });
            comet.prometheus = prometheus.transpose()?;
            None
        }
        EngineKind::External => None,
    };
    let run = Announcement::new(
        home,
        RunFile {
            pid: std::process::id(),
            grpc: grpc_listener.local_addr()?,
            rpc: match &rpc_listener {
                Some(listener) => listener.local_addr()?,
                None => comet.rpc,
            },
            api: api_listener
                .as_ref()
                .map(|listener| listener.local_addr())
                .transpose()?,
            metrics: metrics_listener
                .as_ref()
                .map(|listener| listener.local_addr())
                .transpose()?,
            chain_id: genesis.chain_id.clone(),
            engine: kind.name().to_owned(),
            p2p: (kind == EngineKind::Comet).then_some(comet.p2p),
            cometbft: None,
        },
    );

    let application = Application::open_to_run(home, &config, &comet.mempool)?;
    let height = application.head().0;
    if height == 0 {
        // The application would stop the process in InitChain; here the mistake has a place and the exit is an ordinary one.
        check_genesis(&genesis).with_context(|| home.genesis().display().to_string())?;
    }
    let first = u64::try_from(genesis.initial_height).unwrap_or_default();
    engine::check_home(kind, home, height, first)?;
    // The node's own queries come once the engine is there; it needs the application first.
    let abci = LateRegistry::default();
    let app = WithNodeQueries::new(application.abci(), abci.clone());
    let metrics = Arc::new(Metrics::new()?);
    let app = Measured::new(app, metrics.clone(), height);
    if let Some(listener) = metrics_listener {
        metrics::server::start(listener, metrics.clone())?;
    }
    let (driven, closing) = (application.clone(), application.clone());
    let setup = comet::Setup {
        home,
        config: &comet,
        archive: config.archive.options(),
        chain_id: genesis.chain_id.clone(),
        head: application.last_block(),
        reset: Arc::new(move || driven.reset_uncommitted()),
    };
    let started = match (rpc_listener, binary) {
        (Some(rpc), _) => solo::start(app, home, &config, &comet, genesis, rpc, options.force)?,
        (None, Some(binary)) => {
            let run = run.clone();
            comet::supervised(app, setup, &binary, move |pid| run.cometbft(pid))?
        }
        (None, None) => comet::external(app, setup)?,
    };
    let Started {
        name,
        stall,
        ready,
        engine,
        stop,
    } = started;

    let archive = engine.archive();
    let chain: Arc<dyn Chain> = Arc::new(application);
    let faucet = open_faucet(home, &config, &chain, &engine);
    let result = faucet.and_then(|faucet| {
        banner(&run, &*engine, &name, faucet.as_ref(), &comet.moniker);
        let services = Services {
            chain,
            engine: engine.clone(),
            query_heights: u64::try_from(config.store.query_heights).unwrap_or(u64::MAX),
            abci,
            api: api_listener.map(|listener| (listener, config.api.clone())),
            faucet,
            stall,
            metrics: Some(metrics),
        };
        serve(&run, grpc_listener, &config, services, ready)
    });
    give_up_after(STOP_LIMIT, result.is_ok());
    // Finishes the block under way.
    let stopped = stop();
    // The queries' registry and the application hold each other, and with them the archive: it does not close by itself.
    if let Some(Err(error)) = archive.map(|archive| archive.sync()) {
        tracing::warn!("the archive's last seconds are not on disk: {error}");
    }
    closing.reset_uncommitted();
    // Only what this process wrote; the next start writes it again.
    let _ = std::fs::remove_file(home.run_file());
    result?;
    stopped?;
    tracing::info!("stopped");
    Ok(())
}

/// What `run.json` says, and whether it says it yet.
#[derive(Clone)]
struct Announcement(Arc<Mutex<(Home, RunFile, bool)>>);

impl Announcement {
    fn new(home: &Home, run: RunFile) -> Self {
        Self(Arc::new(Mutex::new((home.clone(), run, false))))
    }

    fn run(&self) -> RunFile {
        self.0.lock().1.clone()
    }

    fn home(&self) -> Home {
        self.0.lock().0.clone()
    }

    /// Writes the file, and keeps it true from now on.
    fn publish(&self) -> Result<()> {
        let mut inner = self.0.lock();
        inner.2 = true;
        inner.0.write_run_file(&inner.1)
    }

    /// Notes the process of CometBFT.
    fn cometbft(&self, pid: u32) {
        let mut inner = self.0.lock();
        inner.1.cometbft = Some(pid);
        if inner.2 {
            if let Err(error) = inner.0.write_run_file(&inner.1) {
                tracing::warn!("{error:#}");
            }
        }
    }
}

fn open_faucet(
    home: &Home,
    config: &AppConfig,
    chain: &Arc<dyn Chain>,
    engine: &Arc<dyn Engine>,
) -> Result<Option<Faucet>> {
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
        engine.clone(),
    );
    open.context("faucet.enabled is true, but the faucet cannot be opened")
        .map(Some)
}

fn banner(run: &Announcement, engine: &dyn Engine, name: &str, faucet: Option<&Faucet>, moniker: &str) {
    let run = run.run();
    tracing::info!(
        chain_id = %run.chain_id,
        height = engine.head().map_or(0, |h| h.height),
        moniker,
        engine = name,
        grpc = %run.grpc,
        rpc = %run.rpc,
        api = %run.api.map_or_else(|| "off".to_owned(), |a| a.to_string()),
        faucet = %faucet.map_or_else(|| "off".to_owned(), |f| f.address().to_string()),
        "tenured {} is up",
        crate::version::VERSION
    );
}

/// Serves gRPC until a signal (`Ok`) or until the engine or the server ends (the reason).
fn serve(
    run: &Announcement,
    listener: std::net::TcpListener,
    config: &AppConfig,
    services: Services,
    ready: impl std::future::Future<Output = ()>,
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
        let mut ended = services.engine.ended();
        let looked_at = services.metrics.clone().filter(|_| config.telemetry.enabled);
        if let Some(metrics) = looked_at {
            // Both end with the runtime.
            tokio::spawn(metrics::mempool::watch(metrics.clone(), services.engine.clone()));
            tokio::spawn(metrics::snapshots::watch(metrics, run.home().snapshots()));
        }
        let mut server = std::pin::pin!(grpc::serve(listener, &config.grpc, services, stopping));
        let announced = async {
            ready.await;
            if let Err(error) = run.publish() {
                return error;
            }
            std::future::pending().await
        };
        let outcome = tokio::select! {
            ended = &mut server => return ended,
            error = announced => Err(error),
            ended = &mut ended => match ended {
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
