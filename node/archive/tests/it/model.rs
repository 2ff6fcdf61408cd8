//! Searches against a model: records kept in a map, every query answered by reading all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tendermint_proto::v0_38::abci::{Event, ExecTxResult, RequestFinalizeBlock, ResponseFinalizeBlock};
use tenure_archive::query::{self, Condition};
use tenure_archive::{tx_hash, Archive, ArchiveOptions, Page, Record};

use crate::toy::event;

#[derive(Clone, Debug)]
enum Step {
    /// The next block: for each transaction its bytes, its code and its events.
    Block(Vec<(u8, u32, Vec<Event>)>, Vec<Event>),
    /// Closed and opened; heights that the application did not commit are withdrawn.
    Open { lost: i64 },
}

fn an_event() -> impl Strategy<Value = Event> {
    let name = prop::sample::select(vec!["a", "b", "a.b"]);
    let key = prop::sample::select(vec!["x", "y", "b.x", "secret"]);
    let value = prop::sample::select(vec!["", "1", "1", "2", "10", "red", "red", "red", "redder", "1red"]);
    (name, key, value).prop_map(|(name, key, value)| event(name, &[(key, value)]))
}

fn a_step() -> impl Strategy<Value = Step> {
    let events = || prop::collection::vec(an_event(), 0..4);
    let txs = prop::collection::vec((0u8..6, 0u32..2, events()), 0..6);
    prop_oneof![
        8 => (txs, events()).prop_map(|(txs, block)| Step::Block(txs, block)),
        1 => (0i64..4).prop_map(|lost| Step::Open { lost }),
    ]
}

fn a_condition() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a.x", "b.y", "a.b.x", "a.secret", "none.x"]);
    let rest = prop::sample::select(vec![
        "='red'",
        "='1'",
        "=''",
        "=1",
        ">1",
        "<=2",
        " EXISTS",
        " CONTAINS 'red'",
        " CONTAINS '1'",
    ]);
    let text = prop::sample::select(vec!["a.x='red'", "a.x='1'", "b.y='red'", "b.y='1'", "a.b.x='red'"]);
    let on_height = prop::sample::select(vec![">3", "<9", "=5", ">=2", "<=7"]);
    prop_oneof![
        4 => text.prop_map(str::to_owned),
        4 => (key, rest).prop_map(|(key, rest)| format!("{key}{rest}")),
        1 => on_height.prop_map(|rest| format!("HEIGHT{rest}")),
    ]
}

fn holds(conditions: &[Condition], height: i64, events: &[Event]) -> bool {
    conditions.iter().all(|condition| {
        if condition.key.ends_with(".height") {
            let mut range = (i64::MIN, i64::MAX);
            condition.narrow(&mut range).unwrap();
            return (range.0..=range.1).contains(&height);
        }
        let attributes = events.iter().flat_map(|e| e.attributes.iter().map(move |a| (e, a)));
        attributes
            .filter(|(e, a)| a.index && format!("{}.{}", e.r#type, a.key) == condition.key)
            .any(|(_, a)| condition.matches(&a.value))
    })
}

/// A page of everything.
fn page<T>(mut all: Vec<T>, page: Page) -> Vec<T> {
    if page.descending {
        all.reverse();
    }
    all.into_iter().skip(page.skip).take(page.limit).collect()
}

fn check(archive: &Archive, model: &BTreeMap<i64, Record>, text: &str, at: Page) -> Result<(), TestCaseError> {
    let query = text.replace("HEIGHT", "tx.height");
    let conditions = query::parse(&query).unwrap();
    let mut txs = Vec::new();
    for (height, record) in model {
        for (index, result) in (0u32..).zip(&record.response.tx_results) {
            if holds(&conditions, *height, &result.events) {
                txs.push((*height, index));
            }
        }
    }
    let (found, total) = archive.search_txs(&query, at).unwrap();
    prop_assert_eq!(total, txs.len(), "{}", &query);
    let found: Vec<_> = found.iter().map(|t| (t.height, t.index)).collect();
    prop_assert_eq!(found, page(txs, at), "{}", &query);

    let query = text.replace("HEIGHT", "block.height");
    let conditions = query::parse(&query).unwrap();
    let blocks = model
        .iter()
        .filter(|(height, r)| holds(&conditions, **height, &r.response.events));
    let blocks: Vec<i64> = blocks.map(|(height, _)| *height).collect();
    let (found, total) = archive.search_blocks(&query, at).unwrap();
    prop_assert_eq!(total, blocks.len(), "{}", &query);
    prop_assert_eq!(found, page(blocks, at), "{}", &query);
    Ok(())
}

/// Leaves the heights that are kept.
fn prune(model: &mut BTreeMap<i64, Record>, head: i64, keep: Option<u64>) {
    if let Some(keep) = keep {
        model.retain(|height, _| *height > head - i64::try_from(keep).unwrap());
    }
}

/// The newest copy, unless it failed and an earlier one did not.
fn place(model: &BTreeMap<i64, Record>, tx: &[u8]) -> Option<(i64, u32)> {
    let copies = model.iter().flat_map(|(height, record)| {
        let txs = (0u32..).zip(record.request.txs.iter().zip(&record.response.tx_results));
        txs.filter(|(_, (bytes, _))| *bytes == tx)
            .map(|(index, (_, result))| ((*height, index), result.code == 0))
    });
    let copies: Vec<_> = copies.collect();
    let success = copies.iter().rev().find(|(_, success)| *success);
    success.or(copies.last()).map(|(at, _)| *at)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn searches_are_those_of_the_model(
        steps in prop::collection::vec(a_step(), 1..30),
        queries in prop::collection::vec(prop::collection::vec(a_condition(), 1..4), 1..12),
        skip in 0usize..3,
        descending in any::<bool>(),
        keep in prop::option::of(3u64..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = ArchiveOptions { keep_heights: keep, segment_bytes: 600, sync_interval: Duration::from_millis(1) };
        let mut archive = Archive::open(dir.path(), options.clone()).unwrap();
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Block(txs, events) => {
                    let height = archive.head() + 1;
                    let request = RequestFinalizeBlock {
                        height,
                        txs: txs.iter().map(|(byte, ..)| vec![*byte].into()).collect(),
                        ..Default::default()
                    };
                    let tx_results = txs.into_iter().map(|(_, code, events)| ExecTxResult { code, events, ..Default::default() });
                    let response = ResponseFinalizeBlock { tx_results: tx_results.collect(), events, ..Default::default() };
                    archive.append(&request, &response).unwrap();
                    archive.publish(height);
                    model.insert(height, Record { request, response });
                }
                Step::Open { lost } => {
                    let committed = (archive.head() - lost).max(0);
                    // A stop prunes before anything is withdrawn.
                    prune(&mut model, archive.head(), keep);
                    drop(archive);
                    archive = Archive::open(dir.path(), options.clone()).unwrap();
                    archive.align(committed).unwrap();
                    model.retain(|height, _| *height <= committed);
                }
            }
        }
        archive.sync().unwrap();
        prune(&mut model, archive.head(), keep);
        prop_assert_eq!(archive.range(), model.keys().next().copied().zip(model.keys().last().copied()));
        let at = Page { skip, limit: 4, descending };
        for conditions in queries {
            check(&archive, &model, &conditions.join(" AND "), at)?;
        }
        for byte in 0u8..6 {
            let found = archive.tx(&tx_hash(&[byte])).unwrap();
            prop_assert_eq!(found.map(|t| (t.height, t.index)), place(&model, &[byte]));
        }
    }
}
