//! Every rule of the house, over the whole checkout. What a rule is, and a text on which it is
//! red, stands beside it in `src/`.

use std::collections::BTreeSet;

use tidy::{Finding, Source, Wall, documents, edges, house, names, text, walls};

/// Fails with every finding: file, line, what stands there, and why it must not.
fn none(findings: Vec<Finding>) {
    let count = findings.len();
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(count == 0, "{count} found\n\n{}\n", lines.join("\n"));
}

fn of_each(rule: impl Fn(&Source) -> Vec<Finding>) {
    none(sources().iter().flat_map(rule).collect());
}

fn sources() -> Vec<Source> {
    house::sources().expect("the crates can be read")
}

fn holds(wall: &Wall) {
    none(wall.check(&sources()));
}

fn read(path: &str) -> String {
    house::read(path).expect("a file of the checkout")
}

/// Files with this ending in the folders that are ours.
fn texts(suffix: &str) -> Vec<(String, String)> {
    let folders = ["crates", "deploy", "docs", "features", "migrations"];
    folders
        .iter()
        .flat_map(|folder| house::files(folder, suffix).expect("a folder of the checkout"))
        .map(|path| (path.clone(), read(&path)))
        .collect()
}

#[test]
fn crates_depend_on_each_other_only_where_it_was_decided() {
    none(edges::undecided(
        &house::metadata().expect("cargo metadata"),
    ));
}

#[test]
fn rooms_do_not_know_strangers() {
    none(edges::strangers(
        &house::metadata().expect("cargo metadata"),
    ));
}

#[test]
fn each_service_begins_with_the_migration_of_postbox() {
    const ORIGINAL: &str = "crates/postbox/migrations/0001_postbox.sql";
    let original = read(ORIGINAL);
    let copies = ["orders", "payments"].map(|name| format!("migrations/{name}/0001_postbox.sql"));
    let differs = |path: &String| text::differs(path, &read(path), ORIGINAL, &original);
    none(copies.iter().flat_map(differs).collect());
}

#[test]
fn every_file_says_what_lives_in_it() {
    of_each(text::without_doc);
}

#[test]
fn no_file_is_too_long_to_be_read_in_one_sitting() {
    none(text::too_long(&sources()));
}

#[test]
fn http_holds_no_sql() {
    holds(&walls::NO_SQL_IN_HTTP);
}

#[test]
fn all_sql_of_a_service_is_in_its_store() {
    holds(&walls::SQL_IN_STORE);
}

#[test]
fn a_store_opens_no_transaction() {
    holds(&walls::NO_TRANSACTION_IN_STORE);
}

#[test]
fn services_read_no_stray_settings() {
    holds(&walls::NO_STRAY_SETTINGS);
}

#[test]
fn services_run_no_stray_tasks() {
    holds(&walls::NO_STRAY_TASKS);
}

#[test]
fn services_do_not_sleep() {
    holds(&walls::NO_SLEEP_IN_SERVICES);
}

#[test]
fn one_place_publishes() {
    holds(&walls::PUBLISH_IN_ONE_PLACE);
}

#[test]
fn one_place_acknowledges() {
    holds(&walls::ACKNOWLEDGE_IN_ONE_PLACE);
}

#[test]
fn nouns_are_pure() {
    let gone = walls::NOUNS.iter().filter(|path| !house::exists(path));
    let why = "its rules moved: name the new file in crates/tidy/src/walls.rs";
    none(
        gone.map(|path| Finding::new(path, 0, "missing", why))
            .collect(),
    );
    holds(&walls::NOUNS_ARE_PURE);
}

#[test]
fn tests_wait_for_a_state_and_not_for_a_time() {
    holds(&walls::TESTS_WAIT_IN_EVENTUALLY);
}

#[test]
fn names_say_something() {
    of_each(names::empty_names);
}

#[test]
fn lines_end_where_their_text_ends() {
    let mut found = Vec::new();
    for suffix in [".rs", ".sql", ".feature", ".toml", ".md", ".nix"] {
        for (path, text) in texts(suffix) {
            found.extend(text::stray_blanks(&path, &text));
        }
    }
    none(found);
}

#[test]
fn nothing_is_left_unfinished() {
    for wall in &walls::NOTHING_UNFINISHED {
        holds(wall);
    }
    of_each(text::notes_to_self);
}

#[test]
fn every_feature_says_what_it_promises() {
    let features = texts(".feature");
    assert!(
        !features.is_empty(),
        "no features: then nothing is promised"
    );
    let promises = |(path, text): &(String, String)| text::without_promise(path, text);
    none(features.iter().flat_map(promises).collect());
}

/// The documents for people, by path and text.
fn documents() -> Vec<(String, String)> {
    let own = ["README.md", "README.ru.md", "ARCHITECTURE.md"];
    let own = own.map(|path| (path.to_owned(), read(path)));
    own.into_iter().chain(texts(".md")).collect()
}

#[test]
fn commands_in_the_documents_exist() {
    let cli = "crates/paidonce/src/cli.rs";
    let paidonce = documents::subcommands(&Source::new(cli, read(cli)));
    let dev: BTreeSet<String> = documents::dev_commands(&read("dev"));
    assert!(!paidonce.is_empty() && !dev.is_empty(), "no commands found");
    let unknown =
        |(path, text): &(String, String)| documents::unknown_commands(path, text, &dev, &paidonce);
    none(documents().iter().flat_map(unknown).collect());
}

#[test]
fn the_readme_names_the_two_commands() {
    for path in ["README.md", "README.ru.md"] {
        let told: Vec<_> = documents::commands(&read(path))
            .into_iter()
            .map(|(_, told)| told)
            .collect();
        for name in ["demo", "test"] {
            let wanted = documents::Told::Dev(name.to_owned());
            assert!(told.contains(&wanted), "{path} does not name ./dev {name}");
        }
    }
}

#[test]
fn files_in_the_documents_exist() {
    let missing =
        |(path, text): &(String, String)| documents::missing_files(path, text, house::exists);
    none(documents().iter().flat_map(missing).collect());
}
