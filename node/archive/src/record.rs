//! What is kept of one height: the request and the answer of `FinalizeBlock`, in protobuf.
//!
//! ```text
//! 1: tendermint.abci.RequestFinalizeBlock     2: tendermint.abci.ResponseFinalizeBlock
//! ```

use prost::encoding::{message, DecodeContext};
use prost::Message;
use sha2::{Digest, Sha256};
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::v0_38::abci::{Event, ExecTxResult, RequestFinalizeBlock, ResponseFinalizeBlock};

const REQUEST: u32 = 1;
const RESPONSE: u32 = 2;
/// The attribute by which applications tell events of the beginning of a block from those of its end, and its first value.
const MODE: (&str, &str) = ("mode", "BeginBlock");

/// One executed height.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// What the engine asked to execute: header hash, time, proposer, last commit, transactions.
    pub request: RequestFinalizeBlock,
    /// What executing it gave.
    pub response: ResponseFinalizeBlock,
}

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq)]
pub struct TxRecord {
    /// SHA-256 of the transaction.
    pub hash: [u8; 32],
    /// The block it is in.
    pub height: i64,
    /// Its place in the block, from 0.
    pub index: u32,
    /// Its bytes.
    pub tx: Vec<u8>,
    /// What executing it gave.
    pub result: ExecTxResult,
}

/// An event with its place.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Its number among all events of the height, from 0, in the order of execution: beginning of the block, transactions, end.
    pub index: u32,
    /// The transaction it came from, by place; `None` for the block itself.
    pub tx: Option<u32>,
    /// The event.
    pub event: &'a Event,
}

/// SHA-256: the name of a transaction.
pub fn tx_hash(tx: &[u8]) -> [u8; 32] {
    Sha256::digest(tx).into()
}

fn begins(event: &Event) -> bool {
    event
        .attributes
        .iter()
        .any(|a| (a.key.as_str(), a.value.as_str()) == MODE)
}

impl Record {
    /// Encodes without taking ownership: on the path of every block.
    pub(crate) fn encode(request: &RequestFinalizeBlock, response: &ResponseFinalizeBlock, out: &mut Vec<u8>) {
        out.reserve(message::encoded_len(REQUEST, request) + message::encoded_len(RESPONSE, response));
        message::encode(REQUEST, request, out);
        message::encode(RESPONSE, response, out);
    }

    /// Decodes what [`encode`](Self::encode) wrote.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        let mut out = Self::default();
        let buf = &mut bytes;
        while !buf.is_empty() {
            let (tag, wire) = prost::encoding::decode_key(buf)?;
            let context = DecodeContext::default();
            match tag {
                REQUEST => message::merge(wire, &mut out.request, buf, context)?,
                RESPONSE => message::merge(wire, &mut out.response, buf, context)?,
                _ => prost::encoding::skip_field(wire, tag, buf, context)?,
            }
        }
        Ok(out)
    }

    /// The height.
    pub fn height(&self) -> i64 {
        self.request.height
    }

    /// The block's time.
    pub fn time(&self) -> Option<Timestamp> {
        self.request.time
    }

    /// The header's hash.
    pub fn block_hash(&self) -> &[u8] {
        &self.request.hash
    }

    /// A transaction by its place in the block.
    pub fn tx(&self, index: u32) -> Option<TxRecord> {
        let at = usize::try_from(index).ok()?;
        let (tx, result) = (self.request.txs.get(at)?, self.response.tx_results.get(at)?);
        Some(TxRecord {
            hash: tx_hash(tx),
            height: self.height(),
            index,
            tx: tx.to_vec(),
            result: result.clone(),
        })
    }

    /// Every event of the height with its place, in the order of execution.
    pub fn events(&self) -> impl Iterator<Item = Placed<'_>> {
        let block = |first: bool| {
            let events = self.response.events.iter();
            events.filter(move |e| begins(e) == first).map(|e| (None, e))
        };
        let txs = (0u32..).zip(&self.response.tx_results);
        let txs = txs.flat_map(|(i, result)| result.events.iter().map(move |e| (Some(i), e)));
        let all = block(true).chain(txs).chain(block(false));
        (0u32..)
            .zip(all)
            .map(|(index, (tx, event))| Placed { index, tx, event })
    }

    /// Bytes this takes when encoded.
    pub fn size(&self) -> usize {
        self.request.encoded_len() + self.response.encoded_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tendermint_proto::v0_38::abci::EventAttribute;

    fn event(kind: &str, mode: Option<&str>) -> Event {
        let attributes = mode.map(|m| EventAttribute {
            key: "mode".into(),
            value: m.into(),
            index: true,
        });
        Event {
            r#type: kind.into(),
            attributes: attributes.into_iter().collect(),
        }
    }

    #[test]
    fn events_are_numbered_in_the_order_of_execution() {
        let tx = |kind| ExecTxResult {
            events: vec![event(kind, None), event(kind, None)],
            ..Default::default()
        };
        let record = Record {
            request: RequestFinalizeBlock::default(),
            response: ResponseFinalizeBlock {
                events: vec![
                    event("end", Some("EndBlock")),
                    event("begin", Some("BeginBlock")),
                    event("none", None),
                ],
                tx_results: vec![tx("first"), tx("second")],
                ..Default::default()
            },
        };
        let seen: Vec<_> = record
            .events()
            .map(|p| (p.index, p.tx, p.event.r#type.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (0, None, "begin"),
                (1, Some(0), "first"),
                (2, Some(0), "first"),
                (3, Some(1), "second"),
                (4, Some(1), "second"),
                (5, None, "end"),
                (6, None, "none"),
            ]
        );
    }

    proptest! {
        #[test]
        fn records_come_back(height in 0i64.., txs in proptest::collection::vec(any::<Vec<u8>>(), 0..4), log in ".{0,20}") {
            let record = Record {
                request: RequestFinalizeBlock {
                    height,
                    txs: txs.iter().cloned().map(Into::into).collect(),
                    ..Default::default()
                },
                response: ResponseFinalizeBlock {
                    tx_results: txs.iter().map(|_| ExecTxResult { log: log.clone(), ..Default::default() }).collect(),
                    ..Default::default()
                },
            };
            let mut bytes = Vec::new();
            Record::encode(&record.request, &record.response, &mut bytes);
            prop_assert_eq!(Record::decode(&bytes).unwrap(), record);
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = Record::decode(&bytes);
        }
    }
}
