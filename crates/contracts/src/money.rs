//! Money: exact, two decimals, never below zero, never rounded.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount or a balance in the one currency of the system: `0.00` to
/// `9999999999999999.99`, what `NUMERIC(18,2)` holds.
///
/// It always prints two decimals (PostgreSQL's `0.00` reaches us as `0`), and it refuses what
/// `NUMERIC(18,2)` would silently round.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(Decimal);

/// Why something is not [`Money`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The text is not digits with an optional fraction.
    #[error("not an amount of money")]
    Syntax,
    /// More than two decimals other than zeros.
    #[error("more than two decimals")]
    Scale,
    /// Below zero, or more than sixteen digits before the point.
    #[error("outside 0.00 to 9999999999999999.99")]
    Range,
}

impl Money {
    /// No money.
    pub const ZERO: Self = Self(Decimal::from_parts(0, 0, 0, false, 2));
    /// `9999999999999999.99`, 10^18 - 1 cents.
    pub const MAX: Self = Self(Decimal::from_parts(0xa763_ffff, 0x0de0_b6b3, 0, false, 2));

    /// This much and `other` more, unless it passes [`Money::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0)?.try_into().ok()
    }

    /// What is left after taking `other` away, unless that is more than there is.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0)?.try_into().ok()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// The number as `NUMERIC(18,2)` takes it.
    #[must_use]
    pub fn as_decimal(self) -> Decimal {
        self.0
    }
}

impl TryFrom<Decimal> for Money {
    type Error = MoneyError;

    fn try_from(decimal: Decimal) -> Result<Self, MoneyError> {
        let mut exact = decimal.normalize();
        if exact.scale() > 2 {
            return Err(MoneyError::Scale);
        }
        if exact.is_sign_negative() && !exact.is_zero() || exact > Self::MAX.0 {
            return Err(MoneyError::Range);
        }
        exact.set_sign_positive(true);
        exact.rescale(2);
        Ok(Self(exact))
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// Reads digits with an optional point and fraction, nothing else: the number parsers at
    /// hand take `1e3`, `1_000` and more digits than they keep.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(MoneyError::Syntax);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 2 {
            return Err(MoneyError::Scale);
        }
        let whole = whole.trim_start_matches('0');
        if whole.len() > 16 {
            return Err(MoneyError::Range);
        }
        Decimal::from_str_exact(&format!("0{whole}.{fraction:0<2}"))
            .map_err(|_| MoneyError::Syntax)?
            .try_into()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.0)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Money {
    /// A string with exactly two decimals.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    /// From a string only: a JSON number may have been through binary floating point.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_prints_with_two_decimals() {
        assert_eq!(Money::ZERO.to_string(), "0.00");
        let from_postgres = Money::try_from(Decimal::ZERO).expect("zero is money");
        assert_eq!(from_postgres.to_string(), "0.00");
        assert_eq!(Money::MAX.to_string(), "9999999999999999.99");
    }

    #[test]
    fn what_numeric_would_round_is_refused() {
        for (text, error) in [
            ("0.001", MoneyError::Scale),
            ("10000000000000000.00", MoneyError::Range),
            ("", MoneyError::Syntax),
            ("5.", MoneyError::Syntax),
            (".5", MoneyError::Syntax),
            ("-1.00", MoneyError::Syntax),
            ("+1.00", MoneyError::Syntax),
            ("1e2", MoneyError::Syntax),
            ("1_000.00", MoneyError::Syntax),
            ("NaN", MoneyError::Syntax),
            ("\u{0665}.00", MoneyError::Syntax),
            (" 5.00", MoneyError::Syntax),
        ] {
            assert_eq!(text.parse::<Money>(), Err(error), "{text:?}");
        }
        for decimal in ["0.005", "-0.01", "10000000000000000"] {
            let decimal = Decimal::from_str_exact(decimal).expect("a decimal");
            assert!(Money::try_from(decimal).is_err(), "{decimal}");
        }
        assert_eq!(
            "00005.10000".parse::<Money>().expect("money").to_string(),
            "5.10"
        );
    }

    #[test]
    fn more_than_there_is_cannot_be_taken() {
        let one: Money = "1.00".parse().expect("money");
        assert_eq!(Money::ZERO.checked_sub(one), None);
        assert_eq!(Money::MAX.checked_add("0.01".parse().expect("money")), None);
        assert_eq!(one.checked_sub(one), Some(Money::ZERO));
    }

    fn any_money() -> impl Strategy<Value = Money> {
        (0..=999_999_999_999_999_999_i64)
            .prop_map(|cents| Decimal::new(cents, 2).try_into().expect("in range"))
    }

    proptest! {
        #[test]
        fn text_and_back_is_the_same(money in any_money()) {
            let text = money.to_string();
            prop_assert_eq!(text.parse::<Money>(), Ok(money));
            prop_assert_eq!(text.rsplit('.').next().map(str::len), Some(2));
        }

        #[test]
        fn adding_and_taking_away_is_exact(a in any_money(), b in any_money()) {
            if let Some(sum) = a.checked_add(b) {
                prop_assert_eq!(sum.checked_sub(b), Some(a));
            }
        }

        #[test]
        fn no_text_is_rounded(text in "[0-9]{0,20}(\\.[0-9]{0,5})?") {
            if let Ok(money) = text.parse::<Money>() {
                let exact = Decimal::from_str_exact(&text).expect("digits");
                prop_assert_eq!(money.as_decimal(), exact);
            }
        }
    }
}
