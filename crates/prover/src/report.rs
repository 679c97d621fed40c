//! A judgement as a table for people and as JSON for programs.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use crate::verdict::{At, Finding, Verdict};

/// Width of the table in characters: what fits a terminal and a CI log.
const WIDTH: u16 = 120;

/// What was found of each rule, in the order of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In which state the system was looked at.
    pub at: At,
    /// One entry per rule, those not looked at included.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether at least one rule was looked at and none is broken. A rule that was looked at on an
    /// empty system counts: the caller knows how much there should be to look at.
    #[must_use]
    pub fn holds(&self) -> bool {
        let looked_at = |f: &Finding| matches!(f.verdict, Verdict::Holds { .. });
        self.findings.iter().any(looked_at) && self.broken().next().is_none()
    }

    /// The broken rules.
    pub fn broken(&self) -> impl Iterator<Item = &Finding> {
        let broken = |f: &&Finding| matches!(f.verdict, Verdict::Broken { .. });
        self.findings.iter().filter(broken)
    }

    /// What was found of one rule.
    #[must_use]
    pub fn finding(&self, id: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.id == id)
    }

    /// One row per rule: `✓` held, `✗` broken, `–` not checked here; how much was looked at; what
    /// is wrong, or what would be needed. Not colored.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH)
            .set_header(["rule", "", "checked", "what"]);
        for Finding { id, title, verdict } in &self.findings {
            let (mark, checked, what) = match verdict {
                Verdict::Holds { checked } => ("✓", checked.to_string(), (*title).to_owned()),
                Verdict::Broken {
                    checked,
                    found,
                    examples,
                } => {
                    let more = found.saturating_sub(examples.len() as u64);
                    let mut what = format!("{title}: {found} broken\n{}", examples.join("\n"));
                    if more > 0 {
                        what.push_str(&format!("\nand {more} more"));
                    }
                    ("✗", checked.to_string(), what)
                }
                Verdict::NotChecked { why } => (
                    "–",
                    String::new(),
                    format!("{title}: not checked here, {why}"),
                ),
            };
            table.add_row([
                Cell::new(id),
                Cell::new(mark),
                Cell::new(checked).set_alignment(CellAlignment::Right),
                Cell::new(what),
            ]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<(&'static str, Verdict)>) -> Report {
        let finding = |(id, verdict)| Finding {
            id,
            title: "a promise",
            verdict,
        };
        Report {
            at: At::Rest,
            findings: findings.into_iter().map(finding).collect(),
        }
    }

    fn broken() -> Verdict {
        Verdict::Broken {
            checked: 9,
            found: 3,
            examples: vec![String::from("order 12 for 5.00")],
        }
    }

    #[test]
    fn one_broken_rule_is_enough() {
        let held = ("S1", Verdict::Holds { checked: 4 });
        assert!(report(vec![held.clone()]).holds());
        assert!(!report(vec![held, ("S2", broken())]).holds());
    }

    #[test]
    fn a_report_that_looked_at_nothing_does_not_hold() {
        assert!(
            !report(vec![(
                "S7",
                Verdict::NotChecked {
                    why: "needs a history"
                }
            )])
            .holds()
        );
        assert!(!report(vec![]).holds());
    }

    #[test]
    fn the_table_has_a_mark_for_each_rule_and_names_the_order() {
        let table = report(vec![
            ("S1", Verdict::Holds { checked: 4 }),
            ("S2", broken()),
            (
                "S7",
                Verdict::NotChecked {
                    why: "needs a history",
                },
            ),
        ])
        .to_table();
        for text in [
            "S1",
            "✓",
            "✗",
            "–",
            "order 12 for 5.00",
            "and 2 more",
            "needs a history",
        ] {
            assert!(table.contains(text), "{text:?} is missing in\n{table}");
        }
    }

    #[test]
    fn the_json_form_names_rule_verdict_and_examples() {
        let json = serde_json::to_value(report(vec![("S2", broken())])).expect("a plain struct");
        assert_eq!(
            json,
            serde_json::json!({"at": "rest", "findings": [{
                "id": "S2", "title": "a promise", "verdict": "broken", "checked": 9, "found": 3,
                "examples": ["order 12 for 5.00"],
            }]})
        );
    }
}
