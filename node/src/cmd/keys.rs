//! `tenured keys`: account keys of the operator, under simd's verbs.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{json, Value};
use tenure_client::keyring::Backend;
use tenure_client::keys::{new_mnemonic, parse_mnemonic, Key};
use tenure_types::address::{ACCOUNT_PREFIX, VALCONS_PREFIX, VALOPER_PREFIX};
use tenure_types::Address;
use zeroize::Zeroizing;

use super::keyring::{offline, KeyInfo, KeyringArgs, Keys};
use super::out;
use crate::client_config::{ClientConfig, Output};
use crate::home::Home;

/// Longest file of words that is read, bytes.
const MAX_WORDS: u64 = 4096;

#[derive(Args)]
#[command(after_help = "\
The keyring is the one of `tenure`, in the node's home: keyring-file/ (sealed with a passphrase) or keyring-test/ (in clear). Where nobody can type,
TENURE_KEYRING_PASSPHRASE holds the passphrase. The key that signs blocks is another: see `tenured comet show-validator`.")]
pub(super) struct KeysArgs {
    #[command(flatten)]
    keyring: KeyringGlobal,
    #[command(subcommand)]
    command: KeysCommand,
}

/// [`KeyringArgs`], accepted behind the verb too.
#[derive(Args)]
struct KeyringGlobal {
    /// How keys are stored: file (sealed with a passphrase) or test (in clear) [default: keyring-backend of client.toml]
    #[arg(long, global = true, value_name = "BACKEND")]
    keyring_backend: Option<Backend>,
    /// Directory that holds the keyring [default: the home]
    #[arg(long, global = true, value_name = "DIR")]
    keyring_dir: Option<PathBuf>,
    /// What is printed [default: output of client.toml]
    #[arg(short, long, global = true, value_enum)]
    output: Option<Output>,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make a key, or store one from its words
    #[command(
        after_help = "Examples:\n  tenured keys add validator --keyring-backend test\n  tenured keys add validator --recover < words.txt\n  \
                      tenured keys add cold --pubkey '{\"@type\":\"/cosmos.crypto.secp256k1.PubKey\",\"key\":\"A0f2...\"}'"
    )]
    Add {
        /// Letters, digits, - and _
        name: String,
        /// Read the words of an existing key from the terminal or standard input
        #[arg(long)]
        recover: bool,
        /// Read the words of an existing key from a file
        #[arg(long, value_name = "FILE", conflicts_with = "recover")]
        source: Option<PathBuf>,
        /// Store a public key only, as `keys show --pubkey` prints it where the key is: it names an account, and signs nothing
        #[arg(long, value_name = "JSON", conflicts_with_all = ["recover", "source", "no_backup"])]
        pubkey: Option<String>,
        /// Do not print the words of a new key
        #[arg(long)]
        no_backup: bool,
        /// Make and show a key, store nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List keys
    #[command(after_help = "Examples:\n  tenured keys list\n  tenured keys list -o json")]
    List {
        /// Only their names
        #[arg(short = 'n', long)]
        list_names: bool,
    },
    /// Show a key
    #[command(after_help = "Examples:\n  tenured keys show validator -a\n  tenured keys show validator -a --bech val")]
    Show {
        /// Its name or address
        name: String,
        /// Print the address only
        #[arg(short, long)]
        address: bool,
        /// Print the public key only
        #[arg(short, long, conflicts_with = "address")]
        pubkey: bool,
        /// Which prefix addresses get
        #[arg(long, value_enum, default_value_t)]
        bech: Bech,
    },
    /// Remove a key for good
    #[command(after_help = "Example:\n  tenured keys delete old --yes")]
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Give a key another name
    #[command(after_help = "Example:\n  tenured keys rename validator operator --yes")]
    Rename {
        /// Its name
        old: String,
        /// Its new name
        new: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Print a key's words: whoever reads them owns the account
    #[command(after_help = "Example:\n  tenured keys export validator > words.txt")]
    Export {
        /// Its name
        name: String,
    },
    /// Store a key from its words
    #[command(
        after_help = "Examples:\n  tenured keys import validator words.txt\n  tenured keys import validator < words.txt"
    )]
    Import {
        /// Letters, digits, - and _
        name: String,
        /// File of words [default: the terminal or standard input]
        file: Option<PathBuf>,
    },
    /// Print new words and store nothing
    Mnemonic,
    /// Convert an address between hex and its bech32 forms
    #[command(after_help = "Examples:\n  tenured keys parse tenure1...\n  tenured keys parse 731108...")]
    Parse {
        /// Bech32 or hex
        address: String,
    },
}

/// Prefixes of addresses.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Bech {
    /// An account, tenure1...
    #[default]
    Acc,
    /// A validator's operator, tenurevaloper1...
    Val,
    /// A consensus key, tenurevalcons1...
    Cons,
}

