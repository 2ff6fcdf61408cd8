//! Transactions at a rate, and when each was committed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tenure_client::tx::{fee, Draft, Signer};
use tenure_comet::rpc::Rpc;
use tenure_proto::cosmos::bank::v1beta1::MsgSend;
use tenure_proto::cosmos::base::v1beta1::Coin;
use tenure_testkit::chain::Chain;
use tenure_testkit::history::{read_block, TxHash};
use tenure_testkit::load::Sender;
use tenure_testkit::network::CHAIN_ID;
use tenure_types::BASE_DENOM;

/// What a transfer asks for.
const GAS: u64 = 20_000;
/// Accepted and not yet committed transactions, at the most. Less than a mempool holds (5,000): one that fills up while it checks a transaction
/// drops it after having accepted it.
pub(super) const IN_FLIGHT: usize = 4_000;
/// How often is looked for a new block.
const LOOK: Duration = Duration::from_millis(5);
/// At the beginning of a run nothing is counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// The most time that what was accepted takes to be committed.
const DRAIN: Duration = Duration::from_secs(60);

/// Transactions of several senders, each sender's in order.
pub(super) type Queues = Vec<Vec<Vec<u8>>>;

/// Signed transfers from the senders' committed sequences on. Made before anything is measured: signing is not what is measured.
pub(super) fn transfers(senders: &[Sender], chain: &Chain, each: usize) -> Result<Queues> {
    let fee = fee(GAS, chain.ask(|c| c.chain_params())?.min_gas_price_micro);
    let mut accounts = Vec::new();
    for sender in senders {
        let address = sender.key().address().to_string();
        accounts.push(chain.ask(|c| c.account(&address))?);
    }
    let sign = |index: usize| -> Vec<Vec<u8>> {
        let (key, account) = (senders[index].key(), &accounts[index]);
        let receiver = senders[(index + 1) % senders.len()].key().address();
        let transfer = |sequence: u64| {
            let message = MsgSend {
                from_address: key.address().to_string(),
                to_address: receiver.to_string(),
                amount: vec![Coin {
                    denom: BASE_DENOM.to_owned(),
                    amount: "1".to_owned(),
                }],
            };
            let signers = [Signer::new(key, sequence)];
            let draft = Draft::new(vec![tenure_proto::any(&message)], "", 0, &signers, GAS, fee);
            let signature = draft.sign(key, CHAIN_ID, account.account_number);
            draft.assemble(vec![signature]).bytes
        };
        (account.sequence..account.sequence + each as u64)
            .map(transfer)
            .collect()
    };
    // A thread a sender: a few seconds of signatures on every core.
    let sign = &sign;
    Ok(std::thread::scope(|scope| {
        let threads: Vec<_> = (0..senders.len())
            .map(|index| scope.spawn(move || sign(index)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("signing does not panic"))
            .collect()
    }))
}

/// `key=value` transactions of the kvstore, as many and as long as transfers are. No key twice while `first` grows by as many.
pub(super) fn pairs(senders: usize, first: u64, each: usize, bytes: usize) -> Queues {
    let pair = |sender: usize, sequence: u64| {
        let key = format!("{sender:08x}{sequence:016x}");
        let mut value = String::new();
        let mut block = Sha256::digest(&key);
        while key.len() + 1 + value.len() < bytes {
            value += &hex::encode(block);
            block = Sha256::digest(block);
        }
        let mut pair = format!("{key}={value}").into_bytes();
        pair.truncate(bytes);
        pair
    };
    let queue = |sender| {
        (first..first + each as u64)
            .map(|sequence| pair(sender, sequence))
            .collect()
    };
    (0..senders).map(queue).collect()
}

/// What a run gave.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Transactions sent and accepted by `CheckTx`.
    pub(super) sent: usize,
    /// Transactions committed in each second from warm-up to the last.
    pub(super) committed_a_second: f64,
    /// From the sending of a transaction until its block was committed and read, microseconds.
    pub(super) latencies_us: Vec<i64>,
    /// Between blocks by their time, milliseconds.
    pub(super) intervals_ms: Vec<i64>,
    /// Height and number of transactions of each block that has any.
    blocks: Vec<(i64, usize)>,
}

/// A block that was seen.
struct Seen {
    height: i64,
    at: Instant,
    time_ms: i64,
    txs: Vec<TxHash>,
}

