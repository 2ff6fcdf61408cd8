//! `tenure-agent doctor`: is this machine fit to be a provider, and what is to be done if not.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use serde_json::json;
use tenure_client::{auth::wall_ms, chain::Client, units::show_size};
use tenure_types::coin::display_base;

use super::{account, Cli, Format};
use crate::{
    capacity::measure,
    config::Config,
    disk::Home,
    runtime::{wasm::WasmRuntime, Runtime},
};

/// Least memory worth offering, bytes.
const LEAST_MEMORY: u64 = 64 << 20;
/// Least disk worth offering, bytes.
const LEAST_DISK: u64 = 64 << 20;
/// A clock that is off by more than this lets no tenant in, milliseconds.
const MAX_OFFSET_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Warn,
    Fail,
}

struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    fix: String,
}

#[derive(Default)]
struct Report(Vec<Check>);

impl Report {
    fn add(&mut self, name: &'static str, verdict: Verdict, found: impl Into<String>, fix: &str) {
        let fix = if verdict == Verdict::Pass {
            String::new()
        } else {
            fix.to_owned()
        };
        self.0.push(Check {
            name,
            verdict,
            found: found.into(),
            fix,
        });
    }

    fn need(&mut self, name: &'static str, ok: bool, found: impl Into<String>, fix: &str) {
        self.add(name, if ok { Verdict::Pass } else { Verdict::Fail }, found, fix);
    }
}

/// The smallest command.
const EMPTY_COMMAND: &[u8] = &[
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // magic, version
    1, 4, 1, 0x60, 0, 0, // type 0: () -> ()
    3, 2, 1, 0, // function 0 of type 0
    5, 3, 1, 0, 0, // one memory of 0 pages
    7, 19, 2, 6, b'_', b's', b't', b'a', b'r', b't', 0, 0, 6, b'm', b'e', b'm', b'o', b'r', b'y', 2, 0, // exports
    10, 4, 1, 2, 0, 0x0b, // an empty body
];

pub(super) async fn run(cli: &Cli) -> Result<ExitCode> {
    let mut report = Report::default();
    let home = cli.home()?;
    machine(
        &mut report,
        home.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")),
    );
    match cli.config() {
        Ok((home, config)) => {
            report.add(
                "config",
                Verdict::Pass,
                format!("{}, offers {}", home.display(), config.offer()?),
                "",
            );
            gateway(&mut report, &home, &config);
            chain(&mut report, &home, &config).await;
        }
        Err(error) => report.add("config", Verdict::Fail, format!("{error:#}"), "tenure-agent init"),
    }
    print(cli, &report)?;
    let failed = report.0.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn machine(report: &mut Report, disk: &Path) {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|e| e.to_string());
    report.add("kernel", Verdict::Pass, kernel.trim(), "");
    match measure(disk) {
        Ok(free) => {
            report.need(
                "cores",
                free.cpu_milli >= 1_000,
                (free.cpu_milli / 1_000).to_string(),
                "offer a machine with a whole core",
            );
            let memory = format!("{} free beside a reserve", show_size(free.memory_bytes));
            report.need(
                "memory",
                free.memory_bytes >= LEAST_MEMORY,
                memory,
                "end other programs",
            );
            let storage = format!("{} free beside a reserve", show_size(free.storage_bytes));
            report.need(
                "disk",
                free.storage_bytes >= LEAST_DISK,
                storage,
                "free some disk, or choose another --home",
            );
        }
        Err(error) => report.add(
            "machine",
            Verdict::Fail,
            error.to_string(),
            "Linux with /proc is needed",
        ),
    }
    let engine = WasmRuntime::new(1 << 20)
        .map_err(|e| format!("{e:#}"))
        .and_then(|engine| engine.prepare(EMPTY_COMMAND).map(drop).map_err(|e| e.to_string()));
    let fix = "x86-64 or aarch64 with executable memory allowed is needed";
    match engine {
        Ok(()) => report.add("engine", Verdict::Pass, "compiles WebAssembly", ""),
        Err(error) => report.add("engine", Verdict::Fail, error, fix),
    }
}

