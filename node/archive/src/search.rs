//! Finding transactions and blocks by query: CometBFT's `tx_search` and `block_search` without the JSON.

use crate::archive::{height, key, Archive};
use crate::error::ArchiveError;
use crate::index::Place;
use crate::keys::Events;
use crate::query::{self, Condition};
use crate::ranges;
use crate::record::TxRecord;

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
    /// This page of what is found in ascending order.
    fn of<T>(self, found: impl DoubleEndedIterator<Item = T>) -> Vec<T> {
        if self.descending {
            found.rev().skip(self.skip).take(self.limit).collect()
        } else {
            found.skip(self.skip).take(self.limit).collect()
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
        let (places, total) = self.find_txs(query, page)?;
        let mut records = Vec::new();
        for (at, index) in places {
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
        if rest.is_empty() {
            let mut heights = self.heights();
            ranges::clip(&mut heights, range.0, range.1);
            let total: u64 = heights
                .iter()
                .map(|(first, last)| last.abs_diff(*first).saturating_add(1))
                .sum();
            let page = page.of(heights.into_iter().flat_map(|(first, last)| first..=last));
            return Ok((
                page.into_iter().map(height).collect(),
                usize::try_from(total).unwrap_or(usize::MAX),
            ));
        }
        let found = self.inner().index.view().matching(Events::Block, &rest, range)?;
        let page = page.of(found.iter().map(|(at, _)| height(*at)));
        Ok((page, found.len()))
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

    /// Places of the transactions that satisfy a query, one page of them, and how many there are in all.
    fn find_txs(&self, text: &str, page: Page) -> Result<(Vec<Place>, usize), SearchError> {
        let conditions = query::parse(text).map_err(SearchError::Query)?;
        let view = self.inner().index.view();
        if let Some(by_hash) = conditions.iter().find(|c| c.key == "tx.hash") {
            // As in CometBFT, a hash decides alone.
            let hash = hex::decode(by_hash.text().unwrap_or_default())
                .map_err(|e| SearchError::Query(format!("error during searching for a hash in the query: {e}")))?;
            let place = view.tx_place(&hash, self.visible())?;
            return Ok((page.of(place.into_iter()), usize::from(place.is_some())));
        }
        let (range, rest) = self.heights_of("tx.height", conditions)?;
        if rest.is_empty() {
            let counts = view.counts(range)?;
            let total = counts.iter().map(|(_, txs)| u64::from(*txs)).sum::<u64>();
            let places = counts
                .into_iter()
                .flat_map(|(at, txs)| (0..txs).map(move |index| (at, index)));
            return Ok((page.of(places), usize::try_from(total).unwrap_or(usize::MAX)));
        }
        let found = view.matching(Events::Tx, &rest, range)?;
        Ok((page.of(found.iter().copied()), found.len()))
    }
}
