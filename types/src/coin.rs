//! Amounts and coins.

use std::{fmt, str::FromStr};

use crate::{sdk, Error, Result};

/// Denom of the chain's own token in its smallest unit.
pub const BASE_DENOM: &str = "uten";
/// Denom of the chain's own token as people count it.
pub const DISPLAY_DENOM: &str = "ten";
/// One [`DISPLAY_DENOM`] is 10 to this power [`BASE_DENOM`].
pub const DISPLAY_EXPONENT: u32 = 6;

/// An amount of some denom in its smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// This many smallest units.
    pub const fn new(units: u128) -> Self {
        Self(units)
    }

    /// Smallest units.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum. Error: it exceeds 2^128 - 1.
    pub fn plus(self, other: Self) -> Result<Self> {
        self.0.checked_add(other.0).map(Self).ok_or_else(|| {
            Error::sdk(
                sdk::INVALID_COINS,
                format!("amount {self} + {other} exceeds {}", u128::MAX),
            )
        })
    }

    /// The difference. Error (insufficient funds): `other` is greater.
    pub fn minus(self, other: Self) -> Result<Self> {
        self.0
            .checked_sub(other.0)
            .map(Self)
            .ok_or_else(|| Error::sdk(sdk::INSUFFICIENT_FUNDS, format!("{self} is smaller than {other}")))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<u64> for Amount {
    fn from(units: u64) -> Self {
        Self(units.into())
    }
}

impl FromStr for Amount {
    type Err = Error;

    /// Decimal digits only: no sign, no leading zero, at most 2^128 - 1.
    fn from_str(text: &str) -> Result<Self> {
        let canonical =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
        let parsed = if canonical { text.parse().ok() } else { None };
        parsed.map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(48).collect();
            Error::sdk(
                sdk::INVALID_COINS,
                format!("amount {shown:?} is not a decimal number from 0 to {}", u128::MAX),
            )
        })
    }
}

/// An amount of one denom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coin {
    /// Denom, checked by [`check_denom`].
    pub denom: String,
    /// Amount in the denom's smallest unit.
    pub amount: Amount,
}

impl Coin {
    /// This much of that. Error: the denom is malformed.
    pub fn new(denom: &str, amount: Amount) -> Result<Self> {
        check_denom(denom)?;
        Ok(Self {
            denom: denom.to_owned(),
            amount,
        })
    }

    /// This many of the chain's own smallest unit.
    pub fn base(units: u128) -> Self {
        Self {
            denom: BASE_DENOM.to_owned(),
            amount: Amount::new(units),
        }
    }

    /// From a message's parts. Error: denom or amount is malformed.
    pub fn from_parts(denom: &str, amount: &str) -> Result<Self> {
        Self::new(denom, amount.parse()?)
    }
}

impl fmt::Display for Coin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.amount, self.denom)
    }
}

impl FromStr for Coin {
    type Err = Error;

    /// `<integer><denom>`, for example `250uten`; the display denom takes a fraction: `0.25ten`.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, denom) = text.split_at(split);
        let denom = denom.trim();
        if denom == DISPLAY_DENOM {
            return Ok(Self::base(parse_decimal(number, DISPLAY_EXPONENT)?));
        }
        if number.contains('.') {
            return Err(Error::sdk(
                sdk::INVALID_COINS,
                format!("coin {text:?}: only {DISPLAY_DENOM} takes a fraction; {denom:?} is counted in whole units"),
            ));
        }
        Self::from_parts(denom, number)
    }
}

/// `text` times 10 to `exponent`, exactly. Error: not a plain decimal, too many digits after the point, or too large.
fn parse_decimal(text: &str, exponent: u32) -> Result<u128> {
    let invalid = |why: &str| Error::sdk(sdk::INVALID_COINS, format!("{text:?} {why}"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(invalid("is not a decimal number"));
    }
    if fraction.len() > exponent as usize {
        return Err(invalid(&format!("has more than {exponent} digits after the point")));
    }
    let padded = format!("{whole}{fraction:0<width$}", width = exponent as usize);
    padded.parse().map_err(|_| invalid("is too large"))
}

/// Writes base units of the chain's own token as people count them: `1.25 TEN`, without trailing zeros.
pub fn display_base(units: u128) -> String {
    let scale = 10_u128.pow(DISPLAY_EXPONENT);
    let (whole, fraction) = (units / scale, units % scale);
    if fraction == 0 {
        return format!("{whole} TEN");
    }
    let digits = format!("{fraction:0width$}", width = DISPLAY_EXPONENT as usize);
    format!("{whole}.{} TEN", digits.trim_end_matches('0'))
}

/// The Cosmos rule for denoms: a letter, then 2 to 127 of `[A-Za-z0-9/:._-]`.
pub fn check_denom(denom: &str) -> Result<()> {
    let mut bytes = denom.bytes();
    let ok = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && (3..=128).contains(&denom.len())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b':' | b'.' | b'_' | b'-'));
    if ok {
        return Ok(());
    }
    let shown: String = denom.chars().take(48).collect();
    Err(Error::sdk(
        sdk::INVALID_COINS,
        format!("denom {shown:?} must be a letter followed by 2 to 127 letters, digits or any of / : . _ -"),
    ))
}

/// Coins in order of denom, each above zero. Nearly always one, so a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coins(Vec<Coin>);