fn gateway(report: &mut Report, home: &Path, config: &Config) {
    let running = Home::open(home).and_then(|home| home.lock()).is_err();
    match std::net::TcpListener::bind(config.listen) {
        Ok(_) => report.add("gateway port", Verdict::Pass, format!("{} is free", config.listen), ""),
        Err(_) if running => report.add(
            "gateway port",
            Verdict::Pass,
            format!("{} is the running agent's", config.listen),
            "",
        ),
        Err(error) => report.add(
            "gateway port",
            Verdict::Fail,
            format!("{}: {error}", config.listen),
            "choose another with tenure-agent join --listen ADDRESS:PORT",
        ),
    }
    let local = config.endpoint.contains("//127.") || config.endpoint.contains("//localhost");
    let verdict = if local { Verdict::Warn } else { Verdict::Pass };
    report.add(
        "endpoint",
        verdict,
        config.endpoint.clone(),
        "only tenants on this machine reach it; for others: join --endpoint http://HOST:PORT",
    );
}

async fn chain(report: &mut Report, home: &Path, config: &Config) {
    let address = match account::keyring(home, config).show(&config.key) {
        Ok(info) => {
            report.add("key", Verdict::Pass, info.address.clone(), "");
            info.address
        }
        Err(error) => return report.add("key", Verdict::Fail, error.to_string(), "tenure-agent init"),
    };
    let client = match Client::connect(&config.node).await {
        Ok(client) => client,
        Err(error) => {
            return report.add(
                "node",
                Verdict::Fail,
                error.to_string(),
                "start tenured, or give --node http://HOST:9090",
            )
        }
    };
    match client.status().await {
        Ok(status) => {
            report.add(
                "node",
                Verdict::Pass,
                format!("{} at height {}", status.chain_id, status.height),
                "",
            );
            let now = wall_ms();
            // A last block far in the past is a chain that stands still as likely as a clock that is ahead.
            let (verdict, found) = if status.header_ms > now.saturating_add(MAX_OFFSET_MS) {
                (
                    Verdict::Fail,
                    format!("{} ms behind the last block", status.header_ms - now),
                )
            } else if now > status.header_ms.saturating_add(MAX_OFFSET_MS) {
                (
                    Verdict::Warn,
                    format!("{} ms after the last block", now - status.header_ms),
                )
            } else {
                (
                    Verdict::Pass,
                    format!("within {} ms of the last block", now.abs_diff(status.header_ms)),
                )
            };
            report.add(
                "clock",
                verdict,
                found,
                "set the clock with NTP; if it is right, the chain stands still",
            );
        }
        Err(error) => report.add("node", Verdict::Fail, error.to_string(), "try again, or another --node"),
    }
    match (client.balance(&address).await, config.reserve()) {
        (Ok(balance), Ok(reserve)) => report.need(
            "balance",
            balance >= reserve,
            format!("{}, reserve {}", display_base(balance), display_base(reserve)),
            "send ten to the account; on a development network: tenure-agent join --faucet",
        ),
        (Err(error), _) => report.add("balance", Verdict::Fail, error.to_string(), "try again"),
        (_, Err(error)) => report.add("balance", Verdict::Fail, error.to_string(), "mend config.toml"),
    }
    match client.provider(&address).await {
        Ok(provider) => report.add(
            "provider",
            Verdict::Pass,
            format!("registered as {:?}", provider.moniker),
            "",
        ),
        Err(tenure_client::Error::NotFound(_)) => report.add(
            "provider",
            Verdict::Warn,
            "not registered",
            "tenure-agent join --bond 500ten",
        ),
        Err(error) => report.add("provider", Verdict::Fail, error.to_string(), "try again"),
    }
}

fn print(cli: &Cli, report: &Report) -> Result<()> {
    let word = |verdict| match verdict {
        Verdict::Pass => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    if cli.output == Format::Json {
        let checks: Vec<_> = report
            .0
            .iter()
            .map(|c| json!({ "check": c.name, "verdict": word(c.verdict).to_lowercase(), "found": c.found, "fix": c.fix }))
            .collect();
        println!("{}", serde_json::to_string_pretty(&checks)?);
        return Ok(());
    }
    for check in &report.0 {
        println!("{:<5} {:<13} {}", word(check.verdict), check.name, check.found);
        if !check.fix.is_empty() {
            println!("{:19} fix: {}", "", check.fix);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_command_is_one() {
        let engine = WasmRuntime::new(1 << 20).expect("engine");
        assert_eq!(engine.prepare(EMPTY_COMMAND).err(), None);
    }
}
