//! A store in a process of its own, told over standard input to commit blocks. One JSON object a line, each way.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cost::{resident_bytes, thread_cpu_ns, written_bytes, Cost, Stamp};
use crate::{Update, Workload, KEY_BYTES};

/// Commits one block; returns when the new root was known, if that is before the end. This alone is measured.
pub type Commit<'a> = Box<dyn FnOnce() -> Result<Option<Stamp>> + 'a>;

/// A store under measurement.
pub trait Contestant {
    /// Takes over a block in the form it wants, which costs it nothing: an application has its writes in any form.
    fn prepare(&mut self, updates: Vec<Update>) -> Result<Commit<'_>>;

    /// A committed value: what was measured must also have happened.
    fn get(&mut self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>>;
}

/// What the driver asks.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Commit blocks of so many updates.
    Turn {
        /// How many blocks.
        blocks: usize,
        /// Updates of each.
        updates: usize,
    },
    /// Let flushes and compactions end, and see that the store has what was committed.
    Settle,
}

/// What the store answers: what happened since its last answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Each block.
    pub blocks: Vec<Block>,
    /// CPU time of the store's own threads outside of the blocks, nanoseconds.
    pub background_cpu_ns: u64,
    /// Bytes written.
    pub written: u64,
    /// Memory in use, bytes.
    pub resident: u64,
}

/// One committed block.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Block {
    /// Until it was committed.
    pub whole: Cost,
    /// Until its root was known, if that is before the end.
    pub root: Option<Cost>,
}

/// Background work has ended when the process used less CPU time than `QUIET_NS` in `LOOK`.
const LOOK: Duration = Duration::from_millis(200);
const QUIET_NS: u64 = 2_000_000;
/// How often is looked at the most.
const LOOKS: usize = 300;

/// Keys looked up in the end.
const CHECKED: usize = 1_000;

/// Fills the store, says so, and commits what is asked until standard input ends.
pub fn serve(contestant: &mut dyn Contestant, keys: usize) -> Result<()> {
    let mut workload = Workload::new(keys);
    for batch in workload.fill() {
        contestant.prepare(batch)?()?;
    }
    settle();
    let mut meter = Meter::start()?;
    say(&meter.answer(Vec::new(), 0)?)?;
    for line in io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?).context("a request that cannot be read")?;
        let answer = match request {
            Request::Turn { blocks, updates } => {
                let (blocks, preparing_ns) = turn(contestant, &mut workload, blocks, updates)?;
                meter.answer(blocks, preparing_ns)?
            }
            Request::Settle => {
                settle();
                let answer = meter.answer(Vec::new(), 0)?;
                check(contestant, &workload)?;
                // The look-ups are not at the store's cost.
                meter = Meter::start()?;
                answer
            }
        };
        say(&answer)?;
    }
    Ok(())
}

/// Commits blocks; what each cost, and the CPU time of preparing them.
fn turn(
    contestant: &mut dyn Contestant,
    workload: &mut Workload,
    count: usize,
    updates: usize,
) -> Result<(Vec<Block>, u64)> {
    let (mut blocks, mut preparing_ns) = (Vec::with_capacity(count), 0);
    for _ in 0..count {
        let before = thread_cpu_ns();
        let commit = contestant.prepare(workload.block(updates))?;
        preparing_ns += thread_cpu_ns() - before;
        let began = Stamp::now();
        let root = commit()?;
        let whole = began.elapsed();
        let root = root.map(|root| root.since(began));
        blocks.push(Block { whole, root });
    }
    Ok((blocks, preparing_ns))
}

/// Error: a key does not have its last value.
fn check(contestant: &mut dyn Contestant, workload: &Workload) -> Result<()> {
    for (key, value) in workload.sample(CHECKED) {
        let found = contestant.get(&key)?;
        let key = String::from_utf8_lossy(&key);
        ensure!(found == Some(value), "key {key} has another value than was committed");
    }
    Ok(())
}

/// What was used up to the last answer.
struct Meter {
    at: Stamp,
    written: u64,
}

impl Meter {
    fn start() -> Result<Self> {
        Ok(Self {
            at: Stamp::now(),
            written: written_bytes()?,
        })
    }

    fn answer(&mut self, blocks: Vec<Block>, preparing_ns: u64) -> Result<Answer> {
        let now = Self::start()?;
        let committing: u64 = blocks.iter().map(|block| block.whole.cpu_ns).sum();
        let all = now.at.since(self.at).cpu_ns;
        let answer = Answer {
            blocks,
            background_cpu_ns: all.saturating_sub(committing).saturating_sub(preparing_ns),
            written: now.written.saturating_sub(self.written),
            resident: resident_bytes()?,
        };
        *self = now;
        Ok(answer)
    }
}

/// Waits until the store's threads have nothing more to do, or a minute.
fn settle() {
    for _ in 0..LOOKS {
        let before = Stamp::now();
        std::thread::sleep(LOOK);
        if before.elapsed().cpu_ns < QUIET_NS {
            return;
        }
    }
}

/// Writes one message.
fn say(message: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, message)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// The driver's end of a contestant.
#[derive(Debug)]
pub struct Wire<R, W> {
    answers: R,
    requests: W,
}

impl<R: BufRead, W: Write> Wire<R, W> {
    /// Over the standard streams of a contestant. Its first answer comes when it is filled.
    pub fn new(answers: R, requests: W) -> Self {
        Self { answers, requests }
    }

    /// Asks and waits for the answer.
    pub fn ask(&mut self, request: Request) -> Result<Answer> {
        serde_json::to_writer(&mut self.requests, &request)?;
        self.requests.write_all(b"\n")?;
        self.requests.flush()?;
        self.answer()
    }

    /// Waits for an answer.
    pub fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the store ended or said {line:?}"))
    }
}
