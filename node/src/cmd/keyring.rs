//! The keyring of a command: the client library's, in the node's home, with the flags that Cosmos operators know.

use std::path::PathBuf;

use anyhow::{bail, ensure, Result};
use clap::Args;
use tenure_client::keyring::{Backend, KeyInfo, Keyring};
use tenure_client::keys::Key;
use tenure_client::passphrase::Passphrase;
use tenure_types::Address;

use crate::client_config::ClientConfig;
use crate::home::Home;

/// Where keys are.
#[derive(Args, Clone, Default)]
pub(super) struct KeyringArgs {
    /// How keys are stored: file (sealed with a passphrase) or test (in clear) [default: keyring-backend of client.toml]
    #[arg(long, value_name = "BACKEND")]
    pub(super) keyring_backend: Option<Backend>,
    /// Directory that holds the keyring [default: the home]
    #[arg(long, value_name = "DIR")]
    pub(super) keyring_dir: Option<PathBuf>,
}

/// An opened keyring.
pub(super) struct Keys {
    ring: Keyring,
    directory: PathBuf,
}

impl Keys {
    pub(super) fn open(home: &Home, config: &ClientConfig, args: &KeyringArgs) -> Self {
        let backend = args.keyring_backend.unwrap_or(config.keyring_backend);
        let directory = args.keyring_dir.clone().unwrap_or_else(|| home.root().to_owned());
        Self {
            ring: Keyring::new(&directory, backend, Passphrase::EnvOrPrompt),
            directory,
        }
    }

    pub(super) fn ring(&self) -> &Keyring {
        &self.ring
    }

    pub(super) fn backend(&self) -> Backend {
        self.ring.backend()
    }

    /// The same keys, with the passphrase of one of them asked for once. Error: there is no such key, or no terminal to ask at.
    pub(super) fn unlocked(&self, name: &str) -> Result<Self> {
        self.info(name)?;
        let passphrase = match self.backend() {
            Backend::Test => Passphrase::EnvOrPrompt,
            Backend::File => Passphrase::Given(Passphrase::EnvOrPrompt.existing(name)?),
        };
        Ok(Self {
            ring: Keyring::new(&self.directory, self.backend(), passphrase),
            directory: self.directory.clone(),
        })
    }

    /// A key by name or by address, without its passphrase.
    pub(super) fn info(&self, name_or_address: &str) -> Result<KeyInfo> {
        let keys = self.ring.list()?;
        if let Some(info) = keys
            .iter()
            .find(|k| k.name == name_or_address || k.address == name_or_address)
        {
            return Ok(info.clone());
        }
        let place = self.directory.join(format!("keyring-{}", self.backend()));
        let names: Vec<&str> = keys.iter().map(|k| k.name.as_str()).collect();
        match names.as_slice() {
            [] => bail!(
                "there is no key {name_or_address:?}: {} has no keys. `tenured keys add <name>` makes one; --keyring-backend and \
                 --keyring-dir choose another keyring",
                place.display()
            ),
            names => bail!("there is no key {name_or_address:?} in {}; it has {}", place.display(), names.join(", ")),
        }
    }

    /// A key by name or by address, ready to sign.
    pub(super) fn load(&self, name_or_address: &str) -> Result<Key> {
        Ok(self.ring.load(&self.info(name_or_address)?.name)?)
    }

    /// An address given as one, or as a key's name.
    pub(super) fn address(&self, name_or_address: &str) -> Result<Address> {
        match name_or_address.parse() {
            Ok(address) => Ok(address),
            Err(e) if name_or_address.starts_with("tenure1") => Err(e)?,
            Err(_) => Ok(self.info(name_or_address)?.address.parse()?),
        }
    }

    /// Error: the name is taken.
    pub(super) fn require_free(&self, name: &str) -> Result<()> {
        tenure_client::keyring::check_name(name)?;
        ensure!(
            !self.ring.list()?.iter().any(|k| k.name == name),
            "key {name:?} exists already; keys are never replaced: choose another name, or `tenured keys delete {name}` first"
        );
        Ok(())
    }
}
