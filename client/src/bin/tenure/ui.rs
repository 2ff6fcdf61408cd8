//! Results on standard output, progress on standard error.

use std::{
    cell::RefCell,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use comfy_table::{presets, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{json, Value};
use tenure_client::Error;

use crate::args::Format;

/// Writes to the person or program that called.
pub(crate) struct Ui {
    format: Format,
    quiet: bool,
    /// Hidden where standard error is no terminal.
    bar: ProgressBar,
    terminal: bool,
    waiting: RefCell<String>,
    began: Instant,
    /// Whether the last piece of log ended its line.
    log_at_line_start: RefCell<bool>,
}

impl Ui {
    #[allow(
        clippy::disallowed_methods,
        reason = "shown to a person; no rule of the chain runs here"
    )]
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        Self {
            format,
            quiet,
            bar: ProgressBar::hidden(),
            terminal,
            waiting: RefCell::default(),
            began: Instant::now(),
            log_at_line_start: RefCell::new(true),
        }
        .with_bar()
    }

    fn with_bar(mut self) -> Self {
        if self.terminal {
            self.bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                self.bar.set_style(style);
            }
        }
        self
    }

    /// A step that was taken: a line for people with the seconds since the command began, an event for programs (`jsonl`).
    pub(crate) fn step(&self, event: &str, fields: Value, human: impl std::fmt::Display) {
        if self.format == Format::Jsonl {
            self.event(event, fields);
        }
        let seconds = self.began.elapsed().as_secs_f64();
        self.note(format_args!("{seconds:6.1} s  {human}"));
    }

    /// A line for people.
    pub(crate) fn note(&self, human: impl std::fmt::Display) {
        if self.quiet {
            return;
        }
        self.above_bar(|| {
            self.end_log_line();
            err(&human);
        });
        self.waiting.borrow_mut().clear();
    }

    /// What is waited for: a spinner on a terminal, elsewhere a line when it changes.
    pub(crate) fn waiting(&self, human: &str) {
        if self.quiet || *self.waiting.borrow() == human {
            return;
        }
        if self.terminal {
            self.bar.set_message(human.to_owned());
            self.bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            err(human);
        }
        human.clone_into(&mut self.waiting.borrow_mut());
    }

    /// Bytes moved so far: on a terminal only.
    pub(crate) fn moved(&self, what: &str, done: u64, total: u64) {
        if self.terminal {
            let share = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100);
            self.bar.set_message(format!(
                "{what}: {share} % of {}",
                tenure_client::units::show_size(total)
            ));
        }
    }

    /// A piece of a workload's log, to standard error so that results stay alone on standard output; in `jsonl` an event.
    pub(crate) fn log(&self, bytes: &[u8]) {
        if self.format == Format::Jsonl {
            self.event("log", json!({ "text": String::from_utf8_lossy(bytes) }));
        } else if !self.quiet {
            self.above_bar(|| {
                // A person who closed standard error does not want to hear of it.
                let _ = std::io::stderr().write_all(bytes);
                *self.log_at_line_start.borrow_mut() = bytes.ends_with(b"\n");
            });
        }
    }

    /// One record.
    pub(crate) fn record(&self, json: &Value, human: impl FnOnce() -> String) {
        self.finish();
        match self.format {
            Format::Table => out(&human()),
            Format::Json => out(&format!("{json:#}")),
            Format::Jsonl => out(&json.to_string()),
        }
    }

    /// The end of `run`: as a record, and in `jsonl` as the event `result`.
    pub(crate) fn result(&self, json: &Value, human: impl FnOnce() -> String) {
        if self.format == Format::Jsonl {
            self.event("result", json.clone());
        } else {
            self.record(json, human);
        }
    }

    /// A list of records.
    pub(crate) fn list(&self, records: &[Value], header: &[&str], rows: Vec<Vec<String>>, empty: &str) {
        self.finish();
        match self.format {
            Format::Json => out(&format!("{:#}", Value::from(records.to_vec()))),
            Format::Jsonl => records.iter().for_each(|record| out(&record.to_string())),
            Format::Table if rows.is_empty() => self.note(empty),
            Format::Table => {
                let mut table = Table::new();
                table.load_preset(presets::NOTHING).set_header(header).add_rows(rows);
                table.column_iter_mut().for_each(|column| {
                    column.set_padding((0, 2));
                });
                out(&table
                    .to_string()
                    .lines()
                    .map(str::trim_end)
                    .collect::<Vec<_>>()
                    .join("\n"));
            }
        }
    }

    /// What happened, what it means and what to type next. In `jsonl` it is also an event.
    pub(crate) fn error(&self, error: &Error, hint: Option<&str>) {
        self.finish();
        if self.format == Format::Jsonl {
            let fields = json!({ "exit_code": error.exit_code(), "message": error.to_string(), "hint": hint });
            self.event("error", fields);
        }
        self.end_log_line();
        err(format_args!("error: {error}"));
        if let Some(hint) = hint {
            err(format_args!("next: {hint}"));
        }
    }

    /// Takes the spinner away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn event(&self, event: &str, fields: Value) {
        let mut line = json!({ "event": event });
        if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
            line.extend(fields);
        }
        self.above_bar(|| out(&line.to_string()));
    }

    fn above_bar(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    fn end_log_line(&self) {
        if !self.log_at_line_start.replace(true) {
            err("");
        }
    }
}

/// A line on standard error. Who reads it may go away, and a lease that runs goes on.
fn err(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line on standard output. A reader that went away ends the process quietly, as it ends every Unix filter.
pub(crate) fn out(line: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(e) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        if e.kind() != std::io::ErrorKind::BrokenPipe {
            err(format_args!("error: standard output: {e}"));
        }
        std::process::exit(i32::from(tenure_client::error::exit::FAILURE));
    }
}

/// Names and values, aligned.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}").trim_end().to_owned())
        .collect();
    lines.join("\n")
}
