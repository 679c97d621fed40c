//! What the documents name must exist: commands, subcommands, files.

use std::collections::BTreeSet;

use crate::{Finding, Part, Source};

/// A command that a document tells its reader to type, with its subcommand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// `./dev …`
    Dev(String),
    /// `paidonce …`
    Paidonce(String),
}

/// Commands in the code spans and shell blocks of a document, with their lines.
#[must_use]
pub fn commands(markdown: &str) -> Vec<(usize, Told)> {
    let mut found = Vec::new();
    for (number, code) in code(markdown) {
        let words: Vec<&str> = code.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            let next = words[at + 1..].iter().find(|next| **next != "--");
            let Some(next) = next.filter(|next| is_subcommand(next)) else {
                continue;
            };
            let next = (*next).to_owned();
            match *word {
                "./dev" => found.push((number, Told::Dev(next))),
                "paidonce" => found.push((number, Told::Paidonce(next))),
                _ => {}
            }
        }
    }
    found
}

fn is_subcommand(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

/// Commands that a document names and that do not exist.
#[must_use]
pub fn unknown_commands(
    path: &str,
    markdown: &str,
    dev: &BTreeSet<String>,
    paidonce: &BTreeSet<String>,
) -> Vec<Finding> {
    let why = "a document names only commands that exist: ./dev, crates/paidonce/src/cli.rs";
    commands(markdown)
        .into_iter()
        .filter_map(|(line, told)| {
            let (what, known) = match &told {
                Told::Dev(name) => (format!("./dev {name}"), dev.contains(name)),
                Told::Paidonce(name) => (format!("paidonce {name}"), paidonce.contains(name)),
            };
            (!known).then(|| Finding::new(path, line, what, why))
        })
        .collect()
}

/// The commands of the script `dev`: the patterns of its last `case`.
#[must_use]
pub fn dev_commands(script: &str) -> BTreeSet<String> {
    let start = script.rfind("case ").unwrap_or(script.len());
    script[start..]
        .lines()
        .filter_map(|line| line.trim().strip_suffix(')'))
        .flat_map(|patterns| patterns.split('|'))
        .map(|pattern| pattern.trim().to_owned())
        .filter(|pattern| is_subcommand(pattern))
        .collect()
}

/// The subcommands of the binary: variants of the enums in its command line, in kebab case.
#[must_use]
pub fn subcommands(cli: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (mut depth, mut within) = (0_usize, None);
    for (_, line) in cli.code(Part::Live) {
        let line = line.trim();
        if within.is_none() && (line.contains("enum ") && line.ends_with('{')) {
            within = Some(depth + 1);
        } else if within == Some(depth) {
            let name: String = line
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect();
            if name.starts_with(|c: char| c.is_ascii_uppercase()) {
                found.insert(kebab(&name));
            }
        }
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if within.is_some_and(|within| depth < within) {
            within = None;
        }
    }
    found
}

fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for (at, c) in name.char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            kebab.push('-');
        }
        kebab.push(c.to_ascii_lowercase());
    }
    kebab
}

/// Folders of the root whose files a document may name.
const FOLDERS: &[&str] = &[
    ".ci/",
    ".config/",
    "crates/",
    "deploy/",
    "docs/",
    "features/",
    "migrations/",
];

/// Files and folders that a document names, in code or as a link, and that do not exist.
#[must_use]
pub fn missing_files(path: &str, markdown: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let named = spans(markdown)
        .filter(|(_, code)| FOLDERS.iter().any(|folder| code.starts_with(folder)))
        .filter(|(_, code)| !code.contains(['*', '{', '<', '…', ' ']))
        .map(|(number, code)| (number, code.to_owned()));
    let linked = links(markdown)
        .filter(|(_, link)| !link.contains("://") && !link.starts_with(['#', '/']))
        .map(|(number, link)| {
            let file = link.split('#').next().unwrap_or_default();
            let below = if folder.is_empty() {
                String::new()
            } else {
                format!("{folder}/")
            };
            (number, format!("{below}{file}"))
        });
    let why = "a document names only files that exist";
    named
        .chain(linked)
        .filter(|(_, file)| !exists(file))
        .map(|(number, file)| Finding::new(path, number, file, why))
        .collect()
}

