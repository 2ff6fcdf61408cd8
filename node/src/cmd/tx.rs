//! `tenured tx`: every message of the chain, signed by a key of the keyring, under simd's flags.

use anyhow::{bail, ensure, Context, Result};
use clap::{ArgMatches, Args, Command};
use prost::Message as _;
use prost_reflect::MethodDescriptor;
use tenure_client::tx::{fee, Draft, SignedTx};
use tenure_proto::cosmos::tx::v1beta1::Tx;
use tenure_proto::Any;
use tenure_types::{Address, Coin, BASE_DENOM};

use super::keyring::{KeyringArgs, Keys};
use super::keys::confirm;
use super::query::node;
use super::typed::{Kind, Typed};
use super::{out, reflect};
use crate::client_config::{ClientConfig, Output};
use crate::home::Home;
use broadcast::{broadcast, Mode};
use chain::Chain;
use offline::{Cost, Signing};

mod broadcast;
mod chain;
mod file;
mod multi_send;
mod offline;
mod sign;
mod steps;

/// The value of `--gas` that asks for a simulation.
const AUTO: &str = "auto";

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
    /// When it is done [default: broadcast-mode of client.toml]
    #[arg(short, long, global = true, value_enum)]
    broadcast_mode: Option<Mode>,
    /// How it is signed [default: direct if one signs, amino-json if several do]
    #[arg(long, global = true, value_enum, value_name = "MODE")]
    sign_mode: Option<sign::Mode>,
    /// Another account that pays the fee, and signs too: an address or a key's name
    #[arg(long, global = true, value_name = "KEY")]
    fee_payer: Option<String>,
    /// Not on this chain, which has no fee grants: see --fee-payer
    #[arg(long, global = true, value_name = "KEY")]
    fee_granter: Option<String>,
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
The first value names the key; it may be left out where --from names it. The others are the message's fields in their order, or flags.
The Cosmos SDK removed -b block in 0.50 for -b sync and then `tenured query wait-tx`. Both work here.

Examples:
  tenured tx bank send validator tenure1... 5ten --keyring-backend test -y
  tenured tx bank send tenure1... 5ten --from validator --gas auto --fees 500uten -b block
  tenured tx bank send validator tenure1... 5ten -b sync -y | tenured query wait-tx
  tenured tx bank multi-send validator tenure1... tenure1... 5ten -y
  tenured tx bank send me tenure1... 5ten --sign-mode amino-json --note rent --timeout-height 12000 -b async -y
  tenured tx bank send me tenure1... 5ten --fee-payer tenure1... --generate-only > tx.json
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

    fn own(method: &MethodDescriptor) -> Option<Command> {
        multi_send::is(method).then(multi_send::command)
    }
}

