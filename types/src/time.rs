//! Windows and deadlines. All instants are live milliseconds: block time less halts (`tenure_sdk::clock`).

/// Milliseconds in an hour: D of `docs/decisions.md`; prices are per hour and accrue by the millisecond.
pub const MS_PER_HOUR: u64 = 3_600_000;

/// A window that protects somebody's right: it ends only when this many blocks and this many milliseconds have both passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Blocks.
    pub blocks: u64,
    /// Live milliseconds.
    pub ms: u64,
}

/// The end of a [`Window`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline {
    /// First height at which it may have passed.
    pub height: u64,
    /// First live instant at which it may have passed.
    pub ms: u64,
}

impl Window {
    /// The window's end if it begins at this height and instant; capped at the greatest representable value.
    pub const fn from(self, height: u64, ms: u64) -> Deadline {
        Deadline {
            height: height.saturating_add(self.blocks),
            ms: ms.saturating_add(self.ms),
        }
    }
}

impl Deadline {
    /// Whether both parts have passed at this height and instant.
    pub const fn passed(self, height: u64, ms: u64) -> bool {
        height >= self.height && ms >= self.ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_only_when_both_parts_have_passed() {
        let end = Window { blocks: 3, ms: 1_000 }.from(10, 50_000);
        assert!(!end.passed(13, 50_999));
        assert!(!end.passed(12, 60_000));
        assert!(end.passed(13, 51_000));
    }
}
