//! `tenure-agent run`: everything wired together.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
};

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{signal, SignalKind},
    sync::watch,
};

use super::{account, Cli, JoinArgs, RunArgs};
use crate::{
    agent::{Agent, Settings},
    capacity,
    chain::Node,
    config::DEFAULT_LISTEN,
    disk::Home,
    gateway::{self, Gateway},
    runtime::wasm::WasmRuntime,
    workloads::Workloads,
};

/// Another address for the gateway if the one it is set to is busy.
fn free_port(cli: &Cli, args: &JoinArgs) -> Result<Option<SocketAddr>> {
    let wanted = match args.setup.listen {
        Some(listen) => listen,
        None => match cli.config() {
            Ok((_, config)) => config.listen,
            Err(_) => DEFAULT_LISTEN.parse().context("DEFAULT_LISTEN")?,
        },
    };
    match TcpListener::bind(wanted) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let free = TcpListener::bind((wanted.ip(), 0))
                .context("a free port")?
                .local_addr()?;
            tracing::warn!("port {} is busy: the gateway takes {free} instead", wanted.port());
            Ok(Some(free))
        }
        _ => Ok(None),
    }
}

pub(super) async fn run(cli: &Cli, args: &RunArgs) -> Result<()> {
    let path = cli.home()?;
    let (config, sender) = if args.join {
        let mut join = args.args.clone();
        if args.auto_ports {
            join.setup.listen = free_port(cli, &join)?.or(join.setup.listen);
        }
        account::join(cli, &join).await?
    } else {
        let (_, mut config) = cli.config()?;
        args.args.setup.apply(&mut config)?;
        let key = account::keyring(&path, &config).load(&config.key)?;
        let sender = account::patient_sender(&config, key).await?;
        (config, sender)
    };
    let home = Home::open(&path)?;
    let _lock = home.lock()?;
    let (provider, chain_id) = (sender.address(), sender.chain_id().to_owned());
    let settings = Settings {
        provider: provider.clone(),
        chain_id: chain_id.clone(),
        prices: config.prices()?,
        measured: capacity::measure(&path)?,
        reserve: config.reserve()?,
        withdraw_from: config.withdraw_from()?,
        retention_ms: config.retention_ms()?,
    };
    let max_module_bytes = config.module_bytes()?;
    let engine = WasmRuntime::new(max_module_bytes).map_err(|e| anyhow::anyhow!("the engine: {e:#}"))?;
    let workloads = Workloads::open(home, Arc::new(engine), config.log_bytes()?)?;
    let registered = sender.client().provider(&provider).await;
    let chain = Arc::new(Node::new(sender));

    let (stop, stopped) = watch::channel(false);
    let serving = Arc::new(AtomicBool::new(true));
    let service = Gateway::new(chain.clone(), workloads.clone(), &chain_id, &provider, max_module_bytes);
    let mut until = stopped.clone();
    let (bound, server) = gateway::serve(service, config.listen, async move {
        let _ = until.wait_for(|stop| *stop).await.is_ok();
    })
    .await
    .map_err(|e| anyhow::anyhow!("{e:#}. Choose another address with: tenure-agent join --listen ADDRESS:PORT"))?;
    match registered {
        Ok(now) if now.endpoint != config.endpoint => tracing::warn!(
            registered = now.endpoint,
            configured = config.endpoint,
            "tenants are sent to the registered endpoint: bring the registration up to date with tenure-agent join"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!("{error}"),
    }
    tracing::info!(provider, chain_id, gateway = %bound, endpoint = config.endpoint, offers = config.offer()?, "serving");

    let agent = tokio::spawn(Agent::new(chain, workloads.clone(), settings, serving.clone()).run(stopped));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut agent = agent;
    let mut server = server;
    let mut ended = None;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            result = &mut agent, if ended.is_none() => {
                ended = Some(result);
                break;
            }
            _ = &mut server, if serving.load(Ordering::Relaxed) => {
                // Running work goes on and is attested; nothing new is claimed.
                serving.store(false, Ordering::Relaxed);
                tracing::error!("the gateway has stopped; no new leases are claimed");
            }
        }
    }
    tracing::info!("stopping: transactions under way are finished, workloads begin anew at the next start");
    stop.send_replace(true);
    let result = match ended {
        Some(result) => result,
        None => agent.await,
    };
    workloads.stop().await;
    if serving.load(Ordering::Relaxed) {
        let _ = server.await.is_ok();
    }
    result.context("the loop")?
}
