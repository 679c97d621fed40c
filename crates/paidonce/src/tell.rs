//! What a person sees while something runs: numbered steps, a bar on a terminal, plain lines
//! elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A story told in steps.
#[derive(Debug)]
pub(crate) struct Story {
    steps: usize,
    step: usize,
    begun: Instant,
}

impl Story {
    pub(crate) fn of(steps: usize) -> Self {
        Self {
            steps,
            step: 0,
            begun: Instant::now(),
        }
    }

    /// Begins the next step.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        self.begun = Instant::now();
        println!("{}/{}  {title}", self.step, self.steps);
    }

    /// Says what a step has shown.
    pub(crate) fn shown(&self, what: impl std::fmt::Display) {
        println!(
            "      ✓ {what}  ({:.1} s)",
            self.begun.elapsed().as_secs_f32()
        );
    }

    /// Says something on the way.
    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        println!("        {what}");
    }
}

/// A bar over `count` things, nothing where there is no terminal.
pub(crate) fn bar(count: u64) -> ProgressBar {
    let target = if std::io::stdout().is_terminal() {
        ProgressDrawTarget::stdout()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(count), target);
    if let Ok(style) = ProgressStyle::with_template("        {bar:40} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

/// Moves a bar along until `work` is done.
pub(crate) async fn watched<T>(
    bar: &ProgressBar,
    position: impl Fn() -> u64,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break outcome,
            _ = tick.tick() => bar.set_position(position()),
        }
    };
    bar.finish_and_clear();
    outcome
}