impl Coins {
    /// From a message's list. Error: not strictly ascending by denom, a zero, or a malformed coin.
    pub fn from_parts<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut coins: Vec<Coin> = Vec::new();
        for (denom, amount) in parts {
            let coin = Coin::from_parts(denom, amount)?;
            if coin.amount.is_zero() {
                return Err(Error::sdk(
                    sdk::INVALID_COINS,
                    format!("coin {coin} must be above zero"),
                ));
            }
            if coins.last().is_some_and(|last| last.denom >= coin.denom) {
                return Err(Error::sdk(
                    sdk::INVALID_COINS,
                    format!("coins must ascend by denom: {:?}", coin.denom),
                ));
            }
            coins.push(coin);
        }
        Ok(Self(coins))
    }

    /// The sum of coins in any order, in the time that sorting them takes. Error: more of a denom than an amount can be.
    pub fn sum(coins: impl IntoIterator<Item = Coin>) -> Result<Self> {
        let mut all: Vec<Coin> = coins.into_iter().filter(|coin| !coin.amount.is_zero()).collect();
        all.sort_by(|a, b| a.denom.cmp(&b.denom));
        let mut sums: Vec<Coin> = Vec::with_capacity(all.len());
        for coin in all {
            match sums.last_mut() {
                Some(last) if last.denom == coin.denom => last.amount = last.amount.plus(coin.amount)?,
                _ => sums.push(coin),
            }
        }
        Ok(Self(sums))
    }

    /// Adds one coin.
    pub fn add(&mut self, coin: &Coin) -> Result<()> {
        if coin.amount.is_zero() {
            return Ok(());
        }
        match self.find(&coin.denom) {
            Ok(place) => {
                if let Some(held) = self.0.get_mut(place) {
                    held.amount = held.amount.plus(coin.amount)?;
                }
            }
            Err(place) => self.0.insert(place, coin.clone()),
        }
        Ok(())
    }

    /// The amount of a denom, zero if absent.
    pub fn amount_of(&self, denom: &str) -> Amount {
        let held = self.find(denom).ok().and_then(|place| self.0.get(place));
        held.map_or(Amount::ZERO, |coin| coin.amount)
    }

    /// Where the coin of a denom is, or would be.
    fn find(&self, denom: &str) -> std::result::Result<usize, usize> {
        self.0.binary_search_by(|coin| coin.denom.as_str().cmp(denom))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The coins in order of denom.
    pub fn iter(&self) -> std::slice::Iter<'_, Coin> {
        self.0.iter()
    }
}

impl From<Coin> for Coins {
    fn from(coin: Coin) -> Self {
        Self(if coin.amount.is_zero() { Vec::new() } else { vec![coin] })
    }
}

impl fmt::Display for Coins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, coin) in self.iter().enumerate() {
            write!(f, "{}{coin}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_canonical_decimals() {
        for bad in [
            "",
            "01",
            "-1",
            "+1",
            "1.0",
            " 1",
            "340282366920938463463374607431768211456",
            "1e3",
            "٣",
        ] {
            assert!(bad.parse::<Amount>().is_err(), "{bad:?}");
        }
        assert_eq!("0".parse(), Ok(Amount::ZERO));
        assert_eq!(u128::MAX.to_string().parse(), Ok(Amount::new(u128::MAX)));
    }

    #[test]
    fn the_display_denom_takes_a_fraction_and_nothing_else_does() {
        assert_eq!("0.25ten".parse(), Ok(Coin::base(250_000)));
        assert_eq!("3ten".parse(), Ok(Coin::base(3_000_000)));
        assert_eq!("12uten".parse(), Ok(Coin::base(12)));
        assert!("0.5uten".parse::<Coin>().is_err());
        assert!("0.0000001ten".parse::<Coin>().is_err());
        assert!("ten".parse::<Coin>().is_err());
        assert!(".ten".parse::<Coin>().is_err());
        assert_eq!(display_base(1_250_000), "1.25 TEN");
        assert_eq!(display_base(5_000_000), "5 TEN");
    }

    #[test]
    fn coins_ascend_and_are_above_zero() {
        assert!(Coins::from_parts([("uten", "1"), ("abc", "1")]).is_err());
        assert!(Coins::from_parts([("abc", "1"), ("abc", "1")]).is_err());
        assert!(Coins::from_parts([("abc", "0")]).is_err());
        let coins = Coins::from_parts([("abc", "1"), ("uten", "2")]).expect("valid");
        assert_eq!(coins.to_string(), "1abc,2uten");
    }

    #[test]
    fn a_sum_is_what_adding_one_by_one_gives() {
        let coin = |text: &str| text.parse::<Coin>().expect("coin");
        let all = ["5uten", "1abc", "0zzz", "7uten", "2abc", "3mmm"].map(coin);
        let mut added = Coins::default();
        for coin in &all {
            added.add(coin).expect("no overflow");
        }
        assert_eq!(Coins::sum(all), Ok(added.clone()));
        assert_eq!(added.to_string(), "3abc,3mmm,12uten");
        let most = Coin {
            amount: Amount::new(u128::MAX),
            ..coin("1uten")
        };
        assert!(Coins::sum([most, coin("1uten")]).is_err());
    }

    #[test]
    fn sums_and_differences_are_checked() {
        assert!(Amount::new(u128::MAX).plus(Amount::new(1)).is_err());
        assert_eq!(
            Amount::new(1).minus(Amount::new(2)).map_err(|e| e.code),
            Err(sdk::INSUFFICIENT_FUNDS)
        );
    }
}
