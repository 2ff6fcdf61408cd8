//! Waiting, with an end.

use std::time::{Duration, Instant};

use anyhow::{bail, Result};

/// How often is looked.
const EVERY: Duration = Duration::from_millis(100);

/// The first thing that `look` finds. Error: it finds nothing within `limit`, or fails.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("not within {} s: {what}", limit.as_secs());
        }
        std::thread::sleep(EVERY);
    }
}
