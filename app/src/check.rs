//! CheckTx: whether a transaction may wait in the mempool.
//!
//! It runs on a scratch state over the committed one, so that several transactions of one account may wait, and starts afresh after every
//! commit; the engine then has everything that still waits checked again. Only `ante` runs: messages run in blocks and in estimates. No
//! events are told, which no engine looks at: a transaction may be checked again many times before a block has room for it.
//!
//! An engine's mempool takes what comes first. So that a flood does not keep out the attestations by which providers live, everything else is
//! refused once seven eighths of the mempool wait, if the engine's limits are known.

use tendermint_proto::v0_38::abci::{CheckTxType, ExecTxResult, RequestCheckTx, ResponseCheckTx};
use tenure_sdk::{Ctx, Error, Mode, Result};
use tenure_types::sdk;

use crate::{
    app::Inner,
    tx::{check, decode, failed, is_free, Rules, Tx},
};

/// The part of a mempool that is kept for free attestations: one in this many.
const MEMPOOL_SHARE: u64 = 8;

/// The most that an engine's mempool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolLimits {
    /// Transactions.
    pub txs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The scratch state.
pub(crate) struct CheckState {
    ctx: Ctx,
    rules: Rules,
    /// What was accepted since the last commit: all that waits, as the engine has what waited before checked again.
    waiting: MempoolLimits,
}

/// Keeps room for free attestations. Error (mempool is full): a transaction that is none would take it.
fn keep_room(limits: &MempoolLimits, waiting: &MempoolLimits, tx: &Tx, len: u64) -> Result<()> {
    let open = |limit: u64| limit.saturating_sub(limit / MEMPOOL_SHARE);
    let bytes = waiting.bytes.saturating_add(len);
    if (waiting.txs < open(limits.txs) && bytes <= open(limits.bytes)) || is_free(tx) {
        return Ok(());
    }
    let message = format!(
        "{} transactions with {} bytes wait; what is left of {} with {} bytes is kept for free attestations, so try again after the next block: \
         mempool is full",
        waiting.txs, waiting.bytes, limits.txs, limits.bytes
    );
    Err(Error::sdk(sdk::MEMPOOL_IS_FULL, message))
}

impl Inner {
    /// CheckTx.
    pub(crate) fn check_tx(&self, request: &RequestCheckTx) -> ResponseCheckTx {
        let recheck = request.r#type == CheckTxType::Recheck as i32;
        let result = match self.checked(&request.tx, recheck) {
            Ok(result) => result,
            Err(error) => {
                if error.is_internal() {
                    tracing::error!(%error, "CheckTx");
                }
                failed(&error, 0, 0, Vec::new())
            }
        };
        ResponseCheckTx {
            code: result.code,
            data: result.data,
            log: result.log,
            info: result.info,
            gas_wanted: result.gas_wanted,
            gas_used: result.gas_used,
            events: result.events,
            codespace: result.codespace,
        }
    }

    fn checked(&self, bytes: &[u8], recheck: bool) -> Result<ExecTxResult> {
        let mut slot = self.check.lock();
        let CheckState { ctx, rules, waiting } = match slot.take() {
            Some(state) => slot.insert(state),
            None => {
                let mut ctx = self.next_scratch();
                let rules = Rules::load(&mut ctx)?;
                let waiting = MempoolLimits { txs: 0, bytes: 0 };
                slot.insert(CheckState { ctx, rules, waiting })
            }
        };
        let tx = decode(&self.msg_routes, &self.transactions, rules.chain.max_tx_bytes, bytes)?;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Some(limits) = self.options.mempool.as_ref().filter(|_| !recheck) {
            keep_room(limits, waiting, &tx, len)?;
        }
        let result = check(ctx, &tx, rules, &self.signatures, recheck);
        if result.code == 0 {
            waiting.txs = waiting.txs.saturating_add(1);
            waiting.bytes = waiting.bytes.saturating_add(len);
        }
        match (result.code, recheck) {
            (0, false) => self.transactions.put(&tx),
            (0, true) => {}
            _ => self.transactions.forget([&tx.hash]),
        }
        Ok(result)
    }

    /// A scratch context as the next block will see the state, as far as it can be known.
    pub(crate) fn next_scratch(&self) -> Ctx {
        let (state, mut block) = self.latest_state();
        block.height = block.height.saturating_add(1);
        Ctx::new(state, block, Mode::Check)
    }

    /// A scratch context to estimate with.
    pub(crate) fn simulate_scratch(&self) -> Ctx {
        Ctx {
            mode: Mode::Simulate,
            ..self.next_scratch()
        }
    }
}
