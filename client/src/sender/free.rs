//! Attestations without a fee: transactions that carry an epoch as their nonce and leave the account's sequence alone. `MsgAttest` in
//! `proto/tenure/provider/v1/tx.proto` says what such a transaction is.
//!
//! None of the care that a sequence asks for is needed: the chain attests an epoch once, so the same bytes may be sent as often as one likes, and
//! whether they arrived is seen in the provider's record. Nor do they wait for the account's other transactions.

use std::time::Duration;

use tenure_proto::Any;
use tokio::time::Instant;

use super::{outcome, Gas, Shared, TxResult, TxSender};
use crate::{
    error::Refusal,
    sequence::Reply,
    tx::{adjusted_gas, Draft, SignedTx, Signer},
    Error, Result,
};

/// Most gas that an attestation without a fee may ask for; the chain's `app/src/tx/free.rs` has the rule.
pub const MAX_FREE_GAS: u64 = 1_000_000;
/// What simulated gas is multiplied with if the sender's options do not say, hundredths.
const ADJUSTMENT_PERCENT: u64 = 130;
/// How long one call goes on. Whoever attests then looks at the state again: more may be due, or less.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a transaction that a node has may be in no block before it is sent again: a node that was restarted has forgotten it.
const RESEND: Duration = Duration::from_secs(2);
/// The Cosmos SDK's code of a full mempool.
const MEMPOOL_IS_FULL: u32 = 20;

/// What to do after a broadcast's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The node has it.
    Wait,
    /// The node does not have it, or nobody knows; the same bytes may go in a moment later.
    Again,
    /// The chain does not take it, unless that is because it has it.
    Refused,
}

fn next(reply: &Reply, refusal: &Refusal) -> Next {
    match reply {
        Reply::Accepted | Reply::Known => Next::Wait,
        Reply::Lost => Next::Again,
        // There is room again after the next block.
        Reply::Refused if refusal.codespace == "sdk" && refusal.code == MEMPOOL_IS_FULL => Next::Again,
        Reply::Refused | Reply::Mismatch { .. } => Next::Refused,
    }
}

impl TxSender {
    /// Signs and sends an attestation without a fee and waits until a block has executed it. `messages` are any number of `MsgReportDown` and then one
    /// `MsgAttest`, all of this account's provider, and `nonce` is the last epoch in it. One that needs more than [`MAX_FREE_GAS`] is sent like any
    /// other transaction, with a fee.
    ///
    /// Errors: [`Error::Refused`], of the codespace `provider` with 9 if an epoch in it is attested already, in the chain or by what waits in the
    /// mempool, and with 8 if an epoch's deadline has passed; [`Error::NotIncluded`] and [`Error::OutcomeUnknown`] after ten seconds;
    /// [`Error::Unreachable`] (nothing was sent).
    pub async fn send_free(&self, messages: Vec<Any>, nonce: u64) -> Result<TxResult> {
        let shared = &self.0;
        let used = shared.gas_used(&messages, nonce).await?;
        if used > MAX_FREE_GAS {
            return self.send_and_confirm(messages).await;
        }
        let percent = match shared.options.gas {
            Gas::Simulated { adjustment_percent } => adjustment_percent,
            Gas::Fixed(_) => ADJUSTMENT_PERCENT,
        };
        let gas = adjusted_gas(used, percent)?.min(MAX_FREE_GAS);
        let signers = [Signer::new(&shared.key, nonce)];
        let draft = Draft::new(messages, &shared.options.memo, 0, &signers, gas, 0);
        let signature = draft.sign(&shared.key, &shared.chain_id, shared.account_number);
        shared.deliver(&draft.assemble(vec![signature])).await
    }
}

impl Shared {
    /// Sends the same bytes until a block has them or the chain does not want them.
    async fn deliver(&self, signed: &SignedTx) -> Result<TxResult> {
        let begin = Instant::now();
        let mut send_at = begin;
        // Why no node has it yet; none: one has.
        let mut missing: Option<Error> = None;
        loop {
            if Instant::now() >= send_at {
                let (reply, refusal) = self.broadcast(signed).await?;
                let wait = match next(&reply, &refusal) {
                    Next::Wait => {
                        missing = None;
                        RESEND
                    }
                    Next::Again => {
                        missing = Some(match reply {
                            Reply::Lost => Error::OutcomeUnknown {
                                hash: signed.hash.clone(),
                                detail: refusal.log.clone(),
                            },
                            _ => Error::Refused(refusal),
                        });
                        self.options.poll
                    }
                    Next::Refused => {
                        // What it did may be the reason. A node may index a block's transactions a moment after its state.
                        tokio::time::sleep(self.options.poll).await;
                        return match self.client.tx(&signed.hash).await {
                            Ok(Some(response)) => outcome(response),
                            _ => Err(Error::Refused(refusal)),
                        };
                    }
                };
                send_at = Instant::now() + wait;
            }
            match self.client.tx(&signed.hash).await {
                Ok(Some(response)) => return outcome(response),
                Ok(None) | Err(Error::Unreachable { .. }) => {}
                Err(e) => return Err(e),
            }
            if begin.elapsed() >= PATIENCE {
                return Err(missing.unwrap_or_else(|| Error::NotIncluded {
                    hash: signed.hash.clone(),
                    waited: begin.elapsed(),
                }));
            }
            tokio::time::sleep(self.options.poll).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Stage;

    #[test]
    fn only_what_the_chain_will_never_take_ends_the_sending() {
        let refusal = |codespace: &str, code| Refusal {
            stage: Stage::Check,
            codespace: codespace.to_owned(),
            code,
            log: String::new(),
            hash: String::new(),
            height: 0,
        };
        let none = refusal("", 0);
        assert_eq!(next(&Reply::Accepted, &none), Next::Wait);
        assert_eq!(next(&Reply::Known, &none), Next::Wait);
        assert_eq!(next(&Reply::Lost, &none), Next::Again);
        assert_eq!(next(&Reply::Refused, &refusal("sdk", MEMPOOL_IS_FULL)), Next::Again);
        assert_eq!(
            next(&Reply::Refused, &refusal("provider", MEMPOOL_IS_FULL)),
            Next::Refused
        );
        assert_eq!(next(&Reply::Refused, &refusal("provider", 9)), Next::Refused);
        assert_eq!(
            next(&Reply::Mismatch { expected: 3 }, &refusal("sdk", 32)),
            Next::Refused
        );
    }
}
