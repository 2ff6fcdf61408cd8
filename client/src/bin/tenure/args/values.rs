//! Values of flags.

use clap::ValueEnum;
use tenure_client::units::parse_duration;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One document.
    Json,
    /// One event or record a line.
    Jsonl,
}

/// `--gas`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GasArg(pub(crate) Option<u64>);

impl std::str::FromStr for GasArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(None)),
            number => number
                .parse()
                .map(|gas| Self(Some(gas)))
                .map_err(|_| format!("{text:?} is neither auto nor a number")),
        }
    }
}

/// A factor from 1 to 100 with at most two digits after the point, kept in hundredths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factor(pub(crate) u64);

impl std::str::FromStr for Factor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let plain = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        let percent = format!("{whole}{fraction:0<2}")
            .parse::<u64>()
            .ok()
            .filter(|_| plain && fraction.len() <= 2);
        percent
            .filter(|p| (100..=10_000).contains(p))
            .map(Self)
            .ok_or_else(|| format!("{text:?} must be from 1 to 100 with at most two digits after the point"))
    }
}

/// A duration, milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Millis(pub(crate) u64);

impl std::str::FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

impl From<Millis> for std::time::Duration {
    fn from(millis: Millis) -> Self {
        Self::from_millis(millis.0)
    }
}

/// A bid's state.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BidStateArg {
    /// Waits for claims
    Open,
    /// Became a lease
    Leased,
    /// Taken back
    Cancelled,
    /// Nobody claimed it in time
    Expired,
}

/// A lease's state.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LeaseStateArg {
    /// Matched, not running yet
    Starting,
    /// Runs and is paid for
    Active,
    /// Not paid for, may go on
    Paused,
    /// Ended; the last epoch is not settled
    Closing,
    /// Settled
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_exact_hundredths() {
        assert_eq!("1.3".parse::<Factor>().map(|f| f.0), Ok(130));
        assert_eq!("2".parse::<Factor>().map(|f| f.0), Ok(200));
        for bad in ["0.9", "101", "1.333", "x", "", "-1", "1e1"] {
            assert!(bad.parse::<Factor>().is_err(), "{bad:?}");
        }
    }
}
