//! What a rule says about a place that breaks it.

use std::fmt;

/// A place that breaks a rule, and why the rule is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the root, with `/`.
    pub path: String,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    /// What stands there.
    pub what: String,
    /// Why it must not.
    pub why: String,
}

impl Finding {
    /// A place, what stands there, and why it must not.
    pub fn new(path: &str, line: usize, what: impl Into<String>, why: &str) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
            why: why.to_owned(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path)?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        write!(formatter, ": {}\n    {}", self.what, self.why)
    }
}
