//! Decoded records kept for the next reader: followers of the chain all read the newest.

use crate::archive::key;
use crate::record::Record;
use std::collections::VecDeque;
use std::sync::Arc;

const RECORDS: usize = 32;
const BYTES: usize = 32 << 20;

/// The records read last, with their sizes.
#[derive(Default)]
pub(crate) struct Cache {
    records: VecDeque<(Arc<Record>, usize)>,
    bytes: usize,
}

impl Cache {
    pub(crate) fn get(&self, height: u64) -> Option<Arc<Record>> {
        let found = self.records.iter().find(|(record, _)| key(record.height()) == height);
        found.map(|(record, _)| record.clone())
    }

    pub(crate) fn put(&mut self, record: Arc<Record>, size: usize) {
        if size > BYTES / 2 {
            return;
        }
        self.records.push_back((record, size));
        self.bytes = self.bytes.saturating_add(size);
        while self.records.len() > RECORDS || self.bytes > BYTES {
            let Some((_, size)) = self.records.pop_front() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(size);
        }
    }
}
