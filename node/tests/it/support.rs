//! A chain in this process with a gRPC server, and `tenured` as a process.

use std::io::{Read, Seek, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use tenure_node::account_key::AccountKey;
use tenure_node::application::{self, AppOptions, Application, Profile};
use tenure_node::chain::Chain;
use tenure_node::config::{ApiConfig, GrpcConfig, StoreConfig};
use tenure_node::genesis::{self, NewGenesis};
use tenure_node::grpc::abci::{LateRegistry, WithNodeQueries};
use tenure_node::grpc::faucet::Faucet;
use tenure_node::grpc::{serve, Services};
use tenure_node::home::RunFile;
use tenure_proto::cosmos::bank::v1beta1::MsgSend;
use tenure_proto::cosmos::base::v1beta1::Coin;
use tenure_solo::{create_validator_key, Genesis, GenesisSource, SoloConfig, SoloHandle};
use tenure_store::MemoryBackend;
use tenure_types::{Address, Coins};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

pub const CHAIN_ID: &str = "tenure-test-x";
pub const START: u128 = 1_000_000_000;

/// A chain in memory, blocks by hand, with a gRPC server.
pub struct Net {
    pub alice: AccountKey,
    pub faucet_key: AccountKey,
    pub engine: Option<SoloHandle>,
    pub address: SocketAddr,
    pub api: SocketAddr,
    pub rpc: SocketAddr,
    pub registry: LateRegistry,
    stop: watch::Sender<bool>,
    _dir: TempDir,
}

pub struct NetOptions {
    pub grpc: GrpcConfig,
    pub stall: Duration,
    pub faucet_interval: Duration,
    /// Heights that the archive keeps.
    pub keep_heights: Option<u64>,
    /// In place of the application's queries.
    pub chain: Option<Arc<dyn Chain>>,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            grpc: GrpcConfig::default(),
            stall: Duration::ZERO,
            faucet_interval: Duration::from_secs(60),
            keep_heights: None,
            chain: None,
        }
    }
}

impl Net {
    /// Starts one; must be called inside a runtime.
    pub async fn start(options: NetOptions) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name);
        let key = create_validator_key(&path("key.json"), &path("state.json"))?;
        let (alice, faucet_key) = (AccountKey::random(), AccountKey::random());
        faucet_key.save(&path("faucet.json"))?;
        let mut document = genesis::document(NewGenesis {
            chain_id: CHAIN_ID,
            time: tendermint::Time::now(),
            app_state: application::app_state(Profile::Fast)?,
        })?;
        let coins: Coins = tenure_types::Coin::base(START).into();
        genesis::add_account(&mut document, &alice.address(), &coins)?;
        genesis::add_account(&mut document, &faucet_key.address(), &coins)?;
        document["validators"] = serde_json::json!([genesis::validator(&key.public_key(), "test", genesis::POWER)]);
        let genesis = Genesis::from_json(&genesis::bytes(&document))?;

        let application = Application::over(
            Arc::new(MemoryBackend::new()),
            &StoreConfig::default(),
            AppOptions::default(),
        )?;
        let mut solo = SoloConfig::at_home(CHAIN_ID, dir.path());
        solo.genesis = GenesisSource::Document(Box::new(genesis));
        solo.data_dir = path("data");
        solo.validator_key = path("key.json");
        solo.validator_state = path("state.json");
        solo.block_interval = Duration::ZERO;
        solo.archive.keep_heights = options.keep_heights;
        let rpc_listener = TcpListener::bind("127.0.0.1:0")?;
        let rpc = rpc_listener.local_addr()?;
        solo.rpc_listener = Some(rpc_listener);
        let abci = LateRegistry::default();
        let engine = tenure_solo::start(WithNodeQueries::new(application.abci(), abci.clone()), solo)?;
        let real: Arc<dyn Chain> = Arc::new(application);
        let amount = tenure_types::Coin::base(1_000);
        let faucet = Faucet::open(
            &path("faucet.json"),
            amount,
            options.faucet_interval,
            real.clone(),
            Arc::new(engine.client()),
        )?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let api_listener = TcpListener::bind("127.0.0.1:0")?;
        let api = api_listener.local_addr()?;
        let services = Services {
            chain: options.chain.unwrap_or(real),
            engine: Arc::new(engine.client()),
            faucet: Some(faucet),
            query_heights: u64::try_from(StoreConfig::default().query_heights)?,
            abci: abci.clone(),
            api: Some((api_listener, ApiConfig::default())),
            stall: options.stall,
            metrics: None,
        };
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(async move { serve(listener, &options.grpc, services, stopping).await });
        Ok(Self {
            alice,
            faucet_key,
            engine: Some(engine),
            address,
            api,
            rpc,
            registry: abci,
            stop,
            _dir: dir,
        })
    }

    pub async fn channel(&self) -> Result<Channel> {
        connect(self.address).await
    }

    /// Stops the servers as a stop of the node does.
    pub fn stop_serving(&self) {
        self.stop.send_replace(true);
    }

    /// Makes a block.
    pub fn block(&self) -> Result<i64> {
        let engine = self.engine.as_ref().context("stopped")?;
        Ok(engine.produce_block().map_err(|e| anyhow::anyhow!("{e}"))?.height)
    }

    /// A signed transfer of alice's; her account number is that of the first account in genesis order, so it is asked for.
    pub fn transfer(&self, number: u64, sequence: u64, to: &Address, amount: u64) -> Vec<u8> {
        transfer(&self.alice, CHAIN_ID, number, sequence, to, amount)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

pub async fn connect(address: SocketAddr) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(15));
    Ok(endpoint.connect().await?)
}

