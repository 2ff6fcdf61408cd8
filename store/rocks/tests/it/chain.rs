//! A deterministic chain of blocks: block h is a function of h and of the state before it, so that a killed child and the parent
//! that checks its database agree on what every height holds.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tenure_store::{Backend, Change, MemoryBackend, Store, StoreError, StoreOptions, View};
use tenure_store_rocks::{RocksBackend, RocksOptions};

pub(crate) const STORES: [&str; 3] = ["auth", "bank", "market"];
/// Small, so that tables, compactions and manifest edits happen within a second of blocks.
pub(crate) const SIZES: RocksOptions = RocksOptions {
    cache_bytes: 1 << 20,
    write_buffer_bytes: 128 << 10,
};
const OPTIONS: StoreOptions = StoreOptions {
    keep_views: 4,
    keep_undo: 20,
};

pub(crate) type State = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// The changes of block `height`, applied to `state`.
pub(crate) fn block(height: u64, state: &mut State) -> Vec<Change> {
    let mut rng = StdRng::seed_from_u64(height);
    let mut changes: BTreeMap<(&'static str, Vec<u8>), Change> = BTreeMap::new();
    for _ in 0..rng.gen_range(0..24) {
        let store = STORES[rng.gen_range(0..STORES.len())];
        let key = rng.gen_range(0u16..120).to_be_bytes().to_vec();
        let delete = rng.gen_bool(0.3);
        let long = if rng.gen_bool(0.02) { 20_000 } else { 200 };
        let new = (!delete).then(|| (0..rng.gen_range(1..long)).map(|_| rng.gen()).collect::<Vec<u8>>());
        let at = (store, key.clone());
        if changes.contains_key(&at) {
            continue;
        }
        let old = match &new {
            Some(value) => state.insert(at.clone(), value.clone()),
            None => state.remove(&at),
        };
        changes.insert(at, Change { store, key, old, new });
    }
    changes.into_values().collect()
}

/// Everything in a view.
pub(crate) fn contents(view: &View) -> State {
    let mut state = State::new();
    for store in STORES {
        for entry in view.range(store, &[], None, false) {
            let (key, value) = entry.expect("the values can be read");
            state.insert((store, key), value);
        }
    }
    state
}

pub(crate) fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(RocksBackend::open_with(path, SIZES)?, &STORES, OPTIONS)
}

/// Commits the next block of the chain on top of `state`, the store's contents.
pub(crate) fn commit_next(store: &Store, state: &mut State) -> Result<Arc<View>, StoreError> {
    let height = store.latest().height() + 1;
    let staged = store.stage(block(height, state))?;
    store.commit(staged, height)
}

/// What every height must hold, computed in memory as far as asked for.
pub(crate) struct Reference {
    store: Store,
    /// The state of the last height computed.
    state: State,
    /// App hash and a digest of the contents of every height computed.
    heights: Vec<([u8; 32], u64)>,
}

fn digest(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

impl Reference {
    pub(crate) fn new() -> Reference {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let store = Store::open(
            backend,
            &STORES,
            StoreOptions {
                keep_views: 1,
                keep_undo: 0,
            },
        )
        .unwrap();
        let genesis = (store.latest().app_hash(), digest(&State::new()));
        Reference {
            store,
            state: State::new(),
            heights: vec![genesis],
        }
    }

    /// Checks that a view is a committed state of this chain, whole and unmixed.
    pub(crate) fn check(&mut self, view: &View) {
        let height = view.height() as usize;
        while self.heights.len() <= height {
            let view = commit_next(&self.store, &mut self.state).unwrap();
            self.heights.push((view.app_hash(), digest(&self.state)));
        }
        let (app_hash, expected) = self.heights[height];
        assert_eq!(view.app_hash(), app_hash, "app hash of height {height}");
        assert_eq!(digest(&contents(view)), expected, "contents of height {height}");
    }
}

/// A child process that commits blocks until it is killed or a write fails.
pub(crate) struct Committer {
    child: Child,
    acknowledged: std::thread::JoinHandle<(u64, Option<String>)>,
}

const DIRECTORY: &str = "TENURE_STORE_TEST_CHILD";

impl Committer {
    /// Starts this test binary again as the child; `shell` may set limits before it.
    pub(crate) fn start(path: &Path, shell: Option<&str>) -> Committer {
        let this = std::env::current_exe().unwrap();
        let mut command = match shell {
            None => Command::new(this),
            Some(limits) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("{limits}; exec \"$0\" \"$@\"")).arg(this);
                command
            }
        };
        command.args([
            "--exact",
            "chain::child_commits_until_killed",
            "--ignored",
            "--nocapture",
        ]);
        let mut child = command
            .env(DIRECTORY, path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let acknowledged = std::thread::spawn(move || {
            let (mut height, mut failure) = (0, None);
            for line in output.lines().map_while(Result::ok) {
                if let Some(acknowledged) = line.strip_prefix("committed ").and_then(|text| text.parse().ok()) {
                    height = acknowledged;
                }
                if let Some(reason) = line.strip_prefix("failed ") {
                    failure = Some(reason.to_owned());
                }
            }
            (height, failure)
        });
        Committer { child, acknowledged }
    }

    /// Kills it with SIGKILL after a while and returns the last height it acknowledged, 0 if none.
    pub(crate) fn kill_after(mut self, delay: Duration) -> u64 {
        std::thread::sleep(delay);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.acknowledged.join().unwrap().0
    }

    /// Waits for it to fail and returns the last height it acknowledged and the reason.
    pub(crate) fn wait_for_failure(mut self) -> (u64, String) {
        self.child.wait().unwrap();
        let (height, failure) = self.acknowledged.join().unwrap();
        (height, failure.expect("it stops only for a failure"))
    }
}

#[test]
#[ignore = "the child process of the crash tests"]
fn child_commits_until_killed() {
    let Some(path) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).ok();
    };
    let store = match open(Path::new(&path)) {
        Ok(store) => store,
        Err(error) => return say(format!("failed {error}")),
    };
    // On a line of its own: the test harness has left its line open.
    say(String::new());
    let mut state = contents(&store.latest());
    loop {
        match commit_next(&store, &mut state) {
            Ok(view) => say(format!("committed {}", view.height())),
            Err(error) => {
                // Once stopped, stopped: whatever the disk does, this process commits nothing more.
                let staged = store.stage(vec![]).expect("staging needs no disk");
                let again = store
                    .commit(staged, store.latest().height() + 1)
                    .expect_err("the store is stopped");
                assert!(matches!(again, StoreError::Stopped { .. }));
                return say(format!("failed {error} | {again}"));
            }
        }
    }
}

/// Ten times the cases when asked for.
pub(crate) fn cases(normal: usize) -> usize {
    if std::env::var_os("TENURE_TEST_LONG").is_some_and(|value| value == "1") {
        normal * 10
    } else {
        normal
    }
}
