//! Why a step failed. cucumber prints no more than the outermost text of an error, so this one holds all of it.

use std::fmt;

/// What a step returns.
pub(crate) type Step = Result<(), Failed>;

/// An error with its causes in one text.
pub(crate) struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `anyhow::ensure!` for a function that returns [`Step`].
macro_rules! require {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(crate::failed::Failed::from(anyhow::anyhow!($($text)+)));
        }
    };
}
pub(crate) use require;
