//! `tenured query`: every query of the chain, from the command line.

use anyhow::{ensure, Context, Result};
use clap::{Arg, Args, Command};
use prost::Message as _;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{json, Value};

use super::typed::{Kind, Typed};
use super::{out, reflect, rpc};
use crate::client_config::{ClientConfig, Output};
use crate::config::Env;
use crate::home::Home;

/// The value of `tx`.
const HASH: &str = "hash";

/// Where to ask, and how answers look.
#[derive(Args, Clone)]
pub(super) struct AskArgs {
    /// The node's JSON-RPC [default: the running node's, else node of client.toml]
    #[arg(short, long, global = true, value_name = "ADDR")]
    pub(super) node: Option<String>,
    /// The chain's id [default: chain-id of client.toml, else the node's]
    #[arg(long, global = true, value_name = "ID")]
    chain_id: Option<String>,
    /// Of the state at this height [default: the latest]
    #[arg(long, global = true, default_value_t = 0, hide_default_value = true)]
    height: u64,
    /// What is printed [default: output of client.toml]
    #[arg(short, long, global = true, value_enum)]
    pub(super) output: Option<Output>,
}

/// Queries, and `tx` beside them.
pub(super) struct Queries;

impl Kind for Queries {
    const SERVICE: &'static str = "Query";
    const SIGNED: bool = false;

    fn beside() -> Vec<Command> {
        let hash = Arg::new(HASH).required(true).value_name("HASH").help("64 hex digits");
        vec![Command::new("tx").about("A transaction in a block").arg(hash)]
    }
}

#[derive(Args)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    command: Typed<Queries>,
}

/// The JSON-RPC that a command asks.
pub(super) fn node(home: &Home, config: &ClientConfig, given: Option<&str>) -> Result<std::net::SocketAddr> {
    match (given, home.running()) {
        (Some(text), _) => rpc::address(text).context("--node"),
        (None, Some(run)) => Ok(run.rpc),
        (None, None) => rpc::address(&config.node).context("node in client.toml"),
    }
}

pub(super) fn run(home: &Home, _env: &Env, config: &ClientConfig, args: QueryArgs) -> Result<()> {
    let address = node(home, config, args.ask.node.as_deref())?;
    let answer = if let Some((_, values)) = args.command.beside() {
        let hash = values.get_one::<String>(HASH).context("which transaction?")?;
        transaction(address, hash)?
    } else {
        let (method, matches) = args.command.method()?;
        let request = reflect::message(&method.input(), matches, &reflect::values(matches), None)?;
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        // Asked first, so that neither a silent node nor one of another chain is taken for an answer.
        chain_of(address, args.ask.chain_id.as_deref(), config)?;
        let (bytes, _) = rpc::query(address, &path, &request.encode_to_vec(), args.ask.height)?;
        json_of(&DynamicMessage::decode(method.output(), bytes.as_slice())?)?
    };
    print(&answer, args.ask.output.unwrap_or(config.output));
    Ok(())
}

/// The chain of the node at an address. Error: it does not answer, or is of another chain than the flag or `client.toml` say.
pub(super) fn chain_of(address: std::net::SocketAddr, given: Option<&str>, config: &ClientConfig) -> Result<String> {
    let status = rpc::status(address)
        .with_context(|| format!("the node at {address} does not answer; is it running? --node names another"))?;
    let found = status["node_info"]["network"].as_str().unwrap_or_default();
    let wanted = given.unwrap_or(&config.chain_id);
    ensure!(
        wanted.is_empty() || wanted == found,
        "the node at {address} is of chain {found:?}, {wanted:?} is wanted: --node or --chain-id is wrong"
    );
    Ok(found.to_owned())
}

/// A message as Cosmos prints it: names of the .proto, 64-bit numbers as strings, every field there.
pub(super) fn json_of(message: &DynamicMessage) -> Result<Value> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(true);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// A transaction by hash, as the node has it.
pub(super) fn transaction(address: std::net::SocketAddr, hash: &str) -> Result<Value> {
    use base64::engine::general_purpose::STANDARD as BASE64;
    use base64::Engine as _;
    let bytes = hex::decode(hash).ok().filter(|b| b.len() == 32);
    let bytes = bytes.with_context(|| format!("{hash:?} is not a transaction's hash: 64 hex digits"))?;
    rpc::call(address, "tx", &json!({ "hash": BASE64.encode(bytes), "prove": false }))
}

/// JSON, or the same as YAML, as simd prints it.
pub(super) fn print(value: &Value, output: Output) {
    match output {
        Output::Json => out(value),
        Output::Text => {
            let mut text = String::new();
            yaml(value, 0, &mut text);
            out(text.trim_end());
        }
    }
}

fn yaml(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                text.push_str(&format!("{indent}{key}:"));
                nested(inner, depth + 1, text);
            }
        }
        Value::Array(all) if !all.is_empty() => {
            for inner in all {
                let mut block = String::new();
                yaml(inner, depth + 1, &mut block);
                // The first line of an entry stands behind its dash.
                text.push_str(&format!("{indent}- {}", block.trim_start()));
            }
        }
        scalar => text.push_str(&format!("{indent}{}\n", plain(scalar))),
    }
}

fn nested(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            yaml(value, depth, text);
        }
        Value::Array(all) if !all.is_empty() => {
            text.push('\n');
            yaml(value, depth - 1, text);
        }
        scalar => text.push_str(&format!(" {}\n", plain(scalar))),
    }
}

/// A scalar; text that YAML would read as something else is quoted.
fn plain(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let odd = text.is_empty()
        || text.parse::<f64>().is_ok()
        || matches!(text.as_str(), "true" | "false" | "null" | "yes" | "no" | "~")
        || text.starts_with(|c: char| !(c.is_alphanumeric() || c == '/' || c == '.'))
        || text.contains([':', '#', '\n', '"', '\''])
        || text.ends_with(' ');
    if odd {
        value.to_string()
    } else {
        text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_yaml_that_says_the_same() {
        let value = json!({
            "balances": [{ "denom": "uten", "amount": "7" }, { "denom": "x", "amount": "8" }],
            "pagination": { "next_key": null, "total": "0" },
            "empty": [],
            "deep": [[1, 2], ["a: b"]],
        });
        let mut text = String::new();
        yaml(&value, 0, &mut text);
        assert_eq!(
            text,
            "balances:\n- denom: uten\n  amount: \"7\"\n- denom: x\n  amount: \"8\"\npagination:\n  next_key: null\n  total: \"0\"\nempty: \
             []\ndeep:\n- - 1\n  - 2\n- - \"a: b\"\n"
        );
    }
}
