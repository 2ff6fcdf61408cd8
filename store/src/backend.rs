//! What the store asks of a database: a flat, ordered map of bytes with immutable views and atomic, durable batches.

use std::sync::Arc;

use crate::StoreError;

/// Key and value of a flat entry.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Entries in key order, ascending or descending as asked; an `Err` ends the walk.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, StoreError>> + 'a>;

/// A flat, ordered map of bytes. Implementations: [`MemoryBackend`](crate::MemoryBackend) and, in its own crate because it links
/// C++, RocksDB.
pub trait Backend: Send + Sync + 'static {
    /// The state as of the last successful [`write`](Backend::write), never changing afterwards.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn view(&self) -> Result<Arc<dyn BackendView>, StoreError>;

    /// Applies all operations of the batch or none, in order, and returns only when they would survive a loss of power.
    ///
    /// # Errors
    /// When the database could not make the batch durable (disk full, I/O error). Whether it will be there after a restart is then
    /// unknown; that it is there only in part is excluded.
    fn write(&self, batch: Batch) -> Result<(), StoreError>;
}

/// An immutable state of a [`Backend`]; later writes do not show in it.
pub trait BackendView: Send + Sync {
    /// The value at `key`, if any.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Entries with `from <= key < to` (no upper bound for `None`), ascending, or descending if `reverse`.
    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Entries<'a>;
}

/// One operation of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key, present or not.
    Delete(Vec<u8>),
}

impl Op {
    /// The key it touches.
    pub fn key(&self) -> &[u8] {
        match self {
            Op::Put(key, _) | Op::Delete(key) => key,
        }
    }
}

/// Operations applied atomically by [`Backend::write`]; of two on one key the later holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Batch::default()
    }

    /// An empty batch with room for `operations`.
    pub fn with_capacity(operations: usize) -> Self {
        Batch {
            ops: Vec::with_capacity(operations),
        }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.ops.push(Op::Put(key.into(), value.into()));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.ops.push(Op::Delete(key.into()));
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        let bytes = |op: &Op| match op {
            Op::Put(key, value) => key.len() + value.len(),
            Op::Delete(key) => key.len(),
        };
        self.ops.iter().map(bytes).sum()
    }

    /// The operations in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The operations in order, by value.
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }
}
