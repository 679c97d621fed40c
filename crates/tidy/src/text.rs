//! Rules about files as text: their head, their length, what ends their lines, and copies that
//! must stay equal.

use crate::{Finding, Source};

/// Each file opens by saying what lives in it.
#[must_use]
pub fn without_doc(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    let says = first
        .strip_prefix("//! ")
        .is_some_and(|says| says.len() > 10);
    let why = "a file begins with a `//!` doc that says what lives here and what must not";
    let finding = || Finding::new(&source.path, 1, "no module doc", why);
    if says { Vec::new() } else { vec![finding()] }
}

/// Lines of a file, at most.
pub const LINES_MAX: usize = 400;

const LONG: &[(&str, &str)] = &[
    (
        "crates/chassis/src/tasks.rs",
        "half of it is the tests of one state machine, which need its private parts",
    ),
    (
        "crates/chassis/src/extract/tests.rs",
        "a table of inputs and their answers, to be read from top to bottom",
    ),
];

/// Files that are too long to be read in one sitting, and exceptions that are no longer needed.
#[must_use]
pub fn too_long(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut unused: Vec<&str> = LONG.iter().map(|(path, _)| *path).collect();
    for source in sources {
        let lines = source.text.lines().count();
        if lines <= LINES_MAX {
            continue;
        }
        if unused.contains(&source.path.as_str()) {
            unused.retain(|path| *path != source.path);
        } else {
            let why = "a file is read in one sitting; one that needs banners is two files";
            findings.push(Finding::new(&source.path, 0, format!("{lines} lines"), why));
        }
    }
    findings.extend(unused.into_iter().map(|path| {
        let why =
            "an exception that is not needed any more: take it off in crates/tidy/src/text.rs";
        Finding::new(path, 0, format!("at most {LINES_MAX} lines"), why)
    }));
    findings
}

/// Blanks at the end of a line, tabs, and a last line without its end.
#[must_use]
pub fn stray_blanks(path: &str, text: &str) -> Vec<Finding> {
    let why = "it shows in every diff and means nothing";
    let mut findings: Vec<Finding> = (1..)
        .zip(text.lines())
        .filter_map(|(number, line)| {
            let what = if line.trim_end() != line {
                "blanks at the end of the line"
            } else if line.contains('\t') {
                "a tab"
            } else {
                return None;
            };
            Some(Finding::new(path, number, what, why))
        })
        .collect();
    if !text.is_empty() && !text.ends_with('\n') {
        let last = text.lines().count();
        findings.push(Finding::new(path, last, "no line end at the end", why));
    }
    findings
}

/// Notes to oneself in comments.
#[must_use]
pub fn notes_to_self(source: &Source) -> Vec<Finding> {
    const NOTES: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];
    let why = "what is missing belongs to an issue, where it can be seen and closed";
    source
        .comments()
        .filter_map(|(number, line)| {
            let note = NOTES
                .iter()
                .find(|note| crate::source::has_word(line, note))?;
            Some(Finding::new(&source.path, number, *note, why))
        })
        .collect()
}

/// A copy that is not the original, byte for byte.
#[must_use]
pub fn differs(path: &str, copy: &str, original_path: &str, original: &str) -> Vec<Finding> {
    if copy == original {
        return Vec::new();
    }
    let same = copy
        .lines()
        .zip(original.lines())
        .take_while(|(a, b)| a == b)
        .count();
    let what = format!("differs from {original_path}");
    let why =
        "a service's migrations begin with postbox's own bytes: change the original, and copy it";
    vec![Finding::new(path, same + 1, what, why)]
}

/// A feature that does not say in words what it promises.
#[must_use]
pub fn without_promise(path: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let why = "under `Feature:` stands, in a sentence, what is promised and to whom";
    let Some(title) = lines.iter().position(|line| line.starts_with("Feature:")) else {
        return vec![Finding::new(path, 0, "no feature", why)];
    };
    const BEGINS: &[&str] = &[
        "@",
        "#",
        "Background:",
        "Rule:",
        "Scenario",
        "Example",
        "Given",
    ];
    let says = lines[title + 1..]
        .iter()
        .find(|line| !line.is_empty())
        .is_some_and(|line| !BEGINS.iter().any(|begin| line.starts_with(begin)));
    let finding = || Finding::new(path, title + 1, "no description", why);
    if says { Vec::new() } else { vec![finding()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("crates/a/src/b.rs", text)
    }

    #[test]
    fn a_file_without_its_doc_is_found() {
        assert_eq!(without_doc(&source("//! What lives here.\n")), []);
        for text in ["", "use a;\n", "// What lives here.\n", "//!\n//! Late.\n"] {
            assert_eq!(without_doc(&source(text)).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_long_file_is_found_and_an_unused_exception_too() {
        let long = "\n".repeat(LINES_MAX + 1);
        let mut house: Vec<Source> = LONG
            .iter()
            .map(|(path, _)| Source::new(*path, long.clone()))
            .collect();
        assert_eq!(too_long(&house), []);
        house.push(source(&long));
        assert_eq!(too_long(&house)[0].what, "401 lines");
        assert_eq!(too_long(&[]).len(), LONG.len());
    }

    #[test]
    fn stray_blanks_are_found() {
        let lines = |text| {
            let findings = stray_blanks("a", text);
            findings.iter().map(|f| f.line).collect::<Vec<_>>()
        };
        assert_eq!(lines("a\n  b\n"), [0_usize; 0]);
        assert_eq!(lines("a \nb\n"), [1]);
        assert_eq!(lines("a\n\tb\n"), [2]);
        assert_eq!(lines("a\nb"), [2]);
    }

    #[test]
    fn a_note_to_oneself_is_found_in_a_comment_only() {
        let text = "let a = \"TODO\";\n// TODO: later\n/* FIXME */\n";
        let findings = notes_to_self(&source(text));
        let lines: Vec<usize> = findings.iter().map(|f| f.line).collect();
        assert_eq!(lines, [2, 3]);
    }

    #[test]
    fn a_copy_that_differs_is_found_with_its_first_line() {
        assert_eq!(differs("b", "1\n2\n", "a", "1\n2\n"), []);
        assert_eq!(differs("b", "1\n3\n", "a", "1\n2\n")[0].line, 2);
        assert_eq!(differs("b", "1\n", "a", "1\n2\n")[0].line, 2);
        assert_eq!(differs("b", "1", "a", "1\n").len(), 1);
    }

    #[test]
    fn a_feature_that_promises_nothing_is_found() {
        let promise = "Feature: Paid once\n  An order is paid once.\n\n  Scenario: A\n";
        assert_eq!(without_promise("f", promise), []);
        assert_eq!(
            without_promise("f", "Feature: A\n\n  Scenario: B\n")[0].line,
            1
        );
        assert_eq!(
            without_promise("f", "@tag\nFeature: A\n  @tag\n  Scenario: B\n")[0].line,
            2
        );
        assert_eq!(without_promise("f", "Scenario: B\n").len(), 1);
        assert_eq!(without_promise("f", "Feature: A\n").len(), 1);
    }
}