pub fn transfer(key: &AccountKey, chain_id: &str, number: u64, sequence: u64, to: &Address, amount: u64) -> Vec<u8> {
    let coin = |amount: u64| Coin {
        denom: "uten".to_owned(),
        amount: amount.to_string(),
    };
    let send = MsgSend {
        from_address: key.address().to_string(),
        to_address: to.to_string(),
        amount: vec![coin(amount)],
    };
    key.sign_tx(
        chain_id,
        number,
        sequence,
        &[tenure_proto::any(&send)],
        coin(1_000),
        200_000,
    )
}

/// Account number and sequence.
pub async fn account(channel: &Channel, address: &Address) -> Result<(u64, u64)> {
    use prost::Message;
    use tenure_proto::cosmos::auth::v1beta1::query_client::QueryClient;
    use tenure_proto::cosmos::auth::v1beta1::{BaseAccount, QueryAccountRequest};
    let request = QueryAccountRequest {
        address: address.to_string(),
    };
    let answer = QueryClient::new(channel.clone()).account(request).await?.into_inner();
    let account = BaseAccount::decode(answer.account.context("account")?.value.as_slice())?;
    Ok((account.account_number, account.sequence))
}

/// Balance in uten.
pub async fn balance(channel: &Channel, address: &Address) -> Result<u128> {
    use tenure_proto::cosmos::bank::v1beta1::query_client::QueryClient;
    use tenure_proto::cosmos::bank::v1beta1::QueryBalanceRequest;
    let request = QueryBalanceRequest {
        address: address.to_string(),
        denom: "uten".to_owned(),
    };
    let answer = QueryClient::new(channel.clone()).balance(request).await?.into_inner();
    Ok(answer.balance.context("balance")?.amount.parse()?)
}

/// `tenured`, not started.
pub fn tenured(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenured"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TENURED_")) {
        command.env_remove(name);
    }
    command
        .arg("--home")
        .arg(home)
        .env("RUST_LOG", "info")
        .stdin(Stdio::null());
    command
}

/// Ports of its own for each node: of two that find the default free at one instant, one would fail.
pub const OWN_PORTS: [(&str, &str); 2] = [
    ("TENURED_RPC_LADDR", "tcp://127.0.0.1:0"),
    ("TENURED_P2P_LADDR", "tcp://127.0.0.1:0"),
];

/// Runs a command to its end: success, standard output, standard error. One that does not end within 30 s is killed.
pub fn finish(command: &mut Command) -> Result<(bool, String, String)> {
    // Files, not pipes: a full pipe would stop the command.
    let (mut out, mut err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command.stdout(out.try_clone()?).stderr(err.try_clone()?).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{command:?} ran for more than 30 s");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = |file: &mut std::fs::File| -> Result<String> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok((child.wait()?.success(), text(&mut out)?, text(&mut err)?))
}

/// A running `tenured`; killed when dropped.
pub struct Node {
    pub child: Child,
    pub run: RunFile,
    pub log: std::path::PathBuf,
}

impl Node {
    /// Starts a command that runs a node in `home` and waits until it serves. Its log goes to `<home>/../log`.
    pub fn start(home: &Path, command: &mut Command) -> Result<Self> {
        let log = home.with_extension("log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        Self::start_logging_to(home, command, file)
    }

    /// The same with another log.
    pub fn start_logging_to(home: &Path, command: &mut Command, stderr: impl Into<Stdio>) -> Result<Self> {
        let log = home.with_extension("log");
        let _ = std::fs::remove_file(home.join("run.json"));
        let mut child = command.stdout(Stdio::null()).stderr(stderr).spawn()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(bytes) = std::fs::read(home.join("run.json")) {
                let run: RunFile = serde_json::from_slice(&bytes)?;
                ensure!(run.pid == child.id(), "run.json is of pid {}", run.pid);
                return Ok(Self { child, run, log });
            }
            if let Some(status) = child.try_wait()? {
                bail!(
                    "tenured ended with {status}:\n{}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                );
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                bail!(
                    "tenured did not start:\n{}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM; the exit code.
    pub fn terminate(mut self) -> Result<Option<i32>> {
        let status = Command::new("kill").arg(self.child.id().to_string()).status()?;
        ensure!(status.success(), "kill");
        self.wait(Duration::from_secs(20))
    }

    /// Waits for the process to end; its exit code, `None` if a signal ended it.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<i32>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            ensure!(Instant::now() < deadline, "still running after {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result of a JSON-RPC call by URI.
pub fn rpc(address: SocketAddr, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").context("HTTP")?;
    let mut answer: Value = serde_json::from_str(body)?;
    ensure!(answer.get("result").is_some(), "{path}: {answer}");
    Ok(answer["result"].take())
}

/// What the metrics' server says.
pub fn scraped(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// An HTTP request on a connection of its own: status, headers as text, body.
pub async fn http(
    address: SocketAddr,
    head: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<(u16, String, Vec<u8>)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut request = format!(
        "{head} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await??;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").context("HTTP")?;
    let head = String::from_utf8(answer[..end].to_vec())?.to_lowercase();
    let status = head.split(' ').nth(1).context("status")?.parse()?;
    Ok((status, head, answer[end + 4..].to_vec()))
}

/// A REST call: status and JSON.
pub async fn rest(address: SocketAddr, head: &str, body: &str) -> Result<(u16, Value)> {
    let (status, _, answer) = http(address, head, &[], body.as_bytes()).await?;
    let json =
        serde_json::from_slice(&answer).with_context(|| format!("{head}: {}", String::from_utf8_lossy(&answer)))?;
    Ok((status, json))
}
