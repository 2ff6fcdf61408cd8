//! Execution of blocks: genesis, FinalizeBlock, Commit.

use rayon::prelude::*;
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::abci::{
        Event as AbciEvent, ExecTxResult, RequestFinalizeBlock, RequestInitChain, ResponseCommit,
        ResponseFinalizeBlock, ResponseInitChain,
    },
};
use tenure_sdk::{clock, module::handle_due, Block, Ctx, Error, Event, Mode, Result, State};
use tenure_types::sdk;

use crate::{
    app::{Consensus, Genesis, Head, Inner, Pending},
    genesis,
    tx::{abci_event, decode, deliver, failed, verify_ahead, Rules, Tx},
};

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
        *self.consensus.lock() = Consensus { genesis, pending: None };
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
        let block = self.must(&what, self.next_block(request.height, request.time));
        let (mut ctx, events) = self.must(&what, self.begin_block(block));
        let (tx_results, end_events) = self.must(&what, self.run_block(&mut ctx, &request.txs));
        let events = events
            .into_iter()
            .map(|e| moded(e, "BeginBlock"))
            .chain(end_events.into_iter().map(|e| moded(e, "EndBlock")));
        let block = ctx.block.clone();
        let writes = self.must(&what, ctx.state.into_writes());
        let staged = self.must(&what, self.store.load().stage(writes.changes));
        let app_hash = staged.app_hash().to_vec();
        self.consensus.lock().pending = Some(Pending {
            staged,
            derived: writes.derived,
            block,
        });
        ResponseFinalizeBlock {
            events: events.collect(),
            tx_results,
            app_hash: app_hash.into(),
            ..Default::default()
        }
    }

    /// Commit: one synced batch, then the new state is there for queries and the mempool.
    pub(crate) fn commit(&self) -> ResponseCommit {
        let mut consensus = self.consensus.lock();
        let Some(Pending { staged, derived, block }) = consensus.pending.take() else {
            self.abort("Commit without FinalizeBlock");
        };
        let view = self.must("commit", self.store.load().commit(staged, block.height));
        let height = block.height;
        self.snapshot_if_due(&view);
        self.publish(Head { view, derived, block });
        consensus.genesis = None;
        drop(consensus);
        *self.check.lock() = None;
        let retain = match self.options.retain_blocks {
            0 => 0,
            keep => height.saturating_sub(keep.saturating_sub(1)),
        };
        ResponseCommit {
            retain_height: i64::try_from(retain).unwrap_or(0),
        }
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
        (head.state(&self.table), head.block.clone())
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
    pub(crate) fn decode_all<B: AsRef<[u8]> + Sync>(&self, txs: &[B], max_len: u64) -> Vec<Result<Tx>> {
        txs.par_iter()
            .with_min_len(32)
            .map(|tx| decode(&self.msg_routes, max_len, tx.as_ref()))
            .collect()
    }

    fn run_block<B: AsRef<[u8]> + Sync>(&self, ctx: &mut Ctx, txs: &[B]) -> Result<(Vec<ExecTxResult>, Vec<Event>)> {
        let chain = clock::params(ctx)?;
        let decoded = self.decode_all(txs, chain.max_tx_bytes);
        let (state, _) = self.latest_state();
        verify_ahead(&state, &ctx.block, &decoded, &self.signatures);
        let mut results = Vec::with_capacity(decoded.len());
        let mut wanted: u64 = 0;
        for tx in &decoded {
            let result = match tx {
                Err(error) if error.is_internal() => return Err(error.clone()),
                Err(error) => failed(error, 0, 0, Vec::new()),
                Ok(tx) => {
                    let alone = tx.gas_wanted() > chain.max_block_gas;
                    wanted = if alone {
                        wanted
                    } else {
                        wanted.saturating_add(tx.gas_wanted())
                    };
                    // ProcessProposal refuses such a block; should two thirds have accepted it, its work stays bounded all the same.
                    if wanted > chain.max_block_gas && !alone {
                        let message = format!(
                            "the block's transactions ask for more gas than {}: out of gas",
                            chain.max_block_gas
                        );
                        failed(&Error::sdk(sdk::OUT_OF_GAS, message), tx.gas_wanted(), 0, Vec::new())
                    } else {
                        let rules = Rules::load(ctx)?;
                        deliver(ctx, tx, &rules, &self.signatures)?.result
                    }
                }
            };
            results.push(result);
        }
        for module in self.modules {
            module.end_block(ctx)?;
        }
        let events = std::mem::take(&mut ctx.events);
        if self.options.invariants_every_block {
            self.invariants(ctx)?;
        }
        Ok((results, events))
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
