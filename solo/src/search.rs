//! Finding transactions and blocks by query: CometBFT's `tx_search` and `block_search` without the JSON.

use crate::core::{SoloClient, TxRecord};
use crate::error::SoloError;
use crate::index;
use crate::query::{self, Condition};
use std::collections::BTreeSet;

/// Why a search gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The query cannot be parsed, or compares a height or hash with something that is none.
    #[error("{0}")]
    Query(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] SoloError),
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

/// Intersects what each condition matches; `None` before the first.
fn intersect<T: Ord + Copy>(so_far: Option<BTreeSet<T>>, next: BTreeSet<T>) -> Option<BTreeSet<T>> {
    Some(match so_far {
        None => next,
        Some(old) => old.intersection(&next).copied().collect(),
    })
}

/// An inclusive range of heights and the conditions that are not about height.
type Split = ((i64, i64), Vec<Condition>);

impl SoloClient {
    /// Transactions that satisfy a query, one page of them, and how many there are in all. The language is CometBFT's:
    /// `tx.hash='..'`, comparisons of `tx.height`, and indexed event attributes (`<type>.<key>`), joined by `AND`.
    pub fn search_txs(&self, query: &str, page: Page) -> Result<(Vec<TxRecord>, usize), SearchError> {
        let found = self.find_txs(query)?;
        let total = found.len();
        let mut records = Vec::new();
        for (height, index) in page.of(found) {
            records.extend(self.tx_at(height, index)?);
        }
        Ok((records, total))
    }

    /// Heights of the blocks that satisfy a query, one page of them, and how many there are in all: comparisons of `block.height`
    /// and indexed attributes of the blocks' own events.
    pub fn search_blocks(&self, query: &str, page: Page) -> Result<(Vec<i64>, usize), SearchError> {
        let conditions = query::parse(query).map_err(SearchError::Query)?;
        let ((from, to), rest) = self.heights("block.height", conditions)?;
        let mut found = None;
        for condition in &rest {
            found = intersect(found, index::blocks_matching(&self.0.store, condition)?);
        }
        let found = match found {
            Some(mut heights) => {
                heights.retain(|h| (from..=to).contains(h));
                heights
            }
            None => (from..=to).collect(),
        };
        let total = found.len();
        Ok((page.of(found), total))
    }

    /// Splits off the conditions on height and folds them into a range within what is committed.
    fn heights(&self, key: &str, conditions: Vec<Condition>) -> Result<Split, SearchError> {
        let mut range = (self.genesis().initial_height, self.latest_height());
        let (on_height, rest): (Vec<_>, Vec<_>) = conditions.into_iter().partition(|c| c.key == key);
        for condition in on_height {
            condition.narrow(&mut range).map_err(SearchError::Query)?;
        }
        Ok((range, rest))
    }

    fn find_txs(&self, text: &str) -> Result<BTreeSet<(i64, u32)>, SearchError> {
        let conditions = query::parse(text).map_err(SearchError::Query)?;
        if let Some(by_hash) = conditions.iter().find(|c| c.key == "tx.hash") {
            // As in CometBFT, a hash decides alone.
            let hash = hex::decode(by_hash.text().unwrap_or_default())
                .map_err(|e| SearchError::Query(format!("error during searching for a hash in the query: {e}")))?;
            let place = self.0.store.tx_place(&hash)?;
            return Ok(place.into_iter().filter(|(h, _)| *h <= self.latest_height()).collect());
        }
        let ((from, to), rest) = self.heights("tx.height", conditions)?;
        let mut found = None;
        for condition in &rest {
            found = intersect(found, index::txs_matching(&self.0.store, condition)?);
        }
        Ok(match found {
            Some(mut places) => {
                places.retain(|(h, _)| (from..=to).contains(h));
                places
            }
            None => self.0.store.tx_places(from, to)?.into_iter().collect(),
        })
    }
}
