//! Which crate may depend on which. The edges are the design: a message can only be lost by
//! misuse where two rooms know each other that should not.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::Finding;

/// The part of `cargo metadata` that is looked at.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// The crates of the workspace.
    pub packages: Vec<Package>,
}

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name, which is its folder's too.
    pub name: String,
    /// What its manifest names.
    pub dependencies: Vec<Dependency>,
}

/// A dependency in a manifest.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// `dev`, `build`, or absent for an ordinary one.
    pub kind: Option<String>,
    /// Features asked for.
    #[serde(default)]
    pub features: Vec<String>,
}

const EDGES: &[(&str, &[&str])] = &[
    ("contracts", &[]),
    ("chassis", &[]),
    ("sandbox", &[]),
    ("postbox", &[]),
    ("tidy", &[]),
    ("gateway", &["chassis"]),
    ("orders", &["chassis", "contracts", "postbox"]),
    ("payments", &["chassis", "contracts", "postbox"]),
    ("prover", &["contracts"]),
    (
        "paidonce",
        &[
            "chassis",
            "contracts",
            "gateway",
            "orders",
            "payments",
            "postbox",
            "prover",
            "sandbox",
        ],
    ),
    (
        "acceptance",
        &[
            "chassis",
            "contracts",
            "gateway",
            "orders",
            "paidonce",
            "payments",
            "postbox",
            "prover",
            "sandbox",
        ],
    ),
];

/// What a test may use, whichever crate's it is.
const FOR_TESTS: &str = "sandbox";

const WHY_EDGE: &str =
    "ARCHITECTURE.md, \"Walls\": an edge between rooms is a decision, and this one was not made";
const WHY_TABLE: &str = "a crate has its row in crates/tidy/src/edges.rs, and a row its crate";

/// Edges between crates of the house that nobody decided on.
#[must_use]
pub fn undecided(metadata: &Metadata) -> Vec<Finding> {
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut findings: Vec<Finding> = EDGES
        .iter()
        .filter(|(name, _)| !ours.contains(name))
        .map(|(name, _)| Finding::new(&manifest(name), 0, "no such crate", WHY_TABLE))
        .collect();
    for package in &metadata.packages {
        let path = manifest(&package.name);
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package.name) else {
            findings.push(Finding::new(&path, 0, "a crate without a row", WHY_TABLE));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let for_tests = dependency.kind.as_deref() == Some("dev") && name == FOR_TESTS;
            if ours.contains(name) && !allowed.contains(&name) && !for_tests {
                let what = format!("{} depends on {name}", package.name);
                findings.push(Finding::new(&path, 0, what, WHY_EDGE));
            }
        }
    }
    findings
}

/// Crates from outside that a room must not know.
const STRANGERS: &[(&str, &[&str], &str)] = &[
    (
        "gateway",
        &["sqlx", "lapin"],
        "the gateway reaches neither a database nor the broker, so no fault in it can lose money",
    ),
    (
        "contracts",
        &["sqlx", "lapin", "tokio", "axum", "reqwest"],
        "the wire is pure data: whoever reads it needs no database, broker or runtime",
    ),
    (
        "prover",
        &["axum"],
        "the judge is a client of the system, never a part of it",
    ),
];

/// Dependencies on crates from outside that a room must not know. Those of tests do not count.
#[must_use]
pub fn strangers(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let path = manifest(&package.name);
        let ordinary = || {
            package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
        };
        for (_, strangers, why) in STRANGERS.iter().filter(|(name, ..)| *name == package.name) {
            for dependency in ordinary().filter(|d| strangers.contains(&d.name.as_str())) {
                let what = format!("{} depends on {}", package.name, dependency.name);
                findings.push(Finding::new(&path, 0, what, why));
            }
        }
        let pools =
            |d: &&Dependency| d.name == "chassis" && d.features.iter().any(|f| f == "postgres");
        if package.name == "gateway" && ordinary().any(|d| pools(&d)) {
            let why = "with it comes sqlx, and the gateway has no database";
            findings.push(Finding::new(&path, 0, "chassis with `postgres`", why));
        }
    }
    findings
}

fn manifest(name: &str) -> String {
    format!("crates/{name}/Cargo.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The house as it should be, with one dependency more.
    fn house_with(room: &str, dependency: Dependency) -> Metadata {
        let mut packages: Vec<Package> = EDGES
            .iter()
            .map(|(name, allowed)| Package {
                name: (*name).to_owned(),
                dependencies: allowed.iter().map(|name| on(name, None)).collect(),
            })
            .collect();
        let package = packages.iter_mut().find(|p| p.name == room);
        package.expect("a room").dependencies.push(dependency);
        Metadata { packages }
    }

    fn on(name: &str, kind: Option<&str>) -> Dependency {
        Dependency {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            features: Vec::new(),
        }
    }

    fn whats(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|f| f.what.as_str()).collect()
    }

    #[test]
    fn an_edge_that_nobody_decided_on_is_found() {
        let found = undecided(&house_with("orders", on("payments", None)));
        assert_eq!(whats(&found), ["orders depends on payments"]);
        let found = undecided(&house_with("prover", on("orders", Some("dev"))));
        assert_eq!(whats(&found), ["prover depends on orders"]);
        let found = undecided(&house_with("gateway", on("contracts", Some("build"))));
        assert_eq!(whats(&found), ["gateway depends on contracts"]);
        let found = undecided(&house_with("postbox", on("sandbox", None)));
        assert_eq!(whats(&found), ["postbox depends on sandbox"]);
    }

    #[test]
    fn tests_may_use_the_sandbox_and_strangers_are_no_edges() {
        assert_eq!(
            undecided(&house_with("postbox", on("sandbox", Some("dev")))),
            []
        );
        assert_eq!(undecided(&house_with("postbox", on("sqlx", None))), []);
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
        let mut house = house_with("tidy", on("serde", None));
        house.packages.retain(|package| package.name != "sandbox");
        house.packages.push(Package {
            name: "cellar".to_owned(),
            dependencies: Vec::new(),
        });
        assert_eq!(
            whats(&undecided(&house)),
            ["no such crate", "a crate without a row"]
        );
    }

    #[test]
    fn a_stranger_in_the_gateway_is_found() {
        let found = strangers(&house_with("gateway", on("sqlx", None)));
        assert_eq!(whats(&found), ["gateway depends on sqlx"]);
        let pools = Dependency {
            features: vec!["postgres".to_owned()],
            ..on("chassis", None)
        };
        assert_eq!(
            whats(&strangers(&house_with("gateway", pools))),
            ["chassis with `postgres`"]
        );
        assert_eq!(
            strangers(&house_with("gateway", on("sqlx", Some("dev")))),
            []
        );
        assert_eq!(strangers(&house_with("orders", on("sqlx", None))), []);
    }
}