impl Bech {
    fn prefix(self) -> &'static str {
        match self {
            Self::Acc => ACCOUNT_PREFIX,
            Self::Val => VALOPER_PREFIX,
            Self::Cons => VALCONS_PREFIX,
        }
    }
}

pub(super) fn run(home: &Home, config: &ClientConfig, args: KeysArgs) -> Result<()> {
    let place = KeyringArgs {
        keyring_backend: args.keyring.keyring_backend,
        keyring_dir: args.keyring.keyring_dir,
    };
    let keys = Keys::open(home, config, &place);
    let output = args.keyring.output.unwrap_or(config.output);
    match args.command {
        KeysCommand::Add {
            name,
            recover,
            source,
            pubkey,
            no_backup,
            dry_run,
        } => {
            if let Some(pubkey) = pubkey {
                return add_offline(&keys, output, name, &pubkey, dry_run);
            }
            let words = match source {
                Some(file) => Some(words_of_file(&file)?),
                None if recover => Some(words_of_input()?),
                None => None,
            };
            add(&keys, output, &name, words, no_backup, dry_run)
        }
        KeysCommand::Import { name, file } => {
            let words = file.map_or_else(words_of_input, |file| words_of_file(&file))?;
            add(&keys, output, &name, Some(words), true, false)
        }
        KeysCommand::List { list_names } => {
            let all = keys.list()?;
            if list_names {
                all.iter().for_each(|info| out(&info.name));
                return Ok(());
            }
            let records = all.iter().map(|info| record(&keys, info)).collect::<Result<Vec<_>>>()?;
            match output {
                Output::Json => out(Value::Array(records)),
                Output::Text if records.is_empty() => {
                    eprintln!(
                        "no keys in the {} keyring; `tenured keys add <name>` makes one",
                        keys.backend()
                    );
                }
                Output::Text => records.iter().for_each(print),
            }
            Ok(())
        }
        KeysCommand::Show {
            name,
            address,
            pubkey,
            bech,
        } => {
            let info = keys.info(&name)?;
            let shown = info.address.parse::<Address>()?.to_bech32(bech.prefix());
            if address {
                out(shown);
                return Ok(());
            }
            if pubkey {
                out(public_of(&keys, &info)?);
                return Ok(());
            }
            let mut record = record(&keys, &info)?;
            record["address"] = shown.into();
            match output {
                Output::Json => out(record),
                Output::Text => print(&record),
            }
            Ok(())
        }
        KeysCommand::Delete { name, yes } => {
            let info = keys.info(&name)?;
            let lost = match info.offline {
                Some(_) => "",
                None => " Without its words the account is lost.",
            };
            confirm(
                yes,
                &format!("Delete key {} ({})?{lost} [y/N] ", info.name, info.address),
            )?;
            keys.delete(&info)?;
            eprintln!("deleted {}", info.name);
            Ok(())
        }
        KeysCommand::Rename { old, new, yes } => {
            let info = keys.info(&old)?;
            keys.require_free(&new)?;
            confirm(yes, &format!("Rename key {old} to {new}? [y/N] "))?;
            keys.rename(&info, &new)?;
            eprintln!("renamed {old} to {new}");
            Ok(())
        }
        KeysCommand::Export { name } => {
            let info = keys.info(&name)?;
            eprintln!("whoever reads these words owns the account {}", info.address);
            let words = keys.words(&info)?;
            match output {
                Output::Json => out(json!({ "name": info.name, "mnemonic": words.as_str() })),
                Output::Text => out(words.as_str()),
            }
            Ok(())
        }
        KeysCommand::Mnemonic => {
            out(Zeroizing::new(new_mnemonic()?.to_string()).as_str());
            Ok(())
        }
        KeysCommand::Parse { address } => parse(&address, output),
    }
}

/// A key's public half as Cosmos tools print it. It is derived from the words, which a sealed keyring shows only for a passphrase.
fn public_of(keys: &Keys, info: &KeyInfo) -> Result<String> {
    let public = match info.offline {
        Some(public) => public,
        None => *keys.load(&info.name)?.public_key(),
    };
    Ok(offline::shown(&public).to_string())
}

/// A key in simd's words, with its public half where that is readable without a passphrase.
fn record(keys: &Keys, info: &KeyInfo) -> Result<Value> {
    let kind = match info.offline {
        Some(_) => "offline",
        None => "local",
    };
    let mut record = json!({ "name": info.name, "type": kind, "address": info.address });
    if info.offline.is_some() || keys.backend() == Backend::Test {
        record["pubkey"] = public_of(keys, info)?.into();
    }
    Ok(record)
}

fn add_offline(keys: &Keys, output: Output, name: String, pubkey: &str, dry_run: bool) -> Result<()> {
    let public = offline::parse(pubkey).context("--pubkey")?;
    if dry_run {
        keys.require_free(&name)?;
    } else {
        keys.add_offline(&name, &public)?;
    }
    let address = Address::of_secp256k1(&public).to_string();
    let offline = Some(public);
    let record = record(keys, &KeyInfo { name, address, offline })?;
    match output {
        Output::Json => out(record),
        Output::Text => print(&record),
    }
    Ok(())
}

