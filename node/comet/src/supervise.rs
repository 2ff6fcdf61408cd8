//! Keeping one CometBFT running.
//!
//! ```text
//!   start ─► spawn ─► it runs ─┬─ stop asked: SIGTERM, wait, SIGKILL ─► Stopped
//!              ▲               └─ it ended by itself ─┬─ it lived long: pause ─┐
//!              └──────────────────────────────────────┼────────────────────────┘
//!                                                     └─ too often at once ─► Failed, with its last lines
//! ```
//!
//! The child is a process group of its own, so that Ctrl-C in a terminal reaches us alone and we choose the order of the stop. It is
//! killed by the kernel when we die, whatever kills us: its write-ahead log is made for that, an orphan that holds the ports is not.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use tokio::sync::watch;

use crate::log::{self, LastLines};

/// How often the child is looked at. Ends and stops are noticed within this.
const LOOK: Duration = Duration::from_millis(50);

/// What to run.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub dir: PathBuf,
    /// Environment variables beside our own.
    pub env: Vec<(String, String)>,
    /// What to do when it ends by itself.
    pub restart: Restart,
}

/// When and how often a program that ended by itself is started again.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// One that lived shorter than this ended at once.
    pub at_once: Duration,
    /// After so many ends at once in a row it is given up.
    pub most: u32,
    /// The pause before the first new start; doubles with each end at once.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            at_once: Duration::from_secs(10),
            most: 5,
            pause: Duration::from_millis(500),
            longest: Duration::from_secs(30),
        }
    }
}

impl Restart {
    fn pause_after(&self, ends_at_once: u32) -> Duration {
        let doublings = ends_at_once.saturating_sub(1).min(16);
        self.pause.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// Whether the program is kept running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is, or will be again after a pause.
    Running,
    /// It was stopped.
    Stopped,
    /// It was given up; the reason, with its last lines.
    Failed(String),
}

/// Keeps a program running until it is told to stop; dropping it stops at once.
pub struct Supervisor {
    orders: Sender<Duration>,
    life: watch::Receiver<Life>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts a program and keeps it running. `started` is told the process id of every start, on the supervisor's thread. Error: the
    /// thread cannot be started; a program that cannot be started is a [`Life::Failed`].
    pub fn start(launch: Launch, started: impl FnMut(u32) + Send + 'static) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let (say, life) = watch::channel(Life::Running);
        // The kernel ends the child when the *thread* that started it ends, so all starts happen on one thread that outlives them.
        let thread = std::thread::Builder::new().name("cometbft".into()).spawn(move || {
            let end = run(&launch, &inbox, started);
            if let Life::Failed(reason) = &end {
                tracing::error!("{reason}");
            }
            say.send_replace(end);
        })?;
        Ok(Self {
            orders,
            life,
            thread: Some(thread),
        })
    }

    /// A channel that tells when and why it ended.
    pub fn life(&self) -> watch::Receiver<Life> {
        self.life.clone()
    }

    /// Asks the program to end (SIGTERM), waits up to `limit`, then kills it. Returns how it had ended if that was before.
    pub fn stop(mut self, limit: Duration) -> Life {
        self.end(limit);
        self.life.borrow().clone()
    }

    fn end(&mut self, limit: Duration) {
        // Fails only if the thread is done.
        let _ = self.orders.send(limit);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, the kernel has killed the child.
            let _ = thread.join();
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(Duration::ZERO);
        }
    }
}

/// How one life of the program ended.
enum End {
    Asked,
    ByItself(ExitStatus),
}

fn run(launch: &Launch, orders: &Receiver<Duration>, mut started: impl FnMut(u32)) -> Life {
    let last = LastLines::default();
    let mut ends_at_once = 0;
    loop {
        last.clear();
        let began = Instant::now();
        let end = one_life(launch, orders, &last, &mut started);
        let status = match end {
            Ok(End::Asked) => return Life::Stopped,
            Ok(End::ByItself(status)) => status,
            Err(e) => return Life::Failed(format!("cannot run {}: {e}", launch.program.display())),
        };
        let lived = began.elapsed();
        ends_at_once = if lived < launch.restart.at_once {
            ends_at_once + 1
        } else {
            1
        };
        if lived < launch.restart.at_once && ends_at_once >= launch.restart.most {
            return Life::Failed(format!(
                "CometBFT ended ({status}) {ends_at_once} times in a row within {:?} of its start and is given up. Its last lines:\n{}",
                launch.restart.at_once,
                last.text()
            ));
        }
        let pause = launch.restart.pause_after(ends_at_once);
        tracing::error!("CometBFT ended by itself ({status}) after {lived:.1?}; starting it again in {pause:?}");
        match orders.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Life::Stopped,
        }
    }
}

