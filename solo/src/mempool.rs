//! The queue of waiting transactions: CometBFT's `CListMempool` for one node.
//!
//! First in, first out. One lock covers the queue, the cache and the application's CheckTx side, and the engine holds it across
//! `Commit` and recheck; so CheckTx calls are serial and none overlaps `Commit`.

use crate::block::tx_proto_size;
use crate::config::MempoolConfig;
use crate::error::MempoolError;
use crate::merkle::{sha256, Hash32};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{CheckTxType, ExecTxResult, RequestCheckTx, ResponseCheckTx};

/// The part of an application the mempool calls.
pub(crate) trait CheckApp: Send {
    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx;
}

impl<A: Application> CheckApp for A {
    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        Application::check_tx(self, request)
    }
}

/// The most recently seen transaction hashes, bounded.
struct Cache {
    capacity: usize,
    next: u64,
    by_age: BTreeMap<u64, Hash32>,
    ages: BTreeMap<Hash32, u64>,
}

impl Cache {
    /// Remembers a hash as the newest; false if it was there.
    fn push(&mut self, hash: Hash32) -> bool {
        let age = self.next;
        self.next += 1;
        let old = self.ages.insert(hash, age);
        if let Some(old) = old {
            self.by_age.remove(&old);
        }
        self.by_age.insert(age, hash);
        while self.by_age.len() > self.capacity {
            if let Some((_, oldest)) = self.by_age.pop_first() {
                self.ages.remove(&oldest);
            }
        }
        old.is_none()
    }

    fn remove(&mut self, hash: &Hash32) {
        if let Some(age) = self.ages.remove(hash) {
            self.by_age.remove(&age);
        }
    }
}

struct Waiting {
    tx: Vec<u8>,
    hash: Hash32,
    gas_wanted: i64,
}

/// What a block of the next height can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockLimits {
    /// Bytes of transactions in their protobuf framing.
    pub data_bytes: i64,
    /// Gas; -1 is unlimited.
    pub gas: i64,
}

struct Inner {
    app: Box<dyn CheckApp>,
    config: MempoolConfig,
    limits: BlockLimits,
    queue: BTreeMap<u64, Waiting>,
    known: BTreeSet<Hash32>,
    next: u64,
    bytes: u64,
    cache: Cache,
    /// A transaction came in since the last reap.
    fresh: bool,
    closed: bool,
}

/// See the module's documentation.
pub(crate) struct Mempool(Mutex<Inner>);

/// The lock held by the engine from before `Commit` until the queue is up to date again.
pub(crate) struct CommitGuard<'a>(MutexGuard<'a, Inner>);

impl Mempool {
    pub(crate) fn new(app: Box<dyn CheckApp>, config: MempoolConfig, limits: BlockLimits) -> Self {
        let cache = Cache {
            capacity: config.cache_size,
            next: 0,
            by_age: BTreeMap::new(),
            ages: BTreeMap::new(),
        };
        Self(Mutex::new(Inner {
            app,
            config,
            limits,
            queue: BTreeMap::new(),
            known: BTreeSet::new(),
            next: 0,
            bytes: 0,
            cache,
            fresh: false,
            closed: false,
        }))
    }

    /// Runs `CheckTx` and queues the transaction if its code is 0. The flag tells whether the engine should be woken: this is the
    /// first new transaction since the last proposal. Errors are refusals by the queue itself; a non-zero code is not one.
    pub(crate) fn check_tx(&self, tx: &[u8]) -> Result<(ResponseCheckTx, bool), MempoolError> {
        let hash = sha256(tx);
        let mut inner = self.0.lock();
        if inner.closed {
            return Err(MempoolError::Stopped);
        }
        inner.room_for(tx.len())?;
        if tx.len() > inner.config.max_tx_bytes {
            return Err(MempoolError::TooLarge {
                max: inner.config.max_tx_bytes,
                actual: tx.len(),
            });
        }
        let size = tx_proto_size(tx.len());
        if size > inner.limits.data_bytes {
            return Err(MempoolError::PreCheck {
                max: inner.limits.data_bytes,
                actual: size,
            });
        }
        if !inner.cache.push(hash) {
            return Err(MempoolError::TxInCache);
        }
        let request = RequestCheckTx {
            tx: tx.to_vec().into(),
            r#type: CheckTxType::New as i32,
        };
        let response = inner.app.check_tx(request);
        // An invalid transaction may become valid, so it is not remembered.
        if response.code != 0 {
            inner.cache.remove(&hash);
            return Ok((response, false));
        }
        if let Err(e) = inner.gas_fits(response.gas_wanted) {
            inner.cache.remove(&hash);
            return Err(e);
        }
        // Evicted from the cache while still waiting: it is in the queue already.
        if !inner.known.insert(hash) {
            return Err(MempoolError::TxInCache);
        }
        let place = inner.next;
        inner.next += 1;
        inner.bytes += tx.len() as u64;
        inner.queue.insert(
            place,
            Waiting {
                tx: tx.to_vec(),
                hash,
                gas_wanted: response.gas_wanted,
            },
        );
        let wake = !inner.fresh;
        inner.fresh = true;
        Ok((response, wake))
    }

