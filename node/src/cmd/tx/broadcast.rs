//! Sends a signed transaction and shows what became of it, as the Cosmos SDK's `TxResponse`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::json;
use tenure_client::tx::SignedTx;
use tenure_proto::cosmos::base::abci::v1beta1::TxResponse;
use tenure_types::sdk;

use super::SendArgs;
use crate::client_config::{BroadcastMode, ClientConfig};
use crate::cmd::query::transactions::{included, transaction};
use crate::cmd::query::{print, shown};
use crate::cmd::rpc;
use crate::engine::comet::sdk_code;

/// How long a block is waited for.
const INCLUSION: Duration = Duration::from_secs(60);
/// What the SDK calls [`TxResponse`].
const RESPONSE: &str = "cosmos.base.abci.v1beta1.TxResponse";

/// When sending is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// When the node has checked it
    Sync,
    /// When the node has it; tells nothing of refusals
    Async,
    /// When a block has executed it; gone from the Cosmos SDK since 0.50, whose `query wait-tx` is here too
    Block,
}

impl From<BroadcastMode> for Mode {
    fn from(mode: BroadcastMode) -> Self {
        match mode {
            BroadcastMode::Sync => Self::Sync,
            BroadcastMode::Block => Self::Block,
        }
    }
}

/// Sends a signed transaction and prints what became of it. A transaction that the node has already is no failure, as in the Cosmos SDK: the answer has
/// code 19 then. Error: the chain refused it, here or in the block.
pub(super) fn broadcast(
    address: SocketAddr,
    signed: &SignedTx,
    gas: u64,
    send: &SendArgs,
    config: &ClientConfig,
) -> Result<()> {
    let output = send.output.unwrap_or(config.output);
    let mode = send.broadcast_mode.unwrap_or(config.broadcast_mode.into());
    let mut response = offered(address, signed, mode)?;
    let hash = &signed.hash;
    if response.code == 0 {
        response.gas_wanted = i64::try_from(gas).unwrap_or(i64::MAX);
    } else if let Ok(found) = transaction(address, hash) {
        let height = found["height"].as_str().unwrap_or_default();
        eprintln!("transaction {hash} is in block {height} already; it was not sent again");
        response = TxResponse {
            txhash: hash.clone(),
            codespace: "sdk".to_owned(),
            code: sdk::TX_IN_MEMPOOL,
            raw_log: format!("tx is in block {height} already"),
            ..Default::default()
        };
    } else if response.code == sdk::TX_IN_MEMPOOL {
        eprintln!(
            "transaction {hash} waits in the node's mempool already; it was not sent again. `tenured query wait-tx {hash}` waits for its block"
        );
    }
    let known = response.code == sdk::TX_IN_MEMPOOL;
    let mut record = shown(RESPONSE, &response)?;
    if mode == Mode::Block && (known || response.code == 0) {
        let Some(found) = included(address, hash, INCLUSION)? else {
            bail!(
                "transaction {hash} was accepted and is in no block after {} s; look again with `tenured query tx {hash}`",
                INCLUSION.as_secs()
            );
        };
        record = found;
    }
    print(&record, output);
    let code = record["code"].as_u64().unwrap_or(0);
    ensure!(
        code == 0 || (known && mode != Mode::Block),
        "the chain refused it with code {code}: {}",
        record["raw_log"].as_str().unwrap_or_default()
    );
    Ok(())
}

/// What the node says of a transaction, in the Cosmos SDK's words. Error: it does not answer, or says what the SDK has no code for.
fn offered(address: SocketAddr, signed: &SignedTx, mode: Mode) -> Result<TxResponse> {
    let method = match mode {
        Mode::Async => "broadcast_tx_async",
        Mode::Sync | Mode::Block => "broadcast_tx_sync",
    };
    let answer = rpc::call(address, method, &json!({ "tx": BASE64.encode(&signed.bytes) }));
    let mut response = TxResponse {
        txhash: signed.hash.clone(),
        ..Default::default()
    };
    match answer {
        Ok(checked) => {
            let text = |key: &str| checked[key].as_str().unwrap_or_default().to_owned();
            let data = BASE64.decode(text("data")).context("the node's answer is not base64")?;
            response.code = checked["code"]
                .as_u64()
                .and_then(|code| code.try_into().ok())
                .unwrap_or(0);
            (response.codespace, response.raw_log) = (text("codespace"), text("log"));
            response.data = hex::encode_upper(data);
        }
        Err(error) => {
            let refused = error.downcast_ref::<rpc::Refused>();
            let Some((refused, code)) = refused.and_then(|refused| Some((refused, sdk_code(&refused.text)?))) else {
                return Err(error);
            };
            (response.codespace, response.code) = ("sdk".to_owned(), code);
            response.raw_log.clone_from(&refused.text);
        }
    }
    Ok(response)
}
