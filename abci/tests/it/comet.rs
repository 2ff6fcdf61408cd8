//! CometBFT v0.38 itself behind the socket: blocks, kills on both sides, and the handshake's replay.

use std::{
    env, fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tenure_abci::{Address, AppPanic, Checked, ConnectionKind, OnViolation, ServerHandle, ServerOptions};

use crate::{app::Kv, serve};

/// Longest wait for CometBFT to start, make a block or end; it takes a second or two on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, by `TENURE_COMETBFT`, in the cache of the project's scripts, or on the path.
fn cometbft() -> Option<PathBuf> {
    let cached = env::var_os("TENURE_CACHE").map(|cache| Path::new(&cache).join("cometbft-0.38.25/cometbft"));
    let on_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let mut candidates = env::var_os("TENURE_COMETBFT").map(PathBuf::from).into_iter();
    let found = candidates.find(|path| path.is_file());
    found
        .or_else(|| cached.filter(|path| path.is_file()))
        .or_else(|| on_path.map(|dir| dir.join("cometbft")).find(|path| path.is_file()))
}

/// A home of CometBFT, its process if it runs, and the application it drives.
struct Node {
    binary: PathBuf,
    home: TempDir,
    address: Address,
    engine: Option<Child>,
    app: Option<(Checked<Kv>, ServerHandle)>,
    panics: Arc<Mutex<Vec<AppPanic>>>,
}

impl Node {
    /// `None`, loudly, where CometBFT is not installed.
    fn new(test: &str, tcp: bool) -> Option<Self> {
        let Some(binary) = cometbft() else {
            // In one piece and not by eprintln!, whose text the test runner keeps to itself when a test passes.
            let text = format!("\nSKIPPED {test}: no cometbft (set TENURE_COMETBFT to a v0.38 binary)\n");
            let _ = io::stderr().write_all(text.as_bytes());
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        let init = Command::new(&binary)
            .arg("init")
            .arg("--home")
            .arg(home.path())
            .output()
            .unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let path = home.path().join("config/config.toml");
        let mut config = fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("timeout_commit = \"1s\"", "timeout_commit = \"50ms\"".to_owned()),
            (
                "laddr = \"tcp://127.0.0.1:26657\"",
                format!("laddr = \"unix://{}\"", rpc_socket(home.path()).display()),
            ),
            (
                "laddr = \"tcp://0.0.0.0:26656\"",
                "laddr = \"tcp://127.0.0.1:0\"".to_owned(),
            ),
            ("pprof_laddr = \"localhost:6060\"", "pprof_laddr = \"\"".to_owned()),
        ] {
            // The profiler's line is not in every version's file.
            assert!(
                config.contains(from) || from.starts_with("pprof"),
                "config.toml without {from}"
            );
            config = config.replacen(from, &to, 1);
        }
        fs::write(path, config).unwrap();
        let address = match tcp {
            false => Address::Unix(home.path().join("app.sock")),
            true => Address::Tcp("127.0.0.1:0".parse().unwrap()),
        };
        Some(Self {
            binary,
            home,
            address,
            engine: None,
            app: None,
            panics: Arc::default(),
        })
    }

    fn state_file(&self) -> PathBuf {
        self.home.path().join("app.json")
    }

    /// The application as a process of its own would start: from its file.
    fn start_app(&mut self) {
        let app = Checked::new(Kv::open(self.state_file()), OnViolation::Panic);
        let options = ServerOptions {
            on_consensus_connection: {
                let app = app.clone();
                Arc::new(move || {
                    app.inner().reset_uncommitted();
                    app.restart();
                })
            },
            on_panic: {
                let panics = self.panics.clone();
                Arc::new(move |panic| panics.lock().push(panic.clone()))
            },
            ..Default::default()
        };
        let handle = serve(&self.address, options, app.clone());
        // The port stays over restarts.
        self.address = handle.local_addr().clone();
        self.app = Some((app, handle));
    }

    fn stop_app(&mut self) {
        if let Some((_, handle)) = self.app.take() {
            handle.stop();
            handle.wait();
        }
    }

    fn start_engine(&mut self) {
        self.start_engine_with(&[]);
    }

    fn start_engine_with(&mut self, environment: &[(&str, String)]) {
        // CometBFT does not replace the socket that its killed predecessor left.
        let _ = fs::remove_file(rpc_socket(self.home.path()));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let child = Command::new(&self.binary)
            .arg("start")
            .arg("--home")
            .arg(self.home.path())
            .arg("--proxy_app")
            .arg(self.address.to_string())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.engine = Some(child);
    }

    fn kill_engine(&mut self) {
        let mut child = self.engine.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn engine_ended(&mut self) -> Option<ExitStatus> {
        self.engine.as_mut().and_then(|child| child.try_wait().unwrap())
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("cometbft.log")
    }

    fn app(&self) -> &Kv {
        self.app.as_ref().unwrap().0.inner()
    }

    /// Waits for the chain to grow past `height`.
    #[track_caller]
    fn reaches(&mut self, height: i64) {
        self.waits(&format!("height {height}"), |node| {
            node.app().committed().height >= height
        });
    }

    #[track_caller]
    fn waits(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            let last = |text: String| text.lines().rev().take(30).collect::<Vec<_>>().join("\n");
            assert!(self.panics.lock().is_empty(), "{:?}", self.panics.lock());
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}\n{}", last(log()));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One call of CometBFT's RPC; `None` while nobody answers.
    fn rpc(&self, path: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(rpc_socket(self.home.path())).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Version 1.0: the answer is not chunked and the connection ends after it.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    /// Sends a transaction until CometBFT took it.
    #[track_caller]
    fn send(&mut self, tx: &str) {
        self.waits("the transaction is taken", |node| {
            let answer = node.rpc(&format!("/broadcast_tx_sync?tx=%22{tx}%22"));
            answer.is_some_and(|answer| answer["result"]["code"] == 0)
        });
    }
}

/// Transactions in all blocks up to `height`, by CometBFT's own store.
fn transactions_in_blocks(node: &mut Node, height: i64) -> i64 {
    let mut count = 0;
    for height in 1..=height {
        let mut block = Value::Null;
        node.waits("a block by RPC", |node| {
            block = node.rpc(&format!("/block?height={height}")).unwrap_or_default();
            block["result"]["block"].is_object()
        });
        let txs = block["result"]["block"]["data"]["txs"].as_array();
        count += i64::try_from(txs.map_or(0, Vec::len)).unwrap();
    }
    count
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.engine.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn rpc_socket(home: &Path) -> PathBuf {
    home.join("rpc.sock")
}

fn a_chain_survives_kills_of_either_side(mut node: Node) {
    node.start_app();
    node.start_engine();
    for n in 0..5 {
        node.send(&format!("a{n}=1"));
    }
    node.waits("five transactions", |node| node.app().committed().executed == 5);
    let kinds: Vec<_> = node
        .app
        .as_ref()
        .unwrap()
        .1
        .connections()
        .iter()
        .map(|c| c.kind)
        .collect();
    assert_eq!(kinds.len(), 4);
    assert_eq!(
        kinds[2..],
        [Some(ConnectionKind::Mempool), Some(ConnectionKind::Consensus)]
    );
    let backup = fs::read(node.state_file()).unwrap();

    // CometBFT is killed, wherever it is; the application stays.
    for round in 0..2 {
        let height = node.app().committed().height;
        node.kill_engine();
        node.start_engine();
        node.reaches(height + 2);
        // In a block before the next kill: CometBFT's mempool does not survive it.
        node.send(&format!("b{round}=1"));
        node.waits("one transaction more", |node| {
            node.app().committed().executed == 6 + round
        });
    }

    // The application ends: CometBFT does too.
    node.stop_app();
    node.waits("CometBFT has ended", |node| node.engine_ended().is_some());

    // The application comes back as it was some blocks ago, as after a lost disk cache: the handshake replays what it lacks.
    let ahead = node.state_file();
    let height = |bytes: &[u8]| {
        serde_json::from_slice::<Value>(bytes).unwrap()["height"]
            .as_i64()
            .unwrap()
    };
    let before = height(&fs::read(&ahead).unwrap());
    assert!(height(&backup) < before);
    fs::write(&ahead, backup).unwrap();
    node.start_app();
    node.start_engine();
    node.reaches(before + 2);
    node.send("c=1");
    node.waits("eight transactions", |node| node.app().committed().executed == 8);

    // From nothing: InitChain again, and all blocks.
    node.kill_engine();
    node.stop_app();
    fs::remove_file(&ahead).unwrap();
    node.start_app();
    node.start_engine();
    node.reaches(before + 4);
    // Nothing lost, nothing twice; every app hash on the way was compared by CometBFT.
    let state = node.app().committed();
    assert_eq!(state.executed, 8);
    assert_eq!(state.pairs.len(), 8);
    assert!(node.panics.lock().is_empty());
}

#[test]
fn a_chain_survives_kills_of_either_side_over_a_unix_socket() {
    if let Some(node) = Node::new("a_chain_survives_kills_of_either_side_over_a_unix_socket", false) {
        a_chain_survives_kills_of_either_side(node);
    }
}

#[test]
fn a_chain_survives_kills_of_either_side_over_tcp() {
    if let Some(node) = Node::new("a_chain_survives_kills_of_either_side_over_tcp", true) {
        a_chain_survives_kills_of_either_side(node);
    }
}

/// Points at which CometBFT v0.38.25 can be told to die, in the order a validator on its own comes by them in one height: its prevote
/// and precommit are in the WAL; the block is decided, saved, its end is in the WAL, executed, its results are saved, committed by the
/// application, the state is saved, applied, and the next height begun (`fail.Fail()` in `consensus/state.go`, `state/execution.go`).
/// A replay in the handshake comes by four of them before that.
const FAIL_POINTS: usize = 11 + 4;

#[test]
fn every_fail_point_of_cometbft_replays_to_the_same_state() {
    let Some(mut node) = Node::new("every_fail_point_of_cometbft_replays_to_the_same_state", false) else {
        return;
    };
    let rounds = match env::var_os("TENURE_TEST_LONG") {
        Some(_) => 5,
        None => 1,
    };
    node.start_app();
    let mut sent = 0;
    for index in 0..rounds * FAIL_POINTS {
        node.start_engine_with(&[("FAIL_TEST_INDEX", index.to_string())]);
        node.waits(&format!("CometBFT dies at point {index}"), |node| {
            // Something in the blocks; what is still in the mempool dies with it.
            sent += 1;
            node.rpc(&format!("/broadcast_tx_async?tx=%22k{sent}=v%22"));
            node.engine_ended().is_some()
        });
        assert_eq!(
            node.engine.take().unwrap().wait().unwrap().code(),
            Some(1),
            "at point {index}"
        );
        // The application lives on; or is killed too; or is killed and finds its last commit lost.
        if index % 3 > 0 {
            node.stop_app();
            let old = node.state_file().with_extension("old");
            if index % 3 == 2 && old.exists() {
                fs::rename(old, node.state_file()).unwrap();
            }
            node.start_app();
        }
    }
    node.start_engine();
    let height = node.app().committed().height;
    node.reaches(height + 2);
    node.send("last=1");
    node.waits("the last transaction", |node| {
        node.app().committed().pairs.contains_key("last")
    });
    let state = node.app().committed();
    let in_blocks = transactions_in_blocks(&mut node, state.height);
    assert_eq!(state.executed, in_blocks, "lost or doubled");
    assert!(in_blocks > 5, "only {in_blocks} transactions: the test says little");
}
