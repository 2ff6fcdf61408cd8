//! Network namespaces, where this machine allows them; else the tests say so and pass.

#![allow(clippy::disallowed_methods, reason = "tests measure real time")]

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use tenure_testkit::netns::Namespaces;

/// Removes the network however the test ends.
struct Removed(Namespaces);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(e) = self.0.remove() {
            eprintln!("{e:#}");
        }
    }
}

fn create(nodes: u16) -> Option<Removed> {
    match Namespaces::create(nodes) {
        Ok(made) => Some(Removed(made)),
        Err(e) => {
            eprintln!("**** SKIPPED: no network namespaces here: {e:#}");
            None
        }
    }
}

/// Whether a node's packets reach another: a port on which nobody listens refuses at once, on a cut line nothing answers.
fn reaches(network: &Namespaces, from: u16, to: u16) -> Result<bool> {
    let mut argv = network.run_in(from);
    let connect = format!("exec 3<>/dev/tcp/{}/9", network.address(to));
    argv.extend(["timeout".into(), "1".into(), "bash".into(), "-c".into(), connect]);
    let (program, args) = argv.split_first().context("a command")?;
    let output = Command::new(program).args(args).output()?;
    ensure!(!output.status.success(), "somebody listens on port 9");
    Ok(String::from_utf8_lossy(&output.stderr).contains("refused"))
}

fn reached_from_here(network: &Namespaces, to: u16) -> bool {
    let address = SocketAddr::from((network.address(to), 9));
    let answer = TcpStream::connect_timeout(&address, Duration::from_secs(2));
    answer.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn a_cut_is_between_two_nodes_only_and_heals() -> Result<()> {
    let Some(network) = create(3) else { return Ok(()) };
    let network = &network.0;
    for (from, to) in [(0, 1), (1, 0), (1, 2)] {
        assert!(reaches(network, from, to)?, "{from} to {to} before the cut");
    }
    network.cut(0, 1, true)?;
    network.cut(0, 1, true)?;
    assert!(!reaches(network, 0, 1)?);
    // The other way packets arrive and answers do not.
    assert!(!reaches(network, 1, 0)?);
    assert!(reaches(network, 0, 2)? && reaches(network, 1, 2)?);
    assert!((0..3).all(|node| reached_from_here(network, node)));
    network.cut(0, 1, false)?;
    network.cut(0, 1, false)?;
    assert!(reaches(network, 0, 1)? && reaches(network, 1, 0)?);
    Ok(())
}

#[test]
fn two_networks_never_share_anything_and_leave_nothing() -> Result<()> {
    let Some(one) = create(1) else { return Ok(()) };
    let Some(other) = create(1) else { return Ok(()) };
    assert_ne!(one.0.address(0), other.0.address(0));
    let began = Instant::now();
    assert!(reached_from_here(&one.0, 0) && reached_from_here(&other.0, 0));
    assert!(began.elapsed() < Duration::from_secs(2));
    let names = [&one, &other].map(|n| n.0.namespace(0));
    drop((one, other));
    let list = Command::new("ip").args(["netns", "list"]).output()?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(names.iter().all(|name| !list.contains(name.as_str())), "{list}");
    Ok(())
}