    /// The longest prefix of the queue that fits. Clears the mark [`check_tx`](Self::check_tx) sets.
    pub(crate) fn reap(&self, limits: BlockLimits) -> Vec<Vec<u8>> {
        let mut inner = self.0.lock();
        inner.fresh = false;
        let (mut bytes, mut gas) = (0i64, 0i64);
        let mut out = Vec::new();
        for waiting in inner.queue.values() {
            bytes = bytes.saturating_add(tx_proto_size(waiting.tx.len()));
            gas = gas.saturating_add(waiting.gas_wanted);
            if bytes > limits.data_bytes || (limits.gas > -1 && gas > limits.gas) {
                break;
            }
            out.push(waiting.tx.clone());
        }
        out
    }

    /// Up to `limit` waiting transactions, oldest first.
    pub(crate) fn peek(&self, limit: usize) -> Vec<Vec<u8>> {
        self.0.lock().queue.values().take(limit).map(|w| w.tx.clone()).collect()
    }

    /// Transactions and bytes waiting.
    pub(crate) fn size(&self) -> (usize, u64) {
        let inner = self.0.lock();
        (inner.queue.len(), inner.bytes)
    }

    /// Refuses everything from now on.
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
    }

    /// Locks CheckTx out until the guard is dropped.
    pub(crate) fn lock_for_commit(&self) -> CommitGuard<'_> {
        CommitGuard(self.0.lock())
    }
}

impl Inner {
    fn room_for(&self, len: usize) -> Result<(), MempoolError> {
        if self.queue.len() >= self.config.size || self.bytes + len as u64 > self.config.max_txs_bytes {
            return Err(MempoolError::Full {
                txs: self.queue.len(),
                max_txs: self.config.size,
                bytes: self.bytes,
                max_bytes: self.config.max_txs_bytes,
            });
        }
        Ok(())
    }

    /// CometBFT's `PostCheckMaxGas`: what no block can grant would sit at the head of the queue for ever.
    fn gas_fits(&self, wanted: i64) -> Result<(), MempoolError> {
        let max = self.limits.gas;
        if max == -1 {
            return Ok(());
        }
        if wanted < 0 {
            return Err(MempoolError::NegativeGas(wanted));
        }
        if wanted > max {
            return Err(MempoolError::Gas { wanted, max });
        }
        Ok(())
    }

    fn drop_at(&mut self, place: u64) -> Option<Hash32> {
        let gone = self.queue.remove(&place)?;
        self.known.remove(&gone.hash);
        self.bytes -= gone.tx.len() as u64;
        Some(gone.hash)
    }
}

