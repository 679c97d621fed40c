//! Reading an amount from its literal text: more than zero, at most 16 digits before the point
//! and 2 after. Nothing is rounded, and no float is in between.

use rust_decimal::Decimal;
use serde_json::json;
use serde_json::value::RawValue;

use super::fault::{Fault, Place};

const MAX_DIGITS: usize = 18;
const MAX_PLACES: usize = 2;
const MAX_WHOLE_DIGITS: usize = MAX_DIGITS - MAX_PLACES;

/// Zeros behind the last place are taken, but not without end.
const MAX_WRITTEN_PLACES: usize = 28;

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotMoney {
    /// Not a number or a string at all.
    Type,
    /// Does not read as a plain decimal.
    Parsing,
    /// `NaN` or `Infinity`.
    NotFinite,
    /// More than 18 digits.
    Digits,
    /// More than 2 places.
    Places,
    /// More than 16 digits before the point.
    WholeDigits,
    /// Zero or less.
    NotPositive,
}

impl NotMoney {
    /// The fault as pydantic calls it.
    pub(super) fn fault(self, loc: Vec<Place>, input: Box<RawValue>) -> Fault {
        match self {
            Self::Type => Fault::new(
                "decimal_type",
                loc,
                "Decimal input should be an integer, float, string or Decimal object",
                input,
            ),
            Self::Parsing => Fault::new(
                "decimal_parsing",
                loc,
                "Input should be a valid decimal",
                input,
            ),
            Self::NotFinite => Fault::new(
                "finite_number",
                loc,
                "Input should be a finite number",
                input,
            ),
            Self::Digits => Fault::new(
                "decimal_max_digits",
                loc,
                "Decimal input should have no more than 18 digits in total",
                input,
            )
            .with_ctx(json!({ "max_digits": MAX_DIGITS })),
            Self::Places => Fault::new(
                "decimal_max_places",
                loc,
                "Decimal input should have no more than 2 decimal places",
                input,
            )
            .with_ctx(json!({ "decimal_places": MAX_PLACES })),
            Self::WholeDigits => Fault::new(
                "decimal_whole_digits",
                loc,
                "Decimal input should have no more than 16 digits before the decimal point",
                input,
            )
            .with_ctx(json!({ "whole_digits": MAX_WHOLE_DIGITS })),
            Self::NotPositive => Fault::greater_than(loc, 0, input),
        }
    }
}

/// Reads a JSON value: a number by its literal, or a string. The scale is always 2.
pub(super) fn from_json(value: &RawValue) -> Result<Decimal, NotMoney> {
    let literal = value.get();
    match literal.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<String>(literal) {
            Ok(text) if names_no_number(&text) => Err(NotMoney::NotFinite),
            Ok(text) => from_plain(&text),
            Err(_) => Err(NotMoney::Parsing),
        },
        Some(b'-' | b'0'..=b'9') => match literal.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => Err(of_exponent(mantissa, exponent)),
            None => from_plain(literal),
        },
        _ => Err(NotMoney::Type),
    }
}

/// Reads `12`, `12.5`, `0012.500`; the checks come in pydantic's order.
fn from_plain(text: &str) -> Result<Decimal, NotMoney> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text),
    };
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((_, "")) => return Err(NotMoney::Parsing),
        Some(parts) => parts,
        None => (unsigned, ""),
    };
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return Err(NotMoney::Parsing);
    }
    let significant_whole = whole.trim_start_matches('0');
    let significant_fraction = fraction.trim_end_matches('0');
    if significant_whole.len() + significant_fraction.len() > MAX_DIGITS {
        return Err(NotMoney::Digits);
    }
    if significant_fraction.len() > MAX_PLACES || fraction.len() > MAX_WRITTEN_PLACES {
        return Err(NotMoney::Places);
    }
    if significant_whole.len() > MAX_WHOLE_DIGITS {
        return Err(NotMoney::WholeDigits);
    }
    // At most 18 digits by now, so the hundredths fit.
    let hundredths = format!("{significant_whole}{significant_fraction:0<MAX_PLACES$}")
        .parse::<i64>()
        .map_err(|_| NotMoney::Digits)?;
    if is_negative || hundredths == 0 {
        return Err(NotMoney::NotPositive);
    }
    Ok(Decimal::new(hundredths, 2))
}

/// A number in exponent form is never taken. One that is plainly too large is called so, because
/// that is what FastAPI calls it.
fn of_exponent(mantissa: &str, exponent: &str) -> NotMoney {
    let whole = mantissa.split('.').next().unwrap_or(mantissa);
    let whole = whole.trim_start_matches('-').trim_start_matches('0');
    let magnitude = match exponent.strip_prefix('-') {
        Some(_) => 0,
        None => exponent
            .trim_start_matches('+')
            .trim_start_matches('0')
            .parse::<usize>()
            .unwrap_or(if exponent.len() > 4 { usize::MAX } else { 0 }),
    };
    if !whole.is_empty() && whole.len().saturating_add(magnitude) > MAX_DIGITS {
        NotMoney::Digits
    } else {
        NotMoney::Parsing
    }
}

/// The spellings of no finite number that Python's `Decimal` knows.
fn names_no_number(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let not_a_number = text.strip_prefix('s').unwrap_or(&text);
    matches!(text.as_str(), "inf" | "infinity")
        || not_a_number
            .strip_prefix("nan")
            .is_some_and(|payload| payload.bytes().all(|byte| byte.is_ascii_digit()))
}