fn one_life(
    launch: &Launch,
    orders: &Receiver<Duration>,
    last: &LastLines,
    started: &mut impl FnMut(u32),
) -> io::Result<End> {
    let mut child = spawn(launch)?;
    tracing::info!(pid = child.id(), "CometBFT started");
    started(child.id());
    let readers = [
        child.stdout.take().map(|source| read_lines(source, last)),
        child.stderr.take().map(|source| read_lines(source, last)),
    ];
    let end = loop {
        match orders.recv_timeout(LOOK) {
            Ok(limit) => {
                terminate(&mut child, limit)?;
                break End::Asked;
            }
            Err(RecvTimeoutError::Disconnected) => {
                terminate(&mut child, Duration::ZERO)?;
                break End::Asked;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(status) = child.try_wait()? {
            break End::ByItself(status);
        }
    };
    // The pipes end with the child: it starts no processes of its own.
    for reader in readers.into_iter().flatten() {
        let _ = reader?.join();
    }
    Ok(end)
}

fn read_lines(source: impl io::Read + Send + 'static, last: &LastLines) -> io::Result<JoinHandle<()>> {
    let last = last.clone();
    std::thread::Builder::new().name("cometbft-log".into()).spawn(move || {
        // A broken pipe ends the lines, and the child with them.
        let _ = log::forward(BufReader::new(source), &last);
    })
}

/// SIGTERM, and SIGKILL after `limit`.
fn terminate(child: &mut Child, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    if !limit.is_zero() {
        // Not reaped yet, so the id is still the child's.
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // Fails only if it has ended.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            if !limit.is_zero() {
                tracing::error!("CometBFT did not stop within {limit:?}; killing it, its log of votes survives that");
            }
            child.kill()?;
            child.wait()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn spawn(launch: &Launch) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .current_dir(&launch.dir)
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    die_with_us(&mut command);
    command.spawn()
}

/// Lets the kernel kill the child when the calling thread ends.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "argued below")]
fn die_with_us(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // If we died between fork and the line above, nobody would send the signal.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from(rustix::io::Errno::SRCH));
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed: it makes the system calls prctl and
    // getppid directly, allocates nothing (an `io::Error` of an errno is a plain value), takes no lock and touches no memory of ours but
    // the copied process id.
    unsafe {
        command.pre_exec(ask);
    }
}

/// Elsewhere CometBFT ends by itself a moment after its ABCI connections break.
#[cfg(not(target_os = "linux"))]
fn die_with_us(_: &mut Command) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, restart: Restart) -> Launch {
        Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            dir: std::env::temp_dir(),
            env: vec![("GREETING".into(), "hello".into())],
            restart,
        }
    }

    const QUICK: Restart = Restart {
        at_once: Duration::from_secs(5),
        most: 3,
        pause: Duration::from_millis(10),
        longest: Duration::from_millis(20),
    };

    fn wait(mut life: watch::Receiver<Life>) -> Life {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("runtime");
        runtime.block_on(async move {
            let ended = life.wait_for(|l| *l != Life::Running);
            let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
            ended.expect("in time").expect("said").clone()
        })
    }

    #[test]
    fn one_that_dies_at_once_is_given_up_with_its_last_lines() {
        let (count, starts) = mpsc::channel();
        let launch = shell("echo $GREETING; echo why >&2; exit 7", QUICK);
        let supervisor = Supervisor::start(launch, move |pid| count.send(pid).expect("count")).expect("start");
        let Life::Failed(reason) = wait(supervisor.life()) else {
            panic!("not given up")
        };
        for word in ["exit status: 7", "3 times", "hello", "why"] {
            assert!(reason.contains(word), "{reason}");
        }
        assert_eq!(starts.iter().count(), 3);
        assert!(matches!(supervisor.stop(Duration::from_secs(1)), Life::Failed(_)));
    }

    #[test]
    fn one_that_is_killed_is_started_again_and_stops_when_told() {
        let (tell, starts) = mpsc::channel();
        let patient = Restart { most: 100, ..QUICK };
        let launch = shell("trap 'exit 0' TERM; while :; do sleep 0.05; done", patient);
        let supervisor = Supervisor::start(launch, move |pid| tell.send(pid).expect("tell")).expect("start");
        let next = || starts.recv_timeout(Duration::from_secs(10)).expect("started");
        let first = next();
        let pid = i32::try_from(first).ok().and_then(Pid::from_raw).expect("pid");
        kill_process(pid, Signal::KILL).expect("kill");
        assert_ne!(next(), first);
        assert_eq!(supervisor.stop(Duration::from_secs(10)), Life::Stopped);
    }

    #[test]
    fn one_that_ignores_sigterm_is_killed_after_the_limit() {
        let (tell, starts) = mpsc::channel();
        let launch = shell("trap '' TERM; while :; do sleep 0.05; done", QUICK);
        let supervisor = Supervisor::start(launch, move |pid| tell.send(pid).expect("tell")).expect("start");
        let pid = starts.recv_timeout(Duration::from_secs(10)).expect("started");
        std::thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        assert_eq!(supervisor.stop(Duration::from_millis(300)), Life::Stopped);
        assert!(began.elapsed() >= Duration::from_millis(300));
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("pid");
        assert!(rustix::process::test_kill_process(pid).is_err(), "it still runs");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn it_dies_with_the_thread_that_started_it() {
        let launch = shell("trap '' TERM HUP; while :; do sleep 0.05; done", QUICK);
        // What a SIGKILL of this process does to all of its threads.
        let spawned = std::thread::spawn(move || spawn(&launch)).join();
        let mut child = spawned.expect("no panic").expect("spawned");
        let deadline = Instant::now() + Duration::from_secs(10);
        while child.try_wait().expect("wait").is_none() {
            assert!(Instant::now() < deadline, "it outlives its parent");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let restart = Restart::default();
        let seconds: Vec<f64> = [1, 2, 3, 7, 60].map(|n| restart.pause_after(n).as_secs_f64()).to_vec();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 30.0, 30.0]);
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure_with_its_name() {
        let launch = Launch {
            program: "/nonexistent/cometbft".into(),
            ..shell("", QUICK)
        };
        let supervisor = Supervisor::start(launch, |_| {}).expect("start");
        let Life::Failed(reason) = wait(supervisor.life()) else {
            panic!("ran")
        };
        assert!(reason.contains("/nonexistent/cometbft"), "{reason}");
    }
}
