//! Commands that change or read the chain of a stopped node. Each takes the home's lock first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use serde_json::{json, Value};
use tendermint::Time;

use super::{comet, out};
use crate::application::Application;
use crate::client_config::Output;
use crate::config::{AppConfig, Env};
use crate::home::Home;
use crate::{files, genesis};

#[derive(Args)]
#[command(after_help = "\
It repairs a state, not history: the blocks are executed again with the binary that is installed then. Never do it to get rid of a block
that others have.
With the solo engine its blocks stay. With CometBFT its own `cometbft rollback` runs first; --hard removes the blocks too, so that they are
fetched from peers again; more than one block needs --hard.

Examples:
  tenured rollback
  tenured rollback --hard
  tenured rollback --blocks 5")]
pub(super) struct RollbackArgs {
    /// How many blocks
    #[arg(long, default_value_t = 1)]
    blocks: u64,
    /// Remove the blocks too (CometBFT)
    #[arg(long)]
    hard: bool,
    /// CometBFT's program [default: TENURE_COMETBFT, cometbft on PATH, the cache]
    #[arg(long, value_name = "FILE")]
    comet_bin: Option<PathBuf>,
    /// What is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
#[command(after_help = "\
The genesis carries accounts, providers, bids, leases and escrow on; blocks and their history stay behind. The validators are those of this chain's
genesis. Put it into a new home in place of config/genesis.json and start that.

Examples:
  tenured export --output-document new-genesis.json
  tenured export --height 120000 > at-120000.json")]
pub(super) struct ExportArgs {
    /// At this height instead of the last; as far back as store.keep-undo reaches
    #[arg(long)]
    height: Option<u64>,
    /// The new chain begins at height 1 instead of going on counting
    #[arg(long)]
    for_zero_height: bool,
    /// Write to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    output_document: Option<PathBuf>,
}

fn open(home: &Home, env: &Env) -> Result<Application> {
    Application::open(&home.application_db(), &AppConfig::load(home, env)?.store)
}

/// The application of a chain that has begun.
pub(super) fn open_begun(home: &Home, env: &Env) -> Result<Application> {
    let application = home.application_db().exists().then(|| open(home, env)).transpose()?;
    application.filter(|a| a.head().0 > 0).with_context(|| {
        format!(
            "this chain has no block yet. Begin it with `tenured start --home {}`",
            home.root().display()
        )
    })
}

/// Error: the chain has begun, so its genesis cannot change any more.
pub(super) fn require_not_begun(home: &Home, env: &Env) -> Result<()> {
    // A start that failed before its first block leaves an empty state.
    let begun = home.application_db().exists() && open(home, env)?.head().0 > 0;
    ensure!(
        !begun,
        "this chain has begun: its genesis cannot change any more. `tenured comet unsafe-reset-all --home {}` begins it again",
        home.root().display()
    );
    Ok(())
}

pub(super) fn rollback(home: &Home, env: &Env, args: &RollbackArgs) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    ensure!(args.blocks >= 1, "--blocks is 0, must be at least 1");
    let application = open_begun(home, env)?;
    let (from, _) = application.head();
    let engine = if comet::is_comets(home) {
        ensure!(
            args.blocks == 1 || args.hard,
            "CometBFT takes back its state by one block only; `tenured rollback --blocks {} --hard` removes the blocks themselves",
            args.blocks
        );
        // Looked at before: CometBFT's step cannot be taken back.
        let kept = u64::try_from(AppConfig::load(home, env)?.store.keep_undo).unwrap_or(u64::MAX);
        ensure!(
            args.blocks <= kept && args.blocks < from,
            "cannot take back {} blocks of {from}: undo records exist for at most {kept} (store.keep-undo)",
            args.blocks
        );
        Some(comet_rollback(home, args)?)
    } else {
        ensure!(
            !args.hard,
            "the solo engine keeps its blocks: its key would have to sign their heights twice. Leave --hard out"
        );
        None
    };
    // CometBFT may have been a block ahead of the application.
    let back = engine.map_or(args.blocks, |height| from.saturating_sub(height));
    let (height, app_hash) = if back == 0 {
        application.head()
    } else {
        application.rollback(back)?
    };
    let app_hash = hex::encode_upper(app_hash);
    match args.output {
        Output::Json => out(
            json!({ "height": height.to_string(), "app_hash": app_hash, "engine_height": engine.map(|h| h.to_string()) }),
        ),
        Output::Text => {
            out(format!("Rolled back state to height {height} and hash {app_hash}"));
            match engine {
                None if from > height => out(format!(
                    "The engine still has its blocks: the next start replays {} to {from} on this state with the binary that is installed \
                     then, and refuses if a result differs.",
                    height + 1
                )),
                Some(_) if args.hard => out("CometBFT's blocks above it are gone: the next start fetches them from peers."),
                Some(_) => out("CometBFT still has the block: the next start executes it again."),
                None => {}
            }
        }
    }
    Ok(())
}

