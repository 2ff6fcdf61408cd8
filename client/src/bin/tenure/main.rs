//! `tenure`: the command line of tenants. It reads arguments, calls the library, and says what happened; README.md lists commands and exit
//! codes.

mod args;
mod commands;
mod context;
mod follow;
mod run;
mod show;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let level = match cli.global.verbose {
        0 => "warn",
        1 => "tenure_client=debug,warn",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Reported on standard error, whose reader has gone, a lost line would be a panic.
        .log_internal_errors(false)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
    let ui = ui::Ui::new(cli.global.output, cli.global.quiet);
    let context = match context::Context::new(&cli.global, ui) {
        Ok(context) => context,
        Err(error) => {
            ui::Ui::new(cli.global.output, cli.global.quiet).error(&error, error.hint().as_deref());
            return ExitCode::from(error.exit_code());
        }
    };
    // One thread: the client waits, and the user's job runs elsewhere.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the asynchronous runtime does not start: {error}");
            return ExitCode::from(tenure_client::error::exit::FAILURE);
        }
    };
    match runtime.block_on(commands::execute(&context, cli.command)) {
        Ok(code) => {
            context.ui.finish();
            ExitCode::from(code)
        }
        Err(error) => {
            context.ui.error(&error, error.hint().as_deref());
            ExitCode::from(error.exit_code())
        }
    }
}
