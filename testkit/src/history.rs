//! What every node said about every block, held to what must never happen.
//!
//! [`History`] is the checker and does no I/O: nodes' blocks go in, in any order and repeatedly, and the first contradiction comes out.
//! [`Readers`] feed it while the network runs, so that whatever a node ever showed as committed is remembered and must stay.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tenure_comet::rpc::Rpc;

/// How often a reader looks for a new block.
const LOOK: Duration = Duration::from_millis(200);

/// SHA-256 of a transaction's bytes.
pub type TxHash = [u8; 32];

/// What one node says about one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFacts {
    /// Hash of its header.
    pub block_hash: Vec<u8>,
    /// Its time, Unix milliseconds.
    pub time_ms: i64,
    /// The header's app hash: the state before the block.
    pub app_hash_before: Vec<u8>,
    /// The state after it.
    pub app_hash_after: Vec<u8>,
    /// Its transactions in order with code and gas used.
    pub txs: Vec<(TxHash, u32, i64)>,
}

/// Something that must never happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A node says of a block what another node, or it itself, has said differently.
    Disagreement {
        /// The node.
        node: String,
        /// The block.
        height: i64,
        /// What differs.
        what: &'static str,
    },
    /// A header's app hash is not what the block before it left.
    Chain {
        /// The later block.
        height: i64,
    },
    /// A transaction is in two places.
    Twice {
        /// The transaction.
        tx: TxHash,
        /// The one block.
        first: i64,
        /// The other, or the same one again.
        second: i64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disagreement { node, height, what } => {
                write!(f, "{node} has another {what} at height {height} than was seen before")
            }
            Self::Chain { height } => write!(
                f,
                "the app hash in the header of block {height} is not the one that block {} left",
                height - 1
            ),
            Self::Twice { tx, first, second } => {
                write!(
                    f,
                    "transaction {} is in block {first} and in block {second}",
                    hex::encode_upper(tx)
                )
            }
        }
    }
}

impl std::error::Error for Violation {}

/// Every block that any node has shown.
#[derive(Debug, Default)]
pub struct History {
    blocks: BTreeMap<i64, BlockFacts>,
    places: BTreeMap<TxHash, (i64, u32)>,
    /// The last block that each node has shown.
    shown: BTreeMap<String, i64>,
}

impl History {
    /// Takes what a node says. Error: it cannot be true together with what is known.
    pub fn record(&mut self, node: &str, height: i64, facts: BlockFacts) -> Result<(), Violation> {
        if let Some(known) = self.blocks.get(&height) {
            let disagreement = |what| Violation::Disagreement {
                node: node.to_owned(),
                height,
                what,
            };
            let comparisons = [
                ("block hash", known.block_hash == facts.block_hash),
                ("app hash before it", known.app_hash_before == facts.app_hash_before),
                ("app hash after it", known.app_hash_after == facts.app_hash_after),
                ("list of transactions and results", known.txs == facts.txs),
                ("time", known.time_ms == facts.time_ms),
            ];
            if let Some((what, _)) = comparisons.into_iter().find(|(_, equal)| !equal) {
                return Err(disagreement(what));
            }
        } else {
            self.insert(height, facts)?;
        }
        let last = self.shown.entry(node.to_owned()).or_default();
        *last = height.max(*last);
        Ok(())
    }

    fn insert(&mut self, height: i64, facts: BlockFacts) -> Result<(), Violation> {
        let before = self.blocks.get(&(height - 1));
        if before.is_some_and(|b| b.app_hash_after != facts.app_hash_before) {
            return Err(Violation::Chain { height });
        }
        let after = self.blocks.get(&(height + 1));
        if after.is_some_and(|a| a.app_hash_before != facts.app_hash_after) {
            return Err(Violation::Chain { height: height + 1 });
        }
        for (tx, code, _) in &facts.txs {
            if let Some((first, _)) = self.places.insert(*tx, (height, *code)) {
                return Err(Violation::Twice {
                    tx: *tx,
                    first,
                    second: height,
                });
            }
        }
        self.blocks.insert(height, facts);
        Ok(())
    }

    /// The last block that anybody has shown; 0 before the first.
    pub fn last(&self) -> i64 {
        self.blocks.keys().next_back().copied().unwrap_or_default()
    }

