//! Verifies the signatures of a block on all cores while the block is executed, so that execution finds them in the cache.
//!
//! Signatures are three quarters of the work of a block that was not in the mempool, and the only part that does not depend on order. Threads take
//! the transactions from the front, [`CHUNK`] at a time, and the execution follows them; where it catches up, it takes part. What cannot be judged
//! yet, because the account is made in the same block, is left to execution. What execution refuses before it looks at any signature is not looked
//! at here either, and a proposal that is no longer wanted is left at the next signature: a hostile proposer must not keep the cores busy.

use std::sync::{
    atomic::{AtomicBool, AtomicUsize, Ordering},
    Arc,
};

use tenure_sdk::{Block, Ctx, Mode, Result, State};
use tenure_x_auth as auth;

use super::{
    ante::{shown_key, stateless},
    cache::Signer,
    sign, Rules, Signatures, Tx,
};

/// Transactions that a thread takes at a time: a quarter of a millisecond.
const CHUNK: usize = 8;

/// The signatures of a block's transactions.
pub(crate) struct Ahead<'a> {
    state: &'a State,
    block: &'a Block,
    rules: &'a Rules,
    signatures: &'a Signatures,
    txs: &'a [Result<Arc<Tx>>],
    /// Set when nobody wants to know any more.
    stopped: &'a AtomicBool,
    /// Chunks that somebody has taken.
    taken: AtomicUsize,
    /// Whether each chunk has been verified; none if there is nothing to verify.
    done: Vec<AtomicBool>,
}

