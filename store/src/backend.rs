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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// Sets a key.
    Put(&'a [u8], &'a [u8]),
    /// Removes a key, present or not.
    Delete(&'a [u8]),
}

/// Operations applied atomically by [`Backend::write`]; of two on one key the later holds.
///
/// All keys and values lie in one string: a block has ten thousand, and each of its own would be allocated and freed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    ops: Vec<Lengths>,
}

/// How many bytes of the string are an operation's key, and then its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lengths {
    key: usize,
    value: Option<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Batch::default()
    }

    /// An empty batch with room for `operations`, with keys and values of `bytes` in all.
    pub fn with_capacity(operations: usize, bytes: usize) -> Self {
        Batch {
            bytes: Vec::with_capacity(bytes),
            ops: Vec::with_capacity(operations),
        }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.ops.push(Lengths {
            key: key.len(),
            value: Some(value.len()),
        });
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        self.bytes.extend_from_slice(key);
        self.ops.push(Lengths {
            key: key.len(),
            value: None,
        });
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
        self.bytes.len()
    }

    /// The operations in order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        let mut rest = self.bytes.as_slice();
        self.ops.iter().map(move |lengths| {
            let (key, after) = rest.split_at(lengths.key);
            let (value, after) = after.split_at(lengths.value.unwrap_or(0));
            rest = after;
            match lengths.value {
                Some(_) => Op::Put(key, value),
                None => Op::Delete(key),
            }
        })
    }
}
