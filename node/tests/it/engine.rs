//! The real pair: `tenured` and CometBFT, through kills of either and of both, at any time and at every place that matters. Without CometBFT
//! the tests say so and pass.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use tenure_comet::binary::CometBft;
use tenure_node::account_key::AccountKey;
use tenure_node::engine::fail_point;
use tenure_node::ports;
use tenure_proto::cosmos::tx::v1beta1::service_client::ServiceClient;
use tenure_proto::cosmos::tx::v1beta1::{BroadcastMode, BroadcastTxRequest, GetTxRequest};
use tenure_types::Address;
use tonic::transport::Channel;

use crate::support::{account, balance, connect, finish, rpc, tenured, transfer, Node, CHAIN_ID, OWN_PORTS};

/// For one thing to happen; a loaded machine needs it.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn cometbft() -> Option<PathBuf> {
    match CometBft::find(None) {
        Ok(found) => Some(found.path),
        Err(e) => {
            eprintln!("**** SKIPPED: {e}");
            None
        }
    }
}

fn receiver() -> Address {
    Address::new([0x66; 20])
}

/// A home with money for alice, four blocks a second.
pub(crate) fn init(home: &Path, alice: &AccountKey) -> Result<()> {
    let mut command = tenured(home);
    command.args(["init", "test", "--chain-id", CHAIN_ID, "--fast", "--account"]);
    command.arg(format!("{}=1000ten", alice.address()));
    let (ok, _, err) = finish(&mut command)?;
    ensure!(ok, "{err}");
    Ok(())
}

fn start(home: &Path, program: &Path) -> Result<Node> {
    let mut command = tenured(home);
    command
        .args(["start", "--engine", "comet", "--auto-ports", "--comet-bin"])
        .arg(program)
        .envs(OWN_PORTS)
        .env("TENURED_CONSENSUS_TIMEOUT_COMMIT", "50ms");
    Node::start(home, &mut command)
}

pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "no {what} within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn number(value: &Value) -> Option<i64> {
    value.as_str()?.parse().ok()
}

pub(crate) fn height(address: SocketAddr) -> Option<i64> {
    number(&rpc(address, "/status").ok()?["sync_info"]["latest_block_height"])
}

fn alive(pid: u32) -> bool {
    // A zombie is dead: its parent has not looked yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        !matches!(state, Some("Z" | "X"))
    })
}

fn kill(pid: u32) -> Result<()> {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    ensure!(status.success(), "kill -9 {pid}");
    Ok(())
}

/// What the chain said; it must stay true.
#[derive(Default)]
struct History {
    /// Block hash and app hash (of the block before) by height.
    blocks: BTreeMap<i64, (String, String)>,
    /// Height by hash of transfers.
    committed: BTreeMap<String, i64>,
}

impl History {
    /// Reads all blocks and compares those that were read before.
    fn read(&mut self, address: SocketAddr) -> Result<i64> {
        let last = height(address).context("height")?;
        // The last ones may have been read before a kill; older ones were compared then.
        let from = self.blocks.keys().next_back().map_or(1, |known| (known - 30).max(1));
        for height in from..=last {
            let block = rpc(address, &format!("/block?height={height}"))?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let said = (
                text(&block["block_id"]["hash"]),
                text(&block["block"]["header"]["app_hash"]),
            );
            let known = self.blocks.entry(height).or_insert_with(|| said.clone());
            assert_eq!(*known, said, "block {height} changed");
        }
        assert!(
            self.blocks.keys().next_back() <= Some(&last),
            "blocks were lost: {last} is the last one now"
        );
        Ok(last)
    }

