//! Where passphrases come from: the environment for machines, the terminal for people.

use std::io::IsTerminal;

use zeroize::Zeroizing;

use crate::{Error, Result};

/// Environment variable that holds the passphrase of the `file` keyring where nobody can type it.
pub const PASSPHRASE_ENV: &str = "TENURE_KEYRING_PASSPHRASE";
/// Shortest passphrase for a new key, bytes.
pub const MIN_PASSPHRASE: usize = 8;

/// Where to get a passphrase from.
#[derive(Debug, Clone)]
pub enum Passphrase {
    /// From [`PASSPHRASE_ENV`], else asked for at the terminal.
    EnvOrPrompt,
    /// This one.
    Given(Zeroizing<String>),
}

impl Passphrase {
    /// The passphrase of an existing key. Error: it is not in the environment and there is no terminal to ask at.
    pub fn existing(&self, name: &str) -> Result<Zeroizing<String>> {
        match self.known() {
            Some(passphrase) => Ok(passphrase),
            None => ask(&format!("Passphrase of key {name}: ")),
        }
    }

    /// The passphrase for a new key, asked for twice. Error: as [`Self::existing`]; it is too short; the two differ.
    pub fn chosen(&self, name: &str) -> Result<Zeroizing<String>> {
        let passphrase = match self.known() {
            Some(passphrase) => passphrase,
            None => {
                let first = ask(&format!("New passphrase for key {name}: "))?;
                if *first != *ask("Once more: ")? {
                    return Err(Error::Key("the two passphrases differ; nothing was stored".to_owned()));
                }
                first
            }
        };
        if passphrase.len() < MIN_PASSPHRASE {
            return Err(Error::Key(format!(
                "the passphrase has {} bytes; it must have at least {MIN_PASSPHRASE}",
                passphrase.len()
            )));
        }
        Ok(passphrase)
    }

    fn known(&self) -> Option<Zeroizing<String>> {
        match self {
            Self::Given(passphrase) => Some(passphrase.clone()),
            Self::EnvOrPrompt => std::env::var(PASSPHRASE_ENV).ok().map(Zeroizing::new),
        }
    }
}

/// Asks for a secret at the terminal without showing it. Error: standard input is not a terminal.
pub fn ask(prompt: &str) -> Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Key(format!(
            "a passphrase is needed and there is no terminal to ask at; set {PASSPHRASE_ENV}, or use --keyring test on a development network"
        )));
    }
    rpassword::prompt_password(prompt)
        .map(Zeroizing::new)
        .map_err(|e| Error::Key(format!("no passphrase was read: {e}")))
}
