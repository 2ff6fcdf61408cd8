//! CometBFT's log lines as ours: JSON in, `tracing` events with the target `cometbft` out. The last ones are kept for whoever must tell
//! why it died.

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

/// Makes CometBFT write JSON; works because the key is in every complete `config.toml`.
pub const FORMAT_ENV: (&str, &str) = ("CMT_LOG_FORMAT", "json");

/// A longer line is cut, bytes: CometBFT logs whole transactions at its lower levels.
const MAX_LINE: usize = 8 << 10;
/// Lines that are kept.
const KEPT: usize = 20;

/// The last lines of a program, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// The lines, oldest first, one per line of text.
    pub fn text(&self) -> String {
        let lines = self.0.lock();
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Forwards lines until the source ends. Bytes that are no text are replaced.
pub fn forward(mut source: impl BufRead, last: &LastLines) -> io::Result<()> {
    let mut line = Vec::new();
    while next_line(&mut source, &mut line)? {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            last.push(emit(text));
        }
    }
    Ok(())
}

/// Reads a line without its end, at most [`MAX_LINE`] bytes of it, into `line`. False at the end of the source.
fn next_line(source: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let bytes = match source.fill_buf() {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if bytes.is_empty() {
            return Ok(any);
        }
        any = true;
        let (part, used, done) = match bytes.iter().position(|b| *b == b'\n') {
            Some(at) => (&bytes[..at], at + 1, true),
            None => (bytes, bytes.len(), false),
        };
        let room = MAX_LINE - line.len();
        line.extend_from_slice(&part[..part.len().min(room)]);
        source.consume(used);
        if done {
            return Ok(true);
        }
    }
}

/// Writes one line to our log and returns it as people read it.
fn emit(text: &str) -> String {
    let (level, said) = render(text).unwrap_or_else(|| (level_of_plain(text), text.to_owned()));
    match level {
        Level::Error => tracing::error!(target: "cometbft", "{said}"),
        Level::Info => tracing::info!(target: "cometbft", "{said}"),
        Level::Debug => tracing::debug!(target: "cometbft", "{said}"),
    }
    said
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Debug,
    Info,
    Error,
}

/// What CometBFT prints past its logger: usage errors, panics and their stacks.
fn level_of_plain(text: &str) -> Level {
    if text.starts_with("ERROR") || text.starts_with("panic:") || text.starts_with("fatal error:") {
        Level::Error
    } else {
        Level::Info
    }
}

/// A JSON line as `module: message key=value …`; `None` if it is not one of CometBFT's.
fn render(text: &str) -> Option<(Level, String)> {
    let Value::Object(mut fields) = serde_json::from_str(text).ok()? else {
        return None;
    };
    let mut take = |key: &str| match fields.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let level = match take("level")?.as_str() {
        "debug" => Level::Debug,
        "error" => Level::Error,
        _ => Level::Info,
    };
    let message = take("_msg")?;
    take("ts");
    let mut said = String::new();
    if let Some(module) = take("module") {
        said.push_str(&module);
        said.push_str(": ");
    }
    said.push_str(message.trim());
    for (key, value) in &fields {
        let value = match value {
            Value::String(text) if !text.contains([' ', '=']) => text.clone(),
            other => other.to_string(),
        };
        said.push_str(&format!(" {key}={value}"));
    }
    Some((level, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_reads_like_ours() {
        let line = r#"{"_msg":"ABCI Replay Blocks","appHeight":0,"level":"info","module":"consensus","note":"a b","ts":"2026-11-22T18:43:49Z"}"#;
        assert_eq!(
            render(line),
            Some((
                Level::Info,
                "consensus: ABCI Replay Blocks appHeight=0 note=\"a b\"".to_owned()
            ))
        );
        for other in ["plain", "{}", "[1]", r#"{"level":"info"}"#] {
            assert_eq!(render(other), None, "{other}");
        }
        assert_eq!(level_of_plain("ERROR: failed to create node"), Level::Error);
    }

    #[test]
    fn long_lines_are_cut_and_the_last_are_kept() -> io::Result<()> {
        let mut text = "x".repeat(3 * MAX_LINE).into_bytes();
        text.extend_from_slice(b"\n\xff\xfe\n\nlast");
        let last = LastLines::default();
        forward(io::BufReader::with_capacity(100, text.as_slice()), &last)?;
        let kept = last.text();
        let lines: Vec<&str> = kept.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0].len(), lines[2]), (MAX_LINE, "last"));
        let many = "line\n".repeat(100);
        forward(many.as_bytes(), &last)?;
        assert_eq!(last.text().lines().count(), KEPT);
        Ok(())
    }
}
