//! Values in the path of a URL, found by the pattern of the route that matched.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, MatchedPath};
use http::request::Parts;

use super::Faults;
use super::fault::{Fault, null, raw};
use super::integer;
use super::percent::decode_segment;

/// The values of the path, decoded but not yet read.
#[derive(Debug)]
pub struct Path {
    values: Vec<(String, String)>,
}

impl Path {
    /// An integer of the path, by its name in the route's pattern. The sign is not looked at: a
    /// negative id is one that does not exist.
    pub fn integer(&self, name: &str, faults: &mut Faults) -> Option<i64> {
        let loc = || vec!["path".into(), name.into()];
        let value = self.values.iter().find(|(key, _)| key == name);
        faults.note(match value {
            Some((_, text)) => {
                integer::from_text(text).map_err(|not| not.fault(loc(), raw(text.as_str())))
            }
            None => Err(Fault::missing(loc(), null())),
        })
    }

    fn of(pattern: &str, path: &str) -> Self {
        let values = pattern
            .split('/')
            .zip(path.split('/'))
            .filter_map(|(part, segment)| {
                let name = part.strip_prefix('{')?.strip_suffix('}')?;
                Some((name.to_owned(), decode_segment(segment)))
            })
            .collect();
        Self { values }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let pattern = parts
            .extensions
            .get::<MatchedPath>()
            .map_or("", MatchedPath::as_str);
        Ok(Self::of(pattern, parts.uri.path()))
    }
}

#[cfg(test)]
impl Path {
    pub(super) fn test(pattern: &str, path: &str) -> Self {
        Self::of(pattern, path)
    }
}