/// A record as simd prints it.
fn print(record: &Value) {
    let mut lead = "- ";
    let mut names = vec!["address", "name"];
    if record.get("pubkey").is_some() {
        names.push("pubkey");
    }
    names.push("type");
    for name in names {
        let value = record[name].as_str().unwrap_or_default();
        let quote = if name == "pubkey" { "'" } else { "" };
        out(format!("{lead}{name}: {quote}{value}{quote}"));
        lead = "  ";
    }
}

fn add(
    keys: &Keys,
    output: Output,
    name: &str,
    words: Option<Zeroizing<String>>,
    no_backup: bool,
    dry_run: bool,
) -> Result<()> {
    keys.require_free(name)?;
    let fresh = words.is_none();
    let mnemonic = match words {
        Some(words) => parse_mnemonic(&words)?,
        None => new_mnemonic()?,
    };
    let key = if dry_run {
        Key::from_mnemonic(&mnemonic)?
    } else {
        keys.ring().add(name, &mnemonic)?
    };
    let mut record = json!({ "name": name, "type": "local", "address": key.address().to_string(), "pubkey": offline::shown(key.public_key()).to_string() });
    let shown = (fresh && !no_backup).then(|| Zeroizing::new(mnemonic.to_string()));
    match output {
        Output::Json => {
            if let Some(words) = &shown {
                record["mnemonic"] = words.as_str().into();
            }
            out(record);
        }
        Output::Text => {
            print(&record);
            if let Some(words) = &shown {
                // Not on standard output: scripts keep that.
                eprintln!(
                    "\n**Important** write this mnemonic phrase in a safe place.\nIt is the only way to recover your account if you ever forget \
                     your password.\n\n{}",
                    words.as_str()
                );
            }
        }
    }
    if keys.backend() == Backend::Test && !dry_run {
        eprintln!("\nwarning: the test keyring keeps keys in clear; use it on development networks only");
    }
    Ok(())
}

fn words_of_file(path: &Path) -> Result<Zeroizing<String>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    read_words(file).with_context(|| path.display().to_string())
}

/// Words from the terminal, without showing them, or from standard input.
pub(super) fn words_of_input() -> Result<Zeroizing<String>> {
    if std::io::stdin().is_terminal() {
        return Ok(tenure_client::passphrase::ask("Words: ")?);
    }
    read_words(std::io::stdin().lock()).context("standard input")
}

fn read_words(source: impl Read) -> Result<Zeroizing<String>> {
    let mut words = Zeroizing::new(String::new());
    source.take(MAX_WORDS).read_to_string(&mut words)?;
    Ok(words)
}

/// Asks unless told not to. Error: the answer is not yes, or there is no terminal to ask at.
pub(super) fn confirm(yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    ensure!(
        std::io::stdin().is_terminal(),
        "there is no terminal to ask at: pass --yes"
    );
    eprint!("{question}");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was changed");
    Ok(())
}

fn parse(text: &str, output: Output) -> Result<()> {
    let record = convert(text)?;
    match output {
        Output::Json => out(record),
        Output::Text => {
            for (key, value) in record.as_object().into_iter().flatten() {
                match value.as_array() {
                    None => out(format!("{key}: {}", value.as_str().unwrap_or_default())),
                    Some(all) => {
                        out(format!("{key}:"));
                        all.iter()
                            .for_each(|v| out(format!("- {}", v.as_str().unwrap_or_default())));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Every form of an address given in one of them.
pub(super) fn convert(text: &str) -> Result<Value> {
    let text = text.trim();
    if let Ok(bytes) = hex::decode(text) {
        let address = Address::from_slice(&bytes)
            .with_context(|| format!("{text:?} has {} bytes, an address has 20", bytes.len()))?;
        let formats: Vec<String> = [ACCOUNT_PREFIX, VALOPER_PREFIX, VALCONS_PREFIX]
            .iter()
            .map(|prefix| address.to_bech32(prefix))
            .collect();
        return Ok(json!({ "formats": formats }));
    }
    match bech32::decode(text) {
        Ok((prefix, bytes)) => Ok(json!({ "human": prefix.as_str(), "bytes": hex::encode_upper(bytes) })),
        Err(e) => bail!("{text:?} is neither hex nor bech32: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_goes_there_and_back() -> Result<()> {
        let forms = convert("0303030303030303030303030303030303030303")?;
        let account = Address::new([3; 20]).to_string();
        assert_eq!(forms["formats"][0], account);
        assert_eq!(
            convert(&account)?,
            json!({ "human": "tenure", "bytes": "03".repeat(20) })
        );
        for (bad, word) in [("0303", "2 bytes"), ("tenure1abc", "neither")] {
            assert!(convert(bad).expect_err(bad).to_string().contains(word), "{bad}");
        }
        Ok(())
    }
}
