//! JSON as pairs of key and literal text. A parsed tree would lose what matters here: the digits
//! of a number as written, and that a key was given twice.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deeper than this nobody nests on purpose; far below what a stack holds.
pub(super) const MAX_DEPTH: usize = 128;

/// Why a text is not JSON, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) position: usize,
    pub(super) error: String,
}

/// The members of an object, in the order given, keys decoded.
#[derive(Debug)]
pub(super) struct Members<'a>(pub(super) Vec<(String, &'a RawValue)>);

/// Whether brackets nest deeper than [`MAX_DEPTH`]; asked before any recursive reader.
pub(super) fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Checks the whole text, strings of unknown members included, and gives its one value.
pub(super) fn parse(text: &str) -> Result<&RawValue, Syntax> {
    let value: &RawValue =
        serde_json::from_str(text).map_err(|error| Syntax::within(text, text, &error))?;
    // The reader of literals leaves a lone surrogate in. It can only come from an escape.
    if text.contains("\\u") {
        check_strings(text, value)?;
    }
    Ok(value)
}

/// The members of a value that [`parse`] gave; `None` if it is not an object.
pub(super) fn members(value: &RawValue) -> Option<Members<'_>> {
    if !value.get().starts_with('{') {
        return None;
    }
    serde_json::from_str(value.get()).ok()
}

/// Decodes every string once. The depth is bounded, so the recursion is too.
fn check_strings(text: &str, value: &RawValue) -> Result<(), Syntax> {
    let literal = value.get();
    let syntax = |error| Syntax::within(text, literal, &error);
    match literal.as_bytes().first() {
        Some(b'"') => {
            serde_json::from_str::<String>(literal).map_err(syntax)?;
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(literal).map_err(syntax)?;
            for item in items {
                check_strings(text, item)?;
            }
        }
        Some(b'{') => {
            let Members(members) = serde_json::from_str(literal).map_err(syntax)?;
            for (_, member) in members {
                check_strings(text, member)?;
            }
        }
        _ => {}
    }
    Ok(())
}

impl Syntax {
    /// Counts characters from the start of the whole text, as Python does.
    fn within(text: &str, part: &str, error: &serde_json::Error) -> Self {
        let part_start = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
        let line_start: usize = part
            .split_inclusive('\n')
            .take(error.line().saturating_sub(1))
            .map(str::len)
            .sum();
        let at = part_start + line_start + error.column().saturating_sub(1);
        Self {
            position: text
                .char_indices()
                .take_while(|(index, _)| *index < at)
                .count(),
            error: error.to_string(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_but_not_those_inside_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(&nested(MAX_DEPTH)));
        assert!(is_too_deep(&nested(MAX_DEPTH + 1)));
        assert!(is_too_deep(&"{\"a\":".repeat(100_000)));
        assert!(!is_too_deep(&format!(
            r#"{{"a":"\"{}"}}"#,
            "[".repeat(1_000)
        )));
        assert!(!is_too_deep(&"[]".repeat(1_000)));
    }

    #[test]
    fn a_lone_surrogate_is_found_wherever_it_hides() {
        for text in [
            r#""\ud800""#,
            r#"{"x":{"y":["\ud800"]}}"#,
            r#"{"\ud800":1}"#,
            r#"{"x":"\ud800\u0041"}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(r#"{"x":"\ud83d\ude00 \\ud800"}"#).is_ok());
    }

    #[test]
    fn a_position_counts_characters_over_all_lines() {
        let position = |text| parse(text).expect_err("is broken").position;
        assert_eq!(position("abc"), 0);
        assert_eq!(position("{\n \"хз\": x}"), 9);
        assert_eq!(position(r#"{"a": "\ud800"}"#), 13);
    }
}
