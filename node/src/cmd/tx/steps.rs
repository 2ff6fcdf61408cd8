//! The steps of a transaction, each a command on a file, so that they can be taken on machines that do not meet: `sign`, `encode`, `decode`, `broadcast`.

use std::path::Path;

use anyhow::{Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::chain::Chain;
use super::offline::Signing;
use super::{broadcast, file, keyring, sign, SendArgs};
use crate::client_config::ClientConfig;
use crate::cmd::out;
use crate::cmd::query::node;
use crate::files;
use crate::home::Home;

const BROADCAST: &str = "broadcast";
const SIGN: &str = "sign";
const ENCODE: &str = "encode";
const DECODE: &str = "decode";
const FILE: &str = "file";
const BYTES: &str = "bytes";
const HEX: &str = "hex";
const SIGN_MODE: &str = "sign-mode";
const OVERWRITE: &str = "overwrite";
const OUTPUT_DOCUMENT: &str = "output-document";

/// The commands as they are typed.
pub(super) fn commands() -> Vec<Command> {
    let file = Arg::new(FILE)
        .value_name("FILE")
        .required(true)
        .help("The transaction in JSON; - is standard input");
    let sign = Command::new(SIGN)
        .about("Adds a signature to a transaction that --generate-only has written")
        .arg(file.clone())
        .arg(
            Arg::new(SIGN_MODE)
                .long(SIGN_MODE)
                .value_name("MODE")
                .value_parser(clap::value_parser!(sign::Mode))
                .help("How [default: direct if one signs, amino-json if several do]"),
        )
        .arg(
            Arg::new(OVERWRITE)
                .long(OVERWRITE)
                .action(ArgAction::SetTrue)
                .help("Sign again what this key has signed"),
        )
        .arg(
            Arg::new(OUTPUT_DOCUMENT)
                .long(OUTPUT_DOCUMENT)
                .value_name("FILE")
                .help("Where the signed transaction is written [default: standard output]"),
        )
        .after_help(
            "\
Several signers sign one after another, in any order: each the file of the one before.

Examples:
  tenured tx sign tx.json --from me > signed.json
  tenured tx sign tx.json --from cold --offline --account-number 12 --sequence 3 --chain-id tenure-1 --output-document signed.json",
        );
    let encode = Command::new(ENCODE)
        .about("Prints the bytes of a transaction in a file as base64")
        .arg(file.clone())
        .after_help("Examples:\n  tenured tx encode signed.json");
    let decode = Command::new(DECODE)
        .about("Prints the transaction that these bytes are as JSON")
        .arg(
            Arg::new(BYTES)
                .value_name("BASE64")
                .required(true)
                .help("The transaction's bytes; - is standard input"),
        )
        .arg(
            Arg::new(HEX)
                .long(HEX)
                .short('x')
                .action(ArgAction::SetTrue)
                .help("The bytes are hex digits"),
        )
        .after_help(
            "Examples:\n  tenured tx decode CpIBCo8BCh...\n  tenured tx encode signed.json | tenured tx decode -",
        );
    let broadcast = Command::new(BROADCAST)
        .about("Sends a transaction that --offline or `tx sign` has written")
        .arg(file);
    vec![broadcast, sign, encode, decode]
}

/// Runs one of [`commands`].
pub(super) fn run(home: &Home, config: &ClientConfig, send: &SendArgs, name: &str, values: &ArgMatches) -> Result<()> {
    let value = |name: &str| values.get_one::<String>(name).context("it is missing");
    match name {
        SIGN => return sign_file(home, config, send, value(FILE)?, values),
        ENCODE => out(BASE64.encode(file::encoded(&file::read(value(FILE)?)?))),
        DECODE => out(file::document(&file::bytes(value(BYTES)?, values.get_flag(HEX))?)?),
        _ => {
            let (signed, gas) = file::read_signed(value(FILE)?)?;
            return broadcast(node(home, config, send.node.as_deref())?, &signed, gas, send, config);
        }
    }
    Ok(())
}

fn sign_file(home: &Home, config: &ClientConfig, send: &SendArgs, file: &str, values: &ArgMatches) -> Result<()> {
    let from = send.from.as_deref().context("which key signs? --from <key>")?;
    let keys = keyring(home, config, send);
    let tx = file::read(file)?;
    let signer = keys.address(from)?;
    // Before a node is asked for an account that does not matter.
    sign::place(&sign::signers(&tx)?, &signer)?;
    let signing = if send.offline {
        Signing::of(send, config)?
    } else {
        Chain::of(node(home, config, send.node.as_deref())?, send, config)?.signing(send, &signer)?
    };
    let mode = values.get_one::<sign::Mode>(SIGN_MODE).copied();
    let signed = sign::add(tx, &keys.load(from)?, mode, &signing, values.get_flag(OVERWRITE))?;
    let document = file::document(&file::encoded(&signed))?;
    match values.get_one::<String>(OUTPUT_DOCUMENT) {
        Some(path) => files::replace(Path::new(path), format!("{document}\n").as_bytes()),
        None => {
            out(document);
            Ok(())
        }
    }
}
