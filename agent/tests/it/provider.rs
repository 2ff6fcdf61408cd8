//! The agent as a whole: gateway over real gRPC, engine, disk and loop, against a chain in memory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{atomic::AtomicBool, Arc},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tenure_agent::{
    agent::{Agent, Settings},
    disk::{Home, Phase},
    gateway::{serve, Gateway},
    pricing::Prices,
    runtime::wasm::WasmRuntime,
    workloads::Workloads,
};
use tenure_client::{
    auth::{bearer, manifest_hash, output_root, sign_receipt, token, wall_ms},
    gateway::{Client, LocalFile},
    keys::Key,
};
use tenure_proto::tenure::{
    base::v1::Resources,
    gateway::v1::{
        gateway_client::GatewayClient, submit_request::Part, StatusRequest, SubmitChunk, SubmitHeader, SubmitRequest,
        WorkloadState,
    },
    market::v1::{Bid, CloseReason, InputFile, Lease, LeaseState, Manifest},
};
use tokio::sync::watch;
use tonic::{Code, Request, Status};

use crate::{
    memory_chain::{room, MemoryChain, CHAIN_ID},
    runtime::digits,
};

pub(crate) const PROVIDER: &str = "tenure1provider";

/// A provider's process: ends like `kill -9` when it is cut off, like SIGTERM when it is stopped.
pub(crate) struct Provider {
    workloads: Workloads,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Provider {
    pub(crate) async fn start(home: &Path, chain: &MemoryChain) -> Self {
        let home = Home::open(home).expect("home");
        let engine = Arc::new(WasmRuntime::new(1 << 20).expect("engine"));
        let workloads = Workloads::open(home, engine, 1 << 20).expect("workloads");
        let chain = Arc::new(chain.clone());
        let settings = Settings {
            provider: PROVIDER.into(),
            chain_id: CHAIN_ID.into(),
            prices: Prices {
                cpu_core: 1_000,
                memory_gib: 0,
                storage_gib: 0,
                floor: 100,
            },
            measured: tenure_types::Resources {
                cpu_milli: 2_000,
                memory_bytes: 1 << 30,
                storage_bytes: 1 << 30,
            },
            reserve: 1_000_000,
            withdraw_from: 0,
            retention_ms: 0,
        };
        let (stop, stopped) = watch::channel(false);
        let gateway = Gateway::new(chain.clone(), workloads.clone(), CHAIN_ID, PROVIDER, 1 << 20);
        let mut until = stopped.clone();
        let (address, _) = serve(gateway, "127.0.0.1:0".parse().expect("address"), async move {
            let _ = until.wait_for(|stop| *stop).await.is_ok();
        })
        .await
        .expect("gateway");
        let agent = Agent::new(chain, workloads.clone(), settings, Arc::new(AtomicBool::new(true)));
        Self {
            workloads,
            address,
            stop,
            task: tokio::spawn(agent.run(stopped)),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends at once. Nothing is recorded: what is on disk is what a killed process leaves.
    pub(crate) async fn cut_off(self) {
        self.task.abort();
        self.workloads.stop().await;
        self.stop.send_replace(true);
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("loop").expect("loop");
        self.workloads.stop().await;
    }
}

fn file(name: &str, bytes: &[u8]) -> InputFile {
    InputFile {
        name: name.into(),
        size: bytes.len() as u64,
        sha256: Sha256::digest(bytes).to_vec(),
    }
}

pub(crate) fn digits_manifest(args: &[&str]) -> Manifest {
    Manifest {
        name: "digits".into(),
        module: Some(file("digits.wasm", &digits("digits.wasm"))),
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        inputs: ["weights.bin", "digits.bin"]
            .map(|name| file(name, &digits(name)))
            .into(),
        outputs: vec!["predictions.csv".into()],
        resources: Some(room(1_000)),
    }
}

pub(crate) fn digits_files() -> Vec<LocalFile> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../workloads/digits");
    let local = |name: &str| {
        let bytes = digits(name);
        LocalFile {
            path: dir.join(name),
            size: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
        }
    };
    ["digits.wasm", "weights.bin", "digits.bin"].map(local).into()
}

pub(crate) fn lease(chain: &MemoryChain, id: u64, tenant: &Key, manifest: &Manifest) {
    let mut state = chain.0.lock();
    let lease = Lease {
        id,
        tenant: tenant.address().to_string(),
        provider: PROVIDER.into(),
        resources: manifest.resources,
        manifest_hash: manifest_hash(manifest).to_vec(),
        state: LeaseState::Starting.into(),
        created_ms: state.live_ms,
        rate: 1_000,
        ..Default::default()
    };
    state.leases.insert(id, lease);
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn state_of(chain: &MemoryChain, id: u64) -> LeaseState {
    chain
        .0
        .lock()
        .leases
        .get(&id)
        .map_or(LeaseState::Unspecified, Lease::state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_from_bid_to_outputs() {
    let (home, tenant) = (TempDir::new().expect("tempdir"), Key::random());
    let chain = MemoryChain::new(PROVIDER);
    let manifest = digits_manifest(&["--rounds", "2"]);
    let bid = |id, max_rate| Bid {
        id,
        resources: Some(room(1_000)),
        denom: "uten".into(),
        max_rate,
        ..Default::default()
    };
    chain.0.lock().bids.extend([
        (1, bid(1, 1_000)),
        (2, bid(2, 999)),
        (3, bid(3, 5_000)),
        (4, bid(4, 5_000)),
    ]);
    let provider = Provider::start(home.path(), &chain).await;
    until("two claims", || chain.0.lock().claims.len() == 2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut claims: Vec<_> = chain.0.lock().claims.iter().map(|c| (c.bid_id, c.rate)).collect();
    claims.sort_unstable();
    assert_eq!(
        claims,
        [(1, 1_000), (3, 1_000)],
        "2 pays too little, 4 does not fit beside the others"
    );

    chain.0.lock().bids.clear();
    lease(&chain, 1, &tenant, &manifest);
    let client = Client::new(&provider.endpoint(), CHAIN_ID, 1, PROVIDER, tenant.clone()).expect("client");
    client.info().await.expect("info");
    assert_eq!(client.status().await.expect("status").state(), WorkloadState::Waiting);
    client
        .submit(&manifest, &digits_files(), |_, _| {})
        .await
        .expect("submit");
    let mut log = Vec::new();
    client
        .logs(0, true, |piece| {
            log.extend_from_slice(piece);
            Ok(())
        })
        .await
        .expect("logs");
    let log = String::from_utf8(log).expect("utf-8");
    assert!(log.contains("round 2/2: 1797 of 1797 digits"), "{log}");

    until("the lease closes", || state_of(&chain, 1) == LeaseState::Closing).await;
    let status = client.status().await.expect("status");
    assert_eq!((status.state(), status.exit_code), (WorkloadState::Exited, 0));
    let finish = chain.0.lock().finished[0].clone();
    let outputs = status.outputs.expect("outputs");
    assert_eq!((finish.reason(), finish.exit_code), (CloseReason::Completed, 0));
    assert_eq!(finish.output_root, output_root(&outputs));
    let fetched = client
        .fetch(&outputs.files[0], home.path(), |_, _| {})
        .await
        .expect("fetch");
    let committed = String::from_utf8(digits("predictions.csv.sha256")).expect("utf-8");
    assert!(committed.starts_with(&hex::encode(Sha256::digest(fs::read(fetched).expect("file")))));

    // The last part of an epoch is attested although the program has exited: its end was reported at once.
    chain.block(10_000);
    until("the epoch", || chain.0.lock().attested.contains_key(&10)).await;
    assert_eq!(chain.0.lock().down, []);
    if let Some(lease) = chain.0.lock().leases.get_mut(&1) {
        lease.set_state(LeaseState::Closed);
    }
    until("the files are deleted", || provider.workloads.view(1).is_none()).await;
    assert!(!home.path().join("leases/1").exists());
    assert_eq!(chain.0.lock().refusals, Vec::<String>::new());
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_begins_anew_and_does_not_attest_what_did_not_run() {
    let (home, tenant) = (TempDir::new().expect("tempdir"), Key::random());
    let chain = MemoryChain::new(PROVIDER);
    let slow = digits_manifest(&["--rounds", "1000", "--pace-ms", "100"]);
    let short = digits_manifest(&[]);
    let provider = Provider::start(home.path(), &chain).await;
    for (id, manifest) in [(1, &slow), (2, &short)] {
        lease(&chain, id, &tenant, manifest);
        let client = Client::new(&provider.endpoint(), CHAIN_ID, id, PROVIDER, tenant.clone()).expect("client");
        client
            .submit(manifest, &digits_files(), |_, _| {})
            .await
            .expect("submit");
    }
    until("active", || {
        state_of(&chain, 1) == LeaseState::Active && state_of(&chain, 2) == LeaseState::Closing
    })
    .await;
    chain.block(10_000);
    until("epoch 10", || chain.0.lock().attested.contains_key(&10)).await;
    assert_eq!(chain.0.lock().down, []);
    chain.0.lock().leases.remove(&2);
    chain.block(2_000);
    provider.cut_off().await;
    assert!(home.path().join("leases/1/log").exists());

    // Epoch 11 passes half without an agent; half an upload is left behind.
    fs::create_dir_all(home.path().join("incoming/9-x/files")).expect("mkdir");
    chain.block(5_000);
    let provider = Provider::start(home.path(), &chain).await;
    assert!(!home.path().join("incoming/9-x").exists());
    until("runs again", || {
        provider.workloads.view(1).is_some_and(|view| view.running)
    })
    .await;
    // It counts from the first block seen after it began.
    chain.block(1_000);
    tokio::time::sleep(Duration::from_millis(700)).await;
    chain.block(4_000);
    until("epoch 11", || chain.0.lock().attested.contains_key(&11)).await;
    assert_eq!(chain.0.lock().down, [(11, 1)]);
    // Epoch 12 it runs from beginning to end.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        chain.block(5_000);
    }
    until("epoch 12", || chain.0.lock().attested.contains_key(&12)).await;
    assert_eq!(chain.0.lock().down, [(11, 1)]);
    let log = fs::read_to_string(home.path().join("leases/1/log")).expect("log");
    assert_eq!(log.matches("begins anew").count(), 1);

    // The tenant closes: the program ends at once and the reason is kept.
    if let Some(lease) = chain.0.lock().leases.get_mut(&1) {
        lease.set_state(LeaseState::Closing);
        lease.set_reason(CloseReason::Tenant);
    }
    until("ended", || provider.workloads.view(1).is_none_or(|view| !view.running)).await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_epochs_are_attested_together_and_a_silent_node_stops_nothing() {
    let (home, tenant) = (TempDir::new().expect("tempdir"), Key::random());
    let chain = MemoryChain::new(PROVIDER);
    let manifest = digits_manifest(&["--rounds", "1000", "--pace-ms", "100"]);
    let provider = Provider::start(home.path(), &chain).await;
    lease(&chain, 1, &tenant, &manifest);
    let client = Client::new(&provider.endpoint(), CHAIN_ID, 1, PROVIDER, tenant.clone()).expect("client");
    client
        .submit(&manifest, &digits_files(), |_, _| {})
        .await
        .expect("submit");
    until("active", || state_of(&chain, 1) == LeaseState::Active).await;
    chain.0.lock().unreachable = true;
    tokio::time::sleep(Duration::from_millis(700)).await;
    chain.block(10_000);
    chain.block(10_000);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(chain.0.lock().attested.is_empty());
    chain.0.lock().unreachable = false;
    until("both epochs", || chain.0.lock().attested.len() == 2).await;
    assert_eq!(chain.0.lock().down, []);
    assert!(home.path().join("epochs/10.json").exists() && home.path().join("epochs/11.json").exists());
    // A pause holds the program still; going on is seen.
    let set = |state| {
        if let Some(lease) = chain.0.lock().leases.get_mut(&1) {
            lease.set_state(state);
        }
        chain.block(100);
    };
    let length = || provider.workloads.view(1).map_or(0, |view| view.log_bytes);
    set(LeaseState::Paused);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let before = length();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(length(), before);
    set(LeaseState::Active);
    until("it goes on", || length() > before).await;
    provider.stop().await;
    let found = Home::open(home.path()).expect("home").scan().expect("scan");
    assert_eq!(
        found[0].record.phase,
        Phase::Running,
        "stopping with the agent is no end"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_files_are_gone_is_given_up() {
    let (home, tenant) = (TempDir::new().expect("tempdir"), Key::random());
    let chain = MemoryChain::new(PROVIDER);
    let manifest = digits_manifest(&["--rounds", "1000", "--pace-ms", "100"]);
    let provider = Provider::start(home.path(), &chain).await;
    for id in [1, 2] {
        lease(&chain, id, &tenant, &manifest);
        let client = Client::new(&provider.endpoint(), CHAIN_ID, id, PROVIDER, tenant.clone()).expect("client");
        client
            .submit(&manifest, &digits_files(), |_, _| {})
            .await
            .expect("submit");
    }
    until("active", || {
        [1, 2].iter().all(|id| state_of(&chain, *id) == LeaseState::Active)
    })
    .await;
    provider.cut_off().await;
    fs::remove_dir_all(home.path().join("leases/1")).expect("remove");
    fs::remove_file(home.path().join("leases/2/module.wasm")).expect("remove");
    let provider = Provider::start(home.path(), &chain).await;
    until("both are given up", || chain.0.lock().finished.len() == 2).await;
    for finish in &chain.0.lock().finished {
        assert_eq!(finish.reason(), CloseReason::Provider);
        let word = if finish.lease_id == 1 {
            "no longer has"
        } else {
            "module.wasm"
        };
        assert!(finish.detail.contains(word), "{}", finish.detail);
    }
    provider.stop().await;
}

struct Tenant {
    key: Key,
    endpoint: String,
    home: PathBuf,
}

impl Tenant {
    /// Sends a hand-over by hand, so that it can be wrong.
    async fn submit(
        &self,
        id: u64,
        manifest: &Manifest,
        receipt: &[u8],
        chunks: Vec<SubmitChunk>,
    ) -> Result<(), Status> {
        let header = SubmitHeader {
            lease_id: id,
            manifest: Some(manifest.clone()),
            receipt_signature: receipt.to_vec(),
        };
        let mut parts = vec![SubmitRequest {
            part: Some(Part::Header(header)),
        }];
        parts.extend(chunks.into_iter().map(|chunk| SubmitRequest {
            part: Some(Part::Chunk(chunk)),
        }));
        let mut request = Request::new(tokio_stream::iter(parts));
        let header = bearer(&token(&self.key, CHAIN_ID, id, PROVIDER, wall_ms()));
        request
            .metadata_mut()
            .insert("authorization", header.parse().expect("ascii"));
        let mut client = GatewayClient::connect(self.endpoint.clone()).await.expect("connect");
        client.submit(request).await.map(|_| ())
    }

    fn receipt(&self, id: u64, manifest: &Manifest) -> Vec<u8> {
        sign_receipt(&self.key, CHAIN_ID, id, &manifest_hash(manifest)).to_vec()
    }

    fn nothing_is_left(&self) {
        let left = fs::read_dir(self.home.join("incoming")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "a refused hand-over left files");
        assert_eq!(fs::read_dir(self.home.join("leases")).expect("leases").count(), 0);
    }
}

fn piece(bytes: &[u8], data: &[u8]) -> SubmitChunk {
    SubmitChunk {
        sha256: Sha256::digest(bytes).to_vec(),
        data: data.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_hand_over_is_refused_with_its_reason_and_leaves_nothing() {
    let (home, key) = (TempDir::new().expect("tempdir"), Key::random());
    let chain = MemoryChain::new(PROVIDER);
    let provider = Provider::start(home.path(), &chain).await;
    let tenant = Tenant {
        key: key.clone(),
        endpoint: provider.endpoint(),
        home: home.path().to_owned(),
    };
    let module = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#)
        .expect("wat");
    let small = Resources {
        cpu_milli: 100,
        memory_bytes: 1 << 20,
        storage_bytes: 1_000,
    };
    let manifest = Manifest {
        name: "job".into(),
        module: Some(file("a.wasm", &module)),
        inputs: vec![file("a", b"hello")],
        resources: Some(small),
        ..Default::default()
    };
    lease(&chain, 1, &key, &manifest);
    let receipt = tenant.receipt(1, &manifest);
    let good = || vec![piece(&module, &module), piece(b"hello", b"hello")];
    let refused = |result: Result<(), Status>, code: Code, words: &str| {
        let status = result.expect_err(words);
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
        tenant.nothing_is_left();
    };
    let invalid = Code::InvalidArgument;
    // Files that are not what the manifest says.
    refused(tenant.submit(1, &manifest, &receipt, vec![]).await, invalid, "0 of");
    refused(
        tenant.submit(1, &manifest, &receipt, good()[..1].to_vec()).await,
        invalid,
        "0 of 5 bytes",
    );
    refused(
        tenant
            .submit(1, &manifest, &receipt, vec![piece(&module, &module[..9])])
            .await,
        invalid,
        "ended before",
    );
    refused(
        tenant
            .submit(1, &manifest, &receipt, vec![piece(b"hello", b"hello!")])
            .await,
        invalid,
        "the manifest says 5",
    );
    refused(
        tenant
            .submit(1, &manifest, &receipt, vec![piece(b"hello", b"Hello")])
            .await,
        invalid,
        "arrived with SHA-256",
    );
    refused(
        tenant
            .submit(1, &manifest, &receipt, vec![piece(b"alien", b"alien")])
            .await,
        invalid,
        "no file of the manifest",
    );
    let large = vec![SubmitChunk {
        sha256: vec![0; 32],
        data: vec![0; (1 << 20) + 1],
    }];
    refused(
        tenant.submit(1, &manifest, &receipt, large).await,
        invalid,
        "limit 1048576",
    );
    let huge = vec![SubmitChunk {
        sha256: vec![0; 32],
        data: vec![0; 2 << 20],
    }];
    refused(
        tenant.submit(1, &manifest, &receipt, huge).await,
        Code::OutOfRange,
        "1114112",
    );
    // Another manifest, another receipt, another tenant.
    let other = Manifest {
        args: vec!["--evil".into()],
        ..manifest.clone()
    };
    refused(
        tenant.submit(1, &other, &receipt, good()).await,
        invalid,
        "its SHA-256 is",
    );
    refused(
        tenant.submit(1, &manifest, &tenant.receipt(2, &manifest), good()).await,
        invalid,
        "receipt_signature",
    );
    let thief = Tenant {
        key: Key::random(),
        ..Tenant {
            key: key.clone(),
            endpoint: provider.endpoint(),
            home: home.path().into(),
        }
    };
    refused(
        thief.submit(1, &manifest, &receipt, good()).await,
        Code::PermissionDenied,
        "the tenant of lease 1 is",
    );
    refused(
        tenant.submit(9, &manifest, &receipt, good()).await,
        Code::NotFound,
        "lease 9",
    );
    // A module that cannot be run is refused before the lease costs anything.
    let broken = Manifest {
        module: Some(file("a.wasm", b"not wasm")),
        inputs: vec![],
        ..manifest.clone()
    };
    lease(&chain, 2, &key, &broken);
    let chunks = vec![piece(b"not wasm", b"not wasm")];
    refused(
        tenant.submit(2, &broken, &tenant.receipt(2, &broken), chunks).await,
        invalid,
        "does not compile",
    );
    lease(&chain, 3, &key, &manifest);
    if let Some(lease) = chain.0.lock().leases.get_mut(&3) {
        lease.set_state(LeaseState::Closing);
    }
    let late = tenant.submit(3, &manifest, &tenant.receipt(3, &manifest), good()).await;
    refused(late, Code::FailedPrecondition, "lease 3 is CLOSING");

    // And the right one, twice.
    tenant.submit(1, &manifest, &receipt, good()).await.expect("submit");
    tenant
        .submit(1, &manifest, &receipt, good())
        .await
        .expect("the same again is no error");
    tenant
        .submit(1, &manifest, &receipt, vec![])
        .await
        .expect("the same again is no error");
    let mut client = GatewayClient::connect(provider.endpoint()).await.expect("connect");
    let bare = client
        .status(StatusRequest { lease_id: 1 })
        .await
        .expect_err("no token");
    assert_eq!(bare.code(), Code::Unauthenticated);
    provider.stop().await;
}
