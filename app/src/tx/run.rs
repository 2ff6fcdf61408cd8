//! Runs transactions: in a block, for the mempool, to estimate.

use tendermint_proto::v0_38::abci::ExecTxResult;
use tenure_proto::cosmos::tx::v1beta1::SimulateResponse;
use tenure_proto::{
    cosmos::base::abci::v1beta1::{GasInfo, Result as SimulatedResult},
    tendermint::abci as plain,
    Any,
};
use tenure_sdk::{Ctx, Error, Event, GasMeter, Result};

use super::{
    ante::{ante, Payment, Rules},
    result, Signatures, Tx,
};

pub(crate) use super::result::failed;

/// What became of a transaction.
pub(crate) struct Outcome {
    /// For the engine.
    pub(crate) result: ExecTxResult,
    /// Whether it belongs into a block: false if it changed nothing, neither by its messages nor by a fee.
    pub(crate) stays: bool,
}

/// Executes a transaction in a block. Error: internal only, the node is broken.
pub(crate) fn deliver(ctx: &mut Ctx, tx: &Tx, rules: &Rules, signatures: &Signatures) -> Result<Outcome> {
    let wanted = tx.gas_wanted();
    let block_events = std::mem::take(&mut ctx.events);
    let admitted = admit(ctx, tx, rules, signatures, false);
    let used = ctx.gas.used();
    let outcome = match admitted {
        Err(error) => outside(error).map(|error| Outcome {
            result: failed(&error, wanted, used, Vec::new()),
            stays: false,
        }),
        Ok(Admitted::Executed(responses)) => {
            let events = std::mem::take(&mut ctx.events);
            Ok(Outcome {
                result: result::succeeded(responses, wanted, used, events),
                stays: true,
            })
        }
        Ok(Admitted::Paid) => {
            let outcome = ctx.atomically(|ctx| execute(ctx, tx));
            let events = std::mem::take(&mut ctx.events);
            let used = ctx.gas.used();
            match outcome {
                Ok(responses) => Ok(result::succeeded(responses, wanted, used, events)),
                // Events of the fee stay, those of the messages are gone with their writes.
                Err(error) => outside(error).map(|error| failed(&error, wanted, used, events)),
            }
            .map(|result| Outcome { result, stays: true })
        }
    };
    ctx.events = block_events;
    ctx.gas = GasMeter::unlimited();
    outcome
}

/// Decides whether a transaction may wait in the mempool. `trusted`: its signatures were good before.
pub(crate) fn check(ctx: &mut Ctx, tx: &Tx, rules: &Rules, signatures: &Signatures, trusted: bool) -> ExecTxResult {
    ctx.events.clear();
    let admitted = admit(ctx, tx, rules, signatures, trusted);
    let (wanted, used) = (tx.gas_wanted(), ctx.gas.used());
    let events = std::mem::take(&mut ctx.events);
    match admitted {
        Ok(_) => ExecTxResult {
            data: Default::default(),
            ..result::succeeded(Vec::new(), wanted, used, events)
        },
        Err(error) => failed(&error, wanted, used, events),
    }
}

/// How a transaction was admitted.
enum Admitted {
    /// By its fee; its messages may run.
    Paid,
    /// Free of charge, because its messages succeeded, with these answers.
    Executed(Vec<Any>),
}

/// Takes the fee of a transaction, or executes it if it is free; on an error nothing of it is left.
fn admit(ctx: &mut Ctx, tx: &Tx, rules: &Rules, signatures: &Signatures, trusted: bool) -> Result<Admitted> {
    ctx.gas = GasMeter::new(tx.gas_wanted());
    ctx.atomically(|ctx| match ante(ctx, tx, rules, signatures, trusted)? {
        Payment::Fee => Ok(Admitted::Paid),
        Payment::None => execute(ctx, tx).map(Admitted::Executed),
    })
}

/// Executes a transaction on a scratch state to learn its gas. A missing signature, key or fee is tolerated.
pub(crate) fn simulate(ctx: &mut Ctx, tx: &Tx, rules: &Rules, signatures: &Signatures) -> Result<SimulateResponse> {
    let limit = rules.chain.max_block_gas;
    ctx.gas = GasMeter::new(limit);
    ante(ctx, tx, rules, signatures, false)?;
    let responses = execute(ctx, tx)?;
    let gas_info = GasInfo {
        gas_wanted: tx.gas_wanted(),
        gas_used: ctx.gas.used(),
    };
    let events = std::mem::take(&mut ctx.events).into_iter().map(plain_event).collect();
    let result = SimulatedResult {
        events,
        msg_responses: responses,
        ..Default::default()
    };
    Ok(SimulateResponse {
        gas_info: Some(gas_info),
        result: Some(result),
    })
}

/// Runs the messages. Their events carry the message's index, as on Cosmos chains.
fn execute(ctx: &mut Ctx, tx: &Tx) -> Result<Vec<Any>> {
    let mut responses = Vec::with_capacity(tx.messages.len());
    for (i, (type_url, message)) in tx.messages.iter().enumerate() {
        let first = ctx.events.len();
        // Of a single message the transaction knows them.
        let sender = match tx.messages.len() {
            1 => tx.signers()?.first().copied(),
            _ => message.signers()?.first().copied(),
        };
        let sender = sender.map(|sender| sender.to_string()).unwrap_or_default();
        // "/cosmos.bank.v1beta1.MsgSend" is of the module "bank".
        let module = type_url.split('.').nth(1).unwrap_or_default().to_owned();
        ctx.emit(
            "message",
            [("action", type_url.clone()), ("sender", sender), ("module", module)],
        );
        let response = message
            .execute(ctx)
            .map_err(|e| e.context(format!("failed to execute message; message index: {i}")))?;
        let index = i.to_string();
        for event in ctx.events.iter_mut().skip(first) {
            event.attributes.push(("msg_index", index.clone()));
        }
        responses.push(response);
    }
    Ok(responses)
}

/// An error that is the sender's. Error: the node is broken.
fn outside(error: Error) -> Result<Error> {
    if error.is_internal() {
        Err(error)
    } else {
        Ok(error)
    }
}

fn plain_event(event: Event) -> plain::Event {
    let attribute = |(key, value): (&str, String)| plain::EventAttribute {
        key: key.to_owned(),
        value,
        index: result::is_indexed(key),
    };
    plain::Event {
        r#type: event.kind.to_owned(),
        attributes: event.attributes.into_iter().map(attribute).collect(),
    }
}
