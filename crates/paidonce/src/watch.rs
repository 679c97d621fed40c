//! `paidonce verify --watch`: the rules that need both databases, looked at for as long as the
//! system runs. A line for each thing that changes, and the same as a metric.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use chassis::metrics::{Gauges, Metrics};
use chassis::serve::serve;
use prover::watch::{Breach, Change, Looked, RULES, Watch};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::VerifyArgs;
use crate::services::on_signal;
use crate::verify::databases;

/// A reading of the metrics takes no longer.
const LAST_READING: Duration = Duration::from_secs(1);
/// The one task there is.
const TASK: &str = "reconciliation";

pub(crate) async fn watch(args: VerifyArgs) -> anyhow::Result<bool> {
    let databases = databases()?;
    let stop = on_signal()?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {} (--listen)", args.listen))?;
    let address = listener.local_addr().unwrap_or(args.listen);
    let metrics = Metrics::new("verify");
    let teller = Teller {
        json: args.json,
        breaches: metrics.gauges(
            "reconciliation_breaches",
            "Breaches of a rule of the guarantee that are there now",
            "rule",
            &RULES,
        ),
        up: metrics.gauges(
            "task_up",
            "Whether the last look has seen both databases",
            "task",
            &[TASK],
        ),
    };
    let every = humantime::format_duration(args.interval);
    let began = format!("watching every {every}, metrics at http://{address}/metrics");
    teller.tell(Event::Began { what: &began });

    let ended = CancellationToken::new();
    let serving = serve(listener, metrics.router(), ended.clone(), LAST_READING);
    let looking = async {
        let outcome = look(Watch::new(databases), args.interval, &teller, &stop).await;
        ended.cancel();
        outcome
    };
    let (holds, ()) = tokio::join!(looking, serving);
    Ok(holds)
}

/// Looks until `stop`; false when any breach was named.
async fn look(
    mut watch: Watch,
    interval: Duration,
    teller: &Teller,
    stop: &CancellationToken,
) -> bool {
    let mut looks: u64 = 0;
    let mut was_blind = None;
    while let Some(looked) = stop.run_until_cancelled(watch.look()).await {
        looks += u64::from(looked.blind.is_none());
        teller.tell_of(&looked, &was_blind);
        teller.show(&watch, looked.blind.is_none());
        was_blind = looked.blind;
        let pause = tokio::time::sleep(watch.pause(interval));
        if stop.run_until_cancelled(pause).await.is_none() {
            break;
        }
    }
    let named = if watch.has_named() {
        "breaches"
    } else {
        "no breach"
    };
    let what = format!("{named} in {looks} looks at both databases");
    teller.tell(Event::Stopped { what: &what });
    !watch.has_named()
}

/// Says what is seen, on standard output and as metrics.
struct Teller {
    json: bool,
    breaches: Gauges,
    up: Gauges,
}

/// A line of the output.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Began {
        what: &'a str,
    },
    Breach {
        rule: &'a str,
        subject: &'a str,
        detail: &'a str,
    },
    Over {
        rule: &'a str,
        subject: &'a str,
        detail: &'a str,
    },
    Blind {
        why: &'a str,
    },
    Sees,
    Stopped {
        what: &'a str,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    #[serde(flatten)]
    event: Event<'a>,
}

impl Teller {
    fn tell_of(&self, looked: &Looked, was_blind: &Option<String>) {
        match (was_blind, &looked.blind) {
            (None, Some(why)) => self.tell(Event::Blind { why }),
            (Some(_), None) => self.tell(Event::Sees),
            _ => {}
        }
        for change in &looked.changes {
            match change {
                Change::Began(Breach {
                    rule,
                    subject,
                    detail,
                }) => self.tell(Event::Breach {
                    rule,
                    subject,
                    detail,
                }),
                Change::Ended(Breach {
                    rule,
                    subject,
                    detail,
                }) => self.tell(Event::Over {
                    rule,
                    subject,
                    detail,
                }),
            }
        }
    }

    fn show(&self, watch: &Watch, sees: bool) {
        for rule in RULES {
            let named = i64::try_from(watch.named(rule)).unwrap_or(i64::MAX);
            self.breaches.set(rule, named);
        }
        self.up.set(TASK, i64::from(sees));
    }

    fn tell(&self, event: Event<'_>) {
        let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        if !self.json {
            say(format_args!("{at} {event}"));
            return;
        }
        // Text and numbers alone: this cannot fail.
        if let Ok(line) = serde_json::to_string(&Line { at, event }) {
            say(format_args!("{line}"));
        }
    }
}

impl std::fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Began { what } | Self::Stopped { what } => f.write_str(what),
            Self::Breach {
                rule,
                subject,
                detail,
            } => write!(f, "BREACH of {rule}: {subject}: {detail}"),
            Self::Over { rule, subject, .. } => write!(f, "over, {rule}: {subject}"),
            Self::Blind { why } => {
                write!(f, "cannot see, and goes on looking: {why}")
            }
            Self::Sees => f.write_str("sees both databases again"),
        }
    }
}

/// Whoever reads may go; the watch and its metrics go on.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
