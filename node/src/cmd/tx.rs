//! `tenured tx`: every message of the chain, signed by a key of the keyring, under simd's flags.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::{Arg, Args, Command};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{json, Value};
use tenure_client::tx::{adjusted_gas, fee, simulation, Draft, SignedTx, Signer};
use tenure_proto::cosmos::auth::v1beta1::{BaseAccount, QueryAccountRequest, QueryAccountResponse};
use tenure_proto::cosmos::tx::v1beta1::{SimulateRequest, SimulateResponse};
use tenure_proto::tenure::chain::v1::{ParamsRequest, ParamsResponse};
use tenure_proto::Any;
use tenure_types::{Coin, BASE_DENOM};

use super::keyring::{KeyringArgs, Keys};
use super::keys::confirm;
use super::query::{chain_of, json_of, node, print};
use super::typed::{Kind, Typed};
use super::{reflect, rpc};
use crate::client_config::{BroadcastMode, ClientConfig, Output};
use crate::home::Home;

mod offline;

/// The value of `broadcast`.
const FILE: &str = "file";
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
    /// Print the transaction without signing or sending it
    #[arg(long, global = true)]
    generate_only: bool,
    /// Sign without a node and print the transaction for `tenured tx broadcast`; needs --account-number, --sequence, --gas and a fee
    #[arg(long, global = true, conflicts_with_all = ["dry_run", "generate_only", "node"])]
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
  tenured tx bank send cold tenure1... 5ten --offline --account-number 12 --sequence 3 --chain-id tenure-1 --gas 200000 --fees 500uten -o json > tx.json
  tenured tx broadcast tx.json")]
pub(super) struct TxArgs {
    #[command(flatten)]
    send: SendArgs,
    #[command(subcommand)]
    command: Typed<Messages>,
}

/// Messages, and `broadcast` beside them.
pub(super) struct Messages;

impl Kind for Messages {
    const SERVICE: &'static str = "Msg";
    const SIGNED: bool = true;

    fn beside() -> Command {
        let file = Arg::new(FILE).value_name("FILE").required(true);
        Command::new("broadcast")
            .about("Sends a signed transaction that --offline has written")
            .arg(file.help("The transaction in JSON; - is standard input"))
    }
}

