//! Processes that outlive whoever started them, known by id and start time so that none is ever taken for another.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// What becomes of a process when this one dies without ending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The kernel kills it: for tests.
    Ours,
    /// It goes on: for `testnet/up`.
    Its,
}

/// One process, even after its id has gone to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id.
    pub pid: u32,
    /// When it began, in the kernel's ticks since the machine did.
    started: u64,
}

/// An identifier of this run of the machine: start times of another run mean nothing.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).context(path)?.trim().to_owned())
}

/// Field 22 of /proc/<pid>/stat. The name before it may contain spaces and parentheses.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// Starts a program in a process group of its own, so that Ctrl-C on the terminal reaches only its starter. Its output goes to the end of
/// `log`. Call it from a thread that lives as long as the process should, if that is [`Lifetime::Ours`]: the kernel watches the thread.
pub fn spawn(argv: &[String], env: &[(String, String)], log: &Path, lifetime: Lifetime) -> Result<ProcessId> {
    use std::os::unix::process::CommandExt;
    let out = append(log)?;
    let mut whole: Vec<&str> = Vec::new();
    if lifetime == Lifetime::Ours {
        whole.extend(["setpriv", "--pdeathsig", "KILL", "--"]);
    }
    whole.extend(argv.iter().map(String::as_str));
    let (program, args) = whole.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .process_group(0);
    // Settings of whoever calls are not settings of the network.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("TENURE") {
            command.env_remove(&name);
        }
    }
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let pid = child.id();
    // Not reaped yet, so the id is still its own.
    let id = started(pid).map(|started| ProcessId { pid, started });
    std::thread::Builder::new()
        .name(format!("reap {pid}"))
        .spawn(move || child.wait())?;
    id.with_context(|| format!("{program} ended at once; see {}", log.display()))
}

fn append(log: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(log);
    opened.with_context(|| format!("cannot write {}", log.display()))
}

impl ProcessId {
    /// A handle that stays this process's; `None` if it has ended, reaped or not.
    fn open(&self) -> Result<Option<OwnedFd>> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{} is no process id", self.pid))?;
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("process {}", self.pid)),
        };
        // Looked at after opening: whatever has this start time now is what the handle holds.
        let same = started(self.pid) == Some(self.started);
        Ok((same && !ended(&handle, Duration::ZERO)).then_some(handle))
    }

    /// Whether it runs.
    pub fn alive(&self) -> bool {
        matches!(self.open(), Ok(Some(_)))
    }

    /// Sends a signal; `false` if it is gone.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        let Some(handle) = self.open()? else { return Ok(false) };
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(e) => Err(e).with_context(|| format!("signal to process {}", self.pid)),
        }
    }

    /// Waits until it has ended; `false` if it has not within `limit`.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        Ok(match self.open()? {
            Some(handle) => ended(&handle, limit),
            None => true,
        })
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        ensure!(
            self.wait(Duration::from_secs(10))?,
            "process {} outlives SIGKILL",
            self.pid
        );
        Ok(())
    }

    /// Asks it to end and kills it if it has not within `limit`; `false` if it had to be killed.
    pub fn end(&self, limit: Duration) -> Result<bool> {
        if !self.signal(Signal::TERM)? || self.wait(limit)? {
            return Ok(true);
        }
        self.kill()?;
        Ok(false)
    }

    /// Its memory in use that is its own or shared (RSS), bytes; `None` if it is gone.
    pub fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    }

    /// The process that has this id now; `None` if none has.
    pub fn of(pid: u32) -> Option<Self> {
        started(pid).map(|started| Self { pid, started })
    }
}

fn ended(handle: &OwnedFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut watched = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut watched, Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            // Nothing else can happen to a valid handle.
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> Result<ProcessId> {
        spawn(&["sleep".into(), "60".into()], &[], &dir.join("log"), Lifetime::Its)
    }

    #[test]
    fn a_process_is_ended_and_its_successor_under_the_same_id_is_not() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let process = sleeper(dir.path())?;
        assert!(process.alive());
        // What a reused id looks like: same number, another start.
        let other = ProcessId {
            started: process.started + 1,
            ..process
        };
        assert!(!other.alive());
        assert!(!other.signal(Signal::KILL)?);
        assert!(other.end(Duration::ZERO)?);
        assert!(process.alive(), "the innocent one lives");
        assert!(process.end(Duration::from_secs(5))?);
        assert!(!process.alive());
        assert!(!process.signal(Signal::TERM)?);
        Ok(())
    }

    #[test]
    fn one_that_ignores_the_request_is_killed() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
        let log = dir.path().join("log");
        let process = spawn(&["sh".into(), "-c".into(), script.into()], &[], &log, Lifetime::Its)?;
        crate::wait::until("the trap", Duration::from_secs(5), || {
            Ok(fs::read_to_string(&log)?.contains("ready").then_some(()))
        })?;
        assert!(!process.end(Duration::from_millis(300))?);
        assert!(!process.alive());
        Ok(())
    }
}
