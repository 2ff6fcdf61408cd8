//! `tenured comet`: keys and data of the consensus engine, under simd's verbs and with its output, which deploy scripts read.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::Subcommand;
use serde_json::json;
use tenure_solo::{load_node_id, ValidatorKey};
use tenure_types::address::VALCONS_PREFIX;
use tenure_types::Address;

use super::out;
use super::state_sync::{self, StateSyncArgs};
use crate::config::Env;
use crate::files;
use crate::home::Home;

/// What a key has signed when it has signed nothing.
const EMPTY_SIGN_STATE: &str = "{\n  \"height\": \"0\",\n  \"round\": 0,\n  \"step\": 0\n}\n";
/// What engines keep in `data/`, beside the application's state and what the key signed.
const ENGINE_DATA: [&str; 7] = [
    "solo.redb",
    "blockstore.db",
    "state.db",
    "tx_index.db",
    "evidence.db",
    "cs.wal",
    "archive",
];

#[derive(Subcommand)]
pub(super) enum CometCommand {
    /// Print the node's id
    ShowNodeId,
    /// Print the validator's public key
    ShowValidator,
    /// Print the validator's address
    ShowAddress,
    /// Print the version of CometBFT whose blocks and protocols this binary speaks
    Version,
    /// Remove all blocks and all state, keep configuration and keys. The key forgets what it signed
    #[command(after_help = "\
A validator of a network with others must never do this with its key in place: it would sign heights twice and be punished. Use it on
development networks, or after moving config/priv_validator_key.json away.")]
    UnsafeResetAll {
        /// Keep the addresses of peers
        #[arg(long)]
        keep_addr_book: bool,
    },
    /// Remove the engine's blocks and state only; keep the application's state, keys, and what the key signed
    #[command(after_help = "\
The engine then has nothing to replay: a start works only where it can fetch the blocks again (state sync or blocks of peers), or after
the application's state was removed too.")]
    ResetState,
    /// Let this home begin with a snapshot of other nodes
    StateSync(StateSyncArgs),
}

pub(super) fn run(home: &Home, env: &Env, command: CometCommand) -> Result<()> {
    match command {
        CometCommand::ShowNodeId => {
            out(load_node_id(&home.node_key())?);
            Ok(())
        }
        CometCommand::ShowValidator => {
            let key = ValidatorKey::load(&home.validator_key())?;
            out(json!({ "@type": "/cosmos.crypto.ed25519.PubKey", "key": BASE64.encode(key.public_key()) }));
            Ok(())
        }
        CometCommand::ShowAddress => {
            let key = ValidatorKey::load(&home.validator_key())?;
            out(Address::new(key.address()).to_bech32(VALCONS_PREFIX));
            Ok(())
        }
        CometCommand::Version => {
            out(format!("CometBFT: {}", tenure_solo::COMETBFT_VERSION));
            out(format!("ABCI: {}", tenure_solo::ABCI_VERSION));
            out(format!("BlockProtocol: {}", tenure_solo::BLOCK_PROTOCOL));
            out(format!("P2PProtocol: {}", tenure_solo::P2P_PROTOCOL));
            Ok(())
        }
        CometCommand::UnsafeResetAll { keep_addr_book } => unsafe_reset_all(home, keep_addr_book),
        CometCommand::ResetState => reset_state(home),
        CometCommand::StateSync(args) => state_sync::run(home, env, &args),
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))?;
    out(format!("removed {}", path.display()));
    Ok(())
}

pub(super) fn unsafe_reset_all(home: &Home, keep_addr_book: bool) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    for entry in fs::read_dir(home.root().join("data")).context("cannot read the data directory")? {
        let path = entry?.path();
        if path != home.validator_state() {
            remove(&path)?;
        }
    }
    let addresses = home.config("addrbook.json");
    if !keep_addr_book && addresses.exists() {
        remove(&addresses)?;
    }
    // Last: until the blocks are gone the key must remember what it signed.
    files::replace(&home.validator_state(), EMPTY_SIGN_STATE.as_bytes())?;
    out(format!("reset {}", home.validator_state().display()));
    out("The chain begins again at the next `tenured start`. Never do this to a validator of a network with others.");
    Ok(())
}

fn reset_state(home: &Home) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    let there: Vec<_> = ENGINE_DATA
        .iter()
        .map(|name| home.data(name))
        .filter(|path| path.exists())
        .collect();
    if there.is_empty() {
        out("the engine has no data");
    }
    there.iter().try_for_each(|path| remove(path))
}

/// Whether CometBFT keeps the blocks of this home.
pub(super) fn is_comets(home: &Home) -> bool {
    home.data("blockstore.db").exists()
}