pub(super) fn run(home: &Home, config: &ClientConfig, args: TxArgs) -> Result<()> {
    let send = args.send;
    if let Some(values) = args.command.beside() {
        let file = values.get_one::<String>(FILE).context("which file?")?;
        let signed = offline::read(file)?;
        return broadcast(node(home, config, send.node.as_deref())?, &signed, 0, &send, config);
    }
    let (method, matches) = args.command.method()?;
    let mut values = reflect::values(matches);
    // simd's form: the key first.
    let from = match &send.from {
        Some(from) => from.clone(),
        None if values.is_empty() => bail!("which key signs? --from <key>, or the key's name as the first value"),
        None => values.remove(0),
    };
    let place = KeyringArgs {
        keyring_backend: send.keyring_backend,
        keyring_dir: send.keyring_dir.clone(),
    };
    let keys = Keys::open(home, config, &place);
    let signer = keys.address(&from)?.to_string();
    let descriptor = method.input();
    let message = reflect::message(&descriptor, matches, &values, Some(&signer))?;
    let output = send.output.unwrap_or(config.output);
    let any = Any {
        type_url: format!("/{}", descriptor.full_name()),
        value: message.encode_to_vec(),
    };
    if send.generate_only {
        return generate(&message, &any.type_url, &send, output);
    }
    if send.offline {
        let given = offline::Given::of(&send, config)?;
        let key = keys.load(&from)?;
        let signer = Signer::new(&key, given.sequence);
        let draft = Draft::new(
            vec![any],
            &send.note,
            send.timeout_height,
            &[signer],
            given.gas,
            given.fee,
        );
        let signature = draft.sign(&key, &given.chain_id, given.account_number);
        print(&offline::document(&draft.assemble(vec![signature]))?, output);
        return Ok(());
    }
    let address = node(home, config, send.node.as_deref())?;
    let chain = Chain::ask(address, &send, config, &signer)?;
    let key = keys.load(&from)?;
    let signed_by = Signer::new(&key, chain.sequence);
    let used = match send.gas.as_str() {
        "auto" => None,
        text => Some(
            text.parse::<u64>()
                .with_context(|| format!("--gas is {text:?}, must be auto or a number"))?,
        ),
    };
    let gas = match used {
        Some(gas) if !send.dry_run => gas,
        _ => {
            let bytes = simulation(vec![any.clone()], &send.note, std::slice::from_ref(&signed_by));
            let request = SimulateRequest {
                tx_bytes: bytes,
                ..Default::default()
            };
            let answer: SimulateResponse = chain.query("/cosmos.tx.v1beta1.Service/Simulate", &request)?;
            let used = answer.gas_info.unwrap_or_default().gas_used;
            adjusted_gas(used, percent(send.gas_adjustment)?)?
        }
    };
    if send.dry_run {
        eprintln!("gas estimate: {gas}");
        return Ok(());
    }
    let paid = payment_at(&send, chain.price_micro, gas)?;
    confirm(
        send.yes,
        &format!(
            "{}\nSign as {signer} for chain {}, fee {paid}{BASE_DENOM}, and send? [y/N] ",
            json_of(&message)?,
            chain.id
        ),
    )?;
    let draft = Draft::new(vec![any], &send.note, send.timeout_height, &[signed_by], gas, paid);
    let signature = draft.sign(&key, &chain.id, chain.account_number);
    let signed = draft.assemble(vec![signature]);
    broadcast(address, &signed, gas, &send, config)
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

/// What the chain says about the account and itself.
struct Chain {
    address: SocketAddr,
    id: String,
    account_number: u64,
    sequence: u64,
    price_micro: u64,
}

impl Chain {
    fn ask(address: SocketAddr, send: &SendArgs, config: &ClientConfig, signer: &str) -> Result<Self> {
        let found = chain_of(address, send.chain_id.as_deref(), config)?;
        let mut chain = Self {
            address,
            id: found,
            account_number: 0,
            sequence: 0,
            price_micro: 0,
        };
        let params: ParamsResponse = chain.query("/tenure.chain.v1.Query/Params", &ParamsRequest {})?;
        chain.price_micro = params.params.unwrap_or_default().min_gas_price_micro;
        (chain.account_number, chain.sequence) = match (send.account_number, send.sequence) {
            (Some(number), Some(sequence)) => (number, sequence),
            (number, sequence) => {
                let request = QueryAccountRequest {
                    address: signer.to_owned(),
                };
                let answer: QueryAccountResponse = chain
                    .query("/cosmos.auth.v1beta1.Query/Account", &request)
                    .with_context(|| format!("account {signer}: it must have received something before it can send"))?;
                let account = BaseAccount::decode(answer.account.unwrap_or_default().value.as_slice())?;
                (
                    number.unwrap_or(account.account_number),
                    sequence.unwrap_or(account.sequence),
                )
            }
        };
        Ok(chain)
    }

    fn query<Q: prost::Message, A: prost::Message + Default>(&self, path: &str, request: &Q) -> Result<A> {
        let (bytes, _) = rpc::query(self.address, path, &request.encode_to_vec(), 0)?;
        Ok(A::decode(bytes.as_slice())?)
    }
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

/// The fee in base units; `least` is the price where none is given, in millionths.
fn payment_at(send: &SendArgs, least: u64, gas: u64) -> Result<u128> {
    if let Some(fees) = &send.fees {
        ensure!(
            fees.denom == BASE_DENOM,
            "--fees is {fees}, must be in {BASE_DENOM} or ten"
        );
        return Ok(fees.amount.get());
    }
    let price = match &send.gas_prices {
        Some(text) => price_micro(text)?,
        None => least,
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

/// An unsigned transaction as simd prints it.
fn generate(message: &DynamicMessage, type_url: &str, send: &SendArgs, output: Output) -> Result<()> {
    let mut body = json_of(message)?;
    if let Some(map) = body.as_object_mut() {
        map.shift_insert(0, "@type".to_owned(), type_url.into());
    }
    let gas = if send.gas == "auto" { "0" } else { send.gas.as_str() };
    let fees: Vec<Value> = send
        .fees
        .iter()
        .map(|c| json!({ "denom": c.denom.to_string(), "amount": c.amount.to_string() }))
        .collect();
    let document = json!({
        "body": {
            "messages": [body], "memo": send.note, "timeout_height": send.timeout_height.to_string(),
            "extension_options": [], "non_critical_extension_options": [],
        },
        "auth_info": { "signer_infos": [], "fee": { "amount": fees, "gas_limit": gas, "payer": "", "granter": "" }, "tip": null },
        "signatures": [],
    });
    print(&document, output);
    Ok(())
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