/// Lines of shell blocks, and code spans.
fn code(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    let blocks = fenced(markdown)
        .into_iter()
        .filter(|(_, language, _)| matches!(*language, Some("" | "sh" | "console" | "text")))
        .map(|(number, _, line)| (number, line));
    blocks.chain(spans(markdown))
}

/// Code spans outside blocks.
fn spans(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    fenced(markdown)
        .into_iter()
        .filter(|(_, language, _)| language.is_none())
        .flat_map(|(number, _, line)| {
            let odd = line.split('`').enumerate().filter(|(n, _)| n % 2 == 1);
            odd.map(move |(_, span)| (number, span))
        })
}

/// Targets of links outside blocks.
fn links(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    fenced(markdown)
        .into_iter()
        .filter(|(_, language, _)| language.is_none())
        .flat_map(|(number, _, line)| {
            let targets = line.split("](").skip(1);
            targets.filter_map(move |rest| Some((number, rest.split_once(')')?.0)))
        })
}

/// Each line with its number and, inside a block, the block's language.
fn fenced(markdown: &str) -> Vec<(usize, Option<&str>, &str)> {
    let mut language = None;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(markdown.lines()) {
        match (line.trim_start().strip_prefix("```"), language) {
            (Some(begins), None) => language = Some(begins.trim()),
            (Some(_), Some(_)) => language = None,
            (None, _) => lines.push((number, language, line)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const DOCUMENT: &str = "Type `./dev demo`, then `paidonce verify --json`.\n\
        ```sh\ncargo run -p paidonce -- up --keep\n./dev fly\n```\n\
        ```mermaid\nA->>B: paidonce dream\n```\n\
        paidonce is a command; `paidonce` alone or `paidonce --help` names none.\n";

    #[test]
    fn commands_are_read_from_code_only() {
        let told: Vec<Told> = commands(DOCUMENT)
            .into_iter()
            .map(|(_, told)| told)
            .collect();
        let expected = [
            Told::Paidonce("up".into()),
            Told::Dev("fly".into()),
            Told::Dev("demo".into()),
            Told::Paidonce("verify".into()),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_command_that_does_not_exist_is_found() {
        let (dev, paidonce) = (set(&["demo"]), set(&["up"]));
        let findings = unknown_commands("README.md", DOCUMENT, &dev, &paidonce);
        let told: Vec<_> = findings.iter().map(|f| (f.line, f.what.as_str())).collect();
        assert_eq!(told, [(4, "./dev fly"), (1, "paidonce verify")]);
    }

    #[test]
    fn the_last_case_of_the_script_names_its_commands() {
        let script = "case $x in\n  old) ;;\nesac\ncase \"$command\" in\n    demo | up)\n        f x\n        ;;\n    test)\n        ;;\n    *)\n";
        assert_eq!(dev_commands(script), set(&["demo", "test", "up"]));
    }

    #[test]
    fn variants_are_subcommands_and_their_fields_are_not() {
        let text = "#[derive(Subcommand)]\npub enum Command {\n    /// Doc.\n    Up,\n    HealthCheck(Args),\n    Load {\n        Orders: u64,\n    },\n}\nstruct Args {\n    Field: u8,\n}\n";
        let cli = Source::new("crates/paidonce/src/cli.rs", text);
        assert_eq!(subcommands(&cli), set(&["health-check", "load", "up"]));
    }

    #[test]
    fn a_file_that_does_not_exist_is_found() {
        let text = "See `crates/a/src/b.rs`, `features/*.feature`, [map](ARCHITECTURE.md#x),\n[gone](gone.md), [web](https://example.org), `docs/gone.md`.\n";
        let exists = |path: &str| ["crates/a/src/b.rs", "ARCHITECTURE.md"].contains(&path);
        let findings = missing_files("README.md", text, exists);
        let told: Vec<_> = findings.iter().map(|f| (f.line, f.what.as_str())).collect();
        assert_eq!(told, [(2, "docs/gone.md"), (2, "gone.md")]);
        let below = missing_files("docs/a.md", "[b](b.md)\n", |path| path == "docs/b.md");
        assert_eq!(below, []);
    }
}
