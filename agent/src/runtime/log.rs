//! A workload's log: standard output and standard error in one file, with a cap.
//!
//! Offsets are stable because nothing is ever removed: when the cap is reached one line says so and the rest is dropped. The program is not
//! told, so a talkative program still finishes.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

/// A log file that one run writes and any number of readers follow.
pub struct Log {
    path: PathBuf,
    file: Mutex<File>,
    limit: u64,
    length: watch::Sender<u64>,
}

impl Log {
    /// Opens the log at a path, or makes it. What it holds already counts towards the limit, bytes.
    pub fn open(path: &Path, limit: u64) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            limit,
            length: watch::Sender::new(length),
        })
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        *self.length.borrow()
    }

    /// Tells when the log grows.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.length.subscribe()
    }

    /// Appends what fits under the limit, and the line that says so when something did not.
    pub fn append(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = self.file.lock();
        let length = self.length();
        // Beyond the limit stands only the line that says so.
        if length > self.limit || bytes.is_empty() {
            return Ok(());
        }
        let room = usize::try_from(self.limit - length).unwrap_or(usize::MAX);
        let (fits, rest) = bytes.split_at(bytes.len().min(room));
        file.write_all(fits)?;
        let mut written = fits.len() as u64;
        if !rest.is_empty() {
            let note = format!(
                "\n[tenure] the log's limit of {} bytes is reached; the rest is dropped\n",
                self.limit
            );
            file.write_all(note.as_bytes())?;
            written += note.len() as u64;
        }
        self.length.send_modify(|length| *length += written);
        Ok(())
    }

    /// Up to `most` bytes from an offset; nothing at or after the end.
    pub fn read(&self, offset: u64, most: usize) -> std::io::Result<Vec<u8>> {
        read_at(&self.path, offset, most)
    }
}

/// Up to `most` bytes of a file from an offset; nothing at or after its end.
pub fn read_at(path: &Path, offset: u64, most: usize) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The log as a program's standard output. Written at once and in order: nothing is lost when the program traps.
pub(crate) struct LogStdout(pub(crate) std::sync::Arc<Log>);

impl IsTerminal for LogStdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStdout {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Preview 1, the only interface offered, takes the stream below.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(LogStream(self.0.clone()))
    }
}

struct LogStream(std::sync::Arc<Log>);

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0
            .append(&bytes)
            .map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_once_and_says_so() {
        let dir = tempfile::tempdir().expect("tempdir");
        for limit in [95, 100] {
            let log = Log::open(&dir.path().join(limit.to_string()), limit).expect("log");
            for _ in 0..50 {
                log.append(b"0123456789").expect("append");
            }
            let text = String::from_utf8(log.read(0, 10_000).expect("read")).expect("utf-8");
            assert_eq!(text.matches(&format!("limit of {limit} bytes")).count(), 1);
            assert_eq!(log.length(), text.len() as u64);
            assert_eq!(log.read(90, 5).expect("read"), b"01234");
            assert!(log.read(1_000_000, 5).expect("read").is_empty());
        }
    }
}
