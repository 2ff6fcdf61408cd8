//! Authenticated key-value store: staged roots in memory, ICS23 proofs, undo, snapshots.
//!
//! Values live flat in a [`Backend`], ordered by key. The commitment to them is a Merkle trie per module and a main trie over the
//! modules' roots, all in memory, with the hashing of the Jellyfish Merkle tree; the root of the main trie is the app hash.
//!
//! ```
//! use std::sync::Arc;
//! use tenure_store::{Change, MemoryBackend, Store, StoreOptions};
//!
//! let store = Store::open(Arc::new(MemoryBackend::new()), &["bank"], StoreOptions::default())?;
//! let change = Change { store: "bank", key: b"alice".to_vec(), old: None, new: Some(b"5uten".to_vec()) };
//! let staged = store.stage(vec![change])?; // FinalizeBlock: nothing is written, the app hash is known
//! let app_hash = staged.app_hash();
//! let view = store.commit(staged, 1)?; // Commit: one synced batch
//! assert_eq!(view.get("bank", b"alice")?.as_deref(), Some(&b"5uten"[..]));
//! view.prove("bank", b"alice")?.verify(&app_hash, "bank", b"alice").unwrap();
//! # Ok::<(), tenure_store::StoreError>(())
//! ```
//!
//! Where to look: `keys` the layout of the database, `trie` the hashing, `store` staging, commit and rollback, `undo` the undo record,
//! `proof` ICS23, `snapshot` state sync, `rebuild` the start.

mod backend;
mod error;
mod keys;
mod memory;
pub mod proof;
mod rebuild;
mod sha256;
pub mod snapshot;
mod store;
mod trie;
mod undo;
mod view;

pub use backend::{Backend, BackendView, Batch, Entries, Entry, Op};
pub use error::{HexBytes, StoreError};
pub use keys::{LAYOUT_VERSION, MAX_KEY_BYTES, MAX_STORE_NAME_BYTES, MAX_VALUE_BYTES};
pub use memory::MemoryBackend;
pub use proof::StateProof;
pub use store::{Change, Staged, Store, StoreOptions};
pub use view::View;