    /// Sends a transfer of one unit and waits until it is in a block.
    async fn transfer(&mut self, node: &Node, alice: &AccountKey) -> Result<()> {
        let channel = connect(node.run.grpc).await?;
        let mut txs = ServiceClient::new(channel.clone());
        let (number, sequence) = account(&channel, &alice.address()).await?;
        let request = BroadcastTxRequest {
            tx_bytes: transfer(alice, CHAIN_ID, number, sequence, &receiver(), 1),
            mode: BroadcastMode::Sync as i32,
        };
        let sent = txs
            .broadcast_tx(request)
            .await?
            .into_inner()
            .tx_response
            .context("response")?;
        // After a kill the same bytes may still be CometBFT's from before.
        ensure!(sent.code == 0 || sent.code == 19, "{}", sent.raw_log);
        let deadline = Instant::now() + LIMIT;
        loop {
            let ask = GetTxRequest {
                hash: sent.txhash.clone(),
            };
            if let Ok(found) = txs.get_tx(ask).await {
                let response = found.into_inner().tx_response.context("response")?;
                ensure!(response.code == 0, "{}", response.raw_log);
                self.committed.insert(sent.txhash, response.height);
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} is in no block", sent.txhash);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Blocks and transactions are as they were, and no transfer counts twice.
    async fn check(&mut self, node: &Node, alice: &AccountKey) -> Result<()> {
        self.read(node.run.rpc)?;
        let channel = connect(node.run.grpc).await?;
        let mut txs = ServiceClient::new(channel.clone());
        for (hash, height) in &self.committed {
            let found = txs.get_tx(GetTxRequest { hash: hash.clone() }).await;
            let found = found.with_context(|| format!("{hash} is lost"))?.into_inner();
            assert_eq!(found.tx_response.context("response")?.height, *height);
        }
        counted(&channel, alice, self.committed.len()).await
    }
}

/// Each transfer moves one unit and takes one sequence.
async fn counted(channel: &Channel, alice: &AccountKey, transfers: usize) -> Result<()> {
    let (_, sequence) = account(channel, &alice.address()).await?;
    assert_eq!(sequence, u64::try_from(transfers)?);
    assert_eq!(balance(channel, &receiver()).await?, u128::from(sequence));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_node_and_cometbft_lose_and_double_nothing() -> Result<()> {
    let Some(program) = cometbft() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let alice = AccountKey::random();
    let mut history = History::default();
    init(&home, &alice)?;

    let node = start(&home, &program)?;
    until("block", || height(node.run.rpc).filter(|h| *h >= 3)).await?;
    history.transfer(&node, &alice).await?;
    history.check(&node, &alice).await?;

    // CometBFT alone: it is started again.
    let first = node.run.cometbft.context("pid of CometBFT")?;
    let at = height(node.run.rpc).context("height")?;
    kill(first)?;
    let again = || {
        let text = std::fs::read(home.join("run.json")).ok()?;
        let run: tenure_node::home::RunFile = serde_json::from_slice(&text).ok()?;
        run.cometbft.filter(|pid| *pid != first)
    };
    let second = until("second CometBFT", again).await?;
    until("block after it", || height(node.run.rpc).filter(|h| *h > at + 1)).await?;
    history.transfer(&node, &alice).await?;
    history.check(&node, &alice).await?;

    // The node alone: CometBFT does not outlive it.
    node.kill()?;
    until("death of CometBFT", || (!alive(second)).then_some(())).await?;
    let node = start(&home, &program)?;
    history.transfer(&node, &alice).await?;
    history.check(&node, &alice).await?;

    // Both at once.
    kill(node.run.cometbft.context("pid")?)?;
    node.kill()?;
    let node = start(&home, &program)?;
    history.transfer(&node, &alice).await?;
    history.check(&node, &alice).await?;

    // A stop is in order: CometBFT first, and nothing is left of either.
    let pid = node.run.cometbft.context("pid")?;
    let log = node.log.clone();
    assert_eq!(node.terminate()?, Some(0));
    assert!(!alive(pid) && !home.join("run.json").exists() && !home.join("data/app.sock").exists());
    let log = std::fs::read_to_string(log)?;
    assert!(!log.contains("panic") && !log.contains("CONSENSUS FAILURE"), "{log}");

    // The home is CometBFT's now: that is the engine of a start that does not say, and the other one refuses.
    let (ok, _, err) = finish(tenured(&home).args(["start", "--engine", "solo", "--auto-ports"]))?;
    assert!(!ok && err.contains("--engine comet"), "{err}");
    let mut command = tenured(&home);
    command
        .args(["start", "--auto-ports", "--comet-bin"])
        .arg(&program)
        .envs(OWN_PORTS);
    let node = Node::start(&home, &mut command)?;
    assert_eq!(node.run.engine, "comet");
    history.check(&node, &alice).await?;
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_that_cannot_work_say_what_to_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let alice = AccountKey::random();
    init(&home, &alice)?;
    let comet = |bin: &Path| {
        let mut command = tenured(&home);
        command
            .args(["start", "--engine", "comet", "--auto-ports", "--comet-bin"])
            .arg(bin);
        finish(&mut command)
    };
    // Not there, and a version that nobody tested.
    let (ok, _, err) = comet(Path::new("/nonexistent/cometbft"))?;
    assert!(!ok && err.contains("/nonexistent/cometbft"), "{err}");
    let fake = dir.path().join("cometbft");
    std::fs::write(&fake, "#!/bin/sh\necho 1.0.1\n")?;
    std::fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (ok, _, err) = comet(&fake)?;
    assert!(
        !ok && err.contains("1.0.1") && err.contains("scripts/cometbft"),
        "{err}"
    );
    // A program of the right version that dies at once, again and again.
    std::fs::write(
        &fake,
        "#!/bin/sh\n[ $1 = version ] && echo 0.38.25 && exit\necho 'ERROR: no disk' >&2\nexit 1\n",
    )?;
    let (ok, _, err) = comet(&fake)?;
    assert!(
        !ok && err.contains("given up") && err.contains("ERROR: no disk"),
        "{err}"
    );

    // Blocks of the solo engine are not CometBFT's to continue.
    let node = Node::start(&home, tenured(&home).args(["start", "--auto-ports"]))?;
    assert_eq!((node.run.engine.as_str(), node.run.cometbft), ("solo", None));
    until("block", || height(node.run.rpc).filter(|h| *h >= 1)).await?;
    assert_eq!(node.terminate()?, Some(0));
    std::fs::write(&fake, "#!/bin/sh\necho 0.38.25\n")?;
    let (ok, _, err) = comet(&fake)?;
    assert!(
        !ok && err.contains("--engine solo") && err.contains("initial_height"),
        "{err}"
    );
    Ok(())
}

/// A process that is killed when dropped.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self(child))
    }

    fn ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// SIGTERM.
    async fn terminate(&mut self) -> Result<()> {
        let status = Command::new("kill").arg(self.0.id().to_string()).status()?;
        ensure!(status.success(), "kill");
        until("end after SIGTERM", || self.ended().then_some(())).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A home whose two programs are started one by one, as two systemd units would be.
struct Pair {
    home: PathBuf,
    program: PathBuf,
    rpc: SocketAddr,
    p2p: SocketAddr,
    log: PathBuf,
}

impl Pair {
    fn new(dir: &Path, program: PathBuf, alice: &AccountKey) -> Result<Self> {
        let home = dir.join("home");
        init(&home, alice)?;
        let free = || ports::free("CometBFT", "laddr", SocketAddr::from(([127, 0, 0, 1], 0)), false);
        Ok(Self {
            home,
            program,
            rpc: free()?,
            p2p: free()?,
            log: dir.join("cometbft.log"),
        })
    }

    fn node(&self, fail_point: Option<&str>) -> Result<Node> {
        let mut command = tenured(&self.home);
        command
            .args(["start", "--engine", "external", "--auto-ports"])
            .env("TENURED_RPC_LADDR", format!("tcp://{}", self.rpc));
        if let Some(point) = fail_point {
            command.env(fail_point::ENV, point);
        }
        Node::start(&self.home, &mut command)
    }

    fn cometbft(&self, fail_index: Option<u32>) -> Result<Process> {
        let mut command = Command::new(&self.program);
        command
            .arg("start")
            .arg("--home")
            .arg(&self.home)
            .current_dir(&self.home)
            .args(["--rpc.laddr", &format!("tcp://{}", self.rpc)])
            .args(["--p2p.laddr", &format!("tcp://{}", self.p2p)])
            .args(["--log_level", "error"])
            .env("CMT_CONSENSUS_TIMEOUT_COMMIT", "50ms")
            .env("CMT_INSTRUMENTATION_PROMETHEUS", "false");
        if let Some(index) = fail_index {
            command.env("FAIL_TEST_INDEX", index.to_string());
        }
        Process::spawn(&mut command, &self.log)
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// CometBFT dies at each of its own crash points, is started again and then loses the application at each of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaths_at_every_point_of_a_block_lose_and_double_nothing() -> Result<()> {
    let Some(program) = cometbft() else { return Ok(()) };
    let long = std::env::var_os("TENURE_TEST_LONG").is_some();
    let dir = tempfile::tempdir()?;
    let alice = AccountKey::random();
    let pair = Pair::new(dir.path(), program, &alice)?;
    let mut history = History::default();
    let began = Instant::now();
    let mut cases = Vec::new();
    for index in 0..10_u32 {
        for (at, point) in fail_point::POINTS.iter().enumerate() {
            // By default each index once and each point twice.
            if long || usize::try_from(index)? % fail_point::POINTS.len() == at {
                cases.push((index, *point));
            }
        }
    }
    let (mut died_inside, mut last) = (0, 0);
    for (index, point) in &cases {
        let place = format!("FAIL_TEST_INDEX {index}, then {point}");
        // The application will die some blocks on, after CometBFT's crash.
        let mut node = pair.node(Some(&format!("{point}:{}", last + 4)))?;
        let mut comet = pair.cometbft(Some(*index))?;
        until(&format!("death at {place}"), || {
            (comet.ended() || node.wait(Duration::ZERO).is_ok()).then_some(())
        })
        .await?;
        comet.kill()?;
        let mut comet = pair.cometbft(None)?;
        let end = until(&format!("end of {place}"), || {
            let beyond = height(pair.rpc).is_some_and(|h| h > last + 6);
            (node.wait(Duration::ZERO).is_ok() || beyond).then_some(())
        })
        .await;
        if end.is_err() {
            bail!("{end:?}\n{}\n{}", node.log_text(), pair.log_text());
        }
        died_inside += usize::from(node.wait(Duration::ZERO).is_ok());
        // CometBFT ends by itself when its application is gone; it need not be waited for.
        comet.kill()?;
        node.kill()?;

        let node = pair.node(None)?;
        let mut comet = pair.cometbft(None)?;
        let grown = until(&format!("new block after {place}"), || {
            height(pair.rpc).filter(|h| *h > last + 2)
        })
        .await;
        if grown.is_err() {
            bail!("{place}: {grown:?}\n{}\n{}", node.log_text(), pair.log_text());
        }
        history.transfer(&node, &alice).await.with_context(|| place.clone())?;
        history.check(&node, &alice).await.with_context(|| place.clone())?;
        // In order: a single validator that dies after it stored a block and before its log says so, and again after its first
        // signature at the next height, cannot vote there a second time and CometBFT stays where it is (node/comet/README.md).
        comet.terminate().await?;
        node.kill()?;
        last = *history.blocks.keys().next_back().context("blocks")?;
    }
    eprintln!(
        "{} pairs in {:?}, {died_inside} deaths at our points, {last} blocks, {} transfers",
        cases.len(),
        began.elapsed(),
        history.committed.len()
    );
    assert!(
        died_inside * 2 > cases.len(),
        "our points are hardly ever reached: {died_inside}"
    );
    // An application that dies is a failure of consensus to CometBFT; any other reason would be one of ours.
    let log = pair.log_text();
    let lost = |line: &&str| {
        ["EOF", "broken pipe", "reset by peer"]
            .iter()
            .any(|why| line.contains(why))
    };
    let failures = log
        .lines()
        .filter(|line| line.contains("CONSENSUS FAILURE") || line.starts_with("panic:"));
    let others: Vec<&str> = failures.filter(|line| !lost(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
    // Each of CometBFT's own points was reached.
    for index in 0..10 {
        assert!(
            log.contains(&format!("*** fail-test {index} ***")),
            "FAIL_TEST_INDEX {index} was not reached"
        );
    }
    Ok(())
}
