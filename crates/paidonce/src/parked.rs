//! `paidonce parked`: what could not be processed, for an operator to look at, to send again or to
//! let go. Which rows and how is postbox's business.

use std::str::FromStr;

use anyhow::{Context, bail};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use contracts::topology::{ORDER_RESULTS, PAYMENT_REQUESTS};
use orders::config::OrdersConfig;
use payments::config::PaymentsConfig;
use postbox::{ParkedError, ParkedRow, Route};
use serde::Serialize;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::cli::{ListArgs, ParkedCommand};

/// Width of the table in characters, as `verify` has it.
const WIDTH: u16 = 120;

/// Where a replay can go: either outbox publishes to the exchange, so both reach both queues.
const ROUTES: [Route; 2] = [
    Route {
        queue: ORDER_RESULTS.queue,
        kind: ORDER_RESULTS.kind,
    },
    Route {
        queue: PAYMENT_REQUESTS.queue,
        kind: PAYMENT_REQUESTS.kind,
    },
];

/// The two services that park messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Orders,
    Payments,
}

/// A parked message by service and number, as `list` shows it: `orders/12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParkedId {
    side: Side,
    id: i64,
}

impl FromStr for ParkedId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not of the form orders/12 or payments/7");
        let (side, id) = text.split_once('/').ok_or_else(refused)?;
        let side = match side {
            "orders" => Side::Orders,
            "payments" => Side::Payments,
            _ => return Err(refused()),
        };
        let id = id.parse().map_err(|_| refused())?;
        Ok(Self { side, id })
    }
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Payments => "payments",
        }
    }

    /// Its database, under the service's own login: a replay writes.
    async fn connect(self) -> anyhow::Result<PgPool> {
        let login = match self {
            Self::Orders => OrdersConfig::read()?.db_orders.login("paidonce-parked"),
            Self::Payments => PaymentsConfig::read()?.db_payments.login("paidonce-parked"),
        };
        PgPoolOptions::new()
            .max_connections(1)
            .connect_with(login)
            .await
            .with_context(|| format!("cannot reach the database of {}", self.name()))
    }
}

/// Does what was asked; false when the message is not in a state for it.
pub(crate) async fn parked(command: ParkedCommand) -> anyhow::Result<bool> {
    match command {
        ParkedCommand::List(args) => list(args).await,
        ParkedCommand::Show { id } => show(id).await,
        ParkedCommand::Replay { id } => {
            let pool = id.side.connect().await?;
            let done = postbox::replay_parked(&pool, id.id, &ROUTES).await;
            told(id, "sent again", done)
        }
        ParkedCommand::Drop { id } => {
            let pool = id.side.connect().await?;
            told(id, "dropped", postbox::drop_parked(&pool, id.id).await)
        }
    }
}

fn told(id: ParkedId, what: &str, done: Result<(), ParkedError>) -> anyhow::Result<bool> {
    let ParkedId { side, id } = id;
    match done {
        Ok(()) => println!("{}/{id}: {what}", side.name()),
        Err(ParkedError::Store(error)) => return Err(error.into()),
        Err(refused) => {
            eprintln!("{}/{id}: {refused}", side.name());
            return Ok(false);
        }
    }
    Ok(true)
}

async fn list(args: ListArgs) -> anyhow::Result<bool> {
    let mut lines = Vec::new();
    let mut has_more = false;
    for side in [Side::Orders, Side::Payments] {
        let pool = side.connect().await?;
        let mut rows = postbox::list_parked(&pool, args.all, args.limit.saturating_add(1)).await?;
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        has_more |= rows.len() > limit;
        rows.truncate(limit);
        lines.extend(rows.into_iter().map(|row| Line::new(side, row)));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        println!("{}", table(&lines));
    }
    if has_more {
        eprintln!("there are more: see --limit");
    }
    Ok(true)
}

async fn show(id: ParkedId) -> anyhow::Result<bool> {
    let pool = id.side.connect().await?;
    let Some(message) = postbox::show_parked(&pool, id.id).await? else {
        bail!("{}/{}: {}", id.side.name(), id.id, ParkedError::Missing);
    };
    let line = Line::new(id.side, message.row);
    println!("{}: {} since {}", line.id, line.state, line.parked_at);
    println!("queue {}, seen {}", line.queue, line.seen);
    println!("{}: {}\n", line.reason, line.detail);
    println!("{}", visible(&message.headers));
    match std::str::from_utf8(&message.body) {
        Ok(text) => println!("{}", visible(text)),
        Err(_) => println!("{} bytes that are no text", message.body.len()),
    }
    Ok(true)
}

/// A stranger's text, without what would steer a terminal.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A row as it is shown.
#[derive(Debug, Serialize)]
struct Line {
    id: String,
    service: &'static str,
    queue: String,
    message_id: Option<String>,
    reason: String,
    detail: String,
    state: String,
    seen: i64,
    parked_at: String,
}

impl Line {
    fn new(side: Side, row: ParkedRow) -> Self {
        Self {
            id: format!("{}/{}", side.name(), row.id),
            service: side.name(),
            queue: row.queue,
            message_id: row.message_id,
            reason: row.reason,
            detail: row.detail,
            state: row.state,
            seen: row.seen,
            parked_at: row.parked_at.to_string(),
        }
    }
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header([
            "id",
            "service",
            "queue",
            "message_id",
            "reason",
            "detail",
            "seen",
            "parked_at",
        ]);
    for line in lines {
        // All but open ones are only here when asked for.
        let reason = match line.state.as_str() {
            "open" => line.reason.clone(),
            state => format!("{} ({state})", line.reason),
        };
        table.add_row([
            line.id.clone(),
            line.service.to_owned(),
            line.queue.clone(),
            visible(line.message_id.as_deref().unwrap_or("–")),
            reason,
            visible(&line.detail),
            line.seen.to_string(),
            line.parked_at.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_needs_its_service() {
        let id = |side, id| Ok(ParkedId { side, id });
        assert_eq!("orders/12".parse(), id(Side::Orders, 12));
        assert_eq!("payments/7".parse(), id(Side::Payments, 7));
        for wrong in ["12", "orders/", "gateway/1", "orders/one", "orders/1/2"] {
            assert!(wrong.parse::<ParkedId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stranger_s_text_does_not_steer_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\nc");
    }
}
