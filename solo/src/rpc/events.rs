//! What a committed height publishes to subscribers (CometBFT `types/event_bus.go`, `types/events.go`).

use super::render;
use crate::core::{BlockRecord, SoloClient};
use crate::error::SoloError;
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use tendermint_proto::v0_38::abci::Event;
use tenure_archive::query::Condition;
use tenure_archive::Record;

/// A height with what it takes to describe it.
pub(super) struct Height {
    block: BlockRecord,
    record: Arc<Record>,
}

/// One publication: what it is, and what queries see of it.
pub(super) struct Publication<'a> {
    of: &'a Height,
    kind: Kind,
    events: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Copy)]
enum Kind {
    NewBlock,
    NewBlockHeader,
    NewBlockEvents,
    Tx(u32),
    ValidatorSetUpdates,
}

/// Every attribute by its composite key; here, unlike in the index, those without `index` too.
fn attributes(events: &[Event]) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events.iter().filter(|e| !e.r#type.is_empty()) {
        for a in event.attributes.iter().filter(|a| !a.key.is_empty()) {
            let values = out.entry(format!("{}.{}", event.r#type, a.key)).or_default();
            values.push(a.value.clone());
        }
    }
    out
}

impl Height {
    /// `None` if block or results are pruned.
    pub(super) fn load(client: &SoloClient, height: i64) -> Result<Option<Self>, SoloError> {
        let (block, record) = (client.block(height)?, client.archive().record(height)?);
        Ok(block.zip(record).map(|(block, record)| Self { block, record }))
    }

    /// Everything the height publishes, in CometBFT's order.
    pub(super) fn publications(&self) -> Vec<Publication<'_>> {
        let plain = |kind: Kind, events: &[Event]| {
            let mut events = attributes(events);
            events.entry("tm.event".into()).or_default().push(kind.name().into());
            Publication { of: self, kind, events }
        };
        let results = &self.record.response;
        let mut out = vec![
            plain(Kind::NewBlock, &results.events),
            plain(Kind::NewBlockHeader, &[]),
            plain(Kind::NewBlockEvents, &results.events),
        ];
        for (i, result) in (0u32..).zip(&results.tx_results) {
            let Some(tx) = self.record.tx(i) else { continue };
            let mut published = plain(Kind::Tx(i), &result.events);
            let mut add = |key: &str, value: String| published.events.entry(key.into()).or_default().push(value);
            add("tx.hash", hex::encode_upper(tx.hash));
            add("tx.height", tx.height.to_string());
            out.push(published);
        }
        if !results.validator_updates.is_empty() {
            out.push(plain(Kind::ValidatorSetUpdates, &[]));
        }
        out
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::NewBlock => "NewBlock",
            Self::NewBlockHeader => "NewBlockHeader",
            Self::NewBlockEvents => "NewBlockEvents",
            Self::Tx(_) => "Tx",
            Self::ValidatorSetUpdates => "ValidatorSetUpdates",
        }
    }
}

impl Publication<'_> {
    /// Whether every condition is satisfied by some value of its key.
    pub(super) fn matches(&self, query: &[Condition]) -> bool {
        query.iter().all(|condition| {
            let values = self.events.get(&condition.key);
            values.is_some_and(|values| values.iter().any(|value| condition.matches(value)))
        })
    }

    /// The answer a subscription with this query gets.
    pub(super) fn result(&self, query: &str) -> Value {
        let (block, record) = (&self.of.block, &self.of.record);
        let header = || render::header(&block.block.header.clone().unwrap_or_default());
        let results = &record.response;
        let value = match self.kind {
            Kind::NewBlock => json!({
                "block": render::block(&block.block),
                "block_id": render::block_id(Some(&block.block_id)),
                "result_finalize_block": render::finalize_block(results),
            }),
            Kind::NewBlockHeader => json!({ "header": header() }),
            Kind::NewBlockEvents => json!({
                "height": record.height().to_string(),
                "events": render::nullable_list(render::block_events(&results.events)),
                "num_txs": record.request.txs.len().to_string(),
            }),
            Kind::Tx(index) => {
                let mut tx = Map::new();
                tx.insert("height".into(), record.height().to_string().into());
                if index != 0 {
                    tx.insert("index".into(), index.into());
                }
                if let Some(found) = record.tx(index) {
                    if !found.tx.is_empty() {
                        tx.insert("tx".into(), render::base64(&found.tx));
                    }
                    tx.insert("result".into(), render::compact_result(&found.result));
                }
                json!({ "TxResult": tx })
            }
            Kind::ValidatorSetUpdates => json!({
                "validator_updates": results.validator_updates.iter().map(render::updated_validator).collect::<Vec<_>>(),
            }),
        };
        json!({
            "query": query,
            "data": {"type": format!("tendermint/event/{}", self.kind.name()), "value": value},
            "events": self.events,
        })
    }
}