    /// The last block that a node has shown; 0 before the first.
    pub fn last_of(&self, node: &str) -> i64 {
        self.shown.get(node).copied().unwrap_or_default()
    }

    /// Where a transaction is, and its code; `None` if nobody has shown it.
    pub fn place(&self, tx: &TxHash) -> Option<(i64, u32)> {
        self.places.get(tx).copied()
    }

    /// How many transactions the blocks from `height` on have.
    pub fn transactions_since(&self, height: i64) -> usize {
        self.blocks.range(height..).map(|(_, facts)| facts.txs.len()).sum()
    }

    /// Times between the blocks from `first` to `last`, milliseconds, sorted.
    pub fn intervals(&self, first: i64, last: i64) -> Vec<i64> {
        let times: Vec<i64> = self
            .blocks
            .range(first..=last)
            .map(|(_, facts)| facts.time_ms)
            .collect();
        let mut intervals: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        intervals.sort_unstable();
        intervals
    }
}

/// The value below which `percent` of the sorted values are; 0 of none.
pub fn percentile(sorted: &[i64], percent: usize) -> i64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

/// What a node says about a block; `None` if it does not have it, or has not executed it yet.
pub fn read_block(rpc: &Rpc, height: i64) -> Result<Option<BlockFacts>> {
    let Some((id, block)) = rpc.block(Some(height))? else {
        return Ok(None);
    };
    // CometBFT shows a block a moment before its results; the reader comes again.
    let Ok(Some(results)) = rpc.block_results(Some(height)) else {
        return Ok(None);
    };
    let header = block.header.context("a block without a header")?;
    let time = header.time.context("a header without a time")?;
    let txs = block.data.map(|d| d.txs).unwrap_or_default();
    ensure!(
        txs.len() == results.tx_results.len(),
        "block {height} has {} transactions and {} results",
        txs.len(),
        results.tx_results.len()
    );
    let txs = txs.iter().zip(&results.tx_results);
    Ok(Some(BlockFacts {
        block_hash: id.hash,
        time_ms: time.seconds * 1_000 + i64::from(time.nanos / 1_000_000),
        app_hash_before: header.app_hash,
        app_hash_after: results.app_hash.to_vec(),
        txs: txs
            .map(|(tx, result)| (Sha256::digest(tx).into(), result.code, result.gas_used))
            .collect(),
    }))
}

/// Reads every block of a node from `first` to `last` again, wherever it was read before. Error: a contradiction, or a block is not there.
pub fn reread(history: &Mutex<History>, node: &str, rpc: &Rpc, first: i64, last: i64) -> Result<()> {
    for height in first..=last {
        let facts = read_block(rpc, height)?.with_context(|| format!("{node} does not have block {height}"))?;
        history.lock().record(node, height, facts)?;
    }
    Ok(())
}

