//! Every command but `run`: one question or one transaction each.

mod amend;
mod market;
mod money;
mod setup;
mod verify;

use clap::CommandFactory;
use serde_json::{json, Value};
use tenure_client::{
    error::exit,
    job::{Job, Problem},
    json::to_json,
    lint::lint,
    sender::TxResult,
    units::{show_amount, show_duration, show_rate},
    Error, Result,
};

use crate::{
    args::{Cli, Command},
    context::Context,
    run,
    ui::{out, pairs},
};

/// Does what the command says. Returns the exit code of success, which a Ctrl-C changes.
pub(crate) async fn execute(context: &Context, command: Command) -> Result<u8> {
    match command {
        Command::Init { recover } => setup::init(context, recover).await,
        Command::Keys(command) => setup::keys(context, command),
        Command::Faucet { to } => setup::faucet(context, to.as_deref()).await,
        Command::Check { job } => check(context, &job),
        Command::Run(args) => {
            let detached = run::run(context, &args).await?;
            return Ok(if detached { exit::DETACHED } else { exit::OK });
        }
        Command::Bid(command) => market::bids(context, command).await,
        Command::Lease(command) => return market::leases(context, command).await,
        Command::Escrow(command) => money::escrow(context, command).await,
        Command::Provider(command) => market::providers(context, command).await,
        Command::Bank(command) => money::bank(context, command).await,
        Command::Verify(command) => verify::verify(context, command).await,
        Command::Tx { hash } => transaction(context, &hash).await,
        Command::Status => status(context).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tenure", &mut script);
            out(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            context.ui.record(&json!({ "name": "tenure", "version": version }), || {
                format!("tenure {version}")
            });
            Ok(())
        }
    }
    .map(|()| exit::OK)
}

fn check(context: &Context, path: &std::path::Path) -> Result<()> {
    let job = Job::load(path)?;
    let findings = lint(&job)?;
    let show = |problems: &[Problem]| {
        problems
            .iter()
            .map(|p| json!({ "key": p.key, "detail": p.detail }))
            .collect::<Vec<_>>()
    };
    let manifest_hash = hex::encode(tenure_client::auth::manifest_hash(&job.manifest));
    let record = json!({
        "ok": findings.errors.is_empty(), "errors": show(&findings.errors), "hints": show(&findings.hints),
        "manifest": to_json(&job.manifest)?, "manifest_hash": manifest_hash,
    });
    context.ui.record(&record, || {
        let mut rows = vec![
            ("job", job.manifest.name.clone()),
            ("manifest", manifest_hash.clone()),
            ("resources", crate::show::resources(job.manifest.resources.as_ref())),
            ("ceiling", show_rate(job.max_rate, &job.deposit.denom)),
            ("duration", show_duration(job.duration_ms)),
            (
                "deposit",
                show_amount(&job.deposit.amount.to_string(), &job.deposit.denom),
            ),
        ];
        if job.auto_top_up > 0 {
            let show = |units: u128| show_amount(&units.to_string(), &job.deposit.denom);
            let order = format!(
                "{} at a time, at most {}",
                show(job.top_up_part()),
                show(job.auto_top_up)
            );
            rows.push(("auto top-up", order));
        }
        let mut lines = vec![pairs(&rows)];
        lines.extend(findings.errors.iter().map(|p| format!("error: {p}")));
        lines.extend(findings.hints.iter().map(|p| format!("hint: {p}")));
        lines.join("\n")
    });
    match findings.errors.len() {
        0 => Ok(()),
        1 => Err(Error::Usage(format!("{}: no provider can run it so", path.display()))),
        n => Err(Error::Usage(format!(
            "{}: {n} mistakes; no provider can run it so",
            path.display()
        ))),
    }
}

fn sent(context: &Context, result: &TxResult, what: &str, fields: Value) {
    let mut record =
        json!({ "tx": result.hash, "height": result.height.to_string(), "gas_used": result.gas.to_string() });
    if let (Some(record), Value::Object(fields)) = (record.as_object_mut(), fields) {
        record.extend(fields);
    }
    context.ui.record(&record, || {
        format!("{what}\ntransaction {} in block {}", result.hash, result.height)
    });
}

async fn live_now(client: &tenure_client::chain::Client) -> Result<u64> {
    Ok(client.status().await?.live_ms)
}

async fn transaction(context: &Context, hash: &str) -> Result<()> {
    if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::Usage(format!(
            "{hash:?} is not a transaction's hash: it must be 64 hex digits"
        )));
    }
    let found = context.client().await?.tx(hash).await?;
    let found = found.ok_or_else(|| {
        Error::NotFound(format!("transaction {hash} is in no block: it was never sent, was dropped, or still waits; look again in some seconds"))
    })?;
    context.ui.record(&to_json(&found)?, || {
        let mut rows = vec![
            ("transaction", found.txhash.clone()),
            ("height", found.height.to_string()),
            ("time", found.timestamp.clone()),
            (
                "result",
                if found.code == 0 {
                    "success".to_owned()
                } else {
                    format!(
                        "failed: {} (codespace {}, code {})",
                        found.raw_log, found.codespace, found.code
                    )
                },
            ),
            ("gas", format!("{} of {}", found.gas_used, found.gas_wanted)),
        ];
        for event in &found.events {
            let facts: Vec<_> = event
                .attributes
                .iter()
                .map(|a| format!("{}={}", a.key, a.value))
                .collect();
            rows.push(("event", format!("{} {}", event.r#type, facts.join(" "))));
        }
        pairs(&rows)
    });
    Ok(())
}

async fn status(context: &Context) -> Result<()> {
    let client = context.client().await?;
    let status = client.status().await?;
    context.ui.record(&to_json(&status)?, || {
        let age = tenure_client::auth::wall_ms().saturating_sub(status.header_ms);
        pairs(&[
            ("node", client.address().to_owned()),
            ("version", status.version.clone()),
            ("chain", status.chain_id.clone()),
            ("height", status.height.to_string()),
            ("last block", format!("{} ago", show_duration(age))),
            (
                "halted in all",
                show_duration(status.header_ms.saturating_sub(status.live_ms)),
            ),
            ("app hash", hex::encode_upper(&status.app_hash)),
        ])
    });
    Ok(())
}