pub(super) fn run(home: &Home, config: &ClientConfig, args: TxArgs) -> Result<()> {
    let send = args.send;
    if let Some((name, values)) = args.command.beside() {
        return steps::run(home, config, &send, name, values);
    }
    let (method, matches) = args.command.method()?;
    let keys = keyring(home, config, &send);
    let (from, any) = message(&keys, &send, &method, matches)?;
    let signer = keys.address(&from)?;
    let payer = payer(&keys, &send)?;
    let unsigned = |cost: &Cost| -> Result<Tx> {
        let draft = Draft::new(
            vec![any.clone()],
            &send.note,
            send.timeout_height,
            &[],
            cost.gas,
            cost.fee,
        );
        let mut tx = Tx::decode(draft.assemble(Vec::new()).bytes.as_slice())?;
        let fee = tx.auth_info.get_or_insert_default().fee.get_or_insert_default();
        fee.payer = payer.map(|payer| payer.to_string()).unwrap_or_default();
        Ok(tx)
    };
    let request = chain::Request {
        messages: vec![any.clone()],
        memo: send.note.clone(),
        payer,
    };
    let signers = request.signers()?;
    ensure!(
        send.generate_only || send.dry_run || signers == [signer],
        "{} must be signed by {}: write it with --generate-only, then each signs the file with `tenured tx sign`",
        method.input().name(),
        names(&signers)
    );
    if send.generate_only {
        let cost = match Cost::of(&send) {
            // Told everything, it asks nobody.
            Ok(cost) => cost,
            Err(missing) if send.offline => return Err(missing),
            Err(_) => {
                let chain = Chain::of(node(home, config, send.node.as_deref())?, &send, config)?;
                chain.cost(&send, &request, &signer)?
            }
        };
        out(file::document(&file::encoded(&unsigned(&cost)?))?);
        return Ok(());
    }
    let sign = |cost: &Cost, signing: &Signing| -> Result<SignedTx> {
        let signed = sign::add(unsigned(cost)?, &keys.load(&from)?, send.sign_mode, signing, false)?;
        Ok(SignedTx::from_bytes(file::encoded(&signed)))
    };
    if send.offline {
        let (signing, cost) = offline::given(&send, config)?;
        out(file::document(&sign(&cost, &signing)?.bytes)?);
        return Ok(());
    }
    if !send.dry_run {
        // Before anybody is asked anything.
        keys.signing(&from)?;
    }
    let address = node(home, config, send.node.as_deref())?;
    let chain = Chain::of(address, &send, config)?;
    if send.dry_run {
        eprintln!("gas estimate: {}", chain.gas(&send, &request, &signer)?);
        return Ok(());
    }
    let signing = chain.signing(&send, &signer)?;
    let cost = chain.cost(&send, &request, &signer)?;
    let unsigned = file::document(&file::encoded(&unsigned(&cost)?))?;
    confirm(
        send.yes,
        &format!(
            "{}\nSign as {signer} for chain {}, fee {}{BASE_DENOM}, and send? [y/N] ",
            unsigned["body"]["messages"][0], chain.id, cost.fee
        ),
    )?;
    broadcast(address, &sign(&cost, &signing)?, cost.gas, &send, config)
}

/// The key that signs, as it was typed, and the message. Error: says which value is wrong.
fn message(keys: &Keys, send: &SendArgs, method: &MethodDescriptor, matches: &ArgMatches) -> Result<(String, Any)> {
    let (descriptor, mut values) = (method.input(), reflect::values(matches));
    // The Cosmos SDK's form is the key first, --from or not.
    let first_is_key =
        send.from.is_none() || multi_send::is(method) || values.len() > reflect::room(&descriptor, matches);
    let first = if first_is_key && !values.is_empty() {
        Some(values.remove(0))
    } else {
        None
    };
    let from = match (first, &send.from) {
        (None, None) => bail!("which key signs? --from <key>, or the key's name as the first value"),
        (Some(first), None) => first,
        (None, Some(from)) => from.clone(),
        (Some(first), Some(from)) => {
            let same = keys
                .address(&first)
                .is_ok_and(|owner| keys.address(from).is_ok_and(|other| owner == other));
            ensure!(
                same,
                "the first value, {first:?}, stands where the signing key does, and --from is {from:?}: give one of them, or the same key in both. {}",
                reflect::order(&descriptor)
            );
            from.clone()
        }
    };
    let signer = keys.address(&from)?;
    if multi_send::is(method) {
        return Ok((
            from,
            tenure_proto::any(&multi_send::message(&signer, &values, matches)?),
        ));
    }
    let message = reflect::message(&descriptor, matches, &values, Some(&signer.to_string()))?;
    let any = Any {
        type_url: format!("/{}", descriptor.full_name()),
        value: message.encode_to_vec(),
    };
    Ok((from, any))
}

/// Who pays the fee instead of the first signer.
fn payer(keys: &Keys, send: &SendArgs) -> Result<Option<Address>> {
    if let Some(granter) = &send.fee_granter {
        bail!(
            "--fee-granter is {granter:?}, and this chain has no fee grants: --fee-payer {granter} lets that account pay, and it signs the \
             transaction too"
        );
    }
    send.fee_payer
        .as_deref()
        .map(|payer| keys.address(payer).context("--fee-payer"))
        .transpose()
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
