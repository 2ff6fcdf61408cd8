//! CheckTx: whether a transaction may wait in the mempool.
//!
//! It runs on a scratch state over the committed one, so that several transactions of one account may wait, and starts afresh after every
//! commit; the engine then has everything that still waits checked again. Only `ante` runs: messages run in blocks and in estimates. No
//! events are told, which no engine looks at: a transaction may be checked again many times before a block has room for it.

use tendermint_proto::v0_38::abci::{CheckTxType, ExecTxResult, RequestCheckTx, ResponseCheckTx};
use tenure_sdk::{Ctx, Mode, Result};

use crate::{
    app::Inner,
    tx::{check, decode, failed, Rules},
};

/// The scratch state.
pub(crate) struct CheckState {
    ctx: Ctx,
    rules: Rules,
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
        let CheckState { ctx, rules } = match slot.take() {
            Some(state) => slot.insert(state),
            None => {
                let mut ctx = self.next_scratch();
                let rules = Rules::load(&mut ctx)?;
                slot.insert(CheckState { ctx, rules })
            }
        };
        let tx = decode(&self.msg_routes, &self.transactions, rules.chain.max_tx_bytes, bytes)?;
        let result = check(ctx, &tx, rules, &self.signatures, recheck);
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