impl CommitGuard<'_> {
    /// Takes out what was committed, then rechecks the rest against the application's new state under the next block's limits.
    /// Returns how many remain.
    pub(crate) fn update(&mut self, txs: &[Vec<u8>], results: &[ExecTxResult], limits: BlockLimits) -> usize {
        let inner = &mut *self.0;
        inner.limits = limits;
        let mut committed = BTreeSet::new();
        for (tx, result) in txs.iter().zip(results) {
            let hash = sha256(tx);
            if result.code == 0 {
                inner.cache.push(hash);
            } else {
                inner.cache.remove(&hash);
            }
            committed.insert(hash);
        }
        let gone: Vec<u64> = inner
            .queue
            .iter()
            .filter(|(_, w)| committed.contains(&w.hash))
            .map(|(place, _)| *place)
            .collect();
        for place in gone {
            inner.drop_at(place);
        }
        let rest: Vec<u64> = inner.queue.keys().copied().collect();
        for place in rest {
            let Some(waiting) = inner.queue.get(&place) else {
                continue;
            };
            let request = RequestCheckTx {
                tx: waiting.tx.clone().into(),
                r#type: CheckTxType::Recheck as i32,
            };
            let size = tx_proto_size(waiting.tx.len());
            let response = inner.app.check_tx(request);
            let keep =
                response.code == 0 && size <= inner.limits.data_bytes && inner.gas_fits(response.gas_wanted).is_ok();
            if !keep {
                if let Some(hash) = inner.drop_at(place) {
                    inner.cache.remove(&hash);
                }
            }
        }
        inner.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Codes are the first byte; gas wanted the second; what is in `refused` fails recheck.
    #[derive(Clone, Default)]
    struct Checker {
        refused: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl CheckApp for Checker {
        fn check_tx(&self, r: RequestCheckTx) -> ResponseCheckTx {
            let refused = r.r#type == CheckTxType::Recheck as i32 && self.refused.lock().iter().any(|t| *t == r.tx);
            let code = if refused {
                9
            } else {
                u32::from(r.tx.first().copied().unwrap_or(1))
            };
            ResponseCheckTx {
                code,
                gas_wanted: i64::from(r.tx.get(1).copied().unwrap_or(0)),
                ..Default::default()
            }
        }
    }

    const WIDE: BlockLimits = BlockLimits {
        data_bytes: 1000,
        gas: -1,
    };

    fn pool(config: MempoolConfig, limits: BlockLimits) -> (Mempool, Checker) {
        let app = Checker::default();
        (Mempool::new(Box::new(app.clone()), config, limits), app)
    }

    #[test]
    fn order_is_first_in_first_out_and_wakes_once() {
        let (pool, _) = pool(MempoolConfig::default(), WIDE);
        let wakes: Vec<bool> = (0..3u8).map(|i| pool.check_tx(&[0, 0, i]).unwrap().1).collect();
        assert_eq!(wakes, [true, false, false]);
        assert_eq!(pool.reap(WIDE), [[0, 0, 0], [0, 0, 1], [0, 0, 2]]);
        assert!(pool.check_tx(&[0, 0, 9]).unwrap().1);
        // A block takes a prefix: 3 bytes and 2 of framing each.
        assert_eq!(
            pool.reap(BlockLimits {
                data_bytes: 14,
                gas: -1
            })
            .len(),
            2
        );
    }

    #[test]
    fn duplicates_are_refused_until_forgotten() {
        let (pool, _) = pool(
            MempoolConfig {
                cache_size: 2,
                ..Default::default()
            },
            WIDE,
        );
        pool.check_tx(&[0, 0, 1]).unwrap();
        let e = pool.check_tx(&[0, 0, 1]).unwrap_err();
        assert_eq!(
            (e.to_string().as_str(), e.sdk_code()),
            ("tx already exists in cache", Some(19))
        );
        // Two more push the first out of the cache, but it still waits, so it is still a duplicate.
        pool.check_tx(&[0, 0, 2]).unwrap();
        pool.check_tx(&[0, 0, 3]).unwrap();
        assert_eq!(pool.check_tx(&[0, 0, 1]).unwrap_err(), MempoolError::TxInCache);
        assert_eq!(pool.size(), (3, 9));
    }

    #[test]
    fn a_refused_transaction_may_be_sent_again() {
        let (pool, _) = pool(MempoolConfig::default(), WIDE);
        assert_eq!(pool.check_tx(&[5, 0]).unwrap().0.code, 5);
        assert_eq!(pool.check_tx(&[5, 0]).unwrap().0.code, 5);
        assert_eq!(pool.size(), (0, 0));
    }

    #[test]
    fn limits_have_cometbfts_words() {
        let config = MempoolConfig {
            size: 2,
            max_txs_bytes: 50,
            max_tx_bytes: 30,
            ..Default::default()
        };
        let (pool, _) = pool(
            config,
            BlockLimits {
                data_bytes: 20,
                gas: 10,
            },
        );
        assert_eq!(
            pool.check_tx(&[0; 31]).unwrap_err().to_string(),
            "Tx too large. Max size is 30, but got 31"
        );
        assert_eq!(
            pool.check_tx(&[0; 25]).unwrap_err().to_string(),
            "tx pre check: tx size is too big: 27, max: 20"
        );
        assert_eq!(
            pool.check_tx(&[0, 11]).unwrap_err().to_string(),
            "gas wanted 11 is greater than max gas 10"
        );
        pool.check_tx(&[0, 1]).unwrap();
        pool.check_tx(&[0, 2]).unwrap();
        assert_eq!(
            pool.check_tx(&[0, 3]).unwrap_err().to_string(),
            "mempool is full: number of txs 2 (max: 2), total txs bytes 4 (max: 50)"
        );
        assert_eq!(
            pool.reap(BlockLimits {
                data_bytes: 100,
                gas: 2
            })
            .len(),
            1
        );
        pool.close();
        assert_eq!(pool.check_tx(&[0, 3]).unwrap_err(), MempoolError::Stopped);
    }

    #[test]
    fn committed_leave_and_the_rest_is_rechecked() {
        let (pool, app) = pool(MempoolConfig::default(), WIDE);
        for i in 1..=4u8 {
            pool.check_tx(&[0, i]).unwrap();
        }
        *app.refused.lock() = vec![vec![0, 3]];
        let ok = ExecTxResult::default();
        let failed = ExecTxResult {
            code: 1,
            ..Default::default()
        };
        let left = pool
            .lock_for_commit()
            .update(&[vec![0, 1], vec![0, 2]], &[ok, failed], WIDE);
        assert_eq!(left, 1);
        assert_eq!(pool.peek(9), [[0, 4]]);
        // Committed with success: remembered. Committed with failure, or failed recheck: may be tried again.
        assert_eq!(pool.check_tx(&[0, 1]).unwrap_err(), MempoolError::TxInCache);
        pool.check_tx(&[0, 2]).unwrap();
        pool.check_tx(&[0, 3]).unwrap();
    }
}
