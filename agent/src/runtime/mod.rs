//! Runs a tenant's program under limits.
//!
//! The seam between the agent and an engine is two traits: a [`Runtime`] prepares a program (compiles it, refuses what it cannot run) and a
//! [`Program`] starts it. What comes back is a [`Handle`] that suspends, ends and observes the run. The engine of today is [`wasm`].
//!
//! **A thread per workload, not a process.** Wasmtime's epoch interruption and cancellable host calls end a run at any instruction or sleep, so
//! a process buys no cleaner kill; its second wall would only hold with Landlock and seccomp around it, since a process of the same user could
//! read the key file anyway. A thread needs no second executable, no protocol, no orphan to find after a crash, and its CPU time is its own
//! (`CLOCK_THREAD_CPUTIME_ID`), which is what the CPU share is enforced with. The price, stated: a bug of the engine that aborts takes the agent
//! down with it, and all its workloads start again.

pub mod log;
pub mod quota;
pub mod throttle;
pub mod wasm;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tenure_types::Resources;
use tokio::sync::watch;

use self::log::Log;

/// Exit code of a program that trapped: 128 + SIGABRT, as shells and the wasmtime command have it.
pub const EXIT_TRAPPED: i32 = 134;
/// Exit code of a program that was ended from outside: 128 + SIGKILL.
pub const EXIT_KILLED: i32 = 137;

/// Prepares programs.
pub trait Runtime: Send + Sync {
    /// Compiles a program and checks that it can be run here. Takes CPU time: not for an async task.
    fn prepare(&self, module: &[u8]) -> Result<Arc<dyn Program>, Refused>;
}

/// A program that can be started, any number of times.
pub trait Program: Send + Sync {
    /// Starts it. Error: the operating system gives no thread.
    fn start(&self, spec: Spec) -> std::io::Result<Handle>;
}

/// Why a program cannot be run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Longer than is compiled here.
    #[error("module is {bytes} bytes, limit {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a module, or one that uses what this engine does not have.
    #[error("module does not compile: {0}")]
    Invalid(String),
    /// Not a WASI preview 1 command.
    #[error("module is not a WASI preview 1 command: {0}")]
    Interface(String),
}

/// What a run is given.
pub struct Spec {
    /// Name of the program: argument 0.
    pub name: String,
    /// Arguments after it.
    pub args: Vec<String>,
    /// Directory that appears, read only, as `/in`.
    pub in_dir: PathBuf,
    /// Directory that appears as `/out`.
    pub out_dir: PathBuf,
    /// Takes standard output and standard error.
    pub log: Arc<Log>,
    /// What it may use: a share of one core, bytes of linear memory and tables, bytes under `/out`.
    pub resources: Resources,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned from `_start` (code 0) or called `proc_exit`.
    Exited(i32),
    /// It did what a program may not do: the sentence says what.
    Trapped(String),
    /// It exceeded what it rents: the sentence says what and the limit.
    OverLimit(String),
    /// It was ended from outside: the sentence says why.
    Killed(String),
}

impl Outcome {
    /// The exit code reported for it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exited(code) => *code,
            Self::Trapped(_) | Self::OverLimit(_) => EXIT_TRAPPED,
            Self::Killed(_) => EXIT_KILLED,
        }
    }

    /// What happened, in words.
    pub fn detail(&self) -> String {
        match self {
            Self::Exited(code) => format!("exited with code {code}"),
            Self::Trapped(why) | Self::OverLimit(why) | Self::Killed(why) => why.clone(),
        }
    }
}

/// What the owner of a run asks of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) kill: Option<String>,
    pub(crate) suspend: bool,
}

/// A run. Dropping the handle does not end it.
#[derive(Clone)]
pub struct Handle {
    wish: Arc<watch::Sender<Wish>>,
    outcome: watch::Receiver<Option<Outcome>>,
    cpu_ns: Arc<std::sync::atomic::AtomicU64>,
}

impl Handle {
    /// Asks it to end; [`Handle::wait`] tells when it has. The first reason counts.
    pub fn kill(&self, why: &str) {
        self.wish
            .send_if_modified(|wish| wish.kill.is_none() && wish.kill.replace(why.to_owned()).is_none());
    }

    /// Makes it stand still, or go on.
    pub fn suspend(&self, suspend: bool) {
        self.wish
            .send_if_modified(|wish| std::mem::replace(&mut wish.suspend, suspend) != suspend);
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.borrow().clone()
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Outcome {
        let mut outcome = self.outcome.clone();
        let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|o| o.clone());
        ended.unwrap_or_else(|| Outcome::Killed("its thread ended without a word".into()))
    }

    /// CPU time it has used, as of its last tick.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(std::sync::atomic::Ordering::Relaxed))
    }
}