/// Sends the queues through the nodes for `time`, `rate` a second in all or, without, as fast as nodes answer; waits until all is
/// committed. Error: a node refuses a transaction, executes one badly, or does not commit what it accepted.
pub(super) fn run(rpcs: &[Rpc], queues: Queues, rate: Option<u32>, time: Duration) -> Result<Outcome> {
    let first = rpcs.first().context("no nodes")?;
    let watcher = Watcher::start(first.clone())?;
    let senders = u32::try_from(queues.len())?;
    let every = match rate {
        Some(rate) => Duration::from_secs(1) * senders / rate,
        None => Duration::ZERO,
    };
    let (began, end) = (Instant::now(), Instant::now() + time);
    // Not all at the same instant.
    let starts = (0..senders).map(|index| began + every * index / senders);
    let threads: Vec<_> = queues
        .into_iter()
        .zip(rpcs.iter().cloned().cycle())
        .zip(starts)
        .map(|((queue, rpc), start)| {
            let flow = watcher.flow.clone();
            std::thread::spawn(move || send(&rpc, queue, &flow, every, start, end))
        })
        .collect();
    let mut outcome = Outcome::default();
    let mut sent = BTreeMap::new();
    let mut failure = None;
    for thread in threads {
        match thread.join().expect("sending does not panic") {
            Ok(mine) => sent.extend(mine),
            Err(e) => failure = Some(e),
        }
    }
    let ended = Instant::now();
    if let Some(e) = failure {
        return Err(e);
    }
    // A watcher that has failed says why in the end.
    while watcher.found(&sent) < sent.len() && !watcher.failed() {
        ensure!(
            ended.elapsed() < DRAIN,
            "{} of {} accepted transactions are in the {} blocks seen {DRAIN:?} after the last was sent",
            watcher.found(&sent),
            sent.len(),
            watcher.seen.lock().len()
        );
        std::thread::sleep(LOOK * 10);
    }
    let blocks = watcher.finish()?;
    outcome.sent = sent.len();
    let filled = blocks.iter().filter(|block| !block.txs.is_empty());
    outcome.blocks = filled.map(|block| (block.height, block.txs.len())).collect();
    outcome.measure(&blocks, &sent, began + WARM_UP);
    Ok(outcome)
}

impl Outcome {
    /// Figures of what was sent, and of the blocks that were seen, from an instant on until the last that has transactions.
    fn measure(&mut self, blocks: &[Seen], sent: &BTreeMap<TxHash, Instant>, from: Instant) {
        let end = blocks.iter().rposition(|block| !block.txs.is_empty());
        let blocks = &blocks[..end.map_or(0, |last| last + 1)];
        let within: Vec<&Seen> = blocks.iter().filter(|block| block.at >= from).collect();
        if let (Some(first), Some(last)) = (within.first(), within.last()) {
            // The first block's transactions are of the time before it.
            let count: usize = within.iter().skip(1).map(|block| block.txs.len()).sum();
            self.committed_a_second = count as f64 / (last.at - first.at).as_secs_f64();
        }
        self.intervals_ms = within
            .windows(2)
            .map(|pair| pair[1].time_ms - pair[0].time_ms)
            .collect();
        let pairs = blocks
            .iter()
            .flat_map(|block| block.txs.iter().map(|tx| (tx, block.at)));
        self.latencies_us = pairs
            .filter_map(|(tx, at)| Some((*sent.get(tx)?, at)))
            .filter(|(sent, _)| *sent >= from)
            .map(|(sent, at)| i64::try_from((at - sent).as_micros()).unwrap_or(i64::MAX))
            .collect();
    }
}

/// How many transactions were accepted and committed so far.
#[derive(Debug, Default)]
struct Flow {
    accepted: AtomicUsize,
    committed: AtomicUsize,
}

impl Flow {
    fn has_room(&self) -> bool {
        let committed = self.committed.load(Ordering::Relaxed);
        self.accepted.load(Ordering::Relaxed).saturating_sub(committed) < IN_FLIGHT
    }
}

/// One sender: when each accepted transaction was sent.
fn send(
    rpc: &Rpc,
    queue: Vec<Vec<u8>>,
    flow: &Flow,
    every: Duration,
    from: Instant,
    end: Instant,
) -> Result<Vec<(TxHash, Instant)>> {
    let mut sent = Vec::with_capacity(queue.len());
    let mut next = from;
    for tx in queue {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        while !flow.has_room() && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
        let at = Instant::now();
        if at >= end {
            break;
        }
        let check = rpc.broadcast_tx_sync(&tx)?;
        ensure!(
            check.code == 0,
            "CheckTx refused with code {}: {}",
            check.code,
            check.log
        );
        flow.accepted.fetch_add(1, Ordering::Relaxed);
        sent.push((Sha256::digest(&tx).into(), at));
        // After a stall there is no burst to make up for it.
        next = (next + every).max(Instant::now());
    }
    Ok(sent)
}

