//! What the engine is told about a transaction.

use prost::Message;
use tendermint_proto::v0_38::abci::{Event as AbciEvent, EventAttribute, ExecTxResult};
use tenure_proto::{cosmos::base::abci::v1beta1::TxMsgData, Any};
use tenure_sdk::{Error, Event};

/// Whether anybody looks for transactions by the value of an attribute. Nobody does by quantities and places, which are half of all attributes:
/// unindexed they are shown all the same, but cost engine and archive nothing.
pub(crate) fn is_indexed(attribute: &str) -> bool {
    !matches!(attribute, "amount" | "fee" | "msg_index" | "mode")
}

/// An event as ABCI carries it.
pub(crate) fn abci_event(event: Event) -> AbciEvent {
    let attribute = |(key, value): (&str, String)| EventAttribute {
        key: key.to_owned(),
        value,
        index: is_indexed(key),
    };
    AbciEvent {
        r#type: event.kind.to_owned(),
        attributes: event.attributes.into_iter().map(attribute).collect(),
    }
}

/// Gas as ABCI carries it.
pub(crate) fn gas(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Result of a transaction all of whose messages succeeded.
pub(crate) fn succeeded(responses: Vec<Any>, gas_wanted: u64, gas_used: u64, events: Vec<Event>) -> ExecTxResult {
    ExecTxResult {
        data: TxMsgData {
            msg_responses: responses,
        }
        .encode_to_vec()
        .into(),
        gas_wanted: gas(gas_wanted),
        gas_used: gas(gas_used),
        events: events.into_iter().map(abci_event).collect(),
        ..Default::default()
    }
}

/// Result of a transaction that failed.
pub(crate) fn failed(error: &Error, gas_wanted: u64, gas_used: u64, events: Vec<Event>) -> ExecTxResult {
    ExecTxResult {
        code: error.code,
        codespace: error.codespace.to_owned(),
        log: error.message.clone(),
        gas_wanted: gas(gas_wanted),
        gas_used: gas(gas_used),
        events: events.into_iter().map(abci_event).collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_can_be_searched_for_and_quantities_are_shown() {
        let event = abci_event(Event {
            kind: "transfer",
            attributes: vec![
                ("recipient", "b".to_owned()),
                ("amount", "1uten".to_owned()),
                ("msg_index", "0".to_owned()),
            ],
        });
        let shown = event
            .attributes
            .iter()
            .map(|a| (a.key.as_str(), a.value.as_str(), a.index));
        let expected = [
            ("recipient", "b", true),
            ("amount", "1uten", false),
            ("msg_index", "0", false),
        ];
        assert!(shown.eq(expected));
    }
}
