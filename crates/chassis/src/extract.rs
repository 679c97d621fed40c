//! Input in FastAPI's shape: every fault is found, all are listed at once, and numbers are read
//! from their literal text, never through a float.
//!
//! The extractors only collect; a handler calls one accessor per value, binds the options, and
//! then asks [`Faults::finish`]. What is not a matter of values (body too large, too slow, not
//! text) is refused by [`Body`] itself.

mod body;
mod fault;
mod integer;
mod json;
mod money;
mod object;
mod path;
mod percent;
mod query;

use crate::error::ApiError;

pub use body::{BODY_MAX_BYTES, Body, read_body};
pub use fault::{Fault, Place};
pub use object::Object;
pub use path::Path;
pub use percent::decode_segment;
pub use query::Query;

/// The faults found so far in one request.
#[derive(Debug, Default)]
pub struct Faults {
    found: Vec<Fault>,
}

impl Faults {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault.
    pub fn push(&mut self, fault: Fault) {
        self.found.push(fault);
    }

    /// Keeps the value, or notes the fault.
    pub(crate) fn note<T>(&mut self, read: Result<T, Fault>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(fault) => {
                self.push(fault);
                None
            }
        }
    }

    /// Nothing found: go on. An accessor gave `None` only if this is an error.
    ///
    /// # Errors
    /// 422 with the faults of the path, then of the query, then of the body, each in the order
    /// the values were asked for.
    pub fn finish(mut self) -> Result<(), ApiError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(Fault::rank);
        Err(ApiError::validation(self.found))
    }
}

#[cfg(test)]
mod tests;
