//! Verifies the signatures of a block on all cores while the block is executed, so that execution finds them in the cache.
//!
//! Signatures are three quarters of the work of a block that was not in the mempool, and the only part that does not depend on order. Threads take
//! the transactions from the front, [`CHUNK`] at a time, and the execution follows them; where it catches up, it takes part. What cannot be judged
//! yet, because the account is made in the same block, is left to execution.

use std::sync::{
    atomic::{AtomicBool, AtomicUsize, Ordering},
    Arc,
};

use tenure_sdk::{Block, Ctx, Mode, Result, State};
use tenure_x_auth as auth;

use super::{ante::shown_key, cache::Signer, sign, Signatures, Tx};

/// Transactions that a thread takes at a time: about a millisecond.
const CHUNK: usize = 32;

/// The signatures of a block's transactions.
pub(crate) struct Ahead<'a> {
    state: &'a State,
    block: &'a Block,
    signatures: &'a Signatures,
    txs: &'a [Result<Arc<Tx>>],
    /// Chunks that somebody has taken.
    taken: AtomicUsize,
    /// Whether each chunk has been verified; none if there is nothing to verify.
    done: Vec<AtomicBool>,
}

impl<'a> Ahead<'a> {
    /// Signatures of transactions that are about to be executed on a state.
    pub(crate) fn new(
        state: &'a State,
        block: &'a Block,
        txs: &'a [Result<Arc<Tx>>],
        signatures: &'a Signatures,
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
            signatures,
            txs,
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
                scope.spawn(|_| while self.step() {});
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
        while !done.load(Ordering::Acquire) {
            if !self.step() {
                std::thread::yield_now();
            }
        }
    }

    /// Verifies the next chunk; false if all are taken.
    fn step(&self) -> bool {
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
        let Ok(signers) = tx.signers() else { return };
        for (i, (signer, info)) in signers.iter().zip(&tx.auth_info.signer_infos).enumerate() {
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
            signatures: &Signatures::new(100),
            txs: &txs,
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
