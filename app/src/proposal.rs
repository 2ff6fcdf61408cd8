//! Building and judging proposals.
//!
//! Limits of bytes and gas are the application's, so that the engine may hand over its whole mempool: with `block.max_bytes` and
//! `block.max_gas` of the consensus parameters at -1, CometBFT does. With other values it hands over only the oldest transactions that fit a
//! block, and a flood keeps attestations from even being seen here.
//!
//! A quarter of a block's bytes and gas is reserved for the lane of attestations, so that no flood of other transactions keeps providers from
//! proving their work. The reserve is filled first, with what succeeds, one transaction of each sender before the second of any; what the lane
//! does not use, and what of it does not fit or fails, goes with the rest in the order of the mempool.

use std::{
    collections::BTreeSet,
    sync::{atomic::AtomicBool, Arc},
};

use rayon::prelude::*;
use tendermint_proto::v0_38::abci::{
    response_process_proposal::ProposalStatus, RequestPrepareProposal, RequestProcessProposal, ResponsePrepareProposal,
    ResponseProcessProposal,
};
use tenure_sdk::{Ctx, Error, Mode, Result};
use tenure_types::sdk;

use crate::{
    app::{App, Inner},
    tx::{deliver, stateless, Ahead, Rules, Tx, MAX_FREE_GAS, SIGNATURE_BYTES},
};

/// Messages of the lane. A transaction is in it if all its messages are.
const LANE: [&str; 2] = ["/tenure.provider.v1.MsgAttest", "/tenure.market.v1.MsgReportDown"];
/// Most bytes of transactions in a block, with their field headers.
pub const MAX_BLOCK_TX_BYTES: u64 = 4 << 20;
/// The lane's share of a block: one in this many.
const LANE_SHARE: u64 = 4;

/// What is left of a block.
#[derive(Clone, Copy)]
struct Room {
    bytes: u64,
    gas: u64,
}

impl Room {
    fn fits(self, tx: Room) -> bool {
        tx.bytes <= self.bytes && tx.gas <= self.gas
    }

    fn less(self, tx: Room) -> Room {
        Room {
            bytes: self.bytes.saturating_sub(tx.bytes),
            gas: self.gas.saturating_sub(tx.gas),
        }
    }

    /// The reserve of the lane.
    fn quarter(self) -> Room {
        Room {
            bytes: self.bytes / LANE_SHARE,
            gas: self.gas / LANE_SHARE,
        }
    }

    /// What a transaction takes: its bytes with the field header that the block's encoding adds, and the gas it asks for.
    fn of(len: usize, tx: &Tx) -> Room {
        Room {
            bytes: proto_len(len),
            gas: tx.gas_wanted(),
        }
    }
}

/// How the transactions of the mempool are gone through, one after another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    /// The reserve, one transaction of each sender: nobody fills it before everybody else had a turn.
    OneEach,
    /// What is left of the reserve.
    Reserve,
    /// Everything that is left.
    Rest,
}

/// What became of a transaction so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waits,
    /// Its messages failed: it has no claim to the reserve.
    Failed,
    Chosen,
}

