//! `tenured query`: every query of the chain, from the command line.

use std::net::SocketAddr;

use anyhow::{ensure, Context, Result};
use clap::{Args, Command};
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::Value;

use super::typed::{Kind, Typed};
use super::{out, reflect, rpc};
use crate::client_config::{ClientConfig, Output};
use crate::config::Env;
use crate::home::Home;

pub(super) mod blocks;
pub(super) mod transactions;

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

/// Queries of modules, and those of transactions and blocks beside them.
pub(super) struct Queries;

impl Kind for Queries {
    const SERVICE: &'static str = "Query";
    const SIGNED: bool = false;

    fn beside() -> Vec<Command> {
        [transactions::commands(), blocks::commands()].concat()
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
pub(super) fn node(home: &Home, config: &ClientConfig, given: Option<&str>) -> Result<SocketAddr> {
    match (given, home.running()) {
        (Some(text), _) => rpc::address(text).context("--node"),
        (None, Some(run)) => Ok(run.rpc),
        (None, None) => rpc::address(&config.node).context("node in client.toml"),
    }
}

pub(super) fn run(home: &Home, _env: &Env, config: &ClientConfig, args: QueryArgs) -> Result<()> {
    let address = node(home, config, args.ask.node.as_deref())?;
    // Asked first, so that neither a silent node nor one of another chain is taken for an answer.
    let right_chain = || chain_of(address, args.ask.chain_id.as_deref(), config);
    let answer = match args.command.beside() {
        Some((name, values)) => {
            right_chain()?;
            match blocks::has(name) {
                true => blocks::run(address, name, values, args.ask.height)?,
                false => transactions::run(address, name, values)?,
            }
        }
        None => {
            let (method, matches) = args.command.method()?;
            let request = reflect::message(&method.input(), matches, &reflect::values(matches), None)?;
            right_chain()?;
            answer(address, &method, &request, args.ask.height)?
        }
    };
    print(&answer, args.ask.output.unwrap_or(config.output));
    Ok(())
}

/// The chain of the node at an address. Error: it does not answer, or is of another chain than the flag or `client.toml` say.
pub(super) fn chain_of(address: SocketAddr, given: Option<&str>, config: &ClientConfig) -> Result<String> {
    let status = rpc::status_or(address, || {
        format!("the node at {address} does not answer; is it running? --node names another")
    })?;
    let found = status["node_info"]["network"].as_str().unwrap_or_default();
    let wanted = given.unwrap_or(&config.chain_id);
    ensure!(
        wanted.is_empty() || wanted == found,
        "the node at {address} is of chain {found:?}, {wanted:?} is wanted: --node or --chain-id is wrong"
    );
    Ok(found.to_owned())
}

/// What a method answers, of the state at a height, 0 being the latest, as JSON.
fn answer(address: SocketAddr, method: &MethodDescriptor, request: &impl Message, height: u64) -> Result<Value> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let bytes = rpc::query(address, &path, &request.encode_to_vec(), height)?;
    json_of(&DynamicMessage::decode(method.output(), bytes.as_slice())?)
}

/// What a method of the node's own services, `package.Service`, answers, as JSON.
fn ask(address: SocketAddr, service: &str, method: &str, request: &impl Message) -> Result<Value> {
    let found = tenure_proto::pool().get_service_by_name(service);
    let found = found.and_then(|service| service.methods().find(|found| found.name() == method));
    let found = found.with_context(|| format!("{service}/{method} is not among this binary's descriptors"))?;
    answer(address, &found, request, 0)
}

/// A message as Cosmos prints it, which is as REST does: names of the .proto, 64-bit numbers as strings, every field there.
pub(super) fn json_of(message: &DynamicMessage) -> Result<Value> {
    Ok(serde_json::from_slice(&tenure_rest::json::render(
        message,
        usize::MAX,
    )?)?)
}

/// [`json_of`] a message of this type.
pub(super) fn shown(name: &str, message: &impl Message) -> Result<Value> {
    let kind = tenure_proto::pool().get_message_by_name(name);
    let kind = kind.with_context(|| format!("{name} is not among this binary's descriptors"))?;
    json_of(&DynamicMessage::decode(kind, message.encode_to_vec().as_slice())?)
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
        let value = serde_json::json!({
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