/// Reads new blocks of one node as soon as its application has committed them.
struct Watcher {
    seen: Arc<Mutex<Vec<Seen>>>,
    flow: Arc<Flow>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Watcher {
    fn start(rpc: Rpc) -> Result<Self> {
        let height = rpc.status()?.latest_height;
        let (seen, stop): (Arc<Mutex<Vec<Seen>>>, Arc<AtomicBool>) = Default::default();
        let flow = Arc::<Flow>::default();
        let (into, passed, until) = (seen.clone(), flow.clone(), stop.clone());
        let thread = std::thread::spawn(move || watch(&rpc, height, &into, &passed, &until));
        Ok(Self {
            seen,
            flow,
            stop,
            thread: Some(thread),
        })
    }

    /// How many of these are in blocks.
    fn found(&self, sent: &BTreeMap<TxHash, Instant>) -> usize {
        let seen = self.seen.lock();
        let in_blocks = seen.iter().flat_map(|block| &block.txs);
        in_blocks.filter(|tx| sent.contains_key(*tx)).count()
    }

    fn failed(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// The blocks. Error: reading them failed.
    fn finish(mut self) -> Result<Vec<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("reading does not panic")?;
        }
        Ok(std::mem::take(&mut self.seen.lock()))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads the blocks after `height` until told to stop. Not their results: as JSON they cost the engine more than the transactions do, and the more,
/// the more events an application has.
fn watch(rpc: &Rpc, mut height: i64, into: &Mutex<Vec<Seen>>, flow: &Flow, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let block = match rpc.app_height()? > height {
            true => rpc.block(Some(height + 1))?,
            false => None,
        };
        let Some((_, block)) = block else {
            std::thread::sleep(LOOK);
            continue;
        };
        height += 1;
        let time = block.header.and_then(|header| header.time);
        let time = time.with_context(|| format!("block {height} has no time"))?;
        let txs = block.data.map(|data| data.txs).unwrap_or_default();
        flow.committed.fetch_add(txs.len(), Ordering::Relaxed);
        into.lock().push(Seen {
            height,
            at: Instant::now(),
            time_ms: time.seconds * 1_000 + i64::from(time.nanos / 1_000_000),
            txs: txs.iter().map(|tx| Sha256::digest(tx).into()).collect(),
        });
    }
    Ok(())
}

/// Whether all transactions of a run succeeded. To be asked when nothing is measured any more. Error: names one that did not.
pub(super) fn all_succeeded(rpc: &Rpc, outcome: &Outcome) -> Result<()> {
    for (height, txs) in &outcome.blocks {
        let facts = read_block(rpc, *height)?.with_context(|| format!("block {height} has no results"))?;
        ensure!(facts.txs.len() == *txs, "block {height} is another one now");
        let bad = facts.txs.iter().find(|(_, code, _)| *code != 0);
        ensure!(bad.is_none(), "a transaction failed in block {height}: {bad:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_what_the_kvstore_takes() {
        let queues = pairs(3, 5, 4, 300);
        assert_eq!((queues.len(), queues[0].len()), (3, 4));
        let all: std::collections::BTreeSet<_> = queues.iter().flatten().collect();
        assert_eq!(all.len(), 12, "all different");
        for tx in all {
            assert_eq!(tx.len(), 300);
            // What its CheckTx wants: one `=`, neither first nor last.
            assert_eq!(tx.iter().filter(|byte| **byte == b'=').count(), 1);
            assert!(tx[0] != b'=' && tx[299] != b'=');
        }
    }

    #[test]
    fn rates_and_latencies_are_of_the_time_after_warming_up() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let block = |ms: u64, txs: &[u8]| Seen {
            height: 1,
            at: at(ms),
            time_ms: i64::try_from(ms).expect("small"),
            txs: txs.iter().map(|tx| [*tx; 32]).collect(),
        };
        let blocks = [
            block(500, &[1]),
            block(1_000, &[2, 3]),
            block(2_000, &[4, 5, 6]),
            block(3_000, &[7]),
            block(9_000, &[]),
        ];
        let sent = [
            (1, 100),
            (2, 600),
            (3, 990),
            (4, 1_500),
            (5, 1_600),
            (6, 1_700),
            (7, 2_500),
        ];
        let sent = sent.iter().map(|(tx, ms)| ([*tx; 32], at(*ms))).collect();
        let mut outcome = Outcome::default();
        outcome.measure(&blocks, &sent, at(900));
        assert_eq!(outcome.committed_a_second, 2.0);
        assert_eq!(outcome.intervals_ms, [1_000, 1_000]);
        assert_eq!(outcome.latencies_us, [10_000, 500_000, 400_000, 300_000, 500_000]);
    }
}
