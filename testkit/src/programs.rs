//! Where the programs are.

use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use tenure_comet::binary::CometBft;

/// The three programs and CometBFT.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Where `scripts/build` left ours.
    directory: PathBuf,
    /// The engine.
    pub cometbft: CometBft,
}

impl Programs {
    /// Ours from $TENURE_BIN, else from where this program lies. Error: one is missing.
    pub fn find() -> Result<Self> {
        let directory = match std::env::var_os("TENURE_BIN") {
            Some(directory) => PathBuf::from(directory),
            None => {
                let own = std::env::current_exe()?;
                own.parent().context("this program lies nowhere")?.to_owned()
            }
        };
        for name in ["tenured", "tenure", "tenure-agent"] {
            ensure!(
                directory.join(name).exists(),
                "{} is missing: run scripts/build first",
                directory.join(name).display()
            );
        }
        Ok(Self {
            directory,
            cometbft: CometBft::find(None)?,
        })
    }

    /// The node.
    pub fn tenured(&self) -> PathBuf {
        self.directory.join("tenured")
    }

    /// The client.
    pub fn tenure(&self) -> PathBuf {
        self.directory.join("tenure")
    }

    /// The provider's agent.
    pub fn agent(&self) -> PathBuf {
        self.directory.join("tenure-agent")
    }

    /// Where ours are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
