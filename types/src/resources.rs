//! Resource vectors.

use std::fmt;

use crate::{sdk, Error, Result};

/// An amount of each resource that a workload needs or a machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of one CPU core.
    pub cpu_milli: u64,
    /// Main memory, bytes.
    pub memory_bytes: u64,
    /// Disk, bytes.
    pub storage_bytes: u64,
}

impl Resources {
    /// The sum. Error: a part exceeds 2^64 - 1.
    pub fn plus(self, other: Self) -> Result<Self> {
        self.combine(other, u64::checked_add, "exceeds the largest possible amount")
    }

    /// The difference. Error: a part of `other` is greater.
    pub fn minus(self, other: Self) -> Result<Self> {
        self.combine(other, u64::checked_sub, "is more than there is")
    }

    /// Whether every part is at most that of `capacity`.
    pub fn fits_in(&self, capacity: &Self) -> bool {
        self.cpu_milli <= capacity.cpu_milli
            && self.memory_bytes <= capacity.memory_bytes
            && self.storage_bytes <= capacity.storage_bytes
    }

    fn combine(self, other: Self, op: fn(u64, u64) -> Option<u64>, why: &str) -> Result<Self> {
        let part = |name: &str, a: u64, b: u64| {
            op(a, b).ok_or_else(|| Error::sdk(sdk::INVALID_REQUEST, format!("{name}: {b} {why} ({a})")))
        };
        Ok(Self {
            cpu_milli: part("cpu_milli", self.cpu_milli, other.cpu_milli)?,
            memory_bytes: part("memory_bytes", self.memory_bytes, other.memory_bytes)?,
            storage_bytes: part("storage_bytes", self.storage_bytes, other.storage_bytes)?,
        })
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} mCPU, {} MiB memory, {} MiB storage",
            self.cpu_milli,
            self.memory_bytes >> 20,
            self.storage_bytes >> 20
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_checked_one_by_one() {
        let a = Resources {
            cpu_milli: 5,
            memory_bytes: 10,
            storage_bytes: 0,
        };
        let b = Resources {
            cpu_milli: 5,
            memory_bytes: 11,
            storage_bytes: 0,
        };
        assert!(a.fits_in(&b) && !b.fits_in(&a));
        let error = a.minus(b).expect_err("memory is short");
        assert!(error.message.contains("memory_bytes"), "{error}");
        assert_eq!(b.minus(a).and_then(|d| d.plus(a)), Ok(b));
    }
}