impl<'a> Ahead<'a> {
    /// Signatures of transactions that are about to be executed on a state, under rules, unless it is `stopped`.
    pub(crate) fn new(
        (state, block, rules): (&'a State, &'a Block, &'a Rules),
        txs: &'a [Result<Arc<Tx>>],
        signatures: &'a Signatures,
        stopped: &'a AtomicBool,
    ) -> Self {
        let met = |tx: &Arc<Tx>| signatures.met(tx.hash, tx.raw.signatures.len());
        let chunks = if signatures.remembers() && !txs.iter().flatten().all(met) {
            txs.len().div_ceil(CHUNK)
        } else {
            0
        };
        Self {
            state,
            block,
            rules,
            signatures,
            txs,
            stopped,
            taken: AtomicUsize::new(0),
            done: (0..chunks).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Executes while other threads verify. They end with it: what it did not come to is not verified.
    pub(crate) fn during<R>(&self, execute: impl FnOnce() -> R) -> R {
        if self.done.is_empty() {
            return execute();
        }
        // This thread is one of them.
        let others = rayon::current_num_threads().saturating_sub(1).clamp(1, self.done.len());
        rayon::in_place_scope(|scope| {
            for _ in 0..others {
                scope.spawn(|_| {
                    while self.step() {
                        // The pool serves the next proposal, too, which must be judged in time.
                        rayon::yield_now();
                    }
                });
            }
            let _end = End(self);
            execute()
        })
    }

    /// Verifies everything.
    pub(crate) fn all(&self) {
        self.during(|| while self.step() {});
    }

    /// Comes back when the signatures of the transaction with this index have been looked at, and helps meanwhile.
    pub(crate) fn reach(&self, index: usize) {
        let Some(done) = index.checked_div(CHUNK).and_then(|chunk| self.done.get(chunk)) else {
            return;
        };
        while !done.load(Ordering::Acquire) && !self.stopped.load(Ordering::Relaxed) {
            if !self.step() {
                std::thread::yield_now();
            }
        }
    }

    /// Verifies the next chunk; false if all are taken, or nobody wants to know any more.
    fn step(&self) -> bool {
        if self.stopped.load(Ordering::Relaxed) {
            return false;
        }
        let chunk = self.taken.fetch_add(1, Ordering::Relaxed);
        let (Some(done), Some(txs)) = (self.done.get(chunk), self.txs.chunks(CHUNK).nth(chunk)) else {
            return false;
        };
        // Whoever waits for it must not wait for a thread that has panicked.
        let _done = Done(done);
        let mut ctx = Ctx::new(self.state.clone(), self.block.clone(), Mode::Query);
        for tx in txs.iter().flatten() {
            if !self.signatures.met(tx.hash, tx.raw.signatures.len()) {
                self.verify(&mut ctx, tx);
            }
        }
        true
    }

    /// Verifies what signatures of a transaction can be judged.
    fn verify(&self, ctx: &mut Ctx, tx: &Tx) {
        let (Ok(signers), Ok(_)) = (
            tx.signers(),
            stateless(Mode::Deliver, self.block.height, tx, self.rules),
        ) else {
            return;
        };
        for (i, (signer, info)) in signers.iter().zip(&tx.auth_info.signer_infos).enumerate() {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let Ok(Some(account)) = auth::account(ctx, signer) else {
                continue;
            };
            let key = match auth::pub_key_of(&account) {
                Ok(None) => shown_key(info).ok().flatten(),
                Ok(known) => known,
                Err(_) => None,
            };
            if let Some(compressed) = key {
                let signer = Signer {
                    chain_id: &self.block.chain_id,
                    account_number: account.account_number,
                    compressed,
                };
                // Execution meets a bad one again, and says so.
                let _ = sign::check(self.signatures, tx, (i, info), &signer);
            }
        }
    }
}

/// Marks a chunk when the thread that took it leaves it.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Leaves nothing to take when the execution has ended.
struct End<'a, 'b>(&'b Ahead<'a>);

impl Drop for End<'_, '_> {
    fn drop(&mut self) {
        self.0.taken.store(self.0.done.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, AssertUnwindSafe};

    use tenure_sdk::{Committed, DeriveTable, Error};
    use tenure_store::{MemoryBackend, Store, StoreOptions};

    use super::*;

    /// Chunks of transactions that do not decode, which are soon looked at.
    fn with_chunks(count: usize, test: impl FnOnce(&Ahead<'_>)) {
        with_chunks_until(count, &AtomicBool::new(false), test);
    }

    fn with_chunks_until(count: usize, stopped: &AtomicBool, test: impl FnOnce(&Ahead<'_>)) {
        let store = Store::open(Arc::new(MemoryBackend::new()), &["a"], StoreOptions::default()).unwrap();
        let base = store.latest();
        let derived = Default::default();
        let state = State::new(Committed { base, derived }, Arc::new(DeriveTable::new([])));
        let txs: Vec<_> = (0..count * CHUNK)
            .map(|_| Err(Error::internal("no transaction")))
            .collect();
        test(&Ahead {
            state: &state,
            block: &Block::default(),
            rules: &Rules {
                chain: Default::default(),
                auth: Default::default(),
            },
            signatures: &Signatures::new(100),
            txs: &txs,
            stopped,
            taken: AtomicUsize::new(0),
            done: (0..count).map(|_| AtomicBool::new(false)).collect(),
        });
    }

    fn done(ahead: &Ahead<'_>) -> usize {
        ahead.done.iter().filter(|done| done.load(Ordering::Acquire)).count()
    }

    #[test]
    fn whoever_reaches_a_transaction_finds_it_looked_at() {
        with_chunks(40, |ahead| {
            ahead.during(|| {
                for i in 0..40 * CHUNK {
                    ahead.reach(i);
                    assert!(ahead.done[i / CHUNK].load(Ordering::Acquire), "{i}");
                }
                // Beyond the end nothing is waited for.
                ahead.reach(40 * CHUNK);
                ahead.reach(usize::MAX);
            });
            assert_eq!(done(ahead), 40);
        });
        // Alone, too, and from the back.
        with_chunks(3, |ahead| {
            ahead.reach(2 * CHUNK);
            assert_eq!(done(ahead), 3);
        });
        with_chunks(40, |ahead| {
            ahead.all();
            assert_eq!(done(ahead), 40);
        });
    }

    #[test]
    fn what_is_no_longer_wanted_is_neither_looked_at_nor_waited_for() {
        let stopped = AtomicBool::new(true);
        with_chunks_until(3, &stopped, |ahead| {
            ahead.during(|| ahead.reach(2 * CHUNK));
            assert!(!ahead.step() && done(ahead) == 0);
        });
    }

    #[test]
    fn the_others_end_with_the_execution_however_it_ends() {
        with_chunks(3, |ahead| {
            assert!(ahead.step());
            drop(End(ahead));
            assert!(!ahead.step());
            assert_eq!(done(ahead), 1);
        });
        with_chunks(40, |ahead| {
            let ended = catch_unwind(AssertUnwindSafe(|| ahead.during(|| panic!("the node is broken"))));
            assert!(ended.is_err() && !ahead.step());
        });
        // A chunk whose thread panicked is not waited for.
        with_chunks(2, |ahead| {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let _done = Done(&ahead.done[0]);
                ahead.taken.fetch_add(1, Ordering::Relaxed);
                panic!("a bug");
            }));
            assert!(panicked.is_err());
            ahead.reach(0);
        });
    }
}
