//! Values in the query of a URL. A name given twice is a fault: two readers would pick different
//! ones, and one of them may decide whose money it is.

use std::convert::Infallible;
use std::ops::RangeInclusive;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::Faults;
use super::fault::{Fault, Place, null, raw};
use super::integer;
use super::percent::decode_query;

/// The values of the query, decoded but not yet read. Values nobody asks for are ignored.
#[derive(Debug)]
pub struct Query {
    values: Vec<(String, String)>,
}

impl Query {
    /// A required integer.
    pub fn integer(&self, name: &str, faults: &mut Faults) -> Option<i64> {
        let text = faults.note(
            self.value(name)
                .and_then(|text| text.ok_or_else(|| Fault::missing(place(name), null()))),
        )?;
        faults.note(read(name, text))
    }

    /// An integer within bounds, or nothing. `None` means either that it was not given or that a
    /// fault was noted.
    pub fn optional_integer(
        &self,
        name: &str,
        bounds: RangeInclusive<i64>,
        faults: &mut Faults,
    ) -> Option<i64> {
        let text = faults.note(self.value(name))??;
        let number = faults.note(read(name, text))?;
        let (low, high) = bounds.into_inner();
        faults.note(if number < low {
            Err(Fault::greater_than_equal(place(name), low, raw(text)))
        } else if number > high {
            Err(Fault::less_than_equal(place(name), high, raw(text)))
        } else {
            Ok(number)
        })
    }

    /// A text of at most `max_chars` characters, or nothing. `None` means either that it was not
    /// given or that a fault was noted.
    pub fn optional_text(
        &self,
        name: &str,
        max_chars: usize,
        faults: &mut Faults,
    ) -> Option<String> {
        let text = faults.note(self.value(name))??;
        faults.note(if text.contains('\0') {
            Err(Fault::string_nul(place(name), raw(text)))
        } else if text.chars().nth(max_chars).is_some() {
            Err(Fault::string_too_long(place(name), max_chars, raw(text)))
        } else {
            Ok(text.to_owned())
        })
    }

    fn value(&self, name: &str) -> Result<Option<&str>, Fault> {
        let given: Vec<&str> = self
            .values
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect();
        match given.as_slice() {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            several => Err(Fault::given_twice(place(name), raw(several))),
        }
    }

    fn of(query: &str) -> Self {
        let values = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode_query(name), decode_query(value))
            })
            .collect();
        Self { values }
    }
}

fn read(name: &str, text: &str) -> Result<i64, Fault> {
    integer::from_text(text).map_err(|not| not.fault(place(name), raw(text)))
}

fn place(name: &str) -> Vec<Place> {
    vec!["query".into(), name.into()]
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts.uri.query().unwrap_or("")))
    }
}

#[cfg(test)]
impl Query {
    pub(super) fn test(query: &str) -> Self {
        Self::of(query)
    }
}
