//! Reading an i64 from literal text: a JSON value, or a part of the URL.
//!
//! The JSON reader takes what FastAPI clients send (`1`, `"1"`, `1.0`, `"1.0"`), the URL reader
//! only digits. Exponents, signs in front, spaces and underscores are taken by neither.

use serde_json::value::RawValue;

use super::fault::Fault;
use super::fault::Place;

/// Why a text is not an i64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotInteger {
    /// Not a number or a string at all.
    Type,
    /// Does not read as an integer.
    Parsing,
    /// A number with a fraction.
    Fraction,
    /// Beyond what 64 bits hold.
    TooLarge,
    /// Below what 64 bits hold.
    TooSmall,
}

impl NotInteger {
    /// The fault as pydantic calls it.
    pub(super) fn fault(self, loc: Vec<Place>, input: Box<RawValue>) -> Fault {
        match self {
            Self::Type => Fault::new("int_type", loc, "Input should be a valid integer", input),
            Self::Parsing => Fault::new(
                "int_parsing",
                loc,
                "Input should be a valid integer, unable to parse string as an integer",
                input,
            ),
            Self::Fraction => Fault::new(
                "int_from_float",
                loc,
                "Input should be a valid integer, got a number with a fractional part",
                input,
            ),
            Self::TooLarge => Fault::less_than_equal(loc, i64::MAX, input),
            Self::TooSmall => Fault::greater_than_equal(loc, i64::MIN, input),
        }
    }
}

/// Reads a JSON value.
pub(super) fn from_json(value: &RawValue) -> Result<i64, NotInteger> {
    let literal = value.get();
    match literal.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<String>(literal) {
            Ok(text) => match whole_part(&text) {
                Some((whole, fraction)) if is_zeros(fraction) => from_digits(whole),
                _ => Err(NotInteger::Parsing),
            },
            Err(_) => Err(NotInteger::Parsing),
        },
        Some(b'-' | b'0'..=b'9') => match whole_part(literal) {
            Some((whole, fraction)) if is_zeros(fraction) => from_digits(whole),
            Some(_) => Err(NotInteger::Fraction),
            None => Err(NotInteger::Parsing),
        },
        _ => Err(NotInteger::Type),
    }
}

/// Reads a part of a URL: an optional minus and digits.
pub(super) fn from_text(text: &str) -> Result<i64, NotInteger> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotInteger::Parsing);
    }
    from_digits(text)
}

/// Splits `-12.00` into `-12` and `00`; `None` for anything that is not of this form.
fn whole_part(text: &str) -> Option<(&str, &str)> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    (!digits.is_empty() && is_digits(digits) && is_digits(fraction)).then_some((whole, fraction))
}

fn is_zeros(fraction: &str) -> bool {
    fraction.bytes().all(|byte| byte == b'0')
}

/// Only digits with an optional minus come here, so the one possible failure is the range.
fn from_digits(text: &str) -> Result<i64, NotInteger> {
    text.parse().map_err(|_| {
        if text.starts_with('-') {
            NotInteger::TooSmall
        } else {
            NotInteger::TooLarge
        }
    })
}
