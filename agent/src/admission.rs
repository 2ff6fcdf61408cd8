//! Which bids this provider claims, as a pure function of what it sees.

use std::collections::BTreeMap;

use tenure_types::Resources;

use crate::pricing::Prices;

/// An open bid as far as the decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBid {
    /// Its id.
    pub id: u64,
    /// What is rented.
    pub resources: Resources,
    /// Denom of the price.
    pub denom: String,
    /// Price ceiling, base units per hour.
    pub max_rate: u64,
}

/// What the provider knows of itself.
#[derive(Debug, Clone)]
pub struct Situation {
    /// Whether it takes new work at all; if not, why.
    pub closed: Option<&'static str>,
    /// Declared capacity, no more than what was measured.
    pub capacity: Resources,
    /// What its open leases hold.
    pub committed: Resources,
    /// What the machine has free right now, as the kernel says.
    pub free_now: Resources,
    /// Its own claims by bid with their rates, refused ones included.
    pub claimed: BTreeMap<u64, u64>,
    /// Its prices.
    pub prices: Prices,
    /// The denom it takes.
    pub denom: String,
}

/// Why a bid is not claimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// The provider takes no new work.
    #[error("{0}")]
    Closed(&'static str),
    /// Already offered at this price or a better one.
    #[error("already claimed at {0} per hour")]
    Claimed(u64),
    /// Another denom.
    #[error("it pays in {0}")]
    Denom(String),
    /// The price is above the ceiling.
    #[error("price {rate} per hour, ceiling {ceiling}")]
    TooCheap {
        /// Our price.
        rate: u64,
        /// The bid's ceiling.
        ceiling: u64,
    },
    /// It does not fit.
    #[error("it needs {needs}, free are {free}")]
    NoRoom {
        /// What it needs.
        needs: Resources,
        /// What is free.
        free: Resources,
    },
}

/// Decides bid by bid, in the order given: the rate to claim at, or why not. Claims of bids that are still open hold their room, so that
/// winning all of them never exceeds the capacity.
pub fn decide(situation: &Situation, bids: &[OpenBid]) -> Vec<(u64, Result<u64, Skip>)> {
    let free = |held: &Resources| Resources {
        cpu_milli: situation.capacity.cpu_milli.saturating_sub(held.cpu_milli),
        memory_bytes: situation
            .capacity
            .memory_bytes
            .saturating_sub(held.memory_bytes)
            .min(situation.free_now.memory_bytes),
        storage_bytes: situation
            .capacity
            .storage_bytes
            .saturating_sub(held.storage_bytes)
            .min(situation.free_now.storage_bytes),
    };
    let mut held = situation.committed;
    for bid in bids.iter().filter(|bid| situation.claimed.contains_key(&bid.id)) {
        held = held.plus(bid.resources).unwrap_or(situation.capacity);
    }
    let mut decisions = Vec::new();
    for bid in bids {
        let decision = (|| {
            if let Some(why) = situation.closed {
                return Err(Skip::Closed(why));
            }
            if bid.denom != situation.denom {
                return Err(Skip::Denom(bid.denom.clone()));
            }
            let rate = situation.prices.rate(&bid.resources).unwrap_or(u64::MAX);
            if let Some(old) = situation.claimed.get(&bid.id).filter(|old| rate >= **old) {
                return Err(Skip::Claimed(*old));
            }
            if rate > bid.max_rate {
                return Err(Skip::TooCheap {
                    rate,
                    ceiling: bid.max_rate,
                });
            }
            // Room for a claim that is to be improved is held already.
            if situation.claimed.contains_key(&bid.id) {
                return Ok(rate);
            }
            let free = free(&held);
            if !bid.resources.fits_in(&free) {
                return Err(Skip::NoRoom {
                    needs: bid.resources,
                    free,
                });
            }
            held = held.plus(bid.resources).unwrap_or(situation.capacity);
            Ok(rate)
        })();
        decisions.push((bid.id, decision));
    }
    decisions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room(units: u64) -> Resources {
        Resources {
            cpu_milli: units,
            memory_bytes: units,
            storage_bytes: units,
        }
    }

    fn situation() -> Situation {
        Situation {
            closed: None,
            capacity: room(100),
            committed: room(30),
            free_now: room(1_000),
            claimed: BTreeMap::new(),
            prices: Prices {
                cpu_core: 0,
                memory_gib: 0,
                storage_gib: 0,
                floor: 50,
            },
            denom: "uten".into(),
        }
    }

    fn bid(id: u64, units: u64) -> OpenBid {
        OpenBid {
            id,
            resources: room(units),
            denom: "uten".into(),
            max_rate: 50,
        }
    }

    fn one(situation: &Situation, bid: &OpenBid) -> Result<u64, Skip> {
        decide(situation, std::slice::from_ref(bid)).remove(0).1
    }

    #[test]
    fn every_refusal_says_why() {
        let s = situation();
        assert_eq!(one(&s, &bid(1, 70)), Ok(50));
        assert!(matches!(one(&s, &bid(1, 71)), Err(Skip::NoRoom { .. })));
        assert!(matches!(
            one(
                &s,
                &OpenBid {
                    max_rate: 49,
                    ..bid(1, 1)
                }
            ),
            Err(Skip::TooCheap { rate: 50, ceiling: 49 })
        ));
        assert!(matches!(
            one(
                &s,
                &OpenBid {
                    denom: "uusd".into(),
                    ..bid(1, 1)
                }
            ),
            Err(Skip::Denom(_))
        ));
        let closed = Situation {
            closed: Some("draining"),
            ..situation()
        };
        assert_eq!(one(&closed, &bid(1, 1)), Err(Skip::Closed("draining")));
        // The kernel's word counts as well as the declaration.
        let busy = Situation {
            free_now: Resources {
                memory_bytes: 9,
                ..room(1_000)
            },
            ..situation()
        };
        assert!(matches!(one(&busy, &bid(1, 10)), Err(Skip::NoRoom { .. })));
    }

    #[test]
    fn a_bid_is_not_claimed_twice_at_the_same_price() {
        let claimed = Situation {
            claimed: [(1, 50)].into(),
            ..situation()
        };
        assert_eq!(one(&claimed, &bid(1, 10)), Err(Skip::Claimed(50)));
        let cheaper = Situation {
            claimed: [(1, 51)].into(),
            ..situation()
        };
        assert_eq!(one(&cheaper, &bid(1, 10)), Ok(50));
    }

    proptest! {
        #[test]
        fn winning_every_claim_fits(bids in prop::collection::vec((1_u64..20, 1_u64..60, any::<bool>()), 0..30)) {
            let mut s = situation();
            let mut open = Vec::new();
            let mut used = s.committed.cpu_milli;
            for (id, (_, units, claimed)) in bids.into_iter().enumerate() {
                let id = id as u64;
                if claimed && used + units <= 100 {
                    s.claimed.insert(id, 50);
                    used += units;
                }
                open.push(bid(id, units));
            }
            for (id, decision) in decide(&s, &open) {
                if decision.is_ok() {
                    used += open[id as usize].resources.cpu_milli;
                }
            }
            prop_assert!(used <= 100);
        }
    }
}
