//! Building and judging proposals.
//!
//! A quarter of a block's bytes and gas is reserved for the lane of attestations, so that no flood of other transactions keeps providers from
//! proving their work. The reserve is filled first, with what succeeds; what the lane does not use, and what of it does not fit or fails, goes
//! with the rest in the order of the mempool.

use tendermint_proto::v0_38::abci::{
    response_process_proposal::ProposalStatus, RequestPrepareProposal, RequestProcessProposal, ResponsePrepareProposal,
    ResponseProcessProposal,
};
use tenure_sdk::{clock, Ctx, Error, Result};

use crate::{
    app::Inner,
    tx::{deliver, verify_ahead, Rules, Tx},
};

/// Messages of the lane. A transaction is in it if all its messages are.
const LANE: [&str; 2] = ["/tenure.provider.v1.MsgAttest", "/tenure.market.v1.MsgReportDown"];
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

    /// What a transaction takes: its bytes with the field header that the block's encoding adds, and the gas it asks for.
    fn of(len: usize, tx: &Tx) -> Room {
        Room {
            bytes: proto_len(len),
            gas: tx.gas_wanted(),
        }
    }
}

impl Inner {
    /// PrepareProposal: transactions that will pay their fee, within the block's bytes and gas. Those whose messages fail are kept: their
    /// senders pay, and learn why. Those that change nothing are left out.
    pub(crate) fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        let what = format!("proposal of block {}", request.height);
        let chosen = self.next_block(request.height, request.time).and_then(|block| {
            let (mut ctx, _) = self.begin_block(block)?;
            let bytes = u64::try_from(request.max_tx_bytes).unwrap_or(0);
            self.choose(&mut ctx, &request.txs, bytes)
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
        let chain = clock::params(ctx)?;
        let decoded = self.decode_all(txs, chain.max_tx_bytes);
        verify_ahead(&self.latest_state().0, &ctx.block, &decoded, &self.signatures);
        let mut whole = Room {
            bytes: max_bytes,
            gas: chain.max_block_gas,
        };
        let mut lane = Room {
            bytes: max_bytes / LANE_SHARE,
            gas: chain.max_block_gas / LANE_SHARE,
        };
        let (mut chosen, mut taken) = (Vec::new(), vec![false; txs.len()]);
        for reserved in [true, false] {
            for (i, ((tx, raw), taken)) in decoded.iter().zip(txs).zip(&mut taken).enumerate() {
                let Ok(tx) = tx else { continue };
                let size = Room::of(raw.as_ref().len(), tx);
                let room = if reserved { lane } else { whole };
                // A member of the lane whose account has an earlier transaction waiting fails here at first, and is tried again behind it.
                if *taken || (reserved && !in_lane(tx)) || !room.fits(size) {
                    continue;
                }
                let rules = Rules::load(ctx)?;
                ctx.state.checkpoint();
                let outcome = deliver(ctx, tx, &rules, &self.signatures)?;
                // What fails in its messages attests nothing: it has no claim to the reserve and is tried again with the rest.
                if !outcome.paid || (reserved && outcome.result.code != 0) {
                    ctx.state.revert()?;
                } else {
                    ctx.state.keep()?;
                    *taken = true;
                    chosen.push(i);
                    whole = whole.less(size);
                    lane = if reserved { lane.less(size) } else { lane };
                }
            }
        }
        Ok(chosen)
    }

    /// ProcessProposal: a pure function of the committed state and the block. Refuses only what no honest proposer makes: a transaction that
    /// is too long or does not decode, or more gas than a block holds.
    pub(crate) fn process_proposal(&self, request: &RequestProcessProposal) -> ResponseProcessProposal {
        let status = match self.judge(request) {
            Ok(()) => ProposalStatus::Accept,
            Err(error) if error.is_internal() => self.abort(&format!("proposal of block {}: {error}", request.height)),
            Err(error) => {
                tracing::warn!(height = request.height, %error, "refused a proposal");
                ProposalStatus::Reject
            }
        };
        ResponseProcessProposal { status: status.into() }
    }

    fn judge(&self, request: &RequestProcessProposal) -> Result<()> {
        let (state, block) = self.latest_state();
        let mut ctx = Ctx::new(state.clone(), block.clone(), tenure_sdk::Mode::Query);
        let chain = clock::params(&mut ctx)?;
        let decoded = self.decode_all(&request.txs, chain.max_tx_bytes);
        let mut gas: u64 = 0;
        for (i, tx) in decoded.iter().enumerate() {
            let tx = tx.as_ref().map_err(|e| e.clone().context(format!("txs[{i}]")))?;
            gas = gas.saturating_add(tx.gas_wanted());
        }
        if gas > chain.max_block_gas {
            let message = format!(
                "the transactions ask for {gas} gas, a block holds {}",
                chain.max_block_gas
            );
            return Err(Error::sdk(tenure_types::sdk::INVALID_GAS_LIMIT, message));
        }
        // The block will most likely be executed: its signatures are verified while the votes travel.
        verify_ahead(&state, &block, &decoded, &self.signatures);
        Ok(())
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
