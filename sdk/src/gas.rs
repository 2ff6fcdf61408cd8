//! Gas: the one schedule of what execution costs, and the meter.
//!
//! Gas is a function of the transaction and the state alone. No cache, no store backend and no earlier run can change it, because
//! CometBFT hashes it into the block's results.

use tenure_types::{sdk, Error, Result};

/// Gas of each byte of a transaction.
pub const TX_BYTE: u64 = 10;
/// Gas of one secp256k1 signature.
pub const SIGNATURE: u64 = 1_000;
/// Gas of one record read.
pub const READ: u64 = 100;
/// Gas of each byte of a record read.
pub const READ_BYTE: u64 = 1;
/// Gas of one record written or deleted.
pub const WRITE: u64 = 500;
/// Gas of each byte of a record written.
pub const WRITE_BYTE: u64 = 10;
/// Gas of each entry that a range yields, besides its bytes.
pub const RANGE_ENTRY: u64 = 30;
/// Gas of one message before anything it does.
pub const MESSAGE: u64 = 1_000;

/// Counts gas against a limit.
#[derive(Debug, Clone)]
pub struct GasMeter {
    limit: u64,
    used: u64,
}

impl GasMeter {
    /// A meter that stops at `limit`.
    pub const fn new(limit: u64) -> Self {
        Self { limit, used: 0 }
    }

    /// A meter that never stops: for blocks' own work and for queries.
    pub const fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Gas used so far, at most the limit.
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// The limit.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Adds `amount` for `what`. Error (out of gas): the limit would be passed; the meter then stands at the limit.
    pub fn charge(&mut self, amount: u64, what: &str) -> Result<()> {
        match self.used.checked_add(amount) {
            Some(used) if used <= self.limit => {
                self.used = used;
                Ok(())
            }
            _ => {
                let error = Error::sdk(
                    sdk::OUT_OF_GAS,
                    format!(
                        "out of gas in {what}: limit {}, used {} of it, needs {amount} more",
                        self.limit, self.used
                    ),
                );
                self.used = self.limit;
                Err(error)
            }
        }
    }

    /// Adds `per_byte` gas for each of `len` bytes on top of `flat`.
    pub fn charge_bytes(&mut self, flat: u64, per_byte: u64, len: usize, what: &str) -> Result<()> {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        self.charge(len.saturating_mul(per_byte).saturating_add(flat), what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_stops_at_its_limit_and_stays_there() {
        let mut meter = GasMeter::new(10);
        assert!(meter.charge(10, "a").is_ok());
        let error = meter.charge(1, "b").expect_err("over");
        assert_eq!(error.code, sdk::OUT_OF_GAS);
        assert_eq!(meter.used(), 10);
        assert!(GasMeter::unlimited().charge(u64::MAX, "c").is_ok());
    }
}
