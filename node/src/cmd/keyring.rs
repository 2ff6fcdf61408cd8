//! The keyring of a command: the client library's, in the node's home, with the flags that Cosmos operators know.

use std::path::PathBuf;

use anyhow::{bail, ensure, Result};
use clap::Args;
use tenure_client::keyring::{Backend, Keyring};
use tenure_client::keys::{parse_mnemonic, Key};
use tenure_client::passphrase::Passphrase;
use tenure_types::Address;
use zeroize::Zeroizing;

use crate::client_config::ClientConfig;
use crate::home::Home;
use offline::{Offline, PublicKey};

pub(super) mod offline;

/// What is known of a key without its passphrase.
#[derive(Clone)]
pub(super) struct KeyInfo {
    /// Its name.
    pub(super) name: String,
    /// Its account.
    pub(super) address: String,
    /// If only its public half is here, that.
    pub(super) offline: Option<PublicKey>,
}

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

    fn place(&self) -> PathBuf {
        self.directory.join(format!("keyring-{}", self.backend()))
    }

    fn offline(&self) -> Offline {
        Offline::new(self.place())
    }

    /// All keys in order of name. Error: a file is damaged, named.
    pub(super) fn list(&self) -> Result<Vec<KeyInfo>> {
        let local = self.ring.list()?.into_iter().map(|key| KeyInfo {
            name: key.name,
            address: key.address,
            offline: None,
        });
        let mut all: Vec<KeyInfo> = local.collect();
        for (name, public) in self.offline().list()? {
            // `tenure`, which shares the keyring, does not know these names: a key that signs comes first.
            if !all.iter().any(|key| key.name == name) {
                let address = Address::of_secp256k1(&public).to_string();
                let offline = Some(public);
                all.push(KeyInfo { name, address, offline });
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Stores a public key, so that its account has a name here. Error: the name is taken.
    pub(super) fn add_offline(&self, name: &str, key: &PublicKey) -> Result<()> {
        self.require_free(name)?;
        self.offline().add(name, key)
    }

    /// Removes a key.
    pub(super) fn delete(&self, info: &KeyInfo) -> Result<()> {
        match info.offline {
            Some(_) => self.offline().delete(&info.name),
            None => Ok(self.ring.delete(&info.name)?),
        }
    }

    /// Gives a key another name. Error: it is taken.
    pub(super) fn rename(&self, info: &KeyInfo, new: &str) -> Result<()> {
        self.require_free(new)?;
        // In this order a crash leaves two names and never none.
        match &info.offline {
            Some(public) => self.offline().add(new, public)?,
            None => {
                let keys = self.unlocked(&info.name)?;
                keys.ring.add(new, &parse_mnemonic(&keys.ring.export(&info.name)?)?)?;
                return Ok(keys.ring.delete(&info.name)?);
            }
        }
        self.delete(info)
    }

    /// The words of a key. Error: they are not here, among others.
    pub(super) fn words(&self, info: &KeyInfo) -> Result<Zeroizing<String>> {
        ensure!(
            info.offline.is_none(),
            "key {} is offline: only its public key is here. Its words are where it was made",
            info.name
        );
        Ok(self.ring.export(&info.name)?)
    }

    /// A key by name or by address, without its passphrase.
    pub(super) fn info(&self, name_or_address: &str) -> Result<KeyInfo> {
        let keys = self.list()?;
        let named = keys.iter().find(|key| key.name == name_or_address);
        // Of several with one address one that signs.
        let of_address = || {
            keys.iter()
                .filter(|key| key.address == name_or_address)
                .min_by_key(|key| key.offline.is_some())
        };
        if let Some(info) = named.or_else(of_address) {
            return Ok(info.clone());
        }
        let place = self.place();
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

    /// A key by name or by address that can sign, without its passphrase. Error: there is none, or only its public half is here.
    pub(super) fn signing(&self, name_or_address: &str) -> Result<KeyInfo> {
        let info = self.info(name_or_address)?;
        ensure!(
            info.offline.is_none(),
            "key {} is offline: only its public key is here, and it cannot sign. Write the transaction with --generate-only, sign the file where the key \
             is with `tenured tx sign`, and send that with `tenured tx broadcast`",
            info.name
        );
        Ok(info)
    }

    /// A key by name or by address, ready to sign. Errors: as [`Self::signing`]; no passphrase, or a wrong one.
    pub(super) fn load(&self, name_or_address: &str) -> Result<Key> {
        Ok(self.ring.load(&self.signing(name_or_address)?.name)?)
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
            !self.list()?.iter().any(|k| k.name == name),
            "key {name:?} exists already; keys are never replaced: choose another name, or `tenured keys delete {name}` first"
        );
        Ok(())
    }
}
