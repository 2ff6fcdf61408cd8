//! What a network is made of and what runs of it, in a file: whoever comes later can look at it or end it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use serde::{Deserialize, Serialize};

use crate::netns::Namespaces;
use crate::network::Node;
use crate::process::{boot_id, ProcessId};

/// The state file's name in the network's directory.
const STATE: &str = "network.json";
/// A node finishes its block and closes its stores in this time.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(45);

/// A program beside the nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) process: ProcessId,
}

/// All of a network that outlives the process which made it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) boot: String,
    pub(crate) namespaces: Option<Namespaces>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) services: Vec<Service>,
    pub(crate) settings: Vec<(String, String)>,
}

/// The state in a directory; `None` if there is no network.
fn load(directory: &Path) -> Result<Option<State>> {
    let path = directory.join(STATE);
    match fs::read(&path) {
        Ok(bytes) => {
            let state = serde_json::from_slice(&bytes);
            state
                .map(Some)
                .with_context(|| format!("{} is damaged", path.display()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

impl State {
    fn processes(&self) -> impl Iterator<Item = ProcessId> + '_ {
        let services = self.services.iter().rev().map(|s| s.process);
        services.chain(self.nodes.iter().filter_map(|n| n.process))
    }

    /// Whether anything of it runs. Nothing survives the machine's restart.
    fn running(&self) -> Result<bool> {
        Ok(self.boot == boot_id()? && self.processes().any(|p| p.alive()))
    }

    /// Ends what runs, the newest first, and removes the namespaces. Returns how many processes were ended.
    pub(crate) fn end(&mut self) -> Result<usize> {
        if self.boot != boot_id()? {
            return Ok(0);
        }
        let mut ended = 0;
        for service in self.services.drain(..).rev() {
            ended += usize::from(service.process.alive());
            service.process.end(STOP_LIMIT)?;
        }
        let nodes: Vec<ProcessId> = self.nodes.iter_mut().filter_map(|n| n.process.take()).collect();
        // All are asked before any is waited for: a chain stops faster than one node after the other.
        for process in &nodes {
            ended += usize::from(process.signal(rustix::process::Signal::TERM)?);
        }
        for process in &nodes {
            if !process.wait(STOP_LIMIT)? {
                process.kill()?;
            }
        }
        if let Some(namespaces) = self.namespaces.take() {
            namespaces.remove()?;
        }
        Ok(ended)
    }
}

/// Ends the network of a directory, however its starter ended. `None`: there is none; else how many processes were ended.
pub fn down(directory: &Path) -> Result<Option<usize>> {
    let Some(mut state) = load(directory)? else {
        return Ok(None);
    };
    let had = state.namespaces.is_some() || state.running()?;
    let ended = state.end()?;
    save(directory, &state)?;
    Ok(had.then_some(ended))
}

/// Writes the state, whole or not at all.
pub(crate) fn save(directory: &Path, state: &State) -> Result<()> {
    let (path, partial) = (directory.join(STATE), directory.join(".network.json.tmp"));
    fs::write(&partial, serde_json::to_vec_pretty(state)?).with_context(|| partial.display().to_string())?;
    fs::rename(&partial, &path).with_context(|| path.display().to_string())
}

/// Makes room for a new network. Error: there is a running one, or something else.
pub(crate) fn clear(directory: &Path) -> Result<()> {
    match load(directory)? {
        Some(mut state) => {
            ensure!(
                !state.running()?,
                "a network is running in {}. testnet/down ends it",
                directory.display()
            );
            state.end()?;
            fs::remove_dir_all(directory).with_context(|| directory.display().to_string())
        }
        None => {
            let empty = match fs::read_dir(directory) {
                Ok(mut entries) => entries.next().is_none(),
                Err(e) => e.kind() == std::io::ErrorKind::NotFound,
            };
            ensure!(
                empty,
                "{} is not empty and no network of ours; nothing was changed. Choose another --dir",
                directory.display()
            );
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{spawn, Lifetime};

    /// A state file of another process's network: one program beside no nodes.
    fn left_behind(directory: &Path) -> Result<ProcessId> {
        let process = spawn(
            &["sleep".into(), "60".into()],
            &[],
            &directory.join("log"),
            Lifetime::Its,
        )?;
        let state = State {
            boot: boot_id()?,
            namespaces: None,
            nodes: Vec::new(),
            services: vec![Service {
                name: "sleep".to_owned(),
                process,
            }],
            settings: Vec::new(),
        };
        save(directory, &state)?;
        Ok(process)
    }

    #[test]
    fn a_running_network_is_not_replaced_and_ends_with_down() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let directory = scratch.path().join("net");
        fs::create_dir(&directory)?;
        let process = left_behind(&directory)?;
        let refusal = clear(&directory).expect_err("it runs").to_string();
        assert!(
            refusal.contains("is running") && refusal.contains("testnet/down"),
            "{refusal}"
        );
        assert!(process.alive());
        assert_eq!(down(&directory)?, Some(1));
        assert!(!process.alive());
        assert_eq!(down(&directory)?, None, "nothing is left to end");
        clear(&directory)?;
        assert!(!directory.exists());
        Ok(())
    }

    #[test]
    fn a_state_file_from_before_a_restart_of_the_machine_ends_nobody() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let process = left_behind(scratch.path())?;
        let mut state = load(scratch.path())?.context("state")?;
        state.boot = "another run".to_owned();
        save(scratch.path(), &state)?;
        assert_eq!(down(scratch.path())?, None);
        assert!(process.alive(), "it only looks like ours");
        process.kill()
    }

    #[test]
    fn a_directory_with_something_else_is_left_alone() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let file = scratch.path().join("thesis.txt");
        fs::write(&file, "years of work")?;
        let refusal = clear(scratch.path()).expect_err("not ours").to_string();
        assert!(refusal.contains("not empty"), "{refusal}");
        assert!(file.exists());
        assert_eq!(down(scratch.path())?, None);
        Ok(())
    }
}
