//! When each step of a scenario that failed began, and how long it took: beside the logs, whose times are also UTC,
//! it shows what a fault met.
//!
//! Not here: the failure itself, which cucumber's own writer prints.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use cucumber::cli::Empty;
use cucumber::event::{self, Event, Source};
use cucumber::{Writer, gherkin, parser};

/// A writer that keeps the steps of each running scenario, and prints them if it fails.
#[derive(Debug, Default)]
pub(super) struct TimeLines {
    running: HashMap<Source<gherkin::Scenario>, TimeLine>,
}

/// The steps of one scenario so far.
#[derive(Debug, Default)]
struct TimeLine {
    steps: Vec<(SystemTime, String, Option<SystemTime>)>,
    failed: bool,
}

impl<W: cucumber::World> Writer<W> for TimeLines {
    type Cli = Empty;

    async fn handle_event(
        &mut self,
        event: parser::Result<Event<event::Cucumber<W>>>,
        _: &Self::Cli,
    ) {
        // What cannot be parsed never ran.
        let Ok(Event { at, value, .. }) = event else {
            return;
        };
        let event::Cucumber::Feature(_, feature) = value else {
            return;
        };
        let (scenario, event) = match feature {
            event::Feature::Scenario(scenario, event)
            | event::Feature::Rule(_, event::Rule::Scenario(scenario, event)) => {
                (scenario, event.event)
            }
            _ => return,
        };
        if matches!(event, event::Scenario::Finished) {
            let ended = self.running.remove(&scenario);
            if let Some(line) = ended.filter(|line| line.failed) {
                eprint!("{}", line.tell(&scenario.name));
            }
            return;
        }
        self.running.entry(scenario).or_default().note(at, event);
    }
}

impl TimeLine {
    fn note<W>(&mut self, at: SystemTime, event: event::Scenario<W>) {
        let (step, event) = match event {
            event::Scenario::Background(step, event) | event::Scenario::Step(step, event) => {
                (step, event)
            }
            event::Scenario::Hook(_, event::Hook::Failed(..)) => {
                self.failed = true;
                return;
            }
            _ => return,
        };
        match event {
            event::Step::Started => {
                let text = format!("{}{}", step.keyword, step.value);
                self.steps.push((at, text, None));
                return;
            }
            event::Step::Passed(..) => {}
            event::Step::Skipped | event::Step::Failed(..) => self.failed = true,
        }
        if let Some((_, _, ended)) = self.steps.last_mut() {
            *ended = Some(at);
        }
    }

    /// One line for each step: its beginning as UTC and how many seconds it took.
    fn tell(&self, scenario: &str) -> String {
        let mut text = format!("--- the time line of {scenario}\n");
        for (began, step, ended) in &self.steps {
            let took = ended.and_then(|ended| ended.duration_since(*began).ok());
            let took = took.unwrap_or(Duration::ZERO).as_secs_f64();
            let began = humantime::format_rfc3339_millis(*began);
            text.push_str(&format!("{began} {took:7.3} s  {step}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn each_step_is_told_with_its_beginning_and_its_length() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let line = TimeLine {
            steps: vec![
                (
                    at(1_000),
                    "When the broker is killed".into(),
                    Some(at(2_500)),
                ),
                (at(2_500), "Then all is well".into(), None),
            ],
            failed: true,
        };
        assert_eq!(
            line.tell("A broker dies"),
            "--- the time line of A broker dies\n\
             1970-01-01T00:00:01.000Z   1.500 s  When the broker is killed\n\
             1970-01-01T00:00:02.500Z   0.000 s  Then all is well\n"
        );
    }
}
