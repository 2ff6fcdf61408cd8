//! Logs on standard error: `RUST_LOG` chooses what, `--log-format` how.

use std::io::IsTerminal;

use anyhow::{anyhow, Result};
use tracing_subscriber::EnvFilter;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Plain,
    /// One JSON object per line.
    Json,
}

/// Starts logging at `info` unless `RUST_LOG` says otherwise. Error: `RUST_LOG` is malformed, or logging has been started before.
pub fn init(format: LogFormat) -> Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).map_err(|e| anyhow!("RUST_LOG is {text:?}: {e}; try RUST_LOG=info"))?
        }
        _ => EnvFilter::new("info"),
    };
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that cannot be written would be reported on standard error, whose reader has gone: a panic, and the node's end.
        .log_internal_errors(false)
        .with_ansi(colours);
    match format {
        LogFormat::Plain => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|e| anyhow!("logging: {e}"))
}
