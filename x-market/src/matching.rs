//! Which claim wins which bid: a pure function over plain values.
//!
//! Bids are served greedily in a given order (serial dictatorship, `docs/decisions.md`): the order is total, so the result does not depend on
//! how the bids are listed. The order is by the instant the bid's claim window closed, then the height it was posted at, then its priority, a
//! hash of its id and the chain's: the position within a block, which the block's proposer chooses, then buys nothing that could be aimed at.
//! A bid's id follows from that position, so a proposer can still try out positions; once the chain has a random beacon, the priority is
//! drawn from it after the block.
//!
//! Each bid takes the cheapest of its claims whose provider still has room; of equally cheap claims the one offered first (by height), then
//! the one whose hash of bid and provider is least. What a bid takes is gone for the bids after it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use tenure_types::{Address, Resources, Result};

/// A bid whose window has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyBid {
    /// Its id.
    pub id: u64,
    /// When its claim window closed, live milliseconds.
    pub closed_ms: u64,
    /// Height it was posted at.
    pub posted_height: u64,
    /// See [`priority`].
    pub priority: u64,
    /// Price ceiling, base units per hour.
    pub max_rate: u64,
    /// What it needs.
    pub resources: Resources,
    /// Its claims, in any order.
    pub claims: Vec<Offer>,
}

/// A provider's claim on a bid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who offers.
    pub provider: Address,
    /// Price, base units per hour.
    pub rate: u64,
    /// Height of the offer or of its last improvement.
    pub height: u64,
}

/// A bid and the claim that won it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The bid.
    pub bid: u64,
    /// The winner.
    pub provider: Address,
    /// Its price, base units per hour.
    pub rate: u64,
}

/// What breaks ties between bids: the first 8 bytes of SHA-256(id · height posted · chain id).
pub fn priority(bid: u64, posted_height: u64, chain_id: &str) -> u64 {
    let digest = Sha256::new()
        .chain_update(bid.to_be_bytes())
        .chain_update(posted_height.to_be_bytes())
        .chain_update(chain_id);
    let digest: [u8; 32] = digest.finalize().into();
    digest.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first))
}

/// Where a claim stands among its bid's claims: the least wins.
pub fn rank(bid: u64, offer: &Offer) -> (u64, u64, [u8; 32]) {
    let tie = Sha256::new()
        .chain_update(bid.to_be_bytes())
        .chain_update(offer.provider.as_bytes())
        .finalize()
        .into();
    (offer.rate, offer.height, tie)
}

