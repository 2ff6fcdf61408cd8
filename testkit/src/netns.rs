//! A network of the machine's own: a namespace for each node, joined by a bridge in a namespace of the harness, and one link to this machine so
//! that clients, `curl` and providers reach every node.
//!
//! ```text
//!   host 10.77.s.254 ──veth── [ hub: bridge ] ──veth── [ node0: 10.77.s.1 ]
//!                                            ├──veth── [ node1: 10.77.s.2 ] …
//! ```
//!
//! A cut between two nodes is a blackhole route in each: packets vanish as on a broken line, connections are not closed, and this machine still
//! reaches both. The bridge is in a namespace so that no firewall of this machine (Docker's, for one) looks at what crosses it.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};

/// Most nodes: the addresses below the machine's own.
const MAX_NODES: u16 = 200;

/// One such network. Everything is named after its subnet, so that several can be there at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    subnet: u8,
    nodes: u16,
}

/// Runs `ip`. Error: its words.
fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.context("cannot run ip (package iproute2)")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", args.join(" "), words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `ip` once for each line. Error: the first one's words.
fn each(lines: &[String]) -> Result<()> {
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        ip(&words)?;
    }
    Ok(())
}

impl Namespaces {
    /// Makes a network for `nodes` nodes. Error: the system does not allow it; nothing is left behind then.
    pub fn create(nodes: u16) -> Result<Self> {
        ensure!(nodes <= MAX_NODES, "{nodes} nodes are too many, at most {MAX_NODES}");
        let used = ip(&["-4", "-o", "addr", "show"])?;
        let mut last = None;
        // Whoever makes the hub has the subnet: names are unique, so two harnesses never share one.
        for subnet in 0..=u8::MAX {
            if used.contains(&format!(" 10.77.{subnet}.")) {
                continue;
            }
            let this = Self { subnet, nodes };
            match ip(&["netns", "add", &this.hub()]) {
                Ok(_) => {
                    return match this.build() {
                        Ok(()) => Ok(this),
                        Err(e) => {
                            this.remove()?;
                            Err(e)
                        }
                    };
                }
                Err(e) if e.to_string().contains("File exists") => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("every network 10.77.0.0/24 to 10.77.255.0/24 is in use")))
    }

    fn build(&self) -> Result<()> {
        let (hub, link, host) = (self.hub(), self.link(), self.host());
        each(&[
            format!("-n {hub} link add br0 type bridge"),
            format!("-n {hub} link set br0 up"),
            format!("link add {link} type veth peer name host netns {hub}"),
            format!("-n {hub} link set host master br0 up"),
            format!("addr add {host}/24 dev {link}"),
            format!("link set {link} up"),
        ])?;
        for index in 0..self.nodes {
            let (node, address) = (self.namespace(index), self.address(index));
            each(&[
                format!("netns add {node}"),
                format!("-n {hub} link add n{index} type veth peer name eth0 netns {node}"),
                format!("-n {hub} link set n{index} master br0 up"),
                format!("-n {node} addr add {address}/24 dev eth0"),
                format!("-n {node} link set eth0 up"),
                format!("-n {node} link set lo up"),
            ])?;
        }
        Ok(())
    }

    /// Removes it all. What is not there is not missed; processes in it live on without a network.
    pub fn remove(&self) -> Result<()> {
        // The kernel drops the link some time after the namespace; the name must be free at once.
        let _ = ip(&["link", "del", &self.link()]);
        let there = ip(&["netns", "list"])?;
        let there: Vec<&str> = there
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        // The hub last: its name is what keeps others off the subnet.
        let ours = (0..self.nodes).map(|index| self.namespace(index)).chain([self.hub()]);
        for name in ours.filter(|name| there.contains(&name.as_str())) {
            ip(&["netns", "del", &name])?;
        }
        Ok(())
    }

    /// The command that runs a program in a node's namespace.
    pub fn run_in(&self, index: u16) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace(index)]
            .map(str::to_owned)
            .into()
    }

    /// Packets from one node to the other vanish, or arrive again. One direction only.
    pub fn cut(&self, from: u16, to: u16, cut: bool) -> Result<()> {
        let (namespace, to) = (self.namespace(from), format!("{}/32", self.address(to)));
        // Replacing and looking first make both safe to repeat.
        if cut {
            ip(&["-n", &namespace, "route", "replace", "blackhole", &to])?;
        } else if !ip(&["-n", &namespace, "route", "show", "type", "blackhole", &to])?.is_empty() {
            ip(&["-n", &namespace, "route", "del", "blackhole", &to])?;
        }
        Ok(())
    }

    /// A node's address.
    pub fn address(&self, index: u16) -> Ipv4Addr {
        // MAX_NODES keeps it below the machine's own.
        Ipv4Addr::new(10, 77, self.subnet, u8::try_from(index + 1).unwrap_or(253))
    }

    /// This machine's address in it.
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.subnet, 254)
    }

    /// A node's namespace.
    pub fn namespace(&self, index: u16) -> String {
        format!("tenure-{}-n{index}", self.subnet)
    }

    fn hub(&self) -> String {
        format!("tenure-{}-hub", self.subnet)
    }

    fn link(&self) -> String {
        format!("tenure-{}", self.subnet)
    }
}
