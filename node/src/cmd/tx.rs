//! `tenured tx`: every message of the chain, signed by a key of the keyring, under simd's flags.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::{Args, Command};
use prost::Message as _;
use serde_json::{json, Value};
use tenure_client::tx::{fee, Draft, SignedTx, Signer};
use tenure_proto::Any;
use tenure_types::{Address, Coin, BASE_DENOM};

use super::keyring::{KeyringArgs, Keys};
use super::keys::confirm;
use super::query::{json_of, node, print};
use super::typed::{Kind, Typed};
use super::{out, reflect, rpc};
use crate::application::message_signers;
use crate::client_config::{BroadcastMode, ClientConfig, Output};
use crate::home::Home;
use chain::Chain;
use offline::{Cost, Signing};

mod chain;
mod file;
mod offline;
mod sign;
mod steps;

/// The value of `--gas` that asks for a simulation.
const AUTO: &str = "auto";
/// How long a block is waited for.
const INCLUSION: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(250);

/// How a transaction is made and sent. Names are simd's.
#[derive(Args, Clone)]
pub(super) struct SendArgs {
    /// Key that signs: a name or an address
    #[arg(long, global = true, value_name = "KEY")]
    from: Option<String>,
    /// Most gas, or auto to simulate first
    #[arg(long, global = true, default_value = "auto", value_name = "GAS")]
    gas: String,
    /// What simulated gas is multiplied with
    #[arg(long, global = true, default_value = "1.3", value_name = "FACTOR")]
    gas_adjustment: f64,
    /// Price of gas, for example 0.025uten [default: the chain's least]
    #[arg(long, global = true, value_name = "PRICE", conflicts_with = "fees")]
    gas_prices: Option<String>,
    /// What is paid in all, for example 500uten
    #[arg(long, global = true, value_name = "COIN")]
    fees: Option<Coin>,
    /// A note in the transaction
    #[arg(long, global = true, default_value = "", visible_alias = "memo", value_name = "TEXT")]
    note: String,
    /// Not valid above this height
    #[arg(long, global = true, default_value_t = 0, hide_default_value = true)]
    timeout_height: u64,
    /// Sign with this account number instead of asking
    #[arg(long, global = true, value_name = "N")]
    account_number: Option<u64>,
    /// Sign with this sequence instead of asking
    #[arg(long, global = true, value_name = "N")]
    sequence: Option<u64>,
    /// Print the transaction for `tenured tx sign`, neither sign nor send it
    #[arg(long, global = true, conflicts_with = "dry_run")]
    generate_only: bool,
    /// Ask no node: sign and print the transaction for `tenured tx broadcast`; needs --account-number, --sequence, --chain-id, --gas and a fee
    #[arg(long, global = true, conflicts_with_all = ["dry_run", "node"])]
    offline: bool,
    /// Simulate, print the gas, send nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// When it is done: sync (the node has checked it) or block (a block has executed it) [default: broadcast-mode of client.toml]
    #[arg(short, long, global = true, value_enum)]
    broadcast_mode: Option<BroadcastMode>,
    /// The chain's id [default: chain-id of client.toml, else the node's]
    #[arg(long, global = true, value_name = "ID")]
    chain_id: Option<String>,
    /// Do not ask
    #[arg(short, long, global = true)]
    yes: bool,
    /// The node's JSON-RPC [default: the running node's, else node of client.toml]
    #[arg(long, global = true, value_name = "ADDR")]
    node: Option<String>,
    /// What is printed [default: output of client.toml]
    #[arg(short, long, global = true, value_enum)]
    output: Option<Output>,
    /// How keys are stored: file or test [default: keyring-backend of client.toml]
    #[arg(long, global = true, value_name = "BACKEND")]
    keyring_backend: Option<tenure_client::keyring::Backend>,
    /// Directory that holds the keyring [default: the home]
    #[arg(long, global = true, value_name = "DIR")]
    keyring_dir: Option<std::path::PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
The first value names the key unless --from does; the others are the message's fields in their order, or flags.

Examples:
  tenured tx bank send validator tenure1... 5ten --keyring-backend test -y
  tenured tx bank send tenure1... 5ten --from validator --gas auto --fees 500uten -b block
  tenured tx market cancel-bid --from me --bid-id 7 --dry-run
  tenured tx bank send cold tenure1... 5ten --offline --account-number 12 --sequence 3 --chain-id tenure-1 --gas 200000 --fees 500uten > tx.json
  tenured tx broadcast tx.json
In three steps, on three machines if need be; files are JSON whatever --output says:
  tenured tx bank send tenure1... tenure1... 5ten --from tenure1... --generate-only > tx.json
  tenured tx sign tx.json --from cold --offline --account-number 12 --sequence 3 --chain-id tenure-1 --output-document signed.json
  tenured tx broadcast signed.json -b block")]
pub(super) struct TxArgs {
    #[command(flatten)]
    send: SendArgs,
    #[command(subcommand)]
    command: Typed<Messages>,
}

/// Messages, and what is done to transactions in files beside them.
pub(super) struct Messages;

impl Kind for Messages {
    const SERVICE: &'static str = "Msg";
    const SIGNED: bool = true;

