//! The machine: disk, clock, limits, ports.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Findings;
use crate::config::{AppConfig, CometConfig};
use crate::home::Home;
use crate::settings_file::SettingsFile;

const GIB: u64 = 1 << 30;
/// Less free space than this and the node may stop within hours.
const FEW_BYTES: u64 = 10 * GIB;
/// Less and it stops soon.
const NO_BYTES: u64 = GIB;
/// Writes that are timed.
const WRITES: usize = 32;
/// A block waits for about two of them.
const SLOW_FSYNC: Duration = Duration::from_millis(30);
const DEAD_FSYNC: Duration = Duration::from_millis(500);
/// CometBFT's documentation asks for this many open files.
const OPEN_FILES: u64 = 8192;

pub(super) fn disk(home: &Home, found: &mut Findings) {
    let free = match rustix::fs::statvfs(home.root()) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            found.skip("disk", format!("free space is not known: {error}"));
            return;
        }
    };
    space(free, found);
}

fn space(free: u64, found: &mut Findings) {
    let text = format!("{:.1} GiB free", free as f64 / GIB as f64);
    let fix = "make room, or move the home to a larger disk; a full disk stops the node and loses no committed block";
    match free {
        _ if free < NO_BYTES => found.fail("disk", text, fix),
        _ if free < FEW_BYTES => found.warn("disk", text, fix),
        _ => found.ok("disk", text),
    }
}

/// Times writes of a page with fsync where the state is.
pub(super) fn fsync(home: &Home, found: &mut Findings) {
    let path = home.data("doctor.tmp");
    let times = timed_writes(&path);
    // Made by us; a failure to remove it is told by the next run.
    let _ = fs::remove_file(&path);
    match times {
        Ok(times) => latency(times, found),
        Err(error) => found.fail(
            "fsync",
            format!("cannot write in {}: {error}", home.root().join("data").display()),
            format!("chown -R $(id -un) {}", home.root().display()),
        ),
    }
}

fn timed_writes(path: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = fs::File::create(path)?;
    let page = [0x5a; 4096];
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let begun = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times)
}

/// Of sorted times.
fn latency(times: Vec<Duration>, found: &mut Findings) {
    let at = |percent: usize| {
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    let (half, most) = (at(50), at(99));
    let text = format!(
        "fsync takes {:.1} ms (p50), {:.1} ms (p99)",
        half.as_secs_f64() * 1e3,
        most.as_secs_f64() * 1e3
    );
    let fix = "use a local SSD with power-loss protection; every block waits for the disk";
    match half {
        _ if half > DEAD_FSYNC => found.fail("fsync", text, fix),
        _ if half > SLOW_FSYNC => found.warn("fsync", text, fix),
        _ => found.ok("fsync", text),
    }
}

pub(super) fn limits(found: &mut Findings) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.current {
        Some(open) if open < OPEN_FILES => found.warn(
            "limits",
            format!("this shell may open {open} files"),
            format!("ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit; at least {OPEN_FILES}"),
        ),
        Some(open) => found.ok("limits", format!("{open} open files")),
        None => found.ok("limits", "open files are not limited"),
    }
}

/// Whether something keeps the clock right, as far as systemd knows.
pub(super) fn ntp(found: &mut Findings) {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        found.ok("ntp", "systemd-timesyncd has synchronised the clock");
        return;
    }
    let said = Command::new("timedatectl")
        .args(["show", "-p", "NTPSynchronized", "--value"])
        .output();
    let said = said
        .ok()
        .filter(|o| o.status.success())
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    match said.as_deref() {
        Some("yes") => found.ok("ntp", "the clock is synchronised"),
        Some("no") => found.warn(
            "ntp",
            "the clock is not synchronised",
            "timedatectl set-ntp true, or install chrony",
        ),
        _ => found.skip(
            "ntp",
            "nobody here can say whether the clock is synchronised (no timedatectl)",
        ),
    }
}

/// Ports: free before a start; in use by the node itself while it runs.
pub(super) fn ports(home: &Home, config: &AppConfig, comet: &CometConfig, running: bool, found: &mut Findings) {
    if running {
        found.skip("ports", "the running node has them; run.json tells which");
        return;
    }
    let mut wanted = vec![
        ("gRPC", "grpc.address in app.toml", config.grpc.address),
        ("JSON-RPC", "rpc.laddr in config.toml", comet.rpc),
    ];
    if config.telemetry.enabled {
        wanted.push(("metrics", "telemetry.address in app.toml", config.telemetry.address));
    }
    if super::super::comet::is_comets(home) {
        wanted.extend(p2p(home).map(|address| ("P2P", "p2p.laddr in config.toml", address)));
    }
    for (what, setting, address) in wanted {
        port(what, setting, address, found);
    }
}