/// CometBFT's own step, as often as asked for; the height its state is at then.
fn comet_rollback(home: &Home, args: &RollbackArgs) -> Result<u64> {
    let program = tenure_comet::binary::CometBft::find(args.comet_bin.as_deref())?;
    let mut reached = None;
    for _ in 0..args.blocks {
        let mut command = Command::new(&program.path);
        command.arg("rollback").arg("--home").arg(home.root());
        if args.hard {
            command.arg("--hard");
        }
        let ran = command
            .output()
            .with_context(|| format!("cannot run {}", program.path.display()))?;
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        ensure!(
            ran.status.success(),
            "`cometbft rollback` failed: {}{}",
            text.trim(),
            String::from_utf8_lossy(&ran.stderr).trim()
        );
        reached = Some(rolled_back_to(&text).with_context(|| format!("`cometbft rollback` said {text:?}"))?);
    }
    reached.context("CometBFT took nothing back")
}

/// The height in `Rolled back state to height 41 and hash 3F…`.
fn rolled_back_to(text: &str) -> Option<u64> {
    text.split("to height ").nth(1)?.split(' ').next()?.parse().ok()
}

pub(super) fn export(home: &Home, env: &Env, args: &ExportArgs) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    let application = open_begun(home, env)?;
    let (last, _) = application.head();
    let (state, time) = match args.height {
        None => exported(&application)?,
        Some(height) if height == last => exported(&application)?,
        Some(height) => {
            ensure!(
                (1..last).contains(&height),
                "--height is {height}, must be 1 to {last}, the last block"
            );
            drop(application);
            export_at(home, env, last - height)?
        }
    };
    let next = args.height.unwrap_or(last) + 1;
    let mut document = genesis::read(&home.genesis())?;
    // Every node's export of a height is the same, byte for byte: operators compare its hash before they start from it.
    document["genesis_time"] = time.to_rfc3339().into();
    document["initial_height"] = if args.for_zero_height { 1 } else { next }.to_string().into();
    document["app_hash"] = "".into();
    document["app_state"] = state;
    let bytes = genesis::bytes(&document);
    match &args.output_document {
        Some(path) => {
            files::replace(path, &bytes)?;
            eprintln!("wrote {}", path.display());
        }
        None => out(String::from_utf8_lossy(&bytes).trim_end()),
    }
    Ok(())
}

/// The state some blocks ago: taken back in a copy, so that the chain itself stays where it is.
fn export_at(home: &Home, env: &Env, blocks: u64) -> Result<(Value, Time)> {
    let copy = home.data("export.tmp");
    let outcome = copy_database(&home.application_db(), &copy).and_then(|()| {
        let store = AppConfig::load(home, env)?.store;
        Application::open(&copy, &store)?.rollback(blocks)?;
        exported(&Application::open(&copy, &store)?)
    });
    let removed = fs::remove_dir_all(&copy);
    let exported = outcome?;
    removed.with_context(|| format!("cannot remove {}", copy.display()))?;
    Ok(exported)
}

/// The state, and when a chain that goes on from it may begin: the chain's clock must move, so a millisecond after its last
/// block. What really passes until the first block counts as a halt.
fn exported(application: &Application) -> Result<(Value, Time)> {
    let head = application.last_block().context("the state has no block")?;
    let begins = (head.time + Duration::from_millis(1)).context("the last block's time is the end of time")?;
    Ok((application.export()?, begins))
}

/// A copy of a closed RocksDB. Tables never change once written, so they are linked; all else is copied.
fn copy_database(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        // Of an export that was killed.
        fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    crate::home::create_dir(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        let table = path.extension().is_some_and(|e| e == "sst" || e == "blob");
        if path.is_dir() {
            bail!("{} holds a directory, which a RocksDB does not", from.display());
        }
        if !(table && fs::hard_link(&path, &target).is_ok()) {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cometbft_says_is_understood() {
        let said = "Rolled back state to height 41 and hash 3F2A\n";
        assert_eq!(rolled_back_to(said), Some(41));
        assert_eq!(
            rolled_back_to("Rolled back both state and block to height 7 and hash AB"),
            Some(7)
        );
        assert_eq!(rolled_back_to("no state found"), None);
    }
}