impl Inner {
    /// PrepareProposal: transactions that change something, within the block's bytes and gas. Those that pay their fee are kept even if their
    /// messages fail: their senders learn why, and nobody has proposers execute anything for nothing. All others that fail are left out.
    pub(crate) fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        let what = format!("proposal of block {}", request.height);
        let chosen = self.next_block(request.height, request.time).and_then(|block| {
            let (mut ctx, _) = self.begin_block(block)?;
            let bytes = u64::try_from(request.max_tx_bytes).unwrap_or(0);
            self.choose(&mut ctx, &request.txs, bytes.min(MAX_BLOCK_TX_BYTES))
        });
        let chosen = self.must(&what, chosen);
        let mut txs: Vec<_> = request.txs.into_iter().map(Some).collect();
        let txs = chosen
            .into_iter()
            .filter_map(|i| txs.get_mut(i).and_then(Option::take))
            .collect();
        ResponsePrepareProposal { txs }
    }

    /// Indexes of the transactions to propose, in order.
    fn choose<B: AsRef<[u8]> + Sync>(&self, ctx: &mut Ctx, txs: &[B], max_bytes: u64) -> Result<Vec<usize>> {
        let rules = Rules::load(ctx)?;
        let decoded = self.decode_all(txs, rules.chain.max_tx_bytes);
        let (state, wanted) = (self.latest_state().0, AtomicBool::new(false));
        Ahead::new((&state, &ctx.block, &rules), &decoded, &self.signatures, &wanted).all();
        let mut whole = Room {
            bytes: max_bytes,
            gas: rules.chain.max_block_gas,
        };
        let mut reserve = whole.quarter();
        let (mut chosen, mut fates) = (Vec::new(), vec![Fate::Waits; txs.len()]);
        let mut served = BTreeSet::new();
        for round in [Round::OneEach, Round::Reserve, Round::Rest] {
            for (i, ((tx, raw), fate)) in decoded.iter().zip(txs).zip(&mut fates).enumerate() {
                let Ok(tx) = tx else { continue };
                let size = Room::of(raw.as_ref().len(), tx);
                let reserved = round != Round::Rest;
                let room = if reserved { reserve } else { whole };
                if *fate == Fate::Chosen || !room.fits(size) || (reserved && (*fate == Fate::Failed || !in_lane(tx))) {
                    continue;
                }
                let sender = match tx.signers() {
                    Ok(signers) => signers.first().copied(),
                    Err(_) => continue,
                };
                if round == Round::OneEach && (size.gas > MAX_FREE_GAS || served.contains(&sender)) {
                    continue;
                }
                ctx.state.checkpoint();
                let outcome = deliver(ctx, tx, &rules, &self.signatures)?;
                // One whose account has an earlier transaction waiting fails here at first, and is tried again behind it.
                if !outcome.stays || (reserved && outcome.result.code != 0) {
                    ctx.state.revert()?;
                    if outcome.stays {
                        *fate = Fate::Failed;
                    }
                    continue;
                }
                ctx.state.keep()?;
                *fate = Fate::Chosen;
                chosen.push(i);
                whole = whole.less(size);
                if reserved {
                    reserve = reserve.less(size);
                    served.insert(sender);
                }
            }
        }
        Ok(chosen)
    }

    /// Refuses only what no honest proposer makes: a transaction that is too long, does not decode, or fails without any look at the state (no
    /// message, no signature, other signatures than signers, too low a fee); more bytes or gas than a block holds. Since each must have the bytes
    /// of a signature, a block has room for some sixty thousand: without that, one proposer could make every validator work through two million
    /// empty ones; and without the others, through thousands of signatures that nobody pays for. A pure function of the committed state and
    /// the block (the rules, too: only messages change them). Returns the transactions.
    fn judge(&self, request: &RequestProcessProposal) -> Result<Vec<Result<Arc<Tx>>>> {
        let (state, block) = self.latest_state();
        let rules = Rules::load(&mut Ctx::new(state, block, Mode::Query))?;
        let height = u64::try_from(request.height).unwrap_or(0);
        let bytes = request
            .txs
            .iter()
            .fold(0, |sum: u64, tx| sum.saturating_add(proto_len(tx.len())));
        if bytes > MAX_BLOCK_TX_BYTES {
            let message = format!("the transactions have {bytes} bytes, a block holds {MAX_BLOCK_TX_BYTES}");
            return Err(Error::sdk(sdk::TX_TOO_LARGE, message));
        }
        let unsigned = |i: usize| {
            Error::sdk(
                sdk::NO_SIGNATURES,
                format!("txs[{i}] is not signed: no signatures supplied"),
            )
        };
        if let Some(i) = request.txs.iter().position(|tx| tx.len() < SIGNATURE_BYTES) {
            return Err(unsigned(i));
        }
        let decoded = self.decode_all(&request.txs, rules.chain.max_tx_bytes);
        let fault = |(i, tx): (usize, &Result<Arc<Tx>>)| {
            let fault = match tx {
                Ok(tx) if tx.raw.signatures.iter().all(Vec::is_empty) => return Some(unsigned(i)),
                Ok(tx) => stateless(Mode::Deliver, height, tx, &rules).err(),
                Err(error) => Some(error.clone()),
            };
            fault.map(|error| error.context(format!("txs[{i}]")))
        };
        if let Some(error) = decoded.par_iter().with_min_len(32).enumerate().find_map_first(fault) {
            return Err(error);
        }
        let gas = decoded
            .iter()
            .flatten()
            .fold(0, |sum: u64, tx| sum.saturating_add(tx.gas_wanted()));
        if gas > rules.chain.max_block_gas {
            let message = format!(
                "the transactions ask for {gas} gas, a block holds {}",
                rules.chain.max_block_gas
            );
            return Err(Error::sdk(sdk::INVALID_GAS_LIMIT, message));
        }
        Ok(decoded)
    }
}

impl App {
    /// ProcessProposal. What is accepted will most likely be decided: it is executed while the votes travel.
    pub(crate) fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        let height = request.height;
        let status = match self.0.judge(&request) {
            Ok(decoded) => {
                if self.0.options.optimistic {
                    self.stage(request, decoded);
                }
                ProposalStatus::Accept
            }
            Err(error) if error.is_internal() => self.0.abort(&format!("proposal of block {height}: {error}")),
            Err(error) => {
                tracing::warn!(height, %error, "refused a proposal");
                ProposalStatus::Reject
            }
        };
        ResponseProcessProposal { status: status.into() }
    }
}

fn in_lane(tx: &Tx) -> bool {
    tx.messages
        .iter()
        .all(|(type_url, _)| LANE.contains(&type_url.as_str()))
}

/// Bytes of a transaction in the block's encoding: a field tag, its length as a varint, itself.
fn proto_len(len: usize) -> u64 {
    let len = u64::try_from(len).unwrap_or(u64::MAX);
    let varint = u64::from(64_u32.saturating_sub(len.max(1).leading_zeros())).div_ceil(7);
    len.saturating_add(1).saturating_add(varint)
}

#[cfg(test)]
mod tests {
    use super::proto_len;

    #[test]
    fn a_transactions_length_counts_its_field_header() {
        for (len, header) in [
            (0, 2),
            (1, 2),
            (127, 2),
            (128, 3),
            (16_383, 3),
            (16_384, 4),
            (2_097_151, 4),
            (2_097_152, 5),
        ] {
            assert_eq!(proto_len(len), len as u64 + header, "{len}");
        }
    }
}
