//! A Rust file, taken apart into the lines that a rule may be about.

use crate::lexer::{self, is_word};

/// Which lines of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What a build holds.
    Live,
    /// Files under `tests/`, `tests.rs`, the acceptance suite, and what is under `#[cfg(test)]`.
    Tests,
}

/// A Rust file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the root, with `/`.
    pub path: String,
    /// As it stands in the file.
    pub text: String,
    code: String,
    comments: String,
    tests: Vec<bool>,
}

impl Source {
    /// Takes a file apart.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let split = lexer::split(&text);
        let mut tests = lexer::lines_under_test(&split.code);
        if is_test_file(&path) {
            tests.fill(true);
        }
        Self {
            path,
            text,
            code: split.code,
            comments: split.comments,
            tests,
        }
    }

    /// Name of the crate's folder.
    pub fn room(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or_default()
    }

    /// Name of the file.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Lines of code of one part, numbered from 1; comments and strings are blank.
    pub fn code(&self, part: Part) -> impl Iterator<Item = (usize, &str)> {
        let wanted = part == Part::Tests;
        (1..)
            .zip(self.code.lines())
            .zip(&self.tests)
            .filter_map(move |(line, tests)| (*tests == wanted).then_some(line))
    }

    /// The comments, numbered from 1.
    pub fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.comments.lines())
    }
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("crates/acceptance/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

/// Whether `needle` stands in a line as whole words: `sleep` is not in `asleep` or `sleeper`.
pub(crate) fn has_word(line: &str, needle: &str) -> bool {
    let edge =
        |c: Option<char>, end: Option<char>| !(c.is_some_and(is_word) && end.is_some_and(is_word));
    line.match_indices(needle).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + needle.len()..]);
        edge(before.chars().next_back(), needle.chars().next())
            && edge(after.chars().next(), needle.chars().next_back())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(source: &Source, part: Part) -> Vec<usize> {
        source.code(part).map(|(line, _)| line).collect()
    }

    #[test]
    fn a_file_under_tests_is_all_tests() {
        for path in [
            "crates/a/tests/it/b.rs",
            "crates/a/src/c/tests.rs",
            "crates/acceptance/src/lib.rs",
        ] {
            let source = Source::new(path, "a\nb\n");
            assert_eq!(lines(&source, Part::Live), [0_usize; 0], "{path}");
            assert_eq!(lines(&source, Part::Tests), [1, 2], "{path}");
        }
    }

    #[test]
    fn a_test_module_is_the_other_part_of_its_file() {
        let text = "//! Doc.\nfn f() {}\n#[cfg(test)]\nmod tests {\n}\n";
        let source = Source::new("crates/a/src/b.rs", text);
        assert_eq!(lines(&source, Part::Live), [1, 2]);
        assert_eq!(lines(&source, Part::Tests), [3, 4, 5]);
        assert_eq!(source.room(), "a");
        assert_eq!(source.file_name(), "b.rs");
    }

    #[test]
    fn a_word_is_whole() {
        assert!(has_word("tokio::time::sleep(x)", "sleep"));
        assert!(!has_word("asleep(sleeper)", "sleep"));
        assert!(has_word("sqlx::query_scalar!(x)", "sqlx::"));
    }
}