fn p2p(home: &Home) -> Option<SocketAddr> {
    let file = SettingsFile::read(&home.config("config.toml")).ok()?;
    file.get("p2p.laddr")?
        .as_str()?
        .trim_start_matches("tcp://")
        .parse()
        .ok()
}

fn port(what: &str, setting: &str, address: SocketAddr, found: &mut Findings) {
    match TcpListener::bind(address) {
        Ok(_) => found.ok("ports", format!("{what} can have {address}")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => found.fail(
            "ports",
            format!("{what} wants {address}, which another program has"),
            format!(
                "see who: ss -ltnp 'sport = :{}'; or change {setting}, or start with --auto-ports",
                address.port()
            ),
        ),
        Err(error) => found.fail(
            "ports",
            format!("{what} cannot have {address}: {error}"),
            format!("change {setting}"),
        ),
    }
}

/// Servers that anybody can reach, and settings that invite trouble.
pub(super) fn exposed(home: &Home, config: &AppConfig, comet: &CometConfig, found: &mut Findings) {
    for (what, setting, address) in [
        ("gRPC", "grpc.address", config.grpc.address),
        ("JSON-RPC", "rpc.laddr", comet.rpc),
        ("metrics", "telemetry.address", config.telemetry.address),
    ] {
        let served = what != "metrics" || config.telemetry.enabled;
        if served && !address.ip().is_loopback() {
            found.warn(
                "exposed",
                format!("{what} listens on {address}, without TLS"),
                format!(
                    "put a proxy with TLS and limits in front, or set {setting} to 127.0.0.1:{}",
                    address.port()
                ),
            );
        }
    }
    if config.faucet.enabled {
        found.warn(
            "exposed",
            "the faucet gives money to whoever asks",
            "tenured config set app faucet.enabled false, unless this is a development chain",
        );
    }
    let file = SettingsFile::read(&home.config("config.toml")).ok();
    let value = |key: &str| {
        file.as_ref()
            .and_then(|f| f.get(key))
            .and_then(|item| item.as_value().cloned())
    };
    if value("rpc.unsafe").and_then(|v| v.as_bool()) == Some(true) {
        found.warn(
            "exposed",
            "rpc.unsafe is true: callers can dial peers and flush the mempool",
            "tenured config set config rpc.unsafe false",
        );
    }
    let peers = ["p2p.persistent_peers", "p2p.seeds"]
        .iter()
        .any(|key| value(key).is_some_and(|v| v.as_str().is_some_and(|s| !s.is_empty())));
    let validators = crate::genesis::read(&home.genesis())
        .ok()
        .and_then(|d| d["validators"].as_array().map(Vec::len))
        .unwrap_or(0);
    if validators > 1 && !peers {
        found.warn(
            "peers",
            format!(
                "the genesis has {validators} validators, and neither p2p.persistent_peers nor p2p.seeds names any"
            ),
            "tenured config set config p2p.persistent_peers <id>@<host>:26656,…",
        );
    }
    if !found.0.iter().any(|f| f.check == "exposed") {
        found.ok("exposed", "servers listen on loopback only");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn last(found: &Findings) -> (Level, &str) {
        let last = found.0.last().expect("a finding");
        (last.status, last.fix.as_deref().unwrap_or_default())
    }

    #[test]
    fn space_and_latency_have_two_limits_each() {
        let mut found = Findings::default();
        for (free, level) in [
            (GIB / 2, Level::Failed),
            (5 * GIB, Level::Warning),
            (50 * GIB, Level::Ok),
        ] {
            space(free, &mut found);
            assert_eq!(last(&found).0, level);
        }
        for (ms, level) in [(1, Level::Ok), (50, Level::Warning), (900, Level::Failed)] {
            latency(vec![Duration::from_millis(ms); WRITES], &mut found);
            assert_eq!(last(&found).0, level);
        }
    }

    #[test]
    fn a_busy_port_says_who_to_ask() -> anyhow::Result<()> {
        let mut found = Findings::default();
        let taken = TcpListener::bind("127.0.0.1:0")?;
        port("gRPC", "grpc.address", taken.local_addr()?, &mut found);
        let (level, fix) = last(&found);
        assert!(
            level == Level::Failed && fix.contains("--auto-ports") && fix.contains("grpc.address"),
            "{fix}"
        );
        let free = taken.local_addr()?;
        drop(taken);
        port("gRPC", "grpc.address", free, &mut found);
        assert_eq!(last(&found).0, Level::Ok);
        Ok(())
    }

    #[test]
    fn a_disk_that_cannot_be_written_fails() {
        let mut found = Findings::default();
        fsync(&Home::new("/proc/nowhere"), &mut found);
        assert_eq!(last(&found).0, Level::Failed);
    }
}
