//! Attestations that cost nothing, so that no empty account and no flood of fees makes an honest provider miss an epoch.
//!
//! A transaction is one of them if it pays no fee at all (`fee.amount` and `fee.payer` are empty), has one signer, and its messages are any
//! number of `MsgReportDown` and then exactly one `MsgAttest`, all of the same provider. It is signed like every other, but uses its own nonce
//! in the place of the account's sequence, which it neither reads nor moves: `signer_infos[0].sequence` is the last epoch that it attests. What
//! keeps it from being replayed is that an epoch is attested once. It may ask for [`MAX_FREE_GAS`] at most.
//!
//! It is executed whole or not at all, and CheckTx executes it too: what would fail does not wait in a mempool, and of two for the same epoch
//! the second fails. One that fails in a block all the same (its proposer was no honest one) changes nothing.

use prost::{Message, Name};
use tenure_proto::tenure::{market::v1::MsgReportDown, provider::v1::MsgAttest};
use tenure_sdk::{Ctx, Error, Mode, Result};
use tenure_types::sdk;

use super::Tx;

/// Most gas that a free attestation may ask for: that of some 200 reported leases.
pub const MAX_FREE_GAS: u64 = 1_000_000;

/// The nonce of a free attestation, or `None` for every other transaction. Estimates leave fee and sequence out, so there only one that shows
/// the right nonce is taken for free.
pub(crate) fn nonce(mode: Mode, tx: &Tx) -> Option<u64> {
    if !tx.fee().amount.is_empty() || !tx.fee().payer.is_empty() {
        return None;
    }
    let [info] = tx.auth_info.signer_infos.as_slice() else {
        return None;
    };
    let (last, before) = tx.body.messages.split_last()?;
    let attest: MsgAttest = of_type(last)?;
    let nonce = attest.epochs.last()?.epoch;
    let same_provider = |any| of_type::<MsgReportDown>(any).is_some_and(|report| report.provider == attest.provider);
    let free = before.iter().all(same_provider) && (mode != Mode::Simulate || info.sequence == nonce);
    free.then_some(nonce)
}

/// Whether a transaction of the mempool asks to be taken as a free attestation. Says nothing of its worth.
pub(crate) fn is_free(tx: &Tx) -> bool {
    nonce(Mode::Check, tx).is_some()
}

/// Checks what is particular to it and needs no state: the gas it asks for, and its nonce.
pub(crate) fn check_form(tx: &Tx, nonce: u64) -> Result<()> {
    let gas = tx.gas_wanted();
    if gas > MAX_FREE_GAS {
        let message = format!(
            "fee.gas_limit is {gas}, an attestation without a fee may ask for {MAX_FREE_GAS}: invalid gas limit"
        );
        return Err(Error::sdk(sdk::INVALID_GAS_LIMIT, message));
    }
    if let Some(info) = tx.auth_info.signer_infos.iter().find(|info| info.sequence != nonce) {
        let message = format!(
            "account sequence mismatch, expected {nonce}, got {} (an attestation without a fee carries the last epoch that it attests): \
             incorrect account sequence",
            info.sequence
        );
        return Err(Error::sdk(sdk::WRONG_SEQUENCE, message));
    }
    Ok(())
}

/// Checks, before any signature is, that the signer is a provider who may attest the epoch. Most of what is sent in vain, a second one for the
/// same epoch above all, ends here.
pub(crate) fn check(ctx: &mut Ctx, tx: &Tx, nonce: u64) -> Result<()> {
    for owner in tx.signers()? {
        tenure_x_provider::attestable(ctx, owner, nonce)?;
    }
    Ok(())
}

fn of_type<M: Message + Name + Default>(any: &tenure_proto::Any) -> Option<M> {
    let name = any.type_url.strip_prefix('/')?;
    (name == M::full_name()).then(|| M::decode(any.value.as_slice()).ok())?
}