/// Serves the bids. `free` is what each provider that may take leases has left; a provider that is not in it takes nothing. Bids without a
/// match are left out. The result is in the order in which the bids were served.
pub fn match_bids(mut bids: Vec<ReadyBid>, mut free: BTreeMap<Address, Resources>) -> Result<Vec<Match>> {
    bids.sort_by_key(|bid| (bid.closed_ms, bid.posted_height, bid.priority, bid.id));
    let mut matches = Vec::new();
    for bid in bids {
        let candidates = bid.claims.iter().filter(|offer| {
            offer.rate <= bid.max_rate
                && free
                    .get(&offer.provider)
                    .is_some_and(|room| bid.resources.fits_in(room))
        });
        let Some(best) = candidates.min_by_key(|offer| rank(bid.id, offer)) else {
            continue;
        };
        if let Some(room) = free.get_mut(&best.provider) {
            *room = room.minus(bid.resources)?;
        }
        matches.push(Match {
            bid: bid.id,
            provider: best.provider,
            rate: best.rate,
        });
    }
    Ok(matches)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resources() -> impl Strategy<Value = Resources> {
        (1_u64..6, 1_u64..6, 0_u64..6).prop_map(|(cpu_milli, memory_bytes, storage_bytes)| Resources {
            cpu_milli,
            memory_bytes,
            storage_bytes,
        })
    }

    fn market() -> impl Strategy<Value = (Vec<ReadyBid>, BTreeMap<Address, Resources>)> {
        let offer = (0_u8..6, 1_u64..8, 1_u64..4).prop_map(|(p, rate, height)| Offer {
            provider: Address::new([p; 20]),
            rate,
            height,
        });
        let bid = (
            0_u64..3,
            1_u64..3,
            1_u64..8,
            resources(),
            proptest::collection::vec(offer, 1..6),
        );
        let bids = proptest::collection::vec(bid, 0..12).prop_map(|bids| {
            let each = bids.into_iter().zip(1_u64..);
            each.map(|((closed_ms, posted_height, max_rate, resources, mut claims), id)| {
                claims.sort_by_key(|c| c.provider);
                claims.dedup_by_key(|c| c.provider);
                let priority = priority(id, posted_height, "test-1");
                ReadyBid {
                    id,
                    closed_ms,
                    posted_height,
                    priority,
                    max_rate,
                    resources,
                    claims,
                }
            })
            .collect()
        });
        let free = proptest::collection::btree_map((0_u8..5).prop_map(|p| Address::new([p; 20])), resources(), 0..5);
        (bids, free)
    }

    /// The definition, word by word and slowly: repeatedly find the bid that comes next, look at every claim, keep the one that beats all others.
    fn oracle(bids: &[ReadyBid], free: &BTreeMap<Address, Resources>) -> Vec<Match> {
        let mut served: Vec<u64> = Vec::new();
        let mut matches: Vec<Match> = Vec::new();
        while served.len() < bids.len() {
            let key = |b: &ReadyBid| (b.closed_ms, b.posted_height, b.priority, b.id);
            let waiting = || bids.iter().filter(|b| !served.contains(&b.id));
            let next = waiting().find(|b| waiting().all(|other| key(b) <= key(other))).unwrap();
            let room = |provider: &Address| {
                let mut room = *free.get(provider)?;
                for taken in matches.iter().filter(|m| m.provider == *provider) {
                    let bid = bids.iter().find(|b| b.id == taken.bid).unwrap();
                    room = room.minus(bid.resources).unwrap();
                }
                Some(room)
            };
            let can =
                |o: &&Offer| o.rate <= next.max_rate && room(&o.provider).is_some_and(|r| next.resources.fits_in(&r));
            let able: Vec<&Offer> = next.claims.iter().filter(can).collect();
            let best = able
                .iter()
                .find(|o| able.iter().all(|other| rank(next.id, o) <= rank(next.id, other)));
            let won = best.map(|o| Match {
                bid: next.id,
                provider: o.provider,
                rate: o.rate,
            });
            served.push(next.id);
            matches.extend(won);
        }
        matches
    }

    proptest! {
        #[test]
        fn matching_equals_its_definition_under_any_permutation(
            (bids, free) in market(),
            seed in any::<u64>(),
        ) {
            let got = match_bids(bids.clone(), free.clone()).unwrap();
            prop_assert_eq!(&got, &oracle(&bids, &free));

            let mut shuffled = bids;
            shuffled.sort_by_key(|b| priority(b.id, seed, "shuffle"));
            for bid in &mut shuffled {
                bid.claims.reverse();
            }
            prop_assert_eq!(got, match_bids(shuffled, free).unwrap());
        }

        #[test]
        fn capacity_and_ceilings_are_kept_and_nobody_is_served_twice((bids, free) in market()) {
            let mut left = free.clone();
            let mut seen = Vec::new();
            for won in match_bids(bids.clone(), free).unwrap() {
                let bid = bids.iter().find(|b| b.id == won.bid).unwrap();
                prop_assert!(won.rate <= bid.max_rate);
                prop_assert!(bid.claims.iter().any(|c| c.provider == won.provider && c.rate == won.rate));
                let room = left.get_mut(&won.provider).unwrap();
                *room = room.minus(bid.resources).expect("capacity is never exceeded");
                prop_assert!(!seen.contains(&won.bid));
                seen.push(won.bid);
            }
        }

        #[test]
        fn serving_in_portions_gives_what_serving_at_once_gives((bids, free) in market(), portion in 1_usize..5) {
            let whole = match_bids(bids.clone(), free.clone()).unwrap();
            let mut ordered = bids;
            ordered.sort_by_key(|b| (b.closed_ms, b.posted_height, b.priority, b.id));
            let (mut left, mut got) = (free, Vec::new());
            for part in ordered.chunks(portion) {
                for won in match_bids(part.to_vec(), left.clone()).unwrap() {
                    let bid = part.iter().find(|b| b.id == won.bid).unwrap();
                    let room = left.get_mut(&won.provider).unwrap();
                    *room = room.minus(bid.resources).unwrap();
                    got.push(won);
                }
            }
            prop_assert_eq!(got, whole);
        }
    }
}