    fn beside() -> Vec<Command> {
        steps::commands()
    }
}

pub(super) fn run(home: &Home, config: &ClientConfig, args: TxArgs) -> Result<()> {
    let send = args.send;
    if let Some((name, values)) = args.command.beside() {
        return steps::run(home, config, &send, name, values);
    }
    let (method, matches) = args.command.method()?;
    let mut values = reflect::values(matches);
    // simd's form: the key first.
    let from = match &send.from {
        Some(from) => from.clone(),
        None if values.is_empty() => bail!("which key signs? --from <key>, or the key's name as the first value"),
        None => values.remove(0),
    };
    let keys = keyring(home, config, &send);
    let signer = keys.address(&from)?;
    let descriptor = method.input();
    let message = reflect::message(&descriptor, matches, &values, Some(&signer.to_string()))?;
    let any = Any {
        type_url: format!("/{}", descriptor.full_name()),
        value: message.encode_to_vec(),
    };
    let draft = |signers: &[Signer], cost: &Cost| {
        Draft::new(
            vec![any.clone()],
            &send.note,
            send.timeout_height,
            signers,
            cost.gas,
            cost.fee,
        )
    };
    let signers = message_signers(&any)?;
    ensure!(
        send.generate_only || send.dry_run || signers == [signer],
        "{} must be signed by {}: write it with --generate-only, then each signs the file with `tenured tx sign`",
        descriptor.name(),
        names(&signers)
    );
    if send.generate_only {
        let cost = match Cost::of(&send) {
            // Told everything, it asks nobody.
            Ok(cost) => cost,
            Err(missing) if send.offline => return Err(missing),
            Err(_) => {
                let chain = Chain::of(node(home, config, send.node.as_deref())?, &send, config)?;
                chain.cost(&send, &any, &signers, &chain.signing(&send, &signer)?)?
            }
        };
        out(file::document(&draft(&[], &cost).assemble(Vec::new()).bytes)?);
        return Ok(());
    }
    let sign = |cost: &Cost, signing: &Signing| -> Result<SignedTx> {
        let key = keys.load(&from)?;
        let draft = draft(&[Signer::new(&key, signing.sequence)], cost);
        let signature = draft.sign(&key, &signing.chain_id, signing.account_number);
        Ok(draft.assemble(vec![signature]))
    };
    if send.offline {
        let (signing, cost) = offline::given(&send, config)?;
        out(file::document(&sign(&cost, &signing)?.bytes)?);
        return Ok(());
    }
    let address = node(home, config, send.node.as_deref())?;
    let chain = Chain::of(address, &send, config)?;
    let signing = chain.signing(&send, &signer)?;
    if send.dry_run {
        eprintln!("gas estimate: {}", chain.gas(&send, &any, &signers, &signing)?);
        return Ok(());
    }
    let cost = chain.cost(&send, &any, &signers, &signing)?;
    confirm(
        send.yes,
        &format!(
            "{}\nSign as {signer} for chain {}, fee {}{BASE_DENOM}, and send? [y/N] ",
            json_of(&message)?,
            chain.id,
            cost.fee
        ),
    )?;
    broadcast(address, &sign(&cost, &signing)?, cost.gas, &send, config)
}

fn keyring(home: &Home, config: &ClientConfig, send: &SendArgs) -> Keys {
    let place = KeyringArgs {
        keyring_backend: send.keyring_backend,
        keyring_dir: send.keyring_dir.clone(),
    };
    Keys::open(home, config, &place)
}

/// Addresses for people.
fn names(addresses: &[Address]) -> String {
    let names: Vec<String> = addresses.iter().map(Address::to_string).collect();
    names.join(" and ")
}

/// Sends a signed transaction and prints what became of it. Error: the chain refused it, here or in the block.
fn broadcast(address: SocketAddr, signed: &SignedTx, gas: u64, send: &SendArgs, config: &ClientConfig) -> Result<()> {
    let checked = rpc::call(
        address,
        "broadcast_tx_sync",
        &json!({ "tx": BASE64.encode(&signed.bytes) }),
    )?;
    let code = checked["code"].as_u64().unwrap_or(0);
    let mut record = json!({
        "height": "0", "txhash": signed.hash, "codespace": checked["codespace"], "code": code,
        "raw_log": checked["log"], "gas_wanted": gas.to_string(), "gas_used": "0",
    });
    if code == 0 && send.broadcast_mode.unwrap_or(config.broadcast_mode) == BroadcastMode::Block {
        record = included(address, &signed.hash)?;
    }
    print(&record, send.output.unwrap_or(config.output));
    let code = record["code"].as_u64().unwrap_or(0);
    ensure!(
        code == 0,
        "the chain refused it with code {code}: {}",
        record["raw_log"].as_str().unwrap_or_default()
    );
    Ok(())
}

/// Hundredths.
fn percent(factor: f64) -> Result<u64> {
    ensure!(
        (1.0..=100.0).contains(&factor),
        "--gas-adjustment is {factor}, must be 1 to 100"
    );
    // In range by the check above.
    Ok((factor * 100.0).ceil() as u64)
}

fn gas_limit(text: &str) -> Result<u64> {
    text.parse()
        .with_context(|| format!("--gas is {text:?}, must be {AUTO} or a number"))
}

/// The fee in base units; `least` says the price where none is given, in millionths.
fn payment(send: &SendArgs, gas: u64, least: impl FnOnce() -> Result<u64>) -> Result<u128> {
    if let Some(fees) = &send.fees {
        ensure!(
            fees.denom == BASE_DENOM,
            "--fees is {fees}, must be in {BASE_DENOM} or ten"
        );
        return Ok(fees.amount.get());
    }
    let price = match &send.gas_prices {
        Some(text) => price_micro(text)?,
        None => least()?,
    };
    Ok(fee(gas, price))
}

/// A price like `0.025uten` in millionths.
fn price_micro(text: &str) -> Result<u64> {
    let bad =
        || format!("--gas-prices is {text:?}, must be like 0.025{BASE_DENOM}, with at most 6 digits after the point");
    let number = text.strip_suffix(BASE_DENOM).with_context(bad)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    ensure!(digits && !whole.is_empty() && fraction.len() <= 6, bad());
    format!("{whole}{fraction:0<6}").parse().with_context(bad)
}

/// Waits for the transaction's block.
fn included(address: SocketAddr, hash: &str) -> Result<Value> {
    let begun = Instant::now();
    loop {
        // Until it is in a block the node does not know it.
        if let Ok(found) = super::query::transaction(address, hash) {
            let result = &found["tx_result"];
            return Ok(json!({
                "height": found["height"], "txhash": hash, "codespace": result["codespace"],
                "code": result["code"], "raw_log": result["log"], "gas_wanted": result["gas_wanted"],
                "gas_used": result["gas_used"], "events": result["events"],
            }));
        }
        ensure!(
            begun.elapsed() < INCLUSION,
            "transaction {hash} was accepted and is in no block after {} s; look again with `tenured query tx {hash}`",
            INCLUSION.as_secs()
        );
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_exactly() -> Result<()> {
        assert_eq!(price_micro("0.025uten")?, 25_000);
        assert_eq!(price_micro("3uten")?, 3_000_000);
        for bad in ["0.025", "uten", "0.0000001uten", "-1uten", ".5uten"] {
            assert!(price_micro(bad).is_err(), "{bad}");
        }
        assert_eq!(percent(1.3)?, 130);
        assert!(percent(0.5).is_err());
        Ok(())
    }
}
