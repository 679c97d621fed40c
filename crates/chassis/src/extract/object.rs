//! The members of a JSON body, one accessor per kind of value. An accessor notes at most one
//! fault, as pydantic does per field.

use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::fault::{Fault, Place, raw};
use super::integer::{self, NotInteger};
use super::json::Members;
use super::{Faults, money};

/// A JSON object whose members are still literal text. Members nobody asks for are ignored.
#[derive(Debug)]
pub struct Object<'a> {
    whole: &'a RawValue,
    members: Members<'a>,
}

impl<'a> Object<'a> {
    pub(super) fn new(whole: &'a RawValue, members: Members<'a>) -> Self {
        Self { whole, members }
    }

    /// An integer above zero: `1`, `"1"`, `1.0`.
    pub fn positive_integer(&self, name: &str, faults: &mut Faults) -> Option<i64> {
        let value = faults.note(self.member(name))?;
        faults.note(match integer::from_json(value) {
            Ok(number) if number > 0 => Ok(number),
            Ok(_) | Err(NotInteger::TooSmall) => {
                Err(Fault::greater_than(place(name), 0, value.to_owned()))
            }
            Err(not) => Err(not.fault(place(name), value.to_owned())),
        })
    }

    /// An amount above zero with at most 16 digits before the point and 2 after, as string or
    /// number. The scale of the result is 2.
    pub fn money(&self, name: &str, faults: &mut Faults) -> Option<Decimal> {
        let value = faults.note(self.member(name))?;
        faults.note(money::from_json(value).map_err(|not| not.fault(place(name), value.to_owned())))
    }

    /// A text of at most `max_chars` characters, none of them NUL (PostgreSQL holds none).
    pub fn text(&self, name: &str, max_chars: usize, faults: &mut Faults) -> Option<String> {
        let value = faults.note(self.member(name))?;
        let input = || value.to_owned();
        faults.note(match serde_json::from_str::<String>(value.get()) {
            Err(_) => Err(Fault::string_type(place(name), input())),
            Ok(text) if text.contains('\0') => Err(Fault::string_nul(place(name), input())),
            Ok(text) if text.chars().nth(max_chars).is_some() => {
                Err(Fault::string_too_long(place(name), max_chars, input()))
            }
            Ok(text) => Ok(text),
        })
    }

    /// The one member of that name. Two readers of a body may pick different ones of two, so two
    /// are a fault.
    fn member(&self, name: &str) -> Result<&'a RawValue, Fault> {
        let Members(members) = &self.members;
        let mut found = members
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| *value);
        match (found.next(), found.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => Err(Fault::missing(place(name), self.whole.to_owned())),
            (Some(first), Some(second)) => {
                Err(Fault::given_twice(place(name), raw(&[first, second])))
            }
        }
    }
}

fn place(name: &str) -> Vec<Place> {
    vec!["body".into(), name.into()]
}
