//! Finding transactions and blocks by query: CometBFT's `tx_search` and `block_search` without the JSON.

use crate::archive::{height, key, Archive};
use crate::error::ArchiveError;
use crate::index::Events;
use crate::query::{self, Condition};
use crate::record::TxRecord;
use std::collections::BTreeSet;

/// Why a search gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The query cannot be parsed, or compares a height or hash with something that is none.
    #[error("{0}")]
    Query(String),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Which page of a result, in which order.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// How many to leave out at the beginning.
    pub skip: usize,
    /// How many to return at most.
    pub limit: usize,
    /// Newest first.
    pub descending: bool,
}

impl Page {
    fn of<T>(self, found: BTreeSet<T>) -> Vec<T> {
        if self.descending {
            found.into_iter().rev().skip(self.skip).take(self.limit).collect()
        } else {
            found.into_iter().skip(self.skip).take(self.limit).collect()
        }
    }
}

/// An inclusive range of heights and the conditions that are not about height.
type Split = ((u64, u64), Vec<Condition>);

impl Archive {
    /// Transactions that satisfy a query, one page of them, and how many there are in all. The language is CometBFT's:
    /// `tx.hash='..'`, comparisons of `tx.height`, and indexed event attributes (`<type>.<key>`), joined by `AND`.
    pub fn search_txs(&self, query: &str, page: Page) -> Result<(Vec<TxRecord>, usize), SearchError> {
        self.indexed()?;
        let found = self.find_txs(query)?;
        let total = found.len();
        let mut records = Vec::new();
        for (at, index) in page.of(found) {
            records.extend(self.tx_at(height(at), index)?);
        }
        Ok((records, total))
    }

    /// Heights of the blocks that satisfy a query, one page of them, and how many there are in all: comparisons of `block.height`
    /// and indexed attributes of the blocks' own events.
    pub fn search_blocks(&self, query: &str, page: Page) -> Result<(Vec<i64>, usize), SearchError> {
        self.indexed()?;
        let conditions = query::parse(query).map_err(SearchError::Query)?;
        let (range, rest) = self.heights_of("block.height", conditions)?;
        let found: BTreeSet<u64> = match self.intersection(Events::Block, &rest, range)? {
            Some(places) => places.into_iter().map(|(height, _)| height).collect(),
            None => self.inner().index.heights(range.0, range.1)?,
        };
        let total = found.len();
        Ok((page.of(found).into_iter().map(height).collect(), total))
    }

    /// Splits off the conditions on height and folds them into a range within what is committed.
    fn heights_of(&self, name: &str, conditions: Vec<Condition>) -> Result<Split, SearchError> {
        // Nothing committed: a range that is empty whatever narrows it.
        let mut range = self.range().unwrap_or((1, 0));
        let (on_height, rest): (Vec<_>, Vec<_>) = conditions.into_iter().partition(|c| c.key == name);
        for condition in on_height {
            condition.narrow(&mut range).map_err(SearchError::Query)?;
        }
        let (from, to) = range;
        Ok((if from > to { (1, 0) } else { (key(from), key(to)) }, rest))
    }

    /// Places that satisfy every condition; `None` if there is no condition.
    fn intersection(
        &self,
        events: Events,
        conditions: &[Condition],
        range: (u64, u64),
    ) -> Result<Option<BTreeSet<(u64, u32)>>, ArchiveError> {
        let mut found: Option<BTreeSet<(u64, u32)>> = None;
        for condition in conditions {
            if found.as_ref().is_some_and(BTreeSet::is_empty) {
                break;
            }
            let next = self.inner().index.matching(events, condition, range)?;
            found = Some(match found {
                None => next,
                Some(old) => old.intersection(&next).copied().collect(),
            });
        }
        Ok(found)
    }

    fn find_txs(&self, text: &str) -> Result<BTreeSet<(u64, u32)>, SearchError> {
        let conditions = query::parse(text).map_err(SearchError::Query)?;
        if let Some(by_hash) = conditions.iter().find(|c| c.key == "tx.hash") {
            // As in CometBFT, a hash decides alone.
            let hash = hex::decode(by_hash.text().unwrap_or_default())
                .map_err(|e| SearchError::Query(format!("error during searching for a hash in the query: {e}")))?;
            let place = self.inner().index.tx_place(&hash, key(self.head()))?;
            return Ok(place.into_iter().collect());
        }
        let (range, rest) = self.heights_of("tx.height", conditions)?;
        Ok(match self.intersection(Events::Tx, &rest, range)? {
            Some(places) => places,
            None => self.inner().index.tx_places(range.0, range.1)?,
        })
    }
}
