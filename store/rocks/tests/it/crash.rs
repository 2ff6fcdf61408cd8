//! kill -9 at any instant.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::chain::{cases, open, Committer, Reference};

#[test]
fn a_kill_at_any_instant_leaves_a_committed_height_and_loses_none_acknowledged() {
    let started = Instant::now();
    let mut rng = StdRng::seed_from_u64(11);
    let mut reference = Reference::new();
    let (kills, chains) = (cases(220), cases(4));
    let (mut blocks, mut ahead, mut rolled_back, mut before_open) = (0, 0, 0, 0);
    for _ in 0..chains {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut height = 0;
        for kill in 0..kills / chains {
            // From before the database is open to some dozens of blocks and a few flushes later.
            let delay = Duration::from_micros(rng.gen_range(0..120_000));
            let acknowledged = Committer::start(&path, None).kill_after(delay);
            let store = open(&path).unwrap();
            let latest = store.latest();
            assert!(
                latest.height() >= acknowledged.max(height),
                "height {} is lost",
                acknowledged.max(height)
            );
            reference.check(&latest);
            before_open += usize::from(acknowledged == 0);
            ahead += usize::from(acknowledged > 0 && latest.height() > acknowledged);
            blocks += latest.height() - height;
            height = latest.height();
            if kill % 10 == 9 && height > 20 {
                let back = rng.gen_range(1..=10);
                let view = store.rollback(back).unwrap();
                assert_eq!(view.height(), height - back);
                reference.check(&view);
                rolled_back += back;
                height -= back;
            }
        }
    }
    println!(
        "{} kills in {:.0?}: {blocks} blocks, {ahead} found committed but not yet acknowledged, {before_open} kills before the first \
         block, {rolled_back} blocks rolled back",
        kills / chains * chains,
        started.elapsed()
    );
    assert!(blocks > 500, "the child commits blocks between kills");
}
