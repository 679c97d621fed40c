//! What a wall is: words that must not stand in some files. A wall with a door in it names the
//! door and the reason; a door that nobody uses is reported until it is taken off.

use crate::source::has_word;
use crate::{Finding, Part, Source};

/// Words that must not stand in some files.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    /// Whether a file is behind the wall.
    pub of: fn(&Source) -> bool,
    /// Which of its lines.
    pub part: Part,
    /// The words; whole ones, see the names around them.
    pub words: &'static [&'static str],
    /// Why they must not stand there.
    pub why: &'static str,
    /// Files that are let through, each with the reason.
    pub doors: &'static [(&'static str, &'static str)],
}

impl Wall {
    /// Places where a word stands that must not, doors or not.
    fn hits(&self, source: &Source) -> Vec<Finding> {
        if !(self.of)(source) {
            return Vec::new();
        }
        let word_in = |line: &str| self.words.iter().find(|word| has_word(line, word));
        source
            .code(self.part)
            .filter_map(|(number, line)| {
                let word = word_in(line)?;
                Some(Finding::new(&source.path, number, *word, self.why))
            })
            .collect()
    }

    /// Places that break the wall, and doors that nobody uses.
    #[must_use]
    pub fn check(&self, sources: &[Source]) -> Vec<Finding> {
        let mut unused: Vec<&str> = self.doors.iter().map(|(path, _)| *path).collect();
        let mut findings = Vec::new();
        for source in sources {
            let hits = self.hits(source);
            if self.doors.iter().any(|(path, _)| *path == source.path) {
                if !hits.is_empty() {
                    unused.retain(|path| *path != source.path);
                }
            } else {
                findings.extend(hits);
            }
        }
        findings.extend(unused.into_iter().map(|path| {
            let why =
                "an exception that is not needed any more: take it off in crates/tidy/src/walls.rs";
            Finding::new(path, 0, format!("has no {}", self.words[0]), why)
        }));
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Wall = Wall {
        of: |source| source.room() == "orders",
        part: Part::Live,
        words: &["spawn"],
        why: "somebody must wait for it",
        doors: &[("crates/orders/src/app.rs", "for a reason")],
    };

    #[test]
    fn a_door_lets_its_file_through_and_is_reported_once_unused() {
        let app = |text: &str| [Source::new("crates/orders/src/app.rs", text)];
        assert_eq!(WALL.check(&app("tokio::spawn(f)")), []);
        let unused = WALL.check(&app("f()"));
        assert_eq!(unused.len(), 1);
        assert!(unused[0].why.contains("take it off"));
    }
}
