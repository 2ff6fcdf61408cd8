//! What this provider charges.

use serde::{Deserialize, Serialize};
use tenure_types::Resources;

/// Unit prices, base units of the chain's own token per hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// For one core.
    pub cpu_core: u64,
    /// For one GiB of memory.
    pub memory_gib: u64,
    /// For one GiB of storage.
    pub storage_gib: u64,
    /// Least price of any lease.
    pub floor: u64,
}

impl Default for Prices {
    /// 0.1 TEN per core, 0.05 per GiB of memory, 0.001 per GiB of storage, and at least 0.01.
    fn default() -> Self {
        Self {
            cpu_core: 100_000,
            memory_gib: 50_000,
            storage_gib: 1_000,
            floor: 10_000,
        }
    }
}

impl Prices {
    /// Price of these resources, base units per hour, rounded up: the sum of the parts, and at least the floor. None: it exceeds 2^64 - 1.
    pub fn rate(&self, resources: &Resources) -> Option<u64> {
        // Everything over the common denominator 1000 · 2^30, so that only one rounding happens.
        const GIB: u128 = 1 << 30;
        let cpu = u128::from(self.cpu_core)
            .checked_mul(resources.cpu_milli.into())?
            .checked_mul(GIB)?;
        let memory = u128::from(self.memory_gib)
            .checked_mul(resources.memory_bytes.into())?
            .checked_mul(1_000)?;
        let storage = u128::from(self.storage_gib)
            .checked_mul(resources.storage_bytes.into())?
            .checked_mul(1_000)?;
        let sum = cpu.checked_add(memory)?.checked_add(storage)?;
        u64::try_from(sum.div_ceil(1_000 * GIB))
            .ok()
            .map(|rate| rate.max(self.floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_price_is_the_sum_of_its_parts_rounded_up_once() {
        let prices = Prices {
            cpu_core: 1_000,
            memory_gib: 100,
            storage_gib: 10,
            floor: 1,
        };
        let whole = Resources {
            cpu_milli: 2_000,
            memory_bytes: 4 << 30,
            storage_bytes: 8 << 30,
        };
        assert_eq!(prices.rate(&whole), Some(2_000 + 400 + 80));
        let sliver = Resources {
            cpu_milli: 1,
            memory_bytes: 1,
            storage_bytes: 0,
        };
        assert_eq!(prices.rate(&sliver), Some(2), "1 for the CPU and a trace of memory");
        assert_eq!(Prices { floor: 500, ..prices }.rate(&sliver), Some(500));
        let endless = Resources {
            cpu_milli: u64::MAX,
            memory_bytes: u64::MAX,
            storage_bytes: u64::MAX,
        };
        assert_eq!(
            Prices {
                cpu_core: u64::MAX,
                ..prices
            }
            .rate(&endless),
            None
        );
    }

    /// Amounts of every magnitude, small ones as often as large.
    fn amount() -> impl Strategy<Value = u64> {
        (0_u64..1 << 40, 0_u32..41).prop_map(|(value, shift)| value >> shift)
    }

    proptest! {
        #[test]
        fn more_never_costs_less(a in amount(), b in amount(), c in amount(), d in amount()) {
            let small = Resources { cpu_milli: a, memory_bytes: b, storage_bytes: c };
            let large = Resources { cpu_milli: a + d, memory_bytes: b + d, storage_bytes: c + d };
            let prices = Prices::default();
            prop_assert!(prices.rate(&small) <= prices.rate(&large));
            prop_assert!(prices.rate(&small) >= Some(prices.floor));
        }
    }
}
