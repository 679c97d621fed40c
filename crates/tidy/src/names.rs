//! Names say what a thing is. Some words say nothing, and what is called so gathers everything.

use crate::{Finding, Part, Source};

const EMPTY: &[&str] = &[
    "manager", "helper", "helpers", "util", "utils", "common", "misc",
];
const KEYWORDS: &[&str] = &["struct", "enum", "trait", "type", "mod"];
const WHY: &str = "such a name says nothing, so anything fits in: name the noun or the verb";

/// Files, modules and types with an empty name.
#[must_use]
pub fn empty_names(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for part in source.path.split('/').skip(1) {
        let stem = part.strip_suffix(".rs").unwrap_or(part);
        if is_empty(stem) {
            findings.push(Finding::new(&source.path, 0, stem, WHY));
        }
    }
    for part in [Part::Live, Part::Tests] {
        for (number, line) in source.code(part) {
            let words: Vec<&str> = line
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| !word.is_empty())
                .collect();
            for pair in words.windows(2) {
                if KEYWORDS.contains(&pair[0]) && is_empty(pair[1]) {
                    findings.push(Finding::new(&source.path, number, pair[1], WHY));
                }
            }
        }
    }
    findings
}

/// Whether one of the words of a name, in snake or camel case, is an empty one.
fn is_empty(name: &str) -> bool {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c == '-' || c.is_uppercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
        }
    }
    words.iter().any(|word| EMPTY.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<String> {
        let findings = empty_names(&Source::new(path, text));
        findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn empty_names_of_files_modules_and_types_are_found() {
        assert_eq!(
            whats("crates/common/src/test_utils.rs", ""),
            ["common", "test_utils"]
        );
        let text = "pub struct OrderManager;\nmod util;\nenum HelperKind { A }\ntrait Common {}";
        let expected = ["OrderManager", "util", "HelperKind", "Common"];
        assert_eq!(whats("crates/a/src/b.rs", text), expected);
    }

    #[test]
    fn names_that_only_contain_such_letters_are_fine() {
        let text = "struct Management;\nfn manager() {}\n// struct Helper\ntype Utility = u8;";
        assert_eq!(whats("crates/a/src/management.rs", text), [""; 0]);
    }
}
