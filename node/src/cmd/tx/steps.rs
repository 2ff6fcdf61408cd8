//! The steps of a transaction, each a command on a file, so that they can be taken on machines that do not meet: `simulate`, `sign`,
//! `validate-signatures`, `encode`, `decode`, `broadcast`.

use std::path::Path;

use anyhow::{ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::chain::{Chain, Request};
use super::offline::Signing;
use super::{broadcast, file, keyring, sign, SendArgs};
use crate::client_config::ClientConfig;
use crate::cmd::out;
use crate::cmd::query::{node, print, shown};
use crate::files;
use crate::home::Home;

const BROADCAST: &str = "broadcast";
const SIGN: &str = "sign";
const ENCODE: &str = "encode";
const DECODE: &str = "decode";
const SIMULATE: &str = "simulate";
const VALIDATE: &str = "validate-signatures";
const FILE: &str = "file";
const BYTES: &str = "bytes";
const HEX: &str = "hex";
const OVERWRITE: &str = "overwrite";
const OUTPUT_DOCUMENT: &str = "output-document";
/// The message that a simulation answers.
const SIMULATED: &str = "cosmos.tx.v1beta1.SimulateResponse";

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
        .arg(file.clone())
        .after_help(
            "\
A transaction that the node has already is not sent again: that is said, its code is 19 then, and the exit code 0.

Examples:
  tenured tx broadcast signed.json
  tenured tx broadcast signed.json -b block -o json",
        );
    let simulate = Command::new(SIMULATE)
        .about("Executes a transaction in a file without a trace: prints its gas, events and answers")
        .arg(file.clone())
        .after_help("Examples:\n  tenured tx simulate tx.json --from me\n  tenured tx simulate tx.json -o json | jq -r .gas_info.gas_used");
    let validate = Command::new(VALIDATE)
        .about("Says who must sign a transaction in a file, who has, and whether the signatures are valid")
        .arg(file)
        .after_help(
            "\
Exit code 1 if a signature is missing or wrong. With --offline no account is asked for, and only whose signatures they are is looked at.

Examples:
  tenured tx validate-signatures signed.json
  tenured tx validate-signatures signed.json --offline",
        );
    vec![broadcast, sign, encode, decode, simulate, validate]
}

/// Runs one of [`commands`].
pub(super) fn run(home: &Home, config: &ClientConfig, send: &SendArgs, name: &str, values: &ArgMatches) -> Result<()> {
    let value = |name: &str| values.get_one::<String>(name).context("it is missing");
    match name {
        SIGN => return sign_file(home, config, send, value(FILE)?, values),
        ENCODE => out(BASE64.encode(file::encoded(&file::read(value(FILE)?)?))),
        DECODE => out(file::document(&file::bytes(value(BYTES)?, values.get_flag(HEX))?)?),
        SIMULATE => return simulate_file(home, config, send, value(FILE)?),
        VALIDATE => return validate_signatures(home, config, send, value(FILE)?),
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
    let signed = sign::add(
        tx,
        &keys.load(from)?,
        send.sign_mode,
        &signing,
        values.get_flag(OVERWRITE),
    )?;
    let document = file::document(&file::encoded(&signed))?;
    match values.get_one::<String>(OUTPUT_DOCUMENT) {
        Some(path) => files::replace(Path::new(path), format!("{document}\n").as_bytes()),
        None => {
            out(document);
            Ok(())
        }
    }
}

fn simulate_file(home: &Home, config: &ClientConfig, send: &SendArgs, file: &str) -> Result<()> {
    let tx = file::read(file)?;
    let body = tx.body.clone().unwrap_or_default();
    let request = Request {
        messages: body.messages,
        memo: body.memo,
        payer: sign::payer(&tx)?,
    };
    let signers = request.signers()?;
    let own = match &send.from {
        Some(from) => keyring(home, config, send).address(from)?,
        None => *signers.first().with_context(|| format!("{file} has no message"))?,
    };
    sign::place(&signers, &own)?;
    let chain = Chain::of(node(home, config, send.node.as_deref())?, send, config)?;
    let response = chain.simulate(send, &request, &own)?;
    print(&shown(SIMULATED, &response)?, send.output.unwrap_or(config.output));
    Ok(())
}

/// In the Cosmos SDK's lines, which scripts read.
fn validate_signatures(home: &Home, config: &ClientConfig, send: &SendArgs, file: &str) -> Result<()> {
    let tx = file::read(file)?;
    let signers = sign::signers(&tx).with_context(|| file.to_owned())?;
    ensure!(!signers.is_empty(), "{file} has no message, so nobody must sign it");
    let chain = if send.offline {
        None
    } else {
        Some(Chain::of(node(home, config, send.node.as_deref())?, send, config)?)
    };
    out("Signers:");
    for (place, signer) in signers.iter().enumerate() {
        out(format!("  {place}: {signer}"));
    }
    out("\nSignatures:");
    let mut valid = tx.signatures.len() <= signers.len();
    for (place, signer) in signers.iter().enumerate() {
        let signing = chain.as_ref().map(|chain| chain.signing(send, signer)).transpose()?;
        let fault = sign::fault(&tx, place, signer, signing.as_ref())?;
        valid &= fault.is_none();
        let verdict = fault.map_or_else(|| "OK".to_owned(), |fault| format!("ERROR: {fault}"));
        out(format!("  {place}: {signer}\t\t\t[{verdict}]"));
    }
    out("");
    ensure!(
        valid,
        "signatures validation failed: {} of {} signatures are there; `tenured tx sign {file} --from <key>` adds one, --overwrite replaces one",
        tx.signatures.iter().filter(|signature| !signature.is_empty()).count(),
        signers.len()
    );
    Ok(())
}
