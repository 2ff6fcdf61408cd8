//! Sets of heights, as contiguous ranges: of millions of heights without a gap, one pair.

use std::collections::BTreeMap;

/// Contiguous heights, first to last, no two of which touch.
pub(crate) type Ranges = BTreeMap<u64, u64>;

/// Adds a height.
pub(crate) fn add(ranges: &mut Ranges, height: u64) {
    let (mut first, mut last) = (height, height);
    if let Some((from, to)) = ranges.range(..=height).next_back().map(|(a, b)| (*a, *b)) {
        if to >= height {
            return;
        }
        if to.checked_add(1) == Some(height) {
            first = from;
        }
    }
    if let Some(to) = height.checked_add(1).and_then(|next| ranges.remove(&next)) {
        last = to;
    }
    ranges.insert(first, last);
}

/// Whether a height is among them.
pub(crate) fn contains(ranges: &Ranges, height: u64) -> bool {
    ranges.range(..=height).next_back().is_some_and(|(_, to)| *to >= height)
}

/// Removes every height below `from` or above `to`.
pub(crate) fn clip(ranges: &mut Ranges, from: u64, to: u64) {
    *ranges = std::mem::take(ranges)
        .into_iter()
        .map(|(a, b)| (a.max(from), b.min(to)))
        .filter(|(a, b)| a <= b)
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_the_set_they_stand_for(heights in proptest::collection::vec(0u64..40, 0..60), from in 0u64..40, to in 0u64..40) {
            let mut ranges = Ranges::new();
            let mut set = BTreeSet::new();
            for height in heights {
                add(&mut ranges, height);
                set.insert(height);
            }
            let expand = |ranges: &Ranges| ranges.iter().flat_map(|(a, b)| *a..=*b).collect::<Vec<_>>();
            prop_assert_eq!(expand(&ranges), set.iter().copied().collect::<Vec<_>>());
            prop_assert!((0..41).all(|h| contains(&ranges, h) == set.contains(&h)));
            let gaps = ranges.values().zip(ranges.keys().skip(1)).all(|(last, next)| last + 1 < *next);
            prop_assert!(gaps, "ranges are as long as they can be: {:?}", ranges);
            clip(&mut ranges, from, to);
            prop_assert_eq!(expand(&ranges), set.into_iter().filter(|h| (from..=to).contains(h)).collect::<Vec<_>>());
        }
    }
}
