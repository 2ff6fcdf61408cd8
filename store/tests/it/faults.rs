//! Writes that fail.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;

use tenure_store::{Backend, BackendView, Batch, Change, MemoryBackend, Store, StoreError, StoreOptions};

use crate::support::{open, STORES};

/// Fails writes on demand: 1 before and 2 after they were applied, as a failed fsync may; 3 fails views.
struct Failing {
    inner: MemoryBackend,
    mode: Arc<AtomicU8>,
}

impl Failing {
    fn failure(&self) -> StoreError {
        StoreError::Backend {
            action: "writing a block",
            detail: "No space left on device".into(),
            advice: "Free space",
        }
    }
}

impl Backend for Failing {
    fn view(&self) -> Result<Arc<dyn BackendView>, StoreError> {
        match self.mode.load(Ordering::SeqCst) {
            3 => Err(self.failure()),
            _ => self.inner.view(),
        }
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        match self.mode.load(Ordering::SeqCst) {
            1 => Err(self.failure()),
            2 => self.inner.write(batch).and(Err(self.failure())),
            _ => self.inner.write(batch),
        }
    }
}

#[test]
fn a_failed_write_stops_the_store_and_a_restart_finds_a_whole_block() {
    for (mode, height_after) in [(1, 1), (2, 2), (3, 2)] {
        let memory = MemoryBackend::new();
        let switch = Arc::new(AtomicU8::new(0));
        let backend = Failing {
            inner: memory.clone(),
            mode: switch.clone(),
        };
        let store = Store::open(Arc::new(backend), &STORES, StoreOptions::default()).unwrap();
        let put = |key: &[u8]| {
            let change = Change {
                store: "bank",
                key: key.to_vec(),
                old: None,
                new: Some(b"v".to_vec()),
            };
            store.stage(vec![change]).unwrap()
        };
        store.commit(put(b"1"), 1).unwrap();
        let before = store.latest();
        switch.store(mode, Ordering::SeqCst);
        let hash = put(b"2").app_hash();
        let failed = store.commit(put(b"2"), 2).unwrap_err();
        assert!(failed.to_string().contains("No space left on device"), "{failed}");
        // The old state is still served; nothing more is accepted, even if the disk recovers.
        assert!(Arc::ptr_eq(&before, &store.latest()));
        switch.store(0, Ordering::SeqCst);
        for stopped in [store.commit(put(b"2"), 2).unwrap_err(), store.rollback(1).unwrap_err()] {
            assert!(
                matches!(&stopped, StoreError::Stopped { reason } if reason.contains("No space")),
                "{stopped}"
            );
        }
        let latest = open(&memory).latest();
        assert_eq!(latest.height(), height_after);
        assert_eq!(
            latest.app_hash(),
            if height_after == 2 { hash } else { before.app_hash() }
        );
    }
}