/// One thread for each node that reads its new blocks into a history, through restarts of the node.
#[derive(Debug)]
pub struct Readers {
    history: Arc<Mutex<History>>,
    failure: Arc<Mutex<Option<String>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Readers of nothing yet.
    pub fn new() -> Self {
        Self {
            history: Arc::default(),
            failure: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// Begins to read a node from its first block on.
    pub fn read(&mut self, node: &str, rpc: Rpc) {
        let (history, failure, stop) = (self.history.clone(), self.failure.clone(), self.stop.clone());
        let node = node.to_owned();
        self.threads.push(std::thread::spawn(move || {
            let mut next = None;
            while !stop.load(Ordering::Relaxed) {
                if let Err(e) = advance(&history, &node, &rpc, &mut next, &stop) {
                    failure.lock().get_or_insert(format!("{e:#}"));
                    return;
                }
                std::thread::sleep(LOOK);
            }
        }));
    }

    /// What was read so far. Error: a contradiction.
    pub fn history(&self) -> Result<parking_lot::MutexGuard<'_, History>> {
        if let Some(reason) = self.failure.lock().clone() {
            anyhow::bail!(reason);
        }
        Ok(self.history.lock())
    }

    /// The history itself.
    pub fn shared(&self) -> &Mutex<History> {
        &self.history
    }
}

impl Default for Readers {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Reads what is new. A node that does not answer is asked again later. Error: a contradiction.
fn advance(
    history: &Mutex<History>,
    node: &str,
    rpc: &Rpc,
    next: &mut Option<i64>,
    stop: &AtomicBool,
) -> Result<(), Violation> {
    let Ok(status) = rpc.status() else { return Ok(()) };
    // One that came by a snapshot has no earlier blocks.
    let mut height = next.unwrap_or(status.earliest_height.max(1));
    while height <= status.latest_height && !stop.load(Ordering::Relaxed) {
        let Ok(Some(facts)) = read_block(rpc, height) else {
            break;
        };
        history.lock().record(node, height, facts)?;
        height += 1;
        *next = Some(height);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(height: u8, txs: &[u8]) -> BlockFacts {
        BlockFacts {
            block_hash: vec![height],
            time_ms: i64::from(height) * 500,
            app_hash_before: vec![height - 1, 7],
            app_hash_after: vec![height, 7],
            txs: txs.iter().map(|tx| ([*tx; 32], 0, 100)).collect(),
        }
    }

    fn of(blocks: &[(&str, i64, BlockFacts)]) -> Result<History, Violation> {
        let mut history = History::default();
        for (node, height, facts) in blocks {
            history.record(node, *height, facts.clone())?;
        }
        Ok(history)
    }

    #[test]
    fn equal_chains_in_any_order_are_fine() {
        let history = of(&[
            ("a", 2, facts(2, &[3])),
            ("b", 1, facts(1, &[1, 2])),
            ("b", 2, facts(2, &[3])),
            ("a", 1, facts(1, &[1, 2])),
            ("a", 1, facts(1, &[1, 2])),
        ])
        .expect("no contradiction");
        assert_eq!((history.last(), history.transactions_since(1)), (2, 3));
        assert_eq!(history.place(&[3; 32]), Some((2, 0)));
        assert_eq!(history.place(&[4; 32]), None);
        assert_eq!((history.last_of("b"), history.last_of("c")), (2, 0));
        assert_eq!(history.intervals(1, 2), [500]);
    }

    #[test]
    fn every_difference_between_two_nodes_is_found() {
        type Change = fn(&mut BlockFacts);
        let changes: [(&str, Change); 5] = [
            ("block hash", |f| f.block_hash = vec![9]),
            ("app hash before it", |f| f.app_hash_before = vec![9]),
            ("app hash after it", |f| f.app_hash_after = vec![9]),
            ("list of transactions and results", |f| f.txs[0].1 = 5),
            ("time", |f| f.time_ms += 1),
        ];
        for (what, change) in changes {
            let mut other = facts(1, &[1]);
            change(&mut other);
            let found = of(&[("a", 1, facts(1, &[1])), ("b", 1, other)]).expect_err(what);
            let node = "b".to_owned();
            assert_eq!(found, Violation::Disagreement { node, height: 1, what });
        }
    }

    #[test]
    fn a_chain_that_does_not_join_is_found_from_either_side() {
        let mut broken = facts(2, &[]);
        broken.app_hash_before = vec![9];
        let forwards = of(&[("a", 1, facts(1, &[])), ("a", 2, broken.clone())]);
        let backwards = of(&[("a", 2, broken), ("b", 1, facts(1, &[]))]);
        for found in [forwards, backwards] {
            assert_eq!(found.expect_err("broken"), Violation::Chain { height: 2 });
        }
    }

    #[test]
    fn a_transaction_in_two_places_is_found() {
        let twice = |first, second| Violation::Twice {
            tx: [1; 32],
            first,
            second,
        };
        let across = of(&[("a", 1, facts(1, &[1])), ("a", 2, facts(2, &[1]))]);
        assert_eq!(across.expect_err("twice"), twice(1, 2));
        let within = of(&[("a", 1, facts(1, &[1, 1]))]);
        assert_eq!(within.expect_err("twice"), twice(1, 1));
    }

    #[test]
    fn percentiles() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[7], 95), 7);
        let values: Vec<i64> = (1..=100).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 95)), (50, 95));
        assert_eq!(percentile(&values, 100), 100);
    }
}
