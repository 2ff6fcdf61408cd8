//! Execution of blocks: genesis, FinalizeBlock, Commit.

use std::sync::{
    atomic::{AtomicBool, Ordering},
    Arc,
};

use rayon::prelude::*;
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::abci::{
        Event as AbciEvent, ExecTxResult, RequestFinalizeBlock, RequestInitChain, ResponseCommit,
        ResponseFinalizeBlock, ResponseInitChain,
    },
};
use tenure_sdk::{clock, module::handle_due, Block, Changed, Ctx, Error, Event, Mode, Result, State};
use tenure_types::sdk;

use crate::{
    app::{Consensus, Genesis, Head, Inner, Pending},
    genesis,
    snapshots::Snapshots,
    staging::Executed,
    tx::{abci_event, decode, deliver, failed, Ahead, Rules, Tx},
};

/// About as many records as a transfer between two accounts meets.
const RECORDS_A_TX: usize = 4;
/// Most records that room is made for at once: those of 10,000 transfers. Whoever proposes a block decides how many transactions it claims to have.
const MOST_RESERVED: usize = 40_000;

impl Inner {
    /// InitChain. May be repeated until the first commit: nothing is persisted before.
    pub(crate) fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        let head = self.head();
        if head.block.height > 0 {
            self.abort(&format!(
                "InitChain of a chain that stands at height {}",
                head.block.height
            ));
        }
        let header_ms = self.must("genesis time", header_ms(request.time));
        let first = self.must("initial height", u64::try_from(request.initial_height.max(1)));
        let block = Block {
            chain_id: request.chain_id,
            height: first.saturating_sub(1),
            now_ms: header_ms,
            header_ms,
        };
        let mut ctx = Ctx::new(head.state(&self.table), block.clone(), Mode::Deliver);
        self.must(
            "genesis",
            genesis::init(&mut ctx, self.modules, &request.app_state_bytes),
        );
        let writes = self.must("genesis", ctx.state.clone().into_writes());
        let staged = self.must("genesis", self.store.load().stage(writes.changes));
        let app_hash = staged.app_hash();
        let genesis = Some(Genesis {
            state: ctx.state,
            block,
        });
        *self.consensus.lock() = Consensus {
            genesis,
            ..Consensus::default()
        };
        *self.check.lock() = None;
        // The engine's own validators and consensus parameters stand.
        ResponseInitChain {
            app_hash: app_hash.to_vec().into(),
            ..Default::default()
        }
    }

    /// FinalizeBlock. May be repeated, with the same or another block, until the commit.
    pub(crate) fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let what = format!("block {}", request.height);
        let executed = self.staged(&request).unwrap_or_else(|| {
            let decoded = self.must(&what, self.decode_for_block(&request.txs));
            let executed = self.execute(request.height, request.time, &decoded, &AtomicBool::new(false));
            let Some(executed) = self.must(&what, executed) else {
                self.abort(&format!("{what}: its execution was stopped"));
            };
            executed
        });
        self.consensus.lock().pending = Some(executed.pending);
        executed.response
    }

    /// Executes a block on the committed state. Leaves no trace; nothing if `stopped` is set meanwhile. Error: the node is broken, or the
    /// block does not follow.
    pub(crate) fn execute(
        &self,
        height: i64,
        time: Option<Timestamp>,
        txs: &[Result<Arc<Tx>>],
        stopped: &AtomicBool,
    ) -> Result<Option<Executed>> {
        let (mut ctx, begin_events) = self.begin_block(self.next_block(height, time)?)?;
        let (state, _) = self.latest_state();
        let block = ctx.block.clone();
        let rules = Rules::load(&mut ctx)?;
        let ahead = Ahead::new((&state, &block, &rules), txs, &self.signatures, stopped);
        ctx.state
            .reserve(txs.len().saturating_mul(RECORDS_A_TX).min(MOST_RESERVED));
        let tx_results = ahead.during(|| self.run_txs(&mut ctx, txs, &rules, &ahead, stopped));
        let Some(tx_results) = tx_results? else {
            return Ok(None);
        };
        for module in self.modules {
            module.end_block(&mut ctx)?;
        }
        let end_events = std::mem::take(&mut ctx.events);
        if self.options.invariants_every_block {
            self.invariants(&mut ctx)?;
        }
        let moded_events = begin_events
            .into_iter()
            .map(|event| moded(event, "BeginBlock"))
            .chain(end_events.into_iter().map(|event| moded(event, "EndBlock")));
        let events = moded_events.collect();
        let writes = ctx.state.into_writes()?;
        let changed = Changed::of(&writes.changes);
        let staged = self.store.load().stage(writes.changes);
        let staged = staged.map_err(|e| Error::internal(e.to_string()))?;
        let response = ResponseFinalizeBlock {
            events,
            tx_results,
            app_hash: staged.app_hash().to_vec().into(),
            ..Default::default()
        };
        let pending = Pending {
            txs: txs.iter().flatten().map(|tx| tx.hash).collect(),
            staged,
            changed,
            derived: writes.derived,
            block,
        };
        Ok(Some(Executed { response, pending }))
    }

    /// Commit: one synced batch, then the new state is there for queries and the mempool.
    pub(crate) fn commit(&self) -> ResponseCommit {
        let mut consensus = self.consensus.lock();
        let Some(pending) = consensus.pending.take() else {
            self.abort("Commit without FinalizeBlock");
        };
        let Pending {
            txs,
            staged,
            changed,
            derived,
            block,
        } = pending;
        let view = self.must("commit", self.store.load().commit(staged, block.height));
        let height = block.height;
        if let Some(snapshots) = &self.snapshots {
            snapshots.begin_if_due(&view);
        }
        self.records.advance(height, changed);
        self.transactions.forget(&txs);
        self.publish(Head { view, derived, block });
        *consensus = Consensus::default();
        drop(consensus);
        *self.check.lock() = None;
        ResponseCommit {
            retain_height: i64::try_from(self.retain_height(height)).unwrap_or(0),
        }
    }

    /// The least height of a block that the engine must keep: who joins from a snapshot needs those after it. 0 for all. What evidence of
    /// misbehaviour needs, CometBFT keeps by itself.
    fn retain_height(&self, height: u64) -> u64 {
        let Some(before) = self.options.retain_blocks.checked_sub(1) else {
            return 0;
        };
        let wanted = height.saturating_sub(before);
        let oldest = self.snapshots.as_ref().and_then(Snapshots::oldest);
        oldest.map_or(wanted, |oldest| oldest.min(wanted))
    }

    /// The state on which the next block is built, and the block that made it.
    pub(crate) fn latest_state(&self) -> (State, Block) {
        let head = self.head();
        if head.block.height == 0 {
            if let Some(genesis) = &self.consensus.lock().genesis {
                return (genesis.state.clone(), genesis.block.clone());
            }
        }
        // The first commit may have taken the genesis state's place meanwhile.
        let head = self.head();
        (head.execution_state(&self.records, &self.table), head.block.clone())
    }

    /// Height and header time of the next block; live time is not known before the clock has advanced.
    pub(crate) fn next_block(&self, height: i64, time: Option<Timestamp>) -> Result<Block> {
        let (_, last) = self.latest_state();
        let height = u64::try_from(height).map_err(|_| Error::internal(format!("height {height} is negative")))?;
        if last.height.checked_add(1) != Some(height) {
            let message = format!("height {height} does not follow {}", last.height);
            return Err(Error::internal(message));
        }
        Ok(Block {
            chain_id: last.chain_id,
            height,
            now_ms: last.now_ms,
            header_ms: header_ms(time)?,
        })
    }

    /// Advances the clock and handles what is due. Returns the context in which the block goes on, and the events so far.
    pub(crate) fn begin_block(&self, block: Block) -> Result<(Ctx, Vec<Event>)> {
        let (state, _) = self.latest_state();
        let mut ctx = Ctx::new(state, block, Mode::Deliver);
        let (height, header_ms) = (ctx.block.height, ctx.block.header_ms);
        ctx.block.now_ms = clock::advance(&mut ctx, height, header_ms)?;
        handle_due(&mut ctx, self.modules)?;
        let events = std::mem::take(&mut ctx.events);
        Ok((ctx, events))
    }

    /// Decodes transactions in parallel.
    pub(crate) fn decode_all<B: AsRef<[u8]> + Sync>(&self, txs: &[B], max_len: u64) -> Vec<Result<Arc<Tx>>> {
        txs.par_iter()
            .with_min_len(32)
            .map(|tx| decode(&self.msg_routes, &self.transactions, max_len, tx.as_ref()))
            .collect()
    }

    /// The transactions of a block.
    pub(crate) fn decode_for_block<B: AsRef<[u8]> + Sync>(&self, txs: &[B]) -> Result<Vec<Result<Arc<Tx>>>> {
        let (state, block) = self.latest_state();
        let chain = clock::params(&mut Ctx::new(state, block, Mode::Query))?;
        Ok(self.decode_all(txs, chain.max_tx_bytes))
    }

    /// Executes transactions one after another under the rules that hold at the beginning of the block; nothing if `stopped` is set meanwhile.
    fn run_txs(
        &self,
        ctx: &mut Ctx,
        txs: &[Result<Arc<Tx>>],
        rules: &Rules,
        ahead: &Ahead<'_>,
        stopped: &AtomicBool,
    ) -> Result<Option<Vec<ExecTxResult>>> {
        let most = rules.chain.max_block_gas;
        let mut results = Vec::with_capacity(txs.len());
        let mut wanted: u64 = 0;
        for (i, tx) in txs.iter().enumerate() {
            if stopped.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let result = match tx {
                Err(error) if error.is_internal() => return Err(error.clone()),
                Err(error) => failed(error, 0, 0, Vec::new()),
                Ok(tx) => {
                    // What asks for more than any block holds is refused by itself, and takes nothing from the others.
                    let alone = tx.gas_wanted() > most;
                    if !alone {
                        wanted = wanted.saturating_add(tx.gas_wanted());
                    }
                    // ProcessProposal refuses such a block; should two thirds have accepted it, its work stays bounded all the same.
                    if wanted > most && !alone {
                        let message = format!("the block's transactions ask for more gas than {most}: out of gas");
                        failed(&Error::sdk(sdk::OUT_OF_GAS, message), tx.gas_wanted(), 0, Vec::new())
                    } else {
                        ahead.reach(i);
                        deliver(ctx, tx, rules, &self.signatures)?.result
                    }
                }
            };
            results.push(result);
        }
        Ok(Some(results))
    }
}

/// A header's time in milliseconds since 1970. Error (internal): absent, before 1970 or beyond any date.
fn header_ms(time: Option<Timestamp>) -> Result<u64> {
    let ms = time.and_then(|time| {
        let seconds = u64::try_from(time.seconds).ok()?.checked_mul(1_000)?;
        seconds.checked_add(u64::try_from(time.nanos).ok()?.checked_div(1_000_000)?)
    });
    ms.ok_or_else(|| Error::internal(format!("time {time:?} cannot be a header's")))
}

/// Events of the block itself say at which end of it they happened, as on Cosmos chains.
fn moded(mut event: Event, mode: &str) -> AbciEvent {
    event.attributes.push(("mode", mode.to_owned()));
    abci_event(event)
}
