//! `tenured doctor`: what is wrong with this node, and what to type.
//!
//! Every check is a function of a home (and of a running node's answers) that gives findings; none changes anything but a small file that measures the
//! disk. [`files`] looks at settings, keys and state, [`system`] at disk, clock, limits and ports, [`network`] at the running node and its peers.

mod files;
mod network;
mod system;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::out;
use crate::client_config::Output;
use crate::config::{AppConfig, CometConfig, Env};
use crate::home::Home;

#[derive(Args)]
#[command(after_help = "\
Exit code 1 if a check failed; warnings do not fail. It works on a stopped and on a running node, and changes nothing.

Examples:
  tenured doctor
  tenured doctor --peer tcp://10.0.0.7:26657 --peer tcp://10.0.0.8:26657
  tenured doctor -o json | jq '.checks[] | select(.status != \"ok\")'")]
pub(super) struct DoctorArgs {
    /// JSON-RPC of another node, to compare height and clock with; may be repeated
    #[arg(long = "peer", value_name = "ADDR")]
    peers: Vec<String>,
    /// What is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Nothing to do.
    Ok,
    /// It does not apply, or cannot be known now.
    Skipped,
    /// It works, and something should be done.
    Warning,
    /// The node does not work, or is in danger.
    Failed,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    status: Level,
    detail: String,
    /// What to type or to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// The findings so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, status: Level, detail: impl Into<String>, fix: Option<String>) {
        self.0.push(Finding {
            check,
            status,
            detail: detail.into(),
            fix,
        });
    }

    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Level::Ok, detail, None);
    }

    fn skip(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Level::Skipped, detail, None);
    }

    fn warn(&mut self, check: &'static str, detail: impl Into<String>, fix: impl Into<String>) {
        self.add(check, Level::Warning, detail, Some(fix.into()));
    }

    fn fail(&mut self, check: &'static str, detail: impl Into<String>, fix: impl Into<String>) {
        self.add(check, Level::Failed, detail, Some(fix.into()));
    }

    fn failed(&self) -> usize {
        self.0.iter().filter(|f| f.status == Level::Failed).count()
    }
}

pub(super) fn run(home: &Home, env: &Env, args: &DoctorArgs) -> ExitCode {
    let mut found = Findings::default();
    if !home.is_initialised() {
        let root = home.root().display();
        found.fail(
            "home",
            format!("{root} has no config/genesis.json"),
            format!("tenured init <moniker> --chain-id <id> --home {root}, or name another home with --home"),
        );
    } else {
        examine(home, env, args, &mut found);
    }
    report(&found, args.output);
    ExitCode::from(u8::from(found.failed() > 0))
}

fn examine(home: &Home, env: &Env, args: &DoctorArgs, found: &mut Findings) {
    let running = home.running();
    match &running {
        Some(run) => found.ok(
            "process",
            format!("tenured runs with pid {}, chain {}", run.pid, run.chain_id),
        ),
        None => found.ok("process", "no tenured runs in this home"),
    }
    files::settings(home, env, found);
    files::genesis(home, found);
    files::keys(home, found);
    files::comet(home, found);
    // Bad settings were told already; what is left is looked at with the defaults.
    let config = AppConfig::load(home, env).unwrap_or_default();
    let height = files::state(home, &config, running.is_some(), found);
    files::blocks(home, running.is_some(), found);
    files::sign_state(home, height, found);
    system::disk(home, found);
    system::fsync(home, found);
    system::limits(found);
    system::ntp(found);
    if let Ok(comet) = CometConfig::load(home, env) {
        system::ports(home, &config, &comet, running.is_some(), found);
        system::exposed(home, &config, &comet, found);
    }
    let own = network::own(running.as_ref(), found);
    network::peers(own.as_ref(), &args.peers, found);
}

fn report(found: &Findings, output: Output) {
    if output == Output::Json {
        out(json!({ "ok": found.failed() == 0, "version": crate::version::VERSION, "checks": found.0 }));
        return;
    }
    for finding in &found.0 {
        let word = match finding.status {
            Level::Ok => "ok",
            Level::Skipped => "-",
            Level::Warning => "warn",
            Level::Failed => "FAIL",
        };
        out(format!("{word:<5} {:<12} {}", finding.check, finding.detail));
        if let Some(fix) = &finding.fix {
            out(format!("{:<18} -> {fix}", ""));
        }
    }
    let warnings = found.0.iter().filter(|f| f.status == Level::Warning).count();
    out(format!(
        "{} checks, {} failed, {warnings} warnings",
        found.0.len(),
        found.failed()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_fails() {
        let mut found = Findings::default();
        found.ok("a", "x");
        found.skip("b", "x");
        found.warn("c", "x", "y");
        assert_eq!(found.failed(), 0);
        found.fail("d", "x", "y");
        assert_eq!(found.failed(), 1);
        let json = serde_json::to_value(&found.0).expect("plain values");
        assert_eq!(
            json[3],
            json!({ "check": "d", "status": "failed", "detail": "x", "fix": "y" })
        );
        assert!(json[0].get("fix").is_none());
    }
}
