//! Commands that only look: `status` and `version`.

use anyhow::{Context, Result};
use serde_json::{json, Value};

use super::{out, rpc};
use crate::client_config::Output;
use crate::config::Env;
use crate::home::Home;
use crate::{node, version};

/// Prints the answer of the node's `status`.
pub(super) fn status(home: &Home, env: &Env, node: Option<&str>, output: Output) -> Result<()> {
    let address = match node {
        None => node::rpc_address(home, env)?,
        Some(text) => rpc::address(text).context("--node")?,
    };
    let status = rpc::status_or(address, || {
        format!(
            "no node answers at {address}. Is it running? `tenured start --home {}`",
            home.root().display()
        )
    })?;
    let field = |pointer: &str| match status.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    };
    match output {
        Output::Json => out(format!("{status:#}")),
        Output::Text => {
            for (name, pointer) in [
                ("network", "/node_info/network"),
                ("moniker", "/node_info/moniker"),
                ("node_id", "/node_info/id"),
                ("cometbft", "/node_info/version"),
                ("latest_block_height", "/sync_info/latest_block_height"),
                ("latest_block_time", "/sync_info/latest_block_time"),
                ("latest_app_hash", "/sync_info/latest_app_hash"),
                ("catching_up", "/sync_info/catching_up"),
                ("voting_power", "/validator_info/voting_power"),
            ] {
                out(format!("{name}: {}", field(pointer)));
            }
        }
    }
    Ok(())
}

pub(super) fn version(long: bool, output: Output) {
    match (long, output) {
        (false, Output::Text) => out(version::VERSION),
        (false, Output::Json) => out(json!({ "version": version::VERSION })),
        (true, Output::Json) => out(version::long()),
        (true, Output::Text) => {
            for (key, value) in version::long().as_object().into_iter().flatten() {
                match value {
                    Value::String(text) => out(format!("{key}: {text}")),
                    Value::Array(all) => {
                        out(format!("{key}:"));
                        all.iter()
                            .filter_map(Value::as_str)
                            .for_each(|item| out(format!("- {item}")));
                    }
                    other => out(format!("{key}: {other}")),
                }
            }
        }
    }
}
