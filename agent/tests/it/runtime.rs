//! Limits of the engine, each with a program that tries to exceed it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tenure_agent::runtime::{log::Log, wasm::WasmRuntime, Handle, Outcome, Program, Refused, Runtime, Spec};
use tenure_types::Resources;

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    runtime: WasmRuntime,
}

pub(crate) const ROOM: Resources = Resources {
    cpu_milli: 1_000,
    memory_bytes: 8 << 20,
    storage_bytes: 1 << 20,
};

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["in", "out"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        Self {
            dir,
            runtime: WasmRuntime::new(16 << 20).expect("engine"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, program: &Arc<dyn Program>, args: &[&str], resources: Resources) -> Handle {
        let log = Arc::new(Log::open(&self.path("log"), 1_000).expect("log"));
        let spec = Spec {
            name: "program".into(),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            in_dir: self.path("in"),
            out_dir: self.path("out"),
            log,
            resources,
        };
        program.start(spec).expect("thread")
    }

    fn prepare(&self, text: &str) -> Arc<dyn Program> {
        match self.runtime.prepare(&wat::parse_str(text).expect("wat")) {
            Ok(program) => program,
            Err(refused) => panic!("{refused}"),
        }
    }

    fn run(&self, text: &str, resources: Resources) -> Outcome {
        ended(
            &self.start(&self.prepare(text), &[], resources),
            Duration::from_secs(20),
        )
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("log")
    }
}

fn ended(handle: &Handle, limit: Duration) -> Outcome {
    let began = Instant::now();
    loop {
        if let Some(outcome) = handle.outcome() {
            return outcome;
        }
        assert!(began.elapsed() < limit, "the workload has not ended within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A command whose `_start` has this body; `$iov` is at 0, a path at 64, data at 4096.
fn command(path: &str, body: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "{path}")
  (func $create (param $dir i32) (result i32)
    (call $open (local.get $dir) (i32.const 0) (i32.const 64) (i32.const {length}) (i32.const 9) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
  (func $read (param $dir i32) (result i32)
    (call $open (local.get $dir) (i32.const 1) (i32.const 64) (i32.const {length}) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
  (func $put (param $fd i32) (param $bytes i32) (result i32)
    (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (local.get $bytes))
    (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 16)))
  (func $deep (param i64) (result i64) (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func (export "_start") (local $errno i32) (local $fd i32) {body}))"#,
        length = path.len(),
    )
}

/// Opens with `opener` in `dir` and exits with the errno.
fn open_errno(bench: &Bench, path: &str, opener: &str, dir: i32) -> i32 {
    let text = command(path, &format!("(call $exit (call {opener} (i32.const {dir})))"));
    bench.run(&text, ROOM).exit_code()
}

#[test]
fn exit_codes_are_the_programs_own() {
    let bench = Bench::new();
    assert_eq!(bench.run(&command("x", ""), ROOM), Outcome::Exited(0));
    assert_eq!(
        bench.run(&command("x", "(call $exit (i32.const 7))"), ROOM),
        Outcome::Exited(7)
    );
}

#[test]
fn traps_are_named() {
    let bench = Bench::new();
    let Outcome::Trapped(why) = bench.run(&command("x", "unreachable"), ROOM) else {
        panic!("no trap")
    };
    assert!(why.contains("unreachable"), "{why}");
    let Outcome::Trapped(why) = bench.run(&command("x", "(drop (call $deep (i64.const 0)))"), ROOM) else {
        panic!("no trap")
    };
    assert!(why.contains("call stack exhausted"), "{why}");
}

#[test]
fn memory_beyond_the_lease_is_refused_and_named() {
    let bench = Bench::new();
    let greedy = "(loop $l (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br $l))";
    let Outcome::OverLimit(why) = bench.run(&command("x", greedy), ROOM) else {
        panic!("no limit")
    };
    assert!(why.contains("out of memory") && why.contains("8388608"), "{why}");
    // More than the lease has from the start: never instantiated.
    let small = Resources {
        memory_bytes: 65_536,
        ..ROOM
    };
    let Outcome::OverLimit(why) = bench.run(&command("x", ""), small) else {
        panic!("no limit")
    };
    assert!(why.contains("131072") && why.contains("65536"), "{why}");
}

#[test]
fn an_endless_loop_and_an_endless_sleep_end_when_asked() {
    let bench = Bench::new();
    // A subscription at 1024: clock 1 (monotonic), relative, 1e18 ns.
    let sleep =
        "(i64.store (i32.const 1048) (i64.const 1000000000000000000)) (i32.store (i32.const 1040) (i32.const 1))
        (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 16)))";
    for body in ["(loop $l (br $l))", sleep] {
        let handle = bench.start(&bench.prepare(&command("x", body)), &[], ROOM);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(handle.outcome(), None);
        let asked = Instant::now();
        handle.kill("ended by the lease");
        handle.kill("a second reason");
        assert_eq!(
            ended(&handle, Duration::from_secs(2)),
            Outcome::Killed("ended by the lease".into())
        );
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_share_of_a_core_is_a_share_and_suspension_is_none() {
    let bench = Bench::new();
    let third = Resources { cpu_milli: 300, ..ROOM };
    let handle = bench.start(&bench.prepare(&command("x", "(loop $l (br $l))")), &[], third);
    std::thread::sleep(Duration::from_millis(500));
    let (cpu, wall) = (handle.cpu_time(), Instant::now());
    std::thread::sleep(Duration::from_millis(1_500));
    let share = (handle.cpu_time() - cpu).as_secs_f64() / wall.elapsed().as_secs_f64();
    // The machine may be busy, so only the upper bound is sharp: one tick and one window of slack.
    assert!(share < 0.36, "used {share:.3} of a core, rents 0.3");
    assert!(share > 0.05, "used {share:.3} of a core: it hardly ran");
    handle.suspend(true);
    std::thread::sleep(Duration::from_millis(200));
    let cpu = handle.cpu_time();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(handle.cpu_time(), cpu);
    handle.suspend(false);
    std::thread::sleep(Duration::from_millis(300));
    assert!(handle.cpu_time() > cpu);
    handle.kill("done");
    ended(&handle, Duration::from_secs(2));
}

#[test]
fn a_full_disk_is_an_errno_and_the_limit_holds() {
    let bench = Bench::new();
    let body = "(drop (call $create (i32.const 4))) (local.set $fd (i32.load (i32.const 32)))
        (loop $l (local.set $errno (call $put (local.get $fd) (i32.const 65536))) (br_if $l (i32.eqz (local.get $errno))))
        (call $exit (local.get $errno))";
    assert_eq!(
        bench.run(&command("big", body), ROOM),
        Outcome::Exited(51),
        "51 is nospc"
    );
    assert_eq!(
        fs::metadata(bench.path("out/big")).expect("file").len(),
        ROOM.storage_bytes
    );
}

#[test]
fn a_hole_beyond_the_limit_ends_the_program() {
    let bench = Bench::new();
    let hole = "(drop (call $create (i32.const 4))) (local.set $fd (i32.load (i32.const 32)))
        (drop (call $seek (local.get $fd) (i64.const 1000000000) (i32.const 0) (i32.const 40)))
        (drop (call $put (local.get $fd) (i32.const 1)))";
    for body in [hole.to_owned(), format!("{hole} (loop $l (br $l))")] {
        let Outcome::OverLimit(why) = bench.run(&command("hole", &body), ROOM) else {
            panic!("no limit")
        };
        assert!(why.contains("1000000001 bytes, limit 1048576"), "{why}");
    }
}

#[test]
fn more_files_than_allowed_are_refused() {
    let bench = Bench::new();
    for i in 0..tenure_agent::runtime::quota::MOST_ENTRIES {
        fs::write(bench.path("out").join(i.to_string()), []).expect("write");
    }
    assert_eq!(open_errno(&bench, "one-more", "$create", 4), 51);
}

#[test]
fn a_flood_of_log_does_not_stop_the_program_and_is_cut() {
    let bench = Bench::new();
    let body = "(local.set $fd (i32.const 1000))
        (loop $l (drop (call $put (i32.const 1) (i32.const 4096))) (local.set $fd (i32.sub (local.get $fd) (i32.const 1)))
          (br_if $l (local.get $fd))) (call $exit (i32.const 5))";
    assert_eq!(bench.run(&command("x", body), ROOM), Outcome::Exited(5));
    let log = bench.log();
    assert!(
        log.len() < 1_200 && log.contains("limit of 1000 bytes"),
        "{} bytes",
        log.len()
    );
}

#[test]
fn in_is_read_only_and_paths_do_not_escape() {
    let bench = Bench::new();
    fs::write(bench.path("in/data"), b"input").expect("write");
    fs::write(bench.path("secret"), b"secret").expect("write");
    std::os::unix::fs::symlink(bench.path("secret"), bench.path("out/link")).expect("link");
    assert_eq!(open_errno(&bench, "data", "$read", 3), 0);
    assert_ne!(open_errno(&bench, "data", "$create", 3), 0);
    assert_ne!(open_errno(&bench, "new", "$create", 3), 0);
    assert!(!bench.path("in/new").exists());
    assert_eq!(fs::read(bench.path("in/data")).expect("read"), b"input");
    let absolute = bench.path("secret");
    for path in [
        "../secret",
        "/etc/passwd",
        "link",
        "../in/../secret",
        absolute.to_str().expect("path"),
    ] {
        assert_ne!(open_errno(&bench, path, "$read", 4), 0, "{path}");
        assert_ne!(open_errno(&bench, path, "$create", 4), 0, "{path}");
    }
    assert_eq!(fs::read(bench.path("secret")).expect("read"), b"secret");
    let link = "(call $exit (call $symlink (i32.const 64) (i32.const 9) (i32.const 4) (i32.const 67) (i32.const 6)))";
    assert_eq!(
        bench.run(&command("../secret", link), ROOM),
        Outcome::Exited(63),
        "63 is perm"
    );
}

#[test]
fn nothing_but_preview_1_can_be_imported_and_sockets_lead_nowhere() {
    let bench = Bench::new();
    let refused = |text: &str| {
        bench
            .runtime
            .prepare(&wat::parse_str(text).expect("wat"))
            .err()
            .expect("refused")
    };
    let alien = r#"(module (import "env" "connect" (func)) (memory (export "memory") 1) (func (export "_start")))"#;
    assert!(matches!(refused(alien), Refused::Interface(why) if why.contains("env") && why.contains("connect")));
    assert!(matches!(refused("(module)"), Refused::Interface(why) if why.contains("_start")));
    let no_memory = r#"(module (func (export "_start")))"#;
    assert!(matches!(refused(no_memory), Refused::Interface(why) if why.contains("memory")));
    assert!(matches!(
        bench.runtime.prepare(b"not a module"),
        Err(Refused::Invalid(_))
    ));
    let large = WasmRuntime::new(10).expect("engine").prepare(&[0; 11]).err();
    assert_eq!(large, Some(Refused::TooLarge { bytes: 11, limit: 10 }));
    // No descriptor is a socket: standard input, both directories and any other number refuse to accept.
    let accept = r#"(module (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (func (export "_start") (local $fd i32)
        (loop $l (if (i32.eqz (call $accept (local.get $fd) (i32.const 0) (i32.const 0))) (then (call $exit (i32.const 9))))
          (local.set $fd (i32.add (local.get $fd) (i32.const 1))) (br_if $l (i32.lt_u (local.get $fd) (i32.const 100))))))"#;
    assert_ne!(bench.run(accept, ROOM), Outcome::Exited(9));
}

pub(crate) fn digits(name: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../workloads/digits")
            .join(name),
    )
    .expect("workloads/digits")
}

#[test]
fn digits_gives_the_committed_predictions() {
    let bench = Bench::new();
    for name in ["weights.bin", "digits.bin"] {
        fs::write(bench.path("in").join(name), digits(name)).expect("write");
    }
    let program = bench
        .runtime
        .prepare(&digits("digits.wasm"))
        .unwrap_or_else(|e| panic!("{e}"));
    let handle = bench.start(&program, &["--rounds", "2"], ROOM);
    assert_eq!(
        ended(&handle, Duration::from_secs(20)),
        Outcome::Exited(0),
        "{}",
        bench.log()
    );
    let predictions = Sha256::digest(fs::read(bench.path("out/predictions.csv")).expect("predictions"));
    let committed = String::from_utf8(digits("predictions.csv.sha256")).expect("utf-8");
    assert_eq!(
        Some(hex::encode(predictions).as_str()),
        committed.split_whitespace().next()
    );
    assert!(bench.log().contains("round 2/2"), "{}", bench.log());
}
