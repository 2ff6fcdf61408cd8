//! Amounts, sizes and durations as people write and read them.

use tenure_types::{coin::display_base, BASE_DENOM, MS_PER_HOUR};

/// A size in bytes: `512`, `64KiB`, `64MiB`, `2GiB`, or with the powers of ten `kB`, `MB`, `GB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let units: &[(&str, u64)] = &[
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    scaled(
        text,
        units,
        "a size such as 64MiB (units: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)",
    )
}

/// A duration in milliseconds: `500ms`, `30s`, `10m`, `2h`, `1d`, or parts one after the other, `1h30m`.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let units: &[(&str, u64)] = &[
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", MS_PER_HOUR),
        ("d", 24 * MS_PER_HOUR),
    ];
    let what = "a duration such as 30s, 10m or 1h30m (units: ms, s, m, h, d)";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(format!("{text:?} is not {what}"));
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let letters = rest[digits..]
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len() - digits);
        let (part, after) = rest.split_at(digits + letters);
        let value = scaled(part, units, what)?;
        total = total
            .checked_add(value)
            .ok_or_else(|| format!("{text:?} is too long"))?;
        rest = after;
    }
    Ok(total)
}

fn scaled(text: &str, units: &[(&str, u64)], what: &str) -> Result<u64, String> {
    let text = text.trim();
    let malformed = || format!("{text:?} is not {what}");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim();
    let (_, scale) = units.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 || number.ends_with('.') {
        return Err(malformed());
    }
    let too_large = || format!("{text:?} is too large");
    let whole = whole
        .parse::<u64>()
        .ok()
        .and_then(|w| w.checked_mul(*scale))
        .ok_or_else(too_large)?;
    let thousandths = format!("{fraction:0<9}").parse::<u128>().map_err(|_| malformed())?;
    let parts = u64::try_from(thousandths * u128::from(*scale) / 1_000_000_000).map_err(|_| too_large())?;
    whole.checked_add(parts).ok_or_else(too_large)
}

/// A size for people: `64 MiB`, `1.5 GiB`, `512 B`.
pub fn show_size(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        let scale = 1_u64 << shift;
        if bytes >= scale {
            let tenths = u128::from(bytes) * 10 / u128::from(scale);
            return if tenths % 10 == 0 {
                format!("{} {unit}", tenths / 10)
            } else {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{bytes} B")
}

/// A duration for people: `2 h 5 min`, `10 min`, `12.3 s`.
pub fn show_duration(ms: u64) -> String {
    let (hours, minutes, seconds) = (ms / MS_PER_HOUR, ms / 60_000 % 60, ms / 1_000 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        (0, _) if seconds == 0 => format!("{minutes} min"),
        (0, _) => format!("{minutes} min {seconds} s"),
        (_, 0) => format!("{hours} h"),
        _ => format!("{hours} h {minutes} min"),
    }
}

/// An amount of some denom for people: the chain's own token as TEN, any other in its smallest unit.
pub fn show_amount(amount: &str, denom: &str) -> String {
    match amount.parse() {
        Ok(units) if denom == BASE_DENOM => display_base(units),
        _ => format!("{amount} {denom}"),
    }
}

/// A price per hour for people.
pub fn show_rate(rate: u64, denom: &str) -> String {
    format!("{}/h", show_amount(&rate.to_string(), denom))
}

/// What a rate (base units per hour) costs over a time (milliseconds), rounded up.
pub fn cost(rate: u64, ms: u64) -> u128 {
    (u128::from(rate) * u128::from(ms)).div_ceil(u128::from(MS_PER_HOUR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly_or_refused() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_size("10MB"), Ok(10_000_000));
        assert_eq!(parse_size("512"), Ok(512));
        for bad in [
            "",
            "MiB",
            "64mb",
            "64 M",
            "-1",
            "1.",
            ".5MiB",
            "1e3",
            "18446744073709551616",
            "99999999TiB",
            "٣",
        ] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_are_read_exactly_or_refused() {
        assert_eq!(parse_duration("10m"), Ok(600_000));
        assert_eq!(parse_duration("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration("1.5h"), Ok(5_400_000));
        assert_eq!(parse_duration("250ms"), Ok(250));
        for bad in [
            "",
            "10",
            "m",
            "10 minutes",
            "1h30",
            "-1s",
            "99999999999999999999s",
            "600000000000000d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn values_are_shown_as_people_count_them() {
        assert_eq!(show_size(64 << 20), "64 MiB");
        assert_eq!(show_size(3 << 29), "1.5 GiB");
        assert_eq!(show_size(5), "5 B");
        assert_eq!(show_duration(12_345), "12.3 s");
        assert_eq!(show_duration(600_000), "10 min");
        assert_eq!(show_duration(7_500_000), "2 h 5 min");
        assert_eq!(show_amount("1250000", "uten"), "1.25 TEN");
        assert_eq!(show_amount("7", "usdc"), "7 usdc");
        assert_eq!(show_rate(3_600_000, "uten"), "3.6 TEN/h");
        assert_eq!(cost(3_600_000, 1), 1);
        assert_eq!(cost(1, 1), 1);
        assert_eq!(
            cost(u64::MAX, u64::MAX),
            (u128::from(u64::MAX) * u128::from(u64::MAX)).div_ceil(3_600_000)
        );
    }
}
